//! The JSON Schema of the facts document, generated from the types. Pure.

use std::sync::OnceLock;

use serde_json::Value;

use super::model::Facts;
use crate::plan::schema::refine;

/// The schema (draft 2020-12) that `schemas/facts.schema.json` holds and the loader checks against.
pub fn facts_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schemars::schema_for!(Facts).to_value();
        refine(&mut schema);
        schema
    })
}

/// The schema as the file of the repository holds it: indented, with a line break at its end.
///
/// # Errors
/// Never seen: a JSON value has a text.
pub fn facts_schema_text() -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(facts_schema())? + "\n")
}
