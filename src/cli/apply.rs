//! `abssctl apply`

use serde_json::json;

use super::args::ApplyArgs;
use super::error::CliError;
use super::progress::{Mode, Progress};
use super::receipt::Place;
use super::session::Session;
use super::{exit, plan as plan_cli, prompt, verify};
use crate::context::Context;
use crate::engine::apply::{self as engine, ApplyError, Options, Resumed};
use crate::engine::event::Sink;
use crate::engine::report::{Outcome, Report};
use crate::ids::RunId;
use crate::plan::canonical;
use crate::plan::model::Plan;
use crate::plan::render::human_bytes;
use crate::plan::spec::Source;
use crate::plan::step::StepKind;
use crate::steps::StepError;
use crate::survey::approvals::Evidence;
use crate::survey::preflight::Ask;

/// `abssctl apply`
pub fn apply(session: &Session, args: &ApplyArgs) -> Result<u8, CliError> {
    let (plan, bytes) = plan_cli::load_plan(session, &args.file)?;
    let cx = session.context()?;
    let evidence = verify::evidence(&args.file, args.require_approvals)?;
    if args.dry_run {
        return dry_run(session, &cx, &plan, args.replay, &evidence);
    }
    let mode = if args.events { Mode::Events } else { Mode::Lines };
    let receipt = Place::prepare(args.receipt.as_deref(), &cx, &plan.spec.target.directory)?;
    let job = Job { replay: args.replay, evidence: &evidence, command: "plan apply", mode, receipt };
    go(session, &cx, &plan, &bytes, &job)
}

/// Goes on with an interrupted run of the plan, or asks and begins one; prints the result.
pub(super) fn go(
    session: &Session,
    cx: &Context,
    plan: &Plan,
    bytes: &[u8],
    job: &Job<'_>,
) -> Result<u8, CliError> {
    let result = attempt(session, cx, plan, bytes, job);
    finish(session, cx, job, result)
}

/// Goes on with an interrupted run of the plan, or asks and begins one.
fn attempt(
    session: &Session,
    cx: &Context,
    plan: &Plan,
    bytes: &[u8],
    job: &Job<'_>,
) -> Result<Report, CliError> {
    let undone = match resume(session, cx, plan, None, job)? {
        Resumed::Finished(report) => return Ok(*report),
        Resumed::Undone(run) => Some(run),
        Resumed::None => None,
    };
    if let Some(run) = &undone {
        session.output.note(&format!("run {run} had not replaced the target yet; it is undone"));
    }
    let digest = canonical::digest(plan)?;
    let ask = Ask { digest, replay: job.replay, own_run: None, evidence: Some(job.evidence) };
    let found = plan_cli::look(cx, plan, ask)?;
    // Whatever stands in the way is said before anybody is asked.
    if found.is_clear() {
        say_what_is_lost(session, plan, &found.warnings);
        let Plan { spec, .. } = plan;
        let with = match &spec.source {
            Source::Backup(backup) => format!("backup {} of {}", backup.backup_id, backup.created_at),
            Source::Run(run) => {
                format!("the old tree that run {} displaced at {}", run.run, run.displaced_at)
            }
        };
        prompt::confirm(session, &format!("Replace {} with {with}?", spec.target.directory))?;
    } else if found.applied_by.is_none() || job.replay {
        // What stood in the way may be gone in a moment, a freeze over: nothing begins that nobody was asked for.
        return Err(ApplyError::Refused { problems: found.problems }.into());
    }
    begin(session, cx, plan, bytes, job)
}

/// Tells the person who applies what a reviewer was told, and what came since.
pub fn say_what_is_lost(session: &Session, plan: &Plan, newer: &[String]) {
    let files = &plan.preview.files;
    let (added, changed, removed) = (files.added.count, files.changed.count, files.removed.count);
    let verb = if added == 1 { "file is" } else { "files are" };
    session.output.note(&format!("{added} {verb} added, {changed} changed, {removed} removed"));
    for message in plan.preview.warnings.iter().map(|warning| &warning.message).chain(newer) {
        session.output.note(&format!("! {message}"));
    }
}

/// How a plan is applied.
#[derive(Debug)]
pub struct Job<'a> {
    /// Whether an applied plan may be applied again.
    pub replay: bool,
    /// What came with the plan to judge its approvals by.
    pub evidence: &'a Evidence,
    /// The command, as the operations log names it.
    pub command: &'static str,
    /// How it is shown.
    pub mode: Mode,
    /// Where the receipt goes.
    pub receipt: Option<Place>,
}

/// Finishes or undoes an interrupted run of the plan: the one of this id, where there may be several.
pub(super) fn resume(
    session: &Session,
    cx: &Context,
    plan: &Plan,
    run: Option<&RunId>,
    job: &Job<'_>,
) -> Result<Resumed, CliError> {
    told(session, cx, job, |options, sink| engine::resume(cx, plan, run, options, sink))
}

/// Applies a plan and prints the result.
pub fn run(
    session: &Session,
    cx: &Context,
    plan: &Plan,
    bytes: &[u8],
    job: &Job<'_>,
) -> Result<u8, CliError> {
    let result = begin(session, cx, plan, bytes, job);
    finish(session, cx, job, result)
}

fn begin(
    session: &Session,
    cx: &Context,
    plan: &Plan,
    bytes: &[u8],
    job: &Job<'_>,
) -> Result<Report, CliError> {
    told(session, cx, job, |options, sink| engine::apply(cx, plan, bytes, options, sink))
}

/// Lets the engine work as the job says, and tells how far it is.
pub(super) fn told<T>(
    session: &Session,
    cx: &Context,
    job: &Job<'_>,
    work: impl FnOnce(&Options<'_>, &Sink<'_>) -> Result<T, ApplyError>,
) -> Result<T, CliError> {
    let progress = Progress::new(&session.output, job.mode);
    let options = Options {
        replay: job.replay,
        evidence: job.evidence,
        lock_timeout: session.lock_timeout(cx),
        command: job.command,
        exit_code: &|error: &StepError| exit::step(error, session.interrupted()),
        hook: None,
    };
    Ok(work(&options, &|event| progress.event(event))?)
}

/// Writes the receipt and prints the result, whatever the end was.
pub(super) fn finish(
    session: &Session,
    cx: &Context,
    job: &Job<'_>,
    mut result: Result<Report, CliError>,
) -> Result<u8, CliError> {
    if let Some(place) = &job.receipt {
        match &mut result {
            Ok(report) => place.write(session, cx, report),
            Err(CliError::Apply(
                ApplyError::RolledBack { report, .. } | ApplyError::Halted { report, .. },
            )) => place.write(session, cx, report),
            Err(_) => place.not_written(session),
        }
    }
    let report = &result?;
    if job.mode == Mode::Events {
        let line = serde_json::to_string(&json!({ "event": "result", "result": report }))
            .map_err(std::io::Error::other)?;
        session.output.result(format!("{line}\n").as_bytes())?;
    } else {
        session.output.either(&json!(report), &result_text(report))?;
    }
    Ok(exit::DONE)
}

fn result_text(report: &Report) -> String {
    let mut lines = Vec::new();
    if report.outcome == Outcome::AlreadyApplied {
        let run = report.run.as_ref().map_or_else(String::new, |run| format!(" by run {run}"));
        lines.push(format!("already applied{run}: nothing was changed"));
    } else if report.outcome == Outcome::RolledBack {
        let run = report.run.as_ref().map_or_else(String::new, ToString::to_string);
        lines.push(format!("undid run {run}: {} is as it was before it", report.target));
    } else {
        let seconds = millis(report.duration_ms);
        lines.push(match &report.rolls_back {
            None => format!("restored {} to {} in {seconds:.1} s", report.backup, report.target),
            Some(run) => {
                format!("rolled back run {run}: {} is as it was before it, in {seconds:.1} s", report.target)
            }
        });
        if !report.approvers.is_empty() {
            lines.push(format!("  approved by {}", report.approvers.join(", ")));
        }
        if let Some(id) = &report.pre_backup {
            lines.push(format!("  the state before: backup {id}"));
        }
        if let Some(path) = &report.displaced {
            lines.push(format!("  the old directory, until it is pruned: {path}"));
        }
        if let Some(downtime) = report.downtime_ms {
            lines.push(format!("  the server was down for {:.1} s", millis(downtime)));
        }
        let serves = report.steps.iter().any(|step| step.kind == StepKind::Health);
        if report.live && !serves {
            lines.push("next: start the server again, if you stopped it".to_owned());
        }
    }
    lines.join("\n") + "\n"
}

#[expect(clippy::cast_precision_loss, reason = "for people; milliseconds of a run are far below 2^52")]
fn millis(whole: u64) -> f64 {
    whole as f64 / 1000.0
}

fn dry_run(
    session: &Session,
    cx: &Context,
    plan: &Plan,
    replay: bool,
    evidence: &Evidence,
) -> Result<u8, CliError> {
    let digest = canonical::digest(plan)?;
    let ask = Ask { digest, replay, own_run: None, evidence: Some(evidence) };
    let found = plan_cli::look(cx, plan, ask)?;
    let mut value = plan_cli::check_json(&found, exit::problems_code(&found.problems));
    value["planDigest"] = json!(digest);
    value["steps"] =
        plan.steps.iter().map(|step| json!({ "id": step.id, "summary": step.summary })).collect();
    if let Some(run) = found.applied_by.as_ref().filter(|_| !replay) {
        value["exitCode"] = json!(exit::DONE);
        let text = format!("already applied by run {run}: apply would change nothing\n");
        session.output.either(&value, &text)?;
        return Ok(exit::DONE);
    }
    let mut text = String::new();
    if found.is_clear() {
        let what = match &plan.observed.backup {
            Some(held) => format!("{} to unpack", human_bytes(held.unpacked_bytes)),
            None => "nothing to unpack".to_owned(),
        };
        text.push_str(&format!("would apply now ({what}):\n"));
        for step in &plan.steps {
            text.push_str(&format!("  {:<11} {}\n", step.id, step.summary));
        }
    }
    text.push_str(&plan_cli::check_text(&found));
    plan_cli::verdict(session, found, &value, &text)
}
