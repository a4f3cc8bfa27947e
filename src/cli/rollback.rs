//! `abssctl run rollback` and `abssctl plan rollback`: puts back what a run replaced. An unfinished run is
//! undone; for a finished one a plan is made and applied, which exchanges the kept directory with the live
//! one. A crash leaves what one of `apply` leaves.

use serde_json::{Value, json};

use super::apply::{self, Job};
use super::args::{PlanRollbackArgs, RollbackWishArgs, RunRollbackArgs};
use super::error::CliError;
use super::plan::Machine;
use super::progress::Mode;
use super::receipt::Place;
use super::resume::{self, Kept};
use super::session::Session;
use super::{exit, plan as plan_cli, prompt, restore, verify};
use crate::context::Context;
use crate::engine::apply::{self as engine, ApplyError};
use crate::ids::{AbsPath, RunId};
use crate::plan::canonical;
use crate::plan::spec::PreBackupMode;
use crate::planner::{PlanError, RollbackWish, rollback as planner};
use crate::run::list;
use crate::run::state::{Outcome, Phase};
use crate::survey::approvals::Evidence;
use crate::survey::{policy, preflight};

/// `abssctl plan rollback`
pub fn plan(session: &Session, args: &PlanRollbackArgs) -> Result<u8, CliError> {
    let wish = to_wish(&args.run, &args.wish);
    let machine = Machine::of(session, args.facts.as_deref())?;
    let plan = match &machine {
        Machine::Here(cx) => planner::plan(cx, &wish)?,
        Machine::Elsewhere(facts) => planner::plan_elsewhere(facts, &Session::actor(), &wish)?,
    };
    plan_cli::write_new(session, &plan, &args.output, args.format)?;
    machine.say_policy(session, &plan, &args.output);
    Ok(exit::DONE)
}

fn to_wish(run: &RunId, args: &RollbackWishArgs) -> RollbackWish {
    RollbackWish {
        run: run.clone(),
        data_only: args.data_only,
        pre_backup: if args.no_pre_backup {
            Some(PreBackupMode::None)
        } else {
            args.pre_backup.map(Into::into)
        },
        backup_message: args.backup_message.clone(),
        reason: args.reason.clone(),
        expires: args.expires.clone(),
        on_failure: args.on_failure.map(Into::into),
        drift: args.drift.map(Into::into),
        retain: args.retain.clone(),
    }
}

/// `abssctl run rollback`
pub fn rollback(session: &Session, args: &RunRollbackArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let kept = resume::find(session, &cx, &args.run)?;
    match kept.run.state.phase {
        Phase::Ended(Outcome::Applied) => finished(session, &cx, args, &kept),
        Phase::Ended(Outcome::RolledBack | Outcome::Halted) => already(session, &args.run, None),
        Phase::Fresh | Phase::Forward | Phase::Back | Phase::Halted(_) => {
            unfinished(session, &cx, args, &kept)
        }
    }
}

/// Nothing is left to undo.
fn already(session: &Session, run: &RunId, by: Option<&RunId>) -> Result<u8, CliError> {
    let value = json!({ "outcome": "already_rolled_back", "run": run, "by": by, "exitCode": exit::DONE });
    let by = by.map_or_else(String::new, |by| format!(" by run {by}"));
    let text = format!("run {run} was rolled back already{by}: nothing was changed\n");
    session.output.either(&value, &text)?;
    Ok(exit::DONE)
}

/// Undoes a run that did not come to its end.
fn unfinished(session: &Session, cx: &Context, args: &RunRollbackArgs, kept: &Kept) -> Result<u8, CliError> {
    let (run, target) = (&args.run, &kept.plan.spec.target.directory);
    if args.wish.data_only {
        let what = format!("run {run} is not finished, and is undone as a whole, unit and vhost too");
        let help = format!("leave out --data-only: abssctl run rollback {run}");
        return Err(CliError::Usage { what, help });
    }
    resume::refuse_in_progress(cx, run)?;
    if args.dry_run {
        let text = format!("would undo run {run}: {target} is put back as it was before it\n");
        session.output.either(&json!({ "run": run, "wouldUndo": true, "exitCode": exit::DONE }), &text)?;
        return Ok(exit::DONE);
    }
    let evidence = Evidence::default();
    let job = self::job(cx, args, &kept.plan.spec.target.directory, &evidence)?;
    session.output.note(&format!(
        "run {run} is not finished: everything that it did is undone; where it had replaced {target} already, what was written there since is gone"
    ));
    prompt::confirm(session, &format!("Undo run {run}?"))?;
    let result =
        apply::told(session, cx, &job, |options, sink| engine::roll_back(cx, &kept.plan, run, options, sink));
    apply::finish(session, cx, &job, result)
}

fn job<'a>(
    cx: &Context,
    args: &RunRollbackArgs,
    target: &AbsPath,
    evidence: &'a Evidence,
) -> Result<Job<'a>, CliError> {
    let mode = if args.events { Mode::Events } else { Mode::Lines };
    let receipt = Place::prepare(args.receipt.as_deref(), cx, target)?;
    Ok(Job { replay: false, evidence, command: "run rollback", mode, receipt })
}

/// Makes a plan for the return of what a finished run displaced, and applies it.
fn finished(session: &Session, cx: &Context, args: &RunRollbackArgs, kept: &Kept) -> Result<u8, CliError> {
    if let Some(code) = interrupted(session, cx, args, kept)? {
        return Ok(code);
    }
    let plan = match planner::plan(cx, &to_wish(&args.run, &args.wish)) {
        Err(PlanError::Rollback { undone_by: Some(by), .. }) => {
            return already(session, &args.run, Some(&by));
        }
        other => other?,
    };
    let shown = plan_cli::as_text(session, &plan, session.output.color);
    let evidence = Evidence::default();
    let look = policy::look(cx, &plan, &evidence);
    if args.dry_run {
        let value: Value = json!({ "plan": plan, "path": null, "digest": canonical::digest(&plan)? });
        if session.output.json {
            session.output.value(&value)?;
        } else {
            session.output.result(shown.as_bytes())?;
        }
        return Ok(exit::DONE);
    }
    let job = job(cx, args, &plan.spec.target.directory, &evidence)?;
    let question = format!("Roll back run {} now?", args.run);
    if let Err(error) = restore::may_begin(session, &plan, &look, &shown, &question) {
        if let Some(place) = &job.receipt {
            place.not_written(session);
        }
        return Err(error);
    }
    apply::run(session, cx, &plan, &plan_cli::bytes_of(&plan)?, &job)
}

/// A rollback of this run that was interrupted goes on; another unfinished run stands in the way.
fn interrupted(
    session: &Session,
    cx: &Context,
    args: &RunRollbackArgs,
    kept: &Kept,
) -> Result<Option<u8>, CliError> {
    let Some(other) = list::unfinished(cx, &kept.started.instance)? else { return Ok(None) };
    let undoes = other.state.started.as_ref().and_then(|started| started.rolls_back.as_ref());
    if undoes != Some(&args.run) || args.dry_run {
        let problem = preflight::unfinished(&other.id, &kept.started.instance);
        return Err(ApplyError::Refused { problems: vec![problem] }.into());
    }
    resume::refuse_in_progress(cx, &other.id)?;
    let own = resume::find(session, cx, &other.id)?;
    let evidence = verify::evidence(&own.file, own.started.approvals_required)?;
    let job = job(cx, args, &own.plan.spec.target.directory, &evidence)?;
    apply::go(session, cx, &own.plan, &own.bytes, &job).map(Some)
}
