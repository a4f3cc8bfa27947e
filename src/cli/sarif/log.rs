//! The log: files, what was found in them, what kept the program from looking. Pure.

use std::collections::HashMap;
use std::path::Path;

use miette::Diagnostic as _;
use serde_json::{Value, json};

use super::rules::{self, CHECK, Level, NOT_CHECKED, Rule, WARNING};
use super::uri::uri;
use crate::cli::error::CliError;
use crate::cli::session::typed;
use crate::ids::Sha256;
use crate::plan::load::{LoadErrors, Problem};
use crate::plan::render::visible;
use crate::plan::source::{Source, Span};
use crate::survey::preflight::Preflight;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// A log that grows.
#[derive(Debug)]
pub struct Log {
    rules: Vec<Rule>,
    files: Vec<String>,
    results: Vec<Value>,
    notifications: Vec<Value>,
    failed: bool,
    /// How many findings of a kind there are, to tell equal ones apart.
    alike: HashMap<String, usize>,
}

/// A plan that was compared with a machine.
#[derive(Debug)]
pub struct Checked<'a> {
    /// Its file.
    pub path: &'a Path,
    /// What the file holds.
    pub bytes: &'a [u8],
    /// What was found.
    pub found: &'a Preflight,
}

/// One finding.
struct Finding<'a> {
    rule: String,
    level: Level,
    message: &'a str,
    help: &'a str,
    pointer: &'a str,
    region: Option<Value>,
}

impl Log {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            rules: rules::all(),
            files: Vec::new(),
            results: Vec::new(),
            notifications: Vec::new(),
            failed: false,
            alike: HashMap::new(),
        }
    }

    /// A plan that is looked at: its number.
    pub fn file(&mut self, path: &Path) -> usize {
        let uri = uri(path);
        self.files.iter().position(|known| *known == uri).unwrap_or_else(|| {
            self.files.push(uri);
            self.files.len() - 1
        })
    }

    /// What came of a look that found no plan: problems of its file, or what kept the program from looking.
    pub fn error(&mut self, path: &Path, error: &CliError) {
        if let CliError::Load(errors) = error {
            self.invalid(path, errors);
        } else {
            self.failed(path, error);
        }
    }

    fn invalid(&mut self, path: &Path, errors: &LoadErrors) {
        let file = self.file(path);
        let name = typed(path);
        for problem in errors.problems() {
            let help = problem.help.as_deref().unwrap_or_default().replace("FILE", &name);
            let region = Some(region_of(problem));
            let (message, pointer) = (problem.message.as_str(), problem.pointer.as_str());
            let rule = problem.code.clone();
            self.add(file, &Finding { rule, level: Level::Error, message, help: &help, pointer, region });
        }
        if errors.has_more() {
            let location = json!({ "physicalLocation": { "artifactLocation": self.location(file) } });
            self.notifications.push(json!({
                "level": "warning",
                "message": text(&errors.to_string()),
                "locations": [location],
            }));
        }
    }

    /// What a look at the machine found.
    pub fn checked(&mut self, checked: &Checked<'_>) {
        let file = self.file(checked.path);
        let name = typed(checked.path);
        let source =
            std::str::from_utf8(checked.bytes).ok().and_then(|text| Some((text, Source::read(text).ok()?)));
        let region =
            |pointer: &str| source.as_ref().map(|(text, source)| region(text, source.label_span(pointer)));
        let found = checked.found;
        for problem in &found.problems {
            let (pointer, help) = (rules::pointer(problem.code), problem.help.replace("FILE", &name));
            let rule = format!("{CHECK}{}", problem.code);
            let (message, region) = (problem.message.as_str(), region(pointer));
            self.add(file, &Finding { rule, level: Level::Error, message, help: &help, pointer, region });
        }
        for message in &found.warnings {
            let code = found.drift.tolerated.iter().find(|drift| drift.message == *message);
            let code = code.map_or(WARNING, |drift| drift.code);
            let (rule, pointer) = (format!("{CHECK}{code}"), rules::pointer(code));
            let region = region(pointer);
            self.add(file, &Finding { rule, level: Level::Warning, message, help: "", pointer, region });
        }
        for message in &found.not_checked {
            let (rule, region) = (format!("{CHECK}{NOT_CHECKED}"), region(""));
            self.add(file, &Finding { rule, level: Level::Note, message, help: "", pointer: "", region });
        }
    }

    fn failed(&mut self, path: &Path, error: &CliError) {
        self.failed = true;
        let file = self.file(path);
        let help = error.help().map(|help| help.to_string()).unwrap_or_default();
        let help = help.replace("FILE", &typed(path));
        let location = json!({ "physicalLocation": { "artifactLocation": self.location(file) } });
        let mut notification = json!({
            "level": "error",
            "message": text(&sentences(&error.to_string(), &help)),
            "locations": [location],
        });
        if let Some(code) = error.code() {
            notification["descriptor"] = json!({ "id": code.to_string() });
        }
        self.notifications.push(notification);
    }

    /// The whole log. A plan with problems is no failure of the program: it looked and found them.
    pub fn finish(self, exit_code: u8) -> Value {
        let version = env!("CARGO_PKG_VERSION");
        let rules: Vec<Value> = self.rules.iter().map(Rule::descriptor).collect();
        let mut driver =
            json!({ "name": "abssctl", "version": version, "semanticVersion": version, "rules": rules });
        let home = [env!("CARGO_PKG_HOMEPAGE"), env!("CARGO_PKG_REPOSITORY")];
        if let Some(home) = home.iter().find(|home| !home.is_empty()) {
            driver["informationUri"] = json!(home);
        }
        let artifact = |uri: &String| json!({ "location": { "uri": uri }, "roles": ["analysisTarget"] });
        let artifacts: Vec<Value> = self.files.iter().map(artifact).collect();
        let mut invocation = json!({ "executionSuccessful": !self.failed, "exitCode": exit_code });
        if !self.notifications.is_empty() {
            invocation["toolExecutionNotifications"] = json!(self.notifications);
        }
        json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": driver },
                "invocations": [invocation],
                "artifacts": artifacts,
                "columnKind": "unicodeCodePoints",
                "results": self.results,
            }],
        })
    }

    fn location(&self, file: usize) -> Value {
        json!({ "uri": self.files[file], "index": file })
    }

    fn add(&mut self, file: usize, finding: &Finding<'_>) {
        let rule = self.rules.iter().position(|rule| rule.id == finding.rule).unwrap_or_else(|| {
            self.rules.push(Rule::told(&finding.rule, finding.message, finding.help, finding.level));
            self.rules.len() - 1
        });
        let mut place = json!({ "artifactLocation": self.location(file) });
        if let Some(region) = &finding.region {
            place["region"] = region.clone();
        }
        let fingerprint = self.fingerprint(file, finding);
        self.results.push(json!({
            "ruleId": finding.rule,
            "ruleIndex": rule,
            "level": finding.level.word(),
            "message": text(&sentences(finding.message, finding.help)),
            "locations": [{ "physicalLocation": place }],
            "partialFingerprints": { "primaryLocationLineHash": fingerprint },
        }));
    }

    /// Tells one finding from all others and stays when lines move: by its code, the value that it is about
    /// and its words without numbers, which grow from day to day.
    fn fingerprint(&mut self, file: usize, finding: &Finding<'_>) -> String {
        let words: String = finding.message.chars().filter(|c| !c.is_ascii_digit()).collect();
        let key = [&self.files[file], &finding.rule, finding.pointer, &words].join("\0");
        let hash = Sha256::of(key.as_bytes()).to_string();
        let count = self.alike.entry(key).or_default();
        *count += 1;
        format!("{}:{count}", &hash[..16])
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

/// What is wrong and what to do, a line each: viewers with little room show the first.
fn sentences(message: &str, help: &str) -> String {
    if help.is_empty() { message.to_owned() } else { format!("{message}\n{help}") }
}

/// A plain text message. Text of a plan must neither steer a viewer, nor read as a link (`[text](target)`)
/// or as a placeholder (`{0}`): SARIF writes braces twice (section 3.11.5).
pub(super) fn text(message: &str) -> Value {
    let shown: Vec<String> = message.split('\n').map(visible).collect();
    let shown = shown.join("\n").replace("](", "] (");
    json!({ "text": shown.replace('{', "{{").replace('}', "}}") })
}

/// Columns count characters from 1; the end is after the last one.
fn region_of(problem: &Problem) -> Value {
    place(problem.line, problem.column, problem.end_column)
}

fn region(text: &str, span: Span) -> Value {
    let marked = text.get(span.offset..span.offset + span.length).unwrap_or_default();
    place(span.line, span.column, span.column + marked.chars().count())
}

/// Without an end where no character is marked: to the end of the line then.
fn place(line: usize, column: usize, end: usize) -> Value {
    if end > column {
        json!({ "startLine": line, "startColumn": column, "endLine": line, "endColumn": end })
    } else {
        json!({ "startLine": line, "startColumn": column })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_plan_is_text_to_viewers() {
        let shown = text("a [b](https://evil) {0} \u{202e}\u{1b}[31m\nc");
        assert_eq!(shown["text"], "a [b] (https://evil) {{0}} \\u{{202e}}\\u{{1b}}[31m\nc");
    }

    #[test]
    fn equal_findings_are_told_apart_and_numbers_do_not_count() {
        let mut log = Log::new();
        let file = log.file(Path::new("a.yaml"));
        let other = log.file(Path::new("b.yaml"));
        let finding = |message| Finding {
            rule: "x".to_owned(),
            level: Level::Error,
            message,
            help: "",
            pointer: "/a",
            region: None,
        };
        let first = log.fingerprint(file, &finding("37 more"));
        let second = log.fingerprint(file, &finding("38 more"));
        let third = log.fingerprint(other, &finding("37 more"));
        assert_eq!(first[..16], second[..16]);
        assert!(first.ends_with(":1") && second.ends_with(":2") && third.ends_with(":1"));
        assert_ne!(first[..16], third[..16]);
        let again = Log::new().fingerprint_of_first(&finding("99 more"));
        assert_eq!(again, first, "the same from run to run");
    }

    impl Log {
        fn fingerprint_of_first(mut self, finding: &Finding<'_>) -> String {
            let file = self.file(Path::new("a.yaml"));
            self.fingerprint(file, finding)
        }
    }

    #[test]
    fn a_code_that_nobody_described_is_described_by_its_first_finding() {
        let mut log = Log::new();
        let file = log.file(Path::new("a.yaml"));
        let rule = "abssctl::plan::check::brand-new".to_owned();
        log.add(
            file,
            &Finding { rule, level: Level::Error, message: "m", help: "h", pointer: "", region: None },
        );
        let value = log.finish(2);
        let run = &value["runs"][0];
        let index = usize::try_from(run["results"][0]["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], run["results"][0]["ruleId"]);
    }
}
