//! What is wrong with a plan file, for people (miette) and programs (`--json`). Pure.

use std::fmt;

use miette::{Diagnostic, LabeledSpan, NamedSource};
use serde::Serialize;

use super::super::render::{is_hidden, visible};
use super::super::source::Span;

/// Problems that are told; a file with more of them is no plan anyway.
pub(super) const MAX_PROBLEMS: usize = 100;

/// One thing that is wrong with a plan file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A stable code: `abssctl::plan::unknown_field`.
    pub code: String,
    /// What is wrong, control characters shown as codes.
    pub message: String,
    /// What to write or do, where more can be said than the message says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// JSON pointer of the value; empty for the whole document.
    pub pointer: String,
    /// Line in the file, from 1.
    pub line: usize,
    /// Column in the line in characters, from 1.
    pub column: usize,
    /// First byte and number of bytes in the file.
    #[serde(skip)]
    pub bytes: (usize, usize),
}

impl Problem {
    /// `code` is the part after `abssctl::plan::`.
    pub(super) fn new(code: &str, message: &str, help: Option<&str>, pointer: &str, span: Span) -> Self {
        Self {
            code: format!("abssctl::plan::{code}"),
            message: visible(message),
            help: help.map(visible),
            pointer: pointer.to_owned(),
            line: span.line,
            column: span.column,
            bytes: (span.offset, span.length),
        }
    }
}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(
            Some("here".to_owned()),
            self.bytes,
        ))))
    }
}

/// Everything that is wrong with a plan file.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("plan {} is not valid: {}", .text.name(), count(.problems.len(), *.more))]
#[diagnostic(
    code(abssctl::plan::invalid),
    help("mend these places and look again with `abssctl plan validate FILE`; nothing was changed")
)]
pub struct LoadErrors {
    #[source_code]
    text: NamedSource<String>,
    #[related]
    problems: Vec<Problem>,
    more: bool,
}

fn count(told: usize, more: bool) -> String {
    match (told, more) {
        (1, false) => "1 problem".to_owned(),
        (told, false) => format!("{told} problems"),
        (told, true) => format!("more than {told} problems"),
    }
}

impl LoadErrors {
    /// `text` is shown around each problem, made harmless; its length in bytes stays.
    pub(super) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.bytes.0);
        let more = problems.len() > MAX_PROBLEMS;
        problems.truncate(MAX_PROBLEMS);
        Self { text: NamedSource::new(visible(name), harmless(text)), problems, more }
    }

    /// What is wrong, in the order of the file; at most 100.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The name of the file as it was given, control characters shown as codes.
    pub fn name(&self) -> &str {
        self.text.name()
    }
}

/// The text with hidden characters replaced by as many bytes of `?`, so that an excerpt can neither
/// steer a terminal nor lie about its order, and every place stays the same.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            '\r' => shown.push(' '),
            c if is_hidden(c) => shown.extend(std::iter::repeat_n('?', c.len_utf8())),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_keep_their_length() {
        let text = "a\u{1b}[31m\u{202e}\u{ad}\u{e0041}é\r\n\t";
        assert_eq!(harmless(text).len(), text.len());
        assert_eq!(harmless(text), "a?[31m?????????é \n\t");
    }

    #[test]
    fn many_problems_are_cut() {
        let problem = Problem::new("x", "y\u{7}", None, "", Span::default());
        assert_eq!(problem.message, "y\\u{7}");
        let errors = LoadErrors::new("a\u{1b}", "", vec![problem.clone(); 101]);
        assert_eq!(errors.to_string(), "plan a\\u{1b} is not valid: more than 100 problems");
        assert_eq!(LoadErrors::new("a", "", vec![problem]).to_string(), "plan a is not valid: 1 problem");
    }
}
