//! Opens a path that other people may have a hand in. Where no symbolic link is on the way, one `openat2`
//! does it. Links are followed by handles, one name at a time: none leads out of the root, and where root
//! runs this, only links that root made, the one who runs this, or the owner of the root directory. The
//! kernel's `fs.protected_symlinks` is of this kind, but only for sticky directories. Reads only.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path};

use cap_std::fs::Dir;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::ids::AbsPath;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Opens what `inside` names below `root`.
///
/// # Errors
/// As `openat`; `PermissionDenied` for a link of somebody whom root does not trust.
pub(super) fn open(root: &Dir, inside: &AbsPath, flags: OFlags) -> io::Result<OwnedFd> {
    match plain(root, inside.relative(), flags) {
        Err(Errno::LOOP) => Walk::new(root)?.open(inside.relative(), flags),
        other => Ok(other?),
    }
}

/// One step or many, without a link.
fn plain(
    dir: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(dir, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// A way through links.
struct Walk {
    /// The root and the directories below it on the way so far.
    way: Vec<OwnedFd>,
    /// Who else than root may have made a link.
    trusted: [u32; 2],
    links: usize,
}

impl Walk {
    fn new(root: &Dir) -> io::Result<Self> {
        let own = rustix::fs::fstat(root)?.st_uid;
        let top = plain(root, ".", OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Self { way: vec![top], trusted: [own, rustix::process::geteuid().as_raw()], links: 0 })
    }

    fn here(&self) -> io::Result<&OwnedFd> {
        self.way.last().ok_or_else(|| Errno::NOENT.into())
    }

    fn open(mut self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        // The names that are left, the next one last.
        let mut names: Vec<OsString> = Vec::new();
        push(&mut names, path);
        while let Some(name) = names.pop() {
            if name == ".." {
                // Above the root is the root.
                self.way.truncate(self.way.len().saturating_sub(1).max(1));
                continue;
            }
            // A link itself, where it is one.
            let found = plain(self.here()?, &name, OFlags::PATH | OFlags::NOFOLLOW)?;
            match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
                FileType::Symlink => self.link(&found, &name, &mut names)?,
                FileType::Directory => self.way.push(found),
                FileType::RegularFile
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => {
                    // Opened anew by its name: should that be a link by now, it is refused.
                    let last = names.is_empty();
                    return if last {
                        Ok(plain(self.here()?, &name, flags)?)
                    } else {
                        Err(Errno::NOTDIR.into())
                    };
                }
            }
        }
        Ok(plain(self.here()?, ".", flags)?)
    }

    /// Puts what a link says before the names that are left.
    fn link(&mut self, link: &OwnedFd, name: &OsStr, names: &mut Vec<OsString>) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let owner = rustix::fs::fstat(link)?.st_uid;
        if rustix::process::geteuid().is_root() && owner != 0 && !self.trusted.contains(&owner) {
            let what = format!(
                "the symbolic link '{}' on the way belongs to user {owner}, and root follows no link of others; if it is meant, give it to root with chown -h",
                name.to_string_lossy().escape_debug()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        let target = rustix::fs::readlinkat(link, "", Vec::new())?;
        let target = OsString::from_vec(target.into_bytes());
        let target = Path::new(&target);
        if target.is_absolute() {
            self.way.truncate(1);
        }
        push(names, target);
        Ok(())
    }
}

/// The parts of a path, last one first.
fn push(names: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    names.extend(parts);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn inode(root: &Path, inside: &str) -> io::Result<u64> {
        let dir = Dir::open_ambient_dir(root, cap_std::ambient_authority()).unwrap();
        let inside = inside.parse().unwrap();
        let opened = open(&dir, &inside, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let directory = open(&dir, &inside, OFlags::RDONLY | OFlags::DIRECTORY);
        assert_eq!(directory.is_ok(), std::fs::File::from(opened.try_clone()?).metadata()?.is_dir());
        Ok(std::fs::File::from(opened).metadata()?.ino())
    }

    #[test]
    fn links_are_followed_inside_of_the_root() {
        let temporary = tempfile::tempdir().unwrap();
        let root = &temporary.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::File::create_new(root.join("a/file")).unwrap();
        std::fs::create_dir(temporary.path().join("a")).unwrap();
        for (name, target) in [
            ("up", "../../a"),
            ("abs", "/a/b"),
            ("a/b/back", "../file"),
            ("chain", "abs/back"),
            ("loop", "loop"),
            ("gone", "nowhere"),
            ("top", "/"),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        let real = |path: &str| root.join(path).metadata().unwrap().ino();
        for (path, place) in [
            ("/up", "a"),
            ("/up/b", "a/b"),
            ("/abs", "a/b"),
            ("/abs/back", "a/file"),
            ("/chain", "a/file"),
            ("/top/top/up/file", "a/file"),
            ("/top", "."),
        ] {
            assert_eq!(inode(root, path).unwrap(), real(place), "{path}");
        }
        for (path, kind) in [("/gone", io::ErrorKind::NotFound), ("/chain/x", io::ErrorKind::NotADirectory)] {
            assert_eq!(inode(root, path).unwrap_err().kind(), kind, "{path}");
        }
        assert_eq!(inode(root, "/loop").unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn root_follows_no_link_of_somebody_else() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        std::fs::create_dir(root.join("a")).unwrap();
        symlink("a", root.join("link")).unwrap();
        inode(root, "/link").unwrap();
        std::os::unix::fs::lchown(root.join("link"), Some(65534), None).unwrap();
        let error = inode(root, "/link").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("belongs to user 65534"), "{error}");
        // Whoever owns the whole root made its links.
        std::os::unix::fs::chown(root, Some(65534), None).unwrap();
        inode(root, "/link").unwrap();
    }
}
