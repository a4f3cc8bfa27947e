//! `cleanup`: digests the tree that was displaced, which is quiet by now, for the receipt; removes this run's
//! staging directory, and displaced trees of earlier runs whose time is over. The restore is done and recorded by
//! then, so what cannot be removed is a warning, not a failure; it stays listed by its run. A crash leaves some of
//! it; the next cleanup removes the rest.

use jiff::{SignedDuration, Timestamp};

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::{assets, staging, trees};
use crate::context::Context;
use crate::host::fs::{self, IoContext as _};
use crate::ids::{AbsPath, RunId};
use crate::plan::step::Step;
use crate::run::journal::JournalError;
use crate::run::list::{self, Run};
use crate::run::state::{Outcome, Phase};

/// The end of the name of a displaced tree that is being removed.
const DOOMED: &str = ".removed";

/// The code of `cleanup`.
#[derive(Debug)]
pub struct Cleanup;

impl StepRunner for Cleanup {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let directory = staging::staging(cx)?;
        let mut done = Done::new("staging is removed");
        if let Err(error) = staging::remove(cx.host, &directory) {
            done = Done::new("staging is left");
            done.warnings.push(format!("{directory} could not be removed: {error}"));
        }
        trees::note_displaced(cx, step, &mut done)?;
        match prune(cx.host, None) {
            Ok(pruned) => {
                if !pruned.removed.is_empty() {
                    done.detail =
                        format!("{}, {} old displaced trees too", done.detail, pruned.removed.len());
                }
                done.warnings.extend(pruned.warnings);
            }
            Err(error) => done.warnings.push(format!("old displaced trees were not looked for: {error}")),
        }
        Ok(done)
    }

    fn undo(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        Ok(())
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        let directory = staging::staging(cx)?;
        Ok(if staging::existing(cx.host, &directory)?.is_some() { Probe::NotBegun } else { Probe::Done })
    }
}

/// What pruning did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Runs whose displaced tree is gone now, with where it was.
    pub removed: Vec<(RunId, AbsPath)>,
    /// What could not be removed.
    pub warnings: Vec<String>,
}

/// Removes displaced trees of applied runs whose time is over; see [`due`]. The caller holds the global
/// lock.
pub fn prune(cx: &Context, older_than: Option<u64>) -> Result<Pruned, JournalError> {
    Ok(remove(cx, due(cx, older_than)?))
}

/// Displaced trees that are there still although their time is over: those of applied runs that ended
/// more than `older_than` seconds ago, or than their plan's own `retain`; not those that an unfinished
/// rollback is about to put back.
pub fn due(cx: &Context, older_than: Option<u64>) -> Result<Vec<(Run, AbsPath)>, JournalError> {
    let now = Timestamp::now();
    let all = list::all(cx)?;
    let unfinished = all.iter().filter(|run| run.state.is_unfinished());
    let needed: Vec<RunId> =
        unfinished.filter_map(|run| run.state.started.as_ref()?.rolls_back.clone()).collect();
    let runs = all.into_iter().filter(|run| !needed.contains(&run.id)).filter_map(|run| {
        let path = over(&run, older_than, now)?;
        Some((run, path))
    });
    // One that cannot be looked at is told when it is removed.
    let gone = |path: &AbsPath| matches!(cx.root.dir_optional(path), Ok(None));
    Ok(runs.filter(|(_, path)| !gone(path) || doomed(path).is_some_and(|path| !gone(&path))).collect())
}

/// What a displaced tree is called from the moment that it is no way back any more: a part of one must
/// never be taken for the whole.
pub fn doomed(displaced: &AbsPath) -> Option<AbsPath> {
    displaced.parent()?.join(&format!("{}{DOOMED}", displaced.file_name()?)).ok()
}

/// Folders of displaced trees, and those that hold these, with nothing in them: a crash between a tree and
/// its folder leaves one.
pub fn empty(cx: &Context) -> Result<Vec<AbsPath>, JournalError> {
    let mut found = Vec::new();
    let runs = list::all(cx)?;
    let folders = runs.iter().filter_map(|run| run.state.displaced()?.parent());
    for folder in folders.flat_map(|folder| folder.parent().into_iter().chain([folder])) {
        if found.contains(&folder) {
            continue;
        }
        // One that cannot be looked at is in nobody's way.
        if let Ok(Some(dir)) = cx.root.dir_optional(&folder)
            && dir.entries().is_ok_and(|mut entries| entries.next().is_none())
        {
            found.push(folder);
        }
    }
    Ok(found)
}

/// Removes such folders. The caller holds the global lock.
pub fn remove_empty(cx: &Context, folders: &[AbsPath]) {
    for folder in folders {
        // What cannot be removed is found again the next time.
        drop(staging::prune_empty(cx, folder));
    }
}

/// Removes displaced trees. The caller holds the global lock.
pub fn remove(cx: &Context, due: Vec<(Run, AbsPath)>) -> Pruned {
    let mut pruned = Pruned::default();
    for (run, path) in due {
        match remove_one(cx, &path) {
            Ok(()) => {
                // Without the tree there is no way back that needs the old unit and vhost.
                if let Err(error) = assets::remove_kept(cx, &run.id) {
                    pruned
                        .warnings
                        .push(format!("unit and vhost that run {} kept are left: {error}", run.id));
                }
                pruned.removed.push((run.id, path));
            }
            Err(error) => pruned.warnings.push(format!("{path} could not be removed: {error}")),
        }
    }
    pruned
}

/// Takes the tree its name first, durably; then it goes. A crash leaves some of it under the other name.
fn remove_one(cx: &Context, path: &AbsPath) -> Result<(), StepError> {
    let Some(doomed) = doomed(path) else { return Ok(()) };
    if staging::tree(cx, path)?.is_some() {
        staging::remove_below(cx, &doomed)?;
        let ((dir, name), (_, new)) = (staging::parent_of(cx, path)?, staging::parent_of(cx, &doomed)?);
        fs::rename_noreplace(&dir, name, &dir, new).context("move away", cx.root.host_path(path))?;
    }
    staging::remove(cx, &doomed)
}

/// Where a run's displaced tree lies, once its time is over.
fn over(run: &Run, older_than: Option<u64>, now: Timestamp) -> Option<AbsPath> {
    if run.state.phase != Phase::Ended(Outcome::Applied) {
        return None;
    }
    let keep = older_than.or(run.state.started.as_ref().map(|started| started.retain.seconds()))?;
    let keep = SignedDuration::from_secs(i64::try_from(keep).unwrap_or(i64::MAX));
    let until = run.state.ended_at?.checked_add(keep).ok()?;
    let target = &run.state.started.as_ref()?.target;
    let displaced = run.state.displaced().filter(|_| until <= now)?;
    // Only where a run of this id keeps its tree: whatever else its journal says, nothing else goes.
    let kept = |base: &AbsPath| base.join(&format!("{}/displaced/{}", fs::PRIVATE, run.id)).ok();
    let own = [Some(target.clone()), target.parent()].into_iter().flatten().filter_map(|base| kept(&base));
    own.into_iter().any(|path| path == *displaced).then(|| displaced.clone())
}
