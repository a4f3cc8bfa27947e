//! Makes the receipt of a run from its directory alone (the journal and the kept plan), so that it is the
//! same whenever it is made. Reads only.

use super::error::ReceiptError;
use super::model::{
    ApprovalPart, BackupPart, JournalPart, PlanPart, Receipt, ReceiptKind, StepPart, TreePart, seconds,
};
use crate::context::Context;
use crate::host::fs::FsError;
use crate::ids::{AbsPath, InvalidId, RunId, Sha256};
use crate::plan::model::{ApiVersion, Plan};
use crate::plan::{canonical, load};
use crate::run::fact::Side;
use crate::run::journal::{self, History, PLAN};
use crate::run::state::{RunEnded, RunStarted, RunState};
use crate::run::summary;

/// The receipt of a run that has ended or halted.
///
/// # Errors
/// The run has not ended, or its directory is damaged.
pub fn build(cx: &Context, run: &RunId) -> Result<Receipt, ReceiptError> {
    from(cx, run, journal::history(&cx.root, &cx.config, run, None)?)
}

/// The receipt of a run as its first `records` records tell it.
pub(super) fn build_at(cx: &Context, run: &RunId, records: u64) -> Result<Receipt, ReceiptError> {
    from(cx, run, journal::history(&cx.root, &cx.config, run, Some(records))?)
}

fn from(cx: &Context, run: &RunId, history: History) -> Result<Receipt, ReceiptError> {
    if let Some(damage) = history.damage {
        return Err(damage.into());
    }
    let state = &history.state;
    let (Some(started), Some(started_at), Some(ended), Some(ended_at)) =
        (&state.started, state.started_at, &state.ended, state.ended_at)
    else {
        return Err(ReceiptError::NotEnded { run: run.clone() });
    };
    let plan = kept_plan(cx, run, started)?;
    let spec = &plan.spec;
    let mut receipt = Receipt {
        api_version: ApiVersion::V1,
        kind: ReceiptKind::Receipt,
        run: run.clone(),
        plan: plan_part(&plan, started),
        instance: spec.instance.clone(),
        backup: BackupPart {
            id: spec.source.backup_id().clone(),
            sha256: spec.source.backup().map(|backup| backup.sha256),
        },
        rolls_back: spec.source.run().map(|run| run.run.clone()),
        target: spec.target.directory.clone(),
        live: spec.target.live,
        actor: started.actor.clone(),
        approvals: approvals(started),
        policy: started.policy.as_deref().cloned(),
        journal: JournalPart { records: history.records, head: history.head },
        tree: tree(state),
        pre_backup: summary::pre_backup(state).cloned(),
        displaced: summary::displaced(state).cloned(),
        budgets: spec.budgets.clone(),
        clients: spec.clients.clone(),
        sessions: spec.sessions,
        steps: steps(&plan, state),
        started_at: seconds(started_at),
        ended_at: seconds(ended_at),
        downtime_ms: summary::downtime_ms(state),
        outcome: ended.outcome,
        warnings: warnings(state, ended),
        exit_code: ended.exit_code,
        digest: Sha256::of(b""),
        checksum: Sha256::of(b""),
    };
    let no_text = |error: serde_json::Error| kept(run, &error);
    receipt.seal().map_err(no_text)?;
    Ok(receipt)
}

fn kept(run: &RunId, why: &dyn std::fmt::Display) -> ReceiptError {
    ReceiptError::KeptPlan { run: run.clone(), why: why.to_string() }
}

/// A file of a run's directory.
pub(super) fn file(cx: &Context, run: &RunId, name: &str) -> Result<AbsPath, ReceiptError> {
    let directory = journal::run_directory(&cx.config, run)?;
    let unnamed = |error: InvalidId| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, error.to_string());
        FsError { action: "name a file in", path: directory.as_path().into(), source }
    };
    Ok(directory.join(name).map_err(unnamed)?)
}

/// The plan that is kept with a run: the one whose digest the journal has.
pub(super) fn kept_plan(cx: &Context, run: &RunId, started: &RunStarted) -> Result<Plan, ReceiptError> {
    let path = file(cx, run, PLAN)?;
    let bytes = cx.root.read(&path, load::MAX_BYTES as u64)?.ok_or_else(|| kept(run, &"it is gone"))?;
    let plan = load::load(PLAN, &bytes).map_err(|error| kept(run, &error))?;
    let digest = canonical::digest(&plan).map_err(|error| kept(run, &error))?;
    if digest == started.plan_digest {
        Ok(plan)
    } else {
        Err(kept(run, &format!("it has {digest}, the journal {}", started.plan_digest)))
    }
}

fn plan_part(plan: &Plan, started: &RunStarted) -> PlanPart {
    PlanPart {
        id: plan.metadata.id.clone(),
        digest: started.plan_digest,
        created_at: plan.metadata.created_at,
        created_by: plan.metadata.created_by.clone(),
        reason: plan.metadata.reason.clone(),
    }
}

fn approvals(started: &RunStarted) -> Vec<ApprovalPart> {
    let counting = started.signatures.iter().filter(|signature| signature.counts);
    counting
        .map(|signature| ApprovalPart {
            principal: signature.principal.clone(),
            key_fingerprint: signature.key_fingerprint.clone(),
            signed_at: signature.signed_at,
            signature: signature.sha256,
        })
        .collect()
}

/// Of a run that was undone, the tree that it unpacked is not the one that is there after it.
fn tree(state: &RunState) -> TreePart {
    TreePart {
        before: state.tree(Side::Before),
        after: state.tree(Side::After).filter(|_| summary::swapped(state)),
    }
}

fn steps(plan: &Plan, state: &RunState) -> Vec<StepPart> {
    let part = |step: &crate::plan::step::Step| {
        let record = state.step(&step.id);
        StepPart {
            id: step.id.clone(),
            kind: step.kind(),
            outcome: summary::outcome(record),
            started_at: record.map(|record| seconds(record.started_at)),
            duration_ms: summary::duration_ms(record),
        }
    };
    plan.steps.iter().map(part).collect()
}

fn warnings(state: &RunState, ended: &RunEnded) -> Vec<String> {
    let mut warnings = summary::warnings(state);
    warnings.extend(ended.warnings.iter().cloned());
    warnings
}
