//! One at a time: the locks are the peer's own, so that it and we never work on one instance together.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;

use crate::support::root::{Running, ZSTD};
use crate::support::strace::{self, Stopped};
use crate::support::tools::{have, skip_unless, tool, wait_for};
use crate::support::{Ran, TestRoot};

const LOCKS: [(&str, &str); 2] =
    [("run/abssctl/abssctl.lock", "global"), ("run/abssctl/budget.lock", "budget")];

/// `flock` from util-linux holds a lock in a process of its own.
fn flock(path: &Path) -> Running {
    let mut command = Command::new("flock");
    command.args(["--exclusive", "--no-fork"]).arg(path).args(["sleep", "1000"]);
    let running = Running::start(&mut command);
    let _ = wait_for("the lock", || {
        std::fs::read_to_string(format!("/proc/{}/comm", running.id())).ok().filter(|comm| comm == "sleep\n")
    });
    running
}

/// Python's `fcntl.flock` holds it, as the peer does.
fn python(program: &str, code: &str, path: &Path) -> Running {
    let mut command = Command::new(program);
    command.args(["-c", code]).arg(path);
    let mut running = Running::start(&mut command);
    let mut line = String::new();
    let _ = BufReader::new(running.child().stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    running
}

const FCNTL: &str = "
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o640)
fcntl.flock(fd, fcntl.LOCK_EX)
print('held', flush=True)
time.sleep(1000)
";

/// The peer's own code, from its package.
const PEER: &str = "
import pathlib, sys, time
from abssctl.locking import LockManager
path = pathlib.Path(sys.argv[1])
locks = LockManager(path.parent, 5)
handle = locks.global_lock() if path.name == 'abssctl.lock' else locks.instance_lock(path.stem)
with handle:
    print('held', flush=True)
    time.sleep(1000)
";

/// Everything that changes something waits for the lock, gives up in time, names the holder.
fn kept_out(root: &TestRoot, holder: &Running, name: &str) {
    let plan = root.plan(&[ZSTD]);
    let before = root.tree_but_records();
    let holder = format!("process {}", holder.id());
    let words = [name, holder.as_str(), "was not free within 1 s"];
    let timeout = ["--lock-timeout", "1"];
    let mut command = root.command(&["apply", plan.to_str().unwrap(), "--yes", "--json"]);
    let error = Ran::of(command.args(timeout)).error(3, "abssctl::apply::rolled_back", &words);
    assert_eq!(error["cause"]["code"], "abssctl::lock::timeout", "{error:#}");
    let mut command = root.command(&["backup", "create", "budget", "--json"]);
    let created = Ran::of(command.args(timeout)).says(&format!("waiting for {}", lock_words(name)));
    let _ = created.error(3, "abssctl::lock::timeout", &words);
    before.assert_same(&root.tree_but_records(), "somebody else holds the lock");
    root.assert_no_private();
}

fn lock_words(name: &str) -> &'static str {
    if name == "global" {
        "the global lock, which is held by"
    } else {
        "the lock of instance 'budget', which is held by"
    }
}

#[test]
fn a_lock_of_util_linux_keeps_us_out() {
    if skip_unless("a_lock_of_util_linux_keeps_us_out", have("flock"), "flock is missing") {
        return;
    }
    for (path, name) in LOCKS {
        let root = TestRoot::new();
        let holder = flock(&root.path(path));
        kept_out(&root, &holder, name);
        holder.kill();
        let _ = root.json(&["backup", "create", "budget"]).ok();
        let _ = root.restore(&[ZSTD]);
    }
}

#[test]
fn a_lock_of_python_keeps_us_out() {
    if skip_unless("a_lock_of_python_keeps_us_out", have("python3"), "python3 is missing") {
        return;
    }
    for (path, name) in LOCKS {
        let root = TestRoot::new();
        let holder = python("python3", FCNTL, &root.path(path));
        kept_out(&root, &holder, name);
    }
}

/// The Python that has the peer, where tests/run.sh found one.
fn peer_python(test: &str) -> Option<String> {
    let python = std::env::var("ABSSCTL_TEST_PYTHON").ok();
    let can = python.as_ref().is_some_and(|python| {
        Command::new(python).args(["-c", "import abssctl.locking"]).output().is_ok_and(|o| o.status.success())
    });
    let skip =
        skip_unless(test, can, "ABSSCTL_TEST_PYTHON names no Python with the peer; tests/run.sh sets it");
    python.filter(|_| !skip)
}

#[test]
fn the_peer_keeps_us_out() {
    let Some(python_with_peer) = peer_python("the_peer_keeps_us_out") else { return };
    for (path, name) in LOCKS {
        let root = TestRoot::new();
        let holder = python(&python_with_peer, PEER, &root.path(path));
        kept_out(&root, &holder, name);
    }
}

/// A run that holds both locks, and stands still.
fn stopped_apply(root: &TestRoot) -> Stopped {
    let plan = root.plan(&[ZSTD]);
    Stopped::after(&root.command(&["apply", plan.to_str().unwrap(), "--yes", "--json"]), "syncfs", None)
}

#[test]
fn we_keep_others_out() {
    let can = strace::works() && have("flock") && have("python3");
    if skip_unless("we_keep_others_out", can, "strace, flock or python3 is missing") {
        return;
    }
    let root = TestRoot::new();
    let stopped = stopped_apply(&root);
    for (path, _) in LOCKS {
        let path = root.path(path);
        let path = path.to_str().unwrap();
        let tried = Ran::of(Command::new("flock").args(["--nonblock", path, "true"]));
        assert_eq!(tried.code, 1, "flock got {path}");
        let code = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)";
        let tried = Ran::of(Command::new("python3").args(["-c", code, path]));
        assert!(tried.code == 1 && tried.stderr.contains("BlockingIOError"), "{tried:?}");
        let holder: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(holder["path"], path);
        assert!(holder["acquired_at"].is_string());
    }
    let created = root.json(&["backup", "create", "budget", "--lock-timeout", "0"]);
    let pid = stopped.pid();
    let _ = created.error(3, "abssctl::lock::timeout", &[&format!("process {pid} ("), "abssctl"]);
    let _ = stopped.end().ok();
    for (path, _) in LOCKS {
        let _ = tool("flock", &["--nonblock", root.path(path).to_str().unwrap(), "true"]);
    }
}

#[test]
fn the_peer_is_kept_out() {
    let Some(python_with_peer) = peer_python("the_peer_is_kept_out") else { return };
    if skip_unless("the_peer_is_kept_out", strace::works(), "ptrace is not permitted") {
        return;
    }
    let root = TestRoot::new();
    let stopped = stopped_apply(&root);
    let code = "
import pathlib, sys
from abssctl.locking import LockManager, LockTimeoutError
try:
    with LockManager(pathlib.Path(sys.argv[1]), 0.2).mutate_instances(['budget']):
        print('got it')
except LockTimeoutError:
    print('kept out')
";
    let tried =
        Ran::of(Command::new(&python_with_peer).args(["-c", code]).arg(root.path("run/abssctl"))).ok();
    assert_eq!(tried.stdout, "kept out\n");
    let _ = stopped.end().ok();
    let tried =
        Ran::of(Command::new(&python_with_peer).args(["-c", code]).arg(root.path("run/abssctl"))).ok();
    assert_eq!(tried.stdout, "got it\n");
}

#[test]
fn whoever_waits_goes_on_when_the_holder_is_gone() {
    if skip_unless("whoever_waits_goes_on_when_the_holder_is_gone", have("flock"), "flock is missing") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let holder = flock(&root.path("run/abssctl/budget.lock"));
    let mut running =
        root.start(&["apply", plan.to_str().unwrap(), "--yes", "--events", "--lock-timeout", "60"]);
    let mut lines = BufReader::new(running.child().stdout.take().unwrap()).lines().map(Result::unwrap);
    let waiting = lines.find(|line| line.contains("\"waiting\"")).unwrap();
    assert!(waiting.contains(&format!("process {}", holder.id())), "{waiting}");
    holder.kill();
    let rest: Vec<String> = lines.collect();
    let _ = running.end().ok();
    assert!(
        rest.iter().any(|line| line.contains("already_applied") || line.contains("\"applied\"")),
        "{rest:?}"
    );
    root.assert_generation("gen-a.sha256");
}

/// A backup has the instance open: that is nobody to be stopped by hand, but somebody to wait for.
#[test]
fn apply_waits_for_a_backup_that_is_being_made() {
    if skip_unless("apply_waits_for_a_backup_that_is_being_made", strace::works(), "needs strace") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let backup = Stopped::after(&root.command(&["backup", "create", "budget"]), "renameat2", None);
    let _ = root.run(&["plan", "check", plan.to_str().unwrap()]).ok();
    let mut running =
        root.start(&["apply", plan.to_str().unwrap(), "--yes", "--events", "--lock-timeout", "60"]);
    let mut lines = BufReader::new(running.child().stdout.take().unwrap()).lines().map(Result::unwrap);
    let waiting = lines.find(|line| line.contains("\"waiting\"")).expect("it waits");
    assert!(waiting.contains(&format!("process {} (", backup.pid())), "{waiting}");
    let _ = backup.end().ok();
    let rest: Vec<String> = lines.collect();
    let _ = running.end().ok();
    assert!(rest.iter().any(|line| line.contains("\"applied\"")), "{rest:?}");
    root.assert_generation("gen-a.sha256");
    // Whoever else has it open is in the way as ever.
    let mut other = Command::new("sleep");
    let other = Running::start(other.arg("1000").current_dir(root.path("srv/budget")));
    let plan = root.plan(&[ZSTD]);
    let ran = root.json(&["plan", "check", plan.to_str().unwrap()]).code(3);
    assert!(ran.stdout.contains(&format!("process {} (", other.id())), "{}", ran.stdout);
}

#[test]
fn a_signal_ends_the_wait() {
    if skip_unless("a_signal_ends_the_wait", have("flock"), "flock is missing") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let before = root.tree_but_records();
    let _holder = flock(&root.path("run/abssctl/abssctl.lock"));
    for (args, signal, exit) in [
        (vec!["apply", plan.to_str().unwrap(), "--yes"], "-INT", 130),
        (vec!["backup", "create", "budget"], "-TERM", 143),
    ] {
        let mut running = root.start(&args);
        let mut stderr = BufReader::new(running.child().stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("waiting for") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended without waiting");
        }
        let _ = tool("kill", &[signal, &running.id().to_string()]);
        let mut rest = String::new();
        let _ = std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
        let _ = running.end().code(exit);
        before.assert_same(&root.tree_but_records(), "a wait that was ended");
    }
}

#[test]
fn a_holder_that_was_killed_holds_nothing() {
    let root = TestRoot::new();
    // What it wrote into the file stays; the kernel gave the lock back.
    for (path, _) in LOCKS {
        root.write(path, "{\"pid\": 1, \"acquired_at\": \"2026-11-24T00:00:00Z\", \"path\": \"x\"}");
    }
    let _ = root.json(&["backup", "create", "budget", "--lock-timeout", "0"]).ok();
    if skip_unless("a_holder_that_was_killed_holds_nothing", strace::works(), "ptrace is not permitted") {
        return;
    }
    let before = root.tree_but_records();
    let fsync =
        ["-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:signal=KILL:when=2"];
    let ran = strace::run(&root.command(&["backup", "create", "budget"]), &fsync);
    assert_eq!(ran.code, 137, "{}", ran.stderr);
    let listed = root.json(&["backup", "list"]).ok().json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 5, "no half backup in the list");
    let made = root.json(&["backup", "create", "budget", "--lock-timeout", "0"]).ok().json();
    let id = made["id"].as_str().unwrap();
    let new = [format!("srv/backups/budget/{id}.tar.zst"), format!("srv/backups/budget/{id}.tar.zst.sha256")];
    let mut left_out: Vec<&str> = new.iter().map(String::as_str).collect();
    left_out.push("srv/backups/backups.json");
    before.without(&["srv/backups/backups.json"]).assert_same(
        &root.tree_but_records().without(&left_out),
        "what the killed one left is gone with the next backup",
    );
}
