//! Writes YAML byte for byte as the peer's `yaml.safe_dump(value, sort_keys=False)` does. Pure.
//!
//! A port of the parts of `PyYAML` 6.0's `emitter.py` that such values reach: block style, list items
//! not indented below their key, lines folded after 80 columns, non-ASCII text escaped in double quotes.
//! One difference on purpose: a text that a reader of YAML 1.2 would take for a number (`1e5`, `0o17`)
//! is quoted too; `PyYAML` reads it the same.

use serde_json::Value;

use super::scalar::{Meaning, Shape, meaning, misread_by_1_2, shape};
use crate::state::python_text;

/// `PyYAML`'s `best_width`.
const WIDTH: usize = 80;

/// `PyYAML`'s `best_indent`.
const INDENT: usize = 2;

/// A key this long or longer, its implied tag `!!str` counted, is written as `? key`.
const LONGEST_SIMPLE_KEY: usize = 128 - "!!str".len();

/// The document's text, with a final newline.
pub fn to_pyyaml(value: &Value) -> String {
    let mut emitter = Emitter {
        out: String::new(),
        column: 0,
        indent: None,
        whitespace: true,
        indention: true,
        open_ended: false,
    };
    emitter.node(value, Context::Root);
    emitter.write_indent();
    if emitter.open_ended {
        emitter.out.push_str("...\n");
    }
    emitter.out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Root,
    Item,
    Value,
    SimpleKey,
}

struct Emitter {
    out: String,
    column: usize,
    indent: Option<usize>,
    whitespace: bool,
    indention: bool,
    open_ended: bool,
}

impl Emitter {
    fn node(&mut self, value: &Value, context: Context) {
        match value {
            Value::Null => self.plain_scalar("null", context),
            Value::Bool(true) => self.plain_scalar("true", context),
            Value::Bool(false) => self.plain_scalar("false", context),
            Value::Number(number) => {
                let text = python_text::number(number);
                // `1e+16` is no float to YAML 1.1; `PyYAML` writes `1.0e+16`.
                let whole = !text.contains('.') && text.contains('e');
                self.plain_scalar(&if whole { text.replacen('e', ".0e", 1) } else { text }, context);
            }
            Value::String(text) => self.text(text, context),
            Value::Array(items) if items.is_empty() => self.empty("[", "]"),
            Value::Array(items) => {
                let indentless = context == Context::Value && !self.indention;
                let outer = self.increase_indent(false, indentless);
                for item in items {
                    self.write_indent();
                    self.indicator("-", true, false, true);
                    self.node(item, Context::Item);
                }
                self.indent = outer;
            }
            Value::Object(map) if map.is_empty() => self.empty("{", "}"),
            Value::Object(map) => {
                let outer = self.increase_indent(false, false);
                for (key, item) in map {
                    self.write_indent();
                    self.pair(key, item);
                }
                self.indent = outer;
            }
        }
    }

    fn pair(&mut self, key: &str, value: &Value) {
        let simple = !key.is_empty() && !shape(key).multiline && key.chars().count() < LONGEST_SIMPLE_KEY;
        if simple {
            self.text(key, Context::SimpleKey);
            self.indicator(":", false, false, false);
        } else {
            self.indicator("?", true, false, true);
            self.text(key, Context::Value);
            self.write_indent();
            self.indicator(":", true, false, true);
        }
        self.node(value, Context::Value);
    }

    fn empty(&mut self, open: &str, close: &str) {
        self.indicator(open, true, true, false);
        self.indicator(close, false, false, false);
    }

    fn increase_indent(&mut self, flow: bool, indentless: bool) -> Option<usize> {
        let outer = self.indent;
        self.indent = match outer {
            None => Some(if flow { INDENT } else { 0 }),
            Some(indent) if indentless => Some(indent),
            Some(indent) => Some(indent + INDENT),
        };
        outer
    }

    fn plain_scalar(&mut self, text: &str, context: Context) {
        let outer = self.increase_indent(true, false);
        self.plain(text, context);
        self.indent = outer;
    }

    fn text(&mut self, text: &str, context: Context) {
        let Shape { multiline, plain, single_quoted } = shape(text);
        let means_itself = meaning(text) == Meaning::Text && !misread_by_1_2(text);
        let key = context == Context::SimpleKey;
        let outer = self.increase_indent(true, false);
        if plain && means_itself && !(key && (text.is_empty() || multiline)) {
            self.plain(text, context);
        } else if single_quoted && !(key && multiline) {
            self.single_quoted(text, !key);
        } else {
            self.double_quoted(text, !key);
        }
        self.indent = outer;
    }

    fn indicator(&mut self, text: &str, need_whitespace: bool, whitespace: bool, indention: bool) {
        if !self.whitespace && need_whitespace {
            self.write(" ");
        }
        self.write(text);
        self.whitespace = whitespace;
        self.indention &= indention;
        self.open_ended = false;
    }

    fn write(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn write_chars(&mut self, chars: &[char]) {
        self.out.extend(chars);
        self.column += chars.len();
    }

    fn write_indent(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.line_break();
        }
        if self.column < indent {
            self.whitespace = true;
            self.write(&" ".repeat(indent - self.column));
        }
    }

    fn line_break(&mut self) {
        self.whitespace = true;
        self.indention = true;
        self.column = 0;
        self.out.push('\n');
    }

    /// Words between single spaces may be broken; runs of spaces may not.
    fn plain(&mut self, text: &str, context: Context) {
        self.open_ended |= context == Context::Root;
        if !self.whitespace {
            self.write(" ");
        }
        self.whitespace = false;
        self.indention = false;
        let chars: Vec<char> = text.chars().collect();
        let mut start = 0;
        while start < chars.len() {
            let space = chars[start] == ' ';
            let length = chars[start..].iter().take_while(|&&c| (c == ' ') == space).count();
            let fold = space && length == 1 && self.column > WIDTH && context != Context::SimpleKey;
            if fold {
                self.write_indent();
                self.whitespace = false;
                self.indention = false;
            } else {
                self.write_chars(&chars[start..start + length]);
            }
            start += length;
        }
    }

    /// Only `\n` can be a line break here: the other breaks are non-ASCII, and so in double quotes.
    fn single_quoted(&mut self, text: &str, split: bool) {
        self.indicator("'", true, false, false);
        let chars: Vec<char> = text.chars().collect();
        let class = |c: char| if c == ' ' || c == '\n' || c == '\'' { c } else { 'x' };
        let mut start = 0;
        while start < chars.len() {
            let kind = class(chars[start]);
            let length = chars[start..].iter().take_while(|&&c| class(c) == kind).count();
            let end = start + length;
            let fold = kind == ' ' && length == 1 && self.column > WIDTH && split && start != 0;
            match kind {
                ' ' if fold && end != chars.len() => self.write_indent(),
                '\n' => {
                    self.line_break();
                    for _ in 0..length {
                        self.line_break();
                    }
                    self.write_indent();
                }
                '\'' => self.write(&"''".repeat(length)),
                _ => self.write_chars(&chars[start..end]),
            }
            start = end;
        }
        self.indicator("'", false, false, false);
    }

    fn double_quoted(&mut self, text: &str, split: bool) {
        self.indicator("\"", true, false, false);
        let chars: Vec<char> = text.chars().collect();
        let (mut start, mut end) = (0, 0);
        while end <= chars.len() {
            let c = chars.get(end).copied();
            if c.is_none_or(|c| matches!(c, '"' | '\\') || !(' '..='~').contains(&c)) {
                if start < end {
                    self.write_chars(&chars[start..end]);
                    start = end;
                }
                if let Some(c) = c {
                    self.write(&escape(c));
                    start = end + 1;
                }
            }
            let inside = 0 < end && end + 1 < chars.len();
            // After an escape `start` is one beyond `end`, and the sum one column short, as in `PyYAML`.
            let too_wide = self.column + end > WIDTH + start;
            if inside && (c == Some(' ') || start >= end) && too_wide && split {
                if start < end {
                    self.write_chars(&chars[start..end]);
                    start = end;
                }
                self.write("\\");
                self.write_indent();
                self.whitespace = false;
                self.indention = false;
                if chars.get(start) == Some(&' ') {
                    self.write("\\");
                }
            }
            end += 1;
        }
        self.indicator("\"", false, false, false);
    }
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ => {
            return match u32::from(c) {
                code @ ..=0xff => format!("\\x{code:02X}"),
                code @ ..=0xffff => format!("\\u{code:04X}"),
                code => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}
