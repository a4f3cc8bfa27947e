//! From error to exit code: one exhaustive match. The codes are part of the interface.

use std::io::ErrorKind;

use super::approve::ApproveError;
use super::error::CliError;
use crate::archive::ArchiveError;
use crate::backup::BackupError;
use crate::engine::apply::ApplyError;
use crate::host::lock::LockError;
use crate::planner::PlanError;
use crate::run::journal::JournalError;
use crate::run::receipt::ReceiptError;
use crate::state::backup_index::IndexError;
use crate::state::config::ConfigError;
use crate::state::instances::RegistryError;
use crate::steps::StepError;
use crate::store::StoreError;
use crate::survey::archive::LookError;
use crate::survey::displaced::DisplacedError;
use crate::survey::observe::SurveyError;
use crate::survey::preflight::{Class, PreflightError, Problem};

/// Done, also when there was nothing to do.
pub const DONE: u8 = 0;
/// The request or the plan is invalid or refused.
pub const INVALID: u8 = 2;
/// The environment lacks something: lock, space, permission, archive.
pub const ENVIRONMENT: u8 = 3;
/// A step failed and everything was rolled back.
pub const ROLLED_BACK: u8 = 4;
/// The plan is stale or expired: plan again.
pub const STALE: u8 = 5;
/// An approval is missing or bad.
pub const APPROVAL: u8 = 6;
/// A person must look.
pub const HALTED: u8 = 7;
/// Changes are present (only with `--detailed-exitcode`).
pub const CHANGES: u8 = 20;
/// Stopped by SIGINT; everything is rolled back, or resumable.
pub const INTERRUPTED: u8 = 130;
/// Stopped by SIGTERM; the same.
pub const TERMINATED: u8 = 143;

/// The exit code of an error. `interrupted` is the code for a signal that came.
pub fn code(error: &CliError, interrupted: u8) -> u8 {
    match error {
        // A file that cannot be read; what is no file at all is a wrong setting.
        CliError::Config(ConfigError::Fs(error)) if error.source.kind() != ErrorKind::InvalidInput => {
            ENVIRONMENT
        }
        CliError::Config(_)
        | CliError::Load(_)
        | CliError::NoPlanFile(_)
        | CliError::NoFactsFile(_)
        | CliError::NoRun(_)
        | CliError::NotBegun { .. }
        | CliError::RolledBack { .. }
        | CliError::Declined
        | CliError::NoTerminal
        | CliError::Usage { .. }
        | CliError::Canonical(_)
        | CliError::Emit(_) => INVALID,
        CliError::Key(_) | CliError::Agent(_) | CliError::NoPassphrase(_) => ENVIRONMENT,
        CliError::Approve(error) => approve(error),
        CliError::Plan(error) => plan(error, interrupted),
        CliError::Apply(error) => apply(error, interrupted),
        CliError::Backup(error) => backup(error, interrupted),
        CliError::Index(error) => index(error),
        CliError::Registry(error) => registry(error),
        CliError::Survey(error) => survey(error),
        CliError::Preflight(error) => preflight(error),
        CliError::WouldNotApply(problems) => problems_code(problems),
        CliError::Journal(error) => journal(error),
        CliError::Receipt(error) => receipt(error),
        CliError::Lock(error) => lock(error, interrupted),
        CliError::Interrupted => interrupted,
        CliError::OtherPlan { .. } | CliError::PlanLost { .. } => HALTED,
        CliError::NoIndex(_) => ENVIRONMENT,
        CliError::Log(_) | CliError::Fs(_) | CliError::Output(_) => ENVIRONMENT,
    }
}

/// Stale before all: a plan that must be made again is made again first, and approved after that.
pub fn problems_code(problems: &[Problem]) -> u8 {
    match problems.iter().map(|problem| problem.class).max() {
        None => DONE,
        Some(Class::Environment) => ENVIRONMENT,
        Some(Class::Refused) => INVALID,
        Some(Class::Approval) => APPROVAL,
        Some(Class::Stale) => STALE,
    }
}

/// The code of several results together: what is wrong with a plan before what the machine lacks, as above.
pub fn worst(codes: impl Iterator<Item = u8>) -> u8 {
    let weight = |code: &u8| match *code {
        DONE => 0,
        ENVIRONMENT => 1,
        _ => 2,
    };
    codes.max_by_key(weight).unwrap_or(DONE)
}

fn approve(error: &ApproveError) -> u8 {
    match error {
        ApproveError::Expired { .. } => STALE,
        ApproveError::Future { .. } => ENVIRONMENT,
        ApproveError::Signature { .. }
        | ApproveError::NotApproved
        | ApproveError::NoList { .. }
        | ApproveError::TooMany { .. } => APPROVAL,
        ApproveError::Interrupted => INTERRUPTED,
        ApproveError::StandardInput
        | ApproveError::FileName { .. }
        | ApproveError::WhichKey { .. }
        | ApproveError::WhoSigns { .. }
        | ApproveError::Principal { .. }
        | ApproveError::NoTerminal
        | ApproveError::LongName { .. }
        | ApproveError::Changed => INVALID,
    }
}

fn lock(error: &LockError, interrupted: u8) -> u8 {
    match error {
        LockError::Cancelled { .. } => interrupted,
        LockError::ReservedName { .. } => INVALID,
        LockError::Timeout { .. } | LockError::NotAFile { .. } | LockError::Fs(_) => ENVIRONMENT,
    }
}

fn plan(error: &PlanError, interrupted: u8) -> u8 {
    match error {
        PlanError::Index(error) => index(error),
        PlanError::Survey(error) => survey(error),
        PlanError::Store(error) => store(error),
        PlanError::Look(LookError::Store(error)) => store(error),
        PlanError::Look(LookError::Archive(error)) => archive(error, interrupted),
        PlanError::Fs(_) | PlanError::Unread { .. } => ENVIRONMENT,
        PlanError::Displaced(error) => displaced(error),
        PlanError::Rollback { .. } => INVALID,
        PlanError::OtherSource { .. } | PlanError::OtherMachine => STALE,
        PlanError::Checksum { .. }
        | PlanError::OtherInstance { .. }
        | PlanError::NoBackup { .. }
        | PlanError::Unusable { .. }
        | PlanError::Algorithm { .. }
        | PlanError::Path { .. }
        | PlanError::Time { .. }
        | PlanError::Target { .. }
        | PlanError::Wish { .. }
        | PlanError::Facts { .. }
        | PlanError::Steps(_)
        | PlanError::Rules(_)
        | PlanError::Canonical(_) => INVALID,
    }
}

fn apply(error: &ApplyError, interrupted: u8) -> u8 {
    match error {
        ApplyError::Refused { problems } => problems_code(problems),
        ApplyError::RolledBack { cause, .. } => step(cause, interrupted),
        ApplyError::CannotResume { cause, .. } => match step(cause, interrupted) {
            // Nothing was undone: the run waits for a person.
            ROLLED_BACK => HALTED,
            code => code,
        },
        ApplyError::Halted { .. } => HALTED,
        ApplyError::EndedMeanwhile { .. } => ENVIRONMENT,
        ApplyError::Journal(error) => journal(error),
        ApplyError::Preflight(error) => preflight(error),
        ApplyError::Canonical(_) => INVALID,
    }
}

/// The exit code of a run that this error undid.
pub fn step(error: &StepError, interrupted: u8) -> u8 {
    match error {
        StepError::Check(problems) => problems_code(problems),
        StepError::Preflight(error) => preflight(error),
        StepError::Survey(error) => survey(error),
        StepError::Lock(error) => lock(error, interrupted),
        StepError::InUse { .. } | StepError::Journal(_) | StepError::Unavailable { .. } => ENVIRONMENT,
        StepError::Store(error) => store(error),
        error if is_out_of_space(error) => ENVIRONMENT,
        StepError::Cancelled => interrupted,
        StepError::Asked => DONE,
        StepError::Fs(_)
        | StepError::Archive(_)
        | StepError::Checksum { .. }
        | StepError::OtherTree { .. }
        | StepError::Changed { .. }
        | StepError::Unsound { .. }
        | StepError::Sqlite(_)
        | StepError::Clients(_)
        | StepError::Single(_)
        | StepError::Copy(_)
        | StepError::Backup(_)
        | StepError::Nginx { .. }
        | StepError::Program(_)
        | StepError::Index(_)
        | StepError::Registry(_)
        | StepError::Log(_)
        | StepError::Service(_)
        | StepError::NotStopped { .. }
        | StepError::CannotStart { .. }
        | StepError::NotWell { .. }
        | StepError::Certificates { .. }
        | StepError::Defect { .. }
        | StepError::Injected
        | StepError::Interrupted
        | StepError::Aborted => ROLLED_BACK,
        // Where it could be undone all the same; a halt has a code of its own.
        StepError::UnknownState { .. } | StepError::Edited { .. } => ROLLED_BACK,
    }
}

/// A full disk is what the machine lacks, whichever step met it first.
fn is_out_of_space(error: &StepError) -> bool {
    let file = matches!(error,
        StepError::Fs(error)
        | StepError::Index(IndexError::Fs(error))
        | StepError::Registry(RegistryError::Fs(error))
        | StepError::Backup(
            BackupError::Fs(error)
            | BackupError::Store(StoreError::Fs(error))
            | BackupError::Index(IndexError::Fs(error)),
        ) if error.is_out_of_space());
    let archive = matches!(error,
        StepError::Archive(error) | StepError::Backup(BackupError::Archive(error)) if error.is_out_of_space());
    let single = matches!(error, StepError::Single(error) if error.is_out_of_space())
        || matches!(error, StepError::Copy(error) if error.is_out_of_space());
    file || archive || single || matches!(error, StepError::Sqlite(error) if error.is_out_of_space())
}

fn backup(error: &BackupError, interrupted: u8) -> u8 {
    match error {
        BackupError::Fs(_) => ENVIRONMENT,
        BackupError::Archive(error) => archive(error, interrupted),
        BackupError::Store(error) => store(error),
        BackupError::Index(error) => index(error),
        BackupError::Registry(error) => registry(error),
        BackupError::NoDirectory { .. } | BackupError::NotProven { .. } => ENVIRONMENT,
        BackupError::Level { .. } => INVALID,
        BackupError::Cancelled => interrupted,
    }
}

fn displaced(error: &DisplacedError) -> u8 {
    match error {
        DisplacedError::Journal(error) => journal(error),
        DisplacedError::Fs(_) => ENVIRONMENT,
    }
}

fn preflight(error: &PreflightError) -> u8 {
    match error {
        PreflightError::Journal(error) => journal(error),
        PreflightError::Survey(error) => survey(error),
        PreflightError::Displaced(error) => displaced(error),
        PreflightError::Index(error) => index(error),
        PreflightError::Store(error) => store(error),
    }
}

fn survey(error: &SurveyError) -> u8 {
    match error {
        SurveyError::Fs(_)
        | SurveyError::TargetKind { .. }
        | SurveyError::Assets(_)
        | SurveyError::MountInside { .. }
        | SurveyError::Service(_)
        | SurveyError::NoParent { .. } => ENVIRONMENT,
        SurveyError::Registry(error) => registry(error),
        SurveyError::DataOutside { .. } | SurveyError::HealthUrl { .. } => INVALID,
    }
}

fn journal(error: &JournalError) -> u8 {
    match error {
        JournalError::Fs(_) | JournalError::Unreadable { .. } | JournalError::InProgress { .. } => {
            ENVIRONMENT
        }
        JournalError::Damaged { .. } | JournalError::Illegal { .. } | JournalError::Lost { .. } => HALTED,
    }
}

/// Whatever is wrong with a receipt, its plan or its journal: nothing waits for a person here.
fn receipt(error: &ReceiptError) -> u8 {
    match error {
        ReceiptError::NotEnded { .. }
        | ReceiptError::KeptPlan { .. }
        | ReceiptError::KeptSignature { .. }
        | ReceiptError::Unreadable { .. }
        | ReceiptError::Changed { .. }
        | ReceiptError::OtherPlan { .. }
        | ReceiptError::ContradictsPlan { .. }
        | ReceiptError::ContradictsRun { .. }
        | ReceiptError::Journal(
            JournalError::Damaged { .. } | JournalError::Illegal { .. } | JournalError::Lost { .. },
        ) => INVALID,
        ReceiptError::Journal(
            JournalError::Fs(_) | JournalError::Unreadable { .. } | JournalError::InProgress { .. },
        )
        | ReceiptError::Fs(_) => ENVIRONMENT,
    }
}

fn index(error: &IndexError) -> u8 {
    match error {
        IndexError::Fs(_) => ENVIRONMENT,
        IndexError::Syntax { .. }
        | IndexError::Shape { .. }
        | IndexError::Duplicate { .. }
        | IndexError::UnknownBackup { .. } => INVALID,
    }
}

fn registry(error: &RegistryError) -> u8 {
    match error {
        RegistryError::Fs(_) => ENVIRONMENT,
        RegistryError::Syntax { .. }
        | RegistryError::Shape { .. }
        | RegistryError::UnknownInstance { .. } => INVALID,
    }
}

fn store(error: &StoreError) -> u8 {
    match error {
        StoreError::Missing { .. } | StoreError::Fs(_) => ENVIRONMENT,
        StoreError::NotAFile { .. }
        | StoreError::Outside { .. }
        | StoreError::Algorithm { .. }
        | StoreError::Sidecar { .. }
        | StoreError::Size { .. }
        | StoreError::SidecarDiffers { .. }
        | StoreError::Exists { .. }
        | StoreError::Path(_) => INVALID,
    }
}

fn archive(error: &ArchiveError, interrupted: u8) -> u8 {
    if matches!(error, ArchiveError::Cancelled(_)) {
        return interrupted;
    }
    // What is not an archive's own fault: the disk, or a live tree that does not keep still.
    let environment = matches!(
        error,
        ArchiveError::Fs(_)
            | ArchiveError::Read(_)
            | ArchiveError::Write(_)
            | ArchiveError::FileChanged { .. }
    ) || matches!(error, ArchiveError::Sqlite(error) if error.is_environment());
    if environment || error.is_out_of_space() { ENVIRONMENT } else { INVALID }
}
