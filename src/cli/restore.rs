//! `abssctl backup restore`: plan, confirm and apply in one go.

use std::path::Path;

use serde_json::json;

use super::apply::{Job, run, say_what_is_lost};
use super::args::BackupRestoreArgs;
use super::error::CliError;
use super::progress::Mode;
use super::receipt::Place;
use super::session::Session;
use super::{exit, plan as plan_cli, prompt};
use crate::engine::apply::ApplyError;
use crate::plan::canonical;
use crate::plan::model::Plan;
use crate::plan::policy::Decision;
use crate::planner::{self, Selector};
use crate::survey::approvals::Evidence;
use crate::survey::policy;
use crate::survey::preflight::{Class, Problem};

/// `abssctl backup restore`
pub fn restore(session: &Session, args: &BackupRestoreArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let wish = plan_cli::to_wish(Selector::Id(args.backup.clone()), args.instance.clone(), &args.wish);
    let plan = planner::plan(&cx, &wish)?;
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
    if let Err(error) = may_begin(session, &plan, &look, &shown) {
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

/// Whether policy and person allow it.
fn may_begin(session: &Session, plan: &Plan, look: &policy::Look<'_>, shown: &str) -> Result<(), CliError> {
    if look.verdict.decision == Decision::Refused {
        let mut problems: Vec<Problem> = look.verdict.findings.iter().map(policy::problem).collect();
        for problem in problems.iter_mut().filter(|problem| problem.class == Class::Approval) {
            let id = &plan.spec.source.backup_id;
            problem.help =
                format!("make a plan that others can sign: abssctl plan restore {id} -o plan.yaml");
        }
        return Err(ApplyError::Refused { problems }.into());
    }
    if session.yes {
        // Nobody is asked, so that what it means must at least be there to read.
        say_what_is_lost(session, plan, &[]);
        return Ok(());
    }
    session.output.note_prepared(shown);
    prompt::confirm(session, &format!("Restore {} now?", plan.spec.source.backup_id))
}
