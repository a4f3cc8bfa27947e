//! Everything that can be typed. The doc comments are the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::parse::{ClientsArg, parse_age, parse_clients, parse_duration, parse_yes};
use crate::duration::DurationText;
use crate::ids::{BackupId, InstanceName, RunId};

/// Put an Actual Budget server back to a known-good state, safely, and so that it stays there.
///
/// A restore is a plan file: `abssctl plan restore` writes it, people read it, `abssctl apply` executes
/// exactly that. `abssctl backup restore ID` does both in one go.
#[derive(Debug, Parser)]
#[command(name = "abssctl", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Read this configuration instead of /etc/abssctl/config.yml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take every path below this directory, as if chrooted; services of this machine are not touched
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print one JSON object on standard output, also for errors
    #[arg(long, global = true)]
    pub json: bool,
    /// Answer yes to every question
    #[arg(long, global = true, env = "ABSSCTL_ASSUME_YES", value_parser = parse_yes, hide_env_values = true)]
    pub yes: bool,
    /// Wait so many seconds for locks
    #[arg(long, global = true, value_name = "SECONDS")]
    pub lock_timeout: Option<u64>,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub color: ColorChoice,
    /// Also say which step begins, and what it is about to do
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write, show and check plans
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Print what plans need to know of this machine, so that they can be made elsewhere
    Facts(FactsArgs),
    /// Execute a plan: exactly what it says
    Apply(ApplyArgs),
    /// Look at runs of plans
    #[command(subcommand)]
    Run(RunCommand),
    /// Make, list and restore backups
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Look at instances
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the JSON Schema of a document
    Schema(SchemaArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Print the manual page
    Man,
}

/// `abssctl plan …`
#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Write a plan for a restore; changes nothing but the file it writes
    Restore(Box<PlanRestoreArgs>),
    /// Show a plan to a person
    Show(PlanShowArgs),
    /// Check that plan files are whole and obey the rules; does not look at this machine
    Validate(PlanValidateArgs),
    /// Say whether a plan would apply on this machine now
    Check(PlanCheckArgs),
    /// Write the plan again for the wish in it (its spec) and the machine as it is now
    Refresh(PlanRefreshArgs),
    /// Sign a plan with an SSH key: you have read it and want it applied
    Approve(PlanApproveArgs),
    /// Say who signed a plan, and whether the signatures are valid
    Verify(PlanVerifyArgs),
    /// Compare two plans by meaning: what the wish changed, what the world changed, what follows
    Diff(PlanDiffArgs),
}

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
    /// Restore the unit and the vhost too (refused as long as this program controls no services)
    #[arg(long)]
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
    /// Start the service afterwards in any case (refused as long as this program controls no services)
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
    /// Restore a backup that lacks parts of budgets: the plan lists them, and no others may be missing
    #[arg(long)]
    pub allow_incomplete: bool,
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
    /// Whether a plan may be applied more than once.
    ReplayHow -> crate::plan::spec::ReplayPolicy {
        /// Once
        Once => Once,
        /// Again with `apply --replay`
        Allowed => Allowed,
    }
}

/// `abssctl plan restore`
#[derive(Debug, Clone, Args)]
pub struct PlanRestoreArgs {
    /// The backup to restore
    #[arg(value_name = "BACKUP_ID", conflicts_with_all = ["latest", "at"])]
    pub backup: Option<BackupId>,
    /// The instance: with --latest or --at, or to make sure that the backup is its own
    #[arg(long, value_name = "NAME")]
    pub instance: Option<InstanceName>,
    /// Choose the newest backup of --instance
    #[arg(long, requires = "instance", conflicts_with = "at")]
    pub latest: bool,
    /// Choose the newest backup of --instance that is not newer than this: 2026-11-24T02:30:00Z, or a date
    #[arg(long, value_name = "TIME", requires = "instance")]
    pub at: Option<String>,
    /// Plan for the machine where these facts were collected, and read nothing of this one; '-' is
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub facts: Option<PathBuf>,
    /// What to restore, and how.
    #[command(flatten)]
    pub wish: WishArgs,
    /// Format of the plan file; by the ending of FILE otherwise
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<PlanFormat>,
    /// Write the plan here; '-' is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Exit with 20 when the restore would change something
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// Format of a plan file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// With comments, for review
    Yaml,
    /// For programs
    Json,
}

/// `abssctl plan show`
#[derive(Debug, Clone, Args)]
pub struct PlanShowArgs {
    /// The plan file; '-' is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to show it; with --json the plan and what is known of it come as one object instead
    #[arg(long, value_enum, default_value_t = ShowFormat::Text, value_name = "FORMAT")]
    pub format: ShowFormat,
}

/// How to show a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShowFormat {
    /// For the terminal
    Text,
    /// A comment for a pull request, at most 65,535 bytes
    Markdown,
    /// One page that stands alone: for reading, mailing and printing
    Html,
    /// The steps as a mermaid flowchart
    Mermaid,
    /// The steps for Graphviz
    Dot,
    /// The document as JSON
    Json,
    /// The document as YAML
    Yaml,
    /// Exactly the bytes that the digest covers
    Canonical,
}

/// How to tell what is wrong with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For the terminal
    Text,
    /// One JSON object; the same as --json
    Json,
    /// A SARIF 2.1.0 log: forges show it beside the lines of the file
    Sarif,
}

/// `abssctl plan validate`
#[derive(Debug, Clone, Args)]
pub struct PlanValidateArgs {
    /// The plan files; '-' is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How to tell what is wrong; text otherwise. The exit code is the same
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ReportFormat>,
}

/// `abssctl plan check`
#[derive(Debug, Clone, Args)]
pub struct PlanCheckArgs {
    /// The plan file; '-' is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to tell what was found; text otherwise. The exit code is the same
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ReportFormat>,
    /// Exit with 20 when the plan would apply and change something
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// `abssctl plan refresh`
#[derive(Debug, Clone, Args)]
pub struct PlanRefreshArgs {
    /// The plan file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write the new plan here instead of over FILE; '-' is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Format of the new plan; that of FILE otherwise
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<PlanFormat>,
    /// How long the new plan may be applied
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    pub expires: Option<DurationText>,
    /// Look at these facts instead of this machine; '-' is standard input
    #[arg(long, value_name = "FACTS")]
    pub facts: Option<PathBuf>,
}

/// `abssctl facts`
#[derive(Debug, Clone, Args)]
pub struct FactsArgs {
    /// Only this instance; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub instance: Vec<InstanceName>,
    /// Only this backup, and read its whole archive where that is needed; may be given more than once
    #[arg(long, value_name = "BACKUP_ID")]
    pub backup: Vec<BackupId>,
    /// Also look at this directory, for plans with --dest; may be given more than once
    #[arg(long, value_name = "DIR")]
    pub dest: Vec<PathBuf>,
    /// Write the facts here; '-' is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

/// `abssctl plan approve`
#[derive(Debug, Clone, Args)]
pub struct PlanApproveArgs {
    /// The plan file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Sign with this private key; with a .pub file, or without --key, ssh-agent signs
    #[arg(long, value_name = "PATH", conflicts_with = "signature")]
    pub key: Option<PathBuf>,
    /// Add a signature made elsewhere: plan show --format canonical FILE | ssh-keygen -Y sign -n abssctl-plan@v1 -f KEY -
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Who signs, as the allowed signers name you; found by the key where it can be
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// Write the signature to PLAN.NAME.sig beside the plan and leave the plan file alone
    #[arg(long)]
    pub detached: bool,
}

/// `abssctl plan verify`
#[derive(Debug, Clone, Args)]
pub struct PlanVerifyArgs {
    /// The plan file; '-' is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Who may sign with which key, in OpenSSH's format, instead of allowedSigners in restore.yml
    #[arg(long, value_name = "FILE", conflicts_with = "receipt")]
    pub allowed_signers: Option<PathBuf>,
    /// Say instead whether this is the receipt of a run of the plan, as it was written
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

/// `abssctl plan diff`
#[derive(Debug, Clone, Args)]
pub struct PlanDiffArgs {
    /// The first plan file; '-' is standard input
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The second plan file; '-' is standard input
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Exit with 20 when the plans differ in meaning
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// `abssctl apply`
#[derive(Debug, Clone, Args)]
pub struct ApplyArgs {
    /// The plan file; '-' is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only say whether it would apply, and what it would do
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object a line while it runs
    #[arg(long)]
    pub events: bool,
    /// Apply a plan again that was applied before; the plan must allow it
    #[arg(long)]
    pub replay: bool,
    /// Refuse a plan that fewer people approved; restore.yml may ask for more
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub require_approvals: u32,
    /// Write the receipt of the run here, whatever its end; nothing else than an older receipt is replaced
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub receipt: Option<PathBuf>,
}

/// `abssctl run …`
#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// List runs, and the displaced directories that they keep
    List,
    /// Show one run
    Show(RunShowArgs),
    /// Remove displaced directories whose time is over
    Prune(RunPruneArgs),
}

/// `abssctl run prune`
#[derive(Debug, Clone, Args)]
pub struct RunPruneArgs {
    /// Remove those of runs that ended longer ago than this, whatever their plan says; 0s: all
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_age)]
    pub older_than: Option<u64>,
    /// Only list what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// `abssctl run show`
#[derive(Debug, Clone, Args)]
pub struct RunShowArgs {
    /// The run
    #[arg(value_name = "RUN")]
    pub run: RunId,
    /// Print the receipt of the run, as apply --receipt writes it
    #[arg(long)]
    pub receipt: bool,
}

/// `abssctl backup …`
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Make a backup of an instance, also while its server runs
    Create(BackupCreateArgs),
    /// List backups, newest first
    List(BackupListArgs),
    /// Show one backup and its restores
    Show(BackupShowArgs),
    /// Prove that archives are whole and what the index says, and record the result
    Verify(BackupVerifyArgs),
    /// Restore a backup: plan, confirm and apply in one go
    Restore(Box<BackupRestoreArgs>),
}

/// `abssctl backup create`
#[derive(Debug, Clone, Args)]
pub struct BackupCreateArgs {
    /// The instance
    #[arg(value_name = "INSTANCE")]
    pub instance: InstanceName,
    /// Leave out the unit and the vhost
    #[arg(long)]
    pub data_only: bool,
    /// Compression of the archive; the configured one otherwise
    #[arg(long, value_enum, value_name = "HOW")]
    pub compression: Option<CompressionHow>,
    /// Level of the compression: 1 to 22 for zstd, 1 to 9 for gzip
    #[arg(long, alias = "compression-level", value_name = "N", allow_negative_numbers = true)]
    pub level: Option<i32>,
    /// Message in the index
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Label in the index; may be given more than once
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Vec<String>,
}

/// Compression of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompressionHow {
    /// The best that this program has: zstd
    Auto,
    /// Zstandard
    Zstd,
    /// Gzip
    Gzip,
    /// None
    None,
}

/// `abssctl backup list`
#[derive(Debug, Clone, Args)]
pub struct BackupListArgs {
    /// Only backups of this instance
    #[arg(long, value_name = "NAME")]
    pub instance: Option<InstanceName>,
}

/// `abssctl backup show`
#[derive(Debug, Clone, Args)]
pub struct BackupShowArgs {
    /// The backup
    #[arg(value_name = "BACKUP_ID")]
    pub backup: BackupId,
}

/// `abssctl backup verify`
#[derive(Debug, Clone, Args)]
pub struct BackupVerifyArgs {
    /// The backup
    #[arg(value_name = "BACKUP_ID", required_unless_present = "all", conflicts_with = "all")]
    pub backup: Option<BackupId>,
    /// Every backup but removed ones
    #[arg(long)]
    pub all: bool,
}

/// `abssctl backup restore`
#[derive(Debug, Clone, Args)]
pub struct BackupRestoreArgs {
    /// The backup to restore
    #[arg(value_name = "BACKUP_ID")]
    pub backup: BackupId,
    /// Make sure that the backup is this instance's
    #[arg(long, value_name = "NAME")]
    pub instance: Option<InstanceName>,
    /// Print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write the receipt of the run here, whatever its end; nothing else than an older receipt is replaced
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub receipt: Option<PathBuf>,
    /// What to restore, and how.
    #[command(flatten)]
    pub wish: WishArgs,
}

/// `abssctl instance …`
#[derive(Debug, Subcommand)]
pub enum InstanceCommand {
    /// List instances
    List,
    /// Show one instance, its budgets and its backups
    Show(InstanceShowArgs),
}

/// `abssctl instance show`
#[derive(Debug, Clone, Args)]
pub struct InstanceShowArgs {
    /// The instance
    #[arg(value_name = "NAME")]
    pub name: InstanceName,
}

/// `abssctl config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting, its value and where it comes from
    Show,
}

/// `abssctl schema`
#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// Which document
    #[arg(value_enum, default_value_t = SchemaName::Plan, value_name = "DOCUMENT")]
    pub name: SchemaName,
}

/// Documents that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaName {
    /// A plan file
    Plan,
    /// A line of `apply --events`
    Event,
    /// What `apply --json` prints
    Result,
    /// What `facts` prints
    Facts,
    /// What `apply --receipt` writes
    Receipt,
}

/// `abssctl completion`
#[derive(Debug, Clone, Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
