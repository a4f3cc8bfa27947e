//! A sync group's database: every change since the budget's blob, with a clear-text time even where
//! the content is encrypted (`2026-11-24T02:24:23.026Z-01B8-9a8a99a80b6872fa`: time, counter, client).
//! Reads only.

use rusqlite::{Connection, OptionalExtension as _};

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

/// How many changes the group holds.
pub fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = connection.query_row("SELECT count(*) FROM messages_binary", [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Timestamp of the last change; `None` where there is none.
pub fn last(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let query = "SELECT timestamp FROM messages_binary ORDER BY timestamp DESC LIMIT 1";
    connection.query_row(query, [], |row| row.get(0)).optional()
}

/// Changes with a timestamp after `point`; all of them with `None`.
pub fn newer_than(connection: &Connection, point: Option<&str>) -> rusqlite::Result<Newer> {
    let query = "SELECT count(*), min(timestamp), max(timestamp) FROM messages_binary WHERE timestamp > ?1";
    connection.query_row(query, [point.unwrap_or_default()], |row| {
        let count: i64 = row.get(0)?;
        Ok(Newer { count: u64::try_from(count).unwrap_or_default(), first: row.get(1)?, last: row.get(2)? })
    })
}
