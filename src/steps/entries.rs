//! The swap where the target is a mount point, which no rename can move: what is in it changes places,
//! entry by entry, within its file system. The journal knows the inodes of all entries before the first
//! rename.
//!
//! Not atomic as a whole, and the plan says so. What a server starts from is: its data directory lies in
//! one entry, and that one goes last, by one exchange. A crash leaves some entries new and the rest old,
//! with the old data whole until the last rename and the new data whole after it; run again, it goes on,
//! and undo takes the data back first.

use std::collections::BTreeMap;
use std::path::Path;

use cap_std::fs::{Dir, MetadataExt as _};

use super::context::{Probe, StepContext};
use super::error::StepError;
use super::staging;
use super::swap::Noted;
use crate::host::copy;
use crate::host::fs::{self, FsError, IoContext as _};
use crate::ids::AbsPath;
use crate::run::fact::EntryIds;
use crate::survey::target::MAX_ENTRIES;

/// A directory that entries move from or to, with its path.
struct Place {
    /// `None` where it does not exist.
    dir: Option<Dir>,
    path: AbsPath,
}

/// The three of them.
struct Places {
    target: Place,
    staged: Place,
    displaced: Place,
}

/// Where one entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Before,
    /// The new one has its name in the target, the old one is still in staging.
    Exchanged,
    After,
    Unknown,
}

/// Lists the entries that change places, in their order: the one with the server's data last.
pub(super) fn list(cx: &StepContext<'_>, target: &Dir, staged: &Dir) -> std::io::Result<Vec<EntryIds>> {
    let data = Path::new(&cx.plan.observed.instance.data_directory);
    let (old, new) = (inodes(target)?, inodes(staged)?);
    let last = data.components().next().map(|part| part.as_os_str().to_owned());
    let mut names: Vec<&std::ffi::OsString> =
        old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))).collect();
    names.sort_by_key(|name| (last.as_ref() == Some(*name), (*name).clone()));
    if names.len() > MAX_ENTRIES {
        return Err(std::io::Error::other(format!("it has more than {MAX_ENTRIES} entries")));
    }
    let ids = names.into_iter().map(|name| {
        let text = name.to_str().ok_or_else(|| {
            std::io::Error::other(format!("the name {} is not UTF-8", name.to_string_lossy()))
        })?;
        Ok(EntryIds { name: text.to_owned(), old: old.get(name).copied(), new: new.get(name).copied() })
    });
    ids.collect()
}

/// Name and inode of what is in a directory and belongs to the instance.
fn inodes(dir: &Dir) -> std::io::Result<BTreeMap<std::ffi::OsString, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::open_dir(dir, ".")?.entries()? {
        let name = entry?.file_name();
        if !fs::is_foreign(&name) {
            let inode = dir.symlink_metadata(&name)?.ino();
            found.insert(name, inode);
        }
    }
    Ok(found)
}

/// Puts the new entries in place and the old ones aside; goes on where an earlier try stopped.
pub(super) fn forward(cx: &StepContext<'_>, noted: &Noted) -> Result<(), StepError> {
    let places = Places::open(cx, noted, true)?;
    if places.tally(&noted.entries)? == Probe::NotBegun {
        // The directory itself is not replaced: what belongs to it is kept, so that it can come back.
        like(&places.target, &places.displaced)?;
    }
    for entry in &noted.entries {
        places.one_forward(entry)?;
    }
    like(&places.staged, &places.target)?;
    // Of an empty disk nothing is kept.
    staging::remove_if_empty(cx.host, &noted.displaced_at)
}

/// Puts the old entries back, the server's data first; those of the restore go to staging again.
pub(super) fn back(cx: &StepContext<'_>, noted: &Noted) -> Result<(), StepError> {
    if probe(cx, noted)? != Probe::NotBegun {
        let places = Places::open(cx, noted, true)?;
        // First, for once all entries are back nothing tells whether it was done.
        like(&places.displaced, &places.target)?;
        for entry in noted.entries.iter().rev() {
            places.one_back(entry)?;
        }
    }
    staging::remove_if_empty(cx.host, &noted.displaced_at)
}

/// How far it came.
pub(super) fn probe(cx: &StepContext<'_>, noted: &Noted) -> Result<Probe, StepError> {
    Places::open(cx, noted, false)?.tally(&noted.entries)
}

impl Places {
    fn open(cx: &StepContext<'_>, noted: &Noted, create: bool) -> Result<Self, StepError> {
        let target = cx.plan.spec.target.directory.clone();
        let dir = cx.host.root.dir(&target)?;
        Ok(Self {
            target: Place { dir: Some(dir), path: target },
            staged: Place::open(cx, &noted.staged_at, create)?,
            displaced: Place::open(cx, &noted.displaced_at, create)?,
        })
    }

    fn at(&self, entry: &EntryIds) -> Result<At, StepError> {
        let (target, staged, displaced) = (
            self.target.inode(&entry.name)?,
            self.staged.inode(&entry.name)?,
            self.displaced.inode(&entry.name)?,
        );
        let EntryIds { old, new, .. } = *entry;
        Ok(if target == old && displaced.is_none() && (staged == new || staged.is_none()) {
            At::Before
        } else if target == new && displaced == old && staged.is_none() {
            At::After
        } else if old.is_some() && new.is_some() && target == new && staged == old && displaced.is_none() {
            At::Exchanged
        } else {
            At::Unknown
        })
    }

    fn tally(&self, entries: &[EntryIds]) -> Result<Probe, StepError> {
        let (mut before, mut after) = (0, 0);
        for entry in entries {
            match self.at(entry)? {
                At::Before => before += 1,
                At::After => after += 1,
                At::Exchanged => {}
                At::Unknown => return Err(self.unknown(entry)),
            }
        }
        Ok(if before == entries.len() {
            Probe::NotBegun
        } else if after == entries.len() {
            Probe::Done
        } else {
            Probe::Half
        })
    }

    fn unknown(&self, entry: &EntryIds) -> StepError {
        let (target, staged, displaced) = (&self.target.path, &self.staged.path, &self.displaced.path);
        let name = &entry.name;
        StepError::UnknownState {
            what: format!(
                "'{name}' in {target}, {staged} and {displaced} is another one than this run put there"
            ),
        }
    }

    fn one_forward(&self, entry: &EntryIds) -> Result<(), StepError> {
        let name = entry.name.as_str();
        let (target, staged, displaced) = (self.target.dir()?, self.staged.dir()?, self.displaced.dir()?);
        let path = self.target.path.as_path().join(name);
        let at = self.at(entry)?;
        match (at, entry.old, entry.new) {
            (At::After, ..) => return Ok(()),
            (At::Unknown, ..) => return Err(self.unknown(entry)),
            (At::Before, Some(_), Some(_)) => {
                fs::exchange(staged, name, target, name)
                    .context("put the unpacked entry in place of", &path)?;
            }
            (At::Before, Some(_), None) => {
                fs::rename_noreplace(target, name, displaced, name).context("move away", &path)?;
            }
            (At::Before, None, _) => {
                fs::rename_noreplace(staged, name, target, name)
                    .context("put the unpacked entry at", &path)?;
            }
            (At::Exchanged, ..) => {}
        }
        if entry.old.is_some() && entry.new.is_some() {
            fs::rename_noreplace(staged, name, displaced, name).context("keep the displaced entry", &path)?;
        }
        Ok(())
    }

    fn one_back(&self, entry: &EntryIds) -> Result<(), StepError> {
        let name = entry.name.as_str();
        let (target, staged, displaced) = (self.target.dir()?, self.staged.dir()?, self.displaced.dir()?);
        let path = self.target.path.as_path().join(name);
        let at = self.at(entry)?;
        match (at, entry.old, entry.new) {
            (At::Before, ..) => return Ok(()),
            (At::Unknown, ..) => return Err(self.unknown(entry)),
            (At::After, Some(_), Some(_)) => {
                fs::rename_noreplace(displaced, name, staged, name).context("take back", &path)?;
            }
            (At::After, Some(_), None) => {
                return Ok(fs::rename_noreplace(displaced, name, target, name).context("take back", &path)?);
            }
            (At::After, None, _) => {
                return Ok(fs::rename_noreplace(target, name, staged, name).context("take away", &path)?);
            }
            (At::Exchanged, ..) => {}
        }
        Ok(fs::exchange(staged, name, target, name).context("put the old entry back at", &path)?)
    }
}

impl Place {
    /// Opens a directory in a private one; what lies in it has the owner of the instance. With `create`
    /// it is made where it is missing.
    fn open(cx: &StepContext<'_>, path: &AbsPath, create: bool) -> Result<Self, StepError> {
        if create && staging::tree(cx.host, path)?.is_none() {
            if let Some(above) = path.parent() {
                staging::ensure(cx.host, &above)?;
            }
            let (parent, name) = staging::parent_of(cx.host, path)?;
            fs::create_dir(&parent, name, 0o700).context("create directory", cx.host.root.host_path(path))?;
        }
        Ok(Self { dir: staging::tree(cx.host, path)?, path: path.clone() })
    }

    fn dir(&self) -> Result<&Dir, StepError> {
        let gone = || StepError::UnknownState { what: format!("{} is gone", self.path) };
        self.dir.as_ref().ok_or_else(gone)
    }

    fn inode(&self, name: &str) -> Result<Option<u64>, FsError> {
        let Some(dir) = &self.dir else { return Ok(None) };
        match dir.symlink_metadata(name) {
            Ok(meta) => Ok(Some(meta.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("look at", self.path.as_path().join(name)),
        }
    }
}

/// Gives one directory the owner, mode and extended attributes of another; its times change anyway.
fn like(from: &Place, to: &Place) -> Result<(), StepError> {
    let (from, dir) = (from.dir()?, to.dir()?);
    copy::directory_like(from, dir).context("give owner, mode and times to", to.path.as_path())?;
    Ok(fs::sync_dir(dir).context("sync", to.path.as_path())?)
}
