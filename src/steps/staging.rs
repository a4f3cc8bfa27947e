//! The private directories of a run beside its target: `<parent>/.abssctl/staging/<run>` for what is
//! unpacked, `<parent>/.abssctl/displaced/<run>` for what was there. Both 0700 and on the target's own
//! file system, so that one `renameat2` moves between them.

use cap_std::fs::Dir;

use super::error::StepError;
use crate::context::Context;
use crate::host::fs::{self, FsError, IoContext as _};
use crate::ids::{AbsPath, RunId};

/// Below which all private directories lie, beside a target.
pub fn base(target: &AbsPath) -> Result<AbsPath, StepError> {
    let parent = target.parent().unwrap_or_else(|| target.clone());
    join(&parent, fs::PRIVATE)
}

/// Where a run unpacks.
pub fn staging(target: &AbsPath, run: &RunId) -> Result<AbsPath, StepError> {
    join(&join(&base(target)?, "staging")?, run.as_str())
}

/// Where a run keeps what it displaced.
pub fn displaced(target: &AbsPath, run: &RunId) -> Result<AbsPath, StepError> {
    join(&join(&base(target)?, "displaced")?, run.as_str())
}

/// A path with one more part.
pub fn join(base: &AbsPath, name: &str) -> Result<AbsPath, StepError> {
    base.join(name).map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, error.to_string());
        StepError::Fs(FsError { action: "name", path: base.as_path().into(), source })
    })
}

/// Creates a private directory and those above it, durably; one that is there already is opened.
pub fn ensure(cx: &Context, directory: &AbsPath) -> Result<Dir, StepError> {
    Ok(cx.root.ensure_dir(directory, 0o700)?)
}

/// Removes a private directory with all that is in it, and the empty ones above it.
pub fn remove(cx: &Context, directory: &AbsPath) -> Result<(), StepError> {
    let Some(parent_path) = directory.parent() else { return Ok(()) };
    if let Some(parent) = cx.root.dir_optional(&parent_path)? {
        let name = directory.file_name().unwrap_or_default();
        fs::remove_tree(&parent, name).context("remove", cx.root.host_path(directory))?;
    }
    prune_empty(cx, &parent_path)
}

/// Removes `.abssctl/staging`, `.abssctl/displaced` and `.abssctl` where nothing is left in them.
pub fn prune_empty(cx: &Context, directory: &AbsPath) -> Result<(), StepError> {
    let mut inside = directory.clone();
    while let (Some(parent_path), Some(name)) = (inside.parent(), inside.file_name().map(str::to_owned)) {
        let ours = name == fs::PRIVATE || parent_path.file_name() == Some(fs::PRIVATE);
        let Some(parent) = cx.root.dir_optional(&parent_path)?.filter(|_| ours) else { return Ok(()) };
        if !fs::remove_dir_if_empty(&parent, &name).context("remove", cx.root.host_path(&inside))? {
            return Ok(());
        }
        inside = parent_path;
    }
    Ok(())
}

/// Removes a run's directory where nothing is in it, and the empty ones above it.
pub fn remove_if_empty(cx: &Context, directory: &AbsPath) -> Result<(), StepError> {
    let Some(parent_path) = directory.parent() else { return Ok(()) };
    if let Some(parent) = cx.root.dir_optional(&parent_path)? {
        let name = directory.file_name().unwrap_or_default();
        fs::remove_dir_if_empty(&parent, name).context("remove", cx.root.host_path(directory))?;
    }
    prune_empty(cx, &parent_path)
}
