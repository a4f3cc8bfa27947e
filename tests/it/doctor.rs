//! `doctor`: a sound machine has nothing to say; each thing that can be wrong is named, with what to type;
//! and nothing is changed by looking.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::resume;
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

/// Everything that `doctor` says, as one text.
fn said(root: &TestRoot) -> String {
    root.json(&["doctor"]).stdout
}

/// A run whose journal is a directory, a pipe, or behind a link to nowhere: the others are as sound as before.
#[test]
fn a_journal_that_cannot_be_read_hides_no_other_run() {
    let stray = "01M8J00000000000000000000A";
    let spoil: [fn(&std::path::Path); 3] = [
        |run| std::fs::create_dir_all(run.join("journal.jsonl")).unwrap(),
        |run| {
            std::fs::create_dir(run).unwrap();
            let _ = tool("mkfifo", &[run.join("journal.jsonl").to_str().unwrap()]);
        },
        |run| symlink("nowhere", run).unwrap(),
    ];
    for spoil in spoil {
        let root = TestRoot::new();
        let plan = root.plan(&[ZSTD]);
        let _ = root.apply(&plan).ok();
        spoil(&root.path("var/lib/abssctl/runs").join(stray));
        expect(&root, "run-damaged", &format!("the journal of run {stray} cannot be read"), 3);
        assert!(!said(&root).contains("unnamed-directory"), "{}", said(&root));
        let (sound, damaged): (Vec<Value>, Vec<Value>) =
            root.runs().into_iter().partition(|run| run["run"] != stray);
        assert_eq!((&sound[0]["outcome"], &damaged[0]["outcome"]), (&"applied".into(), &"damaged".into()));
        for run in [&sound[0], &damaged[0]] {
            let _ = root.run(&["run", "show", run["run"].as_str().unwrap()]).ok();
        }
        let other = root.plan(&[GZIP]);
        let _ = root.run(&["plan", "check", other.to_str().unwrap()]).ok();
        let _ = root.run(&["backup", "prune", "--keep", "1", "--dry-run"]).ok();
        let left = root.json(&["run", "recover"]).code(7).json();
        assert_eq!(left["runs"][0]["run"], stray, "{left:#}");
        // Something that no record names may be of that run, and is not to be removed.
        std::fs::create_dir(root.path("srv/.abssctl/displaced/01JZZZZZZZZZZZZZZZZZZZZZZZ")).unwrap();
        expect(&root, "unnamed-directory", "01JZZZ", 3);
        assert!(!said(&root).contains("remove it by hand"), "{}", said(&root));
    }
}

/// After the exchange `staging` holds the old tree: without its journal too.
#[test]
fn a_run_whose_journal_is_lost_did_not_change_nothing() {
    if resume::skip("doctor::a_run_whose_journal_is_lost_did_not_change_nothing") {
        return;
    }
    let root = TestRoot::new();
    let run = resume::exchanged(&root, &root.plan(&[ZSTD]));
    let journal = format!("var/lib/abssctl/runs/{run}/journal.jsonl");
    for gone in [false, true] {
        if gone {
            std::fs::remove_file(root.path(&journal)).unwrap();
        } else {
            root.write(&journal, "");
        }
        expect(&root, "run-damaged", &format!("the journal of run {run} is lost"), 3);
        let said = said(&root);
        assert!(!said.contains("changed nothing") && !said.contains("by hand"), "{said}");
        assert!(!said.contains("unnamed-directory"), "{said}");
        assert_eq!(root.runs()[0]["outcome"], "damaged");
        for command in ["resume", "rollback"] {
            let ran = root.json(&["run", command, &run, "--yes"]);
            let _ = ran.error(7, "abssctl::run::journal_lost", &["staging", "which that run made"]);
        }
        let _ = root.json(&["run", "recover"]).code(7);
    }
    // Nor where the plan went with it.
    std::fs::remove_file(root.path(format!("var/lib/abssctl/runs/{run}/plan"))).unwrap();
    expect(&root, "run-damaged", &format!("the journal of run {run} is lost"), 3);
}

#[test]
fn a_tree_of_a_run_on_record_belongs_to_it() {
    if resume::skip("doctor::a_tree_of_a_run_on_record_belongs_to_it") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    // In the middle of trying an exchange: no line tells of the directory yet.
    let options = ["-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:signal=KILL:when=1"];
    let ran = strace::run(&root.command(&["apply", plan.to_str().unwrap(), "--yes"]), &options);
    assert_eq!(ran.code, 137, "{}", ran.stderr);
    let run = resume::id(&resume::newest(&root));
    assert!(root.path(format!("srv/.abssctl/staging/{run}/try")).exists());
    expect(&root, "run-interrupted", &run, 3);
    assert!(!said(&root).contains("unnamed-directory"), "{}", said(&root));
}

#[test]
fn what_is_no_run_among_the_runs_is_named() {
    let root = TestRoot::new();
    let run = root.restore(&[ZSTD])["run"].as_str().unwrap().to_owned();
    let runs = root.path("var/lib/abssctl/runs");
    // A link to a run is one.
    std::fs::rename(runs.join(&run), root.path("var/lib/abssctl/elsewhere")).unwrap();
    symlink("../elsewhere", runs.join(&run)).unwrap();
    only_the_server(&root);
    assert_eq!(root.runs()[0]["outcome"], "applied");
    // In small letters it is none, and its tree is not to be removed.
    std::fs::rename(runs.join(&run), runs.join(run.to_lowercase())).unwrap();
    expect(&root, "not-a-run", &format!("is run {run} under another name"), 3);
    expect(&root, "unnamed-directory", &format!("displaced/{run}"), 3);
    assert!(!said(&root).contains("by hand"), "{}", said(&root));
    for command in ["list", "recover"] {
        let ran = root.run(&["run", command]).ok();
        assert!(ran.stderr.contains("has the name of none; see: abssctl doctor"), "{}", ran.stderr);
    }
    std::fs::remove_file(runs.join(run.to_lowercase())).unwrap();
    root.write("var/lib/abssctl/runs/notes.txt", "mine");
    expect(&root, "not-a-run", "notes.txt lies among the runs", 0);
    // All that is there is sound, and still it may be the old data.
    std::fs::remove_file(runs.join("notes.txt")).unwrap();
    assert!(said(&root).contains("compare it with the instance"), "{}", said(&root));
}
