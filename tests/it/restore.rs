//! A restore puts back exactly what the backup holds, says so everywhere, and can itself be undone.

use serde_json::Value;

use crate::support::TestRoot;
use crate::support::root::{DATA_ONLY, GZIP, LIVE, LOG, NONE, ZSTD};
use crate::support::sums;
use crate::support::tools::{have, is_root, skip_unless, tool, tool_in};
use crate::support::tree::Tree;

/// The whole promise for one backup of the peer.
fn restores(id: &str) {
    let root = TestRoot::new();
    root.assert_generation("gen-b.sha256");
    let live_before = root.live();
    let log_before = root.log().len();
    let result = root.restore(&[id]);
    root.assert_generation("gen-a.sha256");
    assert_eq!(result["backup"], id);
    assert_eq!(result["target"], "/srv/budget");
    assert_eq!(result["exitCode"], 0);
    recorded(&root, id, &result);
    logged(&root, id, &result, log_before);
    pre_backup_is_whole(&root, result["preBackup"].as_str().unwrap());
    let displaced = root.path(result["displaced"].as_str().unwrap());
    live_before.assert_same(&Tree::of(&displaced), "the displaced tree is the old one");
    assert!(!root.path("srv/.abssctl/staging").exists(), "staging is gone");
    back_again(&root, result["preBackup"].as_str().unwrap());
}

/// Index and registry tell of the restore.
fn recorded(root: &TestRoot, id: &str, result: &Value) {
    let entry = root.entry(id);
    assert_eq!(entry["restored_to"], "/srv/budget");
    let at = entry["restored_at"].as_str().unwrap();
    assert!(at.parse::<jiff::Timestamp>().is_ok(), "{at}");
    assert_eq!(entry["last_restored_at"], at);
    assert_eq!(entry["metadata"]["last_restored_at"], at);
    assert_eq!(entry["metadata"]["last_restore_destination"], "/srv/budget");
    assert!(entry["metadata"]["last_restore_actor"]["name"].is_string());
    let restores = entry["restores"].as_array().unwrap();
    assert_eq!(restores.len(), 1);
    for (key, expected) in [
        ("run", &result["run"]),
        ("plan", &result["plan"]),
        ("plan_digest", &result["planDigest"]),
        ("pre_backup", &result["preBackup"]),
        ("clients", &Value::from("merge")),
        ("to", &Value::from("/srv/budget")),
        ("outcome", &Value::from("applied")),
        ("at", &Value::from(at)),
        ("approvers", &Value::Array(Vec::new())),
    ] {
        assert_eq!(&restores[0][key], expected, "restores[0].{key}");
    }
    let registry = root.registry();
    assert_eq!(registry["metadata"]["last_restored_at"], at);
    assert_eq!(registry["metadata"]["last_restore_source"], id);
    assert_eq!(registry["metadata"]["last_restore_destination"], "/srv/budget");
    assert!(registry["metadata"]["last_restore_actor"]["type"].is_string());
    assert_eq!(registry["metadata"]["created_at"], "2026-11-24T02:26:31.820770+00:00", "the rest stays");
    let shown = root.json(&["backup", "show", id]).ok().json();
    assert_eq!(shown["backup"]["restores"], entry["restores"]);
    assert!(root.run(&["backup", "show", id]).ok().stdout.contains(result["run"].as_str().unwrap()));
}

/// One line in the operations log.
fn logged(root: &TestRoot, id: &str, result: &Value, before: usize) {
    let log = root.log();
    assert_eq!(log.len(), before + 1, "one line a command");
    let line = log.last().unwrap();
    assert_eq!(line["schema_version"], 1);
    assert_eq!(line["op_id"], result["run"]);
    assert_eq!(line["command"], "plan apply");
    assert_eq!(line["rc"], 0);
    assert_eq!(line["target"]["id"], id);
    assert_eq!(line["result"]["status"], "success");
    assert_eq!(line["result"]["backups"][0], result["preBackup"]);
    assert_eq!(line["steps"].as_array().unwrap().len(), result["steps"].as_array().unwrap().len());
    let took = line["duration_ms"].as_u64().unwrap();
    assert!(took > 0, "a restore takes some time: {line:#}");
    assert!(took.abs_diff(result["durationMs"].as_u64().unwrap()) < 1000, "{line:#}");
}

/// The pre-backup is a backup that other programs take.
fn pre_backup_is_whole(root: &TestRoot, id: &str) {
    let entry = root.entry(id);
    assert_eq!(entry["status"], "available");
    assert_eq!(entry["metadata"]["labels"][0], "pre-restore");
    let directory = root.path("srv/backups/budget");
    let _ = tool_in(&directory, "sha256sum", &["--strict", "-c", &format!("{id}.tar.zst.sha256")]);
    let archive = directory.join(format!("{id}.tar.zst"));
    let listed = tool("tar", &["--zstd", "-tf", archive.to_str().unwrap()]);
    assert!(listed.stdout.contains("data/server-files/account.sqlite"), "{}", listed.stdout);
}

/// And can itself be restored.
fn back_again(root: &TestRoot, pre_backup: &str) {
    let result = root.restore(&[pre_backup]);
    root.assert_generation("gen-b.sha256");
    assert_eq!(result["backup"], pre_backup);
}

#[test]
fn a_zstd_backup_is_restored_and_undone_by_its_pre_backup() {
    restores(ZSTD);
}

#[test]
fn a_gzip_backup_is_restored_and_undone_by_its_pre_backup() {
    restores(GZIP);
}

#[test]
fn an_uncompressed_backup_is_restored_and_undone_by_its_pre_backup() {
    restores(NONE);
}

#[test]
fn a_data_only_backup_is_restored_and_undone_by_its_pre_backup() {
    restores(DATA_ONLY);
}

#[test]
fn a_second_apply_changes_no_byte_and_says_so() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let first = root.apply(&plan).ok().json();
    let before = root.tree();
    let again = root.apply(&plan).ok();
    before.assert_same(&root.tree(), "a second apply");
    let again = again.json();
    assert_eq!(again["outcome"], "already_applied");
    assert_eq!(again["run"], first["run"]);
    let spoken = root.run(&["apply", plan.to_str().unwrap()]).ok();
    assert!(spoken.stdout.contains("already applied"), "{}", spoken.stdout);
    before.assert_same(&root.tree(), "a third apply");
    let check = root.json(&["plan", "check", plan.to_str().unwrap()]);
    assert_eq!(check.json()["applyable"], false);
}

#[test]
fn only_a_plan_that_allows_it_is_applied_again() {
    let root = TestRoot::new();
    let once = root.plan(&[ZSTD]);
    let _ = root.apply(&once).ok();
    let before = root.tree();
    let refused = root.json(&["apply", once.to_str().unwrap(), "--yes", "--replay"]);
    let _ = refused.refused(5, &["already-applied"]);
    before.assert_same(&root.tree(), "a refused replay");

    let many = root.work("many.json");
    let _ = root.plan_to(&[GZIP, "--replay", "allowed"], &many).ok();
    let first = root.apply(&many).ok().json();
    assert_eq!(root.apply(&many).ok().json()["outcome"], "already_applied", "without --replay");
    root.sql("srv/budget/data/server-files/account.sqlite", "DELETE FROM sessions");
    let again = root.json(&["apply", many.to_str().unwrap(), "--yes", "--replay"]).ok().json();
    assert_eq!(again["outcome"], "applied");
    assert_ne!(again["run"], first["run"]);
    assert_ne!(again["preBackup"], first["preBackup"], "the state before is backed up each time");
    root.assert_generation("gen-a.sha256");
    assert_eq!(root.entry(GZIP)["restores"].as_array().unwrap().len(), 2);
}

#[test]
fn a_plan_for_an_empty_place_is_never_applied_to_a_full_one() {
    // Its steps hold no pre-backup: whatever the policy, what came since would be lost.
    for (made, drift) in [(false, "ignore"), (true, "ignore"), (true, "structure")] {
        let root = TestRoot::new();
        if made {
            std::fs::create_dir(root.path("srv/copy")).unwrap();
        }
        let args = [ZSTD, "--dest", "/srv/copy", "--drift", drift, "--replay", "allowed"];
        let early = root.work("early.json");
        let _ = root.plan_to(&args, &early).ok();
        let _ = root.restore(&[GZIP, "--dest", "/srv/copy"]);
        let before = root.tree();
        let _ = root.apply(&early).refused(5, &["target"]);
        before.assert_same(&root.tree(), "a plan for an empty place");
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--dest", "/srv/copy", "--replay", "allowed"]);
    let _ = root.apply(&plan).ok();
    let before = root.tree();
    let again = root.json(&["apply", plan.to_str().unwrap(), "--yes", "--replay"]);
    let _ = again.refused(5, &["target"]);
    before.assert_same(&root.tree(), "a replay onto what the first apply made");
}

#[test]
fn another_directory_is_filled_and_the_live_one_stays() {
    let root = TestRoot::new();
    let live = root.live();
    let registry = root.registry();
    let result = root.restore(&[ZSTD, "--dest", "/srv/copy"]);
    sums::assert_generation(&root.path("srv/copy"), "gen-a.sha256");
    live.assert_same(&root.live(), "a restore to another directory");
    assert_eq!(result["preBackup"], Value::Null, "there was nothing to back up");
    assert_eq!(result["displaced"], Value::Null);
    assert_eq!(root.entry(ZSTD)["restored_to"], "/srv/copy");
    assert_eq!(root.registry(), registry, "the registry speaks of the instance's own directory alone");
    root.assert_no_private();

    // Now it is an instance directory with content: it is backed up and kept aside.
    let result = root.restore(&[GZIP, "--dest", "/srv/copy"]);
    assert!(result["preBackup"].is_string());
    assert!(root.path(result["displaced"].as_str().unwrap()).is_dir());
    sums::assert_generation(&root.path("srv/copy"), "gen-a.sha256");
}

#[test]
fn an_empty_directory_is_a_destination_and_one_with_other_content_is_not() {
    let root = TestRoot::new();
    std::fs::create_dir(root.path("srv/empty")).unwrap();
    let result = root.restore(&[ZSTD, "--dest", "/srv/empty"]);
    assert_eq!(result["preBackup"], Value::Null);
    sums::assert_generation(&root.path("srv/empty"), "gen-a.sha256");

    std::fs::create_dir(root.path("srv/photos")).unwrap();
    root.write("srv/photos/cat.jpg", "meow");
    let before = root.tree();
    let plan = root.work("photos.json");
    let planned = root.plan_to(&[ZSTD, "--dest", "/srv/photos"], &plan);
    if planned.code == 0 {
        let _ = root.apply(&plan).refused(2, &["target-not-instance"]);
    } else {
        let _ = planned.code(2);
    }
    before.assert_same(&root.tree(), "a directory with other content");
}

#[test]
fn no_directory_of_the_program_is_a_destination() {
    let root = TestRoot::new();
    let before = root.tree();
    for dest in
        ["/", "/srv", "/srv/backups", "/srv/backups/x", "/var/lib/abssctl", "/srv/budget/data", "/run"]
    {
        let refused = root.json(&["plan", "restore", ZSTD, "--dest", dest, "-o", "-"]);
        let _ = refused.error(2, "abssctl::planner::target", &["cannot be a target"]);
    }
    for dest in ["relative", "/srv/../etc"] {
        let refused = root.json(&["plan", "restore", ZSTD, "--dest", dest, "-o", "-"]);
        assert_eq!(refused.code, 2, "{dest}: {}", refused.stderr);
    }
    before.assert_same(&root.tree(), "destinations that are refused");
}

#[test]
fn without_a_pre_backup_the_displaced_tree_is_the_way_back() {
    let root = TestRoot::new();
    let live = root.live();
    let backups = root.index()["backups"].as_array().unwrap().len();
    let result = root.restore(&[ZSTD, "--no-pre-backup"]);
    assert_eq!(result["preBackup"], Value::Null);
    assert!(result["steps"].as_array().unwrap().iter().all(|step| step["kind"] != "pre-backup"));
    assert_eq!(root.index()["backups"].as_array().unwrap().len(), backups);
    live.assert_same(&Tree::of(&root.path(result["displaced"].as_str().unwrap())), "the displaced tree");
    assert_eq!(root.runs()[0]["displaced"], result["displaced"], "run list names it");
}

#[test]
fn an_online_pre_backup_runs_beside_reading_the_archive() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--pre-backup", "online", "--backup-message", "before the audit"]);
    let document: Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    let step =
        document["steps"].as_array().unwrap().iter().find(|step| step["kind"] == "pre-backup").unwrap();
    assert_eq!(step["needs"], serde_json::json!(["check"]));
    let result = root.apply(&plan).ok().json();
    let id = result["preBackup"].as_str().unwrap();
    assert_eq!(root.entry(id)["message"], "before the audit");
    pre_backup_is_whole(&root, id);
    root.assert_generation("gen-a.sha256");
    back_again(&root, id);
}

#[test]
fn a_backup_of_another_instance_is_refused() {
    let root = TestRoot::new();
    let before = root.tree();
    for command in [["plan", "restore"], ["backup", "restore"]] {
        let refused = root.json(&[command[0], command[1], ZSTD, "--instance", "other", "--yes"]);
        let _ = refused.error(2, "abssctl::planner::other_instance", &["budget", "other"]);
    }
    before.assert_same(&root.tree(), "a mismatched --instance");
}

#[test]
fn a_backup_is_chosen_by_time() {
    let root = TestRoot::new();
    let chosen = |args: &[&str]| {
        let mut all = vec!["plan", "restore", "--instance", "budget"];
        all.extend(args);
        root.json(&all).ok().json()["plan"]["spec"]["source"]["backupId"].as_str().unwrap().to_owned()
    };
    assert_eq!(chosen(&["--latest"]), DATA_ONLY);
    assert_eq!(chosen(&["--at", "2026-11-24T02:26:35Z"]), GZIP);
    assert_eq!(chosen(&["--at", "2026-11-24T03:26:34+01:00"]), GZIP);
    assert_eq!(chosen(&["--at", "2026-11-24"]), DATA_ONLY, "a date means its end");
    let none = root.json(&["plan", "restore", "--instance", "budget", "--at", "2026-11-23"]);
    let _ = none.error(2, "abssctl::planner::no_backup", &["budget"]);
    let wrong = root.json(&["plan", "restore", "--instance", "budget", "--at", "yesterday"]);
    let _ = wrong.error(2, "abssctl::planner::time", &["yesterday"]);
    root.edit_entry(DATA_ONLY, |entry| entry["status"] = "corrupt".into());
    assert_eq!(chosen(&["--latest"]), NONE, "the newest that is usable");
}

#[test]
fn a_dry_run_changes_nothing_and_prints_the_plan() {
    let root = TestRoot::new();
    let before = root.tree();
    let spoken = root.run(&["backup", "restore", ZSTD, "--dry-run"]).ok();
    assert!(spoken.stdout.contains(ZSTD), "{}", spoken.stdout);
    let shown = root.json(&["backup", "restore", ZSTD, "--dry-run"]).ok().json();
    assert_eq!(shown["plan"]["kind"], "RestorePlan");
    assert!(shown["digest"].as_str().unwrap().starts_with("sha256:"));
    let plan = root.plan(&[ZSTD]);
    let dry = root.json(&["apply", plan.to_str().unwrap(), "--dry-run"]).ok().json();
    assert_eq!(dry["applyable"], true);
    let spoken = root.run(&["apply", plan.to_str().unwrap(), "--dry-run"]).ok();
    assert!(spoken.stdout.contains("swap"), "{}", spoken.stdout);
    let check = root.json(&["plan", "check", plan.to_str().unwrap()]).ok().json();
    assert_eq!(check["applyable"], true);
    before.assert_same(&root.tree(), "dry runs");
    // What was only shown can still be applied.
    let _ = root.apply(&plan).ok();
}

#[test]
fn backup_restore_plans_and_applies_in_one_go() {
    let root = TestRoot::new();
    let before = root.tree();
    let refused = root.json(&["backup", "restore", ZSTD]);
    let _ = refused.error(2, "abssctl::cli::no_terminal", &["no terminal"]);
    before.assert_same(&root.tree(), "a question that nobody can answer");

    let result = root.json(&["backup", "restore", ZSTD, "--yes", "--reason", "ticket 7"]).ok().json();
    assert_eq!(result["outcome"], "applied");
    root.assert_generation("gen-a.sha256");
    assert_eq!(root.log().last().unwrap()["command"], "backup restore");
    let run = root.path(format!("var/lib/abssctl/runs/{}/plan", result["run"].as_str().unwrap()));
    let kept = root.json(&["plan", "show", run.to_str().unwrap()]).ok().json();
    assert_eq!(kept["plan"]["metadata"]["reason"], "ticket 7");
    assert_eq!(kept["digest"], result["planDigest"], "the run keeps the plan that ran");

    let mut command = root.command(&["backup", "restore", GZIP, "--json"]);
    let again = crate::support::Ran::of(command.env("ABSSCTL_ASSUME_YES", "1")).ok().json();
    assert_eq!(again["backup"], GZIP);
}

#[test]
fn an_absent_live_directory_comes_back() {
    let root = TestRoot::new();
    std::fs::remove_dir_all(root.path(LIVE)).unwrap();
    let result = root.restore(&[ZSTD]);
    assert_eq!(result["preBackup"], Value::Null);
    assert_eq!(result["displaced"], Value::Null);
    root.assert_generation("gen-a.sha256");
    root.assert_no_private();
    assert_eq!(root.registry()["metadata"]["last_restore_source"], ZSTD);
}

#[test]
fn files_of_the_peers_archive_get_the_owners_of_the_live_tree() {
    let name = "files_of_the_peers_archive_get_the_owners_of_the_live_tree";
    if skip_unless(name, is_root(), "needs root") {
        return;
    }
    let root = TestRoot::new();
    let _ = tool("chown", &["-R", "12345:54321", root.path(LIVE).to_str().unwrap()]);
    let _ = tool("chown", &["7:8", root.path("srv/budget/data/config.json").to_str().unwrap()]);
    let _ = root.restore(&[ZSTD]);
    root.assert_generation("gen-a.sha256");
    let live = root.live();
    for path in live.paths() {
        let expected = if path == "data/config.json" { (7, 8) } else { (12345, 54321) };
        assert_eq!(live.owner(&path), expected, "'{path}'");
    }

    // Without a live tree: the service user of the machine in the root.
    let root = TestRoot::new();
    std::fs::remove_dir_all(root.path(LIVE)).unwrap();
    root.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nactual-sync:x:777:888::/srv:/usr/sbin/nologin\n");
    let _ = root.restore(&[ZSTD]);
    let live = root.live();
    assert!(live.paths().iter().all(|path| live.owner(path) == (777, 888)), "{live:?}");
}

#[test]
fn what_our_own_archives_hold_comes_back_as_it_was() {
    let root = TestRoot::new();
    let extra = root.path("srv/budget/extra");
    let script = r#"
        mkdir -p "$0/empty" "$0/deep/er" && cd "$0"
        echo one >one && ln one two && ln -s ../data/config.json link && ln -s nowhere dangling
        mkdir 'strange name' && printf x >'strange name/a b'
        chmod 0604 one && chmod 0711 deep && chmod 0500 empty
        touch -d '2001-02-03 04:05:06.123456789 UTC' one deep/er && touch -h -d '2002-02-02 UTC' link
        touch -d '1999-12-31 23:59:59.000000001 UTC' empty
    "#;
    let _ = tool("sh", &["-ec", script, extra.to_str().unwrap()]);
    std::fs::write(std::path::Path::new(&extra).join(odd_name()), "not UTF-8").unwrap();
    let attributes = have("setfattr");
    if attributes {
        let _ = tool_in(&extra, "setfattr", &["-n", "user.note", "-v", "kept", "one"]);
        let _ = tool_in(&extra, "setfattr", &["-n", "user.folder", "-v", "kept too", "deep"]);
    } else {
        crate::support::tools::skipped("extended attributes", "setfattr is missing");
    }
    if is_root() {
        let _ = tool_in(&extra, "chown", &["-h", "4321:1234", "link", "deep/er", "strange name/a b"]);
    }
    let before = root.live();
    for compression in ["zstd", "gzip", "none"] {
        let made = root.json(&["backup", "create", "budget", "--compression", compression]).ok().json();
        root.write("srv/budget/extra/one", "spoilt");
        std::fs::remove_file(extra.join("link")).unwrap();
        std::fs::set_permissions(extra.join("deep"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        let _ = root.restore(&[made["id"].as_str().unwrap(), "--no-pre-backup"]);
        before.assert_same(&root.live(), compression);
        if attributes {
            let shown = tool_in(&extra, "getfattr", &["--only-values", "-n", "user.note", "one"]);
            assert_eq!(shown.stdout, "kept");
            let shown = tool_in(&extra, "getfattr", &["--only-values", "-n", "user.folder", "deep"]);
            assert_eq!(shown.stdout, "kept too");
        }
        let same =
            |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(extra.join(name)).unwrap());
        assert_eq!(same("one"), same("two"), "a hard link");
    }
}

fn odd_name() -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(b"caf\xe9".to_vec())
}

#[test]
fn clients_reset_gives_each_budget_the_group_that_the_plan_shows() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--clients", "reset", "--sessions", "revoke"]);
    let document: Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    let budgets = document["preview"]["budgets"].as_array().unwrap();
    let household = budgets.iter().find(|budget| budget["presence"] != "live-only").unwrap();
    let (old, new) = (household["groupId"].as_str().unwrap(), household["newGroupId"].as_str().unwrap());
    assert_ne!(old, new);
    let result = root.apply(&plan).ok().json();
    assert_eq!(result["clients"], "reset");
    let files = sums::of(&root.path("srv/budget/data/user-files"));
    let name = format!("./group-{new}.sqlite");
    let expected = &sums::list("gen-a.sha256")[&format!("./data/user-files/group-{old}.sqlite")];
    assert_eq!(files.get(&name), Some(expected), "renamed, byte for byte: {files:?}");
    assert!(!files.contains_key(&format!("./group-{old}.sqlite")));
    let account =
        rusqlite::Connection::open(root.path("srv/budget/data/server-files/account.sqlite")).unwrap();
    let one = |query: &str| account.query_row(query, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(one("SELECT group_id FROM files"), new);
    assert_eq!(one("SELECT id FROM files"), household["id"].as_str().unwrap());
    assert_eq!(one("SELECT CAST(count(*) AS TEXT) FROM sessions"), "0");
    assert_eq!(one("PRAGMA integrity_check"), "ok");
    assert_eq!(root.entry(ZSTD)["restores"][0]["clients"], "reset");
    assert_eq!(root.log().last().unwrap()["args"]["clients"], "reset");
}

#[test]
fn sessions_stay_unless_they_are_revoked() {
    let root = TestRoot::new();
    let _ = root.restore(&[ZSTD, "--clients", "reset"]);
    let account =
        rusqlite::Connection::open(root.path("srv/budget/data/server-files/account.sqlite")).unwrap();
    let sessions: i64 = account.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(sessions, 1);
}

#[test]
fn a_run_is_listed_and_shown_with_what_it_keeps() {
    let root = TestRoot::new();
    assert_eq!(root.runs(), Vec::<Value>::new());
    let plan = root.plan(&[ZSTD]);
    let result = root.apply(&plan).ok().json();
    let run = result["run"].as_str().unwrap();
    let shown = root.json(&["run", "show", run]).ok().json();
    for (key, expected) in [
        ("run", &result["run"]),
        ("plan", &result["plan"]),
        ("planDigest", &result["planDigest"]),
        ("backup", &result["backup"]),
        ("preBackup", &result["preBackup"]),
        ("displaced", &result["displaced"]),
        ("outcome", &Value::from("applied")),
        ("staging", &Value::Null),
    ] {
        assert_eq!(&shown[key], expected, "{key}");
    }
    assert_eq!(shown["steps"].as_array().unwrap().len(), result["steps"].as_array().unwrap().len());
    let kept = std::fs::read(shown["planFile"].as_str().unwrap()).unwrap();
    assert_eq!(kept, std::fs::read(&plan).unwrap(), "the run keeps the plan's exact bytes");
    let text = root.run(&["run", "list"]).ok().stdout;
    assert!(text.contains(run) && text.contains("applied"), "{text}");
}

#[test]
fn a_refreshed_plan_is_a_new_document_for_the_same_wish() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--sessions", "revoke", "--reason", "ticket 7"]);
    let read = || serde_json::from_slice::<Value>(&std::fs::read(&plan).unwrap()).unwrap();
    let before = read();
    root.write("srv/budget/data/note.txt", "new");
    let mut edited = before.clone();
    edited["spec"]["clients"] = "reset".into();
    std::fs::write(&plan, serde_json::to_vec(&edited).unwrap()).unwrap();
    let refused = root.json(&["plan", "validate", plan.to_str().unwrap()]);
    let _ = refused.error(2, "abssctl::plan::invalid", &[]);
    let tree = root.tree();
    let _ = root.run(&["plan", "refresh", plan.to_str().unwrap()]).ok();
    tree.assert_same(&root.tree(), "a refresh");
    let after = read();
    assert_ne!(after["metadata"]["id"], before["metadata"]["id"]);
    assert_eq!(after["spec"], edited["spec"], "the wish stays as it was edited");
    assert_ne!(after["observed"]["target"]["structure"], before["observed"]["target"]["structure"]);
    let result = root.apply(&plan).ok().json();
    assert_eq!(result["clients"], "reset");
}

#[test]
fn the_log_is_one_line_a_command() {
    let root = TestRoot::new();
    let before = root.log().len();
    let _ = root.run(&["backup", "create", "budget"]).ok();
    let _ = root.run(&["backup", "restore", ZSTD, "--yes"]).ok();
    let _ = root.run(&["backup", "list"]).ok();
    let commands: Vec<Value> = root.log()[before..].iter().map(|line| line["command"].clone()).collect();
    assert_eq!(commands, ["backup create", "backup restore"]);
    assert!(root.read(LOG).ends_with('\n'));
}
