//! SQLite files of an instance: looking into them, copying them while a server writes, bringing them
//! to rest.
//!
//! Everything here takes a directory handle and a name below it; no symbolic link is followed, neither on
//! the way nor in the last part. A database is hostile until proven otherwise: no code of its schema runs,
//! and reading it ends within a minute. [`settle`] changes the file it is given; all else leaves the file, its directory and its
//! companions (`-journal`, `-wal`, `-shm`) as they are. A crash inside [`settle`] leaves what SQLite
//! recovers from by itself; a crash inside [`fn@snapshot`] leaves a partial copy in the scratch directory.
//!
//! POSIX locks belong to the process and vanish when *any* descriptor of the file is closed. So no two
//! threads of this program may use the functions here on one file at the same time, and a connection of
//! [`open_read_only`] must be closed before another function opens the same file.

mod guard;
#[cfg(test)]
mod hostile_tests;
mod inspect;
mod snapshot;
mod tables;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::fs::Dir;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{Mode, OFlags, ResolveFlags};

pub use guard::{ReadError, StopGuard, stop_on};
pub use inspect::{
    DatabaseSummary, Messages, open_bytes, quick_check, quick_check_beside, summarize, summarize_connection,
};
pub use snapshot::{settle, snapshot};
pub use tables::{count_rows, is_plain, require, stored_columns, tables};

use super::fs::{FsError, IoContext as _};

/// How long to wait for a writer that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The first bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// By so many bytes a file is known: [`looks_like_sqlite`].
pub const MAGIC_BYTES: usize = MAGIC.len();
/// `SQLITE_CANTOPEN_SYMLINK`: the last look before SQLite's own opening was a lie by then.
const CANTOPEN_SYMLINK: i32 = rusqlite::ffi::SQLITE_CANTOPEN_SYMLINK;
/// The length of a database header.
const HEADER: usize = 100;

/// A database could not be read, copied or recovered.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum SqliteError {
    /// A file operation failed.
    #[error(transparent)]
    #[diagnostic(code(abssctl::sqlite::io), help("check space, permissions and the disk, then run it again"))]
    Io(#[from] FsError),
    /// The file is not an SQLite database.
    #[error("{} is not an SQLite database", .path.display())]
    #[diagnostic(
        code(abssctl::sqlite::not_a_database),
        help("restore a backup made before the file was damaged")
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// It is a symbolic link, or one leads to it.
    #[error("{} is a symbolic link, or lies behind one", .path.display())]
    #[diagnostic(
        code(abssctl::sqlite::link),
        help("put the file itself in place of the link: what a link refers to is never read or written")
    )]
    Linked {
        /// The name.
        path: PathBuf,
    },
    /// What should be its journal is no file.
    #[error("{} is not a file, and cannot belong to a database", .path.display())]
    #[diagnostic(
        code(abssctl::sqlite::odd_companion),
        help("find out who made it, and remove it: a server makes files only")
    )]
    Odd {
        /// The name.
        path: PathBuf,
    },
    /// Working on it did not end in time.
    #[error("{} took too long: it is damaged, or made to stall", .path.display())]
    #[diagnostic(
        code(abssctl::sqlite::too_long),
        help("restore another backup: `abssctl backup list`, `abssctl backup verify --all`")
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Somebody asked to stop.
    #[error("{}: stopped on request", .path.display())]
    #[diagnostic(code(abssctl::sqlite::stopped), help("run the same command again"))]
    Stopped {
        /// The file.
        path: PathBuf,
    },
    /// Checking it would run programs that the database brings along.
    #[error("{} has computed columns or virtual tables, and is not checked", .path.display())]
    #[diagnostic(
        code(abssctl::sqlite::computes),
        help("no server makes such tables; check it yourself on a machine that may be lost")
    )]
    Computes {
        /// The file.
        path: PathBuf,
    },
    /// Another process kept the database locked, or changed it again and again, for too long.
    #[error("{} is busy: another process holds or keeps changing it", .path.display())]
    #[diagnostic(code(abssctl::sqlite::busy), help("stop the service that writes to it, or try again later"))]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A journal or write-ahead log must be worked in first, which reading alone cannot do.
    #[error("{} has an unfinished transaction in its journal or write-ahead log", .path.display())]
    #[diagnostic(
        code(abssctl::sqlite::unsettled),
        help(
            "start and stop the server once, or take a backup: a backup holds the database as recovered from its journal"
        )
    )]
    Unsettled {
        /// The file.
        path: PathBuf,
    },
    /// The database's structure is damaged.
    #[error("{} is damaged: {}", .path.display(), .messages.join("; "))]
    #[diagnostic(
        code(abssctl::sqlite::corrupt),
        help("restore another backup: `abssctl backup list`, `abssctl backup verify --all`")
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The first of SQLite's messages.
        messages: Vec<String>,
    },
    /// SQLite refused for another reason.
    #[error("{}: {source}", .path.display())]
    #[diagnostic(
        code(abssctl::sqlite::failed),
        help("run `sqlite3 FILE 'PRAGMA integrity_check'` on a copy")
    )]
    Sql {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

impl SqliteError {
    /// Whether the cause is a full disk or an exhausted quota.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Io(error) if error.is_out_of_space())
    }

    /// Whether the machine is at fault and not the database: the disk, its space, who else works on it.
    pub fn is_environment(&self) -> bool {
        match self {
            Self::Io(_) | Self::Busy { .. } => true,
            Self::Sql { source, .. } => is_of_machine(source),
            Self::NotADatabase { .. }
            | Self::Linked { .. }
            | Self::Odd { .. }
            | Self::TooLong { .. }
            | Self::Stopped { .. }
            | Self::Computes { .. }
            | Self::Unsettled { .. }
            | Self::Corrupt { .. } => false,
        }
    }

    /// Whether the file itself is at fault: damaged, or no database at all.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::NotADatabase { .. } | Self::Corrupt { .. })
    }

    /// The same reason with the file's name.
    fn from_read(path: &Path, error: ReadError) -> Self {
        let path = path.to_owned();
        match error {
            ReadError::Sql(source) => Self::from_sql(&path, source),
            ReadError::TooLong => Self::TooLong { path },
            ReadError::Stopped => Self::Stopped { path },
            ReadError::TooLarge | ReadError::TooMany { .. } | ReadError::NoTable { .. } => {
                Self::Corrupt { path, messages: vec![error.to_string()] }
            }
        }
    }

    /// Sorts SQLite's own errors into ours.
    fn from_sql(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if source.sqlite_error().is_some_and(|error| error.extended_code == CANTOPEN_SYMLINK) {
            return Self::Linked { path };
        }
        let code = source.sqlite_error_code();
        match code {
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { path, messages: vec![source.to_string()] },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(ErrorCode::OperationInterrupted) if guard::is_stopped() => Self::Stopped { path },
            Some(ErrorCode::OperationInterrupted) => Self::TooLong { path },
            Some(ErrorCode::DiskFull) => {
                Self::Io(FsError { action: "write", path, source: io::ErrorKind::StorageFull.into() })
            }
            _ => Self::Sql { path, source },
        }
    }
}

/// Whether SQLite refused for the machine's sake: the disk, or who may read there.
pub fn is_of_machine(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
        )
    )
}

/// Whether a file begins as an SQLite database does.
pub fn is_database(file: &std::fs::File) -> io::Result<bool> {
    let mut beginning = [0; MAGIC_BYTES];
    match file.read_exact_at(&mut beginning, 0) {
        Ok(()) => Ok(looks_like_sqlite(&beginning)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether these first bytes of a file ([`MAGIC_BYTES`] suffice) are those of an SQLite database.
pub fn looks_like_sqlite(header: &[u8]) -> bool {
    header.starts_with(MAGIC)
}

/// What the names of a rollback journal, of a write-ahead log and of its shared memory end in.
const COMPANIONS: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Whether a file of this name may belong to a database beside it.
pub fn is_companion(name: &OsStr) -> bool {
    COMPANIONS.iter().any(|suffix| name.as_bytes().ends_with(suffix.as_bytes()))
}

/// The names beside a database that belong to it: rollback journal, write-ahead log, its shared memory.
pub fn companions(name: &Path) -> [PathBuf; 3] {
    COMPANIONS.map(|suffix| {
        let mut text = name.as_os_str().to_owned();
        text.push(suffix);
        PathBuf::from(text)
    })
}

/// The database that a rollback journal or write-ahead log of this name belongs to; `None` for other names.
pub fn accompanied(name: &Path) -> Option<PathBuf> {
    let name = name.as_os_str().as_bytes();
    let [journal, wal, _] = COMPANIONS;
    let base = [journal, wal].iter().find_map(|suffix| name.strip_suffix(suffix.as_bytes()))?;
    Some(PathBuf::from(OsStr::from_bytes(base)))
}

/// Opens a database for reading without creating or changing anything, also while a server uses it.
///
/// The connection has a busy timeout and does not trust the schema (no functions from views or
/// triggers with side effects). It waits for no writer that finishes within ten seconds.
///
/// # Errors
/// [`SqliteError::Unsettled`] where a hot journal or a write-ahead log with content would have to be
/// worked in first.
pub fn open_read_only(dir: &Dir, name: &Path) -> Result<Connection, SqliteError> {
    let path = location(dir, name);
    let source = open_file(dir, name)?;
    let header = header(&source, &path)?;
    let access = access(dir, name, &header)?.ok_or_else(|| SqliteError::Unsettled { path: path.clone() })?;
    // Before SQLite opens its own: closing this one later would drop SQLite's locks.
    drop(source);
    let conn = connect(dir, name, access)?;
    touch(&conn, &path)?;
    Ok(conn)
}

/// How SQLite may open a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Read-only with locks, beside a server that may write.
    Shared,
    /// Read-only without locks or any look at companions: nobody has it open.
    Immutable,
    /// For writing: a private copy, or recovery.
    Write,
}

/// Picks the access that reads everything and creates nothing; `None` where there is none.
///
/// In WAL mode SQLite creates a missing `-wal` or `-shm` even for a reader, so that mode is only
/// opened with locks where both exist, which they do while any process has the database open.
fn access(dir: &Dir, name: &Path, header: &[u8; HEADER]) -> Result<Option<Access>, SqliteError> {
    refuse_odd_companions(dir, name)?;
    let wal_mode = header[18] == 2 || header[19] == 2;
    let [_, wal, shm] = companions(name);
    let wal = size_of(dir, &wal)?;
    let shm = size_of(dir, &shm)?;
    Ok(match (wal_mode, wal, shm) {
        (false, None, _) | (_, Some(_), Some(_)) => Some(Access::Shared),
        (true, None, _) | (true, Some(0), None) => Some(Access::Immutable),
        (_, Some(_), None) => None,
    })
}

fn size_of(dir: &Dir, name: &Path) -> Result<Option<u64>, SqliteError> {
    match dir.symlink_metadata(name) {
        Ok(meta) => Ok(Some(meta.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("inspect", location(dir, name)).map_err(SqliteError::from),
    }
}

/// Where a name lies on this machine: for messages.
fn location(dir: &Dir, name: &Path) -> PathBuf {
    let handle = format!("/proc/self/fd/{}", dir.as_raw_fd());
    std::fs::read_link(handle).map_or_else(|_| name.to_owned(), |path| path.join(name))
}

/// Opens a regular file below a directory, following no link.
fn open_file(dir: &Dir, name: &Path) -> Result<std::fs::File, SqliteError> {
    open_with(dir, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(|(file, _)| file)
}

/// What tells one file from all others: device and inode.
type FileId = (u64, u64);

fn open_with(dir: &Dir, name: &Path, flags: OFlags) -> Result<(std::fs::File, FileId), SqliteError> {
    let path = location(dir, name);
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::LOOP) => return Err(SqliteError::Linked { path }),
        other => other.context("open", &path)?,
    };
    let file = std::fs::File::from(opened);
    let meta = file.metadata().context("inspect", &path)?;
    if !meta.is_file() {
        return Err(SqliteError::NotADatabase { path });
    }
    Ok((file, (meta.dev(), meta.ino())))
}

/// Refuses a companion that is no file: SQLite would open it by its name, and wait at a FIFO for ever.
fn refuse_odd_companions(dir: &Dir, name: &Path) -> Result<(), SqliteError> {
    for companion in companions(name) {
        let path = location(dir, &companion);
        match dir.symlink_metadata(&companion) {
            Ok(meta) if meta.is_file() => {}
            Ok(meta) if meta.is_symlink() => return Err(SqliteError::Linked { path }),
            Ok(_) => return Err(SqliteError::Odd { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("inspect", path).map_err(SqliteError::from),
        }
    }
    Ok(())
}

/// How many descriptors of this process are of a file.
fn times_open(id: FileId) -> io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        // One that another thread closed meanwhile was not of this file.
        let meta = std::fs::metadata(entry?.path());
        count += usize::from(meta.is_ok_and(|meta| (meta.dev(), meta.ino()) == id));
    }
    Ok(count)
}

/// Where a regular file really is, and which it is. Nothing is opened that would drop SQLite's locks
/// when it is closed.
fn find(dir: &Dir, name: &Path) -> Result<(PathBuf, FileId), SqliteError> {
    let (handle, id) = open_with(dir, name, OFlags::PATH)?;
    let real = std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    Ok((real.context("locate", location(dir, name))?, id))
}

/// Reads the header of a database and checks its magic.
fn header(file: &std::fs::File, path: &Path) -> Result<[u8; HEADER], SqliteError> {
    let mut header = [0; HEADER];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) if looks_like_sqlite(&header) => Ok(header),
        Ok(()) => Err(SqliteError::NotADatabase { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(SqliteError::NotADatabase { path: path.to_owned() })
        }
        Err(error) => Err(error).context("read", path).map_err(SqliteError::from),
    }
}

/// Opens a connection; nothing is read or locked yet.
///
/// SQLite takes names only. It gets the real one and is told to refuse links in it. Whoever owns a
/// directory on the way can exchange that between two looks of SQLite, so it is proven by its descriptor,
/// before anything is read, that SQLite has opened this very file.
fn connect(dir: &Dir, name: &Path, access: Access) -> Result<Connection, SqliteError> {
    let (real, id) = find(dir, name)?;
    refuse_odd_companions(dir, name)?;
    let open = |when| times_open(id).context(when, location(dir, name)).map_err(SqliteError::from);
    let before = open("look for")?;
    let (query, mode) = match access {
        Access::Shared => ("mode=ro&readonly_shm=1", OpenFlags::SQLITE_OPEN_READ_ONLY),
        Access::Immutable => ("mode=ro&immutable=1", OpenFlags::SQLITE_OPEN_READ_ONLY),
        Access::Write => ("mode=rw", OpenFlags::SQLITE_OPEN_READ_WRITE),
    };
    let flags = mode
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let opened = Connection::open_with_flags(format!("file:{}?{query}", percent_encoded(&real)), flags);
    let conn = opened
        .and_then(|mut conn| guard::harden(&mut conn).map(|()| conn))
        .map_err(|error| SqliteError::from_sql(&real, error))?;
    if find(dir, name)? != (real, id) || open("look for")? <= before {
        return Err(SqliteError::Busy { path: location(dir, name) });
    }
    Ok(conn)
}

fn percent_encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Reads the header through SQLite, which finds a journal that must be worked in first. It parses no
/// schema, so a damaged schema does not matter yet.
fn touch(conn: &Connection, path: &Path) -> Result<(), SqliteError> {
    let read = conn.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0));
    match read {
        Ok(_) => Ok(()),
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::FileLockingProtocolFailed)
            ) =>
        {
            Err(SqliteError::Unsettled { path: path.to_owned() })
        }
        Err(error) => Err(SqliteError::from_sql(path, error)),
    }
}

/// Opens a database of a private tree for writing: no server knows of it.
pub fn open_private(dir: &Dir, name: &Path) -> Result<Connection, SqliteError> {
    connect(dir, name, Access::Write)
}

/// Opens a database of a private tree for reading, without locks or any look at companions.
pub fn open_immutable(dir: &Dir, name: &Path) -> Result<Connection, SqliteError> {
    connect(dir, name, Access::Immutable)
}
