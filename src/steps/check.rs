//! `check`: looks at every precondition again, now under the locks, and really tries to exchange two
//! directories where the target lies. In a rollback it also reads the whole tree that comes back, while
//! the server still serves. Leaves nothing behind; a crash can leave two empty directories in staging,
//! which undo removes.

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::{staging, swap, trees};
use crate::host::fs::{self, IoContext as _};
use crate::host::stamp::Known;
use crate::plan::spec::{RunSource, Source};
use crate::plan::step::Step;
use crate::run::fact::Side;
use crate::run::list;
use crate::survey::preflight::{self, Ask, Class, Problem};

/// The code of `check`.
#[derive(Debug)]
pub struct Check;

impl StepRunner for Check {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let ask = Ask { digest: cx.digest, replay: cx.replay, own_run: Some(cx.run), evidence: cx.evidence };
        let found = preflight::preflight(cx.host, cx.plan, ask)?;
        if !found.is_clear() {
            return Err(StepError::Check(found.problems));
        }
        swap::note_target(cx, step)?;
        try_exchange(cx)?;
        let detail = if found.drift.tolerated.is_empty() {
            "all as planned".to_owned()
        } else {
            "as planned, but for newer data".to_owned()
        };
        let mut done = Done { detail, warnings: found.warnings };
        if let Source::Run(source) = &cx.plan.spec.source {
            trees::note(cx, step, Side::After, &source.directory, &Known::default(), &mut done)?;
            cx.check_cancelled()?;
            refuse_other_tree(cx, source)?;
        }
        Ok(done)
    }

    fn undo(&self, cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        let directory = staging::staging(cx)?;
        staging::remove(cx.host, &staging::join(&directory, "try")?)?;
        staging::remove_if_empty(cx.host, &directory)
    }

    fn probe(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        Ok(Probe::NotBegun)
    }
}

/// What comes back must be what was displaced: its run noted a digest of it, where it could. It lies where
/// nobody but us writes, so that what was read here is what `swap` puts in place.
fn refuse_other_tree(cx: &StepContext<'_>, source: &RunSource) -> Result<(), StepError> {
    let was = list::one(cx.host, source.run.clone())?.state.tree(Side::Before);
    let is = cx.tree(Side::After);
    if was.is_some() && is.is_some() && was != is {
        let (path, run) = (source.directory.clone(), source.run.clone());
        return Err(StepError::OtherTree { path, run });
    }
    Ok(())
}

/// Exchanges two empty directories: some file systems say no only when asked.
fn try_exchange(cx: &StepContext<'_>) -> Result<(), StepError> {
    let target = &cx.plan.spec.target.directory;
    let directory = staging::staging(cx)?;
    let attempt = staging::join(&directory, "try")?;
    let path = cx.host.root.host_path(&attempt);
    let dir = staging::ensure(cx.host, &attempt)?;
    for name in ["a", "b"] {
        fs::create_dir(&dir, name, 0o700).context("create a directory in", &path)?;
    }
    let tried = fs::exchange(&dir, "a", &dir, "b");
    staging::remove(cx.host, &attempt)?;
    staging::remove_if_empty(cx.host, &directory)?;
    tried.map_err(|error| {
        StepError::Check(vec![Problem {
            code: "no-exchange",
            class: Class::Environment,
            message: format!(
                "the file system of {target} cannot exchange two directories in one step: {error}"
            ),
            help: "move the instance to ext4, xfs, btrfs or another local file system".into(),
        }])
    })
}
