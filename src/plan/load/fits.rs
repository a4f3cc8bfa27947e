//! Whether a value is certainly what a JSON Schema takes, by the schema itself: compiling it takes ten
//! times as long as all else that is done to a plan. Pure.
//!
//! Says yes only where it is sure: a keyword that is not known here means no, and no only means that the
//! compiled schema is asked, which says what is wrong too. Patterns are left to the types: each is that of
//! a type of [`crate::ids`] or the like, which takes no other text. A test compares both.

use serde_json::{Map, Value};

/// Whether the schema certainly takes the value, once the types took it.
pub(super) fn fits(schema: &Value, value: &Value) -> bool {
    within(schema, schema, value)
}

/// As [`fits`], for a part of the schema `root`.
fn within(root: &Value, schema: &Value, value: &Value) -> bool {
    match schema {
        Value::Bool(everything) => *everything,
        Value::Object(keywords) => {
            keywords.iter().all(|(word, says)| takes(root, keywords, word, says, value))
        }
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => false,
    }
}

/// Whether one keyword takes the value.
fn takes(root: &Value, keywords: &Map<String, Value>, word: &str, says: &Value, value: &Value) -> bool {
    let fits = |schema: &Value| within(root, schema, value);
    let schemas = || says.as_array().into_iter().flatten();
    let fields = value.as_object();
    let items = value.as_array();
    match word {
        "$schema" | "$defs" | "title" | "description" | "default" => true,
        // The types' own.
        "pattern" => true,
        "$ref" => {
            let place = says.as_str().and_then(|place| place.strip_prefix('#'));
            place.and_then(|place| root.pointer(place)).is_some_and(fits)
        }
        "type" => says.as_str().is_some_and(|name| is_a(name, value)),
        "const" => says == value,
        "enum" => schemas().any(|one| one == value),
        "oneOf" => schemas().filter(|schema| fits(schema)).count() == 1,
        "anyOf" => schemas().any(fits),
        "allOf" => schemas().all(fits),
        "if" => keywords.get(if fits(says) { "then" } else { "else" }).is_none_or(fits),
        "then" | "else" => keywords.contains_key("if"),
        "required" => fields.is_none_or(|fields| {
            schemas().all(|name| name.as_str().is_some_and(|name| fields.contains_key(name)))
        }),
        "properties" => says.as_object().is_some_and(|known| {
            let fits = |(name, field): (&String, &Value)| {
                known.get(name).is_none_or(|schema| within(root, schema, field))
            };
            fields.is_none_or(|fields| fields.iter().all(fits))
        }),
        "additionalProperties" => {
            let known = keywords.get("properties").and_then(Value::as_object);
            let is_known = |name: &str| known.is_some_and(|known| known.contains_key(name));
            fields.is_none_or(|fields| {
                fields.iter().all(|(name, field)| is_known(name) || within(root, says, field))
            })
        }
        "propertyNames" => fields
            .is_none_or(|fields| fields.keys().all(|name| within(root, says, &Value::String(name.clone())))),
        "items" => items.is_none_or(|items| items.iter().all(|item| within(root, says, item))),
        "maxItems" => items.is_none_or(|items| at_most(items.len(), says)),
        // Each is compared with each: of many the compiled schema judges.
        "uniqueItems" => items.is_none_or(|items| {
            items.len() <= 100 && items.iter().enumerate().all(|(at, item)| !items[..at].contains(item))
        }),
        "maxLength" => value.as_str().is_none_or(|text| at_most(text.chars().count(), says)),
        "minLength" => value.as_str().is_none_or(|text| at_least(text.chars().count(), says)),
        "maximum" => value.as_number().is_none_or(|number| {
            number.as_u64().zip(says.as_u64()).is_some_and(|(number, limit)| number <= limit)
        }),
        "minimum" => value.as_number().is_none_or(|number| {
            number.as_u64().zip(says.as_u64()).is_some_and(|(number, limit)| number >= limit)
        }),
        _ => false,
    }
}

fn is_a(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        // Of 1.0 the compiled schema may say more.
        Value::Number(number) => name == "integer" && number.is_u64(),
        Value::String(_) => name == "string",
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
    }
}

fn at_most(count: usize, limit: &Value) -> bool {
    limit.as_u64().is_some_and(|limit| count as u64 <= limit)
}

fn at_least(count: usize, limit: &Value) -> bool {
    limit.as_u64().is_some_and(|limit| count as u64 >= limit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::model::Plan;
    use super::super::super::schema::plan_schema;
    use super::super::super::testing::{
        sample, sample_copy, sample_dest, sample_rollback, sample_single, sample_with_service,
    };
    use super::*;

    fn samples() -> [Value; 6] {
        [sample_with_service(), sample_rollback(), sample_copy(), sample_single(), sample(), sample_dest()]
            .map(|plan| serde_json::to_value(plan).unwrap())
    }

    /// Every place in a value, the outermost first.
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, item)| places(item, &format!("{at}/{n}"), found));
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(name, field)| places(field, &format!("{at}/{name}"), found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// What a value can be spoilt to: another type, too much of it, a field less or more.
    fn spoilt(value: &Value) -> Vec<Value> {
        let mut all = vec![Value::Null, json!(false), json!(-1), json!(1.5), json!([]), json!({}), json!("")];
        match value {
            Value::Number(_) => all.extend([json!(0), json!(1_u64 << 53), json!(u64::MAX), json!(65_536)]),
            Value::String(text) => {
                all.extend([1001, 4097, 33_000].map(|length| json!("x".repeat(length))));
                all.extend([json!(format!("{text}x")), json!(text.to_uppercase()), json!(" ")]);
            }
            Value::Array(items) => {
                let more = |count| items.iter().cycle().take(count).cloned().collect::<Vec<_>>();
                all.extend([json!(more(items.len().saturating_sub(1))), json!(more(11)), json!(more(101))]);
            }
            Value::Object(fields) => {
                let without = |name: &String| {
                    let mut fields = fields.clone();
                    fields.remove(name);
                    Value::Object(fields)
                };
                all.extend(fields.keys().map(without));
                let mut more = fields.clone();
                more.insert("colour".to_owned(), json!("red"));
                all.push(Value::Object(more));
            }
            Value::Null | Value::Bool(_) => {}
        }
        all
    }

    #[test]
    fn what_is_written_needs_no_compiled_schema() {
        for sample in samples() {
            assert!(fits(plan_schema(), &sample), "{sample:#}");
        }
    }

    #[test]
    fn what_fits_and_has_its_types_the_compiled_schema_takes_too() {
        let compiled = jsonschema::validator_for(plan_schema()).unwrap();
        let (mut taken, mut refused) = (0, 0);
        for sample in &samples()[..2] {
            let mut all = Vec::new();
            places(sample, "", &mut all);
            for place in all {
                for other in spoilt(sample.pointer(&place).unwrap()) {
                    let mut value = sample.clone();
                    *value.pointer_mut(&place).unwrap() = other;
                    if serde_json::from_value::<Plan>(value.clone()).is_ok() {
                        let (quick, slow) = (fits(plan_schema(), &value), compiled.is_valid(&value));
                        assert!(slow || !quick, "{place}: {}", value.pointer(&place).unwrap());
                        taken += usize::from(quick);
                        refused += usize::from(!quick);
                    }
                }
            }
        }
        assert!(taken > 100 && refused > 100, "{taken} {refused}");
    }
}
