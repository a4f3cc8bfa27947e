//! Why a backup could not be made.

use crate::archive::ArchiveError;
use crate::host::fs::FsError;
use crate::ids::{AbsPath, BackupId};
use crate::state::backup_index::IndexError;
use crate::state::instances::RegistryError;
use crate::store::StoreError;

/// Why a backup could not be made. Nothing is in the index then.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum BackupError {
    /// A file operation failed.
    #[error(transparent)]
    #[diagnostic(code(abssctl::backup::io), help("mend what the message names and run the command again"))]
    Fs(#[from] FsError),
    /// The archive could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Archive(ArchiveError),
    /// The archive could not be put in its place.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    /// The index could not be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Index(#[from] IndexError),
    /// The registry could not be read, or does not know the instance.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Registry(#[from] RegistryError),
    /// There is nothing to back up.
    #[error("there is no directory {path} to back up")]
    #[diagnostic(
        code(abssctl::backup::no_directory),
        help("see where the instance lives: abssctl instance show NAME")
    )]
    NoDirectory {
        /// The missing directory.
        path: AbsPath,
    },
    /// The archive did not read back as it was written.
    #[error("backup {id} does not read back as it was written: {why}")]
    #[diagnostic(code(abssctl::backup::not_proven), help("check the disk; the backup must not be relied on"))]
    NotProven {
        /// The backup.
        id: BackupId,
        /// What differs.
        why: String,
    },
    /// A compression level that the compression does not have.
    #[error("{algorithm} has no compression level {level}")]
    #[diagnostic(code(abssctl::backup::level), help("{help}"))]
    Level {
        /// The compression.
        algorithm: String,
        /// The level asked for.
        level: i32,
        /// The levels there are.
        help: String,
    },
    /// A signal came.
    #[error("stopped by a signal; no backup was made")]
    #[diagnostic(code(abssctl::backup::cancelled), help("run the same command again"))]
    Cancelled,
}

impl From<ArchiveError> for BackupError {
    fn from(error: ArchiveError) -> Self {
        if matches!(error, ArchiveError::Cancelled(_)) { Self::Cancelled } else { Self::Archive(error) }
    }
}
