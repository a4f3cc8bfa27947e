//! What can go wrong with an archive, each case with a code and with what to do. Pure.

use std::io;
use std::path::PathBuf;

use crate::host::cancel::Cancelled;
use crate::host::fs::FsError;
use crate::host::sqlite::SqliteError;
use crate::ids::Sha256;

use super::decode::DecodeFailure;

const OTHER_BACKUP: &str =
    "restore another backup: `abssctl backup list`; `abssctl backup verify --all` says which are sound";
const HOSTILE: &str = "no backup tool writes this; do not use the archive before somebody has looked at it";

/// An archive could not be read, unpacked or written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The archive ends before its end mark, or inside a compressed frame or a member.
    #[error("the archive is cut off: it ends before its end mark")]
    #[diagnostic(code(abssctl::archive::truncated), help("{OTHER_BACKUP}"))]
    Truncated,
    /// There are bytes after the end of the archive.
    #[error("the archive has data after its end")]
    #[diagnostic(code(abssctl::archive::trailing_data), help("{OTHER_BACKUP}"))]
    TrailingData,
    /// The compressed data or a tar header is damaged.
    #[error("the archive is damaged: {reason}")]
    #[diagnostic(code(abssctl::archive::corrupt), help("{OTHER_BACKUP}"))]
    Corrupt {
        /// What the decoder said.
        reason: String,
    },
    /// Reading the archive failed.
    #[error("cannot read the archive: {0}")]
    #[diagnostic(code(abssctl::archive::read), help("check the disk or the mount that holds the backups"))]
    Read(#[source] io::Error),
    /// Writing the archive failed.
    #[error("cannot write the archive: {0}")]
    #[diagnostic(code(abssctl::archive::write), help("check free space where the backups lie"))]
    Write(#[source] io::Error),
    /// A file operation on the live tree, scratch or staging failed.
    #[error(transparent)]
    #[diagnostic(code(abssctl::archive::io), help("check space and permissions, then run it again"))]
    Fs(#[from] FsError),
    /// A database of the instance could not be copied.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sqlite(#[from] SqliteError),
    /// Somebody asked to stop.
    #[error(transparent)]
    #[diagnostic(code(abssctl::archive::cancelled), help("run the same command again to continue"))]
    Cancelled(#[from] Cancelled),
    /// The archive unpacks to more than it may.
    #[error("the archive holds more {what} than the {limit} that are allowed")]
    #[diagnostic(
        code(abssctl::archive::too_large),
        help(
            "if the archive is known to be that large, raise the limit; otherwise it is a decompression bomb"
        )
    )]
    TooLarge {
        /// "bytes", "entries" or "bytes of names".
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A member lies outside the archive's one top directory.
    #[error("member '{member}' is not below '{id}/'")]
    #[diagnostic(
        code(abssctl::archive::foreign_top),
        help("check that the archive belongs to this backup id: `abssctl backup show ID`")
    )]
    ForeignTop {
        /// The member's name.
        member: String,
        /// The backup's id.
        id: String,
    },
    /// A name that no member may have.
    #[error("member '{member}' has a bad name: {why}")]
    #[diagnostic(code(abssctl::archive::bad_name), help("{HOSTILE}"))]
    BadName {
        /// The member's name.
        member: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two members have the same name.
    #[error("member '{member}' is there twice")]
    #[diagnostic(code(abssctl::archive::duplicate), help("{HOSTILE}"))]
    Duplicate {
        /// The member's name.
        member: String,
    },
    /// A member's parent is a file or a link.
    #[error("member '{member}' lies below '{parent}', which is no directory")]
    #[diagnostic(code(abssctl::archive::below_non_directory), help("{HOSTILE}"))]
    BelowNonDirectory {
        /// The member's name.
        member: String,
        /// The name above it that is a file or a link.
        parent: String,
    },
    /// A device, FIFO, socket or unknown type.
    #[error("member '{member}' is {what}, which no backup holds")]
    #[diagnostic(code(abssctl::archive::unsupported_type), help("{HOSTILE}"))]
    UnsupportedType {
        /// The member's name.
        member: String,
        /// What it is, with an article.
        what: String,
    },
    /// A sparse member.
    #[error("member '{member}' is stored sparse")]
    #[diagnostic(
        code(abssctl::archive::sparse),
        help("unpack it with GNU tar and pack it again without --sparse")
    )]
    Sparse {
        /// The member's name.
        member: String,
    },
    /// A hard link to something that is not an earlier regular file of the archive.
    #[error("member '{member}' is a hard link to '{target}', which is no earlier file of this archive")]
    #[diagnostic(code(abssctl::archive::bad_hard_link), help("{HOSTILE}"))]
    BadHardLink {
        /// The member's name.
        member: String,
        /// What it refers to.
        target: String,
    },
    /// A symbolic link that leads out of the instance directory, or lies outside of `data/`.
    #[error("member '{member}' is a symbolic link to '{target}', which leads out of the instance directory")]
    #[diagnostic(code(abssctl::archive::escaping_link), help("{HOSTILE}"))]
    EscapingLink {
        /// The member's name.
        member: String,
        /// What it refers to.
        target: String,
    },
    /// A tar or extended header that makes no sense.
    #[error("member '{member}' has a malformed header: {why}")]
    #[diagnostic(code(abssctl::archive::malformed), help("{OTHER_BACKUP}"))]
    Malformed {
        /// The member's name as far as it is known.
        member: String,
        /// What is wrong.
        why: String,
    },
    /// `metadata/manifest.json` is not valid or not for this archive.
    #[error("the manifest of the archive is not valid: {why}")]
    #[diagnostic(code(abssctl::archive::bad_manifest), help("{OTHER_BACKUP}"))]
    BadManifest {
        /// What is wrong.
        why: String,
    },
    /// What was unpacked is not what the manifest lists.
    #[error("'{}' differs from the archive's manifest: {why}", .path.display())]
    #[diagnostic(code(abssctl::archive::manifest_mismatch), help("{OTHER_BACKUP}"))]
    ManifestMismatch {
        /// The entry, relative to the archive's top directory.
        path: PathBuf,
        /// The difference.
        why: String,
    },
    /// The manifest is not the one that was planned.
    #[error("{}, planned was the manifest with SHA-256 {planned}", manifest_found(.found.as_ref()))]
    #[diagnostic(code(abssctl::archive::other_manifest), help("{OTHER_BACKUP}"))]
    OtherManifest {
        /// Its digest, where there is one.
        found: Option<Sha256>,
        /// The one that the plan names.
        planned: Sha256,
    },
    /// A file changed while it was being backed up.
    #[error("{} changed while it was being backed up", .path.display())]
    #[diagnostic(
        code(abssctl::archive::file_changed),
        help("run the backup again; if it happens each time, stop the service first")
    )]
    FileChanged {
        /// The file, relative to the archive's top directory.
        path: PathBuf,
    },
    /// The live tree holds something that cannot be backed up.
    #[error("{} is {what}, which cannot be backed up", .path.display())]
    #[diagnostic(code(abssctl::archive::unsupported_file), help("move it out of the instance directory"))]
    UnsupportedFile {
        /// The file, relative to the archive's top directory.
        path: PathBuf,
        /// What it is, with an article.
        what: &'static str,
    },
    /// The compression level is out of range.
    #[error("compression level {level} is not possible with {algorithm}: it takes {range}")]
    #[diagnostic(code(abssctl::archive::bad_level), help("leave `--level` out for the default"))]
    BadLevel {
        /// The algorithm.
        algorithm: super::Algorithm,
        /// The level as asked for.
        level: i32,
        /// What it takes.
        range: &'static str,
    },
}

impl ArchiveError {
    /// Whether the cause is a full disk or an exhausted quota.
    pub fn is_out_of_space(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, Self::Fs(error) if error.is_out_of_space())
            || matches!(self, Self::Sqlite(error) if error.is_out_of_space())
            || matches!(self, Self::Write(error) if full(error.kind()))
    }
}

/// An error of reading an archive: decoders report damage through [`io::Error`], which is told apart here.
impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<DecodeFailure>() {
            Ok(DecodeFailure::Truncated) => Self::Truncated,
            Ok(DecodeFailure::TrailingData) => Self::TrailingData,
            Ok(DecodeFailure::Corrupt(reason)) => Self::Corrupt { reason },
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            Err(error) => Self::Read(error),
        }
    }
}

fn manifest_found(found: Option<&Sha256>) -> String {
    match found {
        Some(sha256) => format!("the archive's manifest has SHA-256 {sha256}"),
        None => "the archive does not begin with a manifest".to_owned(),
    }
}
