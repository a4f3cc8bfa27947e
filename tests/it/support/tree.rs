//! A picture of a whole tree: every path with type, mode, owner, time, content. Two of them prove that
//! nothing changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use abssctl::ids::Sha256;

/// Every path below a directory (and itself, as the empty path) with all that a program could change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    mtime: i128,
    content: String,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Tree {
    /// Reads a tree; a directory that is not there is an empty picture.
    pub(crate) fn of(base: &Path) -> Self {
        let mut tree = Self(BTreeMap::new());
        if base.symlink_metadata().is_ok() {
            tree.add(base, PathBuf::new());
        }
        tree
    }

    fn add(&mut self, base: &Path, below: PathBuf) {
        let path = base.join(&below);
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        let (letter, content) = if kind.is_dir() {
            ('d', String::new())
        } else if kind.is_symlink() {
            ('l', std::fs::read_link(&path).unwrap().display().to_string())
        } else if kind.is_file() {
            ('f', Sha256::of(&std::fs::read(&path).unwrap()).to_string())
        } else {
            ('s', meta.rdev().to_string())
        };
        let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        let links = if kind.is_dir() { 0 } else { meta.nlink() };
        let owner = (meta.uid(), meta.gid());
        let xattrs = xattrs(&path);
        let entry = Entry { kind: letter, mode: meta.mode(), owner, links, mtime, content, xattrs };
        if kind.is_dir() {
            for child in std::fs::read_dir(&path).unwrap() {
                self.add(base, below.join(child.unwrap().file_name()));
            }
        }
        self.0.insert(below, entry);
    }

    /// Without what lies at or below these paths.
    pub(crate) fn without(mut self, paths: &[&str]) -> Self {
        self.0.retain(|path, _| !paths.iter().any(|left_out| path.starts_with(left_out)));
        self
    }

    /// Paths that both pictures have with another time in each.
    pub(crate) fn restless(&self, other: &Self) -> Vec<PathBuf> {
        let differs = |path: &&PathBuf| other.0.get(*path).is_some_and(|is| is.mtime != self.0[*path].mtime);
        self.0.keys().filter(differs).cloned().collect()
    }

    /// Without the times of these paths.
    pub(crate) fn without_times(mut self, paths: &[PathBuf]) -> Self {
        self.0.iter_mut().filter(|(path, _)| paths.contains(path)).for_each(|(_, entry)| entry.mtime = 0);
        self
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without times of directories, which change with what is made in them and taken away again.
    pub(crate) fn without_directory_times(mut self) -> Self {
        self.0.values_mut().filter(|entry| entry.kind == 'd').for_each(|entry| entry.mtime = 0);
        self
    }

    pub(crate) fn owner(&self, path: &str) -> (u32, u32) {
        self.0[Path::new(path)].owner
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.keys().map(|path| path.display().to_string()).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.keys().any(|path| path.components().any(|part| part.as_os_str() == name))
    }

    /// Proves that two pictures are equal; names each difference.
    #[track_caller]
    pub(crate) fn assert_same(&self, after: &Self, what: &str) {
        let differences = self.differences(after);
        assert!(differences.is_empty(), "{what}: the tree has changed\n{differences}");
    }

    /// Each path that is not the same in the other picture, with what it was and is; empty where all are.
    pub(crate) fn differences(&self, after: &Self) -> String {
        let mut differences = String::new();
        for path in self.0.keys().chain(after.0.keys().filter(|path| !self.0.contains_key(*path))) {
            let (was, is) = (self.0.get(path), after.0.get(path));
            if was != is {
                writeln!(differences, "{}\n  was {was:?}\n  is  {is:?}", path.display()).unwrap();
            }
        }
        differences
    }
}

/// Extended attributes of a path itself; none where the file system has none.
fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).unwrap_or(0);
        (name, value[..length].to_vec())
    };
    let mut found: Vec<_> = names.map(value).collect();
    found.sort();
    found
}
