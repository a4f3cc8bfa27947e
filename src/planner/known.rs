//! What the planner knows for one restore: the part of a document of facts that is about one backup and
//! one target. Every plan is made from it, on the machine itself from facts that were just collected,
//! together with what only the machine shows. Pure.

use super::bounds::Bounds;
use super::error::PlanError;
use crate::facts::model::{BackupFacts, Changes, Contents, Facts, InstanceFacts, TargetFacts};
use crate::ids::{AbsPath, BackupId};
use crate::plan::follows::{Claims, InUse};
use crate::plan::observed::{Observed, ObservedBackup, ObservedSpace};
use crate::plan::preview::{TextDiff, Verdict};
use crate::plan::spec::Spec;
use crate::survey::observe;

/// What is known for one restore.
#[derive(Debug, Clone, Copy)]
pub struct Known<'f> {
    /// The document.
    pub facts: &'f Facts,
    /// The instance.
    pub instance: &'f InstanceFacts,
    /// The target.
    pub target: &'f TargetFacts,
    /// The backup.
    pub backup: &'f BackupFacts,
    /// What its archive holds.
    pub contents: &'f Contents,
    /// What restoring it there would change.
    pub changes: &'f Changes,
    /// What only the machine itself shows; `None` for a plan that is made elsewhere.
    pub local: Option<&'f Local>,
}

/// What only the machine itself shows, and no document of facts holds.
#[derive(Debug)]
pub struct Local {
    /// How text files differ.
    pub diffs: Vec<TextDiff>,
    /// Whether anybody has files open in the target.
    pub in_use: InUse,
    /// Which files of the preview a running server can change.
    pub bounds: Bounds,
    /// Whether files cannot be given to other users, as far as is known.
    pub owners_unknown: bool,
}

/// The facts do not hold what a plan needs.
fn lacking(what: String, command: &str) -> PlanError {
    PlanError::Facts { what, help: format!("collect them again on the machine: {command}") }
}

impl<'f> Known<'f> {
    /// Finds what the facts say of a backup and a directory that it is to be restored to.
    ///
    /// # Errors
    /// [`PlanError::Facts`] where they lack something.
    pub fn find(facts: &'f Facts, id: &BackupId, directory: &AbsPath) -> Result<Self, PlanError> {
        let Some(backup) = facts.backup(id) else {
            let command = format!("abssctl facts --backup {id} -o facts.json");
            return Err(lacking(format!("the facts do not tell of backup {id}"), &command));
        };
        let name = &backup.instance;
        let Some(instance) = facts.instance(name) else {
            let command = format!("abssctl facts --instance {name} -o facts.json");
            return Err(lacking(format!("the facts do not tell of instance {name}"), &command));
        };
        let Some(contents) = &backup.contents else {
            let why = backup.not_read.as_deref().unwrap_or("nobody looked into its archive");
            let command = format!("abssctl facts --backup {id} -o facts.json");
            return Err(lacking(format!("the facts do not tell what backup {id} holds: {why}"), &command));
        };
        let target = instance.targets.iter().find(|target| target.directory == *directory);
        let changes = contents.changes.iter().find(|changes| changes.directory == *directory);
        let (Some(target), Some(changes)) = (target, changes) else {
            let own = instance.directory == *directory;
            let why = instance.not_seen.as_ref().filter(|_| own).map(|why| format!(": {why}"));
            let what =
                format!("the facts do not tell of the directory {directory}{}", why.unwrap_or_default());
            let dest = if own { String::new() } else { format!(" --dest {directory}") };
            return Err(lacking(what, &format!("abssctl facts --backup {id}{dest} -o facts.json")));
        };
        Ok(Self { facts, instance, target, backup, contents, changes, local: None })
    }

    /// `observed` of a plan for this wish.
    pub fn observed(&self, spec: &Spec) -> Observed {
        let Contents { manifest, entries, unpacked_bytes, groups, incomplete, migrations, .. } =
            self.contents;
        let presence = self.target.observed.presence;
        let backup_bytes = observe::backup_bytes(spec.pre_backup.mode, presence, self.target.bytes);
        let fits = self.changes.fits && (backup_bytes == 0 || self.target.backup_fits);
        Observed {
            machine: self.facts.machine,
            instance: self.instance.registry.clone(),
            backup: ObservedBackup {
                index_entry: self.backup.index_entry,
                manifest: *manifest,
                entries: *entries,
                unpacked_bytes: *unpacked_bytes,
                budgets: groups.clone(),
                incomplete: incomplete.clone(),
                migrations: migrations.clone(),
            },
            server: self.instance.server.judge(migrations.as_ref()),
            target: self.target.observed.clone(),
            service: self.instance.service.clone(),
            file_system: self.target.file_system.clone(),
            space: ObservedSpace {
                staging_bytes: *unpacked_bytes,
                backup_bytes,
                backup_directory: self.facts.backup_directory.clone(),
                verdict: if fits { Verdict::Will } else { Verdict::WillNot },
            },
        }
    }

    /// What the checks of the plan claim.
    pub fn claims(&self) -> Claims {
        let Contents { rows, proven, .. } = self.contents;
        let unseen = || InUse::Unknown("made from facts; apply looks".to_owned());
        Claims {
            proven: *proven,
            budgets_unread: rows.is_none(),
            in_use: self.local.map_or_else(unseen, |local| local.in_use.clone()),
            owners_unknown: self.local.is_none_or(|local| local.owners_unknown),
            diffs_unseen: self.local.is_none(),
        }
    }
}
