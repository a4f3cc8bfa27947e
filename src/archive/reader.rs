//! Walks through an archive member by member and refuses whatever does not belong into a backup; for plans
//! and previews, and the base of unpacking. Changes nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Cursor, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::hashed::read_piece;
use super::header::{Raw, TarReader};
use super::manifest::MANIFEST_PATH;
use super::name::{self, Names, escape, shown};
use super::{ArchiveError, EntryKind, Manifest, Skip};
use crate::host::cancel::Cancel;
use crate::ids::{BackupId, Sha256};

/// A manifest larger than this is not read.
const MAX_MANIFEST: u64 = 64 * 1024 * 1024;

/// No instance has more files: the limit where nothing else says one.
pub const MAX_ENTRIES: u64 = 4_000_000;

/// How much an archive may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together; headers count before anything is written.
    pub bytes: u64,
    /// Files, directories and links, with directories that only names below them speak of.
    pub entries: u64,
}

/// What an archive holds altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, directories and links, without the top directory.
    pub entries: u64,
}

/// One checked member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Relative to `<id>/`: no `.`, no `..`, never empty.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits as stored.
    pub mode: u32,
    /// Owner as stored.
    pub uid: u32,
    /// Group as stored.
    pub gid: u32,
    /// Modification time, seconds since 1970, rounded down.
    pub mtime: i64,
    /// Nanoseconds after `mtime`.
    pub mtime_nanos: u32,
    /// Bytes of a regular file; 0 for all else.
    pub size: u64,
    /// A symbolic link's text, or the path of the earlier file that a hard link names, relative to `<id>/`.
    pub target: Option<PathBuf>,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Directories above it that no member has named so far, outermost first.
    pub implied: Vec<PathBuf>,
}

/// Iterates over checked members; [`Read`] gives the body of the latest.
pub(super) struct Members<'a, R> {
    tar: TarReader<R>,
    /// The manifest's body, which is read ahead.
    buffered: Option<Cursor<Vec<u8>>>,
    id: &'a BackupId,
    limits: &'a Limits,
    names: Names,
    seen_top: bool,
    seen_file: bool,
    pub(super) totals: Totals,
    pub(super) manifest: Option<Manifest>,
}

impl<'a, R: Read> Members<'a, R> {
    pub(super) fn new(tar: R, id: &'a BackupId, limits: &'a Limits) -> Self {
        Self {
            tar: TarReader::new(tar),
            buffered: None,
            id,
            limits,
            names: Names::default(),
            seen_top: false,
            seen_file: false,
            totals: Totals::default(),
            manifest: None,
        }
    }

    /// Refuses the latest member if it is not the manifest with this digest.
    pub(super) fn require_manifest(&self, planned: Sha256) -> Result<(), ArchiveError> {
        match self.buffered.as_ref().map(|bytes| Sha256::of(bytes.get_ref())) {
            Some(found) if found == planned => Ok(()),
            found => Err(ArchiveError::OtherManifest { found, planned }),
        }
    }

    /// The next member; `None` at the end, with the input read to its end. What was not read of the
    /// body before is skipped.
    pub(super) fn next(&mut self, cancel: &Cancel) -> Result<Option<Member>, ArchiveError> {
        self.skip_body(cancel)?;
        loop {
            cancel.check()?;
            let Some(raw) = self.tar.next()? else { return Ok(None) };
            let path = name::below_id(&raw.name, raw.kind == EntryKind::Directory, self.id)?;
            if path.as_os_str().is_empty() {
                self.top(&raw)?;
                continue;
            }
            self.totals.entries += 1;
            self.totals.bytes = self.totals.bytes.saturating_add(raw.size);
            if self.totals.bytes > self.limits.bytes {
                return Err(ArchiveError::TooLarge { what: "bytes", limit: self.limits.bytes });
            }
            let target = self.target(&raw, &path)?;
            let implied = self.names.insert(&path, raw.kind, self.limits)?;
            if path == Path::new(MANIFEST_PATH) {
                self.read_manifest(&raw)?;
            }
            self.seen_file |= raw.kind == EntryKind::File;
            let Raw { kind, mode, uid, gid, mtime, mtime_nanos, size, xattrs, .. } = raw;
            return Ok(Some(Member {
                path,
                kind,
                mode,
                uid,
                gid,
                mtime,
                mtime_nanos,
                size,
                target,
                xattrs,
                implied,
            }));
        }
    }

    fn skip_body(&mut self, cancel: &Cancel) -> Result<(), ArchiveError> {
        self.buffered = None;
        if self.tar.is_body_over() {
            return Ok(());
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            cancel.check()?;
            match self.tar.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn top(&mut self, raw: &Raw) -> Result<(), ArchiveError> {
        if raw.kind != EntryKind::Directory {
            return Err(ArchiveError::BadName { member: escape(&raw.name), why: "the top is no directory" });
        }
        if std::mem::replace(&mut self.seen_top, true) {
            return Err(ArchiveError::Duplicate { member: escape(&raw.name) });
        }
        Ok(())
    }

    /// Checks what a link refers to.
    fn target(&self, raw: &Raw, path: &Path) -> Result<Option<PathBuf>, ArchiveError> {
        let (member, text) = (|| escape(&raw.name), || escape(&raw.link));
        match raw.kind {
            EntryKind::File | EntryKind::Directory => Ok(None),
            EntryKind::Hardlink => match name::below_id(&raw.link, false, self.id) {
                Ok(target) if self.names.is_file(&target) => Ok(Some(target)),
                Ok(_) | Err(_) => Err(ArchiveError::BadHardLink { member: member(), target: text() }),
            },
            EntryKind::Symlink => {
                let target = PathBuf::from(OsString::from_vec(raw.link.clone()));
                let listed =
                    self.manifest.as_ref().and_then(|manifest| manifest.entry(path)).is_some_and(|entry| {
                        entry.kind == EntryKind::Symlink && entry.target.as_ref() == Some(&target)
                    });
                if raw.link.is_empty() || raw.link.contains(&0) || raw.link.len() > name::MAX_NAME {
                    return Err(ArchiveError::Malformed {
                        member: member(),
                        why: "the link's target is no name".into(),
                    });
                }
                if name::may_be_link(path) && (listed || name::stays_in_data(path, &target)) {
                    Ok(Some(target))
                } else {
                    Err(ArchiveError::EscapingLink { member: member(), target: text() })
                }
            }
        }
    }

    fn read_manifest(&mut self, raw: &Raw) -> Result<(), ArchiveError> {
        let bad = |why: &str| ArchiveError::BadManifest { why: why.to_owned() };
        if self.seen_file || raw.kind != EntryKind::File {
            return Err(bad("it is not the first file of the archive"));
        }
        if raw.size > MAX_MANIFEST {
            return Err(bad("it is too large"));
        }
        let mut bytes = Vec::new();
        self.tar.read_to_end(&mut bytes)?;
        self.manifest = Some(Manifest::parse(&bytes, self.id)?);
        self.buffered = Some(Cursor::new(bytes));
        Ok(())
    }
}

impl<R: Skip> Members<'_, R> {
    /// Passes over the body of the latest member, of which nothing was read.
    pub(super) fn leap(&mut self) -> Result<(), ArchiveError> {
        self.tar.leap()
    }

    /// The next piece of the body, as [`Skip::piece`].
    pub(super) fn piece(&mut self, piece: &mut Vec<u8>, most: usize) -> io::Result<()> {
        match &mut self.buffered {
            Some(bytes) => read_piece(bytes, piece, most),
            None => self.tar.piece(piece, most),
        }
    }
}

impl<R: Read> Read for Members<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.buffered {
            Some(bytes) => bytes.read(buffer),
            None => self.tar.read(buffer),
        }
    }
}

/// The body of a member, and what is known beside it.
pub trait Body: Read {
    /// The archive's manifest, once its member was met.
    fn manifest(&self) -> Option<&Manifest>;
}

impl<R: Read> Body for Members<'_, R> {
    fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }
}

/// Checks a whole archive and shows each member with its body to `visitor`, which need not read it.
/// Nothing is written; the input is read to its end. `tar` is the decompressed archive.
///
/// # Errors
/// The first thing that does not belong into a backup, or the visitor's error.
pub fn scan(
    tar: impl Read,
    id: &BackupId,
    limits: &Limits,
    cancel: &Cancel,
    visitor: &mut dyn FnMut(&Member, &mut dyn Body) -> Result<(), ArchiveError>,
) -> Result<Totals, ArchiveError> {
    let mut members = Members::new(tar, id, limits);
    while let Some(member) = members.next(cancel)? {
        visitor(&member, &mut members)?;
    }
    Ok(members.totals)
}

/// Proves that an archive begins with the manifest that has this digest; reads no further.
///
/// # Errors
/// [`ArchiveError::OtherManifest`], or what does not belong into a backup before it.
pub fn require_manifest(
    tar: impl Read,
    id: &BackupId,
    limits: &Limits,
    planned: Sha256,
    cancel: &Cancel,
) -> Result<(), ArchiveError> {
    let mut members = Members::new(tar, id, limits);
    while members.manifest.is_none() && members.next(cancel)?.is_some() {}
    members.require_manifest(planned)
}

/// As a message shows a member.
impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&shown(&self.path))
    }
}
