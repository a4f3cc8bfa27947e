//! Our own documents: plans (with all that is done with one that loads), facts, receipts.

use abssctl::facts;
use abssctl::plan::diff::diff;
use abssctl::plan::graph::default_steps;
use abssctl::plan::load::LoadErrors;
use abssctl::plan::model::Plan;
use abssctl::plan::render::diff::{DiffOptions, diff_text};
use abssctl::plan::render::text::{TextOptions, text};
use abssctl::plan::render::{dot, html, is_hidden, markdown, mermaid};
use abssctl::plan::{canonical, emit, load, testing};
use abssctl::run::receipt;

use super::note;

/// What a refusal says is told in full, and steers no terminal.
fn refused(errors: &LoadErrors) {
    assert!(!errors.problems().is_empty() && errors.problems().len() <= 100);
    for problem in errors.problems() {
        note(("refused", problem.code.as_str()));
        harmless(&problem.message);
    }
    let mut shown = String::new();
    miette::NarratableReportHandler::new().render_report(&mut shown, errors).unwrap();
    harmless(&shown);
}

/// No character that a terminal obeys.
fn harmless(text: &str) {
    let bad = text.chars().find(|c| is_hidden(*c) && !matches!(c, '\n' | '\t'));
    assert_eq!(bad, None, "{text:?}");
}

/// A plan: loading, writing it again in both forms, its digest, every rendering, comparing.
pub fn plan(bytes: &[u8]) {
    // `plan refresh` reads plans that break rules, so what follows holds for these too.
    if let Err(errors) = load::load("plan.yaml", bytes) {
        refused(&errors);
    } else {
        note("a plan that loads");
    }
    let Ok(plan) = load::parse("plan.yaml", bytes) else { return };
    shown(&plan);
    // What `plan refresh` makes of it obeys every rule, or is refused with a reason.
    let mut fresh = testing::consistent(plan);
    if let Ok(steps) = default_steps(&fresh.metadata, &fresh.spec, &fresh.observed) {
        fresh.steps = steps;
        let text = emit::to_yaml(&fresh).unwrap();
        match load::load("fresh.yaml", text.as_bytes()) {
            Ok(again) => assert_eq!(again, fresh),
            Err(errors) => refused(&errors),
        }
        shown(&fresh);
    }
}

/// All that is done with a plan that was read.
fn shown(plan: &Plan) {
    let digest = canonical::digest(plan).unwrap();
    let mut loads = Vec::new();
    for written in [emit::to_yaml(plan).unwrap(), emit::to_json(plan).unwrap()] {
        if written.len() > load::MAX_BYTES {
            continue;
        }
        let again = load::parse("again.yaml", written.as_bytes());
        let again = again.unwrap_or_else(|error| panic!("what we write, we read: {error:?}\n{written}"));
        assert_eq!(again, *plan);
        assert_eq!(canonical::digest(&again).unwrap(), digest);
        loads.push(load::load("again.yaml", written.as_bytes()).is_ok());
    }
    assert!(loads.windows(2).all(|pair| pair[0] == pair[1]), "YAML and JSON say the same");
    let now = Some(jiff::Timestamp::from_second(1_795_500_000).unwrap());
    for width in [0, 100] {
        harmless(&text(plan, &TextOptions { width, now, ..TextOptions::default() }));
    }
    harmless(&markdown::markdown(plan, now));
    harmless(&dot::dot(plan));
    harmless(&mermaid::mermaid(plan));
    harmless(&html::html(plan, now));
    assert!(diff(plan, plan).unwrap().is_same());
    for (before, after) in [(&testing::sample(), plan), (plan, &testing::sample_single())] {
        let names = ["a".to_owned(), "b".to_owned()];
        let found = diff(before, after).unwrap();
        note(("differs", found.is_same()));
        harmless(&diff_text(&found, &DiffOptions { width: 100, color: false, names }));
    }
}

/// Facts made on the machine.
pub fn facts(bytes: &[u8]) {
    match facts::load::load("facts.json", bytes) {
        Err(errors) => refused(&errors),
        Ok(facts) => {
            note("facts that load");
            let text = serde_json::to_vec(&facts).unwrap();
            assert_eq!(facts::load::load("again.json", &text).unwrap(), facts);
        }
    }
}

/// A receipt; sealed anew where only its digests are wrong, so that more than those is reached.
pub fn receipt(bytes: &[u8]) {
    let read = receipt::check::read("receipt.json", bytes);
    note(("receipt", read.as_ref().err().map(std::mem::discriminant)));
    let Ok(mut receipt) = serde_json::from_slice::<receipt::Receipt>(bytes) else { return };
    receipt.seal().unwrap();
    let text = receipt.text().unwrap();
    let again = receipt::check::read("again.json", text.as_bytes()).unwrap();
    assert_eq!(again.text().unwrap(), text);
    let compared = receipt::check::against_plan("again.json", &receipt, &testing::sample());
    note(("receipt of a plan", compared.err().as_ref().map(std::mem::discriminant)));
}
