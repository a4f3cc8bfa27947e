//! Finds runs: all of them, the unfinished one of an instance, the finished one of a plan. Reads only.

use super::journal::{self, JournalError};
use super::state::{Outcome, Phase, RunState};
use crate::context::Context;
use crate::host::fs::{FsError, IoContext as _};
use crate::ids::{AbsPath, InstanceName, PlanDigest, RunId};

/// A run on disk.
#[derive(Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What its journal says.
    pub state: RunState,
}

/// The directory that holds all runs.
pub fn directory(cx: &Context) -> Result<AbsPath, JournalError> {
    cx.config.state_dir.join("runs").map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, error.to_string());
        JournalError::Fs(FsError { action: "name", path: cx.config.state_dir.as_path().into(), source })
    })
}

/// All runs, oldest first.
pub fn all(cx: &Context) -> Result<Vec<Run>, JournalError> {
    let inside = directory(cx)?;
    let Some(dir) = cx.root.dir_optional(&inside)? else { return Ok(Vec::new()) };
    let path = cx.root.host_path(&inside);
    let mut ids = Vec::new();
    for entry in dir.entries().context("list", &path)? {
        let name = entry.context("list", &path)?.file_name();
        // Anything that is not named like a run is not ours.
        if let Some(id) = name.to_str().and_then(|name| name.parse::<RunId>().ok()) {
            ids.push(id);
        }
    }
    ids.sort();
    let read = |id: RunId| Ok(Run { state: journal::read(&cx.root, &cx.config, &id)?, id });
    ids.into_iter().map(read).collect()
}

/// The run of an instance that must be finished or undone before another may begin.
pub fn unfinished(cx: &Context, instance: &InstanceName) -> Result<Option<Run>, JournalError> {
    let mine = |run: &Run| run.state.started.as_ref().is_some_and(|started| started.instance == *instance);
    Ok(all(cx)?.into_iter().find(|run| run.state.is_unfinished() && mine(run)))
}

/// The newest run that applied the plan of this digest.
pub fn applied(cx: &Context, digest: PlanDigest) -> Result<Option<Run>, JournalError> {
    let same = |run: &Run| run.state.started.as_ref().is_some_and(|started| started.plan_digest == digest);
    let done = |run: &Run| run.state.phase == Phase::Ended(Outcome::Applied);
    Ok(all(cx)?.into_iter().rev().find(|run| done(run) && same(run)))
}
