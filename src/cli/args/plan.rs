//! `abssctl plan …`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::super::parse::parse_duration;
use super::wish::{RollbackWishArgs, WishArgs};
use crate::duration::DurationText;
use crate::ids::{BackupId, InstanceName, RunId};

/// `abssctl plan …`
#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Write a plan for a restore; changes nothing but the file it writes
    Restore(Box<PlanRestoreArgs>),
    /// Write a plan that undoes a finished run: the kept directory and the live one change places again
    Rollback(PlanRollbackArgs),
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

/// `abssctl plan rollback`
#[derive(Debug, Clone, Args)]
pub struct PlanRollbackArgs {
    /// The run to undo
    #[arg(value_name = "RUN")]
    pub run: RunId,
    /// Plan for the machine where these facts were collected, and read nothing of this one; '-' is
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub facts: Option<PathBuf>,
    /// How.
    #[command(flatten)]
    pub wish: RollbackWishArgs,
    /// Format of the plan file; by the ending of FILE otherwise
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<PlanFormat>,
    /// Write the plan here; '-' is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
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
    /// Show every file that would be added, changed or removed instead, by the archive and the target as they are on this machine now; as text or JSON
    #[arg(long)]
    pub all_files: bool,
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
