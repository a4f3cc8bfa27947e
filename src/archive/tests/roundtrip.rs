//! What goes in comes out, and GNU tar, zstd and gzip agree.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid, XattrFlags};

use super::*;

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A tree with one of everything. The special file modes are left to a test of their own.
pub(super) fn rich_tree() -> TempDir {
    let temp = TempDir::new().unwrap();
    let at = |name: &str| temp.path().join(name);
    for name in ["data", "data/empty", "data/sub", "data/sub/deeper", "data-x", "sticky", ".abssctl"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    create(&at(".abssctl/left-out"), b"x");
    create(&at("data/config.json"), b"{}");
    create(&at("data/zero"), b"");
    create(&at("data/block"), &noise(512, 1));
    create(&at("data/large"), &noise(3 * 1024 * 1024 + 17, 2));
    create(&at("data-x/file"), b"sorted between");
    create(&at(&format!("data/sub/{}", "l".repeat(250))), b"long name");
    create(&at("data/with space \u{e9}\n\"quoted\""), b"odd");
    create(&temp.path().join(OsStr::from_bytes(b"data/bad\xff\xfe")), b"not UTF-8");
    let mut long = b"data/".to_vec();
    long.extend([0xff; 200]);
    create(&temp.path().join(OsStr::from_bytes(&long)), b"long and not UTF-8");
    std::fs::hard_link(at("data/config.json"), at("data/aaa-hard")).unwrap();
    std::fs::hard_link(at("data/config.json"), at("data/zzz-hard")).unwrap();
    // Met earlier by name, but in a later directory.
    std::fs::hard_link(at("data/sub").join("l".repeat(250)), at("data/before-sub")).unwrap();
    symlink("config.json", at("data/link")).unwrap();
    symlink("nowhere/at/all", at("data/dangling")).unwrap();
    symlink("/etc/passwd", at("data/absolute")).unwrap();
    symlink("../../../outside", at("data/escaping")).unwrap();
    symlink("t".repeat(180), at("data/long-target")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\xfe"), at("data/odd-target")).unwrap();
    rusqlite::Connection::open(at("data/account.sqlite"))
        .unwrap()
        .execute_batch("CREATE TABLE users (id TEXT); INSERT INTO users VALUES ('a'), ('b')")
        .unwrap();
    for (name, mode) in [("data/config.json", 0o640), ("data/zero", 0o400), ("data/block", 0o777)] {
        std::fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    std::fs::set_permissions(at("sticky"), Permissions::from_mode(0o3770)).unwrap();
    for (name, value) in [("user.note", &b"\x00bytes\xff"[..]), ("user.eq=%25", b""), ("user.big", &[7; 900])]
    {
        rustix::fs::setxattr(at("data/large"), name, value, XattrFlags::empty()).unwrap();
    }
    rustix::fs::setxattr(at("data/sub"), "user.dir", b"d", XattrFlags::empty()).unwrap();
    if is_root() {
        let owned = [("data/config.json", 12345, 54321), ("data/block", 3_000_000_000, 4_000_000_000)];
        for (name, uid, gid) in owned.into_iter().chain([("data/link", 12345, 1), ("data/sub", 12345, 54321)])
        {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            rustix::fs::chownat(CWD, at(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        std::fs::set_permissions(at("data/config.json"), Permissions::from_mode(0o640)).unwrap();
    } else {
        skipped("foreign owners need root");
    }
    set_time(&at("data/zero"), -2, 500_000_000);
    set_time(&at("data/link"), 1_000_000_000, 123_456_789);
    set_time(&at("data/sub/deeper"), 1_700_000_000, 1);
    set_time(&at("data/sub"), 1_700_000_001, 999_999_999);
    temp
}

/// What the tree looks like without what is left out of a backup.
fn expected(live: &Path) -> BTreeMap<String, String> {
    let mut tree = describe(live);
    tree.retain(|path, _| !path.starts_with(".abssctl"));
    tree
}

#[test]
fn everything_comes_back() {
    let live = rich_tree();
    for algorithm in [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None] {
        let (bytes, written) = pack(live.path(), algorithm);
        assert_eq!((written.size_bytes, written.sha256), (bytes.len() as u64, Sha256::of(&bytes)));
        let (staging, extracted) = unpack(&bytes, algorithm).unwrap();
        assert_eq!(describe(&staging.path().join("data")), expected(live.path()), "{algorithm}");
        let manifest = extracted.manifest.as_ref().unwrap();
        manifest.verify(&extracted).unwrap();
        assert_eq!(manifest.entries.len() as u64, written.entries);
        assert_eq!(manifest.payload_bytes, written.payload_bytes);
        let database = manifest.entry(Path::new("data/data/account.sqlite")).unwrap();
        assert_eq!(database.sqlite.as_ref().unwrap().tables["users"], 2);
        assert_eq!(
            std::fs::read(staging.path().join("nginx/abssctl-budget.conf")).unwrap(),
            b"content of nginx/abssctl-budget.conf\n"
        );
        assert_eq!(pack(live.path(), algorithm).0, bytes, "the same tree gives the same bytes");
    }
}

#[test]
fn no_rights_come_out_of_an_archive() {
    let live = TempDir::new().unwrap();
    let file = live.path().join("program");
    create(&file, b"#!");
    let set = |name: &str, value: &[u8]| rustix::fs::setxattr(&file, name, value, XattrFlags::empty());
    set("user.note", b"kept").unwrap();
    // Owner, user 4711, group, mask, others.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 4711), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let mut kept = vec!["user.note"];
    if set("system.posix_acl_access", &acl).is_ok() {
        kept.insert(0, "system.posix_acl_access");
    } else {
        skipped("this file system has no access lists");
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let dangerous =
        ["security.capability", "trusted.mark"].map(|name| (name, set(name, &capability).is_ok()));
    if !dangerous[0].1 {
        return skipped("security.capability needs root");
    }
    let (bytes, _) = pack(live.path(), Algorithm::Zstd);
    let (staging, extracted) = unpack(&bytes, Algorithm::Zstd).unwrap();
    let manifest = extracted.manifest.unwrap();
    let listed = &manifest.entry(Path::new("data/program")).unwrap().xattrs;
    for (name, there) in dangerous {
        assert_eq!(listed.contains_key(name), there, "the archive keeps all: {name}");
    }
    let found = xattrs(&staging.path().join("data/program"));
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), kept);
}

#[test]
fn gnu_tar_and_zstd_agree() {
    let live = rich_tree();
    let out = TempDir::new().unwrap();
    for (algorithm, test, unpack) in [
        (Algorithm::Zstd, Some("zstd"), "--zstd"),
        (Algorithm::Gzip, Some("gzip"), "--gzip"),
        (Algorithm::None, None, "--no-ignore-case"),
    ] {
        let (bytes, written) = pack(live.path(), algorithm);
        let name = format!("a.{}", algorithm.extension());
        let file = out.path().join(&name);
        create(&file, &bytes);
        create(
            &out.path().join(format!("{name}.sha256")),
            format!("{}  {name}\n", written.sha256).as_bytes(),
        );
        run(Command::new("sha256sum").arg("-c").arg(format!("{name}.sha256")).current_dir(out.path()));
        if let Some(program) = test {
            run(Command::new(program).arg("-t").arg(&file));
        }
        let to = out.path().join(algorithm.as_str());
        std::fs::create_dir(&to).unwrap();
        // Without `--xattrs` GNU tar restores none; with it and a pattern, all.
        let mut tar = Command::new("tar");
        tar.arg(unpack).args(["--xattrs", "--xattrs-include=*", "-xpf"]).arg(&file).arg("-C").arg(&to);
        if !is_root() {
            tar.arg("--no-same-owner");
        }
        let output = tar.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let got = describe(&to.join(id().as_str()).join("data"));
        assert_eq!(got, expected(live.path()), "{algorithm}: {said}");
    }
}

#[test]
fn the_manifest_is_the_first_file_and_is_read_alone() {
    let live = rich_tree();
    let (bytes, _) = pack(live.path(), Algorithm::Zstd);
    let counted = Cell::new(0);
    let input = std::io::BufReader::with_capacity(4096, Counting(&bytes[..], &counted));
    let manifest = read_manifest(decoder(Algorithm::Zstd, input).unwrap(), &id(), &ROOMY).unwrap().unwrap();
    assert!(manifest.entry(Path::new("data/data/large")).is_some());
    assert!(counted.get() < bytes.len() / 2, "{} of {} bytes were read", counted.get(), bytes.len());
    let other: BackupId = "other".parse().unwrap();
    let foreign = read_manifest(decoder(Algorithm::Zstd, &bytes[..]).unwrap(), &other, &ROOMY).unwrap_err();
    assert_eq!(code(&foreign), "abssctl::archive::foreign_top");
}

struct Counting<'a, R>(R, &'a Cell<usize>);

impl<R: std::io::Read> std::io::Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.set(self.1.get() + length);
        Ok(length)
    }
}

#[test]
fn a_scan_shows_every_member_and_reads_to_the_end() {
    let live = rich_tree();
    for algorithm in [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None] {
        let (bytes, written) = pack(live.path(), algorithm);
        let counted = Cell::new(0);
        let mut files = BTreeMap::new();
        let tar = decoder(algorithm, Counting(&bytes[..], &counted)).unwrap();
        let totals = scan(tar, &id(), &ROOMY, &Cancel::default(), &mut |member, body| {
            // Every second body is left unread.
            if member.kind == EntryKind::File && files.len() % 2 == 0 {
                let mut content = Vec::new();
                body.read_to_end(&mut content)?;
                assert_eq!(content.len() as u64, member.size);
                files.insert(member.path.clone(), Some(Sha256::of(&content)));
            } else if member.kind == EntryKind::File {
                files.insert(member.path.clone(), None);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(counted.get(), bytes.len(), "{algorithm}");
        assert_eq!(totals.entries, written.entries + 1);
        let manifest =
            read_manifest(decoder(algorithm, &bytes[..]).unwrap(), &id(), &ROOMY).unwrap().unwrap();
        for (path, sha256) in files.iter().filter(|(path, _)| !path.ends_with("manifest.json")) {
            let entry = manifest.entry(path).unwrap();
            assert!(sha256.is_none() || *sha256 == entry.sha256, "{}", path.display());
        }
    }
}

#[test]
fn special_bits_of_files_are_dropped_and_those_of_directories_kept() {
    let live = TempDir::new().unwrap();
    create(&live.path().join("f"), b"x");
    std::fs::create_dir(live.path().join("d")).unwrap();
    std::fs::set_permissions(live.path().join("f"), Permissions::from_mode(0o6755)).unwrap();
    std::fs::set_permissions(live.path().join("d"), Permissions::from_mode(0o3750)).unwrap();
    let (bytes, _) = pack(live.path(), Algorithm::None);
    let (staging, extracted) = unpack(&bytes, Algorithm::None).unwrap();
    let mode = |name: &str| staging.path().join("data").join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("f"), mode("d")), (0o755, 0o3750));
    let manifest = extracted.manifest.unwrap();
    assert_eq!(manifest.entry(Path::new("data/f")).unwrap().mode, 0o6755);
}

#[test]
fn owners_can_be_resolved_instead() {
    if !is_root() {
        skipped("setting owners needs root");
        return;
    }
    let live = rich_tree();
    let (bytes, _) = pack(live.path(), Algorithm::Zstd);
    let staging = TempDir::new().unwrap();
    let resolve = |path: &Path| if path.starts_with("data/data/sub") { (77, 88) } else { (99, 11) };
    unpack_to(staging.path(), &bytes, Algorithm::Zstd, ROOMY, Owners::Resolve(&resolve)).unwrap();
    let owner = |name: &str| {
        let meta = staging.path().join(name).symlink_metadata().unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!(owner("data/data/sub/deeper"), (77, 88));
    for name in ["data", "data/data/link", "data/data/block", "metadata", "nginx/abssctl-budget.conf"] {
        assert_eq!(owner(name), (99, 11), "{name}");
    }
}

#[test]
fn a_file_that_changes_between_the_passes_is_an_error() {
    let rewrite = |path: &Path| {
        let meta = path.metadata().unwrap();
        std::fs::remove_file(path).unwrap();
        create(path, b"other");
        // Same size and time: only the digest tells.
        set_time(path, meta.mtime(), meta.mtime_nsec());
    };
    let changes: [&dyn Fn(&Path); 5] = [
        &rewrite,
        &|path| std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap(),
        &|path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(2).unwrap(),
        &|path| std::fs::remove_file(path).unwrap(),
        &|path| set_time(path, 1, 1),
    ];
    for (index, change) in changes.iter().enumerate() {
        let live = TempDir::new().unwrap();
        create(&live.path().join("a"), b"first");
        create(&live.path().join("b"), b"later");
        let once = RefCell::new(false);
        let error = try_pack(live.path(), Algorithm::Zstd, &|_| {
            if !once.replace(true) {
                change(&live.path().join("b"));
            }
        })
        .unwrap_err();
        assert_eq!(code(&error), "abssctl::archive::file_changed", "{index}: {error}");
        assert!(error.to_string().contains("data/b"), "{error}");
    }
}

#[test]
fn a_deep_tree_needs_no_deep_stack() {
    const DEPTH: u64 = 1800;
    let live = TempDir::new().unwrap();
    let mut deepest = dir(live.path());
    for _ in 0..DEPTH {
        deepest.create_dir("a").unwrap();
        deepest = deepest.open_dir("a").unwrap();
    }
    deepest.write("file", b"text").unwrap();
    let packing = || pack(live.path(), Algorithm::None).1;
    let written = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(512 << 10);
        thread.spawn_scoped(scope, packing).unwrap().join().unwrap()
    });
    assert!(written.entries > DEPTH, "{written:?}");
    run(Command::new("rm").arg("-rf").arg(live.path().join("a")));
}

#[test]
fn fifos_and_sockets_are_named() {
    let live = TempDir::new().unwrap();
    run(Command::new("mkfifo").arg(live.path().join("pipe")));
    let error = try_pack(live.path(), Algorithm::None, &|_| ()).unwrap_err();
    assert_eq!(code(&error), "abssctl::archive::unsupported_file");
    assert_eq!(error.to_string(), "data/pipe is a FIFO, which cannot be backed up");
    std::fs::remove_file(live.path().join("pipe")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(live.path().join("socket")).unwrap();
    let error = try_pack(live.path(), Algorithm::None, &|_| ()).unwrap_err();
    assert!(error.to_string().contains("data/socket is a socket"), "{error}");
}

#[test]
fn databases_are_taken_as_one_state_and_journals_are_left_out() {
    for (name, sub, digests) in [
        ("hot-journal.tar.gz", ".", "hot-journal-rolled-back.sha256"),
        ("budget-root.tar.gz", "srv/budget", "gen-b.sha256"),
    ] {
        let temp = fixture(name);
        let live = temp.path().join(sub);
        let before = describe(&live);
        let (bytes, _) = pack(&live, Algorithm::Zstd);
        assert_eq!(describe(&live), before, "{name}");
        let (staging, _) = unpack(&bytes, Algorithm::Zstd).unwrap();
        let sums = sums(digests);
        for (sha256, path) in &sums {
            let got = Sha256::of(&std::fs::read(staging.path().join("data").join(path)).unwrap());
            assert_eq!(got, *sha256, "{path}");
        }
        let files = describe(&staging.path().join("data"));
        assert_eq!(files.values().filter(|text| text.starts_with("100")).count(), sums.len());
    }
}

#[test]
fn a_damaged_database_does_not_prevent_a_backup() {
    let live = TempDir::new().unwrap();
    let mut bytes = b"SQLite format 3\0".to_vec();
    bytes.extend(noise(5000, 3));
    create(&live.path().join("x.sqlite"), &bytes);
    create(&live.path().join("x.sqlite-journal"), b"journal");
    let (archive, _) = pack(live.path(), Algorithm::Zstd);
    let (staging, extracted) = unpack(&archive, Algorithm::Zstd).unwrap();
    assert_eq!(describe(&staging.path().join("data")), describe(live.path()));
    assert!(extracted.manifest.unwrap().entry(Path::new("data/x.sqlite")).unwrap().sqlite.is_none());
}

#[test]
fn a_stop_is_heard_while_packing_and_unpacking() {
    let live = rich_tree();
    let (bytes, _) = pack(live.path(), Algorithm::Zstd);
    let cancel = Cancel::default();
    let staging = TempDir::new().unwrap();
    let options = ExtractOptions { limits: ROOMY, owners: Owners::Archive, base: None, proof: None };
    let tar = decoder(Algorithm::Zstd, &bytes[..]).unwrap();
    let stopped = extract(tar, &id(), &dir(staging.path()), &options, &cancel, &|_| cancel.request());
    assert!(matches!(stopped, Err(ArchiveError::Cancelled(_))));
    let tar = decoder(Algorithm::Zstd, &bytes[..]).unwrap();
    let stopped = scan(tar, &id(), &ROOMY, &cancel, &mut |_, _| Ok(()));
    assert!(matches!(stopped, Err(ArchiveError::Cancelled(_))));
}

#[test]
fn levels_out_of_range_are_refused_at_once() {
    for (algorithm, level, good) in [
        (Algorithm::Zstd, 0, false),
        (Algorithm::Zstd, 23, false),
        (Algorithm::Zstd, 19, true),
        (Algorithm::Gzip, 10, false),
        (Algorithm::Gzip, 9, true),
        (Algorithm::None, 5, true),
    ] {
        let made = encode::Encoder::new(algorithm, Some(level), Vec::new());
        assert_eq!(made.is_ok(), good, "{algorithm} {level}");
    }
}

#[test]
fn the_seek_table_lists_the_frames() {
    let live = TempDir::new().unwrap();
    create(&live.path().join("large"), &noise(2_500_000, 9));
    let (bytes, _) = pack(live.path(), Algorithm::Zstd);
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(number(bytes.len() - 4), 0x8F92_EAB1);
    let frames = number(bytes.len() - 9);
    assert_eq!(frames, 3);
    let table = bytes.len() - 9 - 8 * frames;
    assert_eq!((number(table - 8), number(table - 4)), (0x184D_2A5E, 8 * frames + 9));
    let mut start = 0;
    let mut plain = Vec::new();
    for frame in 0..frames {
        let (length, size) = (number(table + 8 * frame), number(table + 8 * frame + 4));
        let part = zstd::bulk::decompress(&bytes[start..start + length], size).unwrap();
        assert_eq!(part.len(), size, "each frame stands alone");
        plain.extend(part);
        start += length;
    }
    assert_eq!(start, table - 8);
    let mut whole = Vec::new();
    decoder(Algorithm::Zstd, &bytes[..]).unwrap().read_to_end(&mut whole).unwrap();
    assert_eq!(whole, plain);
}

#[test]
fn files_of_the_last_tick_count_as_changed() {
    let live = TempDir::new().unwrap();
    create(&live.path().join("a"), b"one");
    create(&live.path().join("b"), b"two");
    create(&live.path().join("c"), b"three");
    let (bytes, _) = pack(live.path(), Algorithm::Zstd);
    let (staging, mut extracted) = unpack(&bytes, Algorithm::Zstd).unwrap();
    for entry in &extracted.entries {
        let meta = staging.path().join(&entry.path).symlink_metadata().unwrap();
        let stamp = (entry.kind == EntryKind::File).then(|| Stamp::of(&meta));
        assert_eq!(entry.stamp, stamp, "{:?}", entry.path);
    }
    for entry in extracted.entries.iter_mut().filter(|entry| entry.stamp.is_some()) {
        let at = if entry.path.ends_with("a") { 1 } else { 2 };
        entry.stamp = Some(Stamp { inode: 5, changed: at });
    }
    let settled = extracted.settled(Path::new("data"));
    let found = [(5, 1), (5, 2), (6, 1)].map(|(inode, changed)| settled.get(Stamp { inode, changed }));
    assert_eq!(found, [Some(Sha256::of(b"one")), None, None]);
    assert_eq!(extracted.settled(Path::new("metadata")).get(Stamp { inode: 5, changed: 1 }), None);
}
