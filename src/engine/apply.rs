//! Applies a plan: refuses it before anything is written, goes on with an interrupted run of it, or runs
//! it; undoes it when a step fails; writes the result into the journal and the operations log.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::event::{Event, Sink, now};
use super::evidence;
use super::report::{Outcome, Report, report};
use super::schedule::{self, Failure};
use super::{halted, recover, unwind};
use crate::context::Context;
use crate::ids::{PlanDigest, RunId, StepId};
use crate::plan::canonical::{self, CanonicalError};
use crate::plan::model::Plan;
use crate::plan::policy::Verdict;
use crate::plan::spec::OnFailure;
use crate::plan::step::StepKind;
use crate::run::journal::{Journal, JournalError};
use crate::run::list;
use crate::run::state::{self, Direction, RunEnded, RunStarted};
use crate::run::summary;
use crate::steps::context::{Hook, Shared, lock};
use crate::steps::{StepContext, StepError, swap};
use crate::survey::approvals::{Approvals, Evidence};
use crate::survey::preflight::{self, Ask, PreflightError, Problem};

/// The exit code of a run that a person must look at.
const HALTED: u8 = 7;

/// How far a step is, nobody is told more often but at its end.
const PROGRESS: Duration = Duration::from_millis(100);

/// How a plan is applied.
#[derive(Clone)]
pub struct Options<'a> {
    /// Whether an applied plan may be applied again.
    pub replay: bool,
    /// How long to wait for locks.
    pub lock_timeout: Duration,
    /// What came with the plan to judge its approvals by.
    pub evidence: &'a Evidence,
    /// The command, as the operations log names it.
    pub command: &'static str,
    /// The program's exit code for a run that this error undid: the log's line says the same as the shell.
    pub exit_code: &'a (dyn Fn(&StepError) -> u8 + Sync),
    /// Called around each step; only tests do something there.
    pub hook: Option<&'a Hook<'a>>,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("command", &self.command)
            .field("replay", &self.replay)
            .finish_non_exhaustive()
    }
}

/// A plan was not applied.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ApplyError {
    /// It was refused; nothing was written.
    #[error("the plan was not applied: {}", messages(.problems))]
    #[diagnostic(code(abssctl::apply::refused), help("{}", helps(.problems)))]
    Refused {
        /// Everything that stands in the way.
        problems: Vec<Problem>,
    },
    /// A step failed, and everything was undone.
    #[error("{} failed, and everything is as it was: {cause}", step_name(.step.as_ref()))]
    #[diagnostic(code(abssctl::apply::rolled_back), help("{}", help_of(.cause)))]
    RolledBack {
        /// What was done.
        report: Box<Report>,
        /// The step.
        step: Option<StepId>,
        /// Why; the message says it too.
        cause: Box<StepError>,
    },
    /// A person must look.
    #[error("{what}")]
    #[diagnostic(code(abssctl::apply::halted), help("{help}"))]
    Halted {
        /// What was done.
        report: Box<Report>,
        /// What stands where.
        what: String,
        /// What to type.
        help: String,
    },
    /// The journal could not be written or read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Journal(#[from] JournalError),
    /// Preconditions could not be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Preflight(#[from] PreflightError),
    /// The locks of an interrupted run could not be taken, or its place on disk is unknown.
    #[error("run {run} was interrupted and cannot go on: {cause}")]
    #[diagnostic(code(abssctl::apply::cannot_resume), help("{}", help_of(.cause)))]
    CannotResume {
        /// The run.
        run: RunId,
        /// Why; the message says it too.
        cause: Box<StepError>,
    },
    /// Somebody else finished or undid the run while this process waited, for an answer or for its lock.
    #[error("run {run} has ended meanwhile: another process finished or undid it; nothing was changed")]
    #[diagnostic(
        code(abssctl::apply::ended_meanwhile),
        help("see what became of it: abssctl run show {run}")
    )]
    EndedMeanwhile {
        /// The run.
        run: RunId,
    },
    /// No digest.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Canonical(#[from] CanonicalError),
}

fn help_of(error: &StepError) -> String {
    miette::Diagnostic::help(error).map(|help| help.to_string()).unwrap_or_default()
}

fn messages(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
}

fn helps(problems: &[Problem]) -> String {
    let mut helps: Vec<&str> = problems.iter().map(|problem| problem.help.as_str()).collect();
    helps.dedup();
    helps.join("\n")
}

fn step_name(step: Option<&StepId>) -> String {
    step.map_or_else(|| "the run".to_owned(), |step| format!("step {step}"))
}

/// What became of an interrupted run.
#[derive(Debug)]
pub enum Resumed {
    /// There was none.
    None,
    /// It had replaced the target already and is finished now.
    Finished(Box<Report>),
    /// It had not, and is undone now; the plan may begin anew.
    Undone(RunId),
}

/// Finishes or undoes the interrupted run of this plan, or the one of this id, if there is one. Both lead
/// to a whole tree, so nobody is asked; whether the plan begins anew after that is another question.
pub fn resume(
    cx: &Context,
    plan: &Plan,
    run: Option<&RunId>,
    options: &Options<'_>,
    sink: &Sink<'_>,
) -> Result<Resumed, ApplyError> {
    let digest = canonical::digest(plan)?;
    let Some(journal) = recover::find(cx, plan, digest, run)? else { return Ok(Resumed::None) };
    let run = journal.run().clone();
    let finished = Job { cx, plan, digest, options, sink }.resume(journal)?;
    Ok(finished.map_or(Resumed::Undone(run), |report| Resumed::Finished(Box::new(report))))
}

/// Undoes an unfinished run, whichever way it was going. The caller has asked.
///
/// # Errors
/// A process has files open in the target, or an undo failed and the run is halted.
pub fn roll_back(
    cx: &Context,
    plan: &Plan,
    run: &RunId,
    options: &Options<'_>,
    sink: &Sink<'_>,
) -> Result<Report, ApplyError> {
    let digest = canonical::digest(plan)?;
    let journal = Journal::resume(&cx.root, &cx.config, run)?;
    if !journal.state().is_unfinished() {
        return Err(ApplyError::EndedMeanwhile { run: run.clone() });
    }
    let job = Job { cx, plan, digest, options, sink };
    job.tell_start(run, true);
    let journal = Mutex::new(journal);
    job.with_steps(run, &journal, None, |steps| {
        let cannot = |source| ApplyError::CannotResume { run: run.clone(), cause: Box::new(source) };
        recover::relock(steps).map_err(cannot)?;
        // A server that this run started is stopped first.
        let started = self::started(&lock(&journal));
        if !started && recover::swapped(steps, &journal).map_err(cannot)? {
            // Whoever has files open would go on writing into a tree that is out of the way.
            swap::refuse_users(steps).map_err(cannot)?;
        }
        lock(&journal).append(state::Event::RunResumed(Direction::Back))?;
        job.go_back(steps, &journal, Failure { step: None, error: StepError::Asked })
            .map(|(report, _)| report)
    })
}

/// Applies a plan that has no interrupted run. `bytes` is the plan's file, kept with the run.
pub fn apply(
    cx: &Context,
    plan: &Plan,
    bytes: &[u8],
    options: &Options<'_>,
    sink: &Sink<'_>,
) -> Result<Report, ApplyError> {
    let digest = canonical::digest(plan)?;
    let ask = Ask { digest, replay: options.replay, own_run: None, evidence: Some(options.evidence) };
    let found = preflight::preflight(cx, plan, ask)?;
    if found.applied_by.is_some() && !options.replay {
        return already_applied(cx, plan, digest);
    }
    if !found.problems.is_empty() {
        return Err(ApplyError::Refused { problems: found.problems });
    }
    match (Job { cx, plan, digest, options, sink }).start(bytes, found.approvals.as_ref(), found.policy) {
        // Another process was first, while this one waited for the locks.
        Err(ApplyError::RolledBack { cause, .. }) if was_applied(&cause) && !options.replay => {
            already_applied(cx, plan, digest)
        }
        other => other,
    }
}

/// Whether the run has begun to start the service.
fn started(journal: &Journal) -> bool {
    journal.state().steps.iter().any(|record| record.kind == StepKind::Start)
}

fn was_applied(cause: &StepError) -> bool {
    matches!(cause, StepError::Check(problems) if problems.iter().any(|problem| problem.code == "already-applied"))
}

fn already_applied(cx: &Context, plan: &Plan, digest: PlanDigest) -> Result<Report, ApplyError> {
    let run = list::applied(cx, digest)?;
    let state = run.as_ref().map(|run| run.state.clone()).unwrap_or_default();
    Ok(report(plan, digest, run.map(|run| run.id).as_ref(), &state, Outcome::AlreadyApplied))
}

/// One application of one plan.
struct Job<'a> {
    cx: &'a Context,
    plan: &'a Plan,
    digest: PlanDigest,
    options: &'a Options<'a>,
    sink: &'a Sink<'a>,
}

impl Job<'_> {
    fn start(
        &self,
        bytes: &[u8],
        approvals: Option<&Approvals>,
        policy: Option<Verdict>,
    ) -> Result<Report, ApplyError> {
        let run = RunId::generate();
        let evidence = self.options.evidence;
        let kept = evidence::kept(evidence);
        let mut journal = Journal::create(&self.cx.root, &self.cx.config, &run, bytes, &kept)?;
        journal.append(state::Event::RunStarted(RunStarted {
            plan: self.plan.metadata.id.clone(),
            plan_digest: self.digest,
            instance: self.plan.spec.instance.clone(),
            backup: self.plan.spec.source.backup_id().clone(),
            target: self.plan.spec.target.directory.clone(),
            rolls_back: self.plan.spec.source.run().map(|run| run.run.clone()),
            actor: self.cx.actor.clone(),
            retain: self.plan.spec.retain.clone(),
            approvals_required: policy.as_ref().map_or(0, |verdict| verdict.required_approvals),
            approvers: policy.as_ref().map(|verdict| verdict.approvers.clone()).unwrap_or_default(),
            signatures: evidence::signatures(self.plan, evidence, approvals),
            policy: policy.map(Box::new),
            generator: concat!("abssctl ", env!("CARGO_PKG_VERSION")).to_owned(),
        }))?;
        self.tell_start(&run, false);
        let journal = Mutex::new(journal);
        self.with_steps(&run, &journal, Some(self.options.evidence), |steps| {
            let result = schedule::run(steps, &journal, self.sink);
            self.finish(steps, &journal, result)
        })
    }

    /// Goes on with an interrupted run. `None`: it was undone, and the plan may begin anew.
    fn resume(&self, journal: Journal) -> Result<Option<Report>, ApplyError> {
        let run = journal.run().clone();
        self.tell_start(&run, true);
        let journal = Mutex::new(journal);
        // It began with what policy and approvals asked for; whether it may end does not depend on them again.
        self.with_steps(&run, &journal, None, |steps| {
            let cannot = |source| ApplyError::CannotResume { run: run.clone(), cause: Box::new(source) };
            recover::relock(steps).map_err(cannot)?;
            let direction = recover::direction(steps, &journal).map_err(cannot)?;
            lock(&journal).append(state::Event::RunResumed(direction))?;
            match direction {
                Direction::Forward => {
                    let result = schedule::run(steps, &journal, self.sink);
                    self.finish(steps, &journal, result).map(Some)
                }
                Direction::Back => {
                    self.go_back(steps, &journal, Failure { step: None, error: StepError::Interrupted })?;
                    Ok(None)
                }
            }
        })
    }

    fn tell_start(&self, run: &RunId, resumed: bool) {
        let steps = self.plan.steps.len() as u64;
        (self.sink)(&Event::RunStarted { at: now(), run: run.clone(), steps, resumed });
    }

    /// Gives the steps what they need. Locks are released when it returns.
    fn with_steps<T>(
        &self,
        run: &RunId,
        journal: &Mutex<Journal>,
        evidence: Option<&Evidence>,
        work: impl FnOnce(&StepContext<'_>) -> T,
    ) -> T {
        let record = |step: &StepId, fact: crate::run::fact::Fact| {
            let event = state::StepFact { step: step.clone(), fact };
            lock(journal).append(state::Event::StepFact(event)).map_err(StepError::Journal)
        };
        let total = self.plan.spec.source.backup().map(|backup| backup.size_bytes);
        let verify = self.plan.steps.iter().find(|step| step.kind() == StepKind::Verify).map(|step| &step.id);
        let told: Mutex<HashMap<StepId, Instant>> = Mutex::default();
        let progress = |step: &StepId, bytes: u64| {
            let total = total.filter(|_| verify == Some(step));
            let mut told = lock(&told);
            let is_early = told.get(step).is_some_and(|when| when.elapsed() < PROGRESS);
            if is_early && total != Some(bytes) {
                return;
            }
            let _before = told.insert(step.clone(), Instant::now());
            drop(told);
            (self.sink)(&Event::StepProgress { step: step.clone(), bytes, total });
        };
        let waiting = |message: &str| (self.sink)(&Event::Waiting { message: message.to_owned() });
        let facts = lock(journal).state().facts().cloned().collect();
        let approvers = lock(journal).state().started.as_ref().map(|started| started.approvers.clone());
        let steps = StepContext {
            host: self.cx,
            plan: self.plan,
            digest: self.digest,
            run,
            replay: self.options.replay,
            evidence,
            approvers: approvers.unwrap_or_default(),
            lock_timeout: self.options.lock_timeout,
            facts: Mutex::new(facts),
            record: &record,
            progress: &progress,
            waiting: &waiting,
            hook: self.options.hook,
            stop: self.cx.cancel.child(),
            shared: Shared::default(),
        };
        work(&steps)
    }

    fn finish(
        &self,
        steps: &StepContext<'_>,
        journal: &Mutex<Journal>,
        result: Result<(), Failure>,
    ) -> Result<Report, ApplyError> {
        let Err(failure) = result else {
            let mut report = self.report(journal, Outcome::Applied);
            report.warnings.extend(self.log(journal, &report, None));
            self.end(journal, state::Outcome::Applied, &report)?;
            return Ok(report);
        };
        if summary::swapped(lock(journal).state()) && self.plan.spec.on_failure == OnFailure::Halt {
            let what = format!(
                "{} failed after the swap, and the plan says to halt: {}",
                step_name(failure.step.as_ref()),
                failure.error
            );
            return Err(self.halt(journal, &what, "look at the target; then go on: abssctl run resume RUN; or put everything back: abssctl run rollback RUN"));
        }
        let report = self.go_back(steps, journal, failure)?;
        let (report, failure) = report;
        Err(ApplyError::RolledBack {
            report: Box::new(report),
            step: failure.step,
            cause: Box::new(failure.error),
        })
    }

    /// Undoes everything.
    fn go_back(
        &self,
        steps: &StepContext<'_>,
        journal: &Mutex<Journal>,
        failure: Failure,
    ) -> Result<(Report, Failure), ApplyError> {
        match unwind::unwind(steps, journal, self.sink) {
            Ok(()) => {
                let mut report = self.report(journal, Outcome::RolledBack);
                report.warnings.append(&mut lock(&steps.shared.said));
                report.exit_code = (self.options.exit_code)(&failure.error);
                let asked = matches!(failure.error, StepError::Asked);
                let why = (!asked).then(|| failure.error.to_string());
                report.warnings.extend(self.log(journal, &report, why.as_deref()));
                self.end(journal, state::Outcome::RolledBack, &report)?;
                Ok((report, failure))
            }
            Err(stuck) => {
                let why = match &failure.step {
                    Some(step) => format!("step {step} failed: {}; ", failure.error),
                    None => String::new(),
                };
                let what = format!(
                    "{why}step {} could not be undone: {}; {}",
                    stuck.step,
                    stuck.error,
                    halted::stands(steps, journal)
                );
                // Its own help ends with the command that goes on.
                let own = matches!(stuck.error, StepError::Edited { .. }).then(|| help_of(&stuck.error));
                let next = "mend what the message names, then let it go on undoing: abssctl run rollback RUN";
                Err(self.halt(journal, &what, own.as_deref().unwrap_or(next)))
            }
        }
    }

    fn halt(&self, journal: &Mutex<Journal>, what: &str, next: &str) -> ApplyError {
        let mut report = self.report(journal, Outcome::Halted);
        report.exit_code = HALTED;
        let run = lock(journal).run().clone();
        // The error is told in any case; a log that cannot be written must not hide it.
        drop(self.log(journal, &report, Some(what)));
        let next = if self.cx.services().goes_down() {
            // It failed since units cannot be started now. A run without an end is one that goes on by
            // itself when the machine is up again.
            "the machine goes down; when it is up again: abssctl run recover".to_owned()
        } else {
            drop(self.end(journal, state::Outcome::Halted, &report));
            next.replace("RUN", run.as_str())
        };
        let help = format!("{next}\nwhat stands where: abssctl run show {run}");
        ApplyError::Halted { report: Box::new(report), what: what.to_owned(), help }
    }

    fn report(&self, journal: &Mutex<Journal>, outcome: Outcome) -> Report {
        let held = lock(journal);
        report(self.plan, self.digest, Some(held.run()), held.state(), outcome)
    }

    fn end(
        &self,
        journal: &Mutex<Journal>,
        outcome: state::Outcome,
        report: &Report,
    ) -> Result<(), JournalError> {
        let mut held = lock(journal);
        // What the steps said is there already.
        let said = summary::warnings(held.state()).len();
        let warnings = report.warnings.iter().skip(said).cloned().collect();
        let exit_code = report.exit_code;
        held.append(state::Event::RunEnded(RunEnded { outcome, exit_code, warnings }))?;
        let name = match outcome {
            state::Outcome::Applied => Outcome::Applied,
            state::Outcome::RolledBack => Outcome::RolledBack,
            state::Outcome::Halted => Outcome::Halted,
        };
        (self.sink)(&Event::RunEnded { at: now(), run: held.run().clone(), outcome: name.name().to_owned() });
        Ok(())
    }

    /// One line in the operations log; a log that cannot be written is a warning, since the restore is
    /// in the journal and in the index.
    fn log(&self, journal: &Mutex<Journal>, report: &Report, error: Option<&str>) -> Option<String> {
        let held = lock(journal);
        let written =
            super::log::write(self.cx, self.plan, self.options.command, held.state(), report, error);
        written.err().map(|error| error.to_string())
    }
}
