//! `health`: waits until the server that was started answers, and its unit still runs. Changes nothing and
//! leaves nothing; a unit that fails or ends again and again is not waited for. After a crash it asks again, and
//! after one of the machine it starts the unit before.

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::service::{self, Question};
use crate::host::clock;
use crate::host::service::Active;
use crate::plan::step::{Action, HealthWith, Step};
use crate::run::fact::{Fact, ServiceFact};

/// The code of `health`.
#[derive(Debug)]
pub struct Health;

impl StepRunner for Health {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let Action::Health(HealthWith { unit, url, ca, timeout, interval }) = &step.action else {
            return Err(StepError::Unavailable { kind: step.kind() });
        };
        let (timeout, interval) = (timeout.as_duration(), interval.as_duration());
        let mut since = service::started(cx).unwrap_or_else(clock::now);
        // The machine may have lost its power after `start`: nothing runs then, and nothing has failed.
        if cx.host.services().state(unit)?.active == Active::Inactive {
            since = clock::now();
            cx.note(step, Fact::Service(ServiceFact::Start { at: since }))?;
            let _state = service::bring_up(cx, unit, since, timeout)?;
        }
        let question = Question { unit, url, ca: ca.as_ref(), timeout, interval, since };
        let (at, version) = service::await_answer(cx, &question, true)?;
        cx.note(step, Fact::Service(ServiceFact::Answers { at }))?;
        let mut done = Done::new(match &version {
            Some(version) => format!("{url} is up, version {version}"),
            None => format!("{url} is up"),
        });
        let installed = cx.plan.observed.server.version.as_ref();
        if let (Some(version), Some(installed)) =
            (&version, installed.filter(|it| Some(*it) != version.as_ref()))
        {
            let warning = format!("the server that answers has version {version}, installed is {installed}");
            done.warnings.push(warning);
        }
        Ok(done)
    }

    fn undo(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        Ok(())
    }

    fn probe(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        Ok(Probe::NotBegun)
    }
}
