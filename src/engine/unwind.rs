//! Undoes a run: every step that was done, failed or only begun, in reverse order. Each undo looks at
//! the disk and is safe when nothing was done, so a record that cannot be written (a full disk) does
//! not stop it; removing the staging directory may be what makes room again.

use std::sync::Mutex;

use super::event::{Event, Sink, now};
use crate::ids::StepId;
use crate::plan::step::{Effect, StepKind};
use crate::run::journal::Journal;
use crate::run::state::{self, StepFailed, StepName, StepState};
use crate::steps::context::{Moment, lock};
use crate::steps::{StepContext, StepError, runner};

/// A step could not be undone; nothing was deleted.
#[derive(Debug)]
pub struct Stuck {
    /// The step.
    pub step: StepId,
    /// Why.
    pub error: StepError,
}

/// Undoes all steps that have begun.
pub fn unwind(cx: &StepContext<'_>, journal: &Mutex<Journal>, sink: &Sink<'_>) -> Result<(), Stuck> {
    let begun: Vec<StepId> = lock(journal)
        .state()
        .steps
        .iter()
        .rev()
        .filter(|record| record.state != StepState::Undone)
        .map(|record| record.id.clone())
        .collect();
    let mut stuck = None;
    for id in begun {
        let Some(step) = cx.plan.steps.iter().find(|step| step.id == id) else { continue };
        let Some(runner) = runner(step.kind()) else { continue };
        drop(lock(journal).append(state::Event::UndoStarted(StepName { step: id.clone() })));
        let undone = cx
            .at(step, Moment::BeforeUndo)
            .and_then(|()| runner.undo(cx, step))
            .and_then(|()| cx.at(step, Moment::AfterUndo));
        match undone {
            Ok(()) => {
                drop(lock(journal).append(state::Event::UndoDone(StepName { step: id.clone() })));
                sink(&Event::StepUndone { at: now(), step: id });
            }
            Err(error) => {
                let failed = StepFailed { step: id.clone(), code: error.code(), message: error.to_string() };
                drop(lock(journal).append(state::Event::UndoFailed(failed)));
                sink(&Event::StepFailed {
                    at: now(),
                    step: id.clone(),
                    code: error.code(),
                    message: error.to_string(),
                });
                // An entry that stays behind, or a unit that a person edited, must not keep the old tree and
                // its server from coming back.
                if step.kind().effect() != Effect::Record && step.kind() != StepKind::Assets {
                    return Err(Stuck { step: id, error });
                }
                stuck = stuck.or(Some(Stuck { step: id, error }));
            }
        }
    }
    stuck.map_or(Ok(()), Err)
}
