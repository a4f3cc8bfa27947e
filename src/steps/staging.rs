//! The private directories of a run beside its target (in it, where it is a mount point, whose file system
//! is another one than its parent's): `<parent>/.abssctl/staging/<run>` for what is
//! unpacked, `<parent>/.abssctl/displaced/<run>` for what was there. Both 0700 and on the target's own
//! file system, so that one `renameat2` moves between them. Opened by handles and only where they are this program's
//! own. A crash leaves empty ones at most beside what the run's journal names.

use std::io;

use cap_std::fs::Dir;

use super::context::StepContext;
use super::error::StepError;
use crate::context::Context;
use crate::host::fs::{self, FsError, IoContext as _};
use crate::ids::AbsPath;
use crate::survey::private;

/// Where a run unpacks.
pub fn staging(cx: &StepContext<'_>) -> Result<AbsPath, StepError> {
    join(&join(&base(cx)?, "staging")?, cx.run.as_str())
}

/// Where a run keeps what it displaced.
pub fn displaced(cx: &StepContext<'_>) -> Result<AbsPath, StepError> {
    join(&join(&base(cx)?, "displaced")?, cx.run.as_str())
}

/// Below which the private directories of a run lie.
fn base(cx: &StepContext<'_>) -> Result<AbsPath, StepError> {
    join(&private::holder(&cx.plan.spec.target.directory, cx.plan.observed.target.mount_point), fs::PRIVATE)
}

/// A path with one more part.
pub fn join(base: &AbsPath, name: &str) -> Result<AbsPath, StepError> {
    base.join(name).map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
        StepError::Fs(FsError { action: "name", path: base.as_path().into(), source })
    })
}

/// The directory that holds `.abssctl`, and the names from there to a private directory.
fn parts(directory: &AbsPath) -> Option<(AbsPath, Vec<String>)> {
    let mut names = Vec::new();
    let mut at = directory.clone();
    loop {
        let name = at.file_name()?.to_owned();
        let parent = at.parent()?;
        let first = name == fs::PRIVATE;
        names.insert(0, name);
        if first {
            return Some((parent, names));
        }
        at = parent;
    }
}

/// Opens a private directory, through handles of directories that are this program's own; `None` where
/// it is missing. With `create` each missing one is made, durably.
fn open(cx: &Context, directory: &AbsPath, create: bool) -> Result<Option<Dir>, StepError> {
    let Some((holder, names)) = parts(directory) else {
        let what = format!("{directory} is no private directory of this program");
        return Err(StepError::UnknownState { what });
    };
    let mut path = cx.root.host_path(&holder);
    let Some(mut dir) = cx.root.dir_optional(&holder)? else { return Ok(None) };
    if let Some(what) = private::exposed(cx, &dir).context("look above", &path)? {
        return Err(StepError::Changed { what: format!("{} cannot be used: {what}", path.display()) });
    }
    for name in names {
        path.push(&name);
        let unusable = |error: io::Error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                let what = format!("{} cannot be used as a private directory: {error}", path.display());
                return StepError::Changed { what };
            }
            StepError::Fs(FsError { action: "open directory", path: path.clone(), source: error })
        };
        let mut found = private::open(&dir, &name).map_err(unusable)?;
        if found.is_none() && create {
            fs::create_dir(&dir, &name, 0o700).context("create directory", &path)?;
            found = private::open(&dir, &name).map_err(unusable)?;
        }
        let Some(next) = found else { return Ok(None) };
        dir = next;
    }
    Ok(Some(dir))
}

/// Creates a private directory and those above it, durably; one that is there already is opened. One
/// that is not this program's own (a link, of another user, writable for others) is refused.
pub fn ensure(cx: &Context, directory: &AbsPath) -> Result<Dir, StepError> {
    open(cx, directory, true)?.ok_or_else(|| {
        let what = format!("{directory} is gone: the directory that holds it does not exist any more");
        StepError::Changed { what }
    })
}

/// Opens a private directory that is there; `None` where it is missing.
pub fn existing(cx: &Context, directory: &AbsPath) -> Result<Option<Dir>, StepError> {
    open(cx, directory, false)
}

/// Opens the directory that holds a tree of a run, which is private, and gives the tree's name in it.
pub fn parent_of<'p>(cx: &Context, tree: &'p AbsPath) -> Result<(Dir, &'p str), StepError> {
    let gone = || StepError::Changed { what: format!("the directory that holds {tree} is gone") };
    let (parent, name) = tree.parent().zip(tree.file_name()).ok_or_else(gone)?;
    Ok((open(cx, &parent, false)?.ok_or_else(gone)?, name))
}

/// Opens a tree of a run, staged or displaced; `None` where it is missing. The tree itself belongs to the
/// service; what holds it is private, and no link stands for it.
pub fn tree(cx: &Context, directory: &AbsPath) -> Result<Option<Dir>, StepError> {
    let (Some(parent_path), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Ok(None);
    };
    let Some(parent) = open(cx, &parent_path, false)? else { return Ok(None) };
    Ok(fs::optional(fs::open_dir(&parent, name).context("open directory", cx.root.host_path(directory)))?)
}

/// Removes a private directory with all that is in it, and the empty ones above it.
pub fn remove(cx: &Context, directory: &AbsPath) -> Result<(), StepError> {
    // Those above it too where its end could not be made durable: nothing would name them.
    let removed = remove_below(cx, directory);
    removed.and(directory.parent().map_or(Ok(()), |parent| prune_empty(cx, &parent)))
}

/// Removes a private directory with all that is in it.
pub fn remove_below(cx: &Context, directory: &AbsPath) -> Result<(), StepError> {
    let (Some(parent_path), Some(name)) = (directory.parent(), directory.file_name()) else { return Ok(()) };
    if let Some(parent) = open(cx, &parent_path, false)? {
        fs::remove_tree(&parent, name).context("remove", cx.root.host_path(directory))?;
    }
    Ok(())
}

/// Removes `.abssctl/staging`, `.abssctl/displaced` and `.abssctl` where nothing is left in them.
pub fn prune_empty(cx: &Context, directory: &AbsPath) -> Result<(), StepError> {
    let Some((holder, mut names)) = parts(directory) else { return Ok(()) };
    let mut inside = directory.clone();
    while let (Some(name), Some(parent_path)) = (names.pop(), inside.parent()) {
        let parent = if parent_path == holder {
            cx.root.dir_optional(&holder)?
        } else {
            open(cx, &parent_path, false)?
        };
        if let Some(parent) = parent
            && !fs::remove_dir_if_empty(&parent, &name).context("remove", cx.root.host_path(&inside))?
            && fs::entry(&parent, &name).context("look at", cx.root.host_path(&inside))? != fs::Entry::Absent
        {
            // Where it is gone already, a crash may have left the one above it.
            return Ok(());
        }
        inside = parent_path;
    }
    Ok(())
}

/// Removes a run's directory where nothing is in it, and the empty ones above it.
pub fn remove_if_empty(cx: &Context, directory: &AbsPath) -> Result<(), StepError> {
    let (Some(parent_path), Some(name)) = (directory.parent(), directory.file_name()) else { return Ok(()) };
    if let Some(parent) = open(cx, &parent_path, false)? {
        fs::remove_dir_if_empty(&parent, name).context("remove", cx.root.host_path(directory))?;
    }
    prune_empty(cx, &parent_path)
}
