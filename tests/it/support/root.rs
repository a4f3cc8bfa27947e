//! A real instance in a temporary root, and the binary run on it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::Ran;
use super::journal;
use super::sums;
use super::tools::{Mount, fixture, tool};
use super::tree::Tree;

/// The peer's four backups of generation A: zstd, gzip, none, and one without unit and vhost.
pub(crate) const ZSTD: &str = "20261124-022632-budget-fc166c";
pub(crate) const GZIP: &str = "20261124-022634-budget-42b469";
pub(crate) const NONE: &str = "20261124-022636-budget-271703";
pub(crate) const DATA_ONLY: &str = "20261124-022639-budget-791f86";

/// The live directory.
pub(crate) const LIVE: &str = "srv/budget";
pub(crate) const INDEX: &str = "srv/backups/backups.json";
pub(crate) const REGISTRY: &str = "var/lib/abssctl/registry/instances.yml";
pub(crate) const LOG: &str = "var/log/abssctl/operations.jsonl";

/// A temporary root; plan files lie outside of it.
#[derive(Debug)]
pub(crate) struct TestRoot {
    root: PathBuf,
    _own: Option<TempDir>,
    work: TempDir,
}

impl TestRoot {
    /// The instance of the fixture: generation B is live, the backups hold generation A.
    pub(crate) fn new() -> Self {
        let own = TempDir::with_prefix("abssctl-it-").unwrap();
        let root = Self { root: own.path().to_owned(), _own: Some(own), work: TempDir::new().unwrap() };
        root.unpack();
        root
    }

    /// The same in a directory that is there already (a file system of its own). One that has been a root
    /// stays as it is: a disk that comes back after a crash.
    pub(crate) fn at(directory: &Path) -> Self {
        let root = Self { root: directory.to_owned(), _own: None, work: TempDir::new().unwrap() };
        if !root.path("srv").exists() {
            root.unpack();
        }
        root
    }

    /// A copy of all of it, in a directory of its own below `parent`.
    pub(crate) fn copy_below(&self, parent: &Path) -> Self {
        let own = TempDir::with_prefix_in("abssctl-it-", parent).unwrap();
        let from = self.root.join(".");
        let (from, to) = (from.to_str().unwrap(), own.path().to_str().unwrap());
        let _ = tool("cp", &["-a", "--reflink=auto", from, to]);
        let copy = Self { root: own.path().to_owned(), _own: Some(own), work: TempDir::new().unwrap() };
        journal::rebind(&copy);
        copy
    }

    /// Puts the live directory on a file system of its own, as a disk would be; only root can.
    pub(crate) fn mount_live(&self) -> Mount {
        let (live, aside) = (self.path(LIVE), self.path("srv/aside"));
        std::fs::rename(&live, &aside).unwrap();
        std::fs::create_dir(&live).unwrap();
        let mount = Mount::tmpfs(&live, "size=16m,mode=0755");
        let _ = tool("cp", &["-aT", aside.to_str().unwrap(), live.to_str().unwrap()]);
        std::fs::remove_dir_all(aside).unwrap();
        mount
    }

    fn unpack(&self) {
        let archive = fixture("budget-root.tar.gz");
        let _ = tool("tar", &["-xpf", archive.to_str().unwrap(), "-C", self.root.to_str().unwrap()]);
    }

    /// A path inside the root, as this machine names it.
    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.root.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// A path for plans and the like, outside of the root.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// The binary on this root in an environment that holds nothing of ours.
    pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        // Another program takes its place to see that tests notice: tests/power/mutations.sh.
        let other = std::env::var_os("ABSSCTL_TEST_BINARY");
        let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_abssctl").into()));
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        command.env("HOME", self.work.path()).env("TZ", "UTC").env("COLUMNS", "100").env("NO_COLOR", "1");
        command.arg("--root").arg(&self.root).args(args);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Ran {
        Ran::of(&mut self.command(args))
    }

    /// The same with `--json`.
    pub(crate) fn json<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Ran {
        Ran::of(self.command(args).arg("--json"))
    }

    /// Starts it and goes on; its output can be read.
    pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Writes a plan; `args` follow `plan restore`.
    pub(crate) fn plan(&self, args: &[&str]) -> PathBuf {
        let path = self.work("plan.json");
        let _ = self.plan_to(args, &path).ok();
        path
    }

    pub(crate) fn plan_to(&self, args: &[&str], path: &Path) -> Ran {
        let mut command = self.command(&["plan", "restore"]);
        Ran::of(command.args(args).arg("-o").arg(path))
    }

    pub(crate) fn apply(&self, plan: &Path) -> Ran {
        self.json(&["apply", plan.to_str().unwrap(), "--yes"])
    }

    /// Writes a plan for a backup and applies it; gives the result.
    pub(crate) fn restore(&self, args: &[&str]) -> Value {
        let plan = self.plan(args);
        let result = self.apply(&plan).ok().json();
        assert_eq!(result["outcome"], "applied");
        result
    }

    /// A picture of the whole root.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(&self.root)
    }

    /// A picture without what every run leaves, also one that was undone: its own record, the line in the
    /// operations log, the lock files, and the times of the directories that hold these.
    pub(crate) fn tree_but_records(&self) -> Tree {
        self.tree().without(&["var/lib/abssctl/runs", "run/abssctl", LOG]).without_directory_times()
    }

    /// A picture of the live directory alone.
    pub(crate) fn live(&self) -> Tree {
        Tree::of(&self.path(LIVE))
    }

    #[track_caller]
    pub(crate) fn assert_generation(&self, list: &str) {
        sums::assert_generation(&self.path(LIVE), list);
    }

    pub(crate) fn read(&self, inside: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap()
    }

    pub(crate) fn write(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(inside), content).unwrap();
    }

    /// The index as JSON.
    pub(crate) fn index(&self) -> Value {
        serde_json::from_str(&self.read(INDEX)).unwrap()
    }

    /// Changes the index and writes it as the peer does.
    pub(crate) fn edit_index(&self, edit: impl FnOnce(&mut Value)) {
        let mut index = self.index();
        edit(&mut index);
        self.write(INDEX, serde_json::to_string_pretty(&index).unwrap() + "\n");
    }

    /// One backup's entry in the index.
    pub(crate) fn entry(&self, id: &str) -> Value {
        let index = self.index();
        let entry = index["backups"].as_array().unwrap().iter().find(|entry| entry["id"] == id);
        entry.unwrap_or_else(|| panic!("the index has no {id}")).clone()
    }

    /// Changes one backup's entry.
    pub(crate) fn edit_entry(&self, id: &str, edit: impl FnOnce(&mut Value)) {
        self.edit_index(|index| {
            let entries = index["backups"].as_array_mut().unwrap();
            edit(entries.iter_mut().find(|entry| entry["id"] == id).unwrap());
        });
    }

    /// The instance's entry in the registry.
    pub(crate) fn registry(&self) -> Value {
        let text = self.read(REGISTRY);
        let registry: Value = serde_yaml::from_str(&text).unwrap();
        registry["instances"][0].clone()
    }

    /// Every line of the operations log.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.read(LOG).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// All runs, newest first.
    pub(crate) fn runs(&self) -> Vec<Value> {
        self.json(&["run", "list"]).ok().json()["runs"].as_array().unwrap().clone()
    }

    /// Proves that nothing of a run is left beside the live directory.
    #[track_caller]
    pub(crate) fn assert_no_private(&self) {
        assert!(!self.tree().has(".abssctl"), "a private directory is left: {:?}", self.tree().paths());
    }

    /// Runs a statement on a database of the live directory.
    pub(crate) fn sql(&self, database: impl AsRef<Path>, statement: &str) {
        let connection = rusqlite::Connection::open(self.path(database)).unwrap();
        connection.execute_batch(statement).unwrap();
    }
}

/// A process that runs beside the test; killed when it goes out of use.
#[derive(Debug)]
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        self.0.take().unwrap().wait_with_output().unwrap().into()
    }

    /// Kills it, as nothing can prevent.
    pub(crate) fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        let _ = child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
