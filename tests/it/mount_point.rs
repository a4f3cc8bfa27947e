//! A target that is a mount point: what is in it changes places entry by entry, the server's data last and
//! in one step; undone and gone on with like any other; and a file system mounted inside is refused.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::root::{LIVE, ZSTD};
use crate::support::strace;
use crate::support::tools::{Mount, is_root, skip_unless, tool};
use crate::support::tree::Tree;
use crate::support::{Ran, TestRoot};

/// The instance on a file system of its own, as a disk would be.
fn mounted() -> (TestRoot, Mount) {
    let root = TestRoot::new();
    let mount = root.mount_live();
    std::fs::create_dir(root.path(LIVE).join("lost+found")).unwrap();
    (root, mount)
}

/// As [`mounted`], with a backup to go back to that differs in entries of all kinds: only before, only
/// after, and both.
fn with_entries() -> (TestRoot, Mount, String) {
    let (root, mount) = mounted();
    root.write("srv/budget/notes", "of the backup");
    root.write("srv/budget/backup-only", "x");
    std::fs::set_permissions(root.path(LIVE), PermissionsExt::from_mode(0o711)).unwrap();
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    std::fs::remove_file(root.path("srv/budget/backup-only")).unwrap();
    root.write("srv/budget/notes", "of the live tree");
    root.write("srv/budget/live-only", "y");
    root.write("srv/budget/data/later", "z");
    std::fs::set_permissions(root.path(LIVE), PermissionsExt::from_mode(0o750)).unwrap();
    (root, mount, made["id"].as_str().unwrap().to_owned())
}

fn skip(test: &str) -> bool {
    skip_unless(test, is_root(), "needs root, to mount a file system")
}

/// What is in the target and belongs to the instance. The directory that a disk is mounted on gets another
/// time with every entry of ours in it.
fn content(root: &TestRoot) -> Tree {
    root.live().without(&[".abssctl", "lost+found"]).without_directory_times()
}

/// What was in the target, where it is kept now.
fn kept(root: &TestRoot, result: &serde_json::Value) -> Tree {
    Tree::of(&root.path(result["displaced"].as_str().unwrap())).without_directory_times()
}

#[test]
fn a_restore_and_the_way_back() {
    if skip("a_restore_and_the_way_back") {
        return;
    }
    let (root, _mount, id) = with_entries();
    let before = content(&root);
    let shown = root.run(&["plan", "restore", &id, "-o", "-"]).ok().stdout;
    assert!(shown.contains("mountPoint: true") && shown.contains("method: entries"), "{shown}");
    assert!(shown.contains("not-in-one-step"), "{shown}");
    let result = root.restore(&[&id]);
    assert_eq!(root.read("srv/budget/notes"), "of the backup");
    assert!(root.path("srv/budget/backup-only").exists() && root.path("srv/budget/lost+found").exists());
    assert!(!root.path("srv/budget/live-only").exists() && !root.path("srv/budget/data/later").exists());
    assert_eq!(std::fs::metadata(root.path(LIVE)).unwrap().permissions().mode() & 0o7777, 0o711);
    let displaced = result["displaced"].as_str().unwrap();
    assert!(displaced.starts_with("/srv/budget/.abssctl/displaced/"), "{displaced}");
    before.assert_same(&kept(&root, &result), "the displaced tree");
    assert!(!root.path("srv/budget/.abssctl/staging").exists());
    let refused = root.json(&["run", "rollback", result["run"].as_str().unwrap(), "--yes"]);
    let message = refused.json().to_string();
    assert!(refused.code == 2 && message.contains("entry by entry"), "{message}");
    assert!(message.contains(result["preBackup"].as_str().unwrap()), "{message}");
    // The state before comes back from its backup, byte for byte but for what is made anew.
    let _ = root.restore(&[result["preBackup"].as_str().unwrap()]);
    before.assert_same(&content(&root), "there and back");
}

#[test]
fn a_failure_after_the_swap_puts_everything_back() {
    if skip("a_failure_after_the_swap_puts_everything_back") {
        return;
    }
    let (root, _mount, id) = with_entries();
    let before = content(&root);
    let plan = root.plan(&[&id, "--no-pre-backup"]);
    let args = ["apply", plan.to_str().unwrap(), "--yes", "--json"];
    let registry = root.path("var/lib/abssctl/registry");
    let failed = strace::run(
        &root.command(&args),
        &["-o", "/dev/null", "-P", registry.to_str().unwrap(), "-e", "inject=renameat:error=EIO"],
    );
    let _ = failed.error(4, "abssctl::apply::rolled_back", &["everything is as it was"]);
    before.assert_same(&content(&root), "a failed restore");
    assert!(!root.path("srv/budget/.abssctl").exists());
}

#[test]
fn killed_at_every_rename_the_data_are_old_or_new_and_it_goes_on() {
    if skip("killed_at_every_rename_the_data_are_old_or_new_and_it_goes_on") {
        return;
    }
    if skip_unless("killed_at_every_rename", strace::works(), "needs strace") {
        return;
    }
    let (root, _mount, id) = with_entries();
    let old = Tree::of(&root.path("srv/budget/data"));
    let before = content(&root);
    let plan = root.plan(&[&id, "--no-pre-backup"]);
    let args = ["apply", plan.to_str().unwrap(), "--yes", "--json"];
    let mut kills = 0;
    for nth in 1.. {
        let inject = format!("inject=renameat2:signal=KILL:when={nth}");
        let options = ["-o", "/dev/null", "-e", "trace=renameat2", "-e", &inject];
        let ran = strace::run(&root.command(&args), &options);
        if ran.code == 0 {
            break;
        }
        kills += 1;
        let data = Tree::of(&root.path("srv/budget/data"));
        let is_old = data == old;
        assert!(is_old || data.paths().iter().all(|path| path != "later"), "a mix: {:?}", data.paths());
        assert!(is_old || root.read("srv/budget/notes") == "of the backup", "the data do not go last");
        // It is gone on with, and put back by hand for the next kill.
        let again = root.apply(&plan).ok().json();
        assert_eq!(again["outcome"], "applied", "after kill {nth}");
        assert_eq!(root.read("srv/budget/notes"), "of the backup", "after kill {nth}");
        before.assert_same(&kept(&root, &again), "the displaced tree");
        let displaced = again["displaced"].as_str().unwrap();
        for name in ["notes", "backup-only", "data"] {
            let gone = root.path(LIVE).join(name);
            let removed =
                if gone.is_dir() { std::fs::remove_dir_all(gone) } else { std::fs::remove_file(gone) };
            removed.unwrap();
        }
        let (from, to) = (root.path(displaced), root.path(LIVE));
        let _ = tool("cp", &["-aT", from.to_str().unwrap(), to.to_str().unwrap()]);
        std::fs::remove_dir_all(root.path("srv/budget/.abssctl")).unwrap();
        std::fs::remove_dir_all(root.path("var/lib/abssctl/runs")).unwrap();
        before.assert_same(&content(&root), "put back for the next kill");
        let _ = root.plan_to(&[&id, "--no-pre-backup"], &plan).ok();
    }
    // Of backup-only, live-only, notes and data, two change places in two renames each. They are counted
    // by thread: the first kill is of the one that tries an exchange.
    assert_eq!(kills, 6);
}

#[test]
fn an_empty_disk_and_a_plan_for_another() {
    if skip("an_empty_disk_and_a_plan_for_another") {
        return;
    }
    let root = TestRoot::new();
    let disk = root.path("srv/disk");
    std::fs::create_dir(&disk).unwrap();
    let plan = root.plan(&[ZSTD, "--dest", "/srv/disk"]);
    let _mount = Mount::tmpfs(&disk, "size=16m,mode=0755");
    std::fs::create_dir(disk.join("lost+found")).unwrap();
    let refused = root.apply(&plan).refused(5, &["target", "file-system"]);
    assert!(refused.to_string().contains("now it is a mount point"), "{refused}");
    let result = root.restore(&[ZSTD, "--dest", "/srv/disk"]);
    assert!(result["displaced"].is_null(), "{result}");
    assert!(!disk.join(".abssctl").exists());
    let lists = Command::new("rm").arg("-d").arg(disk.join("lost+found")).status().unwrap();
    assert!(lists.success());
    crate::support::sums::assert_generation(&disk, "gen-a.sha256");
}

#[test]
fn a_file_system_mounted_inside_is_refused() {
    if skip("a_file_system_mounted_inside_is_refused") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let inner = root.path("srv/budget/data/user-files");
    let _mount = Mount::tmpfs(&inner, "size=1m");
    let refused = |ran: Ran| {
        let error = ran.error(3, "abssctl::survey::mount_inside", &["data/user-files"]);
        assert!(error["help"].as_str().unwrap().contains("unmount it"));
    };
    refused(root.json(&["plan", "restore", ZSTD, "-o", "-"]));
    refused(root.apply(&plan));
}
