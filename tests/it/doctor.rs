//! `doctor`: a sound machine has nothing to say; each thing that can be wrong is named, with what to type;
//! and nothing is changed by looking.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::support::TestRoot;
use crate::support::root::{GZIP, INDEX, LIVE, LOG, NONE, REGISTRY, ZSTD};
use crate::support::strace::{self, Stopped};
use crate::support::tools::{skip_unless, tool};

/// The findings that are not good, as `code` and `message`.
fn findings(root: &TestRoot) -> Vec<(String, String)> {
    let found = root.json(&["doctor"]);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let bad = found["findings"].as_array().unwrap().iter().filter(|finding| finding["health"] != "good");
    bad.map(|finding| {
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        assert!(!text("help").is_empty(), "{finding}");
        (text("code"), text("message"))
    })
    .collect()
}

#[track_caller]
fn expect(root: &TestRoot, code: &str, message: &str, exit: i32) {
    let found = findings(root);
    assert!(found.iter().any(|(c, m)| c == code && m.contains(message)), "{code}: {found:#?}");
    let _ = root.run(&["doctor"]).code(exit);
}

/// What is always said of the fixture: its server is not installed here.
fn only_the_server(root: &TestRoot) {
    let found = findings(root);
    assert!(found.iter().all(|(code, _)| code == "server") && found.len() == 1, "{found:#?}");
}

#[test]
fn a_sound_machine_is_in_order_and_nothing_is_changed() {
    let root = TestRoot::new();
    let before = root.tree();
    only_the_server(&root);
    let said = root.run(&["doctor"]).ok();
    assert!(said.stdout.contains("4 backups are there"), "{}", said.stdout);
    before.assert_same(&root.tree(), "doctor");
    // Also after restores: what they keep is on record.
    let _ = root.restore(&[ZSTD]);
    only_the_server(&root);
}

#[test]
fn backups() {
    let root = TestRoot::new();
    let archive = |id: &str, end: &str| format!("srv/backups/budget/{id}.{end}");
    root.write(archive("20261124-022632-budget-000000", "tar.zst"), "nobody knows me");
    root.write("srv/backups/budget/.20261124-022632-budget-000001.partial", "half");
    expect(&root, "backup-unknown", "20261124-022632-budget-000000.tar.zst", 0);
    expect(&root, "backup-unfinished", ".20261124-022632-budget-000001.partial", 0);
    root.write(archive(NONE, "tar"), "short");
    std::fs::remove_file(root.path(archive(GZIP, "tar.gz"))).unwrap();
    expect(&root, "backup", "does not exist", 3);
    expect(&root, "backup", "has 5 bytes", 3);
    let _ = root.run(&["backup", "verify", "--all"]);
    expect(&root, "backup-unusable", GZIP, 0);
    root.write(INDEX, "{");
    expect(&root, "index", "backups.json", 3);
}

#[test]
fn instances() {
    let root = TestRoot::new();
    symlink("/etc", root.path("srv/.abssctl")).unwrap();
    expect(&root, "private-directory", "symbolic link", 3);
    std::fs::remove_file(root.path("srv/.abssctl")).unwrap();
    root.write("srv/budget/data/server-files/account.sqlite", "no database");
    expect(&root, "instance-budgets", "budget", 3);
    std::fs::rename(root.path(LIVE), root.path("srv/elsewhere")).unwrap();
    expect(&root, "instance-absent", "/srv/budget", 3);
    symlink("elsewhere", root.path(LIVE)).unwrap();
    expect(&root, "instance-directory", "symbolic link", 3);
    root.write(REGISTRY, "instances: 7\n");
    expect(&root, "registry", "instances.yml", 3);
}

#[test]
fn runs_and_leftovers() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    if skip_unless("doctor::runs_and_leftovers", strace::works(), "needs strace") {
        return;
    }
    let stopped =
        Stopped::after(&root.command(&["apply", plan.to_str().unwrap(), "--yes"]), "renameat2", None);
    expect(&root, "run-in-progress", "is at work", 0);
    expect(&root, "lock", "abssctl.lock is held by process", 0);
    let _ = tool("kill", &["-KILL", stopped.pid()]);
    drop(stopped.end());
    expect(&root, "run-interrupted", "was interrupted", 3);
    let _ = root.apply(&plan).ok();
    only_the_server(&root);
    std::fs::create_dir_all(root.path("srv/.abssctl/staging/01JZZZZZZZZZZZZZZZZZZZZZZZ")).unwrap();
    expect(&root, "unnamed-directory", "staging/01JZZZ", 0);
    std::fs::remove_dir(root.path("srv/.abssctl/staging/01JZZZZZZZZZZZZZZZZZZZZZZZ")).unwrap();
    expect(&root, "empty-directory", "/srv/.abssctl/staging is empty", 0);
    std::fs::remove_dir_all(root.path("srv/.abssctl/staging")).unwrap();
    root.write("srv/backups/.backups.json.abssctl-1.tmp", "{");
    expect(&root, "temporary-file", ".backups.json.abssctl-1.tmp", 0);
    root.write(LOG, root.read(LOG).trim_end());
    expect(&root, "log-torn", "operations.jsonl", 0);
    let runs = root.path("var/lib/abssctl/runs");
    std::fs::create_dir(runs.join("01JZZZZZZZZZZZZZZZZZZZZZZZ")).unwrap();
    expect(&root, "run-not-begun", "01JZZZ", 0);
    for run in std::fs::read_dir(&runs).unwrap() {
        let journal = run.unwrap().path().join("journal.jsonl");
        if journal.exists() {
            std::fs::write(journal, "{}\n").unwrap();
        }
    }
    expect(&root, "run-damaged", "is damaged at line 1", 3);
}

#[test]
fn the_machine() {
    let root = TestRoot::new();
    std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
    root.write("etc/abssctl/allowed_signers", "anna@example.org no-key\n");
    expect(&root, "signers", "line 1", 0);
    let _ = root.restore(&[ZSTD, "--retain", "0s"]);
    expect(&root, "displaced-due", "displaced", 0);
    let _ = root.run(&["run", "prune", "--yes"]).ok();
    assert!(!findings(&root).iter().any(|(code, _)| code == "displaced-due"));
    // A file where the logs should be is no directory for anybody, root or not.
    std::fs::remove_dir_all(root.path("var/log/abssctl")).unwrap();
    root.write("var/log/abssctl", "");
    expect(&root, "directory", "logs_dir", 3);
}

#[test]
fn a_missing_index_is_a_problem_and_no_archive_is_to_be_removed() {
    let root = TestRoot::new();
    std::fs::remove_file(root.path(INDEX)).unwrap();
    expect(&root, "index-absent", "backups.json", 3);
    assert!(!findings(&root).iter().any(|(code, _)| code == "backup-unknown"));
}

#[test]
fn what_makes_instances_unusable_is_named() {
    let root = TestRoot::new();
    let registry = root.read(REGISTRY);
    std::fs::remove_file(root.path(REGISTRY)).unwrap();
    expect(&root, "registry-absent", "although there are backups", 3);
    root.write(REGISTRY, &registry);
    let entry = registry.split_once("instances:\n").unwrap().1;
    let second = entry.replace("- name: budget", "- name: second");
    assert_ne!(entry, second, "{registry}");
    root.write(REGISTRY, format!("{registry}{second}"));
    expect(&root, "instances-shared", "budget (/srv/budget) and second (/srv/budget)", 3);
    root.write(REGISTRY, &registry);
    std::fs::remove_dir_all(root.path(LIVE)).unwrap();
    std::fs::create_dir(root.path(LIVE)).unwrap();
    expect(&root, "instance-empty", "/srv/budget", 3);
}

#[test]
fn a_configuration_that_is_wrong_is_one_problem() {
    let root = TestRoot::new();
    std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
    root.write("etc/abssctl/restore.yml", "no-such-key: 1\n");
    let found = findings(&root);
    assert!(found.len() == 1 && found[0].0 == "configuration", "{found:#?}");
    let _ = root.run(&["doctor"]).code(3);
}

/// A plan that a run keeps: its loss is named, and it is written over by nothing.
#[test]
fn the_plan_of_a_run() {
    let root = TestRoot::new();
    let done = root.restore(&[ZSTD]);
    let run = done["run"].as_str().unwrap().to_owned();
    let kept = root.path(format!("var/lib/abssctl/runs/{run}/plan"));
    let bytes = std::fs::read(&kept).unwrap();
    let refused = |args: &[&str], code: i32, what: &str| {
        let said = root.json(args).code(code);
        assert!(said.stdout.contains(what), "{}", said.stdout);
    };
    let name = kept.to_str().unwrap();
    refused(&["plan", "refresh", name], 2, "is the plan that a run keeps");
    refused(&["plan", "restore", ZSTD, "-o", name], 2, "is the plan that a run keeps");
    assert_eq!(std::fs::read(&kept).unwrap(), bytes);
    std::fs::write(&kept, "apiVersion: [").unwrap();
    refused(&["run", "resume", &run], 7, "cannot be loaded any more");
    std::fs::remove_file(&kept).unwrap();
    refused(&["run", "resume", &run], 7, "is gone");
    expect(&root, "run-plan", &run, 0);
}
