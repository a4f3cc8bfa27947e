//! Walks a directory tree by handles, in a stable order, without following links. Reads only.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::HashingReader;
use crate::host::fs;
use crate::host::stamp::Stamp;
use crate::ids::Sha256;
use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

const MAX_DEPTH: usize = 128;

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
    /// Time of the last change of anything in nanoseconds since 1970.
    pub ctime: i128,
    /// Inode number.
    pub inode: u64,
    /// Whether another file system, or a part of one, is mounted there.
    pub mount_point: bool,
}

impl Entry {
    /// By what it is known as long as nobody changes it.
    pub fn stamp(&self) -> Stamp {
        Stamp { inode: self.inode, changed: self.ctime }
    }
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
    names.sort();
    for name in names {
        if depth == 0 && fs::is_foreign(&name) {
            continue;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = match rustix::fs::statx(dir, &name, flags, StatxFlags::BASIC_STATS) {
            Ok(stat) => stat,
            // A running server's temporary files come and go.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let entry = described(base.join(&name), &stat);
        visit(&entry, dir)?;
        if entry.kind == Kind::Directory {
            level(&fs::open_dir(dir, &name)?, &entry.path, depth + 1, visit)?;
        }
    }
    Ok(())
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
        ctime: nanoseconds(stat.stx_ctime),
        inode: stat.stx_ino,
        mount_point: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    }
}

/// SHA-256 of a regular file below `dir`, and by what the file is known that has it, where it can be;
/// anything else is refused, and a FIFO does not block.
pub fn digest(dir: &Dir, path: &Path) -> io::Result<(Sha256, Option<Stamp>)> {
    let file = fs::open_regular(dir, path)?;
    let stamp = Stamp::settled(&file);
    let sha256 = HashingReader::new(&file).finish()?;
    Ok((sha256, stamp.filter(|stamp| file.metadata().is_ok_and(|meta| Stamp::of(&meta) == *stamp))))
}
