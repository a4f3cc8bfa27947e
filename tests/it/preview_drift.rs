//! A preview that hides something is refused, also where the target has changed since: an honest plan of
//! a server that goes on taking writes is not.

use std::path::{Path, PathBuf};

use abssctl::plan::follows;
use abssctl::plan::model::Plan;
use serde_json::{Value, json};

use crate::support::TestRoot;
use crate::support::root::ZSTD;

const USER_FILES: &str = "srv/budget/data/user-files";
const HOUSEHOLD: &str = "srv/budget/data/user-files/group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite";
const ACCOUNT: &str = "srv/budget/data/server-files/account.sqlite";

/// A root whose live side has a file that the backup lacks, and a plan for it.
fn planned() -> (TestRoot, Value) {
    let root = TestRoot::new();
    root.write("srv/budget/data/note.txt", "only here");
    let config = root.read("srv/budget/data/config.json");
    root.write("srv/budget/data/config.json", config.replacen('{', "{\"port\": 5999,", 1));
    let plan = serde_json::from_slice(&std::fs::read(root.plan(&[ZSTD])).unwrap()).unwrap();
    (root, plan)
}

/// The plan with an edit and everything that follows from it, as a careful forger writes it.
fn forged(root: &TestRoot, plan: &Value, edit: impl FnOnce(&mut Value)) -> PathBuf {
    let mut plan = plan.clone();
    // Nothing vouches for this fingerprint, and a running server changes what it is of.
    plan["observed"]["target"]["content"] = "0".repeat(64).into();
    edit(&mut plan);
    let mut plan: Plan = serde_json::from_value(plan).unwrap();
    follows::derive(&mut plan);
    let path = root.work("forged.json");
    std::fs::write(&path, serde_json::to_vec(&plan).unwrap()).unwrap();
    let _ = root.json(&["plan", "validate", path.to_str().unwrap()]).ok();
    path
}

fn household(plan: &mut Value) -> &mut Value {
    let budgets = plan["preview"]["budgets"].as_array_mut().unwrap();
    budgets.iter_mut().find(|budget| budget["name"] == "Household").unwrap()
}

fn observed(plan: &mut Value) -> &mut Value {
    let id = household(plan)["id"].clone();
    let budgets = plan["observed"]["target"]["budgets"].as_array_mut().unwrap();
    budgets.iter_mut().find(|budget| budget["id"] == id).unwrap()
}

fn no_newer(plan: &mut Value) {
    let budget = household(plan).as_object_mut().unwrap();
    budget["changesNewer"] = 0_u64.into();
    budget.remove("firstNewer");
    budget.remove("lastNewer");
}

/// Refused by both commands, and nothing changes.
#[track_caller]
fn untrue(root: &TestRoot, plan: &Path, place: &str) {
    let before = root.tree();
    for args in [&["plan", "check"] as &[&str], &["apply", "--yes"]] {
        let ran = root.json(&[args, &[plan.to_str().unwrap()]].concat()).code(2);
        let value = ran.json();
        let problems = value["problems"].as_array().unwrap();
        assert!(problems.iter().all(|problem| problem["code"] == "preview-untrue"), "{value:#}");
        assert!(value["problems"].to_string().contains(place), "{place} is named: {value:#}");
    }
    before.assert_same(&root.tree(), "a preview that is not true");
}

/// Would apply; gives what is said.
#[track_caller]
fn would_apply(root: &TestRoot, plan: &Path) -> String {
    let check = root.json(&["plan", "check", plan.to_str().unwrap()]).ok().json();
    check["warnings"].to_string()
}

#[test]
fn a_preview_that_hides_lost_changes_is_refused_whatever_its_fingerprint_says() {
    let (root, good) = planned();
    let all = forged(&root, &good, |plan| {
        no_newer(plan);
        plan["preview"]["files"]["unchanged"] = 5_u64.into();
        plan["preview"]["files"]["changed"] = json!({ "count": 0, "bytes": 0 });
        for row in plan["preview"]["rows"].as_array_mut().unwrap() {
            if row["table"] != "sessions" && row["backup"].is_u64() {
                row["live"] = row["backup"].clone();
            }
        }
    });
    untrue(&root, &all, "changesNewer");
    untrue(&root, &forged(&root, &good, no_newer), "this machine shows 675");
    let fewer = forged(&root, &good, |plan| household(plan)["changesNewer"] = 674_u64.into());
    untrue(&root, &fewer, "changesNewer");
    let not_counted = forged(&root, &good, |plan| {
        let budget = household(plan).as_object_mut().unwrap();
        for key in ["changesNewer", "firstNewer", "lastNewer"] {
            budget.remove(key);
        }
    });
    untrue(&root, &not_counted, "changesNewer");
    // As if changes had been taken out since, and others come.
    let taken_out = forged(&root, &good, |plan| {
        no_newer(plan);
        observed(plan)["changes"] = 2000_u64.into();
    });
    untrue(&root, &taken_out, "changesNewer");
    let later = forged(&root, &good, |plan| {
        let last = household(plan)["lastNewer"].clone();
        household(plan)["firstNewer"] = last;
    });
    untrue(&root, &later, "firstNewer");
    let no_diff = forged(&root, &good, |plan| {
        plan["preview"].as_object_mut().unwrap().remove("diffs");
    });
    untrue(&root, &no_diff, "diffs");
    let budgets = forged(&root, &good, |plan| {
        let rows = plan["preview"]["rows"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["table"] == "files").unwrap()["live"] = 9_u64.into();
    });
    untrue(&root, &budgets, "live");
}

#[test]
fn what_a_forger_lets_a_server_take_is_said() {
    let (root, good) = planned();
    // Fewer changes than there were, as if the rest had come since: then the rest is told as come since.
    let since = forged(&root, &good, |plan| {
        let held = observed(plan)["changes"].as_u64().unwrap();
        observed(plan)["changes"] = (held - 675).into();
        no_newer(plan);
    });
    let said = would_apply(&root, &since);
    assert!(said.contains("675 more changes than reviewed"), "{said}");
    assert!(said.contains("they undo this restore"), "the warning that the plan lacks: {said}");
    let uncounted = forged(&root, &good, |plan| {
        let budget = household(plan).as_object_mut().unwrap();
        for key in ["changesNewer", "firstNewer", "lastNewer"] {
            budget.remove(key);
        }
        observed(plan).as_object_mut().unwrap().remove("changes");
    });
    let said = would_apply(&root, &uncounted);
    assert!(said.contains("'Household': 675 newer changes would be replaced"), "{said}");
    let rows = forged(&root, &good, |plan| {
        let rows = plan["preview"]["rows"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["table"] == "secrets").unwrap()["live"] = 77_u64.into();
    });
    let said = would_apply(&root, &rows);
    assert!(said.contains("table secrets: the plan says 77 rows"), "{said}");
}

#[test]
fn files_that_no_server_changes_cannot_be_hidden() {
    let (root, good) = planned();
    let files = &good["preview"]["files"];
    let removed = files["removed"]["examples"].as_array().unwrap();
    assert!(removed.contains(&json!("data/note.txt")), "{files:#}");
    let edits: [(&str, &dyn Fn(&mut Value)); 8] = [
        ("files.removed", &|files| files["removed"] = json!({ "count": 0, "bytes": 0 })),
        ("files.removed", &|files| {
            let names = files["removed"]["examples"].as_array_mut().unwrap();
            names.iter_mut().find(|name| **name == "data/note.txt").unwrap().clone_from(&json!("data/x.txt"));
        }),
        ("files.changed", &|files| {
            files["unchanged"] =
                (files["unchanged"].as_u64().unwrap() + files["changed"]["count"].as_u64().unwrap()).into();
            files["changed"] = json!({ "count": 0, "bytes": 0 });
        }),
        ("files.changed", &|files| {
            let names = files["changed"]["examples"].as_array_mut().unwrap();
            names.retain(|name| name != "data/config.json");
        }),
        ("files.changed", &|files| files["changed"]["bytes"] = 1_u64.into()),
        ("files.changed", &|files| files["changed"]["bytes"] = (1_u64 << 52).into()),
        ("files.unchanged", &|files| files["unchanged"] = 500_u64.into()),
        ("files.added", &|files| {
            files["added"] = json!({ "count": 1, "bytes": 1, "examples": ["data/new.txt"] });
            files["unchanged"] = (files["unchanged"].as_u64().unwrap().saturating_sub(1)).into();
        }),
    ];
    for (place, edit) in edits {
        let plan = forged(&root, &good, |plan| edit(&mut plan["preview"]["files"]));
        untrue(&root, &plan, place);
    }
}

#[test]
fn an_honest_plan_of_a_server_that_takes_writes_stays_good() {
    let writes: [(&str, &dyn Fn(&TestRoot), &str); 9] = [
        ("new changes", &|root| changes(root, "2026-12-01", 37), "37 more changes"),
        ("a device that was offline", &|root| changes(root, "2019-01-01", 5), "5 more changes"),
        (
            "old and new at once",
            &|root| {
                changes(root, "2019-01-01", 5);
                changes(root, "2026-12-01", 7);
            },
            "12 more changes",
        ),
        (
            "a login",
            &|root| root.sql(ACCOUNT, "INSERT INTO sessions (token, expires_at) VALUES ('t', 1)"),
            "table sessions",
        ),
        ("logins that expire", &|root| root.sql(ACCOUNT, "DELETE FROM sessions"), "table sessions"),
        (
            "a bank that is connected",
            &|root| root.sql(ACCOUNT, "INSERT OR REPLACE INTO secrets VALUES ('bank', 'x')"),
            "data of the target",
        ),
        (
            "a blob that is uploaded again",
            &|root| {
                let blob = format!("{USER_FILES}/file-2a84e2f7-47ff-4dc7-ab99-5c78ea2ae3ef.blob");
                let longer = [std::fs::read(root.path(&blob)).unwrap(), b"more".to_vec()].concat();
                std::fs::write(root.path(&blob), longer).unwrap();
            },
            "data of the target",
        ),
        (
            "an upload under way and a journal",
            &|root| {
                root.write(format!("{USER_FILES}/file-2a84e2f7.blob.tmp"), "half");
                root.write(format!("{HOUSEHOLD}-journal"), "");
            },
            "files: the plan says",
        ),
        (
            "changes that are taken out",
            &|root| root.sql(HOUSEHOLD, "DELETE FROM messages_binary WHERE rowid % 2 = 0"),
            "now it holds",
        ),
    ];
    for (what, write, told) in writes {
        let (root, good) = planned();
        let plan = root.work("honest.json");
        std::fs::write(&plan, serde_json::to_vec(&good).unwrap()).unwrap();
        write(&root);
        let said = would_apply(&root, &plan);
        assert!(said.contains(told), "{what}: {told} is said: {said}");
        let _ = root.apply(&plan).ok();
        root.assert_generation("gen-a.sha256");
    }
}

/// A client that compacts its budget uploads it into a new group: that is another budget to the plan.
#[test]
fn a_budget_whose_sync_was_reset_is_another_world() {
    let (root, good) = planned();
    let plan = root.work("honest.json");
    std::fs::write(&plan, serde_json::to_vec(&good).unwrap()).unwrap();
    let old = "9c8a10f0-de93-44b8-a957-beea9bec4983";
    root.sql(ACCOUNT, &format!("UPDATE files SET group_id = 'compacted' WHERE group_id = '{old}'"));
    std::fs::remove_file(root.path(HOUSEHOLD)).unwrap();
    let _ = root.json(&["plan", "check", plan.to_str().unwrap()]).refused(5, &["budget-group"]);
}

fn changes(root: &TestRoot, day: &str, count: u32) {
    for n in 0..count {
        let row = format!("INSERT INTO messages_binary VALUES ('{day}T00:00:00.000Z-{n:04}-x', 0, x'00')");
        root.sql(HOUSEHOLD, &row);
    }
}
