//! The private directories beside a target (`.abssctl`, in it `staging` and `displaced`): opened only
//! where they are this program's own. Whoever could put a link or a directory of theirs there would
//! decide where root unpacks and deletes. Reads only.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use cap_std::fs::Dir;

use crate::context::Context;
use crate::host::fs;
use crate::ids::AbsPath;

/// What to do about a private directory that is not ours.
pub const HELP: &str = "find out who made it and move it away; abssctl makes its own, with mode 0700";

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
    let private = match open(&parent, fs::PRIVATE) {
        Ok(private) => private?,
        Err(error) => return Some(describe("", &error)),
    };
    ["staging", "displaced"].iter().find_map(|name| Some(describe(name, &open(&private, name).err()?)))
}
