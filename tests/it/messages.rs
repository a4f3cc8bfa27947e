//! What people are told where things go wrong or nothing is to do: names instead of ids, the place that
//! was looked at, the next thing to type; and no question without something to decide.

use crate::support::root::{INDEX, LIVE, ZSTD};
use crate::support::{Ran, TestRoot};

fn warnings(root: &TestRoot, args: &[&str]) -> Vec<String> {
    let planned = root.json(&[&["plan", "restore"], args].concat()).ok().json();
    let warnings = planned["plan"]["preview"]["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().map(|warning| warning["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_plan_that_changes_nothing_says_so() {
    let root = TestRoot::new();
    let first = warnings(&root, &[ZSTD]);
    assert!(first.contains(&"sessions-return".to_owned()), "{first:?}");
    assert!(!first.contains(&"no-change".to_owned()), "{first:?}");
    let _ = root.restore(&[ZSTD]);
    assert_eq!(warnings(&root, &[ZSTD]), ["no-change"]);
    // What these do, the files do not show.
    for args in [[ZSTD, "--sessions", "revoke"], [ZSTD, "--clients", "reset"]] {
        assert!(!warnings(&root, &args).contains(&"no-change".to_owned()), "{args:?}");
    }
}

#[test]
fn a_wrong_root_does_not_look_like_success() {
    let root = TestRoot::new();
    std::fs::remove_file(root.path(INDEX)).unwrap();
    let _ = root.run(&["backup", "list"]).ok().says("srv/backups/backups.json does not exist");
    let ran = root.json(&["backup", "verify", "--all"]);
    let _ = ran.error(3, "abssctl::cli::no_index", &["srv/backups/backups.json"]);
}

#[test]
fn a_name_that_nothing_has_is_told_with_the_nearest() {
    let root = TestRoot::new();
    for args in [
        vec!["backup", "list", "--instance", "budgte"],
        vec!["plan", "restore", "--instance", "budgte", "--latest"],
        vec!["plan", "restore", "--instance", "budgte", "--at", "2026-11-24"],
    ] {
        let error = root.json(&args).error(2, "abssctl::registry::unknown_instance", &["budgte"]);
        assert!(error["help"].as_str().unwrap().contains("did you mean 'budget'?"), "{error:#}");
    }
    // An instance without backups is known all the same.
    root.edit_index(|index| index["backups"].as_array_mut().unwrap().clear());
    let _ = root.json(&["backup", "list", "--instance", "budget"]).ok();
}

#[test]
fn an_unusable_backup_names_what_looks_again() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    root.edit_entry(ZSTD, |entry| entry["status"] = "corrupt".into());
    let verify = format!("abssctl backup verify {ZSTD}");
    let error = root.json(&["plan", "restore", ZSTD]).error(2, "abssctl::planner::unusable", &["corrupt"]);
    assert!(error["help"].as_str().unwrap().contains(&verify), "{error:#}");
    let refused = root.apply(&plan).refused(3, &["backup-unusable"]);
    assert!(refused["problems"][0]["help"].as_str().unwrap().contains(&verify), "{refused:#}");
}

#[test]
fn budgets_that_drifted_are_named() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    root.sql(
        format!("{LIVE}/data/server-files/account.sqlite"),
        "DELETE FROM files WHERE name = 'Holiday'; UPDATE files SET group_id = 'other' WHERE name = 'Household'",
    );
    let refused = root.apply(&plan).json();
    let messages: Vec<&str> = refused["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["message"].as_str().unwrap())
        .collect();
    let has = |start: &str, end: &str| {
        messages.iter().any(|message| message.starts_with(start) && message.ends_with(end))
    };
    assert!(has("budget 'Holiday' (", ") is gone"), "{messages:?}");
    assert!(has("budget 'Household' (", "its sync was reset"), "{messages:?}");
}

#[test]
fn a_command_line_that_lacks_something_names_all_ways() {
    let root = TestRoot::new();
    for args in [vec!["plan", "restore"], vec!["plan", "restore", "--instance", "budget"]] {
        let error = root.json(&args).error(2, "abssctl::cli::usage", &["no backup was named"]);
        let help = error["help"].as_str().unwrap();
        for word in ["BACKUP_ID", "--instance", "--latest", "--at TIME"] {
            assert!(help.contains(word), "{help}");
        }
    }
    for option in ["--expires", "--retain"] {
        let _ = root.run(&["plan", "restore", ZSTD, option, "-5d"]).code(2).says("-5d").says("30m");
    }
    let _ = root.run(&["run", "prune", "--older-than", "-1d"]).code(2).says("30m");
}

#[test]
fn only_a_clear_word_answers_every_question() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let before = root.tree();
    let with = |value: &str| {
        Ran::of(root.command(&["apply", plan.to_str().unwrap()]).env("ABSSCTL_ASSUME_YES", value))
    };
    for value in ["maybe", "y es", "2"] {
        let _ = with(value).code(2).says("ABSSCTL_ASSUME_YES is 1, true or yes");
    }
    for value in ["", "0", "no", "False"] {
        let _ = with(value).code(2).says("nobody can be asked");
    }
    before.assert_same(&root.tree(), "no clear yes");
    let _ = with("Yes").ok();
}

#[test]
fn comments_by_hand_are_dropped_and_that_is_said() {
    let root = TestRoot::new();
    let path = root.work("plan.yaml");
    let _ = root.plan_to(&[ZSTD], &path).ok();
    let refresh = || root.run(&["plan", "refresh", path.to_str().unwrap()]).ok();
    let said = |ran: &Ran| ran.stderr.contains("written into the plan by hand are dropped");
    assert!(!said(&refresh()), "our own comments are no comments by hand");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("spec:\n", "spec:\n  # agreed with Ben\n")).unwrap();
    assert!(said(&refresh()));
    assert!(!said(&refresh()));
}

#[test]
fn runs_are_listed_with_their_targets() {
    let root = TestRoot::new();
    let _ = root.restore(&[ZSTD, "--dest", "/srv/copy"]);
    let listed = root.run(&["run", "list"]).ok().stdout;
    assert!(listed.contains("TARGET") && listed.contains("/srv/copy"), "{listed}");
}

#[test]
fn pruning_looks_first() {
    let root = TestRoot::new();
    let prune = |args: &[&str]| root.run(&[&["run", "prune", "--older-than", "0s"], args].concat());
    // Nothing is there to decide, so that nobody is asked.
    let ran = prune(&[]).ok();
    assert_eq!(ran.stdout, "nothing to remove\n");

    let first = root.restore(&[ZSTD]);
    let second = root.restore(&[ZSTD, "--drift", "exact"]);
    let gone = first["preBackup"].as_str().unwrap();
    root.edit_index(|index| {
        index["backups"].as_array_mut().unwrap().retain(|entry| entry["id"] != gone);
    });
    let before = root.tree();
    let listed = prune(&["--dry-run"]).ok().stdout;
    let line = |run: &serde_json::Value| {
        let run = run["run"].as_str().unwrap();
        listed.lines().find(|line| line.starts_with(run)).unwrap_or_else(|| panic!("{listed}"))
    };
    assert!(line(&first).ends_with("its pre-backup is gone"), "{listed}");
    assert!(line(&second).ends_with(second["displaced"].as_str().unwrap()), "{listed}");
    assert!(line(&first).contains("KiB") || line(&first).contains("MiB"), "{listed}");
    let object = root.json(&["run", "prune", "--older-than", "0s", "--dry-run"]).ok().json();
    assert_eq!(object["wouldRemove"].as_array().unwrap().len(), 2);
    let last: Vec<bool> = object["wouldRemove"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["lastCopy"].as_bool().unwrap())
        .collect();
    assert_eq!(last, [true, false], "{object:#}");
    let _ = prune(&[]).code(2).says("nobody can be asked").says("its pre-backup is gone");
    before.assert_same(&root.tree(), "a look");
    let _ = prune(&["--yes"]).ok();
    root.assert_no_private();
    assert_eq!(prune(&[]).ok().stdout, "nothing to remove\n");
}
