//! One budget only: it goes back to the backup, and all else stays as it is, byte for byte, also what was
//! written after the plan was made. With the real servers and clients where they are installed.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::TestRoot;
use crate::support::archive::{MADE, make, members};
use crate::support::root::{LIVE, ZSTD};
use crate::support::strace;
use crate::support::sums;
use crate::support::tools::{fixture, skip_unless, tool};
use crate::support::tree::Tree;
use crate::support::world::{World, budget, with_both};

const HOUSEHOLD: &str = "2a84e2f7-47ff-4dc7-ab99-5c78ea2ae3ef";
const HOLIDAY: &str = "db156e41-ea6d-4d87-86da-ad00634d4607";
const GROUP: &str = "9c8a10f0-de93-44b8-a957-beea9bec4983";
const ACCOUNT: &str = "srv/budget/data/server-files/account.sqlite";

impl World {
    /// A backup while the server runs.
    fn backup(&self) -> String {
        let made = self.root.json(&["backup", "create", "budget"]).ok().json();
        made["id"].as_str().unwrap().to_owned()
    }

    /// Stops the server, applies, proves that nothing but these files changed, starts it again.
    fn apply(&mut self, plan: &Path, changed: &[&str]) {
        self.stop();
        let before = others(&self.root, changed);
        assert_eq!(self.root.apply(plan).ok().json()["outcome"], "applied");
        before.assert_same(&others(&self.root, changed), "all but the restored budget");
        self.start();
    }
}

/// The live tree without the server's own database and the files whose names hold one of these.
fn others(root: &TestRoot, changed: &[&str]) -> Tree {
    let tree = root.live().without_directory_times();
    let paths = tree.paths();
    let left_out = paths
        .iter()
        .filter(|path| path.ends_with("account.sqlite") || changed.iter().any(|part| path.contains(part)))
        .map(String::as_str)
        .collect::<Vec<_>>();
    assert!(paths.len() > left_out.len() + 4, "{paths:?}");
    tree.without(&left_out)
}

fn read(plan: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(plan).unwrap()).unwrap()
}

/// The sync groups of a budget of a plan: in the backup, and after it.
fn groups(plan: &Value, name: &str) -> [String; 2] {
    let budget = budget(plan, name);
    ["groupId", "newGroupId"].map(|key| budget[key].as_str().unwrap_or("none").to_owned())
}

#[test]
fn after_a_reset_of_one_budget_the_other_lost_nothing_and_its_device_hears_nothing() {
    with_both(
        "after_a_reset_of_one_budget_the_other_lost_nothing_and_its_device_hears_nothing",
        |mut world| {
            let mut household = world.opened("Household", None);
            let mut holiday = world.opened("Holiday", None);
            household.write(2, "before");
            let id = world.backup();
            let then = household.notes();
            household.write(5, "after");
            holiday.write(3, "before the plan");
            let plan = world.root.plan(&[&id, "--budget", "Household", "--clients", "reset"]);
            let document = read(&plan);
            assert!(budget(&document, "Household")["changesNewer"].as_u64().unwrap() > 0, "{document:#}");
            assert_eq!(budget(&document, "Holiday")["kept"], true);
            holiday.write(4, "between plan and stop");
            let kept = holiday.notes();

            let groups = groups(&document, "Household");
            world.apply(&plan, &[HOUSEHOLD, &groups[0], &groups[1]]);
            assert_eq!(holiday.sync(), Value::Null);
            assert_eq!(holiday.notes(), kept);
            assert_eq!(world.opened("Holiday", None).notes(), kept);
            holiday.write(1, "and on");
            assert_eq!(world.opened("Holiday", None).notes().len(), kept.len() + 1);
            assert_eq!(household.sync(), "file-has-reset");
            let mut fresh = world.opened("Household", None);
            assert_eq!(fresh.notes(), then);
            fresh.write(1, "new life");
            world.stop();
        },
    );
}

#[test]
fn after_a_merge_of_one_budget_its_newer_changes_come_back_and_no_others() {
    with_both("after_a_merge_of_one_budget_its_newer_changes_come_back_and_no_others", |mut world| {
        let mut household = world.opened("Household", None);
        let mut holiday = world.opened("Holiday", None);
        let id = world.backup();
        let then = household.notes();
        household.write(5, "after");
        let all = household.notes();
        let plan = world.root.plan(&[&id, "--budget", HOUSEHOLD, "--clients", "merge"]);
        holiday.write(2, "meanwhile");
        world.apply(&plan, &[HOUSEHOLD, GROUP]);
        assert_eq!(world.opened("Household", None).notes(), then);
        assert_eq!(holiday.sync(), Value::Null);
        assert_eq!(household.sync(), Value::Null);
        assert_eq!(world.opened("Household", None).notes(), all, "as the plan said");
        world.stop();
    });
}

#[test]
fn one_encrypted_budget_opens_with_its_password() {
    with_both("one_encrypted_budget_opens_with_its_password", |mut world| {
        let mut household = world.opened("Household", None);
        let mut holiday = world.opened("Holiday", None);
        let _ = household.ask(&json!({ "do": "encrypt", "password": "sesame" }));
        household.write(3, "secret before");
        let id = world.backup();
        let then = household.notes();
        household.write(4, "secret after");
        let plan = world.root.plan(&[&id, "--budget", "Household", "--clients", "reset"]);
        let document = read(&plan);
        let groups = groups(&document, "Household");
        holiday.write(1, "meanwhile");
        world.apply(&plan, &[HOUSEHOLD, &groups[0], &groups[1]]);
        assert_eq!(household.sync(), "file-has-reset");
        assert_eq!(world.opened("Household", Some("sesame")).notes(), then);
        assert_eq!(holiday.sync(), Value::Null);
        // A copy of it would overwrite the original on every device that has it.
        let args = ["plan", "restore", &id, "--budget", "Household", "--as-copy"];
        let _ = world.root.json(&args).error(2, "abssctl::planner::wish", &["Household", "encrypted"]);
        world.stop();
    });
}

#[test]
fn a_copy_comes_beside_the_old_budget_on_the_same_device_too() {
    with_both("a_copy_comes_beside_the_old_budget_on_the_same_device_too", |mut world| {
        let mut old = world.opened("Household", None);
        let id = world.backup();
        let then = old.notes();
        old.write(5, "after");
        let _ = old.ask(&json!({ "do": "add", "transactions": 1, "notes": "not sent yet" }));
        let all = old.notes();
        let plan = world.root.plan(&[&id, "--budget", "Household", "--as-copy", "--copy-name", "As it was"]);
        let document = read(&plan);
        let copy = budget(&document, "As it was");
        let new = copy["id"].as_str().unwrap().to_owned();
        assert_eq!(
            (&copy["copyOf"], &budget(&document, "Household")["kept"]),
            (&json!(HOUSEHOLD), &json!(true))
        );
        world.apply(&plan, &[&new, copy["newGroupId"].as_str().unwrap()]);

        // A device that holds the old one opens the new one, and still has the old one with all in it.
        old.download("As it was", None);
        assert_eq!(old.notes(), then);
        old.write(2, "into the copy");
        let _ = old.ask(&json!({ "do": "open", "name": "Household" }));
        assert_eq!(old.notes(), all);
        old.write(1, "into the old one");
        let count = old.notes().len();
        assert_eq!(world.opened("Household", None).notes().len(), count);
        assert_eq!(world.opened("As it was", None).notes().len(), then.len() + 2);
        world.stop();
    });
}

#[test]
fn a_budget_that_is_gone_comes_back() {
    with_both("a_budget_that_is_gone_comes_back", |mut world| {
        let mut household = world.opened("Household", None);
        let mut holiday = world.opened("Holiday", None);
        let id = world.backup();
        let then = household.notes();
        let _ = household.ask(&json!({ "do": "delete", "name": "Household" }));
        let plan = world.root.plan(&[&id, "--budget", "Household"]);
        assert_eq!(budget(&read(&plan), "Household")["presence"], "backup-only");
        world.apply(&plan, &[HOUSEHOLD, GROUP]);
        assert_eq!(world.opened("Household", None).notes(), then);
        assert_eq!(holiday.sync(), Value::Null);
        // Not even a row is left of it.
        world.stop();
        world.root.sql(ACCOUNT, &format!("DELETE FROM files WHERE id = '{HOUSEHOLD}'"));
        for file in [format!("file-{HOUSEHOLD}.blob"), format!("group-{GROUP}.sqlite")] {
            std::fs::remove_file(world.root.path(LIVE).join("data/user-files").join(file)).unwrap();
        }
        world.start();
        let plan = world.root.plan(&[&id, "--budget", "Household"]);
        world.apply(&plan, &[HOUSEHOLD, GROUP]);
        assert_eq!(world.opened("Household", None).notes(), then);
        world.stop();
    });
}

/// The state after a restore of Household from the peer's backup with `merge`.
#[track_caller]
fn assert_restored(root: &TestRoot) {
    let (new, files) = (sums::list("gen-a.sha256"), sums::of(&root.path(LIVE)));
    let old = sums::list("gen-b.sha256");
    for (path, sum) in &files {
        if path.ends_with("account.sqlite") {
            continue;
        }
        let expected = if path.contains(HOUSEHOLD) || path.contains(GROUP) { &new } else { &old };
        assert_eq!(expected.get(path), Some(sum), "{path}");
    }
    assert_eq!(files.len(), old.len());
}

#[test]
fn all_that_belongs_to_a_file_stays_with_it() {
    let root = TestRoot::new();
    let blob = root.path(LIVE).join(format!("data/user-files/file-{HOLIDAY}.blob"));
    std::fs::hard_link(&blob, root.path(LIVE).join("data/user-files/second-name")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.path(LIVE).join("data/link")).unwrap();
    std::fs::set_permissions(&blob, std::os::unix::fs::PermissionsExt::from_mode(0o604)).unwrap();
    let file = std::fs::File::options().write(true).open(&blob).unwrap();
    let labelled =
        rustix::fs::fsetxattr(&file, "user.note", b"mine", rustix::fs::XattrFlags::empty()).is_ok();
    drop(file);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&blob, Some(4321), Some(1234)).unwrap();
    }
    let before = others(&root, &[HOUSEHOLD, GROUP]);
    let _ = root.restore(&[ZSTD, "--budget", "Household"]);
    before.assert_same(&others(&root, &[HOUSEHOLD, GROUP]), "all but the restored budget");
    if labelled {
        let mut note = [0_u8; 10];
        let length = rustix::fs::getxattr(&blob, "user.note", &mut note[..]).unwrap();
        assert_eq!(&note[..length], b"mine");
    }
    assert!(!staging(&root).exists());
}

#[test]
fn rows_of_others_and_all_logins_stay() {
    let root = TestRoot::new();
    root.sql(
        ACCOUNT,
        "INSERT INTO sessions VALUES ('live', 0, NULL, 'password'); INSERT INTO secrets VALUES ('bank', 'token');
         UPDATE files SET name = 'Holiday 2027' WHERE name = 'Holiday'; UPDATE files SET name = 'Other' WHERE name = 'Household';",
    );
    let _ = root.restore(&[ZSTD, "--budget", "Household"]);
    let connection = rusqlite::Connection::open(root.path(ACCOUNT)).unwrap();
    let ask = |query: &str| -> String { connection.query_row(query, [], |row| row.get(0)).unwrap() };
    assert_eq!(
        ask("SELECT group_concat(name, ', ') FROM (SELECT name FROM files ORDER BY name)"),
        "Holiday 2027, Household"
    );
    assert_eq!(ask("SELECT count(*) || '' FROM sessions WHERE token = 'live'"), "1");
    assert_eq!(ask("SELECT name FROM secrets"), "bank");
}

#[test]
fn what_others_do_meanwhile_does_not_make_the_plan_stale_and_what_the_budget_does_makes_it() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--budget", "Household"]);
    root.sql(ACCOUNT, "UPDATE files SET group_id = 'another' WHERE name = 'Holiday'");
    root.sql(ACCOUNT, "INSERT INTO files (id, group_id, name, deleted) VALUES ('new', 'newer', 'New', 0)");
    let user_files = root.path(LIVE).join("data/user-files");
    let from = user_files.join("group-28b61c4b-e937-4af3-8f39-0e2dbdfc7afe.sqlite");
    std::fs::rename(from, user_files.join("group-another.sqlite")).unwrap();
    let checked = root.json(&["plan", "check", plan.to_str().unwrap()]).ok().json();
    let text = checked.to_string();
    assert!(text.contains("is new") && text.contains("another sync group"), "it says so: {checked:#}");
    // Nor can anybody hide a lie behind that.
    let mut lie = read(&plan);
    lie["preview"]["files"]["added"]["bytes"] = json!(1);
    let budgets = lie["preview"]["budgets"].as_array_mut().unwrap();
    budgets.iter_mut().find(|budget| budget["name"] == "Household").unwrap()["encrypted"] = json!(true);
    std::fs::write(root.work("lie.json"), lie.to_string()).unwrap();
    let _ = root.apply(&root.work("lie.json")).refused(2, &["preview-untrue"]);
    let before = others(&root, &[HOUSEHOLD, GROUP]);
    let _ = root.apply(&plan).ok();
    before.assert_same(&others(&root, &[HOUSEHOLD, GROUP]), "what others did stays");

    let plan = root.plan(&[ZSTD, "--budget", "Household"]);
    root.sql(ACCOUNT, "UPDATE files SET group_id = 'reset-since' WHERE name = 'Household'");
    let _ = root.apply(&plan).refused(5, &["budget-group"]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_can() {
    let root = TestRoot::new();
    let refused = |args: &[&str], words: &[&str]| {
        let all = [&["plan", "restore", ZSTD], args].concat();
        root.json(&all).error(2, "abssctl::planner::wish", words)["help"].to_string()
    };
    assert!(refused(&["--budget", "Houshold"], &["no budget 'Houshold'"]).contains("Household"));
    let _ = refused(&["--budget", HOLIDAY], &["no budget"]);
    let _ = refused(&["--budget", "Household", "--sessions", "revoke"], &["logins"]);
    let _ = refused(&["--budget", "Household", "--as-copy", "--copy-name", " "], &["name"]);
    // Two of one name, and one that was deleted.
    root.sql(ACCOUNT, "UPDATE files SET name = 'Household'");
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let id = made["id"].as_str().unwrap();
    let error = root.json(&["plan", "restore", id, "--budget", "Household"]);
    let error = error.error(2, "abssctl::planner::wish", &["2 budgets"]);
    assert!(error["help"].to_string().contains(HOLIDAY), "{error:#}");
    let args = ["plan", "restore", id, "--budget", HOUSEHOLD, "--budget", HOLIDAY, "--as-copy"];
    let _ = root.json(&args).error(2, "abssctl::planner::wish", &["exactly one"]);
    root.sql(ACCOUNT, &format!("UPDATE files SET name = 'Gone', deleted = 1 WHERE id = '{HOLIDAY}'"));
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let args = ["plan", "restore", made["id"].as_str().unwrap(), "--budget", "Gone"];
    let _ = root.json(&args).error(2, "abssctl::planner::wish", &["Gone", "deleted"]);
}

#[test]
fn a_spec_that_a_person_edits_is_planned_again() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let mut document = read(&plan);
    document["spec"]["budgets"] = json!([{ "id": HOUSEHOLD }]);
    std::fs::write(&plan, document.to_string()).unwrap();
    let _ = root.run(&["plan", "refresh", plan.to_str().unwrap()]).ok();
    assert_eq!(read(&plan)["spec"]["budgets"][0]["name"], "Household");
    let _ = root.apply(&plan).ok();
    assert_restored(&root);
    document["spec"]["budgets"] = json!([{ "id": "unknown" }]);
    std::fs::write(&plan, document.to_string()).unwrap();
    let _ = root.json(&["plan", "refresh", plan.to_str().unwrap()]).error(
        2,
        "abssctl::planner::wish",
        &["unknown"],
    );
}

#[test]
fn a_plan_made_from_facts_is_the_same_and_applies() {
    let root = TestRoot::new();
    let facts = root.work("facts.json");
    let facts = facts.to_str().unwrap();
    let _ = root.run(&["facts", "--backup", ZSTD, "-o", facts]).ok();
    for copy in [&[][..], &["--as-copy"]] {
        let args = [&[ZSTD, "--budget", "Household", "--clients", "reset"], copy].concat();
        let here = read(&root.plan(&args));
        let elsewhere = root.plan(&[args.as_slice(), &["--facts", facts]].concat());
        let made = read(&elsewhere);
        assert_eq!(made["preview"]["rows"], here["preview"]["rows"]);
        for part in ["added", "changed", "removed"] {
            let numbers = |plan: &Value| {
                let group = &plan["preview"]["files"][part];
                (group["count"].clone(), group["bytes"].clone())
            };
            assert_eq!(numbers(&made), numbers(&here), "new ids apart");
        }
        assert_eq!(made["spec"]["budgets"], here["spec"]["budgets"]);
        assert_eq!(made["observed"], here["observed"]);
        let _ = root.apply(&elsewhere).ok();
        // The copy that the first one made is no reason against the second.
        let _ = root.run(&["facts", "--backup", ZSTD, "-o", facts]).ok();
    }
}

#[test]
fn a_backup_without_all_parts_of_the_budget_is_refused() {
    let root = TestRoot::new();
    let mut members = members(&root);
    members.retain(|member| !member.below().contains("group-"));
    make(&root, &members);
    let args = ["plan", "restore", MADE, "--budget", "Household"];
    let _ = root.json(&args).error(2, "abssctl::planner::wish", &["Household", "not whole"]);
}

#[test]
fn a_hot_journal_is_worked_in_on_the_copy_and_never_in_the_live_tree() {
    let root = TestRoot::new();
    let live = root.path(LIVE);
    std::fs::remove_dir_all(&live).unwrap();
    std::fs::create_dir(&live).unwrap();
    let archive = fixture("hot-journal.tar.gz");
    let _ = tool("tar", &["-xpf", archive.to_str().unwrap(), "-C", live.to_str().unwrap()]);
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let id = made["id"].as_str().unwrap();
    let connection = rusqlite::Connection::open(live.join("data/server-files/account.sqlite")).unwrap();
    let query = "SELECT id FROM files WHERE group_id = '72524afb-c5c2-4d6a-907b-8eafaddee38e'";
    let budget: String = connection.query_row(query, [], |row| row.get(0)).unwrap();
    drop(connection);
    let before = root.live();
    let result = root.restore(&[id, "--budget", &budget]);
    let displaced = result["displaced"].as_str().unwrap();
    before.assert_same(&Tree::of(&root.path(displaced)), "the tree that was live");
    let expected = sums::list("hot-journal-rolled-back.sha256");
    for (path, sum) in sums::of(&live) {
        assert!(!path.ends_with("-journal"), "{path}");
        if !path.ends_with("account.sqlite") {
            assert_eq!(expected.get(&path), Some(&sum), "{path}");
        }
    }
}

fn skip(test: &str) -> bool {
    skip_unless(test, strace::works(), "strace is missing, or ptrace is not permitted")
}

/// Applies with a fault in a call of the kernel.
fn apply_with(root: &TestRoot, plan: &Path, inject: &str) -> i32 {
    let call = inject.split(':').next().unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
    let args = ["--json", "--yes", "apply", plan.to_str().unwrap()];
    strace::run(&root.command(&args), &["-o", "/dev/null", "-e", &trace, "-e", &inject]).code
}

fn staging(root: &TestRoot) -> PathBuf {
    root.path("srv/.abssctl/staging")
}

#[test]
fn killed_while_the_tree_is_built_the_live_one_is_untouched_and_the_next_apply_goes_on() {
    if skip("killed_while_the_tree_is_built_the_live_one_is_untouched_and_the_next_apply_goes_on") {
        return;
    }
    let mut killed = 0;
    for call in [
        "copy_file_range:signal=KILL:when=1",
        "copy_file_range:signal=KILL:when=7",
        "utimensat:signal=KILL:when=9",
        "syncfs:signal=KILL:when=1",
        "renameat2:signal=KILL:when=2",
    ] {
        let root = TestRoot::new();
        let plan = root.plan(&[ZSTD, "--budget", "Household", "--no-pre-backup"]);
        let before = root.live();
        let code = apply_with(&root, &plan, call);
        assert_eq!(code, 137, "{call}");
        if !call.starts_with("renameat2") {
            before.assert_same(&root.live(), call);
            killed += usize::from(staging(&root).exists());
        }
        assert!(root.apply(&plan).ok().json()["run"].is_string(), "{call}");
        assert_restored(&root);
        assert!(!staging(&root).exists(), "{call}");
        assert_eq!(root.entry(ZSTD)["restores"].as_array().unwrap().len(), 1, "{call}");
    }
    assert_eq!(killed, 4, "each was killed in the middle");
}

#[test]
fn a_full_disk_while_the_tree_is_built_undoes_everything() {
    if skip("a_full_disk_while_the_tree_is_built_undoes_everything") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--budget", "Household", "--no-pre-backup"]);
    let before = root.tree_but_records();
    assert_eq!(apply_with(&root, &plan, "copy_file_range:error=ENOSPC:when=3"), 3);
    before.assert_same(&root.tree_but_records(), "a full disk");
    root.assert_no_private();
    let _ = root.apply(&plan).ok();
    assert_restored(&root);
}

#[test]
fn what_is_written_after_the_copy_stops_the_swap() {
    if skip("what_is_written_after_the_copy_stops_the_swap") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--budget", "Household", "--no-pre-backup"]);
    let overlay = |root: &TestRoot| {
        let runs = std::fs::read_dir(staging(root)).into_iter().flatten().flatten();
        runs.map(|run| run.path().join("overlay/data/config.json")).any(|path| path.exists())
    };
    let args = ["--json", "--yes", "apply", plan.to_str().unwrap()];
    let stopped = strace::Stopped::when(&root.command(&args), "syncfs", None, || overlay(&root));
    root.write("srv/budget/data/user-files/late.blob", "a write of another budget");
    let ran = stopped.end();
    let _ = ran.error(4, "abssctl::apply::rolled_back", &["was written to after it was copied"]);
    assert_eq!(root.read("srv/budget/data/user-files/late.blob"), "a write of another budget");
    root.assert_no_private();
}

#[test]
fn every_record_names_the_budgets() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--budget", "Household"]);
    let receipt = root.work("receipt.json");
    let args = ["apply", plan.to_str().unwrap(), "--yes", "--receipt", receipt.to_str().unwrap()];
    let result = root.json(&args).ok().json();
    let budgets = json!([{ "id": HOUSEHOLD, "name": "Household" }]);
    assert_eq!(result["budgets"], budgets);
    assert_eq!(read(&receipt)["budgets"], budgets);
    assert_eq!(root.entry(ZSTD)["restores"][0]["budgets"], json!([HOUSEHOLD]));
    assert_eq!(root.log().last().unwrap()["args"]["budgets"], json!([HOUSEHOLD]));
    assert!(root.run(&["backup", "show", ZSTD]).ok().stdout.contains("(1 budget)"));
    let verify = ["plan", "verify", plan.to_str().unwrap(), "--receipt", receipt.to_str().unwrap()];
    let _ = root.run(&verify).ok();
    let mut forged = read(&receipt);
    forged.as_object_mut().unwrap().remove("budgets");
    std::fs::write(&receipt, forged.to_string()).unwrap();
    let _ = root.run(&verify).code(2);
}

#[test]
fn a_copy_that_was_worked_in_is_never_overwritten() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--budget", "Household", "--as-copy", "--replay", "allowed"]);
    let _ = root.apply(&plan).ok();
    root.sql(ACCOUNT, "UPDATE files SET name = 'mine now' WHERE name LIKE '%restored%'");
    let before = root.live();
    let ran = root.json(&["apply", plan.to_str().unwrap(), "--yes", "--replay"]);
    let _ = ran.error(4, "abssctl::apply::rolled_back", &["is there already"]);
    before.assert_same(&root.live(), "a copy that is there");
}

#[test]
fn the_name_of_a_copy_is_what_is_seen() {
    let root = TestRoot::new();
    for name in ["\u{202e}evil", "a\u{2028}b", "a\u{200b}b", "a\nb"] {
        let args = ["plan", "restore", ZSTD, "--budget", "Household", "--as-copy", "--copy-name", name];
        let ran = root.run(&args).code(2);
        assert!(ran.stderr.contains("not seen"), "{name:?}: {}", ran.stderr);
    }
}

#[test]
fn a_sync_group_that_another_live_budget_has_is_refused_while_the_server_serves() {
    let root = TestRoot::new();
    root.sql(ACCOUNT, &format!("UPDATE files SET group_id = '{GROUP}' WHERE name = 'Holiday'"));
    let refused = root.run(&["plan", "restore", ZSTD, "--budget", "Household"]).code(2);
    let _ = refused.says("has the sync group of budget 'Household'").says("--clients reset");
    let _ = root.restore(&[ZSTD, "--budget", "Household", "--clients", "reset"]);
}

#[test]
fn a_server_without_any_budget_and_folder_gets_one_back() {
    let root = TestRoot::new();
    root.sql(ACCOUNT, "DELETE FROM files");
    std::fs::remove_dir_all(root.path(LIVE).join("data/user-files")).unwrap();
    let _ = root.restore(&[ZSTD, "--budget", "Household"]);
    let files = sums::of(&root.path(LIVE));
    let new = sums::list("gen-a.sha256");
    let restored: Vec<_> = files.iter().filter(|(path, _)| path.contains("user-files")).collect();
    assert!(
        restored.len() >= 2 && restored.iter().all(|(path, sum)| new.get(*path) == Some(sum)),
        "{files:?}"
    );
}
