//! Walks a directory tree by handles, in a stable order, without following links. Reads only.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::HashingReader;
use crate::host::fs;
use crate::ids::Sha256;
use cap_std::fs::{Dir, MetadataExt as _};

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
    /// Inode number.
    pub inode: u64,
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
        if depth == 0 && name == fs::PRIVATE {
            continue;
        }
        let meta = match dir.symlink_metadata(&name) {
            Ok(meta) => meta,
            // A running server's temporary files come and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let kind = if meta.is_dir() {
            Kind::Directory
        } else if meta.is_file() {
            Kind::File
        } else if meta.is_symlink() {
            Kind::Symlink
        } else {
            Kind::Special
        };
        let entry = Entry {
            path: base.join(&name),
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            size: if kind == Kind::File { meta.size() } else { 0 },
            mtime: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            inode: meta.ino(),
        };
        visit(&entry, dir)?;
        if kind == Kind::Directory {
            level(&fs::open_dir(dir, &name)?, &entry.path, depth + 1, visit)?;
        }
    }
    Ok(())
}

/// SHA-256 of a regular file below `dir`; anything else is refused, and a FIFO does not block.
pub fn digest(dir: &Dir, path: &Path) -> io::Result<Sha256> {
    HashingReader::new(fs::open_regular(dir, path)?).finish()
}
