//! `abssctl run list` and `show`.

use serde_json::{Value, json};

use super::args::RunShowArgs;
use super::error::CliError;
use super::output::table;
use super::session::Session;
use super::{exit, receipt};
use crate::context::Context;
use crate::ids::AbsPath;
use crate::plan::model::{PlanKind, Time};
use crate::plan::render::visible;
use crate::run::fact::{Fact, Side};
use crate::run::journal;
use crate::run::list::{self, Run};
use crate::run::state::{Outcome, Phase, StepState};
use crate::run::summary;
use crate::survey::displaced;

/// `abssctl run list`
pub fn list(session: &Session) -> Result<u8, CliError> {
    let cx = session.context()?;
    tell_strangers(session, &cx)?;
    let mut runs = list::all(&cx)?;
    runs.reverse();
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for run in &runs {
        let object = object(&cx, run, &runs)?;
        let text = |key: &str| {
            let text = object[key].as_str().unwrap_or("-");
            let more = match (key, object["rollsBack"].as_str(), object["rolledBackBy"].as_str()) {
                ("outcome", _, Some(by)) => format!(", rolled back by {by}"),
                ("outcome", Some(run), None) => format!(", rolls back {run}"),
                _ => String::new(),
            };
            format!("{text}{more}")
        };
        rows.push(
            ["run", "instance", "backup", "target", "startedAt", "outcome", "displaced"].map(text).to_vec(),
        );
        objects.push(object);
    }
    let text = if rows.is_empty() {
        "no plan was applied here yet\n".to_owned()
    } else {
        table(&["RUN", "INSTANCE", "BACKUP", "TARGET", "STARTED", "OUTCOME", "DISPLACED"], &rows)
    };
    session.output.either(&json!({ "runs": objects }), &text)?;
    Ok(exit::DONE)
}

/// Tells of what lies among the runs and is found by nothing that looks for runs.
pub(super) fn tell_strangers(session: &Session, cx: &Context) -> Result<(), CliError> {
    for name in list::strangers(cx)? {
        let name = visible(&name);
        session
            .output
            .note(&format!("! {name} lies among the runs, and has the name of none; see: abssctl doctor"));
    }
    Ok(())
}

/// `abssctl run show`
pub fn show(session: &Session, args: &RunShowArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    if !list::is_there(&cx, &args.run)? {
        return Err(CliError::NoRun(args.run.clone()));
    }
    if args.receipt {
        return receipt::show(session, &cx, &args.run);
    }
    let run = list::seen(&cx, args.run.clone());
    let mut object = object(&cx, &run, &list::all(&cx)?)?;
    let steps: Vec<Value> = run.state.steps.iter().map(|step| {
        json!({ "id": step.id, "kind": step.kind, "state": state_name(step.state), "detail": step.detail })
    }).collect();
    let mut text = String::new();
    for (label, key) in [
        ("run", "run"),
        ("kind", "kind"),
        ("rolls back", "rollsBack"),
        ("undone by", "rolledBackBy"),
        ("plan", "plan"),
        ("digest", "planDigest"),
        ("instance", "instance"),
        ("backup", "backup"),
        ("target", "target"),
        ("started", "startedAt"),
        ("outcome", "outcome"),
        ("pre-backup", "preBackup"),
        ("staging", "staging"),
        ("displaced", "displaced"),
        ("tree before", "treeBefore"),
        ("tree after", "treeAfter"),
        ("plan file", "planFile"),
        ("damage", "damage"),
    ] {
        if let Some(value) = object[key].as_str() {
            text.push_str(&format!("{label:<11} {value}\n"));
        }
    }
    if let Some(names) = object["approvers"].as_array().filter(|names| !names.is_empty()) {
        let names: Vec<String> = names.iter().filter_map(Value::as_str).map(visible).collect();
        text.push_str(&format!("{:<11} {}\n", "approved by", names.join(", ")));
    }
    let policy = run.state.started.as_ref().and_then(|started| started.policy.as_ref());
    if let Some(summary) = policy.and_then(|policy| policy.summary()) {
        text.push_str(&format!("{:<11} {summary}\n", "policy"));
    }
    for path in object["signatures"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        text.push_str(&format!("{:<11} {}\n", "signature", visible(path)));
    }
    for step in &run.state.steps {
        text.push_str(&format!("  {:<11} {:<8} {}\n", step.id, state_name(step.state), step.detail));
    }
    object["steps"] = json!(steps);
    session.output.either(&object, &text)?;
    Ok(exit::DONE)
}

fn state_name(state: StepState) -> &'static str {
    match state {
        StepState::Started => "started",
        StepState::Done => "done",
        StepState::Failed => "failed",
        StepState::Undoing => "undoing",
        StepState::Undone => "undone",
        StepState::UndoFailed => "stuck",
    }
}

/// A run as JSON. Directories are listed only while they are there.
fn object(cx: &Context, run: &Run, all: &[Run]) -> Result<Value, CliError> {
    let state = &run.state;
    let outcome = match state.phase {
        Phase::Ended(Outcome::Applied) => "applied",
        Phase::Ended(Outcome::RolledBack) => "rolled_back",
        _ if run.damage.is_some() => "damaged",
        Phase::Ended(Outcome::Halted) | Phase::Halted(_) => "halted",
        Phase::Fresh => "not_begun",
        Phase::Forward | Phase::Back if journal::is_in_progress(&cx.root, &cx.config, &run.id)? => {
            "in_progress"
        }
        Phase::Forward | Phase::Back => "interrupted",
    };
    let there = |path: &AbsPath| cx.root.dir_optional(path).ok().flatten().map(|_| path.clone());
    let staging = state
        .facts()
        .find_map(|fact| if let Fact::Staging { directory } = fact { there(directory) } else { None });
    let started = state.started.as_ref();
    let place = cx.root.host_path(&journal::run_directory(&cx.config, &run.id)?);
    let kept = started.map(|started| started.signatures.iter()).into_iter().flatten();
    let signatures: Vec<String> = kept
        .filter_map(|signature| Some(place.join(signature.file.as_ref()?).display().to_string()))
        .collect();
    Ok(json!({
        "run": run.id,
        "kind": started.map(|started| match started.rolls_back {
            None => PlanKind::RestorePlan,
            Some(_) => PlanKind::RollbackPlan,
        }),
        "rollsBack": started.and_then(|started| started.rolls_back.as_ref()),
        "rolledBackBy": displaced::undone_by(all, &run.id).map(|by| &by.id),
        "plan": started.map(|started| &started.plan),
        "planDigest": started.map(|started| started.plan_digest),
        "planFile": place.join(journal::PLAN).display().to_string(),
        "signatures": signatures,
        "instance": started.map(|started| &started.instance),
        "backup": started.map(|started| &started.backup),
        "target": started.map(|started| &started.target),
        "approvers": started.map(|started| &started.approvers),
        "policy": started.and_then(|started| started.policy.as_ref()),
        "startedAt": state.started_at.map(|at| Time::from(at).to_string()),
        "endedAt": state.ended_at.map(|at| Time::from(at).to_string()),
        "outcome": outcome,
        "downtimeMs": summary::downtime_ms(state),
        "preBackup": summary::pre_backup(state),
        "staging": staging,
        "displaced": state.displaced().and_then(there),
        "treeBefore": state.tree(Side::Before),
        "treeAfter": state.tree(Side::After).filter(|_| summary::swapped(state)),
        "damage": run.damage.as_ref().map(ToString::to_string),
    }))
}
