//! Journals of runs, rewritten for a copy: a run knows its trees by inode, and a copy has others.

use std::os::unix::fs::MetadataExt as _;

use abssctl::ids::Sha256;
use serde_json::{Value, json};

use super::TestRoot;
use super::root::LIVE;

/// A journal with its records changed; each line names the digest of the one before. What follows the
/// last whole record stays as it is.
pub(crate) fn rewritten(journal: &[u8], mut change: impl FnMut(&mut Value)) -> Vec<u8> {
    let (mut text, mut before) = (Vec::new(), None);
    let mut rest = journal;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        let Ok(mut record) = serde_json::from_slice::<Value>(line) else { break };
        change(&mut record);
        if let Some(before) = before {
            record["prev"] = before;
        }
        let line = serde_json::to_vec(&record).unwrap();
        before = Some(Sha256::of(&line).to_string().into());
        text.extend(line);
        text.push(b'\n');
        rest = after;
    }
    text.extend_from_slice(rest);
    text
}

/// Appends a record, as a process writes it that is killed right after.
pub(crate) fn append(path: &std::path::Path, event: &Value) {
    let mut journal = std::fs::read(path).unwrap();
    let last = journal.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap();
    let (mut record, prev) = (serde_json::from_slice::<Value>(last).unwrap(), Sha256::of(last));
    record["seq"] = (record["seq"].as_u64().unwrap() + 1).into();
    record["prev"] = prev.to_string().into();
    record["event"] = event.clone();
    journal.extend(format!("{record}\n").into_bytes());
    std::fs::write(path, journal).unwrap();
}

/// Lets the journals of a copy name the trees of the copy: what each run put in place, and what it displaced.
pub(crate) fn rebind(root: &TestRoot) {
    let Ok(runs) = std::fs::read_dir(root.path("var/lib/abssctl/runs")) else { return };
    for run in runs {
        let run = run.unwrap();
        let path = run.path().join("journal.jsonl");
        let Ok(journal) = std::fs::read(&path) else { continue };
        let displaced = root.path("srv/.abssctl/displaced").join(run.file_name());
        let renumbered = rewritten(&journal, |record| {
            // What it displaced is what had the target's name before.
            if let (Some(target), Ok(found)) =
                (record.pointer_mut("/event/stepFact/fact/target/id"), std::fs::metadata(&displaced))
            {
                *target = json!({ "device": found.dev(), "inode": found.ino() });
            }
            let Some(swap) = record.pointer_mut("/event/stepFact/fact/swap") else { return };
            let displaced = root.path(swap["displacedAt"].as_str().unwrap());
            for (key, place) in [("staged", root.path(LIVE)), ("live", displaced)] {
                if let (Some(id), Ok(found)) = (swap.get_mut(key), std::fs::metadata(place)) {
                    *id = json!({ "device": found.dev(), "inode": found.ino() });
                }
            }
        });
        std::fs::write(path, renumbered).unwrap();
    }
}
