//! Where the sync server keeps what, below its data directory. Pure.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The server's own database: logins, sessions, the list of budgets.
pub const ACCOUNT: &str = "server-files/account.sqlite";

/// Migrations that the data has seen.
pub const MIGRATE: &str = ".migrate";

/// The server's configuration.
pub const CONFIG: &str = "config.json";

/// Where budgets lie.
pub const USER_FILES: &str = "user-files";

/// The budget itself, a zip or an encrypted one.
pub fn blob(budget: &str) -> PathBuf {
    Path::new(USER_FILES).join(format!("file-{budget}.blob"))
}

/// All changes of a sync group.
pub fn group(group: &str) -> PathBuf {
    Path::new(USER_FILES).join(format!("group-{group}.sqlite"))
}

/// Whether an id from a database can be a part of a file name here: one plain part.
pub fn is_plain_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 200 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// What a path below the data directory is to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A budget's blob: replaced by clients while the server runs.
    Blob,
    /// A SQLite database or a file beside one (`-journal`, `-wal`, `-shm`): written while it runs.
    Database,
    /// Anything else: a running server does not change it.
    Fixed,
}

/// Says what a path below the data directory is to the server, by its name.
pub fn role(path: &Path) -> Role {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let ends: [&[u8]; 3] = [b"-journal", b"-wal", b"-shm"];
    let base = ends.iter().find_map(|end| name.strip_suffix(*end)).unwrap_or(name);
    if base.ends_with(b".sqlite") || base.ends_with(b".sqlite3") || base.ends_with(b".db") {
        Role::Database
    } else if path.starts_with(USER_FILES) {
        // Uploads pass through temporary names in this directory.
        Role::Blob
    } else {
        Role::Fixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_by_name() {
        assert_eq!(role(Path::new("user-files/file-1.blob")), Role::Blob);
        assert_eq!(role(Path::new("user-files/group-1.sqlite")), Role::Database);
        assert_eq!(role(Path::new("user-files/group-1.sqlite-journal")), Role::Database);
        assert_eq!(role(Path::new("server-files/account.sqlite-wal")), Role::Database);
        assert_eq!(role(Path::new("config.json")), Role::Fixed);
        assert_eq!(role(Path::new(".migrate")), Role::Fixed);
    }

    #[test]
    fn ids_that_could_leave_the_directory_are_not_plain() {
        for bad in ["", "../x", "a/b", "a.b", "a\0", "é"] {
            assert!(!is_plain_id(bad), "{bad:?}");
        }
        assert!(is_plain_id("2a84e2f7-47ff-4dc7-ab99-5c78ea2ae3ef"));
    }
}
