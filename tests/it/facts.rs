//! Plans made elsewhere: facts hold all that a plan needs and no secret, the plan is the one that the
//! machine itself would write, nothing of the other machine is read, and whatever facts say is checked.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::root::{GZIP, LIVE, REGISTRY, ZSTD};
use crate::support::tools::{is_root, skip_unless};
use crate::support::{Ran, TestRoot, strace};

const ACCOUNT: &str = "srv/budget/data/server-files/account.sqlite";

/// Collects facts; `args` follow `facts`.
fn facts(root: &TestRoot, args: &[&str]) -> Value {
    root.run(&[&["facts"], args].concat()).ok().json()
}

/// The program on a machine that has nothing of this instance: no root, no configuration, and where the
/// tests run as root, another user. Facts come through standard input.
fn elsewhere(root: &TestRoot, facts: &Value, args: &[&str]) -> Command {
    let path = root.work("facts.json");
    std::fs::write(&path, facts.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_abssctl"));
    command.env_clear().env("NO_COLOR", "1").args(args).current_dir("/");
    command.stdin(Stdio::from(std::fs::File::open(path).unwrap()));
    command
}

/// Plans elsewhere; gives the plan.
fn plan_elsewhere(root: &TestRoot, facts: &Value, args: &[&str]) -> Ran {
    let mut command =
        elsewhere(root, facts, &[&["plan", "restore", "--facts", "-", "--json"], args].concat());
    command.output().unwrap().into()
}

/// Makes a backup of ours.
fn ours(root: &TestRoot) -> String {
    root.json(&["backup", "create", "budget"]).ok().json()["id"].as_str().unwrap().to_owned()
}

/// A plan without what two plans of one machine differ in, and without what facts cannot show.
fn comparable(mut plan: Value) -> Value {
    let id = plan["metadata"]["id"].as_str().unwrap().to_owned();
    for field in ["id", "createdAt", "expiresAt", "createdBy"] {
        plan["metadata"][field] = Value::Null;
    }
    let budgets: Vec<String> = plan["observed"]["backup"]["budgets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|budget| budget["id"].as_str().unwrap().to_owned())
        .collect();
    let checks = plan["preview"]["checks"].as_array_mut().unwrap();
    checks.retain(|check| !["target-in-use", "ownership", "diffs"].contains(&check["id"].as_str().unwrap()));
    drop(plan["preview"].as_object_mut().unwrap().remove("diffs"));
    let mut text = plan.to_string();
    for budget in budgets {
        text = text.replace(&abssctl::plan::step::new_group_id(&id.parse().unwrap(), &budget), "NEW");
    }
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_plan_made_elsewhere_is_the_one_that_the_machine_writes() {
    let root = TestRoot::new();
    root.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
    root.write("etc/abssctl/restore.yml", "planExpires: 3d\nretain: 9d\nonFailure: halt\n");
    root.write("srv/budget/data/config.json", "{ \"port\": 6000 }\n");
    let ours = ours(&root);
    let facts = facts(&root, &["--backup", ZSTD, "--backup", &ours, "--dest", "/srv/copy"]);
    for wish in [
        vec![ZSTD],
        vec![&ours],
        vec![ZSTD, "--clients", "reset", "--sessions", "revoke", "--reason", "a bad import"],
        vec![ZSTD, "--pre-backup", "online", "--backup-message", "before"],
        vec![ZSTD, "--no-pre-backup", "--drift", "ignore", "--replay", "allowed", "--retain", "2d"],
        vec![ZSTD, "--dest", "/srv/copy"],
        vec![&ours, "--dest", "/srv/copy", "--expires", "1h"],
        vec!["--instance", "budget", "--latest"],
        vec!["--instance", "budget", "--at", "2026-11-24T02:26:32Z"],
    ] {
        let there = plan_elsewhere(&root, &facts, &wish).ok().json()["plan"].clone();
        let here = root.json(&[&["plan", "restore"], &wish[..]].concat()).ok().json()["plan"].clone();
        let unseen: Vec<&str> = there["preview"]["checks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|check| check["verdict"] == "not-checked")
            .map(|check| check["id"].as_str().unwrap())
            .collect();
        assert!(["target-in-use", "ownership", "diffs"].iter().all(|id| unseen.contains(id)), "{unseen:?}");
        assert_eq!(there["preview"].get("diffs"), None);
        assert_eq!(comparable(there), comparable(here), "{wish:?}");
    }
}

#[test]
fn it_applies_on_the_machine_and_everything_is_checked_there() {
    for drift in ["structure", "exact"] {
        let root = TestRoot::new();
        let facts = facts(&root, &["--backup", ZSTD]);
        let made = plan_elsewhere(&root, &facts, &[ZSTD, "--clients", "reset", "--drift", drift]).ok();
        let path = root.work("plan.json");
        std::fs::write(&path, made.json()["plan"].to_string()).unwrap();
        let file = path.to_str().unwrap();
        let _ = root.json(&["plan", "check", file]).ok();
        // The machine goes on: what may not differ is refused as for any other plan.
        root.write("srv/budget/data/note.txt", "new");
        let _ = root
            .apply(&path)
            .refused(5, if drift == "exact" { &["file-new", "target-content"] } else { &["file-new"] });
        std::fs::remove_file(root.path("srv/budget/data/note.txt")).unwrap();
        let result = root.apply(&path).ok().json();
        assert_eq!(result["outcome"], "applied");
        assert!(result["preBackup"].is_string(), "{result:#}");
    }
}

#[test]
fn nothing_of_the_other_machine_is_read() {
    let test = "nothing_of_the_other_machine_is_read";
    if skip_unless(test, strace::works(), "strace cannot trace here") {
        return;
    }
    let root = TestRoot::new();
    let facts = facts(&root, &["--backup", ZSTD]);
    let first = plan_elsewhere(&root, &facts, &[ZSTD]).ok().json()["plan"].clone();
    let plan = root.work("first.json");
    std::fs::write(&plan, first.to_string()).unwrap();
    for args in [
        &["plan", "restore", ZSTD, "--facts", "-"][..],
        &["plan", "refresh", plan.to_str().unwrap(), "--facts", "-", "-o", "-"],
    ] {
        let log = root.work("strace.log");
        let command = elsewhere(&root, &facts, args);
        let options = ["-y", "-s", "4096", "-o", log.to_str().unwrap(), "-e", "trace=%file"];
        let mut traced = strace::wrap(&command, &options);
        traced.current_dir("/").stdin(Stdio::from(std::fs::File::open(root.work("facts.json")).unwrap()));
        let ran = Ran::from(traced.output().unwrap()).ok();
        assert!(ran.stdout.contains("RestorePlan"), "{}", ran.stdout);
        // What every program reads: itself, the loader's cache and libraries, the kernel's word on itself.
        let usual = ["/etc/ld.so", "/lib", "/usr/lib", "/proc/self/", "/sys/fs/cgroup", "/dev/null"];
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("execve("), "{text}");
        for line in text.lines().filter(|line| !line.contains("execve(") && line.contains('"')) {
            let path = line.split('"').nth(1).unwrap();
            // Of a handle that is open already, named without a path.
            if path.is_empty() {
                continue;
            }
            let known = usual.iter().any(|usual| path.starts_with(usual)) || Path::new(path) == plan;
            assert!(known, "{line}");
        }
    }
}

#[test]
fn another_user_without_any_rights_can_plan() {
    let test = "another_user_without_any_rights_can_plan";
    if skip_unless(test, is_root(), "only root can become another user") {
        return;
    }
    let root = TestRoot::new();
    let facts = facts(&root, &["--backup", ZSTD]);
    let program = root.work("abssctl");
    let _ = std::fs::copy(env!("CARGO_BIN_EXE_abssctl"), &program).unwrap();
    for path in [program.as_path(), &root.work("")] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = root.work("facts.json");
    std::fs::write(&path, facts.to_string()).unwrap();
    let mut command = Command::new(program);
    command.env_clear().args(["plan", "restore", ZSTD, "--facts", "-", "--json"]).current_dir("/");
    command.uid(65534).gid(65534).stdin(Stdio::from(std::fs::File::open(path).unwrap()));
    let there = Ran::from(command.output().unwrap()).ok().json()["plan"].clone();
    let here = root.json(&["plan", "restore", ZSTD]).ok().json()["plan"].clone();
    assert_eq!(comparable(there), comparable(here));
}

#[test]
fn refresh_looks_at_facts_too() {
    let root = TestRoot::new();
    let old = facts(&root, &["--backup", ZSTD]);
    let mut plan = plan_elsewhere(&root, &old, &[ZSTD, "--reason", "why"]).ok().json()["plan"].clone();
    plan["spec"]["sessions"] = "revoke".into();
    let path = root.work("plan.json");
    std::fs::write(&path, plan.to_string()).unwrap();
    root.write("srv/budget/data/note.txt", "new");
    let new = facts(&root, &["--backup", ZSTD]);
    let file = path.to_str().unwrap();
    let mut command = elsewhere(&root, &new, &["plan", "refresh", file, "--facts", "-"]);
    let _ = Ran::from(command.output().unwrap()).ok();
    let fresh: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_ne!(fresh["metadata"]["id"], plan["metadata"]["id"]);
    assert_eq!(fresh["metadata"]["reason"], "why");
    assert!(fresh["observed"]["target"]["files"].to_string().contains("data/note.txt"));
    assert_eq!(root.apply(&path).ok().json()["outcome"], "applied");
}

#[test]
fn facts_of_an_unchanged_machine_differ_in_their_time_only() {
    let root = TestRoot::new();
    let ours = ours(&root);
    let collect = || {
        let mut facts = facts(&root, &[]);
        facts["collectedAt"] = Value::Null;
        facts.to_string()
    };
    let before = root.tree();
    let first = collect();
    assert_eq!(first, collect());
    before.assert_same(&root.tree(), "collecting facts");
    let facts: Value = serde_json::from_str(&first).unwrap();
    let backups = facts["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 5);
    for backup in backups {
        // Ours begins with a manifest; the peer's would have to be read to the end.
        let is_ours = backup["source"]["backupId"] == ours.as_str();
        assert_eq!(backup["contents"].is_object(), is_ours, "{backup:#}");
        assert_eq!(backup["notRead"].is_string(), !is_ours, "{backup:#}");
    }
}

#[test]
fn what_facts_lack_is_told_with_the_command_that_collects_it() {
    let root = TestRoot::new();
    let quick = facts(&root, &[]);
    let one = facts(&root, &["--backup", ZSTD]);
    for (facts, args, what, command) in [
        (&quick, vec![ZSTD], "no manifest", format!("abssctl facts --backup {ZSTD}")),
        (&one, vec![GZIP], "do not tell of backup", format!("abssctl facts --backup {GZIP}")),
        (&one, vec![ZSTD, "--dest", "/srv/copy"], "/srv/copy", "--dest /srv/copy".to_owned()),
    ] {
        let error = plan_elsewhere(&root, facts, &args).error(2, "abssctl::planner::facts", &[what]);
        assert!(error["help"].as_str().unwrap().contains(&command), "{error:#}");
    }
    for (args, code) in [
        (vec![ZSTD, "--instance", "other"], "abssctl::planner::other_instance"),
        (vec!["--instance", "other", "--latest"], "abssctl::planner::no_backup"),
        (vec![ZSTD, "--dest", "/srv/budget"], "abssctl::planner::target"),
        (vec![ZSTD, "--with-assets"], "abssctl::planner::wish"),
    ] {
        let _ = plan_elsewhere(&root, &one, &args).error(2, code, &[]);
    }
    // What is asked for by name and cannot be had is an error, and no gap in the document.
    for (args, code) in [
        (vec!["--backup", "20200101-000000-budget-000000"], "abssctl::index::unknown_backup"),
        (vec!["--instance", "other"], "abssctl::registry::unknown_instance"),
        (vec!["--dest", "/srv/backups"], "abssctl::planner::target"),
        (vec!["--dest", "here"], "abssctl::planner::path"),
    ] {
        let _ = root.json(&[&["facts"], &args[..]].concat()).error(2, code, &[]);
    }
    root.edit_entry(ZSTD, |entry| entry["status"] = "corrupt".into());
    let _ = root.json(&["facts", "--backup", ZSTD]).error(2, "abssctl::planner::unusable", &[]);
    let listed = facts(&root, &[]);
    let _ = plan_elsewhere(&root, &listed, &[ZSTD]).error(2, "abssctl::planner::unusable", &["corrupt"]);
    // An archive that is not there costs nobody the facts about the others.
    std::fs::remove_file(root.path(format!("srv/backups/budget/{GZIP}.tar.gz"))).unwrap();
    let listed = facts(&root, &[]);
    let of =
        |id: &str| listed["backups"].as_array().unwrap().iter().find(|one| one["source"]["backupId"] == id);
    assert!(of(GZIP).unwrap()["notRead"].is_string());
}

#[test]
fn an_instance_that_cannot_be_looked_at_does_not_hide_the_others() {
    let root = TestRoot::new();
    std::fs::rename(root.path(LIVE), root.path("srv/away")).unwrap();
    std::os::unix::fs::symlink("away", root.path(LIVE)).unwrap();
    let facts = facts(&root, &["--backup", ZSTD]);
    let instance = &facts["instances"][0];
    assert_eq!(instance["targets"], json!([]));
    assert!(instance["notSeen"].as_str().unwrap().contains("symbolic link"), "{instance:#}");
    let _ = plan_elsewhere(&root, &facts, &[ZSTD]).error(2, "abssctl::planner::facts", &["symbolic link"]);
}

#[test]
fn facts_are_read_strictly() {
    let root = TestRoot::new();
    let good = facts(&root, &["--backup", ZSTD]);
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut facts = good.clone();
        edit(&mut facts);
        facts.to_string()
    };
    let twice = |list: &str| {
        edited(&|facts| {
            let list = facts[list].as_array_mut().unwrap();
            list.push(list[0].clone());
        })
    };
    let text = good.to_string();
    for (what, text, code) in [
        ("an unknown field", edited(&|facts| facts["colour"] = "red".into()), "unknown_field"),
        ("another kind", text.replace("\"Facts\"", "\"RestorePlan\""), "kind"),
        ("another version", text.replace("abssctl/v1", "abssctl/v2"), "api_version"),
        ("a wrong type", edited(&|facts| facts["backups"][0]["contents"]["entries"] = "9".into()), "schema"),
        (
            "a number too large",
            edited(&|facts| facts["instances"][0]["targets"][0]["bytes"] = (1_u64 << 60).into()),
            "schema",
        ),
        (
            "a path with dots",
            edited(&|facts| facts["instances"][0]["directory"] = "/srv/../etc".into()),
            "value",
        ),
        ("two instances of a name", twice("instances"), "twice"),
        ("two backups of an id", twice("backups"), "twice"),
        ("a key twice", text.replacen('{', "{\"kind\":\"Facts\",", 1), "duplicate_key"),
        ("nothing", String::new(), "empty"),
        ("too large", text.clone() + &" ".repeat(17 << 20), "too_large"),
        ("too deep", "[".repeat(100_000), "syntax"),
        ("a bomb", "a: &a [x]\nb: [*a, *a]\n".to_owned(), "alias"),
    ] {
        let path = root.work("hostile.json");
        std::fs::write(&path, text).unwrap();
        let ran = root.json(&["plan", "restore", ZSTD, "--facts", path.to_str().unwrap()]);
        let object = ran.error(2, "abssctl::facts::invalid", &["hostile.json"]);
        let problems = object["problems"].to_string();
        assert!(problems.contains(&format!("abssctl::facts::{code}\"")), "{what}: {object:#}");
    }
    let _ = root.json(&["plan", "restore", ZSTD, "--facts", "/no/such.json"]).error(
        2,
        "abssctl::cli::no_facts_file",
        &["such.json"],
    );
}

/// What a lie is about, and the lie.
type Edit<'e> = (&'e str, &'e dyn Fn(&mut Value));

#[test]
fn facts_that_lie_make_plans_that_the_machine_refuses() {
    let root = TestRoot::new();
    root.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let good = facts(&root, &["--backup", ZSTD]);
    let before = root.tree();
    let edits: [Edit<'_>; 9] = [
        ("another directory", &|facts| {
            facts["instances"][0]["directory"] = "/etc".into();
            facts["instances"][0]["targets"][0]["directory"] = "/etc".into();
            facts["backups"][0]["contents"]["changes"][0]["directory"] = "/etc".into();
        }),
        ("another machine", &|facts| facts["machine"] = "0".repeat(64).into()),
        ("another digest", &|facts| facts["backups"][0]["source"]["sha256"] = "0".repeat(64).into()),
        ("another archive", &|facts| {
            facts["backups"][0]["source"]["path"] = "/srv/backups/budget/x.tar.zst".into();
        }),
        ("room for more", &|facts| facts["backups"][0]["contents"]["unpackedBytes"] = (1_u64 << 40).into()),
        ("no losses", &|facts| {
            facts["backups"][0]["contents"]["changes"][0]["budgets"][1]["changesNewer"] = 0_u64.into();
        }),
        ("other files", &|facts| {
            facts["backups"][0]["contents"]["changes"][0]["files"]["unchanged"] = 99_u64.into();
        }),
        ("a data directory", &|facts| facts["instances"][0]["registry"]["dataDirectory"] = "other".into()),
        ("another registry entry", &|facts| {
            facts["instances"][0]["registry"]["registryEntry"] = "0".repeat(64).into();
        }),
    ];
    for (what, edit) in edits {
        let mut facts = good.clone();
        edit(&mut facts);
        let made = plan_elsewhere(&root, &facts, &[ZSTD]);
        if made.code != 0 {
            // What breaks a rule is no plan at all.
            let _ = made.error(2, "abssctl::planner::rules", &[]);
            continue;
        }
        let path = root.work("plan.json");
        std::fs::write(&path, made.json()["plan"].to_string()).unwrap();
        let ran = root.apply(&path);
        assert!([2, 3, 5].contains(&ran.code), "{what}: {}", ran.stdout);
    }
    before.assert_same(&root.tree(), "facts that lie");
}

#[test]
fn no_secret_is_in_the_facts() {
    let root = TestRoot::new();
    root.write(
        "srv/budget/data/config.json",
        r#"{"port": 5007, "openId": {"client_secret": "CANARY-config"}, "note": "CANARY-note"}"#,
    );
    for (path, text) in [
        ("etc/systemd/system/abssctl-budget.service", "[Service]\nEnvironment=TOKEN=CANARY-unit\n"),
        ("etc/nginx/sites-available/abssctl-budget.conf", "proxy_set_header Authorization CANARY-vhost;\n"),
    ] {
        std::fs::create_dir_all(root.path(path).parent().unwrap()).unwrap();
        root.write(path, text);
    }
    root.sql(
        ACCOUNT,
        "UPDATE auth SET extra_data = 'CANARY-auth', display_name = 'CANARY-display';
         INSERT INTO secrets VALUES ('gocardless_secretId', 'CANARY-secret');
         INSERT INTO sessions (token, expires_at, user_id, auth_method) VALUES ('CANARY-token', 1, 'CANARY-user-id', 'CANARY-method');
         INSERT INTO pending_openid_requests VALUES ('CANARY-state', 'CANARY-verifier', 'CANARY-url', 1);
         UPDATE users SET user_name = 'ann', display_name = 'CANARY-person';
         UPDATE files SET encrypt_meta = 'CANARY-meta', encrypt_keyid = 'CANARY-key', encrypt_salt = 'CANARY-salt',
                encrypt_test = 'CANARY-test', owner = 'CANARY-owner'",
    );
    // A backup that holds them too, and a registry and an index that do.
    let ours = ours(&root);
    let registry = root.read(REGISTRY).replace("status: enabled", "status: CANARY-status");
    root.write(REGISTRY, registry);
    root.edit_entry(&ours, |entry| {
        entry["message"] = "CANARY-message".into();
        entry["created_by"] = json!({ "type": "user", "name": "CANARY-actor" });
        entry["metadata"]["labels"] = json!(["CANARY-label"]);
    });
    std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
    root.write("etc/abssctl/restore.yml", "allowedSigners: /etc/CANARY-signers\n");
    let facts = facts(&root, &["--backup", &ours, "--backup", ZSTD]).to_string();
    assert!(facts.contains("\"encrypted\":true") && facts.contains("Household"), "{facts}");
    assert!(!facts.contains("CANARY"), "{facts}");
    // Nor its bytes in another form.
    for hidden in ["Q0FOQVJZ", "43414e415259"] {
        assert!(!facts.contains(hidden), "{facts}");
    }
    let quick = root.run(&["facts"]).ok();
    assert!(!(quick.stdout + &quick.stderr).contains("CANARY"));
}

#[test]
fn facts_are_written_over_nothing_but_facts() {
    let root = TestRoot::new();
    let path = root.work("facts.json");
    let file = path.to_str().unwrap();
    let _ = root.run(&["facts", "-o", file]).ok().says("written to");
    let _ = root.run(&["facts", "-o", file]).ok();
    let plan = root.plan(&[ZSTD]);
    for other in [plan.to_str().unwrap(), root.path("etc/abssctl/config.yml").to_str().unwrap()] {
        let _ =
            root.json(&["facts", "-o", other]).error(2, "abssctl::cli::usage", &["is no document of facts"]);
    }
    let ran = root.json(&["plan", "restore", ZSTD, "-o", file]);
    let _ = ran.error(2, "abssctl::cli::usage", &["is no plan"]);
}
