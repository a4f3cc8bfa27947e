//! Plan files as people and machines spoil them: each is refused before anything is looked at, with the
//! place in the file, and nothing is changed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::root::ZSTD;
use crate::support::tools::skip_unless;
use crate::support::{Ran, TestRoot};

/// A root and a plan as YAML.
fn planned() -> (TestRoot, String) {
    let root = TestRoot::new();
    let path = root.work("plan.yaml");
    let _ = root.plan_to(&[ZSTD], &path).ok();
    let text = std::fs::read_to_string(path).unwrap();
    (root, text)
}

fn write(root: &TestRoot, text: impl AsRef<[u8]>) -> PathBuf {
    let path = root.work("spoilt.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Every command that reads a plan refuses it: this code, the place, these words.
#[track_caller]
fn refused(root: &TestRoot, text: impl AsRef<[u8]>, code: &str, line: Option<usize>, words: &[&str]) {
    let path = write(root, text);
    let file = path.to_str().unwrap();
    let before = root.tree();
    for command in [
        vec!["plan", "validate", file],
        vec!["plan", "show", file],
        vec!["plan", "check", file],
        vec!["apply", file, "--yes"],
        vec!["apply", file, "--dry-run"],
    ] {
        let ran = root.json(&command);
        let object = ran.error(2, "abssctl::plan::invalid", &["spoilt.yaml"]);
        let problems = object["problems"].as_array().unwrap();
        let problem = problems.iter().find(|problem| problem["code"] == code);
        let problem = problem.unwrap_or_else(|| panic!("no {code}: {object:#}"));
        for word in words {
            assert!(problem["message"].as_str().unwrap().contains(word), "lacks '{word}': {problem:#}");
        }
        assert!(problem["help"].is_string(), "{problem:#}");
        if let Some(line) = line {
            assert_eq!(problem["line"], line, "{problem:#}");
            assert!(problem["column"].as_u64().unwrap() > 0);
            let place = format!("spoilt.yaml:{line}:");
            assert!(ran.stderr.contains(&place), "{}", ran.stderr);
        }
    }
    before.assert_same(&root.tree(), code);
}

/// The line (from 1) on which a text stands.
fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).unwrap() + 1
}

#[test]
fn an_unknown_field_is_named_with_its_place() {
    let (root, text) = planned();
    let spoilt = text.replacen("  clients: merge\n", "  clients: merge\n  colour: red\n", 1);
    let line = line_of(&spoilt, "colour");
    refused(&root, &spoilt, "abssctl::plan::unknown_field", Some(line), &["colour"]);
    // Deep inside a step.
    let spoilt = text.replacen("method: exchange", "run: rm\n      method: exchange", 1);
    assert_ne!(spoilt, text);
    let line = line_of(&spoilt, "run: rm");
    refused(&root, &spoilt, "abssctl::plan::unknown_field", Some(line), &["run"]);
    let json = root.work("plan.json");
    let _ = root.plan_to(&[ZSTD], &json).ok();
    let text = std::fs::read_to_string(json).unwrap();
    let spoilt = text.replacen("\"instance\"", "\"colour\": 1,\n\"instance\"", 1);
    let line = line_of(&spoilt, "colour");
    refused(&root, &spoilt, "abssctl::plan::unknown_field", Some(line), &["colour"]);
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let (root, text) = planned();
    let spoilt = text.replacen("  clients: merge\n", "  clients: merge\n  clients: reset\n", 1);
    refused(
        &root,
        &spoilt,
        "abssctl::plan::duplicate_key",
        Some(line_of(&spoilt, "clients: reset")),
        &["clients"],
    );
    let json = root.work("plan.json");
    let _ = root.plan_to(&[ZSTD], &json).ok();
    let text = std::fs::read_to_string(json).unwrap();
    let spoilt =
        text.replacen("\"sessions\": \"keep\"", "\"sessions\": \"keep\",\n\"sessions\": \"revoke\"", 1);
    refused(&root, &spoilt, "abssctl::plan::duplicate_key", Some(line_of(&spoilt, "revoke")), &["sessions"]);
}

#[test]
fn aliases_and_merge_keys_are_refused() {
    let (root, text) = planned();
    let anchor = text.replacen("  clients: merge\n", "  clients: &a merge\n", 1).replacen(
        "  sessions: keep\n",
        "  sessions: *a\n",
        1,
    );
    assert_ne!(anchor, text);
    let path = write(&root, &anchor);
    let object = root.json(&["plan", "validate", path.to_str().unwrap()]);
    let object = object.error(2, "abssctl::plan::invalid", &[]);
    let codes = object["problems"].to_string();
    assert!(codes.contains("alias") || codes.contains("anchor"), "{object:#}");
    // A few lines that would be gigabytes.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let row = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb += &format!("a{n}: &a{n} [{row}]\n");
    }
    let path = write(&root, &bomb);
    let _ = root.json(&["apply", path.to_str().unwrap(), "--yes"]).error(2, "abssctl::plan::invalid", &[]);
    let merge = text.replace("  service:\n", "  <<: {x: 1}\n  service:\n");
    let path = write(&root, &merge);
    let _ = root.json(&["plan", "validate", path.to_str().unwrap()]).error(2, "abssctl::plan::invalid", &[]);
}

#[test]
fn a_wrong_type_deep_inside_a_step_has_its_line() {
    let (root, text) = planned();
    let spoilt = text.replace("maxEntries: 18", "maxEntries: many");
    assert_ne!(spoilt, text);
    let path = write(&root, &spoilt);
    let ran = root.json(&["plan", "validate", path.to_str().unwrap()]);
    let object = ran.error(2, "abssctl::plan::invalid", &[]);
    let line = line_of(&spoilt, "maxEntries: many");
    let problems = object["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["line"] == line), "{object:#}");
    assert!(ran.stderr.contains("maxEntries: many"), "the line itself is shown: {}", ran.stderr);
}

#[test]
fn all_problems_come_at_once() {
    let (root, text) = planned();
    let spoilt = text
        .replacen("  clients: merge\n", "  clients: perhaps\n", 1)
        .replacen("  sessions: keep\n", "  sessions: 7\n", 1)
        .replacen("  drift: structure\n", "  drift: []\n", 1);
    let path = write(&root, &spoilt);
    let object =
        root.json(&["plan", "validate", path.to_str().unwrap()]).error(2, "abssctl::plan::invalid", &[]);
    let lines: Vec<&Value> =
        object["problems"].as_array().unwrap().iter().map(|problem| &problem["line"]).collect();
    for part in ["clients: perhaps", "sessions: 7", "drift: []"] {
        let line = Value::from(line_of(&spoilt, part));
        assert!(lines.contains(&&line), "{part} on {line}: {object:#}");
    }
}

#[test]
fn steps_that_break_a_rule_are_refused() {
    let (root, text) = planned();
    let json = root.work("plan.json");
    let _ = root.plan_to(&[ZSTD], &json).ok();
    let good: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let mut cycle = good.clone();
    cycle["steps"][0]["needs"] = serde_json::json!(["cleanup"]);
    let mut missing = good.clone();
    drop(missing["steps"].as_array_mut().unwrap().remove(2));
    let mut unknown = good.clone();
    unknown["steps"][4]["kind"] = "shell".into();
    let mut dangling = good.clone();
    dangling["steps"][4]["needs"] = serde_json::json!(["nobody"]);
    for (what, plan, word) in [
        ("cycle", cycle, "graph::acyclic"),
        ("missing", missing, "verify"),
        ("unknown", unknown, "shell"),
        ("dangling", dangling, "nobody"),
    ] {
        let path = write(&root, serde_json::to_vec_pretty(&plan).unwrap());
        let before = root.tree();
        let object = root.json(&["apply", path.to_str().unwrap(), "--yes"]);
        let object = object.error(2, "abssctl::plan::invalid", &[]);
        assert!(object["problems"].to_string().contains(word), "{what}: {object:#}");
        before.assert_same(&root.tree(), what);
    }
    drop(text);
}

/// Where each entry of a YAML list below `preview` begins and ends, as lines.
fn entries(text: &str, list: &str) -> Vec<std::ops::Range<usize>> {
    let lines: Vec<&str> = text.lines().collect();
    let head = lines.iter().position(|line| *line == format!("  {list}:")).unwrap();
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, line) in lines.iter().enumerate().skip(head + 1) {
        if line.starts_with("    - ") {
            found.push(at..at + 1);
        } else if line.starts_with("      ") {
            found.last_mut().unwrap().end = at + 1;
        } else {
            break;
        }
    }
    found
}

#[test]
fn no_warning_can_be_taken_out_or_reworded() {
    let mut codes = std::collections::BTreeSet::new();
    for wish in [&["--no-pre-backup", "--drift", "ignore"][..], &["--clients", "reset"]] {
        let root = TestRoot::new();
        // The login of the backup has ended since.
        root.sql("srv/budget/data/server-files/account.sqlite", "DELETE FROM sessions");
        let path = root.work("plan.yaml");
        let _ = root.plan_to(&[&[ZSTD], wish].concat(), &path).ok();
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let warnings = entries(&text, "warnings");
        assert!(warnings.len() > 2, "{text}");
        for (at, entry) in warnings.iter().enumerate() {
            let code = lines[entry.start].trim_start_matches("    - code: ");
            codes.insert(code.to_owned());
            let mut without = lines.clone();
            drop(without.drain(entry.clone()));
            let without = without.join("\n") + "\n";
            let line = line_of(&without, "  warnings:");
            let words = &["is missing", code];
            refused(&root, &without, "abssctl::plan::graph::warnings", Some(line), words);
            let mut calm = lines.clone();
            let hint =
                lines[entry.start + 1].split_once(": ").unwrap().0.to_owned() + ": nothing to see here";
            calm.splice(entry.start + 1..entry.end, [hint.as_str()]);
            let calm = calm.join("\n") + "\n";
            let line = warnings[at].start + 1;
            refused(&root, &calm, "abssctl::plan::graph::warnings", Some(line), &[code]);
        }
        let mut none = lines.clone();
        drop(none.drain(warnings[0].start - 1..warnings[warnings.len() - 1].end));
        let none = none.join("\n") + "\n";
        refused(&root, &none, "abssctl::plan::graph::warnings", None, &["is missing"]);
        let path = write(&root, &none);
        let object = root.json(&["plan", "validate", path.to_str().unwrap()]).code(2).json();
        let help = object["problems"][0]["help"].as_str().unwrap();
        assert!(help.contains("abssctl plan refresh"), "{help}");
        // The way out: what must be said is written again.
        let _ = root.run(&["plan", "refresh", path.to_str().unwrap()]).ok();
        let _ = root.run(&["plan", "validate", path.to_str().unwrap()]).ok();
    }
    let known =
        ["budget-gone", "clients-merge", "clients-reset", "drift-ignore", "no-pre-backup", "sessions-return"];
    assert_eq!(codes.iter().map(String::as_str).collect::<Vec<_>>(), known);
}

#[test]
fn no_check_and_no_budget_can_be_taken_out() {
    let (root, text) = planned();
    let lines: Vec<&str> = text.lines().collect();
    for (list, code) in
        [("checks", "abssctl::plan::graph::checks"), ("budgets", "abssctl::plan::graph::preview")]
    {
        for entry in entries(&text, list) {
            let mut without = lines.clone();
            drop(without.drain(entry));
            refused(&root, without.join("\n") + "\n", code, None, &[]);
        }
    }
}

#[test]
fn a_preview_that_lies_is_refused_by_the_machine() {
    let root = TestRoot::new();
    root.write("srv/budget/data/config.json", "{ \"port\": 6000 }\n");
    let path = root.plan(&[ZSTD]);
    let good: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    // What follows from the lie is brought up to date, so that only the machine can tell.
    let consistent = |plan: Value| {
        let plan: abssctl::plan::model::Plan = serde_json::from_value(plan).unwrap();
        serde_json::to_value(abssctl::plan::testing::with_steps(plan)).unwrap()
    };
    let lie = |edit: &dyn Fn(&mut Value)| {
        let mut plan = good.clone();
        edit(&mut plan);
        consistent(plan)
    };
    let count = |plan: &mut Value, budget: &str, count: u64| {
        let budgets = plan["preview"]["budgets"].as_array_mut().unwrap();
        budgets.iter_mut().find(|one| one["name"] == budget).unwrap()["changesNewer"] = count.into();
    };
    let before = root.tree();
    for (what, plan, place) in [
        ("no newer changes", lie(&|plan| count(plan, "Household", 0)), "preview.budgets"),
        (
            "a harmless name",
            lie(&|plan| plan["preview"]["budgets"][0]["name"] = "Test".into()),
            "preview.budgets",
        ),
        ("no logins", lie(&|plan| drop_logins(plan)), "preview.rows"),
        (
            "no files",
            lie(&|plan| plan["preview"]["files"]["removed"] = serde_json::json!({ "count": 0, "bytes": 0 })),
            "preview.files.removed",
        ),
        (
            "no members",
            lie(&|plan| plan["observed"]["backup"]["entries"] = 1_u64.into()),
            "observed.backup.entries",
        ),
        (
            "a manifest",
            lie(&|plan| plan["observed"]["backup"]["manifest"] = true.into()),
            "observed.backup.manifest",
        ),
        ("no diff", lie(&|plan| plan["preview"]["diffs"] = serde_json::json!([])), "preview.diffs"),
    ] {
        let path = write(&root, serde_json::to_vec_pretty(&plan).unwrap());
        let file = path.to_str().unwrap();
        let _ = root.json(&["plan", "validate", file]).ok();
        for command in
            [&["plan", "check", file][..], &["apply", file, "--yes"], &["apply", file, "--dry-run"]]
        {
            let ran = root.json(command).code(2);
            let problems = ran.json()["problems"].to_string();
            assert!(problems.contains("preview-untrue") && problems.contains(place), "{what}: {problems}");
            let told = root.run(command).code(2);
            // Without the blanks and frames that lines are broken with.
            let told: String =
                (told.stdout + &told.stderr).chars().filter(|c| !c.is_whitespace() && *c != '│').collect();
            assert!(told.contains(place) && told.contains("theplansays"), "{what}: {told}");
        }
    }
    before.assert_same(&root.tree(), "plans that lie");
}

fn drop_logins(plan: &mut Value) {
    let rows = plan["preview"]["rows"].as_array_mut().unwrap();
    rows.iter_mut().find(|row| row["table"] == "sessions").unwrap()["backup"] = 0_u64.into();
}

#[test]
fn a_preview_is_compared_as_far_as_newer_data_allows() {
    let root = TestRoot::new();
    let path = root.plan(&[ZSTD]);
    let account = "srv/budget/data/server-files/account.sqlite";
    root.sql(account, "INSERT INTO sessions (token, expires_at) VALUES ('t', 1)");
    // Newer data is no lie.
    let _ = root.json(&["plan", "check", path.to_str().unwrap()]).ok();
    let mut plan: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    drop_logins(&mut plan);
    let plan: abssctl::plan::model::Plan = serde_json::from_value(plan).unwrap();
    let lie = write(&root, serde_json::to_vec(&abssctl::plan::testing::with_steps(plan)).unwrap());
    let problems =
        root.json(&["plan", "check", lie.to_str().unwrap()]).code(2).json()["problems"].to_string();
    assert!(problems.contains("preview.rows"), "{problems}");
}

#[test]
fn what_is_no_plan_at_all() {
    let (root, text) = planned();
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("a word", b"hello".to_vec()),
        ("a list", b"- 1\n- 2\n".to_vec()),
        ("broken", b"spec: [\n".to_vec()),
        ("not UTF-8", vec![0xff, 0xfe, 0, 1]),
        ("NUL bytes", vec![0; 100]),
        ("two documents", format!("{text}---\n{text}").into_bytes()),
        ("another version", text.replace("abssctl/v1", "abssctl/v2").into_bytes()),
        ("another kind", text.replace("kind: RestorePlan", "kind: DeletePlan").into_bytes()),
        ("too large", format!("{text}# {}\n", "x".repeat(5 << 20)).into_bytes()),
        ("too deep", "[".repeat(100_000).into_bytes()),
        ("too deep JSON", format!("{{\"spec\": {}}}", "[".repeat(100_000)).into_bytes()),
    ] {
        let path = write(&root, &bytes);
        let before = root.tree();
        for command in [["plan", "validate"], ["plan", "show"], ["apply", "--yes"]] {
            let mut all = command.to_vec();
            all.push(path.to_str().unwrap());
            let ran = root.json(&all);
            assert_eq!(ran.code, 2, "{what}: {}{}", ran.stdout, ran.stderr);
            assert_eq!(ran.json()["code"], "abssctl::plan::invalid", "{what}");
        }
        before.assert_same(&root.tree(), what);
    }
    let gone = root.json(&["apply", "/no/such/plan.yaml", "--yes"]);
    let _ = gone.error(2, "abssctl::cli::no_plan_file", &["/no/such/plan.yaml"]);
}

#[test]
fn reformatting_a_plan_keeps_its_digest_and_it_applies() {
    let (root, text) = planned();
    let yaml = write(&root, &text);
    let digest = |path: &std::path::Path| {
        root.json(&["plan", "validate", path.to_str().unwrap()]).ok().json()["digest"].clone()
    };
    let json = root.work("same.json");
    let shown = root.run(&["plan", "show", yaml.to_str().unwrap(), "--format", "json"]).ok().stdout;
    let compact: Value = serde_json::from_str(&shown).unwrap();
    std::fs::write(&json, compact.to_string()).unwrap();
    assert_eq!(digest(&yaml), digest(&json));
    let back = root.work("back.yaml");
    let shown = root.run(&["plan", "show", json.to_str().unwrap(), "--format", "yaml"]).ok().stdout;
    std::fs::write(&back, format!("# reviewed by Ann\n{shown}")).unwrap();
    assert_eq!(digest(&yaml), digest(&back));
    let canonical = root.run(&["plan", "show", yaml.to_str().unwrap(), "--format", "canonical"]).ok().stdout;
    let expected = format!("sha256:{}", abssctl::ids::Sha256::of(canonical.as_bytes()));
    assert_eq!(digest(&yaml), expected.as_str());
    let _ = root.apply(&back).ok();
    root.assert_generation("gen-a.sha256");
    assert_eq!(root.apply(&json).ok().json()["outcome"], "already_applied", "it is one plan");
}

#[test]
fn a_plan_comes_from_standard_input_too() {
    let (root, text) = planned();
    let path = write(&root, &text);
    let mut command = root.command(&["apply", "-", "--yes", "--json"]);
    let output = command.stdin(Stdio::from(std::fs::File::open(path).unwrap())).output().unwrap();
    assert_eq!(Ran::from(output).ok().json()["outcome"], "applied");
}

#[test]
fn a_yaml_1_1_reader_reads_the_same_plan() {
    let test = "a_yaml_1_1_reader_reads_the_same_plan";
    let python = std::env::var("ABSSCTL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let can = Command::new(&python).args(["-c", "import yaml"]).output().is_ok_and(|o| o.status.success());
    if skip_unless(test, can, "no Python with PyYAML") {
        return;
    }
    let (root, text) = planned();
    let path = write(&root, &text);
    let code = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let read = Ran::of(Command::new(&python).args(["-c", code]).arg(&path)).ok().json();
    let shown = root.json(&["plan", "show", path.to_str().unwrap()]).ok().json();
    assert_eq!(read, shown["plan"]);
}
