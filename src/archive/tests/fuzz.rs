//! Random trees come back, and random damage does no harm.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, u32),
    Directory(u32),
    Symlink(Vec<u8>),
    Hardlink(prop::sample::Index),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        1 => prop::collection::vec(prop::sample::select(b"-.~ %\n=\xff\xc3\xa9x".to_vec()), 1..6),
        1 => "[x-z]{90,200}".prop_map(String::into_bytes),
    ]
    .prop_filter("no directory entry", |name| name != b"." && name != b"..")
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => (prop::collection::vec(any::<u8>(), 0..1500), 0..0o1000_u32).prop_map(|(bytes, mode)| Node::File(bytes, 0o400 | mode)),
        3 => (0..0o100_u32).prop_map(|mode| Node::Directory(0o700 | mode)),
        1 => prop::collection::vec(1..=255_u8, 1..200).prop_map(Node::Symlink),
        1 => any::<prop::sample::Index>().prop_map(Node::Hardlink),
    ]
}

type Plan = Vec<(Vec<Vec<u8>>, Node)>;

fn tree() -> impl Strategy<Value = Plan> {
    prop::collection::vec((prop::collection::vec(name(), 1..5), node()), 0..25)
}

/// Makes what can be made; names that are taken stay as they are.
fn build(plan: &Plan, top: &Path) {
    let mut files: Vec<PathBuf> = Vec::new();
    for (parts, node) in plan {
        let path = parts.iter().fold(top.to_owned(), |path, part| path.join(OsStr::from_bytes(part)));
        if path.symlink_metadata().is_ok() || std::fs::create_dir_all(path.parent().unwrap()).is_err() {
            continue;
        }
        // A link on the way must not lead the test out of its directory.
        if !path.parent().unwrap().canonicalize().unwrap().starts_with(top.canonicalize().unwrap()) {
            continue;
        }
        match node {
            Node::File(bytes, mode) => {
                create(&path, bytes);
                std::fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
                files.push(path);
            }
            Node::Directory(mode) => {
                std::fs::create_dir(&path).unwrap();
                std::fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
            }
            Node::Symlink(target) => {
                std::os::unix::fs::symlink(OsStr::from_bytes(target), &path).unwrap();
            }
            Node::Hardlink(index) if !files.is_empty() => {
                std::fs::hard_link(&files[index.index(files.len())], &path).unwrap();
            }
            Node::Hardlink(_) => {}
        }
    }
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(vec![Algorithm::Zstd, Algorithm::Gzip, Algorithm::None])
}

/// One archive with every kind of member, in all three forms.
static SAMPLE: LazyLock<[(Algorithm, Vec<u8>); 3]> = LazyLock::new(|| {
    let live = TempDir::new().unwrap();
    std::fs::create_dir(live.path().join("d")).unwrap();
    create(&live.path().join("d/file"), &noise(700, 8));
    create(&live.path().join("n".repeat(150)), b"long");
    std::fs::hard_link(live.path().join("d/file"), live.path().join("hard")).unwrap();
    std::os::unix::fs::symlink("d/file", live.path().join("link")).unwrap();
    [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None]
        .map(|algorithm| (algorithm, pack(live.path(), algorithm).0))
});

/// Unpacks whatever it is; only staging may change.
fn unpack_safely(bytes: &[u8], algorithm: Algorithm) {
    let top = TempDir::new().unwrap();
    let staging = top.path().join("staging");
    std::fs::create_dir(&staging).unwrap();
    create(&top.path().join("witness"), b"untouched");
    let limits = Limits { bytes: 1 << 24, entries: 1000 };
    let result = unpack_to(&staging, bytes, algorithm, limits, Owners::Archive);
    let names = std::fs::read_dir(top.path()).unwrap().count();
    assert_eq!(
        (names, std::fs::read(top.path().join("witness")).unwrap().as_slice()),
        (2, &b"untouched"[..])
    );
    let tar = decoder(algorithm, bytes).unwrap();
    let scanned = scan(tar, &id(), &limits, &Cancel::default(), &mut |_, _| Ok(()));
    if let Ok(extracted) = result {
        assert_eq!(scanned.unwrap().bytes, extracted.bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_round_trip(plan in tree(), algorithm in algorithm()) {
        let live = TempDir::new().unwrap();
        build(&plan, live.path());
        let (bytes, _) = pack(live.path(), algorithm);
        let (staging, extracted) = unpack(&bytes, algorithm).unwrap();
        prop_assert_eq!(describe(&staging.path().join("data")), describe(live.path()));
        extracted.manifest.as_ref().unwrap().verify(&extracted).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_do_no_harm(
        which in 0..3_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..6),
    ) {
        let (algorithm, bytes) = &SAMPLE[which];
        let mut bytes = bytes.clone();
        for (index, flip) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= flip;
        }
        unpack_safely(&bytes, *algorithm);
    }

    /// The checksum of a header is put right after the damage, so that what lies behind it is reached.
    #[test]
    fn forged_headers_do_no_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..512_usize, any::<u8>()), 1..5),
    ) {
        let mut bytes = SAMPLE[2].1.clone();
        let headers: Vec<usize> = (0..bytes.len())
            .step_by(512)
            .filter(|at| bytes[at + 257..].starts_with(b"ustar"))
            .collect();
        for (index, offset, value) in edits {
            let at = headers[index.index(headers.len())];
            bytes[at + offset] = value;
            bytes[at + 148..at + 156].fill(b' ');
            let sum: u32 = bytes[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
            bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        unpack_safely(&bytes, Algorithm::None);
    }

    #[test]
    fn noise_is_no_archive(bytes in prop::collection::vec(any::<u8>(), 0..3000), algorithm in algorithm()) {
        let staging = TempDir::new().unwrap();
        prop_assert!(unpack_to(staging.path(), &bytes, algorithm, ROOMY, Owners::Archive).is_err());
    }
}
