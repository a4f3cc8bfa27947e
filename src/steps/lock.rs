//! `lock`: takes the global lock, then the instance's, and holds them until the run is over. Changes
//! nothing but the text in the lock files; undo releases. A crash releases, since the kernel holds them.

use super::context::{Done, Probe, StepContext, StepRunner, lock};
use super::error::StepError;
use crate::host::lock::{LockName, acquire};
use crate::plan::step::Step;

/// The code of `lock`.
#[derive(Debug)]
pub struct Lock;

impl StepRunner for Lock {
    fn run(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Done, StepError> {
        let mut held = lock(&cx.shared.locks);
        if held.is_none() {
            let names = [LockName::Global, LockName::Instance(cx.plan.spec.instance.clone())];
            let cancelled = || cx.host.cancel.is_requested();
            let runtime = &cx.host.config.runtime_dir;
            let waiting = |wait: &crate::host::lock::LockWait| (cx.waiting)(&wait.to_string());
            *held = Some(acquire(&cx.host.root, runtime, &names, cx.lock_timeout, &cancelled, &waiting)?);
        }
        Ok(Done::new("both locks are held"))
    }

    fn undo(&self, cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        *lock(&cx.shared.locks) = None;
        Ok(())
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        Ok(if lock(&cx.shared.locks).is_some() { Probe::Done } else { Probe::NotBegun })
    }
}
