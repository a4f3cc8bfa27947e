//! What an apply gives back: the object that `apply --json` prints.

use schemars::JsonSchema;
use serde::Serialize;

use crate::ids::{AbsPath, BackupId, InstanceName, PlanDigest, PlanId, RunId, StepId};
use crate::plan::model::Plan;
use crate::plan::spec::ClientPolicy;
use crate::plan::step::StepKind;
use crate::run::state::{RunState, StepState};

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
    /// `done`, `failed`, `undone` or `not_begun`.
    pub outcome: String,
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
    /// The directory that was replaced.
    pub target: AbsPath,
    /// Whether it is the one that the instance's server runs from.
    pub live: bool,
    /// The backup of what was there before.
    pub pre_backup: Option<BackupId>,
    /// Whose approvals were proven when it began.
    pub approvers: Vec<String>,
    /// What happens to clients with newer changes.
    pub clients: ClientPolicy,
    /// Where the replaced tree is kept.
    pub displaced: Option<AbsPath>,
    /// In all, in milliseconds.
    pub duration_ms: u64,
    /// Time without a server, in milliseconds; absent where none was stopped.
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
    let millis = |from: jiff::Timestamp, to: Option<jiff::Timestamp>| {
        to.map_or(0, |to| u64::try_from(to.duration_since(from).as_millis()).unwrap_or_default())
    };
    let steps = plan.steps.iter().map(|step| {
        let record = state.step(&step.id);
        let name = match record.map(|record| record.state) {
            None => "not_begun",
            Some(StepState::Done) => "done",
            Some(StepState::Undone) => "undone",
            Some(StepState::Started | StepState::Failed | StepState::Undoing | StepState::UndoFailed) => {
                "failed"
            }
        };
        StepReport {
            id: step.id.clone(),
            kind: step.kind(),
            outcome: name.to_owned(),
            duration_ms: record.map_or(0, |record| millis(record.started_at, record.ended_at)),
            detail: record.map(|record| record.detail.clone()).unwrap_or_default(),
        }
    });
    let done = |kind: StepKind| {
        state.steps.iter().any(|record| record.kind == kind && record.state == StepState::Done)
    };
    // A pre-backup that was made is kept when the rest is undone.
    let made = state.steps.iter().any(|record| {
        record.kind == StepKind::PreBackup
            && matches!(record.state, StepState::Done | StepState::Undone)
            && !record.detail.is_empty()
    });
    Report {
        outcome,
        run: run.cloned(),
        plan: plan.metadata.id.clone(),
        plan_digest: digest,
        instance: plan.spec.instance.clone(),
        backup: plan.spec.source.backup_id.clone(),
        target: plan.spec.target.directory.clone(),
        live: plan.spec.target.live,
        pre_backup: state.pre_backup().filter(|_| made).cloned(),
        approvers: state.started.as_ref().map(|started| started.approvers.clone()).unwrap_or_default(),
        clients: plan.spec.clients,
        displaced: state.displaced().filter(|_| done(StepKind::Swap)).cloned(),
        duration_ms: state
            .started_at
            .map_or(0, |at| millis(at, Some(state.ended_at.unwrap_or_else(jiff::Timestamp::now)))),
        downtime_ms: None,
        steps: steps.collect(),
        warnings: state.steps.iter().flat_map(|record| record.warnings.clone()).collect(),
        exit_code: 0,
    }
}
