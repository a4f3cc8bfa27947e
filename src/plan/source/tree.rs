//! Values with their places, and what makes a text no tree at all. Pure.

use serde_json::Value;

use super::{json, yaml};

/// Levels of nesting that a plan may have; a real one has fewer than ten.
pub(super) const MAX_DEPTH: usize = 64;

/// Flaws that are collected before reading stops.
const MAX_FLAWS: usize = 100;

/// Bytes of the text. Line and column are counted only for the few places that are shown: counting
/// them for all would take a time that grows with the square of a line's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// The first.
    pub offset: usize,
    /// How many.
    pub length: usize,
}

/// A place in the text, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub offset: usize,
    /// Bytes, at most to the end of the first line.
    pub length: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// How a plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML, the default.
    Yaml,
    /// JSON: the first character that is no blank is `{`.
    Json,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it is; for a list or mapping, where it begins.
    pub place: Bytes,
    /// What it is.
    pub content: Content,
}

/// What a value is, before any meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text, a number, a truth value or null.
    Scalar {
        /// Its text, escapes resolved.
        text: String,
        /// Whether it stands without quotes, so that it may be more than text.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in the order of the text.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its place.
    pub key_place: Bytes,
    /// The value.
    pub value: Node,
}

/// Why a text is refused before its meaning is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlawKind {
    /// Nothing but blanks and comments.
    Empty,
    /// Neither YAML nor JSON.
    Syntax,
    /// A character that may only be written as an escape.
    Character,
    /// An anchor or an alias.
    Alias,
    /// A tag.
    Tag,
    /// A merge key.
    MergeKey,
    /// A key twice in one mapping.
    DuplicateKey,
    /// A key that is a number, a truth value, null, a list or a mapping.
    KeyNotText,
    /// A second document.
    SecondDocument,
    /// More levels than any plan has.
    TooDeep,
}

/// One reason to refuse the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// What kind of reason.
    pub kind: FlawKind,
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

/// A text as a tree.
#[derive(Debug)]
pub struct Source<'t> {
    /// How it is written.
    pub format: Format,
    /// The whole document.
    pub root: Node,
    lines: Lines<'t>,
}

impl<'t> Source<'t> {
    /// Reads one document.
    ///
    /// # Errors
    /// All the reasons to refuse it, up to the first that leaves nothing to read on from.
    pub fn read(text: &'t str) -> Result<Self, Vec<Flaw>> {
        let format = if text.trim_start().starts_with('{') { Format::Json } else { Format::Yaml };
        let lines = Lines::new(text);
        let mut flaws = Flaws { lines: &lines, found: Vec::new() };
        let root = match format {
            Format::Json => json::read(text, &mut flaws),
            Format::Yaml => yaml::read(text, &mut flaws),
        };
        let found = flaws.found;
        match root {
            Some(root) if found.is_empty() => Ok(Self { format, root, lines }),
            Some(_) | None => Err(found),
        }
    }

    /// The place of the value that a JSON pointer names.
    pub fn value_span(&self, pointer: &str) -> Option<Span> {
        Some(self.lines.span(self.find(pointer)?.1.place))
    }

    /// The place of the key in front of the value that a JSON pointer names; none for the whole
    /// document and for an item of a list.
    pub fn key_span(&self, pointer: &str) -> Option<Span> {
        Some(self.lines.span(self.find(pointer)?.0?))
    }

    /// The best place to point at: the value where it is a scalar, the key where it is a list or
    /// mapping, and for what is not there the nearest thing around it.
    pub fn label_span(&self, pointer: &str) -> Span {
        let mut pointer = pointer;
        loop {
            if let Some((key, node)) = self.find(pointer) {
                return self.lines.span(match node.content {
                    Content::Scalar { .. } => node.place,
                    Content::List(_) | Content::Map(_) => key.unwrap_or(node.place),
                });
            }
            let Some(cut) = pointer.rfind('/') else { return self.lines.span(self.root.place) };
            pointer = &pointer[..cut];
        }
    }

    fn find(&self, pointer: &str) -> Option<(Option<Bytes>, &Node)> {
        let mut found = (None, &self.root);
        if pointer.is_empty() {
            return Some(found);
        }
        for part in pointer.strip_prefix('/')?.split('/') {
            let name = part.replace("~1", "/").replace("~0", "~");
            found = match &found.1.content {
                Content::Map(entries) => {
                    let entry = entries.iter().find(|entry| entry.key == name)?;
                    (Some(entry.key_place), &entry.value)
                }
                Content::List(items) => (None, items.get(name.parse::<usize>().ok()?)?),
                Content::Scalar { .. } => return None,
            };
        }
        Some(found)
    }

    /// Walks over this text and a value read from it in step, and names each scalar: JSON pointer,
    /// its text where it stands without quotes, value. What has another shape is passed over.
    pub fn each_scalar(&self, value: &Value, seen: &mut dyn FnMut(&str, Option<&str>, &Value)) {
        self.root.each_scalar(value, &mut String::new(), seen);
    }

    /// The span of one character at a line and a column, both from 1.
    pub fn span_at(&self, line: usize, column: usize) -> Span {
        self.lines.span(self.lines.at(line, column))
    }

    /// The first place where a value read from the same text by another reader differs in its shape,
    /// its keys or its text: then the two readers do not agree on what the text says.
    pub fn disagreement(&self, value: &Value) -> Option<Span> {
        self.root.disagreement(value).map(|place| self.lines.span(place))
    }
}

impl Node {
    fn each_scalar(
        &self,
        value: &Value,
        pointer: &mut String,
        seen: &mut dyn FnMut(&str, Option<&str>, &Value),
    ) {
        let length = pointer.len();
        match (&self.content, value) {
            (Content::Map(entries), Value::Object(fields)) => {
                for (entry, (name, value)) in entries.iter().zip(fields) {
                    pointer.push('/');
                    pointer.push_str(&pointer_part(name));
                    entry.value.each_scalar(value, pointer, seen);
                    pointer.truncate(length);
                }
            }
            (Content::List(nodes), Value::Array(items)) => {
                for (at, (node, item)) in nodes.iter().zip(items).enumerate() {
                    pointer.push('/');
                    pointer.push_str(&at.to_string());
                    node.each_scalar(item, pointer, seen);
                    pointer.truncate(length);
                }
            }
            (Content::Scalar { text, plain }, value) => seen(pointer, plain.then_some(text), value),
            (Content::Map(_) | Content::List(_), _) => {}
        }
    }

    fn disagreement(&self, value: &Value) -> Option<Bytes> {
        match (&self.content, value) {
            (Content::Map(entries), Value::Object(fields)) => {
                if entries.len() != fields.len() {
                    return Some(self.place);
                }
                entries.iter().zip(fields).find_map(|(entry, (key, value))| {
                    if entry.key == *key { entry.value.disagreement(value) } else { Some(entry.key_place) }
                })
            }
            (Content::List(nodes), Value::Array(items)) => {
                if nodes.len() != items.len() {
                    return Some(self.place);
                }
                nodes.iter().zip(items).find_map(|(node, item)| node.disagreement(item))
            }
            (Content::Scalar { text, .. }, Value::String(other)) => (text != other).then_some(self.place),
            (Content::Scalar { plain, .. }, Value::Null | Value::Bool(_) | Value::Number(_)) => {
                (!plain).then_some(self.place)
            }
            (Content::Scalar { .. } | Content::List(_) | Content::Map(_), _) => Some(self.place),
        }
    }
}

/// A key as a part of a JSON pointer.
pub fn pointer_part(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The flaws found so far.
#[derive(Debug)]
pub(super) struct Flaws<'l, 't> {
    pub(super) lines: &'l Lines<'t>,
    pub(super) found: Vec<Flaw>,
}

impl Flaws<'_, '_> {
    /// Notes one; `None` where there are so many that reading on is of no use.
    pub(super) fn add(&mut self, kind: FlawKind, place: Bytes, message: impl Into<String>) -> Option<()> {
        self.found.push(Flaw { kind, span: self.lines.span(place), message: message.into() });
        (self.found.len() < MAX_FLAWS).then_some(())
    }
}

/// Where the lines of a text begin.
#[derive(Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    /// The span of these bytes, cut at the end of the line.
    fn span(&self, Bytes { offset, length }: Bytes) -> Span {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= offset) - 1;
        let column = self.text[self.starts[line]..offset].chars().count() + 1;
        let rest = &self.text[offset..];
        let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let mut length = length.min(end);
        while !rest.is_char_boundary(length) {
            length -= 1;
        }
        Span { offset, length, line: line + 1, column }
    }

    /// One byte at a line and a column in bytes, both from 1.
    pub(super) fn at(&self, line: usize, column: usize) -> Bytes {
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        Bytes { offset: start.saturating_add(column.saturating_sub(1)), length: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(FlawKind, usize, usize)> {
        match Source::read(text) {
            Ok(_) => Vec::new(),
            Err(flaws) => flaws.iter().map(|flaw| (flaw.kind, flaw.span.line, flaw.span.column)).collect(),
        }
    }

    fn slice(text: &str, span: Option<Span>) -> &str {
        let span = span.unwrap();
        &text[span.offset..span.offset + span.length]
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        for text in [
            "# é\r\naé: 1\r\nb:\r\n  - x\r\n  - {c: \"d\\te\", 'f': g}\r\nlast: end\r\n",
            "# é\naé: 1\nb:\n  - x\n  - {c: \"d\\te\", 'f': g}\nlast: end",
            "{\n\t\"aé\" : 1,\n\t\"b\": [\"x\", {\"c\": \"d\\te\", \"f\": \"g\"}], \"last\":\"end\"\n}",
        ] {
            let source = Source::read(text).unwrap();
            assert_eq!(slice(text, source.value_span("/aé")), "1");
            assert!(slice(text, source.key_span("/aé")).contains("aé"));
            assert!(slice(text, source.value_span("/b/1/c")).contains("d\\te"));
            assert!(slice(text, source.key_span("/b/1/f")).contains('f'));
            assert!(slice(text, source.value_span("/last")).contains("end"));
            assert_eq!(source.value_span("/b/2"), None);
            assert_eq!(source.value_span("/aé/x"), None);
            let nearest = source.label_span("/b/7/nothing");
            assert!(slice(text, Some(nearest)).contains('b'), "{nearest:?}");
        }
        let source = Source::read("é: x\nb:\n  ü: 2\n").unwrap();
        assert_eq!(source.value_span("/b/ü"), Some(Span { offset: 15, length: 1, line: 3, column: 6 }));
    }

    #[test]
    fn yaml_that_could_mean_two_things_is_refused_with_its_place() {
        use FlawKind::*;
        for (text, kind, line, column) in [
            ("", Empty, 1, 1),
            ("# nothing\n\n", Empty, 1, 1),
            ("---\n...\n", Empty, 1, 1),
            ("a: [1\n", Syntax, 2, 1),
            ("a: x\u{1b}\n", Character, 1, 5),
            ("\u{feff}a: x\n", Character, 1, 1),
            ("a: 'x\u{2028}y'\n", Character, 1, 6),
            ("a: &x 1\n", Alias, 1, 4),
            ("a: 1\nb: *x\n", Syntax, 2, 4),
            ("a: !!str 1\n", Tag, 1, 4),
            ("a: ! 1\n", Tag, 1, 4),
            ("a: !x {b: 1}\n", Tag, 1, 4),
            ("a: 1\n<<: {b: 1}\n", MergeKey, 2, 1),
            ("a: 1\nb: 2\na: 3\n", DuplicateKey, 3, 1),
            ("x: {a: 1, \"a\": 3}\n", DuplicateKey, 1, 11),
            ("1: x\n", KeyNotText, 1, 1),
            ("yes: x\n", KeyNotText, 1, 1),
            ("~: x\n", KeyNotText, 1, 1),
            ("? [a]\n: x\n", KeyNotText, 1, 3),
            ("a: 1\n---\nb: 1\n", SecondDocument, 2, 1),
        ] {
            let found = kinds(text);
            assert!(found.iter().any(|flaw| flaw.0 == kind), "{text:?}: {found:?}");
            assert!(found.contains(&(kind, line, column)), "{text:?}: {found:?}");
        }
        assert_eq!(kinds("a: &x 1\nb: *x\nc: &y 2\n").len(), 3);
    }

    #[test]
    fn depth_is_bounded_before_it_costs() {
        for open in ["[", "a: [", "- "] {
            let flaws = kinds(&open.repeat(100_000));
            assert!(!flaws.is_empty(), "{open}");
        }
        let nested = |depth: usize| format!("a: {}{}\n", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(kinds(&nested(MAX_DEPTH - 1)), []);
        assert_eq!(kinds(&nested(MAX_DEPTH + 1))[0].0, FlawKind::TooDeep);
        let json = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(kinds(&json(MAX_DEPTH - 1)), []);
        assert_eq!(kinds(&json(MAX_DEPTH + 1))[0].0, FlawKind::TooDeep);
        assert_eq!(kinds(&"{\"a\":".repeat(100_000))[0].0, FlawKind::Syntax);
    }

    #[test]
    fn long_lines_take_no_longer_than_many_short_ones() {
        let started = std::time::Instant::now();
        for text in [
            format!("a: [{}b]\n", "a, ".repeat(100_000)),
            format!("{{\"a\": [{}1]}}", "\"é\",".repeat(100_000)),
        ] {
            assert!(Source::read(&text).is_ok());
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn json_with_tabs_escapes_and_surrogates() {
        let text =
            "\n{\t\"a\\/b\":\t\"\\ud83d\\ude00 \\u0041\\n\",\n\"n\": -1.5e3 , \"l\": [ ], \"t\":true}\n";
        let source = Source::read(text).unwrap();
        assert_eq!(source.format, Format::Json);
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(source.disagreement(&value), None);
        assert_eq!(slice(text, source.value_span("/a~1b")), "\"\\ud83d\\ude00 \\u0041\\n\"");
        assert_eq!(slice(text, source.value_span("/n")), "-1.5e3");
        assert_eq!(kinds("{\"a\": 1, \"b\": {\"c\": 1, \"\\u0063\": 2}}"), [(FlawKind::DuplicateKey, 1, 24)]);
        assert_eq!(kinds("{\"a\": 1,}")[0].0, FlawKind::Syntax);
        assert_eq!(kinds("{\"a\": 1} x")[0].0, FlawKind::Syntax);
        assert_eq!(kinds("{a: 1}")[0].0, FlawKind::Syntax);
    }

    #[test]
    fn readers_that_disagree_are_noticed() {
        let source = Source::read("a: x\nb: [1, '2']\n").unwrap();
        let agree = |value: Value| source.disagreement(&value).is_none();
        assert!(agree(serde_json::json!({"a": "x", "b": [1, "2"]})));
        assert!(!agree(serde_json::json!({"a": "y", "b": [1, "2"]})));
        assert!(!agree(serde_json::json!({"a": "x", "b": [1, 2]})));
        assert!(!agree(serde_json::json!({"a": "x", "b": [1]})));
        assert!(!agree(serde_json::json!({"b": [1, "2"], "a": "x"})));
        assert!(!agree(serde_json::json!({"a": "x"})));
    }
}
