//! `abssctl run resume --all`: finishes or undoes every interrupted run of the machine, asks nobody and
//! begins nothing anew: what a machine does by itself after a power cut. A crash leaves what one of `apply`
//! leaves; the next start of the machine goes on.

use std::sync::Once;

use serde_json::{Value, json};

use super::error::CliError;
use super::exit;
use super::progress::{Mode, Progress};
use super::resume;
use super::session::Session;
use crate::context::Context;
use crate::engine::apply::{self as engine, ApplyError, Options, Resumed};
use crate::host::notify;
use crate::ids::RunId;
use crate::plan::step::{Step, StepKind};
use crate::run::journal;
use crate::run::list::{self, Run};
use crate::run::state::Phase;
use crate::steps::context::Moment;
use crate::steps::{StepContext, StepError};
use crate::survey::approvals::Evidence;

/// What became of one interrupted run.
struct Line {
    run: RunId,
    outcome: &'static str,
    message: String,
    code: u8,
}

impl Line {
    fn new(run: &RunId, outcome: &'static str, message: impl Into<String>, code: u8) -> Self {
        Self { run: run.clone(), outcome, message: message.into(), code }
    }
}

/// `abssctl run resume --all`
pub fn recover(session: &Session) -> Result<u8, CliError> {
    let cx = session.context()?;
    let told = Once::new();
    let mut lines = Vec::new();
    for run in list::all(&cx)?.iter().filter(|run| run.state.is_unfinished()) {
        if cx.cancel.is_requested() {
            return Err(CliError::Interrupted);
        }
        lines.push(one(session, &cx, run, &told));
    }
    tell(session, &told);
    let code = lines.iter().map(|line| line.code).max().unwrap_or(exit::DONE);
    let runs: Vec<Value> = lines
        .iter()
        .map(|line| json!({ "run": line.run, "outcome": line.outcome, "message": line.message }))
        .collect();
    let mut text: String =
        lines.iter().map(|line| format!("{:<12} {}  {}\n", line.outcome, line.run, line.message)).collect();
    if lines.is_empty() {
        text.push_str("no run is unfinished\n");
    }
    session.output.either(&json!({ "runs": runs, "exitCode": code }), &text)?;
    Ok(code)
}

fn one(session: &Session, cx: &Context, run: &Run, told: &Once) -> Line {
    let id = &run.id;
    match journal::is_in_progress(&cx.root, &cx.config, id) {
        Ok(false) => {}
        Ok(true) => return Line::new(id, "in_progress", "another process works on it", exit::ENVIRONMENT),
        Err(error) => return Line::new(id, "left", error.to_string(), exit::HALTED),
    }
    if let Phase::Halted(_) = run.state.phase {
        let what = format!("it waits for a person: abssctl run show {id}");
        return Line::new(id, "halted", what, exit::HALTED);
    }
    match go(session, cx, id, told) {
        Ok(Resumed::Finished(report)) => {
            Line::new(id, "finished", format!("{} is as its plan wants it", report.target), exit::DONE)
        }
        Ok(Resumed::Undone(_)) => Line::new(
            id,
            "undone",
            "everything is as it was before; its plan may be applied again",
            exit::DONE,
        ),
        Ok(Resumed::None) => Line::new(id, "in_progress", "another process works on it", exit::ENVIRONMENT),
        // It could not go on and went back: nothing is left to do.
        Err(error @ CliError::Apply(ApplyError::RolledBack { .. })) => {
            Line::new(id, "undone", error.to_string(), exit::DONE)
        }
        Err(error @ CliError::Apply(ApplyError::Halted { .. })) => {
            Line::new(id, "halted", format!("{error}; see abssctl run show {id}"), exit::HALTED)
        }
        Err(error) => Line::new(id, "left", error.to_string(), exit::HALTED),
    }
}

fn go(session: &Session, cx: &Context, id: &RunId, told: &Once) -> Result<Resumed, CliError> {
    let kept = resume::find(session, cx, id)?;
    let progress = Progress::new(&session.output, Mode::Lines);
    let evidence = Evidence::default();
    // Whoever waits for this unit is what is about to be started: it would wait for itself.
    let hook = |_: &StepContext<'_>, step: &Step, moment: Moment| -> Result<(), StepError> {
        if matches!(
            (step.kind(), moment),
            (StepKind::Start, Moment::BeforeRun) | (StepKind::Stop, Moment::BeforeUndo)
        ) {
            tell(session, told);
        }
        Ok(())
    };
    let options = Options {
        replay: true,
        evidence: &evidence,
        lock_timeout: session.lock_timeout(cx),
        command: "run resume",
        exit_code: &|error: &StepError| exit::step(error, session.interrupted()),
        hook: Some(&hook),
    };
    Ok(engine::resume(cx, &kept.plan, &options, &|event| progress.event(event))?)
}

/// Says once that what waits may start.
fn tell(session: &Session, told: &Once) {
    told.call_once(|| {
        if let Err(error) = notify::ready() {
            session.output.note(&format!("the service manager could not be told: {error}"));
        }
    });
}
