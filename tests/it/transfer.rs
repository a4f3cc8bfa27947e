//! `transfer: delta`: what the target holds already, byte for byte, is copied from there; the restored tree is
//! the same as without, on file systems that share content and on those that do not.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::TestRoot;
use crate::support::root::{LIVE, Running, ZSTD};
use crate::support::tools::{Mount, is_root, noise, skip_unless, tool};
use crate::support::tree::Tree;
use crate::support::{strace, sums};

const BLOB: &str = "srv/budget/data/user-files/file-2a84e2f7-47ff-4dc7-ab99-5c78ea2ae3ef.blob";
const LARGE: &str = "srv/budget/data/user-files/large";
/// Large ones that are another by the time of the restore: one byte, longer, shorter.
const OTHERS: [&str; 3] = [
    "srv/budget/data/user-files/edited",
    "srv/budget/data/user-files/grown",
    "srv/budget/data/user-files/cut",
];

/// The live tree; XFS gives a directory that moves another time.
fn tree(root: &TestRoot) -> Tree {
    root.live().without_directory_times()
}

/// Makes a backup, then changes one blob, keeping its size, and the large ones, and adds a file.
fn changed(root: &TestRoot) -> (String, Tree) {
    root.write(LARGE, noise(5 << 20));
    for path in OTHERS {
        root.write(path, noise(1_500_000));
    }
    let then = tree(root);
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let mut blob = std::fs::read(root.path(BLOB)).unwrap();
    blob[100] ^= 1;
    root.write(BLOB, blob);
    let open = |path| std::fs::File::options().write(true).open(root.path(path)).unwrap();
    let [edited, grown, cut] = OTHERS.map(open);
    edited.write_all_at(b"other", 1 << 20).unwrap();
    grown.write_all_at(&noise(100_000), 1_500_000).unwrap();
    cut.set_len(1_000_000).unwrap();
    root.write("srv/budget/data/user-files/later", "not in the backup");
    (made["id"].as_str().unwrap().to_owned(), then)
}

fn files(tree: &Path) -> Vec<PathBuf> {
    let found = tool("find", &[tree.to_str().unwrap(), "-type", "f"]).ok().stdout;
    found.lines().map(PathBuf::from).collect()
}

fn step(result: &serde_json::Value, id: &str) -> String {
    let steps = result["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["id"] == id).unwrap();
    step["detail"].as_str().unwrap().to_owned()
}

/// Restores so; proves that the tree is that of the backup, and shares no file with the old one.
fn restores(root: &TestRoot) -> serde_json::Value {
    let (id, then) = changed(root);
    let plan = root.plan(&[&id, "--transfer", "delta", "--no-pre-backup"]);
    let text = std::fs::read_to_string(&plan).unwrap();
    assert!(
        text.contains("\"transfer\": \"delta\"") && text.contains("\"reuse\": \"/srv/budget\""),
        "{text}"
    );
    let result = root.apply(&plan).ok().json();
    then.assert_same(&tree(root), "the tree of the backup");
    let displaced = root.path(result["displaced"].as_str().unwrap());
    let inode = |path: &PathBuf| path.metadata().unwrap().ino();
    let old: Vec<u64> = files(&displaced).iter().map(inode).collect();
    let new = files(&root.path(LIVE));
    assert!(new.iter().all(|file| !old.contains(&inode(file))), "a file of both trees");
    assert!(new.iter().all(|file| file.metadata().unwrap().nlink() == 1));
    // All but the changed ones.
    let equal = new.len() - 1 - OTHERS.len();
    let detail = step(&result, "extract");
    assert!(detail.contains(&format!("; {equal} files of them, ")), "{detail} of {}", new.len());
    result
}

#[test]
fn what_is_equal_comes_from_the_target_and_the_result_is_the_same() {
    let root = TestRoot::new();
    let _ = restores(&root);
    // Where nothing is, nothing is equal.
    let plan = root.plan(&["--instance", "budget", "--latest", "--dest", "/srv/new", "--transfer", "delta"]);
    assert!(!std::fs::read_to_string(&plan).unwrap().contains("\"reuse\""));
    let result = root.apply(&plan).ok().json();
    assert!(!step(&result, "extract").contains("of them"));
}

#[test]
fn content_is_shared_where_the_file_system_can() {
    let test = "content_is_shared_where_the_file_system_can";
    if skip_unless(test, is_root(), "needs root, to mount file systems") {
        return;
    }
    for kind in ["xfs", "btrfs"] {
        on(kind, &|at| {
            let root = TestRoot::at(at);
            let result = restores(&root);
            let extents = |path: &str| {
                let path = root.path(path);
                tool("filefrag", &["-v", path.to_str().unwrap()]).ok().stdout
            };
            assert!(extents(LARGE).contains("shared"), "{kind}: {}", extents(LARGE));
            assert!(!extents(BLOB).contains("shared"), "{kind}: {}", extents(BLOB));
            for path in OTHERS {
                assert!(extents(path).contains("shared"), "{kind}: {}", extents(path));
            }
            // All of one but for a block at most, all of another, what was left of the third but for a block.
            let detail = step(&result, "extract");
            let kept = detail.split_once(", and ").unwrap().1.strip_suffix(" bytes of others").unwrap();
            let (kept, most) = (kept.parse::<u64>().unwrap(), 2 * 1_500_000 + 1_000_000);
            assert!((most - (128 << 10)..most).contains(&kept), "{kind}: {detail}");
            // What is written to the one is not in the other.
            let displaced = root.runs()[0]["displaced"].as_str().map(str::to_owned);
            root.write(LARGE, "short");
            let old = root.path(displaced.unwrap()).join("data/user-files/large");
            assert_eq!(std::fs::read(old).unwrap(), noise(5 << 20));
        });
    }
}

/// On a file system of this kind.
fn on(kind: &str, work: &dyn Fn(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let mount = Mount::image(kind, dir.path());
    work(mount.path());
}

/// The look at the preconditions hashes the files, and what it hashed is not hashed again; but it may be another
/// file by then, whatever time it says it has.
#[test]
fn what_changes_behind_the_look_comes_out_of_the_archive() {
    const FIRST: &str = "srv/budget/data/.first";
    let test = "what_changes_behind_the_look_comes_out_of_the_archive";
    if skip_unless(test, is_root() && strace::works(), "needs root, to mount a file system, and strace") {
        return;
    }
    on("xfs", &|at| {
        let root = TestRoot::at(at);
        root.write(FIRST, noise(3 << 20));
        let (id, then) = changed(&root);
        // So old that a change since would show.
        std::thread::sleep(Duration::from_millis(3500));
        let plan = root.plan(&[&id, "--transfer", "delta", "--no-pre-backup"]);
        let args = ["apply", plan.to_str().unwrap(), "--yes"];
        let (log, slowly) = (root.work("strace"), "inject=ioctl:delay_enter=1000000");
        let log = log.to_str().unwrap();
        let options = ["-o", log, "-e", "trace=ioctl", "-e", slowly];
        let running = Running::start(&mut strace::wrap(&root.command(&args), &options));
        // The first copy is about to be taken.
        let copying = || tool("find", &[root.path("srv").to_str().unwrap(), "-path", "*/.reused/0"]).stdout;
        while copying().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let path = root.path(FIRST);
        let time = path.metadata().unwrap().modified().unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"other", 1 << 20).unwrap();
        file.set_modified(time).unwrap();
        // Nobody may have it open when it is replaced.
        drop(file);
        let _ = running.end().ok();
        then.assert_same(&tree(&root), "the tree of the backup");
        let asked = std::fs::read_to_string(log).unwrap();
        assert!(asked.contains("FICLONE"), "{asked}");
        // Nor is the old tree what the look saw.
        let run = &root.runs()[0];
        let before = sums::tree_digest(&root.path(run["displaced"].as_str().unwrap()));
        let shown = root.run(&["run", "show", run["run"].as_str().unwrap()]).ok().stdout;
        assert!(shown.contains(&before), "{before}: {shown}");
    });
}

/// The older tool's archives do not say what is in them.
#[test]
fn an_archive_without_a_manifest_has_nothing_to_compare_with() {
    let root = TestRoot::new();
    let ran = root.json(&["plan", "restore", ZSTD, "--transfer", "delta", "-o", "-"]);
    let _ = ran.error(2, "abssctl::planner::wish", &["only what differs", "no manifest"]);
}

#[test]
fn a_pre_backup_beside_the_unpacking_comes_after_it() {
    let root = TestRoot::new();
    let (id, then) = changed(&root);
    let words = [&id, "--transfer", "delta", "--pre-backup", "online"];
    let plan = root.plan(&words);
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    let steps = document["steps"].as_array().unwrap();
    let backup = steps.iter().find(|step| step["id"] == "pre-backup").unwrap();
    assert_eq!(backup["needs"], serde_json::json!(["extract"]));
    // Written otherwise, it is refused.
    let wrong = std::fs::read_to_string(&plan).unwrap();
    let mut wrong: serde_json::Value = serde_json::from_str(&wrong).unwrap();
    for step in wrong["steps"].as_array_mut().unwrap() {
        if step["id"] == "pre-backup" {
            step["needs"] = serde_json::json!(["check"]);
        }
    }
    let file = root.work("wrong.json");
    std::fs::write(&file, wrong.to_string()).unwrap();
    let refused = root.json(&["plan", "validate", file.to_str().unwrap()]);
    let _ = refused.refused(2, &["abssctl::plan::graph::pre_backup_order"]);
    let _ = root.apply(&plan).ok();
    then.assert_same(&tree(&root), "the tree of the backup");
}

const INDEX: &str = "srv/backups/backups.json";

fn archive(root: &TestRoot, id: &str) -> PathBuf {
    root.path("srv/backups/budget").join(format!("{id}.tar.zst"))
}

/// Flips a bit of an archive where the large file lies, which does not compress.
fn damage(archive: &Path) {
    let mut bytes = std::fs::read(archive).unwrap();
    let there = &noise(5 << 20)[4 << 20..][..64];
    let place = bytes.windows(64).position(|window| window == there).unwrap();
    bytes[place] ^= 1;
    std::fs::write(archive, bytes).unwrap();
}

#[test]
fn damage_harms_where_it_is_needed_and_is_found_elsewhere() {
    let root = TestRoot::new();
    let (id, then) = changed(&root);
    let archive = archive(&root, &id);
    let plan = root.plan(&[&id, "--transfer", "delta", "--no-pre-backup"]);
    assert!(std::fs::read_to_string(&plan).unwrap().contains("\"manifestSha256\""));

    // The large file is not what it was, so it is needed.
    damage(&archive);
    let other: Vec<u8> = noise((5 << 20) + 1)[1..].to_vec();
    root.write(LARGE, &other);
    let now = tree(&root);
    let needed = root.plan(&[&id, "--transfer", "delta", "--no-pre-backup"]);
    let _ =
        root.apply(&needed).error(4, "abssctl::apply::rolled_back", &["extract", "everything is as it was"]);
    now.assert_same(&tree(&root), "the tree before");

    // Now it is equal again, and what is damaged is not read.
    root.write(LARGE, noise(5 << 20));
    let result = root.apply(&plan).ok().json();
    then.assert_same(&tree(&root), "the tree of the backup");
    assert!(step(&result, "verify").contains("manifest"), "{result}");
    let verified = root.json(&["backup", "verify", &id]).stdout;
    assert!(verified.contains("\"status\": \"corrupt\""), "{verified}");
}

#[test]
fn the_manifest_is_the_one_that_the_index_names() {
    let root = TestRoot::new();
    let (id, then) = changed(&root);
    let index = std::fs::read_to_string(root.path(INDEX)).unwrap();
    let digest = index.split("\"manifest_sha256\": \"").nth(1).unwrap()[..64].to_owned();
    let planned = root.plan(&[&id, "--transfer", "delta", "--no-pre-backup"]);
    let now = tree(&root);

    // Another one than when the plan was made.
    let other = "0".repeat(64);
    root.write(INDEX, index.replace(&digest, &other));
    let _ = root.apply(&planned).error(5, "abssctl::apply::refused", &["manifestSha256", &digest, &other]);
    // Another one than the archive has.
    let wrong = root.plan(&[&id, "--transfer", "delta", "--no-pre-backup"]);
    let said = ["the archive's manifest has SHA-256", &digest, "planned was the manifest", &other];
    let _ = root.apply(&wrong).error(4, "abssctl::apply::rolled_back", &said);
    now.assert_same(&tree(&root), "the tree before");

    // None: the whole archive is proven.
    root.write(INDEX, index.replace(&format!(",\n        \"manifest_sha256\": \"{digest}\""), ""));
    let plan = root.plan(&[&id, "--transfer", "delta", "--no-pre-backup"]);
    assert!(!std::fs::read_to_string(&plan).unwrap().contains("manifestSha256"));
    let result = root.apply(&plan).ok().json();
    assert!(step(&result, "verify").contains("SHA-256 as planned"), "{result}");
    then.assert_same(&tree(&root), "the tree of the backup");
}
