//! Runs the binary under `strace`: to see what it does, to make a call slow, to kill it at a call.

use std::process::Command;

use super::Ran;
use super::tools::have;

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
