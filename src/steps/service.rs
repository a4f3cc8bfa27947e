//! What `stop`, `start` and `health` share: a unit goes down with all its files closed, comes up, and its
//! server says that it is well. What a crash leaves is what the manager says next: each of them looks first.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::context::StepContext;
use super::error::StepError;
use super::swap;
use crate::actual::log;
use crate::host::health::{Asker, MAX_CERTIFICATES};
use crate::host::processes;
use crate::host::program::ProgramError;
use crate::host::service::{Active, Load, ServiceError, ServiceManager, UnitState};
use crate::ids::{AbsPath, ServerUrl};
use crate::run::fact::{Fact, ServiceFact};

/// Between two looks at a unit that goes down, and the first times that a server is asked: each costs next
/// to nothing, and the time counts as time without a server.
const SOON: Duration = Duration::from_millis(25);

/// A server is asked again after this part of the time that it was waited for, at most after the plan's
/// interval: so much longer than needed it counts as down.
const PART: u32 = 40;

/// Between two looks at a unit whose server does not answer yet.
const LOOK: Duration = Duration::from_millis(500);

/// Starts by itself after which a unit is in a loop.
const LOOP: u32 = 3;

/// Lines of a unit's log that an error carries, and characters of each.
const LINES: usize = 15;
const WIDTH: usize = 300;

/// What the run noted of the service.
pub(super) fn noted<T>(cx: &StepContext<'_>, pick: impl Fn(&ServiceFact) -> Option<T>) -> Option<T> {
    cx.fact(|fact| if let Fact::Service(fact) = fact { pick(fact) } else { None })
}

/// When this run stopped the service, and whether its server answered until then.
pub(super) fn stopped(cx: &StepContext<'_>) -> Option<(Timestamp, bool)> {
    noted(cx, |fact| match fact {
        ServiceFact::Stop { at, answered } => Some((*at, *answered)),
        ServiceFact::Start { .. } | ServiceFact::Answers { .. } => None,
    })
}

/// When this run started the service last.
pub(super) fn started(cx: &StepContext<'_>) -> Option<Timestamp> {
    noted(cx, |fact| match fact {
        ServiceFact::Start { at } => Some(*at),
        ServiceFact::Stop { .. } | ServiceFact::Answers { .. } => None,
    })
}

/// Stops a unit and waits until it is down and nobody has files open in the target.
pub(super) fn take_down(cx: &StepContext<'_>, unit: &str, limit: Duration) -> Result<UnitState, StepError> {
    let services = cx.host.services();
    let deadline = Instant::now() + limit;
    let path = cx.host.root.host_path(&cx.plan.spec.target.directory);
    // Also one that waits to be started again: only a stop keeps it from coming back.
    if services.state(unit)?.is_up() {
        match services.stop(unit, limit) {
            // What became of it is told below.
            Ok(()) | Err(ServiceError::Program(ProgramError::Time { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    loop {
        let state = services.state(unit)?;
        let users = processes::users_of(&path).files;
        if !state.is_up() && users.is_empty() {
            return Ok(state);
        }
        if Instant::now() >= deadline {
            let mut processes: Vec<String> =
                users.iter().map(|user| format!("process {} ({})", user.pid, user.command)).collect();
            processes.dedup();
            return Err(StepError::NotStopped {
                unit: unit.to_owned(),
                state: state.to_string(),
                seconds: limit.as_secs(),
                users: if processes.is_empty() {
                    "nobody has its files open".to_owned()
                } else {
                    format!("{} has files of the instance open", processes.join(", "))
                },
            });
        }
        std::thread::sleep(SOON);
    }
}

/// Nobody works in the target: also no server that somebody started since this run had stopped it.
pub(super) fn quiet(cx: &StepContext<'_>) -> Result<(), StepError> {
    match cx.plan.unit() {
        Some((unit, limit)) => take_down(cx, unit, limit.as_duration()).map(drop),
        None => swap::refuse_users(cx),
    }
}

/// Starts a unit.
pub(super) fn bring_up(
    cx: &StepContext<'_>,
    unit: &str,
    since: Timestamp,
    limit: Duration,
) -> Result<UnitState, StepError> {
    let services = cx.host.services();
    let before = services.state(unit)?;
    match before.load {
        Load::Loaded => {}
        Load::Masked => {
            return Err(StepError::CannotStart {
                unit: unit.to_owned(),
                why: "it is masked".to_owned(),
                next: format!("systemctl unmask {unit}"),
            });
        }
        Load::NotFound | Load::Bad => {
            return Err(StepError::CannotStart {
                unit: unit.to_owned(),
                why: format!("systemd cannot load it ({})", load_words(&before)),
                next: format!("systemctl status {unit}"),
            });
        }
    }
    let said = match services.start(unit, limit) {
        Ok(()) => None,
        Err(ServiceError::Program(error @ (ProgramError::Failed { .. } | ProgramError::Time { .. }))) => {
            Some(error.to_string())
        }
        Err(error) => return Err(error.into()),
    };
    let state = services.state(unit)?;
    match said {
        None if state.is_up() => Ok(state),
        said => {
            let said = said.unwrap_or_else(|| "it ended at once".to_owned());
            Err(failed(services.as_ref(), unit, &state, &said, since))
        }
    }
}

/// What keeps a unit's file from being used.
pub(super) fn load_words(state: &UnitState) -> String {
    match (state.load, state.load_error.as_str()) {
        (Load::NotFound, _) => "there is no such unit".to_owned(),
        (Load::Masked, _) => "it is masked".to_owned(),
        (Load::Loaded | Load::Bad, "") => "its file is not valid".to_owned(),
        (Load::Loaded | Load::Bad, why) => why.to_owned(),
    }
}

/// Where a server is asked, and for how long.
pub(super) struct Question<'a> {
    pub(super) unit: &'a str,
    pub(super) url: &'a ServerUrl,
    pub(super) ca: Option<&'a AbsPath>,
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
    /// Since when its log is of interest.
    pub(super) since: Timestamp,
}

/// Who asks.
pub(super) fn asker(cx: &StepContext<'_>, url: &ServerUrl, ca: Option<&AbsPath>) -> Result<Asker, StepError> {
    let bytes = match ca {
        None => None,
        Some(path) => {
            Some(cx.host.root.read(path, MAX_CERTIFICATES)?.ok_or_else(|| StepError::Certificates {
                what: format!("{path}, which {url} is to be proven by, does not exist"),
            })?)
        }
    };
    Asker::new(url, bytes.as_deref()).map_err(|error| StepError::Certificates { what: error.to_string() })
}

/// Waits until the server of a unit that was started answers; gives the time of its first answer and the
/// version that it tells.
pub(super) fn await_answer(
    cx: &StepContext<'_>,
    question: &Question<'_>,
    can_cancel: bool,
) -> Result<(Timestamp, Option<String>), StepError> {
    let Question { unit, url, .. } = *question;
    let services = cx.host.services();
    let asker = asker(cx, url, question.ca)?;
    let begun = Instant::now();
    let restarts = services.state(unit)?.restarts;
    let mut looked = Instant::now();
    loop {
        let said = asker.health();
        let at = crate::host::clock::exact();
        if said.is_ok() || looked.elapsed() >= LOOK || begun.elapsed() >= question.timeout {
            looked = Instant::now();
            let state = services.state(unit)?;
            // Who answers while the unit does not run is somebody else.
            if said.is_ok() && state.active == Active::Active {
                return Ok((at, asker.version().ok()));
            }
            let looping = state.restarts.saturating_sub(restarts) >= LOOP;
            if !state.is_up() || looping || begun.elapsed() >= question.timeout {
                let said = match &said {
                    Ok(()) => format!("{url} answers, but not as this unit"),
                    Err(silence) => format!(
                        "{url} was asked for {} seconds, at last: {silence}",
                        begun.elapsed().as_secs()
                    ),
                };
                let said = if looping { format!("it ends again and again; {said}") } else { said };
                return Err(failed(services.as_ref(), unit, &state, &said, question.since));
            }
        }
        if can_cancel {
            cx.check_cancelled()?;
        }
        std::thread::sleep((begun.elapsed() / PART).clamp(SOON, question.interval.max(SOON)));
    }
}

fn failed(
    services: &dyn ServiceManager,
    unit: &str,
    state: &UnitState,
    said: &str,
    since: Timestamp,
) -> StepError {
    let log = match services.log(unit, since) {
        Ok(log) => log,
        Err(error) => format!("(its log could not be read: {error})"),
    };
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let last: Vec<String> = last.iter().map(|line| line.chars().take(WIDTH).collect()).collect();
    let cause = log::cause(&log).map(|cause| format!("{cause}; ")).unwrap_or_default();
    StepError::NotWell {
        unit: unit.to_owned(),
        what: format!("{cause}{said}; the unit is {state}"),
        log: if last.is_empty() { "nothing".to_owned() } else { format!("\n  {}", last.join("\n  ")) },
    }
}
