//! What the tests of this layer share: the real instance tree, and Python with the peer's libraries.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::host::fs::Root;

/// The instance tree that the peer made, unpacked into a directory of its own.
pub(crate) fn instance_tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/budget-root.tar.gz");
    let status = Command::new("tar").args(["-xpzf", archive, "-C"]).arg(dir.path()).status().unwrap();
    assert!(status.success());
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

/// An empty root.
pub(crate) fn empty_root() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

/// Runs a Python script with `input` on its standard input; `None`, with a word on standard error,
/// where there is no Python or a module that it imports is missing.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
pub(crate) fn python(script: &str, input: &[u8]) -> Option<String> {
    let child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: python3 is not installed");
        return None;
    };
    // A script that fails at once closes its standard input; its error text is what counts then.
    drop(child.stdin.take().unwrap().write_all(input));
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("ModuleNotFoundError") {
        eprintln!("skipped: {errors}");
        return None;
    }
    assert!(output.status.success(), "{errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}
