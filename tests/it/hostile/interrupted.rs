//! Signals, kills and a second apply at the same time: the live directory is the old tree or the new one
//! at every moment, and the same command brings the promised state.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::TestRoot;
use crate::support::root::{LIVE, Running, ZSTD};
use crate::support::strace::{self, Stopped};
use crate::support::sums;
use crate::support::tools::{have, skip_unless};

const INT: i32 = 2;
const TERM: i32 = 15;

fn skip(test: &str) -> bool {
    skip_unless(test, strace::works() && have("python3"), "no strace, no python3, or ptrace is not permitted")
}

fn apply_args(plan: &Path) -> [String; 4] {
    ["apply".into(), plan.display().to_string(), "--yes".into(), "--json".into()]
}

/// A run that has unpacked everything, and stands still.
fn unpacked(root: &TestRoot, plan: &Path) -> Stopped {
    Stopped::after(&root.command(&apply_args(plan)), "syncfs", None)
}

/// Old or new, whole: never anything between.
#[track_caller]
fn assert_old_or_new(root: &TestRoot) -> bool {
    let files = sums::of(&root.path(LIVE));
    let (old, new) = (files == sums::list("gen-b.sha256"), files == sums::list("gen-a.sha256"));
    assert!(old || new, "a mix: {files:#?}");
    new
}

fn stopped_by(signal: i32, exit: i32) {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let before = root.tree_but_records();
    let stopped = unpacked(&root, &plan);
    stopped.interrupt(signal);
    let ran = stopped.end();
    let error = ran.error(exit, "abssctl::apply::rolled_back", &["everything is as it was"]);
    assert_eq!(error["result"]["outcome"], "rolled_back");
    assert_eq!(error["cause"]["code"], "abssctl::step::cancelled", "{error:#}");
    before.assert_same(&root.tree_but_records(), "a signal");
    root.assert_no_private();
    assert_eq!(root.log().last().unwrap()["rc"], exit);
    assert_eq!(root.runs()[0]["outcome"], "rolled_back");
    let again = root.apply(&plan).ok().json();
    assert_eq!(again["outcome"], "applied");
    root.assert_generation("gen-a.sha256");
}

#[test]
fn the_first_interrupt_undoes_everything() {
    if !skip("the_first_interrupt_undoes_everything") {
        stopped_by(INT, 130);
    }
}

#[test]
fn a_request_to_terminate_undoes_everything() {
    if !skip("a_request_to_terminate_undoes_everything") {
        stopped_by(TERM, 143);
    }
}

#[test]
fn a_second_interrupt_ends_at_once_and_the_next_apply_goes_on() {
    if skip("a_second_interrupt_ends_at_once_and_the_next_apply_goes_on") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let before = root.live();
    // Once when everything is unpacked, and once more when that is being removed.
    let staging = root.path("srv/.abssctl/staging");
    let mut stopped =
        Stopped::when(&root.command(&apply_args(&plan)), "syncfs,unlinkat", None, || staging.exists());
    stopped.interrupt(INT);
    stopped.next();
    stopped.interrupt(INT);
    let ran = stopped.end();
    assert_eq!(ran.code, 130, "{}{}", ran.stdout, ran.stderr);
    before.assert_same(&root.live(), "two interrupts");
    let again = root.apply(&plan).ok().json();
    assert_eq!(again["outcome"], "applied");
    root.assert_generation("gen-a.sha256");
    assert!(!root.path("srv/.abssctl/staging").exists(), "nothing of the first run is left");
}

#[test]
fn a_signal_after_the_swap_and_before_the_record_puts_everything_back() {
    if skip("a_signal_after_the_swap_and_before_the_record_puts_everything_back") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    let before = root.tree_but_records();
    let displaced = root.path("srv/.abssctl/displaced");
    let stopped = Stopped::after(&root.command(&apply_args(&plan)), "renameat2", Some(&displaced));
    root.assert_generation("gen-a.sha256");
    stopped.interrupt(TERM);
    let ran = stopped.end();
    let _ = ran.error(143, "abssctl::apply::rolled_back", &["everything is as it was"]);
    before.assert_same(&root.tree_but_records(), "a signal after the swap");
    root.assert_no_private();
    let _ = root.apply(&plan).ok();
    root.assert_generation("gen-a.sha256");
}

/// Kills the program at a call of the kernel; the call itself does not happen any more.
fn killed_at(root: &TestRoot, plan: &Path, path: &Path, calls: &str) {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:signal=KILL:when=1"));
    let options = ["-o", "/dev/null", "-P", path.to_str().unwrap(), "-e", &trace, "-e", &inject];
    let ran = strace::run(&root.command(&apply_args(plan)), &options);
    assert_eq!(ran.code, 137, "it was killed: {}{}", ran.stdout, ran.stderr);
    let run = &root.runs()[0];
    assert_eq!(run["outcome"], "interrupted", "{run:#}");
}

/// What another plan and a look at the runs say of an interrupted run; then the same apply.
fn goes_on(root: &TestRoot, plan: &Path, displaced: bool) {
    let interrupted = root.runs()[0]["run"].as_str().unwrap().to_owned();
    let other = root.work("other.json");
    let _ = root.plan_to(&[crate::support::root::GZIP], &other).ok();
    let before = root.tree();
    let refused = root.apply(&other);
    let object = refused.json();
    assert_eq!(refused.code, 3, "{object:#}");
    let problems = object["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["code"] == "run-unfinished");
    let help = problem.unwrap_or_else(|| panic!("{object:#}"))["help"].as_str().unwrap().to_owned();
    assert!(help.contains("abssctl run resume"), "{help}");
    before.assert_same(&root.tree(), "another plan while a run is unfinished");

    let result = root.apply(plan).ok().json();
    assert_eq!(result["outcome"], "applied");
    root.assert_generation("gen-a.sha256");
    assert!(!root.path("srv/.abssctl/staging").exists(), "no staging is left");
    assert_eq!(root.entry(ZSTD)["restores"].as_array().unwrap().len(), 1, "recorded once");
    if displaced {
        assert_eq!(result["run"], interrupted.as_str(), "the same run went on");
        assert_eq!(root.runs().len(), 1);
    }
    let lines = root.log().iter().filter(|line| line["op_id"] == result["run"]).count();
    assert_eq!(lines, 1, "one line in the log");
    let kept = root.path(result["displaced"].as_str().unwrap());
    sums::assert_generation(&kept, "gen-b.sha256");
    let before = root.tree();
    assert_eq!(root.apply(plan).ok().json()["outcome"], "already_applied");
    before.assert_same(&root.tree(), "an apply after all is done");
}

#[test]
fn killed_before_the_swap() {
    if skip("killed_before_the_swap") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    let before = root.live();
    killed_at(&root, &plan, &root.path("srv"), "renameat2");
    before.assert_same(&root.live(), "a kill before the swap");
    goes_on(&root, &plan, false);
}

#[test]
fn killed_between_the_exchange_and_moving_the_old_tree_aside() {
    if skip("killed_between_the_exchange_and_moving_the_old_tree_aside") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    killed_at(&root, &plan, &root.path("srv/.abssctl/displaced"), "renameat2");
    root.assert_generation("gen-a.sha256");
    goes_on(&root, &plan, true);
}

#[test]
fn killed_between_the_swap_and_the_index() {
    if skip("killed_between_the_swap_and_the_index") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    killed_at(&root, &plan, &root.path("srv/backups"), "renameat");
    root.assert_generation("gen-a.sha256");
    assert!(root.entry(ZSTD).get("restores").is_none());
    goes_on(&root, &plan, true);
}

#[test]
fn killed_between_the_index_and_the_registry() {
    if skip("killed_between_the_index_and_the_registry") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    killed_at(&root, &plan, &root.path("var/lib/abssctl/registry"), "renameat");
    assert_eq!(root.entry(ZSTD)["restores"].as_array().unwrap().len(), 1);
    assert!(root.registry()["metadata"].get("last_restored_at").is_none());
    goes_on(&root, &plan, true);
    assert_eq!(root.registry()["metadata"]["last_restore_source"], ZSTD);
}

#[test]
fn killed_anywhere() {
    // Wherever it happens to be: after each event that it tells.
    let events = {
        let root = TestRoot::new();
        let plan = root.plan(&[ZSTD]);
        root.run(&["apply", plan.to_str().unwrap(), "--yes", "--events"]).ok().stdout.lines().count()
    };
    assert!(events > 15, "{events}");
    for count in (1..events).step_by(2) {
        let root = TestRoot::new();
        let plan = root.plan(&[ZSTD]);
        let mut running = root.start(&["apply", plan.to_str().unwrap(), "--yes", "--events"]);
        let mut lines = BufReader::new(running.child().stdout.take().unwrap()).lines();
        for _ in 0..count {
            // How often it tells of progress depends on the time: it may be over sooner.
            let Some(line) = lines.next() else { break };
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert!(event["event"].is_string());
        }
        running.kill();
        drop(lines);
        let _ = assert_old_or_new(&root);
        let result = root.apply(&plan).ok().json();
        assert!(["applied", "already_applied"].contains(&result["outcome"].as_str().unwrap()), "{result:#}");
        root.assert_generation("gen-a.sha256");
        assert!(!root.path("srv/.abssctl/staging").exists(), "after event {count}");
        assert_eq!(root.entry(ZSTD)["restores"].as_array().unwrap().len(), 1, "after event {count}");
        let applied = root.runs().iter().filter(|run| run["outcome"] == "applied").count();
        assert_eq!(applied, 1, "after event {count}");
        assert!(root.runs().iter().all(|run| run["outcome"] != "interrupted"), "after event {count}");
        let scratch = std::fs::read_dir(root.path("srv/backups/budget")).unwrap().flatten();
        let hidden: Vec<_> =
            scratch.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).collect();
        assert!(hidden.is_empty(), "after event {count}: {hidden:?}");
    }
}

#[test]
fn two_applies_at_the_same_time() {
    if skip("two_applies_at_the_same_time") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let first = unpacked(&root, &plan);
    // The second waits for the locks, and finds its work done.
    let mut second = root.start(&["apply", plan.to_str().unwrap(), "--yes", "--json"]);
    let mut told = BufReader::new(second.child().stderr.take().unwrap()).lines();
    let holder = format!("process {}", first.pid());
    assert!(told.any(|line| line.unwrap().contains(&holder)), "it says for whom it waits");
    let first = first.end().ok().json();
    let second = second.end().ok().json();
    drop(told);
    assert_eq!(second["outcome"], "already_applied", "{second:#}");
    assert_eq!(first["outcome"], "applied");
    assert_eq!(second["run"], first["run"]);
    root.assert_generation("gen-a.sha256");
    assert_eq!(root.runs().iter().filter(|run| run["outcome"] == "applied").count(), 1);
    assert_eq!(root.entry(ZSTD)["restores"].as_array().unwrap().len(), 1);
}

#[test]
fn a_reader_always_finds_a_whole_tree() {
    let root = TestRoot::new();
    let _ = root.restore(&[ZSTD, "--dest", "/srv/copy"]);
    let plan = root.plan(&[ZSTD, "--dest", "/srv/copy", "--replay", "allowed", "--no-pre-backup"]);
    let _ = root.apply(&plan).ok();
    let script = "while [ ! -e stop ]; do [ -s srv/copy/data/.migrate ] || { echo gone; exit 1; }; done";
    let reader = Running::start(Command::new("sh").args(["-c", script]).current_dir(root.path("/")));
    for _ in 0..3 {
        let _ = root.json(&["apply", plan.to_str().unwrap(), "--yes", "--replay"]).ok();
    }
    root.write("stop", "");
    let _ = reader.end().ok();
}
