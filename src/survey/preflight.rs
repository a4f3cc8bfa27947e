//! Would this plan apply now? Every precondition, all problems at once. `plan check` prints the answer,
//! `apply` asks before it writes anything, and the `check` step asks again under the locks. Reads only.

use std::path::Path;

use crate::actual::whole::{self, Gap};
use crate::context::Context;
use crate::host::clock;
use crate::ids::{InstanceName, PlanDigest, RunId, ServerUrl, Sha256};
use crate::plan::drift::{self, Drift};
use crate::plan::gate::Gate;
use crate::plan::model::{Plan, Time};
use crate::plan::policy::Verdict as PolicyVerdict;
use crate::plan::preview::Verdict;
use crate::plan::spec::{BackupSource, ReplayPolicy, RunSource, Source, SourceScope};
use crate::plan::step::StepKind;
use crate::run::journal::{self, JournalError};
use crate::run::list;
use crate::state::backup_index::{BackupEntry, BackupIndex, IndexError, entry_digest};
use crate::store::{self, StoreError};

use super::approvals::{Approvals, Evidence};
use super::assets;
use super::displaced::{self, DisplacedError};
use super::forbidden::{self, Forbidden};
use super::observe::{self, Comes, Survey, SurveyError};
use super::policy;

/// What to do when a target has content that is no instance.
pub const OTHER_TARGET: &str = "choose an empty or new directory with --dest";

/// What kind of problem it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The environment lacks something.
    Environment,
    /// Approvals are missing.
    Approval,
    /// The request or the plan is refused.
    Refused,
    /// The plan is stale or expired: plan again.
    Stale,
}

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable name.
    pub code: &'static str,
    /// What kind it is.
    pub class: Class,
    /// What stands in the way.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Preflight {
    /// Whatever stands in the way; empty when the plan would apply.
    pub problems: Vec<Problem>,
    /// What the person who applies should know.
    pub warnings: Vec<String>,
    /// What could not be checked.
    pub not_checked: Vec<String>,
    /// How the world differs from the plan.
    pub drift: Drift,
    /// The run that applied this plan before, where there was one.
    pub applied_by: Option<RunId>,
    /// Whether an interrupted run of this very plan is there to go on with.
    pub resumes: bool,
    /// Who approved the plan; absent where that was not asked.
    pub approvals: Option<Approvals>,
    /// What the policy says of the plan; absent where that was not asked.
    pub policy: Option<PolicyVerdict>,
}

/// The look itself failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PreflightError {
    /// Runs could not be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Journal(#[from] JournalError),
    /// Instance or target could not be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Survey(#[from] SurveyError),
    /// The index could not be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Index(#[from] IndexError),
    /// The archive could not be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    /// The displaced tree could not be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Displaced(#[from] DisplacedError),
}

/// How the look is made.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The plan's digest.
    pub digest: PlanDigest,
    /// Whether the person asked to apply an applied plan again.
    pub replay: bool,
    /// The run that asks, which is no obstacle to itself.
    pub own_run: Option<&'a RunId>,
    /// What came with the plan to judge its approvals by; `None` for a run that began: neither approvals
    /// nor policy keep it from its end.
    pub evidence: Option<&'a Evidence>,
}

/// Looks at every precondition of a plan.
pub fn preflight(cx: &Context, plan: &Plan, ask: Ask<'_>) -> Result<Preflight, PreflightError> {
    let mut found = Preflight::default();
    found.steps(cx, plan);
    found.expiry(plan);
    found.policy(cx, plan, ask);
    found.runs(cx, plan, ask)?;
    let mut comes = Comes {
        backup: plan.observed.backup.clone(),
        displaced: plan.observed.displaced.clone(),
        assets: plan.observed.assets.clone(),
    };
    let entry = match &plan.spec.source {
        Source::Backup(source) => found.backup(cx, plan, source)?,
        Source::Run(source) => {
            found.displaced(cx, plan, source, &mut comes)?;
            None
        }
    };
    let survey = observe::observe(cx, &plan.spec, comes)?;
    found.paths(cx, plan, &survey)?;
    found.service(cx, plan, &survey)?;
    found.problems.extend(survey.observed.assets.as_ref().and_then(|seen| assets::unwritable(cx, seen)));
    found.soundness(plan, &survey);
    found.drift(plan, &survey, entry.as_ref());
    found.target(cx, plan, &survey, ask);
    found.space(plan, &survey);
    Ok(found)
}

impl Preflight {
    fn problem(&mut self, class: Class, code: &'static str, message: String, help: impl Into<String>) {
        self.problems.push(Problem { code, class, message, help: help.into() });
    }

    /// Whether the plan would apply.
    pub fn is_clear(&self) -> bool {
        self.problems.is_empty()
    }

    fn steps(&mut self, cx: &Context, plan: &Plan) {
        let absent = cx.services().absent();
        for step in &plan.steps {
            let kind = step.kind();
            match kind {
                StepKind::Stop | StepKind::Start | StepKind::Health if absent.is_none() => {}
                StepKind::Stop | StepKind::Start | StepKind::Health => {
                    let why = absent.unwrap_or_default();
                    let message = format!("step '{}' ({kind}) needs a service manager: {why}", step.id);
                    self.problem(
                        Class::Environment,
                        "no-service-manager",
                        message,
                        "stop the server yourself and make a new plan: abssctl plan refresh FILE",
                    );
                }
                StepKind::Lock
                | StepKind::Check
                | StepKind::Verify
                | StepKind::Extract
                | StepKind::Inspect
                | StepKind::Prepare
                | StepKind::PreBackup
                | StepKind::Overlay
                | StepKind::Swap
                | StepKind::Assets
                | StepKind::Record
                | StepKind::Cleanup => {}
            }
        }
    }

    fn expiry(&mut self, plan: &Plan) {
        let now = clock::now();
        if plan.metadata.expires_at.timestamp() <= now {
            let message = format!("the plan expired at {}", plan.metadata.expires_at);
            self.problem(Class::Stale, "expired", message, "make a new one: abssctl plan refresh FILE");
        }
        if plan.metadata.created_at.timestamp() > now + clock::APART {
            let message =
                format!("the plan was made at {}, which is in the future", plan.metadata.created_at);
            self.problem(
                Class::Environment,
                "clock",
                message,
                "set this machine's clock, or the one where the plan was made",
            );
        }
    }

    fn policy(&mut self, cx: &Context, plan: &Plan, ask: Ask<'_>) {
        let Some(evidence) = ask.evidence else { return };
        let policy::Look { approvals, verdict, .. } = policy::look(cx, plan, evidence);
        self.problems.extend(verdict.findings.iter().map(policy::problem));
        self.warnings.extend(approvals.warnings());
        self.not_checked.extend(approvals.not_checked());
        self.approvals = Some(approvals);
        self.policy = Some(verdict);
    }

    fn runs(&mut self, cx: &Context, plan: &Plan, ask: Ask<'_>) -> Result<(), JournalError> {
        if let Some(run) =
            list::unfinished(cx, &plan.spec.instance)?.filter(|run| Some(&run.id) != ask.own_run)
        {
            let (id, instance) = (&run.id, &plan.spec.instance);
            let same = run.state.started.as_ref().is_some_and(|started| started.plan_digest == ask.digest);
            if journal::is_in_progress(&cx.root, &cx.config, id)? && same {
                // Before the locks: they make this one wait, and then it is applied already. Under the
                // locks: it is the other one that waits, and everything is compared as ever.
                self.resumes = ask.own_run.is_none();
            } else if journal::is_in_progress(&cx.root, &cx.config, id)? {
                let message = format!("run {id} works on instance {instance} right now");
                self.problem(Class::Environment, "run-in-progress", message, "wait until it is done");
            } else if same {
                self.resumes = true;
                let message = format!("run {id} of this plan was interrupted and is not finished");
                self.problem(
                    Class::Environment,
                    "run-interrupted",
                    message,
                    format!("go on with it: abssctl run resume {id}; or put everything back: abssctl run rollback {id}"),
                );
            } else {
                self.problems.push(unfinished(id, instance));
            }
        }
        self.applied_by = list::applied(cx, ask.digest)?.map(|run| run.id);
        if let Some(run) = &self.applied_by {
            let message = format!("the plan was applied before, by run {run}");
            match plan.spec.replay {
                ReplayPolicy::Once => {
                    self.problem(
                        Class::Stale,
                        "already-applied",
                        message,
                        "make a new plan: abssctl plan refresh FILE",
                    );
                }
                ReplayPolicy::Allowed if !ask.replay => {
                    self.problem(
                        Class::Stale,
                        "already-applied",
                        message,
                        "the plan allows it to be applied again: abssctl apply --replay FILE",
                    );
                }
                ReplayPolicy::Allowed => {}
            }
        }
        Ok(())
    }

    /// The index entry and the archive: present, and as the plan says.
    fn backup(
        &mut self,
        cx: &Context,
        plan: &Plan,
        source: &BackupSource,
    ) -> Result<Option<BackupEntry>, PreflightError> {
        let index = BackupIndex::load(&cx.root, &cx.config)?;
        let entry = match index.find(&source.backup_id) {
            Ok(entry) => entry.clone(),
            Err(error) => {
                self.problem(
                    Class::Refused,
                    "backup-unknown",
                    error.to_string(),
                    "list what there is: abssctl backup list",
                );
                return Ok(None);
            }
        };
        let scope = if entry.data_only { SourceScope::Data } else { SourceScope::Full };
        let manifest = |known: Option<Sha256>| known.map_or("nothing".to_owned(), |known| known.to_string());
        let planned = source.manifest_sha256;
        let fields = [
            ("manifestSha256", manifest(entry.manifest.filter(|_| planned.is_some())), manifest(planned)),
            ("path", entry.path.to_string(), source.path.to_string()),
            ("sizeBytes", entry.size_bytes.to_string(), source.size_bytes.to_string()),
            ("sha256", entry.sha256.to_string(), source.sha256.to_string()),
            ("algorithm", entry.algorithm.clone(), source.algorithm.to_string()),
            ("scope", scope.to_string(), source.scope.to_string()),
            ("createdAt", Time::from(entry.created_at).to_string(), source.created_at.to_string()),
            ("instance", entry.instance.to_string(), plan.spec.instance.to_string()),
        ];
        for (field, index, planned) in fields.iter().filter(|(_, index, planned)| index != planned) {
            let id = &source.backup_id;
            let message = format!("the index says {field} {index} of backup {id}, the plan says {planned}");
            self.problem(
                Class::Stale,
                "backup-differs",
                message,
                "make a new plan: abssctl plan refresh FILE",
            );
        }
        if let Some(why) = entry.unusable() {
            let id = &source.backup_id;
            let message = format!("the index says that backup {id} is {why}");
            let help =
                format!("look again with abssctl backup verify {id}, or choose another: abssctl backup list");
            self.problem(Class::Environment, "backup-unusable", message, help);
        }
        match store::inspect(&cx.root, &cx.config, &source.path, source.size_bytes, source.sha256) {
            Ok(()) => {}
            Err(error) => {
                let help = miette::Diagnostic::help(&error).map(|help| help.to_string()).unwrap_or_default();
                let absent = matches!(error, StoreError::Missing { .. } | StoreError::Fs(_));
                let class = if absent { Class::Environment } else { Class::Refused };
                self.problem(class, "archive", error.to_string(), help);
            }
        }
        Ok(Some(entry))
    }

    /// The tree that a run displaced: there, still the one to put back, and as the plan says.
    fn displaced(
        &mut self,
        cx: &Context,
        plan: &Plan,
        source: &RunSource,
        comes: &mut Comes,
    ) -> Result<(), PreflightError> {
        // A run of this very plan has moved the tree; that it goes on or is applied is the message.
        if self.resumes || self.applied_by.is_some() {
            return Ok(());
        }
        let candidate = match displaced::find(cx, &source.run)? {
            Ok(candidate) => candidate,
            Err(displaced::Refusal { code, what, help, .. }) => {
                self.problem(Class::Stale, code, what, help);
                return Ok(());
            }
        };
        if candidate.source != *source
            || candidate.target != plan.spec.target.directory
            || candidate.instance != plan.spec.instance
        {
            let message = format!("run {} displaced something else than the plan says", source.run);
            let help = format!("make a new plan: abssctl plan rollback {} -o FILE", source.run);
            self.problem(Class::Stale, "run-differs", message, help);
        }
        let data = Path::new(&plan.observed.instance.data_directory);
        comes.displaced = Some(displaced::look(cx, &candidate, data).map_err(SurveyError::from)?.observed);
        Ok(())
    }

    /// Paths must lie where the configuration and the registry allow.
    fn paths(&mut self, cx: &Context, plan: &Plan, survey: &Survey) -> Result<(), SurveyError> {
        let target = &plan.spec.target.directory;
        if plan.spec.target.live && *target != survey.entry.paths.root {
            let message = format!(
                "the plan replaces {target} as live, but instance {} lives in {}",
                plan.spec.instance, survey.entry.paths.root
            );
            self.problem(
                Class::Refused,
                "target-not-live",
                message,
                "make a new plan: abssctl plan refresh FILE",
            );
        }
        if let Some(Forbidden { why, help }) = forbidden::target(cx, &plan.spec.instance, &plan.spec.target)?
        {
            let message = format!("{target} cannot be a target: {why}");
            self.problem(Class::Refused, "target-forbidden", message, help);
        }
        let data = Path::new(&survey.observed.instance.data_directory);
        if let Some(why) = foreign_content(plan.spec.target.live, data, &survey.target) {
            let message = format!("{target} cannot be a target: {why}");
            self.problem(Class::Refused, "target-not-instance", message, OTHER_TARGET);
        }
        Ok(())
    }

    /// Whether the unit can be started, and its server is asked where this machine says.
    fn service(&mut self, cx: &Context, plan: &Plan, survey: &Survey) -> Result<(), SurveyError> {
        let has = |kind| plan.steps.iter().any(|step| step.kind() == kind);
        if !has(StepKind::Start) && !has(StepKind::Stop) {
            return Ok(());
        }
        let health = &plan.spec.health;
        let here = observe::health(cx, &survey.entry)?;
        if (&here.url, &here.ca) != (&health.url, &health.ca) {
            let shown =
                |url: Option<&ServerUrl>| url.map_or("the instance's port".to_owned(), ToString::to_string);
            let message = format!(
                "the plan asks {} whether the server is well, restore.yml says {}, or other certificates",
                shown(health.url.as_ref()),
                shown(here.url.as_ref())
            );
            self.problem(
                Class::Stale,
                "health-address",
                message,
                "make a new plan: abssctl plan refresh FILE",
            );
        }
        let service = &survey.observed.service;
        if let Some(trouble) = service.trouble.filter(|it| has(StepKind::Start) && it.prevents_start()) {
            let unit = service.unit.as_deref().unwrap_or_default();
            let message = format!("the service cannot be started: {unit} {}", trouble.words());
            let help = format!("mend it: systemctl status {unit}; or plan with --no-restart");
            self.problem(Class::Environment, "service-unit", message, help);
        }
        Ok(())
    }

    /// Whether what is restored would be whole, and the installed server would start on it. The archive
    /// is not read for it: that the plan says of it what it holds is proven where it is unpacked.
    fn soundness(&mut self, plan: &Plan, survey: &Survey) {
        let gaps = plan.observed.incomplete().iter().filter(|gap| plan.spec.takes(&gap.budget));
        let gaps: Vec<Gap> = gaps.cloned().collect();
        let refused = whole::not_allowed(&gaps, &plan.spec.allow_incomplete);
        // A tree that comes back was the live one, whole or not; the plan warns of it.
        if !refused.is_empty() && !plan.spec.is_rollback() {
            let message = format!("the backup is not whole: {}", whole::describe(refused));
            let id = plan.spec.source.backup_id();
            let help = format!(
                "choose another backup: abssctl backup list; or plan for exactly what it lacks: abssctl plan restore {id} --allow-incomplete"
            );
            self.problem(Class::Refused, "backup-incomplete", message, help);
        }
        let gate = Gate::of(&plan.spec, &survey.observed);
        let why = gate.why(&survey.observed);
        match gate.verdict() {
            Verdict::Will => {}
            Verdict::NotChecked => self.not_checked.push(format!("server-migrations: {why}")),
            Verdict::WillNot if plan.spec.target.live => {
                self.problem(Class::Refused, "server-cannot-open", why, gate.way_out());
            }
            Verdict::WillNot => self.warnings.push(why),
        }
    }

    fn drift(&mut self, plan: &Plan, survey: &Survey, entry: Option<&BackupEntry>) {
        let mut now = survey.observed.clone();
        // Without an entry that is a problem of its own already.
        if let (Some(entry), Some(backup)) = (entry, &mut now.backup) {
            backup.index_entry = entry_digest(entry);
        }
        if let Some(unread) = survey.target.unread_since(&plan.observed.target) {
            // What differs only because it cannot be read makes no plan stale.
            let message = format!("{}: {}", plan.spec.target.directory, unread.why);
            let help = "see what the kernel says of the disk: dmesg; then run the same command again, or, where it stays so: abssctl plan refresh FILE";
            self.problem(Class::Environment, "target-unread", message, help);
            return;
        }
        let again = self.applied_by.is_some() && plan.spec.replay == ReplayPolicy::Allowed;
        self.drift = if again { drift::compare_identity(plan, &now) } else { drift::compare(plan, &now) };
        // An applied plan has changed the target itself; that it was applied is the message.
        // Nor does a run that stopped in the middle make its own plan stale.
        let applied_once =
            self.resumes || self.applied_by.is_some() && plan.spec.replay == ReplayPolicy::Once;
        if plan.observed.machine.is_none() {
            self.not_checked.push("machine: the plan names none".to_owned());
        }
        if applied_once {
            return;
        }
        for difference in self.drift.refused.clone() {
            self.problem(
                Class::Stale,
                difference.code,
                difference.message,
                "the plan was made for another state: abssctl plan refresh FILE, review, apply",
            );
        }
        self.warnings.extend(self.drift.tolerated.iter().map(|difference| difference.message.clone()));
    }
}

/// Another run of the instance is not finished.
pub fn unfinished(id: &RunId, instance: &InstanceName) -> Problem {
    Problem {
        code: "run-unfinished",
        class: Class::Environment,
        message: format!("run {id} of instance {instance} was interrupted and is not finished"),
        help: format!("finish it first: abssctl run resume {id}; or undo it: abssctl run rollback {id}"),
    }
}

mod place;
pub use self::place::foreign_content;
