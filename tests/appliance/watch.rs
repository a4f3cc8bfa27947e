//! A client that asks nginx every 50 ms from a thread of its own and says of each answer to which state it
//! belongs, that the server is away, or that it is wrong.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::http::{Answer, Request};
use crate::state::State;
use crate::support::actual::PASSWORD;

/// A login that is in every state of the fixture.
const TOKEN: &str = "f096b184-d627-4d2e-94ee-5a56aaf3048b";

/// How often all questions are asked.
const EVERY: Duration = Duration::from_millis(50);

/// What one answer shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saw {
    /// It belongs to the state of this name and to no other.
    State(&'static str),
    /// The server answers, and the answer is the same in every state.
    Up,
    /// No connection, or nginx's page for a server that is away.
    Away(String),
    /// An answer that no state gives.
    Wrong(String),
}

/// One answer.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "what it was is said when it is wrong")]
pub(crate) struct Sight {
    pub(crate) answered: Instant,
    pub(crate) path: &'static str,
    pub(crate) saw: Saw,
}

/// States by name.
pub(crate) type States = Vec<(&'static str, State)>;

/// A client at work.
#[derive(Debug)]
pub(crate) struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sight>>,
}

impl Watch {
    /// Begins to ask in the network of a machine; returns once the first answers are there.
    pub(crate) fn start(network: File, states: States) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (ready, begun) = std::sync::mpsc::channel();
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            let mut seen = Vec::new();
            let mut device = 0;
            while !end.load(Ordering::Acquire) {
                let from = Instant::now();
                for question in QUESTIONS {
                    seen.push(question.ask(&states, &mut device));
                }
                // Nobody listens any more after the first round.
                let _ = ready.send(());
                std::thread::sleep(EVERY.saturating_sub(from.elapsed()));
            }
            seen
        });
        begun.recv().unwrap();
        Self { ended, thread }
    }

    /// Ends it after a last round; what it saw.
    pub(crate) fn end(self) -> Record {
        let from = Instant::now();
        while !self.thread.is_finished() && from.elapsed() < EVERY {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.ended.store(true, Ordering::Release);
        Record(self.thread.join().unwrap())
    }
}

/// All answers, in order.
#[derive(Debug)]
pub(crate) struct Record(pub(crate) Vec<Sight>);

impl Record {
    /// What was seen of states and absence, each as long as it lasted: `["old", "away", "new"]`.
    /// Fails on any wrong answer.
    #[track_caller]
    pub(crate) fn order(&self) -> Vec<&'static str> {
        let wrong: Vec<&Sight> = self.0.iter().filter(|sight| matches!(sight.saw, Saw::Wrong(_))).collect();
        assert!(wrong.is_empty(), "{} of {} answers are wrong: {wrong:#?}", wrong.len(), self.0.len());
        let mut order = Vec::new();
        for sight in &self.0 {
            let name = match &sight.saw {
                Saw::State(name) => name,
                Saw::Away(_) => "away",
                Saw::Up | Saw::Wrong(_) => continue,
            };
            if order.last() != Some(&name) {
                order.push(name);
            }
        }
        order
    }

    /// The longest time from an answer of the server to its next one with an error in between.
    pub(crate) fn downtime(&self) -> Duration {
        let mut longest = Duration::ZERO;
        let (mut last, mut was_away) = (None, false);
        for sight in &self.0 {
            if matches!(sight.saw, Saw::Away(_)) {
                was_away = true;
                continue;
            }
            if let Some(last) = last.filter(|_| was_away) {
                longest = longest.max(sight.answered.duration_since(last));
            }
            (last, was_away) = (Some(sight.answered), false);
        }
        longest
    }
}

/// What is asked in each round.
const QUESTIONS: [Question; 4] =
    [Question::Budgets, Question::Changes, Question::Bootstrapped, Question::Info];

#[derive(Debug, Clone, Copy)]
enum Question {
    /// The list of budgets.
    Budgets,
    /// A sync of the budget that all have, from a device that has everything.
    Changes,
    /// What the page asks before it shows the login.
    Bootstrapped,
    Info,
}

impl Question {
    fn ask(self, states: &States, device: &mut u32) -> Sight {
        *device += 1;
        let [_, a, b, c] = device.to_be_bytes();
        let request = self.request(&states[0].1);
        let answer = request.ask(&format!("11.{a}.{b}.{c}"));
        let answered = Instant::now();
        let saw = match answer {
            Err(error) => Saw::Away(error.to_string()),
            Ok(answer) if is_absence(&answer) => Saw::Away(answer.status.to_string()),
            Ok(answer) => self.judge(&answer, states),
        };
        Sight { answered, path: request.path, saw }
    }

    /// The question, from a device that knows the first of the states.
    fn request(self, known: &State) -> Request {
        match self {
            Self::Budgets => Request::get("/sync/list-user-files").with("X-ACTUAL-TOKEN", TOKEN),
            Self::Changes => Request::post("/sync/sync", "application/actual-sync", sync(known))
                .with("X-ACTUAL-TOKEN", TOKEN),
            Self::Bootstrapped => Request::get("/account/needs-bootstrap"),
            Self::Info => Request::get("/info"),
        }
    }

    fn judge(self, answer: &Answer, states: &States) -> Saw {
        let fits: Vec<&'static str> = match self {
            Self::Bootstrapped | Self::Info => {
                let fits = answer.status == 200 && self.is_right(&json(answer));
                return if fits { Saw::Up } else { wrong(answer) };
            }
            Self::Budgets => {
                let names = names(&json(answer));
                states.iter().filter(|(_, state)| names.as_ref() == Some(&state.names)).map(|s| s.0).collect()
            }
            Self::Changes => {
                let known = &states[0].1;
                states.iter().filter(|(_, state)| changes_fit(answer, known, state)).map(|s| s.0).collect()
            }
        };
        match fits[..] {
            [one] => Saw::State(one),
            _ => wrong(answer),
        }
    }

    fn is_right(self, answer: &Value) -> bool {
        match self {
            Self::Bootstrapped => answer["data"]["bootstrapped"] == true,
            Self::Info => answer["build"]["version"] == "25.6.0",
            Self::Budgets | Self::Changes => false,
        }
    }
}

/// Whether a sync by a device that knows one state was answered from this state.
fn changes_fit(answer: &Answer, known: &State, state: &State) -> bool {
    if state.group == known.group {
        // The sums stand last in the message.
        answer.status == 200 && answer.body.ends_with(state.sums.as_bytes())
    } else {
        answer.status == 400 && answer.body == b"file-has-reset"
    }
}

/// nginx's own page says that the server is away; the server's errors are answers.
fn is_absence(answer: &Answer) -> bool {
    matches!(answer.status, 502 | 504) && String::from_utf8_lossy(&answer.body).contains("<center>nginx")
}

fn wrong(answer: &Answer) -> Saw {
    Saw::Wrong(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)))
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The names of all budgets in the server's list; `None` when it is none.
fn names(list: &Value) -> Option<Vec<String>> {
    let name = |file: &Value| file["name"].as_str().map(ToOwned::to_owned);
    let names: Option<BTreeSet<String>> = list["data"].as_array()?.iter().map(name).collect();
    Some(names?.into_iter().collect())
}

/// A request for all changes since a time that is yet to come: fields 2, 3 and 6 of the message are budget,
/// group and time.
fn sync(state: &State) -> Vec<u8> {
    let since = "9000-01-01T00:00:00.000Z-0000-0000000000000000";
    let mut bytes = Vec::new();
    for (field, text) in [(2, &state.file[..]), (3, &state.group), (6, since)] {
        bytes.extend([field << 3 | 2, u8::try_from(text.len()).unwrap()]);
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// Does something in a network of a machine.
pub(crate) fn inside<T: Send>(network: File, what: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
        what()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// Logs in with the password, as a person does; what the server says when it refuses.
///
/// # Errors
/// The refusal, or that there is no answer.
pub(crate) fn login(network: File) -> Result<(), String> {
    let body = serde_json::json!({ "loginMethod": "password", "password": PASSWORD });
    let request = Request::post("/account/login", "application/json", body.to_string().into_bytes());
    let answer = inside(network, || request.ask("11.255.255.255")).map_err(|error| error.to_string())?;
    let said = json(&answer);
    said["data"]["token"].as_str().map(|_| ()).ok_or_else(|| format!("{} {said}", answer.status))
}
