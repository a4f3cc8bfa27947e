//! The text of the index, taken apart into its entries in one pass: of ten thousand a command needs one.
//! Pure.

use serde_json::{Deserializer, Map, Value};

use super::super::seen::Seen;

/// The list of entries in the document.
pub(super) const ENTRIES: &str = "backups";

/// An index, taken apart.
#[derive(Debug)]
pub(super) struct Split<T> {
    /// All fields in their order; the entries' own is empty.
    pub(super) document: Map<String, Value>,
    /// What was made of each entry.
    pub(super) entries: Vec<T>,
}

/// Takes an index apart; `read` makes something of each entry, by its text and what that says. `None` for a
/// text that is no index, which [`serde_json`] has words for.
pub(super) fn split<T>(text: &str, read: impl Fn(&str, &Seen<'_>) -> T) -> Option<Split<T>> {
    let mut split = Split { document: Map::new(), entries: Vec::new() };
    let mut rest = blank(blank(text).strip_prefix('{')?);
    if let Some(rest) = rest.strip_prefix('}') {
        return blank(rest).is_empty().then_some(split);
    }
    loop {
        let (name, after) = value(rest)?;
        let name = name.1.text()?;
        let after = blank(after.strip_prefix(':')?);
        let (field, after) = if name == ENTRIES {
            let after = list(after, &read, &mut split.entries)?;
            (Value::Array(Vec::new()), after)
        } else {
            let ((field, _), after) = value(after)?;
            (serde_json::from_str(field).ok()?, after)
        };
        split.document.insert(name.to_owned(), field);
        if let Some(after) = after.strip_prefix('}') {
            return blank(after).is_empty().then_some(split);
        }
        rest = blank(after.strip_prefix(',')?);
    }
}

/// The items of a list into `entries`; what follows it.
fn list<'t, T>(text: &'t str, read: &impl Fn(&str, &Seen<'_>) -> T, entries: &mut Vec<T>) -> Option<&'t str> {
    // Of a name that comes twice the last one counts.
    entries.clear();
    let mut rest = blank(text.strip_prefix('[')?);
    if let Some(after) = rest.strip_prefix(']') {
        return Some(blank(after));
    }
    loop {
        let ((entry, seen), after) = value(rest)?;
        entries.push(read(entry, &seen));
        if let Some(after) = after.strip_prefix(']') {
            return Some(blank(after));
        }
        rest = blank(after.strip_prefix(',')?);
    }
}

/// The value that a text begins with, and what follows it.
fn value(text: &str) -> Option<((&str, Seen<'_>), &str)> {
    // A word or a number ends only where something else begins.
    let bare = text.find([',', ']', '}', ' ', '\t', '\r', '\n']);
    let end = if text.starts_with(['{', '[', '"']) { text.len() } else { bare.unwrap_or(text.len()) };
    let mut values = Deserializer::from_str(&text[..end]).into_iter::<Seen<'_>>();
    let seen = values.next()?.ok()?;
    let (value, after) = text.split_at(values.byte_offset());
    Some(((value, seen), blank(after)))
}

/// A text without the blanks that it begins with.
fn blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\r', '\n'])
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
        let Split { mut document, entries } =
            split(text, |text, _| serde_json::from_str::<Value>(text).unwrap())?;
        if let Some(list) = document.get_mut(ENTRIES) {
            *list = Value::Array(entries);
        }
        Some(document)
    }

    #[test]
    fn it_reads_what_serde_json_reads_and_nothing_else() {
        let sound = r#" { "later" : 1, "backups": [ {"id": "a, \"}]", "n": [1.5, -2, {"x": null}]}, 7,true , {}],
            "more":{"backups": []}, "é": "\u00e9", "end":false} "#;
        assert_eq!(split(sound, |_, _| ()).unwrap().entries.len(), 4);
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
}
