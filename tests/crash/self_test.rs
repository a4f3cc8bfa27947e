//! The tracer does what it says: a harness that silently did nothing would find nothing.

use std::process::Command;

use nix::errno::Errno;
use tempfile::TempDir;

use crate::calls::Kind;
use crate::kill::skip;
use crate::tracer::{Act, Tracer};

/// `mkdir` of one directory, and where that is.
fn making() -> (TempDir, Command) {
    let own = TempDir::new().unwrap();
    let mut command = Command::new("/bin/mkdir");
    command.arg(own.path().join("made"));
    (own, command)
}

#[test]
fn a_call_happens_fails_is_skipped_or_kills() {
    if skip("a_call_happens_fails_is_skipped_or_kills") {
        return;
    }
    for (act, code, made) in [
        (Act::Go, 0, true),
        (Act::Fail(Errno::EDQUOT), 1, false),
        (Act::Skip, 0, false),
        (Act::Kill, 137, false),
    ] {
        let (own, command) = making();
        let traced = Tracer::new(&command).at(1, act);
        assert_eq!(traced.ran.code, code, "{act:?}: {}", traced.ran.stderr);
        assert_eq!(own.path().join("made").exists(), made, "{act:?}");
        assert_eq!(traced.mutating(), 1, "{act:?}: {:?}", traced.calls);
        let call = &traced.calls[0];
        assert_eq!((call.kind, call.paths[0].as_path()), (Kind::Create, own.path().join("made").as_path()));
        assert_eq!(call.injected, act == Act::Skip || act == Act::Fail(Errno::EDQUOT), "{act:?}");
        assert_eq!(traced.at.is_some(), act != Act::Go);
        assert_eq!(traced.ran.stderr.contains("quota exceeded"), act == Act::Fail(Errno::EDQUOT));
    }
}

#[test]
fn what_is_written_where_is_known_also_of_children() {
    if skip("what_is_written_where_is_known_also_of_children") {
        return;
    }
    let own = TempDir::new().unwrap();
    let file = own.path().join("file");
    let mut command = Command::new("/bin/sh");
    let script = "printf one > \"$0\"; (printf 'two' >> \"$0\"); echo three; cat \"$0\" >/dev/null";
    command.args(["-c", script]).arg(&file);
    let traced = Tracer::new(&command).with_data().with_reads().watch();
    assert_eq!((traced.ran.code, traced.ran.stdout.as_str()), (0, "three\n"));
    let of_file =
        |kind: Kind| traced.calls.iter().filter(|call| call.kind == kind && call.paths[0] == file).collect();
    let opened: Vec<_> = of_file(Kind::Create);
    assert_eq!(opened.len(), 2, "{:#?}", traced.calls);
    let read: Vec<_> = of_file(Kind::Read);
    assert!(read.iter().any(|call| call.result == Some(6)), "{:#?}", traced.calls);
    assert!(read.iter().all(|call| call.number == 0 && call.thread != opened[0].thread && call.args[2] > 6));
}

#[test]
fn bytes_and_places_of_writes_are_known() {
    if skip("bytes_and_places_of_writes_are_known") {
        return;
    }
    let own = TempDir::new().unwrap();
    let file = own.path().join("file");
    std::fs::write(&file, "0123456789").unwrap();
    let script = "import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
os.write(fd, b'ab'); os.pwrite(fd, b'cd', 7); os.write(fd, b'ef'); os.ftruncate(fd, 9); os.fsync(fd)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND); os.write(fd, b'gh')";
    let mut command = Command::new("python3");
    command.args(["-B", "-c", script]).arg(&file).env("PATH", "/usr/bin:/bin");
    let traced = Tracer::new(&command).with_data().watch();
    assert_eq!(traced.ran.code, 0, "{}", traced.ran.stderr);
    let calls = traced.calls.iter().filter(|call| call.number > 0 && call.paths[0] == file);
    let seen: Vec<_> = calls.map(|call| (call.name, call.offset, call.data.as_slice())).collect();
    let expected: Vec<(&str, Option<u64>, &[u8])> = vec![
        ("write", Some(0), b"ab"),
        ("pwrite64", Some(7), b"cd"),
        ("write", Some(2), b"ef"),
        ("ftruncate", Some(9), b""),
        ("fsync", None, b""),
        ("write", Some(9), b"gh"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(std::fs::read(&file).unwrap(), b"abef456cdgh");
}
