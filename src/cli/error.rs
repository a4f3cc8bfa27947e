//! Every error that a command can end with.

use std::path::PathBuf;

use super::approve::ApproveError;
use crate::backup::BackupError;
use crate::engine::apply::ApplyError;
use crate::host::agent::AgentError;
use crate::host::fs::FsError;
use crate::host::keys::KeyError;
use crate::host::lock::LockError;
use crate::plan::canonical::CanonicalError;
use crate::plan::emit::EmitError;
use crate::plan::load::LoadErrors;
use crate::planner::PlanError;
use crate::run::journal::JournalError;
use crate::run::receipt::ReceiptError;
use crate::state::backup_index::IndexError;
use crate::state::config::ConfigError;
use crate::state::instances::RegistryError;
use crate::state::operations_log::LogError;
use crate::survey::observe::SurveyError;
use crate::survey::preflight::{PreflightError, Problem};

/// Every error that a command can end with.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CliError {
    /// The configuration.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    /// A plan file that is not valid.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Load(#[from] LoadErrors),
    /// No plan.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] PlanError),
    /// Not applied.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Apply(#[from] ApplyError),
    /// No backup.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Backup(#[from] BackupError),
    /// The index.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Index(#[from] IndexError),
    /// The registry.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Registry(#[from] RegistryError),
    /// A look at the machine.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Survey(#[from] SurveyError),
    /// A look at preconditions.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Preflight(#[from] PreflightError),
    /// A plan that would not apply now.
    #[error("the plan would not apply: {} in the way", count(.0.len()))]
    #[diagnostic(code(abssctl::plan::check), help("each problem is listed with what to do about it"))]
    WouldNotApply(Vec<Problem>),
    /// An approval that was not given, or is not enough.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Approve(#[from] ApproveError),
    /// A key.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Key(#[from] KeyError),
    /// An agent.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Agent(#[from] AgentError),
    /// Nobody could be asked for a passphrase.
    #[error("{} needs a passphrase, and there is no terminal to ask at", .0.display())]
    #[diagnostic(
        code(abssctl::key::no_terminal),
        help("add the key to ssh-agent (ssh-add {}) and name its .pub file", .0.display())
    )]
    NoPassphrase(PathBuf),
    /// No receipt, or one that is refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Receipt(#[from] ReceiptError),
    /// A run's journal.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Journal(#[from] JournalError),
    /// Locks.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] LockError),
    /// The operations log.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Log(#[from] LogError),
    /// The canonical form.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Canonical(#[from] CanonicalError),
    /// The plan's text.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Emit(#[from] EmitError),
    /// A file.
    #[error(transparent)]
    #[diagnostic(code(abssctl::cli::io), help("see whether the path exists and who may read or write it"))]
    Fs(#[from] FsError),
    /// A plan file that is not there.
    #[error("there is no plan file {}", .0.display())]
    #[diagnostic(
        code(abssctl::cli::no_plan_file),
        help("write one: abssctl plan restore BACKUP_ID -o plan.yaml")
    )]
    NoPlanFile(PathBuf),
    /// A file of facts that is not there.
    #[error("there is no file of facts {}", .0.display())]
    #[diagnostic(
        code(abssctl::cli::no_facts_file),
        help("collect them on the machine that the plan is for: abssctl facts -o facts.json")
    )]
    NoFactsFile(PathBuf),
    /// Nothing can be verified.
    #[error("there is no index of backups: {} does not exist", .0.display())]
    #[diagnostic(
        code(abssctl::cli::no_index),
        help("is this the right machine and --root? 'abssctl config show' tells which index is read")
    )]
    NoIndex(PathBuf),
    /// A run that is not there.
    #[error("there is no run {0}")]
    #[diagnostic(code(abssctl::cli::no_run), help("list what there is: abssctl run list"))]
    NoRun(crate::ids::RunId),
    /// A run that changed nothing.
    #[error("run {run} was cut off before its first record, and changed nothing")]
    #[diagnostic(code(abssctl::cli::run_not_begun), help("apply its plan: abssctl apply {file}"))]
    NotBegun {
        /// The run.
        run: crate::ids::RunId,
        /// Its plan, as it can be typed.
        file: String,
    },
    /// A run that is undone.
    #[error("run {run} is undone: everything is as it was before it")]
    #[diagnostic(code(abssctl::cli::run_rolled_back), help("apply its plan once more: abssctl apply {file}"))]
    RolledBack {
        /// The run.
        run: crate::ids::RunId,
        /// Its plan, as it can be typed.
        file: String,
    },
    /// The plan in a run's directory is gone, or is none any more.
    #[error("{}, the plan that run {run} began with, {why}", .file.display())]
    #[diagnostic(
        code(abssctl::cli::run_plan_lost),
        help(
            "put your own copy of it there, digest {began}, or go on with it: abssctl apply FILE; what the run did: abssctl run show {run}"
        )
    )]
    PlanLost {
        /// The run.
        run: crate::ids::RunId,
        /// Where its plan should lie.
        file: PathBuf,
        /// What is wrong.
        why: String,
        /// The digest of the plan that it began with.
        began: crate::ids::PlanDigest,
    },
    /// The plan in a run's directory was exchanged.
    #[error(
        "{} is not the plan that run {run} began with: its digest is {found}, the journal says {began}",
        .file.display()
    )]
    #[diagnostic(
        code(abssctl::cli::run_other_plan),
        help(
            "put the right plan there: find it by its digest with abssctl plan validate FILE; what the run did: abssctl run show {run}"
        )
    )]
    OtherPlan {
        /// The run.
        run: crate::ids::RunId,
        /// Where its plan lies.
        file: PathBuf,
        /// The digest of what lies there.
        found: crate::ids::PlanDigest,
        /// The digest of the plan that it began with.
        began: crate::ids::PlanDigest,
    },
    /// The person said no.
    #[error("nothing was changed")]
    #[diagnostic(code(abssctl::cli::declined), help("answer y to the question, or add --yes"))]
    Declined,
    /// A signal came while the question waited.
    #[error("stopped by a signal; nothing was changed")]
    #[diagnostic(code(abssctl::cli::interrupted), help("run the same command again"))]
    Interrupted,
    /// Nobody could be asked.
    #[error("this changes the server, and nobody can be asked: standard input is no terminal")]
    #[diagnostic(code(abssctl::cli::no_terminal), help("add --yes, or set ABSSCTL_ASSUME_YES=1"))]
    NoTerminal,
    /// A bad value on the command line that clap does not know to be bad.
    #[error("{what}")]
    #[diagnostic(code(abssctl::cli::usage), help("{help}"))]
    Usage {
        /// What is wrong.
        what: String,
        /// What to type instead.
        help: String,
    },
    /// Standard output.
    #[error("cannot write the result: {0}")]
    #[diagnostic(code(abssctl::cli::output), help("see where standard output goes"))]
    Output(#[from] std::io::Error),
}

fn count(problems: usize) -> String {
    if problems == 1 { "one thing is".to_owned() } else { format!("{problems} things are") }
}
