//! `apply` goes by the approvals that are needed: nothing is written before they are there, and what is
//! recorded afterwards is proven.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::keys::Key;
use crate::support::root::ZSTD;
use crate::support::tools::skip_unless;
use crate::support::{TestRoot, strace};

/// Four keys, a list of signers, a policy, a plan.
pub(crate) struct Team {
    pub(crate) root: TestRoot,
    pub(crate) plan: PathBuf,
    pub(crate) keys: Vec<Key>,
}

impl Team {
    /// anna and bert with a key each, carl with two; a plan that nobody has signed.
    pub(crate) fn new(policy: &str) -> Self {
        let root = TestRoot::new();
        std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
        let keys: Vec<Key> = (0..4).map(|n| Key::ed25519(root.work(&format!("key{n}")))).collect();
        let names = ["anna", "bert", "carl", "carl"].iter().zip(&keys);
        let list: String = names.map(|(name, key)| format!("{name} {}\n", key.public())).collect();
        root.write("etc/abssctl/allowed_signers", list);
        root.write("etc/abssctl/restore.yml", policy);
        let plan = root.plan(&[ZSTD]);
        Self { root, plan, keys }
    }

    pub(crate) fn plan(&self) -> &str {
        self.plan.to_str().unwrap()
    }

    pub(crate) fn sign(&self, number: usize, principal: &str) {
        let key = self.keys[number].text();
        let args = ["plan", "approve", self.plan(), "--key", key, "--principal", principal, "--yes"];
        let _ = self.root.run(&args).ok();
    }

    /// Proves that the plan is refused for want of approvals, that the message says so, and that nothing
    /// at all was written.
    #[track_caller]
    pub(crate) fn refused(&self, more: &[&str], words: &[&str]) {
        let before = self.root.tree();
        let args = [&["apply", self.plan(), "--yes"], more].concat();
        let ran = self.root.json(&args);
        let object = ran.refused(6, &["approvals"]);
        for word in words {
            assert!(object["message"].as_str().unwrap().contains(word), "no '{word}': {object:#}");
        }
        assert_eq!(before, self.root.tree(), "something was written");
    }

    pub(crate) fn apply(&self, more: &[&str]) -> Value {
        self.root.json(&[&["apply", self.plan(), "--yes"], more].concat()).ok().json()
    }
}

#[test]
fn enough_people_must_have_approved_and_their_names_are_kept() {
    let team = Team::new("");
    team.refused(&["--require-approvals", "1"], &["1 approval is needed", "nobody has approved"]);
    team.sign(0, "anna");
    team.sign(2, "carl");
    team.sign(3, "carl");
    team.refused(
        &["--require-approvals", "3"],
        &["3 approvals", "only anna and carl have", "counted already"],
    );
    team.sign(1, "anna");
    team.refused(&["--require-approvals", "3"], &["not counted: anna (its key is allowed for bert"]);
    team.sign(1, "bert");
    let result = team.apply(&["--require-approvals", "3"]);
    let names = json!(["anna", "bert", "carl"]);
    assert_eq!(result["approvers"], names);
    assert_eq!(team.root.entry(ZSTD)["restores"][0]["approvers"], names);
    let run = result["run"].as_str().unwrap();
    let journal = team.root.read(format!("var/lib/abssctl/runs/{run}/journal.jsonl"));
    let first: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"]["runStarted"]["approvers"], names);
    assert_eq!(first["event"]["runStarted"]["approvalsRequired"], 3);
    assert_eq!(team.root.json(&["run", "show", run]).ok().json()["approvers"], names);
    assert_eq!(team.root.log().last().unwrap()["args"]["approvers"], names);
}

#[test]
fn the_policy_cannot_be_loosened_and_holds_for_every_way_to_restore() {
    let team = Team::new("requireApprovals: 2\n");
    team.sign(0, "anna");
    team.refused(&[], &["2 approvals are needed", "only anna"]);
    team.refused(&["--require-approvals", "0"], &["2 approvals"]);
    team.refused(&["--require-approvals", "3"], &["3 approvals"]);
    team.refused(&["--dry-run"], &[]);
    let before = team.root.tree();
    let _ = team.root.json(&["backup", "restore", ZSTD, "--yes"]).refused(6, &["approvals"]);
    assert_eq!(before, team.root.tree());
    let check = team.root.json(&["plan", "check", team.plan()]).code(6).json();
    assert_eq!(check["problems"][0]["class"], "approval");
    assert_eq!(check["approvals"]["required"], 2);
    let text = team.root.run(&["plan", "check", team.plan()]).code(6).stdout;
    assert!(text.contains("approved by anna; 2 needed"), "{text}");
    team.sign(1, "bert");
    let text = team.root.run(&["plan", "check", team.plan()]).ok().stdout;
    assert!(text.contains("approved by anna, bert; 2 needed"), "{text}");
    assert_eq!(team.apply(&[])["approvers"], json!(["anna", "bert"]));
}

#[test]
fn the_author_can_be_kept_from_counting() {
    let team = Team::new("requireApprovals: 1\nauthorMayApprove: false\n");
    let plan: Value = serde_json::from_slice(&std::fs::read(&team.plan).unwrap()).unwrap();
    let author = format!("{}@example.org", plan["metadata"]["createdBy"]["name"].as_str().unwrap());
    let list = format!("{author},boss {}\nanna {}\n", team.keys[0].public(), team.keys[1].public());
    team.root.write("etc/abssctl/allowed_signers", list);
    team.sign(0, &author);
    team.sign(0, "boss");
    team.refused(&[], &["nobody has approved", "the plan's author may not"]);
    team.sign(1, "anna");
    assert_eq!(team.apply(&[])["approvers"], json!(["anna"]));
}

#[test]
fn without_a_list_nobody_counts_and_without_a_policy_nobody_has_to() {
    let team = Team::new("");
    team.sign(0, "anna");
    std::fs::remove_file(team.root.path("etc/abssctl/allowed_signers")).unwrap();
    let before = team.root.tree();
    let args = ["apply", team.plan(), "--yes", "--require-approvals", "1"];
    let _ = team.root.json(&args).refused(6, &["no-allowed-signers"]);
    assert_eq!(before, team.root.tree());
    // The file says that anna approved; nothing proves it, so nothing records it.
    assert_eq!(team.apply(&[])["approvers"], json!([]));
    assert_eq!(team.root.entry(ZSTD)["restores"][0]["approvers"], json!([]));
}

#[test]
fn an_approved_plan_that_was_changed_is_not_applied() {
    let team = Team::new("requireApprovals: 1\n");
    team.sign(0, "anna");
    let text = std::fs::read_to_string(&team.plan).unwrap();
    let other = text.replace("\"sessions\": \"keep\"", "\"sessions\": \"revoke\"");
    assert_ne!(text, other);
    std::fs::write(&team.plan, other).unwrap();
    let ran = team.root.json(&["apply", team.plan(), "--yes"]);
    // The steps no longer fit the wish; refreshed, they do, and the approval is gone.
    let _ = ran.code(2);
    let _ = team.root.run(&["plan", "refresh", team.plan()]).ok();
    team.refused(&[], &["nobody has approved"]);
    // By hand, with everything else made to fit: the signature does not.
    let mut plan: Value = serde_json::from_str(&text).unwrap();
    plan["metadata"]["reason"] = json!("trust me");
    std::fs::write(&team.plan, plan.to_string()).unwrap();
    team.refused(&[], &["nobody has approved", "does not belong to this plan"]);
}

#[test]
fn a_kept_policy_names_another_list() {
    let team = Team::new("requireApprovals: 1\nallowedSigners: /srv/signers\n");
    team.sign(0, "anna");
    let _ = team.root.json(&["apply", team.plan(), "--yes"]).refused(6, &["no-allowed-signers"]);
    std::fs::rename(team.root.path("etc/abssctl/allowed_signers"), team.root.path(Path::new("srv/signers")))
        .unwrap();
    assert_eq!(team.apply(&[])["approvers"], json!(["anna"]));
}

/// Killed after the exchange: the run is finished, whatever became of signatures, list and policy since.
#[test]
fn a_run_that_began_with_enough_approvals_ends_without_them() {
    let test = "a_run_that_began_with_enough_approvals_ends_without_them";
    if skip_unless(test, strace::works(), "strace cannot trace here") {
        return;
    }
    let team = Team::new("requireApprovals: 1\n");
    let detached = ["plan", "approve", team.plan(), "--key", team.keys[0].text(), "--detached", "--yes"];
    let given = team.root.json(&detached).ok().json();
    let command = team.root.command(&["apply", team.plan(), "--yes"]);
    let displaced = team.root.path("srv/.abssctl/displaced");
    let at = ["-o", "/dev/null", "-P", displaced.to_str().unwrap(), "-e", "trace=renameat2"];
    let killed = strace::run(&command, &[&at[..], &["-e", "inject=renameat2:signal=KILL:when=1"]].concat());
    assert_ne!(killed.code, 0);
    std::fs::remove_file(given["path"].as_str().unwrap()).unwrap();
    std::fs::remove_file(team.root.path("etc/abssctl/allowed_signers")).unwrap();
    team.root.write("etc/abssctl/restore.yml", "requireApprovals: 5\n");
    let result = team.apply(&[]);
    assert_eq!((&result["outcome"], &result["approvers"]), (&json!("applied"), &json!(["anna"])));
    assert_eq!(team.root.entry(ZSTD)["restores"][0]["approvers"], json!(["anna"]));
}
