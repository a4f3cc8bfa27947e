//! `observed`: what the planner saw, and nothing that changes by itself. `apply` looks again and
//! compares. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::assets::ObservedAssets;
use super::preview::Verdict;
use crate::actual::migrations;
use crate::actual::whole::Gap;
use crate::ids::{AbsPath, ServerUrl, Sha256};

/// What the planner saw on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observed {
    /// SHA-256 derived from the machine's id; absent where the machine has none (then not checked).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Sha256>,
    /// The instance in the registry.
    pub instance: ObservedInstance,
    /// The backup in the index and what its archive holds; of a restore alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<ObservedBackup>,
    /// The tree that comes back; of a rollback alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<ObservedDisplaced>,
    /// The server that is installed for the instance, and what it would make of the backup.
    pub server: ObservedServer,
    /// The target directory.
    pub target: ObservedTarget,
    /// The service.
    pub service: ObservedService,
    /// Unit and vhost; of a plan alone that restores them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets: Option<ObservedAssets>,
    /// The file system that the target lies on.
    pub file_system: ObservedFileSystem,
    /// Space for the restore.
    pub space: ObservedSpace,
}

impl Observed {
    /// Which migrations the data that comes has been through; `None` where that was not seen.
    pub fn migrations(&self) -> Option<&BackupMigrations> {
        let backup = self.backup.as_ref().map(|backup| backup.migrations.as_ref());
        backup.or(self.displaced.as_ref().map(|tree| tree.migrations.as_ref())).flatten()
    }

    /// Parts of budgets that are missing in what comes.
    pub fn incomplete(&self) -> &[Gap] {
        let backup = self.backup.as_ref().map(|backup| &backup.incomplete);
        backup.or(self.displaced.as_ref().map(|tree| &tree.incomplete)).map_or(&[], Vec::as_slice)
    }

    /// The budgets of the backup that have a sync group; none for a rollback, which changes no group.
    pub fn groups(&self) -> &[ObservedBackupBudget] {
        self.backup.as_ref().map_or(&[], |backup| &backup.budgets)
    }
}

/// The tree that comes back: what the run displaced, as it lies aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedDisplaced {
    /// What it holds, with both fingerprints: nothing writes there, so any difference makes the plan stale.
    pub tree: ObservedTarget,
    /// Parts of budgets that are missing in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub incomplete: Vec<Gap>,
    /// Which migrations of the server its data has been through; absent where that was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<BackupMigrations>,
    /// Whether the run replaced unit and vhost too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assets_written: bool,
    /// Whether it still keeps those that were there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assets_kept: bool,
}

/// The instance in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedInstance {
    /// Digest of the registry entry's name, domain, port, version and paths.
    pub registry_entry: Sha256,
    /// The server's data directory, relative to the instance directory.
    #[schemars(length(max = 1000))]
    pub data_directory: String,
    /// The port that the server listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The server's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub version: Option<String>,
}

/// The backup in the index and what its archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedBackup {
    /// Digest of the index entry without its verification and restore history.
    pub index_entry: Sha256,
    /// Whether the archive has a manifest (ours) or not (the peer's).
    pub manifest: bool,
    /// Members of the archive.
    pub entries: u64,
    /// Bytes of all members, unpacked: extraction stops at this number.
    pub unpacked_bytes: u64,
    /// The budgets in it that have a sync group; what `clients: reset` renames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<ObservedBackupBudget>,
    /// Parts of budgets that are missing in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub incomplete: Vec<Gap>,
    /// Which migrations of the server its data has been through; absent where that was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<BackupMigrations>,
}

/// A budget in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedBackupBudget {
    /// The server's id of it.
    #[schemars(length(max = 200))]
    pub id: String,
    /// Its sync group.
    #[schemars(length(max = 200))]
    pub group_id: String,
}

/// Which migrations of the server the data of a backup has been through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupMigrations {
    /// What its `.migrate` is like.
    pub record: MigrationRecord,
    /// The titles in it, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub titles: Vec<String>,
    /// Why it cannot be read, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub why: Option<String>,
}

/// What the `.migrate` of a data directory is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MigrationRecord {
    /// Nothing is there, and no account database: a server makes both.
    Fresh,
    /// It is missing beside an account database.
    Missing,
    /// It is nothing that a server wrote.
    Unreadable,
    /// It names migrations.
    Read,
}

impl BackupMigrations {
    /// From what a data directory holds: the bytes of its `.migrate`, where it has one, and whether it
    /// has an account database.
    pub fn of(record: Option<&[u8]>, account: bool) -> Self {
        let without_titles = |record, why| Self { record, titles: Vec::new(), why };
        match record.map(migrations::record) {
            Some(Ok(Some(titles))) => {
                Self { record: MigrationRecord::Read, titles: titles.into_iter().collect(), why: None }
            }
            Some(Err(error)) => Self::unreadable(&error.to_string()),
            None | Some(Ok(None)) if account => without_titles(MigrationRecord::Missing, None),
            None | Some(Ok(None)) => without_titles(MigrationRecord::Fresh, None),
        }
    }

    /// Of a `.migrate` that cannot be read.
    pub fn unreadable(why: &str) -> Self {
        Self { record: MigrationRecord::Unreadable, titles: Vec::new(), why: Some(why.to_owned()) }
    }
}

/// The server that is installed for the instance, and what it would make of the backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedServer {
    /// Its version, by its `package.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub version: Option<String>,
    /// Its package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<AbsPath>,
    /// What led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<ServerSource>,
    /// Migrations that it knows and the backup has not been through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub adds: Vec<String>,
    /// Migrations that the backup has been through and it does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub lacks: Vec<String>,
    /// Why its migrations are not known, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub unknown: Option<String>,
}

/// What led to the installed server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServerSource {
    /// The version in the registry's entry of the instance, below the install root.
    Registry,
    /// The path of that version in `versions.yml`.
    Versions,
    /// The program that the instance's unit starts.
    Unit,
    /// The link `current` below the install root.
    Current,
}

/// The server that is installed for an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstalledServer {
    /// Its version, by its `package.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub version: Option<String>,
    /// Its package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<AbsPath>,
    /// What led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<ServerSource>,
    /// The migrations that it knows, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub migrations: Vec<String>,
    /// Why its migrations are not known, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub unknown: Option<String>,
}

impl InstalledServer {
    /// What it would make of a backup.
    pub fn judge(&self, backup: Option<&BackupMigrations>) -> ObservedServer {
        let titles = backup.map(|backup| backup.titles.as_slice()).unwrap_or_default();
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|title| !those.contains(title)).cloned().collect()
        };
        // Of a backup without titles a server would add all: that tells nobody anything.
        let compared =
            self.unknown.is_none() && backup.is_some_and(|backup| backup.record == MigrationRecord::Read);
        ObservedServer {
            version: self.version.clone(),
            directory: self.directory.clone(),
            found_by: self.found_by,
            adds: if compared { only(&self.migrations, titles) } else { Vec::new() },
            lacks: if compared { only(titles, &self.migrations) } else { Vec::new() },
            unknown: self.unknown.clone(),
        }
    }
}

/// What stands in the place of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Nothing.
    Absent,
    /// An empty directory.
    Empty,
    /// A directory with content.
    Content,
}

/// The target directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedTarget {
    /// What stands there.
    pub presence: Presence,
    /// Whether a file system is mounted there: it cannot be exchanged as a whole then, only what is in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mount_point: bool,
    /// Fingerprint of what a running server does not change: budgets and group ids, the server's
    /// migrations, files that are neither databases nor budget blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structure: Option<Sha256>,
    /// Fingerprint of all of it, cheaply: names, sizes, times, inodes, database headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Sha256>,
    /// The files behind `structure`, so that a difference can be named; at most 100, then the digest alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub files: Vec<ObservedFile>,
    /// The budgets behind `structure`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<ObservedBudget>,
    /// Why the budgets could not be read, where they could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub budgets_unreadable: Option<String>,
    /// Logins that are open now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
}

/// A file that a running server does not change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedFile {
    /// Relative to the target.
    #[schemars(length(max = 4096))]
    pub path: String,
    /// Digest of type, mode, owner and content (or link target).
    pub digest: Sha256,
}

/// A budget of the live server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedBudget {
    /// The server's id of it.
    #[schemars(length(max = 200))]
    pub id: String,
    /// Its sync group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub group_id: Option<String>,
    /// Whether it is marked as deleted.
    pub deleted: bool,
    /// Changes that the server held; absent where they could not be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<u64>,
}

/// The fingerprint `structure` of these files, sorted by path, and budgets, sorted; `readable`: whether
/// the list of budgets could be read.
pub fn structure(files: &[ObservedFile], budgets: &[ObservedBudget], readable: bool) -> Sha256 {
    let mut text = String::new();
    for file in files {
        text += &format!("file {} {}\n", file.path.escape_default(), file.digest);
    }
    for budget in budgets {
        let group = budget.group_id.as_deref().unwrap_or_default().escape_default();
        text += &format!("budget {} {group} {}\n", budget.id.escape_default(), budget.deleted);
    }
    text += &format!("readable {readable}\n");
    Sha256::of(text.as_bytes())
}

/// The service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedService {
    /// What runs services here.
    pub manager: ServiceManagerKind,
    /// The unit, where there is a manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub unit: Option<String>,
    /// Whether it was running, or comes up by itself.
    pub running: bool,
    /// What is odd about it, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<ServiceTrouble>,
}

/// What is odd about a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceTrouble {
    /// The registry names a file that no service can have, or the unit of the recovery.
    NoName,
    /// The manager knows no such unit.
    NotFound,
    /// Its file is not valid.
    NotLoaded,
    /// It is masked: it may not be started.
    Masked,
    /// It does not run, since it failed.
    Failed,
    /// It ended, and waits to be started again by itself.
    Restarting,
}

impl ServiceTrouble {
    /// Whether it keeps the unit from being started.
    pub fn prevents_start(self) -> bool {
        match self {
            Self::NoName | Self::NotFound | Self::NotLoaded | Self::Masked => true,
            Self::Failed | Self::Restarting => false,
        }
    }

    /// In words that follow "it".
    pub fn words(self) -> &'static str {
        match self {
            Self::NoName => "has a name that it cannot have",
            Self::NotFound => "is not known to systemd",
            Self::NotLoaded => "has a file that systemd cannot load",
            Self::Masked => "is masked",
            Self::Failed => "has failed",
            Self::Restarting => "ends again and again",
        }
    }
}

impl ObservedService {
    /// Whether both are the same unit of the same manager, startable or not; whether it ran is another question.
    pub fn is_same_unit(&self, other: &Self) -> bool {
        let can = |service: &Self| !service.trouble.is_some_and(ServiceTrouble::prevents_start);
        (self.manager, &self.unit, can(self)) == (other.manager, &other.unit, can(other))
    }
}

/// Where a server is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthFrom {
    /// The address; absent: the instance's port on its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<ServerUrl>,
    /// The certificates that it is proven by; absent: the usual authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<AbsPath>,
}

/// What runs services on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceManagerKind {
    /// Nothing that this program controls.
    None,
    /// systemd.
    Systemd,
}

/// The file system that the target lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedFileSystem {
    /// The kernel's name of its type.
    #[schemars(length(max = 100))]
    pub r#type: String,
    /// Whether it can exchange two directories in one step.
    pub atomic_exchange: Verdict,
}

/// Space for the restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedSpace {
    /// Bytes needed beside the target, at most.
    pub staging_bytes: u64,
    /// Bytes needed for the pre-backup, at most.
    pub backup_bytes: u64,
    /// Where the pre-backup goes.
    pub backup_directory: AbsPath,
    /// Whether both were there when the planner looked.
    pub verdict: Verdict,
}
