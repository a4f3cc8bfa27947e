//! JSON as Python's `json.dumps` writes it, so that files shared with the peer stay byte for byte its own. Pure.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// `json.dumps(value, indent=2)`: ASCII only, no final newline.
pub fn json_indented(value: &Value) -> String {
    json_indented_at(value, 0)
}

/// As [`json_indented`], for a value at this depth of a document.
pub fn json_indented_at(value: &Value, level: usize) -> String {
    let mut out = String::new();
    write_json(&mut out, value, Some(level));
    out
}

/// `json.dumps(value, separators=(",", ":"))`: ASCII only, one line.
pub fn json_compact(value: &Value) -> String {
    let mut out = String::new();
    write_json(&mut out, value, None);
    out
}

/// A number as Python's `repr` gives it.
pub fn number(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => float(value),
        _ => number.to_string(),
    }
}

fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let fixed = value.to_string();
        if fixed.contains('.') { fixed } else { format!("{fixed}.0") }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
    }
}

fn write_json(out: &mut String, value: &Value, level: Option<usize>) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(value) => out.push_str(&number(value)),
        Value::String(text) => write_string(out, text),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                separate(out, at, level);
                write_json(out, item, level.map(|level| level + 1));
            }
            close(out, ']', level);
        }
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Object(map) => {
            out.push('{');
            for (at, (key, item)) in map.iter().enumerate() {
                separate(out, at, level);
                write_string(out, key);
                out.push_str(if level.is_some() { ": " } else { ":" });
                write_json(out, item, level.map(|level| level + 1));
            }
            close(out, '}', level);
        }
    }
}

fn separate(out: &mut String, at: usize, level: Option<usize>) {
    if at > 0 {
        out.push(',');
    }
    if let Some(level) = level {
        out.push('\n');
        out.push_str(&"  ".repeat(level + 1));
    }
}

fn close(out: &mut String, bracket: char, level: Option<usize>) {
    if let Some(level) = level {
        out.push('\n');
        out.push_str(&"  ".repeat(level));
    }
    out.push(bracket);
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a `String` cannot fail.
                    write!(out, "\\u{unit:04x}").unwrap_or_default();
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ascii_escapes_are_those_of_python() {
        assert_eq!(
            json_compact(&json!("é✓😀\u{7f}\u{1}\"\\\n")),
            r#""\u00e9\u2713\ud83d\ude00\u007f\u0001\"\\\n""#
        );
        assert_eq!(
            json_compact(&json!({"a": [], "b": {}, "c": [1, null, true]})),
            r#"{"a":[],"b":{},"c":[1,null,true]}"#
        );
        assert_eq!(json_indented(&json!({"a": [1, {}]})), "{\n  \"a\": [\n    1,\n    {}\n  ]\n}");
    }

    #[test]
    fn floats_are_those_of_python() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.0, "-0.0"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn python_itself_agrees() {
        let value = json!({"é😀": [1.5, 1e22, -3, "a\u{7f}\u{2028}b", {"x": []}], "n": null, "m": {}});
        let script = "import json,sys; v=json.load(sys.stdin); \
                      sys.stdout.write(json.dumps(v,indent=2)+'\\n'+json.dumps(v,separators=(',',':')))";
        let Some(output) = crate::state::testing::python(script, value.to_string().as_bytes()) else {
            return;
        };
        assert_eq!(output, format!("{}\n{}", json_indented(&value), json_compact(&value)));
    }
}
