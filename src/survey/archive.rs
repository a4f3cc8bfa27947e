//! What an archive holds, without unpacking it to disk. Ours says it in its manifest, so that reading
//! stops after the account database; the peer's are read to the end, and hashed on the way. Databases of
//! up to 16 MiB are opened in memory; what is larger is not counted. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::actual::account::{self, Account};
use crate::actual::{layout, messages, migrations};
use crate::archive::manifest::MANIFEST_PATH;
use crate::archive::{
    self, Algorithm, ArchiveError, Body, DATA, EntryKind, HashingReader, Limits, Manifest, Member,
};
use crate::context::Context;
use crate::host::cancel::Cancel;
use crate::host::sqlite;
use crate::ids::Sha256;
use crate::plan::observed::BackupMigrations;
use crate::plan::spec::{BackupSource, CompressionName};
use crate::store::{self, StoreError};

/// The folder of an archive that holds the unit.
pub const UNIT_FOLDER: &str = "systemd";

/// The folder of an archive that holds the vhost.
pub const SITE_FOLDER: &str = "nginx";

/// The folder of an archive that holds what nginx reads of it: a copy, no link.
pub const ENABLED_FOLDER: &str = "nginx-enabled";

const MAX_DATABASE: u64 = 16 << 20;
const MAX_TEXT: u64 = migrations::MAX_RECORD;

/// The archive could not be looked into.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LookError {
    /// It could not be opened.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    /// It is damaged or hostile.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Archive(#[from] ArchiveError),
}

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
    /// Members, without the top directory.
    pub entries: u64,
    /// Bytes of all members, unpacked.
    pub bytes: u64,
    /// Digest of the archive file, where all of it was read.
    pub sha256: Option<Sha256>,
    /// Files of the instance directory, relative to it.
    pub files: BTreeMap<PathBuf, BackupFile>,
    /// Symbolic links of the instance directory, relative to it, with what they refer to.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// The server's own database, where it could be read.
    pub account: Option<Account>,
    /// By sync group: timestamp of its last change, `None` for a group without one; a group whose
    /// database could not be read is absent.
    pub last_change: BTreeMap<String, Option<String>>,
    /// Small text files that plans show differences of, relative to the archive's top directory.
    pub texts: BTreeMap<PathBuf, Vec<u8>>,
    /// Everything in the folders of unit and vhost but directories, relative to the top directory, whether it
    /// is text or not.
    pub assets: BTreeSet<PathBuf>,
}

impl ArchiveSurvey {
    /// Which migrations its data has been through; `data` is the server's data directory below the
    /// instance directory. `None` where only the unpacked tree can tell.
    pub fn migrations(&self, data: &Path) -> Option<BackupMigrations> {
        let record = data.join(layout::MIGRATE);
        let account = data.join(layout::ACCOUNT);
        let account = self.files.contains_key(&account) || self.links.contains_key(&account);
        match (self.texts.get(&Path::new(DATA).join(&record)), self.files.get(&record)) {
            (Some(bytes), _) => Some(BackupMigrations::of(Some(bytes), account)),
            (None, Some(file)) if file.size > MAX_TEXT => {
                Some(BackupMigrations::unreadable(migrations::TOO_LARGE))
            }
            // A second name of a file.
            (None, Some(_)) => None,
            (None, None) if self.links.contains_key(&record) => {
                Some(BackupMigrations::unreadable(migrations::NO_FILE))
            }
            (None, None) => Some(BackupMigrations::of(None, account)),
        }
    }
}

/// Reads an archive as far as needed. `data` is the server's data directory below the instance directory.
pub fn look(cx: &Context, source: &BackupSource, data: &Path) -> Result<ArchiveSurvey, LookError> {
    scan(cx, source, data, false)
}

/// As [`look`], where that is cheap: `None` for an archive that does not begin with a manifest and
/// would have to be read to its end.
pub fn look_quickly(
    cx: &Context,
    source: &BackupSource,
    data: &Path,
) -> Result<Option<ArchiveSurvey>, LookError> {
    scan(cx, source, data, true).map(|found| Some(found).filter(|found| found.manifest))
}

fn scan(cx: &Context, source: &BackupSource, data: &Path, quickly: bool) -> Result<ArchiveSurvey, LookError> {
    let file = store::open(&cx.root, &cx.config, &source.path)?.file;
    let limits =
        Limits { bytes: cx.config.restore.expansion_limit(source.size_bytes), entries: archive::MAX_ENTRIES };
    let mut hashed = HashingReader::new(file);
    let data = Path::new(DATA).join(data);
    let mut look = Look {
        found: ArchiveSurvey::default(),
        account: data.join(layout::ACCOUNT),
        texts: [layout::CONFIG, layout::MIGRATE].map(|name| data.join(name)),
        data,
        stop: cx.cancel.child(),
        awaited: BTreeSet::new(),
        quickly,
        given_up: false,
    };
    let scanned = archive::decoder(algorithm(source.algorithm), &mut hashed).and_then(|tar| {
        let stop = look.stop.clone();
        archive::scan(tar, &source.backup_id, &limits, &stop, &mut |member, body| look.visit(member, body))
    });
    match scanned {
        // Everything is known: the rest need not be read.
        Err(ArchiveError::Cancelled(_))
            if (look.is_complete() || look.given_up) && !cx.cancel.is_requested() => {}
        Err(error) => return Err(error.into()),
        Ok(totals) => {
            (look.found.entries, look.found.bytes) = (totals.entries, totals.bytes);
            // A decoder may leave bytes that belong to no member.
            look.found.sha256 = Some(hashed.finish().map_err(ArchiveError::Read)?);
        }
    }
    if look.found.bytes > limits.bytes {
        return Err(ArchiveError::TooLarge { what: "bytes", limit: limits.bytes }.into());
    }
    Ok(look.found)
}

/// The archive's own type for a plan's compression.
pub fn algorithm(name: CompressionName) -> Algorithm {
    match name {
        CompressionName::Zstd => Algorithm::Zstd,
        CompressionName::Gzip => Algorithm::Gzip,
        CompressionName::None => Algorithm::None,
    }
}

struct Look {
    found: ArchiveSurvey,
    data: PathBuf,
    /// Where in the archive the account database lies.
    account: PathBuf,
    /// Where texts lie that plans show differences of, those of unit and vhost aside.
    texts: [PathBuf; 2],
    stop: Cancel,
    /// What the manifest names and a plan needs the content of, as long as it was not met.
    awaited: BTreeSet<PathBuf>,
    /// An archive that does not begin with a manifest is not read.
    quickly: bool,
    /// It did not.
    given_up: bool,
}

impl Look {
    fn visit(&mut self, member: &Member, body: &mut dyn Body) -> Result<(), ArchiveError> {
        let path = &member.path;
        if member.kind != EntryKind::Directory && is_asset(path) {
            self.found.assets.insert(path.clone());
        }
        if self.quickly && !self.found.manifest && path != Path::new(MANIFEST_PATH) {
            // Directories may come first.
            if member.kind != EntryKind::Directory {
                self.given_up = true;
                self.stop.request();
            }
            return Ok(());
        }
        if member.kind == EntryKind::File && path == Path::new(MANIFEST_PATH) {
            if let Some(manifest) = body.manifest() {
                self.manifest(member, manifest);
            }
            return Ok(());
        }
        let mut content = None;
        if member.kind == EntryKind::File && self.is_text(path) && member.size <= MAX_TEXT {
            let bytes = read(body, member.size)?;
            content = Some(Sha256::of(&bytes));
            self.found.texts.insert(path.clone(), bytes);
        } else if member.kind == EntryKind::File
            && is_same(path, &self.account)
            && member.size <= MAX_DATABASE
        {
            let bytes = read(body, member.size)?;
            content = Some(Sha256::of(&bytes));
            self.found.account = read_account(bytes);
        }
        if !self.found.manifest {
            return self.member(member, body, content);
        }
        if self.awaited.remove(path) && self.is_complete() {
            self.stop.request();
        }
        Ok(())
    }

    /// Whether a plan shows differences of it.
    fn is_text(&self, path: &Path) -> bool {
        is_asset(path) || self.texts.iter().any(|text| is_same(text, path))
    }

    /// Whether the rest of the archive has nothing new to tell.
    fn is_complete(&self) -> bool {
        self.found.manifest && self.awaited.is_empty()
    }

    /// Ours: everything but the account database is known once the manifest is.
    fn manifest(&mut self, member: &Member, manifest: &Manifest) {
        self.found.manifest = true;
        self.found.bytes = manifest.payload_bytes + member.size;
        // The manifest itself is a member that it does not list.
        self.found.entries = manifest.entries.len() as u64 + 1;
        // They come in order: at once they cost much less than one by one.
        let (mut files, mut second_names) = (Vec::with_capacity(manifest.entries.len()), Vec::new());
        for entry in &manifest.entries {
            if entry.kind != EntryKind::Directory && is_asset(&entry.path) {
                self.found.assets.insert(entry.path.clone());
            }
            let wanted = is_same(&entry.path, &self.account) || self.is_text(&entry.path);
            if wanted && entry.kind == EntryKind::File {
                self.awaited.insert(entry.path.clone());
            }
            let Ok(below) = entry.path.strip_prefix(DATA) else { continue };
            let below = below.to_path_buf();
            if let Some(messages) = entry.sqlite.as_ref().and_then(|summary| summary.messages.as_ref())
                && let Some(group) = entry.path.strip_prefix(&self.data).ok().and_then(group_of)
            {
                self.found.last_change.insert(group, messages.last.clone());
            }
            match (entry.kind, entry.sha256, entry.target.as_deref()) {
                (EntryKind::File, Some(sha256), _) => {
                    files.push((below, BackupFile { size: entry.size, sha256 }));
                }
                (EntryKind::Symlink, _, Some(target)) => {
                    self.found.links.insert(below, target.to_owned());
                }
                (EntryKind::Hardlink, _, Some(target)) => second_names.push((below, target)),
                (EntryKind::Directory | EntryKind::File | EntryKind::Symlink | EntryKind::Hardlink, _, _) => {
                }
            }
        }
        self.found.files = files.into_iter().collect();
        for (below, target) in second_names {
            self.hard_link(below, target);
        }
    }

    /// The peer's: each member tells of itself.
    fn member(
        &mut self,
        member: &Member,
        body: &mut dyn Body,
        content: Option<Sha256>,
    ) -> Result<(), ArchiveError> {
        let Ok(below) = member.path.strip_prefix(DATA).map(Path::to_path_buf) else { return Ok(()) };
        match member.kind {
            EntryKind::Directory => {}
            EntryKind::Symlink => {
                self.found.links.insert(below, member.target.clone().unwrap_or_default());
            }
            EntryKind::Hardlink => self.hard_link(below, &member.target.clone().unwrap_or_default()),
            EntryKind::File => {
                let group = member.path.strip_prefix(&self.data).ok().and_then(group_of);
                let sha256 = match (content, group) {
                    (Some(digest), _) => digest,
                    (None, Some(group)) if member.size <= MAX_DATABASE => {
                        let bytes = read(body, member.size)?;
                        let digest = Sha256::of(&bytes);
                        if let Ok(last) = read_last_change(bytes) {
                            self.found.last_change.insert(group, last);
                        }
                        digest
                    }
                    (None, _) => HashingReader::new(body).finish()?,
                };
                self.found.files.insert(below, BackupFile { size: member.size, sha256 });
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, below: PathBuf, target: &Path) {
        let first = target.strip_prefix(DATA).ok().and_then(|target| self.found.files.get(target)).cloned();
        if let Some(file) = first {
            self.found.files.insert(below, file);
        }
    }
}

/// Whether it lies in one of the folders of unit and vhost.
fn is_asset(path: &Path) -> bool {
    let folder = path.iter().next();
    folder.is_some_and(|name| [UNIT_FOLDER, SITE_FOLDER, ENABLED_FOLDER].iter().any(|folder| name == *folder))
}

/// Whether two paths have the same bytes: for very many of them part by part takes long.
fn is_same(one: &Path, other: &Path) -> bool {
    one.as_os_str() == other.as_os_str()
}

/// The sync group that a path below the data directory holds the database of.
fn group_of(path: &Path) -> Option<String> {
    let name = path.strip_prefix(layout::USER_FILES).ok()?.to_str()?;
    Some(name.strip_prefix("group-")?.strip_suffix(".sqlite")?.to_owned())
}

fn read(body: &mut dyn Read, size: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    body.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `None` for a database that SQLite does not take: `inspect` says why when the plan is applied.
fn read_account(bytes: Vec<u8>) -> Option<Account> {
    account::read(&sqlite::open_bytes(bytes).ok()?).ok()
}

fn read_last_change(bytes: Vec<u8>) -> Result<Option<String>, Unreadable> {
    let connection = sqlite::open_bytes(bytes).map_err(|_| Unreadable)?;
    messages::last(&connection).map_err(|_| Unreadable)
}

/// A database that SQLite does not take: `inspect` says why when the plan is applied.
struct Unreadable;
