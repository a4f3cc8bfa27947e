//! Where archives lie: on a local file system so far.

pub mod local;

pub use local::{Archive, Publish, Published, StoreError, archive_path, inspect, is_there, open, remove};
