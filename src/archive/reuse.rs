//! What a tree holds already need not come out of an archive: files of the same name and size are copied
//! from it beforehand, on all cores, and kept where their SHA-256 is the manifest's. The content is shared
//! with the original where the file system can (XFS, Btrfs), never the file itself. There a large file that is
//! another is copied too, and unpacked [over its copy](super::over), which it may share most of its content with.
//!
//! Writes into one directory below staging only, under names of its own. The digest is taken from the copy:
//! whoever writes to the original meanwhile changes nothing that was proven. Where the digest of the original
//! is known already, and the original is the same file before and after the copy was taken, the copy has it.
//! A crash leaves copies there, which go with staging.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::Dir;
use sha2::Digest as _;

use super::extract::SMALL;
use super::name::below_data;
use super::{ArchiveError, DATA, EntryKind, Manifest, Member};
use crate::host::cancel::Cancel;
use crate::host::fs::{self, IoContext as _, WriteBehind};
use crate::host::pool::Batches;
use crate::host::sqlite;
use crate::host::stamp::{Known, Stamp, Unchanged};
use crate::ids::Sha256;

/// Where copies lie until the archive names them. No archive of ours has a member of this name.
const DIRECTORY: &str = ".reused";
/// Bytes of a file that are read at once.
const BUFFER: usize = 128 << 10;

/// Copies of what is equal, made ahead of the archive that is read.
pub(super) struct Reuse {
    trees: Arc<Trees>,
    /// What was not looked for yet, in the archive's order.
    wanted: std::vec::IntoIter<Wanted>,
    copies: Batches<Job, Result<Vec<Outcome>, ArchiveError>>,
    found: HashMap<PathBuf, Found>,
    count: u64,
}

/// A tree that stands for `data/`, and digests of its files, as far as they are known already.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// The tree. No SQLite connection of this process may be open there: copying closes descriptors, and
    /// locks with them.
    pub dir: &'a Dir,
    /// The digests; those of files that are copied come to them.
    pub known: &'a Known,
}

/// A file of the manifest.
struct Wanted {
    path: PathBuf,
    size: u64,
    sha256: Sha256,
}

/// Where is copied from and to, for all jobs.
struct Trees {
    base: Dir,
    to: Dir,
    known: Known,
}

struct Job {
    wanted: Wanted,
    trees: Arc<Trees>,
    name: String,
}

type Outcome = (PathBuf, Found);

/// What the tree has for a member.
pub(super) enum Found {
    /// A copy that is what the manifest says.
    Same(Reused),
    /// A copy of a large file of that name, which shares its content.
    Like(Copied),
    /// No file, or none that it is worth while to copy.
    Nothing,
}

/// A copy.
pub(super) struct Copied {
    /// Its name among them.
    name: String,
    /// By what the file is known that it shares its content with, where that was read before, and was the same one
    /// before the copy was taken and after.
    pub(super) original: Option<Stamp>,
}

/// A copy that is what the manifest says.
pub(super) struct Reused {
    pub(super) copy: Copied,
    pub(super) sha256: Sha256,
    pub(super) is_sqlite: bool,
}

impl Reuse {
    /// Of a tree, which stands for `data/`, for an archive with this manifest that is unpacked to `staging`.
    pub(super) fn new(
        Base { dir: base, known }: Base<'_>,
        staging: &Dir,
        manifest: &Manifest,
        cancel: &Cancel,
    ) -> Result<Self, ArchiveError> {
        let mut wanted = Vec::new();
        for entry in &manifest.entries {
            if let (EntryKind::File, Some(sha256)) = (entry.kind, entry.sha256)
                && entry.path.starts_with(DATA)
            {
                wanted.push(Wanted { path: entry.path.clone(), size: entry.size, sha256 });
            }
        }
        wanted.sort_by(|a, b| a.path.cmp(&b.path));
        rustix::fs::mkdirat(staging, DIRECTORY, rustix::fs::Mode::RWXU).context("create", DIRECTORY)?;
        let trees = Trees {
            base: base.try_clone().context("open", DATA)?,
            to: fs::open_dir(staging, DIRECTORY).context("open", DIRECTORY)?,
            known: known.clone(),
        };
        Ok(Self {
            trees: Arc::new(trees),
            wanted: wanted.into_iter(),
            copies: Batches::new(cancel, |jobs: Vec<Job>, cancel| {
                jobs.into_iter().map(|job| job.run(cancel)).collect()
            }),
            found: HashMap::new(),
            count: 0,
        })
    }

    /// What a member may be taken from. `manifest` is the one that this was made for.
    pub(super) fn find(&mut self, member: &Member, manifest: &Manifest) -> Result<Found, ArchiveError> {
        let listed = manifest.entry(&member.path).is_some_and(|entry| {
            (entry.kind, entry.size) == (EntryKind::File, member.size) && entry.path.starts_with(DATA)
        });
        if !listed || member.kind != EntryKind::File {
            return Ok(Found::Nothing);
        }
        loop {
            if let Some(found) = self.found.remove(&member.path) {
                return Ok(found);
            }
            let done = match self.wanted.next() {
                Some(wanted) => {
                    let (trees, name) = (Arc::clone(&self.trees), self.count.to_string());
                    self.count += 1;
                    let size = wanted.size;
                    self.copies.push(Job { wanted, trees, name }, size)
                }
                // Everything was looked for, and this one was taken already.
                None => match self.copies.pop() {
                    None => return Ok(Found::Nothing),
                    some => some,
                },
            };
            if let Some(done) = done {
                self.found.extend(done?);
            }
        }
    }

    /// Gives a copy its name.
    pub(super) fn put(&self, copy: &Copied, dir: &Dir, name: &Path) -> io::Result<std::fs::File> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(&self.trees.to, copy.name.as_str(), dir, name, flags)?;
        fs::open_regular(dir, name)
    }

    /// The file that a copy of a member shares its content with.
    pub(super) fn original(&self, member: &Member, copy: &Copied) -> Option<Unchanged> {
        Unchanged::open(&self.trees.base, below_data(&member.path), copy.original?)
    }

    /// Removes what no member asked for.
    pub(super) fn end(mut self, staging: &Dir) -> Result<(), ArchiveError> {
        while let Some(done) = self.copies.pop() {
            done?;
        }
        Ok(staging.remove_dir_all(DIRECTORY).context("remove", DIRECTORY)?)
    }
}

impl Job {
    fn run(self, cancel: &Cancel) -> Result<Outcome, ArchiveError> {
        let Self { wanted: Wanted { path, size, sha256 }, trees, name } = self;
        let Trees { base, to, known } = &*trees;
        // What cannot be read there comes out of the archive.
        let Some((original, length)) = fs::open_regular(base, below_data(&path)).ok().and_then(with_length)
        else {
            return Ok((path, Found::Nothing));
        };
        if length != size && size <= SMALL {
            return Ok((path, Found::Nothing));
        }
        let stamp = Stamp::settled(&original);
        let known_as = stamp.and_then(|stamp| known.get(stamp));
        let mut file = fs::create_file(to, &name, 0o600).context("create", &path)?;
        let is_shared = rustix::fs::ioctl_ficlone(&file, &original).is_ok();
        // Asked of the file that lies in memory: its copy would have to come from the disk.
        let is_sqlite = known_as.and_then(|_| sqlite::is_database(&original).ok());
        let is_same = is_shared && stamp == Stamp::settled(&original);
        let known_as = known_as.zip(is_sqlite).filter(|_| is_same);
        let open = || fs::open_regular(to, &name).context("open", &path);
        let read = if length != size {
            None
        } else if is_shared {
            match known_as {
                None => digest(open()?, None, &path, cancel)?,
                known => known,
            }
        } else {
            digest(original, Some(WriteBehind::new(&mut file)), &path, cancel)?
        };
        let copy = Copied { name, original: stamp.filter(|_| known_as.is_some()) };
        let found = match read {
            Some((found, is_sqlite)) if found == sha256 => {
                // The tree is digested once it was displaced.
                if let Some(stamp) = stamp {
                    known.insert(stamp, sha256);
                }
                Found::Same(Reused { copy, sha256, is_sqlite })
            }
            // Of what cannot be read nothing is the same.
            Some(_) | None if is_shared && size > SMALL && (read.is_some() || length != size) => {
                Found::Like(copy)
            }
            Some(_) | None => {
                to.remove_file(&copy.name).context("remove", &path)?;
                Found::Nothing
            }
        };
        Ok((path, found))
    }
}

fn with_length(file: std::fs::File) -> Option<(std::fs::File, u64)> {
    let length = file.metadata().ok()?.len();
    Some((file, length))
}

/// The digest of a file, which is copied on the way where it is to be, and whether it begins as a SQLite
/// database does. `None` where it cannot be read.
fn digest(
    mut source: std::fs::File,
    mut copy: Option<WriteBehind<'_>>,
    path: &Path,
    cancel: &Cancel,
) -> Result<Option<(Sha256, bool)>, ArchiveError> {
    let (mut hasher, mut beginning) = (sha2::Sha256::new(), Vec::new());
    let mut buffer = vec![0; BUFFER];
    loop {
        cancel.check()?;
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Ok(None),
        };
        let piece = &buffer[..count];
        if let Some(copy) = &mut copy {
            copy.write_all(piece).context("write", path)?;
        }
        hasher.update(piece);
        if beginning.len() < sqlite::MAGIC_BYTES {
            beginning.extend(piece.iter().take(sqlite::MAGIC_BYTES - beginning.len()));
        }
    }
    Ok(Some((Sha256::from_bytes(hasher.finalize().into()), sqlite::looks_like_sqlite(&beginning))))
}
