//! A signature covers the whole plan and nothing of its form.

use abssctl::plan::approval::allowed_signers::AllowedSigners;
use abssctl::plan::approval::{Policy, claims, judge};
use abssctl::plan::policy::InForce;
use abssctl::plan::{canonical, emit, load};
use abssctl::state::restore_config::RestoreConfig;
use serde_json::{Map, Value, json};

use crate::keys::Key;
use crate::support::TestRoot;
use crate::support::root::ZSTD;

/// A plan that anna has signed, as JSON, and the list that knows her.
fn signed() -> (Value, AllowedSigners) {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let key = Key::ed25519(root.work("key"));
    let args =
        ["plan", "approve", plan.to_str().unwrap(), "--key", key.text(), "--principal", "anna", "--yes"];
    let _ = root.run(&args).ok();
    let list = AllowedSigners::read(&format!("anna {}\n", key.public()), &jiff::tz::TimeZone::UTC);
    (serde_json::from_slice(&std::fs::read(plan).unwrap()).unwrap(), list)
}

/// Whether anna's signature is valid; `None` for a plan that is refused anyway.
fn valid(text: &str, signers: &AllowedSigners) -> Option<bool> {
    let plan = load::load("plan", text.as_bytes()).ok()?;
    let claims = claims(&plan, "", Vec::new());
    assert_eq!(claims.len(), 1);
    let canonical = canonical::canonical(&plan).unwrap();
    let settings = RestoreConfig::default();
    let in_force = InForce::new(&settings, None, &plan.spec.instance);
    let policy = Policy { signers, now: jiff::Timestamp::now(), in_force: &in_force };
    Some(judge(&plan, &canonical, &claims, policy)[0].is_valid())
}

#[test]
fn form_makes_no_difference() {
    fn reversed(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let turned: Map<String, Value> =
                    fields.iter().rev().map(|(name, value)| (name.clone(), reversed(value))).collect();
                Value::Object(turned)
            }
            Value::Array(items) => items.iter().map(reversed).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }
    let (plan, signers) = signed();
    let json = plan.to_string();
    let typed = load::load("plan", json.as_bytes()).unwrap();
    let yaml = emit::to_yaml(&typed).unwrap();
    let again = emit::to_json(&load::load("plan", yaml.as_bytes()).unwrap()).unwrap();
    let commented = yaml.replace("\nsteps:", "\n# read by anna\n\nsteps:");
    assert!(commented != yaml && yaml != again);
    for text in [&json, &yaml, &again, &commented, &reversed(&plan).to_string()] {
        assert_eq!(valid(text, &signers), Some(true), "{text}");
    }
}

/// Every text, number and truth value outside of `approvals`, changed one at a time, and every field and
/// item taken out.
#[test]
fn every_change_of_meaning_breaks_it() {
    fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    pointers(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    pointers(value, &format!("{at}/{index}"), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        found.push(at.to_owned());
    }
    let (plan, signers) = signed();
    let mut all = Vec::new();
    pointers(&plan, "", &mut all);
    let (mut refused, mut broken) = (0, 0);
    for at in all.iter().filter(|at| !at.is_empty() && !at.starts_with("/approvals")) {
        for change in [true, false] {
            let mut changed = plan.clone();
            if change {
                let value = changed.pointer_mut(at).unwrap();
                *value = match value.clone() {
                    Value::Bool(value) => json!(!value),
                    Value::Number(number) => json!(number.as_u64().unwrap() + 1),
                    // The last character is a digit of a digest, a letter of a word.
                    Value::String(text) => json!(format!("{}{}", &text[..text.len().saturating_sub(1)], 'b')),
                    Value::Null | Value::Array(_) | Value::Object(_) => continue,
                };
            } else {
                let (parent, name) = at.rsplit_once('/').unwrap();
                match changed.pointer_mut(parent).unwrap() {
                    Value::Object(fields) => {
                        drop(fields.shift_remove(&name.replace("~1", "/").replace("~0", "~")));
                    }
                    Value::Array(items) => drop(items.remove(name.parse().unwrap())),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                        panic!("{parent} holds nothing")
                    }
                }
            }
            if changed == plan {
                continue;
            }
            match valid(&changed.to_string(), &signers) {
                None => refused += 1,
                Some(false) => broken += 1,
                Some(true) => panic!("{at} was changed, and the signature is still valid"),
            }
        }
    }
    assert!(refused > 100 && broken > 50, "{refused} refused, {broken} broken: is everything tried?");
}
