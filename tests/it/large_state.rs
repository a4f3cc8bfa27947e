//! What grows for years slows nothing down: of the operations log only the end is read, and the index once.
//! Counted in calls of the kernel, so that no clock is involved.

use std::path::{Path, PathBuf};

use crate::support::TestRoot;
use crate::support::root::{INDEX, LOG, ZSTD};
use crate::support::strace;
use crate::support::tools::skip_unless;

/// The log is this much longer than it was, most of it a hole.
const HOLE: u64 = 4 << 30;
/// As much as may be read of it in all.
const MOST: u64 = 4 << 20;

fn skip(test: &str) -> bool {
    skip_unless(test, strace::works(), "needs strace")
}

/// Runs a command; gives the lines of `strace` about one file.
fn traced(root: &TestRoot, args: &[&str], calls: &str, inside: &str) -> Vec<String> {
    let log = root.work("strace");
    let (trace, path) = (format!("trace={calls}"), root.path(inside));
    let options = ["-y", "-o", log.to_str().unwrap(), "-e", &trace, "-P", path.to_str().unwrap()];
    let ran = strace::run(&root.command(args), &options);
    assert!([0, 2, 3].contains(&ran.code), "{args:?}\n{}", ran.stderr);
    std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

/// Bytes that a command reads of a file.
fn bytes_read(root: &TestRoot, args: &[&str], inside: &str) -> u64 {
    let calls = "read,pread64,readv,preadv,preadv2,copy_file_range,sendfile,mmap,splice";
    let lines = traced(root, args, calls, inside);
    lines.iter().filter_map(|line| line.rsplit(" = ").next()?.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// Commands that add to the log or look at it, in an order in which each has something to do.
fn commands(root: &TestRoot) -> Vec<Vec<String>> {
    let plan = root.work("plan.yaml").to_str().unwrap().to_owned();
    let words = |line: &str| line.replace("PLAN", &plan).split(' ').map(str::to_owned).collect::<Vec<_>>();
    [
        &format!("plan restore {ZSTD} -o PLAN"),
        "plan check PLAN",
        "backup create budget --json",
        "backup list",
        "backup verify --all",
        "doctor",
        "plan refresh PLAN -o PLAN",
        "apply PLAN --yes",
        "backup prune --keep 2 --yes",
        "run list",
    ]
    .map(words)
    .to_vec()
}

#[test]
fn of_a_long_log_only_the_end_is_read() {
    if skip("large_state::of_a_long_log_only_the_end_is_read") {
        return;
    }
    let root = TestRoot::new();
    let path: PathBuf = root.path(LOG);
    let lines = std::fs::read(&path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(HOLE).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[b"\n".as_slice(), &lines].concat(), HOLE).unwrap();
    let before = length(&path);
    let mut read = 0;
    for command in commands(&root) {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        let bytes = bytes_read(&root, &args, LOG);
        assert!(bytes <= MOST, "{args:?} read {bytes} bytes of the log");
        read += bytes;
    }
    assert!(read > 0, "some of them look at its end, or nothing was counted");
    assert!(length(&path) > before, "some of them add to it");
}

#[test]
fn the_index_is_read_as_often_as_it_must_be() {
    if skip("large_state::the_index_is_read_as_often_as_it_must_be") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let plan = plan.to_str().unwrap();
    let id = ZSTD;
    for (args, most) in [
        (vec!["plan", "restore", id, "-o", plan], 1),
        (vec!["plan", "check", plan], 2),
        (vec!["plan", "show", plan, "--all-files"], 1),
        (vec!["plan", "show", plan], 0),
        (vec!["plan", "validate", plan], 0),
        (vec!["backup", "list"], 1),
        (vec!["backup", "show", id], 1),
        (vec!["instance", "show", "budget"], 1),
        (vec!["backup", "prune", "--keep", "2", "--dry-run"], 1),
        (vec!["backup", "create", "budget", "--yes"], 1),
    ] {
        let calls = traced(&root, &args, "read,pread64", INDEX);
        // One read that finds the end follows the last one.
        let reads = calls.iter().filter(|line| line.ends_with(" = 0")).count();
        assert!(reads <= most, "{args:?} read it {reads} times\n{}", calls.join("\n"));
        assert_eq!(reads == 0, most == 0, "{args:?}: {calls:?}");
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}
