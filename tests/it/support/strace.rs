//! Runs the binary under `strace`: to see what it does, to stop it or kill it at a call.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Ran;
use super::root::Running;
use super::tools::{have, tool, wait_for};

/// Whether this machine lets us trace our own processes.
pub(crate) fn works() -> bool {
    have("strace")
        && Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|o| o.status.success())
}

/// Wraps a command: the same program, arguments and environment, below `strace -f` with `options`.
pub(crate) fn wrap(command: &Command, options: &[&str]) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq"]).args(options).arg(command.get_program()).args(command.get_args());
    traced.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    traced
}

/// Runs it to its end.
pub(crate) fn run(command: &Command, options: &[&str]) -> Ran {
    Ran::of(&mut wrap(command, options))
}

/// The program at a standstill: it stopped right after a call of the kernel, and stays there until the
/// test lets it go on. No clock is involved, so the slowest machine sees the same as the fastest.
#[derive(Debug)]
pub(crate) struct Stopped {
    running: Running,
    log: PathBuf,
    pid: String,
    thread: String,
    stops: usize,
    _directory: TempDir,
}

impl Stopped {
    /// Starts it and waits until it has made its first such call (on that path, where one is given).
    pub(crate) fn after(command: &Command, call: &str, path: Option<&Path>) -> Self {
        Self::when(command, call, path, || true)
    }

    /// Starts it and waits until the world is so after such a call.
    pub(crate) fn when(command: &Command, call: &str, path: Option<&Path>, so: impl Fn() -> bool) -> Self {
        let directory = TempDir::new().unwrap();
        let log = directory.path().join("log");
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=STOP"));
        let mut options = vec!["-o", log.to_str().unwrap(), "-e", &trace, "-e", &inject];
        if let Some(path) = path {
            options.extend(["-P", path.to_str().unwrap()]);
        }
        let running = Running::start(&mut wrap(command, &options));
        let mut stopped =
            Self { running, log, pid: String::new(), thread: String::new(), stops: 0, _directory: directory };
        stopped.wait();
        while !so() {
            stopped.next();
        }
        stopped
    }

    /// Waits until it stands still once more.
    fn wait(&mut self) {
        let wanted = self.stops + 1;
        let (log, running) = (&self.log, &mut self.running);
        let line = wait_for("the program to stop", || {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            // Each thread of it says that it stopped; the one that made the call was told to.
            let mut told = text.lines().filter(|line| line.contains("--- SIGSTOP {"));
            let line = told.nth(wanted - 1).map(str::to_owned);
            let ended = running.child().try_wait().unwrap();
            assert!(line.is_some() || ended.is_none(), "it ended and never stopped: {ended:?}\n{text}");
            line.filter(|line| {
                let thread = line.split_whitespace().next().unwrap_or_default();
                text.lines().skip_while(|other| other != line).any(|other| {
                    other.split_whitespace().next() == Some(thread) && other.contains("--- stopped by")
                })
            })
        });
        line.split_whitespace().next().unwrap_or_default().clone_into(&mut self.thread);
        self.pid = process_of(&self.thread);
        self.stops = wanted;
    }

    /// Lets it go on to its next such call.
    pub(crate) fn next(&mut self) {
        self.signal("CONT");
        self.wait();
    }

    fn signal(&self, name: &str) {
        let _ = tool("kill", &[&format!("-{name}"), &self.pid]);
    }

    /// Sends a signal to the very thread that made the call: it takes it before it goes on.
    pub(crate) fn interrupt(&self, signal: i32) {
        let code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).tgkill(*map(int, sys.argv[1:])))";
        let _ = tool("python3", &["-c", code, &self.pid, &self.thread, &signal.to_string()]);
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> &str {
        &self.pid
    }

    /// Lets it go on to its end, whatever else it stops for.
    pub(crate) fn end(mut self) -> Ran {
        wait_for("the end of the program", || {
            drop(Command::new("kill").args(["-CONT", &self.pid]).stderr(Stdio::null()).status());
            self.running.child().try_wait().unwrap()
        });
        self.running.end()
    }
}

/// The process of a thread.
fn process_of(thread: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    group.unwrap_or_else(|| panic!("no process has the thread {thread}")).trim().to_owned()
}
