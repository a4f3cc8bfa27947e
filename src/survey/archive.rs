//! What an archive holds, without unpacking it to disk. Ours says it in its manifest, so that reading
//! stops after the account database; the peer's are read to the end, and hashed on the way. Databases of
//! up to 16 MiB are opened in memory; what is larger is not counted. Reads only.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::observe;
use crate::actual::account::{self, Account};
use crate::actual::layout;
use crate::actual::messages;
use crate::archive::ArchiveError;
use crate::archive::reader::{self, Limits, MemberKind, Visit};
use crate::context::Context;
use crate::host::sqlite;
use crate::ids::Sha256;
use crate::plan::spec::Source;
use crate::store;

const MAX_DATABASE: u64 = 16 << 20;
const MAX_TEXT: u64 = 1 << 20;

/// A file of the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFile {
    /// Bytes.
    pub size: u64,
    /// Digest of its content.
    pub sha256: Sha256,
}

/// What an archive holds.
#[derive(Debug, Default)]
pub struct ArchiveSurvey {
    /// Whether it has a manifest.
    pub manifest: bool,
    /// Members.
    pub entries: u64,
    /// Bytes of all members, unpacked.
    pub bytes: u64,
    /// Digest of the archive file, where all of it was read.
    pub sha256: Option<Sha256>,
    /// Files of the instance directory, relative to it.
    pub files: BTreeMap<PathBuf, BackupFile>,
    /// Names of the instance directory that are links, relative to it.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// The server's own database, where it could be read.
    pub account: Option<Account>,
    /// By sync group: timestamp of its last change; absent where it could not be read.
    pub last_change: BTreeMap<String, Option<String>>,
    /// Small text files that plans show differences of, relative to the archive's top directory.
    pub texts: BTreeMap<PathBuf, Vec<u8>>,
}

/// Reads an archive as far as needed.
pub fn look(cx: &Context, source: &Source) -> Result<ArchiveSurvey, super::preflight::PreflightError> {
    let _ = observe::instance;
    todo!("{:?} {:?}", cx, source)
}
