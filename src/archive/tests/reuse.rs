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
    let options = ExtractOptions { limits: ROOMY, owners: Owners::Archive, base };
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
            assert_eq!(inode(delta.path().join(path)), stamp.0, "{path:?}");
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
    let options = ExtractOptions { limits: ROOMY, owners: Owners::Archive, base: Some(&base) };
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
