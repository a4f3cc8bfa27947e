//! Whole or not at all: a backup that lacks parts of budgets is refused, unless the plan lists exactly
//! what may be missing; then every view of the plan says so, and the server shows what that means.

use serde_json::Value;

use crate::support::TestRoot;
use crate::support::actual::{Client, Program, Server};
use crate::support::archive::{MADE, make, members};
use crate::support::root::LIVE;

const GROUP: &str = "bec4983.sqlite";
const BLOB: &str = ".blob";

/// A backup without the files that end so.
fn without(root: &TestRoot, ends: &[&str]) {
    let mut all = members(root);
    let count = all.len();
    all.retain(|member| !ends.iter().any(|end| member.below().ends_with(end)));
    assert_eq!(all.len() + ends.len(), count);
    make(root, &all);
}

fn read(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_plan_lists_exactly_what_may_be_missing() {
    let root = TestRoot::new();
    without(&root, &[GROUP]);
    let path = root.plan(&[MADE, "--allow-incomplete"]);
    let plan = read(&path);
    let list = plan["spec"]["allowIncomplete"].as_array().unwrap();
    assert_eq!(list.len(), 1, "{list:#?}");
    assert_eq!((&list[0]["name"], &list[0]["lacks"]), (&"Household".into(), &"group-database".into()));
    let result = root.apply(&path).ok().json();
    assert!(result["warnings"].to_string().contains("has no group database"), "{result:#}");
    assert!(result["steps"].to_string().contains("0 budgets whole, 1 not"), "{result:#}");
    let live = root.path(LIVE).join("data/user-files");
    let files: Vec<_> = std::fs::read_dir(live).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[test]
fn another_gap_than_the_listed_one_is_refused() {
    let root = TestRoot::new();
    without(&root, &[GROUP, BLOB]);
    let mut plan = read(&root.plan(&[MADE, "--allow-incomplete"]));
    assert_eq!(plan["spec"]["allowIncomplete"].as_array().unwrap().len(), 2);
    let path = root.work("edited.json");
    for kept in [0, 1] {
        let mut edited = plan.clone();
        let list = edited["spec"]["allowIncomplete"].as_array_mut().unwrap();
        let lacks = list[1 - kept]["lacks"].clone();
        list.truncate(kept + 1);
        drop(list.drain(..kept));
        std::fs::write(&path, edited.to_string()).unwrap();
        let refreshed = root.work("refreshed.json");
        let file = refreshed.to_str().unwrap();
        let _ = root.run(&["plan", "refresh", path.to_str().unwrap(), "-o", file]).ok();
        let ran = root.apply(&refreshed);
        let problems = ran.refused(2, &["backup-incomplete"])["problems"].to_string();
        let words = if lacks == "blob" { "has no blob" } else { "has no group database" };
        assert!(problems.contains(words) && problems.contains("Household"), "{problems}");
        assert_eq!(problems.matches("has no ").count(), 1, "{problems}");
    }
    // Nor does a list help against a budget whose id no file can have.
    plan["spec"]["allowIncomplete"][0]["lacks"] = "usable-id".into();
    std::fs::write(&path, plan.to_string()).unwrap();
    let refreshed = root.work("refreshed.json");
    let _ = root.run(&["plan", "refresh", path.to_str().unwrap(), "-o", refreshed.to_str().unwrap()]).ok();
    let _ = root.apply(&refreshed).refused(2, &["backup-incomplete"]);
}

#[test]
fn a_plan_for_a_whole_backup_allows_nothing() {
    let root = TestRoot::new();
    without(&root, &[]);
    let path = root.plan(&[MADE, "--allow-incomplete"]);
    assert_eq!(read(&path)["spec"].get("allowIncomplete"), None);
    // A deleted budget needs neither.
    without(&root, &[GROUP, BLOB]);
    let database = root.work("account.sqlite");
    let mut all = members(&root);
    let account = all.iter_mut().find(|member| member.below().ends_with("account.sqlite")).unwrap();
    std::fs::write(&database, &account.bytes).unwrap();
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.execute_batch("UPDATE files SET deleted = 1").unwrap();
    drop(connection);
    account.bytes = std::fs::read(&database).unwrap();
    all.retain(|member| !member.below().ends_with(GROUP) && !member.below().ends_with(BLOB));
    make(&root, &all);
    let _ = root.restore(&[MADE]);
}

#[test]
fn every_view_says_what_is_missing() {
    let root = TestRoot::new();
    without(&root, &[BLOB]);
    let path = root.plan(&[MADE, "--allow-incomplete"]);
    let file = path.to_str().unwrap();
    for format in ["text", "markdown", "html", "mermaid", "dot"] {
        let shown = root.run(&["plan", "show", file, "--format", format]).ok().stdout;
        let words: String = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = words.replace("#58;", ":");
        assert!(words.contains("allowIncomplete: budget"), "{format}: {shown}");
        assert!(words.contains("Household"), "{format}: {shown}");
    }
    let red = root.run(&["--color", "always", "plan", "show", file]).ok().stdout;
    assert!(red.contains("\u{1b}[1;31mallowIncomplete: budget 'Household' has no blob"), "{red}");
    let one_go = root.run(&["backup", "restore", MADE, "--allow-incomplete", "--yes"]).ok();
    assert!(one_go.stderr.contains("allowIncomplete"), "{}", one_go.stderr);
}

/// FORMATS.md of the project measured it: without its group database a budget opens on new devices as
/// the blob has it, silently; a device that knows more sends its changes again under merge.
#[test]
fn without_a_group_database_new_devices_get_the_state_of_the_blob() {
    let test = "without_a_group_database_new_devices_get_the_state_of_the_blob";
    for program in [Program::old(test), Program::new(test)].into_iter().flatten() {
        for clients in ["merge", "reset"] {
            let root = TestRoot::new();
            let data = root.path(LIVE).join("data");
            let server = Server::start(&program, &data);
            let port = server.port();
            let mut old = Client::new(&program, &server);
            old.download("Household", None);
            let all = old.notes().len();
            server.stop_content();
            without(&root, &[GROUP]);
            let _ = root.restore(&[MADE, "--allow-incomplete", "--clients", clients]);
            let server = Server::start_at(&program, &data, port);
            let mut fresh = Client::new(&program, &server);
            fresh.download("Household", None);
            let blob = fresh.notes().len();
            assert!(blob < all, "{clients}: {blob} of {all}");
            let said = old.sync();
            if clients == "reset" {
                assert_eq!(said, "file-has-reset");
            }
            server.stop_content();
        }
    }
}
