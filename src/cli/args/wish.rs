//! What to restore, and how: the options that `plan restore` and `backup restore` share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::super::parse::{ClientsArg, parse_clients, parse_duration};
use crate::duration::DurationText;

/// What to restore, and how: shared by `plan restore` and `backup restore`.
#[derive(Debug, Clone, Args)]
pub struct WishArgs {
    /// Restore into this directory instead of the instance's own
    #[arg(long, value_name = "DIR")]
    pub dest: Option<PathBuf>,
    /// Restore this budget alone, by name or id, and keep all else as it is; may be given more than once
    #[arg(long, value_name = "NAME|ID", conflicts_with_all = ["dest", "with_assets"])]
    pub budget: Vec<String>,
    /// Bring the one budget as a new one, beside the one that is there
    #[arg(long, requires = "budget")]
    pub as_copy: bool,
    /// Name of the new budget
    #[arg(long, value_name = "TEXT", requires = "as_copy")]
    pub copy_name: Option<String>,
    /// Restore files of the instance directory alone (the default)
    #[arg(long, conflicts_with = "with_assets")]
    pub data_only: bool,
    /// Restore the unit and the vhost too, code that root runs; without it they are only shown
    #[arg(long, conflicts_with = "dest")]
    pub with_assets: bool,
    /// Make no backup of what is there now; the displaced directory is the only way back then
    #[arg(long, conflicts_with_all = ["pre_backup", "backup_message"])]
    pub no_pre_backup: bool,
    /// When to back up what is there now
    #[arg(long, value_enum, value_name = "WHEN")]
    pub pre_backup: Option<PreBackupWhen>,
    /// Message of that backup
    #[arg(long, value_name = "TEXT")]
    pub backup_message: Option<String>,
    /// What happens to clients that hold newer changes: merge lets them send these back, reset makes
    /// them download the restored state; again for single budgets, by name or id: Household=reset
    #[arg(long, value_name = "[BUDGET=]HOW", value_parser = parse_clients)]
    pub clients: Vec<ClientsArg>,
    /// What happens to the logins in the backup
    #[arg(long, value_enum, value_name = "HOW")]
    pub sessions: Option<SessionsHow>,
    /// Start the service afterwards, also where it did not run (refused where none is controlled)
    #[arg(long, conflicts_with = "no_restart")]
    pub restart: bool,
    /// Leave the service stopped
    #[arg(long)]
    pub no_restart: bool,
    /// Why this restore is made, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// How long the plan may be applied
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    pub expires: Option<DurationText>,
    /// What to do when a step after the swap fails
    #[arg(long, value_enum, value_name = "WHAT")]
    pub on_failure: Option<OnFailureWhat>,
    /// How much the machine may differ from what was observed
    #[arg(long, value_enum, value_name = "HOW")]
    pub drift: Option<DriftHow>,
    /// Whether the plan may be applied more than once
    #[arg(long, value_enum, value_name = "HOW")]
    pub replay: Option<ReplayHow>,
    /// How long the displaced directory is kept
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    pub retain: Option<DurationText>,
    /// Where files come from that the target holds already, byte for byte
    #[arg(long, value_enum, value_name = "HOW")]
    pub transfer: Option<TransferHow>,
    /// Restore a backup that lacks parts of budgets: the plan lists them, and no others may be missing
    #[arg(long)]
    pub allow_incomplete: bool,
}

/// How a run is rolled back: shared by `plan rollback` and `run rollback`. The tree comes back as it was,
/// so there is less to choose than for a restore.
#[derive(Debug, Clone, Args)]
pub struct RollbackWishArgs {
    /// Leave unit and vhost as they are, also where the run replaced them
    #[arg(long)]
    pub data_only: bool,
    /// Make no backup of what is there now; the displaced directory is the only way back then
    #[arg(long, conflicts_with_all = ["pre_backup", "backup_message"])]
    pub no_pre_backup: bool,
    /// When to back up what is there now
    #[arg(long, value_enum, value_name = "WHEN")]
    pub pre_backup: Option<PreBackupWhen>,
    /// Message of that backup
    #[arg(long, value_name = "TEXT")]
    pub backup_message: Option<String>,
    /// Why this rollback is made, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// How long the plan may be applied
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    pub expires: Option<DurationText>,
    /// What to do when a step after the swap fails
    #[arg(long, value_enum, value_name = "WHAT")]
    pub on_failure: Option<OnFailureWhat>,
    /// How much the machine may differ from what was observed
    #[arg(long, value_enum, value_name = "HOW")]
    pub drift: Option<DriftHow>,
    /// How long the directory that goes is kept
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    pub retain: Option<DurationText>,
}

/// Declares a choice on the command line with its help texts and its plan value.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident -> $target:path { $($(#[$help:meta])* $variant:ident => $value:ident),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
        pub enum $name { $($(#[$help])* $variant),+ }

        impl From<$name> for $target {
            fn from(choice: $name) -> Self {
                match choice { $($name::$variant => Self::$value),+ }
            }
        }
    )+};
}

choices! {
    /// When to back up what is there now.
    PreBackupWhen -> crate::plan::spec::PreBackupMode {
        /// When the server is stopped
        Quiesced => Quiesced,
        /// While it runs, beside reading the archive
        Online => Online,
    }
    /// What happens to the logins in the backup.
    SessionsHow -> crate::plan::spec::SessionPolicy {
        /// They are valid again
        Keep => Keep,
        /// Everybody logs in again
        Revoke => Revoke,
    }
    /// What to do when a step after the swap fails.
    OnFailureWhat -> crate::plan::spec::OnFailure {
        /// Put everything back
        Rollback => Rollback,
        /// Leave everything for a person to look at
        Halt => Halt,
    }
    /// How much the machine may differ.
    DriftHow -> crate::plan::spec::DriftPolicy {
        /// More changes of the same budgets are fine
        Structure => Structure,
        /// Any difference is refused
        Exact => Exact,
        /// Only machine, instance, backup and target count
        Ignore => Ignore,
    }
    /// Where files come from that the target holds already.
    TransferHow -> crate::plan::spec::Transfer {
        /// All out of the archive
        Full => Full,
        /// Equal ones from the target, shared where the file system can
        Delta => Delta,
    }
    /// Whether a plan may be applied more than once.
    ReplayHow -> crate::plan::spec::ReplayPolicy {
        /// Once
        Once => Once,
        /// Again with `apply --replay`
        Allowed => Allowed,
    }
}
