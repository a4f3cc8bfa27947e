//! The rules of `restore.yml`: each limit is kept by `apply` and told by `plan check` and early; a rule for
//! other instances does not bite, a broken file is not the same as none, and a run that began ends.
//! Rules about people are in `tests/approvals/rules.rs`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::root::{DATA_ONLY, ZSTD};
use crate::support::tools::skip_unless;
use crate::support::{Ran, TestRoot, strace};

const ALWAYS: &str = "{from: 2000-01-01T00:00, until: 2999-01-01T00:00, zone: Europe/Berlin, why: year end}";
const OVER: &str = "{from: 2000-01-01T00:00, until: 2001-01-01T00:00, zone: Europe/Berlin}";

fn root(policy: &str) -> TestRoot {
    let root = TestRoot::new();
    std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
    root.write("etc/abssctl/restore.yml", policy);
    root
}

fn rule(limit: &str) -> String {
    format!("rules:\n  - name: production\n    instances: ['bud*']\n    {limit}\n")
}

/// Proves that apply, with and without `--dry-run`, refuses the plan for this reason and writes nothing.
#[track_caller]
fn refused(root: &TestRoot, plan: &std::path::Path, exit: i32, code: &str) -> Value {
    let before = root.tree();
    let plan = plan.to_str().unwrap();
    let object = root.json(&["apply", plan, "--yes"]).refused(exit, &[code]);
    let _ = root.json(&["apply", plan, "--dry-run"]).code(exit);
    let check = root.json(&["plan", "check", plan]).code(exit).json();
    assert_eq!(check["problems"][0]["code"], code, "{check:#}");
    assert_eq!(check["policy"]["decision"], "refused");
    let finding = &check["policy"]["findings"][0];
    assert_eq!((&finding["code"], &finding["rule"]), (&json!(code), &json!("production")));
    let text = root.run(&["plan", "check", plan]).code(exit).stdout;
    assert!(text.contains("policy /etc/abssctl/restore.yml, rule production: refused"), "{text}");
    assert!(text.contains("rule 'production'"), "{text}");
    before.assert_same(&root.tree(), "a refused plan writes nothing");
    object
}

/// Changes a plan file by hand, as whoever may write it can.
fn edit(plan: &std::path::Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(plan).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(plan, value.to_string()).unwrap();
}

fn ago(time: SignedDuration) -> String {
    Timestamp::from_second((Timestamp::now() - time).as_second()).unwrap().to_string()
}

#[test]
fn each_setting_is_kept_to() {
    // The limit, its code, options that break it, options that keep to it.
    for (limit, code, breaks, keeps) in [
        ("clients: [reset]", "policy-clients", &["--clients", "merge"][..], &["--clients", "reset"][..]),
        ("sessions: [revoke]", "policy-sessions", &["--sessions", "keep"], &["--sessions", "revoke"]),
        ("preBackup: [quiesced]", "policy-pre-backup", &["--no-pre-backup"], &[]),
        ("preBackup: [online, none]", "policy-pre-backup", &[], &["--pre-backup", "online"]),
        ("drift: [structure, exact]", "policy-drift", &["--drift", "ignore"], &["--drift", "exact"]),
        ("replay: [once]", "policy-replay", &["--replay", "allowed"], &[]),
        ("assets: [full]", "policy-assets", &[], &["--replay", "once"]),
        ("onFailure: [rollback]", "policy-on-failure", &["--on-failure", "halt"], &[]),
    ] {
        let root = root(&rule(limit));
        let plan = root.work("plan.json");
        let made = root.plan_to(&[&[ZSTD], breaks].concat(), &plan).ok();
        let _ = made.says("the policy would refuse it: spec.").says("rule 'production' allows");
        let object = refused(&root, &plan, 2, code);
        assert!(object["help"].as_str().unwrap().contains("plan refresh"), "{object:#}");
        let before = root.tree();
        let once = [&["backup", "restore", ZSTD, "--yes"], breaks].concat();
        let _ = root.json(&once).refused(2, &[code]);
        before.assert_same(&root.tree(), limit);
        if code == "policy-assets" {
            // No service manager is controlled yet, so that nothing keeps to this one.
            continue;
        }
        let made = root.plan_to(&[&[ZSTD], keeps].concat(), &plan).ok();
        assert!(!made.stderr.contains("policy"), "{}", made.stderr);
        let text = root.run(&["plan", "check", plan.to_str().unwrap()]).ok().stdout;
        assert!(text.contains("policy /etc/abssctl/restore.yml, rule production: allowed"), "{text}");
        assert_eq!(root.apply(&plan).ok().json()["outcome"], "applied", "{limit}");
    }
}

#[test]
fn what_is_refused_is_said_before_anybody_is_asked() {
    let root = root(&rule("clients: [reset]"));
    // Nobody can be asked here: a question would end with another code.
    let _ = root.json(&["backup", "restore", ZSTD]).refused(2, &["policy-clients"]);
    let plan = root.plan(&[ZSTD]);
    let _ = root.json(&["apply", plan.to_str().unwrap()]).refused(2, &["policy-clients"]);
    let shown = root.run(&["backup", "restore", ZSTD, "--dry-run"]).ok();
    let _ = shown.says("the policy would refuse it: spec.clients is merge");
    let refreshed = root.run(&["plan", "refresh", plan.to_str().unwrap()]).ok();
    let _ = refreshed.says("the policy would refuse it: spec.clients is merge");
}

#[test]
fn a_plan_may_be_so_old() {
    for (limit, exit) in [("9d", 5), ("11d", 0)] {
        let root = root(&rule(&format!("planMaxAge: {limit}")));
        let plan = root.plan(&[ZSTD]);
        edit(&plan, |plan| plan["metadata"]["createdAt"] = json!(ago(SignedDuration::from_hours(240))));
        if exit == 5 {
            let object = refused(&root, &plan, 5, "policy-plan-age");
            assert!(object["help"].as_str().unwrap().contains("plan refresh"), "{object:#}");
            let _ = root.run(&["plan", "refresh", plan.to_str().unwrap()]).ok();
        }
        assert_eq!(root.apply(&plan).ok().json()["outcome"], "applied");
    }
    let root = root(&rule("planMaxAge: 3d"));
    let made = root.plan_to(&[ZSTD], &root.work("plan.json")).ok();
    let _ = made.says("rule 'production' takes it until").says("before it expires at");
    let made = root.plan_to(&[ZSTD, "--expires", "3d"], &root.work("plan.json")).ok();
    assert!(!made.stderr.contains("takes it until"), "{}", made.stderr);
}

#[test]
fn nothing_is_restored_in_a_freeze() {
    let root = root(&rule(&format!("freeze: [{ALWAYS}]")));
    let plan = root.work("plan.json");
    let _ = root.plan_to(&[ZSTD], &plan).ok().says("the policy would refuse it: rule 'production'");
    let object = refused(&root, &plan, 3, "policy-freeze");
    let message = object["message"].as_str().unwrap();
    let words = "2000-01-01T00:00 to 2999-01-01T00:00 Europe/Berlin (year end); possible again from 2999-01-01T00:00 \
         Europe/Berlin (2998-12-31T23:00:00Z)";
    assert!(message.contains(words), "{message}");
    let _ = root.json(&["backup", "restore", ZSTD, "--yes"]).refused(3, &["policy-freeze"]);
    // Looking, and making a backup, is no restore.
    let _ = root.json(&["backup", "create", "budget"]).ok();
    root.write("etc/abssctl/restore.yml", rule("freeze: [{from: 00:00, until: 24:00, zone: UTC}]"));
    let _ = refused(&root, &plan, 3, "policy-freeze");
    // What the environment calls Europe/Berlin does not matter: there it is a zone without an offset.
    root.write("etc/abssctl/restore.yml", rule(&format!("freeze: [{ALWAYS}]")));
    std::fs::create_dir_all(root.work("zones/Europe")).unwrap();
    let counts = [0, 0, 0, 0, 1, 4_u32].map(u32::to_be_bytes).concat();
    let zone = [&b"TZif"[..], &[0; 16], &counts, &[0; 6], b"UTC\0"].concat();
    std::fs::write(root.work("zones/Europe/Berlin"), zone).unwrap();
    let mut command = root.command(&["apply", plan.to_str().unwrap(), "--yes", "--json"]);
    let _ = command.env("TZDIR", root.work("zones")).env("TZ", "Europe/Berlin");
    let object = Ran::of(&mut command).refused(3, &["policy-freeze"]);
    assert!(object["message"].as_str().unwrap().contains(words), "{object:#}");
    root.write("etc/abssctl/restore.yml", rule(&format!("freeze: [{OVER}]")));
    assert_eq!(root.apply(&plan).ok().json()["outcome"], "applied");
}

#[test]
fn all_rules_for_an_instance_hold_and_no_others() {
    let strict = "
rules:
  - {name: clients, clients: [reset]}
  - {name: sessions, instances: [budge?], sessions: [revoke]}
  - {name: upper, instances: ['Budget', 'BUD*'], replay: [allowed]}
  - {name: longer, instances: ['budget-*', 'budget?', 'udget'], replay: [allowed]}
  - {name: others, instances: ['*', '!budget'], replay: [allowed]}
";
    let root = root(strict);
    let plan = root.plan(&[ZSTD]);
    let check = root.json(&["plan", "check", plan.to_str().unwrap()]).code(2).json();
    assert_eq!(check["policy"]["rules"], json!(["clients", "sessions"]));
    let _ = root.apply(&plan).refused(2, &["policy-clients", "policy-sessions"]);
    let plan = root.plan(&[ZSTD, "--clients", "reset"]);
    let _ = root.apply(&plan).refused(2, &["policy-sessions"]);
    let plan = root.plan(&[ZSTD, "--clients", "reset", "--sessions", "revoke"]);
    let result = root.apply(&plan).ok().json();
    let run = result["run"].as_str().unwrap();
    let policy = root.json(&["run", "show", run]).ok().json()["policy"].clone();
    let bytes = std::fs::read(root.path("etc/abssctl/restore.yml")).unwrap();
    let expected = json!({
        "source": { "path": "/etc/abssctl/restore.yml", "sha256": abssctl::ids::Sha256::of(&bytes) },
        "rules": ["clients", "sessions"],
        "requiredApprovals": 0,
        "approvers": [],
        "decision": "allowed",
    });
    assert_eq!(policy, expected);
    let text = root.run(&["run", "show", run]).ok().stdout;
    assert!(text.contains("/etc/abssctl/restore.yml, rules clients, sessions: allowed"), "{text}");
    let logged = root.log().last().unwrap()["args"]["policy"].clone();
    let expected =
        json!({ "rules": ["clients", "sessions"], "decision": "allowed", "required_approvals": 0 });
    assert_eq!(logged, expected);
}

#[test]
fn without_a_file_nothing_is_required_and_that_is_kept_too() {
    let root = TestRoot::new();
    let plan = root.plan(&[DATA_ONLY]);
    let text = root.run(&["plan", "check", plan.to_str().unwrap()]).ok().stdout;
    assert!(!text.contains("policy"), "{text}");
    let run = root.apply(&plan).ok().json()["run"].as_str().unwrap().to_owned();
    let policy = root.json(&["run", "show", &run]).ok().json()["policy"].clone();
    let expected = json!({ "rules": [], "requiredApprovals": 0, "approvers": [], "decision": "allowed" });
    assert_eq!(policy, expected);
}

/// A journal of a program that knew no rules is read, and its run can be shown.
#[test]
fn a_journal_without_a_verdict_is_read() {
    let root = TestRoot::new();
    let run = root.restore(&[ZSTD])["run"].as_str().unwrap().to_owned();
    let path = format!("var/lib/abssctl/runs/{run}/journal.jsonl");
    let mut before: Option<abssctl::ids::Sha256> = None;
    let mut text = String::new();
    for line in root.read(&path).lines() {
        let mut record: Value = serde_json::from_str(line).unwrap();
        if let Some(started) = record["event"].get_mut("runStarted") {
            assert!(started.as_object_mut().unwrap().shift_remove("policy").is_some());
        }
        if let Some(digest) = before {
            record["prev"] = json!(digest);
        }
        let line = record.to_string();
        before = Some(abssctl::ids::Sha256::of(line.as_bytes()));
        text += &(line + "\n");
    }
    root.write(&path, text);
    let shown = root.json(&["run", "show", &run]).ok().json();
    assert_eq!((&shown["outcome"], &shown["policy"]), (&json!("applied"), &Value::Null), "{shown:#}");
}

#[test]
fn a_broken_policy_is_not_the_same_as_none() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
    for (policy, words) in [
        ("rules: [{name: production, requireApproval: 1}]", &["rules[0] ('production').requireApproval"][..]),
        ("rules: [{name: production, clients: []}]", &["rules[0] ('production').clients", "empty"]),
        ("rules: [{name: production, clients: }]", &["rules[0] ('production').clients", "no value"]),
        ("rules: [{name: production, clients: [both]}]", &["rules[0] ('production').clients[0]", "both"]),
        (
            "rules: [{name: a, replay: [once]}, {name: b, instances: ['p d'], replay: [once]}]",
            &["rules[1] ('b').instances", "fits no name"],
        ),
        (
            "rules: [{name: production, freeze: [{from: 08:00, until: 18:00, zone: Mars/Base}]}]",
            &["rules[0] ('production').freeze[0]", "zone: 'Mars/Base' is no time zone"],
        ),
        ("rules: [{name: production}]", &["rules", "'production' limits nothing"]),
        ("rules: [{replay: [once]}]", &["rules[0]", "missing field `name`"]),
        ("rules: []", &["rules", "empty"]),
        ("rules:", &["rules"]),
        ("rules: {production: {replay: [once]}}", &["rules"]),
        ("rule: [{name: production, replay: [once]}]", &["rule", "unknown field"]),
        ("requireApprovals: 1\nrequireApprovals: 0\n", &["requireApprovals"]),
        ("requireApprovals:\n", &["requireApprovals"]),
        ("rules: [", &["line"]),
        ("nothing", &["mapping"]),
    ] {
        root.write("etc/abssctl/restore.yml", policy);
        let before = root.tree();
        let error = root.apply(&plan).error(2, "abssctl::config::syntax", &["restore.yml"]);
        let message = error["message"].as_str().unwrap();
        for word in words {
            assert!(message.contains(word), "{policy}: {message}");
        }
        let _ = root.json(&["plan", "check", plan.to_str().unwrap()]).code(2);
        let _ = root.json(&["backup", "restore", ZSTD, "--yes"]).code(2);
        before.assert_same(&root.tree(), policy);
    }
    // Nor is one that is there and cannot be had.
    std::fs::remove_file(root.path("etc/abssctl/restore.yml")).unwrap();
    std::os::unix::fs::symlink("/srv/gone.yml", root.path("etc/abssctl/restore.yml")).unwrap();
    let _ = root.apply(&plan).error(2, "abssctl::config::missing", &["restore.yml"]);
    std::fs::remove_file(root.path("etc/abssctl/restore.yml")).unwrap();
    std::fs::create_dir(root.path("etc/abssctl/restore.yml")).unwrap();
    let _ = root.apply(&plan).error(2, "abssctl::config::io", &["restore.yml"]);
    std::fs::remove_dir(root.path("etc/abssctl/restore.yml")).unwrap();
    assert_eq!(root.apply(&plan).ok().json()["outcome"], "applied");
}

#[test]
fn config_show_lists_the_rules() {
    let limits = format!("requireApprovals: 2\n    approvers: ['*@ops']\n    freeze: [{OVER}, {ALWAYS}]");
    let root = root(&rule(&limits));
    let settings = root.json(&["config", "show"]).ok().json()["settings"].clone();
    let value = |key: &str| {
        let found = settings.as_array().unwrap().iter().find(|setting| setting["key"] == key);
        let found = found.unwrap_or_else(|| panic!("no {key}: {settings:#}"));
        assert_eq!(found["origin"], "file /etc/abssctl/restore.yml");
        found["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(value("restore.rules.production.instances"), "[\"bud*\"]");
    assert_eq!(value("restore.rules.production.requireApprovals"), "2");
    assert_eq!(value("restore.rules.production.approvers"), "[\"*@ops\"]");
    let freeze = "2000-01-01T00:00 to 2999-01-01T00:00 Europe/Berlin (year end)";
    assert_eq!(value("restore.rules.production.freeze.1"), freeze);
    assert!(root.run(&["config", "show"]).ok().stdout.contains(freeze));
}

/// Killed after the exchange, then a freeze begins and rules come that the plan breaks: it ends all the same.
/// Killed before it, the run is undone all the same, and the plan does not begin anew.
#[test]
fn a_run_that_began_ends_inside_a_freeze() {
    let test = "a_run_that_began_ends_inside_a_freeze";
    if skip_unless(test, strace::works(), "strace cannot trace here") {
        return;
    }
    for swapped in [true, false] {
        let root = root("");
        let plan = root.plan(&[ZSTD]);
        let before = root.tree_but_records().without(&["etc/abssctl"]);
        let command = root.command(&["apply", plan.to_str().unwrap(), "--yes"]);
        let displaced = root.path("srv/.abssctl/displaced");
        // At the second rename, which moves the old tree away, or in the middle of unpacking.
        let options = if swapped {
            vec!["-P", displaced.to_str().unwrap(), "-e", "inject=renameat2:signal=KILL:when=1"]
        } else {
            vec!["-e", "inject=syncfs:signal=KILL:when=1"]
        };
        let killed = strace::run(&command, &[&["-o", "/dev/null"], &options[..]].concat());
        assert_ne!(killed.code, 0);
        root.write("etc/abssctl/restore.yml", rule(&format!("freeze: [{ALWAYS}]\n    clients: [reset]")));
        if swapped {
            assert_eq!(root.apply(&plan).ok().json()["outcome"], "applied");
            root.assert_generation("gen-a.sha256");
        } else {
            let _ = root.apply(&plan).refused(2, &["policy-clients", "policy-freeze"]);
            assert_eq!(root.runs()[0]["outcome"], "rolled_back");
            root.assert_generation("gen-b.sha256");
            before.assert_same(&root.tree_but_records().without(&["etc/abssctl"]), "it is undone");
        }
    }
}
