//! Backups: whether each entry of the index has its archive, and each archive an entry. Sizes and
//! sidecars are compared; `backup verify` is what reads archives.

use std::collections::BTreeSet;

use super::{Area, Finding, Notes, count, names};
use crate::backup::{self, prune};
use crate::context::Context;
use crate::ids::{AbsPath, BackupId};
use crate::state::backup_index::BackupIndex;
use crate::store;

pub(super) fn look(cx: &Context) -> Vec<Finding> {
    let mut notes = Notes::new(Area::Backups);
    let index = match BackupIndex::load(&cx.root, &cx.config) {
        Ok(index) => index,
        Err(error) => {
            notes.error("index", &error);
            return notes.found;
        }
    };
    if matches!(cx.root.open_file(&cx.config.backups.index), Ok(None))
        && !subdirectories(cx, &cx.config.backups.root).is_empty()
    {
        let message = format!(
            "there is no index of backups, {}, and there are directories of backups",
            cx.config.backups.index
        );
        notes.problem("index-absent", message, "bring the file back; remove no archive until then");
        return notes.found;
    }
    let mut sound = 0;
    for entry in index.entries() {
        let id = &entry.id;
        if entry.status == prune::REMOVED {
            if store::is_there(&cx.root, &cx.config, &entry.path) {
                let message =
                    format!("the archive of backup {id} is there still, the index says it is removed");
                let help = "let it be removed: abssctl backup prune --keep N or --age DAYS";
                notes.warning("backup-removed", message, help);
            }
            continue;
        }
        if let Some(why) = entry.unusable() {
            let help = format!("look again: abssctl backup verify {id}");
            notes.warning("backup-unusable", format!("backup {id} is {why}, the index says"), help);
            continue;
        }
        if !entry.is_available() {
            continue;
        }
        match store::inspect(&cx.root, &cx.config, &entry.path, entry.size_bytes, entry.sha256) {
            Ok(()) => sound += 1,
            Err(error) => {
                let help = format!("prove it, and let the index say so: abssctl backup verify {id}");
                notes.problem("backup", format!("backup {id}: {error}"), help);
            }
        }
    }
    let known: BTreeSet<&str> = index.entries().iter().map(|entry| entry.path.as_str()).collect();
    files(cx, &known, &mut notes);
    notes.finish("backups", count(sound, "backup is there", "backups are there"))
}

/// Files among the backups that no entry names.
fn files(cx: &Context, known: &BTreeSet<&str>, notes: &mut Notes) {
    let base = &cx.config.backups.root;
    for directory in subdirectories(cx, base) {
        let names = names(cx, &directory);
        // An archive that was being made when its process was killed goes with its mark.
        let made: BTreeSet<BackupId> = names.iter().filter_map(|name| backup::being_made(name)).collect();
        for name in names {
            let Ok(path) = directory.join(&name) else { continue };
            let of = backup::of_archive(&name);
            let unfinished =
                backup::being_made(&name).is_some() || of.as_ref().is_some_and(|id| made.contains(id));
            if unfinished && !known.contains(path.as_str()) {
                let message = format!("{path} is what a backup left that was stopped in the middle");
                notes.warning("backup-unfinished", message, "nothing to do: the next backup removes it");
            } else if of.is_some() && !known.contains(path.as_str()) {
                let message = format!("{path} is an archive that the index does not know");
                let help = "a process was killed before it was recorded, or somebody put it there: remove it, or keep it elsewhere";
                notes.warning("backup-unknown", message, help);
            }
        }
    }
}

fn subdirectories(cx: &Context, base: &AbsPath) -> Vec<AbsPath> {
    let Ok(Some(dir)) = cx.root.dir_optional(base) else { return Vec::new() };
    let Ok(entries) = dir.entries() else { return Vec::new() };
    let mut found: Vec<AbsPath> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            entry.file_type().ok()?.is_dir().then(|| base.join(&name).ok())?
        })
        .collect();
    found.sort();
    found
}
