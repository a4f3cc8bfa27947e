//! Why a step failed.

use std::path::PathBuf;

use crate::actual::blob::BlobError;
use crate::actual::clients::ClientsError;
use crate::actual::single::SingleError;
use crate::archive::ArchiveError;
use crate::backup::BackupError;
use crate::host::fs::FsError;
use crate::host::lock::LockError;
use crate::host::program::ProgramError;
use crate::host::service::ServiceError;
use crate::host::sqlite::SqliteError;
use crate::ids::{AbsPath, RunId};
use crate::run::journal::JournalError;
use crate::state::backup_index::IndexError;
use crate::state::instances::RegistryError;
use crate::state::operations_log::LogError;
use crate::store::StoreError;
use crate::survey::observe::SurveyError;
use crate::survey::preflight::{PreflightError, Problem};

/// Why a step failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StepError {
    /// A file operation failed.
    #[error(transparent)]
    #[diagnostic(code(abssctl::step::io), help("mend what the message names and apply the plan again"))]
    Fs(#[from] FsError),
    /// The locks were not to be had.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] LockError),
    /// Preconditions do not hold.
    #[error("the plan does not apply: {}", summarise(.0))]
    #[diagnostic(code(abssctl::step::check), help("see them all: abssctl plan check FILE"))]
    Check(Vec<Problem>),
    /// Preconditions could not be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Preflight(#[from] PreflightError),
    /// The target could not be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Survey(#[from] SurveyError),
    /// The archive is damaged, hostile or not the one that was planned.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Archive(ArchiveError),
    /// The archive could not be opened.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    /// The bytes of the archive are not the planned ones.
    #[error("{path} has SHA-256 {found}, the plan says {planned}")]
    #[diagnostic(
        code(abssctl::step::checksum),
        help("the file is damaged or was replaced; choose another backup: abssctl backup list")
    )]
    Checksum {
        /// The archive.
        path: AbsPath,
        /// Its digest now.
        found: crate::ids::Sha256,
        /// Its digest in the plan.
        planned: crate::ids::Sha256,
    },
    /// Something changed between two looks.
    #[error("{what}")]
    #[diagnostic(code(abssctl::step::changed), help("find out who changes it, then apply the plan again"))]
    Changed {
        /// What, in one sentence.
        what: String,
    },
    /// What would come back is not what was displaced.
    #[error("{path} is not the tree that run {run} displaced: something in it was changed or removed since")]
    #[diagnostic(
        code(abssctl::step::other_tree),
        help("restore the backup that the run made first instead: abssctl run show {run} names it")
    )]
    OtherTree {
        /// Where it lies.
        path: AbsPath,
        /// The run.
        run: RunId,
    },
    /// The restored data would not work.
    #[error("the backup cannot be restored: {why}")]
    #[diagnostic(code(abssctl::step::unsound), help("choose another backup: abssctl backup list"))]
    Unsound {
        /// What is wrong with it.
        why: String,
    },
    /// A database of the backup is damaged.
    #[error("database of the backup: {0}")]
    #[diagnostic(code(abssctl::step::database), help("choose another backup: abssctl backup list"))]
    Sqlite(#[from] SqliteError),
    /// Sync groups or sessions could not be changed.
    #[error(transparent)]
    #[diagnostic(code(abssctl::step::clients), help("make a new plan: abssctl plan refresh FILE"))]
    Clients(#[from] ClientsError),
    /// A budget's rows could not be taken over.
    #[error(transparent)]
    #[diagnostic(
        code(abssctl::step::single),
        help("make a new plan: abssctl plan refresh FILE; or restore all of the backup")
    )]
    Single(#[from] SingleError),
    /// A budget cannot be copied.
    #[error("the budget cannot be restored as a copy: {0}")]
    #[diagnostic(
        code(abssctl::step::copy),
        help("restore it in place of the old one: plan without --as-copy")
    )]
    Copy(#[from] BlobError),
    /// The pre-backup failed.
    #[error("pre-backup: {0}")]
    #[diagnostic(
        code(abssctl::step::pre_backup),
        help(
            "mend what the message names; or, where the live data cannot be read any more, plan with --no-pre-backup: the displaced directory keeps it"
        )
    )]
    Backup(#[source] BackupError),
    /// A program works in the target.
    #[error("process {pid} ({command}) has {} open", .path.display())]
    #[diagnostic(code(abssctl::step::in_use), help("stop it, then run the same command again"))]
    InUse {
        /// The process.
        pid: u32,
        /// Its name.
        command: String,
        /// What it has open.
        path: PathBuf,
    },
    /// The disk is in a state that this run did not make.
    #[error("{what}")]
    #[diagnostic(
        code(abssctl::step::unknown_state),
        help(
            "nothing was deleted, and the run's directory is the only record of the way back: keep it. See whether all file systems are mounted, put the directories where the run left them, and run the same command again: abssctl run list"
        )
    )]
    UnknownState {
        /// What stands where.
        what: String,
    },
    /// A person edited a unit or vhost in the middle of a run.
    #[error("{what}")]
    #[diagnostic(code(abssctl::step::edited), help("{help}"))]
    Edited {
        /// Which, and where the old one is.
        what: String,
        /// How the old one comes back.
        help: String,
    },
    /// nginx does not take what came.
    #[error("nginx does not take the vhost, and the old files are back; it says: {said}")]
    #[diagnostic(
        code(abssctl::step::nginx),
        help(
            "mend what it names (a certificate that is not on this machine?) and make a new plan, or {without}"
        )
    )]
    Nginx {
        /// How to go on without unit and vhost.
        without: String,
        /// In its own words, with file and line.
        said: String,
    },
    /// A program of the machine failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Program(#[from] ProgramError),
    /// The index could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Index(#[from] IndexError),
    /// The registry could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Registry(#[from] RegistryError),
    /// The operations log could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Log(#[from] LogError),
    /// The journal could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Journal(#[from] JournalError),
    /// The service manager could not be asked or told.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Service(#[from] ServiceError),
    /// A unit did not stop, or somebody goes on with its files.
    #[error("{unit} did not stop within {seconds} seconds: it is {state}, and {users}")]
    #[diagnostic(
        code(abssctl::step::not_stopped),
        help(
            "see what it waits for: systemctl status {unit}; stop what has the files open, then apply the plan again"
        )
    )]
    NotStopped {
        /// The unit.
        unit: String,
        /// Its state.
        state: String,
        /// How long it was waited for.
        seconds: u64,
        /// Who has files of the instance open, in words.
        users: String,
    },
    /// A unit may not or cannot be started.
    #[error("{unit} cannot be started: {why}")]
    #[diagnostic(code(abssctl::step::cannot_start), help("look: {next}; then run the same command again"))]
    CannotStart {
        /// The unit.
        unit: String,
        /// Why.
        why: String,
        /// A command that shows or mends it.
        next: String,
    },
    /// A unit was started, and its server is not well.
    #[error("{unit} is not well: {what}; it wrote since its start: {log}")]
    #[diagnostic(
        code(abssctl::step::not_well),
        help(
            "see all of its log: journalctl -u {unit}; where it listens elsewhere, set health.url in restore.yml"
        )
    )]
    NotWell {
        /// The unit.
        unit: String,
        /// The cause, where the log names one that is known; what came of the start, or of asking; its state.
        what: String,
        /// The last lines of its log.
        log: String,
    },
    /// A server cannot be proven.
    #[error("{what}")]
    #[diagnostic(
        code(abssctl::step::certificates),
        help("mend health.ca in restore.yml, and make a new plan")
    )]
    Certificates {
        /// What is wrong.
        what: String,
    },
    /// This program cannot run the step.
    #[error("this program cannot run a step of kind {kind} here")]
    #[diagnostic(code(abssctl::step::unavailable), help("make a new plan: abssctl plan refresh FILE"))]
    Unavailable {
        /// The kind.
        kind: crate::plan::step::StepKind,
    },
    /// The program has a defect.
    #[error("step {step} failed by a defect of this program: {what}")]
    #[diagnostic(code(abssctl::step::defect), help("please report it with the plan file and this message"))]
    Defect {
        /// The step.
        step: crate::ids::StepId,
        /// What the panic said.
        what: String,
    },
    /// A fault that a test asked for.
    #[error("injected fault")]
    #[diagnostic(code(abssctl::step::injected))]
    Injected,
    /// The process that ran it was interrupted.
    #[error("the run was interrupted")]
    #[diagnostic(code(abssctl::step::interrupted), help("run the same command again"))]
    Interrupted,
    /// A person let the run be undone.
    #[error("it was asked for")]
    #[diagnostic(code(abssctl::step::asked), help("apply the plan again to begin anew"))]
    Asked,
    /// A signal came.
    #[error("stopped by a signal")]
    #[diagnostic(code(abssctl::step::cancelled), help("run the same command again"))]
    Cancelled,
    /// Another step failed; this one was stopped.
    #[error("stopped, since another step failed")]
    #[diagnostic(code(abssctl::step::aborted), help("see the other step's error"))]
    Aborted,
}

impl StepError {
    /// Its stable code.
    pub fn code(&self) -> String {
        miette::Diagnostic::code(self).map_or_else(|| "abssctl::step".to_owned(), |code| code.to_string())
    }
}

fn summarise(problems: &[Problem]) -> String {
    let lines: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    lines.join("; ")
}

impl From<ArchiveError> for StepError {
    fn from(error: ArchiveError) -> Self {
        if matches!(error, ArchiveError::Cancelled(_)) { Self::Cancelled } else { Self::Archive(error) }
    }
}

impl From<BackupError> for StepError {
    fn from(error: BackupError) -> Self {
        if matches!(error, BackupError::Cancelled) { Self::Cancelled } else { Self::Backup(error) }
    }
}
