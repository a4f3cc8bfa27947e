//! The journal of a run: `<state_dir>/runs/<run>/journal.jsonl`, beside the plan's exact bytes.
//!
//! Each line is one [`Record`] with a sequence number and the digest of the line before; it is synced
//! before the act that it announces, and an append that fails stops the run. Reading back replays every
//! record through [`RunState::apply`], which refuses an illegal log; only a torn last line is normal
//! (the act that it would have announced never began) and is cut off when the run goes on. The open
//! journal carries an exclusive `flock`: whoever can take it knows that no process works on the run, and
//! whoever only looks takes a shared one for an instant.

use std::io::Write as _;
use std::time::{Duration, Instant};

use cap_std::fs::{Dir, OpenOptionsExt as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{Event, IllegalEvent, RunState};
use crate::host::fs::{self, FsError, IoContext as _, Root};
use crate::host::lock;
use crate::ids::{AbsPath, InvalidId, RunId, Sha256};
use crate::state::config::Config;

/// Name of the journal in a run's directory.
pub const JOURNAL: &str = "journal.jsonl";
/// Name of the plan's exact bytes in a run's directory.
pub const PLAN: &str = "plan";
const MAX_JOURNAL: u64 = 64 << 20;
/// Longer than a look at a run has its lock.
const A_LOOK: Duration = Duration::from_secs(1);
/// Far more than the records of a run take.
const RESERVED: u64 = 64 << 10;

/// The journal cannot be written or read; the run stops before the next act.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum JournalError {
    /// A file operation failed.
    #[error("journal: {0}")]
    #[diagnostic(
        code(abssctl::run::journal_io),
        help(
            "nothing further was changed; make the state directory writable and run the same command again"
        )
    )]
    Fs(#[from] FsError),
    /// A line is not a record, or the chain of digests is broken.
    #[error("the journal of run {run} is damaged at line {line}: {why}")]
    #[diagnostic(
        code(abssctl::run::journal_damaged),
        help(
            "see what its sound beginning says: abssctl run show {run}; the old data may lie in staging/{run} or displaced/{run} of the '.abssctl' beside the target: copy what is missed; when the server is as it should be, move the run's directory out of the state directory"
        )
    )]
    Damaged {
        /// The run.
        run: RunId,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The records contradict each other.
    #[error("the journal of run {run} is damaged at line {line}: {source}")]
    #[diagnostic(
        code(abssctl::run::journal_illegal),
        help(
            "see what its sound beginning says: abssctl run show {run}; the old data may lie in staging/{run} or displaced/{run} of the '.abssctl' beside the target: copy what is missed; when the server is as it should be, move the run's directory out of the state directory"
        )
    )]
    Illegal {
        /// The run.
        run: RunId,
        /// Line number, from 1.
        line: usize,
        /// The transition that is not allowed.
        #[source]
        source: IllegalEvent,
    },
    /// The journal is there, and cannot be read.
    #[error("the journal of run {run} cannot be read: {source}")]
    #[diagnostic(
        code(abssctl::run::journal_unreadable),
        help(
            "make it a file again that this user can read; or, when the server is as it should be and nobody misses what staging/{run} and displaced/{run} of the '.abssctl' beside the target hold, move the run's directory out of the state directory"
        )
    )]
    Unreadable {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: FsError,
    },
    /// The journal has no record, and what is made only after the first one is there.
    #[error("the journal of run {run} is lost: it has no record, but {tree}, which that run made, is there")]
    #[diagnostic(
        code(abssctl::run::journal_lost),
        help(
            "the old data may lie there: remove neither it nor the run's directory; compare it with the instance; when the server is as it should be and what is missed is copied elsewhere, move the run's directory out of the state directory"
        )
    )]
    Lost {
        /// The run.
        run: RunId,
        /// What the run made.
        tree: AbsPath,
    },
    /// Another process works on the run.
    #[error("run {run} is in progress in another process")]
    #[diagnostic(
        code(abssctl::run::run_in_progress),
        help("wait for it; 'abssctl run show {run}' shows how far it is")
    )]
    InProgress {
        /// The run.
        run: RunId,
    },
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// 1, 2, 3, …
    pub seq: u64,
    /// When, to the millisecond.
    pub at: Timestamp,
    /// SHA-256 of the line before (without its line break); of nothing for the first.
    pub prev: Sha256,
    /// What happened, or is about to.
    pub event: Event,
}

/// An open journal: this process works on the run, and no other does.
#[derive(Debug)]
pub struct Journal {
    run: RunId,
    file: std::fs::File,
    path: std::path::PathBuf,
    next: u64,
    prev: Sha256,
    /// Bytes of whole records.
    length: u64,
    state: RunState,
}

/// The directory of a run.
pub fn run_directory(config: &Config, run: &RunId) -> Result<AbsPath, JournalError> {
    Ok(config.runs_dir().join(run.as_str()).map_err(|error| unnamed(config, &error))?)
}

/// The plan's exact bytes, in the directory of its run.
pub fn plan_file(config: &Config, run: &RunId) -> Result<AbsPath, JournalError> {
    Ok(run_directory(config, run)?.join(PLAN).map_err(|error| unnamed(config, &error))?)
}

fn unnamed(config: &Config, error: &InvalidId) -> FsError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, error.to_string());
    FsError { action: "name a directory in", path: config.state_dir.as_path().into(), source }
}

impl Journal {
    /// Creates the run's directory with the plan's bytes, the signatures that came with it (name and text)
    /// and an empty journal, all of it durable.
    ///
    /// # Atomicity
    /// A crash leaves a directory without a first record; it has changed nothing and is listed as such.
    pub fn create(
        root: &Root,
        config: &Config,
        run: &RunId,
        plan: &[u8],
        signatures: &[(String, &str)],
    ) -> Result<Self, JournalError> {
        let inside = run_directory(config, run)?;
        let path = root.host_path(&inside);
        if let Some(runs) = inside.parent() {
            root.ensure_dir(&runs, 0o750)?;
        }
        let dir = root.ensure_dir(&inside, 0o750)?;
        keep(&dir, PLAN, plan).context("write", path.join(PLAN))?;
        for (name, text) in signatures {
            keep(&dir, name, text.as_bytes()).context("keep", path.join(name))?;
        }
        let mut options = cap_std::fs::OpenOptions::new();
        // Appending, so that a record follows the last whole one also after one was cut off.
        options.read(true).append(true).create_new(true).mode(0o640);
        let file = dir.open_with(JOURNAL, &options).context("create", path.join(JOURNAL))?.into_std();
        // Room for the way back: a full disk must not keep a run from recording that it is undone. Not
        // every file system can; the undo works without its records too.
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, RESERVED).is_err() {
            // Not supported, or no room even for this: the next append says so.
        }
        fs::sync_dir(&dir).context("sync", &path)?;
        let path = path.join(JOURNAL);
        lock_or_busy(&file, run, &path)?;
        Ok(Self {
            run: run.clone(),
            file,
            path,
            next: 1,
            prev: Sha256::of(b""),
            length: 0,
            state: RunState::default(),
        })
    }

    /// Opens the journal of a run that no process works on, to go on with it.
    pub fn resume(root: &Root, config: &Config, run: &RunId) -> Result<Self, JournalError> {
        let inside = run_directory(config, run)?;
        let path = root.host_path(&inside).join(JOURNAL);
        let dir = root.dir(&inside)?;
        let mut options = cap_std::fs::OpenOptions::new();
        options.read(true).append(true);
        let file = dir.open_with(JOURNAL, &options).context("open", &path)?.into_std();
        lock_or_busy(&file, run, &path)?;
        let bytes = read_bytes(&dir, &path)?;
        let mut replay = Replay::default();
        replay.all(run, &bytes)?;
        if replay.length < bytes.len() as u64 {
            // A torn last record: what it would have announced never began.
            file.set_len(replay.length).context("cut the torn record from", &path)?;
            file.sync_all().context("sync", &path)?;
        }
        let Replay { next, prev, length, state, .. } = replay;
        Ok(Self { run: run.clone(), file, path, next, prev, length, state })
    }

    /// Appends an event: legal by the transition table, written and synced, or an error and no act.
    pub fn append(&mut self, event: Event) -> Result<(), JournalError> {
        let line = usize::try_from(self.next).unwrap_or(usize::MAX);
        let illegal = |source| JournalError::Illegal { run: self.run.clone(), line, source };
        let at = Timestamp::now();
        let at = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
        let event = event.bounded();
        let mut state = self.state.clone();
        state.apply(&event, at).map_err(illegal)?;
        let record = Record { seq: self.next, at, prev: self.prev, event };
        let mut text =
            serde_json::to_vec(&record).map_err(std::io::Error::other).context("write", &self.path)?;
        let prev = Sha256::of(&text);
        text.push(b'\n');
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let cut = self.cut();
            return Err(cut.err().unwrap_or(error)).context("write", &self.path).map_err(JournalError::Fs);
        }
        (self.next, self.prev, self.state) = (self.next + 1, prev, state);
        self.length += text.len() as u64;
        Ok(())
    }

    /// Takes back a record of which a part may be there: the next one must follow the last whole one.
    fn cut(&self) -> std::io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.sync_data()
    }

    /// The state that all records together give.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Digest of the last line: it stands for the whole chain.
    pub fn chain(&self) -> Sha256 {
        self.prev
    }
}

/// Writes a file of a directory that counts only with the first record of its journal: no rename is needed,
/// so that a crash leaves no other name, and the name may be as long as a name can be.
fn keep(dir: &Dir, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::create_file(dir, name, 0o640)?;
    file.write_all(bytes)?;
    // Whatever the umask says.
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o640))?;
    file.sync_all()
}

/// Whoever looks at a run has its lock, shared, for an instant: that is no work on it.
fn lock_or_busy(file: &std::fs::File, run: &RunId, path: &std::path::Path) -> Result<(), JournalError> {
    let end = Instant::now() + A_LOOK;
    while !lock::try_lock_file(file).context("lock", path)? {
        if Instant::now() >= end {
            return Err(JournalError::InProgress { run: run.clone() });
        }
        std::thread::sleep(A_LOOK / 50);
    }
    Ok(())
}

fn read_bytes(dir: &Dir, path: &std::path::Path) -> Result<Vec<u8>, JournalError> {
    Ok(fs::read_optional(dir, JOURNAL, MAX_JOURNAL).context("read", path)?.unwrap_or_default())
}

/// What a journal says, or its beginning.
#[derive(Debug)]
pub struct History {
    /// The state that the records give.
    pub state: RunState,
    /// How many records.
    pub records: u64,
    /// Digest of the last of them: it stands for the whole chain.
    pub head: Sha256,
    /// How the journal is damaged after them.
    pub damage: Option<JournalError>,
}

/// Reads a run's state without taking its lock: for lists and views. Of a damaged journal, the state
/// that its sound beginning tells, and the damage.
pub fn read(root: &Root, config: &Config, run: &RunId) -> Result<(RunState, Option<JournalError>), FsError> {
    history(root, config, run, None).map(|history| (history.state, history.damage))
}

/// As [`read()`], with the head of the chain; of the first `records` records alone, where that is given.
pub fn history(root: &Root, config: &Config, run: &RunId, records: Option<u64>) -> Result<History, FsError> {
    let inside = config.runs_dir().join(run.as_str()).map_err(|error| unnamed(config, &error))?;
    let dir = root.dir(&inside)?;
    let path = root.host_path(&inside).join(JOURNAL);
    let mut replay = Replay { until: records, ..Replay::default() };
    let damage = match fs::read_optional(&dir, JOURNAL, MAX_JOURNAL) {
        Ok(bytes) => replay.all(run, &bytes.unwrap_or_default()).err(),
        // Not even its beginning is worth the memory; nothing that this program writes is as large.
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            Some(JournalError::Damaged { run: run.clone(), line: 1, why: error.to_string() })
        }
        Err(error) => return Err(error).context("read", path),
    };
    Ok(History { state: replay.state, records: replay.next - 1, head: replay.prev, damage })
}

/// Whether a process works on the run now; one that only looks, as this does, is none.
pub fn is_in_progress(root: &Root, config: &Config, run: &RunId) -> Result<bool, JournalError> {
    let inside = run_directory(config, run)?;
    let path = root.host_path(&inside).join(JOURNAL);
    let Some(dir) = root.dir_optional(&inside)? else { return Ok(false) };
    // Nothing but a regular file: a pipe would be waited for.
    let file = match fs::open_regular(&dir, JOURNAL) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).context("open", path)?,
    };
    lock::is_held(&file).context("lock", path).map_err(JournalError::Fs)
}

/// What the bytes of a journal say.
struct Replay {
    /// Bytes of whole records.
    length: u64,
    next: u64,
    prev: Sha256,
    state: RunState,
    /// How many records are wanted; `None`: all.
    until: Option<u64>,
}

impl Default for Replay {
    fn default() -> Self {
        Self { length: 0, next: 1, prev: Sha256::of(b""), state: RunState::default(), until: None }
    }
}

impl Replay {
    fn all(&mut self, run: &RunId, bytes: &[u8]) -> Result<(), JournalError> {
        let mut rest = bytes;
        // What follows the last line break is a record torn by a crash.
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if self.until.is_some_and(|until| self.next > until) {
                break;
            }
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if after.is_empty() && is_torn(line) {
                break;
            }
            self.line(run, line)?;
            self.length += end as u64 + 1;
            rest = after;
        }
        Ok(())
    }

    fn line(&mut self, run: &RunId, line: &[u8]) -> Result<(), JournalError> {
        let number = usize::try_from(self.next).unwrap_or(usize::MAX);
        let damaged = |why: String| JournalError::Damaged { run: run.clone(), line: number, why };
        let record: Record = serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))?;
        if record.seq != self.next {
            return Err(damaged(format!("record {} stands where {} belongs", record.seq, self.next)));
        }
        if record.prev != self.prev {
            return Err(damaged("it does not follow the line before it".into()));
        }
        let applied = self.state.apply(&record.event, record.at);
        applied.map_err(|source| JournalError::Illegal { run: run.clone(), line: number, source })?;
        self.prev = Sha256::of(line);
        self.next += 1;
        Ok(())
    }
}

/// Whether a crash left sectors of a line unwritten: each run of zeros then begins or ends with the line, or
/// is whole sectors. A zero elsewhere is damage: a record that was synced must not be taken for one that
/// never was.
fn is_torn(line: &[u8]) -> bool {
    const SECTOR: usize = 512;
    let mut at = 0;
    line.contains(&0)
        && line.chunk_by(|a, b| (*a == 0) == (*b == 0)).all(|run| {
            let (from, to) = (at, at + run.len());
            at = to;
            run[0] != 0 || from == 0 || to == line.len() || run.len().is_multiple_of(SECTOR)
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::run::state::{Outcome, RunEnded};

    #[test]
    fn only_sectors_of_zeros_are_what_a_crash_leaves() {
        let line = |parts: &[(u8, usize)]| -> Vec<u8> {
            parts.iter().flat_map(|(byte, length)| vec![*byte; *length]).collect()
        };
        for parts in [
            &[(0, 30)][..],
            &[(b'x', 12), (0, 100)],
            &[(0, 12), (b'x', 100)],
            &[(b'x', 12), (0, 1024), (b'x', 9)],
            &[(0, 12), (b'x', 512), (0, 512), (b'x', 9)],
        ] {
            assert!(is_torn(&line(parts)), "{parts:?}");
        }
        for parts in [
            &[(b'x', 30)][..],
            &[(b'x', 30), (0, 1), (b'x', 9)],
            &[(b'x', 30), (0, 511), (b'x', 9)],
            &[(0, 12), (b'x', 100), (0, 1), (b'x', 9)],
        ] {
            assert!(!is_torn(&line(parts)), "{parts:?}");
        }
    }

    /// A record that fails half-way must not part those before it from those after it.
    #[test]
    fn a_record_that_cannot_be_written_is_not_part_of_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let config =
            Config::load(&root, &crate::state::config::ConfigFlags::default(), &BTreeMap::new()).unwrap();
        let run = RunId::generate();
        let mut journal = Journal::create(&root, &config, &run, b"plan", &[]).unwrap();
        let started = r#"{"plan":"01ARZ3NDEKTSV4RRFFQ69G5FAV","planDigest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","instance":"a","backup":"b","target":"/srv/a","actor":{"type":"user","name":"x"},"retain":"1d","generator":"t"}"#;
        journal.append(Event::RunStarted(serde_json::from_str(started).unwrap())).unwrap();
        // Half of a record reached the disk, then the write failed.
        journal.file.write_all(b"{\"seq\":2,\"at\"").unwrap();
        journal.cut().unwrap();
        journal.append(Event::RunResumed(crate::run::state::Direction::Back)).unwrap();
        // Nothing of it did, and the write failed.
        let file = std::mem::replace(&mut journal.file, std::fs::File::create("/dev/full").unwrap());
        assert!(journal.append(Event::RunResumed(crate::run::state::Direction::Back)).is_err());
        journal.file = file;
        let (outcome, warnings) = (Outcome::RolledBack, Vec::new());
        journal.append(Event::RunEnded(RunEnded { outcome, exit_code: 4, warnings })).unwrap();
        let (state, damage) = read(&root, &config, &run).unwrap();
        assert!(damage.is_none(), "{damage:?}");
        assert_eq!(state.phase, crate::run::state::Phase::Ended(Outcome::RolledBack));
        let whole = history(&root, &config, &run, None).unwrap();
        assert_eq!((whole.records, whole.head), (3, journal.chain()));
        let beginning = history(&root, &config, &run, Some(1)).unwrap();
        assert_eq!(beginning.records, 1);
        assert!(beginning.damage.is_none() && beginning.state.ended.is_none());
        assert!(beginning.head != whole.head);
    }
}
