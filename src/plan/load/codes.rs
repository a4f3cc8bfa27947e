//! The stable codes of what can be wrong with a plan file, in words: for outputs that describe every
//! code, not only those that turned up. Pure.

use super::super::graph::Rule;

/// One stable code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The code: `abssctl::plan::unknown_field`.
    pub id: String,
    /// What is wrong, in general.
    pub what: &'static str,
    /// What to do about it, in general.
    pub help: &'static str,
}

/// The part after `abssctl::plan::`, what is wrong, what to do.
const FORM: &[(&str, &str, &str)] = &[
    ("too_large", "the file is larger than any plan", "name the plan file"),
    ("not_utf8", "the file is not UTF-8", "write it again as UTF-8"),
    ("empty", "the file is empty", "write a plan: abssctl plan restore BACKUP_ID -o FILE"),
    ("syntax", "the file is neither YAML nor JSON", "mend the place, or write the plan again"),
    (
        "character",
        "a character may only be written as an escape",
        "take it out, or escape it in double quotes",
    ),
    ("alias", "anchors and aliases are not allowed", "write the value out"),
    ("tag", "tags are not allowed", "take the tag out"),
    ("merge_key", "merge keys are not allowed", "write the fields out"),
    ("duplicate_key", "a key comes twice", "take one of the two out"),
    ("key_not_text", "a key is not a plain word", "write a field name of plans"),
    ("second_document", "the file holds more than one document", "put each plan into a file of its own"),
    ("too_deep", "values are nested deeper than in any plan", "name the plan file"),
    ("ambiguous", "readers of YAML or JSON take the text for different things", "put it in double quotes"),
    ("not_a_plan", "the document is no mapping", "write a plan: abssctl plan restore BACKUP_ID -o FILE"),
    ("api_version", "the format is another one", "use the abssctl that reads this format"),
    ("kind", "the kind of document is another one", "name a RestorePlan"),
    ("unknown_field", "a field is not known", "take it out, or mend its name"),
    ("schema", "a value is not what its field takes", "see the schema: abssctl schema plan"),
    ("integer", "a number is not an exact integer", "write it as decimal digits, from 0 to 9007199254740991"),
    ("value", "a value has the right form and no meaning", "write one that has"),
];

/// Every code, in one order.
pub fn codes() -> Vec<Code> {
    let form = FORM.iter().map(|(id, what, help)| Code { id: format!("abssctl::plan::{id}"), what, help });
    let rules = Rule::ALL.iter().map(|rule| Code {
        id: format!("abssctl::plan::graph::{rule}"),
        what: rule.what(),
        help: rule.help(),
    });
    form.chain(rules).collect()
}
