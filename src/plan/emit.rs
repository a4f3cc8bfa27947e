//! Writes plans: YAML for people and version control, JSON for programs. The same plan gives the same
//! bytes. Pure.
//!
//! The YAML means the same to readers of version 1.1 (`PyYAML`) and 1.2: a text stands unquoted only
//! where neither could take it for anything else, so numbers, times, booleans in all their spellings
//! and whatever begins oddly are quoted.

use serde_json::{Map, Value};

use super::model::Plan;
use super::render::{is_hidden, visible_json};
use crate::state::yaml::needs_quotes;

/// The longest list that is written in one line.
const FLOW_WIDTH: usize = 100;

/// A plan that cannot be written: never seen for a plan that was loaded or planned.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the plan cannot be written: {0}")]
#[diagnostic(
    code(abssctl::plan::emit),
    help("this is a defect of abssctl; please report it with the plan file")
)]
pub struct EmitError(#[from] serde_json::Error);

/// The plan as JSON, with a line break at its end.
///
/// # Errors
/// The plan has no JSON form.
pub fn to_json(plan: &Plan) -> Result<String, EmitError> {
    // A difference in git shows what the text holds, and not what it makes of the terminal.
    Ok(visible_json(&serde_json::to_string_pretty(plan)?) + "\n")
}

/// The plan as YAML, with a comment before each section.
///
/// # Errors
/// The plan has no JSON form, which the YAML is made from.
pub fn to_yaml(plan: &Plan) -> Result<String, EmitError> {
    let mut writer = Writer { out: String::from(HEAD) };
    if let Value::Object(sections) = serde_json::to_value(plan)? {
        for (name, value) in &sections {
            if let Some(comment) = comment(name) {
                writer.out.push('\n');
                for line in comment.lines() {
                    writer.line(&format!("# {line}"));
                }
            }
            writer.field(name, value, 0);
        }
    }
    Ok(writer.out)
}

const HEAD: &str = "\
# A plan of abssctl. Nothing has been changed yet.
# Read it:     abssctl plan show FILE
# Check it:    abssctl plan check FILE
# Sign it:     abssctl plan approve FILE
# Execute it:  abssctl apply FILE
";

fn comment(section: &str) -> Option<&'static str> {
    Some(match section {
        "apiVersion" => "The format of this file and what the plan does.",
        "metadata" => "Who made the plan, when and why. It is refused after expiresAt.",
        "spec" => {
            "The wish: which backup goes where, and how. This is the only part to edit by hand;\n\
             run `abssctl plan refresh FILE` afterwards."
        }
        "observed" => {
            "What the planner saw. `abssctl apply` looks again and refuses the plan where too much differs\n\
             (see spec.drift)."
        }
        "preview" => "What would change. For the people who judge the plan; nothing is decided by it.",
        "steps" => {
            "What runs, each step after all that it needs. Parameters follow from spec and observed;\n\
             a plan whose steps say anything else is refused."
        }
        "approvals" => "Signatures over everything above (`abssctl plan show FILE --format canonical`).",
        _ => return None,
    })
}

/// Writes block style.
struct Writer {
    out: String,
}

impl Writer {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn indent(&mut self, depth: usize) {
        self.out.extend(std::iter::repeat_n("  ", depth));
    }

    fn field(&mut self, name: &str, value: &Value, depth: usize) {
        self.indent(depth);
        self.out.push_str(&scalar(name));
        self.out.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                self.out.push('\n');
                self.fields(fields, depth + 1);
            }
            Value::Array(items) if !items.is_empty() => {
                if let Some(flow) = flow(name, items, depth) {
                    self.line(&format!(" {flow}"));
                } else {
                    self.out.push('\n');
                    self.items(items, depth + 1);
                }
            }
            Value::String(text) => {
                self.out.push(' ');
                self.text(text, depth);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.line(&format!(" {value}"));
            }
        }
    }

    fn fields(&mut self, fields: &Map<String, Value>, depth: usize) {
        for (name, value) in fields {
            self.field(name, value, depth);
        }
    }

    fn items(&mut self, items: &[Value], depth: usize) {
        for item in items {
            self.indent(depth);
            self.out.push_str("- ");
            match item {
                Value::Object(fields) if !fields.is_empty() => {
                    // The first field stands behind the dash, the others below it.
                    let start = self.out.len();
                    self.fields(fields, depth + 1);
                    self.out.replace_range(start..start + 2 * (depth + 1), "");
                }
                Value::String(text) => self.text(text, depth),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    self.line(&item.to_string());
                }
            }
        }
    }

    /// A text behind a key or dash at `depth`, with its line break.
    fn text(&mut self, text: &str, depth: usize) {
        if !text.trim_end_matches('\n').contains('\n') {
            self.line(&scalar(text));
        } else if is_literal_safe(text) {
            self.out.push_str(if text.ends_with('\n') { "|\n" } else { "|-\n" });
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                if !line.is_empty() {
                    self.indent(depth + 1);
                }
                self.line(line);
            }
        } else {
            self.folded(text, depth);
        }
    }

    /// Double quotes with each line of the text in a line of its own, for texts with blanks where a
    /// literal block would lose or move them.
    fn folded(&mut self, text: &str, depth: usize) {
        self.out.push_str("\"\\\n");
        let mut lines = text.split('\n').peekable();
        while let Some(line) = lines.next() {
            if line.is_empty() && lines.peek().is_none() {
                break;
            }
            self.indent(depth + 1);
            if line.starts_with(' ') {
                self.out.push('\\');
            }
            escape(line, &mut self.out);
            self.out.push_str(if lines.peek().is_some() { "\\n\\\n" } else { "\\\n" });
        }
        self.indent(depth + 1);
        self.out.push_str("\"\n");
    }
}

/// A list in one line: only `needs`, whose items are short words.
fn flow(name: &str, items: &[Value], depth: usize) -> Option<String> {
    if name != "needs" {
        return None;
    }
    let words: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(scalar)).collect();
    let flow = format!("[{}]", words?.join(", "));
    (2 * depth + name.len() + 2 + flow.len() <= FLOW_WIDTH).then_some(flow)
}

/// Whether a literal block (`|`, `|-`) gives back exactly this text, for every reader and after an
/// editor has taken blanks from the ends of lines.
fn is_literal_safe(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    !body.is_empty()
        && !body.starts_with([' ', '\n'])
        && !body.ends_with('\n')
        && body.split('\n').all(|line| !line.ends_with(' '))
        && body.chars().all(|c| c == '\n' || !is_hidden(c))
}

/// A text of one line, as plain as is safe.
fn scalar(text: &str) -> String {
    if is_plain_safe(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    escape(text, &mut quoted);
    quoted.push('"');
    quoted
}

/// Whether no reader takes the unquoted text for anything but itself, also inside `[a, b]`. Knows only
/// texts that are surely safe: they begin with a letter, `/` or `_` and go on with few other signs.
fn is_plain_safe(text: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || " _-./+@()=;".contains(c);
    // Only for a uniform look: most digests begin with a digit and are quoted.
    let digest = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let misread = matches!(text, "y" | "Y" | "n" | "N") || (text.is_ascii() && needs_quotes(text));
    text.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '_')
        && text.chars().all(inside)
        && !(text.ends_with(' ') || misread || digest)
}

/// Inside double quotes. The escapes are those of JSON, save that YAML has no surrogate pairs.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_hidden(c) => {
                let code = u32::from(c);
                out.extend([if code <= 0xffff {
                    format!("\\u{code:04x}")
                } else {
                    format!("\\U{code:08x}")
                }]);
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn what_a_reader_could_misread_is_quoted() {
        for text in [
            "",
            "~",
            "null",
            "Null",
            "yes",
            "No",
            "ON",
            "off",
            "y",
            "N",
            "true",
            "FALSE",
            "1",
            "-1",
            "0x1f",
            "0o17",
            "017",
            "1e5",
            ".5",
            "1_000",
            "12:30",
            "2026-11-24",
            "2026-11-24T02:26:32Z",
            ".inf",
            ".nan",
            "<<",
            "=",
            " x",
            "x ",
            "a: b",
            "a #b",
            "- a",
            "*a",
            "&a",
            "!a",
            "'a",
            "%a",
            "@a",
            "[a",
            "{a",
            "a,b",
            "a:",
            "#a",
            "?",
            "a\u{202e}b",
            "a\u{a0}b",
            "\u{feff}a",
        ] {
            assert!(scalar(text).starts_with('"'), "{text:?} became {}", scalar(text));
        }
        for text in ["budget", "/srv/budget", "_x", "abssctl 0.1.0", "Hôtel", "pre-backup", "a=b"] {
            assert_eq!(scalar(text), text);
        }
        assert_eq!(scalar("a\"\\\u{7}\u{1f}\u{e0041}"), "\"a\\\"\\\\\\u0007\\u001f\\U000e0041\"");
    }

    #[test]
    fn the_sample_as_yaml() {
        insta::assert_snapshot!(to_yaml(&testing::sample()).unwrap());
    }

    #[test]
    fn the_sample_as_json() {
        let json = to_json(&testing::sample()).unwrap();
        assert!(json.ends_with("}\n") && json.starts_with("{\n  \"apiVersion\": \"abssctl/v1\""), "{json}");
    }

    #[test]
    fn lines_of_a_text_stand_in_lines() {
        let mut plan = testing::sample();
        plan.preview.diffs[0].diff = "--- a\n+++ b\n\n-x".into();
        assert!(to_yaml(&plan).unwrap().contains("diff: |-\n        --- a\n        +++ b\n\n        -x\n"));
        plan.preview.diffs[0].diff = " a\n \nb \n\n".into();
        let yaml = to_yaml(&plan).unwrap();
        assert!(
            yaml.contains("diff: \"\\\n        \\ a\\n\\\n        \\ \\n\\\n        b \\n\\\n        \\n\\\n        \"\n"),
            "{yaml}"
        );
    }
}
