//! Tests of the archive layer as a whole: real trees, real SQLite, the real `tar`, `zstd` and `gzip`.

mod fuzz;
mod hostile;
mod peer;
mod reuse;
mod roundtrip;

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::host::cancel::Cancel;
use crate::host::stamp::{Known, Stamp};
use crate::ids::{BackupId, InstanceName, Sha256};

const ROOMY: Limits = Limits { bytes: 1 << 40, entries: 1 << 20 };

fn id() -> BackupId {
    "20261124-022632-budget-fc166c".parse().unwrap()
}

/// The manifest at the beginning of an archive; `None` where it has none (the peer's archives).
fn read_manifest(tar: impl Read, id: &BackupId, limits: &Limits) -> Result<Option<Manifest>, ArchiveError> {
    let mut members = super::reader::Members::new(tar, id, limits);
    while let Some(member) = members.next(&Cancel::default())? {
        if member.kind == EntryKind::File {
            return Ok(members.manifest);
        }
    }
    Ok(None)
}

fn dir(path: &Path) -> Dir {
    Dir::open_ambient_dir(path, ambient_authority()).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tells that a part of a test could not run here.
#[expect(clippy::print_stderr, reason = "a test says on stderr what it left out")]
fn skipped(what: &str) {
    eprintln!("SKIPPED: {what}");
}

fn create(path: &Path, bytes: &[u8]) {
    std::fs::File::create_new(path).unwrap().write_all(bytes).unwrap();
}

/// Bytes that do not compress, the same each time.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Unpacks a fixture into a temporary directory.
fn fixture(name: &str) -> TempDir {
    let temp = TempDir::new().unwrap();
    let archive = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    run(Command::new("tar").arg("-xpf").arg(archive).arg("-C").arg(temp.path()));
    temp
}

/// The lines of a `sha256sum` file among the fixtures.
fn sums(name: &str) -> Vec<(Sha256, String)> {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.split_once("  ./").unwrap())
        .map(|(digest, name)| (digest.parse().unwrap(), name.to_owned()))
        .collect()
}

fn extra(path: &str) -> Extra {
    Extra { path: path.into(), bytes: format!("content of {path}\n").into_bytes(), mode: 0o640 }
}

/// Packs a live tree with some files beside it.
fn try_pack(
    live: &Path,
    algorithm: Algorithm,
    progress: &dyn Fn(u64),
) -> Result<(Vec<u8>, Written), ArchiveError> {
    let scratch = TempDir::new().unwrap();
    let (data, scratch) = (dir(live), dir(scratch.path()));
    let instance: InstanceName = "budget".parse().unwrap();
    let payload = Payload {
        id: &id(),
        instance: &instance,
        created_at: Timestamp::from_second(1_795_487_992).unwrap(),
        scope: Scope::Full,
        data: &data,
        extra: vec![
            extra("metadata/instance.json"),
            extra("metadata/instances.yml"),
            extra("nginx/abssctl-budget.conf"),
        ],
        scratch: &scratch,
        exclude: &[".abssctl".to_owned()],
    };
    let mut out = Vec::new();
    let written = write(&payload, algorithm, None, &mut out, &Cancel::default(), progress)?;
    Ok((out, written))
}

fn pack(live: &Path, algorithm: Algorithm) -> (Vec<u8>, Written) {
    try_pack(live, algorithm, &|_| ()).unwrap()
}

/// Unpacks into `staging`.
fn unpack_to(
    staging: &Path,
    bytes: &[u8],
    algorithm: Algorithm,
    limits: Limits,
    owners: Owners<'_>,
) -> Result<Extracted, ArchiveError> {
    let options = ExtractOptions { limits, owners, base: None, proof: None };
    extract(decoder(algorithm, bytes)?, &id(), &dir(staging), &options, &Cancel::default(), &|_| ())
}

/// Unpacks into a new directory.
fn unpack(bytes: &[u8], algorithm: Algorithm) -> Result<(TempDir, Extracted), ArchiveError> {
    let staging = TempDir::new().unwrap();
    let extracted = unpack_to(staging.path(), bytes, algorithm, ROOMY, Owners::Archive)?;
    Ok((staging, extracted))
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let mut found = BTreeMap::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        found.insert(String::from_utf8_lossy(name).into_owned(), value[..length].to_vec());
    }
    found
}

/// Everything that a backup must keep of a tree, by path; hard links as the smallest name of the inode.
fn describe(top: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    let mut paths = Vec::new();
    while let Some(path) = open.pop() {
        if path.symlink_metadata().unwrap().is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.push(path);
    }
    paths.sort();
    for path in paths {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_file() {
            let first = inodes.entry(meta.ino()).or_insert_with(|| path.clone());
            format!(
                "{} as {:?}",
                Sha256::of(&std::fs::read(&path).unwrap()),
                first.strip_prefix(top).unwrap()
            )
        } else if meta.is_symlink() {
            format!("{:?}", std::fs::read_link(&path).unwrap())
        } else {
            String::new()
        };
        let text = format!(
            "{:o} {}:{} {}.{:09} {:?} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            xattrs(&path),
        );
        all.insert(path.strip_prefix(top).unwrap().as_os_str().as_bytes().escape_ascii().to_string(), text);
    }
    all
}

/// The stable code of an error.
fn code(error: &ArchiveError) -> String {
    miette::Diagnostic::code(error).unwrap().to_string()
}
