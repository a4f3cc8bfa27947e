//! What CI reads: SARIF logs that the standard's own schema accepts, places that forges can show, and exit
//! codes that do not depend on the format.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::support::root::{GZIP, ZSTD};
use crate::support::{Ran, TestRoot};

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sarif-schema-2.1.0.json");
    let text = std::fs::read_to_string(path).unwrap();
    // Errata 01 mended these; tests/data/README.md says more.
    let pattern = ("^[a-zA-Z]{2}|^[a-zA-Z]{2}-[a-zA-Z]{2}]?$", "^[a-zA-Z]{2}(-[a-zA-Z]{2})?$");
    assert!(text.contains(pattern.0));
    let mut schema: Value = serde_json::from_str(&text.replace(pattern.0, pattern.1)).unwrap();
    schema["definitions"]["region"]["anyOf"] = json!([{ "required": ["startLine"] }, { "required": ["charOffset"] }, { "required": ["byteOffset"] }]);
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
});

/// Reads a log and proves what must hold for each: the schema, and what the schema leaves to prose.
#[track_caller]
fn log(ran: &Ran) -> Value {
    let log = ran.json();
    let errors: Vec<String> =
        SCHEMA.iter_errors(&log).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{log:#}");
    assert_eq!(log["runs"].as_array().unwrap().len(), 1);
    let run = &log["runs"][0];
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    assert_eq!(run["invocations"][0]["exitCode"], ran.code, "{log:#}");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let mut ids: Vec<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    for rule in rules {
        for text in ["shortDescription", "fullDescription", "help"] {
            assert!(!rule[text]["text"].as_str().unwrap().is_empty(), "forges ask for {text}: {rule:#}");
        }
    }
    let mut fingerprints = Vec::new();
    for result in results(run) {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1, "{result:#}");
        let file = usize::try_from(place["artifactLocation"]["index"].as_u64().unwrap()).unwrap();
        assert_eq!(run["artifacts"][file]["location"]["uri"], place["artifactLocation"]["uri"]);
        fingerprints.push(result["partialFingerprints"]["primaryLocationLineHash"].as_str().unwrap());
    }
    for (what, list) in [("rule", &mut ids), ("fingerprint", &mut fingerprints)] {
        let count = list.len();
        list.sort_unstable();
        list.dedup();
        assert_eq!(list.len(), count, "a {what} comes twice");
    }
    log
}

fn results(run: &Value) -> &Vec<Value> {
    run["results"].as_array().unwrap()
}

/// Rule, level and start of each result, in order.
fn told(log: &Value) -> Vec<(String, String, u64, u64)> {
    let one = |result: &Value| {
        let region = &result["locations"][0]["physicalLocation"]["region"];
        let number = |key: &str| region[key].as_u64().unwrap();
        let text = |key: &str| result[key].as_str().unwrap().to_owned();
        (text("ruleId"), text("level"), number("startLine"), number("startColumn"))
    };
    results(&log["runs"][0]).iter().map(one).collect()
}

/// A valid plan in the folder that the commands run in.
fn valid(root: &TestRoot, name: &str) -> PathBuf {
    let path = root.work(name);
    let _ = root.run(&["plan", "restore", ZSTD, "-o", path.to_str().unwrap()]).ok();
    path
}

fn broken(root: &TestRoot, name: &str, content: &[u8]) {
    std::fs::write(root.work(name), content).unwrap();
}

/// Runs in the folder of the plans, as CI does in its checkout.
fn here(root: &TestRoot, args: &[&str]) -> Ran {
    Ran::of(root.command(args).current_dir(root.work(".")))
}

/// Exit code of a command in all formats, which is one.
#[track_caller]
fn code_in_all_formats(root: &TestRoot, args: &[&str]) -> i32 {
    let with = |format: &[&str]| here(root, &[args, format].concat());
    let sarif = with(&["--format", "sarif"]);
    let _ = log(&sarif);
    let others = [with(&[]), with(&["--format", "text"]), with(&["--format", "json"]), with(&["--json"])];
    for other in &others {
        assert_eq!(other.code, sarif.code, "{args:?}: {other:?}");
    }
    assert_eq!(others[2].stdout, others[3].stdout, "--format json is --json");
    let _ = others[3].json();
    sarif.code
}

#[test]
fn a_valid_plan_has_no_results() {
    let root = TestRoot::new();
    let _ = valid(&root, "plan.yaml");
    let ran = here(&root, &["plan", "validate", "plan.yaml", "--format", "sarif"]).ok();
    let log = log(&ran.says("plan.yaml is a valid plan"));
    let run = &log["runs"][0];
    assert_eq!(results(run).len(), 0);
    assert_eq!(run["artifacts"][0]["location"]["uri"], "plan.yaml");
    assert_eq!(run["invocations"][0], json!({ "executionSuccessful": true, "exitCode": 0 }));
    assert_eq!(run["tool"]["driver"]["name"], "abssctl");
    assert_eq!(run["tool"]["driver"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn problems_stand_where_the_loader_saw_them() {
    let root = TestRoot::new();
    let text = std::fs::read_to_string(valid(&root, "plan.yaml")).unwrap();
    let text = text
        .replace("  clients: merge\n  sessions", "  clinets: merge\n  sessions")
        .replace("drift: structure\n  replay", "drift: fast\n  replay");
    broken(&root, "plan.yaml", text.as_bytes());
    let ran = here(&root, &["plan", "validate", "./plan.yaml", "--format", "sarif"]).code(2);
    let log = log(&ran.says("did you mean clients?"));
    let json = here(&root, &["plan", "validate", "plan.yaml", "--json"]).code(2).json();
    let problems = json["problems"].as_array().unwrap();
    assert!(problems.len() >= 2, "{json:#}");
    let expected: Vec<_> = problems
        .iter()
        .map(|problem| {
            let code = problem["code"].as_str().unwrap().to_owned();
            (code, "error".to_owned(), problem["line"].as_u64().unwrap(), problem["column"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(told(&log), expected);
    let run = &log["runs"][0];
    assert_eq!(run["invocations"][0]["executionSuccessful"], true, "the program did its work");
    for result in results(run) {
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "plan.yaml");
        let region = &place["region"];
        assert_eq!(region["startLine"], region["endLine"]);
        let number = |key: &str| usize::try_from(region[key].as_u64().unwrap()).unwrap();
        let line = text.lines().nth(number("startLine") - 1).unwrap();
        let marked = &line[number("startColumn") - 1..number("endColumn") - 1];
        assert!(["spec", "clinets", "fast"].contains(&marked), "{marked:?}");
    }
    let unknown =
        results(run).iter().find(|result| result["ruleId"] == "abssctl::plan::unknown_field").unwrap();
    let message = unknown["message"]["text"].as_str().unwrap();
    assert!(message.contains("'clinets'") && message.contains("did you mean clients?"), "{message}");
}

#[test]
fn a_finding_keeps_its_fingerprint_when_lines_move() {
    let root = TestRoot::new();
    let text = std::fs::read_to_string(valid(&root, "plan.yaml")).unwrap();
    let text = text.replace("drift: structure\n  replay", "drift: fast\n  replay");
    let look = |text: &str| {
        broken(&root, "plan.yaml", text.as_bytes());
        let log = log(&here(&root, &["plan", "validate", "plan.yaml", "--format", "sarif"]).code(2));
        let result = &results(&log["runs"][0])[0];
        (result["partialFingerprints"].clone(), result["locations"].clone())
    };
    let (first, place) = look(&text);
    let (moved, other_place) = look(&format!("# a comment\n\n{text}"));
    assert_eq!(first, moved);
    assert_ne!(place, other_place);
    let _ = valid(&root, "other.yaml");
}

#[test]
fn columns_count_characters() {
    let root = TestRoot::new();
    broken(&root, "a.json", "{\"😀é\": 1, \"😀é\": 2}".as_bytes());
    let log = log(&here(&root, &["plan", "validate", "a.json", "--format", "sarif"]).code(2));
    let region = &results(&log["runs"][0])[0]["locations"][0]["physicalLocation"]["region"];
    // In UTF-16 it would be 12 to 17, in bytes 15 to 23.
    assert_eq!(*region, json!({ "startLine": 1, "startColumn": 11, "endLine": 1, "endColumn": 15 }));
}

#[test]
fn files_that_are_no_plans_have_a_place_too() {
    let root = TestRoot::new();
    for (content, rule, line, column) in [
        (&b"a: [1,\nb: }"[..], "syntax", 2, 1),
        (b"a: b: c\n", "syntax", 1, 5),
        (b"{\"a\": 1,}", "syntax", 1, 9),
        (b"", "empty", 1, 1),
        (b"# nothing\n", "empty", 1, 1),
        (b"hello\n", "not_a_plan", 1, 1),
        (b"a: 1\n\xff\n", "not_utf8", 2, 1),
        (b"\xef\xbb\xbfa: 1\n", "character", 1, 1),
        (b"a: 1\na: 2\n", "duplicate_key", 2, 1),
        (b"a: \x1b\n", "character", 1, 4),
    ] {
        broken(&root, "x.yaml", content);
        let log = log(&here(&root, &["plan", "validate", "x.yaml", "--format", "sarif"]).code(2));
        let expected = (format!("abssctl::plan::{rule}"), "error".to_owned(), line, column);
        assert_eq!(told(&log)[0], expected, "{:?}", String::from_utf8_lossy(content));
    }
    broken(&root, "x.yaml", &vec![b' '; (4 << 20) + 1]);
    let ran = here(&root, &["plan", "validate", "x.yaml", "--format", "sarif"]).code(2);
    assert_eq!(told(&log(&ran))[0].0, "abssctl::plan::too_large");
}

#[test]
fn what_could_not_be_looked_at_is_no_result() {
    let root = TestRoot::new();
    for command in ["validate", "check"] {
        let ran = here(&root, &["plan", command, "gone.yaml", "--format", "sarif"]).code(2);
        let log = log(&ran.says("there is no plan file gone.yaml"));
        let run = &log["runs"][0];
        assert_eq!(results(run).len(), 0);
        let invocation = &run["invocations"][0];
        assert_eq!(invocation["executionSuccessful"], false);
        let notification = &invocation["toolExecutionNotifications"][0];
        assert_eq!(notification["descriptor"]["id"], "abssctl::cli::no_plan_file");
        assert_eq!(notification["level"], "error");
    }
    // Nor is a machine that cannot be looked at.
    let _ = valid(&root, "plan.yaml");
    root.write("etc/abssctl/config.yml", "nonsense: [");
    let log = log(&here(&root, &["plan", "check", "plan.yaml", "--format", "sarif"]).code(2));
    assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], false);
}

#[test]
fn several_plans_are_one_log_with_the_worst_exit_code() {
    let root = TestRoot::new();
    let _ = valid(&root, "a.yaml");
    let _ = valid(&root, "c d.json");
    broken(&root, "b.yaml", b"a: 1\n");
    let all = ["plan", "validate", "a.yaml", "b.yaml", "c d.json"];
    assert_eq!(code_in_all_formats(&root, &all), 2);
    assert_eq!(code_in_all_formats(&root, &["plan", "validate", "a.yaml", "c d.json"]), 0);
    assert_eq!(code_in_all_formats(&root, &["plan", "validate", "a.yaml", "gone.yaml"]), 2);
    // A folder cannot be read: the machine's fault, which weighs less than a bad plan.
    std::fs::create_dir(root.work("folder")).unwrap();
    assert_eq!(code_in_all_formats(&root, &["plan", "validate", "a.yaml", "folder"]), 3);
    assert_eq!(code_in_all_formats(&root, &["plan", "validate", "b.yaml", "folder"]), 2);

    let log = log(&here(&root, &[&all[..], &["--format", "sarif"]].concat()));
    let run = &log["runs"][0];
    let uris: Vec<&Value> =
        run["artifacts"].as_array().unwrap().iter().map(|file| &file["location"]["uri"]).collect();
    assert_eq!(uris, ["a.yaml", "b.yaml", "c%20d.json"]);
    let of_b =
        |result: &Value| result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "b.yaml";
    assert!(!results(run).is_empty() && results(run).iter().all(of_b));

    let json = here(&root, &[&all[..], &["--json"]].concat()).code(2).json();
    assert_eq!((&json["valid"], &json["exitCode"]), (&json!(false), &json!(2)));
    assert_eq!(json["plans"][0]["valid"], true);
    assert_eq!(json["plans"][1]["error"]["code"], "abssctl::plan::invalid");
    assert!(!json["plans"][1]["error"]["problems"].as_array().unwrap().is_empty());
    assert_eq!(json["plans"][2]["file"], "c d.json");

    let text = here(&root, &all).code(2).says("plan b.yaml is not valid");
    assert!(
        text.stdout.contains("a.yaml is a valid plan") && text.stdout.contains("'c d.json' is a valid plan")
    );
    let twice = here(&root, &["plan", "validate", "-", "-"]).code(2);
    let _ = twice.says("standard input can be read once");
}

#[test]
fn a_check_says_what_it_is_about() {
    let root = TestRoot::new();
    let text = std::fs::read_to_string(valid(&root, "plan.yaml")).unwrap();
    let line = |start: &str| text.lines().position(|line| line.starts_with(start)).unwrap() as u64 + 1;
    let check = || here(&root, &["plan", "check", "plan.yaml", "--format", "sarif"]);
    let first = log(&check().ok().says("plan.yaml would apply now"));
    // The fixture has no machine id.
    let notes: Vec<_> = told(&first).into_iter().filter(|result| result.1 == "note").collect();
    assert!(notes.iter().all(|note| note.0 == "abssctl::plan::check::not-checked"), "{notes:?}");
    assert!(!notes.is_empty());

    let more = "INSERT INTO messages_binary VALUES ('2026-12-01T00:00:00.000Z-0001-x', 0, x'00')";
    root.sql("srv/budget/data/user-files/group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite", more);
    let second = log(&check().ok());
    let warning = ("abssctl::plan::check::target-content".to_owned(), "warning".to_owned());
    assert!(told(&second).iter().any(|result| (result.0.clone(), result.1.clone()) == warning), "{second:#}");

    root.write("etc/abssctl/restore.yml", "requireApprovals: 1\n");
    root.edit_entry(ZSTD, |entry| entry["status"] = "corrupt".into());
    let third = log(&check().code(6).says("1 approval is needed"));
    let errors: Vec<_> = told(&third).into_iter().filter(|result| result.1 == "error").collect();
    let at = |code: &str, line: u64| {
        errors.iter().any(|error| error.0 == format!("abssctl::plan::check::{code}") && error.2 == line)
    };
    assert!(at("no-allowed-signers", line("apiVersion:")), "{errors:?}");
    assert!(at("backup-unusable", line("    backupId:")), "{errors:?}");
    let help = results(&third["runs"][0])[0]["message"]["text"].as_str().unwrap();
    assert!(!help.contains("FILE"), "{help}");

    root.write(
        "etc/abssctl/restore.yml",
        "requireApprovals: 1\nrules: [{name: strict, clients: [reset], preBackup: [online]}]\n",
    );
    let fourth = log(&check().code(2));
    let errors: Vec<_> = told(&fourth).into_iter().filter(|result| result.1 == "error").collect();
    let at = |code: &str, line: u64| {
        errors.iter().any(|error| error.0 == format!("abssctl::plan::check::{code}") && error.2 == line)
    };
    assert!(
        at("policy-clients", line("  clients:")) && at("policy-pre-backup", line("    mode:")),
        "{errors:?}"
    );

    // The same codes as --json tells.
    let json = here(&root, &["plan", "check", "plan.yaml", "--json"]).code(2).json();
    let codes = |value: &Value| value["code"].as_str().unwrap().to_owned();
    let codes: Vec<String> = json["problems"].as_array().unwrap().iter().map(codes).collect();
    let told: Vec<&str> =
        errors.iter().map(|error| error.0.strip_prefix("abssctl::plan::check::").unwrap()).collect();
    assert_eq!(told, codes);
}

#[test]
fn hostile_text_of_a_plan_is_text_in_a_log() {
    let root = TestRoot::new();
    let text = std::fs::read_to_string(valid(&root, "plan.yaml")).unwrap();
    let field = "  \"[a](https://evil.example) {0} \\u202E\\e[31m\": 1\n  clients: merge\n  sessions";
    broken(&root, "plan.yaml", text.replace("  clients: merge\n  sessions", field).as_bytes());
    let ran = here(&root, &["plan", "validate", "plan.yaml", "--format", "sarif"]).code(2);
    let log = log(&ran);
    for result in results(&log["runs"][0]) {
        let message = result["message"]["text"].as_str().unwrap();
        let plain = message.replace("{{", "").replace("}}", "");
        assert!(!plain.contains(['{', '}', '\u{202e}', '\u{1b}']), "{message}");
        assert!(!message.contains("]("), "a link: {message}");
    }
    assert!(ran.stdout.contains("evil.example"), "the name is told all the same");
}

#[test]
fn exit_codes_do_not_depend_on_the_format() {
    let root = TestRoot::new();
    let _ = valid(&root, "plan.yaml");
    broken(&root, "bad.yaml", b"a: 1\n");
    assert_eq!(code_in_all_formats(&root, &["plan", "validate", "plan.yaml"]), 0);
    assert_eq!(code_in_all_formats(&root, &["plan", "validate", "bad.yaml"]), 2);
    assert_eq!(code_in_all_formats(&root, &["plan", "check", "bad.yaml"]), 2);
    assert_eq!(code_in_all_formats(&root, &["plan", "check", "plan.yaml"]), 0);
    let detailed = ["plan", "check", "plan.yaml", "--detailed-exitcode"];
    assert_eq!(code_in_all_formats(&root, &detailed), 20);
    let json = here(&root, &[&detailed[..], &["--json"]].concat()).code(20).json();
    assert_eq!(json["exitCode"], 20);
    root.write("etc/abssctl/restore.yml", "requireApprovals: 1\n");
    assert_eq!(code_in_all_formats(&root, &detailed), 6);
    root.write("etc/abssctl/restore.yml", "requireApprovals: 0\n");
    let _ = root.apply(&root.work("plan.yaml")).ok();
    assert_eq!(code_in_all_formats(&root, &detailed), 5);
    // Nothing to do is 0 with the option too.
    let _ = root.run(&["plan", "restore", GZIP, "-o", root.work("same.yaml").to_str().unwrap()]).ok();
    assert_eq!(code_in_all_formats(&root, &["plan", "check", "same.yaml", "--detailed-exitcode"]), 0);
    let both = here(&root, &["plan", "validate", "plan.yaml", "--format", "sarif", "--json"]).code(2);
    assert_eq!(both.json()["code"], "abssctl::cli::usage");
}
