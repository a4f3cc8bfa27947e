//! The tree that all paths of configuration files and plans lie in. Makes directories; all else is read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::OFlags;

use super::super::follow;
use super::{FsError, IoContext as _, create_dir, optional, read_limited};
use crate::ids::AbsPath;

/// The tree that all inside paths refer to: `/`, or the directory given with `--root`.
#[derive(Debug, Clone)]
pub struct Root {
    dir: Arc<Dir>,
    path: PathBuf,
}

impl Root {
    /// Opens a root; `path` is a directory of the host.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let real = std::fs::canonicalize(path).context("open the root", path)?;
        let dir = Dir::open_ambient_dir(&real, ambient_authority()).context("open the root", path)?;
        Ok(Self { dir: Arc::new(dir), path: real })
    }

    /// Whether this is the machine's own file tree, so that its services are meant too.
    pub fn is_host(&self) -> bool {
        self.path == Path::new("/")
    }

    /// The root directory itself.
    pub fn top(&self) -> &Dir {
        &self.dir
    }

    /// Where an inside path lies on the host: for messages and for programs that need a path.
    pub fn host_path(&self, inside: &AbsPath) -> PathBuf {
        self.path.join(inside.relative())
    }

    /// Opens a directory; symbolic links on the way stay inside the root. Root follows only those of its
    /// own (see `follow`).
    pub fn dir(&self, inside: &AbsPath) -> Result<Dir, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = follow::open(&self.dir, inside, flags).context("open directory", self.host_path(inside))?;
        Ok(Dir::from_std_file(fd.into()))
    }

    /// As [`Root::dir`], with `None` where nothing of that name exists.
    pub fn dir_optional(&self, inside: &AbsPath) -> Result<Option<Dir>, FsError> {
        optional(self.dir(inside))
    }

    /// Opens the directory that holds `inside`, and gives the last part of the path.
    /// `/` has no such directory and is refused.
    pub fn parent_of<'p>(&self, inside: &'p AbsPath) -> Result<(Dir, &'p str), FsError> {
        let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is the root directory");
            return Err(FsError { action: "open the parent of", path: self.host_path(inside), source });
        };
        Ok((self.dir(&parent)?, name))
    }

    /// Creates a directory and those above it where they are missing; each new name is synced. One that
    /// somebody else makes meanwhile is as good.
    pub fn ensure_dir(&self, inside: &AbsPath, mode: u32) -> Result<Dir, FsError> {
        if let Some(dir) = self.dir_optional(inside)? {
            return Ok(dir);
        }
        if let Some(parent) = inside.parent() {
            self.ensure_dir(&parent, mode)?;
        }
        let (parent, name) = self.parent_of(inside)?;
        match create_dir(&parent, name, mode) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(error).context("create directory", self.host_path(inside))
            }
            Ok(()) | Err(_) => self.dir(inside),
        }
    }

    /// Opens a regular file for reading; `None` where nothing of that name exists. Anything but a
    /// regular file is refused, and a FIFO does not block.
    pub fn open_file(&self, inside: &AbsPath) -> Result<Option<std::fs::File>, FsError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let opened = follow::open(&self.dir, inside, flags);
        let Some(fd) = optional(opened.context("open", self.host_path(inside)))? else { return Ok(None) };
        let file = std::fs::File::from(fd);
        let kind = file.metadata().context("inspect", self.host_path(inside))?;
        if !kind.is_file() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(FsError { action: "open", path: self.host_path(inside), source });
        }
        Ok(Some(file))
    }

    /// Whether a name is a symbolic link that leads to nothing.
    pub fn is_dangling_link(&self, inside: &AbsPath) -> Result<bool, FsError> {
        let Some(parent) = inside.parent() else { return Ok(false) };
        let (Some(dir), Some(name)) = (self.dir_optional(&parent)?, inside.file_name()) else {
            return Ok(false);
        };
        let found = dir.symlink_metadata(name).context("inspect", self.host_path(inside));
        Ok(optional(found)?.is_some_and(|kind| kind.is_symlink()) && self.open_file(inside)?.is_none())
    }

    /// Reads a whole file of at most `limit` bytes; `None` where it does not exist.
    pub fn read(&self, inside: &AbsPath, limit: u64) -> Result<Option<Vec<u8>>, FsError> {
        let Some(file) = self.open_file(inside)? else { return Ok(None) };
        read_limited(file, limit).context("read", self.host_path(inside)).map(Some)
    }

    /// Reads a unit or a vhost. `None` also for a link to `/dev/null`: systemd masks units that way.
    pub fn read_unmasked(&self, inside: &AbsPath, limit: u64) -> Result<Option<Vec<u8>>, FsError> {
        let parent = inside.parent().map(|parent| self.dir_optional(&parent)).transpose()?.flatten();
        let link = parent.zip(inside.file_name()).and_then(|(dir, name)| dir.read_link_contents(name).ok());
        if link.is_some_and(|to| to == Path::new("/dev/null")) { Ok(None) } else { self.read(inside, limit) }
    }
}
