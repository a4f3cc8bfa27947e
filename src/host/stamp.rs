//! By what a file is known that nobody changed since: so that what was hashed once need not be hashed again.
//! Reads only.
//!
//! Whoever changes content, owner, mode or a name of a file gives it another time of change, and nobody can set
//! that; a file that takes its place is another inode. Two changes within one tick of the file system's clock
//! have the same time, so that a stamp proves something only where the tick is over: [`Stamp::settled`].

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use cap_std::fs::Dir;
use rustix::fs::Stat;

use super::fs;
use crate::ids::Sha256;

/// Seconds after which the tick of a change is over, also where the clock of a file system is coarse.
const TICK: i64 = 2;

/// Inode and time of the last change of a file, of one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Inode number.
    pub inode: u64,
    /// Time of the last change of anything, in nanoseconds since 1970.
    pub changed: i128,
}

impl Stamp {
    /// That of a file of which this is known.
    pub fn of(meta: &Metadata) -> Self {
        let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
        Self { inode: meta.ino(), changed }
    }

    /// That of a file which nobody can change from now on without another time of change; `None` of one that
    /// was changed just now, or that cannot be looked at.
    pub fn settled(file: &File) -> Option<Self> {
        let meta = file.metadata().ok()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let is_old = i64::try_from(now.as_secs()).is_ok_and(|now| meta.ctime() < now - TICK);
        is_old.then(|| Self::of(&meta))
    }
}

/// A file that nobody has changed since it had its stamp.
#[derive(Debug)]
pub struct Unchanged {
    /// The file, open for reading.
    pub file: File,
    stamp: Stamp,
}

impl Unchanged {
    /// Opens the regular file of that name below a directory, if it has this stamp still.
    pub fn open(dir: &Dir, name: &Path, stamp: Stamp) -> Option<Self> {
        let found = Self { file: fs::open_regular(dir, name).ok()?, stamp };
        found.is_still().then_some(found)
    }

    /// Whether what was read of it until now is what it held when it had its stamp.
    pub fn is_still(&self) -> bool {
        Stamp::settled(&self.file) == Some(self.stamp)
    }
}

/// The stamp of a file, once the tick of its last change is over.
#[cfg(test)]
pub(crate) fn wait(path: &Path) -> Stamp {
    loop {
        match Stamp::settled(&File::open(path).unwrap()) {
            Some(stamp) => break stamp,
            None => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}

impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        let changed = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
        Self { inode: stat.st_ino, changed }
    }
}

/// Digests of files of one file system, by their stamps. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<Mutex<HashMap<Stamp, Sha256>>>);

impl Known {
    /// The digest of the file that has this stamp.
    pub fn get(&self, stamp: Stamp) -> Option<Sha256> {
        self.digests().get(&stamp).copied()
    }

    /// Adds the digest of a file.
    pub fn insert(&self, stamp: Stamp, sha256: Sha256) {
        self.digests().insert(stamp, sha256);
    }

    fn digests(&self) -> MutexGuard<'_, HashMap<Stamp, Sha256>> {
        super::pool::lock(&self.0)
    }
}

impl FromIterator<(Stamp, Sha256)> for Known {
    fn from_iter<I: IntoIterator<Item = (Stamp, Sha256)>>(digests: I) -> Self {
        Self(Arc::new(Mutex::new(digests.into_iter().collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_just_now_proves_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        let file = File::create(&path).unwrap();
        assert_eq!(Stamp::settled(&file), None);
        assert_eq!(Stamp::of(&file.metadata().unwrap()), Stamp::of(&path.metadata().unwrap()));
        let old = Stamp { inode: 1, changed: 2 };
        let known: Known = [(old, Sha256::of(b"a"))].into_iter().collect();
        known.clone().insert(Stamp { inode: 2, ..old }, Sha256::of(b"b"));
        let found =
            [old, Stamp { inode: 2, ..old }, Stamp { changed: 3, ..old }].map(|stamp| known.get(stamp));
        assert_eq!(found, [Some(Sha256::of(b"a")), Some(Sha256::of(b"b")), None]);
    }
}
