//! Rules of `restore.yml` about people: how many must approve, whose approval counts, and for how long.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::policy::Team;
use crate::support::root::{Running, ZSTD};
use crate::support::tools::{have, skip_unless, wait_for};

fn edit(team: &Team, change: impl FnOnce(&mut Value)) {
    let mut plan: Value = serde_json::from_slice(&std::fs::read(&team.plan).unwrap()).unwrap();
    change(&mut plan);
    std::fs::write(&team.plan, plan.to_string()).unwrap();
}

fn ago(hours: i64) -> String {
    let time = Timestamp::now() - SignedDuration::from_hours(hours);
    Timestamp::from_second(time.as_second()).unwrap().to_string()
}

fn detached(team: &Team, number: usize, principal: &str) {
    let key = team.keys[number].text();
    let args =
        ["plan", "approve", team.plan(), "--key", key, "--principal", principal, "--detached", "--yes"];
    let _ = team.root.run(&args).ok();
}

#[test]
fn the_strictest_of_file_rules_and_option_is_needed() {
    let team = Team::new(
        "
requireApprovals: 1
rules:
  - {name: production, instances: ['bud*'], requireApprovals: 2}
  - {name: elsewhere, instances: ['prod-*'], requireApprovals: 9}
",
    );
    let early = team.root.plan_to(&[ZSTD], &team.root.work("other.json")).ok();
    let _ = early.says(
        "2 approvals are needed (rule 'production') and nobody has approved; sign it: abssctl plan approve",
    );
    team.sign(0, "anna");
    team.refused(&[], &["2 approvals are needed (rule 'production') and only anna"]);
    team.refused(&["--require-approvals", "1"], &["2 approvals are needed (rule 'production')"]);
    team.refused(&["--require-approvals", "3"], &["3 approvals are needed and only anna"]);
    let check = team.root.json(&["plan", "check", team.plan()]).code(6).json();
    let expected = json!([{
        "rule": "production", "code": "approvals",
        "message": "2 approvals are needed (rule 'production') and only anna has approved",
    }]);
    assert_eq!(check["policy"]["findings"], expected);
    team.sign(1, "bert");
    let run = team.apply(&[])["run"].as_str().unwrap().to_owned();
    let policy = team.root.json(&["run", "show", &run]).ok().json()["policy"].clone();
    assert_eq!((&policy["requiredApprovals"], &policy["approvers"]), (&json!(2), &json!(["anna", "bert"])));
    let logged = team.root.log().last().unwrap()["args"]["policy"].clone();
    assert_eq!(logged, json!({ "rules": ["production"], "decision": "allowed", "required_approvals": 2 }));
}

#[test]
fn approvals_of_others_do_not_count() {
    let team = Team::new(
        "
rules:
  - {name: ops, requireApprovals: 1, approvers: ['*@ops.example.org', '!carl@*']}
  - {name: elsewhere, instances: [other], approvers: [nobody]}
",
    );
    let keys: Vec<String> = team.keys.iter().map(crate::keys::Key::public).collect();
    // carl's key may sign under any name of the company, and is carl's all the same.
    let list = format!(
        "anna@ops.example.org {}\nbert@dev.example.org {}\n*@ops.example.org,carl@ops.example.org {}\n",
        keys[0], keys[1], keys[2]
    );
    team.root.write("etc/abssctl/allowed_signers", list);
    team.sign(1, "bert@dev.example.org");
    team.refused(&[], &["not counted: bert@dev.example.org (valid, but rule 'ops' does not count it"]);
    team.sign(2, "carl@ops.example.org");
    team.refused(&[], &["carl@ops.example.org is not among the approvers"]);
    team.sign(2, "dora@ops.example.org");
    team.refused(&[], &["its key is that of carl@ops.example.org"]);
    let verify = team.root.json(&["plan", "verify", team.plan()]).code(6).json();
    assert_eq!(verify["approvers"], json!([]));
    assert_eq!(
        (&verify["signatures"][0]["valid"], &verify["signatures"][0]["counts"]),
        (&json!(true), &json!(false))
    );
    team.sign(0, "anna@ops.example.org");
    assert_eq!(
        team.root.json(&["plan", "verify", team.plan()]).ok().json()["approvers"],
        json!(["anna@ops.example.org"])
    );
    assert_eq!(team.apply(&[])["approvers"], json!(["anna@ops.example.org"]));
}

#[test]
fn a_rule_keeps_the_author_from_counting_and_no_file_lets_it_back() {
    let team = Team::new(
        "
authorMayApprove: true
rules: [{name: eyes, requireApprovals: 1, authorMayApprove: false}]
",
    );
    let plan: Value = serde_json::from_slice(&std::fs::read(&team.plan).unwrap()).unwrap();
    let author = plan["metadata"]["createdBy"]["name"].as_str().unwrap().to_owned();
    team.root.write(
        "etc/abssctl/allowed_signers",
        format!("{author} {}\nanna {}\n", team.keys[0].public(), team.keys[1].public()),
    );
    team.sign(0, &author);
    team.refused(&[], &["the plan's author may not approve it"]);
    team.root.write(
        "etc/abssctl/restore.yml",
        "authorMayApprove: false\nrules: [{name: eyes, requireApprovals: 1}]\n",
    );
    team.refused(&[], &["the plan's author may not approve it"]);
    team.sign(1, "anna");
    assert_eq!(team.apply(&[])["approvers"], json!(["anna"]));
}

#[test]
fn an_approval_may_be_so_old() {
    let policy = "rules: [{name: fresh, requireApprovals: 1, approvalMaxAge: 3d}]\n";
    // A plan that is young proves that every approval of it is, whatever stands beside it.
    let team = Team::new(policy);
    detached(&team, 0, "anna");
    assert_eq!(team.apply(&[])["approvers"], json!(["anna"]));
    let team = Team::new(policy);
    team.sign(0, "anna");
    edit(&team, |plan| plan["approvals"][0]["signedAt"] = json!("2020-01-01T00:00:00Z"));
    assert_eq!(team.apply(&[])["approvers"], json!(["anna"]));
    // Of an old plan, what the signer wrote must do, and nothing else can.
    let team = Team::new(policy);
    edit(&team, |plan| plan["metadata"]["createdAt"] = json!(ago(24 * 6)));
    detached(&team, 0, "anna");
    team.refused(
        &[],
        &["rule 'fresh' does not count it: a signature beside the plan does not say when it was given"],
    );
    team.sign(1, "bert");
    edit(&team, |plan| plan["approvals"][0]["signedAt"] = json!(ago(24 * 5)));
    team.refused(
        &[],
        &["not counted: bert (valid, but rule 'fresh' does not count it: it is of", "older than 3d"],
    );
    edit(&team, |plan| plan["approvals"][0]["signedAt"] = json!(ago(-24)));
    team.refused(&[], &["in the future"]);
    edit(&team, |plan| plan["approvals"][0]["signedAt"] = json!(ago(24)));
    assert_eq!(team.apply(&[])["approvers"], json!(["bert"]));
}

/// A plan that is dated ahead would make its approvals seem younger than they are.
#[test]
fn a_plan_of_the_future_is_not_signed() {
    let team = Team::new("");
    edit(&team, |plan| plan["metadata"]["createdAt"] = json!(ago(-1)));
    let args = ["plan", "approve", team.plan(), "--key", team.keys[0].text(), "--principal", "anna", "--yes"];
    let _ = team.root.json(&args).error(3, "abssctl::approve::future", &["in the future"]);
}

/// The policy is judged again when the locks are there: what was enough before is not any more.
#[test]
fn the_policy_is_judged_again_under_the_locks() {
    let test = "the_policy_is_judged_again_under_the_locks";
    if skip_unless(test, have("flock"), "flock is missing") {
        return;
    }
    let team = Team::new("rules: [{name: two, requireApprovals: 1}]\n");
    team.sign(0, "anna");
    let _ = team.root.json(&["plan", "check", team.plan()]).ok();
    std::fs::create_dir_all(team.root.path("run/abssctl")).unwrap();
    let lock = team.root.path("run/abssctl/budget.lock");
    let mut holder = std::process::Command::new("flock");
    let holder = Running::start(holder.args(["--exclusive", "--no-fork"]).arg(lock).args(["sleep", "1000"]));
    wait_for("the lock", || {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", holder.id())).ok()?;
        (comm == "sleep\n").then_some(())
    });
    let running = team.root.start(&["apply", team.plan(), "--yes", "--json"]);
    // The journal of the run is there once everything was looked at for the first time.
    wait_for("the run", || {
        std::fs::read_dir(team.root.path("var/lib/abssctl/runs")).ok()?.flatten().find_map(|run| {
            let text = std::fs::read_to_string(run.path().join("journal.jsonl")).ok()?;
            text.contains("stepStarted").then_some(())
        })
    });
    std::fs::remove_file(team.root.path("etc/abssctl/allowed_signers")).unwrap();
    holder.kill();
    let error = running.end().error(6, "abssctl::apply::rolled_back", &["1 approval is needed (rule 'two')"]);
    assert_eq!(error["result"]["outcome"], "rolled_back");
    let logged = team.root.log().last().unwrap().clone();
    assert_eq!((&logged["rc"], &logged["args"]["policy"]["rules"]), (&json!(6), &json!(["two"])));
    team.root.assert_generation("gen-b.sha256");
}
