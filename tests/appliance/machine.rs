//! A machine: booted, asked, restarted, cut off. It lives in namespaces of its own (mounts, network, control
//! groups), so that nothing of it is left on the host when its last process is gone.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cgroup::Groups;
use crate::instance::{self, Hardening};
use crate::state::State;
use crate::support::Ran;
use crate::support::actual::Program;
use crate::support::tools::{Mount, have, is_root, skip_unless};
use crate::watch::{States, Watch, login};

/// One machine at a time: they would take the time from each other that is measured.
static ALONE: Mutex<()> = Mutex::new(());

/// How long a state is waited for. The slowest is a boot beside compilers.
const LIMIT: Duration = Duration::from_secs(90);

/// What begins a machine: its groups, its disk (in its own view of mounts, which goes away with it), and the
/// program that boots it.
const BOOT: &str = r#"
set -eu
home=$1 lower=$2; shift 2
while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs"; shift; done; shift
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$home/changed,workdir=$home/work" "$home/root"
exec "$@"
"#;

/// A machine with one instance, the real server at work on it behind nginx.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    /// Holds all its processes; without it they end.
    power: Child,
    /// Keeps the network while the machine is off.
    network: File,
    program: Program,
    lower: PathBuf,
    /// Goes before the directory that it is mounted on.
    _disk: Option<Mount>,
    home: TempDir,
    groups: Groups,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    /// Boots one whose server answers; `None` where this computer cannot, which has been said.
    pub(crate) fn boot(test: &str, hardening: Hardening) -> Option<Self> {
        Self::boot_on(test, hardening, None)
    }

    /// The same with its `/srv` on a file system in memory with these options, where they are given.
    pub(crate) fn boot_on(test: &str, hardening: Hardening, disk: Option<&str>) -> Option<Self> {
        let lower = debian(test)?;
        let program = Program::old(test)?;
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let home = TempDir::with_prefix_in("appliance-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        for directory in ["changed", "work", "root", "srv"] {
            std::fs::create_dir(home.path().join(directory)).unwrap();
        }
        let disk = disk.map(|options| Mount::tmpfs(&home.path().join("srv"), options));
        instance::install(&home.path().join("changed"), &home.path().join("srv"), hardening);
        let name = home.path().file_name().unwrap().to_str().unwrap().replace('.', "");
        let groups = Groups::new(&name);
        let power = launch(&name, home.path(), &lower, &program, &groups, None);
        let network = new_network(power.id());
        let machine = Self { name, power, network, program, lower, _disk: disk, home, groups, _alone: alone };
        machine.wait_until_it_serves();
        Some(machine)
    }

    /// Its network, for a thread to enter.
    pub(crate) fn network(&self) -> File {
        self.network.try_clone().unwrap()
    }

    /// A path of the machine's `/srv`, as this computer names it.
    pub(crate) fn srv(&self, below: &str) -> PathBuf {
        self.home.path().join("srv").join(below)
    }

    /// A path of all else that was changed or made on the machine, as this computer names it.
    pub(crate) fn disk(&self, below: &str) -> PathBuf {
        self.home.path().join("changed").join(below)
    }

    /// The state that lies in the live directory.
    pub(crate) fn live(&self) -> State {
        State::of(&self.srv("budget"))
    }

    /// A client that knows these states.
    pub(crate) fn watch(&self, states: &States) -> Watch {
        Watch::start(self.network(), states.clone())
    }

    /// A program inside, in a clean environment.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let leader = self.leader().unwrap_or_else(|| panic!("{} is not running", self.name));
        command
            .args(["--all", "--root", "--wd=/", "--target", &leader.to_string(), "--", program])
            .args(args);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs([("HOME", "/root"), ("LANG", "C.UTF-8"), ("NO_COLOR", "1"), ("COLUMNS", "100")]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program inside to its end.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Ran {
        Ran::of(&mut self.command(program, args))
    }

    /// Runs a command of ours inside; gives its JSON.
    #[track_caller]
    pub(crate) fn abssctl(&self, args: &[&str]) -> Value {
        self.run("abssctl", &[args, &["--yes", "--json"]].concat()).ok().json()
    }

    /// Restarts it as `systemctl reboot` does, and waits until it serves again.
    pub(crate) fn reboot(&mut self) {
        let _ = self.run("systemctl", &["reboot"]);
        let mut end = None;
        let power = &mut self.power;
        wait("the end of all units", || {
            end = power.try_wait().unwrap();
            end.map(|_| ()).ok_or_else(|| "still running".to_owned())
        });
        // So systemd-nspawn says that it wants to be started again.
        assert_eq!(end.unwrap().code(), Some(133), "the machine ended otherwise than by a reboot");
        self.start();
    }

    /// Takes its power away: every process ends at once, nothing is told.
    pub(crate) fn cut_power(&mut self) {
        // The first of its processes is the one that the others do not outlive, and it is waited for.
        match children(self.power.id()).first() {
            Some(nspawn) => kill(*nspawn),
            None => drop(self.power.kill()),
        }
        drop(self.power.wait());
    }

    /// Gives it power again, and waits until it serves.
    pub(crate) fn start(&mut self) {
        let network = Some(&self.network);
        self.power = launch(&self.name, self.home.path(), &self.lower, &self.program, &self.groups, network);
        self.wait_until_it_serves();
    }

    /// The first process of the machine, as this computer numbers it.
    fn leader(&self) -> Option<u32> {
        let nspawn = children(self.power.id()).into_iter().next()?;
        children(nspawn).into_iter().find(|pid| is_first(*pid))
    }

    /// Waits until the boot is over and a person can log in.
    pub(crate) fn wait_until_it_serves(&self) {
        wait("the end of the boot", || {
            let leader = self.leader().ok_or("no first process")?;
            let boot = boot_state(leader);
            // Degraded: some unit has failed, which is a test's own concern.
            if ["running", "degraded"].contains(&boot.trim()) { Ok(()) } else { Err(boot) }
        });
        wait("a login", || login(self.network()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = Command::new("journalctl")
                .args(["--no-pager", "--output=short-monotonic", "--lines=120", "--directory"])
                .arg(self.disk("var/log/journal"))
                .output();
            if let Ok(journal) = journal {
                crate::say(&format!("--- its journal\n{}", String::from_utf8_lossy(&journal.stdout)));
            }
            let console = std::fs::read_to_string(self.home.path().join("console")).unwrap_or_default();
            crate::say(&format!("--- its console\n{console}"));
        }
        self.cut_power();
    }
}

/// Waits for a state of a machine; says what was seen instead when it takes too long.
#[track_caller]
pub(crate) fn wait(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let from = Instant::now();
    while let Err(seen) = look() {
        assert!(from.elapsed() < LIMIT, "waited {LIMIT:?} for {what}; it is: {seen}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The Debian to boot; `None` where this computer cannot, which has been said.
fn debian(test: &str) -> Option<PathBuf> {
    if skip_unless(test, is_root(), "only root can boot a machine") {
        return None;
    }
    let programs = ["systemd-nspawn", "nsenter", "unshare", "setpriv", "journalctl"];
    let missing: Vec<&str> = programs.into_iter().filter(|program| !have(program)).collect();
    if skip_unless(test, missing.is_empty(), &format!("{} is missing", missing.join(", "))) {
        return None;
    }
    let made = std::env::var_os("ABSSCTL_TEST_DEBIAN").map(PathBuf::from);
    let can = made.as_ref().is_some_and(|made| made.join("complete").exists());
    let why = "ABSSCTL_TEST_DEBIAN names no Debian to boot; tests/run.sh makes it and sets the variable";
    made.filter(|_| !skip_unless(test, can, why)).map(|made| made.join("root").canonicalize().unwrap())
}

/// What systemd says of its boot, whose first process may be gone by now.
fn boot_state(leader: u32) -> String {
    let mut command = Command::new("nsenter");
    command.args(["--all", "--root", "--wd=/", "--target", &leader.to_string(), "--"]);
    let ran = Ran::of(command.args(["systemctl", "is-system-running"]));
    ran.stdout + &ran.stderr
}

/// Starts the machine in a new network, or in the one that it had.
fn launch(
    name: &str,
    home: &Path,
    lower: &Path,
    program: &Program,
    groups: &Groups,
    network: Option<&File>,
) -> Child {
    // All its processes end with the thread that began it, also when the test is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    match network {
        None => command.args(["unshare", "--net"]),
        Some(network) => command.arg("nsenter").arg(format!(
            "--net=/proc/{}/fd/{}",
            std::process::id(),
            network.as_raw_fd()
        )),
    };
    command.args(["unshare", "--mount", "--propagation", "private"]);
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", BOOT, "sh"]);
    command.arg(home).arg(lower).args(groups.paths()).arg("--");
    command.args(["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe"]);
    command.args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"]);
    // The network is the machine's own, and its systemd brings it up.
    command.arg("--capability=CAP_NET_ADMIN");
    command.arg(format!("--machine={name}")).arg(format!("--directory={}", home.join("root").display()));
    let bind = |how: &str, from: &Path, to: &str| format!("--{how}={}:{to}", from.display());
    command.arg(bind("bind", &home.join("srv"), "/srv"));
    let modules = program.directory().join("node_modules").canonicalize().unwrap();
    command.arg(bind("bind-ro", &modules, "/srv/app/v25.6.0/node_modules"));
    command.arg(bind("bind-ro", &binary(), "/usr/local/bin/abssctl"));
    let console = File::options().create(true).append(true).open(home.join("console")).unwrap();
    command.stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
    command.spawn().unwrap()
}

/// The program under test.
fn binary() -> PathBuf {
    // Another program takes its place to see that tests notice: tests/power/mutations.sh.
    let other = std::env::var_os("ABSSCTL_TEST_BINARY");
    other.map_or_else(|| env!("CARGO_BIN_EXE_abssctl").into(), PathBuf::from)
}

/// The network that a child has made for itself, as soon as it has.
fn new_network(child: u32) -> File {
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = format!("/proc/{child}/ns/net");
    crate::support::tools::wait_for("a network of the machine's own", || {
        (std::fs::read_link(&theirs).unwrap() != ours).then(|| File::open(&theirs).unwrap())
    })
}

pub(crate) fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Whether a process is the first one of its own process namespace, which is inside another one of ours.
fn is_first(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().nth(2) == Some("1"))
}

pub(crate) fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
}
