//! Why there is no plan.

use crate::host::fs::FsError;
use crate::ids::{AbsPath, BackupId, InstanceName, RunId, Sha256};
use crate::plan::canonical::CanonicalError;
use crate::plan::derive::NoSuchStep;
use crate::state::backup_index::IndexError;
use crate::store::StoreError;
use crate::survey::archive::LookError;
use crate::survey::displaced::DisplacedError;
use crate::survey::observe::SurveyError;

/// Why there is no plan.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PlanError {
    /// The index could not be read, or does not know the backup.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Index(#[from] IndexError),
    /// Instance or target could not be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Survey(#[from] SurveyError),
    /// The archive is not there, or not as the index says.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    /// The archive could not be looked into.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Look(#[from] LookError),
    /// A file operation failed.
    #[error(transparent)]
    #[diagnostic(code(abssctl::planner::io), help("make it readable for this user, or run as root"))]
    Fs(#[from] FsError),
    /// The displaced tree could not be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Displaced(#[from] DisplacedError),
    /// The machine could not read something of the target.
    #[error("{directory}: {why}")]
    #[diagnostic(
        code(abssctl::planner::unread),
        help("see what the kernel says of the disk: dmesg; then run the same command again")
    )]
    Unread {
        /// The target.
        directory: AbsPath,
        /// What of it, and why.
        why: String,
    },
    /// A run cannot be rolled back.
    #[error("{what}")]
    #[diagnostic(code(abssctl::planner::rollback), help("{help}"))]
    Rollback {
        /// What stands in the way.
        what: String,
        /// What to type instead.
        help: String,
        /// The run that rolled it back already, where that is it.
        undone_by: Option<RunId>,
    },
    /// The archive's bytes are not what the index says.
    #[error("{path} has SHA-256 {found}, the index says {recorded}")]
    #[diagnostic(
        code(abssctl::planner::checksum),
        help("the file is damaged or was replaced; choose another backup: abssctl backup list")
    )]
    Checksum {
        /// The archive.
        path: AbsPath,
        /// Its digest.
        found: Sha256,
        /// The digest in the index.
        recorded: Sha256,
    },
    /// What comes is not what the plan was made for.
    #[error("{what} is not what it was when the plan was made")]
    #[diagnostic(
        code(abssctl::planner::other_source),
        help("somebody replaced it, or its entry; make a new plan: abssctl plan refresh FILE")
    )]
    OtherSource {
        /// The backup, or the tree of a run.
        what: String,
    },
    /// The plan is of another machine.
    #[error("the plan was made on another machine, and its files are compared there")]
    #[diagnostic(
        code(abssctl::planner::other_machine),
        help("type the same on that machine; without --all-files the plan is shown anywhere")
    )]
    OtherMachine,
    /// The backup belongs to another instance.
    #[error("backup {backup} is of instance {owner}, not of {asked}")]
    #[diagnostic(
        code(abssctl::planner::other_instance),
        help("leave out --instance, or choose a backup of {asked}: abssctl backup list --instance {asked}")
    )]
    OtherInstance {
        /// The backup.
        backup: BackupId,
        /// Its instance.
        owner: InstanceName,
        /// The instance asked for.
        asked: InstanceName,
    },
    /// No backup fits.
    #[error("instance {instance} has no usable backup{when}")]
    #[diagnostic(
        code(abssctl::planner::no_backup),
        help("see what there is: abssctl backup list --instance {instance}")
    )]
    NoBackup {
        /// The instance.
        instance: InstanceName,
        /// " at or before …", or nothing.
        when: String,
    },
    /// The index says that the backup cannot be used.
    #[error("backup {backup} is {status} according to the index")]
    #[diagnostic(
        code(abssctl::planner::unusable),
        help("look again with abssctl backup verify {backup}, or choose another: abssctl backup list")
    )]
    Unusable {
        /// The backup.
        backup: BackupId,
        /// Its status.
        status: String,
    },
    /// A compression that this program does not know.
    #[error("backup {backup} is compressed with '{algorithm}', which this program does not read")]
    #[diagnostic(code(abssctl::planner::algorithm), help("it reads zstd, gzip and none"))]
    Algorithm {
        /// The backup.
        backup: BackupId,
        /// The compression.
        algorithm: String,
    },
    /// A path that is none.
    #[error("{what}: {why}")]
    #[diagnostic(code(abssctl::planner::path), help("give an absolute path without '..'"))]
    Path {
        /// The option.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A time that is none.
    #[error("'{text}' is no time")]
    #[diagnostic(
        code(abssctl::planner::time),
        help("write 2026-11-24T02:30:00Z, 2026-11-24T02:30:00+01:00 or 2026-11-24 (end of that day, UTC)")
    )]
    Time {
        /// As given.
        text: String,
    },
    /// The target must not be replaced.
    #[error("{path} cannot be a target: {why}")]
    #[diagnostic(code(abssctl::planner::target), help("{help}"))]
    Target {
        /// The target.
        path: AbsPath,
        /// Why.
        why: String,
        /// What to do.
        help: String,
    },
    /// Something that this wish cannot have.
    #[error("{what}")]
    #[diagnostic(code(abssctl::planner::wish), help("{help}"))]
    Wish {
        /// What, in one sentence.
        what: String,
        /// What to type instead.
        help: String,
    },
    /// Facts lack what a plan needs.
    #[error("{what}")]
    #[diagnostic(code(abssctl::planner::facts), help("{help}"))]
    Facts {
        /// What, in one sentence.
        what: String,
        /// What to type on the machine.
        help: String,
    },
    /// The steps could not be derived.
    #[error(transparent)]
    #[diagnostic(code(abssctl::planner::steps), help("mend the spec and run: abssctl plan refresh FILE"))]
    Steps(#[from] NoSuchStep),
    /// The finished plan breaks a rule.
    #[error("the spec cannot be planned: {0}")]
    #[diagnostic(code(abssctl::planner::rules), help("mend the spec and run: abssctl plan refresh FILE"))]
    Rules(String),
    /// The plan has no canonical form.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Canonical(#[from] CanonicalError),
}
