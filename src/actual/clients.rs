//! What a restore does to clients and logins, in an unpacked tree that no server has open:
//! `clients: reset` gives budgets new sync groups, `sessions: revoke` ends all logins.
//!
//! Each change is read back before it counts: a database can bring along triggers, conflict clauses and
//! indexes that make a statement do something else, or nothing.
//!
//! Changes only the tree it is given. A crash in the middle leaves a staging tree that is thrown away.

use std::path::Path;

use cap_std::fs::Dir;
use rusqlite::Connection;

use super::account::{self, Budget};
use super::layout;
use crate::host::fs;
use crate::host::sqlite::{self, ReadError};

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
    /// It could not be read.
    #[error("cannot read the restored account database: {0}")]
    Read(#[from] ReadError),
    /// It brings along something that computes when it is changed.
    #[error(
        "the restored account database computes columns or indexes of its table '{table}': no server makes such a table"
    )]
    Computes {
        /// The table.
        table: &'static str,
    },
    /// It reads differently from what was written.
    #[error("the restored account database did not take the change: {what}")]
    NotTaken {
        /// What it says instead.
        what: &'static str,
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
    /// Whether its group database may be missing.
    pub may_lack: bool,
}

/// Gives budgets new sync groups: the row in `files` and the group database's name. Key ids of
/// encrypted budgets stay, or clients would refuse with `file-key-mismatch`.
///
/// # Errors
/// [`ClientsError::NotTaken`] where the list of budgets then differs in anything else, or not in this.
pub fn reset_groups(data: &Dir, groups: &[NewGroup<'_>]) -> Result<(), ClientsError> {
    let mut connection = open_plain(data, "files")?;
    let transaction = connection.transaction()?;
    let mut expected = account::budgets(&transaction)?;
    for group in groups {
        let budget = expected.iter_mut().find(|budget| budget.id == group.budget);
        let Some(budget) = budget.filter(|budget| budget.group_id.as_deref() == Some(group.from)) else {
            return Err(other_group(group));
        };
        let query = "UPDATE files SET group_id = ?1 WHERE id = ?2 AND group_id = ?3";
        if transaction.execute(query, [group.to, group.budget, group.from])? != 1 {
            return Err(other_group(group));
        }
        budget.group_id = Some(group.to.to_owned());
        rename(data, group, budget)?;
    }
    expected.sort();
    let mut found = account::budgets(&transaction)?;
    found.sort();
    if found != expected {
        return Err(ClientsError::NotTaken { what: "its list of budgets is another one" });
    }
    transaction.commit()?;
    close(connection)
}

fn other_group(group: &NewGroup<'_>) -> ClientsError {
    ClientsError::OtherGroup { budget: group.budget.into(), group: group.from.into() }
}

/// Gives a group database its new name. A deleted budget may have none, and one that the plan allows
/// to lack it.
fn rename(data: &Dir, group: &NewGroup<'_>, budget: &Budget) -> Result<(), ClientsError> {
    if [group.budget, group.from, group.to].iter().any(|id| !layout::is_plain_id(id)) {
        return Err(other_group(group));
    }
    let failed = |source| ClientsError::Rename { budget: group.budget.into(), source };
    let user_files = fs::open_dir(data, layout::USER_FILES).map_err(failed)?;
    let name = |id| layout::group(id).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match fs::rename_noreplace(&user_files, &name(group.from), &user_files, &name(group.to)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && (budget.deleted || group.may_lack) => {
            Ok(())
        }
        other => other.map_err(failed),
    }
}

/// Ends all logins.
///
/// # Errors
/// [`ClientsError::NotTaken`] where a login is left.
pub fn revoke_sessions(data: &Dir) -> Result<(), ClientsError> {
    let mut connection = open_plain(data, "sessions")?;
    let transaction = connection.transaction()?;
    transaction.execute("DELETE FROM sessions", [])?;
    if sqlite::count_rows(&transaction, "sessions")? != 0 {
        return Err(ClientsError::NotTaken { what: "it still holds logins" });
    }
    transaction.commit()?;
    close(connection)
}

/// Opens the account database for a change to one of its tables.
fn open_plain(data: &Dir, table: &'static str) -> Result<Connection, ClientsError> {
    let connection = sqlite::open_private(data, Path::new(layout::ACCOUNT))?;
    if !sqlite::is_plain(&connection, table)? {
        return Err(ClientsError::Computes { table });
    }
    Ok(connection)
}

fn close(connection: Connection) -> Result<(), ClientsError> {
    connection.close().map_err(|(_, error)| ClientsError::Sqlite(error))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use cap_std::ambient_authority;
    use tempfile::TempDir;

    use super::*;

    const PLAIN: &str = "CREATE TABLE sessions (token TEXT PRIMARY KEY); INSERT INTO sessions VALUES ('x'), ('y');
        CREATE TABLE files (id TEXT PRIMARY KEY, group_id TEXT, name TEXT, deleted INTEGER);
        INSERT INTO files VALUES ('b1', 'g1', 'Household', 0), ('b2', 'g2', 'Holiday', 0), ('b3', 'g3', 'Old', 1);";

    /// A data directory with this schema; the groups of the two live budgets have a file.
    fn tree(more: &str) -> (TempDir, Dir) {
        let temp = TempDir::new().unwrap();
        std::fs::create_dir_all(temp.path().join("server-files")).unwrap();
        std::fs::create_dir_all(temp.path().join("user-files")).unwrap();
        for group in ["g1", "g2"] {
            let file = layout::group(group);
            let path = temp.path().join(file);
            std::fs::File::create(path).unwrap().write_all(group.as_bytes()).unwrap();
        }
        let connection = Connection::open(temp.path().join(layout::ACCOUNT)).unwrap();
        connection.execute_batch(&format!("{PLAIN}{more}")).unwrap();
        drop(connection);
        let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        (temp, dir)
    }

    const BOTH: [NewGroup<'static>; 3] = [
        NewGroup { budget: "b1", from: "g1", to: "n1", may_lack: false },
        NewGroup { budget: "b2", from: "g2", to: "n2", may_lack: false },
        NewGroup { budget: "b3", from: "g3", to: "n3", may_lack: false },
    ];

    fn groups(tree: &TempDir) -> String {
        let connection = Connection::open(tree.path().join(layout::ACCOUNT)).unwrap();
        let query = "SELECT group_concat(group_id, ' ') FROM (SELECT group_id FROM files ORDER BY id)";
        connection.query_row(query, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn groups_are_new_and_logins_end_whatever_triggers_say() {
        let (tree, dir) = tree(
            "CREATE TRIGGER back AFTER UPDATE OF group_id ON files
                 BEGIN UPDATE files SET group_id = OLD.group_id WHERE id = OLD.id; END;
             CREATE TRIGGER stay BEFORE DELETE ON sessions BEGIN SELECT RAISE(IGNORE); END;",
        );
        reset_groups(&dir, &BOTH).unwrap();
        revoke_sessions(&dir).unwrap();
        assert_eq!(groups(&tree), "n1 n2 n3");
        assert_eq!(std::fs::read(tree.path().join(layout::group("n2"))).unwrap(), b"g2");
        assert!(!tree.path().join(layout::group("g1")).exists());
        let account =
            account::read(&sqlite::open_immutable(&dir, layout::ACCOUNT.as_ref()).unwrap()).unwrap();
        assert_eq!(account.sessions(), 0);
    }

    #[test]
    fn a_change_that_does_more_or_less_is_refused() {
        let refused = |schema: &str, groups: &[NewGroup<'_>]| {
            let (tree, dir) = tree(schema);
            let error = reset_groups(&dir, groups).unwrap_err();
            assert!(self::groups(&tree).starts_with("g1 g2"), "{error}");
            error
        };
        // A clause that removes the other budget.
        let unique = "DROP TABLE files; CREATE TABLE files (id TEXT PRIMARY KEY, group_id TEXT UNIQUE ON CONFLICT REPLACE);
            INSERT INTO files VALUES ('b1', 'g1'), ('b2', 'g2');";
        let error = refused(unique, &[NewGroup { to: "g2", ..BOTH[0] }]);
        assert!(matches!(error, ClientsError::Rename { .. } | ClientsError::NotTaken { .. }), "{error}");
        let conflict = "DROP TABLE files; CREATE TABLE files (id TEXT PRIMARY KEY, group_id TEXT,
            x INTEGER AS (1) STORED UNIQUE ON CONFLICT REPLACE); INSERT INTO files VALUES ('b2', 'g2');";
        let (_tree, dir) = tree(conflict);
        assert!(matches!(reset_groups(&dir, &BOTH[1..2]), Err(ClientsError::Computes { table: "files" })));
        let error = refused("CREATE INDEX p ON files (name) WHERE length(name) > 1;", &BOTH);
        assert!(matches!(error, ClientsError::Computes { .. }), "{error}");
        let error = refused("", &[NewGroup { from: "other", ..BOTH[0] }]);
        assert!(matches!(error, ClientsError::OtherGroup { .. }), "{error}");
        let error = refused("", &[NewGroup { to: "../x", ..BOTH[0] }]);
        assert!(matches!(error, ClientsError::OtherGroup { .. }), "{error}");
        let error = refused("UPDATE files SET deleted = 0;", &BOTH);
        assert!(matches!(error, ClientsError::Rename { .. }), "the third has no file: {error}");
        let (_tree, dir) = tree("DROP TABLE sessions; CREATE VIEW sessions AS SELECT id FROM files;");
        assert!(matches!(revoke_sessions(&dir), Err(ClientsError::Computes { table: "sessions" })));
    }
}
