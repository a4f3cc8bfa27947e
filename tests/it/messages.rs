//! What people are told where things go wrong or nothing is to do: names instead of ids, the place that
//! was looked at, the next thing to type; and no question without something to decide.

use crate::support::root::{INDEX, LIVE, ZSTD};
use crate::support::tools::tool;
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
    assert!(first.contains(&"clients-merge".to_owned()), "{first:?}");
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

/// What a person reads line by line: nothing in it may look like a line of ours, or steer the terminal.
#[track_caller]
fn tame(ran: &Ran, forged: &str) {
    for text in [&ran.stdout, &ran.stderr] {
        assert!(!text.lines().any(|line| line.starts_with(forged)), "a forged line: {text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn the_name_of_a_budget_begins_no_line() {
    let root = TestRoot::new();
    let forged = "✓ approved by anna@example.org";
    root.sql(
        "srv/budget/data/server-files/account.sqlite",
        &format!("UPDATE files SET name = 'x' || char(10) || '{forged}' || char(27) || '[31m'"),
    );
    let plan = root.work("plan.yaml");
    let path = plan.to_str().unwrap();
    for args in [
        &["plan", "restore", ZSTD, "-o", path] as &[&str],
        &["plan", "show", path],
        &["plan", "check", path],
        &["plan", "refresh", path],
        &["plan", "show", path, "--format", "yaml"],
        &["plan", "show", path, "--format", "json"],
        &["plan", "restore", ZSTD, "--format", "json"],
        &["backup", "restore", ZSTD, "--dry-run"],
        &["apply", path, "--yes"],
    ] {
        tame(&root.run(args).ok(), forged);
    }
}

#[test]
fn the_name_of_a_plan_file_steers_nothing() {
    let root = TestRoot::new();
    let good = root.plan(&[ZSTD]);
    let text = std::fs::read_to_string(&good).unwrap();
    let name = "b\u{1b}]0;PWNED\u{7}\n::warning title=hi::pwn\u{202e}.json";
    let (bad, also_good) = (root.work(name), root.work(&format!("good {name}")));
    std::fs::write(&bad, text.replace("\"clients\": \"merge\"", "\"clients\": \"reset\"")).unwrap();
    std::fs::write(&also_good, text).unwrap();
    for (file, code) in [(&bad, 2), (&also_good, 0)] {
        for command in [&["plan", "validate"] as &[&str], &["plan", "check"], &["plan", "show"]] {
            let ran = root.run(&[command, &[file.to_str().unwrap()]].concat()).code(code);
            tame(&ran, "::warning");
        }
    }
    // Of two plans, the help is about the one that is wrong.
    let plain = root.work("bad.json");
    std::fs::rename(&bad, &plain).unwrap();
    let ran = root.run(&["plan", "diff", good.to_str().unwrap(), plain.to_str().unwrap()]).code(2);
    assert!(ran.stderr.contains("refresh") && ran.stderr.contains("bad.json"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("plan.json"), "{}", ran.stderr);
}

#[test]
fn only_the_word_file_stands_for_the_plan() {
    let root = TestRoot::new();
    let directory = root.work("FILES");
    std::fs::create_dir(&directory).unwrap();
    let plan = directory.join("a.json");
    std::fs::write(&plan, "{}").unwrap();
    let ran = root.run(&["plan", "validate", plan.to_str().unwrap()]).code(2);
    assert!(ran.stderr.contains(&format!("plan {} is not valid", plan.display())), "{}", ran.stderr);
}

#[test]
fn a_restore_in_one_go_that_lacks_approvals_names_the_way_there_is() {
    let root = TestRoot::new();
    std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
    root.write("etc/abssctl/restore.yml", "requireApprovals: 1\n");
    let object = root.json(&["backup", "restore", ZSTD, "--yes"]).code(6).json();
    let help = object["help"].as_str().unwrap();
    assert!(help.contains("abssctl plan restore") && !help.contains("FILE"), "{help}");
}

#[test]
fn refreshing_a_signed_plan_speaks_of_no_comments() {
    let root = TestRoot::new();
    let plan = root.work("plan.yaml");
    let _ = root.plan_to(&[ZSTD], &plan).ok();
    let key = root.work("key");
    let _ = tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
    let (path, key) = (plan.to_str().unwrap(), key.to_str().unwrap());
    let _ = root.run(&["plan", "approve", path, "--key", key, "--principal", "anna", "--yes"]).ok();
    let ran = root.run(&["plan", "refresh", path]).ok();
    assert!(ran.stderr.contains("1 approval was given"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("by hand"), "{}", ran.stderr);
}

#[test]
fn changes_that_cannot_be_counted_are_no_changes_that_are_not_there() {
    let root = TestRoot::new();
    let group = root.path(LIVE).join("data/user-files/group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite");
    let mut bytes = std::fs::read(&group).unwrap();
    bytes[4096..45_056].fill(0xa5);
    std::fs::write(&group, bytes).unwrap();
    assert!(warnings(&root, &[ZSTD]).contains(&"clients-uncounted".to_owned()));
    assert!(!warnings(&root, &[ZSTD, "--clients", "reset"]).contains(&"clients-uncounted".to_owned()));
    let ran = root.run(&["backup", "restore", ZSTD, "--yes", "--no-pre-backup"]).ok();
    assert!(ran.stderr.contains("newer changes that could not be counted come back"), "{}", ran.stderr);
}
