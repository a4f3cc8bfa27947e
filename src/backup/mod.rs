//! Makes a backup of an instance: archive, sidecar, index entry, in the order that never leaves an
//! index entry without its durable archive.
//!
//! Takes no locks: the caller holds them. A crash leaves a hidden partial file or scratch directory
//! among the backups (the next backup of the instance removes it), or a complete archive that the
//! index does not know.

pub mod assets;
pub mod create;
pub mod error;
pub mod verify;

pub use create::{
    Compression, Created, Request, create, discard, is_archive, is_unfinished, new_id, validate,
};
pub use error::BackupError;
