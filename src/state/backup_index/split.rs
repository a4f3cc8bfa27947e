//! The text of the index, taken apart into its entries: of ten thousand a command needs one. Pure.

use std::borrow::Cow;
use std::fmt;
use std::iter;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread::{self, Builder};

use memchr::memmem;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::host::pool;

/// The list of entries in the document.
pub(super) const ENTRIES: &str = "backups";

/// Fewer entries are not worth a thread.
const PART: usize = 500;

/// What stands between two entries where they are written as both tools write them.
const BETWEEN: &str = "\n    },\n    {";
/// Where in it the first one ends, and the second one begins.
const CLOSE: usize = "\n    }".len();
const OPEN: usize = BETWEEN.len() - "{".len();

/// An index, taken apart.
#[derive(Debug, Default)]
pub(super) struct Split<'t> {
    /// All fields in their order; the entries' own is empty.
    pub(super) document: Map<String, Value>,
    /// The text of each entry.
    pub(super) entries: Vec<&'t str>,
}

/// Reads an index, and makes something of each entry, given where in the text it stands, of many on all cores; in
/// their order. `None` where it is none, or `read` fails.
pub(super) fn read<T: Send>(
    index: &str,
    read: impl Fn(Range<usize>) -> serde_json::Result<T> + Sync,
) -> Option<(Map<String, Value>, Vec<T>)> {
    let all = |split: Split<'_>| {
        let entry = |text: &str| read(within(text, index));
        let entries = split.read(entry).into_iter().collect::<serde_json::Result<_>>().ok()?;
        Some((split.document, entries))
    };
    // What looks as if both tools had written it may be another thing.
    let lines = Split::by_lines(index).and_then(all);
    lines.or_else(|| serde_json::from_str(index).ok().and_then(all))
}

/// Where a part of a text stands in it.
fn within(part: &str, text: &str) -> Range<usize> {
    let begin = part.as_ptr().addr() - text.as_ptr().addr();
    begin..begin + part.len()
}

impl<'t> Deserialize<'t> for Split<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'t> Visitor<'t> for Fields {
    type Value = Split<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Split<'t>, A::Error> {
        let mut split = Split::default();
        while let Some(name) = map.next_key::<Cow<'t, str>>()? {
            let value = if name == ENTRIES {
                // Of a name that comes twice the last one counts.
                let entries: Vec<&RawValue> = map.next_value()?;
                split.entries = entries.into_iter().map(RawValue::get).collect();
                Value::Array(Vec::new())
            } else {
                map.next_value()?
            };
            split.document.insert(name.into_owned(), value);
        }
        Ok(split)
    }
}

impl<'t> Split<'t> {
    /// Finds the entries without reading them, where they are written as both tools do. If each of them is JSON, the
    /// document is: the first and the last one are read as a part of it, and a list of JSON is JSON. `None` where they
    /// are written otherwise.
    fn by_lines(index: &'t str) -> Option<Self> {
        // A line break is no part of any text in JSON, so that none of these is within one.
        let between: Vec<usize> = memmem::find_iter(index.as_bytes(), BETWEEN).collect();
        let (first, last) = (*between.first()?, *between.last()?);
        let outer = [&index[..first + CLOSE], &index[last + CLOSE..]].concat();
        let Split { document, entries } = serde_json::from_str(&outer).ok()?;
        let [one, two] = *entries.as_slice() else { return None };
        let (one, two) = (within(one, &outer), within(two, &outer));
        // Else they are those of another list, or deeper in one.
        if one.end != first + CLOSE {
            return None;
        }
        let begins = iter::once(one.start).chain(between.iter().map(|at| at + OPEN));
        let ends = between.iter().map(|at| at + CLOSE).chain([last + OPEN + two.len()]);
        Some(Self { document, entries: begins.zip(ends).map(|(begin, end)| &index[begin..end]).collect() })
    }

    /// Makes something of the text of each entry, of many on all cores; in their order.
    fn read<T: Send>(&self, read: impl Fn(&str) -> T + Sync) -> Vec<T> {
        let part = self.entries.len().div_ceil(pool::threads()).max(PART);
        let all = &|entries: &[&str]| entries.iter().map(|entry| read(entry)).collect::<Vec<T>>();
        let mut parts = self.entries.chunks(part);
        let first = parts.next().unwrap_or_default();
        thread::scope(|scope| {
            let begin = |entries| (entries, Builder::new().spawn_scoped(scope, move || all(entries)));
            let others: Vec<_> = parts.map(begin).collect();
            let mut done = all(first);
            for (entries, other) in others {
                done.extend(match other {
                    Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
                    // A machine may allow no more threads.
                    Err(_) => all(entries),
                });
            }
            done
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document as [`serde_json`] reads it.
    fn whole(text: &str) -> Option<Map<String, Value>> {
        let Value::Object(document) = serde_json::from_str(text).ok()? else { return None };
        document.get(ENTRIES).is_none_or(Value::is_array).then_some(document)
    }

    /// The same, put together from its parts.
    fn parts(text: &str) -> Option<Map<String, Value>> {
        let (mut document, entries) = read(text, |at| serde_json::from_str::<Value>(&text[at]))?;
        if let Some(list) = document.get_mut(ENTRIES) {
            *list = Value::Array(entries);
        }
        Some(document)
    }

    /// Every text that is cut off somewhere, or has another character there.
    fn spoilt(sound: &str) -> impl Iterator<Item = String> {
        let cut = sound.char_indices().map(|(at, _)| sound[..at].to_owned());
        let other = sound.char_indices().flat_map(move |(at, c)| {
            ["", "\"", ",", "}", "]", "0", "\n"]
                .map(|put| format!("{}{put}{}", &sound[..at], &sound[at + c.len_utf8()..]))
        });
        cut.chain(other)
    }

    #[test]
    fn it_reads_what_serde_json_reads_and_nothing_else() {
        let sound = r#" { "later" : 1, "backups": [ {"id": "a, \"}]", "n": [1.5, -2, {"x": null}]}, 7,true , {}],
            "more":{"backups": []}, "é": "\u00e9", "end":false} "#;
        assert_eq!(serde_json::from_str::<Split<'_>>(sound).unwrap().entries.len(), 4);
        let odd = [
            "{}",
            " {\n} ",
            "[]",
            "",
            "{",
            "{,}",
            "{}}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{\"a\":1 2}",
            "\u{c}{}",
            "{\u{c}}",
            "{\"backups\": {}}",
            "{\"backups\": []} x",
            "{\"backups\": [1,]}",
            "{\"backups\": [,1]}",
            "{\"backups\": [1]\u{b}}",
            "{\"backups\": [1], \"backups\": [2, 3]}",
            "{\"backups\": [1e999]}",
            "{\"backups\": [\"\\ud800\"]}",
            "{\"b\\u0061ckups\": [{}]}",
            "{1: 2}",
            "{\"a\": 01}",
            "{\"a\": tru}",
            "{\"a\":1}\u{feff}",
            "\u{feff}{}",
            "{\"a\": nan}",
            "{\"a\": \"\n\"}",
        ];
        for text in odd.into_iter().map(str::to_owned).chain([sound.to_owned()]).chain(spoilt(sound)) {
            assert_eq!(parts(&text), whole(&text), "{text}");
        }
    }

    #[test]
    fn entries_that_are_found_by_their_lines_are_those_of_the_document() {
        let entry =
            |n: u8| format!("    {{\n      \"id\": \"é}},\\n    {{\",\n      \"n\": [{{}}, {n}]\n    }}");
        let list = |count: u8| (0..count).map(entry).collect::<Vec<_>>().join(",\n");
        for sound in [list(2), list(3), list(4)] {
            let sound = format!("{{\n  \"a\": [0],\n  \"backups\": [\n{sound}\n  ],\n  \"z\": 1\n}}\n");
            let found = Split::by_lines(&sound).unwrap();
            assert_eq!(found.entries, serde_json::from_str::<Split<'_>>(&sound).unwrap().entries);
            for text in spoilt(&sound).chain([sound.clone()]) {
                assert_eq!(parts(&text), whole(&text), "{text}");
            }
        }
        // What stands between entries stands elsewhere too: in another list, deeper, in one that does not count.
        let (two, three) = (list(2), list(3));
        for text in [
            format!("{{\"other\": [{two}]}}"),
            format!("{{\"other\": [{three}], \"backups\": [1, 2]}}"),
            format!("{{\"backups\": [1, 2], \"other\": [{three}]}}"),
            format!("{{\"backups\": [{two}], \"other\": [{three}]}}"),
            format!("{{\"other\": [{three}], \"backups\": [{two}]}}"),
            format!("{{\"backups\": [[{three}], {two}]}}"),
            format!("{{\"backups\": [{{\"deeper\": [{two}]}}, {three}]}}"),
            format!("{{\"backups\": [{{\"deeper\": [{two}]}}, 1]}}"),
            format!("{{\"backups\": [1, {three}, [{two}], 2]}}"),
            format!("{{\"backups\": [{two}], \"backups\": [1]}}"),
            format!("{{\"backups\": [1], \"backups\": [{two}]}}"),
            format!("[{three}]"),
        ] {
            assert!(serde_json::from_str::<Value>(&text).is_ok());
            assert_eq!(parts(&text), whole(&text), "{text}");
        }
    }

    #[test]
    fn many_entries_are_read_in_their_order() {
        let many: Vec<usize> = (0..10 * PART).collect();
        let text = serde_json::json!({"backups": many}).to_string();
        let read = read(&text, |at| Ok(text[at].parse::<usize>().unwrap())).unwrap();
        assert_eq!(read.1, many);
    }
}
