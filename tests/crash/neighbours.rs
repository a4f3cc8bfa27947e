//! What others do to the machine in the middle of a command: they fill the disk, make it read-only, take the
//! archive away or change it, or start a command of their own. Each happens at a known call, while the
//! program stands still.

use std::path::Path;

use nix::errno::Errno;
use tempfile::TempDir;

use crate::calls::Kind;
use crate::chance::Chance;
use crate::kill::{assert_kept, say, skip};
use crate::support::root::{LIVE, NONE, REGISTRY};
use crate::support::tools::{Mount, is_root, skip_unless, tool};
use crate::support::{Ran, TestRoot};
use crate::tracer::{Act, Call, Traced, Tracer};
use crate::worlds::{Scene, Subject, quick, subject};

/// Does something right before the first call that this picks, then goes on.
fn before_call(
    scene: &Scene,
    root: &TestRoot,
    picks: impl Fn(&Call) -> bool + Send + Sync,
    act: impl FnOnce() + Send,
) -> Traced {
    let mut act = Some(act);
    let traced = Tracer::new(&scene.command(root)).with_reads().run(|call| {
        if picks(call)
            && let Some(act) = act.take()
        {
            act();
        }
        Act::Go
    });
    assert!(act.is_none(), "no such call");
    traced
}

/// Which call is meant.
type Picks = fn(&Call) -> bool;

fn is_in(call: &Call, part: &str) -> bool {
    call.paths.iter().any(|path| path.to_string_lossy().contains(part))
}

/// Takes all the room that is left.
fn fill(filler: &Path) {
    let mut file = std::fs::File::create(filler).unwrap();
    for size in [1 << 16, 512, 1] {
        while std::io::Write::write_all(&mut file, &vec![7; size]).is_ok() {}
    }
}

/// Without the fault the same command ends well.
fn again(scene: &Scene, root: &TestRoot, attempts: usize) {
    let ran = Ran::of(&mut scene.command(root)).ok();
    assert_kept(&scene.promise.after_rerun(root, attempts));
    drop(ran);
}

#[test]
fn the_disk_is_filled_between_the_check_and_the_archive_of_a_backup() {
    let test = "the_disk_is_filled_between_the_check_and_the_archive_of_a_backup";
    if skip(test) || skip_unless(test, is_root(), "only root mounts") {
        return;
    }
    for (place, name) in
        [(".partial", "backup-create"), ("/.abssctl/staging", "apply"), (".partial", "apply")]
    {
        let scene = Scene::new(subject(name));
        let root = scene.world();
        // Its own small disk, in which all of the instances and backups lie.
        let srv = root.path("srv");
        let kept = TempDir::with_prefix_in("abssctl-srv-", quick()).unwrap();
        let inside = |path: &Path| format!("{}/.", path.display());
        let _ = tool("cp", &["-a", &inside(&srv), kept.path().to_str().unwrap()]);
        let mount = Mount::tmpfs(&srv, "size=16m,mode=0755");
        let _ = tool("cp", &["-a", &inside(kept.path()), srv.to_str().unwrap()]);
        let filler = srv.join("filler");
        let traced = before_call(
            &scene,
            &root,
            |call| call.kind == Kind::Write && is_in(call, place),
            || fill(&filler),
        );
        std::fs::remove_file(&filler).unwrap();
        let ran = &traced.ran;
        assert_eq!(ran.code, 3, "{name} {place}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("No space left"), "{name}: {}", ran.stdout);
        assert_kept(&scene.promise.after_failure(&root));
        again(&scene, &root, 1);
        drop(mount);
    }
}

#[test]
fn the_disk_becomes_read_only_in_the_middle() {
    let test = "the_disk_becomes_read_only_in_the_middle";
    if skip(test) || skip_unless(test, is_root(), "only root mounts") {
        return;
    }
    let places: [(&str, Picks); 3] = [
        ("staging", |call| call.name == "mkdirat" && is_in(call, "/.abssctl")),
        ("pre-backup", |call| call.kind == Kind::Create && is_in(call, ".partial")),
        ("swap", |call| call.name == "renameat2" && call.paths[1].ends_with(LIVE)),
    ];
    for (place, picks) in places {
        let scene = Scene::new(subject("apply"));
        let root = scene.world();
        let srv = root.path("srv");
        let srv = srv.to_str().unwrap();
        let _ = tool("mount", &["--bind", srv, srv]);
        let read_only = |how: &str| tool("mount", &["-o", &format!("remount,bind,{how}"), srv]);
        let traced = before_call(&scene, &root, picks, || drop(read_only("ro")));
        let crash = scene.promise.after_crash(&root);
        let _ = read_only("rw");
        let ran = &traced.ran;
        let result = || -> Result<(), String> {
            if ![3, 4, 7].contains(&ran.code) {
                return Err(format!("exit {}", ran.code));
            }
            if !ran.stdout.contains("Read-only file system") {
                return Err("it does not say why".to_owned());
            }
            Ok(())
        };
        let told = result();
        let again = Ran::of(&mut scene.command(&root));
        let ended = scene.promise.after_rerun(&root, 1);
        let _ = tool("umount", &[srv]);
        assert_eq!(told, Ok(()), "{place}: {}{}", ran.stdout, ran.stderr);
        assert_kept(&crash);
        let _ = again.ok();
        assert_kept(&ended);
    }
}

/// An archive that is read in several pieces, as it is not compressed; with the plan as it is made, or with
/// one whose steps follow each other, so that the archive is read twice.
fn plain(in_sequence: bool) -> Subject {
    fn made(root: &TestRoot) -> Vec<String> {
        let plan = root.plan(&[NONE]);
        vec!["apply".into(), plan.display().to_string()]
    }
    fn sequence(root: &TestRoot) -> Vec<String> {
        let words = made(root);
        let mut plan: serde_json::Value = serde_json::from_slice(&std::fs::read(&words[1]).unwrap()).unwrap();
        for step in plan["steps"].as_array_mut().unwrap() {
            if step["kind"] == "extract" {
                step["needs"] = serde_json::json!(["verify"]);
            }
        }
        std::fs::write(&words[1], plan.to_string()).unwrap();
        words
    }
    Subject::live("plain", if in_sequence { sequence } else { made })
}

#[test]
fn the_archive_vanishes_or_changes_while_it_is_unpacked() {
    let test = "the_archive_vanishes_or_changes_while_it_is_unpacked";
    if skip(test) {
        return;
    }
    let archive = format!("srv/backups/budget/{NONE}.tar");
    for in_sequence in [false, true] {
        let scene = Scene::new(&plain(in_sequence));
        // Right before the first file is unpacked; in a sequence that is after all of it was verified.
        let unpacks: Picks = |call| call.kind == Kind::Write && is_in(call, "/.abssctl/staging");
        let root = scene.world();
        let bytes = std::fs::read(root.path(&archive)).unwrap();
        let traced =
            before_call(&scene, &root, unpacks, || std::fs::remove_file(root.path(&archive)).unwrap());
        // An open file stays until it is closed: the restore may end well.
        assert!([0, 3, 4].contains(&traced.ran.code), "{}", traced.ran.stdout);
        std::fs::write(root.path(&archive), &bytes).unwrap();
        if traced.ran.code != 0 {
            assert_kept(&scene.promise.after_failure(&root));
        }
        again(&scene, &root, 1);

        let root = scene.world();
        // Where both read once, before that; in a sequence, between the two.
        let reads: Picks = |call| call.kind == Kind::Read && is_in(call, NONE);
        // Small files are written behind the reading, the directory that they lie in is made before.
        let begins: Picks = |call| {
            let at_data = call.paths.last().is_some_and(|path| path.ends_with("data"));
            call.kind == Kind::Create && is_in(call, "/.abssctl/staging") && at_data
        };
        let picks = if in_sequence { begins } else { reads };
        let traced = before_call(&scene, &root, picks, || {
            // In place, as a broken disk or another program does; its last block says nothing to a reader.
            let file = std::fs::OpenOptions::new().write(true).open(root.path(&archive)).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"x", bytes.len() as u64 - 1).unwrap();
        });
        std::fs::write(root.path(&archive), &bytes).unwrap();
        let ran = &traced.ran;
        say(&format!("an archive that changes while it is unpacked: exit {}", ran.code));
        assert!([3, 4].contains(&ran.code), "in sequence {in_sequence}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(NONE) && ran.stdout.contains("SHA-256"), "{}", ran.stdout);
        assert_kept(&scene.promise.after_failure(&root));
        again(&scene, &root, 1);
    }
}

#[test]
fn other_commands_at_the_same_time_are_refused_and_harm_nothing() {
    let test = "other_commands_at_the_same_time_are_refused_and_harm_nothing";
    if skip(test) {
        return;
    }
    let scene = Scene::new(subject("apply"));
    let root = scene.world();
    let calls = scene.watch().calls;
    // From the call after the instance's lock to the exchange, and from there to the end of the record.
    let first = |picks: &dyn Fn(&Call) -> bool| calls.iter().find(|call| picks(call)).unwrap().number;
    let locked =
        first(&|call| call.kind == Kind::Lock && is_in(call, "budget.lock") && call.args[1] & 2 != 0);
    let swapped = first(&|call| call.name == "renameat2" && call.paths[1].ends_with(LIVE));
    let recorded = first(&|call| call.kind == Kind::Rename && is_in(call, REGISTRY));
    let mut chance = Chance::of(test);
    let mut numbers = chance.some_of(locked + 1..swapped, 3);
    numbers.extend(chance.some_of(swapped..recorded, 2));
    let others: [&[&str]; 3] =
        [&["backup", "create", "budget"], &["run", "prune", "--older-than", "0s", "--yes"], &["apply"]];
    let mut refused = 0;
    let traced = Tracer::new(&scene.command(&root)).run(|call| {
        if numbers.contains(&call.number) {
            for other in others {
                let mut command = if other == ["apply"] {
                    scene.impatient(&root)
                } else {
                    root.command(&[other, &["--json", "--lock-timeout", "0"]].concat())
                };
                let ran = Ran::of(&mut command);
                // There may be nothing to prune, which needs no lock.
                let nothing = other[0] == "run" && ran.code == 0;
                assert!(nothing || ran.code == 3, "{other:?} before {call}: {}{}", ran.stdout, ran.stderr);
                refused += usize::from(ran.code == 3);
            }
        }
        Act::Go
    });
    assert_eq!(traced.ran.code, 0, "{}{}", traced.ran.stdout, traced.ran.stderr);
    assert!(refused >= 8, "{refused} were refused");
    assert_kept(&scene.promise.after_rerun(&root, 0));
}

#[test]
fn files_of_all_ages_are_restored_and_put_back() {
    let test = "files_of_all_ages_are_restored_and_put_back";
    if skip(test) {
        return;
    }
    // Written before 1970, and long after today: the clock was set back or forward.
    let fill = |root: &TestRoot| {
        for (file, time) in [(".migrate", "@-86400"), ("config.json", "@4102444800")] {
            let path = root.path(LIVE).join("data").join(file);
            let _ = tool("touch", &["-d", time, path.to_str().unwrap()]);
        }
        let index =
            root.read("srv/backups/backups.json").replace("2026-11-24T02:26:34Z", "2099-01-01T00:00:00Z");
        root.write("srv/backups/backups.json", index);
    };
    let scene = Scene::with(subject("apply"), &quick(), fill);
    let root = scene.world();
    let index = root.path("srv/backups/backups.json");
    // Undone after the swap, so that the old tree comes back with its ages.
    let traced = Tracer::new(&scene.command(&root)).run(|call| {
        let last = call.paths.last() == Some(&index);
        if call.name.starts_with("rename") && last && !is_in(call, REGISTRY) {
            Act::Fail(Errno::EIO)
        } else {
            Act::Go
        }
    });
    assert_ne!(traced.ran.code, 0);
    assert_kept(&scene.promise.after_crash(&root));
    again(&scene, &root, 1);
}
