//! `run resume`: an interrupted or halted run goes on from what lies in its directory, and ends as an
//! undisturbed one. What cannot go on is refused with the way out.

use std::path::Path;

use serde_json::Value;

use crate::support::TestRoot;
use crate::support::root::ZSTD;
use crate::support::strace;
use crate::support::tools::{have, skip_unless};

pub(crate) fn skip(test: &str) -> bool {
    skip_unless(test, strace::works() && have("python3"), "no strace, no python3, or ptrace is not permitted")
}

/// Kills a command at a call of the kernel; the call itself does not happen any more.
pub(crate) fn killed_at(root: &TestRoot, args: &[&str], path: &Path, calls: &str) {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:signal=KILL:when=1"));
    let options = ["-o", "/dev/null", "-P", path.to_str().unwrap(), "-e", &trace, "-e", &inject];
    let ran = strace::run(&root.command(args), &options);
    assert_eq!(ran.code, 137, "it was killed: {}{}", ran.stdout, ran.stderr);
}

/// The newest run.
pub(crate) fn newest(root: &TestRoot) -> Value {
    root.runs()[0].clone()
}

pub(crate) fn id(run: &Value) -> String {
    run["run"].as_str().unwrap().to_owned()
}

/// A restore that is killed there; gives its run.
fn interrupted(root: &TestRoot, path: &str, calls: &str) -> String {
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    killed_at(root, &["apply", plan.to_str().unwrap(), "--yes"], &root.path(path), calls);
    // The run has all that it takes.
    std::fs::remove_file(plan).unwrap();
    let run = newest(root);
    assert_eq!(run["outcome"], "interrupted", "{run:#}");
    id(&run)
}

/// Applies a plan and kills it between the exchange and what follows, when the old tree lies in `staging`;
/// gives its run.
pub(crate) fn exchanged(root: &TestRoot, plan: &Path) -> String {
    // Counted by thread: the trial in `check` has one of its own.
    let options = ["-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:signal=KILL:when=2"];
    let ran = strace::run(&root.command(&["apply", plan.to_str().unwrap(), "--yes"]), &options);
    assert_eq!(ran.code, 137, "it was killed: {}{}", ran.stdout, ran.stderr);
    root.assert_generation("gen-a.sha256");
    let run = newest(root);
    assert_eq!(run["outcome"], "interrupted", "{run:#}");
    assert!(root.path(format!("srv/.abssctl/staging/{}", id(&run))).exists());
    id(&run)
}

#[test]
fn a_run_that_swapped_goes_forward() {
    if skip("a_run_that_swapped_goes_forward") {
        return;
    }
    let root = TestRoot::new();
    let run = interrupted(&root, "srv/backups", "renameat");
    root.assert_generation("gen-a.sha256");
    let receipt = root.work("receipt.json");
    // It asks nobody: what was agreed to is done, and both ways lead to a whole tree.
    let result = root.json(&["run", "resume", &run, "--receipt", receipt.to_str().unwrap()]).ok().json();
    assert_eq!((&result["outcome"], &result["run"]), (&"applied".into(), &run.as_str().into()));
    root.assert_generation("gen-a.sha256");
    assert_eq!(root.entry(ZSTD)["restores"].as_array().unwrap().len(), 1);
    assert!(!root.path("srv/.abssctl/staging").exists());
    assert_eq!(root.log().last().unwrap()["command"], "run resume");
    let receipt: Value = serde_json::from_str(&std::fs::read_to_string(receipt).unwrap()).unwrap();
    assert_eq!(receipt["run"], run.as_str());
    let before = root.tree();
    let again = root.json(&["run", "resume", &run]).ok().json();
    assert_eq!((&again["outcome"], &again["run"]), (&"already_applied".into(), &run.as_str().into()));
    before.assert_same(&root.tree(), "a run that is finished");
}

#[test]
fn a_run_that_did_not_swap_is_undone_and_its_plan_begins_anew() {
    if skip("a_run_that_did_not_swap_is_undone_and_its_plan_begins_anew") {
        return;
    }
    let root = TestRoot::new();
    let run = interrupted(&root, "srv", "renameat2");
    let events = root.run(&["run", "resume", &run, "--yes", "--events"]).ok();
    let last: Value = serde_json::from_str(events.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["result"]["outcome"], "applied");
    root.assert_generation("gen-a.sha256");
    let runs = root.runs();
    assert_eq!(runs.len(), 2);
    assert_eq!((&runs[0]["outcome"], &runs[1]["outcome"]), (&"applied".into(), &"rolled_back".into()));
    // The undone one stays what it is, and says how to begin again.
    let before = root.tree();
    let error = root.json(&["run", "resume", &run]).error(2, "abssctl::cli::run_rolled_back", &["undone"]);
    assert!(error["help"].as_str().unwrap().contains("abssctl apply"), "{error:#}");
    before.assert_same(&root.tree(), "a run that is undone");
}

#[test]
fn what_cannot_go_on_is_refused() {
    if skip("what_cannot_go_on_is_refused") {
        return;
    }
    let root = TestRoot::new();
    let unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let _ = root.json(&["run", "resume", unknown]).error(2, "abssctl::cli::no_run", &[unknown]);
    let run = interrupted(&root, "srv/backups", "renameat");
    let directory = root.path(format!("var/lib/abssctl/runs/{run}"));
    let before = root.live();
    // A valid plan, but another one.
    let plan = directory.join("plan");
    let kept = std::fs::read_to_string(&plan).unwrap();
    let other = kept.replace("\"retain\": \"14d\"", "\"retain\": \"15d\"");
    assert_ne!(kept, other);
    std::fs::write(&plan, other).unwrap();
    for command in ["resume", "rollback"] {
        let ran = root.json(&["run", command, &run, "--yes"]);
        assert_ne!(ran.code, 0, "{}", ran.stdout);
    }
    let fresh = root.work("other.json");
    let _ = root.plan_to(&[crate::support::root::GZIP], &fresh).ok();
    let _ = std::fs::copy(&fresh, &plan).unwrap();
    for command in ["resume", "rollback"] {
        let ran = root.json(&["run", command, &run, "--yes"]);
        let _ = ran.error(7, "abssctl::cli::run_other_plan", &["not the plan"]);
    }
    std::fs::write(&plan, &kept).unwrap();
    let journal = directory.join("journal.jsonl");
    let sound = std::fs::read(&journal).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&journal, damaged).unwrap();
    for command in ["resume", "rollback"] {
        let ran = root.json(&["run", command, &run, "--yes"]);
        let _ = ran.error(7, "abssctl::run::journal_damaged", &["damaged"]);
    }
    std::fs::write(&journal, sound).unwrap();
    before.assert_same(&root.live(), "refusals");
    assert_eq!(root.json(&["run", "resume", &run]).ok().json()["outcome"], "applied");
}

#[test]
fn a_run_in_progress_is_left_to_its_process() {
    if skip("a_run_in_progress_is_left_to_its_process") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let args = ["apply", plan.to_str().unwrap(), "--yes", "--json"];
    let running = strace::Stopped::after(&root.command(&args), "syncfs", None);
    let run = id(&newest(&root));
    for command in ["resume", "rollback"] {
        let ran = root.json(&["run", command, &run, "--yes"]);
        let _ = ran.error(3, "abssctl::run::run_in_progress", &["in progress"]);
    }
    assert_eq!(running.end().ok().json()["outcome"], "applied");
}

#[test]
fn a_pipe_in_place_of_the_kept_plan_is_refused_at_once() {
    let root = TestRoot::new();
    let run = id(&root.restore(&[ZSTD]));
    let plan = root.path(format!("var/lib/abssctl/runs/{run}/plan"));
    std::fs::remove_file(&plan).unwrap();
    let _ = crate::support::tools::tool("mkfifo", &[plan.to_str().unwrap()]);
    let ran = root.json(&["run", "resume", &run]);
    assert!(ran.code != 0 && ran.stdout.contains("not a regular file"), "{}", ran.stdout);
}

#[test]
fn recover_brings_every_interrupted_run_to_its_end_and_begins_none() {
    if skip("recover_brings_every_interrupted_run_to_its_end_and_begins_none") {
        return;
    }
    let root = TestRoot::new();
    let said = root.run(&["run", "recover"]).ok();
    assert_eq!(said.stdout, "no run is unfinished\n");
    // Before the exchange: undone, and nothing begins anew.
    let before = root.tree_but_records();
    let run = interrupted(&root, "srv", "renameat2");
    let found = root.json(&["run", "recover"]).ok().json();
    assert_eq!(found["runs"][0]["run"], run.as_str());
    assert_eq!((&found["runs"][0]["outcome"], &found["unfinished"]), (&"rolled_back".into(), &0.into()));
    before.assert_same(&root.tree_but_records(), "recovered");
    assert_eq!(root.runs().len(), 1);
    // After it: finished.
    let run = interrupted(&root, "srv/backups", "renameat");
    let said = root.run(&["run", "recover"]).ok();
    assert_eq!(said.stdout, format!("run {run} is finished: /srv/budget is what it restored\n"));
    root.assert_generation("gen-a.sha256");
    assert_eq!(root.log().last().unwrap()["command"], "run recover");
    assert_eq!(root.json(&["run", "recover"]).ok().json()["runs"], Value::Array(Vec::new()));
}

#[test]
fn recover_leaves_to_a_person_what_only_a_person_can_decide() {
    if skip("recover_leaves_to_a_person_what_only_a_person_can_decide") {
        return;
    }
    let root = TestRoot::new();
    let run = interrupted(&root, "srv", "renameat2");
    let kept = root.path(format!("var/lib/abssctl/runs/{run}/plan"));
    std::fs::remove_file(kept).unwrap();
    let before = root.tree();
    let found = root.json(&["run", "recover"]).code(7).json();
    assert_eq!((&found["runs"][0]["outcome"], &found["unfinished"]), (&"unfinished".into(), &1.into()));
    let message = found["runs"][0]["message"].as_str().unwrap();
    assert!(message.contains("is gone") && message.contains("abssctl apply FILE"), "{message}");
    before.assert_same(&root.tree(), "a run whose plan is gone");
}

/// Looking is no work: not for who looks too, and not for who goes on.
#[test]
fn who_looks_at_a_run_keeps_nobody_from_it() {
    let can = have("flock") && !skip("who_looks_at_a_run_keeps_nobody_from_it");
    if !can {
        return;
    }
    let root = TestRoot::new();
    let run = interrupted(&root, "srv", "renameat2");
    let journal = root.path(format!("var/lib/abssctl/runs/{run}/journal.jsonl"));
    // It stands still with the lock that it looks with.
    let looking = strace::Stopped::after(&root.command(&["run", "show", &run]), "flock", Some(&journal));
    assert_eq!(newest(&root)["outcome"], "interrupted");
    // One that never ends is told, and not with exit 0.
    let left = root.json(&["run", "recover"]).code(7).json();
    assert_eq!(left["runs"][0]["outcome"], "unfinished", "{left:#}");
    let shown = looking.end().ok();
    assert!(shown.stdout.contains("interrupted"), "{}", shown.stdout);
    // One that is over soon is waited for.
    let mut look = std::process::Command::new("flock");
    look.arg("--shared").arg(&journal).args(["sleep", "0.3"]);
    let looking = crate::support::root::Running::start(&mut look);
    crate::support::tools::wait_for("the look", || {
        let held =
            std::process::Command::new("flock").args(["--nonblock"]).arg(&journal).arg("true").status();
        (!held.unwrap().success()).then_some(())
    });
    let done = root.json(&["run", "recover"]).ok().json();
    assert_eq!((&done["runs"][0]["outcome"], &done["unfinished"]), (&"rolled_back".into(), &0.into()));
    let _ = looking.end().ok();
}

/// Two unfinished runs of an instance, the older of which cannot go on: each is told as what it is.
#[test]
fn recover_tells_of_each_run_what_became_of_it() {
    if skip("recover_tells_of_each_run_what_became_of_it") {
        return;
    }
    let root = TestRoot::new();
    // Killed while it waits for the locks, out of the way of the next one until that is killed too.
    let other = root.work("other.json");
    let _ = root.plan_to(&[crate::support::root::GZIP], &other).ok();
    let begun = root.command(&["apply", other.to_str().unwrap(), "--yes"]);
    let options = ["-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:signal=KILL:when=1", "-P"];
    let lock = root.path("run/abssctl/abssctl.lock");
    let options: Vec<&str> = options.into_iter().chain([lock.to_str().unwrap()]).collect();
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, "").unwrap();
    let ran = strace::run(&begun, &options);
    assert_eq!(ran.code, 137, "{}{}", ran.stdout, ran.stderr);
    let late = id(&newest(&root));
    let aside = root.work("aside");
    let runs = root.path("var/lib/abssctl/runs");
    std::fs::rename(runs.join(&late), &aside).unwrap();
    let run = interrupted(&root, "srv", "renameat2");
    std::fs::rename(&aside, runs.join(&late)).unwrap();
    let first = if late < run { &late } else { &run };
    let second = if late < run { &run } else { &late };
    let kept = |run: &str| runs.join(run).join("plan");
    std::fs::rename(kept(first), root.work("plan")).unwrap();
    let found = root.json(&["run", "recover"]).code(7).json();
    let of = |at: usize| (found["runs"][at]["run"].clone(), found["runs"][at]["outcome"].clone());
    assert_eq!(of(0), (first.as_str().into(), "unfinished".into()), "{found:#}");
    assert_eq!(of(1), (second.as_str().into(), "rolled_back".into()), "{found:#}");
    let listed: Vec<Value> = root.runs().iter().map(|run| run["outcome"].clone()).collect();
    assert_eq!(listed, ["rolled_back", "interrupted"], "what it says is so");
    std::fs::rename(root.work("plan"), kept(first)).unwrap();
    let found = root.json(&["run", "recover"]).ok().json();
    assert_eq!(found["unfinished"], 0, "{found:#}");
    root.assert_no_private();
}
