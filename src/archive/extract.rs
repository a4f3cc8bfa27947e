//! Unpacks an archive into a staging directory in one pass. Writes below staging only: each file is made
//! anew (`O_EXCL|O_NOFOLLOW`) in a directory that was opened beneath staging without following links.
//!
//! # Atomicity
//! None by itself: a crash or an error leaves a partial tree, which the caller removes with its staging
//! directory. Nothing is synced: the caller does that once for the whole tree.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use sha2::Digest as _;

use super::reader::Members;
use super::{ArchiveError, EntryKind, Limits, Manifest, Member};
use crate::host::cancel::Cancel;
use crate::host::fs::{self, IoContext as _};
use crate::ids::{BackupId, Sha256};

const BUFFER: usize = 128 * 1024;

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
    tar: impl Read,
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
        buffer: vec![0; BUFFER],
    };
    let mut members = Members::new(tar, id, &options.limits);
    while let Some(member) = members.next(cancel)? {
        for path in &member.implied {
            work.implied_directory(path, &member)?;
        }
        work.member(member, &mut members)?;
    }
    work.finish_directories()?;
    Ok(Extracted { entries: work.entries, manifest: members.manifest, bytes: work.bytes })
}

struct Work<'a> {
    staging: &'a Dir,
    owners: Owners<'a>,
    cancel: &'a Cancel,
    progress: &'a dyn Fn(u64),
    /// The directory written to last: members come directory by directory.
    parent: Option<(PathBuf, Dir)>,
    /// Directories whose mode and times are set when nothing is written into them any more.
    directories: Vec<Member>,
    /// Which of them no member has named so far.
    implied: HashMap<PathBuf, usize>,
    entries: Vec<ExtractedEntry>,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Work<'_> {
    fn member(&mut self, member: Member, body: &mut dyn Read) -> Result<(), ArchiveError> {
        let sha256 = match member.kind {
            EntryKind::File => Some(self.file(&member, body)?),
            EntryKind::Directory => {
                // Made already where a name below it came first.
                if let Some(index) = self.implied.remove(&member.path) {
                    self.directories[index] = member;
                    return Ok(());
                }
                self.make_directory(&member.path)?;
                None
            }
            EntryKind::Symlink => {
                self.symlink(&member)?;
                None
            }
            EntryKind::Hardlink => {
                self.hardlink(&member)?;
                None
            }
        };
        self.entries.push(ExtractedEntry {
            path: member.path.clone(),
            kind: member.kind,
            size: member.size,
            sha256,
            target: member.target.clone(),
        });
        if member.kind == EntryKind::Directory {
            self.directories.push(member);
        }
        Ok(())
    }

    /// The open directory that holds `path`, and the last part of it.
    fn parent_of<'p>(&mut self, path: &'p Path) -> Result<(&Dir, &'p Path), ArchiveError> {
        let above = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().map_or(path, Path::new);
        if self.parent.as_ref().is_none_or(|(open, _)| open != above) {
            let dir = open_below(self.staging, above)?;
            self.parent = Some((above.to_owned(), dir));
        }
        match &self.parent {
            Some((_, dir)) => Ok((dir, name)),
            None => Ok((self.staging, name)),
        }
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
        self.entries.push(ExtractedEntry {
            path: path.to_owned(),
            kind: EntryKind::Directory,
            size: 0,
            sha256: None,
            target: None,
        });
        self.implied.insert(path.to_owned(), self.directories.len());
        self.directories.push(member);
        Ok(())
    }

    fn file(&mut self, member: &Member, body: &mut dyn Read) -> Result<Sha256, ArchiveError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let (dir, name) = self.parent_of(&member.path)?;
        let mut file = fs::create_file(dir, name, 0o600).context("create", &member.path)?;
        let mut hasher = sha2::Sha256::new();
        loop {
            self.cancel.check()?;
            let length = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            file.write_all(&buffer[..length]).context("write", &member.path)?;
            hasher.update(&buffer[..length]);
            self.bytes += length as u64;
            (self.progress)(self.bytes);
        }
        self.buffer = buffer;
        let meta = file.metadata().context("inspect", &member.path)?;
        // Privileges must not come out of an archive; data files need none.
        self.settle(&file, member, member.mode & 0o777, (meta.uid(), meta.gid()))?;
        Ok(Sha256::from_bytes(hasher.finalize().into()))
    }

    fn symlink(&mut self, member: &Member) -> Result<(), ArchiveError> {
        let wanted = self.owner(member);
        let target = member.target.clone().unwrap_or_default();
        let (dir, name) = self.parent_of(&member.path)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::symlinkat(target.as_os_str().as_bytes(), dir, name)
            .context("create link", &member.path)?;
        let stat = rustix::fs::statat(dir, name, flags).context("inspect", &member.path)?;
        if (stat.st_uid, stat.st_gid) != wanted {
            let (uid, gid) = ids(wanted);
            rustix::fs::chownat(dir, name, uid, gid, flags).context("set the owner of", &member.path)?;
        }
        rustix::fs::utimensat(dir, name, &times(member), flags).context("set the time of", &member.path)?;
        Ok(())
    }

    fn hardlink(&mut self, member: &Member) -> Result<(), ArchiveError> {
        let target = member.target.as_deref().unwrap_or(Path::new(""));
        let from = open_below(self.staging, target.parent().unwrap_or(Path::new("")))?;
        let from_name = target.file_name().map_or(target, Path::new);
        let (dir, name) = self.parent_of(&member.path)?;
        rustix::fs::linkat(&from, from_name, dir, name, AtFlags::empty())
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
            self.settle(&dir, member, member.mode & 0o7777, (stat.st_uid, stat.st_gid))?;
        }
        Ok(())
    }

    fn owner(&self, member: &Member) -> (u32, u32) {
        match self.owners {
            Owners::Archive => (member.uid, member.gid),
            Owners::Resolve(resolve) => resolve(&member.path),
        }
    }

    /// Owner, attributes, mode, time: in this order, as the first drops attributes and privileges, and
    /// the mode may forbid attributes.
    fn settle(
        &self,
        file: impl AsFd,
        member: &Member,
        mode: u32,
        is: (u32, u32),
    ) -> Result<(), ArchiveError> {
        let wanted = self.owner(member);
        if is != wanted {
            let (uid, gid) = ids(wanted);
            rustix::fs::fchown(&file, uid, gid).context("set the owner of", &member.path)?;
        }
        for (name, value) in member.xattrs.iter().filter(|(name, _)| is_restorable(name)) {
            let set = rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty());
            // Which attributes a system takes depends on file system, user and kernel.
            if matches!(set, Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)) {
                set.context("set an attribute of", &member.path)?;
            }
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).context("set the mode of", &member.path)?;
        rustix::fs::futimens(&file, &times(member)).context("set the time of", &member.path)?;
        Ok(())
    }
}

fn open_below(staging: &Dir, path: &Path) -> Result<Dir, ArchiveError> {
    let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(fs::open_dir(staging, name).context("open directory", path)?)
}

/// Whether an extended attribute may come out of an archive: capabilities, labels and marks of the kernel
/// give a file rights that its mode does not show.
fn is_restorable(name: &str) -> bool {
    name.starts_with("user.") || matches!(name, "system.posix_acl_access" | "system.posix_acl_default")
}

/// `u32::MAX` would mean "leave it"; a resolver that gives it gets just that.
fn ids((uid, gid): (u32, u32)) -> (Option<Uid>, Option<Gid>) {
    let real = |id: u32| (id != u32::MAX).then_some(id);
    (real(uid).map(Uid::from_raw), real(gid).map(Gid::from_raw))
}

fn times(member: &Member) -> Timestamps {
    let time = Timespec { tv_sec: member.mtime, tv_nsec: i64::from(member.mtime_nanos) };
    Timestamps { last_access: time, last_modification: time }
}
