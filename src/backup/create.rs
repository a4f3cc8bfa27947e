//! `backup create`, and the pre-backup of a restore.

use std::path::Path;

use cap_std::fs::Dir;
use jiff::Timestamp;

use super::assets;
use super::error::BackupError;
use super::leftovers;
use crate::archive::{self, Algorithm, ArchiveError, HashingReader, Limits, Payload, Scope};
use crate::context::Context;
use crate::host::clock;
use crate::host::fs::{self, FsError, IoContext as _};
use crate::ids::{AbsPath, BackupId, InstanceName, Sha256};
use crate::state::backup_index::{BackupIndex, NewBackup};
use crate::state::config::Config;
use crate::state::instances::Registry;
use crate::store::{self, Publish};

/// What to back up, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The id it will have.
    pub id: BackupId,
    /// The instance.
    pub instance: InstanceName,
    /// The directory, where it is not the instance's own.
    pub directory: Option<AbsPath>,
    /// Without unit and vhost.
    pub data_only: bool,
    /// How it is compressed.
    pub algorithm: Compression,
    /// Level of the compression; its default otherwise.
    pub level: Option<i32>,
    /// Message in the index.
    pub message: Option<String>,
    /// Labels in the index.
    pub labels: Vec<String>,
    /// Whether the archive is read back before the index knows it.
    pub prove: bool,
}

/// A choice of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// What this program finds best: zstd.
    Auto,
    /// As named.
    Named(Algorithm),
}

impl Compression {
    /// The configured one.
    pub fn from_config(config: &Config) -> Self {
        config.backups.algorithm.parse().map_or(Self::Auto, Self::Named)
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Auto => Algorithm::Zstd,
            Self::Named(algorithm) => algorithm,
        }
    }
}

/// A backup that is durable and in the index.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its id.
    pub id: BackupId,
    /// The archive.
    pub archive: AbsPath,
    /// The archive's digest.
    pub checksum: Sha256,
    /// The digest of the archive's manifest.
    pub manifest: Sha256,
    /// The archive's size.
    pub size_bytes: u64,
    /// How it is compressed.
    pub algorithm: Algorithm,
    /// The level asked for.
    pub level: Option<i32>,
    /// The sidecar.
    pub checksum_file: AbsPath,
    /// Bytes of the members.
    pub payload_bytes: u64,
    /// Number of members.
    pub entries: u64,
    /// Message in the index.
    pub message: Option<String>,
    /// Labels in the index.
    pub labels: Vec<String>,
    /// Without unit and vhost.
    pub data_only: bool,
}

/// A new id in the peer's form: `YYYYMMDD-HHMMSS-<instance>-<6 hex>`.
pub fn new_id(instance: &InstanceName) -> BackupId {
    let time = clock::now().strftime("%Y%m%d-%H%M%S").to_string();
    let name: String = instance
        .as_str()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .collect();
    let random = ulid::Ulid::generate().random() & 0x00ff_ffff;
    BackupId::try_from(format!("{time}-{name}-{random:06x}"))
        .expect("a time, an instance name's characters and hex digits are a backup id")
}

/// Makes a backup: archive, sidecar, index entry. The caller holds the locks.
pub fn create(cx: &Context, request: &Request, progress: &dyn Fn(u64)) -> Result<Created, BackupError> {
    let algorithm = request.algorithm.algorithm();
    check_level(algorithm, request.level)?;
    let registry = Registry::load(&cx.root, &cx.config)?;
    let entry = registry.get(&request.instance)?;
    let directory = request.directory.clone().unwrap_or_else(|| entry.paths.root.clone());
    let Some(data) = cx.root.dir_optional(&directory)? else {
        return Err(BackupError::NoDirectory { path: directory });
    };
    let extra = assets::extras(cx, &registry, entry, request.data_only)?;
    let mut publish =
        Publish::begin(&cx.root, &cx.config, &request.instance, &request.id, &algorithm.to_string())?;
    leftovers::remove_abandoned(cx, publish.dir(), &request.id);
    let scratch = Scratch::create(publish.dir(), &publish.directory(), &request.id)?;
    let created_at = clock::now();
    let payload = Payload {
        id: &request.id,
        instance: &request.instance,
        created_at,
        scope: if request.data_only { Scope::Data } else { Scope::Full },
        data: &data,
        extra,
        scratch: &scratch.dir,
        exclude: &fs::FOREIGN.map(str::to_owned),
    };
    let written =
        archive::write(&payload, algorithm, request.level, &mut publish.file(), &cx.cancel, progress);
    let written =
        written.map_err(|error| placed(error, &cx.root.host_path(&directory), &publish.partial()))?;
    let published = publish.publish(&written.sha256)?;
    let created = Created {
        id: request.id.clone(),
        archive: published.path,
        checksum: written.sha256,
        manifest: written.manifest,
        size_bytes: written.size_bytes,
        algorithm,
        level: request.level,
        checksum_file: published.sidecar,
        payload_bytes: written.payload_bytes,
        entries: written.entries,
        message: request.message.clone(),
        labels: request.labels.clone(),
        data_only: request.data_only,
    };
    let proven = if request.prove { prove(cx, &created) } else { Ok(()) };
    if let Err(error) = proven.and_then(|()| index(cx, request, &created, created_at)) {
        // An index that knows it has it for good; without, nothing would list the archive.
        let known = is_indexed(cx, &request.id);
        let gone = known.and_then(|known| {
            if known { Ok(()) } else { leftovers::discard(cx, &request.instance, &request.id) }
        });
        if gone.is_err() {
            scratch.keep();
        }
        return Err(error);
    }
    // Until now it marked the archive as one that nobody can count on.
    drop(scratch);
    Ok(created)
}

/// The archive's writer knows its members, not where they lie, and its file, not where that lies.
fn placed(mut error: ArchiveError, directory: &Path, partial: &Path) -> BackupError {
    if let ArchiveError::Fs(place) = &mut error
        && let Ok(below) = place.path.strip_prefix(archive::DATA)
    {
        place.path = if below.as_os_str().is_empty() { directory.to_owned() } else { directory.join(below) };
    }
    if let ArchiveError::Write(source) = error {
        return BackupError::Fs(FsError { action: "write", path: partial.to_owned(), source });
    }
    BackupError::from(error)
}

fn is_indexed(cx: &Context, id: &BackupId) -> Result<bool, BackupError> {
    Ok(BackupIndex::load(&cx.root, &cx.config)?.find(id).is_ok())
}

/// Refuses a request that cannot work, before anything is written.
pub fn validate(cx: &Context, request: &Request) -> Result<(), BackupError> {
    check_level(request.algorithm.algorithm(), request.level)?;
    let registry = Registry::load(&cx.root, &cx.config)?;
    let entry = registry.get(&request.instance)?;
    let directory = request.directory.clone().unwrap_or_else(|| entry.paths.root.clone());
    match cx.root.dir_optional(&directory)? {
        Some(_) => Ok(()),
        None => Err(BackupError::NoDirectory { path: directory }),
    }
}

fn check_level(algorithm: Algorithm, level: Option<i32>) -> Result<(), BackupError> {
    let allowed = match algorithm {
        Algorithm::Zstd => 1..=22,
        Algorithm::Gzip => 1..=9,
        Algorithm::None => 0..=0,
    };
    match level {
        Some(level) if !allowed.contains(&level) => Err(BackupError::Level {
            algorithm: algorithm.to_string(),
            level,
            help: match algorithm {
                Algorithm::None => "leave out --level".to_owned(),
                Algorithm::Zstd | Algorithm::Gzip => {
                    format!("choose {} to {}", allowed.start(), allowed.end())
                }
            },
        }),
        Some(_) | None => Ok(()),
    }
}

/// Adds the index entry, last: an entry never points at an archive that is not durable.
fn index(cx: &Context, request: &Request, created: &Created, at: Timestamp) -> Result<(), BackupError> {
    let mut index = BackupIndex::load(&cx.root, &cx.config)?;
    index.add(NewBackup {
        id: created.id.clone(),
        instance: request.instance.clone(),
        created_at: at,
        path: created.archive.clone(),
        algorithm: created.algorithm.to_string(),
        size_bytes: created.size_bytes,
        sha256: created.checksum,
        manifest: created.manifest,
        data_only: request.data_only,
        labels: request.labels.clone(),
        compression_level: request.level,
        message: request.message.clone(),
        created_by: cx.actor.clone(),
    })?;
    index.save(&cx.root)?;
    Ok(())
}

/// Reads a backup back: the digest of the file and the form of every member.
fn prove(cx: &Context, created: &Created) -> Result<(), BackupError> {
    let not_proven = |why: String| BackupError::NotProven { id: created.id.clone(), why };
    let archive = store::open(&cx.root, &cx.config, &created.archive)?;
    let mut hashed = HashingReader::new(archive.file);
    // The manifest is a member beside those that it lists.
    let limits = Limits { bytes: u64::MAX, entries: created.entries + 1 };
    let scanned = archive::decoder(created.algorithm, &mut hashed)
        .and_then(|tar| archive::scan(tar, &created.id, &limits, &cx.cancel, &mut |_, _| Ok(())));
    let totals = match scanned {
        Ok(totals) => totals,
        Err(ArchiveError::Cancelled(_)) => return Err(BackupError::Cancelled),
        Err(error) => return Err(not_proven(error.to_string())),
    };
    let found = hashed.finish().context("read", cx.root.host_path(&created.archive))?;
    if found != created.checksum {
        return Err(not_proven(format!("its SHA-256 is {found}, written was {}", created.checksum)));
    }
    if totals.entries != created.entries + 1 {
        return Err(not_proven(format!(
            "it holds {} members, written were {}",
            totals.entries,
            created.entries + 1
        )));
    }
    Ok(())
}

/// A private directory for copies of databases, and the mark of a backup that is not in the index yet;
/// removed when it goes out of use.
struct Scratch {
    parent: Dir,
    name: String,
    dir: Dir,
    keep: std::cell::Cell<bool>,
}

impl Scratch {
    /// Leaves it: it marks an archive whose fate is not known.
    fn keep(&self) {
        self.keep.set(true);
    }

    fn create(parent: &Dir, path: &Path, id: &BackupId) -> Result<Self, BackupError> {
        let name = leftovers::scratch_name(id);
        let path = path.join(&name);
        let made = fs::create_dir(parent, &name, 0o700).context("create", &path);
        let dir = made.and_then(|()| fs::open_dir(parent, &name).context("open", &path));
        let dir = dir.inspect_err(|_| {
            // It may be there although it is not durable.
            drop(fs::remove_tree(parent, &name));
        })?;
        let parent = parent.try_clone().context("open the directory of", &path)?;
        Ok(Self { parent, name, dir, keep: std::cell::Cell::new(false) })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep.get() {
            // What cannot be removed now is removed by its name with the next backup.
            drop(fs::remove_tree(&self.parent, &self.name));
        }
    }
}
