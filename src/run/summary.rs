//! What a run's state comes to: the facts that its result, its receipt and its view tell alike. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::state::{RunState, StepRecord, StepState};
use crate::ids::{AbsPath, BackupId};
use crate::plan::step::StepKind;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It is done.
    Done,
    /// It failed, or was cut off.
    Failed,
    /// It is undone.
    Undone,
    /// It never began.
    NotBegun,
}

/// What became of a step; `None`: the run has no record of it.
pub fn outcome(record: Option<&StepRecord>) -> StepOutcome {
    match record.map(|record| record.state) {
        None => StepOutcome::NotBegun,
        Some(StepState::Done) => StepOutcome::Done,
        Some(StepState::Undone) => StepOutcome::Undone,
        Some(StepState::Started | StepState::Failed | StepState::Undoing | StepState::UndoFailed) => {
            StepOutcome::Failed
        }
    }
}

/// How long a step took, in milliseconds.
pub fn duration_ms(record: Option<&StepRecord>) -> u64 {
    record.map_or(0, |record| record.ended_at.map_or(0, |end| millis(record.started_at, end)))
}

/// Milliseconds from one time to another; 0 where the clock was set back in between.
pub fn millis(from: jiff::Timestamp, to: jiff::Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or_default()
}

/// The backup of the state before. One that was made is kept when the rest is undone; one that failed is none.
pub fn pre_backup(state: &RunState) -> Option<&BackupId> {
    let made = state.steps.iter().any(|record| record.kind == StepKind::PreBackup && record.was_done);
    state.pre_backup().filter(|_| made)
}

/// Whether the unpacked tree has the target's place.
pub fn swapped(state: &RunState) -> bool {
    state.steps.iter().any(|record| record.kind == StepKind::Swap && record.state == StepState::Done)
}

/// Where the replaced tree is kept.
pub fn displaced(state: &RunState) -> Option<&AbsPath> {
    state.displaced().filter(|_| swapped(state))
}

/// What a person should know, as the steps said it.
pub fn warnings(state: &RunState) -> Vec<String> {
    state.steps.iter().flat_map(|record| record.warnings.clone()).collect()
}
