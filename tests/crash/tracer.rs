//! Runs a program call by call: our own `ptrace`, so that a test can see, kill, fail or skip exactly the
//! N-th call that changes the disk, over all threads, in one order.
//!
//! Calls that change something are let through one after the other: while one is under way no other begins,
//! so that the disk stands still whenever the test is asked what shall become of the next one.
//! Nothing survives the tracer: the kernel kills the program when the thread that traces it ends.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::libc::{self, c_long, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::calls::{self, Kind, Shape};
use crate::support::Ran;

/// A stop that is no other event: of a new thread, and after an interrupt.
const EVENT_STOP: i32 = 128;

/// A call of the kernel that is about to happen, or happened.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Which one it is of those that change something, from 1; 0 for all others.
    pub(crate) number: usize,
    pub(crate) thread: i32,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What it works on, absolute: of a rename the old and the new name.
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) args: [u64; 6],
    /// Where it writes, or how long the file shall be.
    pub(crate) offset: Option<u64>,
    /// What it writes, where that was asked for.
    pub(crate) data: Vec<u8>,
    /// What it gave back; nothing where it never returned.
    pub(crate) result: Option<i64>,
    /// Whether the tracer made that result.
    pub(crate) injected: bool,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "call {} {}", self.number, self.name)?;
        for path in &self.paths {
            write!(f, " {}", path.display())?;
        }
        match self.result {
            Some(result) => write!(f, " = {result}"),
            None => Ok(()),
        }
    }
}

/// What shall become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// It happens.
    Go,
    /// The whole program is killed, and the call does not happen.
    Kill,
    /// It does not happen, and gives this error.
    Fail(Errno),
    /// It does not happen, and says that it did.
    Skip,
}

/// A program that ran to its end, or was killed.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) ran: Ran,
    /// The calls that change something, in their order, and reading ones where they were asked for.
    pub(crate) calls: Vec<Call>,
    /// The call that the test killed it at, or made fail.
    pub(crate) at: Option<Call>,
}

impl Traced {
    /// How many calls changed something.
    pub(crate) fn mutating(&self) -> usize {
        self.calls.iter().filter(|call| call.number > 0).count()
    }
}

/// How to run a program.
#[derive(Debug)]
pub(crate) struct Tracer<'c> {
    command: &'c Command,
    reads: bool,
    data: bool,
}

impl<'c> Tracer<'c> {
    pub(crate) fn new(command: &'c Command) -> Self {
        Self { command, reads: false, data: false }
    }

    /// Asks for reading calls (open, read) too.
    pub(crate) fn with_reads(mut self) -> Self {
        self.reads = true;
        self
    }

    /// Notes what is written.
    pub(crate) fn with_data(mut self) -> Self {
        self.data = true;
        self
    }

    /// Runs it; before each call the test says what becomes of it, while the disk stands still.
    pub(crate) fn run(self, act: impl FnMut(&Call) -> Act + Send) -> Traced {
        // All calls of ptrace and wait come from one thread, and it waits for its own children only.
        std::thread::scope(|scope| {
            let traced = scope.spawn(move || Session::start(&self, act).ended());
            traced.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs it undisturbed.
    pub(crate) fn watch(self) -> Traced {
        self.run(|_| Act::Go)
    }

    /// Does something to one call, and lets all others happen.
    pub(crate) fn at(self, number: usize, act: Act) -> Traced {
        self.run(move |call| if call.number == number { act } else { Act::Go })
    }

    /// Kills it at a call, which does not happen any more.
    pub(crate) fn kill_at(self, number: usize) -> Traced {
        self.at(number, Act::Kill)
    }
}

/// Whether this machine lets us trace our own processes.
pub(crate) fn works() -> bool {
    let sleeper = Command::new("sleep").arg("60").spawn();
    let Ok(mut sleeper) = sleeper else { return false };
    let pid = Pid::from_raw(i32::try_from(sleeper.id()).unwrap());
    let may = ptrace::seize(pid, Options::PTRACE_O_EXITKILL).is_ok();
    drop(sleeper.kill());
    drop(sleeper.wait());
    may
}

/// One thread of the program.
#[derive(Debug, Default)]
struct Thread {
    /// It is in a call; with its place in the list where that is one of ours.
    inside: bool,
    call: Option<usize>,
    /// What the call shall give back instead of its own result.
    result: Option<i64>,
}

struct Session<A> {
    act: A,
    reads: bool,
    data: bool,
    child: Child,
    leader: Pid,
    out: File,
    err: File,
    /// The program itself runs, no longer the shell that waited for us.
    begun: bool,
    killed: bool,
    threads: BTreeMap<i32, Thread>,
    /// The thread whose changing call is under way, and those that wait for its end.
    changing: Option<Pid>,
    waiting: VecDeque<Pid>,
    calls: Vec<Call>,
    count: usize,
    at: Option<Call>,
    code: i32,
}

impl<A: FnMut(&Call) -> Act> Session<A> {
    fn start(tracer: &Tracer<'_>, act: A) -> Self {
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        // A shell that stands still until it is traced, then becomes the program.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read go; exec \"$@\" </dev/null", "sh"]);
        command.arg(tracer.command.get_program()).args(tracer.command.get_args()).env_clear();
        for (name, value) in tracer.command.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let leader = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(leader, options).unwrap();
        ptrace::interrupt(leader).unwrap();
        drop(child.stdin.take());
        Self {
            act,
            reads: tracer.reads,
            data: tracer.data,
            child,
            leader,
            out,
            err,
            begun: false,
            killed: false,
            threads: BTreeMap::new(),
            changing: None,
            waiting: VecDeque::new(),
            calls: Vec::new(),
            count: 0,
            at: None,
            code: -1,
        }
    }

    fn ended(mut self) -> Traced {
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(status) => self.status(status),
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(error) => panic!("wait: {error}"),
            }
        }
        // It has been waited for above; there is nothing left that could be.
        drop(self.child.try_wait());
        let ran = Ran { code: self.code, stdout: text(&mut self.out), stderr: text(&mut self.err) };
        Traced { ran, calls: std::mem::take(&mut self.calls), at: self.at.take() }
    }

    fn status(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Exited(pid, code) => self.gone(pid, code),
            WaitStatus::Signaled(pid, signal, _) => self.gone(pid, 128 + signal as i32),
            WaitStatus::PtraceEvent(pid, _, event) => {
                if event == libc::PTRACE_EVENT_EXEC {
                    // The end of this very call comes next.
                    self.begun = true;
                    self.threads.entry(pid.as_raw()).or_default().inside = true;
                } else if event == EVENT_STOP {
                    let _ = self.threads.entry(pid.as_raw()).or_default();
                }
                resume(pid, None);
            }
            WaitStatus::PtraceSyscall(pid) if self.begun && !self.killed => self.stop(pid),
            WaitStatus::PtraceSyscall(pid) => resume(pid, None),
            WaitStatus::Stopped(pid, signal) => resume(pid, Some(signal)),
            WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
        }
    }

    fn gone(&mut self, pid: Pid, code: i32) {
        if pid == self.leader {
            self.code = code;
        }
        let _ = self.threads.remove(&pid.as_raw());
        self.waiting.retain(|other| *other != pid);
        if self.changing == Some(pid) {
            self.changing = None;
            self.let_next();
        }
    }

    /// A thread begins a call or ends one.
    fn stop(&mut self, pid: Pid) {
        let thread = self.threads.entry(pid.as_raw()).or_default();
        thread.inside = !thread.inside;
        if thread.inside {
            self.enter(pid);
        } else {
            self.leave(pid);
        }
    }

    fn enter(&mut self, pid: Pid) {
        let Ok(regs) = ptrace::getregs(pid) else { return };
        let Some(shape) = calls::shape(regs.orig_rax as c_long, &args(&regs)) else {
            return resume(pid, None);
        };
        let changes = calls::changes(shape, pid, &args(&regs));
        let wanted = changes || self.reads && shape.kind.reads();
        if !wanted {
            return resume(pid, None);
        }
        // Locks are not waited for here: their holder may be another thread.
        let one_by_one = changes && shape.kind != Kind::Lock;
        if one_by_one && self.changing.is_some() {
            self.waiting.push_back(pid);
        } else {
            if one_by_one {
                self.changing = Some(pid);
            }
            self.ask(pid, shape, changes, regs);
        }
    }

    /// Asks the test, and does what it says.
    fn ask(&mut self, pid: Pid, shape: Shape, changes: bool, regs: user_regs_struct) {
        self.count += usize::from(changes);
        let number = if changes { self.count } else { 0 };
        let call = calls::read(pid, shape, number, args(&regs), self.data);
        let act = (self.act)(&call);
        let mut regs = regs;
        let thread = self.threads.entry(pid.as_raw()).or_default();
        match act {
            Act::Go => {}
            Act::Kill => {
                self.at = Some(call.clone());
                self.calls.push(call);
                return self.kill();
            }
            Act::Fail(_) | Act::Skip => {
                self.at = Some(call.clone());
                thread.result = Some(if let Act::Fail(errno) = act { -i64::from(errno as i32) } else { 0 });
                // No call has this number: the kernel does nothing.
                regs.orig_rax = u64::MAX;
                ptrace::setregs(pid, regs).unwrap();
            }
        }
        thread.call = Some(self.calls.len());
        self.calls.push(call);
        resume(pid, None);
    }

    fn leave(&mut self, pid: Pid) {
        let thread = self.threads.entry(pid.as_raw()).or_default();
        let (call, result) = (thread.call.take(), thread.result.take());
        if let Some(call) = call
            && let Ok(mut regs) = ptrace::getregs(pid)
        {
            if let Some(result) = result {
                regs.rax = result.cast_unsigned();
                ptrace::setregs(pid, regs).unwrap();
            }
            self.calls[call].result = Some(regs.rax.cast_signed());
            self.calls[call].injected = result.is_some();
        }
        resume(pid, None);
        if self.changing == Some(pid) {
            self.changing = None;
            self.let_next();
        }
    }

    /// The next of the threads that waited for the end of another's call.
    fn let_next(&mut self) {
        let Some(pid) = self.waiting.pop_front() else { return };
        let Ok(regs) = ptrace::getregs(pid) else { return self.let_next() };
        if let Some(shape) = calls::shape(regs.orig_rax as c_long, &args(&regs)) {
            self.changing = Some(pid);
            self.ask(pid, shape, true, regs);
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        for pid in self.threads.keys() {
            // A thread's number kills its process; one that is gone already is as dead.
            let _ = signal::kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
}

impl<A> Drop for Session<A> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = signal::kill(self.leader, Signal::SIGKILL);
        }
    }
}

/// Goes on to the next stop; a thread that was killed meanwhile cannot.
fn resume(pid: Pid, signal: Option<Signal>) {
    let _ = ptrace::syscall(pid, signal);
}

fn args(regs: &user_regs_struct) -> [u64; 6] {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(0)).unwrap();
    let _ = file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Bytes of the memory of a thread that stands still; fewer where there are no more.
pub(crate) fn memory(pid: Pid, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let read = File::open(format!("/proc/{pid}/mem")).and_then(|memory| memory.read_at(&mut bytes, at));
    bytes.truncate(read.unwrap_or(0));
    bytes
}

/// A text that ends in a zero byte.
pub(crate) fn string(pid: Pid, at: u64) -> PathBuf {
    let mut found = Vec::new();
    while at != 0 && found.len() < 8192 {
        let next = at + found.len() as u64;
        let page = usize::try_from(4096 - next % 4096).unwrap();
        let bytes = memory(pid, next, page);
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            found.extend_from_slice(&bytes[..end]);
            break;
        }
        if bytes.is_empty() {
            break;
        }
        found.extend(bytes);
    }
    PathBuf::from(std::ffi::OsString::from_vec(found))
}

/// What a file descriptor of a thread stands for.
pub(crate) fn of_fd(pid: Pid, fd: u64) -> PathBuf {
    let link = format!("/proc/{pid}/fd/{}", fd as u32 as i32);
    std::fs::read_link(Path::new(&link)).unwrap_or_default()
}
