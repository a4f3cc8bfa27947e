//! `spec`: the wish. Written by the planner; the one part that a person may edit before
//! `abssctl plan refresh`. Pure.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::clients::Clients;
use super::model::Time;
use crate::actual::whole::Gap;
use crate::duration::DurationText;
use crate::ids::{AbsPath, BackupId, InstanceName, RunId, ServerUrl, Sha256};
use crate::state::restore_config::{
    ClientsDefault, DriftDefault, OnFailureDefault, PreBackupDefault, SessionsDefault,
};
use crate::state::rules::{AssetsChoice, ReplayChoice};

/// The wish: which backup goes where, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The instance that the backup belongs to and whose locks are taken.
    pub instance: InstanceName,
    /// What comes into the target: a backup, or the tree that a run displaced.
    pub source: Source,
    /// Where it goes.
    pub target: Target,
    /// Single budgets that are restored, all else staying as it is on the live server; all of the backup
    /// where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub budgets: Vec<SingleBudget>,
    /// Whether unit and vhost files are restored too.
    pub assets: AssetScope,
    /// The backup of what is there now, before it is replaced.
    pub pre_backup: PreBackup,
    /// What happens to clients that hold newer changes.
    pub clients: Clients,
    /// What happens to the logins stored in the backup.
    pub sessions: SessionPolicy,
    /// What happens to the service.
    pub service: Service,
    /// How long to wait for the server to answer after it was started.
    pub health: Health,
    /// What to do when a step after the swap fails.
    pub on_failure: OnFailure,
    /// How much the machine may differ from what was observed.
    pub drift: DriftPolicy,
    /// Whether the plan may be applied more than once.
    pub replay: ReplayPolicy,
    /// How long the displaced directory is kept.
    pub retain: DurationText,
    /// Who owns the restored files.
    pub ownership: Ownership,
    /// Whether what the target holds already, byte for byte, comes out of the archive all the same.
    #[serde(default, skip_serializing_if = "Transfer::is_full")]
    pub transfer: Transfer,
    /// Parts of budgets that may be missing in the backup. One that lacks anything else is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub allow_incomplete: Vec<Gap>,
}

impl Spec {
    /// The digest of the manifest that proves what comes out of the archive, where that is not read whole.
    pub fn manifest_proof(&self) -> Option<Sha256> {
        self.source.backup().filter(|_| self.transfer == Transfer::Delta)?.manifest_sha256
    }

    /// Whether only single budgets are restored.
    pub fn is_single(&self) -> bool {
        !self.budgets.is_empty()
    }

    /// Whether the tree of a run comes back: the plan is a rollback.
    pub fn is_rollback(&self) -> bool {
        matches!(self.source, Source::Run(_))
    }

    /// What texts call it.
    pub fn words(&self) -> Words {
        if self.is_rollback() { Words::ROLLBACK } else { Words::RESTORE }
    }

    /// Whether this budget of the backup is taken from it.
    pub fn takes(&self, budget: &str) -> bool {
        !self.is_single() || self.budgets.iter().any(|one| one.id == budget)
    }

    /// Whether this budget of the live server is replaced, or comes from the backup: not one that is only
    /// copied, or that a plan of single budgets does not name.
    pub fn replaces(&self, budget: &str) -> bool {
        !self.is_single() || self.budgets.iter().any(|one| one.id == budget && one.copy_as.is_none())
    }
}

/// What texts call what comes, and what is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// What comes.
    pub held: &'static str,
    /// What is done.
    pub act: &'static str,
    /// Of what was valid in it.
    pub then: &'static str,
    /// Since it was so.
    pub since: &'static str,
}

impl Words {
    /// Of a restore.
    pub const RESTORE: Self = Self {
        held: "the backup",
        act: "restore",
        then: "of the time of the backup",
        since: "since the backup",
    };
    /// Of a rollback.
    pub const ROLLBACK: Self =
        Self { held: "the old tree", act: "rollback", then: "of the old tree", since: "since the old tree" };
}

/// What comes into the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Source {
    /// A backup: the plan is a restore.
    Backup(BackupSource),
    /// The tree that a run displaced: the plan is a rollback.
    Run(RunSource),
}

impl Source {
    /// The backup that is restored, or the one that the undone run restored.
    pub fn backup_id(&self) -> &BackupId {
        match self {
            Source::Backup(backup) => &backup.backup_id,
            Source::Run(run) => &run.backup_id,
        }
    }

    /// When what comes was last in its place: when the backup was made, or the tree displaced.
    pub fn created_at(&self) -> Time {
        match self {
            Source::Backup(backup) => backup.created_at,
            Source::Run(run) => run.displaced_at,
        }
    }

    /// The backup; `None` for a rollback.
    pub fn backup(&self) -> Option<&BackupSource> {
        match self {
            Source::Backup(backup) => Some(backup),
            Source::Run(_) => None,
        }
    }

    /// The displaced tree; `None` for a restore.
    pub fn run(&self) -> Option<&RunSource> {
        match self {
            Source::Backup(_) => None,
            Source::Run(run) => Some(run),
        }
    }
}

impl JsonSchema for Source {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Source".into()
    }

    /// By the field that only one of the two has, so that an error names a field and not "none of two
    /// alternatives".
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (run, backup) =
            (generator.subschema_for::<RunSource>(), generator.subschema_for::<BackupSource>());
        json_schema!({
            "type": "object",
            "description": "What comes into the target: a backup, or the tree that a run displaced.",
            "if": { "required": ["run"] },
            "then": run,
            "else": backup
        })
    }
}

/// The tree to put back, as the run that displaced it noted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunSource {
    /// The run that is undone.
    pub run: RunId,
    /// The backup that it restored: its index entry gets the rollback.
    pub backup_id: BackupId,
    /// Where the tree is kept.
    pub directory: AbsPath,
    /// When it was displaced.
    pub displaced_at: Time,
}

/// The backup to restore, as the index described it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupSource {
    /// Its id in the index.
    pub backup_id: BackupId,
    /// The archive file.
    pub path: AbsPath,
    /// How the archive is compressed.
    pub algorithm: CompressionName,
    /// Size of the archive file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the archive file.
    pub sha256: Sha256,
    /// SHA-256 of the manifest in the archive, where the index knows it: with `transfer: delta` everything
    /// that comes out of the archive is proven by it, and what does not is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<Sha256>,
    /// When the backup was made.
    pub created_at: Time,
    /// What the archive holds.
    pub scope: SourceScope,
}

/// Compression of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompressionName {
    /// Zstandard.
    Zstd,
    /// Gzip.
    Gzip,
    /// Not compressed.
    None,
}

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceScope {
    /// The instance directory, its unit and its vhost.
    Full,
    /// The instance directory alone.
    Data,
}

/// The directory that the backup goes into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// The directory to replace.
    pub directory: AbsPath,
    /// Whether it is the instance's own directory, the one its server runs from.
    pub live: bool,
}

/// One budget to restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SingleBudget {
    /// The server's id of it, in the backup.
    #[schemars(length(max = 200))]
    pub id: String,
    /// Its name in the backup, for those who read the plan; `plan refresh` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub name: Option<String>,
    /// Present where it comes as a new budget and the one that is there stays untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_as: Option<CopyAs>,
}

/// How a budget comes as a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CopyAs {
    /// The new budget's name.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
}

/// Whether unit and vhost files are restored too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AssetScope {
    /// Files of the instance directory alone (the default).
    Data,
    /// Unit and vhost too: code that root runs.
    Full,
}

/// The backup of what is there now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreBackup {
    /// Whether and when it is made.
    pub mode: PreBackupMode,
    /// Message of that backup in the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub message: Option<String>,
}

/// Whether and when the pre-backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PreBackupMode {
    /// Right before the swap, when the server is stopped (the default).
    Quiesced,
    /// While the server still runs, beside reading the archive.
    Online,
    /// Not at all; the displaced directory is the only way back.
    None,
}

/// What happens to clients that hold changes newer than the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientPolicy {
    /// Files are restored byte for byte; clients send their newer changes back at the next sync.
    Merge,
    /// Budgets get new group ids; clients are told to download the restored state.
    Reset,
}

/// What happens to the logins stored in the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionPolicy {
    /// They are valid again.
    Keep,
    /// They are removed; everybody logs in again.
    Revoke,
}

/// What happens to the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Whether it is started after the restore.
    pub restart: RestartPolicy,
}

/// Whether the service is started after the restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RestartPolicy {
    /// When it was running before (the default).
    Auto,
    /// In any case.
    Always,
    /// Not; it stays stopped.
    Never,
}

/// How long to wait for the server to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// In all.
    pub timeout: DurationText,
    /// Between two requests that are answered, but not well; one that nobody takes is tried again at once.
    pub interval: DurationText,
    /// Where the server is asked, as the machine's `restore.yml` says; absent: at the instance's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<ServerUrl>,
    /// The certificates that the server is proven by, as `restore.yml` says; absent: the usual authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<AbsPath>,
}

/// What to do when a step after the swap fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Everything is put back (the default).
    Rollback,
    /// Everything stays as it is, for a person to look at.
    Halt,
}

/// How much the machine may differ from what was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriftPolicy {
    /// More changes of the same budgets are fine and counted; another world is refused (the default).
    Structure,
    /// Any difference is refused.
    Exact,
    /// Only machine, instance, backup and target must be the same.
    Ignore,
}

/// Whether the plan may be applied more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplayPolicy {
    /// Once (the default).
    Once,
    /// Again with `apply --replay`.
    Allowed,
}

/// Where the restored files come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transfer {
    /// All out of the archive (the default).
    #[default]
    Full,
    /// Files of the target that are equal, by size and SHA-256 of the archive's manifest, are copied from
    /// there, with their content shared where the file system can; the others come out of the archive.
    Delta,
}

impl Transfer {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_full(&self) -> bool {
        *self == Self::Full
    }
}

/// Who owns the restored files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ownership {
    /// Where the owners come from.
    pub from: OwnershipSource,
    /// Numeric user id for files that have no counterpart in the live tree; with `archive`, unused.
    pub uid: u32,
    /// Numeric group id for the same.
    pub gid: u32,
}

/// Where the owners of the restored files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OwnershipSource {
    /// The archive, which holds the true owners (archives with a manifest).
    Archive,
    /// The live tree, path by path; new paths get `uid` and `gid` (archives of the peer, which hold none).
    Live,
    /// All files get `uid` and `gid`.
    Fixed,
    /// Nobody: the files of a tree that comes back keep theirs (rollbacks alone).
    Kept,
}

/// Writes the wire form of an enum as its `Display`.
macro_rules! display_as_serialised {
    ($($name:ident { $($variant:ident = $text:literal),+ $(,)? })+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $text),+ })
            }
        }
    )+};
}

display_as_serialised! {
    CompressionName { Zstd = "zstd", Gzip = "gzip", None = "none" }
    SourceScope { Full = "full", Data = "data" }
    AssetScope { Full = "full", Data = "data" }
    PreBackupMode { Quiesced = "quiesced", Online = "online", None = "none" }
    ClientPolicy { Merge = "merge", Reset = "reset" }
    SessionPolicy { Keep = "keep", Revoke = "revoke" }
    RestartPolicy { Auto = "auto", Always = "always", Never = "never" }
    OnFailure { Rollback = "rollback", Halt = "halt" }
    DriftPolicy { Structure = "structure", Exact = "exact", Ignore = "ignore" }
    ReplayPolicy { Once = "once", Allowed = "allowed" }
    Transfer { Full = "full", Delta = "delta" }
    OwnershipSource { Archive = "archive", Live = "live", Fixed = "fixed", Kept = "kept" }
}

/// The words of `restore.yml` are those of a plan.
macro_rules! from_configuration {
    ($($from:ident => $name:ident { $($variant:ident),+ })+) => {$(
        impl From<$from> for $name {
            fn from(choice: $from) -> Self {
                match choice { $($from::$variant => Self::$variant),+ }
            }
        }
    )+};
}

from_configuration! {
    PreBackupDefault => PreBackupMode { Quiesced, Online, None }
    ClientsDefault => ClientPolicy { Merge, Reset }
    SessionsDefault => SessionPolicy { Keep, Revoke }
    OnFailureDefault => OnFailure { Rollback, Halt }
    DriftDefault => DriftPolicy { Structure, Exact, Ignore }
    ReplayChoice => ReplayPolicy { Once, Allowed }
    AssetsChoice => AssetScope { Data, Full }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_the_wire_form() {
        macro_rules! same {
            ($($value:expr),+) => {$(
                assert_eq!(serde_json::to_value($value).unwrap(), serde_json::json!($value.to_string()));
            )+};
        }
        same!(CompressionName::Zstd, CompressionName::Gzip, CompressionName::None);
        same!(SourceScope::Full, SourceScope::Data, AssetScope::Full, AssetScope::Data);
        same!(PreBackupMode::Quiesced, PreBackupMode::Online, PreBackupMode::None);
        same!(ClientPolicy::Merge, ClientPolicy::Reset, SessionPolicy::Keep, SessionPolicy::Revoke);
        same!(RestartPolicy::Auto, RestartPolicy::Always, RestartPolicy::Never);
        same!(OnFailure::Rollback, OnFailure::Halt, ReplayPolicy::Once, ReplayPolicy::Allowed);
        same!(DriftPolicy::Structure, DriftPolicy::Exact, DriftPolicy::Ignore);
        same!(OwnershipSource::Archive, OwnershipSource::Live, OwnershipSource::Fixed);
        same!(OwnershipSource::Kept);
    }
}
