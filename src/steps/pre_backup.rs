//! `pre-backup`: backs up what is in the target now, under the locks that are held already, and reads
//! the archive back before it counts. Undo keeps it: it is a backup; what a crash left of one that was
//! not finished (a partial file, a scratch directory, an archive that the index does not know) is removed.

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use crate::backup::{self, Request};
use crate::ids::BackupId;
use crate::plan::spec::Source;
use crate::plan::step::{Action, Step};
use crate::run::fact::Fact;
use crate::state::backup_index::BackupIndex;

/// The code of `pre-backup`.
#[derive(Debug)]
pub struct PreBackup;

impl StepRunner for PreBackup {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let Action::PreBackup(with) = &step.action else {
            return Err(StepError::Unavailable { kind: step.kind() });
        };
        if let Some(id) = cx.pre_backup() {
            if is_indexed(cx, &id)? {
                return Ok(Done::new(format!("{id}, made before")));
            }
            backup::discard(cx.host, &cx.plan.spec.instance, &id)?;
        }
        let id = backup::new_id(&cx.plan.spec.instance);
        cx.note(step, Fact::PreBackup { id: id.clone() })?;
        let (what, label) = match &cx.plan.spec.source {
            Source::Backup(backup) => (format!("restore of {}", backup.backup_id), "pre-restore"),
            Source::Run(run) => (format!("rollback of run {}", run.run), "pre-rollback"),
        };
        let message = with.message.clone().unwrap_or_else(|| format!("before {what} (run {})", cx.run));
        let request = Request {
            id,
            instance: cx.plan.spec.instance.clone(),
            directory: Some(with.directory.clone()),
            data_only: false,
            algorithm: backup::Compression::from_config(&cx.host.config),
            level: None,
            message: Some(message),
            labels: vec![label.to_owned()],
            prove: true,
        };
        let progress = |bytes: u64| (cx.progress)(&step.id, bytes);
        let created = backup::create(cx.host, &request, &progress)?;
        Ok(Done::new(format!("{}, {} bytes, read back", created.id, created.size_bytes)))
    }

    fn undo(&self, cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        match cx.pre_backup() {
            Some(id) if !is_indexed(cx, &id)? => Ok(backup::discard(cx.host, &cx.plan.spec.instance, &id)?),
            Some(_) | None => Ok(()),
        }
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        let Some(id) = cx.pre_backup() else { return Ok(Probe::NotBegun) };
        Ok(if is_indexed(cx, &id)? { Probe::Done } else { Probe::Half })
    }
}

fn is_indexed(cx: &StepContext<'_>, id: &BackupId) -> Result<bool, StepError> {
    Ok(BackupIndex::load(&cx.host.root, &cx.host.config)?.find(id).is_ok())
}
