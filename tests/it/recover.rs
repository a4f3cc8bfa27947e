//! `run resume --all`: every interrupted run of a machine ends by itself, asks nobody and begins nothing anew.

use std::os::unix::net::UnixDatagram;

use serde_json::Value;

use crate::resume::{id, killed_at, newest, skip};
use crate::support::root::ZSTD;
use crate::support::{Ran, TestRoot};

/// A restore that is killed there; gives its run.
fn interrupted(root: &TestRoot, path: &str, calls: &str, more: &[&str]) -> String {
    let plan = root.plan(&[&[ZSTD, "--no-pre-backup"], more].concat());
    killed_at(root, &["apply", plan.to_str().unwrap(), "--yes"], &root.path(path), calls);
    id(&newest(root))
}

fn outcomes(value: &Value) -> Vec<(&str, &str)> {
    let runs = value["runs"].as_array().unwrap().iter();
    runs.map(|run| (run["run"].as_str().unwrap(), run["outcome"].as_str().unwrap())).collect()
}

#[test]
fn what_had_swapped_is_finished_and_what_had_not_is_undone_without_a_question() {
    if skip("what_had_swapped_is_finished_and_what_had_not_is_undone_without_a_question") {
        return;
    }
    for (path, calls, outcome, generation) in [
        ("srv/backups", "renameat", "finished", "gen-a.sha256"),
        ("srv", "renameat2", "undone", "gen-b.sha256"),
    ] {
        let root = TestRoot::new();
        let run = interrupted(&root, path, calls, &[]);
        // No --yes, and nobody at a terminal.
        let value = root.json(&["run", "resume", "--all"]).ok().json();
        assert_eq!(outcomes(&value), [(run.as_str(), outcome)], "{value:#}");
        root.assert_generation(generation);
        assert!(!root.path("srv/.abssctl/staging").exists());
        // Nothing began anew.
        assert_eq!(root.runs().len(), 1);
        let before = root.tree();
        let again = root.run(&["run", "resume", "--all"]).ok();
        assert_eq!(again.stdout, "no run is unfinished\n");
        before.assert_same(&root.tree(), "a machine on which nothing is unfinished");
    }
}

#[test]
fn a_run_whose_plan_is_lost_waits_for_a_person() {
    if skip("a_run_whose_plan_is_lost_waits_for_a_person") {
        return;
    }
    let root = TestRoot::new();
    let run = interrupted(&root, "srv", "renameat2", &[]);
    std::fs::remove_file(root.path(format!("var/lib/abssctl/runs/{run}/plan"))).unwrap();
    let before = root.tree();
    let value = root.json(&["run", "resume", "--all"]).code(7).json();
    assert_eq!((outcomes(&value), &value["exitCode"]), (vec![(run.as_str(), "left")], &7.into()));
    assert!(value["runs"][0]["message"].as_str().unwrap().contains("is gone"), "{value:#}");
    before.assert_same(&root.tree(), "a run that nobody can go on with");
}

#[test]
fn a_halted_run_is_left_to_a_person() {
    if skip("a_halted_run_is_left_to_a_person") {
        return;
    }
    let root = TestRoot::new();
    let unit = "etc/systemd/system/abssctl-budget.service";
    root.write(unit, "[Service]\nUser=a\n");
    let run =
        interrupted(&root, "etc/systemd/system", "renameat", &["--with-assets", "--on-failure", "halt"]);
    // Somebody edits the unit, which is not written over.
    root.write(unit, "[Service]\nUser=b\n");
    for _ in 0..2 {
        let value = root.json(&["run", "resume", "--all"]).code(7).json();
        assert_eq!(outcomes(&value), [(run.as_str(), "halted")], "{value:#}");
        assert_eq!(std::fs::read_to_string(root.path(unit)).unwrap(), "[Service]\nUser=b\n");
    }
}

#[test]
fn the_service_manager_is_told_when_nothing_is_left() {
    let root = TestRoot::new();
    let path = root.work("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = root.command(&["run", "resume", "--all"]);
    let _ = Ran::of(command.env("NOTIFY_SOCKET", &path)).ok();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
}

#[test]
fn one_of_both_is_asked_for() {
    let root = TestRoot::new();
    assert_eq!(root.run(&["run", "resume"]).code, 2);
    assert_eq!(root.run(&["run", "resume", "--all", "01M8HY6KR7541V7Q4KEYJ5C76C"]).code, 2);
}
