//! Makes a backup of an instance: archive, sidecar, index entry, in the order that never leaves an
//! index entry without its durable archive.
//!
//! Takes no locks: the caller holds them. A crash leaves a hidden partial file or scratch directory
//! among the backups, and perhaps the archive that it marks, which the index does not know: the next backup
//! of the instance removes them.

pub mod assets;
pub mod create;
pub mod error;
mod leftovers;
pub mod verify;

pub use create::{Compression, Created, Request, create, new_id, validate};
pub use error::BackupError;
pub use leftovers::{being_made, discard, of_archive};
