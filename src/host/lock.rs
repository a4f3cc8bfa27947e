//! Locks that abssctl and the peer share: `flock` on files in the runtime directory, and the lock of
//! a run's journal. The only module that names `fs2`.
//!
//! The lock is the `flock`; what stands in the file (`{"pid","acquired_at","path"}`) is for people and
//! for the message of whoever waits. Files are created with mode 0640 and stay. The kernel drops the
//! locks of a process that dies, so a crash leaves a file with old content and no lock.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::host::clock;
use crate::host::fs::{FsError, IoContext as _, Root, open_regular};
use crate::ids::{AbsPath, InstanceName};

/// The first pause between two tries, and the least.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// No pause is longer, so that a cancelled wait ends soon.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What is locked. The order is the order of acquiring: the global lock, then instances by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockName {
    /// State that all instances share: registry, backup index.
    Global,
    /// One instance.
    Instance(InstanceName),
}

impl LockName {
    /// The lock's file in the runtime directory.
    pub fn file_name(&self) -> String {
        match self {
            Self::Global => "abssctl.lock".to_owned(),
            Self::Instance(name) => format!("{name}.lock"),
        }
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("the global lock"),
            Self::Instance(name) => write!(f, "the lock of instance '{name}'"),
        }
    }
}

/// What is being waited for, told once when waiting begins and again when the holder changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockWait {
    /// The lock.
    pub name: LockName,
    /// Its file, as a person would name it on this machine.
    pub path: PathBuf,
    /// Process number and command of the holder, where they can be found out.
    pub holder: Option<String>,
}

impl fmt::Display for LockWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holder = self.holder.as_deref().unwrap_or("another process");
        write!(f, "waiting for {}, which is held by {holder}", self.name)
    }
}

/// A lock could not be had.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LockError {
    /// Somebody else held it all the time.
    #[error("{name} ({}) is held by {} and was not free within {} s", .path.display(), holder.as_deref().unwrap_or("another process"), waited.as_secs())]
    #[diagnostic(
        code(abssctl::lock::timeout),
        help(
            "wait until that process ends, or allow more time with --lock-timeout SECONDS; the lock goes with its process, so never delete the file"
        )
    )]
    Timeout {
        /// The lock.
        name: LockName,
        /// Its file.
        path: PathBuf,
        /// Process number and command of the holder, where known.
        holder: Option<String>,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The wait was called off.
    #[error("stopped while waiting for {name} ({})", .path.display())]
    #[diagnostic(code(abssctl::lock::cancelled), help("nothing was changed; run the command again"))]
    Cancelled {
        /// The lock.
        name: LockName,
        /// Its file.
        path: PathBuf,
    },
    /// The lock's name belongs to something that is no file.
    #[error("{} is not a regular file, so it cannot be a lock", .path.display())]
    #[diagnostic(code(abssctl::lock::not_a_file), help("look at what it is and move it away"))]
    NotAFile {
        /// The name in question.
        path: PathBuf,
    },
    /// An instance has the name of the global lock.
    #[error("an instance cannot be called '{name}': its lock would be the global one, {}", .path.display())]
    #[diagnostic(
        code(abssctl::lock::reserved_name),
        help("give the instance another name in instances.yml; nothing was changed")
    )]
    ReservedName {
        /// The instance.
        name: InstanceName,
        /// The lock's file.
        path: PathBuf,
    },
    /// The file cannot be created or opened.
    #[error(transparent)]
    #[diagnostic(
        code(abssctl::lock::io),
        help("locks are files in 'runtime_dir'; run as root, or see 'abssctl config show'")
    )]
    Fs(#[from] FsError),
}

/// Locks that are held until this is dropped; released in reverse order.
#[derive(Debug)]
pub struct LockGuard {
    held: Vec<(LockName, File)>,
    waited: Duration,
}

impl LockGuard {
    /// How long it took to get all of them.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        while let Some((_, file)) = self.held.pop() {
            // Explicitly, since a child between fork and exec would keep a merely closed lock alive.
            // Closing releases it anyway, so a failure here changes nothing.
            drop(fs2::FileExt::unlock(&file));
        }
    }
}

/// Acquires locks, the global one first and then instances by name, whatever the order given.
///
/// Waits at most `timeout` for all of them together, with growing, jittered pauses. `cancel` is asked
/// before each try; `waiting` is told for whom the wait is. On an error none of them is held.
pub fn acquire(
    root: &Root,
    runtime_dir: &AbsPath,
    names: &[LockName],
    timeout: Duration,
    cancel: &dyn Fn() -> bool,
    waiting: &dyn Fn(&LockWait),
) -> Result<LockGuard, LockError> {
    let global = LockName::Global.file_name();
    for name in names {
        if let LockName::Instance(instance) = name
            && name.file_name() == global
        {
            let path = root.host_path(runtime_dir).join(global);
            return Err(LockError::ReservedName { name: instance.clone(), path });
        }
    }
    let dir = root.ensure_dir(runtime_dir, 0o755)?;
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    let wait = Wait { started: Instant::now(), timeout, cancel, waiting };
    let mut guard = LockGuard { held: Vec::new(), waited: Duration::ZERO };
    for name in names {
        let path = root.host_path(runtime_dir).join(name.file_name());
        let file = wait.lock(&dir, &name, &path)?;
        describe_self(&file, &path);
        guard.held.push((name, file));
    }
    guard.waited = wait.started.elapsed();
    Ok(guard)
}

/// Takes an exclusive `flock` on an open file without waiting; `false` where somebody else has it.
/// It is held as long as the file stays open.
pub fn try_lock_file(file: &File) -> io::Result<bool> {
    match fs2::FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether somebody holds the exclusive lock on an open file. A shared one is taken for an instant to find
/// out, so that two who look do not take each other for a holder.
pub fn is_held(file: &File) -> io::Result<bool> {
    match fs2::FileExt::try_lock_shared(file) {
        Ok(()) => fs2::FileExt::unlock(file).map(|()| false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// Who holds the lock on an open file now, as [`is_held`] finds out; `None` where nobody does.
pub fn holder_of(file: &File) -> io::Result<Option<String>> {
    Ok(is_held(file)?.then(|| holder(file).unwrap_or_else(|| "another process".to_owned())))
}

/// The processes that hold these locks, as far as the kernel tells of them here; nothing is locked to find
/// out.
pub fn holders(root: &Root, runtime_dir: &AbsPath, names: &[LockName]) -> Vec<u32> {
    let Ok(Some(dir)) = root.dir_optional(runtime_dir) else { return Vec::new() };
    let of =
        |name: &LockName| u32::try_from(kernel_holder(&open_regular(&dir, name.file_name()).ok()?)?).ok();
    names.iter().filter_map(of).collect()
}

struct Wait<'a> {
    started: Instant,
    timeout: Duration,
    cancel: &'a dyn Fn() -> bool,
    waiting: &'a dyn Fn(&LockWait),
}

impl Wait<'_> {
    fn lock(&self, dir: &Dir, name: &LockName, path: &Path) -> Result<File, LockError> {
        let mut told: Option<LockWait> = None;
        let mut ceiling = FIRST_PAUSE;
        loop {
            if (self.cancel)() {
                return Err(LockError::Cancelled { name: name.clone(), path: path.to_owned() });
            }
            let file = open_lock(dir, name, path)?;
            if try_lock_file(&file).context("lock", path)? {
                // Somebody may have removed the name meanwhile; then this file is nobody's lock.
                if is_still(dir, name, &file) {
                    return Ok(file);
                }
                continue;
            }
            let wait = LockWait { name: name.clone(), path: path.to_owned(), holder: holder(&file) };
            let waited = self.started.elapsed();
            if waited >= self.timeout {
                let LockWait { name, path, holder } = wait;
                return Err(LockError::Timeout { name, path, holder, waited });
            }
            if told.as_ref() != Some(&wait) {
                (self.waiting)(&wait);
                told = Some(wait);
            }
            ceiling = (ceiling * 2).min(LONGEST_PAUSE);
            std::thread::sleep(jitter(ceiling).min(self.timeout.saturating_sub(waited)));
        }
    }
}

/// Between the least pause and `ceiling`, at random, so that several waiting processes do not march in step.
fn jitter(ceiling: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // Without randomness the pause is merely regular.
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK).unwrap_or_default();
    let span = ceiling.saturating_sub(FIRST_PAUSE);
    FIRST_PAUSE + span * u32::from(random[0]) / 255
}

fn open_lock(dir: &Dir, name: &LockName, path: &Path) -> Result<File, LockError> {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).write(true).create(true).mode(0o640).custom_flags(flags.bits().cast_signed());
    let opened = dir.open_with(name.file_name(), &options);
    if dir.symlink_metadata(name.file_name()).is_ok_and(|meta| !meta.is_file()) {
        return Err(LockError::NotAFile { path: path.to_owned() });
    }
    Ok(opened.context("open lock file", path)?.into_std())
}

fn is_still(dir: &Dir, name: &LockName, file: &File) -> bool {
    let now = rustix::fs::statat(dir, name.file_name(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    match (now, rustix::fs::fstat(file.as_fd())) {
        (Ok(now), Ok(ours)) => (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino),
        _ => false,
    }
}

/// Writes who holds the lock. The lock holds without it, so a full disk stops nobody here.
fn describe_self(file: &File, path: &Path) {
    let content = json!({
        "pid": std::process::id(),
        "acquired_at": clock::rfc3339(clock::now()),
        "path": path.to_string_lossy(),
    });
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all_at(content.to_string().as_bytes(), 0))
        .and_then(|()| Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(0o640))?));
    drop(written);
}

/// Who holds the lock: from the file's content if that process lives, else from the kernel's table.
fn holder(file: &File) -> Option<String> {
    let mut bytes = vec![0; 4096];
    let length = file.read_at(&mut bytes, 0).ok()?;
    let content: Option<serde_json::Value> = serde_json::from_slice(&bytes[..length]).ok();
    let named = content.as_ref().and_then(|content| content["pid"].as_u64()).and_then(describe_process);
    let since = content.as_ref().and_then(|content| content["acquired_at"].as_str());
    match (named, since) {
        (Some(who), Some(since)) => Some(format!("{who} since {}", since.escape_debug())),
        (Some(who), None) => Some(who),
        (None, _) => describe_process(kernel_holder(file)?),
    }
}

fn describe_process(pid: u64) -> Option<String> {
    let command = super::processes::command_of(u32::try_from(pid).ok()?)?;
    Some(format!("process {pid} ({command})"))
}

/// Looks the file up in `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF`.
fn kernel_holder(file: &File) -> Option<u64> {
    let meta = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hit = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&wanted.as_str());
        hit.then(|| fields.get(4)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests;
