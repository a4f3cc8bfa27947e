//! Which calls of the kernel change something on disk, and how their arguments are read.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::libc::{self, c_long};
use nix::unistd::Pid;

use crate::tracer::{Call, memory, of_fd, string};

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A new name: file, directory, link.
    Create,
    /// Bytes or length of a file.
    Write,
    /// A name becomes another.
    Rename,
    /// A name goes.
    Remove,
    /// Mode, owner, times, extended attributes.
    Meta,
    /// What was written becomes durable.
    Sync,
    /// A lock on a file.
    Lock,
    /// A file is opened, and nothing changes.
    Open,
    /// Bytes or names are read.
    Read,
}

impl Kind {
    /// Nothing on disk is different after it.
    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Open | Self::Read)
    }
}

/// How a call names what it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// The file descriptor is the first argument.
    Fd,
    /// A path is the first argument.
    Path,
    /// A directory and a path in it.
    At,
    /// Two paths.
    Paths,
    /// Two directories, each with a path in it.
    Ats,
    /// A text, and the path of the link that is made.
    Link,
    /// A text, a directory, and the path of the link in it.
    LinkAt,
    /// The file descriptor that is written to is the third argument.
    ThirdFd,
}

/// What is known of a call before its arguments are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    names: Names,
}

/// The calls that we know; all others change no file.
pub(crate) fn shape(number: c_long, args: &[u64; 6]) -> Option<Shape> {
    use Kind::{Create, Lock, Meta, Open, Read, Remove, Rename, Sync, Write};
    use Names::{At, Ats, Fd, Link, LinkAt, Path, Paths, ThirdFd};
    let (name, kind, names) = match number {
        libc::SYS_open => ("open", Open, Path),
        libc::SYS_creat => ("creat", Create, Path),
        libc::SYS_openat => ("openat", Open, At),
        libc::SYS_openat2 => ("openat2", Open, At),
        libc::SYS_write => ("write", Write, Fd),
        libc::SYS_pwrite64 => ("pwrite64", Write, Fd),
        libc::SYS_writev => ("writev", Write, Fd),
        libc::SYS_pwritev => ("pwritev", Write, Fd),
        libc::SYS_pwritev2 => ("pwritev2", Write, Fd),
        libc::SYS_sendfile => ("sendfile", Write, Fd),
        libc::SYS_copy_file_range => ("copy_file_range", Write, ThirdFd),
        libc::SYS_ioctl if is_clone(args[1]) => ("ioctl FICLONE", Write, Fd),
        libc::SYS_ftruncate => ("ftruncate", Write, Fd),
        libc::SYS_truncate => ("truncate", Write, Path),
        libc::SYS_fallocate => ("fallocate", Write, Fd),
        libc::SYS_rename => ("rename", Rename, Paths),
        libc::SYS_renameat => ("renameat", Rename, Ats),
        libc::SYS_renameat2 => ("renameat2", Rename, Ats),
        libc::SYS_unlink => ("unlink", Remove, Path),
        libc::SYS_unlinkat => ("unlinkat", Remove, At),
        libc::SYS_rmdir => ("rmdir", Remove, Path),
        libc::SYS_mkdir => ("mkdir", Create, Path),
        libc::SYS_mkdirat => ("mkdirat", Create, At),
        libc::SYS_mknod => ("mknod", Create, Path),
        libc::SYS_mknodat => ("mknodat", Create, At),
        libc::SYS_link => ("link", Create, Paths),
        libc::SYS_linkat => ("linkat", Create, Ats),
        libc::SYS_symlink => ("symlink", Create, Link),
        libc::SYS_symlinkat => ("symlinkat", Create, LinkAt),
        libc::SYS_chmod => ("chmod", Meta, Path),
        libc::SYS_fchmod => ("fchmod", Meta, Fd),
        libc::SYS_fchmodat => ("fchmodat", Meta, At),
        libc::SYS_fchmodat2 => ("fchmodat2", Meta, At),
        libc::SYS_chown => ("chown", Meta, Path),
        libc::SYS_lchown => ("lchown", Meta, Path),
        libc::SYS_fchown => ("fchown", Meta, Fd),
        libc::SYS_fchownat => ("fchownat", Meta, At),
        libc::SYS_utime => ("utime", Meta, Path),
        libc::SYS_utimes => ("utimes", Meta, Path),
        libc::SYS_futimesat => ("futimesat", Meta, At),
        libc::SYS_utimensat => ("utimensat", Meta, At),
        libc::SYS_setxattr => ("setxattr", Meta, Path),
        libc::SYS_lsetxattr => ("lsetxattr", Meta, Path),
        libc::SYS_fsetxattr => ("fsetxattr", Meta, Fd),
        libc::SYS_removexattr => ("removexattr", Meta, Path),
        libc::SYS_lremovexattr => ("lremovexattr", Meta, Path),
        libc::SYS_fremovexattr => ("fremovexattr", Meta, Fd),
        libc::SYS_fsync => ("fsync", Sync, Fd),
        libc::SYS_fdatasync => ("fdatasync", Sync, Fd),
        libc::SYS_syncfs => ("syncfs", Sync, Fd),
        libc::SYS_sync_file_range => ("sync_file_range", Sync, Fd),
        libc::SYS_flock => ("flock", Lock, Fd),
        libc::SYS_read => ("read", Read, Fd),
        libc::SYS_pread64 => ("pread64", Read, Fd),
        libc::SYS_readv => ("readv", Read, Fd),
        libc::SYS_getdents64 => ("getdents64", Read, Fd),
        _ => return None,
    };
    Some(Shape { name, kind, names })
}

fn is_clone(request: u64) -> bool {
    // FICLONE and FICLONERANGE.
    matches!(request, 0x4004_9409 | 0x4020_940d)
}

/// Whether this very call changes something on disk: a file opened to be made or cut, bytes for a file and
/// not for a terminal, pipe or what the command prints.
pub(crate) fn changes(shape: Shape, pid: Pid, args: &[u64; 6]) -> bool {
    match shape.kind {
        Kind::Open => {
            open_flags(shape, pid, args)
                & (libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY)
                != 0
        }
        Kind::Write if shape.names == Names::Fd => args[0] > 2 && is_file(pid, args[0]),
        Kind::Write => shape.names != Names::ThirdFd || is_file(pid, args[2]),
        Kind::Read => false,
        Kind::Create | Kind::Rename | Kind::Remove | Kind::Meta | Kind::Sync | Kind::Lock => true,
    }
}

fn open_flags(shape: Shape, pid: Pid, args: &[u64; 6]) -> i32 {
    let flags = match shape.name {
        "open" => args[1],
        "openat2" => memory(pid, args[2], 8).try_into().map_or(0, u64::from_ne_bytes),
        _ => args[2],
    };
    flags as u32 as i32
}

fn is_file(pid: Pid, fd: u64) -> bool {
    let path = of_fd(pid, fd);
    path.is_absolute()
        && !["/dev", "/proc", "/sys"]
            .iter()
            .any(|other| path.starts_with(other) && !path.starts_with("/dev/shm"))
}

/// Reads the arguments of a call.
pub(crate) fn read(pid: Pid, shape: Shape, number: usize, args: [u64; 6], data: bool) -> Call {
    let paths = match shape.names {
        Names::Fd => vec![of_fd(pid, args[0])],
        Names::ThirdFd => vec![of_fd(pid, args[2])],
        Names::Path => vec![at(pid, libc::AT_FDCWD as u64, args[0])],
        Names::At => vec![at(pid, args[0], args[1])],
        Names::Paths => {
            vec![at(pid, libc::AT_FDCWD as u64, args[0]), at(pid, libc::AT_FDCWD as u64, args[1])]
        }
        Names::Ats => vec![at(pid, args[0], args[1]), at(pid, args[2], args[3])],
        Names::Link => vec![string(pid, args[0]), at(pid, libc::AT_FDCWD as u64, args[1])],
        Names::LinkAt => vec![string(pid, args[0]), at(pid, args[1], args[2])],
    };
    let opens = shape.kind == Kind::Open && number > 0;
    let kind = if opens { Kind::Create } else { shape.kind };
    let offset = if kind == Kind::Write { offset(pid, shape, &args) } else { None };
    let bytes = match shape.name {
        "write" | "pwrite64" if data => memory(pid, args[1], usize::try_from(args[2]).unwrap_or(0)),
        _ => Vec::new(),
    };
    Call {
        number,
        thread: pid.as_raw(),
        name: shape.name,
        kind,
        paths,
        args,
        offset,
        data: bytes,
        result: None,
        injected: false,
    }
}

/// A path as the call means it.
fn at(pid: Pid, directory: u64, path: u64) -> PathBuf {
    let path = string(pid, path);
    let base = || {
        if directory as u32 as i32 == libc::AT_FDCWD {
            std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default()
        } else {
            of_fd(pid, directory)
        }
    };
    // By way of an open file: that file.
    if let Ok(fd) = path.strip_prefix("/proc/self/fd")
        && let Ok(fd) = fd.to_string_lossy().parse::<u64>()
    {
        return of_fd(pid, fd);
    }
    if path.is_absolute() {
        path
    } else if path.as_os_str().is_empty() || path == Path::new(".") {
        base()
    } else if base() == Path::new("/proc") || base().ends_with("fd") && base().starts_with("/proc") {
        path.file_name().and_then(|fd| fd.to_str()?.parse().ok()).map_or(path, |fd| of_fd(pid, fd))
    } else {
        base().join(path)
    }
}

/// Where bytes go to, or the length that a file is given.
fn offset(pid: Pid, shape: Shape, args: &[u64; 6]) -> Option<u64> {
    match shape.name {
        "pwrite64" => Some(args[3]),
        "ftruncate" | "truncate" => Some(args[1]),
        "fallocate" => Some(args[2]),
        "write" => {
            let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", args[0])).ok()?;
            let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let flags = i32::from_str_radix(field("flags:")?, 8).ok()?;
            if flags & libc::O_APPEND != 0 {
                std::fs::metadata(format!("/proc/{pid}/fd/{}", args[0])).ok().map(|meta| meta.size())
            } else {
                field("pos:")?.parse().ok()
            }
        }
        _ => None,
    }
}
