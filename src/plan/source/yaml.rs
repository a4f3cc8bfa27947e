//! YAML with places, from the events of `saphyr-parser`. Pure.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

use super::tree::{Bytes, Content, Entry, FlawKind, Flaws, MAX_DEPTH, Node};
use crate::state::yaml::needs_quotes;

pub(super) fn read<'t>(text: &'t str, flaws: &mut Flaws<'_, 't>) -> Option<Node> {
    unreadable(text, flaws)?;
    let offsets = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
    let mut reader = Reader { text, parser: Parser::new_from_str(text), offsets, flaws };
    reader.document()
}

/// Characters that YAML forbids, or that its versions take differently: 1.1 breaks lines at three that
/// 1.2 does not.
fn unreadable(text: &str, flaws: &mut Flaws<'_, '_>) -> Option<()> {
    let refused = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let before = flaws.found.len();
    for (offset, c) in text.char_indices().filter(|(_, c)| refused(*c)) {
        let message = format!("the character U+{:04X} may not stand here as it is", u32::from(c));
        flaws.add(FlawKind::Character, Bytes { offset, length: c.len_utf8() }, message)?;
    }
    (flaws.found.len() == before).then_some(())
}

struct Reader<'t, 'f, 'l> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    /// Byte offset of each character; empty where the two are the same. The parser counts characters.
    offsets: Vec<usize>,
    flaws: &'f mut Flaws<'l, 't>,
}

impl<'t> Reader<'t, '_, '_> {
    fn byte(&self, marker: &saphyr_parser::Marker) -> usize {
        if self.offsets.is_empty() {
            marker.index()
        } else {
            self.offsets.get(marker.index()).copied().unwrap_or(self.text.len())
        }
    }

    fn place(&self, span: &saphyr_parser::Span) -> Bytes {
        let offset = self.byte(&span.start);
        Bytes { offset, length: self.byte(&span.end).saturating_sub(offset) }
    }

    fn next(&mut self) -> Option<(Event<'t>, Bytes)> {
        match self.parser.next_event()? {
            Ok((event, span)) => Some((event, self.place(&span))),
            Err(error) => {
                let place = Bytes { offset: self.byte(error.marker()), length: 1 };
                self.flaws.add(FlawKind::Syntax, place, format!("this is not YAML: {}", error.info()))?;
                None
            }
        }
    }

    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    self.flaws.add(FlawKind::SecondDocument, place, "a second document begins here")?;
                    return None;
                }
                Event::DocumentStart(_) => {
                    let (event, place) = self.next()?;
                    root = Some(self.node(event, place, 0)?);
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
        let empty = root.as_ref().is_none_or(
            |node| matches!(&node.content, Content::Scalar { text, plain: true } if text.is_empty()),
        );
        if empty {
            self.flaws.add(FlawKind::Empty, Bytes::default(), "there is nothing in it")?;
            return None;
        }
        root
    }

    fn node(&mut self, event: Event<'t>, place: Bytes, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            self.flaws.add(
                FlawKind::TooDeep,
                place,
                format!("it is nested deeper than {MAX_DEPTH} levels"),
            )?;
            return None;
        }
        let content = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), place)?;
                Content::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), place)?;
                Content::List(self.list(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), place)?;
                Content::Map(self.map(depth)?)
            }
            Event::Alias(_) => {
                self.flaws.add(FlawKind::Alias, place, "aliases ('*name') are not accepted")?;
                Content::Scalar { text: String::new(), plain: true }
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                self.flaws.add(FlawKind::Syntax, place, "the document ends too early")?;
                return None;
            }
        };
        Some(Node { place, content })
    }

    fn refuse_extras(&mut self, anchor: usize, tag: bool, place: Bytes) -> Option<()> {
        if anchor != 0 {
            self.flaws.add(FlawKind::Alias, place, "anchors ('&name') are not accepted")?;
        }
        if tag {
            self.flaws.add(FlawKind::Tag, place, "tags ('!name') are not accepted")?;
        }
        Some(())
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::SequenceEnd {
                return Some(items);
            }
            items.push(self.node(event, place, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (event, key_place) = self.next()?;
            if event == Event::MappingEnd {
                return Some(entries);
            }
            let node = self.node(event, key_place, depth + 1)?;
            let key = match node.content {
                Content::Scalar { text, plain: true } if text == "<<" => {
                    self.flaws.add(FlawKind::MergeKey, key_place, "merge keys ('<<') are not accepted")?;
                    text
                }
                Content::Scalar { text, plain } => {
                    if plain && text.is_ascii() && needs_quotes(&text) {
                        self.flaws.add(
                            FlawKind::KeyNotText,
                            key_place,
                            format!("the key '{text}' is not text"),
                        )?;
                    }
                    text
                }
                Content::List(_) | Content::Map(_) => {
                    self.flaws.add(FlawKind::KeyNotText, key_place, "a list or mapping is no key")?;
                    String::new()
                }
            };
            if !seen.insert(key.clone()) {
                self.flaws.add(FlawKind::DuplicateKey, key_place, format!("the key '{key}' comes twice"))?;
            }
            let (event, place) = self.next()?;
            entries.push(Entry { key, key_place, value: self.node(event, place, depth + 1)? });
        }
    }
}
