use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::ambient_authority;
use tempfile::TempDir;

use super::*;
use crate::ids::Sha256;

fn scratch() -> (TempDir, Dir) {
    let temp = TempDir::new().unwrap();
    let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
    (temp, dir)
}

fn fixture(name: &str) -> (TempDir, Dir) {
    let (temp, dir) = scratch();
    let archive = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let status = Command::new("tar").arg("-xpf").arg(archive).arg("-C").arg(temp.path()).status().unwrap();
    assert!(status.success());
    (temp, dir)
}

fn digest(path: &Path) -> Sha256 {
    Sha256::of(&std::fs::read(path).unwrap())
}

/// Every name with its content and modification time.
fn state(dir: &Path) -> Vec<(PathBuf, Option<Sha256>, std::time::SystemTime)> {
    let mut all = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                open.push(path.clone());
            }
            all.push((path.clone(), meta.is_file().then(|| digest(&path)), meta.modified().unwrap()));
        }
        all.push((next.clone(), None, next.metadata().unwrap().modified().unwrap()));
    }
    all.sort();
    all
}

fn make(path: &Path, mode: &str, rows: usize) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.pragma_update(None, "journal_mode", mode).unwrap();
    conn.execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)").unwrap();
    for row in 0..rows {
        conn.execute("INSERT INTO t (b) VALUES (?1)", [format!("{row:0500}")]).unwrap();
    }
    conn
}

#[test]
fn a_quiet_database_comes_out_byte_for_byte_and_stays_untouched() {
    let (live, dir) = fixture("budget-root.tar.gz");
    let data = fs_dir(&dir, "srv/budget/data");
    let before = state(live.path());
    let (out, scratch) = scratch();
    let names = ["server-files/account.sqlite".to_owned()].into_iter().chain(
        std::fs::read_dir(live.path().join("srv/budget/data/user-files"))
            .unwrap()
            .map(|entry| format!("user-files/{}", entry.unwrap().file_name().display()))
            .filter(|name| name.ends_with("sqlite")),
    );
    let mut count = 0;
    for name in names {
        snapshot(&data, Path::new(&name), &scratch, &format!("s{count}")).unwrap();
        let copy = out.path().join(format!("s{count}"));
        assert_eq!(digest(&copy), digest(&live.path().join("srv/budget/data").join(&name)), "{name}");
        count += 1;
    }
    assert_eq!((count, state(live.path())), (3, before));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 3);
}

fn fs_dir(dir: &Dir, name: &str) -> Dir {
    super::super::fs::open_dir(dir, name).unwrap()
}

/// The lines of a `sha256sum` file below `tests/fixtures`.
fn sums(name: &str) -> Vec<(Sha256, String)> {
    let text =
        std::fs::read_to_string(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    text.lines()
        .map(|line| line.split_once("  ./").unwrap())
        .map(|(digest, name)| (digest.parse().unwrap(), name.to_owned()))
        .collect()
}

#[test]
fn a_hot_journal_is_rolled_back_in_the_copy_only() {
    let (live, dir) = fixture("hot-journal.tar.gz");
    let before = state(live.path());
    let (out, scratch) = scratch();
    let mut recovered = 0;
    for (expected, name) in sums("hot-journal-rolled-back.sha256") {
        if Path::new(&name).extension().is_some_and(|extension| extension == "sqlite") {
            let hot = live.path().join(format!("{name}-journal")).exists();
            let read = summarize(&dir, Path::new(&name), false);
            assert_eq!(matches!(read, Err(SqliteError::Unsettled { .. })), hot, "{name}: {read:?}");
            let copy = format!("copy-{recovered}");
            snapshot(&dir, Path::new(&name), &scratch, &copy).unwrap();
            assert_eq!(digest(&out.path().join(&copy)), expected, "{name}");
            quick_check(&scratch, Path::new(&copy)).unwrap();
            recovered += 1;
        }
    }
    assert_eq!((recovered, state(live.path())), (3, before));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 3, "companions were left in scratch");
}

#[test]
fn settle_rolls_back_in_place_and_leaves_no_companion() {
    let (live, dir) = fixture("hot-journal.tar.gz");
    let mut changed = 0;
    for (expected, name) in sums("hot-journal-rolled-back.sha256") {
        if Path::new(&name).extension().is_some_and(|extension| extension == "sqlite") {
            changed += u32::from(settle(&dir, Path::new(&name)).unwrap());
            assert!(!settle(&dir, Path::new(&name)).unwrap(), "twice");
        }
        assert_eq!(digest(&live.path().join(&name)), expected, "{name}");
    }
    assert_eq!(changed, 1);
    assert!(state(live.path()).iter().all(|(path, ..)| !path.display().to_string().contains("-journal")));
}

/// Ends the writer also when an assertion fails, so that the test fails instead of hanging.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn snapshots_beside_a_busy_writer_are_sound_and_never_half_a_transaction() {
    for mode in ["delete", "persist", "wal"] {
        let (live, dir) = scratch();
        let path = live.path().join("db");
        drop(make(&path, mode, 50));
        let (_out, copies) = scratch();
        let stop = AtomicBool::new(false);
        let writes = std::thread::scope(|scope| {
            // Another process: inside this one, closing a descriptor would drop SQLite's locks.
            let mut child = Command::new("sqlite3")
                .arg(&path)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            let stop = &stop;
            let guard = StopOnDrop(stop);
            let writer = scope.spawn(move || {
                use std::io::Write as _;
                let mut rounds = 0_u32;
                input.write_all(b".timeout 10000\nPRAGMA synchronous=OFF;\n").unwrap();
                while !stop.load(Ordering::SeqCst) {
                    input
                        .write_all(
                            // Two come and two go, or a slow machine would fill its disk.
                            b"BEGIN IMMEDIATE; INSERT INTO t (b) VALUES (hex(randomblob(900))); \
                              INSERT INTO t (b) VALUES (hex(randomblob(900))); \
                              DELETE FROM t WHERE rowid IN (SELECT rowid FROM t ORDER BY rowid LIMIT 2); COMMIT;\n",
                        )
                        .unwrap();
                    rounds += 1;
                }
                rounds
            });
            for round in 0..20 {
                let name = format!("copy-{round}");
                snapshot(&dir, Path::new("db"), &copies, &name).unwrap();
                quick_check(&copies, Path::new(&name)).unwrap();
                let rows = summarize(&copies, Path::new(&name), true).unwrap().tables["t"];
                assert_eq!(rows % 2, 0, "{mode}: half a transaction");
                summarize(&dir, Path::new("db"), false).map_or_else(
                    |error| assert!(matches!(error, SqliteError::Unsettled { .. }), "{error:?}"),
                    drop,
                );
            }
            drop(guard);
            let rounds = writer.join().unwrap();
            child.wait().unwrap();
            rounds
        });
        assert!(writes > 20, "{mode}: the writer stood still");
    }
}

#[test]
fn a_write_ahead_log_is_read_whether_or_not_somebody_has_it_open() {
    let (live, dir) = scratch();
    let (out, copies) = scratch();
    let path = live.path().join("db");
    let conn = make(&path, "wal", 10);
    assert!(std::fs::metadata(live.path().join("db-wal")).unwrap().len() > 0);
    // A copy of the files, as a dead process leaves them.
    for name in ["db", "db-wal"] {
        std::fs::copy(live.path().join(name), live.path().join(name.replace("db", "dead"))).unwrap();
    }
    // The shared memory too, as after `kill -9`; of another time, so that SQLite would write it anew.
    for name in ["db", "db-wal"] {
        std::fs::copy(live.path().join(name), live.path().join(name.replace("db", "killed"))).unwrap();
    }
    let shm = std::fs::File::create(live.path().join("killed-shm")).unwrap();
    shm.set_len(32768).unwrap();
    drop(conn);
    assert!(!live.path().join("db-wal").exists());
    let before = state(live.path());

    // Closed properly: no log, nothing may be created.
    assert_eq!(summarize(&dir, Path::new("db"), false).unwrap().tables["t"], 10);
    snapshot(&dir, Path::new("db"), &copies, "closed").unwrap();
    assert_eq!(digest(&out.path().join("closed")), digest(&path));
    // Dead with a log: only the copy is recovered.
    let unsettled = summarize(&dir, Path::new("dead"), false);
    assert!(matches!(unsettled, Err(SqliteError::Unsettled { .. })), "{unsettled:?}");
    snapshot(&dir, Path::new("dead"), &copies, "dead").unwrap();
    assert_eq!(summarize(&copies, Path::new("dead"), true).unwrap().tables["t"], 10);
    assert_eq!(summarize(&dir, Path::new("killed"), false).unwrap().tables["t"], 10);
    snapshot(&dir, Path::new("killed"), &copies, "killed").unwrap();
    assert_eq!(summarize(&copies, Path::new("killed"), true).unwrap().tables["t"], 10);
    assert_eq!(state(live.path()), before);

    assert!(settle(&dir, Path::new("dead")).unwrap());
    assert_eq!(summarize(&dir, Path::new("dead"), true).unwrap().tables["t"], 10);
    assert_eq!(state(live.path()).len(), before.len() - 1);
}

#[test]
fn a_finished_journal_goes_and_an_open_log_is_refused() {
    let (live, dir) = scratch();
    let path = live.path().join("db");
    drop(make(&path, "persist", 3));
    assert!(live.path().join("db-journal").exists());
    assert_eq!(summarize(&dir, Path::new("db"), false).unwrap().tables["t"], 3);
    let before = digest(&path);
    assert!(settle(&dir, Path::new("db")).unwrap());
    assert!(!live.path().join("db-journal").exists());
    assert_eq!(digest(&path), before);

    let other = make(&live.path().join("open"), "wal", 3);
    assert!(matches!(settle(&dir, Path::new("open")), Err(SqliteError::Busy { .. })));
    assert_eq!(other.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 3);
}

#[test]
fn summaries_count_rows_and_messages() {
    let (_live, dir) = fixture("budget-root.tar.gz");
    let users = fs_dir(&dir, "srv/budget/data/user-files");
    let group = Path::new("group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite");
    let summary = summarize(&users, group, false).unwrap();
    assert_eq!(summary.tables["messages_binary"], 945);
    let messages = summary.messages.clone().unwrap();
    assert_eq!(messages.count, 945);
    assert!(messages.first.as_deref().unwrap().starts_with("2026-11-24T"));
    assert!(messages.first < messages.last);
    let bytes = users.read(group).unwrap();
    assert_eq!(summarize_connection(&open_bytes(bytes).unwrap()).unwrap(), summary);
    let json = serde_json::to_string(&summary).unwrap();
    assert_eq!(serde_json::from_str::<DatabaseSummary>(&json).unwrap(), summary);
}

#[test]
fn bytes_of_a_database_in_wal_mode_open_read_only() {
    let (live, _dir) = scratch();
    drop(make(&live.path().join("db"), "wal", 4));
    let conn = open_bytes(std::fs::read(live.path().join("db")).unwrap()).unwrap();
    assert_eq!(summarize_connection(&conn).unwrap().tables["t"], 4);
    assert!(conn.execute("DELETE FROM t", []).is_err());
    assert!(matches!(open_bytes(vec![0; 200]), Err(SqliteError::NotADatabase { .. })));
    assert!(matches!(open_bytes(Vec::new()), Err(SqliteError::NotADatabase { .. })));
}

#[test]
fn damage_is_named() {
    let (live, dir) = scratch();
    let path = live.path().join("db");
    drop(make(&path, "delete", 200));
    quick_check(&dir, Path::new("db")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 64], 4096 * 3).unwrap();
    let damaged = quick_check(&dir, Path::new("db")).unwrap_err();
    assert!(matches!(&damaged, SqliteError::Corrupt { messages, .. } if !messages.is_empty()), "{damaged}");
    assert!(damaged.is_damage());
    file.set_len(60).unwrap();
    assert!(matches!(quick_check(&dir, Path::new("db")), Err(SqliteError::NotADatabase { .. })));
    let missing = snapshot(&dir, Path::new("none"), &dir, "out").unwrap_err();
    assert!(matches!(missing, SqliteError::Io(ref error) if error.is_not_found()), "{missing}");
}

#[test]
fn links_and_odd_names_are_handled() {
    let (live, dir) = scratch();
    let odd = std::ffi::OsStr::from_bytes(b"q?#%20 \xff.sqlite");
    drop(make(&live.path().join("db"), "delete", 1));
    std::fs::copy(live.path().join("db"), live.path().join(odd)).unwrap();
    std::os::unix::fs::symlink("db", live.path().join("link")).unwrap();
    std::fs::create_dir(live.path().join("d")).unwrap();
    assert_eq!(summarize(&dir, Path::new(odd), false).unwrap().tables["t"], 1);
    snapshot(&dir, Path::new(odd), &dir, "copy").unwrap();
    assert_eq!(digest(&live.path().join("copy")), digest(&live.path().join("db")));
    for name in ["link", "d", "../db", "/etc/passwd"] {
        assert!(open_read_only(&dir, Path::new(name)).is_err(), "{name}");
        assert!(quick_check(&dir, Path::new(name)).is_err(), "{name}");
        assert!(snapshot(&dir, Path::new(name), &dir, "out").is_err(), "{name}");
    }
}
