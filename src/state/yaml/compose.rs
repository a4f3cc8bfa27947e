//! Reads one YAML document as the peer's `PyYAML` does, into JSON values that keep the order of keys. Pure.
//!
//! Stricter than the peer where it guesses: a key that comes twice, a key that is not text, a merge
//! key and a tag are refused, each with its place. Aliases are followed, since `PyYAML` writes them
//! by itself, but only as far as [`MAX_NODES`] reaches.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Number, Value};

use super::YamlError;
use super::scalar::{Meaning, meaning};

/// Values in one document, aliases counted as often as they are used.
const MAX_NODES: usize = 1_000_000;

/// Levels of nesting; as many as the JSON reader takes.
const MAX_DEPTH: usize = 100;

/// Reads one document by the rules of YAML 1.1; nothing at all is `null`.
///
/// # Errors
/// Not YAML, more than one document, a key twice, a key that is not text, a merge key, a tag, a number
/// that JSON cannot hold, or too much.
pub fn parse_value(text: &str) -> Result<Value, YamlError> {
    let mut composer = Composer {
        parser: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
        anchors: HashMap::new(),
        nodes: 0,
    };
    composer.document()
}

struct Composer<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Value>,
    nodes: usize,
}

fn error(message: impl Into<String>, span: &Span) -> YamlError {
    YamlError { message: message.into(), line: span.start.line(), column: span.start.col() + 1 }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

impl<'t> Composer<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(scan)) => Err(YamlError {
                message: scan.info().to_owned(),
                line: scan.marker().line(),
                column: scan.marker().col() + 1,
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Value, YamlError> {
        let mut found = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(found.unwrap_or(Value::Null)),
                Event::DocumentStart(_) if found.is_some() => {
                    return Err(error("there is more than one document", &span));
                }
                Event::DocumentStart(_) => {
                    let (event, span) = self.next()?;
                    found = Some(self.node(event, &span, 0)?);
                }
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentEnd
                | Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => {}
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Value, YamlError> {
        if depth > MAX_DEPTH {
            return Err(error(format!("it is nested deeper than {MAX_DEPTH} levels"), span));
        }
        self.count(1, span)?;
        match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Err(error("tags ('!…') are not accepted", span)),
            Event::Scalar(text, style, anchor, None) => {
                let value = scalar(&text, style, span)?;
                self.remember(anchor, &value);
                Ok(value)
            }
            Event::SequenceStart(anchor, None) => {
                let value = self.sequence(depth)?;
                self.remember(anchor, &value);
                Ok(value)
            }
            Event::MappingStart(anchor, None) => {
                let value = self.mapping(depth)?;
                self.remember(anchor, &value);
                Ok(value)
            }
            Event::Alias(anchor) => {
                let Some(value) = self.anchors.get(&anchor).cloned() else {
                    return Err(error("an alias ('*…') refers to itself or to nothing", span));
                };
                self.count(size(&value), span)?;
                Ok(value)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => Err(error("the document ends too early", span)),
        }
    }

    fn count(&mut self, more: usize, span: &Span) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(error(format!("it has more than {MAX_NODES} values"), span));
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, value: &Value) {
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::Array(items));
            }
            items.push(self.node(event, &span, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut map = Map::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Object(map));
            }
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            if merge {
                return Err(error("merge keys ('<<') are not accepted", &span));
            }
            let Value::String(key) = self.node(event, &span, depth + 1)? else {
                return Err(error("a key is not text; put it in quotes", &span));
            };
            if map.contains_key(&key) {
                return Err(error(format!("the key '{}' comes twice", key.escape_debug()), &span));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, &span, depth + 1)?;
            map.insert(key, value);
        }
    }
}

fn scalar(text: &str, style: ScalarStyle, span: &Span) -> Result<Value, YamlError> {
    if style != ScalarStyle::Plain {
        return Ok(Value::String(text.to_owned()));
    }
    let too_large = || error(format!("the number '{text}' cannot be held; put it in quotes"), span);
    Ok(match meaning(text) {
        Meaning::Null => Value::Null,
        Meaning::Bool(value) => Value::Bool(value),
        Meaning::Int(value) => {
            let number =
                i64::try_from(value).map(Number::from).or_else(|_| u64::try_from(value).map(Number::from));
            Value::Number(number.map_err(|_| too_large())?)
        }
        Meaning::Float(value) => Value::Number(Number::from_f64(value).ok_or_else(too_large)?),
        Meaning::TooLarge => return Err(too_large()),
        Meaning::Text | Meaning::Timestamp | Meaning::Special => Value::String(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_is_kept_and_scalars_are_those_of_1_1() {
        let value = parse_value("z: 1\na: [yes, 010, 1e5, '1', ~, 1.5]\nt: 2026-11-24\n").unwrap();
        assert_eq!(value, json!({"z": 1, "a": [true, 8, "1e5", "1", null, 1.5], "t": "2026-11-24"}));
        assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["z", "a", "t"]);
        assert_eq!(parse_value("").unwrap(), Value::Null);
        assert_eq!(parse_value("# nothing\n").unwrap(), Value::Null);
    }

    #[test]
    fn what_is_ambiguous_is_refused_with_its_place() {
        for (text, part, line) in [
            ("a: 1\na: 2\n", "comes twice", 2),
            ("x:\n  b: 1\n  b: 1\n", "comes twice", 3),
            ("a: 1\n<<: {b: 1}\n", "merge", 2),
            ("5007: x\n", "not text", 1),
            ("a: !!python/object x\n", "tags", 1),
            ("a: 1\n---\nb: 1\n", "more than one", 2),
            ("a: 99999999999999999999999999\n", "cannot be held", 1),
            ("a: .nan\n", "cannot be held", 1),
            ("a: [1\n", "", 2),
            ("a: &x [*x]\n", "refers to itself", 1),
        ] {
            let error = parse_value(text).unwrap_err();
            assert!(error.message.contains(part), "{text:?}: {error}");
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
    }

    #[test]
    fn aliases_are_followed_but_not_without_end() {
        assert_eq!(parse_value("a: &x {b: 1}\nc: *x\n").unwrap(), json!({"a": {"b": 1}, "c": {"b": 1}}));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.extend([format!("a{level}: &a{level} [{aliases}]\n")]);
        }
        assert!(parse_value(&bomb).unwrap_err().message.contains("more than"));
        let deep = "[".repeat(5000);
        assert!(parse_value(&deep).is_err());
    }
}
