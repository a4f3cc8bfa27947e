//! Other programs, and what this machine allows.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Ran;

/// The file in `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Runs another program; its failure fails the test.
pub(crate) fn tool(program: &str, args: &[&str]) -> Ran {
    Ran::of(Command::new(program).args(args)).ok()
}

/// Runs another program in a directory.
pub(crate) fn tool_in(directory: &Path, program: &str, args: &[&str]) -> Ran {
    Ran::of(Command::new(program).args(args).current_dir(directory)).ok()
}

/// Whether a program can be started at all.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null 2>&1", program]).status();
    found.is_ok_and(|status| status.success())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says aloud that a test did not run, and why: straight to standard error, since the harness shows
/// what a passing test prints to nobody.
pub(crate) fn skipped(test: &str, why: &str) {
    writeln!(std::io::stderr().lock(), "SKIPPED {test}: {why}").unwrap();
}

/// `true` when the test must not go on, which has been said.
pub(crate) fn skip_unless(test: &str, can: bool, why: &str) -> bool {
    if !can {
        skipped(test, why);
    }
    !can
}

/// Waits for something that another process does; fails when it takes too long.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A file system of its own; unmounted when it goes out of use. Only root can make one.
#[derive(Debug)]
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn tmpfs(at: &Path, options: &str) -> Self {
        let _ = tool("mount", &["-t", "tmpfs", "-o", options, "tmpfs", at.to_str().unwrap()]);
        Self(at.to_owned())
    }

    /// An empty one of this kind, in a file of a directory that has neither.
    pub(crate) fn image(kind: &str, directory: &Path) -> Self {
        let (image, at) = (directory.join("image"), directory.join("root"));
        std::fs::create_dir(&at).unwrap();
        let (image, mount) = (image.to_str().unwrap(), at.to_str().unwrap());
        let _ = tool("truncate", &["-s", "400M", image]).ok();
        let _ = tool(&format!("mkfs.{kind}"), &["-q", "-f", image]).ok();
        let _ = tool("mount", &["-o", "loop", image, mount]).ok();
        Self(at)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn remount(&self, options: &str) {
        let _ = tool("mount", &["-o", &format!("remount,{options}"), self.0.to_str().unwrap()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left behind must not keep the directory.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// So many bytes that no compression makes smaller, the same each time.
pub(crate) fn noise(length: u32) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // Xorshift, by Marsaglia.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[1]
    };
    (0..length).map(|_| next()).collect()
}
