//! `abssctl backup restore`: plan, confirm and apply in one go.

use std::io::IsTerminal as _;
use std::path::Path;

use serde_json::json;

use super::apply::{Job, run, say_what_is_lost};
use super::args::BackupRestoreArgs;
use super::error::CliError;
use super::progress::Mode;
use super::receipt::Place;
use super::session::Session;
use super::{exit, plan as plan_cli, prompt};
use crate::context::Context;
use crate::engine::apply::ApplyError;
use crate::plan::at_stake;
use crate::plan::canonical;
use crate::plan::model::Plan;
use crate::plan::policy::Decision;
use crate::plan::preview::BudgetPresence;
use crate::plan::spec::{ClientPolicy, Source};
use crate::planner::{self, ClientsWish, Selector, Wish};
use crate::survey::approvals::Evidence;
use crate::survey::policy;
use crate::survey::preflight::{Class, Problem};

/// `abssctl backup restore`
pub fn restore(session: &Session, args: &BackupRestoreArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let wish = plan_cli::to_wish(Selector::Id(args.backup.clone()), args.instance.clone(), &args.wish);
    let plan = planner::plan(&cx, &wish)?;
    let open = wish.clients.is_open() && !cx.config.restore_sets("clients");
    let plan = if open && !args.dry_run { choose_clients(session, &cx, wish, plan)? } else { plan };
    let shown = plan_cli::as_text(session, &plan, session.output.color);
    // A plan that nobody else saw has no approvals: where the policy needs some, it is refused.
    let evidence = Evidence::default();
    let look = policy::look(&cx, &plan, &evidence);
    if args.dry_run {
        plan_cli::say_policy(session, &look, &plan, Path::new("FILE"));
        let digest = canonical::digest(&plan)?;
        let value = json!({ "plan": plan, "path": null, "digest": digest });
        if session.output.json {
            session.output.value(&value)?;
        } else {
            session.output.result(shown.as_bytes())?;
        }
        return Ok(exit::DONE);
    }
    let receipt = Place::prepare(args.receipt.as_deref(), &cx, &plan.spec.target.directory)?;
    let question = format!("Restore {} now?", plan.spec.source.backup_id());
    if let Err(error) = may_begin(session, &plan, &look, &shown, &question) {
        if let Some(place) = &receipt {
            place.not_written(session);
        }
        return Err(error);
    }
    let bytes = plan_cli::bytes_of(&plan)?;
    run(
        session,
        &cx,
        &plan,
        &bytes,
        &Job { replay: false, evidence: &evidence, command: "backup restore", mode: Mode::Lines, receipt },
    )
}

/// What happens to newer changes, where the live server has some and nobody said: a person is asked;
/// without one it is `merge`, and said aloud.
fn choose_clients(session: &Session, cx: &Context, wish: Wish, plan: Plan) -> Result<Plan, CliError> {
    let newer = at_stake::newer(&plan.spec, &plan.preview.budgets, ClientPolicy::Merge);
    let uncounted = plan.preview.budgets.iter().any(|budget| at_stake::is_uncounted(&plan.spec, budget));
    if newer == 0 && !uncounted {
        return Ok(plan);
    }
    let note = |line: &str| session.output.note(line);
    let changes = if newer == 1 { "change" } else { "changes" };
    if session.yes {
        let back = match newer {
            0 => "newer changes that could not be counted".to_owned(),
            _ => format!("{newer} newer {changes}"),
        };
        note(&format!(
            "nobody said what happens to clients, so it is merge: {back} come back from devices and undo this restore; --clients reset stops that"
        ));
        newer_changes(session, &plan);
        return Ok(plan);
    }
    if !std::io::stdin().is_terminal() {
        return Ok(plan);
    }
    if newer > 0 {
        note(&format!("{newer} {changes} on the live server are newer than this backup:"));
        newer_changes(session, &plan);
    }
    if uncounted {
        note("newer changes on the live server could not be counted, see the warnings of the plan");
    }
    note("  merge: devices send them back at their next sync and undo this restore, budget by budget");
    note("  reset: they are lost; every device is told to download the restored budgets");
    note("  (for single budgets: --clients NAME=reset; what devices show: docs/clients.md)");
    let answers = [('m', "merge", ClientPolicy::Merge), ('r', "reset", ClientPolicy::Reset)];
    let chosen = prompt::choose(session, "Merge, reset, or abort?", &answers)?;
    Ok(planner::plan(cx, &Wish { clients: ClientsWish::for_all(chosen), ..wish })?)
}

/// The newer changes of each budget.
fn newer_changes(session: &Session, plan: &Plan) {
    let both = plan.preview.budgets.iter().filter(|budget| budget.presence == BudgetPresence::Both);
    for budget in both {
        let Some(count) = budget.changes_newer.filter(|count| *count > 0) else { continue };
        let name = budget.name.as_deref().unwrap_or(&budget.id);
        let times = match (&budget.first_newer, &budget.last_newer) {
            (Some(first), Some(last)) => format!(", {first} to {last}"),
            (Some(_) | None, Some(_) | None) => String::new(),
        };
        session.output.note(&format!("  {name}: {count}{times}"));
    }
}

/// Whether policy and person allow it.
pub(super) fn may_begin(
    session: &Session,
    plan: &Plan,
    look: &policy::Look<'_>,
    shown: &str,
    question: &str,
) -> Result<(), CliError> {
    if look.verdict.decision == Decision::Refused {
        let mut problems: Vec<Problem> = look.verdict.findings.iter().map(policy::problem).collect();
        for problem in problems.iter_mut().filter(|problem| problem.class == Class::Approval) {
            let what = match &plan.spec.source {
                Source::Backup(backup) => format!("restore {}", backup.backup_id),
                Source::Run(run) => format!("rollback {}", run.run),
            };
            problem.help = format!("make a plan that others can sign: abssctl plan {what} -o plan.yaml");
        }
        return Err(ApplyError::Refused { problems }.into());
    }
    if session.yes {
        // Nobody is asked, so that what it means must at least be there to read.
        say_what_is_lost(session, plan, &[]);
        return Ok(());
    }
    session.output.note_prepared(shown);
    prompt::confirm(session, question)
}
