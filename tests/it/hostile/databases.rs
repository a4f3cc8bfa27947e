//! Databases that somebody wrote to do harm, in an archive that is sound in every other way, and in the
//! live directory: nothing is written or read through a link, no code of a database runs, no plan is
//! stalled, and nothing of it floods a plan or a message.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::archive::{MADE, Member, make, members};
use crate::support::root::{LIVE, ZSTD};
use crate::support::{Ran, TestRoot};

const ACCOUNT: &str = "data/server-files/account.sqlite";

/// The harmless members with these statements run in the database of that name.
fn with_sql(root: &TestRoot, end: &str, sql: &str) {
    let mut all = members(root);
    let member: &mut Member = all.iter_mut().find(|member| member.below().ends_with(end)).unwrap();
    let path = root.work("hostile.sqlite");
    std::fs::write(&path, &member.bytes).unwrap();
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    member.bytes = std::fs::read(&path).unwrap();
    make(root, &all);
}

/// Runs the program with a gigabyte of addresses and a minute of computing at most.
fn confined(root: &TestRoot, args: &[&str]) -> Ran {
    let command = root.command(args);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 1000000 -t 60; exec \"$0\" \"$@\""]);
    limited.arg(command.get_program()).args(command.get_args()).arg("--json").env_clear();
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap());
    }
    Ran::of(&mut limited)
}

/// The plan as the program writes it to a file, made in confinement.
fn planned(root: &TestRoot, id: &str) -> Value {
    let path = root.work("plan.json");
    let _ = confined(root, &["plan", "restore", id, "-o", path.to_str().unwrap()]).ok();
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

/// The run was begun and undone, for this reason; the live directory is as it was.
fn rolled_back(ran: &Ran, root: &TestRoot, code: &str, words: &[&str]) -> Value {
    let error = ran.error(4, "abssctl::apply::rolled_back", words);
    assert_eq!(error["cause"]["code"], code, "{error:#}");
    root.assert_no_private();
    error
}

#[test]
fn nothing_is_written_through_a_link_that_stands_for_a_database() {
    let root = TestRoot::new();
    let victim = root.work("victim.sqlite");
    std::fs::copy(root.path(LIVE).join(ACCOUNT), &victim).unwrap();
    let before = std::fs::read(&victim).unwrap();
    std::fs::remove_file(root.path(LIVE).join(ACCOUNT)).unwrap();
    symlink(&victim, root.path(LIVE).join(ACCOUNT)).unwrap();
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let id = made["id"].as_str().unwrap();
    let restored = root.json(&["backup", "restore", id, "--sessions", "revoke", "--yes", "--no-pre-backup"]);
    let _ = rolled_back(&restored, &root, "abssctl::step::unsound", &["account.sqlite", "no regular file"]);
    assert_eq!(std::fs::read(&victim).unwrap(), before, "a file outside of the root was written");
    assert!(root.path(LIVE).join(ACCOUNT).is_symlink(), "a backup keeps a link as a link");
}

#[test]
fn a_live_database_that_is_a_link_is_not_read() {
    for near in [true, false] {
        let root = TestRoot::new();
        let live = root.path(LIVE).join(ACCOUNT);
        let elsewhere = if near { live.with_file_name("real.sqlite") } else { root.work("other.sqlite") };
        std::fs::rename(&live, &elsewhere).unwrap();
        symlink(if near { Path::new("real.sqlite") } else { &elsewhere }, &live).unwrap();
        let plan = planned(&root, ZSTD);
        let target = &plan["observed"]["target"];
        let why = target["budgetsUnreadable"].as_str().unwrap_or_default();
        assert!(why.contains("account.sqlite"), "{target:#}");
        assert!(!near || why.contains("symbolic link"), "{why}");
        assert!(target["budgets"].as_array().is_none_or(Vec::is_empty), "{target:#}");
        assert!(target["sessions"].is_null(), "{target:#}");
        // The restore puts a file in its place and leaves alone what the link meant.
        let before = std::fs::read(&elsewhere).unwrap();
        let _ = root.restore(&[ZSTD, "--sessions", "revoke"]);
        assert!(!live.is_symlink());
        assert!(near || std::fs::read(&elsewhere).unwrap() == before);
    }
}

#[test]
fn triggers_of_the_backup_do_not_undo_what_the_plan_says() {
    let root = TestRoot::new();
    with_sql(
        &root,
        "account.sqlite",
        "INSERT INTO sessions VALUES ('stolen', 9999999999, NULL, NULL);
         CREATE TRIGGER t1 AFTER UPDATE OF group_id ON files
             BEGIN UPDATE files SET group_id = OLD.group_id WHERE id = OLD.id; END;
         CREATE TRIGGER t2 BEFORE DELETE ON sessions BEGIN SELECT RAISE(IGNORE); END;",
    );
    let path = root.plan(&[MADE, "--clients", "reset", "--sessions", "revoke"]);
    let plan: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let _ = root.apply(&path).ok();
    let account = Connection::open(root.path(LIVE).join(ACCOUNT)).unwrap();
    let count = |query: &str| account.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM sessions"), 0);
    let group: String = account.query_row("SELECT group_id FROM files", [], |row| row.get(0)).unwrap();
    let prepare = plan["steps"].as_array().unwrap().iter().find(|step| step["kind"] == "prepare").unwrap();
    assert_eq!(prepare["with"]["groups"][0]["to"], group, "{prepare:#}");
    assert!(root.path(LIVE).join(format!("data/user-files/group-{group}.sqlite")).is_file());
}

#[test]
fn a_table_that_computes_is_not_changed() {
    let root = TestRoot::new();
    with_sql(&root, "account.sqlite", "CREATE INDEX odd ON files (length(group_id)) WHERE deleted = 0");
    let ran = root.json(&["backup", "restore", MADE, "--clients", "reset", "--yes"]);
    let _ = rolled_back(&ran, &root, "abssctl::step::clients", &["computes", "'files'"]);
    root.assert_generation("gen-b.sha256");
}

#[test]
fn views_and_computed_columns_stall_no_plan() {
    let endless = "ALTER TABLE messages_binary RENAME TO zz; CREATE VIEW messages_binary AS WITH RECURSIVE \
        c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS timestamp FROM c";
    let computed = "DROP TABLE messages_binary; CREATE TABLE messages_binary (k INTEGER PRIMARY KEY, \
        timestamp TEXT AS (printf('%.*c', 900000000, 'x')), is_encrypted, content);";
    for (sql, code, word) in [
        (endless.to_owned(), "abssctl::step::unsound", "messages_binary"),
        (computed.to_owned(), "abssctl::step::database", "computed"),
    ] {
        let root = TestRoot::new();
        with_sql(&root, "bec4983.sqlite", &sql);
        let plan = planned(&root, MADE);
        let budgets = plan["preview"]["budgets"].as_array().unwrap();
        let household = budgets.iter().find(|budget| budget["name"] == "Household").unwrap();
        assert!(household["changesNewer"].is_null(), "not known: {household:#}");
        let ran = confined(&root, &["backup", "restore", MADE, "--yes", "--no-pre-backup"]);
        let _ = rolled_back(&ran, &root, code, &[word]);
        root.assert_generation("gen-b.sha256");
    }
}

#[test]
fn a_live_database_that_computes_stalls_no_plan() {
    let root = TestRoot::new();
    let live = std::fs::read_dir(root.path(LIVE).join("data/user-files")).unwrap();
    let groups = live.map(|entry| entry.unwrap().path()).filter(|path| path.extension().unwrap() == "sqlite");
    for group in groups {
        Connection::open(group)
            .unwrap()
            .execute_batch(
                "DROP TABLE messages_binary; CREATE VIEW messages_binary AS WITH RECURSIVE \
                 c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS timestamp FROM c",
            )
            .unwrap();
    }
    let plan = planned(&root, ZSTD);
    for budget in plan["preview"]["budgets"].as_array().unwrap() {
        assert!(budget["changesNewer"].is_null(), "{budget:#}");
    }
    let _ = confined(&root, &["backup", "create", "budget"]).ok();
}

#[test]
fn checks_and_huge_values_exhaust_nothing() {
    let root = TestRoot::new();
    let bomb = "PRAGMA ignore_check_constraints = 1;
        CREATE TABLE bomb (x INTEGER PRIMARY KEY, CHECK (length(printf('%.*c', 300000000 + x, 'x')) > 0));
        WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3000)
        INSERT INTO bomb SELECT x FROM c";
    with_sql(&root, "bec4983.sqlite", bomb);
    let _ = confined(&root, &["backup", "restore", MADE, "--yes", "--no-pre-backup"]).ok();
    for size in [14_000_000, 30_000_000] {
        let root = TestRoot::new();
        let huge = format!(
            "INSERT INTO files (id, group_id, sync_version, deleted, name)
             VALUES ('nope', 'nogroup', 2, 0, replace(hex(zeroblob({}) ), '0', 'x'))",
            size / 2
        );
        with_sql(&root, "account.sqlite", &huge);
        let plan = planned(&root, MADE).to_string();
        assert!(plan.len() < 100_000, "a plan of {} bytes", plan.len());
        let ran = confined(&root, &["backup", "restore", MADE, "--yes", "--no-pre-backup"]);
        // A database that is too large to be looked into in memory is looked into where it was unpacked.
        if size < 16 << 20 {
            let _ = ran.error(2, "abssctl::apply::refused", &["has no blob"]);
        } else {
            let _ = rolled_back(&ran, &root, "abssctl::step::unsound", &[]);
        }
        assert!(ran.stdout.len() < 20_000, "an answer of {} bytes", ran.stdout.len());
    }
}

#[test]
fn ids_and_names_neither_flood_nor_steer() {
    let root = TestRoot::new();
    with_sql(
        &root,
        "account.sqlite",
        "INSERT INTO files (id, group_id, deleted, name)
             VALUES ('b', 'g', 0, char(27) || '[31m' || replace(hex(zeroblob(5000)), '0', 'y'));
         INSERT INTO files (id, deleted, name) VALUES ('../c' || char(27), 0, 'n')",
    );
    let ran = root.json(&["backup", "restore", MADE, "--yes"]);
    let words = ["[31myyy", "has no blob", "cannot be a file name"];
    let error = ran.error(2, "abssctl::apply::refused", &words);
    let message = error["message"].as_str().unwrap();
    assert!(message.len() < 1500 && !message.contains('\u{1b}'), "{message}");

    // Longer than any id that can be a file name: the planner says so or refuses, and no more.
    let id = "i".repeat(100_000);
    with_sql(&root, "account.sqlite", &format!("INSERT INTO files (id, group_id) VALUES ('{id}', '{id}')"));
    let ran = root.json(&["plan", "restore", MADE, "-o", "-"]);
    assert!(matches!(ran.code, 0 | 2), "{}", ran.stderr);
    assert!(ran.stdout.len() < 100_000 && ran.stderr.len() < 100_000);
}

#[test]
fn a_plan_for_a_flooded_live_tree_loads_and_says_so() {
    let root = TestRoot::new();
    root.sql(
        "srv/budget/data/server-files/account.sqlite",
        "INSERT INTO files (id, group_id, sync_version, deleted, name) VALUES (hex(zeroblob(5000)), 'g', 2, 0, hex(zeroblob(5000)))",
    );
    let plan = root.plan(&[ZSTD]);
    let shown = root.json(&["plan", "show", plan.to_str().unwrap()]).ok().json();
    assert!(shown["plan"]["observed"]["target"]["budgetsUnreadable"].is_string(), "{shown:#}");
}
