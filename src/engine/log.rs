//! The line of an apply in the operations log: one a run, whatever its end.

use serde_json::{Map, json};

use super::report::{Outcome, Report};
use crate::context::Context;
use crate::plan::model::Plan;
use crate::run::state::{RunState, StepState};
use crate::state::operations_log::{LogError, Operation, OperationResult, Status, contains};

/// Appends the line, unless an interrupted process of this run has done so.
pub fn write(
    cx: &Context,
    plan: &Plan,
    command: &str,
    state: &RunState,
    report: &Report,
    error: Option<&str>,
) -> Result<(), LogError> {
    let id = report.run.as_ref().map(ToString::to_string).unwrap_or_default();
    // A halted run has a line already when a person lets it be undone.
    let asked = report.outcome == Outcome::RolledBack && error.is_none();
    if report.outcome != Outcome::Halted && !asked && contains(&cx.root, &cx.config, &id)? {
        return Ok(());
    }
    let args = json!({
        "plan": plan.metadata.id,
        "plan_digest": report.plan_digest,
        "backup": report.backup,
        "destination": report.target,
        "clients": report.clients,
    });
    let mut args = args.as_object().cloned().unwrap_or_else(Map::new);
    if !report.budgets.is_empty() {
        let ids = report.budgets.iter().map(|budget| budget.id.as_str());
        args.insert("budgets".to_owned(), ids.collect());
    }
    if let Some(run) = &report.rolls_back {
        args.insert("rolls_back".to_owned(), json!(run));
    }
    if !report.approvers.is_empty() {
        args.insert("approvers".to_owned(), json!(report.approvers));
    }
    if let Some(policy) = state.started.as_ref().and_then(|started| started.policy.as_ref()) {
        let verdict = json!({
            "rules": policy.rules,
            "decision": policy.decision,
            "required_approvals": policy.required_approvals,
        });
        args.insert("policy".to_owned(), verdict);
    }
    let target = json!({ "kind": "backup", "id": report.backup, "instance": report.instance });
    let mut operation = Operation::begin(command, args, cx.actor.clone()).with_id(id).with_target(target);
    if let Some(began) = state.started_at {
        operation = operation.began_at(began);
    }
    if let Some(downtime) = report.downtime_ms {
        operation.context("downtime_ms", json!(downtime));
    }
    for step in &plan.steps {
        operation.plan_action(json!({ "action": step.kind(), "step": step.id }));
    }
    for step in &state.steps {
        let status = match step.state {
            StepState::Done => Status::Success,
            StepState::Undone => Status::Skipped,
            StepState::Started | StepState::Failed | StepState::Undoing | StepState::UndoFailed => {
                Status::Error
            }
        };
        let at = step.ended_at.unwrap_or(step.started_at);
        operation.step(
            step.id.as_str(),
            at,
            status,
            Some(step.detail.as_str()).filter(|detail| !detail.is_empty()),
        );
    }
    let applied = report.outcome == Outcome::Applied;
    let status = match (applied || asked, report.warnings.is_empty()) {
        (true, true) => Status::Success,
        (true, false) => Status::Warning,
        (false, _) => Status::Error,
    };
    let message = if let (Some(run), true) = (&report.rolls_back, applied) {
        format!("Rolled back run '{run}': the old tree is at {} again.", report.target)
    } else if let Some(run) = &report.rolls_back {
        format!("Rollback of run '{run}' {}.", report.outcome.name().replace('_', " "))
    } else if applied {
        format!("Restored backup '{}' to {}.", report.backup, report.target)
    } else {
        format!("Restore of backup '{}' {}.", report.backup, report.outcome.name().replace('_', " "))
    };
    let mut result = OperationResult::new(status, message);
    result.errors = error.map(str::to_owned).into_iter().collect();
    result.warnings.clone_from(&report.warnings);
    result.changed = u64::from(applied);
    result.backups = report.pre_backup.iter().map(ToString::to_string).collect();
    operation.finish(&cx.root, &cx.config, report.exit_code, &result)
}
