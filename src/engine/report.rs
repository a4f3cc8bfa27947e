//! What an apply gives back: the object that `apply --json` prints.

use schemars::JsonSchema;
use serde::Serialize;

use crate::ids::{AbsPath, BackupId, InstanceName, PlanDigest, PlanId, RunId, StepId};
use crate::plan::clients::Clients;
use crate::plan::model::Plan;
use crate::plan::spec::SingleBudget;
use crate::plan::step::StepKind;
use crate::run::state::RunState;
use crate::run::summary::{self, StepOutcome};

/// How an apply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The target is the backup now.
    Applied,
    /// It was so before; nothing was changed.
    AlreadyApplied,
    /// Something failed and everything is as it was.
    RolledBack,
    /// A person must look.
    Halted,
}

impl Outcome {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::AlreadyApplied => "already_applied",
            Outcome::RolledBack => "rolled_back",
            Outcome::Halted => "halted",
        }
    }
}

/// One step's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// The step.
    pub id: StepId,
    /// Its kind.
    pub kind: StepKind,
    /// What became of it.
    pub outcome: StepOutcome,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What it did, or why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The run; absent where nothing was begun.
    pub run: Option<RunId>,
    /// The plan.
    pub plan: PlanId,
    /// Its digest.
    pub plan_digest: PlanDigest,
    /// The instance.
    pub instance: InstanceName,
    /// The backup.
    pub backup: BackupId,
    /// The run that a rollback undoes; absent in a restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<RunId>,
    /// The directory that was replaced.
    pub target: AbsPath,
    /// Whether it is the one that the instance's server runs from.
    pub live: bool,
    /// The backup of what was there before.
    pub pre_backup: Option<BackupId>,
    /// Whose approvals were proven when it began.
    pub approvers: Vec<String>,
    /// The only budgets that the plan restores; empty where it restores the whole backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<SingleBudget>,
    /// What happens to clients with newer changes.
    pub clients: Clients,
    /// Where the replaced tree is kept.
    pub displaced: Option<AbsPath>,
    /// In all, in milliseconds.
    pub duration_ms: u64,
    /// Time without a server, in milliseconds, from its last answer to its first one; null where none was
    /// stopped, or it did not answer before or since.
    pub downtime_ms: Option<u64>,
    /// Each step.
    pub steps: Vec<StepReport>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The program's exit code.
    pub exit_code: u8,
}

/// Builds a report from what the journal says.
pub fn report(
    plan: &Plan,
    digest: PlanDigest,
    run: Option<&RunId>,
    state: &RunState,
    outcome: Outcome,
) -> Report {
    let steps = plan.steps.iter().map(|step| {
        let record = state.step(&step.id);
        StepReport {
            id: step.id.clone(),
            kind: step.kind(),
            outcome: summary::outcome(record),
            duration_ms: summary::duration_ms(record),
            detail: record.map(|record| record.detail.clone()).unwrap_or_default(),
        }
    });
    Report {
        outcome,
        run: run.cloned(),
        plan: plan.metadata.id.clone(),
        plan_digest: digest,
        instance: plan.spec.instance.clone(),
        backup: plan.spec.source.backup_id().clone(),
        rolls_back: plan.spec.source.run().map(|run| run.run.clone()),
        target: plan.spec.target.directory.clone(),
        live: plan.spec.target.live,
        pre_backup: summary::pre_backup(state).cloned(),
        approvers: state.started.as_ref().map(|started| started.approvers.clone()).unwrap_or_default(),
        budgets: plan.spec.budgets.clone(),
        clients: plan.spec.clients.clone(),
        displaced: summary::displaced(state).cloned(),
        duration_ms: state
            .started_at
            .map_or(0, |at| summary::millis(at, state.ended_at.unwrap_or_else(jiff::Timestamp::now))),
        downtime_ms: summary::downtime_ms(state),
        steps: steps.collect(),
        warnings: summary::warnings(state),
        exit_code: 0,
    }
}
