//! Walks a directory tree by handles, in a stable order, without following links. Reads only.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::HashingReader;
use crate::host::cancel::Cancel;
use crate::host::digest;
use crate::host::fs;
use crate::host::pool::{self, InOrder};
use crate::host::stamp::Stamp;
use crate::ids::Sha256;
use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

const MAX_DEPTH: usize = 128;
/// Names that are looked at in one go.
const PIECE: usize = 256;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A socket, FIFO or device.
    Special,
}

/// One entry of a tree.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Relative to the tree's root.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a regular file.
    pub size: u64,
    /// Modification time in nanoseconds since 1970.
    pub mtime: i128,
    /// By what it is known as long as nobody changes it.
    pub stamp: Stamp,
    /// Whether another file system, or a part of one, is mounted there.
    pub mount_point: bool,
}

/// Visits every entry below `dir` in the order of names, directories before their content.
pub fn walk(dir: &Dir, visit: &mut dyn FnMut(&Entry, &Dir) -> io::Result<()>) -> io::Result<()> {
    level(dir, Path::new(""), 0, visit)
}

fn level(
    dir: &Dir,
    base: &Path,
    depth: usize,
    visit: &mut dyn FnMut(&Entry, &Dir) -> io::Result<()>,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is nested too deep", base.display()),
        ));
    }
    let mut names = dir.entries()?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.retain(|name| depth > 0 || !fs::is_foreign(name));
    names.sort_unstable();
    each_stat(dir, names, &mut |name, stat| {
        let stat = match stat {
            Ok(stat) => stat,
            // A running server's temporary files come and go.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let entry = described(base.join(name), &stat);
        visit(&entry, dir)?;
        if entry.kind == Kind::Directory {
            level(&fs::open_dir(dir, name)?, &entry.path, depth + 1, visit)?;
        }
        Ok(())
    })
}

/// Tells what the system says of each name of a directory; those of a large one are looked at on all cores.
fn each_stat(
    dir: &Dir,
    names: Vec<OsString>,
    tell: &mut dyn FnMut(&OsStr, rustix::io::Result<Statx>) -> io::Result<()>,
) -> io::Result<()> {
    fn stat(dir: &Dir, name: &OsStr) -> rustix::io::Result<Statx> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)
    }
    if names.len() <= PIECE {
        return names.iter().try_for_each(|name| tell(name, stat(dir, name)));
    }
    let shared = Arc::new(dir.try_clone()?);
    let (mut names, mut looks) = (names.into_iter(), InOrder::new());
    loop {
        while !looks.is_full() && names.len() > 0 {
            let (dir, piece) = (Arc::clone(&shared), names.by_ref().take(PIECE).collect::<Vec<_>>());
            looks.submit(move || {
                let look = |name: OsString| (stat(&dir, &name), name);
                piece.into_iter().map(look).collect::<Vec<_>>()
            });
        }
        let Some(looked) = looks.pop() else { return Ok(()) };
        looked.into_iter().try_for_each(|(stat, name)| tell(&name, stat))?;
    }
}

fn described(path: PathBuf, stat: &Statx) -> Entry {
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Kind::Special,
    };
    let nanoseconds =
        |time: StatxTimestamp| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    Entry {
        path,
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: if kind == Kind::File { stat.stx_size } else { 0 },
        mtime: nanoseconds(stat.stx_mtime),
        stamp: Stamp { inode: stat.stx_ino, changed: nanoseconds(stat.stx_ctime) },
        mount_point: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    }
}

/// SHA-256 of a regular file below `dir`; anything else is refused, and a FIFO does not block.
pub fn digest(dir: &Dir, path: &Path) -> io::Result<Sha256> {
    HashingReader::new(fs::open_regular(dir, path)?).finish()
}

/// The digest of a file, and by what the file is known that has it, where it can be.
pub type Digested = (PathBuf, io::Result<(Sha256, Option<Stamp>)>);

/// Reads files to their end, on all cores and two at a time on each.
#[derive(Debug)]
pub struct Digesting {
    reading: InOrder<io::Result<(Sha256, u64)>>,
    files: VecDeque<(PathBuf, File, Option<Stamp>)>,
}

impl Digesting {
    /// Adds a regular file below `dir`; anything else is refused, and a FIFO does not block. Gives what is done
    /// where enough is in flight.
    pub fn push(&mut self, dir: &Dir, path: &Path) -> Option<Digested> {
        let opened = fs::open_regular(dir, path).and_then(|file| Ok((file.try_clone()?, file)));
        let (reader, file) = match opened {
            Ok(both) => both,
            Err(error) => return Some((path.to_owned(), Err(error))),
        };
        let done = if self.reading.is_full() { self.pop() } else { None };
        let stamp = Stamp::settled(&file);
        self.files.push_back((path.to_owned(), file, stamp));
        self.reading.add(digest::begin(reader, &Cancel::default()));
        done
    }

    /// The oldest one; `None` where all were given.
    pub fn pop(&mut self) -> Option<Digested> {
        let (read, (path, file, stamp)) = self.reading.pop().zip(self.files.pop_front())?;
        let is_same = |stamp: &Stamp| file.metadata().is_ok_and(|meta| Stamp::of(&meta) == *stamp);
        Some((path, read.map(|(sha256, _)| (sha256, stamp.filter(is_same)))))
    }
}

impl Default for Digesting {
    /// Of none so far; two for each thread are in flight.
    fn default() -> Self {
        Self { reading: InOrder::window(2 * pool::threads()), files: VecDeque::new() }
    }
}
