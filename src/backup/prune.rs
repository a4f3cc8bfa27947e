//! `backup prune`: removes archives that nobody needs any more. Chosen by number or age; never the last
//! usable backup of an instance, never one that an unfinished run reads or goes back to.
//!
//! # Atomicity
//! Each backup's entry says `removed` first, durably, and only then archive and sidecar go. A crash leaves
//! a file whose entry says that it is removed; the next prune removes it, and `doctor` names it. Never an
//! entry that calls an archive available which is gone.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::error::BackupError;
use crate::context::Context;
use crate::host::clock;
use crate::ids::{BackupId, InstanceName};
use crate::run::list::Run;
use crate::state::backup_index::{BackupEntry, BackupIndex};
use crate::store;

/// The status of a backup whose archive was removed.
pub const REMOVED: &str = "removed";

/// Which backups stay.
#[derive(Debug, Clone, Copy)]
pub enum Keep {
    /// So many of each instance, the newest; at least one.
    Newest(u32),
    /// Those younger than so many seconds.
    Younger(u64),
}

/// What is to go and what stays although it was chosen.
#[derive(Debug, Default)]
pub struct Choice {
    /// Backups to remove, oldest first.
    pub remove: Vec<BackupEntry>,
    /// Backups that stay, and why.
    pub spared: Vec<(BackupId, String)>,
    /// Backups whose entry says that they are removed, and whose archive is there still.
    pub left: Vec<BackupEntry>,
}

/// Chooses among the backups of all instances, or of one. `runs` are all that are on record.
pub fn choose(
    cx: &Context,
    index: &BackupIndex,
    instance: Option<&InstanceName>,
    keep: Keep,
    runs: &[Run],
) -> Choice {
    let mut of: BTreeMap<&InstanceName, Vec<&BackupEntry>> = BTreeMap::new();
    let mut choice = Choice::default();
    for entry in index.entries().iter().filter(|entry| instance.is_none_or(|name| *name == entry.instance)) {
        if entry.status != REMOVED {
            of.entry(&entry.instance).or_default().push(entry);
        } else if store::is_there(&cx.root, &cx.config, &entry.path) {
            choice.left.push(entry.clone());
        }
    }
    let now = clock::now();
    for entries in of.values_mut() {
        entries.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        let newest_usable =
            entries.iter().find(|entry| entry.unusable().is_none()).map(|entry| entry.id.clone());
        let mut usable = 0;
        for entry in entries.iter() {
            usable += u32::from(entry.unusable().is_none());
            let stays = match keep {
                Keep::Newest(number) => usable <= number && entry.unusable().is_none(),
                Keep::Younger(seconds) => is_younger(entry.created_at, seconds, now),
            };
            if stays {
                continue;
            }
            if newest_usable.as_ref() == Some(&entry.id) {
                let why = format!("it is the last usable backup of instance {}", entry.instance);
                choice.spared.push((entry.id.clone(), why));
            } else if let Some(run) = runs.iter().find(|run| needs(run, &entry.id)) {
                let why = format!("run {}, which is not finished, needs it", run.id);
                choice.spared.push((entry.id.clone(), why));
            } else {
                choice.remove.push((*entry).clone());
            }
        }
    }
    choice.remove.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    choice
}

fn is_younger(created: Timestamp, seconds: u64, now: Timestamp) -> bool {
    let age = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    now.checked_sub(age).is_ok_and(|limit| created > limit)
}

/// Whether an unfinished run reads this backup, or has just made it.
fn needs(run: &Run, id: &BackupId) -> bool {
    let reads = run.state.started.as_ref().is_some_and(|started| started.backup == *id);
    run.state.is_unfinished() && (reads || run.state.pre_backup() == Some(id))
}

/// Removes one backup: first its entry says so, then its files go. The caller holds the global lock and
/// the instance's.
pub fn remove(cx: &Context, index: &mut BackupIndex, entry: &BackupEntry) -> Result<(), BackupError> {
    if entry.status != REMOVED {
        let now = clock::rfc3339(clock::now());
        index.update(&entry.id, |map| {
            map.insert("status".into(), json!(REMOVED));
            map.insert("removed_at".into(), json!(now));
        })?;
        index.save(&cx.root)?;
    }
    Ok(store::remove(&cx.root, &cx.config, &entry.path)?)
}
