//! `backup prune`: what stays, what goes, in which order, and what the peer's files say then.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::resume;
use crate::support::TestRoot;
use crate::support::root::{DATA_ONLY, GZIP, NONE, ZSTD};
use crate::support::strace::{self, Stopped};
use crate::support::tools::{skip_unless, tool};

fn ids(result: &Value, key: &str) -> Vec<String> {
    result[key].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

/// Names of the archives that are there.
fn archives(root: &TestRoot) -> BTreeSet<String> {
    let names = std::fs::read_dir(root.path("srv/backups/budget")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_newest_stay() {
    let root = TestRoot::new();
    let before = root.tree();
    let planned = root.json(&["backup", "prune", "--keep", "2", "--dry-run"]).ok().json();
    assert_eq!(ids(&planned, "results"), [ZSTD, GZIP], "the two oldest, oldest first");
    assert_eq!(planned["results"][0]["status"], "planned");
    before.assert_same(&root.tree(), "a dry run");
    let _ = root.json(&["backup", "prune", "--keep", "2"]).error(
        2,
        "abssctl::cli::no_terminal",
        &["nobody can be asked"],
    );
    before.assert_same(&root.tree(), "nobody said yes");

    let done = root.json(&["backup", "prune", "--keep", "2", "--yes"]).ok().json();
    assert_eq!(ids(&done, "results"), [ZSTD, GZIP]);
    assert_eq!(done["results"][0]["status"], "removed");
    for id in [ZSTD, GZIP] {
        let entry = root.entry(id);
        assert_eq!(entry["status"], "removed");
        assert!(entry["removed_at"].as_str().unwrap().ends_with('Z'), "{entry}");
        assert!(!archives(&root).iter().any(|name| name.contains(id)), "{:?}", archives(&root));
    }
    for id in [NONE, DATA_ONLY] {
        assert_eq!(root.entry(id)["status"], "available");
        let _ = root.run(&["backup", "verify", id]).ok();
    }
    let line = root.log().pop().unwrap();
    assert_eq!((&line["command"], &line["rc"]), (&Value::from("backup prune"), &Value::from(0)));
    assert_eq!(line["args"]["keep"], 2);
    assert_eq!(line["result"]["changed"], 2);
    // Again there is nothing to do, and what is gone cannot be restored.
    let again = root.json(&["backup", "prune", "--keep", "2", "--yes"]).ok().json();
    assert!(ids(&again, "results").is_empty());
    let _ = root.json(&["plan", "restore", ZSTD, "-o", "-"]).code(2);
}

#[test]
fn the_last_usable_one_always_stays() {
    let root = TestRoot::new();
    let done = root.json(&["backup", "prune", "--age", "0", "--yes"]).ok().json();
    assert_eq!(ids(&done, "results"), [ZSTD, GZIP, NONE]);
    assert_eq!(ids(&done, "spared"), [DATA_ONLY]);
    assert_eq!(root.entry(DATA_ONLY)["status"], "available");
    let _ = root.run(&["backup", "prune", "--keep", "0"]).code(2);
    let _ = root.run(&["backup", "prune"]).code(2);
    let _ = root.run(&["backup", "prune", "--keep", "1", "--instance", "nobody"]).code(2);
}

#[test]
fn a_damaged_backup_does_not_count_among_those_that_are_kept() {
    let root = TestRoot::new();
    let path = root.path(format!("srv/backups/budget/{DATA_ONLY}.tar.zst"));
    std::fs::write(path, "damaged").unwrap();
    let _ = root.run(&["backup", "verify", DATA_ONLY]).code(3);
    let done = root.json(&["backup", "prune", "--keep", "1", "--yes"]).ok().json();
    assert_eq!(ids(&done, "results"), [ZSTD, GZIP, DATA_ONLY]);
    assert_eq!(root.entry(NONE)["status"], "available");
}

#[test]
fn an_unfinished_run_keeps_its_backup() {
    if skip_unless("backup_prune::an_unfinished_run_keeps_its_backup", strace::works(), "needs strace") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    let command = root.command(&["apply", plan.to_str().unwrap(), "--yes"]);
    let stopped = Stopped::after(&command, "syncfs", None);
    let _ = tool("kill", &["-KILL", stopped.pid()]);
    drop(stopped.end());
    let done = root.json(&["backup", "prune", "--keep", "1", "--yes"]).ok().json();
    assert_eq!(ids(&done, "results"), [GZIP, NONE]);
    assert_eq!(ids(&done, "spared"), [ZSTD]);
    let _ = root.apply(&plan).ok();
    root.assert_generation("gen-a.sha256");
}

/// The pre-backup of a run in the middle is the way back, wherever its journal is damaged.
#[test]
fn a_damaged_journal_keeps_what_its_run_may_need() {
    if resume::skip("backup_prune::a_damaged_journal_keeps_what_its_run_may_need") {
        return;
    }
    let root = TestRoot::new();
    let other = root.work("other.json");
    let _ = root.plan_to(&[GZIP], &other).ok();
    let run = resume::exchanged(&root, &root.plan(&[ZSTD]));
    let way_back = root.runs()[0]["preBackup"].as_str().unwrap().to_owned();
    // A newer one, so that the pre-backup is not the last that stays.
    let _ = root.json(&["backup", "create", "budget"]).ok();
    let prune = || root.json(&["backup", "prune", "--keep", "1", "--dry-run"]).ok().json();
    let journal = format!("var/lib/abssctl/runs/{run}/journal.jsonl");
    let sound = root.read(&journal);
    // The last line may be one that a crash tore.
    for line in 0..sound.lines().count() {
        let damaged: String = sound.lines().enumerate().fold(String::new(), |text, (at, record)| {
            let record =
                if at + 1 == line { record.replace("\"seq\":", "\"sEq\":") } else { record.to_owned() };
            text + &record + "\n"
        });
        root.write(&journal, damaged);
        let found = prune();
        let kept = ids(&found, "spared");
        assert!(kept.contains(&ZSTD.to_owned()) && kept.contains(&way_back), "line {line}: {found:#}");
        // Those that were there before the run, and that it does not read, are nothing to it.
        assert_eq!(ids(&found, "results"), [GZIP, NONE, DATA_ONLY], "line {line}");
        // No other plan begins over it.
        let check = root.run(&["plan", "check", other.to_str().unwrap()]);
        assert_eq!(
            check.code,
            if line == 0 { 5 } else { 7 },
            "line {line}: {}{}",
            check.stdout,
            check.stderr
        );
    }
    // Without its plan nobody knows whose it was and what it read.
    std::fs::remove_file(root.path(format!("var/lib/abssctl/runs/{run}/plan"))).unwrap();
    root.write(&journal, "{}\n");
    assert!(ids(&prune(), "results").is_empty());
    let _ = root.run(&["plan", "check", other.to_str().unwrap()]).code(7);
}

#[test]
fn what_a_killed_prune_left_is_named_and_removed() {
    let root = TestRoot::new();
    root.edit_entry(ZSTD, |entry| entry["status"] = "removed".into());
    let said = root.json(&["doctor"]).ok().json().to_string();
    assert!(said.contains("backup-removed") && said.contains(ZSTD), "{said}");
    let done = root.json(&["backup", "prune", "--keep", "9", "--yes"]).ok().json();
    assert_eq!(ids(&done, "results"), [ZSTD]);
    assert!(!archives(&root).iter().any(|name| name.contains(ZSTD)));
    assert!(!root.json(&["doctor"]).ok().json().to_string().contains("backup-removed"));
}

#[test]
fn an_archive_that_cannot_be_removed_keeps_no_other() {
    let root = TestRoot::new();
    let archive = root.path(format!("srv/backups/budget/{ZSTD}.tar.zst"));
    std::fs::remove_file(&archive).unwrap();
    std::fs::create_dir(&archive).unwrap();
    let done = root.json(&["backup", "prune", "--keep", "2", "--yes"]).code(3).json();
    assert_eq!(ids(&done, "results"), [GZIP]);
    assert!(done["errors"][0].as_str().unwrap().contains(ZSTD), "{done}");
}

#[test]
fn an_archive_that_is_not_what_the_index_says_saves_the_others() {
    let newest = format!("srv/backups/budget/{DATA_ONLY}.tar.zst");
    // Gone, of another size, and of the right size with another byte in it.
    for damage in [None, Some(0), Some(100)] {
        let root = TestRoot::new();
        let path = root.path(&newest);
        let mut bytes = std::fs::read(&path).unwrap();
        match damage {
            None => std::fs::remove_file(&path).unwrap(),
            Some(0) => std::fs::write(&path, "").unwrap(),
            Some(at) => {
                bytes[at] ^= 1;
                std::fs::write(&path, &bytes).unwrap();
            }
        }
        let ran = root.json(&["backup", "prune", "--keep", "1", "--yes"]);
        // Whatever went, one that can be restored is there, and was read to its end.
        assert!(archives(&root).contains(&format!("{NONE}.tar")), "{damage:?}: {}", ran.stdout);
        let _ = root.run(&["backup", "verify", NONE]).ok();
        if damage == Some(100) {
            assert!(ran.code == 3 && ran.stdout.contains("not what the index says"), "{}", ran.stdout);
            assert!(archives(&root).contains(&format!("{ZSTD}.tar.zst")), "nothing of the instance went");
        }
    }
}

#[test]
fn nothing_goes_but_the_file_that_is_the_backups_own() {
    let own = format!("/srv/backups/budget/{DATA_ONLY}.tar.zst");
    for path in [own.as_str(), "/srv/backups/backups.json", "/srv/precious"] {
        let root = TestRoot::new();
        root.write("srv/precious", "mine");
        root.edit_entry(ZSTD, |entry| entry["path"] = path.into());
        let before = root.entry(ZSTD);
        let done = root.json(&["backup", "prune", "--keep", "1", "--yes"]).ok().json();
        assert!(ids(&done, "spared").contains(&ZSTD.to_owned()), "{path}: {done}");
        assert_eq!(root.entry(ZSTD), before, "{path}");
        assert!(root.path(&own).exists() && root.path("srv/precious").exists(), "{path}");
        let _ = root.run(&["backup", "verify", DATA_ONLY]).ok();
        // Nor where the entry says that it is removed already.
        root.edit_entry(ZSTD, |entry| entry["status"] = "removed".into());
        let _ = root.json(&["backup", "prune", "--keep", "9", "--yes"]).ok();
        assert!(root.path(&own).exists() && root.path("srv/precious").exists(), "{path}");
        assert_eq!(root.entry(DATA_ONLY)["status"], "available");
    }
}

#[test]
fn a_removed_backup_stays_removed_when_it_is_verified() {
    let root = TestRoot::new();
    let _ = root.json(&["backup", "prune", "--keep", "1", "--yes"]).ok();
    let said = root.json(&["backup", "verify", ZSTD]).code(3);
    assert!(said.stdout.contains("removed by a prune"), "{}", said.stdout);
    assert_eq!(root.entry(ZSTD)["status"], "removed");
    let _ = root.run(&["backup", "verify", "--all"]).ok();
}
