//! What a restore does to clients and logins, in an unpacked tree that no server has open:
//! `clients: reset` gives budgets new sync groups, `sessions: revoke` ends all logins.
//!
//! Changes only the tree it is given. A crash in the middle leaves a staging tree that is thrown away.

use cap_std::fs::Dir;
use rusqlite::Connection;

use super::layout;
use crate::host::sqlite;

/// The tree could not be changed as the plan wants it.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// SQLite failed.
    #[error("cannot change the restored account database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] sqlite::SqliteError),
    /// A group database could not be renamed.
    #[error("cannot rename the group database of budget {budget}: {source}")]
    Rename {
        /// The budget.
        budget: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The backup is not what the plan was made for.
    #[error("budget {budget} does not have the sync group {group} that the plan was made for")]
    OtherGroup {
        /// The budget.
        budget: String,
        /// The group id in the plan.
        group: String,
    },
}

/// One budget's new sync group.
#[derive(Debug, Clone, Copy)]
pub struct NewGroup<'a> {
    /// The budget.
    pub budget: &'a str,
    /// Its group id in the backup.
    pub from: &'a str,
    /// Its new group id.
    pub to: &'a str,
}

/// Gives budgets new sync groups: the row in `files` and the group database's name. Key ids of
/// encrypted budgets stay, or clients would refuse with `file-key-mismatch`.
pub fn reset_groups(data: &Dir, groups: &[NewGroup<'_>]) -> Result<(), ClientsError> {
    let mut connection = sqlite::open_private(data, layout::ACCOUNT.as_ref())?;
    let transaction = connection.transaction()?;
    for group in groups {
        let query = "UPDATE files SET group_id = ?1 WHERE id = ?2 AND group_id = ?3";
        if transaction.execute(query, [group.to, group.budget, group.from])? != 1 {
            return Err(ClientsError::OtherGroup { budget: group.budget.into(), group: group.from.into() });
        }
        let (from, to) = (layout::group(group.from), layout::group(group.to));
        if data.try_exists(&from).unwrap_or(false) {
            let renamed = data.rename(&from, data, &to);
            renamed.map_err(|source| ClientsError::Rename { budget: group.budget.into(), source })?;
        }
    }
    transaction.commit()?;
    close(connection)
}

/// Ends all logins.
pub fn revoke_sessions(data: &Dir) -> Result<(), ClientsError> {
    let connection = sqlite::open_private(data, layout::ACCOUNT.as_ref())?;
    connection.execute("DELETE FROM sessions", [])?;
    close(connection)
}

fn close(connection: Connection) -> Result<(), ClientsError> {
    connection.close().map_err(|(_, error)| ClientsError::Sqlite(error))
}
