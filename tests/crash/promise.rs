//! What must hold after a crash, and after the same command has run again: the promises of the program as
//! one judge, which says in words what is broken and never ends a test halfway.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use abssctl::ids::{BackupId, RunId, Sha256};
use serde_json::Value;

use crate::support::TestRoot;
use crate::support::root::{INDEX, LIVE, LOG, REGISTRY};
use crate::support::tree::Tree;

/// What is broken, in words; empty when all is well.
pub(crate) type Violations = Vec<String>;

/// A directory that a command replaces, or leaves alone.
#[derive(Debug)]
struct Target {
    path: &'static str,
    old: Tree,
    new: Tree,
    /// Paths that have another time after each run, so that times prove nothing there.
    restless: Vec<PathBuf>,
}

/// The judge of one command in one world.
#[derive(Debug)]
pub(crate) struct Promise {
    targets: Vec<Target>,
    /// Index and registry before, and after an undisturbed run.
    before: Records,
    after: Records,
    /// All paths before, and the lines of the log.
    paths: BTreeSet<PathBuf>,
    lines: usize,
}

/// The shared records of a world.
#[derive(Debug, Clone, PartialEq)]
struct Records {
    index: Value,
    registry: Value,
}

impl Records {
    fn of(root: &TestRoot) -> Result<Self, String> {
        let read = |path: &str| {
            std::fs::read_to_string(root.path(path))
                .map_err(|error| format!("{path} cannot be read: {error}"))
        };
        let index = serde_json::from_str(&read(INDEX)?)
            .map_err(|error| format!("{INDEX} does not parse: {error}"))?;
        let registry = serde_yaml::from_str(&read(REGISTRY)?)
            .map_err(|error| format!("{REGISTRY} does not parse: {error}"))?;
        Ok(Self { index, registry })
    }

    /// The entries of the index by id.
    fn entries(&self) -> BTreeMap<String, Value> {
        let entries = self.index["backups"].as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .map(|entry| (entry["id"].as_str().unwrap_or_default().to_owned(), entry))
            .collect()
    }

    fn restores(&self) -> usize {
        self.entries().values().map(|entry| entry["restores"].as_array().map_or(0, Vec::len)).sum()
    }
}

impl Promise {
    /// Learns what is promised: from the world before, and from two worlds in which the command ran
    /// undisturbed. The live directory and `targets` are judged.
    pub(crate) fn new(before: &TestRoot, runs: [&TestRoot; 2], targets: &[&'static str]) -> Self {
        let mut paths: Vec<&'static str> = vec![LIVE];
        paths.extend(targets.iter().filter(|path| **path != LIVE));
        let target = |path: &'static str| {
            let [one, two] = runs.map(|root| Tree::of(&root.path(path)));
            let restless = one.restless(&two);
            let new = one.without_times(&restless);
            let differences = new.differences(&two.without_times(&restless));
            assert!(differences.is_empty(), "two undisturbed runs differ in {path}:\n{differences}");
            Target { path, old: Tree::of(&before.path(path)), new, restless }
        };
        Self {
            targets: paths.into_iter().map(target).collect(),
            before: Records::of(before).unwrap(),
            after: Records::of(runs[0]).unwrap(),
            paths: all_paths(before),
            lines: lines(before).len(),
        }
    }

    /// Right after a crash, before anything else has run.
    pub(crate) fn after_crash(&self, root: &TestRoot) -> Violations {
        judged(|found| {
            self.trees(root, found);
            self.records(root, found);
            no_locks(root, found);
        })
    }

    /// Only that the directories are old or new: cheap, for a look between two calls.
    pub(crate) fn trees_only(&self, root: &TestRoot) -> Violations {
        judged(|found| self.trees(root, found))
    }

    /// After the same command has run again to a good end; `attempts` came to no end before.
    pub(crate) fn after_rerun(&self, root: &TestRoot, attempts: usize) -> Violations {
        judged(|found| {
            self.end_state(root, attempts, found);
            self.records(root, found);
            no_locks(root, found);
            self.leftovers(root, found);
        })
    }

    /// After a command that failed and said that everything is as it was.
    pub(crate) fn after_failure(&self, root: &TestRoot) -> Violations {
        judged(|found| {
            for target in &self.targets {
                let differences = target.old.differences(&Tree::of(&root.path(target.path)));
                if !differences.is_empty() {
                    found.push(format!("{} is not as it was:\n{differences}", target.path));
                }
            }
            self.records(root, found);
            no_locks(root, found);
            if let Ok(records) = Records::of(root) {
                if records.restores() != self.before.restores() {
                    found.push("a restore is recorded that did not happen".to_owned());
                }
                if records.registry != self.before.registry {
                    found.push(format!("{REGISTRY} is not as it was"));
                }
            }
            self.leftovers(root, found);
        })
    }

    fn trees(&self, root: &TestRoot, found: &mut Violations) {
        for target in &self.targets {
            let is = Tree::of(&root.path(target.path));
            let from_old = target.old.differences(&is);
            let from_new = target.new.differences(&is.without_times(&target.restless));
            if !from_old.is_empty() && !from_new.is_empty() {
                found.push(format!(
                    "{} is neither old nor new\nfrom the old one:\n{from_old}from the new one:\n{from_new}",
                    target.path
                ));
            }
        }
    }

    /// Index, registry and log are whole, and what they name is there.
    fn records(&self, root: &TestRoot, found: &mut Violations) {
        match Records::of(root) {
            Err(what) => found.push(what),
            Ok(records) => {
                let entries = records.entries();
                for id in self.after.entries().keys().filter(|id| self.before.entries().contains_key(*id)) {
                    if !entries.contains_key(id) {
                        found.push(format!("{INDEX} has lost {id}"));
                    }
                }
                for entry in entries.values().filter(|entry| entry["status"] == "available") {
                    if let Err(what) = whole(root, entry) {
                        found.push(format!("{INDEX} says that {} is available: {what}", entry["id"]));
                    }
                }
                let registry = self.scrubbed(&records.registry);
                let known = [&self.before.registry, &self.after.registry].map(|known| self.scrubbed(known));
                if !known.contains(&registry) {
                    found.push(format!("{REGISTRY} is neither old nor new: {registry:#}"));
                }
            }
        }
        let lines = lines(root);
        for (number, line) in lines.iter().enumerate() {
            if serde_json::from_str::<Value>(line).is_err() && number + 1 < lines.len() {
                found.push(format!("line {} of {LOG} is torn: {line}", number + 1));
            }
        }
        if lines.len() < self.lines {
            found.push(format!("{LOG} has lost lines"));
        }
    }

    /// All is as after an undisturbed run, but for ids and times.
    fn end_state(&self, root: &TestRoot, attempts: usize, found: &mut Violations) {
        for target in &self.targets {
            let is = Tree::of(&root.path(target.path)).without_times(&target.restless);
            let differences = target.new.differences(&is);
            if !differences.is_empty() {
                found.push(format!("{} is not what was promised:\n{differences}", target.path));
            }
        }
        let records = match Records::of(root) {
            Ok(records) => records,
            Err(what) => return found.push(what),
        };
        if self.scrubbed(&records.registry) != self.scrubbed(&self.after.registry) {
            found.push(format!("{REGISTRY} is not what was promised: {:#}", records.registry));
        }
        let (is, promised, was) = (records.entries(), self.after.entries(), self.before.entries());
        for (id, entry) in promised.iter().filter(|(id, _)| was.contains_key(*id)) {
            let (is, promised) = (is.get(id).map(|is| self.scrubbed(is)), self.scrubbed(entry));
            if is.as_ref() != Some(&promised) {
                found.push(format!("{INDEX}: {id} is not what was promised: {is:?} instead of {promised}"));
            }
        }
        let new =
            |entries: &BTreeMap<String, Value>| entries.keys().filter(|id| !was.contains_key(*id)).count();
        let (made, wanted) = (new(&is), new(&promised));
        if made < wanted || made > wanted + attempts {
            found.push(format!("{made} backups were made instead of {wanted} (and {attempts} attempts)"));
        }
        if records.restores() != self.after.restores() {
            found.push(format!(
                "{} restores are recorded instead of {}",
                records.restores(),
                self.after.restores()
            ));
        }
    }

    /// Without what differs from run to run: times, ids of runs, ids of backups that were not there before.
    fn scrubbed(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => "(time)".into(),
            Value::String(text) if text.parse::<RunId>().is_ok() => "(run)".into(),
            // `run rollback` makes its plan anew each time.
            Value::String(text) if text.starts_with("sha256:") => "(plan)".into(),
            Value::String(text) if self.is_new_backup(text) => "(backup)".into(),
            Value::Array(values) => values.iter().map(|value| self.scrubbed(value)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), self.scrubbed(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }

    /// The id of a backup that was not there before; it begins with its time.
    fn is_new_backup(&self, text: &str) -> bool {
        let dated = text.len() > 15 && text.bytes().take(8).all(|byte| byte.is_ascii_digit());
        dated && text.parse::<BackupId>().is_ok() && !self.before.entries().contains_key(text)
    }

    /// Every path is one that was there before, or that a list of the program names.
    fn leftovers(&self, root: &TestRoot, found: &mut Violations) {
        let listed = root.json(&["run", "list"]);
        if listed.code != 0 {
            return found.push(format!("run list fails: {}{}", listed.stdout, listed.stderr));
        }
        let runs = listed.json()["runs"].as_array().cloned().unwrap_or_default();
        let mut named = Named::default();
        for run in &runs {
            let id = run["run"].as_str().unwrap_or_default();
            let outcome = run["outcome"].as_str().unwrap_or_default();
            if !run["damage"].is_null() {
                found.push(format!("the journal of run {id} is damaged: {}", run["damage"]));
            }
            if !["applied", "rolled_back", "not_begun"].contains(&outcome) {
                found.push(format!("run {id} is left {outcome}"));
            }
            let directory = PathBuf::from("var/lib/abssctl/runs").join(id);
            for name in ["", "plan", "journal.jsonl", "assets", "assets/unit", "assets/site"] {
                named.files.insert(directory.join(name));
            }
            if let Some(staging) = run["staging"].as_str() {
                named.trees.push(PathBuf::from(staging.trim_start_matches('/')));
            }
            if let Some(displaced) = run["displaced"].as_str() {
                let displaced = PathBuf::from(displaced.trim_start_matches('/'));
                let target = self.targets.iter().find(|target| run["target"] == format!("/{}", target.path));
                let is = Tree::of(&root.path(&displaced));
                // XFS gives a directory that moves to another one a new time.
                let itself = [PathBuf::new()];
                let what = target.map(|target| {
                    target.old.clone().without_times(&itself).differences(&is.clone().without_times(&itself))
                });
                if let Some(what) = what.filter(|what| !what.is_empty())
                    && !is.is_empty()
                    && !self.paths.contains(&displaced)
                {
                    found.push(format!("{} is not the tree before:\n{what}", displaced.display()));
                }
                named.trees.push(displaced);
            }
        }
        if let Ok(records) = Records::of(root) {
            for entry in records.entries().values() {
                let path = entry["path"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
                named.files.insert(PathBuf::from(format!("{path}.sha256")));
                named.files.insert(PathBuf::from(path));
            }
        }
        named.trees.extend(
            self.targets.iter().filter(|target| !target.new.is_empty()).map(|target| target.path.into()),
        );
        named.files.extend([LOG, "run/abssctl/abssctl.lock", "run/abssctl/budget.lock"].map(PathBuf::from));
        named.files.insert("var/lib/abssctl/runs".into());
        for path in all_paths(root) {
            if !self.paths.contains(&path) && !named.has(&path) {
                found.push(format!("{} is left, and nothing names it", path.display()));
            }
        }
    }
}

/// Paths that a list of the program names.
#[derive(Debug, Default)]
struct Named {
    files: BTreeSet<PathBuf>,
    trees: Vec<PathBuf>,
}

impl Named {
    /// Also the directories that lead to a named tree.
    fn has(&self, path: &Path) -> bool {
        self.files.contains(path)
            || self.trees.iter().any(|tree| path.starts_with(tree) || tree.starts_with(path))
    }
}

/// Judges; what ends the judge is a violation too.
fn judged(judge: impl FnOnce(&mut Violations)) -> Violations {
    let mut found = Vec::new();
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| judge(&mut found))) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        found.push(format!("it cannot be judged: {text}"));
    }
    found
}

/// Proves an archive and its sidecar against its entry.
fn whole(root: &TestRoot, entry: &Value) -> Result<(), String> {
    let path = entry["path"].as_str().unwrap_or_default();
    let bytes = std::fs::read(root.path(path)).map_err(|error| format!("{path}: {error}"))?;
    if entry["size_bytes"] != bytes.len() {
        return Err(format!("{path} has {} bytes", bytes.len()));
    }
    let digest = Sha256::of(&bytes).to_string();
    if entry["checksum"]["value"] != digest {
        return Err(format!("{path} has SHA-256 {digest}"));
    }
    let sidecar = std::fs::read_to_string(root.path(format!("{path}.sha256")))
        .map_err(|error| format!("{path}.sha256: {error}"))?;
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    if sidecar == format!("{digest}  {name}\n") {
        Ok(())
    } else {
        Err(format!("{path}.sha256 says {sidecar:?}"))
    }
}

/// The kernel has let go of every lock.
fn no_locks(root: &TestRoot, found: &mut Violations) {
    let locks = all_paths(root)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "lock") || path.ends_with("journal.jsonl"));
    for path in locks {
        match File::open(root.path(&path)) {
            Ok(file) if file.try_lock().is_err() => found.push(format!("{} is locked", path.display())),
            Ok(_) => {}
            Err(error) => found.push(format!("{}: {error}", path.display())),
        }
    }
}

fn lines(root: &TestRoot) -> Vec<String> {
    let text = std::fs::read_to_string(root.path(LOG)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Every path below the root.
fn all_paths(root: &TestRoot) -> BTreeSet<PathBuf> {
    root_tree_paths(&root.path("/"))
}

fn root_tree_paths(base: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut todo = vec![base.to_owned()];
    while let Some(directory) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(path.clone());
            }
            found.insert(path.strip_prefix(base).unwrap_or(&path).to_owned());
        }
    }
    found
}
