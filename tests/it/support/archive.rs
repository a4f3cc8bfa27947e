//! Archives as the peer writes them, with one intended defect: size, sidecar, index and digest agree, so
//! that only what is wrong inside can be the reason for a refusal.

use std::io::{Cursor, Read as _, Write as _};

use abssctl::ids::Sha256;
use serde_json::json;
use tar::{Archive, Builder, EntryType, Header};

use super::TestRoot;
use super::root::NONE;

/// The id of archives made here.
pub(crate) const MADE: &str = "20261124-120000-budget-abcdef";

/// One member of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// The name as it stands in the header: `<id>/…`, or anything hostile.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) link: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

impl Member {
    pub(crate) fn new(name: &str, kind: EntryType, link: &str, bytes: &[u8]) -> Self {
        Self { name: name.into(), kind, link: link.into(), bytes: bytes.into() }
    }

    /// A file below `<id>/`.
    pub(crate) fn file(below: &str, bytes: &[u8]) -> Self {
        Self::new(&format!("{MADE}/{below}"), EntryType::Regular, "", bytes)
    }

    /// A link below `<id>/`.
    pub(crate) fn symlink(below: &str, target: &str) -> Self {
        Self::new(&format!("{MADE}/{below}"), EntryType::Symlink, target, b"")
    }

    pub(crate) fn below(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap().strip_prefix(MADE).unwrap().trim_matches('/')
    }
}

/// The members of the fixture's uncompressed backup (generation A), renamed to our id.
pub(crate) fn members(root: &TestRoot) -> Vec<Member> {
    let bytes = std::fs::read(root.path(format!("srv/backups/budget/{NONE}.tar"))).unwrap();
    let mut archive = Archive::new(Cursor::new(bytes));
    let mut members = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap().replace(NONE, MADE);
        let kind = entry.header().entry_type();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        members.push(Member { name: name.into_bytes(), kind, link: Vec::new(), bytes });
    }
    assert!(members.len() > 10, "the fixture's backup has its members");
    members
}

/// Writes members as they are, hostile names included.
pub(crate) fn tar(members: &[Member]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for member in members {
        append(&mut builder, member);
    }
    builder.into_inner().unwrap()
}

fn append(builder: &mut Builder<Vec<u8>>, member: &Member) {
    // As GNU tar does: a name that fills the field goes into an entry of its own before.
    if member.name.len() >= 100 {
        let mut header = header(EntryType::GNULongName, member.name.len() as u64 + 1);
        header.as_gnu_mut().unwrap().name[..13].copy_from_slice(b"././@LongLink");
        header.set_cksum();
        let name = [&member.name[..], b"\0"].concat();
        builder.append(&header, &name[..]).unwrap();
    }
    let mut header = header(member.kind, member.bytes.len() as u64);
    let length = member.name.len().min(100);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..length].copy_from_slice(&member.name[..length]);
    gnu.linkname[..member.link.len()].copy_from_slice(&member.link);
    header.set_cksum();
    builder.append(&header, &member.bytes[..]).unwrap();
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == EntryType::Directory { 0o750 } else { 0o640 });
    header.set_mtime(1_764_000_000);
    header.set_uid(0);
    header.set_gid(0);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Puts an archive among the backups: the file, its sidecar, its index entry (replacing one of the id).
pub(crate) fn register(root: &TestRoot, id: &str, algorithm: &str, bytes: &[u8]) {
    let ending = match algorithm {
        "zstd" => "tar.zst",
        "gzip" => "tar.gz",
        _ => "tar",
    };
    let name = format!("{id}.{ending}");
    let path = format!("/srv/backups/budget/{name}");
    let digest = Sha256::of(bytes);
    root.write(&path, bytes);
    root.write(format!("{path}.sha256"), format!("{digest}  {name}\n"));
    let entry = json!({
        "id": id, "instance": "budget", "created_at": "2026-11-24T12:00:00Z", "path": path,
        "algorithm": algorithm, "size_bytes": bytes.len(),
        "checksum": { "algorithm": "sha256", "value": digest.to_string() },
        "status": "available", "metadata": { "data_only": false, "labels": [] },
    });
    root.edit_index(|index| {
        let entries = index["backups"].as_array_mut().unwrap();
        entries.retain(|old| old["id"] != id);
        entries.push(entry);
    });
}

/// Registers an archive of these members under [`MADE`].
pub(crate) fn make(root: &TestRoot, members: &[Member]) {
    register(root, MADE, "zstd", &zstd(&tar(members)));
}
