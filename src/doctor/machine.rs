//! The machine: directories that must be writable, locks, the operations log, the list of signers.

use std::io::ErrorKind;

use super::{Area, Finding, Notes, names};
use crate::context::Context;
use crate::host::fs::FsError;
use crate::host::{clock, fs, lock, machine};
use crate::ids::AbsPath;
use crate::plan::approval::allowed_signers::AllowedSigners;
use crate::state::operations_log;

/// No list of signers is larger.
const SIGNERS_LIMIT: u64 = 1 << 20;

/// What this user may not even read: all else would be findings about that user.
pub(super) fn barred(cx: &Context) -> Option<Finding> {
    let config = &cx.config;
    let denied = |error: FsError| (error.source.kind() == ErrorKind::PermissionDenied).then_some(error);
    let files = [&config.backups.index, &config.instances_file(), &config.operations_log()];
    let unread = files.into_iter().find_map(|file| cx.root.open_file(file).err().and_then(denied));
    let error = unread.or_else(|| cx.root.dir_optional(&config.runs_dir()).err().and_then(denied))?;
    let mut notes = Notes::new(Area::Machine);
    let message = format!("this user may not look at what is to be examined: {error}");
    notes.problem("permission", message, "run as root: sudo abssctl doctor");
    notes.found.pop()
}

pub(super) fn look(cx: &Context) -> Vec<Finding> {
    let mut notes = Notes::new(Area::Machine);
    directories(cx, &mut notes);
    locks(cx, &mut notes);
    log(cx, &mut notes);
    signers(cx, &mut notes);
    let file = &cx.config.config_file;
    let read = match cx.root.open_file(file) {
        Ok(Some(_)) => format!("the configuration is {file}"),
        Ok(None) | Err(_) => "there is no configuration file: all settings are the defaults".to_owned(),
    };
    notes.finish("configuration", read)
}

/// Where this program writes; a missing directory is made when it is first needed.
fn directories(cx: &Context, notes: &mut Notes) {
    let config = &cx.config;
    let wanted = [
        (&config.state_dir, "state_dir"),
        (&config.logs_dir, "logs_dir"),
        (&config.runtime_dir, "runtime_dir"),
        (&config.backups.root, "backups.root"),
        (&config.instance_root, "instance_root"),
    ];
    let failed = wanted.into_iter().filter_map(|(path, setting)| {
        Some(format!("{path} ({setting}) cannot be written to: {}", writable(cx, path).err()?))
    });
    let failed: Vec<String> = failed.collect();
    let help = "run as root, or see what is set: abssctl config show";
    // Of a user who may write nowhere it is one thing that is wrong, not five.
    if !machine::is_root() && failed.len() > 1 {
        notes.problem("directory", failed.join("; "), help);
    } else {
        for message in failed {
            notes.problem("directory", message, help);
        }
    }
}

/// Whether files can be made in a directory, or in the nearest one above it that exists.
fn writable(cx: &Context, path: &AbsPath) -> Result<(), String> {
    let mut at = path.clone();
    loop {
        match cx.root.dir_optional(&at) {
            Ok(Some(dir)) => return fs::check_writable(&dir).map_err(|error| error.to_string()),
            Ok(None) => at = at.parent().ok_or("nothing of it exists")?,
            Err(error) => return Err(error.source.to_string()),
        }
    }
}

/// Locks that somebody holds: a command that waits is no riddle then.
fn locks(cx: &Context, notes: &mut Notes) {
    let runtime = &cx.config.runtime_dir;
    for name in names(cx, runtime).iter().filter(|name| name.ends_with(".lock")) {
        let Ok(path) = runtime.join(name) else { continue };
        match cx.root.open_file(&path).map(|file| file.map(|file| lock::holder_of(&file))) {
            Ok(Some(Ok(Some(holder)))) => {
                let message = format!("{path} is held by {holder}");
                notes.warning("lock", message, "other commands wait until it ends; the lock goes with it");
            }
            Ok(Some(Err(error))) => {
                notes.problem("lock", format!("{path} cannot be locked: {error}"), "run as root");
            }
            Err(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => {
                notes.problem("lock", error.to_string(), "run as root");
            }
            Err(error) => notes.problem("lock", error.to_string(), "look at what it is and move it away"),
            Ok(None | Some(Ok(None))) => {}
        }
    }
}

fn log(cx: &Context, notes: &mut Notes) {
    let path = cx.config.operations_log();
    match operations_log::ends_torn(&cx.root, &cx.config) {
        Ok(false) => {}
        Ok(true) => {
            let message = format!("the last line of {path} is cut off: a process was killed while it wrote");
            notes.warning("log-torn", message, "nothing to do: the next command ends that line");
        }
        Err(error) => notes.error("log", &error),
    }
}

fn signers(cx: &Context, notes: &mut Notes) {
    let path = &cx.config.restore.allowed_signers;
    match cx.root.read(path, SIGNERS_LIMIT) {
        Ok(None) => {}
        Ok(Some(bytes)) => {
            let text = String::from_utf8_lossy(&bytes);
            let signers = AllowedSigners::read(&text, &clock::local_zone(&cx.root));
            for mistake in signers.mistakes() {
                let message = format!("{path}, line {}: {}", mistake.line, mistake.message);
                notes.warning("signers", message, "correct the line: keys on it do not count");
            }
        }
        Err(error) => notes.problem("signers", error.to_string(), "approvals cannot be judged without it"),
    }
}
