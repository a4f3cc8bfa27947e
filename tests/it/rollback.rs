//! `run rollback` and `plan rollback`: what a run replaced comes back byte for byte, with owners and times;
//! a rollback can be rolled back, interrupted at any rename and refused where the tree is not the one.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::resume::{id, killed_at, newest, skip};
use crate::support::root::{GZIP, INDEX, LIVE, ZSTD};
use crate::support::strace;
use crate::support::sums;
use crate::support::tools::{have, skip_unless, tool};
use crate::support::tree::Tree;
use crate::support::{Ran, TestRoot};

/// The fields of the last restore in the registry.
fn last(root: &TestRoot) -> Vec<Value> {
    let names = ["last_restored_at", "last_restore_source", "last_restore_destination", "last_restore_actor"];
    names.iter().map(|name| root.registry()["metadata"][name].clone()).collect()
}

fn displaced(root: &TestRoot, run: &str) -> PathBuf {
    root.path(format!("srv/.abssctl/displaced/{run}"))
}

fn rollback(root: &TestRoot, run: &str) -> Ran {
    root.json(&["run", "rollback", run, "--yes", "--no-pre-backup"])
}

/// Writes a rollback plan for a run.
fn plan(root: &TestRoot, run: &str, more: &[&str]) -> PathBuf {
    let path = root.work("rollback.yaml");
    let mut command = root.command(&["plan", "rollback", run, "-o", path.to_str().unwrap()]);
    let _ = Ran::of(command.args(more)).ok();
    path
}

/// A restored instance and its run.
fn restored(args: &[&str]) -> (TestRoot, String) {
    let root = TestRoot::new();
    let run = id(&root.restore(args));
    root.assert_generation("gen-a.sha256");
    (root, run)
}

#[test]
fn a_finished_run_is_rolled_back_and_that_is_too() {
    let root = TestRoot::new();
    let (old, registry) = (root.live(), last(&root));
    let first = id(&root.restore(&[ZSTD]));
    let (new, recorded) = (root.live(), last(&root));
    assert_ne!(registry, recorded);

    let result = root.json(&["run", "rollback", &first, "--yes"]).ok().json();
    assert_eq!((&result["outcome"], &result["rollsBack"]), (&json!("applied"), &json!(first)));
    let second = id(&result);
    old.assert_same(&root.live(), "the tree that comes back");
    assert_eq!(last(&root), registry, "the registry says what it said before the run");
    new.assert_same(&Tree::of(&displaced(&root, &second)), "the tree that went");
    assert!(!displaced(&root, &first).exists() && !root.path("srv/.abssctl/staging").exists());
    let backup = result["preBackup"].as_str().unwrap();
    assert_eq!(root.entry(backup)["metadata"]["labels"], json!(["pre-rollback"]));

    let restores = root.entry(ZSTD)["restores"].clone();
    assert_eq!(restores.as_array().unwrap().len(), 2);
    assert_eq!((&restores[1]["outcome"], &restores[1]["rolls_back"]), (&json!("rolled_back"), &json!(first)));
    assert_eq!(root.entry(ZSTD)["last_restored_at"], restores[0]["at"], "it was restored then");
    let line = root.log().last().unwrap().clone();
    assert_eq!((&line["command"], &line["rc"]), (&json!("run rollback"), &json!(0)));
    assert_eq!(line["args"]["rolls_back"], first.as_str());
    let runs = root.runs();
    assert_eq!((&runs[0]["kind"], &runs[0]["rollsBack"]), (&json!("RollbackPlan"), &json!(first)));
    assert_eq!((&runs[1]["kind"], &runs[1]["rolledBackBy"]), (&json!("RestorePlan"), &json!(second)));
    let shown = root.run(&["run", "show", &first]).ok().stdout;
    assert!(shown.contains(&format!("undone by   {second}")), "{shown}");

    let before = root.tree();
    let again = rollback(&root, &first).ok().json();
    assert_eq!((&again["outcome"], &again["by"]), (&json!("already_rolled_back"), &json!(second)));
    before.assert_same(&root.tree(), "a run that is rolled back");

    let third = id(&rollback(&root, &second).ok().json());
    new.assert_same(&root.live(), "the rollback of the rollback");
    old.assert_same(&Tree::of(&displaced(&root, &third)), "the tree that went again");
    assert_eq!(last(&root), recorded);
    let runs = root.runs();
    assert_eq!((&runs[2]["rolledBackBy"], &runs[1]["rolledBackBy"]), (&Value::Null, &json!(third)));
    // Where the first run put it, nothing is left; the message leads to where it is.
    let refused = rollback(&root, &first).error(2, "abssctl::planner::rollback", &["displaced"]);
    assert!(refused["help"].as_str().unwrap().contains(&third), "{refused:#}");
    let receipt = root.run(&["run", "show", &second, "--receipt"]).ok().json();
    assert_eq!(receipt["rollsBack"], first.as_str());
    assert_eq!(
        receipt["tree"]["before"],
        root.run(&["run", "show", &third, "--receipt"]).ok().json()["tree"]["after"]
    );
}

#[test]
fn a_rollback_killed_at_any_point_goes_on() {
    if skip("a_rollback_killed_at_any_point_goes_on") {
        return;
    }
    // Each call that moves a tree or replaces a record, and each that makes one of these durable.
    let points = [
        ("srv/.abssctl/displaced", "renameat2", 1),
        ("srv/.abssctl/displaced", "fsync", 1),
        ("srv", "renameat2", 1),
        ("srv", "fsync", 1),
        ("srv/.abssctl/displaced", "renameat2", 2),
        ("srv/.abssctl/displaced", "fsync", 2),
        ("srv/backups", "renameat", 1),
        ("srv/backups", "fsync", 1),
        ("var/lib/abssctl/registry", "renameat", 1),
        ("var/lib/abssctl/registry", "fsync", 1),
    ];
    for (path, call, when) in points {
        let root = TestRoot::new();
        let old = root.live();
        let first = id(&root.restore(&[ZSTD, "--no-pre-backup"]));
        let file = plan(&root, &first, &["--no-pre-backup"]);
        let path = root.path(path);
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={when}"));
        let options = ["-o", "/dev/null", "-P", path.to_str().unwrap(), "-e", &trace, "-e", &inject];
        let ran = strace::run(&root.command(&["apply", file.to_str().unwrap(), "--yes"]), &options);
        let at = format!("{call} {when} on {}", path.display());
        assert_eq!(ran.code, 137, "{at}: {}{}", ran.stdout, ran.stderr);
        let files = sums::of(&root.path(LIVE));
        let whole = [sums::list("gen-b.sha256"), sums::list("gen-a.sha256")].contains(&files);
        assert!(whole, "{at}: {files:#?}");
        let run = newest(&root);
        assert_eq!(run["outcome"], "interrupted", "{at}: {run:#}");
        let result = root.json(&["run", "resume", &id(&run), "--yes"]).ok().json();
        assert_eq!(result["outcome"], "applied", "{at}");
        old.assert_same(&root.live(), &at);
        let restores = root.entry(ZSTD)["restores"].clone();
        assert_eq!(restores.as_array().unwrap().len(), 2, "{at}: {restores:#}");
        assert!(!root.path("srv/.abssctl/staging").exists(), "{at}");
        assert_eq!(last(&root), [Value::Null, Value::Null, Value::Null, Value::Null], "{at}");
        assert!(root.runs().iter().all(|run| run["outcome"] != "interrupted"), "{at}");
        assert!(!displaced(&root, &first).exists(), "{at}");
        sums::assert_generation(&displaced(&root, result["run"].as_str().unwrap()), "gen-a.sha256");
    }
}

#[test]
fn an_interrupted_rollback_is_undone_or_goes_on_by_the_same_command() {
    if skip("an_interrupted_rollback_is_undone_or_goes_on_by_the_same_command") {
        return;
    }
    for undo in [false, true] {
        let (root, first) = restored(&[ZSTD, "--no-pre-backup"]);
        let (new, kept) = (root.live(), Tree::of(&displaced(&root, &first)));
        let recorded = last(&root);
        let args = ["run", "rollback", &first, "--yes", "--no-pre-backup"];
        killed_at(&root, &args, &root.path("var/lib/abssctl/registry"), "renameat");
        let second = id(&newest(&root));
        // Another plan has to wait, and says for what.
        let _ = root.json(&["plan", "rollback", &first]).error(2, "abssctl::planner::rollback", &[&second]);
        let other = root.work("other.json");
        let _ = root.plan_to(&[GZIP], &other).ok();
        let _ = root.apply(&other).refused(3, &["run-unfinished"]);
        if undo {
            let _ =
                root.json(&["run", "rollback", &second]).error(2, "abssctl::cli::no_terminal", &["asked"]);
            let back = rollback(&root, &second).ok().json();
            assert_eq!((&back["outcome"], &back["run"]), (&json!("rolled_back"), &json!(second)));
            new.assert_same(&root.live(), "a rollback that is undone");
            kept.assert_same(&Tree::of(&displaced(&root, &first)), "its tree is where it was");
            assert_eq!(last(&root), recorded);
            assert_eq!(root.entry(ZSTD)["restores"].as_array().unwrap().len(), 1);
            let line = root.log().last().unwrap().clone();
            assert_eq!((&line["command"], &line["rc"]), (&json!("run rollback"), &json!(0)));
            // Once more, undisturbed.
            let _ = rollback(&root, &first).ok();
        } else {
            let on = rollback(&root, &first).ok().json();
            assert_eq!((&on["outcome"], &on["run"]), (&json!("applied"), &json!(second)));
        }
        root.assert_generation("gen-b.sha256");
        assert!(!root.path("srv/.abssctl/staging").exists());
    }
}

#[test]
fn a_halted_run_is_brought_back() {
    if skip("a_halted_run_is_brought_back") {
        return;
    }
    let root = TestRoot::new();
    let before = root.tree_but_records();
    let plan = root.plan(&[ZSTD, "--no-pre-backup", "--on-failure", "halt"]);
    let index = root.path("srv/backups");
    let options = ["-o", "/dev/null", "-P", index.to_str().unwrap(), "-e", "trace=renameat"];
    let inject = ["-e", "inject=renameat:error=EIO"];
    let command = root.command(&["apply", plan.to_str().unwrap(), "--yes", "--json"]);
    let halted = strace::run(&command, &[&options[..], &inject[..]].concat());
    let error = halted.error(7, "abssctl::apply::halted", &["record"]);
    let run = id(&error["result"]);
    root.assert_generation("gen-a.sha256");
    for command in ["resume", "rollback"] {
        let typed = format!("abssctl run {command} {run}");
        assert!(error["help"].as_str().unwrap().contains(&typed), "{error:#}");
    }
    let dry = root.json(&["run", "rollback", &run, "--dry-run"]).ok().json();
    assert_eq!(dry["wouldUndo"], true);
    // Whoever works in the tree would go on writing into one that is out of the way.
    let file = std::fs::File::open(root.path(LIVE).join("data/.migrate")).unwrap();
    let _ = rollback(&root, &run).error(3, "abssctl::apply::cannot_resume", &["open"]);
    drop(file);
    let back = rollback(&root, &run).ok().json();
    assert_eq!((&back["outcome"], &back["exitCode"]), (&json!("rolled_back"), &json!(0)));
    before.assert_same(&root.tree_but_records(), "a halted run that is undone");
    root.assert_no_private();
    let again = rollback(&root, &run).ok().json();
    assert_eq!(again["outcome"], "already_rolled_back");
    assert_eq!(root.apply(&plan).ok().json()["outcome"], "applied");
}

#[test]
fn a_plan_is_shown_compared_approved_and_applied() {
    if skip_unless("a_plan_is_shown_compared_approved_and_applied", have("ssh-keygen"), "no ssh-keygen") {
        return;
    }
    let (root, run) = restored(&[ZSTD]);
    let key = root.work("key");
    let _ = tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
    let public = std::fs::read_to_string(root.work("key.pub")).unwrap();
    root.write("etc/abssctl/allowed_signers", format!("anna {public}"));
    let before = root.tree();
    let file = plan(&root, &run, &["--reason", "it was the wrong backup", "--retain", "3d"]);
    let path = file.to_str().unwrap();
    for format in ["text", "markdown", "html"] {
        let shown = root.run(&["plan", "show", path, "--format", format]).ok().stdout;
        for part in ["Roll back run", &run, "it was the wrong backup", "the old tree", "Holiday"] {
            assert!(shown.contains(part), "{format} lacks '{part}':\n{shown}");
        }
        assert!(!shown.contains("after the restore"), "{format}:\n{shown}");
    }
    let document = root.run(&["plan", "show", path, "--format", "json"]).ok().json();
    assert_eq!(document["kind"], "RollbackPlan");
    let kinds: Vec<&str> =
        document["steps"].as_array().unwrap().iter().map(|step| step["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["lock", "check", "pre-backup", "swap", "record", "cleanup"]);
    let budgets = document["preview"]["budgets"].as_array().unwrap();
    let holiday = budgets.iter().find(|budget| budget["name"] == "Holiday").unwrap();
    assert_eq!(holiday["presence"], "backup-only", "{budgets:#?}");
    assert_eq!(document["preview"]["files"]["removed"]["count"], 0, "{:#}", document["preview"]);
    let _ = root.run(&["plan", "validate", path]).ok();
    let _ = root.json(&["plan", "check", path]).ok();
    before.assert_same(&root.tree(), "planning and looking");
    // Elsewhere, from facts alone, it is the same plan.
    let (facts, elsewhere) = (root.work("facts.json"), root.work("elsewhere.yaml"));
    let _ = root.run(&["facts", "-o", facts.to_str().unwrap()]).ok();
    let mut command = Command::new(env!("CARGO_BIN_EXE_abssctl"));
    let _ = command.env_clear().args(["--root", "/nowhere", "plan", "rollback", &run, "--reason"]);
    let _ = command.args(["it was the wrong backup", "--retain", "3d", "--facts"]).arg(&facts);
    let _ = Ran::of(command.arg("-o").arg(&elsewhere)).ok();
    let checked = root.json(&["plan", "check", elsewhere.to_str().unwrap()]).ok().json();
    assert_eq!(checked["applyable"], true, "{checked:#}");
    let diff = root.json(&["plan", "diff", path, elsewhere.to_str().unwrap()]).ok().json();
    assert_eq!((&diff["wish"], &diff["world"]), (&json!([]), &json!([])), "{diff:#}");
    let other = root.work("again.yaml");
    let _ = root.run(&["plan", "refresh", path, "-o", other.to_str().unwrap()]).ok();
    let diff = root.json(&["plan", "diff", path, other.to_str().unwrap()]).ok().json();
    assert_eq!((&diff["wish"], &diff["world"], &diff["follows"]), (&json!([]), &json!([]), &json!([])));
    let approve = ["plan", "approve", path, "--key", key.to_str().unwrap(), "--yes", "--principal", "anna"];
    let _ = root.run(&approve).ok();
    assert_eq!(root.json(&["plan", "verify", path]).ok().json()["approvers"], json!(["anna"]));
    let result = root.json(&["apply", path, "--yes", "--require-approvals", "1"]).ok().json();
    assert_eq!((&result["outcome"], &result["approvers"]), (&json!("applied"), &json!(["anna"])));
    root.assert_generation("gen-b.sha256");
    assert_eq!(root.log().last().unwrap()["command"], "plan apply");
    assert_eq!(root.apply(&file).ok().json()["outcome"], "already_applied");
    let _ = root.json(&["plan", "check", path]).code(5);
}

#[test]
fn what_a_rollback_cannot_choose_is_refused() {
    let (root, run) = restored(&[ZSTD]);
    let file = plan(&root, &run, &["--format", "json"]);
    let text = std::fs::read_to_string(&file).unwrap();
    for (from, to, code) in [
        ("\"clients\": \"merge\"", "\"clients\": \"reset\"", "as_it_was"),
        ("\"sessions\": \"keep\"", "\"sessions\": \"revoke\"", "as_it_was"),
        ("\"replay\": \"once\"", "\"replay\": \"allowed\"", "as_it_was"),
        ("\"kind\": \"RollbackPlan\"", "\"kind\": \"RestorePlan\"", "kind"),
    ] {
        let edited = text.replacen(from, to, 1);
        assert_ne!(edited, text, "{from}");
        std::fs::write(&file, edited).unwrap();
        let refused = root.json(&["plan", "validate", file.to_str().unwrap()]);
        assert_eq!(refused.code, 2);
        assert!(refused.stdout.contains(&format!("graph::{code}")), "{to}: {}", refused.stdout);
    }
    // A tree that lies elsewhere is none that a run displaced.
    let elsewhere = text.replace(&format!("/srv/.abssctl/displaced/{run}"), "/srv/backups");
    std::fs::write(&file, elsewhere).unwrap();
    let refused = root.json(&["plan", "validate", file.to_str().unwrap()]);
    assert!(refused.stdout.contains("graph::target_directory"), "{}", refused.stdout);
    root.assert_generation("gen-a.sha256");
}

#[test]
fn drift_is_refused() {
    let (root, run) = restored(&[ZSTD]);
    let file = plan(&root, &run, &[]);
    let live = root.live();
    // Nothing writes into the old tree: whatever is another there, is not what was reviewed.
    let config = displaced(&root, &run).join("data/config.json");
    let kept = std::fs::read(&config).unwrap();
    std::fs::write(&config, b"{\"port\":5008}").unwrap();
    let _ = root.apply(&file).refused(5, &["displaced-tree"]);
    std::fs::write(&config, kept).unwrap();
    let again = plan(&root, &run, &[]);
    // The live one, as for a restore.
    root.write(format!("{LIVE}/data/more.txt"), "x");
    let _ = root.apply(&again).refused(5, &["file-new"]);
    std::fs::remove_file(root.path(format!("{LIVE}/data/more.txt"))).unwrap();
    live.without_directory_times().assert_same(&root.live().without_directory_times(), "refusals");
    let again = plan(&root, &run, &[]);
    let _ = root.apply(&again).ok();
    root.assert_generation("gen-b.sha256");
}

#[test]
fn newer_changes_are_told() {
    let (root, run) = restored(&[ZSTD]);
    let groups = std::fs::read_dir(root.path(format!("{LIVE}/data/user-files"))).unwrap().flatten();
    let group = groups.map(|entry| entry.file_name().into_string().unwrap());
    let group = group.into_iter().find(|name| name.starts_with("group-")).unwrap();
    root.sql(
        format!("{LIVE}/data/user-files/{group}"),
        "INSERT INTO messages_binary VALUES ('2031-01-01T00:00:00.000Z-0000-0000000000000000', 0, x'00');",
    );
    let document = root.json(&["plan", "rollback", &run]).ok().json();
    let budgets = document["plan"]["preview"]["budgets"].as_array().unwrap();
    let newer: Vec<&Value> = budgets.iter().filter(|budget| budget["changesNewer"] == 1).collect();
    assert_eq!(newer.len(), 1, "{budgets:#?}");
    let warnings = document["plan"]["preview"]["warnings"].as_array().unwrap();
    let said =
        |code: &str| warnings.iter().find(|warning| warning["code"] == code).unwrap()["message"].clone();
    assert!(said("clients-merge").as_str().unwrap().contains("undo this rollback"), "{warnings:#?}");
    assert!(!warnings.iter().any(|warning| warning.to_string().contains("clients: reset")), "{warnings:#?}");
    assert!(said("as-it-was").as_str().unwrap().contains(&run));
}

#[test]
fn what_is_not_there_any_more_is_named() {
    let (root, run) = restored(&[ZSTD]);
    let backup = root.runs()[0]["preBackup"].as_str().unwrap().to_owned();
    let file = plan(&root, &run, &[]);
    let _ = root.run(&["run", "prune", "--older-than", "0s", "--yes"]).ok();
    let before = root.tree();
    let error = rollback(&root, &run).error(2, "abssctl::planner::rollback", &["removed", &run]);
    assert!(
        error["help"].as_str().unwrap().contains(&format!("abssctl backup restore {backup}")),
        "{error:#}"
    );
    let _ = root.apply(&file).refused(5, &["displaced-gone"]);
    before.assert_same(&root.tree(), "refusals");

    // Into a directory that was not there: nothing was displaced.
    let beside = id(&root.restore(&[ZSTD, "--dest", "/srv/copy"]));
    let error =
        rollback(&root, &beside).error(2, "abssctl::planner::rollback", &["nothing was", "/srv/copy"]);
    assert!(error["help"].as_str().unwrap().contains("/srv/copy"), "{error:#}");
}

#[test]
fn a_later_run_is_rolled_back_first() {
    let root = TestRoot::new();
    let old = root.live();
    let first = id(&root.restore(&[ZSTD]));
    let file = plan(&root, &first, &[]);
    let second = id(&root.restore(&[GZIP]));
    let error = rollback(&root, &first).error(2, "abssctl::planner::rollback", &["replaced", &second]);
    assert!(error["help"].as_str().unwrap().contains(&format!("abssctl run rollback {second}")), "{error:#}");
    let refused = root.apply(&file);
    let problems = refused.json()["problems"].clone();
    assert_eq!(refused.code, 5, "{problems:#}");
    assert!(problems.to_string().contains("replaced-since"), "{problems:#}");
    let _ = rollback(&root, &second).ok();
    let _ = rollback(&root, &first).ok();
    old.assert_same(&root.live(), "two restores rolled back, the later one first");
}

#[test]
fn another_directory_in_its_place_is_no_tree_of_the_run() {
    let (root, run) = restored(&[ZSTD]);
    // The older tool, or a person: renamed away and copied back.
    let live = root.path(LIVE);
    let aside = root.path("srv/aside");
    std::fs::rename(&live, &aside).unwrap();
    let _ = tool("cp", &["-a", aside.to_str().unwrap(), live.to_str().unwrap()]);
    let _ = rollback(&root, &run).error(2, "abssctl::planner::rollback", &["something else replaced it"]);
    // A target that is lost is another matter: the old tree comes back where nothing is.
    std::fs::remove_dir_all(&live).unwrap();
    let result = rollback(&root, &run).ok().json();
    assert_eq!(result["displaced"], Value::Null);
    root.assert_generation("gen-b.sha256");
}

#[test]
fn an_index_that_forgot_the_backup_is_a_warning() {
    let (root, run) = restored(&[ZSTD]);
    root.edit_index(|index| {
        index["backups"].as_array_mut().unwrap().retain(|entry| entry["id"] != ZSTD);
    });
    let result = rollback(&root, &run).ok().json();
    assert!(result["warnings"].to_string().contains("not in the index"), "{result:#}");
    root.assert_generation("gen-b.sha256");
    assert!(Path::new(&root.path(INDEX)).exists());
}

#[test]
fn a_run_that_replaced_nothing_is_undone_also_while_the_server_works() {
    if skip("a_run_that_replaced_nothing_is_undone_also_while_the_server_works") {
        return;
    }
    let root = TestRoot::new();
    let before = root.tree_but_records();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    killed_at(&root, &["apply", plan.to_str().unwrap(), "--yes"], &root.path("srv"), "renameat2");
    let run = id(&newest(&root));
    let file = std::fs::File::open(root.path(LIVE).join("data/.migrate")).unwrap();
    let back = root.run(&["run", "rollback", &run, "--yes"]).ok();
    drop(file);
    assert_eq!(back.stdout, format!("undid run {run}: /srv/budget is as it was before it\n"));
    before.assert_same(&root.tree_but_records(), "a run that is undone before it replaced anything");
    root.assert_no_private();
}

#[test]
fn a_tree_that_a_killed_prune_cut_never_comes_back() {
    if !strace::works() {
        return skip_aloud("a_tree_that_a_killed_prune_cut_never_comes_back");
    }
    for nth in 1..=6 {
        let (root, run) = restored(&[ZSTD]);
        let before = root.live();
        let inject = format!("inject=unlinkat:signal=KILL:when={nth}");
        let options = ["-o", "/dev/null", "-e", "trace=unlinkat", "-e", &inject];
        let killed = strace::run(&root.command(&["run", "prune", "--older-than", "0s", "--yes"]), &options);
        assert_eq!(killed.code, 137, "kill {nth}");
        let refused = rollback(&root, &run).error(2, "abssctl::planner::rollback", &["removed"]);
        assert!(refused["help"].as_str().unwrap().contains("abssctl backup restore"), "{refused:#}");
        before.assert_same(&root.live(), "a refused rollback");
        // The rest is found again and goes, and nothing is left that no list names.
        let _ = root.run(&["run", "prune", "--older-than", "0s", "--yes"]).ok();
        root.assert_no_private();
    }
}

fn skip_aloud(test: &str) {
    let _ = skip_unless(test, false, "no strace, or ptrace is not permitted");
}

#[test]
fn a_tree_that_was_changed_since_it_was_displaced_never_comes_back() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("a file with other bytes", |tree| std::fs::write(tree.join("data/config.json"), "{}").unwrap()),
        ("a file that is gone", |tree| std::fs::remove_file(tree.join("data/.migrate")).unwrap()),
        ("a file more", |tree| std::fs::write(tree.join("data/more"), "x").unwrap()),
    ];
    for (what, change) in changes {
        let (root, run) = restored(&[ZSTD, "--no-pre-backup"]);
        let before = root.live();
        change(&displaced(&root, &run));
        let refused = rollback(&root, &run);
        assert!(refused.code == 4 || refused.code == 2, "{what}: {}{}", refused.stdout, refused.stderr);
        before.assert_same(&root.live(), what);
        assert!(displaced(&root, &run).exists(), "{what}");
    }
}

#[test]
fn what_stood_nowhere_or_stands_elsewhere_is_not_put_back() {
    // Into an empty directory: nothing was displaced.
    let root = TestRoot::new();
    std::fs::create_dir(root.path("srv/empty")).unwrap();
    let run = id(&root.restore(&[ZSTD, "--dest", "/srv/empty"]));
    let _ = rollback(&root, &run).error(2, "abssctl::planner::rollback", &["nothing to put back"]);
    // The instance was moved since.
    let (root, run) = restored(&[ZSTD]);
    std::fs::rename(root.path(LIVE), root.path("srv/moved")).unwrap();
    let registry = root.read("var/lib/abssctl/registry/instances.yml").replace("/srv/budget", "/srv/moved");
    root.write("var/lib/abssctl/registry/instances.yml", registry);
    let _ = rollback(&root, &run).error(2, "abssctl::planner::rollback", &["/srv/moved"]);
    assert!(!root.path(LIVE).exists());
}

#[test]
fn a_file_system_mounted_in_the_old_tree_is_refused() {
    if skip_unless(
        "a_file_system_mounted_in_the_old_tree_is_refused",
        crate::support::tools::is_root(),
        "needs root",
    ) {
        return;
    }
    let (root, run) = restored(&[ZSTD]);
    let inner = displaced(&root, &run).join("data/user-files");
    let _mount = crate::support::tools::Mount::tmpfs(&inner, "size=1m");
    let _ = rollback(&root, &run).error(2, "abssctl::planner::rollback", &["mounted", "user-files"]);
}

/// Removed by a prune while a plan reads it: that is told, and not which file was missing.
#[test]
fn a_tree_that_is_removed_while_it_is_read_is_told_as_removed() {
    if skip("a_tree_that_is_removed_while_it_is_read_is_told_as_removed") {
        return;
    }
    // The first look is at the names alone, the next one at what is in the files.
    for (call, path) in [("getdents64", ""), ("read,pread64", "data/server-files/account.sqlite")] {
        let (root, run) = restored(&[ZSTD]);
        let tree = displaced(&root, &run);
        let command = root.command(&["plan", "rollback", &run, "-o", "-", "--json"]);
        let reading = strace::Stopped::after(&command, call, Some(&tree.join(path)));
        let pruned = root.json(&["run", "prune", "--older-than", "0s", "--yes"]).ok().json();
        assert_eq!(pruned["removed"][0]["run"], run.as_str(), "{pruned:#}");
        let said = reading.end();
        assert_ne!(said.code, 0, "{}", said.stdout);
        let what = format!("the old tree of run {run} was removed");
        assert!(said.stdout.contains(&what), "{call}: {}{}", said.stdout, said.stderr);
    }
}
