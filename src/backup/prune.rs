//! `backup prune`: removes archives that nobody needs any more. Chosen by number or age; never the last
//! usable backup of an instance, never one that an unfinished run reads or goes back to, or may, where its
//! journal is damaged. What the index
//! says of an archive is not believed: it counts where its file is what the entry says, and nothing of an
//! instance goes before the newest that stays was read to its end. Only the file that is the backup's own
//! by its name is removed, and none that another entry names.
//!
//! # Atomicity
//! Each backup's entry says `removed` first, durably, and only then archive and sidecar go. A crash leaves
//! a file whose entry says that it is removed; the next prune removes it, and `doctor` names it. Never an
//! entry that calls an archive available which is gone.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::error::BackupError;
use crate::archive;
use crate::context::Context;
use crate::host::clock;
use crate::ids::{AbsPath, BackupId, InstanceName};
use crate::run::list::{About, Run};
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
    let named = Named::new(index);
    for entry in index.entries().iter().filter(|entry| instance.is_none_or(|name| *name == entry.instance)) {
        if entry.status != REMOVED {
            of.entry(&entry.instance).or_default().push(entry);
        } else if named.not_its_own(cx, entry).is_none() && store::is_there(&cx.root, &cx.config, &entry.path)
        {
            choice.left.push(entry.clone());
        }
    }
    let now = clock::now();
    let open = runs.iter().filter(|run| run.is_open());
    let open: Vec<Open> = open.map(|run| Open { run, about: run.about(cx) }).collect();
    for entries in of.values_mut() {
        // Of one second, the one that was recorded later is the newer one.
        entries.reverse();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.created_at));
        let sound: Vec<bool> = entries.iter().map(|entry| is_usable(cx, entry)).collect();
        let newest_usable = sound.iter().position(|sound| *sound).map(|at| entries[at].id.clone());
        let mut usable = 0;
        for (entry, sound) in entries.iter().zip(sound) {
            usable += u32::from(sound);
            let stays = match keep {
                Keep::Newest(number) => usable <= number && sound,
                Keep::Younger(seconds) => is_younger(entry.created_at, seconds, now),
            };
            if stays {
                continue;
            }
            if newest_usable.is_none() {
                let why = format!(
                    "instance {} has no usable backup; look closer: abssctl backup verify --all",
                    entry.instance
                );
                choice.spared.push((entry.id.clone(), why));
            } else if newest_usable.as_ref() == Some(&entry.id) {
                let why = format!("it is the last usable backup of instance {}", entry.instance);
                choice.spared.push((entry.id.clone(), why));
            } else if let Some(why) = named.not_its_own(cx, entry) {
                choice.spared.push((entry.id.clone(), why));
            } else if let Some(why) = open.iter().find_map(|run| run.needs(entry)) {
                choice.spared.push((entry.id.clone(), why));
            } else {
                choice.remove.push((*entry).clone());
            }
        }
    }
    choice.remove.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    choice
}

/// Whether the index says that a backup can be restored, and its file is there, with the size and the
/// sidecar that belong to it.
fn is_usable(cx: &Context, entry: &BackupEntry) -> bool {
    let inspect = || store::inspect(&cx.root, &cx.config, &entry.path, entry.size_bytes, entry.sha256);
    entry.unusable().is_none() && inspect().is_ok()
}

/// Which entries name an archive.
struct Named<'i>(HashMap<&'i AbsPath, Vec<&'i BackupId>>);

impl<'i> Named<'i> {
    fn new(index: &'i BackupIndex) -> Self {
        let mut named: HashMap<&AbsPath, Vec<&BackupId>> = HashMap::new();
        for entry in index.entries() {
            named.entry(&entry.path).or_default().push(&entry.id);
        }
        Self(named)
    }

    /// Why the file that an entry names must not go with it.
    fn not_its_own(&self, cx: &Context, entry: &BackupEntry) -> Option<String> {
        let own = store::archive_path(&cx.config, &entry.instance, &entry.id, &entry.algorithm).ok();
        if own.as_ref() != Some(&entry.path) {
            return Some(format!("its entry names {}, which is not where its archive belongs", entry.path));
        }
        let other = self.0.get(&entry.path)?.iter().find(|id| ***id != entry.id)?;
        Some(format!("the entry of {other} names the same archive"))
    }
}

/// Reads the newest usable backup of an instance to its end, before others of it go.
///
/// # Errors
/// It is not what its entry says; nothing of the instance may go.
pub fn prove_newest(cx: &Context, index: &BackupIndex, instance: &InstanceName) -> Result<(), String> {
    let of = index.entries().iter().rev().filter(|entry| entry.instance == *instance);
    let newest = of.filter(|entry| is_usable(cx, entry)).max_by_key(|entry| entry.created_at);
    let Some(entry) = newest else { return Err(format!("instance {instance} has no usable backup")) };
    let found = store::open(&cx.root, &cx.config, &entry.path).map_err(|error| error.to_string());
    let digest = found.and_then(|archive| {
        archive::HashingReader::new(archive.file).finish().map_err(|error| error.to_string())
    });
    match digest {
        Ok(digest) if digest == entry.sha256 => Ok(()),
        Ok(_) => Err(format!(
            "{}, the newest that would stay, is not what the index says; look closer: abssctl backup verify {}",
            entry.id, entry.id
        )),
        Err(why) => Err(format!("{}, the newest that would stay, cannot be read: {why}", entry.id)),
    }
}

fn is_younger(created: Timestamp, seconds: u64, now: Timestamp) -> bool {
    let age = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    now.checked_sub(age).is_ok_and(|limit| created > limit)
}

/// A run that is not finished, or does not tell that it is.
struct Open<'r> {
    run: &'r Run,
    about: Option<About>,
}

impl Open<'_> {
    /// Why a backup must not go. A damaged journal may have told of a pre-backup after the damage: that is
    /// none older than the run. Where nothing tells the instance, it may be any backup at all.
    fn needs(&self, entry: &BackupEntry) -> Option<String> {
        let id = &self.run.id;
        let reads = self.about.as_ref().is_some_and(|about| about.backup == entry.id);
        if reads || self.run.state.pre_backup() == Some(&entry.id) {
            return Some(format!("run {id}, which is not finished, needs it"));
        }
        self.run.damage.as_ref()?;
        // The index tells whole seconds.
        let since = entry.created_at.as_second() >= id.made_at().as_second();
        let may = self.about.as_ref().is_none_or(|about| about.instance == entry.instance && since);
        may.then(|| format!("run {id} may need it, and its journal is damaged: abssctl run show {id}"))
    }
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
