//! Archives: whatever the bytes are, nothing is written outside of staging, nor more than allowed.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use abssctl::archive::{
    self, Algorithm, ArchiveError, ExtractOptions, Limits, Manifest, Owners, decoder, extract, scan,
};
use abssctl::host::cancel::Cancel;
use abssctl::ids::BackupId;
use cap_std::fs::Dir;
use miette::Diagnostic as _;

use super::{in_place, note};

/// The id of all archives here: that of the fixture's backups is put in its place.
pub const ID: &str = "20261124-022632-budget-fc166c";
/// Bits of the first byte of an input: which form, and whether the rest is a tar that is mended first.
pub const MEND: u8 = 4;
const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 60 };

fn id() -> BackupId {
    ID.parse().unwrap()
}

/// The archive that an input stands for: its first byte says how it is compressed. With [`MEND`] the rest
/// is a tar whose header checksums are put right before it is compressed, so that damage gets past both.
fn archive_of(bytes: &[u8]) -> (Algorithm, Vec<u8>) {
    let Some((flags, rest)) = bytes.split_first() else { return (Algorithm::None, Vec::new()) };
    let algorithm = [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None][usize::from(flags & 3) % 3];
    if flags & MEND == 0 {
        return (algorithm, rest.to_vec());
    }
    let mut tar = rest.to_vec();
    for header in tar.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let packed = match algorithm {
        Algorithm::Zstd => zstd::encode_all(&tar[..], 1).unwrap(),
        Algorithm::Gzip => {
            let mut packed = Vec::new();
            flate2::read::GzEncoder::new(&tar[..], flate2::Compression::fast())
                .read_to_end(&mut packed)
                .unwrap();
            packed
        }
        Algorithm::None => tar,
    };
    (algorithm, packed)
}

fn code(error: &ArchiveError) -> String {
    error.code().map(|code| code.to_string()).unwrap_or_default()
}

/// Listing and unpacking of an archive: they agree, and stay inside.
pub fn archive(bytes: &[u8]) {
    let (algorithm, packed) = archive_of(bytes);
    in_place(|place| {
        let top = place.join("top");
        std::fs::create_dir_all(top.join("staging")).unwrap();
        std::fs::write(top.join("witness"), b"untouched").unwrap();
        let staging = Dir::open_ambient_dir(top.join("staging"), cap_std::ambient_authority()).unwrap();
        let keep = |_: &Path| (u32::MAX, u32::MAX);
        let options =
            ExtractOptions { limits: LIMITS, owners: Owners::Resolve(&keep), base: None, proof: None };
        let tar = decoder(algorithm, &packed[..]).unwrap();
        let unpacked = extract(tar, &id(), &staging, &options, &Cancel::default(), &|_| ());
        let mut members = 0;
        let tar = decoder(algorithm, &packed[..]).unwrap();
        let scanned = scan(tar, &id(), &LIMITS, &Cancel::default(), &mut |member, body| {
            members += 1;
            note(("member", member.kind, member.implied.len().min(3), member.xattrs.len().min(3)));
            std::io::copy(body, &mut std::io::sink())?;
            Ok(())
        });
        within(&top);
        match (unpacked, scanned) {
            (Ok(unpacked), Ok(scanned)) => {
                note(("unpacked", algorithm, unpacked.manifest.is_some()));
                assert_eq!(unpacked.bytes, scanned.bytes);
                assert!(unpacked.bytes <= LIMITS.bytes && members <= LIMITS.entries);
                if let Some(manifest) = &unpacked.manifest {
                    note(("as its manifest says", manifest.verify(&unpacked).is_ok()));
                }
            }
            (Err(unpacked), Err(scanned)) => {
                note(("refused", algorithm, code(&unpacked)));
                assert_eq!(code(&unpacked), code(&scanned), "{unpacked} / {scanned}");
            }
            (unpacked, scanned) => panic!("they differ: {unpacked:?}, {scanned:?}"),
        }
        std::fs::remove_dir_all(&top).unwrap();
    });
}

/// Beside staging only the witness, as it was; in it no more than allowed, nothing special, no privileges.
fn within(top: &Path) {
    assert_eq!(std::fs::read_dir(top).unwrap().count(), 2);
    assert_eq!(std::fs::read(top.join("witness")).unwrap(), b"untouched");
    let mut open = vec![top.join("staging")];
    let mut bytes = 0;
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            assert!(meta.is_dir() || meta.is_file() || meta.is_symlink(), "{}", path.display());
            if meta.is_file() {
                assert_eq!(meta.mode() & 0o7000, 0, "{}", path.display());
                bytes += if meta.nlink() > 1 { 0 } else { meta.len() };
            } else if meta.is_dir() {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
                open.push(path);
            }
        }
    }
    assert!(bytes <= LIMITS.bytes, "{bytes} bytes");
}

/// The manifest by itself.
pub fn manifest(bytes: &[u8]) {
    match Manifest::parse(bytes, &id()) {
        Err(error) => note(("no manifest", code(&error), error.to_string().len())),
        Ok(manifest) => {
            note("a manifest");
            let text = manifest.to_json().unwrap();
            assert_eq!(archive::Manifest::parse(&text, &id()).unwrap().to_json().unwrap(), text);
        }
    }
}
