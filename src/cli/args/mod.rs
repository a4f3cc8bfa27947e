//! Everything that can be typed. The doc comments are the help.

mod plan;
mod wish;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::plan::*;
pub use self::wish::*;
use super::parse::{parse_age, parse_yes};
use crate::host::pool::MOST_THREADS;
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
    /// Compress, decode and hash on so many threads, 1 to 16; by default one for each core
    #[arg(long, global = true, env = "ABSSCTL_THREADS", value_name = "NUMBER", hide_env_values = true,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_THREADS)))]
    pub threads: Option<u16>,
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
    /// Say what is not in order here, and what to type
    Doctor,
    /// Print the JSON Schema of a document
    Schema(SchemaArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Print the manual page
    Man,
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
    /// Go on with an interrupted or halted run: the same as applying its plan again
    Resume(RunResumeArgs),
    /// Bring every interrupted run of this machine to an end, without a question: for its start
    Recover(RunRecoverArgs),
    /// Put back what a run replaced: undo an unfinished one, or exchange the kept directory back
    Rollback(Box<RunRollbackArgs>),
    /// Remove displaced directories whose time is over
    Prune(RunPruneArgs),
}

/// `abssctl run resume`
#[derive(Debug, Clone, Args)]
pub struct RunResumeArgs {
    /// The run
    #[arg(value_name = "RUN")]
    pub run: RunId,
    /// Print one JSON object a line while it runs
    #[arg(long)]
    pub events: bool,
    /// Write the receipt of the run here, whatever its end; nothing else than an older receipt is replaced
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

/// `abssctl run recover`
#[derive(Debug, Clone, Copy, Args)]
pub struct RunRecoverArgs {
    /// The machine comes up, and the units of the servers wait for this: start them out of their order
    #[arg(long)]
    pub before_units: bool,
}

/// `abssctl run rollback`
#[derive(Debug, Clone, Args)]
pub struct RunRollbackArgs {
    /// The run to undo
    #[arg(value_name = "RUN")]
    pub run: RunId,
    /// Only print the plan, or say what would be undone, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object a line while it runs
    #[arg(long)]
    pub events: bool,
    /// Write the receipt of the run here, whatever its end; nothing else than an older receipt is replaced
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub receipt: Option<PathBuf>,
    /// How, for a run that is finished.
    #[command(flatten)]
    pub wish: RollbackWishArgs,
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
    /// Remove backups that nobody needs any more
    Prune(BackupPruneArgs),
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

/// `abssctl backup prune`
#[derive(Debug, Clone, Args)]
pub struct BackupPruneArgs {
    /// Keep so many usable backups of each instance, the newest
    #[arg(long, value_name = "N", required_unless_present = "age", conflicts_with = "age",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    /// Remove backups that are older than so many days; the last usable one of an instance stays
    #[arg(long, value_name = "DAYS", alias = "older-than", value_parser = clap::value_parser!(u32).range(..=36_500))]
    pub age: Option<u32>,
    /// Only of this instance
    #[arg(long, value_name = "NAME")]
    pub instance: Option<InstanceName>,
    /// Only list what would be removed
    #[arg(long)]
    pub dry_run: bool,
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
