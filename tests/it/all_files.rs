//! A plan's size does not grow with files, and `plan show --all-files` lists each of them: exactly those that
//! a comparison of two trees finds.

use std::collections::BTreeMap;
use std::path::Path;

use abssctl::ids::Sha256;
use serde_json::Value;

use crate::support::TestRoot;
use crate::support::root::{INDEX, LIVE, ZSTD};
use crate::support::tools::tool;

const FILES: &str = "srv/budget/data/user-files";

/// So many files as a server has them, and so many that none has, of 32 contents.
fn fill(root: &TestRoot, count: usize) {
    std::fs::create_dir(root.path(LIVE).join("extra")).unwrap();
    for n in 0..count {
        root.write(
            format!("{FILES}/file-{n:08}-0000-4000-8000-000000000000.blob"),
            format!("blob {}", n % 32),
        );
        root.write(format!("{LIVE}/extra/{n:08}"), format!("extra {}", n % 32));
    }
}

/// Adds, changes (in size, and in content alone) and removes a third of them each, but for every fourth;
/// of the server's own, every fifth.
fn change(root: &TestRoot, count: usize) {
    for n in (0..count).filter(|n| n % 4 != 0) {
        let blob = format!("{FILES}/file-{n:08}-0000-4000-8000-000000000000.blob");
        match n % 5 {
            0 => std::fs::remove_file(root.path(blob)).unwrap(),
            1 => root.write(blob, "uploaded again"),
            _ => {}
        }
        let extra = format!("{LIVE}/extra/{n:08}");
        match n % 3 {
            0 => std::fs::remove_file(root.path(&extra)).unwrap(),
            1 => root.write(&extra, format!("other {}", n % 32)),
            _ => {
                root.write(&extra, "longer than it was before");
                root.write(format!("{LIVE}/extra/new-{n:08}"), "new");
            }
        }
    }
}

/// Backs up, changes the tree, and plans the way back.
fn planned(root: &TestRoot, count: usize) -> (String, std::path::PathBuf) {
    fill(root, count);
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let id = made["id"].as_str().unwrap().to_owned();
    let _ = tool("cp", &["-a", root.path(LIVE).to_str().unwrap(), root.work("then").to_str().unwrap()]);
    change(root, count);
    let plan = root.plan(&[&id]);
    (id, plan)
}

/// Size and digest of each file below a directory, found without the program.
fn listing(directory: &Path) -> BTreeMap<String, (u64, String)> {
    let found = tool("find", &[directory.to_str().unwrap(), "-type", "f", "-printf", "%P\n"]);
    let read = |path: &str| {
        let bytes = std::fs::read(directory.join(path)).unwrap();
        (path.to_owned(), (bytes.len() as u64, Sha256::of(&bytes).to_string()))
    };
    found.stdout.lines().map(read).collect()
}

/// What turning one tree into the other does: added, changed, removed with the bytes that `plan show` tells
/// of each, and how many stay.
fn differences(now: &Path, then: &Path) -> ([Vec<(String, u64)>; 3], u64) {
    let (now, then) = (listing(now), listing(then));
    let only = |these: &BTreeMap<String, (u64, String)>, those: &BTreeMap<String, (u64, String)>| {
        let missing = these.iter().filter(|(path, _)| !those.contains_key(*path));
        missing.map(|(path, (size, _))| (path.clone(), *size)).collect::<Vec<_>>()
    };
    let both = || then.iter().filter_map(|(path, file)| Some((path, file, now.get(path)?)));
    let changed = both().filter(|(_, then, now)| then != now);
    let changed = changed.map(|(path, then, _)| (path.clone(), then.0)).collect();
    let same = both().filter(|(_, then, now)| then == now).count() as u64;
    ([only(&then, &now), changed, only(&now, &then)], same)
}

/// One list of the answer.
fn list(files: &Value, name: &str) -> Vec<(String, u64)> {
    let group = &files[name];
    let each = group["files"].as_array().unwrap().iter();
    let all: Vec<(String, u64)> = each
        .map(|file| (file["path"].as_str().unwrap().to_owned(), file["bytes"].as_u64().unwrap()))
        .collect();
    assert_eq!(group["count"], all.len());
    assert_eq!(group["bytes"], all.iter().map(|(_, bytes)| bytes).sum::<u64>());
    all
}

fn answer(root: &TestRoot, plan: &Path) -> Value {
    root.json(&["plan", "show", "--all-files", plan.to_str().unwrap()]).ok().json()
}

#[test]
fn a_plan_is_as_large_for_three_thousand_files_as_for_thirty() {
    // Both have more files than a plan names, of every kind.
    let plans = [130, 3000].map(|count| {
        let root = TestRoot::new();
        let (_, plan) = planned(&root, count);
        let text = std::fs::read_to_string(plan).unwrap();
        let plan: Value = serde_json::from_str(&text).unwrap();
        let files = &plan["preview"]["files"];
        for group in ["added", "changed", "removed"] {
            assert!(files[group]["count"].as_u64().unwrap() > 20, "{files}");
            assert_eq!(files[group]["examples"].as_array().unwrap().len(), 10, "{files}");
        }
        text.len()
    });
    assert!(plans[0].abs_diff(plans[1]) < 300, "{plans:?}");
    // Of the server's own kind not one more is named than there are.
    let sizes = [30, 3000].map(|count| {
        let root = TestRoot::new();
        let made = root.json(&["backup", "create", "budget"]).ok().json();
        for n in 0..count {
            root.write(format!("{FILES}/file-{n:08}-0000-4000-8000-000000000000.blob"), "x");
        }
        std::fs::read(root.plan(&[made["id"].as_str().unwrap()])).unwrap().len()
    });
    assert!(sizes[0].abs_diff(sizes[1]) < 300, "{sizes:?}");
}

#[test]
fn every_file_is_listed_that_differs_and_no_other() {
    let root = TestRoot::new();
    let (_, plan) = planned(&root, 200);
    let before = root.tree();
    let found = answer(&root, &plan);
    before.assert_same(&root.tree(), "a look");
    let ([added, changed, removed], unchanged) = differences(&root.path(LIVE), &root.work("then"));
    assert!(added.len() > 20 && changed.len() > 40 && removed.len() > 20, "{found:#}");
    assert_eq!(list(&found["files"], "added"), added);
    assert_eq!(list(&found["files"], "changed"), changed);
    assert_eq!(list(&found["files"], "removed"), removed);
    assert_eq!(found["files"]["unchanged"], unchanged);
    assert_eq!(found["warnings"], serde_json::json!([]));
    assert_eq!(found["target"], "/srv/budget");
    // The plan counts the same.
    let document: Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    for group in ["added", "changed", "removed"] {
        assert_eq!(document["preview"]["files"][group]["count"], found["files"][group]["count"], "{group}");
        assert_eq!(document["preview"]["files"][group]["bytes"], found["files"][group]["bytes"], "{group}");
    }
    assert_eq!(document["metadata"]["id"], found["plan"]);

    // The same bytes each time, and by either way to ask.
    let (file, show) = (plan.to_str().unwrap(), ["plan", "show", "--all-files"]);
    let json = root.json(&[&show[..], &[file]].concat()).ok();
    let format = root.run(&[&show[..], &[file, "--format", "json"]].concat()).ok();
    assert_eq!((&json.stdout, json.stderr.as_str()), (&format.stdout, ""));
    // The text has one line for each, with its sign.
    let text = root.run(&[&show[..], &[file]].concat()).ok().stdout;
    for (sign, list) in [('+', &added), ('~', &changed), ('-', &removed)] {
        let lines = text.lines().filter(|line| line.starts_with(&format!("  {sign} ")));
        let names: Vec<&str> = lines.map(|line| line.rsplit("  ").next().unwrap()).collect();
        assert_eq!(names, list.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>());
    }
    assert!(text.starts_with("Files in /srv/budget"), "{text}");
    let summary = text.lines().find(|line| line.starts_with("  unchanged ")).unwrap();
    assert_eq!(summary.split_whitespace().collect::<Vec<_>>(), ["unchanged", &unchanged.to_string()]);
}

#[test]
fn a_backup_of_the_older_tool_and_single_budgets_are_listed_too() {
    let root = TestRoot::new();
    let _ = tool("mkdir", &[root.work("then").to_str().unwrap()]);
    let archive = root.path(format!("srv/backups/budget/{ZSTD}.tar.zst"));
    let _ =
        tool("tar", &["--zstd", "-xf", archive.to_str().unwrap(), "-C", root.work("then").to_str().unwrap()]);
    let plan = root.plan(&[ZSTD]);
    let found = answer(&root, &plan);
    let (expected, unchanged) = differences(&root.path(LIVE), &root.work("then").join(ZSTD).join("data"));
    assert_eq!(["added", "changed", "removed"].map(|name| list(&found["files"], name)), expected);
    assert_eq!(found["files"]["unchanged"], unchanged);

    let one = root.plan(&[ZSTD, "--budget", "Household", "--clients", "reset"]);
    let found = answer(&root, &one);
    let document: Value = serde_json::from_slice(&std::fs::read(&one).unwrap()).unwrap();
    for group in ["added", "changed", "removed"] {
        let names: Vec<String> = list(&found["files"], group).into_iter().map(|(path, _)| path).collect();
        let examples = document["preview"]["files"][group]["examples"].as_array();
        let examples = examples.into_iter().flatten().map(|path| path.as_str().unwrap().to_owned());
        assert_eq!(names, examples.collect::<Vec<_>>(), "ten at most, so the plan names all");
    }
    assert_eq!(found["files"]["added"]["count"], 1, "its database under another name: {found:#}");
}

#[test]
fn what_changed_since_the_plan_is_said() {
    let root = TestRoot::new();
    let (_, plan) = planned(&root, 40);
    root.write("srv/budget/extra/later", "after the plan");
    let ran = root.json(&["plan", "show", "--all-files", plan.to_str().unwrap()]).ok();
    let found = ran.json();
    let warning = found["warnings"][0].as_str().unwrap();
    let document: Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    let counted = document["preview"]["files"]["removed"]["count"].as_u64().unwrap();
    assert!(
        warning.starts_with("/srv/budget has changed since the plan was made: the plan says "),
        "{warning}"
    );
    assert!(warning.contains(&format!(" {counted} removed")), "{warning}");
    assert!(warning.contains(&format!(" {} removed", counted + 1)), "{warning}");
    assert!(ran.says(&format!("! {warning}")).code == 0);
    assert!(list(&found["files"], "removed").iter().any(|(path, _)| path == "extra/later"));
    // Other bytes, as many files as before.
    std::fs::remove_file(root.path("srv/budget/extra/later")).unwrap();
    let ran = root.run(&["plan", "show", "--all-files", plan.to_str().unwrap()]).ok();
    assert_eq!(ran.stderr, "", "as it was when the plan was made");
    let unchanged = root.path("srv/budget/extra/00000000");
    let content = std::fs::read(&unchanged).unwrap();
    std::fs::remove_file(&unchanged).unwrap();
    std::fs::write(&unchanged, content).unwrap();
    let ran = root.run(&["plan", "show", "--all-files", plan.to_str().unwrap()]).ok();
    let _ = ran.says("! /srv/budget has changed since the plan was made, the counts have not");
    // A preview that somebody edited.
    let fresh = TestRoot::new();
    let (_, plan) = planned(&fresh, 40);
    let text = std::fs::read_to_string(&plan).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let unchanged = format!("\"unchanged\": {}", document["preview"]["files"]["unchanged"]);
    std::fs::write(&plan, text.replacen(&unchanged, "\"unchanged\": 1", 1)).unwrap();
    let ran = fresh.run(&["plan", "show", "--all-files", plan.to_str().unwrap()]).ok();
    let _ = ran.says("! the preview is not of this machine: the plan says");
}

#[test]
fn without_the_backup_there_is_no_list() {
    let root = TestRoot::new();
    let (id, plan) = planned(&root, 10);
    let ask = |root: &TestRoot| root.json(&["plan", "show", "--all-files", plan.to_str().unwrap()]);
    let archive = root.path(format!("srv/backups/budget/{id}.tar.zst"));
    let (index, bytes) = (root.read(INDEX), std::fs::read(&archive).unwrap());

    // Another backup under the same name, recorded as it is.
    let _ = root.json(&["backup", "create", "budget"]).ok();
    let other = root.index()["backups"].as_array().unwrap().last().unwrap().clone();
    let path = root.path(other["path"].as_str().unwrap());
    std::fs::copy(&path, &archive).unwrap();
    std::fs::write(
        root.path(format!("srv/backups/budget/{id}.tar.zst.sha256")),
        format!("{}  {id}.tar.zst\n", other["checksum"]["value"].as_str().unwrap()),
    )
    .unwrap();
    root.edit_entry(&id, |entry| {
        entry["size_bytes"] = other["size_bytes"].clone();
        entry["checksum"] = other["checksum"].clone();
    });
    let ran = ask(&root);
    assert_ne!(ran.code, 0, "an archive with another top directory: {}", ran.stdout);
    // Only cut off.
    root.write(INDEX, &index);
    std::fs::write(&archive, &bytes[..bytes.len() - 1]).unwrap();
    let _ = ask(&root).error(2, "abssctl::store::size", &[id.as_str()]);
    // Gone, gone from the index, said to be gone.
    std::fs::remove_file(&archive).unwrap();
    let _ = ask(&root).error(3, "abssctl::store::missing", &[id.as_str(), "does not exist"]);
    root.edit_index(|index| {
        index["backups"].as_array_mut().unwrap().retain(|entry| entry["id"] != id.as_str());
    });
    let _ = ask(&root).error(2, "abssctl::index::unknown_backup", &[id.as_str()]);
    // The plan itself is shown as ever.
    let _ = root.run(&["plan", "show", plan.to_str().unwrap()]).ok();
}

#[test]
fn a_backup_with_another_record_is_not_the_one_of_the_plan() {
    let root = TestRoot::new();
    let (id, plan) = planned(&root, 10);
    root.edit_entry(&id, |entry| entry["created_at"] = "2026-11-24T02:26:33Z".into());
    let ran = root.json(&["plan", "show", "--all-files", plan.to_str().unwrap()]);
    let object = ran.error(5, "abssctl::planner::other_source", &[id.as_str()]);
    assert!(object["help"].as_str().unwrap().contains("abssctl plan refresh"), "{object:#}");
}

#[test]
fn another_machine_and_other_forms_are_refused() {
    let root = TestRoot::new();
    root.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let plan = root.plan(&[ZSTD]);
    let file = plan.to_str().unwrap();
    let _ = root.json(&["plan", "show", "--all-files", file]).ok();
    for format in ["yaml", "markdown", "html", "mermaid", "dot", "canonical"] {
        let ran = root.run(&["plan", "show", "--all-files", file, "--format", format]).code(2);
        let _ = ran.says("--all-files is shown as text or as JSON alone");
    }
    root.write("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    let ran = root.json(&["plan", "show", "--all-files", file]);
    let _ = ran.error(5, "abssctl::planner::other_machine", &["another machine"]);
}

#[test]
fn a_name_steers_no_terminal_and_begins_no_line() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    root.write("srv/budget/data/a\n  - b\u{1b}[31m", "x");
    let text = root.run(&["plan", "show", "--all-files", plan.to_str().unwrap()]).ok().stdout;
    assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("  - b")).count(), 0, "{text}");
}

#[test]
fn a_rollback_lists_its_files_too() {
    let root = TestRoot::new();
    let result = root.restore(&[ZSTD]);
    let plan = root.work("back.json");
    let run = result["run"].as_str().unwrap();
    let _ = root.run(&["plan", "rollback", run, "-o", plan.to_str().unwrap()]).ok();
    let displaced = root.path(result["displaced"].as_str().unwrap());
    let (expected, unchanged) = differences(&root.path(LIVE), &displaced);
    let found = answer(&root, &plan);
    assert_eq!(["added", "changed", "removed"].map(|name| list(&found["files"], name)), expected);
    assert_eq!(found["files"]["unchanged"], unchanged);
}
