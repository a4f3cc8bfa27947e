//! The service manager: the state of a unit, stopping and starting it, what it said. Two of them are real:
//! systemd by its `systemctl` and `journalctl`, and none, on a machine that was booted without it, in a
//! container, or below a root that is not the machine's own. What is asked of systemd goes on when this
//! process is killed; the next look at the state tells.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::program::{self, ProgramError};

/// How long a question may take, and every order that does not wait for a unit.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked of a unit.
const PROPERTIES: &str =
    "LoadState,LoadError,ActiveState,SubState,UnitFileState,Result,NRestarts,MainPID,ControlGroup";

/// Lines of a unit's log that are fetched.
const LOG_LINES: &str = "--lines=200";

/// The directory that is there exactly where systemd runs the machine: `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";

/// A unit cannot be asked or told.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ServiceError {
    /// The program failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Program(#[from] ProgramError),
    /// It answers something else than systemd does.
    #[error("'{program} show {unit}' says nothing of {property}")]
    #[diagnostic(
        code(abssctl::service::answer),
        help("see whether 'systemd.systemctl_bin' names systemd's program: abssctl config show")
    )]
    Answer {
        /// The program.
        program: String,
        /// The unit.
        unit: String,
        /// What it does not tell.
        property: &'static str,
    },
    /// Nothing controls services here.
    #[error("no service manager is controlled here: {why}")]
    #[diagnostic(
        code(abssctl::service::none),
        help("stop the server yourself and make a new plan: abssctl plan refresh FILE")
    )]
    None {
        /// Why.
        why: &'static str,
    },
}

/// Whether systemd has read a unit's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// It has.
    Loaded,
    /// It is masked: it may not be started.
    Masked,
    /// It knows no such unit.
    NotFound,
    /// The file cannot be used.
    Bad,
}

/// Whether a unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Active {
    /// It runs.
    Active,
    /// It comes up, goes down or loads anew; what comes back by itself after a failure is this too.
    Changing,
    /// It does not run.
    Inactive,
    /// It does not run, since it failed.
    Failed,
}

/// A unit as its manager has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// Whether its file was read.
    pub load: Load,
    /// What is wrong with its file, where something is.
    pub load_error: String,
    /// Whether it runs.
    pub active: Active,
    /// The same in the manager's words: `active (running)`.
    pub words: String,
    /// Whether it comes up with the machine: `enabled`, `disabled`, `linked` …
    pub file: String,
    /// Why it ended last: `success`, `exit-code`, `start-limit-hit` …
    pub result: String,
    /// How often it was started again by itself.
    pub restarts: u32,
    /// Its main process.
    pub main_pid: Option<u32>,
    /// Its control group, as `/proc/PID/cgroup` names it.
    pub control_group: String,
}

impl UnitState {
    /// Whether it runs, or comes up by itself: it must be stopped before its files may be exchanged.
    pub fn is_up(&self) -> bool {
        matches!(self.active, Active::Active | Active::Changing)
    }

    /// Whether it waits to be started again after it failed (`Restart=`).
    pub fn is_restarting(&self) -> bool {
        self.words.contains("auto-restart")
    }

    /// Whether a process belongs to it.
    pub fn owns(&self, pid: u32) -> bool {
        if self.main_pid == Some(pid) {
            return true;
        }
        // The root group is everybody's.
        let group = Path::new(&self.control_group);
        if group.parent().is_none() {
            return false;
        }
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // `0::/system.slice/abssctl-budget.service`, or by controller.
        text.lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .any(|own| Path::new(own).starts_with(group))
    }
}

impl fmt::Display for UnitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        if self.active == Active::Failed { write!(f, ", {}", self.result) } else { Ok(()) }
    }
}

/// What controls services. Every call has a time limit.
pub trait ServiceManager: fmt::Debug + Send + Sync {
    /// Why nothing is controlled here; `None` where something is.
    fn absent(&self) -> Option<&'static str>;

    /// The state of a unit; one that is not known is [`Load::NotFound`].
    fn state(&self, unit: &str) -> Result<UnitState, ServiceError>;

    /// Stops a unit, and returns once that is done. One that does not run stays so.
    fn stop(&self, unit: &str, limit: Duration) -> Result<(), ServiceError>;

    /// Starts a unit, whatever failures were counted before, and returns once its type calls it started.
    /// One that runs goes on.
    fn start(&self, unit: &str, limit: Duration) -> Result<(), ServiceError>;

    /// What a unit and its manager wrote since then, at most 200 lines, without control characters.
    fn log(&self, unit: &str, since: Timestamp) -> Result<String, ServiceError>;

    /// Whether the machine goes down, and no unit can be started any more.
    fn goes_down(&self) -> bool;

    /// Reads all unit files again.
    fn daemon_reload(&self) -> Result<(), ServiceError>;

    /// Lets a running unit (nginx) read its configuration again.
    fn reload(&self, unit: &str) -> Result<(), ServiceError>;
}

/// systemd, by its programs.
#[derive(Debug)]
pub struct Systemd {
    systemctl: String,
    journalctl: String,
    /// How a start goes into systemd's queue.
    job_mode: &'static str,
}

impl Systemd {
    /// By these programs: names or paths.
    pub fn new(systemctl: &str, journalctl: &str) -> Self {
        let (systemctl, journalctl) = (systemctl.to_owned(), journalctl.to_owned());
        Self { systemctl, journalctl, job_mode: "--job-mode=replace" }
    }

    /// For a process that units wait for while the machine comes up: a start that kept to their order would
    /// wait for the end of the very process that asks for it.
    #[must_use]
    pub fn out_of_order(self) -> Self {
        Self { job_mode: "--job-mode=ignore-dependencies", ..self }
    }

    /// Whether it runs this machine.
    pub fn is_booted() -> bool {
        Path::new(BOOTED).is_dir()
    }

    fn tell(&self, order: &[&str], limit: Duration) -> Result<String, ServiceError> {
        let mut args = vec!["--no-pager", "--no-ask-password"];
        args.extend(order);
        Ok(program::succeed(&self.systemctl, &args, limit)?)
    }
}

impl ServiceManager for Systemd {
    fn absent(&self) -> Option<&'static str> {
        None
    }

    fn state(&self, unit: &str) -> Result<UnitState, ServiceError> {
        let properties = format!("--property={PROPERTIES}");
        let text = self.tell(&["show", &properties, "--", unit], PATIENCE)?;
        parse(&text).map_err(|property| ServiceError::Answer {
            program: self.systemctl.clone(),
            unit: unit.to_owned(),
            property,
        })
    }

    fn stop(&self, unit: &str, limit: Duration) -> Result<(), ServiceError> {
        self.tell(&["stop", "--", unit], limit).map(drop)
    }

    fn start(&self, unit: &str, limit: Duration) -> Result<(), ServiceError> {
        // Forgets the starts that were counted (StartLimitBurst=): this one is none of a loop's.
        let _said = self.tell(&["reset-failed", "--", unit], PATIENCE)?;
        self.tell(&["start", self.job_mode, "--", unit], limit).map(drop)
    }

    fn log(&self, unit: &str, since: Timestamp) -> Result<String, ServiceError> {
        // What was written a moment ago may not be in the journal yet. Only root may ask for it; without it
        // the last lines may be missing.
        drop(program::run(&self.journalctl, &["--sync"], PATIENCE));
        let since = format!("--since=@{}.{:06}", since.as_second(), since.subsec_microsecond());
        let unit = format!("--unit={unit}");
        let args = ["--no-pager", "--quiet", "--output=cat", LOG_LINES, &since, &unit];
        Ok(program::plain(&program::succeed(&self.journalctl, &args, PATIENCE)?))
    }

    fn goes_down(&self) -> bool {
        // It says its state and fails for all but a good one.
        program::run(&self.systemctl, &["is-system-running"], PATIENCE)
            .is_ok_and(|ended| ended.stdout.trim() == "stopping")
    }

    fn daemon_reload(&self) -> Result<(), ServiceError> {
        self.tell(&["daemon-reload"], PATIENCE).map(drop)
    }

    fn reload(&self, unit: &str) -> Result<(), ServiceError> {
        self.tell(&["reload", "--", unit], PATIENCE).map(drop)
    }
}

/// Nothing that this program controls.
#[derive(Debug)]
pub struct NoManager {
    why: &'static str,
}

impl NoManager {
    /// For this reason, in words that follow "no service manager is controlled here:".
    pub fn new(why: &'static str) -> Self {
        Self { why }
    }

    fn refuse<T>(&self) -> Result<T, ServiceError> {
        Err(ServiceError::None { why: self.why })
    }
}

impl ServiceManager for NoManager {
    fn absent(&self) -> Option<&'static str> {
        Some(self.why)
    }

    /// Of no unit anything is known.
    fn state(&self, _unit: &str) -> Result<UnitState, ServiceError> {
        Ok(UnitState {
            load: Load::NotFound,
            load_error: String::new(),
            active: Active::Inactive,
            words: "none".to_owned(),
            file: String::new(),
            result: String::new(),
            restarts: 0,
            main_pid: None,
            control_group: String::new(),
        })
    }

    fn stop(&self, _unit: &str, _limit: Duration) -> Result<(), ServiceError> {
        self.refuse()
    }

    fn start(&self, _unit: &str, _limit: Duration) -> Result<(), ServiceError> {
        self.refuse()
    }

    fn log(&self, _unit: &str, _since: Timestamp) -> Result<String, ServiceError> {
        self.refuse()
    }

    fn goes_down(&self) -> bool {
        false
    }

    fn daemon_reload(&self) -> Result<(), ServiceError> {
        self.refuse()
    }

    fn reload(&self, _unit: &str) -> Result<(), ServiceError> {
        self.refuse()
    }
}

/// Whether somebody listens on a port of this machine. What cannot be told is what the server will stumble
/// over itself.
pub fn is_port_taken(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Whether systemd takes this as the name of a service, and no program as an option.
pub fn is_unit_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '\\' | '-' | '@');
    name.len() <= 255
        && !name.starts_with(['-', '.', '@'])
        && name.chars().all(plain)
        // What ends in '@' is a template, and no unit.
        && name.strip_suffix(".service").is_some_and(|stem| !stem.is_empty() && !stem.ends_with('@'))
}

/// Reads `systemctl show`; the error is the property that is missing.
fn parse(text: &str) -> Result<UnitState, &'static str> {
    let find = |key: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| program::plain(value))
    };
    let need = |key: &'static str| find(key).filter(|value| !value.is_empty()).ok_or(key);
    let (load, active, sub) = (need("LoadState")?, need("ActiveState")?, need("SubState")?);
    Ok(UnitState {
        load: match load.as_str() {
            "loaded" | "merged" => Load::Loaded,
            "masked" => Load::Masked,
            "not-found" => Load::NotFound,
            _ => Load::Bad,
        },
        load_error: find("LoadError").unwrap_or_default(),
        active: match active.as_str() {
            "active" => Active::Active,
            "inactive" => Active::Inactive,
            "failed" => Active::Failed,
            _ => Active::Changing,
        },
        words: format!("{active} ({sub})"),
        file: find("UnitFileState").unwrap_or_default(),
        result: find("Result").unwrap_or_default(),
        restarts: find("NRestarts").and_then(|number| number.parse().ok()).unwrap_or_default(),
        main_pid: find("MainPID").and_then(|number| number.parse().ok()).filter(|pid| *pid > 0),
        control_group: find("ControlGroup").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_shows_is_read() {
        let text = "Result=exit-code\nNRestarts=4\nMainPID=0\nControlGroup=\nLoadState=loaded\nLoadError=\nActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\n";
        let state = parse(text).unwrap();
        assert_eq!((state.load, state.active, state.restarts), (Load::Loaded, Active::Changing, 4));
        assert!(state.is_up() && state.is_restarting() && !state.owns(1));
        assert_eq!((state.main_pid, state.to_string().as_str()), (None, "activating (auto-restart)"));
        let failed =
            parse("LoadState=masked\nActiveState=failed\nSubState=failed\nResult=start-limit-hit").unwrap();
        assert_eq!((failed.load, failed.is_up()), (Load::Masked, false));
        assert_eq!(failed.to_string(), "failed (failed), start-limit-hit");
        assert_eq!(parse("LoadState=loaded\nSubState=dead").unwrap_err(), "ActiveState");
        assert_eq!(parse("LoadState=error\nActiveState=inactive\nSubState=dead").unwrap().load, Load::Bad);
    }

    #[test]
    fn a_process_belongs_to_the_unit_of_its_control_group() {
        let me = std::process::id();
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = text.lines().find_map(|line| line.splitn(3, ':').nth(2)).unwrap().to_owned();
        let state = |group: &str| {
            parse(&format!("LoadState=loaded\nActiveState=active\nSubState=running\nControlGroup={group}"))
                .unwrap()
        };
        assert_eq!(state(&own).owns(me), own != "/", "{own}");
        assert!(!state("/").owns(me) && !state("").owns(me));
        assert!(!state(&format!("{own}x")).owns(me) && !state("/system.slice/other.service").owns(me));
    }

    #[test]
    fn names_of_units() {
        for good in ["abssctl-budget.service", "a@b.service", "x\\x2dy.service"] {
            assert!(is_unit_name(good), "{good}");
        }
        let long = format!("{}.service", "a".repeat(250));
        for bad in [
            "",
            "budget",
            ".service",
            "-x.service",
            "a b.service",
            "a@.service",
            "a/b.service",
            "x.socket",
            &long,
        ] {
            assert!(!is_unit_name(bad), "{bad}");
        }
    }

    #[test]
    fn without_a_manager_nothing_is_done() {
        let none = NoManager::new("it is a test");
        assert!(!none.state("a.service").unwrap().is_up());
        let error = none.start("a.service", PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), "no service manager is controlled here: it is a test");
    }
}
