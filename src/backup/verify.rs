//! `backup verify`: proves that archives are what the index says and writes the result into the index,
//! in the peer's fields. Reads archives, replaces the index once an entry; a crash leaves the results
//! of the entries before. The caller holds the global lock.

use serde_json::{Value, json};

use super::error::BackupError;
use crate::archive::{self, Algorithm, ArchiveError, HashingReader, Limits};
use crate::context::Context;
use crate::host::clock;
use crate::ids::Sha256;
use crate::state::backup_index::{BackupEntry, BackupIndex};
use crate::store::{self, StoreError};

/// What an archive turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// As the index says, and readable from end to end.
    Sound,
    /// Not there.
    Missing,
    /// Something else than the index says, or not readable.
    Corrupt,
}

impl Finding {
    /// The status that the index gets.
    pub fn status(self) -> &'static str {
        match self {
            Self::Sound => "available",
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
        }
    }
}

/// One verified backup.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What it turned out to be.
    pub finding: Finding,
    /// In one line.
    pub message: String,
    /// The status before.
    pub previous_status: String,
    /// The entry after.
    pub entry: Value,
}

/// Verifies one backup and records the result.
pub fn verify(cx: &Context, index: &mut BackupIndex, entry: &BackupEntry) -> Result<Verified, BackupError> {
    let (finding, message, observed) = look(cx, entry)?;
    if entry.status == super::prune::REMOVED && finding == Finding::Missing {
        // It is gone because somebody removed it, and the entry says so.
        let message = "It was removed by a prune; choose another: abssctl backup list".to_owned();
        let (previous_status, entry) = (entry.status.clone(), entry.raw());
        return Ok(Verified { finding, message, previous_status, entry });
    }
    let now = clock::rfc3339(clock::now());
    index.update(&entry.id, |map| {
        map.insert("status".into(), json!(finding.status()));
        map.insert("verified_at".into(), json!(now));
        if let Some(checksum) = map.get_mut("checksum").and_then(Value::as_object_mut) {
            checksum.insert("last_verified".into(), json!(now));
            match observed {
                Some(observed) => drop(checksum.insert("observed".into(), json!(observed))),
                None => drop(checksum.shift_remove("observed")),
            }
        }
        if !map.get("metadata").is_some_and(Value::is_object) {
            map.insert("metadata".into(), json!({}));
        }
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            match finding {
                Finding::Sound => drop(metadata.shift_remove("verification_error")),
                Finding::Missing | Finding::Corrupt => {
                    drop(metadata.insert("verification_error".into(), json!(message)));
                }
            }
        }
    })?;
    index.save(&cx.root)?;
    let raw = index.find(&entry.id)?.raw();
    Ok(Verified { finding, message, previous_status: entry.status.clone(), entry: raw })
}

/// Looks at an archive: presence, size, sidecar, digest, then every member.
fn look(cx: &Context, entry: &BackupEntry) -> Result<(Finding, String, Option<Sha256>), BackupError> {
    let opened = match store::open(&cx.root, &cx.config, &entry.path) {
        Ok(archive) => archive,
        Err(error @ StoreError::Missing { .. }) => return Ok((Finding::Missing, error.to_string(), None)),
        Err(StoreError::Fs(error)) => return Err(BackupError::Fs(error)),
        Err(error) => return Ok((Finding::Corrupt, error.to_string(), None)),
    };
    let mut hashed = HashingReader::new(opened.file);
    let members = members(cx, entry, &mut hashed);
    if matches!(members, Err(ArchiveError::Cancelled(_))) {
        return Err(BackupError::Cancelled);
    }
    let found = hashed.finish().map_err(ArchiveError::Read)?;
    if found != entry.sha256 {
        let message = format!("Checksum mismatch: the file has {found}, the index says {}.", entry.sha256);
        return Ok((Finding::Corrupt, message, Some(found)));
    }
    if let Err(error) = store::inspect(&cx.root, &cx.config, &entry.path, entry.size_bytes, entry.sha256) {
        return Ok((Finding::Corrupt, error.to_string(), Some(found)));
    }
    if let Err(error) = members {
        return Ok((Finding::Corrupt, error.to_string(), Some(found)));
    }
    Ok((Finding::Sound, "Checksum verified.".to_owned(), Some(found)))
}

/// Decodes every member; nothing is written, so that size alone is no danger.
fn members(cx: &Context, entry: &BackupEntry, input: impl std::io::Read) -> Result<(), ArchiveError> {
    let algorithm: Algorithm =
        entry.algorithm.parse().map_err(|error| ArchiveError::Corrupt { reason: format!("{error}") })?;
    let limits = Limits { bytes: u64::MAX, entries: archive::MAX_ENTRIES };
    let tar = archive::decoder(algorithm, input)?;
    archive::scan(tar, &entry.id, &limits, &cx.cancel, &mut |_, _| Ok(())).map(|_| ())
}
