//! Which names a member may have and what a link may refer to. Pure; every rule that keeps an archive
//! inside its staging directory is here (and the kernel's `openat2` stands behind it).
//!
//! A member's name is `<id>/…`: relative, no `.`, `..` or empty part, no NUL, at most 4000 bytes. Names
//! need not be UTF-8. Each name is there once, and everything above it is a directory.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{ArchiveError, EntryKind, Limits};
use crate::ids::BackupId;

/// Leaves room for a staging directory's name below the system's 4096.
pub(super) const MAX_NAME: usize = 4000;
/// What all names together may take in memory.
const MAX_NAMES: u64 = 256 * 1024 * 1024;
/// The directory of an archive, and of a staging directory, that holds the instance's files; symbolic
/// links exist only below it.
pub const DATA: &str = "data";

/// Where a member lies in a tree that stands for [`DATA`].
pub fn below_data(path: &Path) -> &Path {
    path.strip_prefix(DATA).unwrap_or(path)
}

/// A name as a message shows it.
pub(super) fn escape(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}

/// A path as a message shows it.
pub(super) fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// The part of a member's name below `<id>/`; empty for `<id>/` itself. A leading `./` and, for a
/// directory, one slash at the end are fine.
pub(super) fn below_id(name: &[u8], is_dir: bool, id: &BackupId) -> Result<PathBuf, ArchiveError> {
    let bad = |why| ArchiveError::BadName { member: escape(name), why };
    let mut rest = name;
    while let Some(shorter) = rest.strip_prefix(b"./") {
        rest = shorter;
    }
    if is_dir {
        rest = rest.strip_suffix(b"/").unwrap_or(rest);
    }
    if rest.is_empty() {
        return Err(bad("it is empty"));
    }
    if rest.len() > MAX_NAME {
        return Err(bad("it is too long"));
    }
    if rest.contains(&0) {
        return Err(bad("it has a NUL byte"));
    }
    if rest.starts_with(b"/") {
        return Err(bad("it is absolute"));
    }
    for part in rest.split(|byte| *byte == b'/') {
        match part {
            b"" => return Err(bad("it has an empty part")),
            b"." | b".." => return Err(bad("it has a '.' or '..' part")),
            _ => {}
        }
    }
    let foreign = || ArchiveError::ForeignTop { member: escape(name), id: id.to_string() };
    match rest.strip_prefix(id.as_str().as_bytes()) {
        Some(b"") => Ok(PathBuf::new()),
        Some(below) => {
            below.strip_prefix(b"/").map(|below| PathBuf::from(OsStr::from_bytes(below))).ok_or_else(foreign)
        }
        None => Err(foreign()),
    }
}

/// Whether a symbolic link's target, read as text, stays below `data/`.
pub(super) fn stays_in_data(link: &Path, target: &Path) -> bool {
    let Ok(inside) = link.strip_prefix(DATA) else { return false };
    let mut depth = inside.components().count().saturating_sub(1);
    for part in target.as_os_str().as_bytes().split(|byte| *byte == b'/').enumerate() {
        match part {
            (0, b"") => return false,
            (_, b"" | b".") => {}
            (_, b"..") => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    true
}

/// Whether a symbolic link may be at this place at all.
pub(super) fn may_be_link(link: &Path) -> bool {
    link.strip_prefix(DATA).is_ok_and(|inside| !inside.as_os_str().is_empty())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Member(EntryKind),
    /// A directory that only names below it speak of.
    Implied,
}

/// The names seen so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By their bytes: a path of checked parts has no other spelling, and as a `Path` it is compared part by part.
    known: HashMap<OsString, Known>,
    bytes: u64,
}

impl Names {
    /// Takes a name up, or refuses it: twice, below something that is no directory, or one too many.
    /// Gives the directories above it that no member has made, outermost first.
    pub(super) fn insert(
        &mut self,
        path: &Path,
        kind: EntryKind,
        limits: &Limits,
    ) -> Result<Vec<PathBuf>, ArchiveError> {
        let mut implied = Vec::new();
        for above in path.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty()) {
            match self.known.get(above.as_os_str()) {
                Some(Known::Member(EntryKind::Directory) | Known::Implied) => break,
                Some(Known::Member(EntryKind::File | EntryKind::Symlink | EntryKind::Hardlink)) => {
                    let (member, parent) = (shown(path), shown(above));
                    return Err(ArchiveError::BelowNonDirectory { member, parent });
                }
                None => {
                    self.room(above, limits)?;
                    implied.push(above.to_owned());
                    self.known.insert(above.into(), Known::Implied);
                }
            }
        }
        implied.reverse();
        match self.known.get(path.as_os_str()) {
            None => self.room(path, limits)?,
            Some(Known::Implied) if kind == EntryKind::Directory => {}
            Some(_) => return Err(ArchiveError::Duplicate { member: shown(path) }),
        }
        self.known.insert(path.into(), Known::Member(kind));
        Ok(implied)
    }

    /// Whether an earlier member of this name is a regular file.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.known.get(path.as_os_str()) == Some(&Known::Member(EntryKind::File))
    }

    fn room(&mut self, path: &Path, limits: &Limits) -> Result<(), ArchiveError> {
        self.bytes += path.as_os_str().len() as u64;
        if self.known.len() as u64 >= limits.entries {
            return Err(ArchiveError::TooLarge { what: "entries", limit: limits.entries });
        }
        if self.bytes > MAX_NAMES {
            return Err(ArchiveError::TooLarge { what: "bytes of names", limit: MAX_NAMES });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> BackupId {
        "20261124-022632-budget-fc166c".parse().unwrap()
    }

    #[test]
    fn names_are_taken_below_the_id_only() {
        let id = id();
        let full = |rest: &str| below_id(format!("{id}{rest}").as_bytes(), true, &id);
        assert_eq!(full("/data/x").unwrap(), Path::new("data/x"));
        assert_eq!(full("").unwrap(), Path::new(""));
        assert_eq!(full("/").unwrap(), Path::new(""));
        assert_eq!(below_id(format!("././{id}/a").as_bytes(), false, &id).unwrap(), Path::new("a"));
        for bad in ["/../x", "/a/./b", "/a//b", "/a/..", "//", "/a\0b"] {
            assert!(matches!(full(bad), Err(ArchiveError::BadName { .. })), "{bad:?}");
        }
        assert!(matches!(full("x/a"), Err(ArchiveError::ForeignTop { .. })));
        assert!(matches!(below_id(b"other/a", false, &id), Err(ArchiveError::ForeignTop { .. })));
        for bad in [&b""[..], b"./", b"/", b"/etc/passwd", b"..", b"./../x"] {
            assert!(matches!(below_id(bad, true, &id), Err(ArchiveError::BadName { .. })), "{bad:?}");
        }
        let slash = below_id(format!("{id}/file/").as_bytes(), false, &id);
        assert!(matches!(slash, Err(ArchiveError::BadName { .. })));
    }

    #[test]
    fn links_are_judged_by_their_text() {
        let judge = |link: &str, target: &str| stays_in_data(Path::new(link), Path::new(target));
        assert!(judge("data/a/link", "../b"));
        assert!(judge("data/link", "x/../y"));
        assert!(judge("data/a/link", "./x//y"));
        assert!(!judge("data/link", "../metadata"));
        assert!(!judge("data/a/link", "../../x"));
        assert!(!judge("data/a/link", "b/../../../data/x"));
        assert!(!judge("data/link", "/etc"));
        assert!(!judge("nginx/link", "x"));
        assert!(!may_be_link(Path::new("data")) && may_be_link(Path::new("data/x")));
    }

    #[test]
    fn implied_directories_count_and_may_be_named_once_later() {
        let limits = Limits { bytes: 1, entries: 4 };
        let mut names = Names::default();
        let implied = names.insert(Path::new("a/b/c"), EntryKind::File, &limits).unwrap();
        assert_eq!(implied, [Path::new("a"), Path::new("a/b")]);
        assert!(names.insert(Path::new("a/b"), EntryKind::Directory, &limits).unwrap().is_empty());
        let twice = names.insert(Path::new("a/b"), EntryKind::Directory, &limits);
        assert!(matches!(twice, Err(ArchiveError::Duplicate { .. })));
        let replaced = names.insert(Path::new("a"), EntryKind::Symlink, &limits);
        assert!(matches!(replaced, Err(ArchiveError::Duplicate { .. })));
        let below = names.insert(Path::new("a/b/c/d"), EntryKind::File, &limits);
        assert!(matches!(below, Err(ArchiveError::BelowNonDirectory { .. })));
        names.insert(Path::new("d"), EntryKind::Directory, &limits).unwrap();
        let many = names.insert(Path::new("e"), EntryKind::Directory, &limits);
        assert!(matches!(many, Err(ArchiveError::TooLarge { what: "entries", .. })));
    }
}
