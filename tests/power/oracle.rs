//! Judges a root after a crash: what must hold at once, and what a rerun must lead to. Gives the first
//! promise that is broken, in words. Changes the root: commands are run in it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use abssctl::ids::Sha256;
use serde_json::Value;

use crate::scenario::{Prepared, Scenario};
use crate::support::TestRoot;
use crate::support::root::{INDEX, LIVE, LOG};

/// A tree: path, then mode, owner and digest. No times: SQLite and the day set some of them.
pub(crate) type Picture = BTreeMap<String, String>;

/// What a directory holds; nothing where it is not there.
pub(crate) fn picture(directory: &Path) -> Picture {
    let mut found = Picture::new();
    if directory.symlink_metadata().is_ok() {
        walk(directory, directory, &mut found);
    }
    found
}

fn walk(base: &Path, path: &Path, found: &mut Picture) {
    let meta = path.symlink_metadata().unwrap();
    let content = if meta.is_file() {
        Sha256::of(&std::fs::read(path).unwrap()).to_string()
    } else if meta.is_symlink() {
        std::fs::read_link(path).unwrap().display().to_string()
    } else {
        String::new()
    };
    let name = path.strip_prefix(base).unwrap().display().to_string();
    let entry = format!("{:o} {}:{} {content}", meta.mode(), meta.uid(), meta.gid());
    found.insert(name, entry);
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            walk(base, &entry.unwrap().path(), found);
        }
    }
}

/// What is promised of a scenario: the tree before and after it, and what an undisturbed run left.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    prepared: Prepared,
    old: Picture,
    new: Picture,
    /// How often the backups were restored before, all together.
    restores: usize,
    /// The backup that was made, as the command told.
    backup: Option<String>,
}

impl Promise {
    /// Runs the command undisturbed and notes what it makes of the root.
    pub(crate) fn of(prepared: Prepared, root: &TestRoot, run: impl FnOnce() -> String) -> Self {
        let target = prepared.scenario.target();
        let (old, restores) = (picture(&root.path(target)), restores(root).unwrap());
        let told: Value = serde_json::from_str(&run()).unwrap();
        let new = picture(&root.path(target));
        let backup = told["id"].as_str().or(told["preBackup"].as_str()).map(str::to_owned);
        let applies = prepared.plan.is_some();
        assert_eq!(applies, old != new, "a restore changes the tree, nothing else does");
        Self { prepared, old, new, restores, backup }
    }

    /// Which scenario it is of.
    pub(crate) fn scenario(&self) -> Scenario {
        self.prepared.scenario
    }

    /// Judges; `done`: the command had returned, so what it promised is there without another run.
    pub(crate) fn judge(&self, root: &TestRoot, done: bool) -> Result<(), String> {
        self.tree(root, done).and_then(|()| self.records(root, done)).map_err(|why| format!("at once: {why}"))?;
        self.rerun(root).map_err(|why| format!("after the rerun: {why}"))
    }

    fn tree(&self, root: &TestRoot, done: bool) -> Result<(), String> {
        let found = picture(&root.path(self.scenario().target()));
        if found == self.new || !done && found == self.old {
            return Ok(());
        }
        let (old, new) = (differences(&found, &self.old), differences(&found, &self.new));
        Err(format!("the tree is not the new one{}: against the old one {old}; against the new one {new}", if done { "" } else { " and not the old one" }))
    }

    /// The files that are shared with others parse and agree.
    fn records(&self, root: &TestRoot, done: bool) -> Result<(), String> {
        index(root)?;
        for command in [["run", "list"], ["instance", "list"], ["backup", "list"]] {
            succeeds(root, &command)?;
        }
        let log = std::fs::read_to_string(root.path(LOG)).map_err(|error| format!("the log: {error}"))?;
        let lines: Vec<Option<Value>> = log.lines().map(|line| serde_json::from_str(line).ok()).collect();
        ensure(lines.iter().filter(|line| line.is_none()).count() <= 1, || format!("the log is torn: {log}"))?;
        if done {
            let last = lines.last().cloned().flatten().unwrap_or_default();
            if let Some(wanted) = self.scenario().logged() {
                ensure(last["command"] == wanted && last["rc"] == 0, || {
                    format!("the last line of the log is not that of {wanted}: {last}")
                })?;
            }
            self.recorded(root)?;
        }
        Ok(())
    }

    /// What the command said is on record.
    fn recorded(&self, root: &TestRoot) -> Result<(), String> {
        if let Some(id) = &self.backup {
            let entries = entries(root)?;
            ensure(entries.iter().any(|entry| entry["id"] == **id), || format!("{id} is not in the index"))?;
        }
        if self.prepared.plan.is_some() {
            let found = restores(root)?;
            ensure(found == self.restores + 1, || format!("{found} restores are in the index"))?;
            let runs = succeeds(root, &["run", "list"])?;
            ensure(runs["runs"][0]["outcome"] == "applied", || format!("the run: {runs}"))?;
        } else if self.scenario() == Scenario::Prune {
            let left = root.path("srv/.abssctl").exists();
            ensure(!left, || "the displaced tree is still there".to_owned())?;
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
        self.tree(root, true)?;
        index(root)?;
        if self.prepared.plan.is_some() || self.scenario() == Scenario::Prune {
            let own = Self { backup: None, ..self.clone() };
            own.recorded(root)?;
        }
        let runs = succeeds(root, &["run", "list"])?;
        for run in runs["runs"].as_array().into_iter().flatten() {
            let outcome = run["outcome"].as_str().unwrap_or_default();
            let over = ["applied", "rolled_back", "not_begun"].contains(&outcome);
            ensure(over, || format!("a run is {outcome}: {run}"))?;
        }
        succeeds(root, &["backup", "verify", "--all"])?;
        leftovers(root, &runs)
    }
}

impl Scenario {
    fn target(self) -> &'static str {
        if self == Self::ApplyBeside { "srv/other" } else { LIVE }
    }

    /// The command as the operations log names it, where it stands there.
    fn logged(self) -> Option<&'static str> {
        match self {
            Self::Apply | Self::ApplyOne | Self::ApplyBeside => Some("plan apply"),
            Self::Create => Some("backup create"),
            Self::Prune => None,
        }
    }
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

/// Each archive that the index names is there, whole, and so is its sidecar.
fn index(root: &TestRoot) -> Result<(), String> {
    for entry in entries(root)? {
        let path = entry["path"].as_str().unwrap_or_default();
        let bytes = std::fs::read(root.path(path)).map_err(|error| format!("archive {path}: {error}"))?;
        let digest = Sha256::of(&bytes).to_string();
        ensure(entry["checksum"]["value"] == *digest, || format!("archive {path} is another one"))?;
        let sidecar = std::fs::read_to_string(root.path(format!("{path}.sha256")));
        let sidecar = sidecar.map_err(|error| format!("sidecar of {path}: {error}"))?;
        ensure(sidecar.starts_with(&digest), || format!("sidecar of {path}: {sidecar}"))?;
    }
    Ok(())
}

/// Nothing is left that no list names.
fn leftovers(root: &TestRoot, runs: &Value) -> Result<(), String> {
    let displaced: Vec<&str> =
        runs["runs"].as_array().into_iter().flatten().filter_map(|run| run["displaced"].as_str()).collect();
    for name in picture(&root.path("")).keys() {
        let path = Path::new(name);
        // A run that never began keeps what it has; it is listed, and goes as a whole.
        let temporary = ["partial", "scratch", "tmp"].iter().any(|end| path.extension().is_some_and(|e| e == *end));
        if temporary && !path.starts_with("var/lib/abssctl/runs") {
            return Err(format!("{name} is left"));
        }
        let private = path.starts_with("srv/.abssctl") && path.components().count() > 3;
        let listed = displaced.iter().any(|at| path.starts_with(at.trim_start_matches('/')));
        if private && !listed || name == "srv/.abssctl/staging" {
            return Err(format!("{name} is left, and no run keeps it: {displaced:?}"));
        }
    }
    Ok(())
}

fn differences(found: &Picture, wanted: &Picture) -> String {
    let missing = wanted.iter().filter(|(name, entry)| found.get(*name) != Some(entry));
    let more = found.keys().filter(|name| !wanted.contains_key(*name));
    let missing: Vec<String> =
        missing.map(|(name, entry)| format!("{name:?} is {:?}, not {entry:?}", found.get(name))).take(4).collect();
    let more: Vec<&String> = more.take(4).collect();
    format!("{missing:?}, and too much: {more:?}")
}
