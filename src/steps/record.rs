//! `record`: writes the restore into the backup's index entry, into the instance's registry entry (for
//! a live restore) and, as one line, into the operations log. Undo takes it out of index and registry
//! again; the log keeps both lines. Each file is replaced in one step; a crash between them leaves some
//! of them written, and running it again completes the rest without writing anything twice.

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use crate::host::clock;
use crate::plan::step::Step;
use crate::state::backup_index::{BackupIndex, RestoreRecord};
use crate::state::instances::{Registry, RestoreNote};

/// The code of `record`.
#[derive(Debug)]
pub struct Record;

impl StepRunner for Record {
    fn run(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Done, StepError> {
        let spec = &cx.plan.spec;
        let now = clock::now();
        let mut index = BackupIndex::load(&cx.host.root, &cx.host.config)?;
        let record = RestoreRecord {
            run: cx.run.clone(),
            plan: cx.plan.metadata.id.clone(),
            plan_digest: cx.digest,
            at: now,
            to: spec.target.directory.clone(),
            actor: cx.host.actor.clone(),
            approvers: cx.plan.approvals.iter().map(|approval| approval.principal.clone()).collect(),
            pre_backup: cx.pre_backup(),
            clients: spec.clients.to_string(),
            outcome: "applied".to_owned(),
        };
        if index.record_restore(&spec.source.backup_id, &record)? {
            index.save(&cx.host.root)?;
        }
        if spec.target.live {
            let mut registry = Registry::load(&cx.host.root, &cx.host.config)?;
            let note = RestoreNote {
                at: now,
                source: spec.source.backup_id.clone(),
                destination: spec.target.directory.clone(),
                actor: cx.host.actor.clone(),
            };
            registry.record_restore(&spec.instance, &note)?;
            registry.save(&cx.host.root)?;
        }
        Ok(Done::new(format!("backup {} is marked as restored", spec.source.backup_id)))
    }

    fn undo(&self, cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        let spec = &cx.plan.spec;
        let mut index = BackupIndex::load(&cx.host.root, &cx.host.config)?;
        if index.forget_restore(&spec.source.backup_id, cx.run)? {
            index.save(&cx.host.root)?;
        }
        if spec.target.live {
            let mut registry = Registry::load(&cx.host.root, &cx.host.config)?;
            if registry.forget_restore(&spec.instance, &spec.source.backup_id)? {
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
