//! Machines that lack something: space, the right to write, a target that can be exchanged, quiet.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::archive::{MADE, Member, make, members};
use crate::support::root::{LIVE, Running, ZSTD};
use crate::support::strace::Stopped;
use crate::support::tools::{Mount, is_root, noise, skip_unless, tool, wait_for};
use crate::support::tree::Tree;
use crate::support::{Ran, TestRoot};

/// A root on a file system of its own, of this size.
fn small(size: &str) -> (TempDir, Mount, TestRoot) {
    let directory = TempDir::with_prefix("abssctl-it-").unwrap();
    let mount = Mount::tmpfs(directory.path(), &format!("size={size},mode=0755"));
    let root = TestRoot::at(directory.path());
    (directory, mount, root)
}

/// Fills what is free but for some bytes.
fn fill(directory: &Path, leave: u64) {
    let stat = rustix::fs::statvfs(directory).unwrap();
    let free = stat.f_bavail * stat.f_frsize;
    let file = std::fs::File::create(directory.join("filler")).unwrap();
    let mut left = free.saturating_sub(leave);
    let block = vec![7_u8; 4096];
    while left > 0 {
        let count = left.min(4096);
        let written = std::io::Write::write(&mut &file, &block[..usize::try_from(count).unwrap()]);
        match written {
            Ok(count) => left -= count as u64,
            Err(_) => break,
        }
    }
}

fn skip(test: &str) -> bool {
    skip_unless(test, is_root(), "needs root, to mount a file system")
}

#[test]
fn too_little_space_is_known_before_anything_begins() {
    if skip("too_little_space_is_known_before_anything_begins") {
        return;
    }
    let (_directory, _mount, root) = small("8m");
    let plan = root.plan(&[ZSTD]);
    fill(&root.path("/"), 64 << 10);
    let before = root.tree();
    let planned = root.json(&["plan", "restore", ZSTD, "-o", "-"]).ok().json();
    assert_eq!(planned["plan"]["observed"]["space"]["verdict"], "will-not");
    let object = root.apply(&plan).refused(3, &["space", "space-backup"]);
    assert!(object["problems"][0]["message"].as_str().unwrap().contains("173632 bytes"), "{object:#}");
    before.assert_same(&root.tree(), "a full disk");

    std::fs::remove_file(root.path("filler")).unwrap();
    let _ = root.apply(&plan).ok();
    root.assert_generation("gen-a.sha256");
}

/// Makes the disk full while the run goes on: the reader of the space that was free is too late.
fn fills_up(leave: u64, args: &[&str]) {
    let (_directory, _mount, root) = small("64m");
    // A backup large enough that the disk is full in the middle of a file.
    let mut all = members(&root);
    all.push(Member::file("data/large", &noise(6 << 20)));
    make(&root, &all);
    let mut wanted = vec![MADE];
    wanted.extend(args);
    let plan = root.plan(&wanted);
    let before = root.tree_but_records().without(&["filler"]);
    // `check` has seen the space when it is done; that is the time to take it.
    let staging = root.path("srv/.abssctl/staging");
    let unpacking = || {
        let mut runs = std::fs::read_dir(&staging).into_iter().flatten().flatten();
        runs.any(|run| run.path().join("data").exists())
    };
    let command = root.command(&["apply", plan.to_str().unwrap(), "--yes", "--json"]);
    let stopped = Stopped::when(&command, "mkdirat", None, unpacking);
    fill(&root.path("/"), leave);
    let ran = stopped.end();
    let error = ran.error(3, "abssctl::apply::rolled_back", &["No space left"]);
    assert_eq!(error["result"]["outcome"], "rolled_back", "{error:#}");
    before.assert_same(&root.tree_but_records().without(&["filler"]), "a disk that fills up");
    root.assert_no_private();
    root.assert_generation("gen-b.sha256");
    std::fs::remove_file(root.path("filler")).unwrap();
    let _ = root.apply(&plan).ok();
    assert!(root.path("srv/budget/large").exists());
}

#[test]
fn a_disk_that_fills_up_while_unpacking() {
    if skip("a_disk_that_fills_up_while_unpacking") {
        return;
    }
    fills_up(2 << 20, &["--no-pre-backup"]);
}

#[test]
fn a_disk_that_fills_up_so_that_not_even_the_journal_has_room() {
    if skip("a_disk_that_fills_up_so_that_not_even_the_journal_has_room") {
        return;
    }
    fills_up(0, &["--no-pre-backup"]);
}

#[test]
fn only_the_file_system_of_the_instances_is_full() {
    if skip("only_the_file_system_of_the_instances_is_full") {
        return;
    }
    let root = TestRoot::new();
    std::fs::create_dir(root.path("srv/disk")).unwrap();
    let _mount = Mount::tmpfs(&root.path("srv/disk"), "size=2m,mode=0755");
    let plan = root.plan(&[ZSTD, "--dest", "/srv/disk/copy"]);
    fill(&root.path("srv/disk"), 100 << 10);
    let before = root.tree();
    let object = root.apply(&plan).refused(3, &["space"]);
    assert!(object["problems"][0]["message"].as_str().unwrap().contains("/srv/disk/copy"), "{object:#}");
    before.assert_same(&root.tree(), "a full disk");
    std::fs::remove_file(root.path("srv/disk/filler")).unwrap();
    let _ = root.apply(&plan).ok();
}

#[test]
fn only_the_file_system_of_the_backups_is_full() {
    if skip("only_the_file_system_of_the_backups_is_full") {
        return;
    }
    let root = TestRoot::new();
    let kept = TempDir::new().unwrap();
    let _ = tool("cp", &["-a", root.path("srv/backups/.").to_str().unwrap(), kept.path().to_str().unwrap()]);
    let mount = Mount::tmpfs(&root.path("srv/backups"), "size=2m,mode=0750");
    let _ = tool(
        "cp",
        &["-a", kept.path().join(".").to_str().unwrap(), root.path("srv/backups").to_str().unwrap()],
    );
    let plan = root.plan(&[ZSTD]);
    fill(&root.path("srv/backups"), 100 << 10);
    let before = root.tree();
    let _ = root.apply(&plan).refused(3, &["space-backup"]);
    before.assert_same(&root.tree(), "a full disk of backups");
    let failed = root.json(&["backup", "create", "budget", "--compression", "none"]);
    assert_eq!(failed.code, 3, "{}", failed.stdout);
    before.without(&["run", "var/log"]).without_directory_times().assert_same(
        &root.tree().without(&["run", "var/log"]).without_directory_times(),
        "a backup that has no room",
    );
    drop(mount);
}

#[test]
fn a_file_system_that_is_read_only() {
    if skip("a_file_system_that_is_read_only") {
        return;
    }
    let (_directory, mount, root) = small("16m");
    let plan = root.plan(&[ZSTD]);
    let before = root.tree();
    mount.remount("ro");
    let planned = root.json(&["plan", "restore", ZSTD, "-o", "-"]);
    assert_eq!(planned.code, 0, "a plan can be made: {}", planned.stdout);
    let ran = root.apply(&plan);
    let object = ran.json();
    assert_eq!(ran.code, 3, "{object:#}");
    let problems = object["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["code"] == "read-only"), "{object:#}");
    let created = root.json(&["backup", "create", "budget"]);
    assert_eq!(created.code, 3, "{}", created.stdout);
    mount.remount("rw");
    before.assert_same(&root.tree(), "a read-only file system");
    let _ = root.apply(&plan).ok();
}

/// A live directory that cannot be exchanged: refused when planned and when a plan from before is applied.
fn not_exchangeable(root: &TestRoot, plan: &Path, what: &str) {
    let before = root.tree();
    let _ = root.json(&["plan", "restore", ZSTD, "-o", "-"]).error(
        3,
        "abssctl::survey::target_kind",
        &["/srv/budget", what],
    );
    let _ = root.apply(plan).error(3, "abssctl::survey::target_kind", &["/srv/budget", what]);
    before.assert_same(&root.tree(), what);
}

#[test]
fn a_live_directory_that_is_a_symbolic_link() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    std::fs::rename(root.path(LIVE), root.path("srv/real")).unwrap();
    std::os::unix::fs::symlink("real", root.path(LIVE)).unwrap();
    not_exchangeable(&root, &plan, "a symbolic link");
}

#[test]
fn a_live_directory_that_is_a_file() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    std::fs::remove_dir_all(root.path(LIVE)).unwrap();
    root.write(LIVE, "a file");
    not_exchangeable(&root, &plan, "not a directory");
}

#[test]
fn a_live_directory_whose_parent_is_gone() {
    let root = TestRoot::new();
    let before = root.tree();
    let ran = root.json(&["plan", "restore", ZSTD, "--dest", "/srv/no/such/place", "-o", "-"]);
    let _ = ran.error(3, "abssctl::survey::no_parent", &["/srv/no/such"]);
    before.assert_same(&root.tree(), "a parent that is gone");
}

#[test]
fn a_process_with_files_open_in_the_live_directory_is_named() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let before = root.tree();
    for directory in [false, true] {
        let holder = {
            let mut holder = Command::new("sleep");
            holder.arg("1000");
            if directory {
                holder.current_dir(root.path("srv/budget/data"));
            }
            let mut running = holder.stdout(Stdio::null());
            if !directory {
                running =
                    running.stdin(std::fs::File::open(root.path("srv/budget/data/config.json")).unwrap());
            }
            // The command itself keeps the file open: it must be gone before anybody looks.
            Running::start(running)
        };
        let _ = wait_for("the holder", || {
            std::fs::read_to_string(format!("/proc/{}/comm", holder.id()))
                .ok()
                .filter(|comm| comm == "sleep\n")
        });
        let object = root.apply(&plan).refused(3, &["target-in-use"]);
        let message = object["problems"][0]["message"].as_str().unwrap();
        assert!(message.contains(&format!("process {} (sleep 1000)", holder.id())), "{message}");
        let _ = root.json(&["plan", "check", plan.to_str().unwrap()]).code(3);
        before.assert_same(&root.tree(), "a directory in use");
        holder.kill();
    }
    let _ = root.apply(&plan).ok();
}

#[test]
fn a_process_that_comes_late_stops_the_swap() {
    if skip_unless(
        "a_process_that_comes_late_stops_the_swap",
        crate::support::strace::works(),
        "ptrace is not permitted",
    ) {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    let before = root.tree_but_records();
    let command = root.command(&["apply", plan.to_str().unwrap(), "--yes", "--json"]);
    let stopped = Stopped::after(&command, "syncfs", None);
    let late = Running::start(Command::new("sleep").arg("1000").current_dir(root.path("srv/budget/data")));
    let ran = stopped.end();
    let error = ran.error(3, "abssctl::apply::rolled_back", &[&format!("process {}", late.id())]);
    assert_eq!(error["cause"]["code"], "abssctl::step::in_use", "{error:#}");
    late.kill();
    before.assert_same(&root.tree_but_records(), "a late process");
    root.assert_no_private();
    let _ = root.apply(&plan).ok();
}

#[test]
fn without_the_rights_nothing_begins() {
    if skip_unless("without_the_rights_nothing_begins", is_root(), "needs root, to become somebody else") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    // Readable for everybody, writable for nobody but root; the binary may lie where only root looks.
    let _ = tool("chmod", &["-R", "a+rX", root.path("/").to_str().unwrap()]);
    let open = root.work("open");
    std::fs::create_dir(&open).unwrap();
    let _ = tool("chmod", &["755", root.work("").to_str().unwrap()]);
    let binary = open.join("abssctl");
    std::fs::copy(env!("CARGO_BIN_EXE_abssctl"), &binary).unwrap();
    let _ = tool("chmod", &["-R", "a+rX", root.work("").to_str().unwrap()]);
    let before = Tree::of(&root.path("/"));
    let ran = Ran::of(
        Command::new("setpriv")
            .args(["--reuid=12345", "--regid=12345", "--clear-groups"])
            .arg(&binary)
            .arg("--root")
            .arg(root.path("/"))
            .args(["apply", plan.to_str().unwrap(), "--yes", "--json"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin"),
    );
    let object = ran.json();
    assert_eq!(ran.code, if object["problems"].is_array() { 5 } else { 3 }, "{object:#}");
    before.assert_same(&Tree::of(&root.path("/")), "somebody without rights");
}
