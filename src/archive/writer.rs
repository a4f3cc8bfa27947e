//! Writes a backup: manifest first, then what is small, then the data, each sorted by name, in a form that `tar --zstd -xf` reads.
//!
//! Two passes: the first lists and digests the tree and copies the databases, the second writes and
//! digests again; a file that differs between the two is an error and not a backup. Writes to the given
//! output and scratch only. A crash leaves a partial archive without end mark, which no reader accepts.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use cap_std::fs::Dir;
use jiff::Timestamp;

use super::encode::{Encoder, Output};
use super::hashed::{Aside, read_piece};
use super::manifest::MANIFEST_PATH;
use super::walk::{self, Item, Source};
use super::{Algorithm, ArchiveError, DATA, Entry, EntryKind, Manifest, Scope, pack};
use crate::host::cancel::Cancel;
use crate::host::fs::IoContext as _;
use crate::host::pool::Batches;
use crate::ids::{BackupId, InstanceName, Sha256};

/// Bytes of a file that are read at once.
const PIECE: usize = 256 << 10;
/// Files up to this size are read on any core, many in one go.
const SMALL: u64 = 256 << 10;

/// What goes into a backup.
#[derive(Debug)]
pub struct Payload<'a> {
    /// The new backup; names the archive's top directory.
    pub id: &'a BackupId,
    /// The instance.
    pub instance: &'a InstanceName,
    /// When the backup was begun.
    pub created_at: Timestamp,
    /// How much of the instance it holds.
    pub scope: Scope,
    /// The instance directory, which becomes `<id>/data`.
    pub data: &'a Dir,
    /// Further files: registry, unit, vhost.
    pub extra: Vec<Extra>,
    /// A private directory for copies of databases; it is left with them.
    pub scratch: &'a Dir,
    /// Names in the instance directory itself to leave out, with all below.
    pub exclude: &'a [String],
}

/// A small file that is not below `data/`.
#[derive(Debug, Clone)]
pub struct Extra {
    /// Relative to `<id>/`: `systemd/abssctl-budget.service`.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// A finished archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Digest of the archive as written.
    pub sha256: Sha256,
    /// Bytes of the archive as written.
    pub size_bytes: u64,
    /// Bytes of all regular files in it, without the manifest.
    pub payload_bytes: u64,
    /// Files, directories and links in it, without the manifest.
    pub entries: u64,
    /// Digest of the manifest.
    pub manifest: Sha256,
}

/// Writes an archive. `level`: zstd 1 to 22 (default 2), gzip 1 to 9 (default 6). `progress` gets the
/// payload bytes written so far. The output is flushed, not synced: that is the caller's, who named it.
///
/// # Errors
/// [`ArchiveError::FileChanged`] where a file was written to meanwhile, [`ArchiveError::UnsupportedFile`]
/// for FIFOs, sockets and devices, [`ArchiveError::Write`] where the output fails.
pub fn write(
    payload: &Payload<'_>,
    algorithm: Algorithm,
    level: Option<i32>,
    out: &mut impl Write,
    cancel: &Cancel,
    progress: &dyn Fn(u64),
) -> Result<Written, ArchiveError> {
    // First of all, so that a bad level costs nothing.
    let encoder = Encoder::new(algorithm, level, Counted { out, digest: Aside::default(), length: 0 })?;
    let mut items = walk::walk(payload, cancel)?;
    add_extra(payload, &mut items)?;
    // The small files beside the data come first, so that a plan has read them soon. By parts, not bytes:
    // what is below a directory follows it directly, or GNU tar would set the directory's time too early.
    items.sort_by(|a, b| {
        let order = |path: &Path| path.starts_with(DATA);
        order(&a.entry.path).cmp(&order(&b.entry.path)).then_with(|| a.entry.path.cmp(&b.entry.path))
    });
    let payload_bytes = items.iter().map(|item| item.entry.size).sum();
    let entries = items.len() as u64;
    let manifest =
        Manifest::empty(payload.id, payload.instance, payload.created_at, payload.scope, payload_bytes);
    let text = manifest.to_json_with(items.iter().map(|item| &item.entry).collect())?;
    let manifest_sha256 = Sha256::of(&text);
    let manifest = made(payload, MANIFEST_PATH.into(), EntryKind::File, 0o640, text);
    let mut pack = Pack::new(payload, encoder, cancel, progress)?;
    pack.item(made(payload, PathBuf::new(), EntryKind::Directory, 0o750, Vec::new()))?;
    let metadata = Path::new(MANIFEST_PATH).parent().unwrap_or(Path::new(""));
    if let Some(index) = items.iter().position(|item| item.entry.path == metadata) {
        pack.item(items.remove(index))?;
    }
    pack.item(manifest)?;
    for item in items {
        pack.item(item)?;
    }
    let counted = pack.finish()?;
    let sha256 = counted.digest.finish();
    Ok(Written { sha256, size_bytes: counted.length, payload_bytes, entries, manifest: manifest_sha256 })
}

/// An entry that is not in the live tree: owned by this process, as old as the backup.
fn made(payload: &Payload<'_>, path: PathBuf, kind: EntryKind, mode: u32, bytes: Vec<u8>) -> Item {
    let is_file = kind == EntryKind::File;
    let entry = Entry {
        path,
        kind,
        mode: mode & 0o7777,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: payload.created_at.as_second(),
        mtime_nanos: 0,
        size: bytes.len() as u64,
        sha256: is_file.then(|| Sha256::of(&bytes)),
        target: None,
        xattrs: std::collections::BTreeMap::new(),
        sqlite: None,
    };
    Item { entry, source: if is_file { Source::Bytes(bytes) } else { Source::Nothing } }
}

fn add_extra(payload: &Payload<'_>, items: &mut Vec<Item>) -> Result<(), ArchiveError> {
    let mut directories = BTreeSet::from([PathBuf::from("metadata")]);
    let mut files = BTreeSet::new();
    for extra in &payload.extra {
        let path = Path::new(&extra.path);
        let bad = |why| ArchiveError::BadName { member: extra.path.clone(), why };
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let clean: PathBuf = path.components().collect();
        if !plain
            || clean.as_os_str() != path.as_os_str()
            || extra.path.is_empty()
            || extra.path.contains('\0')
        {
            return Err(bad("it is not a plain relative path"));
        }
        if path.starts_with("data") || path == Path::new(MANIFEST_PATH) {
            return Err(bad("it is the place of something else"));
        }
        if !files.insert(path.to_owned()) {
            return Err(ArchiveError::Duplicate { member: extra.path.clone() });
        }
        directories.extend(
            path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).map(PathBuf::from),
        );
        items.push(made(payload, path.to_owned(), EntryKind::File, extra.mode, extra.bytes.clone()));
    }
    if let Some(both) = files.intersection(&directories).next() {
        return Err(ArchiveError::Duplicate { member: super::name::shown(both) });
    }
    for path in directories {
        items.push(made(payload, path, EntryKind::Directory, 0o750, Vec::new()));
    }
    Ok(())
}

/// The output, counted and digested.
struct Counted<'a, W> {
    out: &'a mut W,
    digest: Aside,
    length: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes.to_vec())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Output for Counted<'_, W> {
    fn put(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.out.write_all(&bytes)?;
        self.length += bytes.len() as u64;
        self.digest.push(bytes);
        Ok(())
    }

    fn spare(&mut self) -> Vec<u8> {
        let mut piece = self.digest.spare();
        piece.clear();
        piece
    }
}

/// The second pass.
struct Pack<'a, W: Output> {
    payload: &'a Payload<'a>,
    encoder: Encoder<W>,
    cancel: &'a Cancel,
    progress: &'a dyn Fn(u64),
    done: u64,
    /// Small files on their way into the archive.
    small: Batches<Item, Result<Members, ArchiveError>>,
}

/// Members of an archive that follow one another, with all their blocks.
struct Members {
    blocks: Vec<u8>,
    /// Bytes of their files.
    bytes: u64,
}

impl<'a, W: Output> Pack<'a, W> {
    fn new(
        payload: &'a Payload<'a>,
        encoder: Encoder<W>,
        cancel: &'a Cancel,
        progress: &'a dyn Fn(u64),
    ) -> Result<Self, ArchiveError> {
        let (id, data) = (payload.id.clone(), payload.data.try_clone().context("open directory", DATA)?);
        let small = Batches::new(cancel, move |items: Vec<Item>, cancel| {
            let mut members = Members { blocks: Vec::new(), bytes: 0 };
            for item in items {
                cancel.check()?;
                members.add(&id, &data, item)?;
            }
            Ok(members)
        });
        Ok(Self { payload, encoder, cancel, progress, done: 0, small })
    }

    fn item(&mut self, item: Item) -> Result<(), ArchiveError> {
        self.cancel.check()?;
        if matches!(item.source, Source::Live(_)) && item.entry.size <= SMALL {
            let size = item.entry.size;
            return match self.small.push(item, size) {
                Some(members) => self.members(members),
                None => Ok(()),
            };
        }
        self.members_before()?;
        self.put(&pack::header(self.payload.id, &item.entry))?;
        match &item.source {
            Source::Nothing => Ok(()),
            Source::Bytes(bytes) => self.body(&mut &bytes[..], &item.entry),
            Source::Scratch(copy) => {
                let mut file = self.payload.scratch.open(copy).context("open", &item.entry.path)?;
                self.body(&mut file, &item.entry)
            }
            Source::Live(_) => {
                let mut file = open_live(self.payload.data, &item.entry)?;
                self.body(&mut file, &item.entry)?;
                unchanged(&file, &item.entry)
            }
        }
    }

    /// Writes what was taken up before.
    fn members_before(&mut self) -> Result<(), ArchiveError> {
        while let Some(members) = self.small.pop() {
            self.members(members)?;
        }
        Ok(())
    }

    fn members(&mut self, members: Result<Members, ArchiveError>) -> Result<(), ArchiveError> {
        let Members { blocks, bytes } = members?;
        self.put(&blocks)?;
        self.done += bytes;
        (self.progress)(self.done);
        Ok(())
    }

    /// Exactly the bytes that the first pass saw, and the padding after them.
    fn body(&mut self, source: &mut dyn Read, entry: &Entry) -> Result<(), ArchiveError> {
        let mut digest = Aside::default();
        let mut size = 0;
        loop {
            self.cancel.check()?;
            let most = usize::try_from(entry.size - size).unwrap_or(PIECE).clamp(1, PIECE);
            let mut piece = digest.spare();
            read_piece(source, &mut piece, most).context("read", &entry.path)?;
            let length = piece.len() as u64;
            if length == 0 {
                break;
            }
            size += length;
            if size > entry.size {
                break;
            }
            self.put(&piece)?;
            digest.push(piece);
            self.done += length;
            (self.progress)(self.done);
        }
        if size != entry.size || Some(digest.finish()) != entry.sha256 {
            return Err(changed(entry));
        }
        self.put(&[0; pack::BLOCK][..pack::padding(size)])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.encoder.write_all(bytes).map_err(ArchiveError::Write)
    }

    fn finish(mut self) -> Result<W, ArchiveError> {
        self.members_before()?;
        self.put(&[0; 2 * pack::BLOCK])?;
        let mut out = self.encoder.finish().map_err(ArchiveError::Write)?;
        out.flush().map_err(ArchiveError::Write)?;
        Ok(out)
    }
}

impl Members {
    /// Adds a small file of the live tree.
    fn add(&mut self, id: &BackupId, data: &Dir, item: Item) -> Result<(), ArchiveError> {
        let entry = &item.entry;
        self.blocks.extend_from_slice(&pack::header(id, entry));
        if let Source::Live(Some(kept)) = item.source {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let stat = rustix::fs::statat(data, walk::below_data(entry), flags);
            if !stat.is_ok_and(|stat| walk::is_unchanged(&stat, entry) && kept.is_of(&stat)) {
                return Err(changed(entry));
            }
            self.blocks.extend_from_slice(&kept.content);
        } else {
            let file = open_live(data, entry)?;
            let from = self.blocks.len();
            // One more, to see whether there is more by now.
            (&file).take(entry.size + 1).read_to_end(&mut self.blocks).context("read", &entry.path)?;
            if Some(Sha256::of(&self.blocks[from..])) != entry.sha256 {
                return Err(changed(entry));
            }
            unchanged(&file, entry)?;
        }
        self.blocks.resize(self.blocks.len() + pack::padding(entry.size), 0);
        self.bytes += entry.size;
        Ok(())
    }
}

fn open_live(data: &Dir, entry: &Entry) -> Result<std::fs::File, ArchiveError> {
    match walk::open_live(data, walk::below_data(entry)) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => Err(changed(entry)),
        other => Ok(other.context("open", &entry.path)?),
    }
}

/// Refuses a file of the live tree that is not any more what the first pass saw.
fn unchanged(file: &std::fs::File, entry: &Entry) -> Result<(), ArchiveError> {
    let is = rustix::fs::fstat(file).is_ok_and(|stat| walk::is_unchanged(&stat, entry));
    if is { Ok(()) } else { Err(changed(entry)) }
}

fn changed(entry: &Entry) -> ArchiveError {
    ArchiveError::FileChanged { path: entry.path.clone() }
}
