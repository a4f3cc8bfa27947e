//! Archives that no backup tool writes, one by one, and archives that were cut or grew.

use super::*;

fn block(name: &[u8], flag: u8, link: &[u8], size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let bytes = header.as_mut_bytes();
    bytes[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    bytes[157..157 + link.len()].copy_from_slice(link);
    bytes[156] = flag;
    header.set_mode(0o644);
    header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getegid().as_raw()));
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn with_body(mut block: Vec<u8>, body: &[u8]) -> Vec<u8> {
    block.extend_from_slice(body);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn member(name: &str, flag: u8, link: &str, body: &[u8]) -> Vec<u8> {
    with_body(block(name.as_bytes(), flag, link.as_bytes(), body.len() as u64), body)
}

/// A member below the id.
fn at(rest: &str, flag: u8) -> Vec<u8> {
    member(&format!("{}/{rest}", id()), flag, "", b"")
}

fn link(rest: &str, flag: u8, target: &str) -> Vec<u8> {
    member(&format!("{}/{rest}", id()), flag, target, b"")
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..rest + 9).find(|length| *length == rest + length.to_string().len()).unwrap();
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    member("PaxHeaders/x", b'x', "", &body)
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut all = members.concat();
    all.resize(all.len() + 1024, 0);
    all
}

/// Unpacks beside a witness, and proves that nothing was written outside staging.
fn refused(members: &[Vec<u8>]) -> String {
    let top = TempDir::new().unwrap();
    let staging = top.path().join("staging");
    std::fs::create_dir(&staging).unwrap();
    create(&top.path().join("witness"), b"untouched");
    let result = unpack_to(&staging, &archive(members), Algorithm::None, ROOMY, Owners::Archive);
    let names: Vec<_> =
        std::fs::read_dir(top.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(std::fs::read(top.path().join("witness")).unwrap(), b"untouched");
    let scanned = {
        let bytes = archive(members);
        scan(&bytes[..], &id(), &ROOMY, &Cancel::default(), &mut |_, _| Ok(())).map(|_| ())
    };
    match (result, scanned) {
        (Ok(_), Ok(())) => "accepted".to_owned(),
        (Err(error), Err(scanned)) => {
            assert_eq!(code(&error), code(&scanned), "unpacking and scanning differ");
            code(&error).strip_prefix("abssctl::archive::").unwrap().to_owned()
        }
        (extracted, scanned) => panic!("unpacking and scanning differ: {extracted:?}, {scanned:?}"),
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    let id = id();
    let long = format!("{id}/{}", "a/".repeat(2100));
    for (name, expected) in [
        ("/etc/cron.d/evil".to_owned(), "bad_name"),
        ("../evil".to_owned(), "bad_name"),
        (format!("{id}/../evil"), "bad_name"),
        (format!("{id}/data/../../evil"), "bad_name"),
        (format!("{id}/./data"), "bad_name"),
        (format!("{id}//data"), "bad_name"),
        (String::new(), "bad_name"),
        ("./".to_owned(), "bad_name"),
        (format!("{id}/file/"), "bad_name"),
        (long, "bad_name"),
        ("evil".to_owned(), "foreign_top"),
        (format!("{id}x/evil"), "foreign_top"),
        (format!("./{id}/fine"), "accepted"),
    ] {
        let plain = member(&name, b'0', "", b"x");
        if name.len() <= 100 {
            assert_eq!(refused(&[plain]), expected, "{name:?}");
        }
        if !name.is_empty() {
            let renamed = pax(&[("path", name.as_bytes())]);
            assert_eq!(refused(&[renamed, at("f", b'0')]), expected, "{name:?} by PAX");
            let renamed = member("././@LongLink", b'L', "", format!("{name}\0").as_bytes());
            assert_eq!(refused(&[renamed, at("f", b'0')]), expected, "{name:?} by GNU long name");
        }
    }
    let nul = format!("{id}/a\0b");
    assert_eq!(refused(&[pax(&[("path", nul.as_bytes())]), at("f", b'0')]), "bad_name");
    assert_eq!(refused(&[member(id.as_str(), b'0', "", b"")]), "bad_name", "the top as a file");
}

#[test]
fn names_must_be_unique_and_below_directories() {
    assert_eq!(refused(&[at("data/f", b'0'), at("data/f", b'0')]), "duplicate");
    assert_eq!(refused(&[at("data/", b'5'), at("data", b'5')]), "duplicate");
    assert_eq!(refused(&[at("", b'5'), at("", b'5')]), "duplicate");
    assert_eq!(refused(&[at("data/f", b'0'), at("data", b'0')]), "duplicate", "a file where a directory is");
    assert_eq!(refused(&[at("data/f", b'0'), at("data", b'5')]), "accepted", "a directory named late");
    assert_eq!(refused(&[at("data/f", b'0'), at("data/f/g", b'0')]), "below_non_directory");
    let through = [link("data/link", b'2', "."), at("data/link/f", b'0')];
    assert_eq!(refused(&through), "below_non_directory");
    let deep = [link("data/link", b'2', "."), at("data/link/a/b/f", b'0')];
    assert_eq!(refused(&deep), "below_non_directory");
    let replaced = [link("data/link", b'2', "."), at("data/link", b'5'), at("data/link/f", b'0')];
    assert_eq!(refused(&replaced), "duplicate");
}

#[test]
fn links_that_lead_out_are_refused() {
    for (place, target, expected) in [
        ("data/link", "/etc", "escaping_link"),
        ("data/link", "../metadata", "escaping_link"),
        ("data/a/link", "../../../x", "escaping_link"),
        ("data", "elsewhere", "escaping_link"),
        ("nginx/link", "x", "escaping_link"),
        ("data/link", "", "malformed"),
        ("data/a/link", "../b", "accepted"),
        ("data/link", "nowhere", "accepted"),
    ] {
        assert_eq!(refused(&[link(place, b'2', target)]), expected, "{place} to {target}");
    }
    let nul = [pax(&[("linkpath", b"a\0b")]), link("data/link", b'2', "x")];
    assert_eq!(refused(&nul), "malformed");
}

#[test]
fn hard_links_need_an_earlier_file_of_the_archive() {
    let id = id();
    let hard = |target: &str| link("data/hard", b'1', target);
    let file = at("data/f", b'0');
    let f = format!("{id}/data/f");
    assert_eq!(refused(&[file.clone(), hard(&f)]), "accepted");
    assert_eq!(refused(&[hard(&f), file.clone()]), "bad_hard_link", "a later file");
    for target in
        ["/etc/shadow", "../witness", "data/f", &format!("{id}/../witness"), &format!("{id}/data"), ""]
    {
        assert_eq!(refused(&[file.clone(), hard(target)]), "bad_hard_link", "{target}");
    }
    let through = [link("data/l", b'2', "/etc/passwd"), hard(&format!("{id}/data/l"))];
    assert_eq!(refused(&through), "escaping_link");
    let to_link = [link("data/l", b'2', "f"), hard(&format!("{id}/data/l"))];
    assert_eq!(refused(&to_link), "bad_hard_link");
}

#[test]
fn types_that_no_backup_holds_are_refused() {
    for flag in *b"346" {
        assert_eq!(refused(&[at("data/x", flag)]), "unsupported_type");
    }
    for flag in *b"7gVMDNXZ~\xff" {
        assert_eq!(refused(&[at("data/x", flag)]), "unsupported_type", "{flag}");
    }
    assert_eq!(refused(&[at("data/x", b'S')]), "sparse");
    assert_eq!(refused(&[pax(&[("GNU.sparse.major", b"1")]), at("data/x", b'0')]), "sparse");
}

#[test]
fn malformed_headers_are_refused() {
    let mut wrong = at("data/x", b'0');
    wrong[20] ^= 1;
    assert_eq!(refused(&[wrong]), "malformed");
    for (key, value) in [
        ("size", &b"-1"[..]),
        ("size", b"+1"),
        ("size", b""),
        ("uid", b"4294967295"),
        ("uid", b"99999999999"),
        ("gid", b"x"),
        ("mtime", b"soon"),
        ("mtime", b"\xff"),
    ] {
        assert_eq!(refused(&[pax(&[(key, value)]), at("data/x", b'0')]), "malformed", "{key}");
    }
    let twice = [pax(&[("mtime", b"1")]), pax(&[("mtime", b"2")]), at("data/x", b'0')];
    assert_eq!(refused(&twice), "malformed");
    assert_eq!(refused(&[member("x", b'x', "", b"99 path=x\n"), at("data/x", b'0')]), "malformed");
    let body = with_body(block(format!("{}/d", id()).as_bytes(), b'5', b"", 3), b"abc");
    assert_eq!(refused(&[body]), "malformed", "a directory with a body");
    let huge = block(b"././@LongLink", b'L', b"", 1 << 33);
    assert_eq!(refused(&[huge]), "malformed", "a long name of 8 GiB");
    assert_eq!(refused(&[pax(&[("mtime", b"1")])]), "truncated", "an extended header without a member");
}

#[test]
fn a_directory_is_closed_only_when_all_below_it_is_done() {
    if is_root() {
        skipped("no directory is closed to root");
        return;
    }
    let closed = |rest: &str| {
        let mut block = at(rest, b'5');
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&block[..512]);
        header.set_mode(0);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        block
    };
    let staging = TempDir::new().unwrap();
    let bytes = archive(&[closed("data/"), closed("data/a/"), at("data/a/f", b'0'), closed("data/b/")]);
    unpack_to(staging.path(), &bytes, Algorithm::None, ROOMY, Owners::Archive).unwrap();
    let data = staging.path().join("data");
    assert_eq!(data.metadata().unwrap().mode() & 0o7777, 0);
    std::fs::set_permissions(data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let top = TempDir::new().unwrap();
    let limits = Limits { bytes: 1000, entries: 3 };
    let refused = |bytes: &[u8], algorithm| {
        let error = unpack_to(top.path(), bytes, algorithm, limits, Owners::Archive).unwrap_err();
        assert_eq!(code(&error), "abssctl::archive::too_large", "{error}");
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    };
    // A header that promises 4 PiB, with nothing behind it.
    refused(&block(format!("{}/f", id()).as_bytes(), b'0', b"", 1 << 52), Algorithm::None);
    // 64 MiB of zeros in some kilobytes.
    let zeros = vec![0; 64 * 1024 * 1024];
    let name = format!("{}/f", id());
    let bomb = zstd::encode_all(&archive(&[member(&name, b'0', "", &zeros)])[..], 3).unwrap();
    assert!(bomb.len() < 100_000);
    refused(&bomb, Algorithm::Zstd);
    // Two that are small alone.
    let halves =
        [member(&name, b'0', "", &[1; 600]), at("g", b'5'), member(&format!("{name}2"), b'0', "", &[1; 600])];
    let error =
        unpack_to(top.path(), &archive(&halves), Algorithm::None, limits, Owners::Archive).unwrap_err();
    assert_eq!(code(&error), "abssctl::archive::too_large");
    let many: Vec<_> = (0..4).map(|index| at(&format!("d{index}"), b'5')).collect();
    let staging = TempDir::new().unwrap();
    let error =
        unpack_to(staging.path(), &archive(&many), Algorithm::None, limits, Owners::Archive).unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge { what: "entries", limit: 3 }), "{error}");
    // Endless zeros after the end mark.
    let mut long = archive(&[at("data/", b'5')]);
    long.resize(long.len() + 2 * 1024 * 1024, 0);
    assert_eq!(code(&unpack(&long, Algorithm::None).unwrap_err()), "abssctl::archive::trailing_data");
}

/// A tree that packs into some ten kilobytes in every form.
fn packed(algorithm: Algorithm) -> Vec<u8> {
    let live = TempDir::new().unwrap();
    create(&live.path().join("a"), &noise(9000, 5));
    create(&live.path().join("b"), &noise(9000, 6));
    pack(live.path(), algorithm).0
}

#[test]
fn a_cut_archive_is_refused_wherever_it_is_cut() {
    for algorithm in [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None] {
        let bytes = packed(algorithm);
        let near_the_end = bytes.len().saturating_sub(1100)..bytes.len();
        // Without its seek table a zstd archive is complete; that file is told by its digest alone.
        let table = bytes.len() - (8 + 8 + 9);
        for length in (0..bytes.len()).step_by(1024).chain(near_the_end) {
            let tar = || decoder(algorithm, &bytes[..length]).unwrap();
            let scanned = scan(tar(), &id(), &ROOMY, &Cancel::default(), &mut |_, _| Ok(()));
            if algorithm == Algorithm::Zstd && length == table {
                scanned.unwrap();
                continue;
            }
            let scanned = scanned.expect_err(&format!("{algorithm} cut at {length}"));
            assert_eq!(
                code(&scanned),
                "abssctl::archive::truncated",
                "{algorithm} cut at {length}: {scanned}"
            );
            if length % 1024 == 0 {
                let error = unpack(&bytes[..length], algorithm).unwrap_err();
                assert_eq!(
                    code(&error),
                    "abssctl::archive::truncated",
                    "{algorithm} cut at {length}: {error}"
                );
            }
        }
    }
}

#[test]
fn an_archive_that_goes_on_is_refused() {
    for algorithm in [Algorithm::Zstd, Algorithm::Gzip, Algorithm::None] {
        let mut bytes = packed(algorithm);
        bytes.extend_from_slice(&noise(700, 7));
        let error = unpack(&bytes, algorithm).unwrap_err();
        assert_eq!(code(&error), "abssctl::archive::trailing_data", "{algorithm}: {error}");
    }
    // A second archive inside the stream.
    let tar = packed(Algorithm::None);
    let two = [&tar[..], &tar[..]].concat();
    assert_eq!(code(&unpack(&two, Algorithm::None).unwrap_err()), "abssctl::archive::trailing_data");
    let error = unpack(&packed(Algorithm::Gzip), Algorithm::Zstd).unwrap_err();
    assert_eq!(code(&error), "abssctl::archive::corrupt", "{error}");
    let error = unpack(&packed(Algorithm::Zstd), Algorithm::Gzip).unwrap_err();
    assert_eq!(code(&error), "abssctl::archive::corrupt", "{error}");
}

#[test]
fn a_manifest_must_be_first_and_valid() {
    let late = [at("data/f", b'0'), member(&format!("{}/metadata/manifest.json", id()), b'0', "", b"{}")];
    assert_eq!(refused(&late), "bad_manifest");
    let invalid = [member(&format!("{}/metadata/manifest.json", id()), b'0', "", b"{\"formatVersion\": 1}")];
    assert_eq!(refused(&invalid), "bad_manifest");
    assert_eq!(refused(&[link("metadata/manifest.json", b'2', "x")]), "escaping_link");
}

type Edit<'a> = &'a dyn Fn(&mut Extracted);

#[test]
fn a_difference_from_the_manifest_is_found() {
    let live = TempDir::new().unwrap();
    create(&live.path().join("file"), b"content");
    std::os::unix::fs::symlink("file", live.path().join("link")).unwrap();
    let (bytes, _) = pack(live.path(), Algorithm::None);
    let (_staging, good) = unpack(&bytes, Algorithm::None).unwrap();
    let manifest = good.manifest.clone().unwrap();
    manifest.verify(&good).unwrap();
    let index = |name: &str| good.entries.iter().position(|entry| entry.path == Path::new(name)).unwrap();
    let (file, link) = (index("data/file"), index("data/link"));
    let edits: [(&str, Edit<'_>); 6] = [
        ("missing", &|it| drop(it.entries.remove(file))),
        ("not listed", &|it| {
            let entry = ExtractedEntry { path: "data/new".into(), ..it.entries[file].clone() };
            it.entries.push(entry);
        }),
        ("another type", &|it| it.entries[file].kind = EntryKind::Directory),
        ("another size", &|it| it.entries[file].size += 1),
        ("another digest", &|it| it.entries[file].sha256 = Some(Sha256::of(b"other"))),
        ("something else", &|it| it.entries[link].target = Some("other".into())),
    ];
    for (why, edit) in edits {
        let mut other = good.clone();
        edit(&mut other);
        let error = manifest.verify(&other).unwrap_err();
        assert_eq!(code(&error), "abssctl::archive::manifest_mismatch");
        assert!(error.to_string().contains(why), "{error}");
    }
    // The archive itself: one byte of a body, which no tar header covers.
    let at = bytes.windows(7).rposition(|window| window == b"content").unwrap();
    let mut flipped = bytes;
    flipped[at] ^= 1;
    let (_staging, extracted) = unpack(&flipped, Algorithm::None).unwrap();
    assert!(manifest.verify(&extracted).is_err());
}

#[test]
fn nobody_writes_into_a_tree_any_more_once_unpacking_it_has_failed() {
    let mut members: Vec<_> =
        (0..800).map(|n| member(&format!("{}/data/{n}", id()), b'0', "", &vec![7; n * 40])).collect();
    members.push(at("../outside", b'0'));
    let bytes = archive(&members);
    for _ in 0..20 {
        let staging = TempDir::new().unwrap();
        let failed = unpack_to(staging.path(), &bytes, Algorithm::None, ROOMY, Owners::Archive).unwrap_err();
        assert_eq!(code(&failed), "abssctl::archive::bad_name");
        let files = std::fs::read_dir(staging.path().join("data")).unwrap().count();
        assert_eq!(files, 800, "what came before is there: it was waited for");
    }
}
