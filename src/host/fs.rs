//! File-system primitives on directory handles: where durability is written once.
//!
//! Every path of a configuration file or a plan is *inside* a [`Root`]; it is resolved with
//! handles, so that with `--root DIR` no symbolic link leads out of `DIR`; root follows no link that
//! somebody else made. What happens below an opened directory goes through [`cap_std::fs::Dir`], which no name can leave.
//! Each primitive that changes names says under *Atomicity* what a crash leaves.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroU64;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{Advice, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use serde::{Deserialize, Serialize};

pub use self::root::Root;

/// The directory beside a target that holds this program's staging and displaced trees; inside a
/// target it is no part of its content.
pub const PRIVATE: &str = ".abssctl";

/// Names at the top of an instance that are none of the instance's: this program's own directory, and
/// what `mkfs` puts into the root of a file system, where an instance may live.
pub const FOREIGN: [&str; 2] = [PRIVATE, "lost+found"];

/// Whether a name at the top of an instance is none of the instance's.
pub fn is_foreign(name: &std::ffi::OsStr) -> bool {
    FOREIGN.iter().any(|foreign| name == *foreign)
}

/// An operation on a file or directory failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct FsError {
    /// What was tried, as a verb: "read", "create".
    pub action: &'static str,
    /// The file, as a person would name it on this machine.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Adds action and path to an I/O error.
pub trait IoContext<T> {
    /// `cannot <action> <path>: <error>`.
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, FsError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, FsError> {
        self.map_err(|error| FsError { action, path: path.into(), source: error.into() })
    }
}

impl FsError {
    /// Whether the cause is a full disk or an exhausted quota.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the cause is that the file does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Turns "does not exist" into `None`.
pub fn optional<T>(result: Result<T, FsError>) -> Result<Option<T>, FsError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads to the end, refusing more than `limit` bytes.
pub fn read_limited(file: impl io::Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Replaces or creates a file in one step.
///
/// Mode and owner of an existing file are kept; a new one gets `mode`. An existing name that is not
/// a regular file is refused, never followed.
///
/// # Atomicity
/// Bytes go to a temporary name beside it, that file is synced, renamed over the old one, and the
/// directory is synced: a crash leaves the old or the new content, and after `Ok` the new one stays.
/// A crash can leave the temporary name `.<name>.abssctl-<pid>.tmp` behind; the next call removes it.
pub fn replace(dir: &Dir, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_as(dir, name, bytes, (mode, None))
}

/// As [`replace`]; a new file gets this mode, and this user and group where they are given.
pub fn replace_as(dir: &Dir, name: &str, bytes: &[u8], fresh: (u32, Option<(u32, u32)>)) -> io::Result<()> {
    let own = attributes(dir, name)?.map(|own| (own.mode, Some((own.uid, own.gid))));
    let temporary = temporary(name);
    remove_leftovers(dir, name)?;
    let written = write_new(dir, &temporary, bytes, own.unwrap_or(fresh))
        .and_then(|()| dir.rename(&temporary, dir, name));
    if let Err(error) = written {
        // The file under its real name is untouched; a leftover that cannot be removed is harmless.
        drop(dir.remove_file(&temporary));
        return Err(error);
    }
    sync_dir(dir)
}

/// Proves that [`replace`] can write a file of this name: creates the temporary one that it would write,
/// and removes it. What is there under the name itself is not touched.
pub fn try_create(dir: &Dir, name: &str) -> io::Result<()> {
    let temporary = temporary(name);
    remove_leftovers(dir, name)?;
    drop(create_file(dir, &temporary, 0o600)?);
    dir.remove_file(&temporary)
}

/// What a file is called until it is whole.
fn temporary(name: &str) -> String {
    format!(".{name}.abssctl-{}.tmp", std::process::id())
}

/// Whether a file of this name is what a killed [`replace`] left, or one that is at work.
pub fn is_temporary(name: &str) -> bool {
    let middle = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp"));
    middle.and_then(|rest| rest.rsplit_once(".abssctl-")).is_some_and(|(_, pid)| pid.parse::<u32>().is_ok())
}

/// Removes temporary files that processes left which are no more, or this one.
fn remove_leftovers(dir: &Dir, name: &str) -> io::Result<()> {
    let (prefix, suffix) = (format!(".{name}.abssctl-"), ".tmp");
    for entry in open_dir(dir, ".")?.entries()? {
        let entry = entry?.file_name();
        let Some(entry) = entry.to_str() else { continue };
        let Some(pid) = entry.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(suffix)) else {
            continue;
        };
        let alive = pid != std::process::id().to_string() && Path::new("/proc").join(pid).exists();
        if !alive {
            match dir.remove_file(entry) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Mode and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attributes {
    /// Permissions, with set-user-id and its kin.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Mode and owner of a regular file; `None` where nothing has the name. Something else is refused.
pub fn attributes(dir: &Dir, name: &str) -> io::Result<Option<Attributes>> {
    use cap_std::fs::MetadataExt as _;
    match dir.symlink_metadata(name) {
        Ok(meta) if meta.is_file() => {
            Ok(Some(Attributes { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() }))
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_new(
    dir: &Dir,
    name: &str,
    bytes: &[u8],
    (mode, owner): (u32, Option<(u32, u32)>),
) -> io::Result<()> {
    let mut file = create_file(dir, name, 0o600)?;
    file.write_all(bytes)?;
    if let Some((uid, gid)) = owner {
        let meta = file.metadata()?;
        if (meta.uid(), meta.gid()) != (uid, gid) {
            rustix::fs::fchown(
                &file,
                Some(rustix::fs::Uid::from_raw(uid)),
                Some(rustix::fs::Gid::from_raw(gid)),
            )?;
        }
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    file.sync_all()
}

/// Whether this user may make files in a directory.
pub fn check_writable(dir: &Dir) -> io::Result<()> {
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    Ok(rustix::fs::accessat(dir, ".", wanted, AtFlags::EACCESS)?)
}

/// Creates a file that must not exist yet, for writing.
pub fn create_file(dir: &Dir, name: impl AsRef<Path>, mode: u32) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    Ok(dir.open_with(name, &options)?.into_std())
}

/// So many bytes of a large file are on their way to the disk while the next ones are written: the system
/// begins by itself only after seconds, and all would have to be waited for at the end.
const BEHIND: u64 = 8 << 20;

/// Writes a large file, which is on its way to the disk meanwhile. No promise: who needs one syncs.
#[derive(Debug)]
pub struct WriteBehind<'f> {
    file: &'f mut std::fs::File,
    /// Up to where it is on its way.
    begun: u64,
    at: u64,
    /// Bytes that are not.
    waiting: u64,
}

impl<'f> WriteBehind<'f> {
    /// A file of which nothing was written yet.
    pub fn new(file: &'f mut std::fs::File) -> Self {
        Self { file, begun: 0, at: 0, waiting: 0 }
    }

    /// Leaves so many bytes as they are.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.at = self.file.seek(SeekFrom::Start(self.at + bytes))?;
        Ok(())
    }
}

impl io::Write for WriteBehind<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.at += count as u64;
        self.waiting += count as u64;
        if self.waiting >= BEHIND {
            // It also lets go of pages that are on disk by then, which are few. A system that does not want
            // to has more to do at the end.
            let length = NonZeroU64::new(self.at - self.begun);
            let _advised = rustix::fs::fadvise(&*self.file, self.begun, length, Advice::DontNeed);
            (self.begun, self.waiting) = (self.at, 0);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Appends bytes to a log file and syncs it; creates it (and syncs the directory) where it is missing.
///
/// # Atomicity
/// One `write` to an `O_APPEND` file: concurrent writers do not interleave; a crash can leave the last
/// record torn. A file that does not end in a line break (a torn record) gets one first, so that the
/// torn record harms no other.
pub fn append(dir: &Dir, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = !dir.try_exists(name)?;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let mut file = dir.open_with(name, &options)?.into_std();
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last == [b'\n'] {
        file.write_all(bytes)?;
    } else {
        file.write_all(&[b"\n", bytes].concat())?;
    }
    file.sync_all()?;
    if fresh { sync_dir(dir) } else { Ok(()) }
}

/// Creates one directory with exactly this mode and syncs the one that holds it. The new one itself is
/// synced with the first name that it gets. Where that fails nothing is left of it.
pub fn create_dir(parent: &Dir, name: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.mode(mode);
    parent.create_dir_with(&name, &builder)?;
    let ready = open_dir(parent, &name)
        .and_then(|dir| Ok(rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?))
        .and_then(|()| sync_dir(parent));
    if ready.is_err() {
        // The first error is the one to tell.
        drop(parent.remove_dir(&name));
    }
    ready
}

/// Opens a directory below another without following a link in its last part.
pub fn open_dir(parent: &Dir, name: impl AsRef<Path>) -> io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let fd = rustix::fs::openat2(parent, name.as_ref(), flags, Mode::empty(), resolve)?;
    Ok(Dir::from_std_file(fd.into()))
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Dir) -> io::Result<()> {
    match rustix::fs::fsync(dir) {
        // A handle that is good for look-ups alone (`O_PATH`) cannot be synced; the directory can.
        Err(rustix::io::Errno::BADF) => Ok(rustix::fs::fsync(open_dir(dir, ".")?)?),
        other => Ok(other?),
    }
}

/// Makes everything written to the file system of `dir` durable: one barrier for a whole tree.
pub fn sync_filesystem(dir: &Dir) -> io::Result<()> {
    Ok(rustix::fs::syncfs(dir)?)
}

/// A file system on its way to the disk, beside whoever asked for that.
#[derive(Debug)]
pub struct Syncing(JoinHandle<io::Result<()>>);

impl Syncing {
    /// Begins [`sync_filesystem`].
    pub fn begin(dir: &Dir) -> io::Result<Self> {
        let dir = dir.try_clone()?;
        let thread = thread::Builder::new().name("abssctl-sync".to_owned());
        Ok(Self(thread.spawn(move || sync_filesystem(&dir))?))
    }

    /// Whether [`Self::wait`] would not have to wait.
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until everything is durable that was written before this began.
    pub fn wait(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Exchanges two names.
///
/// # Atomicity
/// `renameat2(RENAME_EXCHANGE)`: at every instant each name refers to one of the two, whole. Both
/// directories are synced before this returns; a crash before that leaves the old or the new pair.
pub fn exchange(a: &Dir, a_name: &str, b: &Dir, b_name: &str) -> io::Result<()> {
    rustix::fs::renameat_with(a, a_name, b, b_name, RenameFlags::EXCHANGE)?;
    sync_dir(a)?;
    sync_dir(b)
}

/// Moves a name to one that must be free, and syncs both directories.
///
/// # Atomicity
/// `renameat2(RENAME_NOREPLACE)`: the entry is under exactly one of the two names.
pub fn rename_noreplace(from: &Dir, from_name: &str, to: &Dir, to_name: &str) -> io::Result<()> {
    rustix::fs::renameat_with(from, from_name, to, to_name, RenameFlags::NOREPLACE)?;
    // The new name first: a crash between the two must not lose the entry.
    sync_dir(to)?;
    sync_dir(from)
}

/// Removes a directory tree or file if it is there; `false` where it was not. Links are removed, not followed.
pub fn remove_tree(dir: &Dir, name: &str) -> io::Result<bool> {
    use cap_std_ext::dirext::CapStdExtDirExt as _;
    let removed = dir.remove_all_optional(name)?;
    if removed {
        sync_dir(dir)?;
    }
    Ok(removed)
}

/// Makes a symbolic link under a name that must be free, and syncs the directory.
///
/// # Atomicity
/// The link is there with all its content, or nothing is.
pub fn make_link(dir: &Dir, name: &str, content: &Path) -> io::Result<()> {
    dir.symlink_contents(content, name)?;
    sync_dir(dir)
}

/// Removes a file or link if it is there, and syncs the directory; `false` where it was not. A link is
/// removed, not followed.
pub fn remove_file(dir: &Dir, name: &str) -> io::Result<bool> {
    match dir.remove_file(name) {
        Ok(()) => sync_dir(dir).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a directory if it is there and empty; `false` where it was absent or not empty.
pub fn remove_dir_if_empty(dir: &Dir, name: &str) -> io::Result<bool> {
    match dir.remove_dir(name) {
        Ok(()) => sync_dir(dir).map(|()| true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// What is known of the file system that a directory lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// The kernel's name of the type, or its magic number in hexadecimal.
    pub kind: String,
    /// Whether `RENAME_EXCHANGE` is known to work on this type; `None`: not known, must be tried.
    pub exchange: Option<bool>,
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// Looks up the file system of an open directory.
pub fn file_system(dir: &Dir) -> io::Result<FileSystem> {
    let magic = rustix::fs::fstatfs(dir)?.f_type;
    let space = rustix::fs::fstatvfs(dir)?;
    let (kind, exchange) = match u64::try_from(magic).unwrap_or_default() {
        0xEF53 => ("ext4".to_owned(), Some(true)),
        0x5846_5342 => ("xfs".to_owned(), Some(true)),
        0x9123_683E => ("btrfs".to_owned(), Some(true)),
        0x0102_1994 => ("tmpfs".to_owned(), Some(true)),
        0x2FC1_2FC1 => ("zfs".to_owned(), None),
        0xF2F5_2010 => ("f2fs".to_owned(), Some(true)),
        0x794C_7630 => ("overlayfs".to_owned(), None),
        0x6969 => ("nfs".to_owned(), Some(false)),
        other => (format!("0x{other:x}"), None),
    };
    Ok(FileSystem {
        kind,
        exchange,
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        read_only: space.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// What stands under a name, without following a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Absent,
    /// A directory; `mount_point` when another file system is mounted there.
    Directory {
        /// Whether it is the root of a mount.
        mount_point: bool,
    },
    /// A symbolic link.
    Symlink,
    /// A regular file or anything else.
    Other,
}

/// Looks at a name without following it.
pub fn entry(dir: &Dir, name: &str) -> io::Result<Entry> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = match rustix::fs::statx(dir.as_fd(), name, flags, StatxFlags::BASIC_STATS) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(Entry::Absent),
        Err(error) => return Err(error.into()),
    };
    Ok(match rustix::fs::FileType::from_raw_mode(stat.stx_mode.into()) {
        rustix::fs::FileType::Directory => {
            let mount_root = rustix::fs::StatxAttributes::MOUNT_ROOT;
            Entry::Directory { mount_point: stat.stx_attributes.contains(mount_root) }
        }
        rustix::fs::FileType::Symlink => Entry::Symlink,
        rustix::fs::FileType::RegularFile
        | rustix::fs::FileType::Fifo
        | rustix::fs::FileType::Socket
        | rustix::fs::FileType::CharacterDevice
        | rustix::fs::FileType::BlockDevice
        | rustix::fs::FileType::Unknown => Entry::Other,
    })
}

/// Opens a regular file below a directory handle for reading. Anything else is refused: a link in the
/// last part is not followed, and a FIFO does not block.
pub fn open_regular(dir: &Dir, name: impl AsRef<Path>) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = dir.open_with(name, &options)?.into_std();
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

/// Opens a regular file below a directory handle that nobody else writes to, for writing; no link is followed.
pub fn open_to_write(dir: &Dir, name: impl AsRef<Path>) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    Ok(dir.open_with(name, &options)?.into_std())
}

/// Reads a regular file below a directory handle, at most `limit` bytes; `None` where it does not exist.
pub fn read_optional(dir: &Dir, name: impl AsRef<Path>, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match open_regular(dir, name) {
        Ok(file) => read_limited(file, limit).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

mod root;
#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path();
        let dir = Dir::open_ambient_dir(base, ambient_authority()).unwrap();
        std::fs::create_dir(base.join("below")).unwrap();
        create_file(&dir, "below/file", 0o600).unwrap().write_all(b"text").unwrap();
        std::os::unix::fs::symlink("file", base.join("below/link")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(&dir, "below/fifo", fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(read_optional(&dir, "below/file", 10).unwrap().as_deref(), Some(&b"text"[..]));
        assert_eq!(read_optional(&dir, "below/none", 10).unwrap(), None);
        for name in ["below/link", "below/fifo", "below"] {
            read_optional(&dir, name, 10).unwrap_err();
        }
        read_optional(&dir, "below/file", 3).unwrap_err();
    }
}
