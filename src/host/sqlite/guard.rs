//! What stands between this program and a database that somebody else wrote: no code of its schema runs
//! (triggers, views, checks), no value and no schema is larger than a server makes them, no work goes on
//! for ever. Changes settings of connections only, and one limit of this process: the memory that all of
//! SQLite may use.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode};

use super::BUSY_TIMEOUT;
use crate::host::cancel::Cancel;

/// How long a connection may work, from its opening on.
pub(super) const WORK: Duration = Duration::from_secs(60);
/// The longest value or row; the server's are far smaller.
const MAX_VALUE: i32 = 16 << 20;
/// What all connections of this process may use together. Pages are cached in 2 MiB a connection.
const MAX_MEMORY: i64 = 256 << 20;
/// Steps of SQLite's machine between two looks at the clock: well below a millisecond.
const STEPS: i32 = 1000;

thread_local! {
    static STOP: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

/// Keeps a switch in force for the connections that this thread opens; see [`stop_on`].
#[derive(Debug)]
#[must_use = "the switch is in force while this is held"]
pub struct StopGuard(Option<Cancel>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        STOP.set(self.0.take());
    }
}

/// Connections that this thread opens while the guard is held stop their work once `cancel` is requested.
pub fn stop_on(cancel: &Cancel) -> StopGuard {
    StopGuard(STOP.replace(Some(cancel.clone())))
}

/// Why reading an open database ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It did not end in time.
    #[error("reading it took too long: it is damaged, or made to stall")]
    TooLong,
    /// Somebody asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// A value or the whole is larger than a server makes it.
    #[error("what it holds is too large: it is damaged, or made to exhaust the memory")]
    TooLarge,
    /// There are more rows than a server has.
    #[error("it holds more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many at most.
        limit: usize,
    },
    /// It is not what it should be: the table is missing, or a view or computed columns stand for it.
    #[error("it has no table '{table}' with stored columns {}", .columns.join(", "))]
    NoTable {
        /// The table.
        table: &'static str,
        /// What must be in it.
        columns: &'static [&'static str],
    },
    /// SQLite refused for another reason.
    #[error(transparent)]
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) if is_stopped() => Self::Stopped,
            Some(ErrorCode::OperationInterrupted) => Self::TooLong,
            Some(ErrorCode::TooBig | ErrorCode::OutOfMemory) => Self::TooLarge,
            _ => Self::Sql(error),
        }
    }
}

/// Whether somebody asked this thread's work to stop.
pub(super) fn is_stopped() -> bool {
    STOP.with_borrow(|stop| stop.as_ref().is_some_and(Cancel::is_requested))
}

/// Settings for a database that somebody else wrote.
pub(super) fn harden(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    for (setting, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        // Actions of foreign keys change rows as triggers do.
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
    ] {
        conn.set_db_config(setting, value)?;
    }
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
        (Limit::SQLITE_LIMIT_SCHEMA, 10_000),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
        (Limit::SQLITE_LIMIT_VDBE_OP, 1 << 20),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
    ] {
        conn.set_limit(limit, value)?;
    }
    limit_work(conn, WORK)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // Checks are expressions that a database brings along; `quick_check` would compute them row by row.
    conn.pragma_update(None, "ignore_check_constraints", true)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.query_row(&format!("PRAGMA hard_heap_limit = {MAX_MEMORY}"), [], |_| Ok(()))
}

/// Ends whatever the connection does once this much time has passed from now, or on request.
pub(super) fn limit_work(conn: &mut Connection, time: Duration) -> rusqlite::Result<()> {
    let (deadline, stop) = (Instant::now() + time, STOP.with_borrow(Clone::clone));
    let over = move || Instant::now() > deadline || stop.as_ref().is_some_and(Cancel::is_requested);
    conn.progress_handler(STEPS, Some(over))
}
