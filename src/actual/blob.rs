//! A budget's blob where it is not encrypted: a zip of `db.sqlite` and `metadata.json`. A budget that is
//! to live beside the one it was copied from needs another id in there, which is the name of the folder
//! that each device keeps it in: with the old id, a device that opens the copy overwrites the original.
//!
//! Writes the one new file that it is given; a crash leaves a part of it in staging.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use serde_json::{Map, Value};

/// The end record, its comment included, is within this.
const MAX_END: u64 = 22 + 65_535;
/// The client writes two members.
const MAX_MEMBERS: usize = 100;
/// Bytes of the directory of members, and of `metadata.json`.
const MAX_SMALL: u64 = 1 << 20;
const METADATA: &[u8] = b"metadata.json";

/// The blob could not be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It could not be read or written.
    #[error("cannot rewrite the blob: {0}")]
    Io(#[from] io::Error),
    /// It is no zip as clients write it.
    #[error("the blob is no budget as clients write it: {0}")]
    Strange(&'static str),
}

impl BlobError {
    /// Whether the cause is a full disk.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Io(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// What a copy says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The server's id of it.
    pub budget: &'a str,
    /// Its sync group.
    pub group: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// One member, as the directory at the end of the zip has it.
struct Member {
    /// Its record in the directory.
    record: Vec<u8>,
    /// Its name.
    name: Vec<u8>,
    /// Where its local header stands.
    at: u64,
    /// Bytes of its content as stored.
    stored: u64,
}

/// Writes the blob `from` to `into`, as that of another budget.
pub fn rename(from: &mut File, into: &mut File, identity: Identity<'_>) -> Result<(), BlobError> {
    let members = directory(from)?;
    let mut records = Vec::new();
    let mut found = false;
    for member in &members {
        let at = into.stream_position()?;
        let at = u32::try_from(at).map_err(|_| BlobError::Strange("it is too large"))?;
        let mut record = member.record.clone();
        put(&mut record, 42, &at.to_le_bytes());
        let body = body(from, member)?;
        if member.name == METADATA {
            found = true;
            let text = metadata(&content(from, member, body)?, identity)?;
            write_metadata(into, &mut record, &text)?;
        } else {
            from.seek(SeekFrom::Start(member.at))?;
            let length = body - member.at + member.stored;
            if io::copy(&mut io::Read::by_ref(from).take(length), into)? != length {
                return Err(BlobError::Strange("it is cut off"));
            }
        }
        records.extend(record);
    }
    if !found {
        return Err(BlobError::Strange("it has no metadata.json"));
    }
    let start = into.stream_position()?;
    into.write_all(&records)?;
    let number = |value: u64| u32::try_from(value).map_err(|_| BlobError::Strange("it is too large"));
    let count = u16::try_from(members.len()).map_err(|_| BlobError::Strange("it has too many members"))?;
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend(count.to_le_bytes());
    end.extend(count.to_le_bytes());
    end.extend(number(records.len() as u64)?.to_le_bytes());
    end.extend(number(start)?.to_le_bytes());
    end.extend([0, 0]);
    into.write_all(&end)?;
    Ok(())
}

/// The same document under other ids.
fn metadata(bytes: &[u8], identity: Identity<'_>) -> Result<Vec<u8>, BlobError> {
    let mut document: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|_| BlobError::Strange("its metadata.json is no object"))?;
    let old = document.get("id").and_then(Value::as_str).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let old = if (1..=100).contains(&old.len()) && old.chars().all(plain) { old } else { "Budget" };
    let short: String = identity.budget.chars().take(8).collect();
    let id = format!("{old}-{short}");
    for (key, value) in [
        ("id", id.as_str()),
        ("budgetName", identity.name),
        ("cloudFileId", identity.budget),
        ("groupId", identity.group),
    ] {
        document.insert(key.to_owned(), Value::String(value.to_owned()));
    }
    serde_json::to_vec(&document).map_err(|_| BlobError::Strange("its metadata.json cannot be written"))
}

/// Writes `metadata.json` as it is, not compressed, and mends its record.
fn write_metadata(into: &mut File, record: &mut [u8], text: &[u8]) -> Result<(), BlobError> {
    let size = u32::try_from(text.len()).map_err(|_| BlobError::Strange("its metadata.json is too large"))?;
    let mut crc = flate2::Crc::new();
    crc.update(text);
    put(record, 10, &0_u16.to_le_bytes());
    put(record, 16, &crc.sum().to_le_bytes());
    put(record, 20, &size.to_le_bytes());
    put(record, 24, &size.to_le_bytes());
    let mut header = b"PK\x03\x04".to_vec();
    // Version, flags, method, time, date, digest and both sizes stand in the same order in both.
    header.extend(&record[6..28]);
    header.extend(u16::try_from(METADATA.len()).unwrap_or_default().to_le_bytes());
    header.extend([0, 0]);
    header.extend(METADATA);
    into.write_all(&header)?;
    into.write_all(text)?;
    Ok(())
}

fn put(record: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = record.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn small(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 2).map_or(0, |two| u64::from(u16::from_le_bytes([two[0], two[1]])))
}

fn large(bytes: &[u8], at: usize) -> u64 {
    small(bytes, at) | small(bytes, at + 2) << 16
}

/// Reads the members that the end of the zip lists.
fn directory(from: &mut File) -> Result<Vec<Member>, BlobError> {
    let length = from.seek(SeekFrom::End(0))?;
    from.seek(SeekFrom::Start(length.saturating_sub(MAX_END)))?;
    let mut tail = Vec::new();
    from.take(MAX_END).read_to_end(&mut tail)?;
    let end = tail.windows(22).rposition(|window| window.starts_with(b"PK\x05\x06"));
    let end = &tail[end.ok_or(BlobError::Strange("it is no zip, or encrypted"))?..];
    let (count, size, start) = (small(end, 10), large(end, 12), large(end, 16));
    if count > MAX_MEMBERS as u64 || size > MAX_SMALL {
        return Err(BlobError::Strange("it has too many members"));
    }
    from.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    from.take(size).read_to_end(&mut bytes)?;
    let mut members = Vec::new();
    let mut rest = bytes.as_slice();
    for _ in 0..count {
        let whole = 46 + small(rest, 28) + small(rest, 30) + small(rest, 32);
        let whole = usize::try_from(whole).unwrap_or(usize::MAX);
        let cut = BlobError::Strange("its list of members is cut off");
        let (record, more) = rest.split_at_checked(whole).ok_or(cut)?;
        // Encrypted members, and sizes that stand elsewhere.
        let (flags, stored) = (small(record, 8), large(record, 20));
        if !record.starts_with(b"PK\x01\x02") || flags & 0b1001 != 0 || stored == u64::from(u32::MAX) {
            return Err(BlobError::Strange("it has a member of another kind"));
        }
        let name = record[46..46 + usize::try_from(small(record, 28)).unwrap_or_default()].to_vec();
        let mut record = record.to_vec();
        if name == METADATA {
            // Without what else was noted of it: that may repeat the sizes.
            record.truncate(46 + name.len());
            put(&mut record, 30, &[0; 4]);
        }
        members.push(Member { at: large(&record, 42), record, name, stored });
        rest = more;
    }
    Ok(members)
}

/// Where the content of a member begins.
fn body(from: &mut File, member: &Member) -> Result<u64, BlobError> {
    let mut header = [0; 30];
    from.seek(SeekFrom::Start(member.at))?;
    from.read_exact(&mut header).map_err(|_| BlobError::Strange("it is cut off"))?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(BlobError::Strange("its members are not where it says"));
    }
    Ok(member.at + 30 + small(&header, 26) + small(&header, 28))
}

/// The content of a small member.
fn content(from: &mut File, member: &Member, body: u64) -> Result<Vec<u8>, BlobError> {
    from.seek(SeekFrom::Start(body))?;
    let stored = from.take(member.stored.min(MAX_SMALL));
    let mut bytes = Vec::new();
    match small(&member.record, 10) {
        0 => stored.take(MAX_SMALL).read_to_end(&mut bytes)?,
        8 => flate2::read::DeflateDecoder::new(stored).take(MAX_SMALL).read_to_end(&mut bytes)?,
        _ => return Err(BlobError::Strange("it is compressed in another way")),
    };
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity<'static> = Identity { budget: "11112222-new", group: "group-new", name: "Copy" };

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// A zip with one stored member for each.
    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut all, mut records) = (Vec::new(), Vec::new());
        for (name, text) in members {
            let mut crc = flate2::Crc::new();
            crc.update(text);
            let mut common = vec![0; 8];
            common.extend(crc.sum().to_le_bytes());
            for _ in 0..2 {
                common.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            }
            common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            common.extend([0, 0]);
            records.extend([b"PK\x01\x02\0\0\0\0".as_slice(), &common, &[0; 10]].concat());
            records.extend(u32::try_from(all.len()).unwrap().to_le_bytes());
            records.extend(name.as_bytes());
            all.extend([b"PK\x03\x04\0\0".as_slice(), &common, name.as_bytes(), text].concat());
        }
        let start = u32::try_from(all.len()).unwrap();
        let size = u32::try_from(records.len()).unwrap();
        all.extend(records);
        let count = [u8::try_from(members.len()).unwrap(), 0];
        all.extend([b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count].concat());
        all.extend(size.to_le_bytes());
        all.extend(start.to_le_bytes());
        all.extend([0, 0]);
        all
    }

    #[test]
    fn the_copy_has_ids_of_its_own_and_the_same_data() {
        let old = br#"{"id":"Household-5fa7a71","budgetName":"Household","resetClock":true}"#;
        let mut from = file(&zip(&[("db.sqlite", b"data"), ("metadata.json", old)]));
        let mut into = file(b"");
        rename(&mut from, &mut into, IDENTITY).unwrap();
        let members = directory(&mut into).unwrap();
        assert_eq!(members.len(), 2);
        let mut read = |at: usize| {
            let start = body(&mut into, &members[at]).unwrap();
            content(&mut into, &members[at], start).unwrap()
        };
        assert_eq!(read(0), b"data");
        let document: Value = serde_json::from_slice(&read(1)).unwrap();
        let expected = serde_json::json!({ "id": "Household-5fa7a71-11112222", "budgetName": "Copy",
            "resetClock": true, "cloudFileId": "11112222-new", "groupId": "group-new" });
        assert_eq!(document, expected);
    }

    #[test]
    fn whatever_else_it_is_it_is_an_error() {
        let whole = zip(&[("metadata.json", b"{}"), ("db.sqlite", b"data")]);
        assert!(rename(&mut file(&whole), &mut file(b""), IDENTITY).is_ok());
        for bytes in [&b""[..], b"encrypted", &zip(&[("db.sqlite", b"x")]), &zip(&[("metadata.json", b"[]")])]
        {
            assert!(rename(&mut file(bytes), &mut file(b""), IDENTITY).is_err());
        }
        // No byte that is another one, and no end, makes it panic.
        for at in 0..whole.len() {
            drop(rename(&mut file(&whole[..at]), &mut file(b""), IDENTITY));
            for byte in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                drop(rename(&mut file(&bytes), &mut file(b""), IDENTITY));
            }
        }
    }
}
