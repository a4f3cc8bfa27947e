//! A consistent copy of a database that a server may be writing to, and recovery of one that a server
//! left in the middle of a transaction.
//!
//! [`snapshot`] only reads the live side; [`settle`] works in a journal in place.

use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use rustix::fs::FlockOperation;

use super::{
    Access, BUSY_TIMEOUT, HEADER, SqliteError, access, companions, connect, header, location, open_file,
    size_of, touch,
};
use crate::host::fs::{self, IoContext as _};

/// How often a copy is tried again because the file moved under it.
const ATTEMPTS: u32 = 5;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// What a rollback journal begins with, and ends with where the name of another file stands at its end.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Copies a database to `scratch/out` through SQLite's backup interface: one state of it, whole, also
/// while another process writes. The live file, its directory and its companions stay as they are.
///
/// A quiet database in rollback-journal mode comes out byte for byte. A hot journal, or a write-ahead
/// log that no process has open, is copied along and worked in on the copy's side. `out` must not exist.
///
/// # Errors
/// [`SqliteError::Busy`] where a writer holds the file for more than ten seconds.
pub fn snapshot(dir: &Dir, name: &Path, scratch: &Dir, out: &str) -> Result<(), SqliteError> {
    for _ in 0..ATTEMPTS {
        let attempt = match copy_pages(dir, name, scratch, out) {
            Err(SqliteError::Unsettled { .. }) => {
                discard(scratch, out)?;
                copy_and_recover(dir, name, scratch, out)
            }
            other => other,
        };
        match attempt {
            Ok(true) => return Ok(()),
            Ok(false) => discard(scratch, out)?,
            Err(error) => {
                // The first error says more than one about the partial copy would.
                drop(discard(scratch, out));
                return Err(error);
            }
        }
        sleep(PAUSE);
    }
    Err(SqliteError::Busy { path: location(dir, name) })
}

/// Copies through the backup interface; `false` where the file changed in a way that locks did not cover.
fn copy_pages(dir: &Dir, name: &Path, scratch: &Dir, out: &str) -> Result<bool, SqliteError> {
    let path = location(dir, name);
    // Declared first, so dropped last: closing it would drop the connection's locks.
    let source = open_file(dir, name)?;
    let before = Stamp::of(&source, &path)?;
    let how = access(dir, name, &header(&source, &path)?)?
        .ok_or_else(|| SqliteError::Unsettled { path: path.clone() })?;
    let live = connect(dir, name, how)?;
    let sql = |error| SqliteError::from_sql(&path, error);
    // One read transaction around it all: the backup and the header come from the same state.
    live.execute_batch("BEGIN").map_err(sql)?;
    touch(&live, &path)?;
    let [_, wal, _] = companions(name);
    let logged = how == Access::Shared && size_of(dir, &wal)?.is_some();
    let top = header(&source, &path)?;
    let target = location(scratch, Path::new(out));
    drop(fs::create_file(scratch, out, 0o600).context("create", &target)?);
    backup(&live, scratch, out, &path)?;
    if !logged {
        restore_header(scratch, out, &top)?;
    }
    if how == Access::Immutable {
        return Ok(size_of(dir, &wal)?.unwrap_or(0) == 0 && Stamp::of(&source, &path)? == before);
    }
    Ok(true)
}

fn backup(live: &Connection, scratch: &Dir, out: &str, path: &Path) -> Result<(), SqliteError> {
    let mut copy = connect(scratch, Path::new(out), Access::Write)?;
    let target = location(scratch, Path::new(out));
    let sql = |error| SqliteError::from_sql(if is_of_writing(&error) { &target } else { path }, error);
    copy.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY").map_err(sql)?;
    let deadline = Instant::now() + BUSY_TIMEOUT;
    {
        let backup = Backup::new(live, &mut copy).map_err(sql)?;
        while backup.step(-1).map_err(sql)? != StepResult::Done {
            if Instant::now() > deadline {
                return Err(SqliteError::Busy { path: path.to_owned() });
            }
            sleep(PAUSE);
        }
    }
    copy.close().map_err(|(_, error)| sql(error))
}

/// Whether the copy is at fault: nothing is ever written to the database that is copied.
fn is_of_writing(error: &rusqlite::Error) -> bool {
    let writing = [
        rusqlite::ffi::SQLITE_FULL,
        rusqlite::ffi::SQLITE_IOERR_WRITE,
        rusqlite::ffi::SQLITE_IOERR_FSYNC,
        rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC,
        rusqlite::ffi::SQLITE_IOERR_TRUNCATE,
    ];
    error.sqlite_error().is_some_and(|error| writing.contains(&error.extended_code))
}

/// The backup interface counts itself as a change (change counter, schema cookie, version): with the
/// source's own header back, an unchanged database has an unchanged digest.
fn restore_header(scratch: &Dir, out: &str, top: &[u8; HEADER]) -> Result<(), SqliteError> {
    let target = location(scratch, Path::new(out));
    let mut options = cap_std::fs::OpenOptions::new();
    options.write(true);
    let file = scratch.open_with(out, &options).context("open", &target)?.into_std();
    Ok(file.write_all_at(top, 0).context("write", &target)?)
}

/// Copies a database with its journals as files and lets SQLite recover the copy; `false` where a
/// process changed any of them meanwhile.
fn copy_and_recover(dir: &Dir, name: &Path, scratch: &Dir, out: &str) -> Result<bool, SqliteError> {
    let path = location(dir, name);
    let source = open_file(dir, name)?;
    // A read lock over the whole file, as SQLite's own readers hold it: no writer begins meanwhile.
    lock_shared(&source, &path)?;
    // Not the shared memory: SQLite makes it anew from the log.
    let [journal, wal, _] = companions(name);
    let [journal_out, wal_out, _] = companions(Path::new(out));
    let mut pairs = vec![(source, PathBuf::from(out))];
    for (live, copy) in [(&journal, journal_out), (&wal, wal_out)] {
        if size_of(dir, live)?.is_some() {
            pairs.push((open_file(dir, live)?, copy));
        }
    }
    let stamps = |pairs: &[(std::fs::File, PathBuf)]| {
        pairs.iter().map(|(file, _)| Stamp::of(file, &path)).collect::<Result<Vec<_>, _>>()
    };
    let before = stamps(&pairs)?;
    for (live, copy) in &pairs {
        let target = location(scratch, copy);
        let mut file = fs::create_file(scratch, copy, 0o600).context("create", &target)?;
        io::copy(&mut &*live, &mut file).context("copy to", &target)?;
    }
    let still = count_present(dir, &[journal, wal])? + 1 == pairs.len() && stamps(&pairs)? == before;
    drop(pairs);
    if still {
        settle(scratch, Path::new(out))?;
    }
    Ok(still)
}

fn lock_shared(file: &std::fs::File, path: &Path) -> Result<(), SqliteError> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) if Instant::now() < deadline => {
                sleep(PAUSE);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                return Err(SqliteError::Busy { path: path.to_owned() });
            }
            other => return Ok(other.context("lock", path)?),
        }
    }
}

/// Removes a partial copy.
fn discard(scratch: &Dir, out: &str) -> Result<(), SqliteError> {
    let out = Path::new(out);
    companions(out).iter().try_for_each(|name| remove(scratch, name))?;
    remove(scratch, out)
}

/// What changes when a file's content does.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64, i64, i64);

impl Stamp {
    fn of(file: &std::fs::File, path: &Path) -> Result<Self, SqliteError> {
        let meta = file.metadata().context("inspect", path)?;
        Ok(Self(meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
    }
}

/// Brings a database to rest in place: a hot journal is rolled back, a write-ahead log is worked in, and
/// afterwards no `-journal`, `-wal` or `-shm` is left. `false` where there was none to begin with.
///
/// # Atomicity
/// SQLite's own: a crash leaves the database and its journal, and the next opening recovers. That journal
/// and log are gone is not synced: the caller syncs the whole tree.
///
/// # Errors
/// [`SqliteError::Busy`] where another process has the database open.
pub fn settle(dir: &Dir, name: &Path) -> Result<bool, SqliteError> {
    let path = location(dir, name);
    let names = companions(name);
    if count_present(dir, &names)? == 0 {
        return Ok(false);
    }
    refuse_super_journal(dir, &names[0], &path)?;
    let conn = connect(dir, name, Access::Write)?;
    let sql = |error| SqliteError::from_sql(&path, error);
    touch(&conn, &path)?;
    let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(sql)?;
    if busy != 0 {
        return Err(SqliteError::Busy { path });
    }
    // With the writers' lock in hand, a journal that is still there is nobody's: SQLite looked at it
    // and found it finished.
    conn.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
    remove(dir, &names[0])?;
    conn.execute_batch("COMMIT").map_err(sql)?;
    conn.close().map_err(|(_, error)| SqliteError::from_sql(&path, error))?;
    if size_of(dir, &names[1])?.is_some() {
        // The last connection removes the log when it closes, so this was not the last.
        return Err(SqliteError::Busy { path });
    }
    remove(dir, &names[2])?;
    Ok(true)
}

/// A journal can name a file that SQLite removes after the rollback, wherever it lies. Only transactions
/// over several databases have one, and the server makes none.
fn refuse_super_journal(dir: &Dir, journal: &Path, database: &Path) -> Result<(), SqliteError> {
    if size_of(dir, journal)?.is_none() {
        return Ok(());
    }
    let file = open_file(dir, journal)?;
    let length = file.metadata().context("inspect", location(dir, journal))?.len();
    let mut end = [0; JOURNAL_MAGIC.len()];
    let Some(at) = length.checked_sub(end.len() as u64) else { return Ok(()) };
    file.read_exact_at(&mut end, at).context("read", location(dir, journal))?;
    if end == JOURNAL_MAGIC {
        let messages = vec!["its journal names a file outside of the database".to_owned()];
        return Err(SqliteError::Corrupt { path: database.to_owned(), messages });
    }
    Ok(())
}

fn count_present(dir: &Dir, names: &[PathBuf]) -> Result<usize, SqliteError> {
    names.iter().try_fold(0, |count, name| Ok(count + usize::from(size_of(dir, name)?.is_some())))
}

fn remove(dir: &Dir, name: &Path) -> Result<(), SqliteError> {
    match dir.remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context("remove", location(dir, name)).map_err(Into::into)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
