//! The first pass of a backup: what there is in the live tree, with digests, and each SQLite database
//! copied to scratch. Changes only the scratch directory; a crash leaves copies there, which go with it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::header::MAX_EXTENSION;
use super::manifest::to_hex;
use super::name::MAX_NAME;
use super::{ArchiveError, Entry, EntryKind, HashingReader, Payload};
use crate::host::cancel::Cancel;
use crate::host::fs::{self, IoContext as _};
use crate::host::pool::Batches;
use crate::host::sqlite::{self, DatabaseSummary};
use crate::ids::Sha256;

/// Bytes of a file that are read at once.
const BUFFER: usize = 128 * 1024;

/// Where the body of a regular file is read from in the second pass.
#[derive(Debug)]
pub(super) enum Source {
    /// There is none: a directory or link.
    Nothing,
    /// The live tree, by the path relative to the instance directory.
    Live(PathBuf),
    /// A copy in the scratch directory.
    Scratch(String),
    /// Memory.
    Bytes(Vec<u8>),
}

/// An entry with its body.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) source: Source,
}

/// Looks at everything in the live tree, sorted by the bytes of the path.
pub(super) fn walk(payload: &Payload<'_>, cancel: &Cancel) -> Result<Vec<Item>, ArchiveError> {
    // Opened anew: the handle may be one for lookups only, whose attributes cannot be read.
    let data = fs::open_dir(payload.data, ".").context("open directory", "data")?;
    let mut found = vec![(PathBuf::new(), rustix::fs::fstat(&data).context("inspect", "data")?)];
    let mut next = 0;
    while let Some((path, stat)) = found.get(next) {
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            cancel.check()?;
            let exclude = if path.as_os_str().is_empty() { payload.exclude } else { &[] };
            let below = list(&data, &path.clone(), exclude)?;
            found.extend(below);
        }
        next += 1;
    }
    // In the order of the archive: a hard link then refers to an earlier name, and a database comes
    // before its companions, as its name is their beginning.
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    refuse_foreign_links(&found)?;
    let mut walk = Walk {
        data: &data,
        scratch: payload.scratch,
        cancel,
        items: Vec::with_capacity(found.len()),
        inodes: HashMap::new(),
        companions: HashSet::new(),
        copies: 0,
        taken: Batches::new(cancel, |files: Vec<Taken>, cancel| {
            let mut buffer = vec![0; BUFFER];
            files.into_iter().map(|file| file.look(&mut buffer, cancel)).collect()
        }),
    };
    for (path, stat) in &found {
        walk.look(path, stat)?;
    }
    while let Some(seen) = walk.taken.pop() {
        walk.note(seen)?;
    }
    Ok(walk.items)
}

/// Where the kernel lets everybody make hard links (`fs.protected_hardlinks=0`), the owner of the directory
/// can link somebody else's secret into it, and would have it from the backup later: a file that has names
/// elsewhere, is closed to others, and belongs neither to them nor to whom the directory belongs.
fn refuse_foreign_links(found: &[(PathBuf, Stat)]) -> Result<(), ArchiveError> {
    let Some((_, top)) = found.first().filter(|_| rustix::process::geteuid().is_root()) else {
        return Ok(());
    };
    let mut names: HashMap<(u64, u64), u64> = HashMap::new();
    for (_, stat) in found {
        *names.entry((stat.st_dev, stat.st_ino)).or_default() += 1;
    }
    let foreign = |stat: &Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid != top.st_uid
            && stat.st_mode & 0o004 == 0
            && names.get(&(stat.st_dev, stat.st_ino)).is_some_and(|count| *count < stat.st_nlink)
    };
    match found.iter().find(|(_, stat)| foreign(stat)) {
        Some((path, _)) => Err(unsupported(path, "a hard link to a closed file of somebody else")),
        None => Ok(()),
    }
}

/// What stands in one directory.
fn list(data: &Dir, path: &Path, exclude: &[String]) -> Result<Vec<(PathBuf, Stat)>, ArchiveError> {
    let dir = still_there(open_dir(data, path), path, "open directory")?;
    let mut found = Vec::new();
    for entry in dir.entries().context("list", in_archive(path))? {
        let name = entry.context("list", in_archive(path))?.file_name();
        if exclude.iter().any(|excluded| name == excluded.as_str()) {
            continue;
        }
        let below = path.join(&name);
        if below.as_os_str().len() > MAX_NAME - 200 {
            return Err(unsupported(&below, "a file with too long a path"));
        }
        let stat = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into);
        match still_there(stat, &below, "inspect") {
            Ok(stat) => found.push((below, stat)),
            // A journal that went while we looked is no loss: its database is copied as it is then.
            Err(ArchiveError::FileChanged { .. }) if is_companion(&name) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn is_companion(name: &OsStr) -> bool {
    [&b"-journal"[..], b"-wal", b"-shm"].iter().any(|suffix| name.as_bytes().ends_with(suffix))
}

/// A name that was there a moment ago and is gone now has changed.
fn still_there<T>(result: std::io::Result<T>, path: &Path, action: &'static str) -> Result<T, ArchiveError> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(ArchiveError::FileChanged { path: in_archive(path) })
        }
        other => Ok(other.context(action, in_archive(path))?),
    }
}

fn open_dir(data: &Dir, path: &Path) -> std::io::Result<Dir> {
    fs::open_dir(data, if path.as_os_str().is_empty() { Path::new(".") } else { path })
}

/// Where an entry of the live tree stands in the archive.
fn in_archive(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from("data") } else { Path::new("data").join(path) }
}

/// Opens a regular file of the live tree without following a link.
pub(super) fn open_live(data: &Dir, path: &Path) -> rustix::io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(data, path, flags, Mode::empty(), resolve).map(std::fs::File::from)
}

struct Walk<'a> {
    data: &'a Dir,
    scratch: &'a Dir,
    cancel: &'a Cancel,
    items: Vec<Item>,
    /// First name of each file with several names.
    inodes: HashMap<(u64, u64), PathBuf>,
    /// Journals of databases that were copied together with them.
    companions: HashSet<PathBuf>,
    copies: u32,
    /// Files on their way to a digest.
    taken: Batches<Taken, Result<Vec<Seen>, ArchiveError>>,
}

/// A file whose content is to be looked at.
struct Taken {
    item: usize,
    path: PathBuf,
    size: u64,
    file: std::fs::File,
    /// Where it is the copy of a database: in which directory, under which name.
    copy: Option<(Dir, String)>,
}

/// What a file holds, by its place among the items.
struct Seen {
    item: usize,
    sha256: Sha256,
    sqlite: Option<DatabaseSummary>,
}

impl Taken {
    fn look(self, buffer: &mut [u8], cancel: &Cancel) -> Result<Seen, ArchiveError> {
        let (sha256, size) = digest(&self.file, &self.path, buffer, cancel)?;
        if size != self.size {
            return Err(ArchiveError::FileChanged { path: self.path });
        }
        // SQLite's own locks go with any descriptor of the file.
        drop(self.file);
        let _stop = sqlite::stop_on(cancel);
        // Damage inside is for `backup verify` to tell; the copy is what there is.
        let summarize =
            |(scratch, copy): (Dir, String)| sqlite::summarize(&scratch, Path::new(&copy), true).ok();
        Ok(Seen { item: self.item, sha256, sqlite: self.copy.and_then(summarize) })
    }
}

impl Walk<'_> {
    fn look(&mut self, path: &Path, stat: &Stat) -> Result<(), ArchiveError> {
        self.cancel.check()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let dir = still_there(open_dir(self.data, path), path, "open directory")?;
                same(&dir, stat, path)?;
                let entry = entry(path, EntryKind::Directory, stat, xattrs(&dir, path)?);
                self.items.push(Item { entry, source: Source::Nothing });
                Ok(())
            }
            FileType::RegularFile if self.companions.contains(path) => Ok(()),
            FileType::RegularFile => {
                if self.file(path, stat)? {
                    self.companions.extend(sqlite::companions(path));
                }
                Ok(())
            }
            FileType::Symlink => self.symlink(path, stat),
            FileType::Fifo => Err(unsupported(path, "a FIFO")),
            FileType::Socket => Err(unsupported(path, "a socket")),
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                Err(unsupported(path, "a device"))
            }
        }
    }

    fn symlink(&mut self, path: &Path, stat: &Stat) -> Result<(), ArchiveError> {
        let above = open_dir(self.data, path.parent().unwrap_or(Path::new("")));
        let above = still_there(above, path, "open directory")?;
        let name = path.file_name().unwrap_or_default();
        let text = rustix::fs::readlinkat(above, name, Vec::new()).map_err(Into::into);
        let text = still_there(text, path, "read link")?;
        let mut entry = entry(path, EntryKind::Symlink, stat, BTreeMap::new());
        entry.target = Some(PathBuf::from(OsString::from_vec(text.into_bytes())));
        self.items.push(Item { entry, source: Source::Nothing });
        Ok(())
    }

    /// Takes up a regular file; whether it is a database that was copied with what its companions say.
    fn file(&mut self, below: &Path, stat: &Stat) -> Result<bool, ArchiveError> {
        let inode = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.inodes.get(&inode) {
                let mut entry = entry(below, EntryKind::Hardlink, stat, BTreeMap::new());
                entry.target = Some(in_archive(first));
                self.items.push(Item { entry, source: Source::Nothing });
                return Ok(false);
            }
            self.inodes.insert(inode, below.to_owned());
        }
        let opened = open_live(self.data, below).map_err(Into::into);
        let mut file = still_there(opened, below, "open")?;
        same(&file, stat, below)?;
        let entry = entry(below, EntryKind::File, stat, xattrs(&file, below)?);
        if sqlite::is_database(&file).unwrap_or(false) {
            // Before SQLite opens its own: closing this one later would drop SQLite's locks.
            drop(file);
            if self.database(below, entry.clone())? {
                return Ok(true);
            }
            file = still_there(open_live(self.data, below).map_err(Into::into), below, "open")?;
            same(&file, stat, below)?;
        }
        self.plain(below, entry, file)?;
        Ok(false)
    }

    fn plain(&mut self, below: &Path, entry: Entry, file: std::fs::File) -> Result<(), ArchiveError> {
        self.take(entry, Source::Live(below.to_owned()), file, None)
    }

    fn take(
        &mut self,
        entry: Entry,
        source: Source,
        file: std::fs::File,
        copy: Option<(Dir, String)>,
    ) -> Result<(), ArchiveError> {
        let (item, path, size) = (self.items.len(), entry.path.clone(), entry.size);
        self.items.push(Item { entry, source });
        match self.taken.push(Taken { item, path, size, file, copy }, size) {
            Some(seen) => self.note(seen),
            None => Ok(()),
        }
    }

    fn note(&mut self, seen: Result<Vec<Seen>, ArchiveError>) -> Result<(), ArchiveError> {
        for Seen { item, sha256, sqlite } in seen? {
            let entry = &mut self.items[item].entry;
            (entry.sha256, entry.sqlite) = (Some(sha256), sqlite);
        }
        Ok(())
    }

    /// Copies a database to scratch. `false` where it is damaged: then its files are taken as they are,
    /// so that a damaged instance can still be backed up before it is replaced.
    fn database(&mut self, below: &Path, mut entry: Entry) -> Result<bool, ArchiveError> {
        let copy = format!("database-{}", self.copies);
        self.copies += 1;
        match sqlite::snapshot(self.data, below, self.scratch, &copy) {
            Ok(()) => {}
            Err(error) if error.is_damage() => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let file = self.scratch.open(&copy).context("open", &entry.path)?.into_std();
        entry.size = file.metadata().context("inspect", &entry.path)?.len();
        let scratch = self.scratch.try_clone().context("open", &entry.path)?;
        self.take(entry, Source::Scratch(copy.clone()), file, Some((scratch, copy)))?;
        Ok(true)
    }
}

fn digest(
    file: &std::fs::File,
    path: &Path,
    buffer: &mut [u8],
    cancel: &Cancel,
) -> Result<(Sha256, u64), ArchiveError> {
    let read = HashingReader::new(file).read_out(buffer, cancel);
    // A wish to stop is no error of the file.
    cancel.check()?;
    Ok(read.context("read", path)?)
}

/// What was opened must be what was listed: owner and mode in the archive are of the file whose content
/// is in it, whoever exchanges names meanwhile.
fn same(opened: &impl AsFd, listed: &Stat, path: &Path) -> Result<(), ArchiveError> {
    let stat = rustix::fs::fstat(opened).context("inspect", in_archive(path))?;
    if (stat.st_dev, stat.st_ino, stat.st_uid, stat.st_gid)
        == (listed.st_dev, listed.st_ino, listed.st_uid, listed.st_gid)
    {
        return Ok(());
    }
    Err(ArchiveError::FileChanged { path: in_archive(path) })
}

fn entry(below: &Path, kind: EntryKind, stat: &Stat, xattrs: BTreeMap<String, String>) -> Entry {
    Entry {
        path: in_archive(below),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        mtime_nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        size: match kind {
            EntryKind::File => u64::try_from(stat.st_size).unwrap_or(0),
            EntryKind::Directory | EntryKind::Symlink | EntryKind::Hardlink => 0,
        },
        sha256: None,
        target: None,
        xattrs,
        sqlite: None,
    }
}

fn unsupported(below: &Path, what: &'static str) -> ArchiveError {
    ArchiveError::UnsupportedFile { path: in_archive(below), what }
}

/// Extended attributes with values in hexadecimal; those that the system does not show are left out, as
/// are those whose name is not UTF-8.
fn xattrs(file: &impl AsFd, below: &Path) -> Result<BTreeMap<String, String>, ArchiveError> {
    // The kernel's limits for the list and for one value.
    const MOST: usize = 64 * 1024;
    let mut found = BTreeMap::new();
    let mut list = vec![0_u8; MOST];
    let Ok(length) = rustix::fs::flistxattr(file, &mut list[..]) else { return Ok(found) };
    let mut value = vec![0_u8; if length == 0 { 0 } else { MOST }];
    let mut total = 0;
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let Ok(length) = rustix::fs::fgetxattr(file, name, &mut value[..]) else { continue };
        total += name.len() + length + 64;
        found.insert(name.to_owned(), to_hex(&value[..length]));
    }
    if total as u64 > MAX_EXTENSION / 2 {
        return Err(unsupported(below, "a file with more than 2 MiB of extended attributes"));
    }
    Ok(found)
}

/// Whether a live file is still what the first pass saw.
pub(super) fn unchanged(file: &std::fs::File, entry: &Entry) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| {
        stat.st_mtime == entry.mtime
            && u32::try_from(stat.st_mtime_nsec) == Ok(entry.mtime_nanos)
            && u64::try_from(stat.st_size) == Ok(entry.size)
    })
}
