//! What the planner knows for one restore: the part of a document of facts that is about one backup and
//! one target. Every plan is made from it, on the machine itself from facts that were just collected,
//! together with what only the machine shows. Pure.

use super::bounds::Bounds;
use super::error::PlanError;
use crate::facts::model::{
    BackupFacts, Changes, Contents, DisplacedFacts, Facts, InstanceFacts, TargetFacts,
};
use crate::ids::{AbsPath, BackupId, RunId};
use crate::plan::assets::ObservedAssets;
use crate::plan::follows::{Claims, InUse};
use crate::plan::observed::{Observed, ObservedBackup, ObservedSpace};
use crate::plan::preview::{TextDiff, Verdict};
use crate::plan::spec::{AssetScope, BackupSource, Source, Spec, Transfer};
use crate::survey::assets::Refusal;
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
    /// What comes.
    pub origin: Origin<'f>,
    /// What that holds.
    pub contents: &'f Contents,
    /// What restoring it there would change.
    pub changes: &'f Changes,
    /// What only the machine itself shows; `None` for a plan that is made elsewhere.
    pub local: Option<&'f Local>,
}

/// What comes into the target.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'f> {
    /// A backup.
    Backup(&'f BackupFacts),
    /// The tree that a run displaced.
    Displaced(&'f DisplacedFacts),
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
    /// What the machine could not read of the target, each with its reason.
    pub unread: Vec<String>,
    /// Unit and vhost that come and that are there, or why they cannot be restored.
    pub assets: Result<ObservedAssets, Refusal>,
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
        let origin = Origin::Backup(backup);
        Ok(Self { facts, instance, target, origin, contents, changes, local: None })
    }

    /// Finds what the facts say of the tree that a run displaced.
    ///
    /// # Errors
    /// [`PlanError::Facts`] where they lack something.
    pub fn of_run(facts: &'f Facts, run: &RunId, directory: &AbsPath) -> Result<Self, PlanError> {
        let lacks = || PlanError::Facts {
            what: format!("the facts do not tell of the tree that run {run} displaced"),
            help: format!("plan on the machine itself: abssctl plan rollback {run} -o FILE"),
        };
        let found = facts.displaced(run).ok_or_else(lacks)?;
        let instance = facts.instance(&found.instance).ok_or_else(lacks)?;
        let target = instance.targets.iter().find(|target| target.directory == *directory);
        let changes = found.contents.changes.iter().find(|changes| changes.directory == *directory);
        let (Some(target), Some(changes)) = (target, changes) else { return Err(lacks()) };
        let origin = Origin::Displaced(found);
        Ok(Self { facts, instance, target, origin, contents: &found.contents, changes, local: None })
    }

    /// What comes, as a plan describes it that transfers it so.
    pub fn source(&self, transfer: Transfer) -> Source {
        match self.origin {
            Origin::Backup(backup) => {
                // Where all of the archive is read, its own digest says everything.
                let manifest_sha256 = backup.source.manifest_sha256.filter(|_| transfer == Transfer::Delta);
                Source::Backup(BackupSource { manifest_sha256, ..backup.source.clone() })
            }
            Origin::Displaced(tree) => Source::Run(tree.source.clone()),
        }
    }

    fn backup(&self) -> Option<ObservedBackup> {
        let Origin::Backup(backup) = self.origin else { return None };
        let Contents { manifest, entries, unpacked_bytes, groups, incomplete, migrations, .. } =
            self.contents;
        Some(ObservedBackup {
            index_entry: backup.index_entry,
            manifest: *manifest,
            entries: *entries,
            unpacked_bytes: *unpacked_bytes,
            budgets: groups.clone(),
            incomplete: incomplete.clone(),
            migrations: migrations.clone(),
        })
    }

    /// `observed` of a plan for this wish.
    pub fn observed(&self, spec: &Spec) -> Observed {
        let (backup, displaced) = match self.origin {
            Origin::Backup(_) => (self.backup(), None),
            Origin::Displaced(tree) => (None, Some(tree.observed.clone())),
        };
        let unpacked_bytes = backup.as_ref().map_or(0, |backup| backup.unpacked_bytes);
        let presence = self.target.observed.presence;
        let backup_bytes = observe::backup_bytes(spec.pre_backup.mode, presence, self.target.bytes);
        let (beside, room) = if spec.is_single() {
            (self.target.bytes, self.changes.copy_fits)
        } else {
            // A tree that comes back is there already.
            (0, self.changes.fits || displaced.is_some())
        };
        let fits = room && (backup_bytes == 0 || self.target.backup_fits);
        let displaced_migrations = displaced.as_ref().and_then(|tree| tree.migrations.clone());
        let migrations = displaced_migrations.as_ref().or(self.contents.migrations.as_ref());
        Observed {
            machine: self.facts.machine,
            instance: self.instance.registry.clone(),
            backup,
            displaced,
            server: self.instance.server.judge(migrations),
            target: self.target.observed.clone(),
            service: self.instance.service.clone(),
            assets: self
                .local
                .filter(|_| spec.assets == AssetScope::Full)
                .and_then(|local| local.assets.as_ref().ok().cloned()),
            file_system: self.target.file_system.clone(),
            space: ObservedSpace {
                staging_bytes: unpacked_bytes.saturating_add(beside),
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
