//! What a run tells while it runs: one JSON object a line with `--events`, a progress display otherwise.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ids::{RunId, StepId};
use crate::plan::model::Time;
use crate::plan::step::StepKind;

/// One event.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event {
    /// The run began, or goes on after an interruption.
    #[serde(rename_all = "camelCase")]
    RunStarted {
        /// When.
        at: Time,
        /// The run.
        run: RunId,
        /// How many steps it has.
        steps: u64,
        /// Whether it goes on after an interruption.
        resumed: bool,
    },
    /// A step begins.
    #[serde(rename_all = "camelCase")]
    StepStarted {
        /// When.
        at: Time,
        /// The step.
        step: StepId,
        /// Its kind.
        kind: StepKind,
        /// What it does, as the plan says.
        summary: String,
    },
    /// A step has read or written so many bytes.
    #[serde(rename_all = "camelCase")]
    StepProgress {
        /// The step.
        step: StepId,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, where known.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    /// A lock is waited for.
    #[serde(rename_all = "camelCase")]
    Waiting {
        /// For what and whom.
        message: String,
    },
    /// A step is done.
    #[serde(rename_all = "camelCase")]
    StepDone {
        /// When.
        at: Time,
        /// The step.
        step: StepId,
        /// What it did.
        detail: String,
        /// What a person should know.
        warnings: Vec<String>,
    },
    /// A step failed.
    #[serde(rename_all = "camelCase")]
    StepFailed {
        /// When.
        at: Time,
        /// The step.
        step: StepId,
        /// Stable code of the error.
        code: String,
        /// What happened.
        message: String,
    },
    /// A step is undone.
    #[serde(rename_all = "camelCase")]
    StepUndone {
        /// When.
        at: Time,
        /// The step.
        step: StepId,
    },
    /// The run is over.
    #[serde(rename_all = "camelCase")]
    RunEnded {
        /// When.
        at: Time,
        /// The run.
        run: RunId,
        /// `applied`, `rolled_back` or `halted`.
        outcome: String,
    },
}

/// Takes events; called from several threads.
pub type Sink<'a> = dyn Fn(&Event) + Sync + 'a;

/// The time of an event.
pub fn now() -> Time {
    Time::from(Timestamp::now())
}
