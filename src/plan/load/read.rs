//! From bytes to a plan: [`load`] for plans that will be shown, signed or run, [`parse`] for a plan
//! whose `spec` was edited and whose steps are derived again. Pure.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::graph::{self, Rule, Violation};
use super::super::model::{MAX_INTEGER, Plan, RESERVED_KINDS};
use super::super::source::{Flaw, FlawKind, Format, Source, Span, pointer_part};

use super::super::derive::belongs;
use super::super::schema::plan_schema;
use super::super::step::StepKind;
use super::fits::fits;
use super::form::Form;
use super::problem::{LoadErrors, MAX_PROBLEMS, Problem};
use super::schema::{self, path};
use crate::state::yaml;

/// The largest plan file in bytes; real ones have some ten thousand.
pub const MAX_BYTES: usize = 4 << 20;

const API_VERSION: &str = "abssctl/v1";

/// A plan.
pub(super) static FORM: Form = Form {
    name: "plan",
    one: "a plan",
    kinds: &["RestorePlan", "RollbackPlan"],
    reserved: &RESERVED_KINDS,
    max_bytes: MAX_BYTES,
    fields: "apiVersion, kind, metadata, spec and so on",
    make_one: "write a plan with `abssctl plan restore … -o FILE`",
    help: "mend these places and look again with `abssctl plan validate FILE`; nothing was changed",
    schema: plan_schema,
    validator,
};

fn validator() -> Option<&'static jsonschema::Validator> {
    static VALIDATOR: std::sync::OnceLock<Option<jsonschema::Validator>> = std::sync::OnceLock::new();
    // `tests/plan_schema.rs` proves that the schema compiles; without it the types still decide.
    VALIDATOR.get_or_init(|| jsonschema::validator_for(plan_schema()).ok()).as_ref()
}

/// Reads a plan that obeys every rule. `name` is what messages call the file.
///
/// # Errors
/// All that is wrong with it, each with its place.
pub fn load(name: &str, bytes: &[u8]) -> Result<Plan, LoadErrors> {
    let text = utf8(&FORM, name, bytes)?;
    let fail = |problems| LoadErrors::new(&FORM, name, text, problems);
    let (plan, source): (Plan, _) = document(&FORM, text).map_err(fail)?;
    let violations = graph::check(&plan);
    if violations.is_empty() {
        return Ok(plan);
    }
    if let Some(problem) = edited_spec(&plan, &violations, &source) {
        return Err(fail(vec![problem]));
    }
    let problem = |violation: &Violation| {
        let code = format!("graph::{}", violation.rule);
        let span = source.label_span(&violation.pointer);
        Problem::new(&code, &violation.message, Some(violation.rule.help()), &violation.pointer, span)
    };
    Err(fail(violations.iter().map(problem).collect()))
}

/// The one thing to say where steps say something else than `spec` in several places: most likely a
/// person edited `spec`, as people may, and the places in the steps would only lead astray. A single
/// difference is told as what it is.
fn edited_spec(plan: &Plan, violations: &[Violation], source: &Source<'_>) -> Option<Problem> {
    let follows = |rule: Rule| {
        matches!(
            rule,
            Rule::Parameters
                | Rule::Summary
                | Rule::PreBackupPresence
                | Rule::ServicePresence
                | Rule::OverlayPresence
        )
    };
    // What the preview says follows from spec too; without a step that does not fit, it was edited itself.
    let shown = |rule: Rule| matches!(rule, Rule::Warnings | Rule::Checks | Rule::Preview);
    let fits = |violation: &Violation| follows(violation.rule) || shown(violation.rule);
    if violations.len() < 2
        || !violations.iter().all(fits)
        || violations.iter().all(|violation| violation.rule == Rule::Summary || shown(violation.rule))
    {
        return None;
    }
    let breached = |at: &usize| {
        let place = format!("/steps/{at}/");
        violations.iter().any(|violation| format!("{}/", violation.pointer).starts_with(&place))
    };
    let there = (0..plan.steps.len()).filter(breached).map(|at| plan.steps[at].id.to_string());
    let missing = StepKind::ALL.iter().filter(|kind| {
        belongs(**kind, &plan.spec, &plan.observed) && plan.steps.iter().all(|step| step.kind() != **kind)
    });
    let names: Vec<String> = there.chain(missing.map(ToString::to_string)).collect();
    let word = if names.len() == 1 { "step" } else { "steps" };
    let message = format!("spec and steps say different things ({word} {})", names.join(", "));
    let help = "type: abssctl plan refresh FILE";
    let steps = violations.iter().filter(|violation| follows(violation.rule));
    let places = steps.map(|violation| (source.label_span(&violation.pointer), violation));
    let (span, first) = places.min_by_key(|(span, _)| span.offset)?;
    Some(Problem::new("graph::parameters", &message, Some(help), &first.pointer, span))
}

/// Reads a plan without the rules on the graph: its steps may not fit its `spec`, since a person just
/// edited that. For `plan refresh` only, which derives the steps again.
///
/// # Errors
/// All that is wrong with its form, each with its place.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Plan, LoadErrors> {
    let text = utf8(&FORM, name, bytes)?;
    document(&FORM, text)
        .map(|(plan, _)| plan)
        .map_err(|problems| LoadErrors::new(&FORM, name, text, problems))
}

/// Size and encoding.
pub(crate) fn utf8<'b>(form: &'static Form, name: &str, bytes: &'b [u8]) -> Result<&'b str, LoadErrors> {
    let start = Span { line: 1, column: 1, ..Span::default() };
    if bytes.len() > form.max_bytes {
        let message =
            format!("the file has {} bytes; {} has at most {}", bytes.len(), form.one, form.max_bytes);
        let problem = Problem::new("too_large", &message, Some("is this the right file?"), "", start);
        return Err(LoadErrors::new(form, name, "", vec![problem]));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let lines = good.split(|byte| *byte == b'\n').count();
        let last = good.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(last).chars().count() + 1;
        let span = Span { offset: good.len(), length: 1, line: lines, column };
        let help = "write the file again as UTF-8";
        let problem = Problem::new("not_utf8", "these bytes are not UTF-8", Some(help), "", span);
        LoadErrors::new(form, name, &String::from_utf8_lossy(bytes), vec![problem])
    })
}

/// Text, form and types of a document; the rules on what it says are the caller's.
pub(crate) fn document<'t, T: DeserializeOwned>(
    form: &Form,
    text: &'t str,
) -> Result<(T, Source<'t>), Vec<Problem>> {
    let flawed = |flaws: Vec<Flaw>| flaws.iter().map(|flaw| flawed(form, flaw)).collect::<Vec<_>>();
    let source = Source::read(text).map_err(flawed)?;
    let value = value(text, &source)?;
    let mut problems = envelope(form, &value, &source);
    if !problems.is_empty() {
        return Err(problems);
    }
    let read = serde_path_to_error::deserialize::<_, T>(&value);
    // The schema is compiled only where it has something to say.
    if read.is_err() || !fits((form.schema)(), &value) {
        problems = schema::check(form, &value, &source);
    }
    scalars(&value, &source, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    match read {
        Ok(read) => Ok((read, source)),
        Err(error) => Err(vec![mistyped(&error, &source)]),
    }
}

fn flawed(form: &Form, flaw: &Flaw) -> Problem {
    let (code, help) = match flaw.kind {
        FlawKind::Empty => ("empty", form.make_one),
        FlawKind::Syntax => {
            ("syntax", "was the file cut off or edited? mend this place or write the file again")
        }
        FlawKind::Character => {
            ("character", "take it out, or write the text in double quotes with an escape like \"\\u001b\"")
        }
        FlawKind::Alias => ("alias", "write the value out"),
        FlawKind::Tag => ("tag", "take the tag out; put text that looks like something else in quotes"),
        FlawKind::MergeKey => ("merge_key", "write the fields out"),
        FlawKind::DuplicateKey => ("duplicate_key", "take one of the two out"),
        FlawKind::KeyNotText => ("key_not_text", "field names are plain words"),
        FlawKind::SecondDocument => {
            ("second_document", "a file holds one document; put the other in a file of its own")
        }
        FlawKind::TooDeep => ("too_deep", form.make_one),
    };
    Problem::new(code, &flaw.message, Some(help), "", flaw.span)
}

/// The value by the reader that the rest of the program uses, which must see what [`Source`] saw.
fn value(text: &str, source: &Source<'_>) -> Result<Value, Vec<Problem>> {
    let syntax = |message: &str, line, column| {
        vec![Problem::new("syntax", message, None, "", source.span_at(line, column))]
    };
    let value = match source.format {
        Format::Json => serde_json::from_str(text)
            .map_err(|error| syntax(&error.to_string(), error.line(), error.column()))?,
        Format::Yaml => {
            yaml::parse_value(text).map_err(|error| syntax(&error.message, error.line, error.column))?
        }
    };
    match source.disagreement(&value) {
        None => Ok(value),
        Some(span) => {
            let message = "two readers take this for two different things";
            let help = "write it in block style, with the text in double quotes";
            Err(vec![Problem::new("ambiguous", message, Some(help), "", span)])
        }
    }
}

/// Version and kind first: without them no other message would mean anything.
fn envelope(form: &Form, value: &Value, source: &Source<'_>) -> Vec<Problem> {
    if !value.is_object() {
        let message = format!("{} is a mapping of {}", form.one, form.fields);
        let code = format!("not_a_{}", form.name);
        return vec![Problem::new(&code, &message, Some(form.make_one), "", source.label_span(""))];
    }
    let kinds = form.kinds.join(" and ");
    let reads = format!("this abssctl reads {API_VERSION} {kinds}");
    let mut problems = Vec::new();
    for (field, expected, code) in
        [("apiVersion", [API_VERSION].as_slice(), "api_version"), ("kind", form.kinds, "kind")]
    {
        let message = match value.get(field) {
            Some(Value::String(text)) if expected.contains(&text.as_str()) => continue,
            Some(Value::String(text)) if field == "kind" && form.reserved.contains(&text.as_str()) => {
                format!("kind '{text}' is reserved for a later version")
            }
            Some(Value::String(text)) => format!("{field} '{}' is not known", schema::short(text)),
            Some(_) => format!("{field} must be the text {}", expected.join(" or ")),
            None => format!("{field} is missing: this is not {} of abssctl", form.one),
        };
        let pointer = format!("/{field}");
        problems.push(Problem::new(code, &message, Some(&reads), &pointer, source.label_span(&pointer)));
    }
    problems
}

/// What a schema cannot say: numbers are exact integers written as such, and a word that YAML readers
/// take for different things is quoted.
fn scalars(value: &Value, source: &Source<'_>, problems: &mut Vec<Problem>) {
    let yaml = source.format == Format::Yaml;
    source.each_scalar(value, &mut |pointer, plain, value| {
        if problems.len() > MAX_PROBLEMS || problems.iter().any(|problem| problem.pointer == pointer) {
            return;
        }
        let (code, what, help) = match (plain, value) {
            (Some(text), Value::Number(number)) => {
                let digits =
                    text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
                if digits && number.as_u64().is_some_and(|number| number <= MAX_INTEGER) {
                    return;
                }
                ("integer", "is not an integer from 0 to 9007199254740991", "write it as decimal digits")
            }
            (Some(text), Value::Bool(_)) if text != "true" && text != "false" => {
                ("ambiguous", "is true or false only to some readers", "write true or false")
            }
            (Some(text), Value::String(_)) if yaml && text.is_ascii() && yaml::needs_quotes(text) => {
                ("ambiguous", "is not the same to all readers of YAML", "put it in double quotes")
            }
            _ => return,
        };
        let shown = plain.map(|text| format!(" '{}'", schema::short(text))).unwrap_or_default();
        let message = format!("{}{shown} {what}", path(pointer));
        problems.push(Problem::new(code, &message, Some(help), pointer, source.label_span(pointer)));
    });
}

/// What the types refuse and the schema let pass: a 31st of February, a path with `..`.
fn mistyped(error: &serde_path_to_error::Error<serde_json::Error>, source: &Source<'_>) -> Problem {
    use serde_path_to_error::Segment;
    let pointer: String = error
        .path()
        .iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", pointer_part(key)),
            Segment::Enum { variant } => format!("/{}", pointer_part(variant)),
            Segment::Unknown => String::new(),
        })
        .collect();
    let message = format!("{}: {}", path(&pointer), error.inner());
    Problem::new("value", &message, None, &pointer, source.label_span(&pointer))
}
