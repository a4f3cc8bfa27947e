//! Files that the target holds already are copied from there, and nothing else is: what comes out is what
//! comes out of the archive alone.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A file of `bytes` bytes that do not compress, of its own mode and time.
fn file(path: &Path, bytes: usize, seed: u64) {
    create(path, &noise(bytes, seed));
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o640)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000 + seed, 7);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// What makes up a tree, but for inodes.
fn seen(top: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = match () {
                () if meta.is_symlink() => std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
                () if meta.is_file() => std::fs::read(&path).unwrap(),
                () => Vec::new(),
            };
            if meta.is_dir() {
                open.push(path.clone());
            }
            let below = path.strip_prefix(top).unwrap().to_owned();
            // The time of a link is of no use to anybody.
            let times = if meta.is_symlink() { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
            found.insert(below, (meta.mode(), meta.len(), times.0, times.1, content));
        }
    }
    found
}

fn unpack_with(bytes: &[u8], algorithm: Algorithm, base: Option<&Dir>, staging: &Path) -> Extracted {
    let known = Known::default();
    let base = base.map(|dir| Base { dir, known: &known });
    let options = ExtractOptions { limits: ROOMY, owners: Owners::Archive, base, proof: None };
    let tar = decoder(algorithm, bytes).unwrap();
    extract(tar, &id(), &dir(staging), &options, &Cancel::default(), &|_| ()).unwrap()
}

#[test]
fn what_comes_out_is_the_same_and_only_equal_files_are_reused() {
    let live = TempDir::new().unwrap();
    let at = |name: &str| live.path().join(name);
    std::fs::create_dir_all(at("user-files/deep")).unwrap();
    // Several frames each, so that some lie in one file whole.
    file(&at("user-files/large-same"), 5 << 20, 1);
    file(&at("user-files/large-changed"), 3 << 20, 2);
    for number in 0..40 {
        file(&at(&format!("user-files/deep/small-{number:02}")), 100 * number, number as u64 + 10);
    }
    file(&at("longer"), 1000, 60);
    file(&at("gone"), 1000, 61);
    file(&at("a-link-now"), 1000, 62);
    file(&at("a-directory-now"), 1000, 63);
    file(&at("a-fifo-now"), 1000, 64);
    file(&at("touched"), 1000, 65);
    file(&at("linked"), 1000, 66);
    std::fs::hard_link(at("linked"), at("linked-too")).unwrap();
    let database = rusqlite::Connection::open(at("user-files/a.sqlite")).unwrap();
    database.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(100000));").unwrap();
    drop(database);
    let packed = [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None].map(|it| (it, pack(live.path(), it).0));

    let mut changed = std::fs::File::options().write(true).open(at("user-files/large-changed")).unwrap();
    changed.write_all(b"another content of the same size").unwrap();
    create(&at("new"), b"not in the archive");
    for name in ["longer", "gone", "a-link-now", "a-directory-now", "a-fifo-now"] {
        std::fs::remove_file(at(name)).unwrap();
    }
    file(&at("longer"), 1001, 60);
    symlink(at("touched"), at("a-link-now")).unwrap();
    std::fs::create_dir(at("a-directory-now")).unwrap();
    run(Command::new("mkfifo").arg(at("a-fifo-now")));
    // Mode and time come out of the archive all the same.
    std::fs::set_permissions(at("touched"), PermissionsExt::from_mode(0o600)).unwrap();

    for (algorithm, bytes) in &packed {
        let (full, delta) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let all = unpack_with(bytes, *algorithm, None, full.path());
        let base = dir(live.path());
        let some = unpack_with(bytes, *algorithm, Some(&base), delta.path());
        assert_eq!(seen(delta.path()), seen(full.path()), "{algorithm}");
        assert_eq!((all.reused, all.reused_bytes), (0, 0));
        // The large one, the small ones, the touched and the linked one, the database.
        assert_eq!(some.reused, 1 + 40 + 1 + 1 + 1, "{algorithm}");
        assert_eq!(some.bytes, all.bytes);
        let kinds = |of: &Extracted| {
            let facts = of
                .entries
                .iter()
                .map(|entry| (entry.path.clone(), entry.kind, entry.size, entry.sha256, entry.is_sqlite));
            facts.collect::<Vec<_>>()
        };
        assert_eq!(kinds(&some), kinds(&all), "{algorithm}");
        some.manifest.as_ref().unwrap().verify(&some).unwrap();
        let inode = |path: PathBuf| path.metadata().unwrap().ino();
        for name in ["user-files/large-same", "touched", "linked"] {
            assert_ne!(inode(at(name)), inode(delta.path().join("data").join(name)), "{name}");
        }
        for (path, stamp) in some.entries.iter().filter_map(|entry| Some((&entry.path, entry.stamp?))) {
            assert_eq!(inode(delta.path().join(path)), stamp.inode, "{path:?}");
        }
    }
}

#[test]
fn without_a_manifest_everything_comes_out_of_the_archive() {
    let live = TempDir::new().unwrap();
    file(&live.path().join("file"), 1000, 1);
    let top = TempDir::new().unwrap();
    let base = top.path().join(id().as_str());
    std::fs::create_dir(&base).unwrap();
    run(Command::new("cp").arg("-a").arg(live.path()).arg(base.join("data")));
    let tar = top.path().join("foreign.tar");
    run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(top.path()).arg(id().as_str()));
    let staging = TempDir::new().unwrap();
    let bytes = std::fs::read(tar).unwrap();
    let unpacked = unpack_with(&bytes, Algorithm::None, Some(&dir(live.path())), staging.path());
    assert_eq!((unpacked.reused, unpacked.bytes), (0, 1000));
}

#[test]
fn a_copy_that_cannot_be_written_is_an_error_and_a_wish_to_stop_is_heard() {
    let live = TempDir::new().unwrap();
    file(&live.path().join("file"), 1 << 20, 1);
    let (bytes, _) = pack(live.path(), Algorithm::Zstd);
    let (taken, free, base) = (TempDir::new().unwrap(), TempDir::new().unwrap(), dir(live.path()));
    let known = Known::default();
    let base = Some(Base { dir: &base, known: &known });
    let options = ExtractOptions { limits: ROOMY, owners: Owners::Archive, base, proof: None };
    let unpack = |staging: &TempDir, cancel: &Cancel, progress: &dyn Fn(u64)| {
        let tar = decoder(Algorithm::Zstd, &bytes[..]).unwrap();
        extract(tar, &id(), &dir(staging.path()), &options, cancel, progress)
    };
    // The name of the directory for copies is taken.
    create(&taken.path().join(".reused"), b"");
    let error = unpack(&taken, &Cancel::default(), &|_| ()).unwrap_err();
    assert!(error.to_string().contains(".reused"), "{error}");
    let cancel = Cancel::default();
    let stopped = unpack(&free, &cancel, &|_| cancel.request());
    assert!(matches!(stopped, Err(ArchiveError::Cancelled(_))));
}

/// As a restore does it that reads the parts of an archive that it needs, each proven by the manifest.
fn unpack_parts(
    bytes: &[u8],
    algorithm: Algorithm,
    live: &Path,
    proof: Sha256,
    staging: &Path,
) -> Result<Extracted, ArchiveError> {
    let archive = staging.with_extension("archive");
    create(&archive, bytes);
    let (base, known) = (dir(live), Known::default());
    let base = Some(Base { dir: &base, known: &known });
    let options = ExtractOptions { limits: ROOMY, owners: Owners::Archive, base, proof: Some(proof) };
    let tar = leaping_decoder(algorithm, std::fs::File::open(&archive).unwrap())?;
    let cancel = Cancel::default();
    let unpacked = extract(tar, &id(), &dir(staging), &options, &cancel, &|_| ())?;
    unpacked.manifest.as_ref().unwrap().verify(&unpacked)?;
    Ok(unpacked)
}

#[test]
fn the_parts_that_are_read_are_proven_by_the_manifest() {
    let live = super::roundtrip::rich_tree();
    let at = |name: &str| live.path().join(name);
    file(&at("m-same"), 6 << 20, 3);
    file(&at("n-other"), 3 << 20, 4);
    file(&at("o-same"), 5 << 20, 5);
    let mut packed = Vec::new();
    for algorithm in [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None] {
        let (bytes, written) = pack(live.path(), algorithm);
        packed.push((algorithm, bytes, written.manifest));
    }
    std::fs::remove_file(at("n-other")).unwrap();
    file(&at("n-other"), 3 << 20, 6);
    for (algorithm, bytes, manifest) in &packed {
        let (full, staging) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let _all = unpack_with(bytes, *algorithm, None, full.path());
        let some = unpack_parts(bytes, *algorithm, live.path(), *manifest, staging.path()).unwrap();
        assert_eq!(seen(staging.path()), seen(full.path()), "{algorithm}");
        assert!(some.reused > 2, "{algorithm}");
        let staging = TempDir::new().unwrap();
        let other = unpack_parts(bytes, *algorithm, live.path(), Sha256::of(b"other"), staging.path());
        assert!(matches!(other, Err(ArchiveError::OtherManifest { found: Some(_), .. })), "{other:?}");
    }

    // What is damaged where nothing is read does no harm, and is noticed where something is.
    let (algorithm, bytes, manifest) = packed.pop().unwrap();
    assert_eq!(algorithm, Algorithm::None);
    let body = |name: &str| {
        let content = noise(64, if name == "m-same" { 3 } else { 4 });
        bytes.windows(64).position(|window| window == content).unwrap()
    };
    for (name, is_read) in [("m-same", false), ("n-other", true)] {
        let mut damaged = bytes.clone();
        damaged[body(name) + 1_000_000] ^= 1;
        let staging = TempDir::new().unwrap();
        let unpacked = unpack_parts(&damaged, algorithm, live.path(), manifest, staging.path());
        assert_eq!(unpacked.is_err(), is_read, "{name}: {unpacked:?}");
        assert!(
            unpacked.map_or_else(|error| error.to_string().contains("another digest"), |_| true),
            "{name}"
        );
    }

    // A header that says something else than the manifest: more rights, another owner.
    let header =
        bytes.chunks(512).position(|block| block.starts_with(b"20261124-022632-budget-fc166c/data/n-other"));
    let header = header.unwrap() * 512;
    for (field, value) in [(100, &b"0000777"[..]), (108, &b"0000007"[..])] {
        let mut forged = bytes.clone();
        forged[header + field..header + field + value.len()].copy_from_slice(value);
        let mut block = tar::Header::from_byte_slice(&forged[header..header + 512]).clone();
        block.set_cksum();
        forged[header..header + 512].copy_from_slice(block.as_bytes());
        let staging = TempDir::new().unwrap();
        let error = unpack_parts(&forged, algorithm, live.path(), manifest, staging.path()).unwrap_err();
        assert!(error.to_string().contains("its header says something else"), "{error}");
    }
}
