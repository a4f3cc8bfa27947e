//! One invocation: what was typed, the machine, where output goes.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Parser as _;

use super::args::{
    BackupCommand, Cli, Command, ConfigCommand, Global, InstanceCommand, PlanCommand, ReportFormat,
    RunCommand,
};
use super::error::CliError;
use super::output::{Output, name_file};
use super::signals::{self, Caught};
use super::{
    apply, approve, backup, backup_prune, config, doctor, exit, facts, instance, plan, plan_diff,
    plan_validate, prune, recover, restore, resume, rollback, run, schema, verify,
};
use crate::context::Context;
use crate::host::cancel::Cancel;
use crate::host::fs::{IoContext as _, Root, read_limited};
use crate::host::lock::{LockGuard, LockName, LockWait, acquire};
use crate::host::machine;
use crate::host::pool;
use crate::host::sqlite;
use crate::host::stamp::Known;
use crate::ids::AbsPath;
use crate::plan::render::is_hidden;
use crate::state::config::{Config, ConfigFlags};

/// Larger plan files are refused by the loader; this much is read to be able to say so.
const MAX_PLAN: u64 = 64 << 20;

/// One invocation.
#[derive(Debug)]
pub struct Session {
    /// Where output goes.
    pub output: Output,
    /// Whether every question is answered with yes.
    pub yes: bool,
    global: Global,
    /// The plan file that the command is about, for help texts that say FILE.
    plan_file: Mutex<Option<String>>,
    cancel: Cancel,
    caught: Caught,
}

/// Runs the program: the only way in.
pub fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; clap knows where they go and how they exit.
            drop(error.print());
            if error.use_stderr() && std::env::args_os().any(|word| word == "--json") {
                usage_object(&error);
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::INVALID));
        }
    };
    cli.global.json |= wants_json(&cli.command);
    let output = Output::new(&cli.global);
    if let Some(threads) = cli.global.threads {
        pool::set_threads(threads);
    }
    let cancel = Cancel::default();
    // A signal ends a long question to a database too; held until the command is over.
    let _stop = sqlite::stop_on(&cancel);
    let caught = match signals::listen(&cancel) {
        Ok(caught) => caught,
        Err(error) => {
            output.error(&CliError::Output(error), exit::ENVIRONMENT, "FILE");
            return ExitCode::from(exit::ENVIRONMENT);
        }
    };
    let session = Session {
        output,
        yes: cli.global.yes,
        global: cli.global,
        plan_file: Mutex::default(),
        cancel,
        caught,
    };
    match dispatch(&session, cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = exit::code(&error, session.caught.exit_code());
            session.output.error(&error, code, &session.plan_file());
            ExitCode::from(code)
        }
    }
}

/// Whether a command has another way than `--json` to ask for one JSON object, for errors too.
fn wants_json(command: &Command) -> bool {
    let Command::Plan(command) = command else { return false };
    let format = match command {
        PlanCommand::Validate(args) => args.format,
        PlanCommand::Check(args) => args.format,
        PlanCommand::Restore(_)
        | PlanCommand::Rollback(_)
        | PlanCommand::Show(_)
        | PlanCommand::Refresh(_)
        | PlanCommand::Approve(_)
        | PlanCommand::Verify(_)
        | PlanCommand::Diff(_) => None,
    };
    format == Some(ReportFormat::Json)
}

/// A command line that was not understood as the object that every other error is with `--json`.
fn usage_object(error: &clap::Error) {
    let rendered = error.render().to_string();
    let lines = rendered.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let first = lines.collect::<Vec<_>>().join(" ");
    let message = first.strip_prefix("error: ").unwrap_or(&first);
    let help = "see what there is: abssctl --help, or abssctl COMMAND --help";
    let object = serde_json::json!({
        "code": "abssctl::cli::usage", "message": message, "help": help, "exit_code": exit::INVALID,
    });
    // Nobody is left to be told when standard output is gone.
    drop(writeln!(io::stdout().lock(), "{object:#}"));
}

fn dispatch(session: &Session, command: Command) -> Result<u8, CliError> {
    match command {
        Command::Plan(PlanCommand::Restore(args)) => plan::restore(session, &args),
        Command::Plan(PlanCommand::Rollback(args)) => rollback::plan(session, &args),
        Command::Plan(PlanCommand::Show(args)) => plan::show(session, &args),
        Command::Plan(PlanCommand::Validate(args)) => plan_validate::validate(session, &args),
        Command::Plan(PlanCommand::Check(args)) => plan::check(session, &args),
        Command::Plan(PlanCommand::Refresh(args)) => plan::refresh(session, &args),
        Command::Plan(PlanCommand::Approve(args)) => approve::approve(session, &args),
        Command::Plan(PlanCommand::Verify(args)) => verify::verify(session, &args),
        Command::Plan(PlanCommand::Diff(args)) => plan_diff::plan_diff(session, &args),
        Command::Facts(args) => facts::facts(session, &args),
        Command::Apply(args) => apply::apply(session, &args),
        Command::Run(RunCommand::List) => run::list(session),
        Command::Run(RunCommand::Show(args)) => run::show(session, &args),
        Command::Run(RunCommand::Resume(args)) => resume::resume(session, &args),
        Command::Run(RunCommand::Recover(args)) => recover::recover(session, args),
        Command::Run(RunCommand::Rollback(args)) => rollback::rollback(session, &args),
        Command::Run(RunCommand::Prune(args)) => prune::prune(session, &args),
        Command::Backup(BackupCommand::Create(args)) => backup::create(session, &args),
        Command::Backup(BackupCommand::List(args)) => backup::list(session, &args),
        Command::Backup(BackupCommand::Show(args)) => backup::show(session, &args),
        Command::Backup(BackupCommand::Verify(args)) => backup::verify(session, &args),
        Command::Backup(BackupCommand::Prune(args)) => backup_prune::prune(session, &args),
        Command::Backup(BackupCommand::Restore(args)) => restore::restore(session, &args),
        Command::Instance(InstanceCommand::List) => instance::list(session),
        Command::Instance(InstanceCommand::Show(args)) => instance::show(session, &args),
        Command::Config(ConfigCommand::Show) => config::show(session),
        Command::Doctor => doctor::doctor(session),
        Command::Schema(args) => schema::schema(session, &args),
        Command::Completion(args) => schema::completion(session, &args),
        Command::Man => schema::man(session),
    }
}

impl Session {
    /// Opens the machine: root, configuration, actor. Commands that read plan files alone do not need it.
    pub fn context(&self) -> Result<Context, CliError> {
        let root = Root::open(self.global.root.as_deref().unwrap_or_else(|| Path::new("/")))?;
        let environment = machine::environment();
        let config_file = match &self.global.config {
            None => None,
            Some(path) => Some(inside(&root, path)?),
        };
        let flags = ConfigFlags { config_file, lock_timeout: self.global.lock_timeout.map(seconds) };
        let config = Config::load(&root, &flags, &environment)?;
        let actor = Self::actor();
        Ok(Context {
            root,
            config,
            actor,
            cancel: self.cancel.clone(),
            known: Known::default(),
            before_units: false,
        })
    }

    /// Who runs this, by the environment.
    pub fn actor() -> machine::Actor {
        machine::actor(&|name| std::env::var(name).ok())
    }

    /// Takes locks, saying for whom it waits.
    pub fn locks(&self, cx: &Context, names: &[LockName]) -> Result<LockGuard, CliError> {
        let waiting = |wait: &LockWait| self.output.note(&wait.to_string());
        let cancelled = || cx.cancel.is_requested();
        Ok(acquire(&cx.root, &cx.config.runtime_dir, names, self.lock_timeout(cx), &cancelled, &waiting)?)
    }

    /// How long to wait for locks.
    pub fn lock_timeout(&self, cx: &Context) -> Duration {
        cx.config.lock_timeout
    }

    /// Whether a signal came.
    pub fn is_interrupted(&self) -> bool {
        self.cancel.is_requested()
    }

    /// The plan file that was read last, as it can be typed: the one that an error is about.
    pub fn plan_file(&self) -> String {
        let read = self.plan_file.lock().unwrap_or_else(PoisonError::into_inner);
        read.clone().unwrap_or_else(|| "FILE".to_owned())
    }

    /// A help text with the plan file's name where it says FILE.
    pub fn named(&self, text: &str) -> String {
        name_file(text, &self.plan_file())
    }

    /// The exit code of a signal that came.
    pub fn interrupted(&self) -> u8 {
        self.caught.exit_code()
    }

    /// Reads a plan file, or standard input for `-`.
    pub fn read_plan(&self, path: &Path) -> Result<(String, Vec<u8>), CliError> {
        if path != Path::new("-") {
            *self.plan_file.lock().unwrap_or_else(PoisonError::into_inner) = Some(typed(path));
        }
        self.read_input(path, CliError::NoPlanFile)
    }

    /// Reads a document, or standard input for `-`; `missing` is the error for one that is not there.
    pub fn read_input(
        &self,
        path: &Path,
        missing: fn(PathBuf) -> CliError,
    ) -> Result<(String, Vec<u8>), CliError> {
        if path == Path::new("-") {
            let bytes =
                read_limited(io::stdin().lock().by_ref(), MAX_PLAN).context("read", "standard input")?;
            return Ok(("standard input".to_owned(), bytes));
        }
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(missing(path.into()));
            }
            Err(error) => return Err(error).context("open", path)?,
        };
        let bytes = read_limited(file, MAX_PLAN).context("read", path)?;
        Ok((path.display().to_string(), bytes))
    }
}

/// A path as a person would type it for a shell, in one line that steers no terminal.
pub(super) fn typed(path: &Path) -> String {
    match path.to_str() {
        Some(text) if text.chars().all(|c| c.is_alphanumeric() || "/._-+@,:%".contains(c)) => text.to_owned(),
        Some(text) if !text.chars().any(is_hidden) => format!("'{}'", text.replace('\'', "'\\''")),
        Some(_) | None => {
            let bytes = path.as_os_str().as_encoded_bytes().iter();
            let shown = bytes.map(|byte| match byte {
                b' '..=b'~' if !matches!(byte, b'\'' | b'\\') => char::from(*byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            });
            format!("$'{}'", shown.collect::<String>())
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds that a person typed are far below 2^52")]
fn seconds(whole: u64) -> f64 {
    whole as f64
}

/// A path of the command line as it is inside the root.
fn inside(root: &Root, path: &Path) -> Result<AbsPath, CliError> {
    let absolute = if root.is_host() { std::path::absolute(path)? } else { path.to_path_buf() };
    AbsPath::normalise(&absolute).map_err(|error| CliError::Usage {
        what: format!("--config: {error}"),
        help: "with --root, give the path as it is inside DIR".to_owned(),
    })
}
