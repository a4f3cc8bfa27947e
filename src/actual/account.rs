//! The server's own database, `account.sqlite`: the list of budgets and counts of logins. Reads only;
//! columns that an older server's schema lacks read as empty. Of secrets nothing but digests is kept.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::logins::{self, Logins};
use crate::host::sqlite::{self, ReadError};

/// One row of the server's table `files`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget {
    /// The server's id of it; part of the blob's name.
    pub id: String,
    /// The sync group; part of the group database's name. A budget that never synced has none.
    pub group_id: Option<String>,
    /// Its name as people see it.
    pub name: Option<String>,
    /// The id of its encryption key; `None` where it is not end-to-end encrypted.
    pub key_id: Option<String>,
    /// Whether it is marked as deleted.
    pub deleted: bool,
}

/// What `account.sqlite` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Budgets, by id.
    pub budgets: Vec<Budget>,
    /// Rows of every table, by name.
    pub rows: BTreeMap<String, u64>,
    /// Who can log in; `None` where that could not be read.
    pub logins: Option<Logins>,
}

impl Budget {
    /// Whether it is end-to-end encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.key_id.is_some()
    }
}

impl Account {
    /// Open sessions.
    pub fn sessions(&self) -> u64 {
        self.rows.get("sessions").copied().unwrap_or_default()
    }
}

/// Tables without which a database is not an account database.
pub const REQUIRED_TABLES: [&str; 3] = ["auth", "files", "sessions"];

/// More budgets than this are refused: no server has them, and a plan could not show them.
const MAX_BUDGETS: usize = 10_000;
/// Of ids and names this many characters are read. [`super::layout::is_plain_id`] refuses an id long
/// before.
const MAX_TEXT: usize = 300;

/// Reads the account database: tables as [`sqlite::tables`] names them, ids and names up to 300 characters.
///
/// # Errors
/// [`ReadError::TooMany`] for more than 10 000 budgets, and what SQLite refuses.
pub fn read(connection: &Connection) -> Result<Account, ReadError> {
    let mut account = Account::default();
    for table in sqlite::tables(connection)? {
        let count = sqlite::count_rows(connection, &table)?;
        account.rows.insert(table, count);
    }
    if account.rows.contains_key("files") {
        account.budgets = budgets(connection)?;
    }
    account.logins = logins::read(connection).ok();
    Ok(account)
}

/// Reads the server's list of budgets, sorted by id.
pub fn budgets(connection: &Connection) -> Result<Vec<Budget>, ReadError> {
    let stored = sqlite::stored_columns(connection, "files")?;
    let column = |name: &str| {
        if stored.iter().any(|column| column == name) { format!("\"{name}\"") } else { "NULL".to_owned() }
    };
    let text = |name: &str| format!("substr(CAST({} AS TEXT), 1, {MAX_TEXT})", column(name));
    let query = format!(
        "SELECT {}, {}, {}, {}, coalesce({}, 0) <> 0 FROM files ORDER BY 1, 2, 3 LIMIT {}",
        text("id"),
        text("group_id"),
        text("name"),
        text("encrypt_keyid"),
        column("deleted"),
        MAX_BUDGETS + 1,
    );
    let mut statement = connection.prepare(&query)?;
    let rows = statement.query_map([], |row| {
        Ok(Budget {
            id: row.get::<_, Option<String>>(0)?.unwrap_or_default(),
            group_id: row.get(1)?,
            name: row.get(2)?,
            key_id: row.get(3)?,
            deleted: row.get(4)?,
        })
    })?;
    let budgets = rows.collect::<Result<Vec<_>, _>>()?;
    if budgets.len() > MAX_BUDGETS {
        return Err(ReadError::TooMany { what: "budgets", limit: MAX_BUDGETS });
    }
    Ok(budgets)
}
