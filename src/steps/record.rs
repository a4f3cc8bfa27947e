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
use crate::state::backup_index::BackupIndex;
use crate::state::instances::{LastRestore, Registry, RestoreNote};
use crate::state::restore_history::RestoreRecord;

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
        let mut index = BackupIndex::load(&cx.host.root, &cx.host.config)?;
        index.record_restore(&spec.source.backup_id, &record(cx, at))?;
        index.save(&cx.host.root)?;
        if spec.target.live {
            let mut registry = Registry::load(&cx.host.root, &cx.host.config)?;
            registry.record_restore(&spec.instance, &registry_note(cx, at))?;
            registry.save(&cx.host.root)?;
        }
        Ok(Done::new(format!("backup {} is marked as restored", spec.source.backup_id)))
    }

    fn undo(&self, cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        let Some((at, former)) = noted(cx) else { return Ok(()) };
        let spec = &cx.plan.spec;
        let mut index = BackupIndex::load(&cx.host.root, &cx.host.config)?;
        if index.has_restore(&spec.source.backup_id, cx.run) {
            index.forget_restore(&spec.source.backup_id, cx.run)?;
            index.save(&cx.host.root)?;
        }
        if let Some(former) = former {
            let mut registry = Registry::load(&cx.host.root, &cx.host.config)?;
            let before = registry.to_text();
            registry.forget_restore(&spec.instance, &registry_note(cx, at), &former)?;
            // Where it was never written, undoing must not depend on what kept it from being written.
            if registry.to_text() != before {
                registry.save(&cx.host.root)?;
            }
        }
        Ok(())
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        let index = BackupIndex::load(&cx.host.root, &cx.host.config)?;
        let noted = index.has_restore(&cx.plan.spec.source.backup_id, cx.run);
        Ok(if noted { Probe::Half } else { Probe::NotBegun })
    }
}

/// Notes the time and what the registry said before, so that undo puts back exactly that.
fn note(cx: &StepContext<'_>, step: &Step) -> Result<Timestamp, StepError> {
    let at = clock::now();
    let mut former = None;
    if cx.plan.spec.target.live {
        let mut registry = Registry::load(&cx.host.root, &cx.host.config)?;
        former = Some(registry.record_restore(&cx.plan.spec.instance, &registry_note(cx, at))?);
    }
    cx.note(step, Fact::Record { at, former })?;
    Ok(at)
}

fn noted(cx: &StepContext<'_>) -> Option<(Timestamp, Option<LastRestore>)> {
    cx.fact(|fact| match fact {
        Fact::Record { at, former } => Some((*at, former.clone())),
        Fact::Staging { .. } | Fact::PreBackup { .. } | Fact::Swap { .. } | Fact::Tree { .. } => None,
    })
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
        outcome: "applied".to_owned(),
    }
}

fn registry_note(cx: &StepContext<'_>, at: Timestamp) -> RestoreNote {
    let spec = &cx.plan.spec;
    RestoreNote {
        at,
        source: spec.source.backup_id.clone(),
        destination: spec.target.directory.clone(),
        actor: cx.host.actor.clone(),
    }
}
