//! Writes results to standard output and everything else to standard error. Nothing else prints.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use super::args::{ColorChoice, Global};
use super::error::CliError;
use crate::engine::apply::ApplyError;

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
        if self.json { self.value(value) } else { self.result(text.as_bytes()) }
    }

    /// Writes a JSON object.
    pub fn value(&self, value: &Value) -> Result<(), CliError> {
        let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        text.push('\n');
        self.result(text.as_bytes())
    }

    /// Writes a line for the person at the terminal.
    pub fn note(&self, line: &str) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to be told when standard error is gone.
        drop(writeln!(stderr, "{line}"));
    }

    /// Writes an error: for people on standard error, with `--json` the object on standard output too.
    pub fn error(&self, error: &CliError, exit_code: u8) {
        let diagnostic: &dyn miette::Diagnostic = error;
        let theme = if self.color_err {
            miette::GraphicalTheme::unicode()
        } else {
            miette::GraphicalTheme::unicode_nocolor()
        };
        let handler =
            miette::GraphicalReportHandler::new_themed(theme).with_width(self.width).with_links(false);
        let mut text = String::new();
        if handler.render_report(&mut text, diagnostic).is_err() {
            text = format!("{error}\n");
        }
        self.note(text.trim_end());
        if self.json {
            drop(self.value(&error_object(error, exit_code)));
        }
    }
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
fn error_object(error: &CliError, exit_code: u8) -> Value {
    let diagnostic: &dyn miette::Diagnostic = error;
    let source = diagnostic.diagnostic_source();
    let text = |value: Option<Box<dyn std::fmt::Display + '_>>| value.map(|value| value.to_string());
    let code = text(diagnostic.code());
    let help = text(diagnostic.help()).or_else(|| source.and_then(|source| text(source.help())));
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
