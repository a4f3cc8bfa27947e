//! A reader that never rests: while restores come and go, and some are undone, whoever looks at the live
//! directory finds it, and finds it whole.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use nix::errno::Errno;

use crate::kill::{assert_kept, say, skip};
use crate::promise::Violations;
use crate::support::TestRoot;
use crate::support::root::LIVE;
use crate::support::tools::{have, is_root, skip_unless};
use crate::tracer::{Act, Tracer};
use crate::worlds::{everything, quick};

/// Two small files that tell which generation a tree is, far from each other.
const MARKS: [&str; 2] = ["a-mark", "data/user-files/z-mark"];
/// Files that each generation has alone.
const CROWD: usize = 20;

/// Makes the live directory a generation that is told by every one of these files.
fn become_generation(root: &TestRoot, name: &str) {
    for mark in MARKS {
        root.write(format!("{LIVE}/{mark}"), name);
    }
    let data = root.path(LIVE).join("data");
    for entry in std::fs::read_dir(&data).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("only-") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    for number in 0..CROWD {
        std::fs::write(data.join(format!("only-{name}-{number}")), name).unwrap();
    }
}

/// A backup of what is live now.
fn backup(root: &TestRoot) -> String {
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    made["id"].as_str().unwrap().to_owned()
}

/// Which tree a path leads to, and whether it was renamed meanwhile.
fn identity(live: &Path) -> Result<(u64, u64, i64, i64), String> {
    let meta = std::fs::metadata(live).map_err(|error| format!("the live directory is missing: {error}"))?;
    Ok((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

/// A look through one handle: it is one tree, from its first file to its last.
fn look_inside(live: &Path) -> Result<(), String> {
    let before = identity(live)?;
    let tree = Dir::open_ambient_dir(live, ambient_authority())
        .map_err(|error| format!("the live directory cannot be opened: {error}"))?;
    let looked = whole(&tree);
    // A tree that was undone meanwhile is being removed: nobody promised anything of it.
    if looked.is_err() && identity(live)? != before { Ok(()) } else { looked }
}

fn whole(tree: &Dir) -> Result<(), String> {
    let read = |name: &str| tree.read_to_string(name).map_err(|error| format!("{name}: {error}"));
    let (first, last) = (read(MARKS[0])?, read(MARKS[1])?);
    let mut names = Vec::new();
    for entry in tree.read_dir("data").map_err(|error| format!("data: {error}"))? {
        let name = entry.map_err(|error| format!("data: {error}"))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("only-") {
            names.push(name);
        }
    }
    let own = format!("only-{first}-");
    if first == last && names.len() == CROWD && names.iter().all(|name| name.starts_with(&own)) {
        Ok(())
    } else {
        Err(format!("a mix: {first}, {last}, {names:?}"))
    }
}

/// A look by full paths, as most programs look: each file is there; two that were read from the same tree
/// are of one generation. Between them the trees may change places, and then they may differ.
fn look_by_path(live: &Path) -> Result<(), String> {
    let before = identity(live)?;
    let read = |mark: &str| {
        let text = std::fs::read_to_string(live.join(mark)).map_err(|error| format!("{mark}: {error}"))?;
        if ["A", "B"].contains(&text.as_str()) { Ok(text) } else { Err(format!("{mark} says {text:?}")) }
    };
    let (first, last) = (read(MARKS[0])?, read(MARKS[1])?);
    if first == last || identity(live)? != before { Ok(()) } else { Err(format!("a mix: {first}, {last}")) }
}

/// Looks until it is told to stop.
fn keep_looking(live: &Path, stop: &AtomicBool, looks: &AtomicUsize) -> Violations {
    let mut found = Vec::new();
    while !stop.load(Ordering::Relaxed) && found.len() < 10 {
        for look in [look_inside, look_by_path] {
            if let Err(what) = look(live) {
                found.push(format!("look {}: {what}", looks.load(Ordering::Relaxed)));
            }
            let _ = looks.fetch_add(1, Ordering::Relaxed);
        }
    }
    found
}

/// The program where it does not see the reader, whose open files would stop every restore.
fn apart(command: &Command) -> Command {
    let mut apart = Command::new("unshare");
    apart.args(["--fork", "--pid", "--mount-proc", "--"]);
    apart.arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            apart.env(name, value);
        }
    }
    apart
}

/// One restore after the other, each third one undone after the swap; gives how many were done and undone.
fn restore_again_and_again(
    root: &TestRoot,
    plans: &[PathBuf; 2],
    enough: impl Fn() -> bool,
) -> (usize, usize) {
    let (mut done, mut undone) = (0, 0);
    while !enough() || undone < 2 {
        let plan = &plans[done % 2];
        let words = ["apply", plan.to_str().unwrap(), "--replay", "--yes", "--json"];
        let command = apart(&root.command(&words));
        if (done + undone) % 3 == 2 {
            let index = root.path("srv/backups/backups.json");
            let traced = Tracer::new(&command).run(|call| {
                let last = call.paths.last() == Some(&index);
                if call.name.starts_with("rename") && last { Act::Fail(Errno::EIO) } else { Act::Go }
            });
            assert!(traced.at.is_some(), "the index is written: {}{}", traced.ran.stdout, traced.ran.stderr);
            assert_ne!(traced.ran.code, 0, "{}", traced.ran.stdout);
            undone += 1;
            // The same plan once more, this time to its end.
        }
        let _ = crate::support::Ran::of(&mut apart(&root.command(&words))).ok();
        done += 1;
        if done % 20 == 0 {
            // Not the latest: a look may still be inside.
            let _ = root.json(&["run", "prune", "--older-than", "30s", "--yes"]).ok();
        }
    }
    (done, undone)
}

#[test]
fn a_reader_never_finds_the_tree_missing_or_mixed() {
    let test = "a_reader_never_finds_the_tree_missing_or_mixed";
    let can = is_root() && have("unshare");
    if skip(test) || skip_unless(test, can, "needs root, to hide the reader from the program") {
        return;
    }
    let wanted = if everything() { 1_000_000 } else { 20_000 };
    let own = tempfile::TempDir::with_prefix_in("abssctl-reader-", quick()).unwrap();
    let root = TestRoot::at(own.path());
    let mut backups = Vec::new();
    for name in ["A", "B"] {
        become_generation(&root, name);
        backups.push(backup(&root));
    }
    let plans = [0, 1].map(|number: usize| {
        let path = root.work(&format!("plan-{number}.json"));
        let wish = [&backups[number], "--no-pre-backup", "--replay", "allowed", "--drift", "ignore"];
        let _ = root.plan_to(&wish, &path).ok();
        path
    });
    let live = root.path(LIVE);
    let (stop, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (found, (done, undone)) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| keep_looking(&live, &stop, &looks));
        let enough = || reader.is_finished() || looks.load(Ordering::Relaxed) >= wanted;
        let restored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            restore_again_and_again(&root, &plans, enough)
        }));
        stop.store(true, Ordering::Relaxed);
        let found = reader.join().unwrap();
        (found, restored.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let looks = looks.load(Ordering::Relaxed);
    say(&format!(
        "reader: {looks} looks, {done} restores, {undone} undone after the swap, {} violations",
        found.len()
    ));
    assert_kept(&found);
    assert!(looks >= wanted && done > 2, "{looks} looks during {done} restores");
}

#[test]
fn the_judge_of_looks_sees_a_mix_and_a_gap() {
    let root = TestRoot::new();
    let live = root.path(LIVE);
    become_generation(&root, "A");
    look_inside(&live).unwrap();
    look_by_path(&live).unwrap();
    std::fs::write(live.join(MARKS[1]), "B").unwrap();
    assert!(look_inside(&live).unwrap_err().contains("a mix"));
    assert!(look_by_path(&live).unwrap_err().contains("a mix"));
    std::fs::rename(&live, root.path("srv/elsewhere")).unwrap();
    assert!(look_inside(&live).unwrap_err().contains("missing"));
    assert!(look_by_path(&live).unwrap_err().contains("missing"));
}
