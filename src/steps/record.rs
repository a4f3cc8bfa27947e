//! `record`: writes the restore into the backup's index entry and, for a live restore, into the
//! instance's registry entry; the engine adds the line to the operations log. Undo takes it out of
//! index and registry again; the log keeps both lines. Each file is replaced in one step; a crash
//! between them leaves some of them written, and running it again completes the rest without writing
//! anything twice.

use jiff::Timestamp;

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::swap;
use crate::host::clock;
use crate::plan::step::Step;
use crate::run::fact::Fact;
use crate::run::list;
use crate::state::backup_index::BackupIndex;
use crate::state::instances::{LastRestore, Registry, RestoreNote};
use crate::state::restore_history::{APPLIED, ROLLED_BACK, RestoreRecord};
use crate::survey::displaced;

/// The code of `record`.
#[derive(Debug)]
pub struct Record;

impl StepRunner for Record {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        // What is recorded must have happened: the tree of this run has the target's name.
        swap::prove(cx)?;
        let spec = &cx.plan.spec;
        let at = match noted(cx) {
            Some((at, _)) => at,
            None => note(cx, step)?,
        };
        let backup = spec.source.backup_id();
        let mut index = BackupIndex::load(&cx.host.root, &cx.host.config)?;
        // A rollback needs no backup: its entry may have been forgotten since.
        let known = spec.source.run().is_none() || index.find(backup).is_ok();
        if known {
            index.record_restore(backup, &record(cx, at))?;
            index.save(&cx.host.root)?;
        }
        if spec.target.live {
            let mut registry = Registry::load(&cx.host.root, &cx.host.config)?;
            let before = registry.to_text();
            write(cx, &mut registry, at)?;
            if registry.to_text() != before {
                registry.save(&cx.host.root)?;
            }
        }
        Ok(match spec.source.run() {
            None => Done::new(format!("backup {backup} is marked as restored")),
            Some(run) if known => Done::new(format!("run {} is marked as rolled back", run.run)),
            Some(run) => Done {
                detail: format!("run {} is rolled back", run.run),
                warnings: vec![format!(
                    "backup {backup}, which it had restored, is not in the index any more"
                )],
            },
        })
    }

    fn undo(&self, cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        let Some((at, former)) = noted(cx) else { return Ok(()) };
        let spec = &cx.plan.spec;
        let mut index = BackupIndex::load(&cx.host.root, &cx.host.config)?;
        let backup = spec.source.backup_id();
        if index.has_restore(backup, cx.run) {
            index.forget_restore(backup, cx.run)?;
            index.save(&cx.host.root)?;
        }
        if let Some(former) = former {
            let mut registry = Registry::load(&cx.host.root, &cx.host.config)?;
            let before = registry.to_text();
            match put_back(cx)? {
                Some(written) => {
                    registry.exchange_restore(&spec.instance, &former, Some(&written)).map(drop)?;
                }
                None => registry.forget_restore(&spec.instance, &registry_note(cx, at), &former)?,
            }
            // Where it was never written, undoing must not depend on what kept it from being written.
            if registry.to_text() != before {
                registry.save(&cx.host.root)?;
            }
        }
        Ok(())
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        let index = BackupIndex::load(&cx.host.root, &cx.host.config)?;
        let noted = index.has_restore(cx.plan.spec.source.backup_id(), cx.run);
        Ok(if noted { Probe::Half } else { Probe::NotBegun })
    }
}

/// Notes the time and what the registry said before, so that undo puts back exactly that.
fn note(cx: &StepContext<'_>, step: &Step) -> Result<Timestamp, StepError> {
    let at = clock::now();
    let mut former = None;
    if cx.plan.spec.target.live {
        let mut registry = Registry::load(&cx.host.root, &cx.host.config)?;
        former = Some(write(cx, &mut registry, at)?);
    }
    cx.note(step, Fact::Record { at, former })?;
    Ok(at)
}

/// Writes into the registry that the backup was restored, or what it said before the run that is undone;
/// gives what stood there.
fn write(cx: &StepContext<'_>, registry: &mut Registry, at: Timestamp) -> Result<LastRestore, StepError> {
    let instance = &cx.plan.spec.instance;
    Ok(match put_back(cx)? {
        Some(values) => registry.exchange_restore(instance, &values, None)?,
        None => registry.record_restore(instance, &registry_note(cx, at))?,
    })
}

/// What the registry said before the run that is undone, by that run's journal; `None` in a restore.
fn put_back(cx: &StepContext<'_>) -> Result<Option<LastRestore>, StepError> {
    let Some(source) = cx.plan.spec.source.run() else { return Ok(None) };
    let run = list::one(cx.host, source.run.clone())?;
    Ok(Some(displaced::former(&run.state).cloned().unwrap_or_default()))
}

fn noted(cx: &StepContext<'_>) -> Option<(Timestamp, Option<LastRestore>)> {
    cx.fact(|fact| if let Fact::Record { at, former } = fact { Some((*at, former.clone())) } else { None })
}

fn record(cx: &StepContext<'_>, at: Timestamp) -> RestoreRecord {
    let spec = &cx.plan.spec;
    RestoreRecord {
        run: cx.run.clone(),
        plan: cx.plan.metadata.id.clone(),
        plan_digest: cx.digest,
        at,
        to: spec.target.directory.clone(),
        actor: cx.host.actor.clone(),
        approvers: cx.approvers.clone(),
        pre_backup: cx.pre_backup(),
        clients: spec.clients.to_string(),
        budgets: spec.budgets.iter().map(|budget| budget.id.clone()).collect(),
        outcome: if spec.is_rollback() { ROLLED_BACK } else { APPLIED }.to_owned(),
        rolls_back: spec.source.run().map(|run| run.run.clone()),
    }
}

fn registry_note(cx: &StepContext<'_>, at: Timestamp) -> RestoreNote {
    let spec = &cx.plan.spec;
    RestoreNote {
        at,
        source: spec.source.backup_id().clone(),
        destination: spec.target.directory.clone(),
        actor: cx.host.actor.clone(),
    }
}
