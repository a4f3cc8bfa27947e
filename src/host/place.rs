//! Where a path really lies, whatever symbolic links its text goes through: directories by device and
//! inode, from the one that a path names up to the root. Reads only.

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::fs::{FsError, IoContext as _, Root};
use crate::ids::AbsPath;

/// Device and inode of a directory.
type Identity = (u64, u64);

/// No real tree is deeper; what claims to be is refused rather than followed for ever.
const MAX_DEPTH: usize = 4096;

/// Where a path really lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The nearest directory that exists, and all that hold it, up to the root.
    directories: Vec<Identity>,
    /// What of the path does not exist, nearest name first.
    missing: Vec<String>,
}

impl Place {
    /// Finds the place of a path; what does not exist yet counts by its name.
    pub fn of(root: &Root, inside: &AbsPath) -> Result<Self, FsError> {
        let mut top_path = inside.clone();
        while let Some(parent) = top_path.parent() {
            top_path = parent;
        }
        let top = root.dir(&top_path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut missing = Vec::new();
        let mut at = inside.clone();
        let mut directory = loop {
            let resolve = ResolveFlags::IN_ROOT;
            match rustix::fs::openat2(&top, at.relative(), flags, Mode::empty(), resolve) {
                Ok(directory) => break directory,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => return Err(error).context("find the place of", root.host_path(&at)),
            }
            if let (Some(parent), Some(name)) = (at.parent(), at.file_name()) {
                missing.insert(0, name.to_owned());
                at = parent;
            } else {
                let gone = rustix::io::Errno::NOENT;
                return Err(gone).context("find the place of", root.host_path(inside));
            }
        };
        let last = identity(&top).context("look at", root.host_path(&top_path))?;
        let mut directories = Vec::new();
        loop {
            let this = identity(&directory).context("look at", root.host_path(&at))?;
            // The directory above `/` is `/`.
            let above_root = directories.last() == Some(&this);
            if !above_root {
                directories.push(this);
            }
            if this == last || above_root || directories.len() > MAX_DEPTH {
                return Ok(Self { directories, missing });
            }
            directory = rustix::fs::openat(&directory, "..", flags, Mode::empty())
                .context("open the directory above", root.host_path(&at))?;
        }
    }

    /// Whether the other place is this one or lies in it.
    pub fn holds(&self, other: &Self) -> bool {
        let Some(own) = self.directories.first() else { return false };
        if self.missing.is_empty() {
            return other.directories.contains(own);
        }
        other.directories.first() == Some(own) && other.missing.starts_with(&self.missing)
    }
}

fn identity(directory: impl std::os::fd::AsFd) -> rustix::io::Result<Identity> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AbsPath {
        text.parse().unwrap()
    }

    #[test]
    fn links_do_not_hide_where_something_lies() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path();
        std::fs::create_dir_all(base.join("srv/budget/data")).unwrap();
        std::os::unix::fs::symlink("/srv", base.join("mnt")).unwrap();
        std::os::unix::fs::symlink("budget", base.join("srv/alias")).unwrap();
        let root = Root::open(base).unwrap();
        let place = |text: &str| Place::of(&root, &path(text)).unwrap();
        let budget = place("/srv/budget");
        for inside in ["/srv/budget", "/mnt/budget", "/mnt/budget/data", "/srv/alias/new/one", "/mnt/alias"] {
            assert!(budget.holds(&place(inside)), "{inside}");
        }
        for outside in ["/srv", "/mnt", "/", "/srv/other", "/srv/budget2"] {
            assert!(!budget.holds(&place(outside)), "{outside}");
        }
        assert!(place("/").holds(&budget) && place("/mnt").holds(&budget));
    }

    #[test]
    fn what_does_not_exist_yet_has_a_place_too() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir(temporary.path().join("srv")).unwrap();
        std::os::unix::fs::symlink("srv", temporary.path().join("mnt")).unwrap();
        let root = Root::open(temporary.path()).unwrap();
        let place = |text: &str| Place::of(&root, &path(text)).unwrap();
        assert!(place("/srv/a").holds(&place("/mnt/a")) && place("/srv/a").holds(&place("/mnt/a/b")));
        assert!(!place("/srv/a").holds(&place("/srv/b")) && !place("/srv/a/b").holds(&place("/srv/a")));
        assert!(!place("/srv/a").holds(&place("/srv")));
    }
}
