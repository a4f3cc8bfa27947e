//! Runs the steps that are not done yet, each once everything it needs is done, in parallel where the
//! graph allows. Every step is announced in the journal before it begins.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use super::event::{Event, Sink, now};
use crate::ids::StepId;
use crate::plan::graph;
use crate::plan::model::Plan;
use crate::plan::step::{Step, StepKind};
use crate::run::journal::Journal;
use crate::run::state::{self, StepDone, StepFailed, StepStarted, StepState};
use crate::steps::context::{Moment, StepRunner, lock};
use crate::steps::{Done, StepContext, StepError, runner};

/// Why the schedule stopped.
#[derive(Debug)]
pub struct Failure {
    /// The step that failed; `None` when it stopped between two.
    pub step: Option<StepId>,
    /// Why.
    pub error: StepError,
}

/// Runs all steps that are not done.
pub fn run(cx: &StepContext<'_>, journal: &Mutex<Journal>, sink: &Sink<'_>) -> Result<(), Failure> {
    let plan = cx.plan;
    let mut open: BTreeSet<usize> = (0..plan.steps.len()).collect();
    {
        let held = lock(journal);
        open.retain(|index| {
            let record = held.state().step(&plan.steps[*index].id);
            record.is_none_or(|record| record.state != StepState::Done)
        });
    }
    connect_pass(cx, plan, &open);
    let result = std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let mut running = 0_usize;
        let mut done: BTreeSet<&StepId> = (0..plan.steps.len())
            .filter(|index| !open.contains(index))
            .map(|index| &plan.steps[index].id)
            .collect();
        let mut failure: Option<Failure> = None;
        loop {
            if failure.is_none() && cx.host.cancel.is_requested() && !recorded(plan, &done) {
                stop_siblings(cx);
                failure = Some(Failure { step: None, error: StepError::Cancelled });
            }
            if failure.is_none() {
                let ready: Vec<usize> = open
                    .iter()
                    .copied()
                    .filter(|index| plan.steps[*index].needs.iter().all(|need| done.contains(need)))
                    .collect();
                for index in ready {
                    open.remove(&index);
                    running += 1;
                    let sender = sender.clone();
                    scope.spawn(move || begin(cx, journal, sink, index, &sender));
                }
            }
            if running == 0 {
                return failure.map_or(Ok(()), Err);
            }
            let Ok((index, result)) = receiver.recv() else {
                // Every thread sends before it ends, and one sender lives in this function.
                return failure.map_or(Ok(()), Err);
            };
            running -= 1;
            match result {
                Ok(()) => {
                    done.insert(&plan.steps[index].id);
                }
                Err(error) => {
                    stop_siblings(cx);
                    failure =
                        Some(worse(failure, Failure { step: Some(plan.steps[index].id.clone()), error }));
                }
            }
        }
    });
    cx.shared.pass.disconnect();
    result
}

/// After this point a signal has nothing to undo: the restore is done and recorded.
fn recorded(plan: &Plan, done: &BTreeSet<&StepId>) -> bool {
    plan.steps.iter().any(|step| step.kind() == StepKind::Record && done.contains(&step.id))
}

fn stop_siblings(cx: &StepContext<'_>) {
    cx.stop.request();
    cx.shared.pass.disconnect();
}

/// The failure to report: one that was caused by another is not it. A digest that is wrong explains
/// what the decoder stumbled over.
fn worse(first: Option<Failure>, second: Failure) -> Failure {
    let weight = |error: &StepError| {
        if matches!(error, StepError::Aborted) {
            0
        } else if matches!(error, StepError::Cancelled) {
            1
        } else if matches!(error, StepError::Archive(_)) {
            2
        } else {
            3
        }
    };
    match first {
        Some(first) if weight(&first.error) >= weight(&second.error) => first,
        Some(_) | None => second,
    }
}

/// `verify` and `extract` share one reading of the archive when both will run and neither waits for the other;
/// not where they read parts of it.
fn connect_pass(cx: &StepContext<'_>, plan: &Plan, open: &BTreeSet<usize>) {
    let find = |kind: StepKind| {
        plan.steps.iter().position(|step| step.kind() == kind).filter(|index| open.contains(index))
    };
    if let (Some(verify), Some(extract)) = (find(StepKind::Verify), find(StepKind::Extract))
        && !graph::reaches(plan, verify, extract)
        && !graph::reaches(plan, extract, verify)
        && plan.spec.manifest_proof().is_none()
    {
        cx.shared.pass.connect();
    }
}

fn begin(
    cx: &StepContext<'_>,
    journal: &Mutex<Journal>,
    sink: &Sink<'_>,
    index: usize,
    sender: &Sender<(usize, Result<(), StepError>)>,
) {
    let result = one(cx, journal, sink, &cx.plan.steps[index]);
    // The receiver outlives every thread of the scope.
    drop(sender.send((index, result)));
}

/// Runs a step; a panic in it is a defect of this program, which fails the step like any other error,
/// so that everything is undone.
fn guarded(cx: &StepContext<'_>, step: &Step, runner: &dyn StepRunner) -> Result<Done, StepError> {
    let work = || {
        cx.at(step, Moment::BeforeRun)?;
        let done = runner.run(cx, step)?;
        cx.at(step, Moment::AfterRun)?;
        Ok(done)
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(StepError::Defect {
                step: step.id.clone(),
                what: text.unwrap_or_else(|| "no message".to_owned()),
            })
        }
    }
}

fn one(
    cx: &StepContext<'_>,
    journal: &Mutex<Journal>,
    sink: &Sink<'_>,
    step: &Step,
) -> Result<(), StepError> {
    let kind = step.kind();
    let runner = runner(kind).ok_or(StepError::Unavailable { kind })?;
    lock(journal).append(state::Event::StepStarted(StepStarted { step: step.id.clone(), kind }))?;
    sink(&Event::StepStarted { at: now(), step: step.id.clone(), kind, summary: step.summary.clone() });
    match guarded(cx, step, runner) {
        Ok(Done { detail, warnings }) => {
            let event =
                StepDone { step: step.id.clone(), detail: detail.clone(), warnings: warnings.clone() };
            lock(journal).append(state::Event::StepDone(event))?;
            sink(&Event::StepDone { at: now(), step: step.id.clone(), detail, warnings });
            Ok(())
        }
        Err(error) => {
            let (code, message) = (error.code(), error.to_string());
            let event = StepFailed { step: step.id.clone(), code: code.clone(), message: message.clone() };
            // The step's own error is what counts; undoing does not depend on this record.
            drop(lock(journal).append(state::Event::StepFailed(event)));
            sink(&Event::StepFailed { at: now(), step: step.id.clone(), code, message });
            Err(error)
        }
    }
}
