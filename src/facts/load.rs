//! The strict reader of facts: from bytes to a document that a planner can rely on the form of, or all
//! that is wrong with it at once, each with its place. Facts come from another machine, so whatever
//! they say is a claim; a plan made from them is checked by `apply` as any other. Pure.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use jsonschema::Validator;

use super::model::Facts;
use super::schema::facts_schema;
use crate::plan::load::{Form, LoadErrors, Problem, document, utf8};

/// The largest file of facts in bytes; real ones have some ten thousand.
pub const MAX_BYTES: usize = 16 << 20;

static FORM: Form = Form {
    name: "facts",
    one: "a document of facts",
    kinds: &["Facts"],
    reserved: &[],
    max_bytes: MAX_BYTES,
    fields: "apiVersion, kind, defaults, instances, backups and so on",
    make_one: "collect them on the machine: abssctl facts -o facts.json",
    help: "collect them again on the machine: abssctl facts -o facts.json; nothing was changed",
    schema: facts_schema,
    validator,
};

fn validator() -> Option<&'static Validator> {
    static VALIDATOR: OnceLock<Option<Validator>> = OnceLock::new();
    // `tests/plan_schema.rs` proves that the schema compiles; without it the types still decide.
    VALIDATOR.get_or_init(|| jsonschema::validator_for(facts_schema()).ok()).as_ref()
}

/// Reads facts. `name` is what messages call the file.
///
/// # Errors
/// All that is wrong with them, each with its place.
pub fn load(name: &str, bytes: &[u8]) -> Result<Facts, LoadErrors> {
    let text = utf8(&FORM, name, bytes)?;
    let fail = |problems| LoadErrors::new(&FORM, name, text, problems);
    let (facts, source): (Facts, _) = document(&FORM, text).map_err(fail)?;
    let problem = |(pointer, what): (String, String)| {
        let span = source.label_span(&pointer);
        Problem::new("twice", &format!("{what} is there twice"), Some(FORM.make_one), &pointer, span)
    };
    let problems: Vec<Problem> = twice(&facts).into_iter().map(problem).collect();
    if problems.is_empty() { Ok(facts) } else { Err(fail(problems)) }
}

/// What must be there once and is not: a name that means two things would mean what the reader likes.
fn twice(facts: &Facts) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut see = |pointer: String, what: String| {
        if !seen.insert(what.clone()) {
            found.push((pointer, what));
        }
    };
    for (at, instance) in facts.instances.iter().enumerate() {
        see(format!("/instances/{at}/name"), format!("instance {}", instance.name));
        for (place, target) in instance.targets.iter().enumerate() {
            let what = format!("target {} of instance {}", target.directory, instance.name);
            see(format!("/instances/{at}/targets/{place}/directory"), what);
        }
    }
    for (at, backup) in facts.backups.iter().enumerate() {
        let id = &backup.source.backup_id;
        see(format!("/backups/{at}/source/backupId"), format!("backup {id}"));
        for (place, changes) in backup.contents.iter().flat_map(|contents| &contents.changes).enumerate() {
            let what = format!("target {} of backup {id}", changes.directory);
            see(format!("/backups/{at}/contents/changes/{place}/directory"), what);
        }
    }
    found
}
