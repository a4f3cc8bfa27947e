//! The world between plan and apply: what may have changed, what may not, and what a plan that somebody
//! edited may still do.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::TestRoot;
use crate::support::root::{DATA_ONLY, GZIP, REGISTRY, ZSTD};

const HOUSEHOLD: &str = "srv/budget/data/user-files/group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite";
const ACCOUNT: &str = "srv/budget/data/server-files/account.sqlite";

fn add_changes(root: &TestRoot, count: u32) {
    for n in 0..count {
        let row =
            format!("INSERT INTO messages_binary VALUES ('2026-12-01T00:00:00.000Z-{n:04}-x', 0, x'00')");
        root.sql(HOUSEHOLD, &row);
    }
}

/// Refused as stale, by both commands, for exactly this; the message names `word`; nothing changes.
#[track_caller]
fn stale(root: &TestRoot, plan: &Path, problems: &[&str], word: &str) {
    let before = root.tree();
    let object = root.apply(plan).refused(5, problems);
    let text = object["problems"].to_string();
    assert!(text.contains(word), "'{word}' is not named: {object:#}");
    assert!(text.contains("plan refresh"), "says what to do: {object:#}");
    let check = root.json(&["plan", "check", plan.to_str().unwrap()]);
    let check = check.code(5).json();
    assert_eq!(check["applyable"], false);
    assert_eq!(check["problems"], object["problems"]);
    before.assert_same(&root.tree(), "a stale plan");
    root.assert_no_private();
}

/// Refreshes the plan, which then applies.
fn refreshed(root: &TestRoot, plan: &Path) {
    let _ = root.run(&["plan", "refresh", plan.to_str().unwrap()]).ok();
    let _ = root.apply(plan).ok();
    root.assert_generation("gen-a.sha256");
}

#[test]
fn newer_changes_are_counted_and_applied_with_a_warning() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    add_changes(&root, 37);
    let check = root.json(&["plan", "check", plan.to_str().unwrap()]).ok().json();
    assert_eq!(check["newerChanges"], 37);
    let ran = root.apply(&plan).ok();
    let result = ran.json();
    let warnings = result["warnings"].to_string();
    assert!(warnings.contains("37 more changes than reviewed"), "{result:#}");
    assert!(ran.stderr.contains("37 more changes"), "said on the terminal too: {}", ran.stderr);
    root.assert_generation("gen-a.sha256");
    let line = root.log().pop().unwrap();
    assert_eq!((&line["rc"], &line["result"]["status"]), (&0.into(), &"warning".into()));
    assert!(line["result"]["warnings"].to_string().contains("37 more changes"), "{line:#}");
}

#[test]
fn sessions_and_blobs_may_change() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    root.sql(ACCOUNT, "INSERT INTO sessions (token, expires_at) VALUES ('t', 1)");
    let blob = root.path("srv/budget/data/user-files/file-2a84e2f7-47ff-4dc7-ab99-5c78ea2ae3ef.blob");
    let longer = [std::fs::read(&blob).unwrap(), b"more".to_vec()].concat();
    std::fs::write(&blob, longer).unwrap();
    let result = root.apply(&plan).ok().json();
    assert_eq!(result["warnings"].as_array().unwrap().len(), 1, "{result:#}");
}

#[test]
fn a_changed_file_makes_the_plan_stale() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let config = root.read("srv/budget/data/config.json");
    root.write("srv/budget/data/config.json", config.replace('{', "{ "));
    stale(&root, &plan, &["file-changed"], "data/config.json");
    refreshed(&root, &plan);
}

#[test]
fn a_new_file_makes_the_plan_stale() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    root.write("srv/budget/data/note.txt", "new");
    stale(&root, &plan, &["file-new"], "data/note.txt");
    refreshed(&root, &plan);
}

#[test]
fn a_file_that_is_gone_or_has_another_owner_or_mode_makes_the_plan_stale() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let migrate = root.path("srv/budget/data/.migrate");
    let mode = |mode| {
        std::fs::set_permissions(&migrate, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(0o600);
    stale(&root, &plan, &["file-changed"], "data/.migrate");
    std::fs::remove_file(&migrate).unwrap();
    stale(&root, &plan, &["file-gone"], "data/.migrate");
    refreshed(&root, &plan);
}

#[test]
fn a_new_budget_makes_the_plan_stale() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    root.sql(ACCOUNT, "INSERT INTO files (id, group_id, deleted, name) VALUES ('new-one', 'g', 0, 'New')");
    stale(&root, &plan, &["budget-new"], "new-one");
    root.sql(ACCOUNT, "DELETE FROM files WHERE id = 'new-one'");
    let _ = root.apply(&plan).ok();
}

#[test]
fn a_budget_that_is_gone_or_reset_makes_the_plan_stale() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let id = "2a84e2f7-47ff-4dc7-ab99-5c78ea2ae3ef";
    root.sql(ACCOUNT, &format!("UPDATE files SET group_id = 'another' WHERE id = '{id}'"));
    stale(&root, &plan, &["budget-group"], id);
    root.sql(ACCOUNT, &format!("UPDATE files SET deleted = 1 WHERE id = '{id}'"));
    root.sql(
        ACCOUNT,
        &format!("UPDATE files SET group_id = '9c8a10f0-de93-44b8-a957-beea9bec4983' WHERE id = '{id}'"),
    );
    stale(&root, &plan, &["budget-deleted"], id);
    root.sql(ACCOUNT, &format!("DELETE FROM files WHERE id = '{id}'"));
    stale(&root, &plan, &["budget-gone"], id);
    refreshed(&root, &plan);
}

#[test]
fn exact_refuses_any_change_and_ignore_none() {
    let root = TestRoot::new();
    let exact = root.work("exact.json");
    let ignore = root.work("ignore.json");
    let _ = root.plan_to(&[ZSTD, "--drift", "exact"], &exact).ok();
    let _ = root.plan_to(&[GZIP, "--drift", "ignore"], &ignore).ok();
    add_changes(&root, 1);
    stale(&root, &exact, &["target-content"], "1 more change than reviewed");
    root.write("srv/budget/data/note.txt", "new");
    root.sql(ACCOUNT, "INSERT INTO files (id, group_id, deleted, name) VALUES ('new-one', 'g', 0, 'New')");
    let result = root.apply(&ignore).ok().json();
    let warnings = result["warnings"].to_string();
    assert!(warnings.contains("new-one") && warnings.contains("note.txt"), "{result:#}");
    root.assert_generation("gen-a.sha256");
}

#[test]
fn exact_is_applied_when_nothing_changed() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--drift", "exact"]);
    // Looking at the live data, however often, is no change.
    let _ = root.run(&["instance", "show", "budget"]).ok();
    let _ = root.run(&["backup", "create", "budget"]).ok();
    let _ = root.run(&["plan", "check", plan.to_str().unwrap()]).ok();
    let result = root.apply(&plan).ok().json();
    assert_eq!(result["warnings"], json!([]));
}

#[test]
fn another_machine_is_refused_whatever_the_policy() {
    for drift in ["structure", "exact", "ignore"] {
        let root = TestRoot::new();
        root.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        let plan = root.plan(&[ZSTD, "--drift", drift]);
        root.write("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
        stale(&root, &plan, &["machine"], "another machine");
        std::fs::remove_file(root.path("etc/machine-id")).unwrap();
        stale(&root, &plan, &["machine"], "another machine");
    }
}

#[test]
fn a_plan_without_a_machine_says_that_it_was_not_checked() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let check = root.json(&["plan", "check", plan.to_str().unwrap()]).ok().json();
    assert!(check["notChecked"].to_string().contains("machine"), "{check:#}");
}

#[test]
fn another_registry_entry_is_refused_whatever_the_policy() {
    for drift in ["structure", "ignore"] {
        let root = TestRoot::new();
        let plan = root.plan(&[ZSTD, "--drift", drift]);
        let registry = root.read(REGISTRY).replace("  version: 25.6.0", "  version: 26.9.0");
        root.write(REGISTRY, registry);
        stale(&root, &plan, &["registry-entry"], "registry entry");
    }
}

#[test]
fn what_a_program_notes_in_registry_or_index_makes_no_plan_stale() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--drift", "exact"]);
    root.edit_entry(ZSTD, |entry| {
        entry["verified_at"] = "2026-11-24T10:00:00Z".into();
        entry["checksum"]["last_verified"] = "2026-11-24T10:00:00Z".into();
        entry["checksum"]["observed"] = entry["checksum"]["value"].clone();
        entry["metadata"]["verification_error"] = Value::Null;
        entry["last_restored_at"] = "2026-11-24T10:00:00Z".into();
        entry["metadata"]["last_restore_destination"] = "/srv/elsewhere".into();
    });
    let registry = root.read(REGISTRY).replace("status: enabled", "status: stopped");
    root.write(
        REGISTRY,
        registry.replace("last_checked_at: '2026-11-24T02", "last_checked_at: '2026-11-24T03"),
    );
    let _ = root.apply(&plan).ok();
}

#[test]
fn another_index_entry_is_refused_whatever_the_policy() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--drift", "ignore"]);
    root.edit_entry(ZSTD, |entry| entry["created_at"] = "2026-11-24T02:26:33Z".into());
    stale(&root, &plan, &["backup-differs", "backup-entry"], "index");
}

#[test]
fn a_target_that_appears_or_disappears_makes_the_plan_stale() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    std::fs::rename(root.path("srv/budget"), root.path("srv/away")).unwrap();
    stale(&root, &plan, &["target"], "absent");
    std::fs::rename(root.path("srv/away"), root.path("srv/budget")).unwrap();
    let _ = root.apply(&plan).ok();
}

fn read(plan: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(plan).unwrap()).unwrap()
}

fn write(root: &TestRoot, name: &str, plan: &Value) -> PathBuf {
    let path = root.work(name);
    std::fs::write(&path, serde_json::to_vec_pretty(plan).unwrap()).unwrap();
    path
}

#[test]
fn an_expired_plan_is_refused() {
    let root = TestRoot::new();
    let mut plan = read(&root.plan(&[ZSTD]));
    plan["metadata"]["createdAt"] = "2026-11-24T02:30:00Z".into();
    plan["metadata"]["expiresAt"] = "2026-11-24T02:31:00Z".into();
    let expired = write(&root, "expired.json", &plan);
    stale(&root, &expired, &["expired"], "2026-11-24T02:31:00Z");
    refreshed(&root, &expired);

    let root = TestRoot::new();
    let short = root.plan(&[ZSTD, "--expires", "1h"]);
    let _ = root.apply(&short).ok();
}

#[test]
fn a_plan_from_the_future_is_refused() {
    let root = TestRoot::new();
    let mut plan = read(&root.plan(&[ZSTD]));
    plan["metadata"]["createdAt"] = "2126-01-01T00:00:00Z".into();
    plan["metadata"]["expiresAt"] = "2126-01-02T00:00:00Z".into();
    let plan = write(&root, "future.json", &plan);
    let before = root.tree();
    let _ = root.apply(&plan).refused(3, &["clock"]);
    before.assert_same(&root.tree(), "a plan from the future");
}

/// Every leaf of a document: where it is, as a JSON pointer.
fn leaves(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                leaves(value, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, &format!("{pointer}/{index}"), found);
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => found.push(pointer.to_owned()),
    }
}

/// Other values that a leaf could have: of its own kind, and of another.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(flag) => vec![json!(!flag), json!("true")],
        Value::Number(number) => {
            vec![json!(number.as_u64().unwrap() + 1), json!(0), json!(-1), json!(1_u64 << 53), json!("1")]
        }
        Value::Null => vec![json!("x")],
        Value::String(text) => {
            let mut values = vec![json!(format!("{text}x")), json!(""), json!(7), Value::Null];
            let known = [
                &["merge", "reset"][..],
                &["keep", "revoke"],
                &["once", "allowed"],
                &["structure", "exact", "ignore"],
                &["rollback", "halt"],
                &["auto", "always", "never"],
                &["none", "online", "quiesced"],
                &["data", "full"],
                &["zstd", "gzip", "none"],
                &["archive", "live", "fixed"],
                &["exchange", "rename"],
                &["read", "staging", "live", "service", "record"],
                &[
                    "lock",
                    "check",
                    "verify",
                    "extract",
                    "inspect",
                    "prepare",
                    "pre-backup",
                    "swap",
                    "record",
                    "cleanup",
                ],
            ];
            let family = known.iter().filter(|family| family.contains(&text.as_str()));
            values.extend(
                family.flat_map(|family| family.iter().map(|word| json!(word))).filter(|new| new != value),
            );
            if text.ends_with(['s', 'd']) && text.starts_with(|c: char| c.is_ascii_digit()) {
                values.push(json!("7h"));
            }
            if text.starts_with('/') {
                values.extend([json!("/etc"), json!("/srv/other"), json!("/srv/budget/../../etc")]);
            }
            values
        }
        Value::Object(_) => vec![json!({ "x": 1 }), Value::Null],
        Value::Array(_) => vec![json!(["lock"]), json!(["nobody"]), Value::Null],
    }
}

/// Fields of the spec that a person may edit without a refresh, since no step says the same: what they
/// mean is then what the run does.
const FREE: [&str; 5] = [
    "/spec/health/timeout",
    "/spec/health/interval",
    "/spec/onFailure",
    "/spec/replay",
    "/spec/service/restart",
];

/// What no machine can tell to be untrue: it was so when the planner looked.
const CLAIMS: [&str; 1] = ["/preview/checks/6/why"];

/// Another server than the planned one is told, and makes no plan stale as long as it opens the backup.
const TOLD: [&str; 3] =
    ["/observed/server/version", "/observed/server/directory", "/observed/server/foundBy"];

/// Edits every leaf below `part`, one at a time, to each other value; gives how many were tried.
fn edit_each(part: &str) -> usize {
    let root = TestRoot::new();
    let good = read(&root.plan(&[ZSTD, "--backup-message", "before", "--clients", "reset"]));
    let before = root.tree();
    let mut pointers = Vec::new();
    leaves(good.pointer(part).unwrap(), part, &mut pointers);
    let (mut tried, mut accepted) = (0, Vec::new());
    for pointer in pointers {
        let value = good.pointer(&pointer).unwrap();
        for other in others(value).into_iter().filter(|other| other != value) {
            let mut plan = good.clone();
            *plan.pointer_mut(&pointer).unwrap() = other.clone();
            let path = write(&root, "edited.json", &plan);
            let ran = root.json(&["apply", path.to_str().unwrap(), "--dry-run"]);
            let what = format!("{pointer} = {other}: {}{}", ran.stdout, ran.stderr);
            assert!([0, 2, 3, 5].contains(&ran.code), "exit code {}: {what}", ran.code);
            assert!(!ran.stderr.contains("panicked"), "{what}");
            let value = ran.json();
            if ran.code == 0 {
                // The order of steps may be another one that obeys the rules; that is the order they run in.
                // And a step that no other needs may have any name.
                let free = FREE.contains(&pointer.as_str()) || pointer.contains("/needs/");
                // Nothing here could start the service, so that a plan must not say it does.
                let free = free && other != "always";
                // A plan may do without a machine, and say who has files open in what words it likes.
                let free = free || CLAIMS.contains(&pointer.as_str());
                let told = TOLD.contains(&pointer.as_str());
                assert!(!told || ran.stdout.contains("installed server is another one"), "{what}");
                let free = free || told;
                if !free && pointer != "/steps/9/id" {
                    accepted.push(format!("{pointer} = {other}"));
                }
            } else {
                // Refused when it was read, or when it was checked.
                let read = value["message"].is_string() && value["code"].is_string();
                let checked =
                    value["applyable"] == false && !value["problems"].as_array().unwrap().is_empty();
                assert!(read || checked, "{what}");
            }
            tried += 1;
        }
    }
    before.assert_same(&root.tree(), "edited plans");
    assert!(accepted.is_empty(), "edited and accepted: {accepted:#?}");
    tried
}

#[test]
fn each_field_of_the_spec_is_obeyed_or_refused() {
    let tried = edit_each("/spec");
    assert!(tried > 100, "{tried}");
}

#[test]
fn each_field_of_the_steps_is_obeyed_or_refused() {
    let tried = edit_each("/steps");
    assert!(tried > 300, "{tried}");
}

#[test]
fn each_field_of_what_was_observed_is_compared() {
    let tried = edit_each("/observed");
    assert!(tried > 100, "{tried}");
}

#[test]
fn each_field_of_the_preview_is_true_or_refused() {
    let tried = edit_each("/preview");
    assert!(tried > 200, "{tried}");
}

#[test]
fn an_edited_field_that_is_accepted_means_what_it_says() {
    let edited = |pointer: &str, value: Value| {
        let root = TestRoot::new();
        let mut plan = read(&root.plan(&[ZSTD]));
        *plan.pointer_mut(pointer).unwrap() = value;
        let path = write(&root, "edited.json", &plan);
        (root, path)
    };
    let (root, plan) = edited("/spec/replay", "allowed".into());
    let _ = root.apply(&plan).ok();
    let again = root.json(&["apply", plan.to_str().unwrap(), "--yes", "--replay"]).ok().json();
    assert_eq!(again["outcome"], "applied");
    let (root, plan) = edited("/spec/replay", "once".into());
    let _ = root.apply(&plan).ok();
    let _ =
        root.json(&["apply", plan.to_str().unwrap(), "--yes", "--replay"]).refused(5, &["already-applied"]);
}

#[test]
fn what_reviewers_read_is_compared_and_not_the_fingerprint_alone() {
    let root = TestRoot::new();
    // So many that the plan does not list them: nobody can compute the fingerprint from the plan.
    for n in 0..100 {
        root.write(format!("srv/budget/data/note-{n}.txt"), "x");
    }
    let good = read(&root.plan(&[ZSTD]));
    assert_eq!(good["observed"]["target"].get("files"), None);
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut plan = good.clone();
        edit(&mut plan);
        let plan = abssctl::plan::testing::with_steps(serde_json::from_value(plan).unwrap());
        let path = root.work("edited.json");
        std::fs::write(&path, serde_json::to_vec(&plan).unwrap()).unwrap();
        let _ = root.json(&["plan", "validate", path.to_str().unwrap()]).ok();
        path
    };
    let is_kept = |budget: &Value| budget["id"].as_str().unwrap().starts_with("2a84");
    let without = edited(&|plan| {
        plan["observed"]["target"]["budgets"].as_array_mut().unwrap().retain(is_kept);
        plan["preview"]["budgets"].as_array_mut().unwrap().retain(is_kept);
    });
    stale(&root, &without, &["budget-new"], "is new");
    let fewer = edited(&|plan| {
        plan["observed"]["target"]["sessions"] = 0_u64.into();
        let rows = plan["preview"]["rows"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["table"] == "sessions").unwrap()["live"] = 0_u64.into();
    });
    stale(&root, &fewer, &["target-counts"], "edited");
    let more = edited(&|plan| plan["observed"]["target"]["budgets"][0]["changes"] = 9000_u64.into());
    stale(&root, &more, &["target-counts"], "edited");
}

#[test]
fn each_missing_or_double_step_is_refused() {
    let root = TestRoot::new();
    let good = read(&root.plan(&[ZSTD]));
    let before = root.tree();
    let count = good["steps"].as_array().unwrap().len();
    for index in 0..count {
        for how in ["without", "twice", "first"] {
            let mut plan = good.clone();
            let steps = plan["steps"].as_array_mut().unwrap();
            let step = steps[index].clone();
            match how {
                "without" => drop(steps.remove(index)),
                "twice" => steps.push(step),
                _ => steps[index]["needs"] = json!([]),
            }
            if how == "first" && index == 0 {
                continue;
            }
            let path = write(&root, "edited.json", &plan);
            for command in [vec!["plan", "validate"], vec!["apply", "--yes"]] {
                let mut all = command.clone();
                all.push(path.to_str().unwrap());
                let ran = root.json(&all);
                assert_eq!(ran.code, 2, "{how} {index} {command:?}: {}", ran.stdout);
            }
        }
    }
    before.assert_same(&root.tree(), "plans with other steps");
}

#[test]
fn a_plan_for_another_backup_of_the_instance_does_not_slip_through() {
    // Both are real backups: only all the fields together make another plan.
    let root = TestRoot::new();
    let one = read(&root.plan(&[ZSTD]));
    let other = read(&root.plan(&[DATA_ONLY]));
    let before = root.tree();
    for part in ["/spec/source", "/observed/backup", "/steps"] {
        let mut plan = one.clone();
        *plan.pointer_mut(part).unwrap() = other.pointer(part).unwrap().clone();
        let path = write(&root, "mixed.json", &plan);
        let ran = root.apply(&path);
        assert!([2, 5].contains(&ran.code), "{part}: {}", ran.stdout);
    }
    before.assert_same(&root.tree(), "mixed plans");
}
