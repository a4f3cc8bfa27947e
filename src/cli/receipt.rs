//! Receipts: `--receipt FILE` of `apply` and `backup restore`, `run show RUN --receipt`, and
//! `plan verify PLAN --receipt FILE`. Replaces one file in one step: a crash leaves the old or the new one.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::PlanVerifyArgs;
use super::error::CliError;
use super::session::Session;
use super::{exit, plan as plan_cli, verify};
use crate::context::Context;
use crate::engine::report::Report;
use crate::host::fs::{self, IoContext as _, read_limited};
use crate::ids::{AbsPath, RunId};
use crate::plan::approval::claims;
use crate::plan::model::Plan;
use crate::plan::render::visible;
use crate::run::receipt::check::{self, RunFound};
use crate::run::receipt::model::MAX_BYTES;
use crate::run::receipt::{self, Receipt};
use crate::run::state::Outcome;

/// Where a receipt will be written: it was tried before anything began.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Proves that a receipt can be written there: over nothing but an older receipt, and not into the
    /// directory that is about to be replaced.
    pub fn prepare(path: Option<&Path>, cx: &Context, target: &AbsPath) -> Result<Option<Self>, CliError> {
        let Some(path) = path else { return Ok(None) };
        let refused = |what: String, help: &str| Err(CliError::Usage { what, help: help.to_owned() });
        if path == Path::new("-") {
            return refused(
                "a receipt is not written to standard output, which has the result".to_owned(),
                "name a file, or print it afterwards: abssctl run show RUN --receipt",
            );
        }
        let (parent, name) = plan_cli::parts(path)?;
        let real = std::fs::canonicalize(parent).context("open directory", parent)?;
        let target = cx.root.host_path(target);
        if real.starts_with(std::fs::canonicalize(&target).unwrap_or(target)) {
            return refused(
                format!("{} lies in the directory that is replaced", path.display()),
                "choose a place outside of it, beside the plan",
            );
        }
        if !may_be_replaced(path) {
            return refused(format!("{} exists and is no receipt", path.display()), "choose another name");
        }
        let dir = plan_cli::open(parent)?;
        fs::try_create(&dir, name).context("write the receipt", path)?;
        Ok(Some(Self(path.to_owned())))
    }

    /// Writes the receipt of a run that is over. What keeps it from being written is a warning: the restore
    /// is what it is, and the receipt can be had later.
    pub fn write(&self, session: &Session, cx: &Context, report: &mut Report) {
        let Some(run) = report.run.clone() else { return self.not_written(session) };
        match self.try_write(cx, &run) {
            Ok(()) => {
                session.output.note(&format!("receipt of run {run} written to {}", self.0.display()));
            }
            Err(error) => {
                let warning = format!(
                    "the receipt was not written to {}: {error}; print it: abssctl run show {run} --receipt",
                    self.0.display()
                );
                session.output.note(&format!("! {warning}"));
                report.warnings.push(warning);
            }
        }
    }

    fn try_write(&self, cx: &Context, run: &RunId) -> Result<(), CliError> {
        let text = receipt::build(cx, run)?.text().map_err(io::Error::other)?;
        plan_cli::put(&self.0, text.as_bytes())
    }

    /// Says that there is none.
    pub fn not_written(&self, session: &Session) {
        session
            .output
            .note(&format!("no receipt was written to {}: the plan was not applied", self.0.display()));
    }
}

/// Whether nothing is there, an empty file, or an older receipt.
fn may_be_replaced(path: &Path) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return true };
    let is_receipt = || {
        let bytes = std::fs::read(path).unwrap_or_default();
        serde_json::from_slice::<Value>(&bytes).is_ok_and(|value| value["kind"] == "Receipt")
    };
    meta.is_file() && meta.len() <= MAX_BYTES && (meta.len() == 0 || is_receipt())
}

/// `abssctl run show RUN --receipt`
pub fn show(session: &Session, cx: &Context, run: &RunId) -> Result<u8, CliError> {
    let text = receipt::build(cx, run)?.text().map_err(io::Error::other)?;
    session.output.result(text.as_bytes())?;
    Ok(exit::DONE)
}

/// What was proven of a receipt, and what could not be looked at; a line each.
#[derive(Default)]
struct Verdict {
    checked: Vec<String>,
    not_checked: Vec<String>,
}

/// `abssctl plan verify PLAN --receipt FILE`
pub fn verify(session: &Session, args: &PlanVerifyArgs, path: &Path) -> Result<u8, CliError> {
    let (plan, _) = plan_cli::load_plan(session, &args.file)?;
    let cx = session.context()?;
    let file = std::fs::File::open(path).context("open", path)?;
    let bytes = read_limited(file, MAX_BYTES).context("read", path)?;
    let name = path.display().to_string();
    let receipt = check::read(&name, &bytes)?;
    check::against_plan(&name, &receipt, &plan)?;
    let found = check::against_run(&cx, &name, &receipt)?;
    let mut verdict = Verdict::default();
    verdict.checked.push(format!("{name} is whole, digest {}", receipt.digest));
    verdict.checked.push(format!("it belongs to plan {}, {}", receipt.plan.id, receipt.plan.digest));
    verdict.run(&receipt, found.as_ref());
    verdict.approvals(&name, &receipt, &plan, args, found.as_ref())?;
    session.output.either(&json(&name, &receipt, &verdict), &text(&receipt, &verdict))?;
    Ok(exit::DONE)
}

impl Verdict {
    fn run(&mut self, receipt: &Receipt, found: Option<&RunFound>) {
        let run = &receipt.run;
        let Some(found) = found else {
            self.not_checked.push(format!("journal of run {run} is not on this machine"));
            return;
        };
        let (records, head) = (receipt.journal.records, receipt.journal.head);
        self.checked.push(format!("journal of run {run}: {records} records, unbroken, up to {head}"));
        if let Some(now) = &found.went_on {
            let now = now.map_or("not over yet", outcome);
            self.checked.push(format!("the run went on after this receipt; it is {now}"));
        }
        if !found.signatures.is_empty() {
            let count = found.signatures.len();
            self.checked.push(format!("signatures kept with the run: {count}, as they came with the plan"));
        }
    }

    fn approvals(
        &mut self,
        name: &str,
        receipt: &Receipt,
        plan: &Plan,
        args: &PlanVerifyArgs,
        found: Option<&RunFound>,
    ) -> Result<(), CliError> {
        let evidence = verify::evidence(&args.file, 0)?;
        let claims = claims(plan, &evidence.plan_name, evidence.detached);
        let kept = found.map(|found| found.signatures.as_slice()).unwrap_or_default();
        for approval in &receipt.approvals {
            let who = visible(&approval.principal);
            if check::prove(name, approval, plan, &claims, kept)? {
                let key = approval.key_fingerprint.as_deref().unwrap_or_default();
                self.checked.push(format!("approved by {who}: a signature over this plan, {}", visible(key)));
            } else {
                self.not_checked
                    .push(format!("the signature of {who} is neither with this plan nor with the run"));
            }
        }
        Ok(())
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::RolledBack => "rolled back",
        Outcome::Halted => "halted",
    }
}

fn json(name: &str, receipt: &Receipt, verdict: &Verdict) -> Value {
    json!({
        "receipt": name, "valid": true, "plan": receipt.plan.id, "planDigest": receipt.plan.digest,
        "run": receipt.run, "outcome": receipt.outcome, "digest": receipt.digest,
        "checked": verdict.checked, "notChecked": verdict.not_checked, "exitCode": exit::DONE,
    })
}

fn text(receipt: &Receipt, verdict: &Verdict) -> String {
    let mut lines: Vec<String> = verdict.checked.iter().map(|line| format!("✓ {}", visible(line))).collect();
    lines.extend(verdict.not_checked.iter().map(|line| format!("? not checked: {}", visible(line))));
    let what = match &receipt.rolls_back {
        None => format!("backup {}", receipt.backup.id),
        Some(run) => format!("the old tree of run {run}"),
    };
    lines.push(format!(
        "{} by {} at {}: {what} to {}",
        outcome(receipt.outcome),
        visible(&receipt.actor.name),
        receipt.ended_at,
        receipt.target
    ));
    lines.join("\n") + "\n"
}
