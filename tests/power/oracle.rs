//! Judges a root after a power cut: the promises that hold after every crash (`promise`, shared with the
//! proof by kill), and what a command promised when it returned. Runs commands in the root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::promise;
use crate::scenario::{Prepared, Scenario};
use crate::support::root::{INDEX, LIVE, LOG};
use crate::support::sums;
use crate::support::tree::Tree;
use crate::support::{Ran, TestRoot};

/// What is promised of a command.
#[derive(Debug)]
pub(crate) struct Promise {
    prepared: Prepared,
    judge: promise::Promise,
    /// What the files of the target are when the command has returned.
    new: BTreeMap<String, String>,
    /// How often the backups were restored before, all together.
    restores: usize,
    /// The backup that was made, as the command told.
    backup: Option<String>,
}

impl Promise {
    /// Learns from two undisturbed runs in copies of the root, then runs the command in the root itself.
    /// The copies lie in `below`, on the same file system: a plan is for one of that kind.
    pub(crate) fn of(prepared: Prepared, root: &TestRoot, below: &Path, run: impl FnOnce() -> Ran) -> Self {
        let copies = [(), ()].map(|()| root.copy_below(below));
        for copy in &copies {
            let _ = copy.json(&prepared.command).ok();
        }
        let target = prepared.scenario.target();
        let judge = promise::Promise::new(root, [&copies[0], &copies[1]], &[target]);
        let restores = restores(root).unwrap();
        drop(copies);
        prepared.begin(root);
        let ran = run();
        assert_eq!(ran.code != 0, prepared.scenario.fails(), "exit code {}: {}", ran.code, ran.stdout);
        let told = ran.json();
        let backup = told["id"].as_str().or(told["preBackup"].as_str()).map(str::to_owned);
        let new = sums::of(&root.path(target));
        Self { prepared, judge, new, restores, backup }
    }

    /// Judges; `done`: the command had returned, so what it promised is there without another run.
    pub(crate) fn judge(&self, root: &TestRoot, done: bool) -> Result<(), String> {
        let at_once = none(&self.judge.after_crash(root));
        let at_once = at_once.and_then(|()| if done { self.done(root) } else { Ok(()) });
        at_once.map_err(|why| format!("at once: {why}"))?;
        self.rerun(root).map_err(|why| format!("after the rerun: {why}"))
    }

    /// What the command said is there and on record.
    fn done(&self, root: &TestRoot) -> Result<(), String> {
        if self.prepared.scenario.fails() {
            return none(&self.judge.after_failure(root));
        }
        if let Some(id) = &self.backup {
            let known = entries(root)?.iter().any(|entry| entry["id"] == **id);
            ensure(known, || format!("{id} is not in the index"))?;
        }
        if let Some(wanted) = self.prepared.scenario.logged() {
            let log = std::fs::read_to_string(root.path(LOG)).unwrap_or_default();
            let last: Value =
                log.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
            ensure(last["command"] == wanted && last["rc"] == 0, || {
                format!("the last line of the log is not that of {wanted}: {last}")
            })?;
        }
        if self.prepared.plan.is_some()
            || matches!(self.prepared.scenario, Scenario::Rollback | Scenario::AssetsBack)
        {
            let found = sums::of(&root.path(self.prepared.scenario.target()));
            ensure(found == self.new, || format!("the tree is not the new one: {found:?}"))?;
            let found = restores(root)?;
            ensure(found == self.restores + 1, || format!("{found} restores are in the index"))?;
            let runs = succeeds(root, &["run", "list"])?;
            ensure(runs["runs"][0]["outcome"] == "applied", || format!("the run: {runs}"))?;
        }
        if self.prepared.scenario == Scenario::Prune {
            ensure(!root.path("srv/.abssctl").exists(), || "the displaced tree is there".to_owned())?;
        }
        Ok(())
    }

    fn rerun(&self, root: &TestRoot) -> Result<(), String> {
        let command: Vec<&str> = self.prepared.command.iter().map(String::as_str).collect();
        let told = succeeds(root, &command)?;
        if self.prepared.plan.is_some() {
            let outcome = &told["outcome"];
            ensure(outcome == "applied" || outcome == "already_applied", || format!("it said {told}"))?;
            let again = succeeds(root, &command)?;
            ensure(again["outcome"] == "already_applied", || format!("the second time it said {again}"))?;
        }
        none(&self.judge.after_rerun(root, 1))?;
        if self.prepared.plan.is_some() || self.prepared.scenario == Scenario::Prune {
            ensure(!root.path("srv/.abssctl/staging").exists(), || "staging is left".to_owned())?;
        }
        if self.prepared.scenario == Scenario::Prune {
            ensure(!root.path("srv/.abssctl").exists(), || "the displaced tree is there".to_owned())?;
        }
        for command in [["instance", "list"], ["backup", "list"]] {
            let _ = succeeds(root, &command)?;
        }
        succeeds(root, &["backup", "verify", "--all"]).map(drop)
    }
}

impl Scenario {
    fn target(self) -> &'static str {
        if self == Self::ApplyBeside { "srv/other" } else { LIVE }
    }

    /// The command as the operations log names it, where it stands there.
    fn logged(self) -> Option<&'static str> {
        match self {
            Self::Create => Some("backup create"),
            Self::PruneBackups => Some("backup prune"),
            Self::Rollback | Self::AssetsBack => Some("run rollback"),
            Self::Prune | Self::Plan => None,
            Self::Apply | Self::ApplyOne | Self::ApplyBeside | Self::ApplyDelta => Some("plan apply"),
            Self::Undo | Self::Halfway | Self::Mounted | Self::Resume | Self::Assets => Some("plan apply"),
        }
    }
}

/// One line of the log may be torn by the cut: it harms no other, and the journal has the same.
fn none(violations: &promise::Violations) -> Result<(), String> {
    let torn = |what: &&String| what.starts_with("line ") && what.contains(" is torn");
    let allowed = violations.iter().filter(torn).count() == 1;
    let broken: Vec<&String> = violations.iter().filter(|what| !(allowed && torn(what))).collect();
    ensure(broken.is_empty(), || format!("{broken:?}"))
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Runs a command; gives its object.
fn succeeds(root: &TestRoot, command: &[&str]) -> Result<Value, String> {
    let ran = root.json(command);
    let told = serde_json::from_str(&ran.stdout).ok().filter(|_| ran.code == 0);
    told.ok_or_else(|| format!("{} exits {}: {}{}", command.join(" "), ran.code, ran.stdout, ran.stderr))
}

fn entries(root: &TestRoot) -> Result<Vec<Value>, String> {
    let text = std::fs::read(root.path(INDEX)).map_err(|error| format!("the index: {error}"))?;
    let index: Value = serde_json::from_slice(&text).map_err(|error| format!("the index: {error}"))?;
    Ok(index["backups"].as_array().cloned().unwrap_or_default())
}

fn restores(root: &TestRoot) -> Result<usize, String> {
    let count = |entry: &Value| entry["restores"].as_array().map_or(0, Vec::len);
    Ok(entries(root)?.iter().map(count).sum())
}

/// All paths below a directory.
pub(crate) fn paths(directory: &Path) -> Vec<PathBuf> {
    Tree::of(directory).paths().into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}
