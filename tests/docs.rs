//! The pages say what is true: their commands run and print what stands there, every field of a plan and
//! every kind of step is explained, and links lead somewhere. Works in scratch folders alone.
//!
//! How a ```` ```console ```` block is read: `$ ` begins a command; `# exits N` after it is the expected
//! exit code, else 0; the other lines are its output, where `…` alone stands for any number of lines and
//! inside a line for any text. Ids, digests and times may be any. A command without output lines only
//! has to exit as it should. All blocks of a page run in one shell, in a root unpacked from the fixture;
//! `/srv`, `/var` and `/etc` mean those of that root. Questions are answered with yes.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use abssctl::plan::schema::plan_schema;
use abssctl::plan::step::StepKind;
use abssctl::state::restore_config::RestoreConfig;
use abssctl::state::yaml;
use serde_json::Value;

const HOME: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn commands_do_what_the_pages_say() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in pages() {
        let commands = commands(&std::fs::read_to_string(&page).unwrap());
        count += commands.len();
        if !commands.is_empty() {
            wrong.extend(run(&page, &commands));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 20, "only {count} commands were found: are the blocks still marked `console`?");
}

/// The quickstart fails by itself where one of its proofs does.
#[test]
fn the_quickstart_holds_its_proofs() {
    drop(example("quickstart.sh", "All proofs hold."));
}

/// So does the review, where anything is not refused that must be.
#[test]
fn the_review_workflow_holds_its_expectations() {
    let out = example("review-workflow.sh", "All expectations hold.");
    assert_eq!(out.matches("\n(exit code 6)").count(), 3, "{out}");
    assert!(out.contains("(exit code 5)") && out.contains("already applied by run"), "{out}");
}

/// Runs a script to its good end; gives what it printed.
fn example(name: &str, end: &str) -> String {
    let script = Path::new(HOME).join("examples").join(name);
    let scratch = tempfile::tempdir().unwrap();
    let ran = Command::new(script)
        .args(["--program", env!("CARGO_BIN_EXE_abssctl")])
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.contains(end), "{out}{err}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "it left something behind");
    out.into_owned()
}

#[test]
fn the_picture_of_growth_is_that_of_its_table() {
    let scratch = tempfile::tempdir().unwrap();
    let table = scratch.path().join("growth.tsv");
    std::fs::write(&table, read("docs/growth.tsv")).unwrap();
    let script = Path::new(HOME).join("benches/growth.sh");
    let drawn = Command::new(script).arg("plot").env("TABLE", &table).output().unwrap();
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let drawn = std::fs::read_to_string(scratch.path().join("growth.svg")).unwrap();
    assert!(drawn == read("docs/growth.svg"), "type: benches/growth.sh plot");
}

#[test]
fn every_field_of_a_plan_is_explained() {
    let page = read("docs/plan.md");
    let mut names = BTreeSet::new();
    properties(plan_schema(), &mut names);
    assert!(names.len() > 80, "the schema has only {} fields", names.len());
    let missing: Vec<&String> = names.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/plan.md does not explain {missing:?}");
}

/// The example of the page can be copied, and shows every key that a rule can have.
#[test]
fn the_example_policy_is_read() {
    let page = read("docs/policy.md");
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let config: RestoreConfig = yaml::from_str(example).unwrap();
    let shown = serde_json::to_value(&config.rules.all()[0]).unwrap();
    let unknown = yaml::from_str::<RestoreConfig>("rules: [{x: 1}]").unwrap_err().message;
    let known: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    assert!(known.contains(&"freeze"), "{unknown}");
    let missing: Vec<&&str> = known.iter().filter(|key| shown.get(key).is_none()).collect();
    assert!(missing.is_empty(), "the example does not show {missing:?}");
}

#[test]
fn every_kind_of_step_is_explained() {
    for page in ["docs/plan.md", "docs/apply.md"] {
        let text = read(page);
        for kind in StepKind::ALL {
            assert!(text.contains(&format!("`{kind}`")), "{page} does not explain the step {kind}");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = target.exists();
            let anchored = anchor.is_empty()
                || std::fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor));
            if !there || !anchored {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

fn read(page: &str) -> String {
    std::fs::read_to_string(Path::new(HOME).join(page)).unwrap()
}

/// README.md and all of docs/, but for the decision records.
fn pages() -> Vec<PathBuf> {
    let listed = std::fs::read_dir(Path::new(HOME).join("docs")).unwrap();
    let mut pages: Vec<PathBuf> = listed
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    pages.push(Path::new(HOME).join("README.md"));
    pages.sort();
    pages
}

/// A command of a page.
struct Shown {
    line: usize,
    command: String,
    exits: i32,
    output: Vec<String>,
}

fn commands(text: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let mut inside = false;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            let mut command = command.to_owned();
            while command.ends_with('\\') {
                command = format!("{command}\n{}", lines.next().expect("a line goes on").1);
            }
            found.push(Shown { line: index + 1, command, exits: 0, output: Vec::new() });
        } else if let Some(shown) = found.last_mut() {
            match line.strip_prefix("# exits ") {
                Some(code) => shown.exits = code.parse().expect("a number after '# exits'"),
                None => shown.output.push(line.to_owned()),
            }
        }
    }
    found
}

/// Runs the commands of a page and says what is not as shown.
fn run(page: &Path, commands: &[Shown]) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    for name in ["root", "bin", "work"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let fixture = Path::new(HOME).join("tests/fixtures/budget-root.tar.gz");
    let unpacked = Command::new("tar").arg("-xpf").arg(fixture).arg("-C").arg(at("root")).status().unwrap();
    assert!(unpacked.success());
    let root = at("root").display().to_string();
    let program = format!("#!/bin/sh\nexec {} --root {root} \"$@\"\n", env!("CARGO_BIN_EXE_abssctl"));
    std::fs::write(at("bin/abssctl"), program).unwrap();
    let mut script = format!("chmod +x {}\n", at("bin/abssctl").display());
    for (number, shown) in commands.iter().enumerate() {
        let mut command = shown.command.clone();
        if !command.starts_with("abssctl") {
            for top in ["/srv/", "/var/", "/etc/"] {
                command = command.replace(top, &format!("{root}{top}"));
            }
        }
        let (out, code) = (at(&format!("out.{number}")), at(&format!("code.{number}")));
        script.push_str(&format!("{{ {command}\n}} >{} 2>&1\necho $? >{}\n", out.display(), code.display()));
    }
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap());
    Command::new("bash")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", path)
        .envs([("HOME", "/"), ("TZ", "UTC"), ("COLUMNS", "100"), ("NO_COLOR", "1"), ("LC_ALL", "C.UTF-8")])
        .env("ABSSCTL_ASSUME_YES", "1")
        .current_dir(at("work"))
        .stdin(Stdio::null())
        .status()
        .unwrap();
    let mut wrong = Vec::new();
    for (number, shown) in commands.iter().enumerate() {
        let output = std::fs::read_to_string(at(&format!("out.{number}"))).unwrap_or_default();
        let code = std::fs::read_to_string(at(&format!("code.{number}"))).unwrap_or_default();
        let output = output.replace(&root, "");
        let matches = shown.output.is_empty() || is_shown(&shown.output, &output);
        if code.trim() != shown.exits.to_string() || !matches {
            wrong.push(format!(
                "{}:{}: `{}` exits with {} and prints:\n{output}",
                page.display(),
                shown.line,
                shown.command,
                code.trim()
            ));
        }
    }
    wrong
}

/// Whether the output is what a page shows.
fn is_shown(shown: &[String], output: &str) -> bool {
    fn lines(shown: &[String], output: &[String]) -> bool {
        match (shown.split_first(), output.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((first, rest)), _) if first == "…" => {
                (0..=output.len()).any(|skip| lines(rest, &output[skip..]))
            }
            (Some(_), None) => false,
            (Some((first, rest)), Some((line, after))) => is_like(first, line) && lines(rest, after),
        }
    }
    let flat = |line: &str| normal(line).split_whitespace().collect::<Vec<_>>().join(" ");
    let keep = |line: &String| !line.is_empty();
    let shown: Vec<String> = shown.iter().map(|line| flat(line)).filter(keep).collect();
    let output: Vec<String> = output.lines().map(flat).filter(keep).collect();
    lines(&shown, &output)
}

/// Whether a line is the shown one, where `…` stands for any text.
fn is_like(shown: &str, line: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else { return shown == line };
    let Some(after) = line.strip_prefix(start) else { return false };
    (0..=after.len()).filter(|at| after.is_char_boundary(*at)).any(|at| is_like(rest, &after[at..]))
}

/// Puts a word in the place of what differs from run to run.
fn normal(line: &str) -> String {
    let mut text = String::new();
    let mut word = String::new();
    for c in without_times(line).chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() || c == '-' {
            word.push(c);
        } else {
            text.push_str(normal_word(&word));
            word.clear();
            text.push(c);
        }
    }
    text.trim_end().to_owned()
}

/// Whether a text has the shape of a pattern in which `0` stands for a digit.
fn like(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(found, wanted)| match wanted {
            b'0' => found.is_ascii_digit(),
            other => found == other,
        })
}

fn without_times(line: &str) -> String {
    let pattern = "0000-00-00T00:00:00Z";
    let mut text = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let time = rest.get(..pattern.len()).is_some_and(|start| like(start, pattern));
        let length = if time { pattern.len() } else { first.len_utf8() };
        text.push_str(if time { "TIME" } else { &rest[..length] });
        rest = &rest[length..];
    }
    text
}

fn normal_word(word: &str) -> &str {
    let bytes = word.as_bytes();
    if bytes.len() == 26 && bytes.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) {
        "ULID"
    } else if bytes.len() == 64 && bytes.iter().all(u8::is_ascii_hexdigit) {
        "DIGEST"
    } else if word.get(..15).is_some_and(|start| like(start, "00000000-000000")) {
        "BACKUP"
    } else {
        word
    }
}

/// Names of all properties of a schema, those of its parts too.
fn properties(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                if let ("properties", Value::Object(fields)) = (key.as_str(), value) {
                    names.extend(fields.keys().cloned());
                }
                properties(value, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| properties(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Relative links of a page, outside of its code blocks.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut code = false;
    for line in text.lines() {
        code ^= line.starts_with("```");
        for part in line.split("](").skip(1).filter(|_| !code) {
            let link = part.split(')').next().unwrap_or_default();
            if !link.contains("://") {
                found.push(link.to_owned());
            }
        }
    }
    found
}

/// Anchors of the headings of a page, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Whoever looks up the code of an error finds what to do.
#[test]
fn every_error_is_in_the_runbook() {
    let page = read("docs/runbook.md");
    let rows = page.split('`').filter(|word| word.starts_with("abssctl::"));
    let rows: BTreeSet<&str> = rows.collect();
    let mut codes = BTreeSet::new();
    let mut folders = vec![Path::new(HOME).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let found = text.split("code(").skip(1).filter_map(|rest| rest.split_once(')'));
                codes.extend(
                    found.map(|(code, _)| code.to_owned()).filter(|code| code.starts_with("abssctl::")),
                );
            }
        }
    }
    assert!(codes.len() > 100, "{codes:?}");
    let kind = |code: &str| code.rsplit_once("::").map(|(kind, _)| format!("{kind}::*")).unwrap_or_default();
    let named = |code: &String| rows.contains(code.as_str()) || rows.contains(kind(code).as_str());
    let missing: Vec<&String> = codes.iter().filter(|code| !named(code)).collect();
    assert!(missing.is_empty(), "not in docs/runbook.md: {missing:?}");
    let stands_for = |row: &str| codes.iter().any(|code| code == row || kind(code) == row);
    let idle: Vec<&&str> = rows.iter().filter(|row| !stands_for(row)).collect();
    assert!(idle.is_empty(), "docs/runbook.md names what no error has: {idle:?}");
}
