//! Questions on a real terminal: a pseudo-terminal of Python's, answers as a person types them.

use std::process::Command;

use serde_json::Value;

use crate::support::root::ZSTD;
use crate::support::tools::{have, skip_unless};
use crate::support::{Ran, TestRoot};

/// Runs a command on a terminal of its own, waits for the question, types the answer, waits for the end;
/// prints what the terminal showed and the exit code.
const TERMINAL: &str = r"
import json, os, pty, select, sys, time
answers = [a.encode().decode('unicode_escape').encode() for a in sys.argv[1].split('|')]
command, asked = sys.argv[2:], set()
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)
shown, typed, until = b'', False, time.time() + 60
while time.time() < until:
    if select.select([terminal], [], [], 0.2)[0]:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    for question in (b'[m/r/A]', b'[y/N]'):
        if question in shown and question not in asked:
            # What waits in the terminal is answered in its order: the next answer for the next question.
            asked.add(question)
            os.write(terminal, answers.pop(0) if answers else b'\x04')
            typed = True
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps({'code': code, 'typed': typed, 'shown': shown.decode(errors='replace')}))
";

fn ask(root: &TestRoot, args: &[&str], answer: &str) -> Value {
    let inner = root.command(args);
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, answer]).arg(inner.get_program()).args(inner.get_args()).env_clear();
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let result = Ran::of(&mut command).ok().json();
    assert_eq!(result["typed"], true, "a question was asked: {result:#}");
    result
}

#[test]
fn whatever_is_not_yes_changes_nothing() {
    if skip_unless("whatever_is_not_yes_changes_nothing", have("python3"), "python3 is missing") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let apply = ["apply", plan.to_str().unwrap()];
    let before = root.tree();
    // An empty line, no, the end of input, Ctrl-C.
    for (answer, code) in [("\\n", 2), ("n\\n", 2), ("No\\n", 2), ("\\x04", 2), ("\\x03", 130)] {
        for args in
            [&apply[..], &["backup", "restore", ZSTD], &["backup", "restore", ZSTD, "--clients", "merge"]]
        {
            let result = ask(&root, args, answer);
            assert_eq!(result["code"], code, "{answer}: {result:#}");
            assert!(result["shown"].as_str().unwrap().contains("nothing was changed"), "{result:#}");
            before.assert_same(&root.tree(), answer);
        }
    }
    // What is no answer is asked again.
    let result = ask(&root, &apply, "what\\nn\\n");
    assert_eq!(result["code"], 2);
    assert!(result["shown"].as_str().unwrap().contains("please answer y or n"), "{result:#}");
    before.assert_same(&root.tree(), "no answer");
}

#[test]
fn yes_goes_on() {
    if skip_unless("yes_goes_on", have("python3"), "python3 is missing") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let result = ask(&root, &["apply", plan.to_str().unwrap()], "y\\n");
    assert_eq!(result["code"], 0, "{result:#}");
    root.assert_generation("gen-a.sha256");
    let result = ask(&root, &["run", "prune", "--older-than", "0s"], "n\\n");
    assert_eq!(result["code"], 2, "{result:#}");
    assert_eq!(root.runs()[0]["displaced"].as_str().map(|path| root.path(path).is_dir()), Some(true));
    let result = ask(&root, &["run", "prune", "--older-than", "0s"], "YES\\n");
    assert_eq!(result["code"], 0, "{result:#}");
    root.assert_no_private();
}

/// How the question about clients ends.
const QUESTION: &str = "[m/r/A]";

#[test]
fn where_nobody_chose_a_person_is_asked_what_happens_to_clients() {
    let test = "where_nobody_chose_a_person_is_asked_what_happens_to_clients";
    if skip_unless(test, have("python3"), "python3 is missing") {
        return;
    }
    let root = TestRoot::new();
    let before = root.tree();
    let restore = ["backup", "restore", ZSTD];
    // Abort is the default, whatever comes after it.
    for answer in ["\\n", "a\\n", "no\\n", "x\\na\\n", "r\\n|n\\n", "m\\n|\\n"] {
        let result = ask(&root, &restore, answer);
        let shown = result["shown"].as_str().unwrap();
        assert_eq!(result["code"], 2, "{answer}: {shown}");
        assert!(shown.contains(QUESTION) && shown.contains("nothing was changed"), "{answer}: {shown}");
        assert!(
            shown.contains("675 changes on the live server") && shown.contains("Household: 675, "),
            "{shown}"
        );
        before.assert_same(&root.tree(), answer);
    }
    let result = ask(&root, &restore, "reset\\n|y\\n");
    assert_eq!(result["code"], 0, "{result:#}");
    assert_eq!(root.entry(ZSTD)["restores"][0]["clients"], "reset");
    // Changes that cannot be counted may be there all the same.
    let root = TestRoot::new();
    let group = root.path("srv/budget/data/user-files/group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite");
    let mut bytes = std::fs::read(&group).unwrap();
    bytes[4096..45_056].fill(0xa5);
    std::fs::write(&group, bytes).unwrap();
    let result = ask(&root, &restore, "a\\n");
    let shown = result["shown"].as_str().unwrap();
    assert!(shown.contains(QUESTION) && shown.contains("could not be counted"), "{shown}");
    // A choice in restore.yml is one.
    let root = TestRoot::new();
    root.write("etc/abssctl/restore.yml", "clients: merge\n");
    let result = ask(&root, &restore, "n\\n");
    assert!(!result["shown"].as_str().unwrap().contains(QUESTION), "{result:#}");
    // Nobody is asked with --yes, and what happens is said aloud.
    let root = TestRoot::new();
    let ran = root.run(&["backup", "restore", ZSTD, "--yes"]).ok();
    assert!(
        ran.stderr.contains("675 newer changes come back") && ran.stderr.contains("--clients reset"),
        "{}",
        ran.stderr
    );
    let root = TestRoot::new();
    let ran = root.run(&["backup", "restore", ZSTD, "--yes", "--clients", "merge"]).ok();
    assert!(!ran.stderr.contains("nobody said"), "{}", ran.stderr);
}
