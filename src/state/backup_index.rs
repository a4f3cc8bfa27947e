//! The index of backups, `backups.json`, shared with the peer: fields that are not known here and the
//! order of all fields are kept, and the bytes are those that the peer would write.
//!
//! Read whole, changed in memory, replaced whole: a crash leaves the old or the new index. Whoever
//! changes it holds the global lock from [`BackupIndex::load`] to [`BackupIndex::save`].

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::host::clock;
use crate::host::fs::{self, FsError, IoContext as _, Root};
use crate::host::machine::Actor;
use crate::ids::{AbsPath, BackupId, InstanceName, RunId, Sha256};
use crate::state::config::Config;
use crate::state::nearest::nearest;
use crate::state::python_text;
use crate::state::restore_history::{self, RestoreRecord};
use crate::state::seen::Seen;

use self::split::ENTRIES;

/// The field of `metadata`, of our own, that holds the digest of the archive's manifest.
const MANIFEST: &str = "manifest_sha256";
/// No index is larger.
const LIMIT: u64 = 256 << 20;

/// The index cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum IndexError {
    /// It is not JSON.
    #[error("{} is not JSON: {message} (line {line}, column {column})", .path.display())]
    #[diagnostic(
        code(abssctl::index::syntax),
        help(
            "correct the file at that place or bring back a good copy; archives and their .sha256 files are not affected"
        )
    )]
    Syntax {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        message: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// It is JSON of another shape.
    #[error("{}: {place}: {message}", .path.display())]
    #[diagnostic(
        code(abssctl::index::shape),
        help("correct or remove that entry in the file; archives are not affected")
    )]
    Shape {
        /// The index.
        path: PathBuf,
        /// The entry: its position, and its id where it has one.
        place: String,
        /// What is wrong with it.
        message: String,
    },
    /// Two entries have one id, so it names neither.
    #[error("{} has two entries with the id '{id}'", .path.display())]
    #[diagnostic(
        code(abssctl::index::duplicate),
        help("remove the entry that does not describe the archive")
    )]
    Duplicate {
        /// The index.
        path: PathBuf,
        /// The id.
        id: String,
    },
    /// No backup has this id.
    #[error("backup '{id}' is not registered")]
    #[diagnostic(code(abssctl::index::unknown_backup), help("{help}"))]
    UnknownBackup {
        /// The id.
        id: BackupId,
        /// The nearest ids, or how to list them.
        help: String,
    },
    /// It cannot be read or written.
    #[error(transparent)]
    #[diagnostic(
        code(abssctl::index::io),
        help("see whether the disk is full and who may write there, then run the command again")
    )]
    Fs(#[from] FsError),
}

/// A backup as the index has it.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupEntry {
    /// Its id.
    pub id: BackupId,
    /// The instance that was backed up.
    pub instance: InstanceName,
    /// When.
    pub created_at: Timestamp,
    /// The archive.
    pub path: AbsPath,
    /// `zstd`, `gzip` or `none`; others are kept, and refused when the archive is opened.
    pub algorithm: String,
    /// The archive's size.
    pub size_bytes: u64,
    /// The archive's digest.
    pub sha256: Sha256,
    /// The digest of the manifest in it; `None` for those of the peer, and older ones.
    pub manifest: Option<Sha256>,
    /// `available`, `missing`, `corrupt`, `error`, `unknown` or `removed`.
    pub status: String,
    /// Whether unit and vhost were left out.
    pub data_only: bool,
    /// Labels that a person gave.
    pub labels: Vec<String>,
    /// The message that a person gave.
    pub message: Option<String>,
    /// The entry as it stands in the file.
    text: Excerpt,
    /// The same as the peer writes it, once it was written.
    written: OnceLock<Box<str>>,
}

/// A part of a text. Thousands of entries share that of the file: to copy theirs costs as much as to read them.
#[derive(Debug, Clone)]
struct Excerpt {
    of: Arc<String>,
    at: Range<usize>,
}

/// A backup that was just made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewBackup {
    /// Its id.
    pub id: BackupId,
    /// The instance that was backed up.
    pub instance: InstanceName,
    /// When.
    pub created_at: Timestamp,
    /// The archive.
    pub path: AbsPath,
    /// `zstd`, `gzip` or `none`.
    pub algorithm: String,
    /// The archive's size.
    pub size_bytes: u64,
    /// The archive's digest.
    pub sha256: Sha256,
    /// The digest of the manifest in it.
    pub manifest: Sha256,
    /// Whether unit and vhost were left out.
    pub data_only: bool,
    /// Labels.
    pub labels: Vec<String>,
    /// The compression level, where one was chosen.
    pub compression_level: Option<i32>,
    /// The message.
    pub message: Option<String>,
    /// Who made it.
    pub created_by: Actor,
}

/// The index, in memory.
#[derive(Debug, Clone)]
pub struct BackupIndex {
    path: AbsPath,
    shown: PathBuf,
    document: Map<String, Value>,
    entries: Vec<BackupEntry>,
}

/// Why a backup of this status cannot be restored; `None` where it may be tried.
pub fn unusable(status: &str) -> Option<&str> {
    match status {
        "available" | "unknown" => None,
        other => Some(other),
    }
}

impl Excerpt {
    fn as_str(&self) -> &str {
        &self.of[self.at.clone()]
    }
}

impl From<String> for Excerpt {
    fn from(text: String) -> Self {
        Self { at: 0..text.len(), of: Arc::new(text) }
    }
}

impl PartialEq for Excerpt {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl BackupEntry {
    /// Why the index says that it cannot be restored; `None` where it may be tried.
    pub fn unusable(&self) -> Option<&str> {
        unusable(&self.status)
    }

    /// Whether the archive is believed to be there and whole.
    pub fn is_available(&self) -> bool {
        self.status == "available"
    }

    /// The entry as it stands in the file.
    pub fn raw(&self) -> Value {
        serde_json::from_str(self.text.as_str()).expect("the text was read as JSON when the entry was made")
    }

    /// The entry as the peer writes it into the list.
    fn written(&self) -> &str {
        self.written.get_or_init(|| python_text::json_indented_at(&self.raw(), 2).into())
    }

    /// An entry that is made or changed here.
    fn new(raw: &Value) -> Result<Self, String> {
        let text = raw.to_string();
        let seen: Seen<'_> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Self::parse(&seen, text.clone().into())
    }

    fn parse(seen: &Seen<'_>, entry: Excerpt) -> Result<Self, String> {
        if !seen.is_object() {
            return Err("it is not an object".to_owned());
        }
        let metadata = seen.get("metadata");
        if metadata.is_some_and(|metadata| !metadata.is_object()) {
            return Err("'metadata' is not an object".to_owned());
        }
        let about = |name: &str| metadata.and_then(|metadata| metadata.get(name));
        let path =
            AbsPath::normalise(Path::new(text(seen, "path")?)).map_err(|error| format!("'path': {error}"))?;
        let checksum =
            seen.get("checksum").filter(|seen| seen.is_object()).ok_or("'checksum' is not an object")?;
        restore_history::check(seen)?;
        Ok(Self {
            id: text(seen, "id")?.parse().map_err(|error| format!("'id': {error}"))?,
            instance: text(seen, "instance")?.parse().map_err(|error| format!("'instance': {error}"))?,
            created_at: text(seen, "created_at")?
                .parse()
                .map_err(|error| format!("'created_at': {error}"))?,
            path,
            algorithm: text(seen, "algorithm")?.to_owned(),
            size_bytes: match seen.get("size_bytes") {
                Some(Seen::Whole(bytes)) => *bytes,
                Some(_) | None => return Err("'size_bytes' is not a whole number".to_owned()),
            },
            sha256: text(checksum, "value")?.parse().map_err(|error| format!("'checksum.value': {error}"))?,
            manifest: match about(MANIFEST).and_then(Seen::text) {
                Some(text) => Some(text.parse().map_err(|error| format!("'metadata.{MANIFEST}': {error}"))?),
                None => None,
            },
            status: text(seen, "status")?.to_owned(),
            data_only: about("data_only") == Some(&Seen::Flag(true)),
            labels: strings(about("labels")),
            message: seen.get("message").and_then(Seen::text).map(str::to_owned),
            text: entry,
            written: OnceLock::new(),
        })
    }
}

fn text<'s>(seen: &'s Seen<'_>, key: &str) -> Result<&'s str, String> {
    seen.get(key).and_then(Seen::text).ok_or_else(|| format!("'{key}' is missing or not a text"))
}

fn strings(seen: Option<&Seen<'_>>) -> Vec<String> {
    let items = seen.and_then(Seen::items).into_iter().flatten();
    items.filter_map(|item| item.text().map(str::to_owned)).collect()
}

impl NewBackup {
    /// The entry, its fields in the peer's order.
    fn into_raw(self) -> Value {
        let mut raw = json!({
            "id": self.id,
            "instance": self.instance,
            "created_at": clock::rfc3339(self.created_at),
            "path": self.path,
            "algorithm": self.algorithm,
            "size_bytes": self.size_bytes,
            "checksum": {"algorithm": "sha256", "value": self.sha256},
            "status": "available",
            "metadata": {"data_only": self.data_only, "labels": self.labels, MANIFEST: self.manifest},
        });
        if let Some(level) = self.compression_level {
            raw["compression_level"] = json!(level);
        }
        if let Some(message) = self.message {
            raw["message"] = json!(message);
        }
        raw["created_by"] = json!(self.created_by);
        raw
    }
}

/// A digest of what an entry says of its archive: without what `backup verify` and restores write, so
/// that neither makes a plan stale.
pub fn entry_digest(entry: &BackupEntry) -> Sha256 {
    let mut raw = entry.raw();
    if let Some(map) = raw.as_object_mut() {
        restore_history::strip(map);
        map.shift_remove("status");
        map.shift_remove("verified_at");
        if let Some(checksum) = map.get_mut("checksum").and_then(Value::as_object_mut) {
            checksum.shift_remove("last_verified");
            checksum.shift_remove("observed");
        }
        let metadata = map.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some(metadata) = metadata {
            metadata.shift_remove("verification_error");
            if metadata.is_empty() {
                map.shift_remove("metadata");
            }
        }
    }
    canonical_digest(&raw)
}

/// The digest of a value's canonical JSON (RFC 8785).
pub(super) fn canonical_digest(value: &Value) -> Sha256 {
    let canonical = serde_json_canonicalizer::to_vec(value)
        .expect("a JSON value has text keys and finite numbers, so it has a canonical form");
    Sha256::of(&canonical)
}

impl BackupIndex {
    /// Reads the index that the configuration names; a missing file is an empty index.
    ///
    /// # Errors
    /// Not JSON, not of the right shape, two entries with one id, or larger than 256 MiB.
    pub fn load(root: &Root, config: &Config) -> Result<Self, IndexError> {
        let path = config.backups.index.clone();
        let shown = root.host_path(&path);
        let bytes = root.read(&path, LIMIT)?;
        let mut index = Self { path, shown, document: Map::new(), entries: Vec::new() };
        let Some(bytes) = bytes else { return Ok(index) };
        let text = match String::from_utf8(bytes) {
            Ok(text) => Arc::new(text),
            Err(error) => return Err(no_index(error.as_bytes(), index.shown)),
        };
        let read = split::read(&text, |at| {
            let seen: Seen<'_> = serde_json::from_str(&text[at.clone()])?;
            let id = || seen.get("id").and_then(Seen::text).map(str::to_owned);
            let entry = Excerpt { of: Arc::clone(&text), at };
            Ok(BackupEntry::parse(&seen, entry).map_err(|message| (id(), message)))
        });
        let Some((document, entries)) = read else { return Err(no_index(text.as_bytes(), index.shown)) };
        index.document = document;
        index.entries.reserve(entries.len());
        for (at, entry) in entries.into_iter().enumerate() {
            let entry = entry.map_err(|(id, message)| {
                let id = id.map(|id| format!(" ('{}')", id.escape_debug())).unwrap_or_default();
                index.shape(format!("entry {}{id}", at + 1), message)
            })?;
            index.entries.push(entry);
        }
        let mut known = HashSet::with_capacity(index.entries.len());
        match index.entries.iter().find(|entry| !known.insert(&entry.id)) {
            Some(entry) => Err(IndexError::Duplicate { path: index.shown, id: entry.id.to_string() }),
            None => Ok(index),
        }
    }

    fn shape(&self, place: String, message: String) -> IndexError {
        IndexError::Shape { path: self.shown.clone(), place, message }
    }

    /// All entries, in the file's order.
    pub fn entries(&self) -> &[BackupEntry] {
        &self.entries
    }

    /// The entry of an id.
    pub fn find(&self, id: &BackupId) -> Result<&BackupEntry, IndexError> {
        self.entries.iter().find(|entry| entry.id == *id).ok_or_else(|| self.unknown(id))
    }

    fn unknown(&self, id: &BackupId) -> IndexError {
        let near = nearest(id.as_str(), self.entries.iter().map(|entry| entry.id.as_str()));
        let help = match near.as_slice() {
            [] => "'abssctl backup list' shows the backups there are".to_owned(),
            near => format!("did you mean {}? 'abssctl backup list' shows all", near.join(" or ")),
        };
        IndexError::UnknownBackup { id: id.clone(), help }
    }

    /// The newest available backup of an instance.
    pub fn latest(&self, instance: &InstanceName) -> Option<&BackupEntry> {
        self.newest(instance, |_| true)
    }

    /// The newest available backup of an instance that was made at or before a time.
    pub fn at(&self, instance: &InstanceName, time: Timestamp) -> Option<&BackupEntry> {
        self.newest(instance, |entry| entry.created_at <= time)
    }

    fn newest(&self, instance: &InstanceName, fits: impl Fn(&BackupEntry) -> bool) -> Option<&BackupEntry> {
        let candidates =
            self.entries.iter().filter(|entry| entry.instance == *instance && entry.is_available());
        candidates.filter(|entry| fits(entry)).max_by_key(|entry| entry.created_at)
    }

    /// Appends a backup that was just made, in the peer's form.
    pub fn add(&mut self, backup: NewBackup) -> Result<(), IndexError> {
        if self.entries.iter().any(|entry| entry.id == backup.id) {
            return Err(IndexError::Duplicate { path: self.shown.clone(), id: backup.id.to_string() });
        }
        let place = format!("the new entry '{}'", backup.id);
        let entry = BackupEntry::new(&backup.into_raw()).map_err(|message| self.shape(place, message))?;
        self.entries.push(entry);
        Ok(())
    }

    /// Changes an entry; the result must still be one.
    pub fn update(
        &mut self,
        id: &BackupId,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(), IndexError> {
        let Some(at) = self.entries.iter().position(|entry| entry.id == *id) else {
            return Err(self.unknown(id));
        };
        let mut raw = self.entries[at].raw();
        if let Some(map) = raw.as_object_mut() {
            change(map);
        }
        let place = format!("the changed entry '{id}'");
        self.entries[at] = BackupEntry::new(&raw).map_err(|message| self.shape(place, message))?;
        Ok(())
    }

    /// Records a restore in the entry of its backup; the same run again replaces its own record.
    pub fn record_restore(&mut self, id: &BackupId, record: &RestoreRecord) -> Result<(), IndexError> {
        self.update(id, |map| restore_history::record(map, record))
    }

    /// Takes the record of a run out again; see [`restore_history::forget`] for what that cannot bring back.
    pub fn forget_restore(&mut self, id: &BackupId, run: &RunId) -> Result<(), IndexError> {
        self.update(id, |map| restore_history::forget(map, run))
    }

    /// Whether a run's restore is recorded.
    pub fn has_restore(&self, id: &BackupId, run: &RunId) -> bool {
        let raw = self.entries.iter().find(|entry| entry.id == *id).map(BackupEntry::raw);
        let restores = raw.as_ref().and_then(|raw| raw["restores"].as_array());
        restores.is_some_and(|restores| restores.iter().any(|restore| restore["run"] == run.as_str()))
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut document = self.document.clone();
        document.entry(ENTRIES).or_insert_with(|| json!([]));
        let field = |(name, value): (&String, &Value)| {
            let value = if name == ENTRIES && !self.entries.is_empty() {
                let entries: Vec<&str> = self.entries.iter().map(BackupEntry::written).collect();
                format!("[\n    {}\n  ]", entries.join(",\n    "))
            } else {
                python_text::json_indented_at(value, 1)
            };
            format!("  {}: {value}", python_text::json_indented(&json!(name)))
        };
        let fields: Vec<String> = document.iter().map(field).collect();
        format!("{{\n{}\n}}\n", fields.join(",\n"))
    }

    /// Replaces the file; mode and owner of an existing one are kept, a new one gets 0640.
    ///
    /// # Atomicity
    /// [`fs::replace`]: a crash leaves the old or the new index.
    pub fn save(&self, root: &Root) -> Result<(), IndexError> {
        if let Some(parent) = self.path.parent() {
            root.ensure_dir(&parent, 0o750)?;
        }
        let (dir, name) = root.parent_of(&self.path)?;
        fs::replace(&dir, name, self.to_text().as_bytes(), 0o640).context("write", &self.shown)?;
        Ok(())
    }
}

/// Why a file is no index, where it is none.
fn no_index(bytes: &[u8], path: PathBuf) -> IndexError {
    let shape = |message: &str| IndexError::Shape {
        path: path.clone(),
        place: "the document".to_owned(),
        message: message.to_owned(),
    };
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(map)) if map.get(ENTRIES).is_none_or(Value::is_array) => {
            shape("it is written in a way that this program does not read")
        }
        Ok(Value::Object(_)) => shape("'backups' is not a list"),
        Ok(_) => shape("it is not an object with a list 'backups'"),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let full = error.to_string();
            let message =
                full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full).to_owned();
            IndexError::Syntax { path, message, line, column }
        }
    }
}

mod split;
#[cfg(test)]
mod tests;
