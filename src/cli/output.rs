//! Writes results to standard output and everything else to standard error. Nothing else prints.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use super::args::{ColorChoice, Global};
use super::error::CliError;
use crate::engine::apply::ApplyError;
use crate::plan::render::{visible, visible_json};

/// Where output goes and how it looks.
#[derive(Debug, Clone)]
pub struct Output {
    /// Whether the result is one JSON object.
    pub json: bool,
    /// Whether standard output takes colour.
    pub color: bool,
    /// Whether standard error takes colour.
    pub color_err: bool,
    /// Whether to say what each step is about to do.
    pub verbose: bool,
    /// Columns of the terminal.
    pub width: usize,
}

impl Output {
    /// From the command line and the terminals.
    pub fn new(global: &Global) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let wants = |terminal: bool| match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !no_color,
        };
        let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok());
        Self {
            json: global.json,
            verbose: global.verbose > 0,
            color: wants(io::stdout().is_terminal()),
            color_err: wants(io::stderr().is_terminal()),
            width: columns.or_else(terminal_width).unwrap_or(100).clamp(40, 120),
        }
    }

    /// Writes the result; a reader that went away is no error.
    pub fn result(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// Writes text, or the JSON object with `--json`.
    pub fn either(&self, value: &Value, text: &str) -> Result<(), CliError> {
        if self.json { self.value(value) } else { self.text(text) }
    }

    /// Writes text. Names on disk end up in it, so that nothing but its line breaks may steer a terminal.
    pub fn text(&self, text: &str) -> Result<(), CliError> {
        self.result(harmless(text).as_bytes())
    }

    /// Writes a JSON object.
    pub fn value<T: Serialize>(&self, value: &T) -> Result<(), CliError> {
        let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        text.push('\n');
        self.result(visible_json(&text).as_bytes())
    }

    /// Writes one line for the person at the terminal; a name with a line break in it begins no line.
    pub fn note(&self, line: &str) {
        self.note_prepared(&visible(line));
    }

    /// Writes several lines of our own for the person at the terminal.
    pub fn notes(&self, text: &str) {
        self.note_prepared(&harmless(text));
    }

    /// Writes a text that was made harmless already, and may be coloured.
    pub fn note_prepared(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to be told when standard error is gone.
        drop(writeln!(stderr, "{text}"));
    }

    /// Writes an error: for people on standard error, with `--json` the object on standard output too.
    /// `plan_file` stands where a help text says FILE.
    pub fn error(&self, error: &CliError, exit_code: u8, plan_file: &str) {
        self.tell(error, plan_file);
        if self.json {
            drop(self.value(&error_object(error, exit_code, plan_file)));
        }
    }

    /// Writes an error for people alone.
    pub fn tell(&self, error: &CliError, plan_file: &str) {
        if matches!(error, CliError::Declined) {
            self.note("nothing was changed");
        } else {
            let text = harmless(&self.rendered(&Named { error, plan_file }));
            self.note_prepared(&if self.color_err { coloured(&text) } else { text });
        }
    }

    /// Without colour: what is hostile in it can be told from what is ours only before colour comes in.
    fn rendered(&self, error: &Named<'_>) -> String {
        // Messages say their cause themselves; commands and ids must stay whole to be copied.
        let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
            .with_width(self.width)
            .with_links(false)
            .without_cause_chain()
            .with_break_words(false)
            .with_word_separator(textwrap::WordSeparator::AsciiSpace)
            .with_word_splitter(textwrap::WordSplitter::NoHyphenation);
        let mut text = String::new();
        match handler.render_report(&mut text, error) {
            Ok(()) => text.trim_end().to_owned(),
            Err(_) => error.to_string(),
        }
    }
}

/// An error whose help names the plan file that it is about.
#[derive(Debug)]
struct Named<'a> {
    error: &'a CliError,
    plan_file: &'a str,
}

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Named<'_> {}

impl miette::Diagnostic for Named<'_> {
    fn code(&self) -> Option<Box<dyn std::fmt::Display + '_>> {
        self.error.code()
    }

    fn severity(&self) -> Option<miette::Severity> {
        self.error.severity()
    }

    fn help(&self) -> Option<Box<dyn std::fmt::Display + '_>> {
        Some(Box::new(name_file(&self.error.help()?.to_string(), self.plan_file)))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.error.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        self.error.labels()
    }

    fn related(&self) -> Option<Box<dyn Iterator<Item = &dyn miette::Diagnostic> + '_>> {
        self.error.related()
    }
}

/// A text with the plan file's name where it says FILE as a word of its own.
pub(super) fn name_file(text: &str, plan_file: &str) -> String {
    let part = |c: char| c.is_alphanumeric() || "/._-+@%".contains(c);
    let mut named = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("FILE") {
        let (before, after) = (&rest[..at], &rest[at + 4..]);
        let whole = !before.ends_with(part) && !after.starts_with(part);
        named.push_str(before);
        named.push_str(if whole { plan_file } else { "FILE" });
        rest = after;
    }
    named + rest
}

/// Text with everything shown as a code that could steer a terminal, but for line breaks.
fn harmless(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

/// The mark of an error in red, the word "help" in cyan.
fn coloured(text: &str) -> String {
    let line = |line: &str| {
        if let Some(rest) = line.strip_prefix("  × ") {
            format!("  \u{1b}[31m×\u{1b}[0m {rest}")
        } else if let Some(rest) = line.strip_prefix("  help:") {
            format!("  \u{1b}[36mhelp:\u{1b}[0m{rest}")
        } else {
            line.to_owned()
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn terminal_width() -> Option<usize> {
    let size =
        rustix::termios::tcgetwinsize(io::stdout()).or_else(|_| rustix::termios::tcgetwinsize(io::stderr()));
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn problem_json(problem: &crate::plan::load::Problem) -> Value {
    json!({
        "code": problem.code,
        "message": problem.message,
        "help": problem.help,
        "pointer": problem.pointer,
        "line": problem.line,
        "column": problem.column,
    })
}

/// The error as JSON: `code`, `message`, `help`, `exit_code`, and what the kind of error knows besides.
pub(super) fn error_object(error: &CliError, exit_code: u8, plan_file: &str) -> Value {
    let diagnostic: &dyn miette::Diagnostic = error;
    let source = diagnostic.diagnostic_source();
    let text = |value: Option<Box<dyn std::fmt::Display + '_>>| value.map(|value| value.to_string());
    let code = text(diagnostic.code());
    let help = text(diagnostic.help()).or_else(|| source.and_then(|source| text(source.help())));
    let help = help.map(|help| name_file(&help, plan_file));
    let mut object =
        json!({ "code": code, "message": error.to_string(), "help": help, "exit_code": exit_code });
    if let Some(source) = source {
        object["cause"] = json!({ "code": text(source.code()), "message": source.to_string() });
    }
    if let CliError::Load(errors) = error {
        object["problems"] = errors.problems().iter().map(problem_json).collect();
    } else if let CliError::WouldNotApply(problems) | CliError::Apply(ApplyError::Refused { problems }) =
        error
    {
        object["problems"] = super::plan::problems_json(problems);
    } else if let CliError::Apply(ApplyError::RolledBack { report, .. } | ApplyError::Halted { report, .. }) =
        error
    {
        // The step's own code is what programs decide by: a full disk is tried again, a damaged archive not.
        if let CliError::Apply(ApplyError::RolledBack { cause, .. }) = error {
            object["cause"] = json!({ "code": cause.code(), "message": cause.to_string() });
        }
        let mut result = json!(report);
        result["exitCode"] = json!(exit_code);
        object["result"] = result;
    }
    object
}

/// Lays rows out in columns, two blanks apart, without blanks at the end.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.chars().count()))));
        let text = padded.collect::<Vec<_>>().join("  ");
        format!("{}\n", text.trim_end())
    };
    let mut text = line(header.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}
