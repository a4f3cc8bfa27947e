//! Databases that somebody wrote to do harm: none of them is followed, run, or read without an end.

#![expect(clippy::disallowed_methods, reason = "tests make files as a hostile program does")]

use std::os::unix::fs::symlink;
use std::time::Instant;

use cap_std::ambient_authority;
use tempfile::TempDir;

use super::guard::limit_work;
use super::*;

fn scratch() -> (TempDir, Dir) {
    let temp = TempDir::new().unwrap();
    let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
    (temp, dir)
}

fn make(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn is_linked<T>(result: &Result<T, SqliteError>) -> bool {
    matches!(result, Err(SqliteError::Linked { .. }))
}

#[test]
fn nothing_is_read_or_written_through_a_link() {
    let (outside, _) = scratch();
    let victim = outside.path().join("victim");
    make(&victim, "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    let before = std::fs::read(&victim).unwrap();
    let (live, dir) = scratch();
    symlink(&victim, live.path().join("final")).unwrap();
    symlink(outside.path(), live.path().join("way")).unwrap();
    std::fs::copy(&victim, live.path().join("inside")).unwrap();
    symlink("inside", live.path().join("near")).unwrap();
    for name in ["final", "way/victim", "near"] {
        // So that `settle` has something to do.
        std::fs::write(outside.path().join("victim-journal"), b"").unwrap();
        std::fs::write(live.path().join(format!("{}-journal", name.replace('/', "-"))), b"").unwrap();
        let name = Path::new(name);
        assert!(is_linked(&open_private(&dir, name)), "{}", name.display());
        assert!(is_linked(&open_immutable(&dir, name)), "{}", name.display());
        assert!(is_linked(&open_read_only(&dir, name)), "{}", name.display());
        assert!(is_linked(&quick_check(&dir, name)), "{}", name.display());
        assert!(is_linked(&summarize(&dir, name, true)), "{}", name.display());
        assert!(is_linked(&snapshot(&dir, name, &dir, "out")), "{}", name.display());
        assert!(settle(&dir, name).is_err() || name == Path::new("way/victim"), "{}", name.display());
    }
    assert_eq!(std::fs::read(&victim).unwrap(), before);
    assert!(!live.path().join("out").exists());
    open_private(&dir, Path::new("inside")).unwrap();
}

#[test]
fn triggers_and_foreign_keys_do_not_act() {
    let (live, dir) = scratch();
    make(
        &live.path().join("db"),
        "CREATE TABLE t (a PRIMARY KEY); INSERT INTO t VALUES (1), (2);
         CREATE TABLE child (a REFERENCES t ON DELETE CASCADE); INSERT INTO child VALUES (1);
         CREATE TRIGGER keep BEFORE DELETE ON t BEGIN SELECT RAISE(IGNORE); END",
    );
    let conn = open_private(&dir, Path::new("db")).unwrap();
    assert_eq!(conn.execute("DELETE FROM t WHERE a = 1", []).unwrap(), 1);
    assert_eq!((count_rows(&conn, "t").unwrap(), count_rows(&conn, "child").unwrap()), (1, 1));
}

#[test]
fn views_and_computed_columns_are_no_tables() {
    let (live, dir) = scratch();
    let endless =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS timestamp FROM c";
    make(&live.path().join("view"), &format!("CREATE TABLE t (a); CREATE VIEW messages_binary AS {endless}"));
    make(
        &live.path().join("computed"),
        "CREATE TABLE messages_binary (k, timestamp TEXT AS (printf('%.*c', 100000000, 'x')));
         INSERT INTO messages_binary (k) VALUES (1), (2), (3)",
    );
    for name in ["view", "computed"] {
        let conn = open_read_only(&dir, Path::new(name)).unwrap();
        let found = require(&conn, "messages_binary", &["timestamp"]);
        assert!(matches!(found, Err(ReadError::NoTable { .. })), "{name}: {found:?}");
        let summary = summarize(&dir, Path::new(name), true).unwrap();
        assert!(summary.messages.is_none_or(|messages| messages.last.is_none()), "{name}");
        assert!(
            conn.query_row("SELECT max(timestamp) FROM messages_binary", [], |_| Ok(())).is_err(),
            "{name}"
        );
    }
    assert!(matches!(quick_check(&dir, Path::new("computed")), Err(SqliteError::Computes { .. })));
    make(&live.path().join("virtual"), "CREATE VIRTUAL TABLE v USING fts5(x)");
    assert!(matches!(quick_check(&dir, Path::new("virtual")), Err(SqliteError::Computes { .. })));
}

#[test]
fn checks_are_not_computed() {
    let (live, dir) = scratch();
    let rows =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3000) SELECT x FROM c";
    make(
        &live.path().join("db"),
        &format!(
            "PRAGMA ignore_check_constraints = 1;
             CREATE TABLE t (x INTEGER PRIMARY KEY, CHECK (length(printf('%.*c', 300000000 + x, 'x')) > 0));
             INSERT INTO t {rows}"
        ),
    );
    let started = Instant::now();
    quick_check(&dir, Path::new("db")).unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn plain_tables_are_told_from_those_that_compute() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(
        "CREATE TABLE plain (id TEXT PRIMARY KEY, a UNIQUE); CREATE INDEX i ON plain (a, id);
         CREATE TABLE computed (a, b AS (a + 1) STORED);
         CREATE TABLE part (a); CREATE INDEX p ON part (a) WHERE length(a) > 3;
         CREATE TABLE expression (a); CREATE INDEX e ON expression (lower(a));
         CREATE VIEW seen AS SELECT * FROM plain",
    )
    .unwrap();
    for (table, expected) in
        [("plain", true), ("computed", false), ("part", false), ("expression", false), ("seen", false)]
    {
        assert_eq!(is_plain(&conn, table).unwrap(), expected, "{table}");
    }
    assert!(!is_plain(&conn, "missing").unwrap());
}

#[test]
fn a_value_that_no_server_writes_is_refused() {
    let (live, dir) = scratch();
    make(&live.path().join("db"), "CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(20000000))");
    let conn = open_read_only(&dir, Path::new("db")).unwrap();
    let read = conn.query_row("SELECT a FROM t", [], |row| row.get::<_, Vec<u8>>(0));
    assert!(matches!(ReadError::from(read.unwrap_err()), ReadError::TooLarge));
    let many = (0..10_050).map(|n| format!("CREATE VIEW v{n} AS SELECT 1;")).collect::<String>();
    make(&live.path().join("many"), &format!("BEGIN; CREATE TABLE t (a); {many} COMMIT"));
    let conn = open_read_only(&dir, Path::new("many")).unwrap();
    assert!(tables(&conn).is_err(), "a schema without a bound");
}

/// A table whose pages lead to one and the same page each time: 60^17 rows in 20 pages.
fn forest(path: &Path) {
    make(
        path,
        "PRAGMA page_size = 512; CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(10000));
         CREATE TABLE leaf (a); INSERT INTO leaf VALUES (1)",
    );
    let root = |table: &str| {
        let conn = Connection::open(path).unwrap();
        let query = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        conn.query_row(query, [table], |row| row.get::<_, u32>(0)).unwrap()
    };
    let (first, leaf) = (root("t"), root("leaf"));
    // The pages of the large value, by their number.
    let chain: Vec<u32> = std::iter::once(first).chain((first + 1..).take(16)).collect();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    for (index, page) in chain.iter().enumerate() {
        let child = chain.get(index + 1).copied().unwrap_or(leaf);
        let mut bytes = [0_u8; 512];
        bytes[..8].copy_from_slice(&[5, 0, 0, 0, 60, 0, 0, 0]);
        bytes[8..12].copy_from_slice(&child.to_be_bytes());
        for cell in 0..60 {
            let at = 512 - 6 * (cell + 1);
            bytes[12 + 2 * cell..14 + 2 * cell].copy_from_slice(&u16::try_from(at).unwrap().to_be_bytes());
            bytes[at..at + 4].copy_from_slice(&child.to_be_bytes());
            bytes[at + 4] = 1;
        }
        bytes[5..7].copy_from_slice(&u16::try_from(512 - 360).unwrap().to_be_bytes());
        file.write_all_at(&bytes, u64::from(page - 1) * 512).unwrap();
    }
}

#[test]
fn counting_without_an_end_ends() {
    let (live, dir) = scratch();
    forest(&live.path().join("db"));
    let mut conn = open_read_only(&dir, Path::new("db")).unwrap();
    limit_work(&mut conn, Duration::from_millis(300)).unwrap();
    let started = Instant::now();
    let counted = count_rows(&conn, "t");
    assert!(matches!(counted, Err(ReadError::TooLong)), "{counted:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
    let text = SqliteError::from_read(Path::new("db"), counted.unwrap_err()).to_string();
    assert!(text.contains("took too long"), "{text}");
}

#[test]
fn a_request_to_stop_ends_the_work() {
    let (live, dir) = scratch();
    forest(&live.path().join("db"));
    let cancel = crate::host::cancel::Cancel::default();
    let guard = stop_on(&cancel);
    let conn = open_read_only(&dir, Path::new("db")).unwrap();
    let later = std::thread::spawn({
        let cancel = cancel.clone();
        move || {
            std::thread::sleep(Duration::from_millis(200));
            cancel.request();
        }
    });
    assert!(matches!(count_rows(&conn, "t"), Err(ReadError::Stopped)));
    later.join().unwrap();
    drop(guard);
    let conn = open_read_only(&dir, Path::new("db")).unwrap();
    assert_eq!(count_rows(&conn, "leaf").unwrap(), 1, "without the guard the switch is forgotten");
}

#[test]
fn a_journal_that_names_another_file_is_not_played_back() {
    let (live, dir) = scratch();
    make(&live.path().join("db"), "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    let page = std::fs::read(live.path().join("db")).unwrap()[..4096].to_vec();
    // As SQLite names such files: any other name it leaves alone by itself.
    let victim = live.path().join("victim-mj012345678");
    std::fs::write(&victim, b"precious").unwrap();
    let magic = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut journal = magic.to_vec();
    for number in [1_u32, 1, 2, 512, 4096] {
        journal.extend(number.to_be_bytes());
    }
    journal.resize(512, 0);
    let sum = (1..=19)
        .fold(1_u32, |sum, n| sum.wrapping_add(u32::from(page[4096 - 200 * n])))
        .wrapping_add(u32::from(page[4096 - 200 * 20]));
    journal.extend([&1_u32.to_be_bytes()[..], &page, &sum.to_be_bytes()].concat());
    let name = victim.to_str().unwrap().as_bytes();
    let name_sum: u32 = name.iter().map(|byte| u32::from(*byte)).sum();
    journal.extend(0x4000_0000_u32.div_euclid(4096).wrapping_add(1).to_be_bytes());
    journal.extend(name);
    journal.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
    journal.extend(name_sum.to_be_bytes());
    journal.extend(magic);
    std::fs::write(live.path().join("db-journal"), journal).unwrap();
    let refused = settle(&dir, Path::new("db"));
    assert!(matches!(refused, Err(SqliteError::Corrupt { .. })), "{refused:?}");
    let (_out, copies) = scratch();
    assert!(snapshot(&dir, Path::new("db"), &copies, "copy").unwrap_err().is_damage());
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
}
