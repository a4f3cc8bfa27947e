//! Finds runs: all of them, the unfinished one of an instance, the finished one of a plan. Reads only.

use super::journal::{self, JournalError};
use super::state::{Outcome, Phase, RunState};
use super::traces;
use crate::context::Context;
use crate::host::fs::IoContext as _;
use crate::ids::{AbsPath, BackupId, InstanceName, PlanDigest, RunId};

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

impl Run {
    /// Whether it must be finished or undone, as far as anybody can say: a damaged journal whose sound
    /// beginning is none tells nothing, least of all an end.
    pub fn is_open(&self) -> bool {
        self.state.is_unfinished() || self.damage.is_some() && self.state.phase == Phase::Fresh
    }

    /// What it is about; by the plan that it keeps, where its journal does not tell.
    pub fn about(&self, cx: &Context) -> Option<About> {
        if let Some(started) = &self.state.started {
            let (instance, backup) = (started.instance.clone(), started.backup.clone());
            return Some(About { instance, backup, target: started.target.clone() });
        }
        let spec = traces::plan(cx, &self.id)?.spec;
        let backup = spec.source.backup_id().clone();
        Some(About { instance: spec.instance, backup, target: spec.target.directory })
    }
}

/// What a run is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The instance.
    pub instance: InstanceName,
    /// The backup that it reads, or whose restore it undoes.
    pub backup: BackupId,
    /// The directory that it replaces.
    pub target: AbsPath,
}

/// All runs, oldest first. One whose journal cannot be read is among them, with the damage: it must not
/// hide the others.
pub fn all(cx: &Context) -> Result<Vec<Run>, JournalError> {
    let mut ids: Vec<RunId> = names(cx)?.iter().filter_map(|name| name.parse().ok()).collect();
    ids.sort();
    Ok(ids.into_iter().map(|id| seen(cx, id)).collect())
}

/// What lies among the runs and has the name of none, sorted: nothing that looks for runs finds it.
pub fn strangers(cx: &Context) -> Result<Vec<String>, JournalError> {
    let mut names = names(cx)?;
    names.retain(|name| name.parse::<RunId>().is_err());
    names.sort();
    Ok(names)
}

fn names(cx: &Context) -> Result<Vec<String>, JournalError> {
    let inside = cx.config.runs_dir();
    let Some(dir) = cx.root.dir_optional(&inside)? else { return Ok(Vec::new()) };
    let path = cx.root.host_path(&inside);
    let mut names = Vec::new();
    for entry in dir.entries().context("list", &path)? {
        names.push(entry.context("list", &path)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Whether there is a run of this id, readable or not.
pub fn is_there(cx: &Context, id: &RunId) -> Result<bool, JournalError> {
    Ok(names(cx)?.iter().any(|name| name == id.as_str()))
}

/// One run, whatever can be read of it.
pub fn seen(cx: &Context, id: RunId) -> Run {
    one(cx, id.clone()).unwrap_or_else(|damage| Run { id, state: RunState::default(), damage: Some(damage) })
}

/// One run.
///
/// # Errors
/// Its journal cannot be read at all.
pub fn one(cx: &Context, id: RunId) -> Result<Run, JournalError> {
    let (state, mut damage) = journal::read(&cx.root, &cx.config, &id)
        .map_err(|source| JournalError::Unreadable { run: id.clone(), source })?;
    // A run makes its first tree after its first record.
    if damage.is_none() && state.phase == Phase::Fresh {
        damage = traces::tree(cx, &id).map(|tree| JournalError::Lost { run: id.clone(), tree });
    }
    Ok(Run { id, state, damage })
}

/// The run of an instance that must be finished or undone before another may begin.
///
/// # Errors
/// A damaged journal of this instance that does not tell an end; those of other instances and of
/// finished runs stand in nobody's way. Of a run that nothing tells the instance of, a tree that it left.
pub fn unfinished(cx: &Context, instance: &InstanceName) -> Result<Option<Run>, JournalError> {
    let mine = |run: &Run| match run.about(cx) {
        Some(about) => about.instance == *instance,
        None => traces::tree(cx, &run.id).is_some(),
    };
    match all(cx)?.into_iter().find(|run| run.is_open() && mine(run)) {
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
