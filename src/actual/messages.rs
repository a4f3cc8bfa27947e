//! A sync group's database: every change since the budget's blob, with a clear-text time even where
//! the content is encrypted (`2026-11-24T02:24:23.026Z-01B8-9a8a99a80b6872fa`: time, counter, client).
//! Reads only.

use rusqlite::Connection;

use crate::host::sqlite::{self, ReadError};

/// Tables without which a database is not a group database.
pub const REQUIRED_TABLES: [&str; 2] = ["messages_binary", "messages_merkles"];

/// Changes newer than a point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Newer {
    /// How many.
    pub count: u64,
    /// Timestamp of the first, as the client wrote it.
    pub first: Option<String>,
    /// Timestamp of the last.
    pub last: Option<String>,
}

const TABLE: &str = "messages_binary";
/// Timestamps are 46 characters long; more is not read.
const SHOWN: u32 = 100;

/// Proves that there are changes to ask for, as stored rows.
///
/// # Errors
/// [`ReadError::NoTable`]: a view or a computed column would be a program that this one then runs.
pub fn require(connection: &Connection) -> Result<(), ReadError> {
    sqlite::require(connection, TABLE, &["timestamp"])
}

/// How many changes the group holds.
pub fn count(connection: &Connection) -> Result<u64, ReadError> {
    require(connection)?;
    sqlite::count_rows(connection, TABLE)
}

/// Timestamp of the last change; `None` where there is none.
pub fn last(connection: &Connection) -> Result<Option<String>, ReadError> {
    require(connection)?;
    let query = format!("SELECT substr(max(timestamp), 1, {SHOWN}) FROM {TABLE}");
    Ok(connection.query_row(&query, [], |row| row.get(0))?)
}

/// Changes with a timestamp after `point`; all of them with `None`.
pub fn newer_than(connection: &Connection, point: Option<&str>) -> Result<Newer, ReadError> {
    require(connection)?;
    let query = format!(
        "SELECT count(*), substr(min(timestamp), 1, {SHOWN}), substr(max(timestamp), 1, {SHOWN}) \
         FROM {TABLE} WHERE timestamp > ?1"
    );
    let newer = connection.query_row(&query, [point.unwrap_or_default()], |row| {
        let count: i64 = row.get(0)?;
        Ok(Newer { count: u64::try_from(count).unwrap_or_default(), first: row.get(1)?, last: row.get(2)? })
    });
    Ok(newer?)
}
