//! Disks that fail for a moment, and disks that come back under another number: what a run leaves then
//! is finished or undone by the next apply, and nothing private stays behind.

use std::path::Path;

use crate::support::TestRoot;
use crate::support::root::ZSTD;
use crate::support::strace;
use crate::support::tools::{skip_unless, tool};

fn skip(test: &str) -> bool {
    skip_unless(test, strace::works(), "strace is missing, or ptrace is not permitted")
}

/// Applies with a fault in a call of the kernel; strace counts `when` for each thread.
fn apply(root: &TestRoot, plan: &Path, below: Option<&str>, inject: &str) -> i32 {
    let call = inject.split(':').next().unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
    let args = ["--json", "--yes", "apply", plan.to_str().unwrap()];
    let mut options = vec!["-o", "/dev/null", "-e", &trace, "-e", &inject];
    let below = below.map(|below| root.path(below));
    if let Some(below) = &below {
        options.extend(["-P", below.to_str().unwrap()]);
    }
    strace::run(&root.command(&args), &options).code
}

#[test]
fn a_journal_that_cannot_be_synced_stops_the_run_and_stays_sound() {
    if skip("a_journal_that_cannot_be_synced_stops_the_run_and_stays_sound") {
        return;
    }
    for when in [2, 3] {
        let root = TestRoot::new();
        let plan = root.plan(&[ZSTD]);
        let before = root.live();
        assert_eq!(apply(&root, &plan, None, &format!("fdatasync:error=EIO:when={when}")), 3, "at {when}");
        before.assert_same(&root.live(), "a journal that cannot be synced");
        assert_eq!(root.runs()[0]["damage"], serde_json::Value::Null, "at {when}");
        assert_eq!(root.apply(&plan).ok().json()["outcome"], "applied");
        root.assert_generation("gen-a.sha256");
    }
}

#[test]
fn killed_while_the_exchange_is_tried_nothing_private_stays() {
    if skip("killed_while_the_exchange_is_tried_nothing_private_stays") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    assert_eq!(apply(&root, &plan, None, "renameat2:signal=KILL:when=1"), 137);
    let _ = root.apply(&plan).ok();
    root.assert_generation("gen-a.sha256");
    assert!(!root.path("srv/.abssctl/staging").exists());
}

#[test]
fn killed_while_a_file_is_replaced_its_temporary_name_goes_with_the_next_write() {
    if skip("killed_while_a_file_is_replaced_its_temporary_name_goes_with_the_next_write") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    assert_eq!(apply(&root, &plan, Some("srv/backups"), "renameat:signal=KILL:when=1"), 137);
    let temporary = || {
        let names = std::fs::read_dir(root.path("srv/backups")).unwrap();
        names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().ends_with(".tmp")).count()
    };
    assert_eq!(temporary(), 1);
    let _ = root.apply(&plan).ok();
    assert_eq!(temporary(), 0);
}

/// A reboot may give the same disk another device number; the journal must not take its directories
/// for foreign ones then.
#[test]
fn killed_in_the_swap_and_the_disk_comes_back_as_another_device() {
    if skip("killed_in_the_swap_and_the_disk_comes_back_as_another_device") {
        return;
    }
    let test = "killed_in_the_swap_and_the_disk_comes_back_as_another_device";
    if skip_unless(test, rustix::process::geteuid().is_root(), "only root attaches disks") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, mount) = (dir.path().join("image"), dir.path().join("root"));
    std::fs::create_dir(&mount).unwrap();
    let (image, at) = (image.to_str().unwrap(), mount.to_str().unwrap());
    let _ = tool("truncate", &["-s", "64M", image]).ok();
    let _ = tool("mkfs.ext4", &["-q", image]).ok();
    let attach = || tool("losetup", &["--find", "--show", image]).ok().stdout.trim().to_owned();
    let first = attach();
    let _ = tool("mount", &[&first, at]).ok();
    let root = TestRoot::at(&mount);
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    let killed = apply(&root, &plan, Some("srv/.abssctl/displaced"), "renameat2:signal=KILL:when=1");
    // The disk goes, another one takes its number, and it comes back under the next.
    let _ = tool("umount", &[at]).ok();
    let _ = tool("losetup", &["-d", &first]).ok();
    let other = dir.path().join("other");
    let other = other.to_str().unwrap();
    let _ = tool("truncate", &["-s", "1M", other]).ok();
    let taken = tool("losetup", &["--find", "--show", other]).ok().stdout.trim().to_owned();
    let second = attach();
    let _ = tool("mount", &[&second, at]).ok();
    let ran = root.apply(&plan);
    let live =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| root.assert_generation("gen-a.sha256")));
    let _ = tool("umount", &[at]).ok();
    for device in [&second, &taken] {
        let _ = tool("losetup", &["-d", device]).ok();
    }
    assert_eq!(killed, 137);
    assert_ne!(first, second, "the test needs another number");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(live.is_ok(), "the restored tree is in place");
}
