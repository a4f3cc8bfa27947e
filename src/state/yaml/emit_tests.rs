//! Tests of the YAML writer against the peer's real files, `serde_yaml`, our reader and `PyYAML` itself.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Map, Value, json};

use super::*;
use crate::ids::AbsPath;
use crate::state::testing::{instance_tree, python};

#[test]
fn the_peers_real_files_come_back_byte_for_byte() {
    let (_keep, root) = instance_tree();
    for name in ["instances", "ports", "versions"] {
        let path: AbsPath = format!("/var/lib/abssctl/registry/{name}.yml").parse().unwrap();
        let text = String::from_utf8(root.read(&path, 1 << 20).unwrap().unwrap()).unwrap();
        assert_eq!(to_pyyaml(&parse_value(&text).unwrap()), text, "{name}");
    }
}

#[test]
fn scalars_are_quoted_as_the_peer_quotes_them() {
    let value = json!({
        "version": "25.6.0", "short": "25.6", "time": "2026-11-24T02:26:32Z", "package": "@actual-app/sync-server",
        "message": "données ✓", "yes": "yes", "empty": "", "none": null, "labels": [], "more": {},
        "list": [{"a": 1, "b": [true, 1.5]}, "x: y", [1, [2]]],
    });
    let text = "version: 25.6.0\nshort: '25.6'\ntime: '2026-11-24T02:26:32Z'\npackage: '@actual-app/sync-server'\n\
                message: \"donn\\xE9es \\u2713\"\n'yes': 'yes'\nempty: ''\nnone: null\nlabels: []\nmore: {}\n\
                list:\n- a: 1\n  b:\n  - true\n  - 1.5\n- 'x: y'\n- - 1\n  - - 2\n";
    assert_eq!(to_pyyaml(&value), text);
}

#[test]
fn what_1_2_readers_would_misread_is_quoted_too() {
    assert_eq!(to_pyyaml(&json!(["1e5", "0o17"])), "- '1e5'\n- '0o17'\n");
    assert_eq!(to_pyyaml(&json!("word")), "word\n...\n");
    assert_eq!(to_pyyaml(&json!({})), "{}\n");
}

/// What strange texts are made of.
const PIECES: [&str; 57] = [
    "a",
    "word",
    " ",
    "  ",
    "\n",
    "\n\n",
    "'",
    "\"",
    "\\",
    ":",
    ": ",
    " #",
    "-",
    "- ",
    "é",
    "😀",
    "\u{85}",
    "\u{2028}",
    "\t",
    "\0",
    "\u{7f}",
    "0",
    "1",
    "12",
    ".",
    "e",
    "_",
    "yes",
    "null",
    "~",
    "x",
    "0x",
    "0b1",
    "T",
    "2026-11-24",
    "a long run of words that goes on and on until it has to be folded somewhere ",
    "unbroken_unbroken_unbroken_unbroken_unbroken_unbroken_unbroken_unbroken_unbroken_unbroken",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&",
    "*",
    "!",
    "|",
    ">",
    "%",
    "@",
    "`",
    "?",
    "<<",
    "=",
    "+",
    "...",
    "---",
    "\u{feff}",
];

/// Texts that reach every branch of the quoting: words, indicators, breaks, escapes, long lines.
fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(PIECES.as_slice());
    prop_oneof![prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat()), any::<String>()]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e20..1e20).prop_map(Value::from),
        text().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_written_is_read_back(value in values()) {
        let text = to_pyyaml(&value);
        prop_assert_eq!(&parse_value(&text).unwrap(), &value, "read by 1.1 from {}", text);
        prop_assert_eq!(&from_str::<Value>(&text).unwrap(), &value, "read by 1.2 from {}", text);
    }

    #[test]
    fn needs_quotes_keeps_plain_text_plain(text in text()) {
        if !needs_quotes(&text) {
            let line = format!("k: {text}\n");
            let expected = json!({"k": text});
            prop_assert_eq!(&parse_value(&line).unwrap(), &expected);
            prop_assert_eq!(&from_str::<Value>(&line).unwrap(), &expected);
        }
    }
}

/// Many values in one Python process: each must be written as `PyYAML` writes it, and read back equal.
#[test]
fn pyyaml_itself_writes_and_reads_the_same() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let cases: Vec<Value> = (0..600).map(|_| values().new_tree(&mut runner).unwrap().current()).collect();
    let pairs: Vec<Value> = cases.iter().map(|case| json!([case, to_pyyaml(case)])).collect();
    let script = r"
import json, sys, yaml
wrong = []
for value, text in json.load(sys.stdin):
    expected = yaml.safe_dump(value, default_flow_style=False, sort_keys=False)
    if json.dumps(yaml.safe_load(text)) != json.dumps(value):
        wrong.append(['read', value, text])
    if expected != text:
        wrong.append(['written', expected, text])
print(json.dumps(wrong[:3]))
";
    let Some(output) = python(script, json!(pairs).to_string().as_bytes()) else { return };
    assert_eq!(output.trim(), "[]");
}
