//! Rows of single budgets: from the account database of a backup into a copy of the live server's one,
//! which no server has open. One transaction; what was written is read back before it counts, since a
//! database can bring along conflict clauses that make a statement do something else.
//!
//! Changes the one database that it is given. A crash in the middle leaves a staging tree that is thrown
//! away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cap_std::fs::Dir;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use super::account;
use super::layout;
use crate::host::sqlite::{self, ReadError};

/// More access rows of one budget are refused: no server has them.
const MAX_ACCESS: usize = 10_000;

const FILES: &str = "files";
const ACCESS: &str = "user_access";

/// The rows could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum SingleError {
    /// SQLite failed.
    #[error("cannot take a budget's rows over: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A database could not be opened.
    #[error(transparent)]
    Open(#[from] sqlite::SqliteError),
    /// A database could not be read.
    #[error("cannot take a budget's rows over: {0}")]
    Read(#[from] ReadError),
    /// The live database brings along something that computes when it is changed.
    #[error(
        "the live account database computes columns or indexes of its table '{table}': no server makes such a table"
    )]
    Computes {
        /// The table.
        table: &'static str,
    },
    /// The new budget is there already: people may have worked in it.
    #[error("the new budget {copy} that the plan makes is there already, and would be overwritten")]
    CopyIsThere {
        /// The id of the new budget.
        copy: String,
    },
    /// The backup is not what the plan was made for.
    #[error("the backup has no budget {budget} with the sync group {group} that the plan was made for")]
    OtherBudget {
        /// The budget.
        budget: String,
        /// Its group id in the plan.
        group: String,
    },
    /// The backup was made by a newer server.
    #[error(
        "budget {budget} has a value in the column '{column}', which the live server does not know: the backup was made by a newer server"
    )]
    UnknownColumn {
        /// The budget.
        budget: String,
        /// The column.
        column: String,
    },
    /// Another budget of the live server has the sync group.
    #[error(
        "the live server's budget {other} has the sync group {group} of the backup's budget {budget} already"
    )]
    GroupTaken {
        /// The budget of the backup.
        budget: String,
        /// Its sync group.
        group: String,
        /// The live budget.
        other: String,
    },
    /// It reads differently from what was written.
    #[error("the copied account database did not take the change: {what}")]
    NotTaken {
        /// What it says instead.
        what: &'static str,
    },
}

impl SingleError {
    /// Whether the cause is a full disk.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Open(error) => error.is_out_of_space(),
            Self::Read(_)
            | Self::Computes { .. }
            | Self::CopyIsThere { .. }
            | Self::OtherBudget { .. }
            | Self::UnknownColumn { .. }
            | Self::GroupTaken { .. }
            | Self::NotTaken { .. } => false,
        }
    }
}

/// A budget whose rows are taken over.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// Its id in the backup.
    pub budget: &'a str,
    /// Its sync group there, after `prepare`.
    pub group: &'a str,
    /// Id, sync group and name that it gets, where it comes as a new one.
    pub copy: Option<(&'a str, &'a str, &'a str)>,
}

impl Taken<'_> {
    /// The id that it has on the server after the restore.
    pub fn id(&self) -> &str {
        self.copy.map_or(self.budget, |(id, _, _)| id)
    }

    /// The sync group that it has then.
    pub fn group_after(&self) -> &str {
        self.copy.map_or(self.group, |(_, group, _)| group)
    }
}

/// What taking over did.
#[derive(Debug, Default)]
pub struct Rows {
    /// Sync groups that no budget has any more.
    pub left: BTreeSet<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Takes rows of budgets over from the account database below `from` into the one below `into`.
///
/// # Errors
/// [`SingleError::NotTaken`] where the list of budgets then differs in anything else, or not in this.
pub fn take(from: &Dir, into: &Dir, budgets: &[Taken<'_>]) -> Result<Rows, SingleError> {
    let backup = sqlite::open_immutable(from, Path::new(layout::ACCOUNT))?;
    let mut live = sqlite::open_private(into, Path::new(layout::ACCOUNT))?;
    let tables: BTreeSet<String> = sqlite::tables(&live)?.into_iter().collect();
    for table in [FILES, ACCESS] {
        if (table == FILES || tables.contains(table)) && !sqlite::is_plain(&live, table)? {
            return Err(SingleError::Computes { table });
        }
    }
    let transaction = live.transaction()?;
    let users = Users::of(&transaction, &tables)?;
    let mut rows = Rows::default();
    let mut expected: BTreeMap<String, account::Budget> =
        account::budgets(&transaction)?.into_iter().map(|budget| (budget.id.clone(), budget)).collect();
    let known = account::budgets(&backup)?;
    for one in budgets {
        let of = |budget: &&account::Budget| {
            budget.id == one.budget && budget.group_id.as_deref() == Some(one.group)
        };
        let found = known
            .iter()
            .find(of)
            .ok_or_else(|| SingleError::OtherBudget { budget: one.budget.into(), group: one.group.into() })?;
        let group = one.group_after();
        let taken =
            |other: &&account::Budget| other.id != one.id() && other.group_id.as_deref() == Some(group);
        if let Some(other) = expected.values().find(taken) {
            let (budget, group, other) = (one.budget.into(), group.to_owned(), other.id.clone());
            return Err(SingleError::GroupTaken { budget, group, other });
        }
        file_row(&backup, &transaction, one, &users, &mut rows)?;
        access_rows(&backup, &transaction, one, &users, &tables, &mut rows)?;
        let mut now = found.clone();
        one.id().clone_into(&mut now.id);
        now.group_id = Some(group.to_owned());
        if let Some((_, _, name)) = one.copy {
            now.name = Some(name.to_owned());
        }
        if let Some(before) = expected.insert(now.id.clone(), now) {
            rows.left.extend(before.group_id);
        }
    }
    if account::budgets(&transaction)? != expected.values().cloned().collect::<Vec<_>>() {
        return Err(SingleError::NotTaken { what: "its list of budgets is another one" });
    }
    let still: BTreeSet<&str> = expected.values().filter_map(|budget| budget.group_id.as_deref()).collect();
    rows.left.retain(|group| !still.contains(group.as_str()));
    transaction.commit()?;
    live.close().map_err(|(_, error)| SingleError::Sqlite(error))?;
    Ok(rows)
}

/// The live server's users.
struct Users(bool);

impl Users {
    fn of(live: &Connection, tables: &BTreeSet<String>) -> Result<Self, ReadError> {
        let has = tables.contains("users")
            && sqlite::stored_columns(live, "users")?.iter().any(|column| column == "id");
        Ok(Self(has))
    }

    fn has(&self, live: &Connection, user: &Value) -> Result<bool, rusqlite::Error> {
        if !self.0 || *user == Value::Null {
            return Ok(false);
        }
        let query = "SELECT 1 FROM users WHERE id = ?1";
        Ok(live.query_row(query, [user], |_| Ok(())).optional()?.is_some())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list(columns: &[String]) -> String {
    columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
}

/// The stored values of one row of `files`, by column.
fn stored(conn: &Connection, id: &str) -> Result<Option<BTreeMap<String, Value>>, SingleError> {
    let columns = sqlite::stored_columns(conn, FILES)?;
    let query = format!("SELECT {} FROM files WHERE id = ?1", list(&columns));
    let row = conn.query_row(&query, [id], |row| {
        (0..columns.len()).map(|at| row.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>()
    });
    Ok(row.optional()?.map(|values| columns.into_iter().zip(values).collect()))
}

/// Writes the row of `files`: values of the backup, and for columns that it lacks those of the live row.
fn file_row(
    backup: &Connection,
    live: &Connection,
    one: &Taken<'_>,
    users: &Users,
    rows: &mut Rows,
) -> Result<(), SingleError> {
    let other = || SingleError::OtherBudget { budget: one.budget.into(), group: one.group.into() };
    let mut values = stored(backup, one.budget)?.ok_or_else(other)?;
    let columns = sqlite::stored_columns(live, FILES)?;
    let before = stored(live, one.id())?;
    if one.copy.is_some() && before.is_some() {
        return Err(SingleError::CopyIsThere { copy: one.id().into() });
    }
    if let Some((column, _)) =
        values.iter().find(|(column, value)| !columns.contains(column) && **value != Value::Null)
    {
        return Err(SingleError::UnknownColumn { budget: one.budget.into(), column: column.clone() });
    }
    values.retain(|column, _| columns.contains(column));
    values.insert("id".into(), Value::Text(one.id().to_owned()));
    values.insert("group_id".into(), Value::Text(one.group_after().to_owned()));
    if let Some((_, _, name)) = one.copy {
        values.insert("name".into(), Value::Text(name.to_owned()));
    }
    if columns.iter().any(|column| column == "owner") {
        let was = values.get("owner").cloned().unwrap_or(Value::Null);
        let owner = owner(live, users, &was, before.as_ref())?;
        if owner == Value::Null && was != Value::Null {
            let id = one.id();
            rows.warnings.push(format!("the owner of budget {id} is no user any more: it has no owner now"));
        }
        values.insert("owner".into(), owner);
    }
    let names: Vec<String> = values.keys().cloned().collect();
    let written = if before.is_some() {
        let set: Vec<String> =
            names.iter().enumerate().map(|(at, name)| format!("{} = ?{}", quoted(name), at + 1)).collect();
        let query = format!("UPDATE files SET {} WHERE id = ?{}", set.join(", "), names.len() + 1);
        let id = Value::Text(one.id().to_owned());
        live.execute(&query, params_from_iter(values.values().chain([&id])))?
    } else {
        let marks: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
        let query = format!("INSERT INTO files ({}) VALUES ({})", list(&names), marks.join(", "));
        live.execute(&query, params_from_iter(values.values()))?
    };
    let now = stored(live, one.id())?.unwrap_or_default();
    if written != 1 || values.iter().any(|(column, value)| now.get(column) != Some(value)) {
        return Err(SingleError::NotTaken { what: "the budget's row is another one" });
    }
    Ok(())
}

/// The backup's owner if that is a user still, else the one that the budget has now, else none.
fn owner(
    live: &Connection,
    users: &Users,
    was: &Value,
    before: Option<&BTreeMap<String, Value>>,
) -> Result<Value, SingleError> {
    if users.has(live, was)? {
        return Ok(was.clone());
    }
    let now = before.and_then(|row| row.get("owner")).cloned().unwrap_or(Value::Null);
    Ok(if users.has(live, &now)? { now } else { Value::Null })
}

/// Who else may open the budget: as in the backup, of the users that are there still. A backup of a
/// server without such a list says nothing about it.
fn access_rows(
    backup: &Connection,
    live: &Connection,
    one: &Taken<'_>,
    users: &Users,
    tables: &BTreeSet<String>,
    rows: &mut Rows,
) -> Result<(), SingleError> {
    let columns = sqlite::stored_columns(backup, ACCESS)?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    if !tables.contains(ACCESS) || !has("user_id") || !has("file_id") {
        return Ok(());
    }
    let mut statement = backup
        .prepare(&format!("SELECT user_id FROM user_access WHERE file_id = ?1 LIMIT {}", MAX_ACCESS + 1))?;
    let found: Vec<Value> = statement.query_map([one.budget], |row| row.get(0))?.collect::<Result<_, _>>()?;
    if found.len() > MAX_ACCESS {
        return Err(ReadError::TooMany { what: "access rows of a budget", limit: MAX_ACCESS }.into());
    }
    let before = sqlite::count_rows(live, ACCESS)?;
    let deleted = live.execute("DELETE FROM user_access WHERE file_id = ?1", [one.id()])?;
    let (mut added, mut gone) = (0, 0_usize);
    for user in &found {
        if users.has(live, user)? {
            let id = Value::Text(one.id().to_owned());
            added +=
                live.execute("INSERT INTO user_access (user_id, file_id) VALUES (?1, ?2)", [user, &id])?;
        } else {
            gone += 1;
        }
    }
    if sqlite::count_rows(live, ACCESS)? + deleted as u64 != before + added as u64 {
        return Err(SingleError::NotTaken { what: "the list of who may open which budget is another one" });
    }
    if gone > 0 {
        let id = one.id();
        rows.warnings.push(format!("{gone} of those who could open budget {id} are no users any more"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;
    use tempfile::TempDir;

    use super::*;

    const SCHEMA: &str = "CREATE TABLE files (id TEXT PRIMARY KEY, group_id TEXT, name TEXT, encrypt_keyid TEXT, deleted BOOLEAN, owner TEXT);
        CREATE TABLE users (id TEXT PRIMARY KEY);
        CREATE TABLE user_access (user_id TEXT, file_id TEXT, PRIMARY KEY (user_id, file_id));";

    fn tree(sql: &str) -> (TempDir, Dir) {
        let temp = TempDir::new().unwrap();
        std::fs::create_dir_all(temp.path().join("server-files")).unwrap();
        let connection = Connection::open(temp.path().join(layout::ACCOUNT)).unwrap();
        connection.execute_batch(&format!("{SCHEMA}{sql}")).unwrap();
        drop(connection);
        let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        (temp, dir)
    }

    fn said(tree: &TempDir, query: &str) -> String {
        let connection = Connection::open(tree.path().join(layout::ACCOUNT)).unwrap();
        let query = format!("SELECT coalesce(group_concat(line, ';'), '') FROM ({query})");
        connection.query_row(&query, [], |row| row.get(0)).unwrap()
    }

    const BACKUP: &str = "INSERT INTO files VALUES ('b1', 'g1', 'Household', NULL, 0, 'ann'), ('b9', 'g9', 'x', NULL, 0, 'ann');
        INSERT INTO users VALUES ('ann'), ('bob'), ('eve');
        INSERT INTO user_access VALUES ('bob', 'b1'), ('eve', 'b1'), ('eve', 'b9');";
    const LIVE: &str = "INSERT INTO files VALUES ('b1', 'g0', 'Renamed', NULL, 0, 'bob'), ('b2', 'g2', 'Holiday', NULL, 0, 'bob');
        INSERT INTO users VALUES ('bob'); INSERT INTO user_access VALUES ('bob', 'b2');";
    const ROWS: &str = "SELECT id || ' ' || group_id || ' ' || name || ' ' || coalesce(owner, '-') AS line FROM files ORDER BY id";
    const ONE: Taken<'static> = Taken { budget: "b1", group: "g1", copy: None };

    #[test]
    fn rows_of_the_budget_alone_change_whatever_triggers_say() {
        let (_backup, from) = tree(BACKUP);
        let (live, into) = tree(&format!(
            "{LIVE} CREATE TRIGGER t AFTER UPDATE ON files BEGIN DELETE FROM files WHERE id = 'b2'; END;"
        ));
        let rows = take(&from, &into, &[ONE]).unwrap();
        assert_eq!(said(&live, ROWS), "b1 g1 Household bob;b2 g2 Holiday bob", "ann is no user any more");
        let access = "SELECT user_id || ' ' || file_id AS line FROM user_access ORDER BY 1";
        assert_eq!(said(&live, access), "bob b1;bob b2");
        assert_eq!(rows.left.iter().collect::<Vec<_>>(), ["g0"]);
        assert_eq!(rows.warnings.len(), 1, "{:?}", rows.warnings);
        // Again, as a step that is run twice does.
        assert!(take(&from, &into, &[ONE]).unwrap().left.is_empty());
    }

    #[test]
    fn a_copy_comes_beside_the_old_one() {
        let (_backup, from) = tree(BACKUP);
        let (live, into) = tree(LIVE);
        let copy = Taken { copy: Some(("new", "gnew", "Copy")), ..ONE };
        let rows = take(&from, &into, &[copy]).unwrap();
        assert_eq!(said(&live, ROWS), "b1 g0 Renamed bob;b2 g2 Holiday bob;new gnew Copy -");
        assert!(rows.left.is_empty());
        assert!(rows.warnings.iter().any(|warning| warning.contains("no owner")), "{:?}", rows.warnings);
    }

    #[test]
    fn a_newer_live_server_keeps_its_columns_and_an_older_one_refuses_what_it_does_not_know() {
        let (_backup, from) = tree(BACKUP);
        let (live, into) = tree(&format!(
            "{LIVE} ALTER TABLE files ADD COLUMN more TEXT DEFAULT 'd'; UPDATE files SET more = 'm';"
        ));
        assert!(take(&from, &into, &[ONE]).is_ok());
        assert_eq!(said(&live, "SELECT more AS line FROM files"), "m;m");
        let newer = format!("{BACKUP} ALTER TABLE files ADD COLUMN more TEXT;");
        let (_backup, from) = tree(&newer);
        let (_live, into) = tree(LIVE);
        assert!(take(&from, &into, &[ONE]).is_ok());
        let (_backup, from) = tree(&format!("{newer} UPDATE files SET more = 'data';"));
        let error = take(&from, &into, &[ONE]).unwrap_err();
        assert!(matches!(error, SingleError::UnknownColumn { .. }), "{error}");
    }

    #[test]
    fn what_is_not_as_planned_is_refused_and_nothing_changes() {
        let (_backup, from) = tree(BACKUP);
        let refused = |sql: &str, one: Taken<'_>| {
            let (live, into) = tree(sql);
            let before = said(&live, ROWS);
            let error = take(&from, &into, &[one]).unwrap_err();
            assert_eq!(said(&live, ROWS), before, "{error}");
            error
        };
        let error = refused(LIVE, Taken { group: "other", ..ONE });
        assert!(matches!(error, SingleError::OtherBudget { .. }), "{error}");
        let error = refused(&format!("{LIVE} UPDATE files SET group_id = 'g1' WHERE id = 'b2';"), ONE);
        assert!(matches!(error, SingleError::GroupTaken { .. }), "{error}");
        let error = refused(&format!("{LIVE} CREATE INDEX i ON files (name) WHERE name > 'a';"), ONE);
        assert!(matches!(error, SingleError::Computes { table: "files" }), "{error}");
        let conflict = "DROP TABLE files; CREATE TABLE files (id TEXT PRIMARY KEY, group_id TEXT, name TEXT UNIQUE ON CONFLICT REPLACE,
            encrypt_keyid TEXT, deleted BOOLEAN, owner TEXT); INSERT INTO files VALUES ('b1', 'g0', 'a', NULL, 0, NULL), ('b2', 'g2', 'Household', NULL, 0, NULL);";
        let error = refused(conflict, ONE);
        assert!(matches!(error, SingleError::NotTaken { .. }), "{error}");
    }
}
