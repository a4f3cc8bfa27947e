//! Checks a value against the JSON Schema and says in plain words what it refuses. Pure.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::super::source::{Source, pointer_part};
use super::form::Form;
use super::problem::{MAX_PROBLEMS, Problem};

/// The longest piece of the file that a message repeats, in characters.
const SHORT: usize = 60;

/// Everything that the schema refuses, up to a limit.
pub(super) fn check(form: &Form, value: &Value, source: &Source<'_>) -> Vec<Problem> {
    let errors = (form.validator)().into_iter().flat_map(|validator| validator.iter_errors(value));
    errors.flat_map(|error| problems(form, &error, source)).take(MAX_PROBLEMS + 1).collect()
}

fn problems(form: &Form, error: &ValidationError<'_>, source: &Source<'_>) -> Vec<Problem> {
    let pointer = error.instance_path().as_str();
    if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() {
        let known = known_fields(form, error);
        return unexpected
            .iter()
            .take(MAX_PROBLEMS)
            .map(|name| unknown(name, pointer, &known, source))
            .collect();
    }
    let place = path(pointer);
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of another crate with forty variants")]
    let (message, help) = match error.kind() {
        ValidationErrorKind::Required { property } => {
            (format!("{place} has no field {}", property.as_str().unwrap_or_default()), None)
        }
        ValidationErrorKind::Type { kind } => (wrong_type(&place, kind, error.instance()), None),
        ValidationErrorKind::Pattern { .. } => {
            (format!("{place} {} is not {}", quoted(error.instance()), expected(error)), None)
        }
        ValidationErrorKind::Constant { expected_value } => {
            (format!("{place} {} does not fit; here it is {expected_value}", quoted(error.instance())), None)
        }
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::OneOfNotValid { .. } => (
            format!("{place} {} is not one of the words that are allowed here", quoted(error.instance())),
            Some(format!("write one of {}", alternatives(form, error).join(", "))),
        ),
        ValidationErrorKind::MaxLength { limit } => {
            (format!("{place} has more than {limit} characters"), None)
        }
        ValidationErrorKind::MaxItems { limit } => (format!("{place} has more than {limit} entries"), None),
        ValidationErrorKind::Maximum { limit } => {
            (format!("{place} {} is too large; at most {limit} is allowed", quoted(error.instance())), None)
        }
        ValidationErrorKind::Minimum { limit } => {
            (format!("{place} {} is too small; at least {limit} is allowed", quoted(error.instance())), None)
        }
        ValidationErrorKind::UniqueItems => (format!("{place} names something twice"), None),
        // The other keywords of JSON Schema do not occur in ours.
        _ => (format!("{place}: {}", short(&error.to_string())), None),
    };
    vec![Problem::new("schema", &message, help.as_deref(), pointer, source.label_span(pointer))]
}

fn unknown(name: &str, pointer: &str, known: &[&str], source: &Source<'_>) -> Problem {
    let shown = short(name);
    let nearest = (name.len() <= 64)
        .then(|| similar::get_close_matches(name, known, 1, 0.6).first().copied())
        .flatten()
        .or_else(|| known.iter().copied().find(|field| plain(field) == plain(&shown)));
    let help = match nearest {
        Some(field) => format!("did you mean {field}?"),
        None => format!("known fields: {}", known.join(", ")),
    };
    let message = format!("{} has an unknown field '{shown}'", path(pointer));
    let place = format!("{pointer}/{}", pointer_part(name));
    let span = source.key_span(&place).unwrap_or_else(|| source.label_span(&place));
    Problem::new("unknown_field", &message, Some(&help), &place, span)
}

/// Without the differences between `camelCase`, `snake_case` and `kebab-case`.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The part of our schema that holds the keyword that failed.
fn holder(form: &Form, error: &ValidationError<'_>) -> Option<&'static Value> {
    let keyword = error.schema_path().as_str();
    (form.schema)().pointer(&keyword[..keyword.rfind('/')?])
}

fn known_fields(form: &Form, error: &ValidationError<'_>) -> Vec<&'static str> {
    let fields = holder(form, error).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    fields.map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn alternatives(form: &Form, error: &ValidationError<'_>) -> Vec<String> {
    let schema = holder(form, error);
    let list = |name| schema.and_then(|schema| schema.get(name)).and_then(Value::as_array);
    let words = list("oneOf").into_iter().flatten().filter_map(|one| one.get("const"));
    words.chain(list("enum").into_iter().flatten()).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What a pattern wants, by the name of the type that has it.
fn expected(error: &ValidationError<'_>) -> &'static str {
    let path = error.schema_path().as_str();
    let name = path.rsplit_once("$defs/").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
    match name {
        "InstanceName" => {
            "the name of an instance: letters, digits, '-', '_' and '.', a letter or digit first, at most 64"
        }
        "BackupId" => {
            "the id of a backup: letters, digits, '-', '_' and '.', a letter or digit first, at most 128"
        }
        "StepId" => {
            "the id of a step: lower-case letters, digits and '-', a letter or digit first, at most 64"
        }
        "PlanId" | "RunId" => "a ULID: 26 digits and capital letters without I, L, O and U",
        "AbsPath" => "an absolute path without empty parts, control characters and a slash at its end",
        "Sha256" => "a SHA-256 digest: 64 digits and letters a to f",
        "PlanDigest" => "the digest of a plan: 'sha256:' and 64 digits and letters a to f",
        "Time" => "a time in UTC like \"2026-11-24T02:26:32Z\"",
        "Duration" | "DurationText" => "a duration: a number and s, m, h, d or w, like \"90s\" or \"30d\"",
        _ => "of the form that is wanted here",
    }
}

fn wrong_type(place: &str, kind: &TypeKind, given: &Value) -> String {
    let wanted = match kind {
        TypeKind::Single(JsonType::String) => "a text",
        TypeKind::Single(JsonType::Integer | JsonType::Number) => "an integer",
        TypeKind::Single(JsonType::Boolean) => "true or false",
        TypeKind::Single(JsonType::Object) => "a mapping of fields",
        TypeKind::Single(JsonType::Array) => "a list",
        TypeKind::Single(JsonType::Null) | TypeKind::Multiple(_) => "of another type",
    };
    let is = match given {
        Value::Null => "nothing (null); leave the field out instead".to_owned(),
        Value::Bool(value) => format!("{value}; put it in quotes if it is a text"),
        Value::Number(number) => format!("the number {number}; put it in quotes if it is a text"),
        Value::String(text) => format!("the text '{}'", short(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    };
    format!("{place} must be {wanted}, and is {is}")
}

fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", short(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            short(&value.to_string())
        }
    }
}

/// The beginning of a text.
pub(super) fn short(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(SHORT).collect();
    if chars.next().is_some() { head + "…" } else { head }
}

/// A JSON pointer as people write it: `steps[4].with.maxBytes`.
pub(super) fn path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            path.extend(["[", part, "]"]);
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path += &short(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    if path.is_empty() { "the document".to_owned() } else { path }
}
