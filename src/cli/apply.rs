//! `abssctl apply`

use serde_json::json;

use super::args::ApplyArgs;
use super::error::CliError;
use super::progress::{Mode, Progress};
use super::session::Session;
use super::{exit, plan as plan_cli, prompt, verify};
use crate::context::Context;
use crate::engine::apply::{Options, apply as engine_apply};
use crate::engine::report::{Outcome, Report};
use crate::plan::canonical;
use crate::plan::model::Plan;
use crate::plan::render::visible;
use crate::run::list;
use crate::survey::approvals::Evidence;
use crate::survey::preflight::{self, Ask};

/// `abssctl apply`
pub fn apply(session: &Session, args: &ApplyArgs) -> Result<u8, CliError> {
    let (plan, bytes) = plan_cli::load_plan(session, &args.file)?;
    let cx = session.context()?;
    let evidence = verify::evidence(&args.file, args.require_approvals)?;
    if args.dry_run {
        return dry_run(session, &cx, &plan, args.replay, &evidence);
    }
    let digest = canonical::digest(&plan)?;
    let resumes = list::unfinished(&cx, &plan.spec.instance)?.is_some();
    let done_before = !args.replay && list::applied(&cx, digest)?.is_some();
    if !resumes && !done_before {
        // Whatever stands in the way is said before anybody is asked.
        let ask = Ask { digest, replay: args.replay, own_run: None, evidence: Some(&evidence) };
        let found = preflight::preflight(&cx, &plan, ask)?;
        if found.is_clear() {
            found.warnings.iter().for_each(|warning| session.output.note(&format!("! {warning}")));
            let Plan { spec, .. } = &plan;
            let question =
                format!("Replace {} with backup {}?", spec.target.directory, spec.source.backup_id);
            prompt::confirm(session, &question)?;
        }
    }
    let mode = if args.events { Mode::Events } else { Mode::Lines };
    run(
        session,
        &cx,
        &plan,
        &bytes,
        &Job { replay: args.replay, evidence: &evidence, command: "plan apply", mode },
    )
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
}

/// Applies a plan and prints the result.
pub fn run(
    session: &Session,
    cx: &Context,
    plan: &Plan,
    bytes: &[u8],
    job: &Job<'_>,
) -> Result<u8, CliError> {
    let options = Options {
        replay: job.replay,
        evidence: job.evidence,
        lock_timeout: session.lock_timeout(cx),
        command: job.command,
        exit_code: &|error| exit::step(error, session.interrupted()),
        hook: None,
    };
    let progress = Progress::new(&session.output, job.mode);
    let report = engine_apply(cx, plan, bytes, &options, &|event| progress.event(event))?;
    if job.mode == Mode::Events {
        let line = serde_json::to_string(&json!({ "event": "result", "result": report }))
            .map_err(std::io::Error::other)?;
        session.output.result(format!("{line}\n").as_bytes())?;
    } else {
        session.output.either(&json!(report), &result_text(&report))?;
    }
    Ok(exit::DONE)
}

fn result_text(report: &Report) -> String {
    let mut lines = Vec::new();
    if report.outcome == Outcome::AlreadyApplied {
        let run = report.run.as_ref().map_or_else(String::new, |run| format!(" by run {run}"));
        lines.push(format!("already applied{run}: nothing was changed"));
    } else {
        lines.push(format!(
            "restored {} to {} in {:.1} s",
            report.backup,
            report.target,
            millis(report.duration_ms)
        ));
        if !report.approvers.is_empty() {
            let names: Vec<String> = report.approvers.iter().map(|name| visible(name)).collect();
            lines.push(format!("  approved by {}", names.join(", ")));
        }
        if let Some(id) = &report.pre_backup {
            lines.push(format!("  the state before: backup {id}"));
        }
        if let Some(path) = &report.displaced {
            lines.push(format!("  and, until it is pruned: {path}"));
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
    let found = preflight::preflight(cx, plan, ask)?;
    if !found.is_clear() {
        return Err(CliError::WouldNotApply(found.problems));
    }
    let steps: Vec<_> =
        plan.steps.iter().map(|step| json!({ "id": step.id, "summary": step.summary })).collect();
    let mut text = format!(
        "would apply now ({} to unpack):\n",
        crate::plan::render::human_bytes(plan.observed.backup.unpacked_bytes)
    );
    for step in &plan.steps {
        text.push_str("  ");
        text.push_str(&format!("{:<11} {}\n", step.id, crate::plan::render::visible(&step.summary)));
    }
    for warning in &found.warnings {
        text.push_str(&format!("! {warning}\n"));
    }
    let value =
        json!({ "applyable": true, "steps": steps, "warnings": found.warnings, "planDigest": digest });
    session.output.either(&value, &text)?;
    Ok(exit::DONE)
}
