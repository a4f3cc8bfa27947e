//! Plans are shown and compared without the machine, in every format and with the exit codes that
//! scripts rely on.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::TestRoot;
use crate::support::root::{GZIP, ZSTD};

fn plan(root: &TestRoot, name: &str, args: &[&str]) -> PathBuf {
    let path = root.work(name);
    let _ = root.plan_to(args, &path).ok();
    path
}

/// The paths of one group of changes.
fn paths<'v>(found: &'v Value, group: &str) -> Vec<&'v str> {
    let changes = found[group].as_array().unwrap();
    changes.iter().map(|change| change["path"].as_str().unwrap()).collect()
}

#[test]
fn every_format_is_shown_without_the_machine() {
    let root = TestRoot::new();
    let path = plan(&root, "plan.yaml", &[ZSTD, "--no-pre-backup", "--drift", "ignore"]);
    let file = path.to_str().unwrap();
    // The machine is gone: what is shown comes from the plan alone.
    std::fs::remove_dir_all(root.path("srv")).unwrap();
    for (format, first, has) in [
        ("text", "Restore backup", "! drift: ignore."),
        ("markdown", "## Restore backup `", "> [!CAUTION]\n> **drift: ignore."),
        ("html", "<!DOCTYPE html>", "class=\"alarm danger\""),
        ("mermaid", "flowchart TD", "drift#58; ignore."),
        ("dot", "digraph plan {", "drift: ignore."),
        ("json", "{", "\"drift\": \"ignore\""),
        ("yaml", "", "drift: ignore"),
        ("canonical", "{", "\"drift\":\"ignore\""),
    ] {
        let shown = root.run(&["plan", "show", file, "--format", format]).ok();
        assert!(shown.stdout.starts_with(first) && shown.stdout.contains(has), "{format}: {}", shown.stdout);
        assert_eq!(shown.stderr, "", "{format}");
    }
}

#[test]
fn an_expired_plan_is_shown_and_says_so() {
    let root = TestRoot::new();
    let path = plan(&root, "plan.json", &[ZSTD]);
    let mut document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    document["metadata"]["createdAt"] = "2020-01-01T00:00:00Z".into();
    document["metadata"]["expiresAt"] = "2020-01-02T00:00:00Z".into();
    std::fs::write(&path, document.to_string()).unwrap();
    for format in ["text", "markdown", "html"] {
        let shown = root.run(&["plan", "show", path.to_str().unwrap(), "--format", format]).ok();
        assert!(shown.stdout.contains("EXPIRED"), "{format}: {}", shown.stdout);
    }
}

#[test]
fn a_plan_made_again_means_the_same() {
    let root = TestRoot::new();
    let first = plan(&root, "first.yaml", &[ZSTD, "--clients", "reset"]);
    let second = plan(&root, "second.json", &[ZSTD, "--clients", "reset", "--reason", "again"]);
    let (a, b) = (first.to_str().unwrap(), second.to_str().unwrap());
    let found = root.json(&["plan", "diff", a, b, "--detailed-exitcode"]).ok().json();
    assert_eq!(found["same"], true, "{found:#}");
    assert_ne!(found["before"]["digest"], found["after"]["digest"]);
    assert!(paths(&found, "document").contains(&"metadata.id"));
    assert!(paths(&found, "document").contains(&"metadata.reason"));
    let shown = root.run(&["plan", "diff", a, b]).ok();
    assert!(shown.stdout.starts_with("no difference in meaning"), "{}", shown.stdout);
}

/// A plan's text without what two plans of one machine differ in: id and times, and the sync groups
/// that are made from the id.
fn masked(text: &str, plan: &Value) -> String {
    let metadata = &plan["metadata"];
    let mut masked = text.to_owned();
    let mut mask = |value: &str, name: &str| {
        assert!(masked.contains(value), "{name} is in the text");
        // The first: a backup that was made in the same second has a time of that name too.
        masked = masked.replacen(value, name, 1);
    };
    for field in ["id", "createdAt", "expiresAt"] {
        let value = metadata[field].as_str().unwrap();
        let quoted = if text.starts_with('{') { format!("\"{field}\": ") } else { format!("{field}: ") };
        mask(&format!("{quoted}\"{value}\""), field);
    }
    if plan["spec"]["clients"] == "reset" {
        let id = metadata["id"].as_str().unwrap().parse().unwrap();
        for budget in plan["observed"]["backup"]["budgets"].as_array().unwrap() {
            let group = abssctl::plan::step::new_group_id(&id, budget["id"].as_str().unwrap());
            assert!(masked.contains(&group), "{masked}");
            // YAML quotes one that begins with a digit, and not one that begins with a letter.
            masked = masked.replace(&format!("\"{group}\""), "NEW").replace(&group, "NEW");
        }
    }
    masked
}

#[test]
fn two_plans_of_an_unchanged_machine_differ_in_id_and_times_only() {
    let root = TestRoot::new();
    root.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let ours = made["id"].as_str().unwrap().to_owned();
    let wishes = [
        vec![ZSTD],
        vec![ZSTD, "--dest", "/srv/copy"],
        vec![ZSTD, "--clients", "reset", "--sessions", "revoke"],
        vec![ZSTD, "--pre-backup", "online", "--reason", "why not"],
        vec!["--instance", "budget", "--latest", "--no-pre-backup", "--drift", "ignore"],
        vec![&ours, "--clients", "reset"],
    ];
    for wish in &wishes {
        for format in ["yaml", "json"] {
            let one = || {
                let args = [&["plan", "restore", "--format", format][..], wish].concat();
                root.run(&args).ok().stdout
            };
            let (first, second) = (one(), one());
            assert_ne!(first, second, "the ids differ");
            let value = |text: &str| -> Value { serde_yaml::from_str(text).unwrap() };
            let (a, b) = (masked(&first, &value(&first)), masked(&second, &value(&second)));
            assert!(a == b, "{wish:?} {format}:\n{a}\n{b}");
        }
    }
}

#[test]
fn wish_and_world_are_told_apart() {
    let root = TestRoot::new();
    let first = plan(&root, "first.yaml", &[ZSTD]);
    root.write("srv/budget/data/config.json", "{ \"port\": 6000 }\n");
    let world = plan(&root, "world.yaml", &[ZSTD]);
    let wish = plan(&root, "wish.yaml", &[ZSTD, "--sessions", "revoke"]);
    let [first, world, wish] = [&first, &world, &wish].map(|path| path.to_str().unwrap());

    let found = root.json(&["plan", "diff", first, world, "--detailed-exitcode"]).code(20).json();
    assert_eq!(paths(&found, "wish"), <[&str; 0]>::default());
    assert!(paths(&found, "world").contains(&"observed.target.files[data/config.json].digest"), "{found:#}");
    assert!(paths(&found, "follows").iter().any(|path| path.starts_with("preview.diffs")), "{found:#}");
    assert_eq!(found["exitCode"], 20);

    let found = root.json(&["plan", "diff", world, wish]).ok().json();
    assert_eq!(paths(&found, "wish"), ["spec.sessions"]);
    assert_eq!(paths(&found, "world"), <[&str; 0]>::default());
    assert!(paths(&found, "follows").contains(&"steps[prepare].with.sessions"));
    let shown = root.run(&["plan", "diff", world, wish, "--detailed-exitcode"]).code(20);
    assert!(
        shown.stdout.contains("The wish changed\n  ~ spec.sessions: keep → revoke\n"),
        "{}",
        shown.stdout
    );
}

#[test]
fn another_backup_is_a_wish_and_not_another_world() {
    let root = TestRoot::new();
    let (first, second) = (plan(&root, "first.yaml", &[ZSTD]), plan(&root, "second.yaml", &[GZIP]));
    let found = root.json(&["plan", "diff", first.to_str().unwrap(), second.to_str().unwrap()]).ok().json();
    assert!(paths(&found, "wish").contains(&"spec.source.backupId"), "{found:#}");
    assert!(paths(&found, "follows").contains(&"spec.source.sha256"), "{found:#}");
    assert_eq!(paths(&found, "world"), <[&str; 0]>::default(), "{found:#}");
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_reason() {
    let root = TestRoot::new();
    let path = plan(&root, "plan.yaml", &[ZSTD]);
    let file = path.to_str().unwrap();
    let _ = root.json(&["plan", "diff", "-", "-"]).error(2, "abssctl::cli::usage", &["standard input"]);
    let _ = root.json(&["plan", "diff", file, "/nowhere.yaml"]).error(
        2,
        "abssctl::cli::no_plan_file",
        &["nowhere"],
    );
}
