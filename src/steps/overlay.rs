//! `overlay`: for a restore of single budgets, builds the tree to put in place in `<staging>/overlay`: a
//! copy of the live tree, which is quiet by now, with the blob, the group database and the rows of these
//! budgets from the prepared tree. So nothing that was written to other budgets until the server stopped
//! is lost. The live tree is only read; a hot journal is worked in on the copy's side.
//!
//! Undo removes the directory. A crash leaves it half made in this run's staging, which goes as a whole;
//! run again, it begins anew.

use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use sha2::Digest as _;

use super::context::{Done, Probe, StepContext, StepRunner, lock};
use super::error::StepError;
use super::{inspect, staging, swap, trees};
use crate::actual::blob::{self, Identity};
use crate::actual::layout;
use crate::actual::single::{self, Taken};
use crate::archive::DATA;
use crate::host::fs::{self, FsError, IoContext as _};
use crate::host::stamp::{Known, Stamp};
use crate::host::{copy, sqlite};
use crate::ids::{AbsPath, Sha256};
use crate::plan::step::{Action, OverlayWith, Step};
use crate::run::fact::Side;
use crate::survey::{observe, tree};

/// The name of the directory in staging.
pub(super) const OVERLAY: &str = "overlay";

/// The code of `overlay`.
#[derive(Debug)]
pub struct Overlay;

impl StepRunner for Overlay {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let Action::Overlay(with) = &step.action else {
            return Err(StepError::Unavailable { kind: step.kind() });
        };
        let staged = staging::staging(cx)?;
        let at = staging::join(&staged, OVERLAY)?;
        swap::refuse_users(cx)?;
        staging::remove(cx.host, &at)?;
        let dir = staging::ensure(cx.host, &at)?;
        let _stop = sqlite::stop_on(&cx.stop);
        let built = build(cx, step, with, &staged, &dir);
        // A signal shows as an error of whatever it stopped.
        let mut done = match built {
            Ok(done) => done,
            Err(error) => {
                cx.check_cancelled()?;
                return Err(error);
            }
        };
        trees::note(cx, step, Side::After, &at, &Known::default(), &mut done)?;
        cx.check_cancelled()?;
        Ok(done)
    }

    fn undo(&self, cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        // What lies there may be the old tree, where the journal lost the record of the swap.
        swap::refuse_lost(cx)?;
        let staged = staging::staging(cx)?;
        staging::remove(cx.host, &staging::join(&staged, OVERLAY)?)
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        let staged = staging::staging(cx)?;
        let there = staging::tree(cx.host, &staging::join(&staged, OVERLAY)?)?.is_some();
        // Whether it is whole is known to the process that built it alone.
        Ok(if there { Probe::Half } else { Probe::NotBegun })
    }
}

/// Copies the live tree into `dir` and puts the budgets into the copy, durably.
fn build(
    cx: &StepContext<'_>,
    step: &Step,
    with: &OverlayWith,
    staged: &AbsPath,
    dir: &Dir,
) -> Result<Done, StepError> {
    let path = cx.host.root.host_path(&with.directory);
    let (_, Some(live)) = observe::open_target(cx.host, &with.directory)? else {
        return Err(StepError::Changed { what: format!("{} is gone", with.directory) });
    };
    let before = stamp(&live).context("look at", &path)?;
    let progress = |bytes: u64| (cx.progress)(&step.id, bytes);
    copy::tree(&live, dir, &cx.stop, &progress).map_err(|error| below(&path, error))?;
    if stamp(&live).context("look at", &path)? != before {
        return Err(StepError::Changed { what: format!("{} changed while it was copied", with.directory) });
    }
    *lock(&cx.shared.copied) = Some(before);
    let settled = settle(dir)?;
    let (from_path, to_path) =
        (cx.host.root.host_path(staged).join(DATA), cx.host.root.host_path(staged).join(OVERLAY));
    let data = Path::new(&with.data_directory);
    let staged = staging::existing(cx.host, staged)?
        .ok_or_else(|| StepError::Changed { what: format!("{staged} is gone") })?;
    let from = fs::open_dir(&staged, Path::new(DATA).join(data)).context("open", from_path.join(data))?;
    let to = fs::open_dir(dir, data).context("open", to_path.join(data))?;
    let warnings = take(cx, with, &from, &to).map_err(|error| placed(error, &to_path.join(data)))?;
    fs::sync_filesystem(dir).context("sync", &to_path)?;
    let budgets = with.budgets.len();
    let mut detail = format!(
        "{budgets} {} from the backup, all else as in {}",
        if budgets == 1 { "budget" } else { "budgets" },
        with.directory
    );
    if settled > 0 {
        detail = format!("{detail}; {settled} databases of the copy rolled back to their last commit");
    }
    Ok(Done { detail, warnings })
}

/// The error with the whole path.
fn below(base: &Path, error: FsError) -> FsError {
    FsError { path: base.join(&error.path), ..error }
}

fn placed(error: StepError, base: &Path) -> StepError {
    if let StepError::Fs(error) = error { below(base, error).into() } else { error }
}

/// Puts rows and files of the budgets into the copy; gives what a person should know.
fn take(cx: &StepContext<'_>, with: &OverlayWith, from: &Dir, to: &Dir) -> Result<Vec<String>, StepError> {
    let budgets: Vec<Taken<'_>> = with
        .budgets
        .iter()
        .map(|one| Taken {
            budget: &one.budget,
            group: &one.group,
            copy: one
                .copy
                .as_ref()
                .map(|copy| (copy.budget.as_str(), copy.group.as_str(), copy.name.as_str())),
        })
        .collect();
    let rows = single::take(from, to, &budgets)?;
    sqlite::quick_check(to, Path::new(layout::ACCOUNT))?;
    let files = Path::new(layout::USER_FILES);
    if fs::entry(to, layout::USER_FILES).context("look at", files)? == fs::Entry::Absent {
        // A server without any budget has none.
        fs::create_dir(to, layout::USER_FILES, 0o700).context("create", files)?;
        let theirs = fs::open_dir(from, files).context("open", files)?;
        let ours = fs::open_dir(to, files).context("open", files)?;
        copy::directory_like(&theirs, &ours).context("give its owner, mode and times to", files)?;
    }
    for group in rows.left.iter().filter(|group| layout::is_plain_id(group)) {
        remove(to, &layout::group(group))?;
    }
    for one in &budgets {
        cx.check_cancelled()?;
        put_blob(cx, from, to, one)?;
        let (source, target) = (layout::group(one.group), layout::group(one.group_after()));
        remove(to, &target)?;
        copy::file(from, &source, to, &target, &cx.stop).context("copy", &target)?;
        inspect::check_group(to, &target)?;
    }
    Ok(rows.warnings)
}

fn put_blob(cx: &StepContext<'_>, from: &Dir, to: &Dir, one: &Taken<'_>) -> Result<(), StepError> {
    let (source, target) = (layout::blob(one.budget), layout::blob(one.id()));
    remove(to, &target)?;
    let Some((budget, group, name)) = one.copy else {
        return Ok(copy::file(from, &source, to, &target, &cx.stop).context("copy", &target)?);
    };
    let mut old = fs::open_regular(from, &source).context("open", &source)?;
    let mut new = fs::create_file(to, &target, 0o600).context("create", &target)?;
    blob::rename(&mut old, &mut new, Identity { budget, group, name })?;
    Ok(copy::like(from, &source, &new).context("give its owner, mode and times to", &target)?)
}

/// Removes a file and, as a database, its companions: a stale journal would be worked into the new one.
fn remove(dir: &Dir, name: &Path) -> Result<(), StepError> {
    let names: [PathBuf; 3] = sqlite::companions(name);
    for name in names.iter().map(PathBuf::as_path).chain([name]) {
        match dir.remove_file(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("remove", name).map_err(StepError::from);
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Lets SQLite roll back or finish what companions of databases in the copy hold. Gives their number.
fn settle(dir: &Dir) -> Result<usize, StepError> {
    let mut bases = Vec::new();
    let walked = tree::walk(dir, &mut |entry, parent| {
        let name = entry.path.to_string_lossy().into_owned();
        let Some(base) = ["-journal", "-wal"].iter().find_map(|end| name.strip_suffix(end)) else {
            return Ok(());
        };
        let file = Path::new(base).file_name().unwrap_or_default();
        if entry.kind == tree::Kind::File
            && let Ok(file) = fs::open_regular(parent, file)
            && sqlite::is_database(&file)?
        {
            bases.push(PathBuf::from(base));
        }
        Ok(())
    });
    walked.context("look at", OVERLAY)?;
    bases.sort();
    bases.dedup();
    let mut settled = 0;
    for base in bases {
        settled += usize::from(sqlite::settle(dir, &base)?);
    }
    Ok(settled)
}

/// A cheap fingerprint of a tree: whatever is written changes it.
pub(super) fn stamp(dir: &Dir) -> std::io::Result<Sha256> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut hasher = sha2::Sha256::new();
    tree::walk(dir, &mut |entry, _| {
        let tree::Entry { kind, mode, uid, gid, size, mtime, stamp: Stamp { inode, .. }, .. } = entry;
        hasher.update(format!("{kind:?} {mode:o} {uid} {gid} {size} {mtime} {inode} "));
        hasher.update(entry.path.as_os_str().as_bytes());
        hasher.update([0]);
        Ok(())
    })?;
    Ok(Sha256::from_bytes(hasher.finalize().into()))
}
