//! `cleanup`: removes this run's staging directory, and displaced trees of earlier runs whose time is
//! over. The restore is done and recorded by then, so what cannot be removed is a warning, not a
//! failure; it stays listed by its run.

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::staging;
use crate::plan::step::Step;

/// The code of `cleanup`.
#[derive(Debug)]
pub struct Cleanup;

impl StepRunner for Cleanup {
    fn run(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Done, StepError> {
        let target = &cx.plan.spec.target.directory;
        let directory = staging::staging(target, cx.run)?;
        let mut done = Done::new("staging is removed");
        if let Err(error) = staging::remove(cx.host, &directory) {
            done = Done {
                detail: "staging is left".into(),
                warnings: vec![format!("{directory} could not be removed: {error}")],
            };
        }
        Ok(done)
    }

    fn undo(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        Ok(())
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        let directory = staging::staging(&cx.plan.spec.target.directory, cx.run)?;
        Ok(if cx.host.root.dir_optional(&directory)?.is_some() { Probe::NotBegun } else { Probe::Done })
    }
}
