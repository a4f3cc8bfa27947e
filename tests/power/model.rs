//! A file system in memory that gives nothing but what was asked for: bytes are safe after `fsync` of their
//! file, a name after `fsync` of its directory, a move between two directories after `fsync` of both, and
//! everything after `syncfs`. What is not safe may be there after a power cut, or not, each by itself; only
//! what happens to one and the same name keeps its order. Real file systems give more; none gives less.
//!
//! Pure: it is told what happened (`watch`), and gives trees as they may be after a cut.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::sync::Arc;

/// A file, directory or link, whatever its name.
pub(crate) type Node = usize;

/// The directory that everything lies in.
pub(crate) const TOP: Node = 0;

/// Mode, owner and time of change; the time only where somebody set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) time: Option<(i64, i64)>,
}

/// What kind of thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link(std::path::PathBuf),
}

/// What happened, each at once or not at all.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Names of directories mean these things from now on, all of them at one instant.
    Names(Vec<(Node, String, Option<Node>)>),
    /// Bytes of a file.
    Write(Node, u64, Arc<[u8]>),
    /// The length of a file.
    Length(Node, u64),
    /// Mode, owner or time.
    Attributes(Node, Attributes),
}

/// A change and what it still waits for.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) change: Change,
    /// The nodes that must be synced; none: it is safe.
    waits: BTreeSet<Node>,
    /// The call, as a person reads it.
    pub(crate) call: String,
}

/// The file system: what was there at the start, and what happened since.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) kinds: Vec<Kind>,
    /// The number that the real file system gave it.
    pub(crate) real: Vec<u64>,
    base: View,
    pub(crate) now: View,
    pub(crate) events: Vec<Event>,
}

/// A state: what the names mean, and what is in the things.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) names: BTreeMap<Node, BTreeMap<String, Node>>,
    pub(crate) bytes: BTreeMap<Node, Arc<Vec<u8>>>,
    pub(crate) attributes: BTreeMap<Node, Attributes>,
}

impl View {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Names(names) => {
                for (directory, name, node) in names {
                    let entries = self.names.entry(*directory).or_default();
                    match node {
                        Some(node) => drop(entries.insert(name.clone(), *node)),
                        None => drop(entries.remove(name)),
                    }
                }
            }
            Change::Write(node, offset, written) => {
                let bytes = Arc::make_mut(self.bytes.entry(*node).or_default());
                let from = usize::try_from(*offset).unwrap();
                let end = from + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[from..end].copy_from_slice(written);
            }
            Change::Length(node, length) => {
                let bytes = Arc::make_mut(self.bytes.entry(*node).or_default());
                bytes.resize(usize::try_from(*length).unwrap(), 0);
            }
            Change::Attributes(node, attributes) => {
                let _ = self.attributes.insert(*node, *attributes);
            }
        }
    }

    /// What a path below the top means.
    pub(crate) fn find(&self, path: &Path) -> Option<Node> {
        path.components().try_fold(TOP, |at, part| match part {
            Component::Normal(name) => self.names.get(&at)?.get(name.to_str()?).copied(),
            Component::CurDir => Some(at),
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => None,
        })
    }

    /// Everything that has a name: path and thing, directories before what is in them.
    pub(crate) fn paths(&self) -> Vec<(String, Node)> {
        let mut found = Vec::new();
        self.below(TOP, "", &mut found);
        found
    }

    fn below(&self, directory: Node, path: &str, found: &mut Vec<(String, Node)>) {
        for (name, node) in self.names.get(&directory).into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            // A directory in itself cannot be; a state that says so would never end.
            assert!(path.len() < 4096, "a loop of directories at {path}");
            found.push((path.clone(), *node));
            self.below(*node, &path, found);
        }
    }
}

impl Model {
    /// Adds a thing.
    pub(crate) fn node(&mut self, kind: Kind, real: u64) -> Node {
        self.kinds.push(kind);
        self.real.push(real);
        self.kinds.len() - 1
    }

    /// What is there at the start is safe.
    pub(crate) fn settle(&mut self) {
        self.base = self.now.clone();
        self.events.clear();
    }

    /// Does something that was not done by the program: no event of it.
    pub(crate) fn put(&mut self, change: &Change) {
        self.now.apply(change);
    }

    /// A new thing has these from the beginning, whenever it gets a name.
    pub(crate) fn born(&mut self, node: Node, own: Attributes) {
        let change = Change::Attributes(node, own);
        self.base.apply(&change);
        self.now.apply(&change);
    }

    /// Something happened.
    pub(crate) fn happened(&mut self, change: Change, call: &str) {
        let waits = match &change {
            Change::Names(names) => names.iter().map(|(directory, _, _)| *directory).collect(),
            Change::Write(node, ..) | Change::Length(node, _) | Change::Attributes(node, _) => {
                BTreeSet::from([*node])
            }
        };
        self.now.apply(&change);
        self.events.push(Event { change, waits, call: call.to_owned() });
    }

    /// `fsync` or `fdatasync`: the latter leaves mode, owner and times out.
    pub(crate) fn synced(&mut self, node: Node, data_only: bool) {
        for event in &mut self.events {
            if !(data_only && matches!(event.change, Change::Attributes(..))) {
                let _ = event.waits.remove(&node);
            }
        }
    }

    /// `syncfs`.
    pub(crate) fn synced_all(&mut self) {
        self.events.iter_mut().for_each(|event| event.waits.clear());
    }

    /// The events that may be lost.
    pub(crate) fn pending(&self) -> Vec<usize> {
        (0..self.events.len()).filter(|at| !self.events[*at].waits.is_empty()).collect()
    }

    /// Whether bytes or length of a file are not safe.
    pub(crate) fn has_pending_bytes(&self, file: Node) -> bool {
        self.events.iter().any(|event| {
            let changes =
                matches!(event.change, Change::Write(node, ..) | Change::Length(node, _) if node == file);
            changes && !event.waits.is_empty()
        })
    }

    /// The events before this one that it cannot be without: those on one of its names.
    fn needs(&self, at: usize) -> Vec<usize> {
        let Change::Names(own) = &self.events[at].change else { return Vec::new() };
        let shares = |event: &Event| match &event.change {
            Change::Names(other) => {
                own.iter().any(|(dir, name, _)| other.iter().any(|(d, n, _)| d == dir && n == name))
            }
            Change::Write(..) | Change::Length(..) | Change::Attributes(..) => false,
        };
        (0..at).filter(|earlier| shares(&self.events[*earlier])).collect()
    }

    /// The state with what is safe, these of the others, and what they cannot be without. `torn`: of the
    /// last write only a part.
    pub(crate) fn view(&self, chosen: &BTreeSet<usize>, torn: bool) -> View {
        let safe = |at: &usize| self.events[*at].waits.is_empty();
        let mut there: BTreeSet<usize> =
            (0..self.events.len()).filter(|at| safe(at) || chosen.contains(at)).collect();
        let mut todo: Vec<usize> = there.iter().copied().collect();
        while let Some(at) = todo.pop() {
            todo.extend(self.needs(at).into_iter().filter(|earlier| there.insert(*earlier)));
        }
        let is_write = |at: &&usize| matches!(self.events[**at].change, Change::Write(..)) && !safe(at);
        let last = there.iter().rev().find(is_write).copied().filter(|_| torn);
        let mut view = self.base.clone();
        for at in there {
            match &self.events[at].change {
                Change::Write(node, offset, bytes) if Some(at) == last => {
                    let half = bytes[..bytes.len().div_ceil(2)].into();
                    view.apply(&Change::Write(*node, *offset, half));
                }
                Change::Names(_) | Change::Write(..) | Change::Length(..) | Change::Attributes(..) => {
                    view.apply(&self.events[at].change);
                }
            }
        }
        view
    }

    /// The state with nothing but what is safe.
    pub(crate) fn safe(&self) -> View {
        self.view(&BTreeSet::new(), false)
    }

    /// What is there now and would not be after a cut, or the other way round; below `left_out` nothing
    /// counts.
    pub(crate) fn unsafe_paths(&self, left_out: &[&str]) -> Vec<String> {
        let safe = self.safe();
        let (was, is) = (safe.paths(), self.now.paths());
        let was: BTreeMap<&str, Node> = was.iter().map(|(path, node)| (path.as_str(), *node)).collect();
        let is: BTreeMap<&str, Node> = is.iter().map(|(path, node)| (path.as_str(), *node)).collect();
        let counts = |path: &&str| !left_out.iter().any(|out| Path::new(path).starts_with(out));
        let mut found = Vec::new();
        for path in was.keys().chain(is.keys()).filter(|path| counts(path)).collect::<BTreeSet<_>>() {
            match (was.get(path), is.get(path)) {
                (Some(_), None) => found.push(format!("{path} is removed")),
                (None, Some(_)) => found.push(format!("{path} has its name")),
                (Some(one), Some(other)) if one != other => found.push(format!("{path} is another one")),
                (Some(node), _) if safe.bytes.get(node) != self.now.bytes.get(node) => {
                    found.push(format!("{path} has its bytes"));
                }
                (Some(node), _) if safe.attributes.get(node) != self.now.attributes.get(node) => {
                    found.push(format!("{path} has its mode, owner or time"));
                }
                _ => {}
            }
        }
        found.extend(self.waiting(&is, &counts));
        found
    }

    /// Names that a directory was never synced for, although what came later makes them likely.
    fn waiting(&self, is: &BTreeMap<&str, Node>, counts: &dyn Fn(&&str) -> bool) -> Vec<String> {
        let is_there =
            |node: &Node| *node == TOP || is.iter().any(|(path, other)| node == other && counts(path));
        let left_out = |node: &Node| is.iter().any(|(path, other)| node == other && !counts(path));
        let waits = |event: &&Event| match &event.change {
            Change::Names(names) => {
                let all_left_out = names.iter().all(|(_, _, node)| node.as_ref().is_some_and(left_out));
                !all_left_out && event.waits.iter().any(is_there)
            }
            Change::Write(..) | Change::Length(..) | Change::Attributes(..) => false,
        };
        self.events
            .iter()
            .filter(waits)
            .map(|event| format!("{} waits for a directory", event.call))
            .collect()
    }
}
