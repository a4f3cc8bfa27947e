//! What a server answers when it works on a certain state, read from the state itself: which budgets there
//! are (`account.sqlite`), and the sum of all changes of a budget (its group database).

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// One state of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The names of the budgets, sorted.
    pub(crate) names: Vec<String>,
    /// The budget that every state has.
    pub(crate) file: String,
    pub(crate) group: String,
    /// The server's tree of sums over that budget's changes.
    pub(crate) sums: String,
}

/// The budget that every state of the fixture has.
const COMMON: &str = "Household";

impl State {
    /// Reads the state in the directory of an instance; the server must not be writing.
    pub(crate) fn of(instance: &Path) -> Self {
        let data = instance.join("data");
        let account = open(&data.join("server-files/account.sqlite"));
        let mut files = account.prepare("SELECT name, id, group_id FROM files WHERE deleted = 0").unwrap();
        let rows = files.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let rows: Vec<(String, String, String)> = rows.map(Result::unwrap).collect();
        let (_, file, group) = rows.iter().find(|row| row.0 == COMMON).unwrap().clone();
        let mut names: Vec<String> = rows.into_iter().map(|row| row.0).collect();
        names.sort();
        let changes = open(&data.join(format!("user-files/group-{group}.sqlite")));
        let sums = changes.query_row("SELECT merkle FROM messages_merkles", [], |row| row.get(0)).unwrap();
        Self { names, file, group, sums }
    }
}

fn open(database: &Path) -> Connection {
    Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}
