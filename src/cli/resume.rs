//! `abssctl run resume`: goes on with a run from what lies in its directory: the plan's exact bytes and
//! the signatures that came with it. The same as `apply PLAN` again; a crash leaves what one of `apply`
//! leaves.

use std::path::PathBuf;

use super::apply::{self, Job};
use super::args::RunResumeArgs;
use super::error::CliError;
use super::progress::Mode;
use super::receipt::Place;
use super::session::{Session, typed};
use super::{plan as plan_cli, verify};
use crate::context::Context;
use crate::engine::report::{self, Outcome as Reported};
use crate::ids::{PlanDigest, RunId};
use crate::plan::canonical;
use crate::plan::model::Plan;
use crate::run::journal::{self, JournalError};
use crate::run::list::{self, Run};
use crate::run::state::{Outcome, Phase, RunStarted};

/// A run as its directory holds it.
#[derive(Debug)]
pub(super) struct Kept {
    /// What its journal says.
    pub(super) run: Run,
    /// Its beginning.
    pub(super) started: RunStarted,
    /// Its plan.
    pub(super) plan: Plan,
    /// The digest of it.
    pub(super) digest: PlanDigest,
    /// The plan's exact bytes.
    pub(super) bytes: Vec<u8>,
    /// Where they lie on this machine.
    pub(super) file: PathBuf,
}

/// Finds a run, and refuses one that nothing can be done with.
///
/// # Errors
/// There is no such run, it never began, its journal is damaged, or its plan is not the one it began with.
pub(super) fn find(session: &Session, cx: &Context, id: &RunId) -> Result<Kept, CliError> {
    let directory = journal::run_directory(&cx.config, id)?;
    if !list::is_there(cx, id)? {
        return Err(CliError::NoRun(id.clone()));
    }
    let file = cx.root.host_path(&directory).join(journal::PLAN);
    let run = list::seen(cx, id.clone());
    let Run { state, .. } = &run;
    let Some(started) = state.started.clone() else {
        let damage = run.damage.map(CliError::from);
        let file = typed(&file);
        return Err(damage.unwrap_or(CliError::NotBegun { run: id.clone(), file }));
    };
    if !matches!(state.phase, Phase::Ended(_))
        && let Some(damage) = run.damage
    {
        return Err(damage.into());
    }
    let began = started.plan_digest;
    let lost = |why| CliError::PlanLost { run: id.clone(), file: file.clone(), why, began };
    // Nothing but a regular file: a pipe would be waited for.
    if cx.root.open_file(&journal::plan_file(&cx.config, id)?)?.is_none() {
        return Err(lost("is gone".to_owned()));
    }
    let (plan, bytes) = plan_cli::load_plan(session, &file)
        .map_err(|error| lost(format!("cannot be loaded any more: {error}")))?;
    let digest = canonical::digest(&plan)?;
    if digest != began {
        return Err(CliError::OtherPlan { run: id.clone(), file, found: digest, began });
    }
    Ok(Kept { run, started, plan, digest, bytes, file })
}

/// Refuses a run that another process works on.
pub(super) fn refuse_in_progress(cx: &Context, id: &RunId) -> Result<(), CliError> {
    if journal::is_in_progress(&cx.root, &cx.config, id)? {
        return Err(JournalError::InProgress { run: id.clone() }.into());
    }
    Ok(())
}

/// `abssctl run resume`
pub fn resume(session: &Session, args: &RunResumeArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let kept = find(session, &cx, &args.run)?;
    let evidence = verify::evidence(&kept.file, kept.started.approvals_required)?;
    let mode = if args.events { Mode::Events } else { Mode::Lines };
    let receipt = Place::prepare(args.receipt.as_deref(), &cx, &kept.plan.spec.target.directory)?;
    // A run of a plan that had been applied was asked for with --replay; it still is.
    let replay = list::applied(&cx, kept.digest)?.is_some_and(|run| run.id != args.run);
    let job = Job { replay, evidence: &evidence, command: "run resume", mode, receipt };
    match kept.run.state.phase {
        Phase::Ended(Outcome::Applied) => {
            let state = &kept.run.state;
            let already = Reported::AlreadyApplied;
            let report = report::report(&kept.plan, kept.digest, Some(&args.run), state, already);
            apply::finish(session, &cx, &job, Ok(report))
        }
        Phase::Ended(Outcome::RolledBack | Outcome::Halted) => {
            Err(CliError::RolledBack { run: args.run.clone(), file: typed(&kept.file) })
        }
        Phase::Fresh | Phase::Forward | Phase::Back | Phase::Halted(_) => {
            refuse_in_progress(&cx, &args.run)?;
            apply::go(session, &cx, &kept.plan, &kept.bytes, &job)
        }
    }
}
