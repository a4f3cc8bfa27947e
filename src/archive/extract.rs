//! Unpacks an archive into a staging directory in one pass. Writes below staging only: each file is made
//! anew (`O_EXCL|O_NOFOLLOW`) in a directory that was opened beneath staging without following links.
//!
//! # Atomicity
//! None by itself: a crash or an error leaves a partial tree, which the caller removes with its staging
//! directory; nobody writes into it any more once this has returned. Nothing is safe on disk before the
//! caller syncs the whole tree, once.
//!
//! # Threads
//! One walks through the archive, makes directories and links, and writes large files, which are brought to
//! disk behind it. Small files are written on all cores, many in one go; where there are thousands, another
//! brings them to disk meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _};
use rustix::fs::AtFlags;

use super::attributes::{finish, ids, made, settle, times};
use super::hashed::Aside;
use super::over::Over;
use super::proof::Proof;
use super::reader::Members;
use super::reuse::{Base, Copied, Found, Reuse, Reused};
use super::{ArchiveError, EntryKind, Limits, Manifest, Member, Skip};
use crate::host::cancel::Cancel;
use crate::host::fs::{self, IoContext as _, Syncing};
use crate::host::pool::Batches;
use crate::host::sqlite;
use crate::host::stamp::{Known, Stamp};
use crate::ids::{BackupId, Sha256};

/// Bytes of a large file that are read, written and hashed at once.
const PIECE: usize = 1 << 20;
/// Files up to this size are held in memory, and written on any core.
pub(super) const SMALL: u64 = 256 << 10;
/// After so many small files, or bytes of them, the file system is brought to disk beside the unpacking.
const SYNC_FILES: usize = 4096;
const SYNC_BYTES: u64 = 64 << 20;

/// Where owners come from.
#[derive(Clone, Copy)]
pub enum Owners<'a> {
    /// The archive: true for our own archives.
    Archive,
    /// A function from the path relative to `<id>/` to user and group: the peer's archives say `root` for
    /// every file.
    Resolve(&'a (dyn Fn(&Path) -> (u32, u32) + Sync)),
}

impl std::fmt::Debug for Owners<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Archive => "Archive",
            Self::Resolve(_) => "Resolve(..)",
        })
    }
}

/// How to unpack.
#[derive(Debug, Clone, Copy)]
pub struct ExtractOptions<'a> {
    /// How much at most.
    pub limits: Limits,
    /// Where owners come from.
    pub owners: Owners<'a>,
    /// What this tree holds of the manifest's files, byte for byte, is copied from it, and not decoded.
    pub base: Option<Base<'a>>,
    /// The digest of the manifest that is to prove everything, where the digest of the whole archive does not:
    /// each header must say what the manifest says, in every field. What was unpacked must be compared with it
    /// as ever ([`Manifest::verify`]).
    pub proof: Option<Sha256>,
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// Everything, in the archive's order, with the manifest and with directories that only names below
    /// them spoke of; without the top directory.
    pub entries: Vec<ExtractedEntry>,
    /// The archive's manifest; the peer's archives have none. Not yet compared: [`Manifest::verify`].
    pub manifest: Option<Manifest>,
    /// Bytes of all files.
    pub bytes: u64,
    /// How many files were copied from the other tree.
    pub reused: u64,
    /// Their bytes.
    pub reused_bytes: u64,
    /// How many bytes of other files stood in copies of theirs already.
    pub kept_bytes: u64,
}

/// One unpacked file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractedEntry {
    /// Relative to `<id>/`, and so to staging.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a regular file; 0 for all else.
    pub size: u64,
    /// Digest of a regular file, taken from the bytes as they were written.
    pub sha256: Option<Sha256>,
    /// What a link refers to.
    pub target: Option<PathBuf>,
    /// By what a regular file that nobody changed since is known.
    pub stamp: Option<Stamp>,
    /// Whether a regular file begins as a SQLite database does.
    pub is_sqlite: bool,
    /// By what the file of the other tree is known that it shares its content with, where that was read before.
    pub original: Option<Stamp>,
}

impl ExtractedEntry {
    /// What its headers say of a member.
    fn new(member: &Member) -> Self {
        Self {
            path: member.path.clone(),
            kind: member.kind,
            size: member.size,
            sha256: None,
            target: member.target.clone(),
            stamp: None,
            is_sqlite: false,
            original: None,
        }
    }
}

impl Extracted {
    /// Bytes of all databases.
    pub fn database_bytes(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.is_sqlite).map(|entry| entry.size).sum()
    }

    /// The digests of the files below `top` that nobody can have changed since without another time of
    /// change. The last ones are not among them: whoever writes at the same tick of the file system's clock
    /// leaves the time as it is.
    pub fn settled(&self, top: &Path) -> Known {
        let newest = self.entries.iter().filter_map(|entry| entry.stamp).map(|stamp| stamp.changed).max();
        let before = |stamp: &Stamp| newest.is_some_and(|newest| stamp.changed < newest);
        let below = self.entries.iter().filter(|entry| entry.path.starts_with(top));
        below.filter_map(|entry| Some((entry.stamp.filter(before)?, entry.sha256?))).collect()
    }
}

/// Unpacks `<id>/X` to `staging/X`, checking each member as [`super::scan`] does. `tar` is the
/// decompressed archive; it is read to its end. `progress` gets the bytes written so far.
///
/// Modes are kept but for setuid, setgid and sticky bits of files; times to the nanosecond; owners are
/// set only where they differ, so that no privilege is needed to unpack one's own files. Of the extended
/// attributes, only `user.*` and POSIX ACLs are set, and those that the system refuses are left out.
///
/// # Errors
/// The first member that does not belong into a backup, [`ArchiveError::Fs`] where writing fails.
pub fn extract(
    tar: impl Skip,
    id: &BackupId,
    staging: &Dir,
    options: &ExtractOptions<'_>,
    cancel: &Cancel,
    progress: &dyn Fn(u64),
) -> Result<Extracted, ArchiveError> {
    let mut work = Work {
        staging,
        owners: options.owners,
        cancel,
        progress,
        parent: None,
        directories: Vec::new(),
        implied: HashMap::new(),
        entries: Vec::new(),
        bytes: 0,
        small: Batches::new(cancel, |files, _| files.into_iter().map(Small::write).collect()),
        failed: false,
        unsynced: (0, 0),
        syncing: None,
        base: options.base,
        proof: options.proof.map(Proof::new),
        reuse: None,
        reused: (0, 0),
        kept: 0,
    };
    let mut members = Members::new(tar, id, &options.limits);
    let unpacked = work.all(&mut members);
    // Whatever happened: who removes the tree must not meet one who writes into it.
    let failed = work.failed;
    let written = work.write_out();
    // What comes first in the archive is told.
    if failed { unpacked.and(written) } else { written.and(unpacked) }?;
    if let Some(reuse) = work.reuse.take() {
        reuse.end(staging)?;
    }
    work.finish_directories()?;
    work.end_sync()?;
    let (reused, reused_bytes) = work.reused;
    Ok(Extracted {
        entries: work.entries,
        manifest: members.manifest,
        bytes: work.bytes,
        reused,
        reused_bytes,
        kept_bytes: work.kept,
    })
}

struct Work<'a> {
    staging: &'a Dir,
    owners: Owners<'a>,
    cancel: &'a Cancel,
    progress: &'a dyn Fn(u64),
    /// The directory written to last: members come directory by directory.
    parent: Option<(PathBuf, Arc<Dir>)>,
    /// Directories whose mode and times are set when nothing is written into them any more.
    directories: Vec<Member>,
    /// Which of them no member has named so far.
    implied: HashMap<PathBuf, usize>,
    entries: Vec<ExtractedEntry>,
    bytes: u64,
    /// Small files on their way into the tree.
    small: Batches<Small, Result<Vec<Written>, ArchiveError>>,
    /// Whether one of them could not be written: then reading the archive ended with that.
    failed: bool,
    /// How many of them nobody has brought to disk, and their bytes.
    unsynced: (usize, u64),
    syncing: Option<Syncing>,
    base: Option<Base<'a>>,
    proof: Option<Proof>,
    /// What is copied from there, once the manifest is known.
    reuse: Option<Reuse>,
    /// How many files were, and their bytes.
    reused: (u64, u64),
    /// Bytes of files that were not, but stood in copies of theirs already.
    kept: u64,
}

/// A file that lies in memory.
struct Small {
    /// Its place among the entries.
    entry: usize,
    dir: Arc<Dir>,
    member: Member,
    owner: (u32, u32),
    content: Vec<u8>,
}

/// What is known of a file once it is written.
struct Written {
    entry: usize,
    sha256: Sha256,
    stamp: Stamp,
    is_sqlite: bool,
}

impl Small {
    fn write(self) -> Result<Written, ArchiveError> {
        let Self { entry, dir, member, owner, content } = self;
        let name = member.path.file_name().map_or(member.path.as_path(), Path::new);
        let mut file = fs::create_file(&dir, name, made(&member, owner)).context("create", &member.path)?;
        file.write_all(&content).context("write", &member.path)?;
        let stamp = finish(&file, &member, owner)?;
        let is_sqlite = sqlite::looks_like_sqlite(&content);
        Ok(Written { entry, sha256: Sha256::of(&content), stamp, is_sqlite })
    }
}

impl Work<'_> {
    fn all(&mut self, members: &mut Members<'_, impl Skip>) -> Result<(), ArchiveError> {
        while let Some(member) = members.next(self.cancel)? {
            if let Some(proof) = &mut self.proof {
                proof.check(&member, members)?;
            }
            for path in &member.implied {
                self.implied_directory(path, &member)?;
            }
            match self.found(&member, members.manifest.as_ref())? {
                Found::Same(reused) => {
                    self.take(&member, &reused)?;
                    members.leap()?;
                }
                Found::Like(copy) => self.large(&member, members, Some(&copy))?,
                Found::Nothing => self.member(member, members)?,
            }
        }
        self.proof.as_ref().map_or(Ok(()), Proof::end)
    }

    /// What a member may be taken from.
    fn found(&mut self, member: &Member, manifest: Option<&Manifest>) -> Result<Found, ArchiveError> {
        let (Some(base), Some(manifest)) = (self.base, manifest) else { return Ok(Found::Nothing) };
        let reuse = match &mut self.reuse {
            Some(reuse) => reuse,
            none @ None => none.insert(Reuse::new(base, self.staging, manifest, self.cancel)?),
        };
        reuse.find(member, manifest)
    }

    /// Puts a copy in its place instead of a member's body.
    fn take(&mut self, member: &Member, reused: &Reused) -> Result<(), ArchiveError> {
        let (dir, name) = self.parent_of(&member.path)?;
        let Some(reuse) = &self.reuse else { return Ok(()) };
        let file = reuse.put(&reused.copy, &dir, name).context("create", &member.path)?;
        let stamp = finish(&file, member, self.owner(member))?;
        self.entries.push(ExtractedEntry {
            sha256: Some(reused.sha256),
            stamp: Some(stamp),
            is_sqlite: reused.is_sqlite,
            original: reused.copy.original,
            ..ExtractedEntry::new(member)
        });
        self.reused = (self.reused.0 + 1, self.reused.1 + member.size);
        self.bytes += member.size;
        (self.progress)(self.bytes);
        self.sync_behind(0)
    }

    fn member(&mut self, member: Member, body: &mut Members<'_, impl Skip>) -> Result<(), ArchiveError> {
        if member.kind == EntryKind::Directory {
            // Made already where a name below it came first.
            if let Some(index) = self.implied.remove(&member.path) {
                self.directories[index] = member;
                return Ok(());
            }
        }
        if member.kind == EntryKind::File && member.size > SMALL {
            return self.large(&member, body, None);
        }
        self.entries.push(ExtractedEntry::new(&member));
        match member.kind {
            EntryKind::File => self.small(member, body),
            EntryKind::Symlink => self.symlink(&member),
            EntryKind::Hardlink => self.hardlink(&member),
            EntryKind::Directory => {
                self.make_directory(&member.path)?;
                self.directories.push(member);
                Ok(())
            }
        }
    }

    /// The open directory that holds `path`, and the last part of it.
    fn parent_of<'p>(&mut self, path: &'p Path) -> Result<(Arc<Dir>, &'p Path), ArchiveError> {
        let above = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().map_or(path, Path::new);
        let dir = match &self.parent {
            Some((open, dir)) if open == above => Arc::clone(dir),
            _ => {
                let dir = Arc::new(open_below(self.staging, above)?);
                self.parent = Some((above.to_owned(), Arc::clone(&dir)));
                dir
            }
        };
        Ok((dir, name))
    }

    fn make_directory(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let (dir, name) = self.parent_of(path)?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        Ok(dir.create_dir_with(name, &builder).context("create directory", path)?)
    }

    fn implied_directory(&mut self, path: &Path, child: &Member) -> Result<(), ArchiveError> {
        self.make_directory(path)?;
        // As its child says, but for what only a directory of its own could say.
        let member = Member {
            path: path.to_owned(),
            kind: EntryKind::Directory,
            mode: 0o750,
            size: 0,
            target: None,
            xattrs: BTreeMap::new(),
            implied: Vec::new(),
            ..child.clone()
        };
        self.entries.push(ExtractedEntry::new(&member));
        self.implied.insert(path.to_owned(), self.directories.len());
        self.directories.push(member);
        Ok(())
    }

    /// Takes up a small file, which is written later.
    fn small(&mut self, member: Member, body: &mut dyn Read) -> Result<(), ArchiveError> {
        let (dir, _) = self.parent_of(&member.path)?;
        self.cancel.check()?;
        let mut content = Vec::with_capacity(usize::try_from(member.size).unwrap_or(0));
        self.bytes += body.read_to_end(&mut content)? as u64;
        (self.progress)(self.bytes);
        let (entry, owner) = (self.entries.len() - 1, self.owner(&member));
        // Attributes lie in memory too, and may be larger than what they belong to.
        let attributes: usize = member.xattrs.values().map(Vec::len).sum();
        let bytes = (content.len() + attributes) as u64;
        self.sync_behind(bytes)?;
        match self.small.push(Small { entry, dir, member, owner, content }, bytes) {
            Some(written) => self.note(written),
            None => Ok(()),
        }
    }

    fn note(&mut self, written: Result<Vec<Written>, ArchiveError>) -> Result<(), ArchiveError> {
        self.failed |= written.is_err();
        for Written { entry, sha256, stamp, is_sqlite } in written? {
            let entry = &mut self.entries[entry];
            (entry.sha256, entry.stamp, entry.is_sqlite) = (Some(sha256), Some(stamp), is_sqlite);
        }
        Ok(())
    }

    /// Lets the system bring to disk what is written so far: no promise, but less to wait for at the end.
    fn sync_behind(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        self.unsynced = (self.unsynced.0 + 1, self.unsynced.1 + bytes);
        let is_due = self.unsynced.0 >= SYNC_FILES || self.unsynced.1 >= SYNC_BYTES;
        if is_due && self.syncing.as_ref().is_none_or(Syncing::is_over) {
            self.end_sync()?;
            self.unsynced = (0, 0);
            self.syncing = Some(Syncing::begin(self.staging).context("sync", Path::new(""))?);
        }
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), ArchiveError> {
        // The system tells once what it could not write.
        match self.syncing.take() {
            Some(syncing) => Ok(syncing.wait().context("sync", Path::new(""))?),
            None => Ok(()),
        }
    }

    /// Waits until every small file is written that was taken up, also where one of them fails.
    fn write_out(&mut self) -> Result<(), ArchiveError> {
        let mut first = Ok(());
        while let Some(written) = self.small.pop() {
            first = first.and(self.note(written));
        }
        first
    }

    /// Unpacks a large file: over this copy, where there is one.
    fn large(
        &mut self,
        member: &Member,
        body: &mut Members<'_, impl Skip>,
        copy: Option<&Copied>,
    ) -> Result<(), ArchiveError> {
        let (dir, name) = self.parent_of(&member.path)?;
        let owner = self.owner(member);
        let (mut file, mut out);
        if let Some((reuse, copy)) = self.reuse.as_ref().zip(copy) {
            let there = reuse.put(copy, &dir, name).context("create", &member.path)?;
            let original = reuse.original(member, copy);
            file = fs::open_to_write(&dir, name).context("open", &member.path)?;
            out = Over::copy(&mut file, there, original, member.size).context("shorten", &member.path)?;
        } else {
            file = fs::create_file(&dir, name, made(member, owner)).context("create", &member.path)?;
            out = Over::new(&mut file);
        }
        let (mut digest, mut is_sqlite) = (Aside::default(), None);
        loop {
            self.cancel.check()?;
            let mut piece = digest.spare();
            body.piece(&mut piece, PIECE)?;
            let length = piece.len();
            if length == 0 {
                break;
            }
            let _first = is_sqlite.get_or_insert_with(|| sqlite::looks_like_sqlite(&piece));
            out.write(&piece).context("write", &member.path)?;
            digest.push(piece);
            self.bytes += length as u64;
            (self.progress)(self.bytes);
        }
        self.kept += out.kept();
        let stamp = finish(&file, member, owner)?;
        self.entries.push(ExtractedEntry {
            sha256: Some(digest.finish()),
            stamp: Some(stamp),
            is_sqlite: is_sqlite.unwrap_or_default(),
            ..ExtractedEntry::new(member)
        });
        Ok(())
    }

    fn symlink(&mut self, member: &Member) -> Result<(), ArchiveError> {
        let wanted = self.owner(member);
        let target = member.target.clone().unwrap_or_default();
        let (dir, name) = self.parent_of(&member.path)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::symlinkat(target.as_os_str().as_bytes(), &dir, name)
            .context("create link", &member.path)?;
        let stat = rustix::fs::statat(&dir, name, flags).context("inspect", &member.path)?;
        if (stat.st_uid, stat.st_gid) != wanted {
            let (uid, gid) = ids(wanted);
            rustix::fs::chownat(&dir, name, uid, gid, flags).context("set the owner of", &member.path)?;
        }
        rustix::fs::utimensat(&dir, name, &times(member), flags).context("set the time of", &member.path)?;
        Ok(())
    }

    fn hardlink(&mut self, member: &Member) -> Result<(), ArchiveError> {
        // The file that it names must be there.
        self.write_out()?;
        let target = member.target.as_deref().unwrap_or(Path::new(""));
        let from = open_below(self.staging, target.parent().unwrap_or(Path::new("")))?;
        let from_name = target.file_name().map_or(target, Path::new);
        let (dir, name) = self.parent_of(&member.path)?;
        rustix::fs::linkat(&from, from_name, &dir, name, AtFlags::empty())
            .context("create hard link", &member.path)?;
        Ok(())
    }

    /// Deepest first: a directory's time changes with what is made in it, and its mode may close it.
    fn finish_directories(&mut self) -> Result<(), ArchiveError> {
        self.parent = None;
        let mut directories = std::mem::take(&mut self.directories);
        directories.sort_by(|a, b| b.path.cmp(&a.path));
        for member in &directories {
            self.cancel.check()?;
            let dir = open_below(self.staging, &member.path)?;
            let stat = rustix::fs::fstat(&dir).context("inspect", &member.path)?;
            let owners = [(stat.st_uid, stat.st_gid), self.owner(member)];
            settle(&dir, member, member.mode & 0o7777, owners)?;
        }
        Ok(())
    }

    fn owner(&self, member: &Member) -> (u32, u32) {
        match self.owners {
            Owners::Archive => (member.uid, member.gid),
            Owners::Resolve(resolve) => resolve(&member.path),
        }
    }
}

fn open_below(staging: &Dir, path: &Path) -> Result<Dir, ArchiveError> {
    let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(fs::open_dir(staging, name).context("open directory", path)?)
}
