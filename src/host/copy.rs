//! Copies a directory tree, or one file, with all that belongs to it: content (shared with the original
//! where the file system can), owner, mode, times, extended attributes, links and hard links among its own
//! files. Never a hard link to the original. Writes below the new directory alone; a crash leaves a part
//! of it, which its owner removes. Nothing is synced: the caller does that once for all.

use std::collections::HashMap;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::cancel::Cancel;
use super::fs::{self, FsError, IoContext as _};

/// How deep a tree may be.
const MAX_DEPTH: usize = 128;
/// Bytes between two looks at whether to stop.
const PIECE: usize = 8 << 20;
/// What is read at once where the kernel cannot copy by itself.
const BUFFER: usize = 128 << 10;
/// The most that the names or the value of extended attributes take; the kernel allows no more.
const MAX_XATTR: usize = 64 << 10;

/// Copies what is below `from` into the empty directory `to`, then gives `to` what belongs to `from`
/// itself. What [`fs::is_foreign`] at the top is left out. `progress` is told how many bytes were copied so far.
///
/// # Errors
/// What could not be read or written, with its path below `from`; another file system mounted in it; or
/// somebody asked to stop.
pub fn tree(from: &Dir, to: &Dir, cancel: &Cancel, progress: &dyn Fn(u64)) -> Result<(), FsError> {
    // Opened anew: a handle may be for look-ups alone.
    let (from, to) = (again(from)?, again(to)?);
    let own = rustix::fs::fstat(&from).context("look at", ".")?;
    let mut copy = Copy { top: &to, device: own.st_dev, links: HashMap::new(), cancel, progress, bytes: 0 };
    copy.level(&from, &to, Path::new(""), 0)?;
    attributes(&from, &to, &own).context("give its owner, mode and times to", ".")
}

/// Copies one regular file with all that belongs to it to a name that must be free.
pub fn file(from: &Dir, path: &Path, to: &Dir, name: &Path, cancel: &Cancel) -> io::Result<()> {
    let source = fs::open_regular(from, path)?;
    let stat = rustix::fs::fstat(&source)?;
    let target = fs::create_file(to, name, 0o600)?;
    content(&source, &target, cancel, &mut |_| {})?;
    attributes(&source, &target, &stat)
}

/// Gives a file the owner, mode and extended attributes of another one, and its times.
pub fn like(from: &Dir, path: &Path, target: &std::fs::File) -> io::Result<()> {
    let source = fs::open_regular(from, path)?;
    let stat = rustix::fs::fstat(&source)?;
    attributes(&source, target, &stat)
}

/// Gives one directory the owner, mode, times and extended attributes of another.
pub fn directory_like(from: &Dir, to: &Dir) -> io::Result<()> {
    // Opened anew: a handle may be for look-ups alone.
    let (from, to) = (fs::open_dir(from, ".")?, fs::open_dir(to, ".")?);
    let stat = rustix::fs::fstat(&from)?;
    attributes(&from, &to, &stat)
}

fn again(dir: &Dir) -> Result<Dir, FsError> {
    fs::open_dir(dir, ".").context("open directory", ".")
}

struct Copy<'a> {
    top: &'a Dir,
    device: u64,
    /// Where the first name of a file with several stands in the copy.
    links: HashMap<u64, PathBuf>,
    cancel: &'a Cancel,
    progress: &'a dyn Fn(u64),
    bytes: u64,
}

impl Copy<'_> {
    fn level(&mut self, from: &Dir, to: &Dir, base: &Path, depth: usize) -> Result<(), FsError> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("it is too deep")).context("copy", base);
        }
        let mut names = Vec::new();
        for entry in from.entries().context("list", base)? {
            names.push(entry.context("list", base)?.file_name());
        }
        names.sort();
        for name in names.iter().filter(|name| depth > 0 || !fs::is_foreign(name)) {
            let path = base.join(name);
            self.cancel.check().map_err(io::Error::other).context("copy", &path)?;
            self.entry(from, to, Path::new(name), &path, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &Dir, to: &Dir, name: &Path, path: &Path, depth: usize) -> Result<(), FsError> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).context("look at", path)?;
        if stat.st_dev != self.device {
            let what = "another file system is mounted there, and would not be copied but filled in";
            return Err(io::Error::other(what)).context("copy", path);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700)).context("create directory", path)?;
            let below = fs::open_dir(from, name).context("open directory", path)?;
            let copied = fs::open_dir(to, name).context("open directory", path)?;
            // What is open counts: another one may have taken the name since.
            let stat = rustix::fs::fstat(&below).context("look at", path)?;
            self.level(&below, &copied, path, depth + 1)?;
            return attributes(&below, &copied, &stat).context("give its owner, mode and times to", path);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                return rustix::fs::linkat(self.top, first, to, name, AtFlags::empty()).context("link", path);
            }
            self.links.insert(stat.st_ino, path.to_path_buf());
        }
        match kind {
            FileType::RegularFile => self.regular(from, to, name).context("copy", path),
            FileType::Symlink => symlink(from, to, name, &stat).context("copy", path),
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
                special(to, name, &stat, kind).context("copy", path)
            }
            FileType::Directory | FileType::Unknown => {
                Err(io::Error::other("it is of no known kind")).context("copy", path)
            }
        }
    }

    /// Owner and mode are those of the file that is read, never of what had its name before: else the
    /// owner of the directory could get a copy of somebody else's file as one of theirs.
    fn regular(&mut self, from: &Dir, to: &Dir, name: &Path) -> io::Result<()> {
        let source = fs::open_regular(from, name)?;
        let stat = &rustix::fs::fstat(&source)?;
        let target = fs::create_file(to, name, 0o600)?;
        let (progress, bytes) = (self.progress, &mut self.bytes);
        content(&source, &target, self.cancel, &mut |more| {
            *bytes += more;
            progress(*bytes);
        })?;
        attributes(&source, &target, stat)
    }
}

/// Shares the content where the file system can, else lets the kernel copy it, else copies it.
fn content(
    source: &std::fs::File,
    target: &std::fs::File,
    cancel: &Cancel,
    told: &mut dyn FnMut(u64),
) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        told(source.metadata()?.len());
        return Ok(());
    }
    loop {
        cancel.check().map_err(io::Error::other)?;
        match rustix::fs::copy_file_range(source, None, target, None, PIECE) {
            Ok(0) => return Ok(()),
            Ok(count) => told(count as u64),
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Both stand where the kernel left off.
    let (mut source, mut target) = (source, target);
    let at = target.stream_position()?;
    source.seek(io::SeekFrom::Start(at))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        cancel.check().map_err(io::Error::other)?;
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..count])?;
        told(count as u64);
    }
}

fn symlink(from: &Dir, to: &Dir, name: &Path, stat: &Stat) -> io::Result<()> {
    let target = from.read_link_contents(name)?;
    rustix::fs::symlinkat(target.as_os_str().as_bytes(), to, name)?;
    own_and_time(to, name, stat)
}

fn special(to: &Dir, name: &Path, stat: &Stat, kind: FileType) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
    own_and_time(to, name, stat)?;
    // The link was made by this process in a directory that nobody else may enter.
    Ok(rustix::fs::chmodat(to, name, mode, AtFlags::empty())?)
}

fn own_and_time(to: &Dir, name: &Path, stat: &Stat) -> io::Result<()> {
    let made = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime, i64::try_from(stat.st_atime_nsec).unwrap_or_default()),
        last_modification: time(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default()),
    }
}

/// Owner first, since a change of it takes bits of the mode and capabilities away.
fn attributes(from: impl AsFd, to: impl AsFd, stat: &Stat) -> io::Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let made = rustix::fs::fstat(to)?;
    if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
        rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    }
    for name in names(from)? {
        let value = value(from, &name)?;
        if self::value(to, &name).ok().as_ref() != Some(&value) {
            rustix::fs::fsetxattr(to, name.as_slice(), &value, XattrFlags::empty())?;
        }
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

/// Names of the extended attributes; none where the file system has no such thing.
fn names(of: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![0_u8; MAX_XATTR];
    let length = match rustix::fs::flistxattr(of, buffer.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let list = buffer.get(..length).unwrap_or_default();
    Ok(list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn value(of: impl AsFd, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; MAX_XATTR];
    let length = rustix::fs::fgetxattr(of, name, buffer.as_mut_slice())?;
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

    use super::*;

    fn open(path: &Path) -> Dir {
        Dir::open_ambient_dir(path, cap_std::ambient_authority()).unwrap()
    }

    #[test]
    fn all_that_belongs_to_a_tree_is_copied_and_nothing_is_shared() {
        let temporary = tempfile::tempdir().unwrap();
        let (from, to) = (temporary.path().join("from"), temporary.path().join("to"));
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::create_dir_all(from.join(fs::PRIVATE)).unwrap();
        std::fs::create_dir(&to).unwrap();
        let dir = open(&from);
        dir.write("a/file", vec![7; 3 * BUFFER + 5]).unwrap();
        std::fs::hard_link(from.join("a/file"), from.join("a/b/other")).unwrap();
        std::os::unix::fs::symlink("nowhere", from.join("link")).unwrap();
        rustix::fs::mknodat(&dir, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        std::fs::set_permissions(from.join("a/file"), PermissionsExt::from_mode(0o4710)).unwrap();
        std::fs::set_permissions(from.join("a/b"), PermissionsExt::from_mode(0o500)).unwrap();
        let file = std::fs::File::options().write(true).open(from.join("a/file")).unwrap();
        let labelled = rustix::fs::fsetxattr(&file, "user.note", b"kept", XattrFlags::empty()).is_ok();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(5, 123_456_789)).unwrap();
        let told = std::cell::Cell::new(0);
        tree(&dir, &open(&to), &Cancel::default(), &|bytes| told.set(bytes)).unwrap();
        assert_eq!(told.get(), 3 * BUFFER as u64 + 5);
        assert!(!to.join(fs::PRIVATE).exists());
        for path in ["", "a", "a/b", "a/file", "a/b/other", "link", "fifo"] {
            let (was, is) =
                (from.join(path).symlink_metadata().unwrap(), to.join(path).symlink_metadata().unwrap());
            let seen = |meta: &std::fs::Metadata| {
                (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec())
            };
            assert_eq!(seen(&was), seen(&is), "{path}");
            assert_ne!(was.ino(), is.ino(), "{path}");
        }
        let inode = |path: &str| to.join(path).metadata().unwrap().ino();
        assert_eq!(inode("a/file"), inode("a/b/other"), "hard links among its own files stay");
        assert_eq!(std::fs::read(from.join("a/file")).unwrap(), std::fs::read(to.join("a/file")).unwrap());
        if labelled {
            let copied = std::fs::File::open(to.join("a/file")).unwrap();
            assert_eq!(value(&copied, b"user.note").unwrap(), b"kept");
        }
    }

    #[test]
    fn it_stops_when_asked() {
        let temporary = tempfile::tempdir().unwrap();
        let (from, to) = (temporary.path().join("from"), temporary.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        open(&from).write("file", b"text").unwrap();
        let cancel = Cancel::default();
        cancel.request();
        let error = tree(&open(&from), &open(&to), &cancel, &|_| {}).unwrap_err();
        assert_eq!(error.path, Path::new("file"));
        assert!(!to.join("file").exists());
    }
}
