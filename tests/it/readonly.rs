//! Planning and looking change nothing: `strace` sees every call that could.

use std::path::Path;

use crate::support::TestRoot;
use crate::support::root::ZSTD;
use crate::support::strace;
use crate::support::tools::skip_unless;

/// Calls that change a file system whatever their arguments.
const CHANGES: &[&str] = &[
    "creat",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "truncate",
    "ftruncate",
    "fallocate",
    "utime",
    "utimes",
    "futimesat",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "mount",
    "umount2",
    "flock",
];

/// Calls that change something, each as its line; `output` is the directory of the one file that may.
fn changes(root: &TestRoot, args: &[&str], output: Option<&Path>) -> Vec<String> {
    let log = root.work("strace.log");
    // With a question mark, since an older strace does not know the youngest calls.
    let trace = format!("trace=%file,?{}", CHANGES.join(",?"));
    let options = ["-y", "-s", "4096", "-o", log.to_str().unwrap(), "-e", &trace];
    let _ = strace::run(&root.command(args), &options).ok();
    let text = std::fs::read_to_string(&log).unwrap();
    let calls: Vec<&str> = text.lines().filter(|line| !line.contains("+++ exited")).collect();
    assert!(calls.len() > 10, "the program was watched: {text}");
    let inside = root.path("/");
    assert!(
        args[0] == "plan" && args[1] == "show" || text.contains(inside.to_str().unwrap()),
        "what it does in the root was seen"
    );
    let allowed = |line: &str| output.is_some_and(|output| line.contains(output.to_str().unwrap()));
    calls.into_iter().filter(|line| is_change(line) && !allowed(line)).map(str::to_owned).collect()
}

/// Whether a line of strace is a call that creates, writes, moves, removes or marks something.
fn is_change(line: &str) -> bool {
    let call = line.split('(').next().unwrap_or_default();
    let name = call.rsplit(' ').next().unwrap_or_default();
    if name.starts_with("open") {
        return ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"]
            .iter()
            .any(|flag| line.contains(flag));
    }
    CHANGES.contains(&name)
}

fn skip(test: &str) -> bool {
    skip_unless(test, strace::works(), "strace is missing, or ptrace is not permitted")
}

#[test]
fn planning_writes_its_output_and_nothing_else() {
    if skip("planning_writes_its_output_and_nothing_else") {
        return;
    }
    let root = TestRoot::new();
    // A live database that is being written to must not be touched either.
    std::fs::create_dir(root.work("out")).unwrap();
    let before = root.tree();
    for name in ["plan.yaml", "plan.json"] {
        let plan = root.work("out").join(name);
        let args = ["plan", "restore", ZSTD, "--clients", "reset", "-o", plan.to_str().unwrap()];
        let found = changes(&root, &args, Some(&root.work("out")));
        assert!(found.is_empty(), "{found:#?}");
        let left: Vec<_> = std::fs::read_dir(root.work("out")).unwrap().flatten().collect();
        assert!(
            left.iter().all(|entry| entry.file_name().to_string_lossy().starts_with("plan.")),
            "{left:?}"
        );
        assert!(plan.is_file());
    }
    let found = changes(&root, &["plan", "restore", ZSTD, "-o", "-"], None);
    assert!(found.is_empty(), "{found:#?}");
    before.assert_same(&root.tree(), "planning");
}

#[test]
fn looking_writes_nothing() {
    if skip("looking_writes_nothing") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let plan = plan.to_str().unwrap();
    let before = root.tree();
    for args in [
        &["plan", "check", plan][..],
        &["plan", "show", plan],
        &["apply", plan, "--dry-run"],
        &["backup", "restore", ZSTD, "--dry-run"],
        &["backup", "list"],
        &["backup", "show", ZSTD],
        &["instance", "list"],
        &["instance", "show", "budget"],
        &["run", "list"],
        &["config", "show"],
        &["facts"],
        &["facts", "--backup", ZSTD, "--dest", "/srv/copy"],
    ] {
        let found = changes(&root, args, None);
        assert!(found.is_empty(), "{args:?}: {found:#?}");
    }
    before.assert_same(&root.tree(), "looking");
}

#[test]
fn looking_at_a_live_write_ahead_log_or_hot_journal_writes_nothing() {
    if skip("looking_at_a_live_write_ahead_log_or_hot_journal_writes_nothing") {
        return;
    }
    let root = TestRoot::new();
    let database = root.path("srv/budget/data/user-files/group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite");
    let server = rusqlite::Connection::open(&database).unwrap();
    server.execute_batch("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0;").unwrap();
    server
        .execute_batch("INSERT INTO messages_binary VALUES ('2026-12-01T00:00:00.000Z-0000-x', 0, x'00')")
        .unwrap();
    std::fs::copy(&database, root.path("srv/budget/data/user-files/x.sqlite")).unwrap();
    let before = root.tree();
    for args in [&["plan", "restore", ZSTD, "-o", "-"][..], &["instance", "show", "budget"]] {
        let mut found = changes(&root, args, None);
        // SQLite reads a log only together with its writer, through the memory that both share.
        found.retain(|line| !line.contains("bec4983.sqlite-wal") && !line.contains("bec4983.sqlite-shm"));
        assert!(found.is_empty(), "{args:?}: {found:#?}");
    }
    let shared = format!("{}-shm", database.strip_prefix(root.path("/")).unwrap().display());
    let now = root.tree().without(&[&shared]);
    before.without(&[&shared]).assert_same(&now, "looking at a live database");
    drop(server);
}

#[test]
fn the_watch_sees_what_really_writes() {
    if skip("the_watch_sees_what_really_writes") {
        return;
    }
    let root = TestRoot::new();
    let found = changes(&root, &["backup", "create", "budget"], None);
    for call in ["openat2(", "renameat2(", "renameat(", "O_CREAT", "flock("] {
        assert!(found.iter().any(|line| line.contains(call)), "{call}: {found:#?}");
    }
}
