//! What is inside a database: rows, sync messages, soundness. Only reads; see the parent module for
//! what that takes.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use cap_std::fs::Dir;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, MAIN_DB};
use rustix::fs::Advice;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::{ReadError, WORK, harden, limit_work};
use super::tables::{computes, count_rows, stored_columns, tables};
use super::{Access, HEADER, SqliteError, connect, location, looks_like_sqlite, open_read_only};
use crate::host::fs::IoContext as _;

/// So much of a database is asked for before it is checked.
const READ_AHEAD: u64 = 256 << 20;
/// How many messages of `quick_check` are worth showing.
const SHOWN: usize = 5;

/// What a database holds, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseSummary {
    /// Rows of each ordinary table, by name: those that [`fn@super::tables`] names.
    pub tables: BTreeMap<String, u64>,
    /// The sync messages, where there is a table of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Messages>,
}

/// The sync messages of a group database (`messages_binary`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Messages {
    /// How many there are.
    pub count: u64,
    /// The least timestamp: time, counter and client, as the server stores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The greatest timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// Counts what a database holds.
///
/// `immutable`: nobody else has the file open (a staged or scratch copy), so no locks are taken and
/// companions are not looked at. Otherwise as [`open_read_only`].
///
/// # Errors
/// [`SqliteError::Unsettled`] as for [`open_read_only`].
pub fn summarize(dir: &Dir, name: &Path, immutable: bool) -> Result<DatabaseSummary, SqliteError> {
    let conn = if immutable { connect(dir, name, Access::Immutable)? } else { open_read_only(dir, name)? };
    summarize_connection(&conn).map_err(|error| SqliteError::from_read(&location(dir, name), error))
}

/// As [`summarize`], on an open connection, in one read transaction.
pub fn summarize_connection(conn: &Connection) -> Result<DatabaseSummary, ReadError> {
    let transaction = conn.unchecked_transaction()?;
    let mut summary = DatabaseSummary::default();
    for name in tables(&transaction)? {
        let count = count_rows(&transaction, &name)?;
        summary.tables.insert(name, count);
    }
    if let Some(&count) = summary.tables.get("messages_binary") {
        let first = timestamp(&transaction, "min")?;
        let last = timestamp(&transaction, "max")?;
        summary.messages = Some(Messages { count, first, last });
    }
    Ok(summary)
}

/// The least or greatest timestamp of the sync messages; `None` where there is none, or no such column.
fn timestamp(conn: &Connection, which: &str) -> Result<Option<String>, ReadError> {
    if !stored_columns(conn, "messages_binary")?.iter().any(|column| column == "timestamp") {
        return Ok(None);
    }
    let query = format!("SELECT substr({which}(timestamp), 1, 100) FROM messages_binary");
    let found = conn.query_row(&query, [], |row| {
        Ok(match row.get_ref(0)? {
            ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => None,
        })
    });
    Ok(found?)
}

/// Checks the structure of a database that nobody has open (`PRAGMA quick_check`); a journal beside it
/// is not looked at.
///
/// # Errors
/// [`SqliteError::Corrupt`] with SQLite's first messages, [`SqliteError::NotADatabase`];
/// [`SqliteError::Computes`] for a database whose check would run what it brings along.
pub fn quick_check(dir: &Dir, name: &Path) -> Result<(), SqliteError> {
    quick_check_beside(dir, name, 0)
}

/// As [`quick_check`], while databases of so many bytes are read from the same disk.
pub fn quick_check_beside(dir: &Dir, name: &Path, bytes: u64) -> Result<(), SqliteError> {
    let path = location(dir, name);
    let file = super::open_file(dir, name)?;
    super::header(&file, &path)?;
    let own = file.metadata().context("inspect", &path)?.len();
    let size = own.max(bytes);
    read_ahead(&file, own);
    drop(file);
    let mut conn = connect(dir, name, Access::Immutable)?;
    let sql = |error| SqliteError::from_sql(&path, error);
    // A large database on a slow disk is no attack: 4 MiB a second are granted on top.
    limit_work(&mut conn, WORK + Duration::from_secs(size >> 22)).map_err(sql)?;
    if computes(&conn).map_err(sql)? {
        return Err(SqliteError::Computes { path });
    }
    let messages = first_messages(&conn).map_err(sql)?;
    if messages == ["ok"] { Ok(()) } else { Err(SqliteError::Corrupt { path, messages }) }
}

/// Lets the system read a file from its disk at once, if it is not in memory: page by page, as SQLite asks for
/// them, a disk takes ten times as long. Only a wish.
fn read_ahead(file: &File, size: u64) {
    // No more is read at once, whatever is asked for.
    const PIECE: u32 = 128 << 10;
    for at in (0..size.min(READ_AHEAD)).step_by(PIECE as usize) {
        let _hint = rustix::fs::fadvise(file, at, NonZeroU64::new(PIECE.into()), Advice::WillNeed);
    }
}

fn first_messages(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(&format!("PRAGMA quick_check({SHOWN})"))?;
    let mut rows = statement.query([])?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        if messages.len() < SHOWN {
            messages.push(row.get_ref(0)?.as_bytes().map_or_else(
                |_| "unreadable message".to_owned(),
                |bytes| String::from_utf8_lossy(bytes).trim().replace('\n', "; "),
            ));
        }
    }
    Ok(messages)
}

/// Opens the bytes of a database file, as found inside an archive, in memory and read-only.
///
/// # Errors
/// [`SqliteError::NotADatabase`]; damage shows when it is read.
pub fn open_bytes(mut bytes: Vec<u8>) -> Result<Connection, SqliteError> {
    let path = Path::new("a database in memory");
    if bytes.len() < HEADER || !looks_like_sqlite(&bytes) {
        return Err(SqliteError::NotADatabase { path: path.to_owned() });
    }
    // A database in memory has no write-ahead log; the file's own pages are complete without it.
    for byte in &mut bytes[18..20] {
        if *byte == 2 {
            *byte = 1;
        }
    }
    let length = bytes.len();
    let open = || {
        let mut conn = Connection::open_in_memory()?;
        // The heap's limit first: the bytes lie in it.
        harden(&mut conn)?;
        conn.deserialize_read_exact(MAIN_DB, &bytes[..], length, true)?;
        Ok(conn)
    };
    open().map_err(|error| SqliteError::from_sql(path, error))
}
