//! The index, the registry, the archive file and its sidecar: whatever is wrong with them is named, by the
//! planner and again when a plan is applied.

use crate::support::TestRoot;
use crate::support::root::{INDEX, REGISTRY, ZSTD};
use crate::support::tools::tool;

fn archive() -> String {
    format!("srv/backups/budget/{ZSTD}.tar.zst")
}

fn sidecar() -> String {
    format!("{}.sha256", archive())
}

/// The planner says this; a plan from before says these problems; nothing changes.
fn refused(change: impl FnOnce(&TestRoot), planner: (i32, &str, &[&str]), apply: (i32, &[&str])) {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    change(&root);
    let before = root.tree();
    let (exit, code, words) = planner;
    let _ = root.json(&["plan", "restore", ZSTD, "-o", "-"]).error(exit, code, words);
    let _ = root.json(&["backup", "restore", ZSTD, "--yes"]).error(exit, code, words);
    let _ = root.apply(&plan).refused(apply.0, apply.1);
    let _ = root.json(&["plan", "check", plan.to_str().unwrap()]).code(apply.0);
    before.assert_same(&root.tree(), code);
}

#[test]
fn an_unknown_backup() {
    let root = TestRoot::new();
    let before = root.tree();
    let unknown = "20261124-022632-budget-000000";
    for command in [["plan", "restore"], ["backup", "restore"], ["backup", "show"]] {
        let ran = root.json(&[command[0], command[1], unknown, "--yes"]);
        let _ = ran.error(2, "abssctl::index::unknown_backup", &[unknown]);
    }
    let _ = root.run(&["plan", "restore", "../../etc/passwd"]).code(2);
    before.assert_same(&root.tree(), "an unknown backup");
    refused(
        |root| root.edit_index(|index| drop(index["backups"].as_array_mut().unwrap().remove(0))),
        (2, "abssctl::index::unknown_backup", &[ZSTD]),
        (2, &["backup-unknown"]),
    );
}

#[test]
fn an_archive_that_is_gone() {
    refused(
        |root| std::fs::remove_file(root.path(archive())).unwrap(),
        (3, "abssctl::store::missing", &[ZSTD, "does not exist"]),
        (3, &["archive"]),
    );
}

#[test]
fn an_archive_of_another_size() {
    let longer = |root: &TestRoot| {
        let mut bytes = std::fs::read(root.path(archive())).unwrap();
        bytes.push(0);
        root.write(archive(), bytes);
    };
    refused(longer, (2, "abssctl::store::size", &["43981", "43980"]), (2, &["archive"]));
}

#[test]
fn another_digest_in_the_sidecar() {
    let other = "0".repeat(64);
    refused(
        |root| root.write(sidecar(), format!("{other}  {ZSTD}.tar.zst\n")),
        (2, "abssctl::store::sidecar_differs", &["sidecar", &"0".repeat(64)]),
        (2, &["archive"]),
    );
}

#[test]
fn a_sidecar_that_is_none() {
    for text in ["", "hello\n", "\u{0}\u{1}\u{2}"] {
        refused(
            |root| root.write(sidecar(), text),
            (2, "abssctl::store::sidecar", &[".sha256"]),
            (2, &["archive"]),
        );
    }
    let of_another = |root: &TestRoot| {
        let line = root.read(sidecar()).replace(ZSTD, "20261124-022634-budget-42b469");
        root.write(sidecar(), line);
    };
    refused(of_another, (2, "abssctl::store::sidecar", &[".sha256"]), (2, &["archive"]));
}

#[test]
fn another_digest_in_the_index() {
    refused(
        |root| root.edit_entry(ZSTD, |entry| entry["checksum"]["value"] = "0".repeat(64).into()),
        (2, "abssctl::store::sidecar_differs", &[ZSTD]),
        (5, &["backup-differs", "backup-entry"]),
    );
}

#[test]
fn another_archive_under_the_same_name() {
    // Index, sidecar and size agree with each other: only reading it tells.
    let flip = |root: &TestRoot| {
        let mut bytes = std::fs::read(root.path(archive())).unwrap();
        let at = bytes.len() - 10;
        bytes[at] ^= 1;
        root.write(archive(), bytes);
    };
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    flip(&root);
    let before = root.tree();
    let ran = root.json(&["plan", "restore", ZSTD, "-o", "-"]);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    before.assert_same(&root.tree(), "planning for a flipped bit");
    let before = root.tree_but_records();
    let error = root.apply(&plan).error(4, "abssctl::apply::rolled_back", &["everything is as it was"]);
    assert_eq!(error["cause"]["code"], "abssctl::step::checksum", "the digest explains the rest: {error:#}");
    before.assert_same(&root.tree_but_records(), "a flipped bit");
    root.assert_no_private();
}

#[test]
fn an_archive_that_is_no_file_or_lies_elsewhere() {
    let folder = |root: &TestRoot| {
        std::fs::remove_file(root.path(archive())).unwrap();
        std::fs::create_dir(root.path(archive())).unwrap();
    };
    refused(folder, (2, "abssctl::store::not_a_file", &[ZSTD]), (2, &["archive"]));
    // A pipe that nobody writes to must not stop the program for ever.
    let pipe = |root: &TestRoot| {
        std::fs::remove_file(root.path(archive())).unwrap();
        let _ = tool("mkfifo", &[root.path(archive()).to_str().unwrap()]);
    };
    refused(pipe, (2, "abssctl::store::not_a_file", &[ZSTD]), (2, &["archive"]));
    let outside = |root: &TestRoot| {
        let path = format!("/srv/{ZSTD}.tar.zst");
        std::fs::copy(root.path(archive()), root.path(&path)).unwrap();
        root.edit_entry(ZSTD, |entry| entry["path"] = path.into());
    };
    refused(
        outside,
        (2, "abssctl::store::outside", &["/srv/backups"]),
        (5, &["backup-differs", "backup-entry"]),
    );
    // A link that leads out of the root is not followed.
    let escaping = |root: &TestRoot| {
        let elsewhere = root.work("elsewhere");
        std::fs::copy(root.path(archive()), &elsewhere).unwrap();
        std::fs::remove_file(root.path(archive())).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.path(archive())).unwrap();
    };
    let root = TestRoot::new();
    escaping(&root);
    let before = root.tree();
    let ran = root.json(PLAN);
    assert!(matches!(ran.code, 2 | 3), "{}{}", ran.stdout, ran.stderr);
    before.assert_same(&root.tree(), "a link out of the root");
}

#[test]
fn a_backup_that_the_index_gave_up() {
    for status in ["missing", "corrupt", "removed"] {
        refused(
            |root| root.edit_entry(ZSTD, |entry| entry["status"] = status.into()),
            (2, "abssctl::planner::unusable", &[status]),
            (3, &["backup-unusable"]),
        );
    }
}

/// Whatever reads this file fails with this code, and nothing changes.
fn unreadable(file: &str, content: &str, code: &str, words: &[&str], commands: &[&[&str]]) {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    root.write(file, content);
    let before = root.tree();
    for command in commands {
        let _ = root.json(command).error(2, code, words);
    }
    let _ = root.apply(&plan).error(2, code, words);
    before.assert_same(&root.tree(), file);
}

const PLAN: &[&str] = &["plan", "restore", ZSTD, "-o", "-"];
const LIST: &[&str] = &["backup", "list"];
const INSTANCES: &[&str] = &["instance", "list"];
const CREATE: &[&str] = &["backup", "create", "budget"];

#[test]
fn an_index_that_is_not_json() {
    for content in ["", "{", "not JSON", "{\"backups\": [}"] {
        unreadable(INDEX, content, "abssctl::index::syntax", &["backups.json"], &[LIST, PLAN]);
    }
    for content in ["[]", "{\"backups\": 1}", "{\"backups\": [1]}", "{\"backups\": [{\"id\": \"x\"}]}"] {
        unreadable(INDEX, content, "abssctl::index::shape", &["backups.json"], &[LIST, PLAN]);
    }
}

#[test]
fn an_index_with_one_id_twice() {
    let root = TestRoot::new();
    root.edit_index(|index| {
        let first = index["backups"][0].clone();
        index["backups"].as_array_mut().unwrap().push(first);
    });
    let content = root.read(INDEX);
    unreadable(INDEX, &content, "abssctl::index::duplicate", &[ZSTD], &[LIST, PLAN]);
}

#[test]
fn a_registry_that_is_broken() {
    for content in ["instances: [", "'instances:", "a: b: c"] {
        unreadable(
            REGISTRY,
            content,
            "abssctl::registry::syntax",
            &["instances.yml"],
            &[PLAN, INSTANCES, CREATE],
        );
    }
    for content in ["instances: 7\n", "- 1\n"] {
        unreadable(
            REGISTRY,
            content,
            "abssctl::registry::shape",
            &["instances.yml"],
            &[PLAN, INSTANCES, CREATE],
        );
    }
    unreadable(
        REGISTRY,
        "instances: []\n",
        "abssctl::registry::unknown_instance",
        &["budget"],
        &[PLAN, CREATE],
    );
}

#[test]
fn paths_in_the_registry_that_lead_astray() {
    let root = TestRoot::new();
    let good = root.read(REGISTRY);
    let outside = good.replace("data: /srv/budget/data", "data: /srv/elsewhere/data");
    unreadable(REGISTRY, &outside, "abssctl::survey::data_outside", &["/srv/elsewhere/data"], &[PLAN]);
    let root = TestRoot::new();
    let before_plan = root.plan(&[ZSTD]);
    let all = good
        .replace("root: /srv/budget\n", "root: /srv\n")
        .replace("data: /srv/budget/data", "data: /srv/data");
    root.write(REGISTRY, all);
    let before = root.tree();
    let ran = root.json(PLAN);
    let _ = ran.error(2, "abssctl::planner::target", &["cannot be a target"]);
    let ran = root.apply(&before_plan);
    assert_eq!(ran.code, 5, "{}", ran.stdout);
    before.assert_same(&root.tree(), "an instance that is everything");
}
