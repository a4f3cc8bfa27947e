//! The journal of a run: from bytes to a state, what may follow it, and a cut anywhere.

use abssctl::host::fs::Root;
use abssctl::ids::{RunId, Sha256};
use abssctl::run::journal::{self, History, JOURNAL, Journal, JournalError, Record};
use abssctl::run::state::{Event, Outcome};
use abssctl::state::config::Config;
use miette::Diagnostic as _;

use super::{note, with_file};

const RUN: &str = "01KAV6ZP3NQ3T7Y2M5C8E1D9FA";

/// The journal as it is, and with its chain of digests mended, so that the events themselves are reached.
pub fn journal(bytes: &[u8]) {
    look(bytes);
    let mended = mend(bytes);
    if mended != bytes {
        look(&mended);
    }
}

/// The lines that are records, numbered and chained as a program would have written them.
fn mend(bytes: &[u8]) -> Vec<u8> {
    let (mut mended, mut seq, mut prev) = (Vec::new(), 0, Sha256::of(b""));
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(record) = serde_json::from_slice::<Record>(line) else { continue };
        seq += 1;
        let line = serde_json::to_vec(&Record { seq, prev, ..record }).unwrap();
        prev = Sha256::of(&line);
        mended.extend_from_slice(&line);
        mended.push(b'\n');
    }
    mended
}

fn look(bytes: &[u8]) {
    let run: RunId = RUN.parse().unwrap();
    let inside = format!("var/lib/abssctl/runs/{RUN}/{JOURNAL}");
    with_file(&inside, bytes, |root, config| {
        let whole = journal::history(root, config, &run, None).unwrap();
        note(("records", whole.records.min(40)));
        note(("damage", whole.damage.as_ref().and_then(|e| e.code().map(|c| c.to_string()))));
        note(("phase", format!("{:?}", whole.state.phase)));
        for step in &whole.state.steps {
            note(("step", step.kind, format!("{:?}", step.state)));
        }
        prefixes(root, config, &run, &whole);
        if whole.damage.is_none() {
            go_on(root, config, &run, &whole, bytes);
        } else {
            let resumed = Journal::resume(root, config, &run);
            assert!(matches!(
                resumed,
                Err(JournalError::Damaged { .. } | JournalError::Illegal { .. } | JournalError::Fs(_))
            ));
        }
    });
}

/// Its first records alone give a state of their own, and no damage that comes after them.
fn prefixes(root: &Root, config: &Config, run: &RunId, whole: &History) {
    let records = whole.records;
    for count in [0, 1, records / 2, records] {
        let part = journal::history(root, config, run, Some(count)).unwrap();
        assert_eq!(part.records, count.min(records));
        if count == records {
            assert_eq!((&part.state, part.head), (&whole.state, whole.head));
        }
    }
}

/// Resumed, it takes legal events alone; read back, and cut anywhere, it says what it said.
fn go_on(root: &Root, config: &Config, run: &RunId, whole: &History, bytes: &[u8]) {
    let mut open = Journal::resume(root, config, run).unwrap();
    assert_eq!((open.state(), open.chain()), (&whole.state, whole.head));
    let mut states = vec![open.state().clone()];
    for event in events(whole, bytes) {
        match open.append(event.clone()) {
            Ok(()) => states.push(open.state().clone()),
            Err(JournalError::Illegal { source, .. }) => note(("illegal", source.event, source.state)),
            Err(error) => panic!("{event:?}: {error}"),
        }
    }
    let again = journal::history(root, config, run, None).unwrap();
    assert_eq!((&again.state, again.head), (open.state(), open.chain()));
    assert!(again.damage.is_none());
    drop(open);
    // Cut inside the last records: the state of what is whole, and no damage.
    let path = root.host_path(&journal::run_directory(config, run).unwrap()).join(JOURNAL);
    let all = std::fs::read(&path).unwrap();
    let at = bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>() % (all.len() + 1);
    std::fs::write(&path, &all[..at]).unwrap();
    let cut = journal::history(root, config, run, None).unwrap();
    assert!(cut.damage.is_none() && cut.records <= again.records, "cut at {at}: {:?}", cut.damage);
    if cut.records >= whole.records {
        let index = usize::try_from(cut.records - whole.records).unwrap();
        assert_eq!(cut.state, states[index]);
    }
    let open = Journal::resume(root, config, run).unwrap();
    assert_eq!(open.state(), &cut.state);
}

/// Events that may or may not follow, as the bytes choose.
fn events(whole: &History, bytes: &[u8]) -> Vec<Event> {
    let steps: Vec<String> = whole.state.steps.iter().map(|step| step.id.to_string()).collect();
    let name = |byte: u8| match steps.get(usize::from(byte) % (steps.len() + 1)) {
        Some(step) => step.clone(),
        None => "lock".to_owned(),
    };
    let event = |(at, byte): (usize, &u8)| {
        let step = name(bytes.get(at + 1).copied().unwrap_or_default());
        let value = match byte % 9 {
            0 => serde_json::json!({ "runResumed": if byte & 16 == 0 { "forward" } else { "back" } }),
            1 => serde_json::json!({ "stepStarted": { "step": step, "kind": "verify" } }),
            2 => {
                serde_json::json!({ "stepDone": { "step": step, "detail": "x".repeat(usize::from(*byte)) } })
            }
            3 => serde_json::json!({ "stepFailed": { "step": step, "code": "c", "message": "\u{1b}" } }),
            4 => serde_json::json!({ "undoStarted": { "step": step } }),
            5 => serde_json::json!({ "undoDone": { "step": step } }),
            6 => serde_json::json!({ "undoFailed": { "step": step, "code": "c", "message": "m" } }),
            7 => serde_json::json!({ "runEnded": { "outcome": Outcome::RolledBack, "exitCode": 4 } }),
            _ => serde_json::json!({ "runEnded": { "outcome": Outcome::Halted, "exitCode": 7 } }),
        };
        serde_json::from_value(value).unwrap()
    };
    bytes.iter().rev().take(12).enumerate().map(event).collect()
}
