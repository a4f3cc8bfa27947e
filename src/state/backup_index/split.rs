//! The text of the index, taken apart into its entries: of ten thousand a command needs one. Pure.

use std::borrow::Cow;
use std::fmt;
use std::panic::resume_unwind;
use std::thread::{self, Builder};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::host::pool;

/// The list of entries in the document.
pub(super) const ENTRIES: &str = "backups";

/// Fewer entries are not worth a thread.
const PART: usize = 500;

/// An index, taken apart.
#[derive(Debug, Default)]
pub(super) struct Split<'t> {
    /// All fields in their order; the entries' own is empty.
    pub(super) document: Map<String, Value>,
    /// The text of each entry.
    pub(super) entries: Vec<&'t RawValue>,
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
                split.entries = map.next_value()?;
                Value::Array(Vec::new())
            } else {
                map.next_value()?
            };
            split.document.insert(name.into_owned(), value);
        }
        Ok(split)
    }
}

impl Split<'_> {
    /// Makes something of the text of each entry, of many on all cores; in their order.
    pub(super) fn read<T: Send>(&self, read: impl Fn(&str) -> T + Sync) -> Vec<T> {
        let part = self.entries.len().div_ceil(pool::threads()).max(PART);
        let all = &|entries: &[&RawValue]| entries.iter().map(|entry| read(entry.get())).collect::<Vec<T>>();
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
        let split: Split<'_> = serde_json::from_str(text).ok()?;
        let entries = split.read(|text| serde_json::from_str::<Value>(text).ok());
        let Split { mut document, .. } = split;
        if let Some(list) = document.get_mut(ENTRIES) {
            *list = Value::Array(entries.into_iter().collect::<Option<_>>()?);
        }
        Some(document)
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
        // Every text that is cut off somewhere, or has another character there.
        let cut = sound.char_indices().map(|(at, _)| sound[..at].to_owned());
        let other = sound.char_indices().flat_map(|(at, c)| {
            ["", "\"", ",", "}", "]", "0"]
                .map(|put| format!("{}{put}{}", &sound[..at], &sound[at + c.len_utf8()..]))
        });
        for text in odd.into_iter().map(str::to_owned).chain([sound.to_owned()]).chain(cut).chain(other) {
            assert_eq!(parts(&text), whole(&text), "{text}");
        }
    }

    #[test]
    fn many_entries_are_read_in_their_order() {
        let many: Vec<usize> = (0..10 * PART).collect();
        let text = serde_json::json!({"backups": many}).to_string();
        let split: Split<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(split.read(|text| text.parse::<usize>().unwrap()), many);
    }
}
