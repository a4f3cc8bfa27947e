//! `start`: starts the instance's unit. When it did so is in the journal before, since the unit's log is of
//! interest from then on; undo stops it. A crash in between leaves a unit that runs or not: starting one
//! that runs changes nothing.

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::service;
use crate::host::clock;
use crate::host::service::is_port_taken;
use crate::plan::step::{Action, StartWith, Step};
use crate::run::fact::{Fact, ServiceFact};

/// The code of `start`.
#[derive(Debug)]
pub struct Start;

impl StepRunner for Start {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let StartWith { unit, timeout } = with(step)?;
        if !cx.host.services().state(unit)?.is_up() {
            refuse_taken_port(cx, unit)?;
        }
        let at = clock::now();
        cx.note(step, Fact::Service(ServiceFact::Start { at }))?;
        let state = service::bring_up(cx, unit, at, timeout.as_duration())?;
        Ok(Done::new(format!("{unit} is {state}")))
    }

    fn undo(&self, cx: &StepContext<'_>, step: &Step) -> Result<(), StepError> {
        let StartWith { unit, timeout } = with(step)?;
        if service::started(cx).is_none() {
            return Ok(());
        }
        service::take_down(cx, unit, timeout.as_duration()).map(drop)
    }

    fn probe(&self, cx: &StepContext<'_>, step: &Step) -> Result<Probe, StepError> {
        let noted = service::started(cx).is_some();
        let up = noted && cx.host.services().state(&with(step)?.unit)?.is_up();
        Ok(if up { Probe::Done } else { Probe::NotBegun })
    }
}

/// Another program on the server's port would keep it from starting, and might answer in its place.
fn refuse_taken_port(cx: &StepContext<'_>, unit: &str) -> Result<(), StepError> {
    let Some(port) = cx.plan.observed.instance.port else { return Ok(()) };
    if is_port_taken(port) {
        return Err(StepError::CannotStart {
            unit: unit.to_owned(),
            why: format!("another program listens on its port {port}"),
            next: format!("ss -ltnp 'sport = :{port}'"),
        });
    }
    Ok(())
}

fn with(step: &Step) -> Result<&StartWith, StepError> {
    let Action::Start(with) = &step.action else {
        return Err(StepError::Unavailable { kind: step.kind() });
    };
    Ok(with)
}
