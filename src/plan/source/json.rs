//! JSON with places. `serde_json` decides whether it is JSON at all; this scanner only adds where
//! things are. A YAML reader will not do: it refuses tabs and surrogate pairs. Pure.

use std::collections::HashSet;

use serde::de::IgnoredAny;

use super::tree::{Bytes, Content, Entry, FlawKind, Flaws, MAX_DEPTH, Node};

pub(super) fn read<'t>(text: &'t str, flaws: &mut Flaws<'_, 't>) -> Option<Node> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let full = error.to_string();
        let suffix = format!(" at line {} column {}", error.line(), error.column());
        let message = full.strip_suffix(&suffix).unwrap_or(&full);
        let place = flaws.lines.at(error.line(), error.column());
        flaws.add(
            FlawKind::Syntax,
            place,
            format!("a text that starts with '{{' is read as JSON: {message}"),
        )?;
        return None;
    }
    let mut scanner = Scanner { text, at: 0, flaws };
    let before = scanner.flaws.found.len();
    let root = scanner.value(0);
    if root.is_none() && scanner.flaws.found.len() == before {
        let place = Bytes { offset: scanner.at, length: 1 };
        flaws.add(FlawKind::Syntax, place, "the place of this value cannot be found")?;
    }
    root
}

/// Walks over text that is known to be JSON; `None` where it is not what it expects.
struct Scanner<'t, 'f, 'l> {
    text: &'t str,
    at: usize,
    flaws: &'f mut Flaws<'l, 't>,
}

impl Scanner<'_, '_, '_> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: usize) -> Option<Node> {
        let first = self.peek()?;
        let start = self.at;
        if depth > MAX_DEPTH {
            let place = Bytes { offset: start, length: 1 };
            self.flaws.add(
                FlawKind::TooDeep,
                place,
                format!("it is nested deeper than {MAX_DEPTH} levels"),
            )?;
            return None;
        }
        let content = match first {
            b'{' => self.map(depth)?,
            b'[' => self.list(depth)?,
            b'"' => Content::Scalar { text: self.string()?, plain: false },
            _ => Content::Scalar { text: self.word()?, plain: true },
        };
        let length = match content {
            Content::Scalar { .. } => self.at - start,
            Content::List(_) | Content::Map(_) => 1,
        };
        Some(Node { place: Bytes { offset: start, length }, content })
    }

    fn map(&mut self, depth: usize) -> Option<Content> {
        self.at += 1;
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        while !self.take(b'}') {
            self.peek()?;
            let start = self.at;
            let key = self.string()?;
            let key_place = Bytes { offset: start, length: self.at - start };
            if !seen.insert(key.clone()) {
                self.flaws.add(FlawKind::DuplicateKey, key_place, format!("the key '{key}' comes twice"))?;
            }
            if !self.take(b':') {
                return None;
            }
            entries.push(Entry { key, key_place, value: self.value(depth + 1)? });
            self.take(b',');
        }
        Some(Content::Map(entries))
    }

    fn list(&mut self, depth: usize) -> Option<Content> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.take(b']') {
            items.push(self.value(depth + 1)?);
            self.take(b',');
        }
        Some(Content::List(items))
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        let mut escaped = false;
        let inside = self.text.as_bytes().get(start + 1..)?;
        let end = inside.iter().position(|byte| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        })?;
        self.at = start + end + 2;
        serde_json::from_str(&self.text[start..self.at]).ok()
    }

    fn word(&mut self) -> Option<String> {
        let rest = &self.text[self.at..];
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(rest.len());
        self.at += end;
        (end > 0).then(|| rest[..end].to_owned())
    }
}
