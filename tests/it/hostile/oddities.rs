//! A corpus of odd archives, each met by `plan restore`, `apply` and `backup verify`: refused with its code,
//! or taken harmlessly. What the planner refuses, the step that unpacks refuses too (`archives.rs`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use tar::EntryType;

use crate::support::archive::{MADE, Member, gzip, make, members, register, tar, zstd};
use crate::support::root::LIVE;
use crate::support::tools::{have, skip_unless};
use crate::support::{Ran, TestRoot};

/// A member's header with its body, as no well-behaved program writes it.
fn block(name: &str, kind: u8, mode: u32, size: &[u8; 12], body: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_764_000_000);
    header.as_mut_bytes()[124..136].copy_from_slice(size);
    header.as_mut_bytes()[156] = kind;
    header.set_cksum();
    let mut all = header.as_bytes().to_vec();
    all.extend_from_slice(body);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

fn octal(size: usize) -> [u8; 12] {
    let mut field = [0; 12];
    field[..11].copy_from_slice(format!("{size:011o}").as_bytes());
    field
}

fn file(below: &str, mode: u32, body: &[u8]) -> Vec<u8> {
    block(&format!("{MADE}/{below}"), b'0', mode, &octal(body.len()), body)
}

/// PAX records, and the member that they are for.
fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..rest + 9).find(|length| *length == rest + length.to_string().len()).unwrap();
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    let head = block("PaxHeaders/x", b'x', 0o644, &octal(body.len()), &body);
    [head, file("data/named-by-pax", 0o640, b"x")].concat()
}

/// The harmless members, these blocks, the end.
fn with_blocks(root: &TestRoot, blocks: &[u8]) -> Vec<u8> {
    let mut all = tar(&members(root));
    all.truncate(all.len() - 1024);
    all.extend_from_slice(blocks);
    all.resize(all.len() + 1024, 0);
    all
}

/// Refused when a plan is to be made, and nothing is changed; verifying reads it and comes to an end.
fn refused(root: &TestRoot, what: &str, algorithm: &str, bytes: &[u8], code: &str) {
    register(root, MADE, algorithm, bytes);
    let before = root.tree();
    let ran = root.json(&["plan", "restore", MADE, "-o", "-"]);
    let object = ran.json();
    assert_eq!((ran.code, object["code"].as_str()), (2, Some(code)), "{what}: {object:#}");
    before.assert_same(&root.tree(), what);
    let verified = root.json(&["backup", "verify", MADE]);
    assert!(verified.code < 128, "{what}: {verified:?}");
}

#[test]
fn names_and_headers_that_are_refused() {
    let root = TestRoot::new();
    let long = format!("{MADE}/data/{}", "n".repeat(4096));
    let deep = format!("{MADE}/data/{}x", "d/".repeat(2048));
    let mut negative = [0xff; 12];
    negative[11] = 0;
    let mut huge = [0xff; 12];
    huge[..4].copy_from_slice(&[0x80, 0, 0, 0]);
    let base256 = |field: [u8; 12]| block(&format!("{MADE}/data/odd"), b'0', 0o640, &field, b"");
    for (what, blocks, code) in [
        ("a name of 4,096 bytes", pax(&[("path", long.as_bytes())]), "bad_name"),
        ("a path of 4,096 bytes", pax(&[("path", deep.as_bytes())]), "bad_name"),
        ("a NUL in a name", pax(&[("path", format!("{MADE}/data/a\0b").as_bytes())]), "bad_name"),
        ("an absolute name by PAX", pax(&[("path", b"/etc/evil")]), "bad_name"),
        ("a negative size", base256(negative), "malformed"),
        ("a size of all 64 bits", base256(huge), "malformed"),
        ("a size that is no number", base256(*b"12345678 abc"), "malformed"),
        ("a negative size by PAX", pax(&[("size", b"-1")]), "malformed"),
        ("a huge size by PAX", pax(&[("size", b"9223372036854775807")]), "too_large"),
        ("an old GNU sparse file", block(&format!("{MADE}/data/s"), b'S', 0o640, &octal(0), b""), "sparse"),
        ("a PAX sparse file", pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]), "sparse"),
        ("a volume label", block("label", b'V', 0o640, &octal(0), b""), "unsupported_type"),
        (
            "a continued file",
            block(&format!("{MADE}/data/m"), b'M', 0o640, &octal(0), b""),
            "unsupported_type",
        ),
        ("global PAX records", block("g", b'g', 0o644, &octal(12), b"12 path=abc\n"), "unsupported_type"),
    ] {
        let bytes = with_blocks(&root, &blocks);
        refused(&root, what, "none", &bytes, &format!("abssctl::archive::{code}"));
    }
}

#[test]
fn what_goes_on_after_the_end_is_refused_in_every_form() {
    let root = TestRoot::new();
    let plain = tar(&members(&root));
    let trailing = "abssctl::archive::trailing_data";
    let twice = [&plain[..], &plain[..]].concat();
    refused(&root, "two archives", "none", &twice, trailing);
    refused(&root, "two archives in two frames", "zstd", &[zstd(&plain), zstd(&plain)].concat(), trailing);
    refused(
        &root,
        "two archives in two gzip members",
        "gzip",
        &[gzip(&plain), gzip(&plain)].concat(),
        trailing,
    );
    for (algorithm, packed) in [("none", plain.clone()), ("zstd", zstd(&plain)), ("gzip", gzip(&plain))] {
        let bytes = [&packed[..], b"garbage after the end"].concat();
        refused(&root, &format!("garbage after {algorithm}"), algorithm, &bytes, trailing);
    }
}

#[test]
fn a_window_of_two_gibibytes_is_refused() {
    let root = TestRoot::new();
    // A frame without content size and checksum, its window of 2^31 bytes, and the tar in raw blocks.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3];
    let plain = tar(&members(&root));
    let mut pieces = plain.chunks(1 << 16).peekable();
    while let Some(piece) = pieces.next() {
        let head = (u32::try_from(piece.len()).unwrap() << 3) | u32::from(pieces.peek().is_none());
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.extend_from_slice(piece);
    }
    let mut small = frame.clone();
    small[5] = (20 - 10) << 3;
    register(&root, MADE, "zstd", &small);
    let _ = root.json(&["plan", "restore", MADE, "-o", "-"]).ok();
    refused(&root, "a window of 2 GiB", "zstd", &frame, "abssctl::archive::corrupt");
}

/// Runs it with so much address space and CPU time and no more.
fn confined(root: &TestRoot, args: &[&str]) -> Ran {
    let command = root.command(args);
    let mut limited = Command::new("prlimit");
    limited.args(["--as=1000000000", "--cpu=120"]).arg(command.get_program()).args(command.get_args());
    limited.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    Ran::of(&mut limited)
}

#[test]
fn bombs_are_refused_in_bounded_memory_and_time() {
    let test = "bombs_are_refused_in_bounded_memory_and_time";
    if skip_unless(test, have("prlimit"), "needs prlimit of util-linux") {
        return;
    }
    let root = TestRoot::new();
    let block = vec![0_u8; 16 << 20];
    let large = 4_u64 << 30;
    let mut head = tar(&members(&root));
    head.truncate(head.len() - 1024);
    head.extend(block_of(large));
    for (algorithm, first, piece) in
        [("zstd", zstd(&head), zstd(&block)), ("gzip", gzip(&head), gzip(&block))]
    {
        let mut bytes = first;
        for _ in 0..large >> 24 {
            bytes.extend_from_slice(&piece);
        }
        register(&root, MADE, algorithm, &bytes);
        let before = root.tree();
        for args in [
            &["plan", "restore", MADE, "-o", "-", "--json"][..],
            &["backup", "restore", MADE, "--yes", "--json"],
        ] {
            let _ = confined(&root, args).error(2, "abssctl::archive::too_large", &["bytes"]);
        }
        before.assert_same(&root.tree(), algorithm);
        // Without its end mark it is no archive either; looking for that ends too.
        let _ = confined(&root, &["backup", "verify", MADE, "--json"]).code(3);
    }
}

fn block_of(size: u64) -> Vec<u8> {
    block(&format!("{MADE}/data/bomb"), b'0', 0o640, &octal(usize::try_from(size).unwrap()), b"")
}

#[test]
fn odd_names_and_privileges_are_taken_harmlessly() {
    let root = TestRoot::new();
    let names: [&[u8]; 5] = [b"a\nb", b"invalid-\xff\xfe", b"Twin", b"twin", b"esc\x1b[2J"];
    let mut all = members(&root);
    for name in names {
        let mut member = Member::new("", EntryType::Regular, "", b"odd");
        member.name = [MADE.as_bytes(), b"/data/", name].concat();
        all.push(member);
    }
    make(&root, &all);
    let planned = root.run(&["plan", "restore", MADE, "-o", root.work("plan.yaml").to_str().unwrap()]).ok();
    assert!(!planned.stdout.contains('\u{1b}') && !planned.stderr.contains('\u{1b}'), "{planned:?}");
    let _ = root.restore(&[MADE]);
    for name in names {
        let path = root.path(LIVE).join(OsStr::from_bytes(name));
        assert_eq!(std::fs::read(&path).unwrap(), b"odd", "{}", path.display());
    }
    let bytes =
        with_blocks(&root, &[file("data/suid", 0o6755, b"x"), file("data/sgid", 0o2750, b"x")].concat());
    // In gzip members of some bytes each, which are one stream.
    let members: Vec<u8> = bytes.chunks(7001).flat_map(gzip).collect();
    register(&root, MADE, "gzip", &members);
    let _ = root.restore(&[MADE, "--no-pre-backup"]);
    for (name, mode) in [("suid", 0o755), ("sgid", 0o750)] {
        assert_eq!(root.path(LIVE).join(name).metadata().unwrap().mode() & 0o7777, mode, "{name}");
    }
}
