//! `metadata/manifest.json`: what an archive holds, entry by entry, with digests; and the proof that what
//! was unpacked is that. Pure.
//!
//! Version 1: `{formatVersion, id, instance, createdAt, generator, scope, payloadBytes, entries}`. Paths
//! are relative to the archive's top directory `<id>/` and sorted by their bytes; the top directory and
//! the manifest itself are not listed. A name that is not UTF-8 stands as hexadecimal bytes in `pathBytes`
//! instead of `path` (`targetBytes` instead of `target`). One entry a line, so that two manifests diff.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::extract::Extracted;
use super::{ArchiveError, Member};
use crate::host::pool::InOrder;
use crate::host::sqlite::DatabaseSummary;
use crate::ids::{BackupId, InstanceName, Sha256};

/// Where the manifest lies below `<id>/`.
pub const MANIFEST_PATH: &str = "metadata/manifest.json";
/// The version written, and the only one read.
const FORMAT_VERSION: u32 = 1;

/// So many bytes of a long manifest are read on one core, or a line more.
const LINES: usize = 128 << 10;

/// How much of an instance a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Data, unit file and vhost.
    Full,
    /// The instance directory only.
    Data,
}

/// What kind of file an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of an earlier regular file.
    Hardlink,
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Always 1.
    pub format_version: u32,
    /// The backup.
    pub id: BackupId,
    /// The instance that was backed up.
    pub instance: InstanceName,
    /// When the backup was begun.
    #[serde(with = "rfc3339")]
    pub created_at: Timestamp,
    /// Program and version that wrote the archive.
    pub generator: String,
    /// How much of the instance it holds.
    pub scope: Scope,
    /// Bytes of all regular files listed.
    pub payload_bytes: u64,
    /// Everything in the archive, sorted by the bytes of the path.
    pub entries: Vec<Entry>,
}

/// One file, directory or link of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "EntryText", into = "EntryText")]
pub struct Entry {
    /// Relative to `<id>/`.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970, rounded down.
    pub mtime: i64,
    /// Nanoseconds after `mtime`.
    pub mtime_nanos: u32,
    /// Bytes of a regular file; 0 for all else.
    pub size: u64,
    /// Digest of a regular file.
    pub sha256: Option<Sha256>,
    /// What a link refers to: a symbolic link's text, or a hard link's path relative to `<id>/`.
    pub target: Option<PathBuf>,
    /// Extended attributes, values in hexadecimal.
    pub xattrs: BTreeMap<String, String>,
    /// What an SQLite database holds.
    pub sqlite: Option<DatabaseSummary>,
}

/// [`Entry`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EntryText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    #[serde(rename = "type")]
    kind: EntryKind,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    mtime_nanos: u32,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sqlite: Option<DatabaseSummary>,
}

/// A time as text.
mod rfc3339 {
    use super::Timestamp;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Text where it is UTF-8, else hexadecimal.
fn name_to_text(path: PathBuf) -> (Option<String>, Option<String>) {
    match path.into_os_string().into_string() {
        Ok(text) => (Some(text), None),
        Err(bytes) => (None, Some(base16ct::lower::encode_string(bytes.as_bytes()))),
    }
}

fn name_from_text(text: Option<String>, hex: Option<String>) -> Result<Option<PathBuf>, String> {
    match (text, hex) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(PathBuf::from(text))),
        (None, Some(hex)) => {
            let bytes =
                base16ct::mixed::decode_vec(&hex).map_err(|_| format!("'{hex}' is not hexadecimal"))?;
            Ok(Some(PathBuf::from(OsString::from_vec(bytes))))
        }
        (Some(text), Some(_)) => Err(format!("'{text}' is given as text and as bytes")),
    }
}

impl From<Entry> for EntryText {
    fn from(entry: Entry) -> Self {
        let (path, path_bytes) = name_to_text(entry.path);
        let (target, target_bytes) = entry.target.map_or((None, None), name_to_text);
        Self {
            path,
            path_bytes,
            kind: entry.kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            mtime_nanos: entry.mtime_nanos,
            size: entry.size,
            sha256: entry.sha256,
            target,
            target_bytes,
            xattrs: entry.xattrs,
            sqlite: entry.sqlite,
        }
    }
}

impl TryFrom<EntryText> for Entry {
    type Error = String;
    fn try_from(text: EntryText) -> Result<Self, String> {
        let path = name_from_text(text.path, text.path_bytes)?.ok_or("an entry has no path")?;
        let target = name_from_text(text.target, text.target_bytes)?;
        let is_file = text.kind == EntryKind::File;
        let is_link = matches!(text.kind, EntryKind::Symlink | EntryKind::Hardlink);
        if is_file != text.sha256.is_some() || is_link != target.is_some() || (!is_file && text.size != 0) {
            return Err(format!("'{}' has fields that do not fit its type", path.display()));
        }
        Ok(Self {
            path,
            kind: text.kind,
            mode: text.mode,
            uid: text.uid,
            gid: text.gid,
            mtime: text.mtime,
            mtime_nanos: text.mtime_nanos,
            size: text.size,
            sha256: text.sha256,
            target,
            xattrs: text.xattrs,
            sqlite: text.sqlite,
        })
    }
}

impl Manifest {
    /// A manifest without entries, of an archive with so many bytes in its files.
    pub(super) fn empty(
        id: &BackupId,
        instance: &InstanceName,
        created_at: Timestamp,
        scope: Scope,
        payload_bytes: u64,
    ) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            id: id.clone(),
            instance: instance.clone(),
            created_at,
            generator: concat!("abssctl ", env!("CARGO_PKG_VERSION")).to_owned(),
            scope,
            payload_bytes,
            entries: Vec::new(),
        }
    }

    /// The text of it: one entry a line, a line break at the end.
    ///
    /// # Errors
    /// A value that JSON cannot say: there is none.
    pub fn to_json(&self) -> Result<Vec<u8>, ArchiveError> {
        self.to_json_with(self.entries.iter().collect())
    }

    /// The same with these entries, in any order, instead of its own.
    pub(super) fn to_json_with(&self, mut entries: Vec<&Entry>) -> Result<Vec<u8>, ArchiveError> {
        let bad = |error: serde_json::Error| ArchiveError::BadManifest { why: error.to_string() };
        entries.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        let head = Self { entries: Vec::new(), ..self.clone_head() };
        let head = serde_json::to_string_pretty(&head).map_err(bad)?;
        // The pretty form ends in an empty list and a brace; the entries go between.
        let mut text = head.trim_end_matches('}').trim_end().trim_end_matches(']').to_owned().into_bytes();
        for (index, entry) in entries.into_iter().enumerate() {
            text.extend_from_slice(if index == 0 { b"\n    " } else { b",\n    " });
            serde_json::to_writer(&mut text, entry).map_err(bad)?;
        }
        text.extend_from_slice(b"\n  ]\n}\n");
        Ok(text)
    }

    fn clone_head(&self) -> Self {
        Self {
            format_version: self.format_version,
            id: self.id.clone(),
            instance: self.instance.clone(),
            created_at: self.created_at,
            generator: self.generator.clone(),
            scope: self.scope,
            payload_bytes: self.payload_bytes,
            entries: Vec::new(),
        }
    }

    /// Reads a manifest and checks that it is one of this backup.
    ///
    /// # Errors
    /// [`ArchiveError::BadManifest`]: not JSON, unknown fields, another version, another backup's, or
    /// entries that are not sorted or there twice.
    pub fn parse(bytes: &[u8], id: &BackupId) -> Result<Self, ArchiveError> {
        let bad = |why: String| ArchiveError::BadManifest { why };
        let manifest = match Self::from_lines(bytes) {
            Some(manifest) => manifest,
            None => serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?,
        };
        if manifest.format_version != FORMAT_VERSION {
            return Err(bad(format!(
                "its version is {}, known is {FORMAT_VERSION}",
                manifest.format_version
            )));
        }
        if manifest.id != *id {
            return Err(bad(format!("it belongs to the backup '{}'", manifest.id)));
        }
        for pair in manifest.entries.windows(2) {
            if pair[0].path.as_os_str() >= pair[1].path.as_os_str() {
                return Err(bad(format!("'{}' is there twice or out of order", pair[1].path.display())));
            }
        }
        Ok(manifest)
    }

    /// Reads a long manifest of one entry a line on all cores. `None` for another text: what it is then, and what is
    /// wrong with it, reading it as a whole tells.
    fn from_lines(bytes: &[u8]) -> Option<Self> {
        // A line break is no part of any text in JSON: this is where a list begins, and where it ends.
        const BEGIN: &[u8] = b"\"entries\": [\n";
        const END: &[u8] = b"\n  ]\n}\n";
        if bytes.len() < 2 * LINES {
            return None;
        }
        let begin = bytes.windows(BEGIN.len()).position(|window| window == BEGIN)? + BEGIN.len();
        let mut lines = bytes.get(begin..)?.strip_suffix(END)?;
        let mut manifest: Self = serde_json::from_slice(&[&bytes[..begin], b"]}"].concat()).ok()?;
        let mut parts = InOrder::new();
        let mut take = |part: Option<Vec<Entry>>| part.map(|part| manifest.entries.extend(part));
        while !lines.is_empty() {
            let end = lines.iter().skip(LINES).position(|byte| *byte == b'\n').map(|end| end + LINES);
            let (part, rest) = end.map_or((lines, &[][..]), |end| (&lines[..end], &lines[end + 1..]));
            // No comma comes after the last one.
            let part = if rest.is_empty() { [part, b","].concat() } else { part.to_vec() };
            lines = rest;
            if parts.is_full() {
                take(parts.pop().flatten())?;
            }
            parts.submit(move || {
                let entry = |line: &[u8]| serde_json::from_slice(line.strip_suffix(b",")?).ok();
                part.split(|byte| *byte == b'\n').map(entry).collect()
            });
        }
        while let Some(part) = parts.pop() {
            take(part)?;
        }
        Some(manifest)
    }

    /// Finds an entry.
    pub fn entry(&self, path: &Path) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| entry.path.as_os_str().cmp(path.as_os_str()));
        found.ok().map(|index| &self.entries[index])
    }

    /// Proves that a member's header says what is listed, in every field; that of the manifest itself is not.
    ///
    /// # Errors
    /// [`ArchiveError::ManifestMismatch`].
    pub(super) fn require_member(&self, member: &Member) -> Result<(), ArchiveError> {
        let Member { path, kind, mode, uid, gid, mtime, mtime_nanos, size, target, xattrs, implied } = member;
        let differs = |path: &Path, why: &str| {
            Err(ArchiveError::ManifestMismatch { path: path.to_owned(), why: why.to_owned() })
        };
        if let Some(above) = implied.first() {
            return differs(above, "no header of its own tells of it");
        }
        if path == Path::new(MANIFEST_PATH) {
            return Ok(());
        }
        let Some(entry) = self.entry(path) else { return differs(path, "it is not listed") };
        let hex = |(name, value): (&String, &Vec<u8>)| (name.clone(), base16ct::lower::encode_string(value));
        let said = Entry {
            path: path.clone(),
            kind: *kind,
            mode: *mode,
            uid: *uid,
            gid: *gid,
            mtime: *mtime,
            mtime_nanos: *mtime_nanos,
            size: *size,
            target: target.clone(),
            xattrs: xattrs.iter().map(hex).collect(),
            // What is in it is compared once it was read.
            sha256: entry.sha256,
            sqlite: entry.sqlite.clone(),
        };
        if said == *entry { Ok(()) } else { differs(path, "its header says something else") }
    }

    /// Proves that what was unpacked is what is listed: the same names, types, sizes, digests and link
    /// targets, no more and no less.
    ///
    /// # Errors
    /// [`ArchiveError::ManifestMismatch`] with the first difference.
    pub fn verify(&self, extracted: &Extracted) -> Result<(), ArchiveError> {
        let differs = |path: &Path, why: &str| {
            Err(ArchiveError::ManifestMismatch { path: path.to_owned(), why: why.to_owned() })
        };
        let listed = extracted.entries.iter().filter(|found| found.path != Path::new(MANIFEST_PATH));
        let mut unpacked: Vec<_> = listed.collect();
        unpacked.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        let mut unpacked = unpacked.into_iter();
        for entry in &self.entries {
            let missing = || differs(&entry.path, "it is missing");
            let Some(found) = unpacked.next() else { return missing() };
            match found.path.as_os_str().cmp(entry.path.as_os_str()) {
                Ordering::Less => return differs(&found.path, "it is not listed"),
                Ordering::Greater => return missing(),
                Ordering::Equal => {}
            }
            if found.kind != entry.kind {
                return differs(&entry.path, "it is of another type");
            }
            if found.size != entry.size {
                return differs(&entry.path, "it has another size");
            }
            if found.sha256 != entry.sha256 {
                return differs(&entry.path, "it has another digest");
            }
            if found.target != entry.target {
                return differs(&entry.path, "it refers to something else");
            }
        }
        match unpacked.next() {
            Some(extra) => differs(&extra.path, "it is not listed"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn entry(path: PathBuf) -> Entry {
        Entry {
            path,
            kind: EntryKind::File,
            mode: 0o640,
            uid: 12345,
            gid: 54321,
            mtime: -1,
            mtime_nanos: 999_999_999,
            size: 3,
            sha256: Some(Sha256::of(b"abc")),
            target: None,
            xattrs: BTreeMap::from([("user.a".into(), "00ff".into())]),
            sqlite: None,
        }
    }

    fn id() -> BackupId {
        "20261124-022632-budget-fc166c".parse().unwrap()
    }

    /// One that is read on many cores.
    fn long() -> Vec<u8> {
        let manifest = Manifest {
            entries: (0..3000).map(|number| entry(format!("data/{number:04}, \n").into())).collect(),
            ..Manifest::empty(&id(), &"budget".parse().unwrap(), Timestamp::UNIX_EPOCH, Scope::Full, 9000)
        };
        let text = manifest.to_json().unwrap();
        assert!(text.len() > 4 * LINES && Manifest::from_lines(&text) == Some(manifest));
        text
    }

    #[test]
    fn a_comma_at_the_end_of_a_part_is_one_too_many_too() {
        let text = long();
        let begin = text.windows(3).position(|window| window == b"[\n ").unwrap() + 2;
        let line = text[begin..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
        // The second part ends with the last line of one of them.
        for lines in 2 * LINES / line..2 * LINES / line + 6 {
            let text = [&text[..begin + lines * line], b"\n  ]\n}\n"].concat();
            assert!(text.len() > 2 * LINES && Manifest::from_lines(&text).is_none(), "{lines}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn line_by_line_a_manifest_says_what_it_says_as_a_whole(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..6_usize), 1..4),
        ) {
            static LONG: LazyLock<Vec<u8>> = LazyLock::new(long);
            let mut text = LONG.clone();
            for (place, edit) in edits {
                let at = place.index(text.len());
                let line = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let edit: &[u8] = match edit {
                    0 => b"",
                    1 => b",",
                    2 => b"\n",
                    3 => b"]}",
                    4 => b"\"entries\": [\n",
                    _ => b"  ",
                };
                // Anywhere, or where a line begins or ends.
                let at = [at, line, line.saturating_sub(1)][place.index(3)];
                match edit {
                    b"" => drop(text.remove(at)),
                    edit => drop(text.splice(at..at, edit.iter().copied())),
                }
            }
            let whole = serde_json::from_slice::<Manifest>(&text).ok();
            let lines = Manifest::from_lines(&text);
            prop_assert!(lines.is_none() || lines == whole);
        }
    }

    #[test]
    fn names_that_are_not_utf8_survive_and_each_entry_is_a_line() {
        let bad = PathBuf::from(OsString::from_vec(b"data/bad\xff".to_vec()));
        let entries = vec![entry("data".into()), entry(bad), entry("data/\u{e9}\n\"".into())];
        let empty = Manifest::empty(&id(), &"budget".parse().unwrap(), Timestamp::UNIX_EPOCH, Scope::Full, 9);
        let text = empty.to_json_with(entries.iter().rev().collect()).unwrap();
        let manifest = Manifest { entries, ..empty };
        let lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 3 + 12, "{}", String::from_utf8_lossy(&text));
        assert!(String::from_utf8_lossy(&text).contains(r#""pathBytes":"646174612f626164ff""#));
        assert_eq!(Manifest::parse(&text, &id()).unwrap(), manifest);
        assert_eq!(manifest.payload_bytes, 9);
        assert!(manifest.entry(Path::new("data")).is_some() && manifest.entry(Path::new("x")).is_none());

        let text = String::from_utf8(text).unwrap();
        for (from, to) in [
            ("\"formatVersion\": 1", "\"formatVersion\": 2"),
            ("fc166c", "fc166d"),
            ("\"mode\"", "\"mood\""),
            ("\"type\":\"file\"", "\"type\":\"symlink\""),
            ("\"path\":\"data\"", "\"path\":\"zzzz\""),
            ("\"scope\"", "\"extra\": 1, \"scope\""),
        ] {
            assert!(text.contains(from), "{from}");
            let wrong = Manifest::parse(text.replace(from, to).as_bytes(), &id());
            assert!(matches!(wrong, Err(ArchiveError::BadManifest { .. })), "{to}");
        }
    }

    #[test]
    fn an_empty_manifest_is_valid_json() {
        let manifest =
            Manifest::empty(&id(), &"budget".parse().unwrap(), Timestamp::UNIX_EPOCH, Scope::Data, 0);
        assert_eq!(Manifest::parse(&manifest.to_json().unwrap(), &id()).unwrap(), manifest);
    }
}
