//! The server's own database, `account.sqlite`: the list of budgets and counts of logins. Reads only;
//! columns that an older server's schema lacks read as empty. Secrets are counted, never read.

use std::collections::BTreeMap;

use rusqlite::Connection;

/// One row of the server's table `files`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget {
    /// The server's id of it; part of the blob's name.
    pub id: String,
    /// The sync group; part of the group database's name. A budget that never synced has none.
    pub group_id: Option<String>,
    /// Its name as people see it.
    pub name: Option<String>,
    /// Whether it is end-to-end encrypted.
    pub encrypted: bool,
    /// Whether it is marked as deleted.
    pub deleted: bool,
}

/// What `account.sqlite` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Budgets, by id.
    pub budgets: Vec<Budget>,
    /// Rows of every table.
    pub rows: BTreeMap<String, u64>,
}

impl Account {
    /// Open sessions.
    pub fn sessions(&self) -> u64 {
        self.rows.get("sessions").copied().unwrap_or_default()
    }
}

/// Tables without which a database is not an account database.
pub const REQUIRED_TABLES: [&str; 3] = ["auth", "files", "sessions"];

/// Reads the account database.
pub fn read(connection: &Connection) -> rusqlite::Result<Account> {
    let tables: Vec<String> = connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut account = Account::default();
    for table in tables {
        let quoted = table.replace('"', "\"\"");
        let count: i64 =
            connection.query_row(&format!("SELECT count(*) FROM \"{quoted}\""), [], |row| row.get(0))?;
        account.rows.insert(table, u64::try_from(count).unwrap_or_default());
    }
    if account.rows.contains_key("files") {
        account.budgets = budgets(connection)?;
    }
    Ok(account)
}

fn budgets(connection: &Connection) -> rusqlite::Result<Vec<Budget>> {
    let known: Vec<String> = connection
        .prepare("SELECT name FROM pragma_table_info('files')")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let column = |name: &str| {
        if known.iter().any(|column| column == name) { format!("\"{name}\"") } else { "NULL".to_owned() }
    };
    let query = format!(
        "SELECT CAST({} AS TEXT), CAST({} AS TEXT), CAST({} AS TEXT), {} IS NOT NULL, coalesce({}, 0) <> 0 FROM files ORDER BY 1",
        column("id"),
        column("group_id"),
        column("name"),
        column("encrypt_keyid"),
        column("deleted"),
    );
    let mut statement = connection.prepare(&query)?;
    let rows = statement.query_map([], |row| {
        Ok(Budget {
            id: row.get::<_, Option<String>>(0)?.unwrap_or_default(),
            group_id: row.get(1)?,
            name: row.get(2)?,
            encrypted: row.get(3)?,
            deleted: row.get(4)?,
        })
    })?;
    rows.collect()
}
