//! The program in the strict model: nothing is announced before it is safe, no act comes before the journal
//! line that announces it is safe, and whatever a cut leaves of what is not safe, the promises hold.

use std::collections::BTreeMap;
use std::path::Path;

use crate::calls::Kind;
use crate::disk::scratch;
use crate::model::{Model, Node};
use crate::oracle::{Promise, paths};
use crate::random::{self, Random, sample};
use crate::say;
use crate::scenario::Scenario;
use crate::states::States;
use crate::support::tools::{Mount, have, is_root, skip_unless, tool};
use crate::support::{Ran, TestRoot};
use crate::tracer;
use crate::watch::{Step, Watched, watch};

/// The lock files: they hold nothing that a machine that was off needs.
const NOT_KEPT: &[&str] = &["run/abssctl/abssctl.lock", "run/abssctl/budget.lock"];
/// Steps whose end says nothing of the disk: those that read while another one writes, and the unpacking,
/// which `prepare` answers for.
const SAY_NOTHING: [&str; 3] = ["verify", "extract", "inspect"];

/// A scenario that ran under the tracer.
struct Played {
    watched: Watched,
    /// Not where the rules alone are asked for.
    promise: Option<Promise>,
    _mount: Option<Mount>,
    base: tempfile::TempDir,
    _root: TestRoot,
}

fn play(scenario: Scenario) -> Played {
    let base = scratch();
    let root = TestRoot::at(base.path());
    let prepared = scenario.prepare(&root);
    let mut command = root.command(&prepared.command);
    command.arg("--json");
    // A plan is the user's own file: there is nothing to go on with. A mount is no part of a tree.
    if random::rules_only() || !scenario.has_states() {
        prepared.begin(&root);
        let watched = watch(&command, base.path(), scenario.act());
        assert_eq!(watched.ran.code != 0, scenario.fails(), "exit code {}", watched.ran.code);
        return Played { watched, promise: None, _mount: prepared.mount, base, _root: root };
    }
    let mut watched = None;
    let promise = Some(Promise::of(prepared, &root, scratch().path(), || {
        let seen = watch(&command, base.path(), scenario.act());
        let ran = Ran { code: seen.ran.code, stdout: seen.ran.stdout.clone(), stderr: String::new() };
        watched = Some(seen);
        ran
    }));
    Played { watched: watched.unwrap(), promise, _mount: None, base, _root: root }
}

/// What the rules of order say.
#[derive(Debug, Default)]
struct Rules {
    broken: Vec<String>,
    /// Threads that wrote a journal line which is not safe yet.
    open: BTreeMap<i32, Node>,
    /// Steps whose end is written and not safe yet.
    ended: Vec<String>,
}

impl Rules {
    /// Before a call.
    fn before(&mut self, model: &Model, step: &Step, path: &Path) {
        if step.call.kind != Kind::Sync
            && self.open.contains_key(&step.call.thread)
            && !path.ends_with("journal.jsonl")
        {
            self.broken.push(format!("{} comes before a journal line is safe", step.call));
        }
        if path.ends_with("journal.jsonl") && step.call.kind == Kind::Write && step.call.name == "write" {
            if let Some(node) = model.now.find(path) {
                if model.has_pending_bytes(node) {
                    self.broken.push(format!("{} follows what is not safe in the journal", step.call));
                }
                let _ = self.open.insert(step.call.thread, node);
            }
            let text = String::from_utf8_lossy(&step.call.data);
            for word in ["\"stepDone\":{\"step\":\"", "\"stepUndone\":{\"step\":\""] {
                if let Some(name) = text.split(word).nth(1).and_then(|rest| rest.split('"').next()) {
                    self.ended.push(name.to_owned());
                }
            }
        }
    }

    /// After a call.
    fn after(&mut self, model: &Model, step: &Step, path: &Path) {
        if step.call.kind != Kind::Sync || !path.ends_with("journal.jsonl") {
            return;
        }
        let node = model.now.find(path);
        self.open.retain(|_, open| Some(*open) != node);
        for name in std::mem::take(&mut self.ended) {
            let left = model.unsafe_paths(NOT_KEPT);
            if !SAY_NOTHING.contains(&name.as_str()) && !left.is_empty() {
                self.broken.push(format!("step {name} is said to be done, and is not safe: {left:?}"));
            }
        }
    }
}

/// Goes through all calls: the rules, and the states at each moment before something becomes safe.
fn walk(played: &Played, limit: usize, random: &mut Random) -> (Vec<String>, States) {
    let (root, mut model) = (played.base.path(), played.watched.model.clone());
    let (mut rules, mut states) = (Rules::default(), States::default());
    for step in &played.watched.steps {
        let Some(path) = step.object(root).filter(|_| step.happened()) else { continue };
        if step.call.kind == Kind::Sync && limit > 0 {
            states.add(&model, &format!("before {}", step.call), false, limit, random);
        }
        rules.before(&model, step, path);
        step.tell(&mut model, root);
        rules.after(&model, step, path);
    }
    let left = model.unsafe_paths(NOT_KEPT);
    if !left.is_empty() {
        rules.broken.push(format!("the command says that all is done, and it is not safe: {left:?}"));
    }
    if limit > 0 {
        states.add(&model, "at the end", true, limit, random);
    }
    (rules.broken, states)
}

/// The model has not lost its way: what it takes for the present is what is there.
fn proves_itself(played: &Played) {
    let (root, mut model) = (played.base.path(), played.watched.model.clone());
    for step in &played.watched.steps {
        step.tell(&mut model, root);
    }
    let mut real = BTreeMap::new();
    for name in paths(root) {
        let path = root.join(&name);
        let bytes =
            if path.is_file() && !path.is_symlink() { std::fs::read(&path).unwrap() } else { Vec::new() };
        let _ = real.insert(name.display().to_string(), bytes);
    }
    let modelled: BTreeMap<String, Vec<u8>> = model
        .now
        .paths()
        .into_iter()
        .map(|(path, node)| {
            (path, model.now.bytes.get(&node).map(|bytes| bytes.to_vec()).unwrap_or_default())
        })
        .collect();
    let names = |tree: &BTreeMap<String, Vec<u8>>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&modelled), names(&real));
    for (name, bytes) in real {
        assert!(modelled[&name] == bytes, "the model has other bytes in {name}");
    }
}

fn strictly(scenario: Scenario, limit: usize) {
    if skip_unless(scenario.name(), tracer::works(), "this machine lets nobody trace a program") {
        return;
    }
    let played = play(scenario);
    proves_itself(&played);
    let mut random = Random::new(scenario.name());
    let each = match random::all() {
        _ if played.promise.is_none() => 0,
        true => 40,
        false => 4,
    };
    let (broken, states) = walk(&played, each, &mut random);
    assert!(broken.is_empty(), "{}:\n{}", scenario.name(), broken.join("\n"));
    let (differ, mut found) = (states.found.len(), states.found);
    if !random::all() {
        let done: Vec<_> = found.iter().filter(|state| state.done).cloned().collect();
        found.retain(|state| !state.done);
        found = sample(found, limit, &mut random);
        found.extend(done);
    }
    let mut broken = Vec::new();
    for state in &found {
        let directory = scratch();
        state.write(directory.path());
        let root = TestRoot::at(directory.path());
        if let Some(Err(why)) = played.promise.as_ref().map(|promise| promise.judge(&root, state.done)) {
            broken.push(format!("{}: {why}", state.what));
        }
    }
    say(&format!(
        "{}: {} calls, {differ} states, {} tried, {} violations (seed {})",
        scenario.name(),
        played.watched.steps.len(),
        found.len(),
        broken.len(),
        random::seed()
    ));
    assert!(
        broken.is_empty(),
        "{}: {} of {}:\n{}",
        scenario.name(),
        broken.len(),
        found.len(),
        broken.join("\n")
    );
}

#[test]
fn an_apply_says_nothing_before_it_is_safe() {
    strictly(Scenario::Apply, 20);
}

#[test]
fn an_apply_of_one_budget_says_nothing_before_it_is_safe() {
    strictly(Scenario::ApplyOne, 8);
}

#[test]
fn an_apply_beside_says_nothing_before_it_is_safe() {
    strictly(Scenario::ApplyBeside, 8);
}

#[test]
fn an_apply_of_what_differs_says_nothing_before_it_is_safe() {
    strictly(Scenario::ApplyDelta, 8);
}

#[test]
fn a_backup_says_nothing_before_it_is_safe() {
    strictly(Scenario::Create, 12);
}

#[test]
fn a_prune_says_nothing_before_it_is_safe() {
    strictly(Scenario::Prune, 6);
}

#[test]
fn a_prune_of_backups_says_nothing_before_it_is_safe() {
    strictly(Scenario::PruneBackups, 6);
}

#[test]
fn a_rollback_says_nothing_before_it_is_safe() {
    // Its plan knows the old tree by inode, which a state that is built has not.
    strictly(Scenario::Rollback, 0);
}

#[test]
fn an_undone_apply_says_nothing_before_it_is_safe() {
    strictly(Scenario::Undo, 8);
}

#[test]
fn a_record_that_is_taken_back_harms_no_other() {
    strictly(Scenario::Halfway, 12);
}

#[test]
fn a_resumed_apply_says_nothing_before_it_is_safe() {
    strictly(Scenario::Resume, 10);
}

#[test]
fn a_plan_is_safe_before_it_is_announced() {
    strictly(Scenario::Plan, 0);
}

#[test]
fn an_apply_with_unit_and_vhost_says_nothing_before_it_is_safe() {
    strictly(Scenario::Assets, 0);
}

#[test]
fn a_rollback_with_unit_and_vhost_says_nothing_before_it_is_safe() {
    strictly(Scenario::AssetsBack, 0);
}

#[test]
fn an_apply_at_a_mount_point_says_nothing_before_it_is_safe() {
    if !skip_unless("an apply at a mount point", is_root(), "only root can mount a file system") {
        strictly(Scenario::Mounted, 0);
    }
}

#[test]
fn every_sync_call_of_the_source_is_in_the_list_of_mutations() {
    if skip_unless("the list of mutations", have("python3"), "python3 is missing") {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/power/mutations.sh");
    let _ = tool(script, &["--check"]);
}
