//! `preview`: what would change, for the people who judge a plan. `apply` decides nothing by it. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::accounts::Accounts;

/// What would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preview {
    /// Files of the target.
    pub files: FileChanges,
    /// Budgets of the live server and of the backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetPreview>,
    /// Who can log in after the restore; absent where that could not be read from the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Accounts>,
    /// Rows of the server's own tables, now and after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<RowChange>,
    /// Text files that differ, with secrets taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diffs: Vec<TextDiff>,
    /// What was checked, and what could not be.
    pub checks: Vec<Check>,
    /// What a reviewer must not miss.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// Estimated time without a server, in milliseconds; absent where no server is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_ms: Option<u64>,
}

/// Files of the target that would be added, changed or removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileChanges {
    /// Only in the backup.
    pub added: FileGroup,
    /// In both, with another content.
    pub changed: FileGroup,
    /// Only in the target: gone after the restore.
    pub removed: FileGroup,
    /// In both and equal.
    pub unchanged: u64,
}

impl FileChanges {
    /// How many files would not be as they are.
    pub fn total(&self) -> u64 {
        self.added.count + self.changed.count + self.removed.count
    }
}

/// A bounded list of files with totals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileGroup {
    /// How many.
    pub count: u64,
    /// Their bytes: of the backup for added and changed, of the target for removed.
    pub bytes: u64,
    /// The first ten by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub examples: Vec<String>,
}

/// A budget, and what the restore means for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetPreview {
    /// The server's id of it.
    #[schemars(length(max = 200))]
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub name: Option<String>,
    /// Whether it is end-to-end encrypted.
    pub encrypted: bool,
    /// Where it is.
    pub presence: BudgetPresence,
    /// Where it is marked as deleted, if it is so in one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DeletedIn>,
    /// How its encryption key differs since the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_change: Option<KeyChange>,
    /// Changes on the live server that are newer than the backup; absent where not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_newer: Option<u64>,
    /// Time of the first of them, as the client wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub first_newer: Option<String>,
    /// Time of the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub last_newer: Option<String>,
    /// Its sync group in the backup, or on the live server where it is only there or is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub group_id: Option<String>,
    /// Whether it stays as it is on the live server: the plan restores other budgets alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// The budget of the backup that this new one is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub copy_of: Option<String>,
    /// Its sync group on the live server, where it is in both and this is another one: its sync was
    /// reset since the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub live_group_id: Option<String>,
    /// Its sync group after the restore, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub new_group_id: Option<String>,
}

/// Where a budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BudgetPresence {
    /// On the live server and in the backup.
    Both,
    /// Only on the live server: gone after the restore.
    LiveOnly,
    /// Only in the backup: back after the restore.
    BackupOnly,
}

/// Where a budget is marked as deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeletedIn {
    /// On the live server: the restore brings it back.
    Live,
    /// In the backup: it is gone after the restore.
    Backup,
}

/// How the encryption key of a budget differs since the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyChange {
    /// It is encrypted now, and is not in the backup.
    EncryptedSince,
    /// It is encrypted in the backup, and is not now.
    DecryptedSince,
    /// It has another key now.
    OtherKey,
}

/// Rows of one table, now and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RowChange {
    /// The database file, relative to the target.
    #[schemars(length(max = 4096))]
    pub database: String,
    /// The table.
    #[schemars(length(max = 200))]
    pub table: String,
    /// Rows now; absent where the database or table is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<u64>,
    /// Rows in the backup; where single budgets are restored, rows after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<u64>,
}

/// A text file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TextDiff {
    /// The file.
    #[schemars(length(max = 4096))]
    pub path: String,
    /// Whether this restore changes it (a unit is only shown).
    pub restored: bool,
    /// Unified diff, secrets taken out, at most 200 lines.
    #[schemars(length(max = 32768))]
    pub diff: String,
    /// Whether the unit or vhost has lines that are not there now and are not shown whole either, since they
    /// may hold a secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// What is known of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It will work.
    Will,
    /// It will not.
    WillNot,
    /// It could not be seen.
    NotChecked,
}

/// One thing that was checked, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// A stable name of the check.
    #[schemars(length(max = 100))]
    pub id: String,
    /// The result.
    pub verdict: Verdict,
    /// The reason, in one line.
    #[schemars(length(max = 1000))]
    pub why: String,
}

/// What a reviewer must not miss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Warning {
    /// A stable name of the warning.
    #[schemars(length(max = 100))]
    pub code: String,
    /// What it means, in one or two lines.
    #[schemars(length(max = 1000))]
    pub message: String,
}
