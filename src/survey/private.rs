//! The private directories beside a target (`.abssctl`, in it `staging` and `displaced`): opened only
//! where they are this program's own. Whoever could put a link or a directory of theirs there would
//! decide where root unpacks and deletes. Reads only.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};

use crate::context::Context;
use crate::host::fs;
use crate::ids::AbsPath;

/// What to do about a private directory that is not ours.
pub const HELP: &str = "if it is the private directory: find out who made it and move that one away, this program makes its own with mode 0700. If it is a directory above: keep the instance below directories that nobody but root can write to (and correct its paths in instances.yml), choose another --dest, or run as the user who owns them";

/// No real tree is deeper.
const MAX_DEPTH: usize = 4096;

/// Opens one private directory; `None` where nothing of that name exists.
///
/// # Errors
/// It is not a directory, belongs to another user than the one who runs this, or others may write to it.
pub fn open(parent: &Dir, name: &str) -> io::Result<Option<Dir>> {
    let refused = |what: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    match fs::entry(parent, name)? {
        fs::Entry::Absent => return Ok(None),
        fs::Entry::Symlink => return refused("it is a symbolic link".to_owned()),
        fs::Entry::Other => return refused("it is not a directory".to_owned()),
        fs::Entry::Directory { .. } => {}
    }
    let dir = fs::open_dir(parent, name)?;
    let meta = dir.try_clone()?.into_std_file().metadata()?;
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me {
        return refused(format!("it belongs to user {}, not to {me}, who runs this", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return refused(format!("others may write to it (mode {:04o})", meta.mode() & 0o7777));
    }
    Ok(Some(dir))
}

/// Why what root unpacks below a directory would not be safe there: it, or one above it, belongs to
/// somebody else, or others may exchange names in it. They could put a tree of theirs in the place of what
/// was just proven. `None` where all is well, or this is not root, who has nothing to lose by it. A mount point
/// may belong to its service: only in it can its content be exchanged, and there each opening proves that
/// what it opens is root's.
pub fn exposed(cx: &Context, dir: &Dir) -> io::Result<Option<String>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let top = rustix::fs::fstat(cx.root.top())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
    for above in 0..MAX_DEPTH {
        let stat = rustix::fs::fstat(&at)?;
        let mounted = above == 0 && is_mount_root(&at)?;
        let shown = || std::fs::read_link(format!("/proc/self/fd/{}", at.as_raw_fd()));
        let shown = || shown().map_or_else(|_| format!("{above} above"), |path| path.display().to_string());
        if !mounted && stat.st_uid != 0 && stat.st_uid != top.st_uid {
            return Ok(Some(format!("{} belongs to user {}, who could exchange it", shown(), stat.st_uid)));
        }
        // Root's own group is root; in a directory with the sticky bit nobody renames what is not theirs.
        let others = if stat.st_gid == 0 { 0o002 } else { 0o022 };
        if !mounted && stat.st_mode & others != 0 && stat.st_mode & 0o1000 == 0 {
            let mode = stat.st_mode & 0o7777;
            return Ok(Some(format!("others may exchange what is in {} (mode {mode:04o})", shown())));
        }
        if (stat.st_dev, stat.st_ino) == (top.st_dev, top.st_ino) {
            return Ok(None);
        }
        at = rustix::fs::openat(&at, "..", flags, Mode::empty())?;
    }
    Ok(Some("it lies too deep".to_owned()))
}

fn is_mount_root(dir: impl std::os::fd::AsFd) -> io::Result<bool> {
    let found = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The directory that holds `.abssctl`: the target's parent, or a mount point itself.
pub fn holder(target: &AbsPath, mount_point: bool) -> AbsPath {
    let above = if mount_point { None } else { target.parent() };
    above.unwrap_or_else(|| target.clone())
}

/// What stands under a private name in this directory and is not ours, in one sentence; nothing where the
/// directory cannot be opened, which others tell.
pub fn flaw(cx: &Context, holder: &AbsPath) -> Option<String> {
    let parent = cx.root.dir_optional(holder).ok().flatten()?;
    let describe = |below: &str, error: &io::Error| {
        let path = cx.root.host_path(holder).join(fs::PRIVATE).join(below);
        format!("{} cannot be used as a private directory: {error}", path.display())
    };
    match exposed(cx, &parent) {
        Ok(None) => {}
        Ok(Some(what)) => {
            return Some(format!(
                "{} cannot hold private directories: {what}",
                cx.root.host_path(holder).display()
            ));
        }
        Err(error) => return Some(describe("", &error)),
    }
    let private = match open(&parent, fs::PRIVATE) {
        Ok(private) => private?,
        Err(error) => return Some(describe("", &error)),
    };
    ["staging", "displaced"].iter().find_map(|name| Some(describe(name, &open(&private, name).err()?)))
}
