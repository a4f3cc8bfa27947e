//! `preview.accounts`: who can log in after the restore, and which bank tokens the server then holds.
//! Names and counts; no secret, and no digest of one. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who can log in after the restore, compared with now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Accounts {
    /// The login method that is active.
    pub login_method: Methods,
    /// `loginMethod` of `config.json`, where the restore changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_method: Option<Methods>,
    /// Whether the password is another one.
    pub password: PasswordChange,
    /// Users who may log in.
    pub users: NameChanges,
    /// Open sessions.
    pub sessions: SessionChanges,
    /// Bank tokens, by name.
    pub bank_tokens: NameChanges,
    /// Why nobody, or nobody who owns the server, could log in after the restore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub locked_out: Vec<LockOut>,
}

/// A login method, now and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Methods {
    /// On the live server; absent where there is none, or no live server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub live: Option<String>,
    /// In the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub backup: Option<String>,
}

/// Whether the password is another one after the restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PasswordChange {
    /// There is none, now and after.
    None,
    /// It is the same.
    Same,
    /// The one of the time of the backup is valid again.
    Other,
    /// There is one now, and none after.
    LiveOnly,
    /// There is none now, and one after.
    BackupOnly,
}

/// Names that come, go, or stand for something else after the restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NameChanges {
    /// Only in the backup: back after the restore.
    pub back: Names,
    /// Only on the live server: gone after the restore.
    pub gone: Names,
    /// In both, with another value: the one of the backup holds again. None for users.
    pub changed: Names,
}

impl NameChanges {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.back.count == 0 && self.gone.count == 0 && self.changed.count == 0
    }
}

/// A bounded list of names with its length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Names {
    /// How many.
    pub count: u64,
    /// The first ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 300)))]
    pub names: Vec<String>,
}

impl Names {
    const MAX: usize = 10;

    /// Counts names and keeps the first of them.
    pub fn of<'n>(all: impl Iterator<Item = &'n String>) -> Self {
        let mut found = Self::default();
        for name in all {
            found.count += 1;
            if found.names.len() < Self::MAX {
                found.names.push(name.clone());
            }
        }
        found
    }
}

/// Open sessions that come or go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionChanges {
    /// Ended since the backup: valid again after the restore, unless the plan ends all.
    pub back: u64,
    /// Begun since the backup: over after the restore.
    pub gone: u64,
}

/// Why nobody, or nobody who owns the server, could log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LockOut {
    /// `OpenID` is active, and issuer, client id or client secret is missing.
    OpenidIncomplete,
    /// `config.json` enforces `OpenID`, and it was never set up.
    OpenidMissing,
    /// The password is the login method, and there is none.
    NoPassword,
    /// Users are there, and none of those who may log in owns the server.
    NoOwner,
}
