//! Questions to a database that somebody else wrote, answered from stored bytes alone: a view or a
//! computed column is no answer, since it can be any program. Reads only.

use rusqlite::{Connection, OptionalExtension as _};

use super::ReadError;

/// How many tables are looked at; the server has about ten.
const MAX_TABLES: u32 = 1000;

/// Names of the ordinary tables, sorted: without SQLite's own, virtual ones, names longer than 100
/// characters, and what goes beyond the first thousand.
pub fn tables(conn: &Connection) -> Result<Vec<String>, ReadError> {
    let query = format!(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow') \
         AND substr(name, 1, 7) <> 'sqlite_' AND length(name) <= 100 ORDER BY name LIMIT {MAX_TABLES}"
    );
    let mut statement = conn.prepare(&query)?;
    let mut rows = statement.query([])?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        // A name that is not UTF-8 cannot be put into a statement; no server makes one.
        if let Ok(name) = row.get(0) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Names of the stored columns of an ordinary table; empty where there is no such table.
pub fn stored_columns(conn: &Connection, table: &str) -> Result<Vec<String>, ReadError> {
    let query = "SELECT c.name FROM pragma_table_list(?1) AS t, pragma_table_xinfo(t.name) AS c \
                 WHERE t.schema = 'main' AND t.type = 'table' AND t.name = ?1 AND c.hidden = 0";
    let mut statement = conn.prepare(query)?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Proves that an ordinary table has these columns stored.
///
/// # Errors
/// [`ReadError::NoTable`] where it has not.
pub fn require(
    conn: &Connection,
    table: &'static str,
    columns: &'static [&'static str],
) -> Result<(), ReadError> {
    let stored = stored_columns(conn, table)?;
    let has = |column: &&str| stored.iter().any(|stored| stored == column);
    if !stored.is_empty() && columns.iter().all(has) {
        return Ok(());
    }
    Err(ReadError::NoTable { table, columns })
}

/// Rows of a table, counted one by one.
pub fn count_rows(conn: &Connection, table: &str) -> Result<u64, ReadError> {
    let quoted = table.replace('"', "\"\"");
    // Plain `count(*)` is one step of SQLite's machine, which nothing could interrupt: a tree whose
    // branches meet again keeps it busy for ever. A limit makes it visit row by row.
    let query = format!("SELECT count(*) FROM (SELECT 1 FROM \"{quoted}\" LIMIT -1)");
    let count: i64 = conn.query_row(&query, [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Whether a change to a table computes nothing that the database brings along: no computed column, no
/// index over an expression or over a part of the rows.
pub fn is_plain(conn: &Connection, table: &str) -> Result<bool, ReadError> {
    let mut found = false;
    for query in [
        "SELECT 1 FROM pragma_table_xinfo(?1) WHERE hidden <> 0",
        "SELECT 1 FROM pragma_index_list(?1) WHERE partial",
        "SELECT 1 FROM pragma_index_list(?1) AS i, pragma_index_xinfo(i.name) AS c WHERE c.cid = -2",
    ] {
        found |= conn.query_row(query, [table], |_| Ok(())).optional()?.is_some();
    }
    Ok(!found && !stored_columns(conn, table)?.is_empty())
}

/// Whether checking the database would run programs that it brings along: computed columns, or the code
/// of virtual tables.
pub(super) fn computes(conn: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT 1 FROM pragma_table_list AS t WHERE t.schema = 'main' AND (t.type = 'virtual' \
                 OR t.type <> 'view' AND EXISTS \
                 (SELECT 1 FROM pragma_table_xinfo(t.name) AS c WHERE c.hidden <> 0)) LIMIT 1";
    Ok(conn.query_row(query, [], |_| Ok(())).optional()?.is_some())
}
