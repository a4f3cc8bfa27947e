//! The JSON Schema of the plan document, generated from the types. Pure.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::model::{MAX_INTEGER, Plan};

/// The schema (draft 2020-12) that `schemas/plan.schema.json` holds and the loader checks against.
pub fn plan_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schemars::schema_for!(Plan).to_value();
        refine(&mut schema);
        schema
    })
}

/// The schema as the file of the repository holds it: indented, with a line break at its end.
///
/// # Errors
/// Never seen: a JSON value has a text.
pub fn plan_schema_text() -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(plan_schema())? + "\n")
}

/// Two things that the types cannot say: a field that may be absent is still never `null` (one way to
/// write a thing), and integers end where JSON readers stop to be exact.
pub(crate) fn refine(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(refine),
        Value::Object(fields) => {
            without_null(fields);
            let limit = match fields.get("format").and_then(Value::as_str) {
                Some("uint64") => Some(MAX_INTEGER),
                Some("uint32") => Some(u64::from(u32::MAX)),
                Some("uint16") => Some(u64::from(u16::MAX)),
                Some(_) | None => None,
            };
            if let Some(limit) = limit {
                fields.insert("maximum".into(), json!(limit));
                fields.shift_remove("format");
            }
            fields.values_mut().for_each(refine);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn without_null(fields: &mut serde_json::Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            fields.insert("type".into(), only);
        }
    }
    let null = json!({ "type": "null" });
    let other = match fields.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::Object(other), last]) if *last == null => other.clone(),
        Some(_) | None => return,
    };
    fields.shift_remove("anyOf");
    for (at, (name, value)) in other.into_iter().enumerate() {
        fields.shift_insert(at, name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_null_and_every_integer_ends() {
        let text = plan_schema_text().unwrap();
        assert!(!text.contains("\"null\""));
        assert!(!text.contains("uint"));
        let machine = &plan_schema()["$defs"]["Observed"]["properties"]["machine"];
        assert_eq!(machine["$ref"], "#/$defs/Sha256");
        let size = &plan_schema()["$defs"]["BackupSource"]["properties"]["sizeBytes"];
        assert_eq!(size["maximum"], json!(MAX_INTEGER));
    }
}
