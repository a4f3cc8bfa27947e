//! What may be there after a power cut, by the model, and the same as a real tree to run the program in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use abssctl::ids::Sha256;

use crate::model::{Kind, Model, Node, TOP, View};
use crate::random::{Random, sample};
use crate::support::journal::rewritten;

/// A state after a cut.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// What is there, of what was not safe; and where the cut was.
    pub(crate) what: String,
    view: View,
    kinds: Arc<Vec<Kind>>,
    real: Arc<Vec<u64>>,
    /// Whether the command had said by then that all is done.
    pub(crate) done: bool,
}

/// All states that differ.
#[derive(Debug, Default)]
pub(crate) struct States {
    pub(crate) found: Vec<State>,
    seen: HashSet<Sha256>,
    digests: HashMap<usize, (Arc<Vec<u8>>, Sha256)>,
}

impl States {
    /// Adds the worst states of this moment: nothing of what is not safe, all of it, each event alone, all
    /// but one, some at random, the last write torn. At most `limit` of each kind that is many.
    pub(crate) fn add(&mut self, model: &Model, place: &str, done: bool, limit: usize, random: &mut Random) {
        let pending = model.pending();
        let all: BTreeSet<usize> = pending.iter().copied().collect();
        let call = |at: &usize| model.events[*at].call.clone();
        let mut chosen = vec![
            ("nothing".to_owned(), BTreeSet::new(), false),
            ("all".to_owned(), all.clone(), false),
            ("all, the last write torn,".to_owned(), all.clone(), true),
        ];
        for at in sample(pending.clone(), limit, random) {
            chosen.push((format!("only {}", call(&at)), BTreeSet::from([at]), false));
        }
        for at in sample(pending.clone(), limit, random) {
            let others = all.iter().copied().filter(|other| *other != at).collect();
            chosen.push((format!("all but {}", call(&at)), others, false));
        }
        for number in 0..limit.min(pending.len()) {
            let some = all.iter().copied().filter(|_| random.coin()).collect();
            chosen.push((format!("random part {number}"), some, random.coin()));
        }
        for (what, chosen, torn) in chosen {
            let view = model.view(&chosen, torn);
            let digest = self.digest(model, &view, done);
            if self.seen.insert(digest) {
                let what = format!("{what} of {} pending, {place}", pending.len());
                let (kinds, real) = (Arc::new(model.kinds.clone()), Arc::new(model.real.clone()));
                self.found.push(State { what, view, kinds, real, done });
            }
        }
    }

    /// Equal for states in which the program sees the same. Lock files hold nothing that counts.
    fn digest(&mut self, model: &Model, view: &View, done: bool) -> Sha256 {
        let mut text = format!("{done}\n");
        for (path, node) in view.paths() {
            if path.ends_with(".lock") {
                continue;
            }
            let own = view.attributes.get(&node).copied().unwrap_or_default();
            let bytes = view.bytes.get(&node).map(|bytes| self.bytes(bytes));
            text += &format!("{path:?} {:?} {:o} {:?} {bytes:?}\n", model.kinds[node], own.mode, own.owner);
        }
        Sha256::of(text.as_bytes())
    }

    fn bytes(&mut self, bytes: &Arc<Vec<u8>>) -> Sha256 {
        let key = Arc::as_ptr(bytes) as usize;
        self.digests.entry(key).or_insert_with(|| (Arc::clone(bytes), Sha256::of(bytes))).1
    }
}

impl State {
    /// Makes it a real tree in an empty directory. The numbers of its directories are others than the
    /// journals remember, so they are put right there, as a disk would have kept them.
    pub(crate) fn write(&self, root: &Path) {
        let mut made: BTreeMap<u64, u64> = BTreeMap::new();
        let mut journals = Vec::new();
        let mut nodes: BTreeMap<Node, std::path::PathBuf> = BTreeMap::new();
        let paths = self.view.paths();
        for (path, node) in &paths {
            let at = root.join(path);
            let empty = Arc::default();
            let bytes = self.view.bytes.get(node).unwrap_or(&empty);
            match &self.kinds[*node] {
                Kind::Directory => std::fs::create_dir(&at).unwrap(),
                Kind::Link(target) => std::os::unix::fs::symlink(target, &at).unwrap(),
                Kind::File => match nodes.get(node) {
                    Some(first) => std::fs::hard_link(first, &at).unwrap(),
                    None => std::fs::write(&at, &bytes[..]).unwrap(),
                },
            }
            let _ = nodes.entry(*node).or_insert_with(|| at.clone());
            let _ = made.insert(self.real[*node], at.symlink_metadata().unwrap().ino());
            if path.ends_with("journal.jsonl") {
                journals.push((at, Arc::clone(bytes)));
            }
        }
        for (at, bytes) in journals {
            std::fs::write(at, renumbered(&bytes, &made)).unwrap();
        }
        // From the inside out: what is made in a directory changes its time.
        for (path, node) in paths.iter().rev() {
            self.attributes(*node, &root.join(path));
        }
        self.attributes(TOP, root);
    }

    fn attributes(&self, node: Node, path: &Path) {
        let own = self.view.attributes.get(&node).copied().unwrap_or_default();
        std::os::unix::fs::lchown(path, Some(own.owner.0), Some(own.owner.1)).unwrap();
        if matches!(self.kinds[node], Kind::Link(_)) {
            return;
        }
        std::fs::set_permissions(path, Permissions::from_mode(own.mode & 0o7777)).unwrap();
        if let Some((seconds, nanos)) = own.time {
            let time = Duration::new(u64::try_from(seconds).unwrap(), u32::try_from(nanos).unwrap());
            let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + time);
            File::open(path).unwrap().set_times(times).unwrap();
        }
    }
}

/// A journal with the numbers that files have now.
fn renumbered(journal: &[u8], made: &BTreeMap<u64, u64>) -> Vec<u8> {
    rewritten(journal, |record| {
        for tree in ["swap/staged", "swap/live", "target/id"] {
            let number = record.pointer_mut(&format!("/event/stepFact/fact/{tree}/inode"));
            if let Some(number) = number {
                // One that is gone keeps its number: nothing has it.
                let now = made.get(&number.as_u64().unwrap()).copied();
                *number = now.unwrap_or(u64::from(u32::MAX)).into();
            }
        }
    })
}
