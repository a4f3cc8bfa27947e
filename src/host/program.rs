//! Runs a program of the machine to its end and gives what it said, with a time limit. Changes what the
//! program changes. A crash of this process leaves it running: it is in a group of its own, so that a
//! Ctrl-C at the terminal reaches this process alone.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Bytes that a program may say: the configuration of nginx with many sites is a few MiB.
const LIMIT: u64 = 16 << 20;

/// Between two looks at how much it said.
const LOOK: Duration = Duration::from_millis(100);

/// A program that ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote, all of it; bytes that are no text are replaced.
    pub stdout: String,
    /// What it complained of; the same.
    pub stderr: String,
}

/// A program did not do what it was started for.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ProgramError {
    /// It could not be started, or not be waited for.
    #[error("the program '{program}' cannot be run: {source}")]
    #[diagnostic(
        code(abssctl::program::start),
        help("install it, or name it in the configuration: abssctl config show")
    )]
    Start {
        /// Its name or path.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("'{command}' did not end within {} seconds", .limit.as_secs())]
    #[diagnostic(code(abssctl::program::time), help("see what keeps it waiting: systemctl list-jobs"))]
    Time {
        /// The command.
        command: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It wrote without end, or more than anybody reads, and was killed.
    #[error("'{command}' wrote more than {} MiB", LIMIT >> 20)]
    #[diagnostic(code(abssctl::program::output), help("run it yourself and see what it writes"))]
    Output {
        /// The command.
        command: String,
    },
    /// It said that it failed.
    #[error("'{command}' failed ({status}): {said}")]
    #[diagnostic(code(abssctl::program::failed), help("mend what it says, then run the same command again"))]
    Failed {
        /// The command.
        command: String,
        /// Its exit code or the signal.
        status: ExitStatus,
        /// What it complained of, in one line.
        said: String,
    },
}

/// Runs a program; its exit code is the caller's to judge. Its language is that of programs.
///
/// # Errors
/// It cannot be started, does not end in time, or writes without end.
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S], limit: Duration) -> Result<Ended, ProgramError> {
    let cannot = |source| ProgramError::Start { program: program.to_owned(), source };
    // Files without a name take its output: a pipe would be held open by whatever the program leaves running.
    let file = || memfd_create("output", MemfdFlags::CLOEXEC).map(File::from).map_err(io::Error::from);
    let (mut stdout, mut stderr) = (file().map_err(cannot)?, file().map_err(cannot)?);
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
    command.stdin(Stdio::null()).process_group(0);
    command.stdout(stdout.try_clone().map_err(cannot)?).stderr(stderr.try_clone().map_err(cannot)?);
    let mut child = command.spawn().map_err(cannot)?;
    let pid = pid_of(&child).map_err(cannot)?;
    let size = || -> io::Result<u64> { Ok(stdout.metadata()?.len().max(stderr.metadata()?.len())) };
    let ended = wait(pid, limit, &size);
    if !matches!(ended, Ok(Wait::Ended)) {
        // With all that it started and left in its group. It may have ended by itself meanwhile; nothing of
        // it is used in any case.
        let _killed = kill_process_group(pid, Signal::KILL);
    }
    let status = child.wait().map_err(cannot)?;
    match ended.map_err(cannot)? {
        Wait::Late => return Err(ProgramError::Time { command: shown(program, args), limit }),
        Wait::Ended if size().map_err(cannot)? <= LIMIT => {}
        Wait::Ended | Wait::Full => return Err(ProgramError::Output { command: shown(program, args) }),
    }
    let text = |file: &mut File| -> io::Result<String> {
        file.rewind()?;
        let mut bytes = Vec::new();
        let _read = Read::take(file, LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (stdout, stderr) = (text(&mut stdout).map_err(cannot)?, text(&mut stderr).map_err(cannot)?);
    Ok(Ended { status, stdout, stderr })
}

/// Runs a program that must succeed; gives what it wrote.
///
/// # Errors
/// It cannot be started, does not end in time, or fails.
pub fn succeed<S: AsRef<OsStr>>(program: &str, args: &[S], limit: Duration) -> Result<String, ProgramError> {
    let ended = run(program, args, limit)?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    let said = plain(&ended.stderr).lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let said = if said.is_empty() { "it says nothing".to_owned() } else { said };
    Err(ProgramError::Failed { command: shown(program, args), status: ended.status, said })
}

/// A text of another program without control characters but line breaks.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // Colours of a terminal: ESC [ … letter.
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            while chars.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
        } else if c == '\t' {
            out.push(' ');
        } else if c == '\n' || !(c.is_control() || is_invisible(c)) {
            out.push(c);
        }
    }
    out.trim().to_owned()
}

/// Marks that turn the direction of a text round, and blanks of no width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn shown<S: AsRef<OsStr>>(program: &str, args: &[S]) -> String {
    let words = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned());
    let words: Vec<String> = words.filter(|word| !word.starts_with("--")).collect();
    format!("{program} {}", words.join(" "))
}

/// What came of waiting for a program.
enum Wait {
    Ended,
    /// The time is over.
    Late,
    /// It wrote too much.
    Full,
}

fn pid_of(child: &Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("it has no process id"))
}

/// Waits for the end of a child that was not waited for yet.
fn wait(pid: Pid, limit: Duration, size: &dyn Fn() -> io::Result<u64>) -> io::Result<Wait> {
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let time = Timespec::try_from(left.min(LOOK)).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&time)) {
            Ok(0) if size()? > LIMIT => return Ok(Wait::Full),
            Ok(0) if left.is_zero() => return Ok(Wait::Late),
            // A signal to this process; the child goes on.
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(Wait::Ended),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn it_gives_what_a_program_says_and_how_it_ended() {
        let ended = run("sh", &["-c", "echo out; echo err >&2; exit 3"], LONG).unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(ended.status.code(), Some(3));
        let error = succeed("sh", &["-c", "echo 'no \x1b[31mway' >&2; exit 3"], LONG).unwrap_err();
        assert!(error.to_string().ends_with("(exit status: 3): no way"), "{error}");
        assert!(matches!(run("/no/such/program", &["x"], LONG), Err(ProgramError::Start { .. })));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_and_what_it_leaves_running_is_not_waited_for() {
        let begun = Instant::now();
        let error = run("sleep", &["60"], Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.to_string(), "'sleep 60' did not end within 0 seconds");
        let ended = run("sh", &["-c", "sleep 7 & echo done"], LONG).unwrap();
        assert_eq!(ended.stdout, "done\n");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_a_program_that_is_killed_has_started_ends_too() {
        let mark = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 60 & echo $! > {}; wait", mark.path().display());
        let error = run("sh", &["-c", &script], Duration::from_secs(3)).unwrap_err();
        assert!(matches!(error, ProgramError::Time { .. }), "{error}");
        let pid = std::fs::read_to_string(mark.path()).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let begun = Instant::now();
        while !stat().is_empty() && !stat().contains(") Z ") {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", stat());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn much_is_read_and_what_has_no_end_is_stopped() {
        let ended = run("sh", &["-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end"], LONG).unwrap();
        assert!(ended.stdout.len() == 3_000_004 && ended.stdout.ends_with("xend\n"));
        let begun = Instant::now();
        for script in ["yes", "head -c 17000000 /dev/zero >&2"] {
            let error = run("sh", &["-c", script], LONG).unwrap_err();
            assert!(error.to_string().ends_with("wrote more than 16 MiB"), "{error}");
        }
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    }

    #[test]
    fn texts_of_others_lose_what_moves_a_cursor() {
        assert_eq!(plain("a\x1b[2J\x07b\tc\r\nd\u{202e}\n"), "ab c\nd");
    }
}
