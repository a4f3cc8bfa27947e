//! Which processes use files below a directory: what must be nobody before the directory is exchanged.
//! Reads `/proc` only. A process that starts later is not seen: the caller looks again, as late as it can.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Inodes of the directory that are remembered; beyond that only names are compared.
const MAX_INODES: usize = 50_000;

/// Characters of a command line that are shown.
const COMMAND_LENGTH: usize = 80;

/// What is said where not every process could be looked at.
pub const INCOMPLETE: &str = "not every process may be looked at here; stop the server to be sure";

/// One file that a process has open, mapped, or as its working or root directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenFile {
    /// The process.
    pub pid: u32,
    /// Its command line, shortened.
    pub command: String,
    /// The file, as the kernel names it.
    pub path: PathBuf,
}

/// The result of a look at all processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// Every use that was found, ordered by process and path.
    pub files: Vec<OpenFile>,
    /// Whether every process could be looked at; without root usually not.
    pub complete: bool,
}

impl Users {
    /// Leaves out these processes, which are asked for only where somebody is left: the kernel may take some 10 ms
    /// to tell who holds a lock. Whoever ended meanwhile is left out too.
    pub fn leave_out(&mut self, others: impl FnOnce() -> Vec<u32>) {
        if !self.files.is_empty() {
            let others = others();
            self.files.retain(|user| !others.contains(&user.pid) && command_of(user.pid).is_some());
        }
    }
}

/// Finds the processes that use files at or below `host_path`, without this process. Files are found by
/// name, and by inode where a process sees them under another name (a container, a hard link). A path that
/// does not exist has no users.
pub fn users_of(host_path: &Path) -> Users {
    let Ok(base) = fs::canonicalize(host_path) else { return Users { files: Vec::new(), complete: true } };
    let wanted = Wanted { inodes: inodes_below(&base), base };
    let mut files = BTreeSet::new();
    // `hidepid` hides even the first process from those who may not look.
    let mut complete = Path::new("/proc/1").exists();
    let Ok(entries) = fs::read_dir("/proc") else { return Users { files: Vec::new(), complete: false } };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|pid| *pid != std::process::id()) {
        let (paths, all) = uses(pid, &wanted);
        complete &= all;
        if !paths.is_empty() {
            let command = command_of(pid).unwrap_or_else(|| "?".to_owned());
            files.extend(paths.into_iter().map(|path| OpenFile { pid, command: command.clone(), path }));
        }
    }
    Users { files: files.into_iter().collect(), complete }
}

/// The command line of a process, shortened and without control characters; `None` when it is gone.
pub fn command_of(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = if line.is_empty() { fs::read(format!("/proc/{pid}/comm")).ok()? } else { line };
    let text = String::from_utf8_lossy(&line).replace(['\0', '\n'], " ");
    let shown: String = text.trim().chars().filter(|c| !c.is_control()).take(COMMAND_LENGTH).collect();
    Some(shown)
}

/// A process of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Whose child it is.
    pub parent: u32,
}

/// Processes of this machine, and of no container in it, whose program's file has this name.
pub fn named(name: &str) -> Vec<Process> {
    // The kernel keeps no more of a name.
    let name: String = name.chars().take(15).collect();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let own = fs::read_link("/proc/self/ns/pid").ok();
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // `12 (nginx) S 1 …`: a name may hold brackets and blanks itself.
        let (before, after) = stat.rsplit_once(')')?;
        let (_, called) = before.split_once('(')?;
        let mut fields = after.split_ascii_whitespace();
        let alive = fields.next()? != "Z";
        let parent = fields.next()?.parse().ok()?;
        // Of whom this user may not see it, nobody can tell.
        let elsewhere = fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|space| Some(space) != own);
        (called == name && alive && !elsewhere).then_some(Process { pid, parent })
    })
    .collect()
}

/// A process can end at any moment, between any two looks at it.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

struct Wanted {
    base: PathBuf,
    inodes: HashSet<(u64, u64)>,
}

impl Wanted {
    /// Whether a link of `/proc` leads to the directory or below it; gives the path to show.
    fn matches(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        let target = fs::read_link(link)?;
        if !target.is_absolute() {
            return Ok(None);
        }
        let shown = without_deleted(&target);
        if shown.starts_with(&self.base) {
            return Ok(Some(shown));
        }
        // `metadata` follows the link to the open file itself, whatever its name says.
        let same = fs::metadata(link).is_ok_and(|meta| self.inodes.contains(&(meta.dev(), meta.ino())));
        Ok(same.then_some(shown))
    }
}

fn without_deleted(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    PathBuf::from(OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)))
}

fn inodes_below(base: &Path) -> HashSet<(u64, u64)> {
    let mut inodes = HashSet::new();
    let mut pending = vec![base.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if inodes.len() >= MAX_INODES {
            break;
        }
        inodes.insert((meta.dev(), meta.ino()));
        if meta.is_dir()
            && let Ok(entries) = fs::read_dir(&path)
        {
            pending.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
    inodes
}

/// The files below the directory that one process uses, as far as they can be seen, and whether all could.
fn uses(pid: u32, wanted: &Wanted) -> (BTreeSet<PathBuf>, bool) {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let mut found = BTreeSet::new();
    let mut complete = true;
    let mut links: Vec<PathBuf> = ["cwd", "root", "exe"].iter().map(|link| process.join(link)).collect();
    match fs::read_dir(process.join("fd")) {
        Ok(entries) => links.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
        Err(error) => complete &= is_gone(&error),
    }
    for link in links {
        match wanted.matches(&link) {
            Ok(path) => found.extend(path),
            // A kernel thread has no program, and a process that ended has none of these.
            Err(error) => complete &= is_gone(&error),
        }
    }
    match fs::read(process.join("maps")) {
        Ok(maps) => found.extend(mapped(&maps).filter(|path| path.starts_with(&wanted.base))),
        Err(error) => complete &= is_gone(&error),
    }
    (found, complete)
}

/// The file names in `/proc/<pid>/maps`: `7f..-7f.. r--p 0 fe:01 1234   /usr/lib/x (deleted)`.
fn mapped(maps: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    maps.split(|byte| *byte == b'\n').filter_map(|line| {
        let slash = line.iter().position(|byte| *byte == b'/')?;
        let name = unescape(&line[slash..]);
        Some(without_deleted(Path::new(&std::ffi::OsString::from_vec(name))))
    })
}

/// A line break in a name stands as `\012` there.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        if let Some(after) = rest.strip_prefix(br"\012") {
            out.push(b'\n');
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use super::*;

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    fn paths(users: &Users, pid: u32) -> Vec<PathBuf> {
        users.files.iter().filter(|file| file.pid == pid).map(|file| file.path.clone()).collect()
    }

    /// The child becomes `sleep` a moment after it was started; wait until it shows what is expected.
    fn wait_for(dir: &Path, pid: u32, expected: &[PathBuf]) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while paths(&users_of(dir), pid) != expected {
            assert!(Instant::now() < deadline, "{:?} is not {expected:?}", users_of(dir));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_child_with_an_open_file_is_found_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let file = base.join("open file");
        let stdin = File::create_new(&file).and_then(|_| File::open(&file)).unwrap();
        let child = Running(Command::new("sleep").arg("60").stdin(stdin).spawn().unwrap());
        let pid = child.0.id();
        wait_for(&base, pid, std::slice::from_ref(&file));
        let users = users_of(&base);
        assert!(users.files[0].command.starts_with("sleep 60"), "{users:?}");
        let mut left = users.clone();
        left.leave_out(|| vec![1]);
        assert_eq!(left, users);
        left.leave_out(|| vec![pid]);
        assert!(left.files.is_empty());
        left.leave_out(|| panic!("nobody is left, and nobody is asked"));
        assert!(users_of(&base.join("elsewhere")).files.is_empty());
        // A file that was removed is still in use.
        fs::remove_file(&file).unwrap();
        assert_eq!(paths(&users_of(&base), pid), [file]);
        drop(child);
        assert!(users_of(&base).files.is_empty());
    }

    #[test]
    fn a_working_directory_and_another_name_of_the_same_file_count() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let inside = base.join("inside");
        fs::create_dir(&inside).unwrap();
        File::create_new(inside.join("data")).unwrap();
        fs::hard_link(inside.join("data"), base.join("other")).unwrap();
        let other = File::open(base.join("other")).unwrap();
        let child =
            Running(Command::new("sleep").arg("60").current_dir(&inside).stdin(other).spawn().unwrap());
        wait_for(&inside, child.0.id(), &[inside.clone(), base.join("other")]);
    }

    #[test]
    fn our_own_files_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let _open = File::create_new(dir.path().join("mine")).unwrap();
        let users = users_of(dir.path());
        assert!(users.files.iter().all(|file| file.pid != std::process::id()), "{users:?}");
    }

    #[test]
    fn a_process_that_may_not_be_looked_at_is_told() {
        let dir = tempfile::tempdir().unwrap();
        // Root of a container often may not look at the first process; root of a machine may.
        let readable = fs::read_link("/proc/1/cwd").is_ok();
        let sees_all = readable && rustix::process::geteuid().is_root();
        let complete = users_of(dir.path()).complete;
        assert!(!complete || readable, "the first process cannot be read, so this is not complete");
        assert!(complete || !sees_all, "root who may read the first process may read all");
    }

    #[test]
    fn names_in_maps_are_read() {
        let maps = b"55-56 r-xp 0 fe:01 12    /srv/a b (deleted)\n7f-80 rw-p 0 00:00 0 [heap]\n1-2 r--p 0 fe:01 1 /x\\012y\n";
        let names: Vec<PathBuf> = mapped(maps).collect();
        assert_eq!(names, [PathBuf::from("/srv/a b"), PathBuf::from("/x\ny")]);
    }
}
