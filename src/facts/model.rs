//! The facts document as types. It holds no secret: names, sizes, digests, counts. Names of budgets are
//! in it, as they are in plans. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::actual::whole::Gap;
use crate::duration::DurationText;
use crate::ids::{AbsPath, BackupId, InstanceName, RunId, Sha256};
use crate::plan::accounts::Accounts;
use crate::plan::model::{ApiVersion, Time};
use crate::plan::observed::{
    BackupMigrations, HealthFrom, InstalledServer, ObservedBackupBudget, ObservedDisplaced,
    ObservedFileSystem, ObservedInstance, ObservedService, ObservedTarget,
};
use crate::plan::preview::{BudgetPreview, FileChanges};
use crate::plan::spec::{
    BackupSource, ClientPolicy, DriftPolicy, OnFailure, PreBackupMode, RunSource, SessionPolicy,
};

/// What a planner must know of a machine: written by `abssctl facts`, read by `plan restore --facts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "abssctl facts")]
pub struct Facts {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What the document is.
    pub kind: FactsKind,
    /// When the machine was looked at.
    pub collected_at: Time,
    /// Program and version that wrote it.
    #[schemars(length(max = 100))]
    pub generator: String,
    /// SHA-256 derived from the machine's id; absent where the machine has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Sha256>,
    /// What a plan says where the person who asks for it says nothing.
    pub defaults: Defaults,
    /// Where backups go.
    pub backup_directory: AbsPath,
    /// Who owns files where there was no directory: the service user, else who looked.
    pub new_owner: Owner,
    /// Instances, by name.
    pub instances: Vec<InstanceFacts>,
    /// Backups of these instances, of each in the order of the index.
    pub backups: Vec<BackupFacts>,
    /// Trees that runs displaced and that can come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub displaced: Vec<DisplacedFacts>,
}

/// What the document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FactsKind {
    /// Facts about a machine.
    Facts,
}

/// The settings of `restore.yml` that new plans take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// How long a plan may be applied.
    pub plan_expires: DurationText,
    /// How long the displaced directory is kept.
    pub retain: DurationText,
    /// When to back up what is there.
    pub pre_backup: PreBackupMode,
    /// What a failed step after the swap leads to.
    pub on_failure: OnFailure,
    /// How much the machine may differ from the plan.
    pub drift: DriftPolicy,
    /// What clients with newer changes may do.
    pub clients: ClientPolicy,
    /// What becomes of logins in the backup.
    pub sessions: SessionPolicy,
    /// How long a started server may take until it answers.
    pub health_timeout: DurationText,
}

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceFacts {
    /// Its name.
    pub name: InstanceName,
    /// Its own directory.
    pub directory: AbsPath,
    /// What plans say of its registry entry.
    pub registry: ObservedInstance,
    /// Its service.
    pub service: ObservedService,
    /// Where its server is asked whether it is well.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: HealthFrom,
    /// The server that is installed for it.
    pub server: InstalledServer,
    /// Directories that a backup of it can be restored to: its own first, then those that were asked for.
    pub targets: Vec<TargetFacts>,
    /// Why its own directory is not among the targets, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub not_seen: Option<String>,
}

/// A directory that a backup can be restored to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetFacts {
    /// The directory.
    pub directory: AbsPath,
    /// What stands there.
    pub observed: ObservedTarget,
    /// The file system that it lies on.
    pub file_system: ObservedFileSystem,
    /// Who owns it; absent where it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Whether there was room for a backup of it, for the largest that it can be.
    pub backup_fits: bool,
    /// Rows of the server's own tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<TableRows>,
}

/// Rows of one table of the server's own database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableRows {
    /// The table.
    #[schemars(length(max = 200))]
    pub table: String,
    /// How many.
    pub rows: u64,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupFacts {
    /// What plans say of it.
    pub source: BackupSource,
    /// The instance that it is of.
    pub instance: InstanceName,
    /// Its state in the index: `available` and `unknown` can be restored.
    #[schemars(length(max = 100))]
    pub status: String,
    /// Digest of its index entry without what verifying and restoring write there.
    pub index_entry: Sha256,
    /// What its archive holds; absent where it was not looked into, and no plan can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// Why it was not looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub not_read: Option<String>,
}

/// The tree that a run displaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisplacedFacts {
    /// What plans say of it.
    pub source: RunSource,
    /// The instance that it is of.
    pub instance: InstanceName,
    /// The directory whose place it had.
    pub directory: AbsPath,
    /// What it was seen to be.
    pub observed: ObservedDisplaced,
    /// What it holds, and what its return would change.
    pub contents: Contents,
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contents {
    /// Whether it has a manifest.
    pub manifest: bool,
    /// Its members.
    pub entries: u64,
    /// Bytes of all members, unpacked.
    pub unpacked_bytes: u64,
    /// Whether all of it was read and has the digest of the index.
    pub proven: bool,
    /// Its budgets that have a sync group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ObservedBackupBudget>,
    /// Rows of the server's own tables; absent where they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<TableRows>>,
    /// Parts of its budgets that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub incomplete: Vec<Gap>,
    /// Which migrations of the server its data has been through; absent where that was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<BackupMigrations>,
    /// Its budgets that were deleted when it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<DeletedBudget>,
    /// What restoring it would change, for each target of its instance.
    pub changes: Vec<Changes>,
}

/// What restoring a backup to a target would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Changes {
    /// The target.
    pub directory: AbsPath,
    /// Whether there was room beside it.
    pub fits: bool,
    /// Whether there was room for a copy of it too, which a restore of single budgets makes.
    #[serde(default)]
    pub copy_fits: bool,
    /// Its files.
    pub files: FileChanges,
    /// Its budgets and those of the backup, without new sync groups: a plan chooses these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetPreview>,
    /// The files of each whole budget of the backup that has a sync group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budget_files: Vec<BudgetFiles>,
    /// Bytes of the target's own account database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_bytes: Option<u64>,
    /// Who could log in there then; absent where that could not be read from the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Accounts>,
}

/// A budget that was deleted when the backup was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeletedBudget {
    /// The server's id of it.
    #[schemars(length(max = 200))]
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub name: Option<String>,
}

/// The two files of a budget of the backup, against those of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetFiles {
    /// The server's id of it.
    #[schemars(length(max = 200))]
    pub id: String,
    /// Its blob.
    pub blob: FileChange,
    /// Its group database, against one of the same sync group.
    pub group: FileChange,
    /// Bytes of the group database that it has in the target, of whatever sync group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_group_bytes: Option<u64>,
}

/// One file of the backup against the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileChange {
    /// Its bytes in the backup.
    pub bytes: u64,
    /// What the target has.
    pub state: FileState,
}

/// What a target has of a file of the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// Nothing.
    Added,
    /// Another content.
    Changed,
    /// The same.
    Unchanged,
}

impl Facts {
    /// A backup.
    pub fn backup(&self, id: &BackupId) -> Option<&BackupFacts> {
        self.backups.iter().find(|backup| backup.source.backup_id == *id)
    }

    /// The tree that a run displaced.
    pub fn displaced(&self, run: &RunId) -> Option<&DisplacedFacts> {
        self.displaced.iter().find(|displaced| displaced.source.run == *run)
    }

    /// An instance.
    pub fn instance(&self, name: &InstanceName) -> Option<&InstanceFacts> {
        self.instances.iter().find(|instance| instance.name == *name)
    }
}

impl BackupFacts {
    /// Why the index says that it cannot be restored; `None` where it may be tried.
    pub fn unusable(&self) -> Option<&str> {
        crate::state::backup_index::unusable(&self.status)
    }
}

fn is_default(from: &HealthFrom) -> bool {
    *from == HealthFrom::default()
}
