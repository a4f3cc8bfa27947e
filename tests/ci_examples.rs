//! The pipelines in `examples/` hold what they promise: shell that parses, commands that exist with these
//! options, no text of a stranger in a shell, no more rights than needed. Reads files and runs `bash -n`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use abssctl::cli::args::Cli;
use clap::Parser as _;
use serde_yaml::Value;

/// A piece of shell and where it stands.
struct Script {
    place: String,
    text: String,
}

fn workflows() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/github-actions");
    let listed = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        listed.filter(|path| path.extension().is_some_and(|end| end == "yml")).collect();
    files.sort();
    assert_eq!(files.len(), 4);
    files.iter().map(|path| read(path)).collect()
}

fn gitlab() -> (String, Value) {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gitlab-ci/.gitlab-ci.yml"))
}

fn read(path: &Path) -> (String, Value) {
    let text = std::fs::read_to_string(path).unwrap();
    let value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path.file_name().unwrap().to_str().unwrap().to_owned(), value)
}

/// Every script of a pipeline, wherever it stands in it.
fn scripts(file: &str, value: &Value, found: &mut Vec<Script>) {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                let key = key.as_str().unwrap_or_default();
                let place = format!("{file}, {key}");
                if let ("run", Some(text)) = (key, value.as_str()) {
                    found.push(Script { place, text: text.to_owned() });
                } else if let ("script" | "before_script" | "after_script", Value::Sequence(lines)) =
                    (key, value)
                {
                    let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
                    found.push(Script { place, text: lines.join("\n") });
                } else {
                    scripts(&place, value, found);
                }
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| scripts(file, item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Tagged(_) => {}
    }
}

fn all_scripts() -> Vec<Script> {
    let mut found = Vec::new();
    for (file, value) in workflows().into_iter().chain([gitlab()]) {
        scripts(&file, &value, &mut found);
    }
    assert!(found.len() > 20, "the search finds nothing any more: {}", found.len());
    found
}

#[test]
fn every_script_is_bash() {
    for script in all_scripts() {
        let mut bash = Command::new("bash").arg("-n").env_clear().stdin(Stdio::piped()).spawn().unwrap();
        bash.stdin.take().unwrap().write_all(script.text.as_bytes()).unwrap();
        assert!(bash.wait().unwrap().success(), "{}:\n{}", script.place, script.text);
    }
}

/// `${{ … }}` is put into the text of a script before a shell reads it: a title or a branch name with a
/// quote in it would be a command.
#[test]
fn no_expression_stands_in_a_script() {
    for script in all_scripts() {
        assert!(!script.text.contains("${{"), "{}: pass it by env\n{}", script.place, script.text);
        assert!(!script.text.contains("eval "), "{}", script.place);
    }
}

#[test]
fn workflows_have_no_more_rights_than_they_say() {
    for (file, workflow) in workflows() {
        assert_eq!(
            workflow["permissions"],
            Value::Mapping(serde_yaml::Mapping::new()),
            "{file}: {{}} is the default"
        );
        let triggers = serde_yaml::to_string(&workflow["on"]).unwrap();
        assert!(!triggers.contains("pull_request_target") && !triggers.contains("workflow_run"), "{file}");
        for (name, job) in workflow["jobs"].as_mapping().unwrap() {
            let place = format!("{file}, {}", name.as_str().unwrap());
            assert!(job.get("permissions").is_some_and(Value::is_mapping), "{place} says no permissions");
            assert!(
                job.get("uses").is_some() || job.get("timeout-minutes").is_some(),
                "{place} may run for ever"
            );
            job_is_careful(&place, job);
        }
    }
}

fn job_is_careful(place: &str, job: &Value) {
    let on_the_server = serde_yaml::to_string(&job["runs-on"]).unwrap().contains("self-hosted");
    let rights = serde_yaml::to_string(&job["permissions"]).unwrap();
    assert!(
        !on_the_server || !rights.contains("write"),
        "{place}: the server's runner writes nothing to the forge"
    );
    for step in job["steps"].as_sequence().into_iter().flatten() {
        let Some(action) = step.get("uses").and_then(Value::as_str) else { continue };
        let (_, version) =
            action.split_once('@').unwrap_or_else(|| panic!("{place}: {action} has no version"));
        let tag = version
            .strip_prefix('v')
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'));
        assert!(tag || version.len() == 40, "{place}: {action} is a branch");
        if action.starts_with("actions/checkout@") {
            let kept = &step["with"]["persist-credentials"];
            assert!(kept.is_bool(), "{place}: say whether the token stays in the checkout");
            assert!(*kept == Value::Bool(false) || rights.contains("contents: write"), "{place}");
        }
    }
}

#[test]
fn every_command_line_is_one_of_ours() {
    let mut seen = Vec::new();
    for script in all_scripts() {
        for words in commands(&script.text) {
            let line = words.join(" ");
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{}: {line}\n{error}", script.place);
            }
            seen.push(format!("{} {}", words[1], words.get(2).map_or("", String::as_str)));
        }
    }
    for command in
        ["plan restore", "plan validate", "plan verify", "plan show", "plan check", "apply", "facts"]
    {
        assert!(seen.iter().any(|line| line.starts_with(command)), "no example has '{command}': {seen:?}");
    }
    assert!(seen.len() >= 20, "the search finds nothing any more: {seen:?}");
}

/// The command lines of a script that begin with `abssctl`, as a shell would split them.
fn commands(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    let code: Vec<&str> = script.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("abssctl ") {
        // Where a command can begin: at the start, after an operator, a keyword or sudo.
        let before = code[..at].trim_end_matches(' ');
        let begins = before.is_empty()
            || before.ends_with(['\n', ';', '&', '|', '(', '{', '!'])
            || ["if", "then", "do", "else", "sudo -n"].iter().any(|word| before.ends_with(word));
        if begins {
            found.push(words(&code[at..]));
        }
    }
    found
}

/// Splits at blanks outside of quotes, up to the end of the command; redirections are left out.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => words.last_mut().unwrap().push(c),
            '<' | '>' => {
                // The number of a stream belongs to the redirection.
                if words.last().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
                    words.pop();
                }
                break;
            }
            '\n' | ';' | '|' | '&' | ')' => break,
            ' ' => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.iter().filter(|word| !word.is_empty()).map(|word| value(word)).collect()
}

/// A word with something fitting in the place of a variable.
fn value(word: &str) -> String {
    let (option, word) = match word.split_once('=') {
        Some((option, word)) if option.starts_with("--") => (format!("{option}="), word),
        _ => (String::new(), word),
    };
    let value = match word {
        "${which[@]}" => "--latest",
        "${only[@]}" => "--backup=20261124-022632-budget-fc166c",
        "$INSTANCE" => "budget",
        variable if variable.starts_with('$') => "some text",
        plain => plain,
    };
    option + value
}

#[test]
fn the_search_for_commands_sees_them() {
    let script = "# abssctl nothing\n\
        if ! abssctl plan verify \"$plan\" --json | jq .; then\n\
        x=$(sudo -n abssctl apply \"a b\" --yes \\\n  --receipt r 2>&1)\n\
        echo abssctl is no command; abssctl plan restore --reason=\"$REASON\" >out";
    let lines: Vec<String> = commands(script).iter().map(|words| words.join("|")).collect();
    assert_eq!(
        lines,
        [
            "abssctl|plan|verify|some text|--json",
            "abssctl|apply|a b|--yes|--receipt|r",
            "abssctl|plan|restore|--reason=some text",
        ]
    );
}

/// A repository with one commit.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (done, said) = bash(dir.path(), "git init -q -b main; git commit -q --allow-empty -m first", &[]);
    assert!(done, "{said}");
    dir
}

/// Runs a script in a repository as a runner does; gives its exit code and what it said.
fn bash(repository: &Path, script: &str, env: &[(&str, &str)]) -> (bool, String) {
    let ran = Command::new("bash")
        .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
        .current_dir(repository)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs([("HOME", "/nowhere"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.org")])
        .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@example.org")])
        .env("GITHUB_OUTPUT", repository.join(".git/output"))
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    (ran.status.success(), said)
}

/// The scripts that say which plans changed, and a script that makes all of them print it in one way.
fn finders() -> Vec<(&'static str, String)> {
    let step = |file: &str, job: &str| {
        let (_, workflow) = workflows().into_iter().find(|(name, _)| name == file).unwrap();
        workflow["jobs"][job]["steps"][1]["run"].as_str().unwrap().to_owned()
    };
    let (_, pipeline) = gitlab();
    let gitlab = pipeline[".changed"]["before_script"][0].as_str().unwrap().to_owned();
    vec![
        ("changed", step("plan.yml", "changed") + "\nsed -n 's/^plans=/found: /p' \"$GITHUB_OUTPUT\""),
        ("find", step("apply.yml", "find") + "\nsed -n 's/^plan=/found: /p' \"$GITHUB_OUTPUT\""),
        ("gitlab", gitlab + "\necho \"found: ${plans[*]}\""),
    ]
}

/// What the three say of a commit that `change` makes.
fn found(change: &str) -> Vec<(&'static str, bool, String)> {
    let repository = repository();
    let (done, said) =
        bash(repository.path(), &format!("{change}\ngit add -A\ngit commit -q -m second"), &[]);
    assert!(done, "{said}");
    let (_, before) = bash(repository.path(), "git rev-parse HEAD^1", &[]);
    let env = [("BASE", before.trim()), ("BEFORE", before.trim())];
    let run = |(name, script): (&'static str, String)| {
        drop(std::fs::remove_file(repository.path().join(".git/output")));
        let (done, said) = bash(repository.path(), &script, &env);
        (name, done, said)
    };
    finders().into_iter().map(run).collect()
}

#[test]
fn a_plan_is_found_by_itself_and_by_its_signatures() {
    for change in [
        "mkdir -p plans/budget; echo 1 >plans/budget/a.yaml",
        "mkdir -p plans/budget; echo 1 >plans/budget/a.yaml; echo 1 >plans/budget/a.yaml.ann@example.org.sig; \
         echo 1 >plans/budget/a.yaml.bob@example.org.sig; echo 1 >plans/budget/old.receipt.json; echo 1 >README",
    ] {
        for (name, done, said) in found(change) {
            assert!(done && said.trim() == "found: plans/budget/a.yaml", "{name}: {said}");
        }
    }
    for (name, done, said) in found("echo 1 >README") {
        assert!(done && said.trim() == "found:", "{name}: {said}");
    }
    // One plan is applied at a time; all of them are looked at.
    let two = "mkdir -p plans/budget plans/other; echo 1 >plans/budget/a.yaml; echo 1 >plans/other/b.yaml";
    for (name, done, said) in found(two) {
        assert_eq!(done, name != "find", "{name}: {said}");
        let words = if name == "find" {
            "more than one plan"
        } else {
            "found: plans/budget/a.yaml plans/other/b.yaml"
        };
        assert!(said.contains(words), "{name}: {said}");
    }
}

#[test]
fn hostile_names_reach_no_later_step() {
    for name in ["a b.yaml", "a$(touch x).yaml", "-rf.yaml", "a\\n.yaml", "a;b.yaml", "a'b.yaml", "é.yaml"] {
        let file = format!("plans/budget/{}", name.replace("\\n", "\n"));
        let change = format!("mkdir -p plans/budget; echo 1 >{}", single(&file));
        for (finder, done, said) in found(&change) {
            assert!(!done && said.contains("plans are plans/INSTANCE/NAME.yaml"), "{finder}, {name}: {said}");
            assert!(!said.contains("found:"), "{finder}, {name}: {said}");
        }
    }
    // A link would let a job read what it points to.
    for (finder, done, said) in found("mkdir -p plans/budget; ln -s /etc/passwd plans/budget/a.yaml") {
        assert!(!done && said.contains("is no file"), "{finder}: {said}");
    }
}

/// Without the commit to compare with, nobody knows what changed: that must not pass as nothing.
#[test]
fn a_comparison_that_fails_is_no_empty_one() {
    for (finder, script) in finders() {
        let repository = repository();
        let (done, said) = bash(repository.path(), &script, &[("BASE", "0000"), ("BEFORE", "0000")]);
        assert!(!done && !said.contains("found:"), "{finder}: {said}");
    }
}

/// A word for a shell.
fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A job that is skipped counts as passed to a ruleset; the last job does not let that happen.
#[test]
fn the_last_job_passes_only_when_all_did() {
    let (_, workflow) = workflows().into_iter().find(|(name, _)| name == "plan.yml").unwrap();
    let job = &workflow["jobs"]["plans-are-good"];
    let script = job["steps"][0]["run"].as_str().unwrap();
    let dir = repository();
    for (results, good) in [
        ("success success success success", true),
        ("success skipped skipped skipped", true),
        ("failure skipped skipped skipped", false),
        ("success failure skipped skipped", false),
        ("success success failure skipped", false),
        ("success success success failure", false),
        ("success success success cancelled", false),
        ("skipped skipped skipped skipped", false),
        ("", false),
    ] {
        assert_eq!(bash(dir.path(), script, &[("RESULTS", results)]).0, good, "{results}");
    }
}
