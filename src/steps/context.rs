//! What a step is given, and what it gives back.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;

use cap_std::fs::Dir;

use super::error::StepError;
use super::pass::Pass;
use crate::archive::Extracted;
use crate::context::Context;
use crate::host::cancel::Cancel;
use crate::host::fs::Syncing;
use crate::host::lock::LockGuard;
pub use crate::host::pool::lock;
use crate::ids::{BackupId, PlanDigest, RunId, Sha256, StepId};
use crate::plan::model::Plan;
use crate::plan::spec::BackupSource;
use crate::plan::step::{Step, StepKind};
use crate::run::fact::{Fact, Side};
use crate::survey::approvals::Evidence;

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// In one line, for people.
    pub detail: String,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Done {
    /// Without warnings.
    pub fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), warnings: Vec::new() }
    }
}

/// How far a step came, as the disk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Nothing of it is there.
    NotBegun,
    /// A part of it is there.
    Half,
    /// All of it is there.
    Done,
}

/// The code of a step kind.
///
/// Each of the three is safe to call again after any interruption: `run` after a `run` that was cut
/// off, `undo` for a step that was done, failed or only begun, and twice.
pub trait StepRunner: Sync {
    /// Does it, durably.
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError>;

    /// Puts back what was before. Looks at the disk and does not trust the journal.
    fn undo(&self, cx: &StepContext<'_>, step: &Step) -> Result<(), StepError>;

    /// Says how far it came. Changes nothing.
    fn probe(&self, cx: &StepContext<'_>, step: &Step) -> Result<Probe, StepError>;
}

/// Called with the step and a fact; returns once the fact is durable.
pub type RecordFact<'a> = dyn Fn(&StepId, Fact) -> Result<(), StepError> + Sync + 'a;

/// Called with bytes read of the archive.
pub type Progress<'a> = dyn Fn(&StepId, u64) + Sync + 'a;

/// A point around a step at which a test can look or inject a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It is announced in the journal and has not begun.
    BeforeRun,
    /// It has run; the journal does not say so yet.
    AfterRun,
    /// Its undoing is announced and has not begun.
    BeforeUndo,
    /// It is undone; the journal does not say so yet.
    AfterUndo,
}

/// Called around each step; an error fails the step.
pub type Hook<'a> = dyn Fn(&StepContext<'_>, &Step, Moment) -> Result<(), StepError> + Sync + 'a;

/// What a step is given.
pub struct StepContext<'a> {
    /// The machine.
    pub host: &'a Context,
    /// The plan.
    pub plan: &'a Plan,
    /// Its digest.
    pub digest: PlanDigest,
    /// This run.
    pub run: &'a RunId,
    /// Whether the person asked to apply an applied plan again.
    pub replay: bool,
    /// What came with the plan to judge its approvals by; `None` in a run that goes on.
    pub evidence: Option<&'a Evidence>,
    /// Whose approvals were proven when the run began.
    pub approvers: Vec<String>,
    /// How long to wait for locks.
    pub lock_timeout: std::time::Duration,
    /// Facts of this run, oldest first: from the journal, and new ones.
    pub facts: Mutex<Vec<Fact>>,
    /// Notes a fact in the journal, before the act.
    pub record: &'a RecordFact<'a>,
    /// Tells how far long work is.
    pub progress: &'a Progress<'a>,
    /// Told while a lock is waited for.
    pub waiting: &'a (dyn Fn(&str) + Sync),
    /// Called around each step; only tests do something there.
    pub hook: Option<&'a Hook<'a>>,
    /// Requested when a signal came or another step failed.
    pub stop: Cancel,
    /// What steps of this process hand to later ones.
    pub shared: Shared,
}

/// What steps of this process hand to later ones; empty in a process that resumes a run.
#[derive(Debug, Default)]
pub struct Shared {
    /// The locks, held until the run is over.
    pub locks: Mutex<Option<LockGuard>>,
    /// One reading of the archive for `verify` and `extract`.
    pub pass: Pass,
    /// What was unpacked.
    pub extracted: Mutex<Option<Extracted>>,
    /// Databases of it that were found sound already, by their paths in staging.
    pub sound: Mutex<HashSet<PathBuf>>,
    /// Staging, by a handle from before the first write: through it the system tells what it could not write.
    pub unpacked: Mutex<Option<Dir>>,
    /// Its way to the disk, which `prepare` waits for.
    pub syncing: Mutex<Option<Syncing>>,
    /// What the live tree was when it was copied, where it was.
    pub copied: Mutex<Option<Sha256>>,
    /// What undoing found that a person should know; it comes into the run's result.
    pub said: Mutex<Vec<String>>,
}

impl std::fmt::Debug for StepContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepContext").field("run", &self.run).finish_non_exhaustive()
    }
}

impl StepContext<'_> {
    /// The backup of a restore.
    ///
    /// # Errors
    /// The plan is a rollback, which has no step of this kind.
    pub fn archive(&self, kind: StepKind) -> Result<&BackupSource, StepError> {
        self.plan.spec.source.backup().ok_or(StepError::Unavailable { kind })
    }

    /// Calls the hook, if there is one.
    pub fn at(&self, step: &Step, moment: Moment) -> Result<(), StepError> {
        self.hook.map_or(Ok(()), |hook| hook(self, step, moment))
    }

    /// Notes a fact in the journal and remembers it; the act may follow once this returns.
    pub fn note(&self, step: &Step, fact: Fact) -> Result<(), StepError> {
        (self.record)(&step.id, fact.clone())?;
        lock(&self.facts).push(fact);
        Ok(())
    }

    /// Says in the run's result what a person should know of an undo; a `run` says it in [`Done`].
    pub fn say(&self, warning: String) {
        lock(&self.shared.said).push(warning);
    }

    /// The newest fact that `pick` takes.
    pub fn fact<T>(&self, pick: impl Fn(&Fact) -> Option<T>) -> Option<T> {
        lock(&self.facts).iter().rev().find_map(pick)
    }

    /// The id of the pre-backup, once it is chosen.
    pub fn pre_backup(&self) -> Option<BackupId> {
        self.fact(|fact| if let Fact::PreBackup { id } = fact { Some(id.clone()) } else { None })
    }

    /// The digest of one of the run's trees, once it is noted.
    pub fn tree(&self, wanted: Side) -> Option<Sha256> {
        self.fact(|fact| fact.tree(wanted))
    }

    /// An error once a signal came or a sibling failed: for the loops of steps that can still be undone
    /// without a trace.
    pub fn check_cancelled(&self) -> Result<(), StepError> {
        if self.host.cancel.is_requested() {
            return Err(StepError::Cancelled);
        }
        if self.stop.is_requested() { Err(StepError::Aborted) } else { Ok(()) }
    }
}
