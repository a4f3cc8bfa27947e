//! Tests of the store with real files, and with `sha256sum` as the judge of sidecars.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;
use crate::state::backup_index::BackupIndex;
use crate::state::config::ConfigFlags;
use crate::state::testing::{empty_root, instance_tree};

fn config(root: &Root) -> Config {
    Config::load(root, &ConfigFlags::default(), &BTreeMap::new()).unwrap()
}

fn begin(root: &Root, id: &str) -> Result<Publish, StoreError> {
    Publish::begin(root, &config(root), &"budget".parse().unwrap(), &id.parse().unwrap(), "zstd")
}

fn names(root: &Root) -> Vec<String> {
    let dir = root.host_path(&"/srv/backups/budget".parse().unwrap());
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(root: &Root, path: &str) -> u32 {
    std::fs::metadata(root.host_path(&path.parse().unwrap())).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_peers_archives_and_sidecars_are_read() {
    let (_keep, root) = instance_tree();
    let config = config(&root);
    let index = BackupIndex::load(&root, &config).unwrap();
    for entry in index.entries() {
        assert_eq!(archive_path(&config, &entry.instance, &entry.id, &entry.algorithm).unwrap(), entry.path);
        let mut archive = open(&root, &config, &entry.path).unwrap();
        let mut bytes = Vec::new();
        archive.file.read_to_end(&mut bytes).unwrap();
        assert_eq!((archive.size, Sha256::of(&bytes)), (entry.size_bytes, entry.sha256));
        assert_eq!(read_sidecar(&root, &config, &entry.path).unwrap(), Some(entry.sha256));
    }
}

#[test]
fn an_archive_appears_whole_with_a_sidecar_that_sha256sum_believes() {
    let (_keep, root) = empty_root();
    let mut publish = begin(&root, "a-1").unwrap();
    publish.file().write_all(b"archive").unwrap();
    assert_eq!(names(&root), [".a-1.partial"]);
    assert_eq!(publish.path.as_str(), "/srv/backups/budget/a-1.tar.zst");
    let published = publish.publish(&Sha256::of(b"archive")).unwrap();
    assert_eq!((published.size, published.path.as_str()), (7, "/srv/backups/budget/a-1.tar.zst"));
    assert_eq!(names(&root), ["a-1.tar.zst", "a-1.tar.zst.sha256"]);
    let dir = root.host_path(&"/srv/backups/budget".parse().unwrap());
    let judged = Command::new("sha256sum")
        .args(["--strict", "-c", "a-1.tar.zst.sha256"])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(judged.status.success(), "{judged:?}");
    assert_eq!(read_sidecar(&root, &config(&root), &published.path).unwrap(), Some(Sha256::of(b"archive")));
    for (path, expected) in [
        ("/srv/backups/budget", 0o750),
        ("/srv/backups/budget/a-1.tar.zst", 0o640),
        ("/srv/backups/budget/a-1.tar.zst.sha256", 0o640),
    ] {
        assert_eq!(mode(&root, path), expected, "{path}");
    }
}

#[test]
fn what_is_not_published_leaves_nothing() {
    let (_keep, root) = empty_root();
    drop(begin(&root, "a-1").unwrap());
    assert!(names(&root).is_empty());
    // A run that was killed left its partial file; the next one of that id starts afresh.
    let stale = begin(&root, "a-1").unwrap();
    std::mem::forget(stale);
    assert_eq!(names(&root), [".a-1.partial"]);
    begin(&root, "a-1").unwrap().publish(&Sha256::of(b"")).unwrap();
    assert_eq!(names(&root), ["a-1.tar.zst", "a-1.tar.zst.sha256"]);
}

#[test]
fn a_taken_name_is_never_replaced() {
    let (_keep, root) = empty_root();
    let mut first = begin(&root, "a-1").unwrap();
    first.file().write_all(b"first").unwrap();
    first.publish(&Sha256::of(b"first")).unwrap();
    let error = begin(&root, "a-1").unwrap().publish(&Sha256::of(b"")).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!(names(&root), ["a-1.tar.zst", "a-1.tar.zst.sha256"]);
    let path = root.host_path(&"/srv/backups/budget/a-1.tar.zst".parse().unwrap());
    assert_eq!(std::fs::read(path).unwrap(), b"first");
}

#[test]
fn a_sidecar_that_cannot_be_written_takes_the_archive_with_it() {
    let (_keep, root) = empty_root();
    let publish = begin(&root, "a-1").unwrap();
    root.ensure_dir(&"/srv/backups/budget/a-1.tar.zst.sha256".parse().unwrap(), 0o750).unwrap();
    let error = publish.publish(&Sha256::of(b"")).unwrap_err();
    assert!(error.to_string().contains("a-1.tar.zst.sha256"), "{error}");
    assert_eq!(names(&root), ["a-1.tar.zst.sha256"]);
}

#[test]
fn what_is_no_archive_is_refused() {
    let (_keep, root) = empty_root();
    let config = config(&root);
    drop(begin(&root, "a-1").unwrap());
    let path = |text: &str| -> AbsPath { text.parse().unwrap() };
    let error = open(&root, &config, &path("/srv/backups/budget/none.tar")).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    let dir = root.host_path(&path("/srv/backups/budget"));
    assert!(Command::new("mkfifo").arg(dir.join("fifo.tar")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket.tar")).unwrap();
    root.ensure_dir(&path("/srv/backups/budget/dir.tar"), 0o750).unwrap();
    for name in ["fifo.tar", "socket.tar", "dir.tar"] {
        let error = open(&root, &config, &path(&format!("/srv/backups/budget/{name}"))).unwrap_err();
        assert!(matches!(error, StoreError::NotAFile { .. }), "{name}: {error}");
    }
    for outside in ["/etc/passwd", "/srv/backups", "/srv/backups2/x.tar"] {
        let error = open(&root, &config, &path(outside)).unwrap_err();
        assert!(matches!(error, StoreError::Outside { .. }), "{outside}: {error}");
        assert!(matches!(read_sidecar(&root, &config, &path(outside)), Err(StoreError::Outside { .. })));
    }
    assert!(matches!(extension("xz"), Err(StoreError::Algorithm { .. })));
}

#[test]
fn sidecars_are_read_strictly() {
    let (_keep, root) = empty_root();
    let config = config(&root);
    drop(begin(&root, "a-1").unwrap());
    let archive: AbsPath = "/srv/backups/budget/a.tar".parse().unwrap();
    assert_eq!(read_sidecar(&root, &config, &archive).unwrap(), None);
    let digest = Sha256::of(b"");
    let dir = root.dir(&archive.parent().unwrap()).unwrap();
    let check = |content: &str| {
        fs::replace(&dir, "a.tar.sha256", content.as_bytes(), 0o640).unwrap();
        read_sidecar(&root, &config, &archive)
    };
    assert_eq!(check(&format!("{digest}  a.tar\n")).unwrap(), Some(digest));
    assert_eq!(check(&format!("{digest}  a.tar")).unwrap(), Some(digest));
    for bad in [
        String::new(),
        format!("{digest}\n"),
        format!("{digest} a.tar\n"),
        format!("{digest}  b.tar\n"),
        format!("{digest}  a.tar\n{digest}  b.tar\n"),
        format!("{digest}  a.tar\n\n"),
        format!("{}  a.tar\n", digest.to_string().to_uppercase()),
        format!("\u{feff}{digest}  a.tar\n"),
    ] {
        assert!(matches!(check(&bad), Err(StoreError::Sidecar { .. })), "{bad:?}");
    }
    assert!(matches!(check(&"x".repeat(5000)), Err(StoreError::Fs(_))));
}
