//! Finds runs: all of them, the unfinished one of an instance, the finished one of a plan. Reads only.

use super::journal::{self, JournalError};
use super::state::{Outcome, Phase, RunState};
use crate::context::Context;
use crate::host::fs::IoContext as _;
use crate::ids::{InstanceName, PlanDigest, RunId};

/// A run on disk.
#[derive(Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What its journal says; of a damaged one, what the sound beginning says.
    pub state: RunState,
    /// How the journal is damaged.
    pub damage: Option<JournalError>,
}

/// All runs, oldest first.
pub fn all(cx: &Context) -> Result<Vec<Run>, JournalError> {
    let inside = cx.config.runs_dir();
    let Some(dir) = cx.root.dir_optional(&inside)? else { return Ok(Vec::new()) };
    let path = cx.root.host_path(&inside);
    let mut ids = Vec::new();
    for entry in dir.entries().context("list", &path)? {
        let entry = entry.context("list", &path)?;
        let name = entry.file_name();
        // Anything that is not a directory named like a run is not ours.
        let is_directory = entry.file_type().context("look at", path.join(&name))?.is_dir();
        if let Some(id) = name.to_str().and_then(|name| name.parse::<RunId>().ok()).filter(|_| is_directory) {
            ids.push(id);
        }
    }
    ids.sort();
    ids.into_iter().map(|id| one(cx, id)).collect()
}

/// One run.
pub fn one(cx: &Context, id: RunId) -> Result<Run, JournalError> {
    let (state, damage) = journal::read(&cx.root, &cx.config, &id)?;
    Ok(Run { id, state, damage })
}

/// The run of an instance that must be finished or undone before another may begin.
///
/// # Errors
/// A damaged journal of this instance that does not tell an end; those of other instances and of
/// finished runs stand in nobody's way.
pub fn unfinished(cx: &Context, instance: &InstanceName) -> Result<Option<Run>, JournalError> {
    let mine = |run: &Run| run.state.started.as_ref().is_some_and(|started| started.instance == *instance);
    match all(cx)?.into_iter().find(|run| run.state.is_unfinished() && mine(run)) {
        Some(Run { damage: Some(damage), .. }) => Err(damage),
        found => Ok(found),
    }
}

/// The newest run that applied the plan of this digest.
pub fn applied(cx: &Context, digest: PlanDigest) -> Result<Option<Run>, JournalError> {
    let same = |run: &Run| run.state.started.as_ref().is_some_and(|started| started.plan_digest == digest);
    let done = |run: &Run| run.state.phase == Phase::Ended(Outcome::Applied);
    Ok(all(cx)?.into_iter().rev().find(|run| done(run) && same(run)))
}
