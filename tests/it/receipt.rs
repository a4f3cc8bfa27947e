//! A receipt says what a run did, the same whenever and however often it is asked, and nobody changes it,
//! its plan or its journal without being found out.

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::root::{Running, ZSTD};
use crate::support::tools::{have, skip_unless, tool};
use crate::support::{Ran, TestRoot, strace, sums};

const ANNA: &str = "anna@example.org";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn load(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A root with a plan and the receipt of its application.
struct Applied {
    root: TestRoot,
    plan: PathBuf,
    receipt: PathBuf,
}

impl Applied {
    fn new(args: &[&str]) -> Self {
        let root = TestRoot::new();
        let plan = root.plan(args);
        Self::of(root, plan)
    }

    fn of(root: TestRoot, plan: PathBuf) -> Self {
        let receipt = root.work("receipt.json");
        let _ = apply(&root, &plan, &receipt).ok();
        Self { root, plan, receipt }
    }

    /// Approved by anna, in a file beside the plan.
    fn approved() -> Self {
        let root = TestRoot::new();
        let plan = root.plan(&[ZSTD]);
        approve(&root, &plan);
        Self::of(root, plan)
    }

    fn value(&self) -> Value {
        load(&self.receipt)
    }

    fn run(&self) -> String {
        self.value()["run"].as_str().unwrap().to_owned()
    }

    /// A file of the run's directory.
    fn kept(&self, name: &str) -> PathBuf {
        self.root.path(format!("var/lib/abssctl/runs/{}/{name}", self.run()))
    }

    fn verify(&self, receipt: &Path) -> Ran {
        verify(&self.root, &self.plan, receipt)
    }

    /// Writes another receipt and proves how it is refused.
    #[track_caller]
    fn forged(&self, receipt: &Value, code: &str, words: &[&str]) {
        let path = self.root.work("forged.json");
        std::fs::write(&path, serde_json::to_vec(receipt).unwrap()).unwrap();
        let _ = self.verify(&path).error(2, code, words);
    }
}

fn apply(root: &TestRoot, plan: &Path, receipt: &Path) -> Ran {
    root.json(&["apply", text(plan), "--yes", "--receipt", text(receipt)])
}

fn verify(root: &TestRoot, plan: &Path, receipt: &Path) -> Ran {
    root.json(&["plan", "verify", text(plan), "--receipt", text(receipt)])
}

fn printed(root: &TestRoot, run: &str) -> String {
    root.run(&["run", "show", run, "--receipt"]).ok().stdout
}

fn approve(root: &TestRoot, plan: &Path) {
    let key = root.work("anna");
    let _ = tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", text(&key)]);
    let public = std::fs::read_to_string(root.work("anna.pub")).unwrap();
    std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
    root.write("etc/abssctl/allowed_signers", format!("{ANNA} {public}"));
    let _ = root.run(&["plan", "approve", text(plan), "--key", text(&key), "--detached", "--yes"]).ok();
}

/// The digests of a receipt again, as its page says how; for receipts that somebody forged with care.
fn reseal(receipt: &mut Value) {
    let canonical = |value: &Value| {
        let bytes = serde_json_canonicalizer::to_vec(value).unwrap();
        json!(abssctl::ids::Sha256::of(&bytes))
    };
    let mut done = receipt.clone();
    let fields = done.as_object_mut().unwrap();
    for name in ["digest", "checksum", "run", "journal", "startedAt", "endedAt", "downtimeMs"] {
        fields.shift_remove(name);
    }
    for name in ["preBackup", "displaced"] {
        fields[name] = json!(!fields[name].is_null());
    }
    fields["actor"].as_object_mut().unwrap().shift_remove("session");
    for step in fields["steps"].as_array_mut().unwrap() {
        step.as_object_mut().unwrap().retain(|name, _| name != "startedAt" && name != "durationMs");
    }
    receipt["digest"] = canonical(&done);
    let mut rest = receipt.clone();
    rest.as_object_mut().unwrap().shift_remove("checksum");
    receipt["checksum"] = canonical(&rest);
}

fn strace_or_skip(test: &str) -> bool {
    skip_unless(test, strace::works(), "strace is missing, or ptrace is not permitted")
}

#[test]
fn an_applied_plan_has_a_receipt_that_can_be_had_again_and_again() {
    let applied = Applied::approved();
    let (receipt, plan) = (applied.value(), load(&applied.plan));
    let errors: Vec<String> = jsonschema::validator_for(&abssctl::run::receipt::model::schema())
        .unwrap()
        .iter_errors(&receipt)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, Vec::<String>::new());
    let mut again = receipt.clone();
    reseal(&mut again);
    assert_eq!(again, receipt, "the digests are what the page says");
    assert_eq!(receipt["plan"]["id"], plan["metadata"]["id"]);
    assert_eq!(receipt["backup"]["sha256"], plan["spec"]["source"]["sha256"]);
    assert_eq!((&receipt["outcome"], &receipt["exitCode"]), (&json!("applied"), &json!(0)));
    let result = applied.root.apply(&applied.plan).ok().json();
    for (field, of_result) in [("run", "run"), ("preBackup", "preBackup"), ("displaced", "displaced")] {
        assert_eq!(receipt[field], result[of_result], "{field}");
    }
    let kinds: Vec<&Value> = receipt["steps"].as_array().unwrap().iter().map(|step| &step["kind"]).collect();
    let planned: Vec<&Value> = plan["steps"].as_array().unwrap().iter().map(|step| &step["kind"]).collect();
    assert_eq!(kinds, planned);
    // The same bytes from the run's directory, and of a plan that is applied already.
    let bytes = std::fs::read_to_string(&applied.receipt).unwrap();
    assert_eq!(printed(&applied.root, &applied.run()), bytes);
    let other = applied.root.work("other.json");
    let second = apply(&applied.root, &applied.plan, &other).ok().json();
    assert_eq!(second["outcome"], "already_applied");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), bytes);
    let verdict = applied.verify(&applied.receipt).ok().json();
    assert_eq!(verdict["notChecked"], json!([]), "{verdict:#}");
    assert_eq!(verdict["checked"].as_array().unwrap().len(), 5, "{verdict:#}");
}

#[test]
fn evidence_of_approval_stays_with_the_run() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    approve(&root, &plan);
    // Given, and worth nothing: kept too, and not in the receipt.
    let worthless = root.work("plan.json.mallory.sig");
    let nothing = "-----BEGIN SSH SIGNATURE-----\nno\n-----END SSH SIGNATURE-----\n";
    std::fs::write(&worthless, nothing).unwrap();
    root.write("etc/abssctl/restore.yml", "requireApprovals: 1\n");
    let applied = Applied::of(root, plan);
    let root = &applied.root;
    let signature = std::fs::read(root.work(&format!("plan.json.{ANNA}.sig"))).unwrap();
    assert_eq!(std::fs::read(applied.kept(&format!("plan.{ANNA}.sig"))).unwrap(), signature);
    assert_eq!(std::fs::read(applied.kept("plan.mallory.sig")).unwrap(), nothing.as_bytes());
    let receipt = applied.value();
    let approvals = receipt["approvals"].as_array().unwrap();
    let policy = &receipt["policy"];
    assert_eq!((&policy["requiredApprovals"], &policy["decision"]), (&json!(1), &json!("allowed")));
    assert_eq!(policy["source"]["path"], "/etc/abssctl/restore.yml");
    assert_eq!(policy["approvers"], json!([ANNA]));
    assert_eq!(approvals.len(), 1, "{receipt:#}");
    assert_eq!(approvals[0]["principal"], ANNA);
    assert_eq!(approvals[0]["signature"], json!(abssctl::ids::Sha256::of(&signature)));
    let shown = root.run(&["run", "show", &applied.run()]).ok().stdout;
    for name in [format!("plan.{ANNA}.sig"), "plan.mallory.sig".to_owned()] {
        assert!(shown.contains(text(&applied.kept(&name))), "{shown}");
    }
    // What is said of the kept plan is what is said of the plan itself.
    std::fs::remove_file(applied.kept("plan.mallory.sig")).unwrap();
    let kept = root.json(&["plan", "verify", text(&applied.kept("plan"))]).ok().json();
    assert_eq!(kept["approvers"], json!([ANNA]));
    let gone = applied.verify(&applied.receipt);
    let _ = gone.error(2, "abssctl::receipt::kept_signature", &["plan.mallory.sig", "is gone"]);
}

#[test]
fn evidence_is_durable_before_the_first_record() {
    if strace_or_skip("evidence_is_durable_before_the_first_record") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    approve(&root, &plan);
    let trace = root.work("trace");
    let options = ["-y", "-o", text(&trace), "-e", "trace=fsync,fdatasync"];
    let _ = strace::run(&root.command(&["apply", text(&plan), "--yes", "--json"]), &options).ok();
    let synced = std::fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = synced.lines().collect();
    let after = |from: usize, what: &str| {
        let found = lines[from..].iter().position(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("{what} is not synced after line {from}:\n{synced}")) + from
    };
    let run = root.runs()[0]["run"].as_str().unwrap().to_owned();
    let signature = after(0, &format!("plan.{ANNA}.sig>"));
    let name = after(signature, &format!("/runs/{run}>"));
    let record = after(0, "journal.jsonl>");
    assert!(name < record, "{synced}");
}

#[test]
fn the_trees_are_digested_as_the_page_says() {
    if skip_unless("the_trees_are_digested_as_the_page_says", have("python3"), "python3 is missing") {
        return;
    }
    for args in [&[ZSTD][..], &[ZSTD, "--clients", "reset", "--sessions", "revoke"]] {
        let root = TestRoot::new();
        // Names that sort otherwise by the whole path, that are no UTF-8, and a link.
        root.write("srv/budget/data/a.b", "1");
        std::fs::create_dir(root.path("srv/budget/data/a")).unwrap();
        root.write("srv/budget/data/a/b", "2");
        let strange = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff \n");
        root.write(Path::new("srv/budget/data").join(strange), "3");
        std::os::unix::fs::symlink("a/b", root.path("srv/budget/data/link")).unwrap();
        let before = sums::tree_digest(&root.path("srv/budget"));
        let plan = root.plan(args);
        let applied = Applied::of(root, plan);
        let (root, receipt) = (&applied.root, applied.value());
        assert_eq!(receipt["tree"]["before"], before.as_str());
        let displaced = root.path(receipt["displaced"].as_str().unwrap());
        assert_eq!(sums::tree_digest(&displaced), before, "the displaced tree is the old one");
        let after = sums::tree_digest(&root.path("srv/budget"));
        assert_eq!(receipt["tree"]["after"], after.as_str(), "{args:?}");
        let shown = root.run(&["run", "show", &applied.run()]).ok().stdout;
        assert!(shown.contains(&before) && shown.contains(&after), "{shown}");
    }
}

#[test]
fn where_there_was_nothing_there_is_no_digest() {
    let applied = Applied::new(&[ZSTD, "--dest", "/srv/copy"]);
    let receipt = applied.value();
    assert_eq!(receipt["tree"]["before"], Value::Null);
    assert!(receipt["tree"]["after"].is_string());
    assert_eq!((&receipt["displaced"], &receipt["preBackup"]), (&Value::Null, &Value::Null));
    assert_eq!(receipt["live"], false);
    let _ = applied.verify(&applied.receipt).ok();
}

#[test]
fn a_run_that_was_rolled_back_has_a_receipt() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let archive = root.path(format!("srv/backups/budget/{ZSTD}.tar.zst"));
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let receipt = root.work("receipt.json");
    let ran = apply(&root, &plan, &receipt);
    let _ = ran.error(4, "abssctl::apply::rolled_back", &["SHA-256"]);
    let value = load(&receipt);
    assert_eq!((&value["outcome"], &value["exitCode"]), (&json!("rolled_back"), &json!(4)));
    assert_eq!(value["tree"], json!({ "before": null, "after": null }));
    assert_eq!(value["displaced"], Value::Null);
    let of = |id: &str| {
        let steps = value["steps"].as_array().unwrap();
        steps.iter().find(|step| step["id"] == id).unwrap()["outcome"].clone()
    };
    assert_eq!((of("check"), of("swap")), (json!("undone"), json!("not_begun")));
    assert_eq!(printed(&root, value["run"].as_str().unwrap()), std::fs::read_to_string(&receipt).unwrap());
    let _ = verify(&root, &plan, &receipt).ok();
}

#[test]
fn a_halted_run_has_one_and_its_end_has_another() {
    if strace_or_skip("a_halted_run_has_one_and_its_end_has_another") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup", "--on-failure", "halt"]);
    let receipt = root.work("halted.json");
    let index = root.path("srv/backups");
    let options =
        ["-o", "/dev/null", "-P", text(&index), "-e", "trace=renameat", "-e", "inject=renameat:error=EIO"];
    let command = root.command(&["apply", text(&plan), "--yes", "--json", "--receipt", text(&receipt)]);
    let ran = strace::run(&command, &options);
    let _ = ran.error(7, "abssctl::apply::halted", &["record"]);
    let halted = load(&receipt);
    assert_eq!((&halted["outcome"], &halted["exitCode"]), (&json!("halted"), &json!(7)));
    assert!(halted["tree"]["after"].is_string(), "the new tree is in place");
    assert_eq!(halted["tree"]["before"], Value::Null);
    let run = halted["run"].as_str().unwrap();
    assert_eq!(printed(&root, run), std::fs::read_to_string(&receipt).unwrap());
    let _ = verify(&root, &plan, &receipt).ok();
    let end = root.work("end.json");
    let _ = apply(&root, &plan, &end).ok();
    let ended = load(&end);
    assert_eq!((&ended["outcome"], &ended["run"]), (&json!("applied"), &halted["run"]));
    assert!(ended["tree"]["before"].is_string());
    let _ = verify(&root, &plan, &end).ok();
    // The older one is true of its time.
    let verdict = verify(&root, &plan, &receipt).ok().json();
    assert!(
        verdict["checked"].to_string().contains("went on after this receipt; it is applied"),
        "{verdict}"
    );
    // Not so one that makes up its end.
    let mut forged = halted.clone();
    forged["outcome"] = json!("applied");
    reseal(&mut forged);
    std::fs::write(&receipt, forged.to_string()).unwrap();
    let _ = verify(&root, &plan, &receipt).error(2, "abssctl::receipt::contradicts_run", &["outcome"]);
}

#[test]
fn a_plan_that_is_refused_has_none_and_that_is_said() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let receipt = root.work("receipt.json");
    let none = |ran: Ran, code: i32| {
        let _ = ran.code(code).says("no receipt was written").says("receipt.json");
        assert!(!receipt.exists());
    };
    let refused =
        |more: &[&str]| root.run(&[&["apply", text(&plan), "--receipt", text(&receipt)], more].concat());
    none(refused(&["--yes", "--require-approvals", "1"]), 6);
    none(refused(&[]), 2);
    assert_eq!(root.runs().len(), 0);
    let ran = root.run(&["apply", text(&plan), "--dry-run", "--receipt", text(&receipt)]);
    let _ = ran.code(2).says("--dry-run").says("cannot be used with");
}

#[test]
fn a_restore_in_one_go_has_one_too() {
    let root = TestRoot::new();
    let receipt = root.work("receipt.json");
    let _ = root.json(&["backup", "restore", ZSTD, "--yes", "--receipt", text(&receipt)]).ok();
    let run = load(&receipt)["run"].as_str().unwrap().to_owned();
    let plan = root.path(format!("var/lib/abssctl/runs/{run}/plan"));
    let _ = verify(&root, &plan, &receipt).ok();
}

#[test]
fn the_place_is_tried_before_anything_begins() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let before = root.tree();
    std::fs::write(root.work("notes.txt"), "mine").unwrap();
    std::os::unix::fs::symlink(root.path("srv/budget"), root.work("link")).unwrap();
    for (place, exit) in [
        (PathBuf::from("-"), 2),
        (plan.clone(), 2),
        (root.work("notes.txt"), 2),
        (root.work(""), 2),
        (root.path("srv/budget/receipt.json"), 2),
        (root.path("srv/budget/data/receipt.json"), 2),
        (root.work("link/receipt.json"), 2),
        (root.work("missing/receipt.json"), 3),
        (PathBuf::from("/proc/receipt.json"), 3),
    ] {
        let ran = apply(&root, &plan, &place);
        assert_eq!(ran.code, exit, "{place:?}: {}", ran.stdout);
        let restore = root.json(&["backup", "restore", ZSTD, "--yes", "--receipt", text(&place)]);
        assert_eq!(restore.code, exit, "{place:?}: {}", restore.stdout);
    }
    before.assert_same(&root.tree(), "places that cannot be");
    assert_eq!(std::fs::read(root.work("notes.txt")).unwrap(), b"mine");
    // An empty file and an older receipt may be replaced.
    std::fs::write(root.work("receipt.json"), "").unwrap();
    let applied = Applied::of(root, plan);
    let _ = apply(&applied.root, &applied.plan, &applied.receipt).ok();
}

#[test]
fn a_receipt_that_cannot_be_written_in_the_end_is_a_warning() {
    if strace_or_skip("a_receipt_that_cannot_be_written_in_the_end_is_a_warning") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let place = root.work("receipts");
    std::fs::create_dir(&place).unwrap();
    let receipt = place.join("receipt.json");
    let options =
        ["-o", "/dev/null", "-P", text(&place), "-e", "trace=renameat", "-e", "inject=renameat:error=ENOSPC"];
    let command = root.command(&["apply", text(&plan), "--yes", "--json", "--receipt", text(&receipt)]);
    let ran = strace::run(&command, &options).ok();
    let result = ran.json();
    let run = result["run"].as_str().unwrap();
    let hint = format!("abssctl run show {run} --receipt");
    assert!(result["warnings"].to_string().contains(&hint), "{result:#}");
    let _ = ran.says(&hint).says("No space left");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0, "nothing half is left");
    std::fs::write(&receipt, printed(&root, run)).unwrap();
    let _ = verify(&root, &plan, &receipt).ok();
}

/// Kills an apply at a call of the kernel.
fn killed_at(root: &TestRoot, plan: &Path, path: &Path, calls: &str) {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:signal=KILL:when=1"));
    let options = ["-o", "/dev/null", "-P", text(path), "-e", &trace, "-e", &inject];
    let ran = strace::run(&root.command(&["apply", text(plan), "--yes", "--json"]), &options);
    assert_eq!(ran.code, 137, "it was killed: {}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_restore_that_was_killed_and_applied_again_has_the_digest_of_one_that_was_not() {
    if strace_or_skip("a_restore_that_was_killed_and_applied_again_has_the_digest_of_one_that_was_not") {
        return;
    }
    let planned = TestRoot::new();
    let plan = planned.plan(&[ZSTD, "--clients", "reset", "--sessions", "revoke"]);
    approve(&planned, &plan);
    let apply = |root: TestRoot| {
        std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
        root.write("etc/abssctl/allowed_signers", planned.read("etc/abssctl/allowed_signers"));
        Applied::of(root, plan.clone())
    };
    let undisturbed = apply(TestRoot::new()).value();
    let again = apply(TestRoot::new()).value();
    assert_eq!(undisturbed["digest"], again["digest"]);
    for field in ["run", "checksum", "journal"] {
        assert_ne!(undisturbed[field], again[field], "{field} differs from run to run");
    }
    let mut runs = Vec::new();
    for (place, calls) in [
        ("srv", "renameat2"),
        ("srv/.abssctl/displaced", "renameat2"),
        ("srv/backups", "renameat"),
        ("var/lib/abssctl/registry", "renameat"),
        ("srv/.abssctl/staging", "unlinkat"),
    ] {
        let root = TestRoot::new();
        std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
        root.write("etc/abssctl/allowed_signers", planned.read("etc/abssctl/allowed_signers"));
        killed_at(&root, &plan, &root.path(place), calls);
        let applied = apply(root);
        let receipt = applied.value();
        assert_eq!(receipt["digest"], undisturbed["digest"], "killed at {place}: {receipt:#}");
        let verdict = applied.verify(&applied.receipt).ok().json();
        assert_eq!(verdict["notChecked"], json!([]), "{verdict:#}");
        runs.push(applied.root.runs().len());
        sums::assert_generation(&applied.root.path(receipt["displaced"].as_str().unwrap()), "gen-b.sha256");
    }
    assert!(runs.contains(&1) && runs.contains(&2), "killed before and after the swap: {runs:?}");
}

#[test]
fn a_run_that_goes_on_has_no_receipt_yet() {
    if strace_or_skip("a_run_that_goes_on_has_no_receipt_yet") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    killed_at(&root, &plan, &root.path("srv/.abssctl/displaced"), "renameat2");
    let run = root.runs()[0]["run"].as_str().unwrap().to_owned();
    let ran = root.json(&["run", "show", &run, "--receipt"]);
    let _ = ran.error(2, "abssctl::receipt::not_ended", &[&run, "has not ended"]);
    let _ = root.json(&["run", "show", "01M87PNP24HTFMAYRF4PE0KYX4", "--receipt"]).error(
        2,
        "abssctl::cli::no_run",
        &["01M87PNP24HTFMAYRF4PE0KYX4"],
    );
}

#[test]
fn what_could_not_be_looked_at_is_said() {
    let applied = Applied::approved();
    let elsewhere = TestRoot::new();
    let verdict = verify(&elsewhere, &applied.plan, &applied.receipt).ok().json();
    let journal = format!("journal of run {} is not on this machine", applied.run());
    assert_eq!(verdict["notChecked"], json!([journal]));
    // Without the signature there is nothing to prove the approval by.
    let alone = elsewhere.work("alone.json");
    std::fs::copy(&applied.plan, &alone).unwrap();
    let ran = elsewhere.run(&["plan", "verify", text(&alone), "--receipt", text(&applied.receipt)]).ok();
    assert!(ran.stdout.contains(&format!("? not checked: {journal}")), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("? not checked: the signature of {ANNA}")), "{}", ran.stdout);
    assert!(ran.stdout.contains("applied by"), "{}", ran.stdout);
    // Nobody who is not asked for signers needs a list of them; who names one wants to know of signatures.
    let both = elsewhere.run(&[
        "plan",
        "verify",
        text(&alone),
        "--receipt",
        text(&applied.receipt),
        "--allowed-signers",
        "x",
    ]);
    let _ = both.code(2).says("cannot be used with");
}

#[test]
fn a_receipt_of_another_plan_or_of_another_text_is_refused() {
    let applied = Applied::approved();
    let root = &applied.root;
    let other = root.work("other.json");
    let _ = root.plan_to(&[ZSTD], &other).ok();
    let _ =
        verify(root, &other, &applied.receipt).error(2, "abssctl::receipt::other_plan", &["receipt of plan"]);
    // The same plan with another wish is another plan.
    let mut plan = load(&applied.plan);
    plan["metadata"]["reason"] = json!("another");
    std::fs::write(&other, plan.to_string()).unwrap();
    let _ = verify(root, &other, &applied.receipt).error(2, "abssctl::receipt::other_plan", &[]);
    for (name, bytes) in [("empty", ""), ("text", "no receipt"), ("list", "[]"), ("plan", "{}")] {
        let path = root.work(name);
        std::fs::write(&path, bytes).unwrap();
        let _ = applied.verify(&path).error(2, "abssctl::receipt::unreadable", &[name]);
    }
    let _ = applied.verify(&applied.plan).error(2, "abssctl::receipt::unreadable", &[]);
    let _ = applied.verify(&root.work("missing")).error(3, "abssctl::cli::io", &["missing"]);
}

/// Somebody who makes the digests fit is found out by the plan, the signatures or the journal.
#[test]
fn a_receipt_that_was_forged_with_care_is_refused_where_the_truth_is_known() {
    let applied = Applied::approved();
    let change = |path: &str, value: Value| {
        let mut receipt = applied.value();
        *receipt.pointer_mut(path).unwrap() = value;
        reseal(&mut receipt);
        receipt
    };
    let zeros = "0".repeat(64);
    for (path, value) in [
        ("/instance", json!("other")),
        ("/backup/sha256", json!(zeros)),
        ("/target", json!("/srv/other")),
        ("/live", json!(false)),
        ("/clients", json!("reset")),
        ("/sessions", json!("revoke")),
        ("/plan/reason", json!("made up")),
        ("/plan/createdAt", json!("2020-01-01T00:00:00Z")),
        ("/steps/0/kind", json!("check")),
    ] {
        let name = path.trim_start_matches('/').split('/').next().unwrap().to_owned();
        applied.forged(&change(path, value), "abssctl::receipt::contradicts_plan", &[&name]);
    }
    for (path, value) in [
        ("/actor/name", json!("mallory")),
        ("/tree/before", json!(zeros)),
        ("/tree/after", Value::Null),
        ("/preBackup", Value::Null),
        ("/displaced", json!("/srv/elsewhere")),
        ("/startedAt", json!("2020-01-01T00:00:00Z")),
        ("/outcome", json!("rolled_back")),
        ("/exitCode", json!(1)),
        ("/warnings", json!(["made up"])),
        ("/approvals", json!([])),
        ("/journal/head", json!(zeros)),
        ("/journal/records", json!(10_000)),
        ("/steps/3/durationMs", json!(1_000_000)),
    ] {
        let name = path.trim_start_matches('/').split('/').next().unwrap().to_owned();
        applied.forged(&change(path, value), "abssctl::receipt::contradicts_run", &[&name]);
    }
    applied.forged(&change("/journal/records", json!(3)), "abssctl::receipt::contradicts_run", &["endedAt"]);
    // An approval that nobody gave, with a signature that is there: found out without the journal, too.
    let forged = change("/approvals/0/keyFingerprint", json!("SHA256:x"));
    let path = applied.root.work("forged.json");
    std::fs::write(&path, forged.to_string()).unwrap();
    let ran = verify(&TestRoot::new(), &applied.plan, &path);
    let _ = ran.error(2, "abssctl::receipt::contradicts_plan", &["approvals"]);
}

#[test]
fn a_run_directory_that_was_changed_is_found_out() {
    let applied = Applied::approved();
    let refused = |file: &Path, bytes: &[u8], code: &str, words: &[&str]| {
        let kept = std::fs::read(file).unwrap();
        std::fs::write(file, bytes).unwrap();
        let _ = applied.verify(&applied.receipt).error(2, code, words);
        std::fs::write(file, kept).unwrap();
    };
    let journal = applied.kept("journal.jsonl");
    let bytes = std::fs::read(&journal).unwrap();
    // Every byte of the chain: in the middle the next line misses it, at the end the head does.
    for at in (0..bytes.len()).step_by(bytes.len() / 40).chain([bytes.len() - 1, bytes.len() - 5]) {
        let mut other = bytes.clone();
        other[at] ^= 1;
        std::fs::write(&journal, &other).unwrap();
        let ran = applied.verify(&applied.receipt);
        let code = ran.json()["code"].as_str().unwrap().to_owned();
        assert_eq!(ran.code, 2, "byte {at}: {}", ran.stdout);
        let known = ["journal_damaged", "journal_illegal", "contradicts_run", "kept_plan"];
        assert!(known.iter().any(|known| code.ends_with(known)), "byte {at}: {code}");
    }
    std::fs::write(&journal, &bytes).unwrap();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let shorter = lines[..lines.len() - 1].concat();
    refused(&journal, &shorter, "abssctl::receipt::contradicts_run", &["journal.records"]);

    let plan = applied.kept("plan");
    let text = std::fs::read_to_string(&plan).unwrap();
    let another = text.replace("\"abssctl 0", "\"abssctl 9");
    refused(&plan, another.as_bytes(), "abssctl::receipt::kept_plan", &["it has"]);
    refused(&plan, b"", "abssctl::receipt::kept_plan", &["not valid"]);
    // Another form of the same plan is the same plan.
    let value: Value = serde_json::from_str(&text).unwrap();
    std::fs::write(&plan, value.to_string()).unwrap();
    let _ = applied.verify(&applied.receipt).ok();

    let signature = applied.kept(&format!("plan.{ANNA}.sig"));
    let mut other = std::fs::read(&signature).unwrap();
    other[100] ^= 1;
    refused(&signature, &other, "abssctl::receipt::kept_signature", &[ANNA, "not the one"]);
    std::fs::remove_file(&signature).unwrap();
    let _ = applied.verify(&applied.receipt).error(2, "abssctl::receipt::kept_signature", &["is gone"]);
}

#[test]
fn a_signature_in_the_plan_is_evidence_too() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    approve(&root, &plan);
    std::fs::remove_file(root.work(&format!("plan.json.{ANNA}.sig"))).unwrap();
    let _ = root.run(&["plan", "approve", text(&plan), "--key", text(&root.work("anna")), "--yes"]).ok();
    let applied = Applied::of(root, plan);
    let approval = &applied.value()["approvals"][0];
    let given = &load(&applied.plan)["approvals"][0];
    for field in ["principal", "keyFingerprint", "signedAt"] {
        assert_eq!(approval[field], given[field]);
    }
    let verdict = applied.verify(&applied.receipt).ok().json();
    assert_eq!(verdict["notChecked"], json!([]), "{verdict:#}");
    // Taken out of the plan, it is still with the run; taken out there, the journal misses it.
    let mut bare = load(&applied.plan);
    bare.as_object_mut().unwrap().shift_remove("approvals");
    std::fs::write(&applied.plan, bare.to_string()).unwrap();
    let verdict = applied.verify(&applied.receipt).ok().json();
    assert_eq!(verdict["notChecked"], json!([]), "{verdict:#}");
    std::fs::write(applied.kept("plan"), bare.to_string()).unwrap();
    let _ = applied.verify(&applied.receipt).error(2, "abssctl::receipt::kept_signature", &["is gone"]);
}

#[test]
fn a_hostile_receipt_steers_no_terminal() {
    let applied = Applied::new(&[ZSTD]);
    let mut receipt = applied.value();
    receipt["actor"]["name"] = json!("\u{1b}[31mroot\u{202e}");
    reseal(&mut receipt);
    let path = applied.root.work("hostile.json");
    std::fs::write(&path, receipt.to_string()).unwrap();
    let elsewhere = TestRoot::new();
    let ran = elsewhere.run(&["plan", "verify", text(&applied.plan), "--receipt", text(&path)]).ok();
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stdout.contains('\u{202e}'), "{:?}", ran.stdout);
    assert!(ran.stdout.contains("\\u{202e}"), "{}", ran.stdout);
}

/// Any byte of a receipt: another one there is found out, or means the same.
#[test]
fn no_byte_of_a_receipt_can_be_changed_in_meaning() {
    let applied = Applied::approved();
    let bytes = std::fs::read(&applied.receipt).unwrap();
    let meaning = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let before = meaning(&bytes);
    let check = |bytes: &[u8]| abssctl::run::receipt::check::read("receipt", bytes);
    assert!(check(&bytes).is_ok());
    proptest!(ProptestConfig { failure_persistence: None, cases: 4000, ..ProptestConfig::default() },
        |(at in 0..bytes.len(), other in any::<u8>(), kind in 0..3)| {
            let mut changed = bytes.clone();
            match kind {
                0 => changed[at] = other,
                1 => changed.insert(at, other),
                _ => { changed.remove(at); }
            }
            prop_assert_eq!(check(&changed).is_ok(), meaning(&changed) == before, "byte {}", at);
        }
    );
}

#[test]
fn a_reader_of_the_old_or_new_receipt_never_finds_a_part() {
    let applied = Applied::new(&[ZSTD]);
    let script =
        "while [ ! -e stop ]; do tail -c 3 receipt.json | grep -q '^}' || { echo part; exit 1; }; done";
    let work = applied.receipt.parent().unwrap();
    let reader = Running::start(Command::new("bash").args(["-c", script]).current_dir(work));
    for _ in 0..20 {
        let _ = apply(&applied.root, &applied.plan, &applied.receipt).ok();
    }
    std::fs::write(work.join("stop"), "").unwrap();
    let _ = reader.end().ok();
}
