//! Goes on after an interruption. The journal and the disk decide the direction: once the swap has
//! happened, forward; before it, back, and the plan begins anew. Safe to be interrupted again.

use std::sync::Mutex;

use super::apply::ApplyError;
use crate::context::Context;
use crate::ids::{PlanDigest, RunId};
use crate::plan::model::Plan;
use crate::plan::step::StepKind;
use crate::run::journal::{self, Journal};
use crate::run::list;
use crate::run::state::{Direction, Phase};
use crate::steps::context::lock;
use crate::steps::{Probe, StepContext, StepError, runner, swap};

/// The unfinished run of this plan, opened, so that no other process goes on with it: the one of this id,
/// or, without one, the first of the instance, since another begins only when that is over.
pub fn find(
    cx: &Context,
    plan: &Plan,
    digest: PlanDigest,
    id: Option<&RunId>,
) -> Result<Option<Journal>, ApplyError> {
    let run = match id {
        Some(id) => Some(list::one(cx, id.clone())?).filter(|run| run.state.is_unfinished()),
        None => list::unfinished(cx, &plan.spec.instance)?,
    };
    let Some(run) = run else { return Ok(None) };
    // A run that another process is working on is waited for with the locks.
    if journal::is_in_progress(&cx.root, &cx.config, &run.id)? {
        return Ok(None);
    }
    let same = run.state.started.as_ref().is_some_and(|started| started.plan_digest == digest);
    // Another plan's run is what the preflight refuses, with the way out.
    if !same {
        return Ok(None);
    }
    // Another process may have ended it since it was listed.
    let journal = Journal::resume(&cx.root, &cx.config, &run.id)?;
    Ok(Some(journal).filter(|journal| journal.state().is_unfinished()))
}

/// Says which way an interrupted run goes.
pub fn direction(cx: &StepContext<'_>, journal: &Mutex<Journal>) -> Result<Direction, StepError> {
    if matches!(lock(journal).state().phase, Phase::Back | Phase::Halted(Direction::Back)) {
        return Ok(Direction::Back);
    }
    Ok(if swapped(cx, journal)? { Direction::Forward } else { Direction::Back })
}

/// Whether the target has its new tree, as the disk says.
pub fn swapped(cx: &StepContext<'_>, journal: &Mutex<Journal>) -> Result<bool, StepError> {
    let Some(swap) = cx.plan.steps.iter().find(|step| step.kind() == StepKind::Swap) else {
        return Ok(false);
    };
    if lock(journal).state().step(&swap.id).is_none() {
        return swap::refuse_lost(cx).map(|()| false);
    }
    let Some(runner) = runner(swap.kind()) else { return Ok(false) };
    Ok(match runner.probe(cx, swap)? {
        Probe::NotBegun => false,
        Probe::Half | Probe::Done => true,
    })
}

/// Takes the locks again: they went with the process that was interrupted.
pub fn relock(cx: &StepContext<'_>) -> Result<(), StepError> {
    let step = cx.plan.steps.iter().find(|step| step.kind() == StepKind::Lock);
    let (Some(step), Some(runner)) = (step, runner(StepKind::Lock)) else { return Ok(()) };
    runner.run(cx, step).map(|_| ())
}
