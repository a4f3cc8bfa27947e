//! The first pass of a backup: what there is in the live tree, with digests, and each SQLite database
//! copied to scratch. Changes only the scratch directory; a crash leaves copies there, which go with it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use sha2::Digest as _;

use super::header::MAX_EXTENSION;
use super::name::MAX_NAME;
use super::{ArchiveError, DATA, Entry, EntryKind, HashingReader, Payload};
use crate::host::cancel::Cancel;
use crate::host::fs::{self, IoContext as _};
use crate::host::pool::Batches;
use crate::host::sqlite;
use crate::host::stamp::Stamp;
use crate::ids::Sha256;

/// Bytes of a file that are read at once.
const BUFFER: usize = 128 * 1024;
/// Files up to this size are kept in memory between the passes, as many as this, with what each takes beside
/// its content: small ones cost most by being opened.
const KEPT_FILE: u64 = 64 << 10;
const KEPT: u64 = 8 << 20;
const KEPT_BESIDE: u64 = 64;

/// Where the body of a regular file is read from in the second pass.
#[derive(Debug)]
pub(super) enum Source {
    /// There is none: a directory or link.
    Nothing,
    /// The live tree, below `data/`; or what the first pass kept of it.
    Live(Option<Kept>),
    /// A copy in the scratch directory.
    Scratch(String),
    /// Memory.
    Bytes(Vec<u8>),
}

/// The content of a file, and by what that is known which has it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) content: Vec<u8>,
    stamp: Stamp,
}

impl Kept {
    /// Whether nobody changed the file since, whatever times they gave it.
    pub(super) fn is_of(&self, stat: &Stat) -> bool {
        Stamp::from(stat) == self.stamp
    }
}

/// An entry with its body.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) source: Source,
}

/// Looks at everything in the live tree. What is a file comes when it was looked at, so that there is no order.
pub(super) fn walk(payload: &Payload<'_>, cancel: &Cancel) -> Result<Vec<Item>, ArchiveError> {
    // Opened anew: the handle may be one for lookups only, whose attributes cannot be read.
    let data = fs::open_dir(payload.data, ".").context("open directory", "data")?;
    let mut found = vec![(PathBuf::new(), rustix::fs::fstat(&data).context("inspect", "data")?)];
    list(&data, payload.exclude, &mut found, cancel)?;
    refuse_foreign_links(&found)?;
    let looker = Looker {
        data: data.try_clone().context("open directory", "data")?,
        scratch: payload.scratch.try_clone().context("open directory", "data")?,
        copies: AtomicUsize::new(0),
    };
    let mut walk = Walk {
        data: &data,
        cancel,
        items: Vec::with_capacity(found.len()),
        inodes: HashMap::new(),
        companions: HashSet::new(),
        kept: 0,
        files: Batches::new(cancel, move |files: Vec<Regular>, cancel| {
            let mut buffer = vec![0; BUFFER];
            files.iter().map(|file| looker.look(file, &mut buffer, cancel)).collect()
        }),
    };
    for (path, stat) in found {
        walk.look(path, stat)?;
    }
    walk.note_all()?;
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

/// Adds what stands in the tree, in the order of the archive: a hard link then refers to an earlier name, and a
/// database comes before its companions, as its name is their beginning.
fn list(
    data: &Dir,
    exclude: &[String],
    found: &mut Vec<(PathBuf, Stat)>,
    cancel: &Cancel,
) -> Result<(), ArchiveError> {
    // What is left of each directory on the way down: a tree may be deeper than the stack.
    let mut open = vec![level(data, Path::new(""), exclude)?.into_iter()];
    while let Some(rest) = open.last_mut() {
        let Some((below, stat)) = rest.next() else {
            let _done = open.pop();
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            cancel.check()?;
            open.push(level(data, &below, &[])?.into_iter());
        }
        found.push((below, stat));
    }
    Ok(())
}

/// What stands in one directory.
fn level(data: &Dir, path: &Path, exclude: &[String]) -> Result<Vec<(PathBuf, Stat)>, ArchiveError> {
    let dir = still_there(open_dir(data, path), path, "open directory")?;
    let entries = dir.entries().context("list", in_archive(path))?;
    let names = entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>();
    let mut names = names.context("list", in_archive(path))?;
    names.sort_unstable();
    let mut found = Vec::with_capacity(names.len());
    for name in names {
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
            Err(ArchiveError::FileChanged { .. }) if sqlite::is_companion(&name) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
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
    cancel: &'a Cancel,
    items: Vec<Item>,
    /// First name of each file with several names.
    inodes: HashMap<(u64, u64), PathBuf>,
    /// Journals of databases that were copied together with them.
    companions: HashSet<PathBuf>,
    /// What is kept of files in memory.
    kept: u64,
    /// Files that are looked at, in the order of their names.
    files: Batches<Regular, Result<Vec<Item>, ArchiveError>>,
}

/// A regular file of the live tree that is to be looked at.
struct Regular {
    below: PathBuf,
    stat: Stat,
    /// Whether its content stays in memory.
    keep: bool,
}

/// Looks at regular files, each on any core.
struct Looker {
    data: Dir,
    scratch: Dir,
    /// How many databases were copied.
    copies: AtomicUsize,
}

impl Looker {
    fn look(&self, file: &Regular, buffer: &mut [u8], cancel: &Cancel) -> Result<Item, ArchiveError> {
        if let Some(item) = self.plain(file, false, buffer, cancel)? {
            return Ok(item);
        }
        // Nobody holds the file open any more: closing one would drop SQLite's locks.
        if let Some(item) = self.database(file, buffer, cancel)? {
            return Ok(item);
        }
        let changed = || ArchiveError::FileChanged { path: in_archive(&file.below) };
        self.plain(file, true, buffer, cancel)?.ok_or_else(changed)
    }

    /// Takes a file as it is; `None` where it begins as a database does, unless that is of no matter.
    fn plain(
        &self,
        Regular { below, stat, keep }: &Regular,
        as_is: bool,
        buffer: &mut [u8],
        cancel: &Cancel,
    ) -> Result<Option<Item>, ArchiveError> {
        let mut file = still_there(open_live(&self.data, below).map_err(Into::into), below, "open")?;
        // Of now: looking at a database can touch its companions.
        let stamp = Stamp::from(&same(&file, stat, below)?);
        let mut entry = entry(below, EntryKind::File, stat, xattrs(&file, below)?);
        let (mut hasher, mut size, mut content) = (sha2::Sha256::new(), 0, None);
        // Exactly what was listed: whether there is more by now the second pass sees.
        while size < entry.size {
            cancel.check()?;
            let most = buffer.len().min(usize::try_from(entry.size - size).unwrap_or(usize::MAX));
            let piece = match file.read(&mut buffer[..most]) {
                Ok(0) => return Err(ArchiveError::FileChanged { path: entry.path }),
                Ok(count) => &buffer[..count],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error).context("read", &entry.path)?,
            };
            if size == 0 && !as_is && sqlite::looks_like_sqlite(piece) {
                return Ok(None);
            }
            hasher.update(piece);
            if *keep {
                content.get_or_insert_with(|| Vec::with_capacity(most)).extend_from_slice(piece);
            }
            size += piece.len() as u64;
        }
        entry.sha256 = Some(Sha256::from_bytes(hasher.finalize().into()));
        let kept = content.map(|content| Kept { content, stamp });
        Ok(Some(Item { entry, source: Source::Live(kept) }))
    }

    /// Copies a database to scratch, with what its companions say. `None` where it is damaged: then its files
    /// are taken as they are, so that a damaged instance can still be backed up before it is replaced.
    fn database(
        &self,
        Regular { below, stat, .. }: &Regular,
        buffer: &mut [u8],
        cancel: &Cancel,
    ) -> Result<Option<Item>, ArchiveError> {
        let name = format!("database-{}", self.copies.fetch_add(1, Ordering::Relaxed));
        match sqlite::snapshot(&self.data, below, &self.scratch, &name) {
            Ok(()) => {}
            Err(error) if error.is_damage() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let live = still_there(open_live(&self.data, below).map_err(Into::into), below, "open")?;
        same(&live, stat, below)?;
        let mut entry = entry(below, EntryKind::File, stat, xattrs(&live, below)?);
        let copy = self.scratch.open(&name).context("open", &entry.path)?;
        let read = HashingReader::new(copy).read_out(buffer, cancel);
        // A wish to stop is no error of the file.
        cancel.check()?;
        let (sha256, size) = read.context("read", &entry.path)?;
        (entry.sha256, entry.size) = (Some(sha256), size);
        let _stop = sqlite::stop_on(cancel);
        // Damage inside is for `backup verify` to tell; the copy is what there is.
        entry.sqlite = sqlite::summarize(&self.scratch, Path::new(&name), true).ok();
        Ok(Some(Item { entry, source: Source::Scratch(name) }))
    }
}

impl Walk<'_> {
    fn look(&mut self, path: PathBuf, stat: Stat) -> Result<(), ArchiveError> {
        self.cancel.check()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let dir = still_there(open_dir(self.data, &path), &path, "open directory")?;
                same(&dir, &stat, &path)?;
                let entry = entry(&path, EntryKind::Directory, &stat, xattrs(&dir, &path)?);
                self.items.push(Item { entry, source: Source::Nothing });
                Ok(())
            }
            FileType::RegularFile => self.file(path, stat),
            FileType::Symlink => self.symlink(&path, &stat),
            FileType::Fifo => self.refuse(&path, "a FIFO"),
            FileType::Socket => self.refuse(&path, "a socket"),
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                self.refuse(&path, "a device")
            }
        }
    }

    /// What is wrong with an earlier file explains more.
    fn refuse(&mut self, path: &Path, what: &'static str) -> Result<(), ArchiveError> {
        self.note_all().and(Err(unsupported(path, what)))
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

    /// Takes up a regular file.
    fn file(&mut self, below: PathBuf, stat: Stat) -> Result<(), ArchiveError> {
        if sqlite::is_companion(below.file_name().unwrap_or_default()) {
            // Its database comes before it, and while that is copied nobody may open this.
            self.note_all()?;
            if self.companions.contains(&below) {
                return Ok(());
            }
        }
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.inodes.get(&inode) {
                let mut entry = entry(&below, EntryKind::Hardlink, &stat, BTreeMap::new());
                entry.target = Some(in_archive(first));
                self.items.push(Item { entry, source: Source::Nothing });
                return Ok(());
            }
            self.inodes.insert(inode, below.clone());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let keep = size <= KEPT_FILE && self.kept + size + KEPT_BESIDE <= KEPT;
        if keep {
            self.kept += size + KEPT_BESIDE;
        }
        match self.files.push(Regular { below, stat, keep }, size) {
            Some(items) => self.note(items),
            None => Ok(()),
        }
    }

    /// Takes up what came of files.
    fn note(&mut self, items: Result<Vec<Item>, ArchiveError>) -> Result<(), ArchiveError> {
        for item in items? {
            if matches!(item.source, Source::Scratch(_)) {
                self.companions.extend(sqlite::companions(below_data(&item.entry)));
            }
            self.items.push(item);
        }
        Ok(())
    }

    /// The same, of all that are on their way.
    fn note_all(&mut self) -> Result<(), ArchiveError> {
        while let Some(items) = self.files.pop() {
            self.note(items)?;
        }
        Ok(())
    }
}

/// What was opened must be what was listed: owner and mode in the archive are of the file whose content
/// is in it, whoever exchanges names meanwhile.
fn same(opened: &impl AsFd, listed: &Stat, path: &Path) -> Result<Stat, ArchiveError> {
    let stat = rustix::fs::fstat(opened).context("inspect", in_archive(path))?;
    if (stat.st_dev, stat.st_ino, stat.st_uid, stat.st_gid)
        == (listed.st_dev, listed.st_ino, listed.st_uid, listed.st_gid)
    {
        return Ok(stat);
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
    // Most have none, and it is asked for each.
    if let Ok(0) | Err(_) = rustix::fs::flistxattr_query(file) {
        return Ok(found);
    }
    let mut list = vec![0_u8; MOST];
    let Ok(length) = rustix::fs::flistxattr(file, &mut list[..]) else { return Ok(found) };
    let mut value = vec![0_u8; MOST];
    let mut total = 0;
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let Ok(length) = rustix::fs::fgetxattr(file, name, &mut value[..]) else { continue };
        total += name.len() + length + 64;
        found.insert(name.to_owned(), base16ct::lower::encode_string(&value[..length]));
    }
    if total as u64 > MAX_EXTENSION / 2 {
        return Err(unsupported(below, "a file with more than 2 MiB of extended attributes"));
    }
    Ok(found)
}

/// The path of a file of the live tree, relative to the instance directory.
pub(super) fn below_data(entry: &Entry) -> &Path {
    entry.path.strip_prefix(DATA).unwrap_or(&entry.path)
}

/// Whether a live file is still what the first pass saw, by size and time.
pub(super) fn is_unchanged(stat: &Stat, entry: &Entry) -> bool {
    stat.st_mtime == entry.mtime
        && u32::try_from(stat.st_mtime_nsec) == Ok(entry.mtime_nanos)
        && u64::try_from(stat.st_size) == Ok(entry.size)
}
