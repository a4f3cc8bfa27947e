//! The state of a run as a total function of its events: one table for a step, one for the run. The
//! engine and the replay of a journal both go through [`RunState::apply`]. Pure.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fact::{Fact, Side};
use crate::duration::DurationText;
use crate::host::machine::Actor;
use crate::ids::{AbsPath, BackupId, InstanceName, PlanDigest, PlanId, RunId, Sha256, StepId};
use crate::plan::model::Time;
use crate::plan::policy::Verdict;
use crate::plan::step::StepKind;

/// What a journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Event {
    /// The run begins; nothing was changed yet.
    RunStarted(RunStarted),
    /// Another process goes on with it.
    RunResumed(Direction),
    /// A step is about to begin.
    StepStarted(StepStarted),
    /// A step is about to act on this.
    StepFact(StepFact),
    /// A step is done, durably.
    StepDone(StepDone),
    /// A step failed.
    StepFailed(StepFailed),
    /// A step is about to be undone.
    UndoStarted(StepName),
    /// A step is undone, durably.
    UndoDone(StepName),
    /// A step could not be undone.
    UndoFailed(StepFailed),
    /// The run is over, or halted until a person looks.
    RunEnded(RunEnded),
}

/// The beginning of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunStarted {
    /// The plan's id.
    pub plan: PlanId,
    /// The plan's digest.
    pub plan_digest: PlanDigest,
    /// The instance.
    pub instance: InstanceName,
    /// The backup.
    pub backup: BackupId,
    /// The target directory.
    pub target: AbsPath,
    /// The run that it rolls back; absent in a run of a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<RunId>,
    /// Who applies it.
    pub actor: Actor,
    /// How long the displaced directory is kept after the end of the run.
    pub retain: DurationText,
    /// How many approvals were needed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub approvals_required: u32,
    /// Whose approvals were proven.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// The signatures that came with the plan: those kept beside its bytes, and those in it that count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
    /// What the policy said of the plan; absent in journals of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<Verdict>>,
    /// Program and version.
    pub generator: String,
}

/// A signature that came with the plan of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signature {
    /// Who it is said to be of; proven where it counts.
    pub principal: String,
    /// Fingerprint of the key that it is of; absent where nobody judged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
    /// When the signer said to have given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Time>,
    /// SHA-256 of its armor.
    pub sha256: Sha256,
    /// Its file in the run's directory; absent for one in the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether it counted when the run began.
    pub counts: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Where a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Towards the plan's end.
    Forward,
    /// Undoing what was done.
    Back,
}

/// A step begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepStarted {
    /// The step.
    pub step: StepId,
    /// Its kind.
    pub kind: StepKind,
}

/// A fact of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepFact {
    /// The step.
    pub step: StepId,
    /// What it is about to act on.
    pub fact: Fact,
}

/// A step is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepDone {
    /// The step.
    pub step: StepId,
    /// What it did, for people.
    pub detail: String,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A step or its undoing failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepFailed {
    /// The step.
    pub step: StepId,
    /// Stable code of the error.
    pub code: String,
    /// What happened.
    pub message: String,
}

/// The name of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepName {
    /// The step.
    pub step: StepId,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunEnded {
    /// How it ended.
    pub outcome: Outcome,
    /// The program's exit code.
    #[serde(default)]
    pub exit_code: u8,
    /// What a person should know, besides what the steps said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All steps are done.
    Applied,
    /// Everything that was done is undone.
    RolledBack,
    /// A person must look; nothing was deleted.
    Halted,
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// Begun; the disk says how far it came.
    Started,
    /// Done.
    Done,
    /// Failed; the disk says how far it came.
    Failed,
    /// Its undoing has begun.
    Undoing,
    /// Undone.
    Undone,
    /// Its undoing failed.
    UndoFailed,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// No record yet.
    #[default]
    Fresh,
    /// Towards the plan's end.
    Forward,
    /// Undoing.
    Back,
    /// Waiting for a person; the direction it had.
    Halted(Direction),
    /// Over.
    Ended(Outcome),
}

/// An event that cannot follow what was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot follow {state}")]
pub struct IllegalEvent {
    /// Where the run or step was.
    pub state: String,
    /// What was to happen.
    pub event: &'static str,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    /// The step.
    pub id: StepId,
    /// Its kind.
    pub kind: StepKind,
    /// Where it is.
    pub state: StepState,
    /// Whether it was ever done, also when it is undone now.
    pub was_done: bool,
    /// Facts, in the order noted.
    pub facts: Vec<Fact>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was done or failed.
    pub ended_at: Option<Timestamp>,
    /// When it was undone.
    pub undone_at: Option<Timestamp>,
    /// What it did, or why it failed.
    pub detail: String,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// A run, as its events tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunState {
    /// Where it is.
    pub phase: Phase,
    /// Its beginning.
    pub started: Option<RunStarted>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended or halted.
    pub ended_at: Option<Timestamp>,
    /// How it ended or halted.
    pub ended: Option<RunEnded>,
    /// Steps that have begun, in the order in which they did.
    pub steps: Vec<StepRecord>,
}

/// The part of an event that moves a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Start,
    Fact,
    Done,
    Fail,
    Undo,
    Undone,
    UndoFail,
}

/// The table of a step. `None`: it has not begun.
fn next_step(state: Option<StepState>, event: Move) -> Option<StepState> {
    use Move as M;
    use StepState as S;
    match (state, event) {
        // A step that was cut off or that failed in a halted run is begun again; each run is safe twice.
        (None | Some(S::Started | S::Failed), M::Start) | (Some(S::Started), M::Fact) => Some(S::Started),
        (Some(S::Started), M::Done) => Some(S::Done),
        (Some(S::Started), M::Fail) => Some(S::Failed),
        // An undoing that was cut off or that failed is begun again.
        (Some(S::Started | S::Done | S::Failed | S::Undoing | S::UndoFailed), M::Undo) => Some(S::Undoing),
        (Some(S::Undoing), M::Undone) => Some(S::Undone),
        (Some(S::Undoing), M::UndoFail) => Some(S::UndoFailed),
        (
            None | Some(S::Done | S::Failed | S::Undoing | S::Undone | S::UndoFailed),
            M::Fact | M::Done | M::Fail,
        )
        | (Some(S::Done | S::Undoing | S::Undone | S::UndoFailed), M::Start)
        | (None | Some(S::Undone), M::Undo)
        | (
            None | Some(S::Started | S::Done | S::Failed | S::Undone | S::UndoFailed),
            M::Undone | M::UndoFail,
        ) => None,
    }
}

/// The table of a run for events of its own. Step events need `Forward`, undo events move to `Back`.
fn next_phase(phase: Phase, event: &Event) -> Option<Phase> {
    use Phase as P;
    match (phase, event) {
        (P::Fresh, Event::RunStarted(_)) => Some(P::Forward),
        (P::Forward | P::Back | P::Halted(_), Event::RunResumed(Direction::Back)) => Some(P::Back),
        (P::Forward | P::Halted(Direction::Forward), Event::RunResumed(Direction::Forward)) => {
            Some(P::Forward)
        }
        (
            P::Forward,
            Event::StepStarted(_) | Event::StepFact(_) | Event::StepDone(_) | Event::StepFailed(_),
        ) => Some(P::Forward),
        (P::Forward | P::Back, Event::UndoStarted(_)) => Some(P::Back),
        (P::Back, Event::UndoDone(_) | Event::UndoFailed(_)) => Some(P::Back),
        (P::Forward, Event::RunEnded(RunEnded { outcome: Outcome::Halted, .. })) => {
            Some(P::Halted(Direction::Forward))
        }
        (P::Back, Event::RunEnded(RunEnded { outcome: Outcome::Halted, .. })) => {
            Some(P::Halted(Direction::Back))
        }
        (P::Forward, Event::RunEnded(RunEnded { outcome: Outcome::Applied, .. })) => {
            Some(P::Ended(Outcome::Applied))
        }
        // A run whose first step failed has nothing to undo.
        (P::Forward | P::Back, Event::RunEnded(RunEnded { outcome: Outcome::RolledBack, .. })) => {
            Some(P::Ended(Outcome::RolledBack))
        }
        (P::Fresh | P::Forward | P::Back | P::Halted(_) | P::Ended(_), _) => None,
    }
}

impl RunState {
    /// Adds an event, or refuses it and changes nothing.
    pub fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), IllegalEvent> {
        let illegal = |state: String| IllegalEvent { state, event: event.name() };
        let phase = next_phase(self.phase, event).ok_or_else(|| illegal(format!("{:?}", self.phase)))?;
        if let Some((step, moved)) = event.moves() {
            let index = self.steps.iter().position(|record| record.id == *step);
            let before = index.map(|index| self.steps[index].state);
            let state = next_step(before, moved).ok_or_else(|| illegal(format!("{step}: {before:?}")))?;
            self.note(index, state, event, at);
        }
        if let Event::RunStarted(started) = event {
            self.started = Some(started.clone());
            self.started_at = Some(at);
        }
        self.ended = if let Event::RunEnded(ended) = event { Some(ended.clone()) } else { None };
        self.ended_at = self.ended.as_ref().map(|_| at);
        self.phase = phase;
        Ok(())
    }

    fn note(&mut self, index: Option<usize>, state: StepState, event: &Event, at: Timestamp) {
        let record = match (index, event) {
            (Some(index), _) => &mut self.steps[index],
            (None, Event::StepStarted(StepStarted { step, kind })) => {
                self.steps.push(StepRecord {
                    id: step.clone(),
                    kind: *kind,
                    state,
                    was_done: false,
                    facts: Vec::new(),
                    started_at: at,
                    ended_at: None,
                    undone_at: None,
                    detail: String::new(),
                    warnings: Vec::new(),
                });
                return;
            }
            // The step table lets nothing but a start create a step.
            (None, _) => return,
        };
        record.state = state;
        match event {
            Event::StepFact(StepFact { fact, .. }) => record.facts.push(fact.clone()),
            Event::StepDone(StepDone { detail, warnings, .. }) => {
                record.was_done = true;
                record.detail.clone_from(detail);
                record.warnings.clone_from(warnings);
                record.ended_at = Some(at);
            }
            Event::StepFailed(StepFailed { message, .. }) | Event::UndoFailed(StepFailed { message, .. }) => {
                record.detail.clone_from(message);
                record.ended_at = Some(at);
            }
            Event::UndoDone(_) => record.undone_at = Some(at),
            Event::RunStarted(_)
            | Event::RunResumed(_)
            | Event::StepStarted(_)
            | Event::UndoStarted(_)
            | Event::RunEnded(_) => {}
        }
    }

    /// The record of a step that has begun.
    pub fn step(&self, id: &StepId) -> Option<&StepRecord> {
        self.steps.iter().find(|record| record.id == *id)
    }

    /// Whether the run must be finished or undone before another may begin.
    pub fn is_unfinished(&self) -> bool {
        match self.phase {
            Phase::Forward | Phase::Back | Phase::Halted(_) => true,
            Phase::Fresh | Phase::Ended(_) => false,
        }
    }

    /// The id of the pre-backup: the newest, where an interruption made it begin again.
    pub fn pre_backup(&self) -> Option<&BackupId> {
        self.facts().filter_map(|fact| if let Fact::PreBackup { id } = fact { Some(id) } else { None }).last()
    }

    /// Where the swap puts the displaced tree; `None` where there is nothing to displace.
    pub fn displaced(&self) -> Option<&AbsPath> {
        self.facts().filter_map(Fact::displaced).last()
    }

    /// The digest of one of the run's trees, where it was noted.
    pub fn tree(&self, wanted: Side) -> Option<Sha256> {
        self.facts().filter_map(|fact| fact.tree(wanted)).last()
    }

    /// Facts of all steps, oldest first.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.steps.iter().flat_map(|record| &record.facts)
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Event::RunStarted(_) => "runStarted",
            Event::RunResumed(_) => "runResumed",
            Event::StepStarted(_) => "stepStarted",
            Event::StepFact(_) => "stepFact",
            Event::StepDone(_) => "stepDone",
            Event::StepFailed(_) => "stepFailed",
            Event::UndoStarted(_) => "undoStarted",
            Event::UndoDone(_) => "undoDone",
            Event::UndoFailed(_) => "undoFailed",
            Event::RunEnded(_) => "runEnded",
        }
    }

    fn moves(&self) -> Option<(&StepId, Move)> {
        match self {
            Event::StepStarted(event) => Some((&event.step, Move::Start)),
            Event::StepFact(event) => Some((&event.step, Move::Fact)),
            Event::StepDone(event) => Some((&event.step, Move::Done)),
            Event::StepFailed(event) => Some((&event.step, Move::Fail)),
            Event::UndoStarted(event) => Some((&event.step, Move::Undo)),
            Event::UndoDone(event) => Some((&event.step, Move::Undone)),
            Event::UndoFailed(event) => Some((&event.step, Move::UndoFail)),
            Event::RunStarted(_) | Event::RunResumed(_) | Event::RunEnded(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Option<StepState>; 7] = [
        None,
        Some(StepState::Started),
        Some(StepState::Done),
        Some(StepState::Failed),
        Some(StepState::Undoing),
        Some(StepState::Undone),
        Some(StepState::UndoFailed),
    ];

    #[test]
    fn the_step_table_is_what_the_design_says() {
        use Move as M;
        // Rows: from; columns: Start Fact Done Fail Undo Undone UndoFail; '-' is refused.
        let table = [
            "S------", // not begun
            "SSDFU--", // started
            "----U--", // done
            "S---U--", // failed
            "----UXf", // undoing
            "-------", // undone
            "----U--", // undo failed
        ];
        let moves = [M::Start, M::Fact, M::Done, M::Fail, M::Undo, M::Undone, M::UndoFail];
        for (state, row) in STATES.into_iter().zip(table) {
            for (event, expected) in moves.into_iter().zip(row.chars()) {
                let got = match next_step(state, event) {
                    None => '-',
                    Some(StepState::Started) => 'S',
                    Some(StepState::Done) => 'D',
                    Some(StepState::Failed) => 'F',
                    Some(StepState::Undoing) => 'U',
                    Some(StepState::Undone) => 'X',
                    Some(StepState::UndoFailed) => 'f',
                };
                assert_eq!(got, expected, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn an_ended_run_takes_no_event() {
        let mut state = RunState { phase: Phase::Ended(Outcome::Applied), ..RunState::default() };
        let now = Timestamp::now();
        assert!(state.apply(&Event::RunResumed(Direction::Forward), now).is_err());
        assert!(
            state
                .apply(
                    &Event::RunEnded(RunEnded {
                        outcome: Outcome::Halted,
                        exit_code: 7,
                        warnings: Vec::new()
                    }),
                    now
                )
                .is_err()
        );
    }

    #[test]
    fn a_run_that_goes_back_never_goes_forward_again() {
        let mut state = RunState { phase: Phase::Back, ..RunState::default() };
        let resume = |direction| Event::RunResumed(direction);
        assert!(state.apply(&resume(Direction::Forward), Timestamp::now()).is_err());
        assert!(state.apply(&resume(Direction::Back), Timestamp::now()).is_ok());
        // Not by way of a halt either.
        let halt = Event::RunEnded(RunEnded { outcome: Outcome::Halted, exit_code: 7, warnings: Vec::new() });
        assert!(state.apply(&halt, Timestamp::now()).is_ok());
        assert!(state.apply(&resume(Direction::Forward), Timestamp::now()).is_err());
        assert!(state.apply(&resume(Direction::Back), Timestamp::now()).is_ok());
    }
}
