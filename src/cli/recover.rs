//! `abssctl run recover`: brings every interrupted run of this machine to an end, without a question and
//! without a new beginning: for the start of a machine that lost its power. A run that had replaced its
//! target goes on, one that had not is undone; both lead to a whole tree. A crash in here leaves what one
//! of `run resume` leaves, and the next call goes on.

use serde_json::{Value, json};

use super::apply::{self, Job};
use super::args::RunRecoverArgs;
use super::error::CliError;
use super::progress::Mode;
use super::run::tell_strangers;
use super::session::Session;
use super::{exit, resume, verify};
use crate::context::Context;
use crate::engine::apply::{ApplyError, Resumed};
use crate::ids::RunId;
use crate::run::journal::{self, JournalError};
use crate::run::list::{self, Run};
use crate::run::state::Phase;

/// What became of a run.
struct Ended {
    run: RunId,
    /// `applied`, `rolled_back`, `in_progress`, or `unfinished`.
    outcome: &'static str,
    message: String,
}

/// `abssctl run recover`
pub(super) fn recover(session: &Session, args: RunRecoverArgs) -> Result<u8, CliError> {
    let mut cx = session.context()?;
    cx.before_units = args.before_units;
    let mut all = Vec::new();
    tell_strangers(session, &cx)?;
    for run in list::all(&cx)?.iter().filter(|run| run.damage.is_some() || run.state.is_unfinished()) {
        all.extend(one(session, &cx, run));
        if session.is_interrupted() {
            break;
        }
    }
    let left = all.iter().filter(|ended| ended.outcome == "unfinished").count();
    let text = if all.is_empty() {
        "no run is unfinished\n".to_owned()
    } else {
        all.iter().map(|ended| format!("{}\n", ended.message)).collect()
    };
    let of = |ended: &Ended| -> Value {
        json!({ "run": ended.run, "outcome": ended.outcome, "message": ended.message })
    };
    let runs: Vec<Value> = all.iter().map(of).collect();
    session.output.either(&json!({ "runs": runs, "unfinished": left }), &text)?;
    if session.is_interrupted() {
        return Err(CliError::Interrupted);
    }
    Ok(if left == 0 { exit::DONE } else { exit::HALTED })
}

/// Brings one to its end; `None` for one that needs none.
fn one(session: &Session, cx: &Context, run: &Run) -> Option<Ended> {
    let ended = |outcome, message| Some(Ended { run: run.id.clone(), outcome, message });
    let id = &run.id;
    let look = format!("see what stands where: abssctl run show {id}");
    match &run.state.phase {
        // Of these the sound beginning of a damaged journal tells the end.
        Phase::Fresh if run.damage.is_none() => return None,
        Phase::Ended(_) => return None,
        Phase::Halted(_) => {
            return ended("unfinished", format!("run {id} halted before, and a person must look; {look}"));
        }
        Phase::Fresh | Phase::Forward | Phase::Back => {}
    }
    let elsewhere = || journal::is_in_progress(&cx.root, &cx.config, id);
    let at_work = || ended("in_progress", format!("run {id} is at work in another process"));
    match elsewhere() {
        Ok(true) => return at_work(),
        Ok(false) => {}
        Err(error) => return ended("unfinished", format!("run {id}: {error}")),
    }
    match finish(session, cx, id) {
        Ok(Resumed::Finished(report)) => {
            ended("applied", format!("run {id} is finished: {} is what it restored", report.target))
        }
        Ok(Resumed::Undone(_)) | Err(CliError::Apply(ApplyError::RolledBack { .. })) => {
            let target = run.state.started.as_ref().map_or_else(String::new, |run| run.target.to_string());
            ended("rolled_back", format!("run {id} is undone: {target} is as it was before it"))
        }
        // Another process was faster: it works on it, or has brought it to its end.
        Ok(Resumed::None) | Err(CliError::Apply(ApplyError::Journal(JournalError::InProgress { .. })))
            if elsewhere().is_ok_and(|at_work| at_work) =>
        {
            at_work()
        }
        Ok(Resumed::None) if !list::seen(cx, id.clone()).is_open() => None,
        Ok(Resumed::None) => {
            ended("unfinished", format!("run {id} is not finished, and nothing was done; {look}"))
        }
        Err(error) => {
            let help = miette::Diagnostic::help(&error).map_or(look, |help| help.to_string());
            ended("unfinished", format!("run {id} is not finished: {error}; {help}"))
        }
    }
}

fn finish(session: &Session, cx: &Context, id: &RunId) -> Result<Resumed, CliError> {
    let kept = resume::find(session, cx, id)?;
    let evidence = verify::evidence(&kept.file, kept.started.approvals_required)?;
    let job =
        Job { replay: false, evidence: &evidence, command: "run recover", mode: Mode::Lines, receipt: None };
    apply::resume(session, cx, &kept.plan, Some(id), &job)
}
