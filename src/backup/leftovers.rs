//! What a backup leaves that was killed in the middle, and its removal.
//!
//! From its first byte until the index has its entry, a backup has `.<id>.partial` or `.<id>.scratch`
//! beside the archives. So an archive that the index does not know is told apart: with one of these it was
//! being made by this program and nobody can count on it, without it somebody put it there. A crash in
//! the middle of the removal leaves the mark, which goes last.

use cap_std::fs::Dir;

use super::error::BackupError;
use crate::archive::Algorithm;
use crate::context::Context;
use crate::host::fs::{self, IoContext as _};
use crate::ids::{BackupId, InstanceName};
use crate::state::backup_index::BackupIndex;
use crate::store::{self, StoreError};

const PARTIAL: &str = ".partial";
const SCRATCH: &str = ".scratch";

/// The private directory of a backup that is being made.
pub(super) fn scratch_name(id: &BackupId) -> String {
    format!(".{id}{SCRATCH}")
}

/// The backup that a file or directory of this name marks as being made.
pub fn being_made(name: &str) -> Option<BackupId> {
    let name = name.strip_prefix('.')?;
    name.strip_suffix(PARTIAL).or_else(|| name.strip_suffix(SCRATCH))?.parse().ok()
}

/// The backup that a file of this name is the archive of.
pub fn of_archive(name: &str) -> Option<BackupId> {
    [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None].iter().find_map(|algorithm| {
        let id = name.strip_suffix(algorithm.extension()).and_then(|rest| rest.strip_suffix('.'));
        id?.parse().ok()
    })
}

/// Removes what backups of this instance left that were killed in the middle: the caller holds the
/// instance's lock, so none of them is at work. What cannot be removed is in nobody's way.
pub(super) fn remove_abandoned(cx: &Context, dir: &Dir, own: &BackupId) {
    let Ok(entries) = dir.entries() else { return };
    let mut ids: Vec<BackupId> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| being_made(&name))
        .filter(|id| id != own)
        .collect();
    ids.dedup();
    if ids.is_empty() {
        return;
    }
    let Ok(index) = BackupIndex::load(&cx.root, &cx.config) else { return };
    for id in ids {
        let known = index.find(&id).is_ok();
        drop(if known { remove_marks(dir, &id) } else { remove_all(dir, &id) });
    }
}

/// Removes what an interrupted [`create()`](super::create()) left of a backup that the index does not know.
pub fn discard(cx: &Context, instance: &InstanceName, id: &BackupId) -> Result<(), BackupError> {
    let directory = cx.config.backups.root.join(instance.as_str()).map_err(StoreError::from)?;
    let Some(dir) = cx.root.dir_optional(&directory)? else { return Ok(()) };
    Ok(remove_all(&dir, id).context("remove what is left of a backup in", cx.root.host_path(&directory))?)
}

fn remove_all(dir: &Dir, id: &BackupId) -> std::io::Result<()> {
    let hidden = format!(".{id}.");
    for entry in fs::open_dir(dir, ".")?.entries()? {
        let name = entry?.file_name();
        // A sidecar that was being written has a temporary name.
        if let Some(name) = name.to_str().filter(|name| name.starts_with(&hidden) && name.ends_with(".tmp")) {
            let _ = fs::remove_tree(dir, name)?;
        }
    }
    for algorithm in [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None] {
        let archive = format!("{id}.{}", algorithm.extension());
        let _ = fs::remove_tree(dir, &format!("{archive}{}", store::local::SIDECAR))?;
        let _ = fs::remove_tree(dir, &archive)?;
    }
    // Each removal is durable when it returns: the mark never goes before what it marks.
    remove_marks(dir, id)
}

fn remove_marks(dir: &Dir, id: &BackupId) -> std::io::Result<()> {
    let _ = fs::remove_tree(dir, &format!(".{id}{PARTIAL}"))?;
    let _ = fs::remove_tree(dir, &scratch_name(id))?;
    Ok(())
}
