//! Watches the real program call by call and tells the model what happened. The program stands still while
//! a file's attributes are looked at, so that they are those right after the call.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::calls;
use crate::model::{Attributes, Change, Kind, Model, Node, TOP};
use crate::support::Ran;
use crate::tracer::{Act, Call, Tracer};

/// A call, and what only a look at the disk tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) call: Call,
    /// Number and attributes of what it worked on, right after it.
    after: Option<(u64, Attributes)>,
    /// What is in the file that bytes are copied from, from where on; where they go.
    copied: Option<(Vec<u8>, u64)>,
}

/// A program that ran, and all that it did.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) ran: Ran,
    pub(crate) model: Model,
    pub(crate) steps: Vec<Step>,
}

/// Runs a command in a root; `act` may do something else to a call than let it happen.
pub(crate) fn watch(command: &Command, root: &Path, act: impl Fn(&Call) -> Act + Sync) -> Watched {
    let model = found(root);
    let mut after: HashMap<usize, (u64, Attributes)> = HashMap::new();
    let mut copied: HashMap<usize, (Vec<u8>, u64)> = HashMap::new();
    let mut last: Option<Call> = None;
    let look = |call: &Call| call.paths.last().and_then(|path| attributes(path));
    let mut traced = Tracer::new(command).with_data().run(|call| {
        // Locks are not taken one by one: the call before may be under way.
        if call.kind != calls::Kind::Lock {
            if let Some(last) = last.replace(call.clone())
                && let Some(found) = look(&last)
            {
                let _ = after.insert(last.number, found);
            }
            if let Some(found) = source(call) {
                let _ = copied.insert(call.number, found);
            }
        }
        act(call)
    });
    if let Some(last) = last
        && let Some(found) = look(&last)
    {
        let _ = after.insert(last.number, found);
    }
    let calls = std::mem::take(&mut traced.calls);
    let steps = calls
        .into_iter()
        .map(|call| Step { after: after.remove(&call.number), copied: copied.remove(&call.number), call })
        .collect();
    Watched { ran: traced.ran, model, steps }
}

/// What a root holds now, all of it safe.
fn found(root: &Path) -> Model {
    let mut model = Model::default();
    let (number, own) = attributes(root).unwrap();
    let top = model.node(Kind::Directory, number);
    model.put(&Change::Attributes(top, own));
    add(&mut model, root, top);
    model.settle();
    model
}

fn add(model: &mut Model, directory: &Path, parent: Node) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let meta = path.symlink_metadata().unwrap();
        let kind = if meta.is_dir() {
            Kind::Directory
        } else if meta.is_symlink() {
            Kind::Link(std::fs::read_link(&path).unwrap())
        } else {
            assert!(meta.is_file() && meta.nlink() == 1, "{} is no plain file", path.display());
            Kind::File
        };
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let node = model.node(kind, meta.ino());
        model.put(&Change::Names(vec![(parent, name, Some(node))]));
        if meta.is_file() {
            model.put(&Change::Write(node, 0, std::fs::read(&path).unwrap().into()));
        }
        let own = attributes(&path).unwrap().1;
        model.put(&Change::Attributes(
            node,
            Attributes { time: Some((meta.mtime(), meta.mtime_nsec())), ..own },
        ));
        if meta.is_dir() {
            add(model, &path, node);
        }
    }
}

fn attributes(path: &Path) -> Option<(u64, Attributes)> {
    let meta = path.symlink_metadata().ok()?;
    let owner = (meta.uid(), meta.gid());
    let time = Some((meta.mtime(), meta.mtime_nsec()));
    Some((meta.ino(), Attributes { mode: meta.mode(), owner, time }))
}

/// The bytes that a call copies from another file, at most, and where they go.
fn source(call: &Call) -> Option<(Vec<u8>, u64)> {
    let (from, to) = match call.name {
        "copy_file_range" => (call.args[0], Some(call.args[2])),
        "sendfile" => (call.args[1], Some(call.args[0])),
        "ioctl FICLONE" => (call.args[2], None),
        _ => return None,
    };
    let position = |fd: u64| {
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", call.thread)).ok()?;
        info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse::<u64>().ok()
    };
    let bytes = std::fs::read(format!("/proc/{}/fd/{from}", call.thread)).ok()?;
    let Some(to) = to else { return Some((bytes, 0)) };
    let begin = usize::try_from(position(from)?).ok()?.min(bytes.len());
    Some((bytes[begin..].to_vec(), position(to)?))
}

impl Step {
    /// The name below the root of what the call works on; `None`: it works elsewhere.
    pub(crate) fn path<'c>(&'c self, root: &Path, which: usize) -> Option<&'c Path> {
        self.call.paths.get(which)?.strip_prefix(root).ok()
    }

    /// The same, of the last path that it has: what is made, written, synced.
    pub(crate) fn object<'c>(&'c self, root: &Path) -> Option<&'c Path> {
        self.path(root, self.call.paths.len().checked_sub(1)?)
    }

    /// Whether it happened.
    pub(crate) fn happened(&self) -> bool {
        !self.call.injected && self.call.result.is_some_and(|result| result >= 0)
    }

    /// Tells the model.
    pub(crate) fn tell(&self, model: &mut Model, root: &Path) {
        let Some(path) = self.object(root).filter(|_| self.happened()) else { return };
        let text = self.call.to_string();
        let node = model.now.find(path);
        match self.call.kind {
            calls::Kind::Create => self.create(model, root, path, &text),
            calls::Kind::Write => {
                for change in node.map(|node| self.written(node)).unwrap_or_default() {
                    model.happened(change, &text);
                }
            }
            calls::Kind::Rename => self.rename(model, root, &text),
            calls::Kind::Remove => {
                let (directory, name) = place(model, path);
                model.happened(Change::Names(vec![(directory, name, None)]), &text);
            }
            calls::Kind::Meta => {
                if let (Some(node), Some((_, found))) = (node, self.after) {
                    let was = model.now.attributes.get(&node).copied().unwrap_or_default();
                    let sets_time = self.call.name.starts_with("ut") || self.call.name == "futimesat";
                    let time = if sets_time { found.time } else { was.time };
                    model.happened(Change::Attributes(node, Attributes { time, ..found }), &text);
                }
            }
            calls::Kind::Sync => match (self.call.name, node) {
                ("syncfs", _) => model.synced_all(),
                ("fsync" | "fdatasync", Some(node)) => model.synced(node, self.call.name == "fdatasync"),
                _ => {}
            },
            calls::Kind::Lock | calls::Kind::Open | calls::Kind::Read => {}
        }
    }

    fn create(&self, model: &mut Model, root: &Path, path: &Path, text: &str) {
        let cuts = match self.call.name {
            "open" => self.call.args[1],
            "openat" => self.call.args[2],
            _ => 0,
        };
        if let Some(node) = model.now.find(path) {
            if cuts & u64::from(nix::libc::O_TRUNC.cast_unsigned()) != 0 {
                model.happened(Change::Length(node, 0), text);
            }
            return;
        }
        let (directory, name) = place(model, path);
        let node = if self.call.name.starts_with("link") {
            self.path(root, 0).and_then(|from| model.now.find(from)).unwrap()
        } else {
            let Some((number, own)) = self.after else { panic!("nobody saw what {text} made") };
            let kind = match self.call.name {
                "mkdir" | "mkdirat" => Kind::Directory,
                "symlink" | "symlinkat" => Kind::Link(self.call.paths[0].clone()),
                "mknod" | "mknodat" => panic!("the model knows no device: {text}"),
                _ => Kind::File,
            };
            let node = model.node(kind, number);
            model.born(node, Attributes { time: None, ..own });
            node
        };
        model.happened(Change::Names(vec![(directory, name, Some(node))]), text);
    }

    fn rename(&self, model: &mut Model, root: &Path, text: &str) {
        let [from, to] = [0, 1].map(|which| self.path(root, which).unwrap());
        let [old, new] = [from, to].map(|path| model.now.find(path));
        let [(from, from_name), (to, to_name)] = [from, to].map(|path| place(model, path));
        let flags = if self.call.name == "renameat2" { self.call.args[4] } else { 0 };
        let exchanged = flags & u64::from(nix::libc::RENAME_EXCHANGE) != 0;
        let left = if exchanged { new } else { None };
        model.happened(Change::Names(vec![(from, from_name, left), (to, to_name, old)]), text);
    }

    fn written(&self, node: Node) -> Vec<Change> {
        let count = usize::try_from(self.call.result.unwrap_or_default()).unwrap_or_default();
        let offset = self.call.offset.unwrap_or_default();
        match self.call.name {
            "write" | "pwrite64" => {
                assert!(self.call.offset.is_some(), "nobody knows where {} writes", self.call);
                vec![Change::Write(node, offset, self.call.data[..count].into())]
            }
            "ftruncate" | "truncate" => vec![Change::Length(node, offset)],
            // Room alone: what can be read stays the same.
            "fallocate" if self.call.args[1] == 1 => Vec::new(),
            "copy_file_range" | "sendfile" if count == 0 => Vec::new(),
            "copy_file_range" | "sendfile" => {
                let (bytes, to) = self.copied.clone().unwrap();
                vec![Change::Write(node, to, bytes[..count].into())]
            }
            "ioctl FICLONE" => {
                let (bytes, _) = self.copied.clone().unwrap();
                vec![Change::Length(node, 0), Change::Write(node, 0, Arc::from(bytes))]
            }
            other => panic!("the model does not know {other}"),
        }
    }
}

/// The directory that holds a path, and the name in it.
fn place(model: &Model, path: &Path) -> (Node, String) {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.map_or(Some(TOP), |parent| model.now.find(parent));
    (directory.unwrap_or_else(|| panic!("{} is in no directory", path.display())), name)
}
