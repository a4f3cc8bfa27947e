//! What is wrong with a plan file, for people (miette) and programs (`--json`). Pure.

use std::fmt;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

use super::super::render::{is_hidden, visible};
use super::super::source::Span;
use super::form::Form;

/// Problems that are told; a file with more of them is no plan anyway.
pub(super) const MAX_PROBLEMS: usize = 100;

/// Bytes of the lines of an excerpt; beyond that the place is told in words.
const MAX_EXCERPT: usize = 4000;

/// One thing that is wrong with a plan file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}{}", place(*.excerpt, *.line, *.column))]
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
    /// Column after the last character in the same line; `column` where no character is marked.
    #[serde(skip)]
    pub end_column: usize,
    /// First byte and number of bytes in the file.
    #[serde(skip)]
    pub bytes: (usize, usize),
    /// Whether the lines around it are short enough to be shown.
    #[serde(skip)]
    pub excerpt: bool,
}

/// Where it is, when no excerpt shows it.
fn place(excerpt: bool, line: usize, column: usize) -> String {
    if excerpt { String::new() } else { format!(" (line {line}, column {column})") }
}

impl Problem {
    /// `code` is the part after `abssctl::plan::`.
    pub(crate) fn new(code: &str, message: &str, help: Option<&str>, pointer: &str, span: Span) -> Self {
        Self {
            code: format!("abssctl::plan::{code}"),
            message: visible(message),
            help: help.map(visible),
            pointer: pointer.to_owned(),
            line: span.line,
            column: span.column,
            end_column: span.column,
            bytes: (span.offset, span.length),
            excerpt: true,
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
        let label = LabeledSpan::new_primary_with_span(Some("here".to_owned()), self.bytes);
        self.excerpt.then(|| Box::new(std::iter::once(label)) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
}

/// Everything that is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{} {} is not valid: {}", .form.name, .text.name(), count(.problems.len(), *.more))]
pub struct LoadErrors {
    form: &'static Form,
    text: NamedSource<String>,
    problems: Vec<Problem>,
    more: bool,
}

impl Diagnostic for LoadErrors {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("abssctl::{}::invalid", self.form.name)))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.form.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.text)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
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
    pub(crate) fn new(form: &'static Form, name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.bytes.0);
        let more = problems.len() > MAX_PROBLEMS;
        problems.truncate(MAX_PROBLEMS);
        for problem in &mut problems {
            problem.excerpt = has_short_lines(text, problem.bytes);
            problem.end_column = problem.column + characters(text, problem.bytes);
            if let Some(code) = problem.code.strip_prefix("abssctl::plan::").filter(|_| form.name != "plan") {
                problem.code = format!("abssctl::{}::{code}", form.name);
            }
        }
        Self { form, text: NamedSource::new(visible(name), harmless(text)), problems, more }
    }

    /// What is wrong, in the order of the file; at most 100.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether there are more of them than are told.
    pub fn has_more(&self) -> bool {
        self.more
    }
}

/// How many characters begin in these bytes.
fn characters(text: &str, (offset, length): (usize, usize)) -> usize {
    let end = offset.saturating_add(length);
    let bytes = text.as_bytes().iter().take(end).skip(offset);
    // The first byte may lie inside of a character where the text was not UTF-8: it counts all the same.
    let begins = |at: usize, byte: &u8| at == 0 || (byte & 0xc0) != 0x80;
    bytes.enumerate().filter(|(at, byte)| begins(*at, byte)).count()
}

/// Whether all lines of an excerpt (one before, one after) are short: a plan without line breaks would be
/// shown as a whole, and places beyond column 65535 cannot be formatted at all.
fn has_short_lines(text: &str, (offset, length): (usize, usize)) -> bool {
    let bytes = text.as_bytes();
    let is_break = |byte: &u8| *byte == b'\n';
    let (before, from) = bytes.split_at(offset.min(bytes.len()));
    let (inside, after) = from.split_at(length.min(from.len()));
    let head = before.rsplit(is_break).take(2).map(<[u8]>::len).sum::<usize>();
    let tail = after.split(is_break).take(2).map(<[u8]>::len).sum::<usize>();
    let longest = inside.split(is_break).map(<[u8]>::len).max().unwrap_or_default();
    head + tail + longest <= MAX_EXCERPT
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
    fn what_stands_on_an_endless_line_is_told_without_an_excerpt() {
        let text = format!("a\n{}\nb\n", "x".repeat(100_000));
        for (bytes, excerpt) in
            [((0, 1), false), ((90_000, 3), false), ((100_003, 1), false), ((9, 9), false)]
        {
            assert_eq!(has_short_lines(&text, bytes), excerpt, "{bytes:?}");
        }
        assert!(
            has_short_lines("a\nb\nc", (2, 1)) && has_short_lines("", (0, 0)) && has_short_lines("a", (7, 7))
        );
        let span = Span { offset: 90_000, length: 1, line: 2, column: 89_999 };
        let problem = vec![Problem::new("x", "y", None, "", span)];
        let errors = LoadErrors::new(&super::super::read::FORM, "a", &text, problem);
        assert_eq!(errors.problems()[0].to_string(), "y (line 2, column 89999)");
        let mut rendered = String::new();
        miette::GraphicalReportHandler::new().render_report(&mut rendered, &errors).unwrap();
        assert!(rendered.len() < 1000, "{rendered}");
    }

    #[test]
    fn many_problems_are_cut() {
        let problem = Problem::new("x", "y\u{7}", None, "", Span::default());
        assert_eq!(problem.message, "y\\u{7}");
        let errors = LoadErrors::new(&super::super::read::FORM, "a\u{1b}", "", vec![problem.clone(); 101]);
        assert_eq!(errors.to_string(), "plan a\\u{1b} is not valid: more than 100 problems");
        assert_eq!(
            LoadErrors::new(&super::super::read::FORM, "a", "", vec![problem]).to_string(),
            "plan a is not valid: 1 problem"
        );
    }
}
