//! What is written is what is read: by the loader, and by `PyYAML`, whatever the texts in a plan are.

use std::io::Write as _;
use std::process::{Command, Stdio};

use abssctl::plan::canonical::digest;
use abssctl::plan::emit::{to_json, to_yaml};
use abssctl::plan::load::load;
use abssctl::plan::model::Plan;
use abssctl::plan::observed::ObservedFile;
use abssctl::plan::render::text::{TextOptions, text};
use abssctl::plan::testing::{sample, sample_with_service, with_steps};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// Texts that some reader of YAML takes for something else, or that begin or end oddly.
const TRICKS: &[&str] = &[
    "",
    " ",
    "~",
    "null",
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "N",
    "true",
    "False",
    "0",
    "-1",
    "017",
    "0o17",
    "0x1F",
    "1e5",
    "1.5",
    ".5",
    "1_000",
    "12:30",
    "190:20:30",
    "2026-11-24",
    "2026-11-24T02:26:32Z",
    "2026-11-24 02:26:32",
    ".inf",
    "-.INF",
    ".nan",
    "<<",
    "=",
    "---",
    "...",
    "- a",
    "-",
    "?",
    "? a",
    ": a",
    "a: b",
    "a:",
    "a #b",
    "#a",
    "*a",
    "&a",
    "!a",
    "!!str a",
    "%a",
    "@a",
    "`a",
    "'a'",
    "\"a\"",
    "[a]",
    "{a: b}",
    "a, b",
    "|",
    ">",
    "a\tb",
    "\ta",
    "a\u{a0}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\u{0}",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{202e}",
    "\u{e0041}",
    "\u{ffff}",
    "\u{fffe}",
    "\u{1f600}",
    "\\u0041",
    "\\",
    "\r",
    "a\r\nb",
    "\n",
    "\n\n",
    " a",
    "a ",
    "a\n b",
    " a\nb\n",
    "a\n\n",
    "\ta\nb",
    "a\n \nb",
    "a \nb\n",
    "日本",
    "é",
    "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n",
];

fn any_text(max: usize) -> impl Strategy<Value = String> {
    let line = prop_oneof![select(TRICKS).prop_map(str::to_owned), "\\PC{0,20}", "[ a-z:#\\-\t\"']{0,12}"];
    prop_oneof![
        select(TRICKS).prop_map(str::to_owned),
        "\\PC{0,40}",
        proptest::collection::vec(any::<char>(), 0..30).prop_map(String::from_iter),
        proptest::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n")),
        "[a-f0-9]{60,70}",
        "[ \n]{0,6}",
    ]
    .prop_map(move |text| text.chars().take(max).collect())
}

prop_compose! {
    fn any_plan()(
        service in any::<bool>(),
        reason in proptest::option::of(any_text(1000)),
        names in proptest::collection::vec(any_text(200), 6),
        message in proptest::option::of(any_text(1000)),
        diff in any_text(2000),
        examples in proptest::collection::vec(any_text(100), 0..10),
        mut paths in proptest::collection::vec(any_text(100), 0..5),
    ) -> Plan {
        let mut plan = if service { sample_with_service() } else { sample() };
        plan.metadata.reason = reason;
        plan.metadata.created_by.name.clone_from(&names[0]);
        plan.spec.pre_backup.message = message;
        plan.observed.file_system.r#type = names[1].chars().take(100).collect();
        plan.preview.budgets[0].name = Some(names[2].clone());
        plan.preview.rows[1].table.clone_from(&names[3]);
        // The one check that says why in words of its own.
        let mut checks = plan.preview.checks.iter_mut();
        checks.find(|check| check.id == "target-in-use").expect("it is there").why.clone_from(&names[4]);
        plan.preview.diffs[0].path.clone_from(&names[5]);
        plan.preview.diffs[0].diff = diff;
        plan.preview.files.added.examples = examples;
        paths.sort();
        paths.dedup();
        let digest = plan.spec.source.backup().expect("a restore").sha256;
        plan.observed.target.files = paths.into_iter().map(|path| ObservedFile { path, digest }).collect();
        with_steps(plan)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_loader_reads_what_is_written(plan in any_plan()) {
        for written in [to_yaml(&plan).unwrap(), to_json(&plan).unwrap()] {
            let read = load("plan", written.as_bytes()).map_err(|errors| {
                TestCaseError::fail(format!("{:?}\n{written}", errors.problems()))
            })?;
            prop_assert_eq!(digest(&read).unwrap(), digest(&plan).unwrap());
            prop_assert_eq!(&to_yaml(&read).unwrap(), &to_yaml(&plan).unwrap());
            prop_assert_eq!(read, plan.clone());
        }
    }

    #[test]
    fn no_text_of_a_plan_reaches_the_terminal_raw(plan in any_plan(), width in 40_usize..140) {
        let shown = text(&plan, &TextOptions { width, ..TextOptions::default() });
        prop_assert!(shown.chars().all(|c| c == '\n' || !abssctl::plan::render::is_hidden(c)), "{}", shown);
    }

    #[test]
    fn no_soup_of_signs_makes_the_loader_panic(
        signs in proptest::collection::vec(select(&[
            "a", "b:", ": ", "- ", "? ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",", "\"", "'", "|", ">-", "#", "&a ",
            "*a", "!t ", "<<: ", "---\n", "...\n", "%YAML 1.1\n", "\t", " ", "\\", "\r\n", "é", "@", "`", "0", "~",
        ][..]), 0..40),
        head in any::<bool>(),
    ) {
        let head = if head { "apiVersion: abssctl/v1\nkind: RestorePlan\n" } else { "" };
        let soup = head.to_owned() + &signs.concat();
        prop_assert!(load("plan", soup.as_bytes()).is_err());
    }

    #[test]
    fn no_bytes_make_the_loader_fail_otherwise_than_by_an_error(
        plan in any_plan(),
        json in any::<bool>(),
        at in any::<proptest::sample::Index>(),
        patch in proptest::collection::vec(any::<u8>(), 0..4),
        drop in 0_usize..4,
    ) {
        let mut bytes = if json { to_json(&plan).unwrap() } else { to_yaml(&plan).unwrap() }.into_bytes();
        let at = at.index(bytes.len());
        let end = (at + drop).min(bytes.len());
        bytes.splice(at..end, patch);
        if let Ok(read) = load("plan", &bytes) {
            prop_assert_eq!(load("plan", to_yaml(&read).unwrap().as_bytes()).unwrap(), read);
        }
    }
}

const PYTHON: &str = "
import json, sys, yaml
texts = json.load(sys.stdin)
json.dump([yaml.safe_load(text) for text in texts], sys.stdout)
";

/// A Python with `PyYAML`: `ABSSCTL_TEST_PYTHON`, else `python3`.
fn python() -> Option<String> {
    let name = std::env::var("ABSSCTL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let quiet = || Stdio::null();
    let mut probe = Command::new(&name);
    let found = probe.args(["-c", "import yaml"]).stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
    found.is_ok_and(|status| status.success()).then_some(name)
}

#[test]
fn pyyaml_reads_the_same() {
    let Some(python) = python() else {
        let mut err = std::io::stderr();
        writeln!(err, "SKIPPED: no Python with PyYAML; name one with ABSSCTL_TEST_PYTHON").unwrap();
        return;
    };
    let mut runner = TestRunner::deterministic();
    let plans: Vec<Plan> =
        (0..200).map(|_| any_plan().new_tree(&mut runner).unwrap().current()).chain([sample()]).collect();
    let texts: Vec<String> = plans.iter().map(|plan| to_yaml(plan).unwrap()).collect();
    let mut child = Command::new(python)
        .args(["-c", PYTHON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(serde_json::to_string(&texts).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let read: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read.len(), plans.len());
    for ((plan, read), text) in plans.iter().zip(read).zip(&texts) {
        assert!(read == serde_json::to_value(plan).unwrap(), "PyYAML reads this otherwise:\n{text}");
    }
}
