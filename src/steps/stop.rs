//! `stop`: stops the instance's unit and waits until it is down and nobody has files open in the target.
//! That it ran is in the journal before; undo starts it again, and proves that its server answers where it
//! did so before. A crash in between leaves a stopped unit and a run that knows that it ran.

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::service::{self, Question};
use crate::host::clock;
use crate::plan::step::{Action, Step, StopWith};
use crate::run::fact::{Fact, ServiceFact};

/// The code of `stop`.
#[derive(Debug)]
pub struct Stop;

impl StepRunner for Stop {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let StopWith { unit, timeout, url, ca } = with(step)?;
        let mut done = Done::default();
        if service::stopped(cx).is_none() && cx.host.services().state(unit)?.is_up() {
            let answer = service::asker(cx, url, ca.as_ref())?.health();
            if let Err(silence) = &answer {
                done.warnings.push(format!("{url} did not answer before {unit} was stopped: {silence}"));
            }
            let fact = ServiceFact::Stop { at: clock::exact(), answered: answer.is_ok() };
            cx.note(step, Fact::Service(fact))?;
        }
        let state = service::take_down(cx, unit, timeout.as_duration())?;
        done.detail = format!("{unit} is {state}, and nobody has files of the instance open");
        Ok(done)
    }

    fn undo(&self, cx: &StepContext<'_>, step: &Step) -> Result<(), StepError> {
        let StopWith { unit, timeout, url, ca } = with(step)?;
        let Some((_, answered)) = service::stopped(cx) else { return Ok(()) };
        let since = clock::exact();
        match service::bring_up(cx, unit, since, timeout.as_duration()) {
            Ok(_) => {}
            // It was no better before. On a machine that goes down the start fails for another reason, and
            // the run stays open.
            Err(StepError::NotWell { what, .. }) if !answered && !cx.host.services().goes_down() => {
                cx.say(format!("{unit} did not answer before it was stopped, and is not well now: {what}"));
            }
            Err(error) => return Err(error),
        }
        if answered {
            let interval = cx.plan.spec.health.interval.as_duration();
            let timeout = timeout.as_duration();
            let question = Question { unit, url, ca: ca.as_ref(), timeout, interval, since };
            let _answer = service::await_answer(cx, &question, false)?;
        }
        Ok(())
    }

    fn probe(&self, cx: &StepContext<'_>, step: &Step) -> Result<Probe, StepError> {
        if service::stopped(cx).is_none() {
            return Ok(Probe::NotBegun);
        }
        let up = cx.host.services().state(&with(step)?.unit)?.is_up();
        Ok(if up { Probe::Half } else { Probe::Done })
    }
}

fn with(step: &Step) -> Result<&StopWith, StepError> {
    let Action::Stop(with) = &step.action else {
        return Err(StepError::Unavailable { kind: step.kind() });
    };
    Ok(with)
}
