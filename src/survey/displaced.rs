//! The tree that a run displaced: whether it can come back, and what it holds. `plan rollback` looks
//! here, `plan check` and the step `check` look again. Reads only.
//!
//! Which tree lies where is known by inode numbers, which the run noted before it moved anything: names
//! can be given to another directory by hand.

use std::path::Path;

use cap_std::fs::{Dir, MetadataExt as _};

use super::archive::{ArchiveSurvey, BackupFile};
use super::assets;
use super::target::{self, TargetSurvey};
use super::tree::{self, Kind};
use crate::actual::account::Account;
use crate::actual::{layout, messages, migrations, whole};
use crate::archive::DATA;
use crate::context::Context;
use crate::host::fs::{self, FsError, IoContext as _};
use crate::ids::{AbsPath, InstanceName, RunId};
use crate::plan::model::Time;
use crate::plan::observed::ObservedDisplaced;
use crate::plan::spec::RunSource;
use crate::run::fact::{Fact, FileId};
use crate::run::journal::{self, JournalError};
use crate::run::list::{self, Run};
use crate::run::state::{Outcome, Phase, RunState};
use crate::state::backup_index::{BackupEntry, BackupIndex};
use crate::state::instances::{LastRestore, Registry};

/// Why a run cannot be rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A stable name of it.
    pub code: &'static str,
    /// What stands in the way.
    pub what: String,
    /// What to type instead.
    pub help: String,
    /// The run that rolled it back already, where that is what stands in the way.
    pub undone_by: Option<RunId>,
}

impl Refusal {
    fn new(code: &'static str, what: String, help: String) -> Self {
        Self { code, what, help, undone_by: None }
    }
}

/// Looking failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DisplacedError {
    /// Runs could not be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Journal(#[from] JournalError),
    /// A file operation failed.
    #[error(transparent)]
    #[diagnostic(code(abssctl::survey::displaced_io), help("make it readable for this user, or run as root"))]
    Fs(#[from] FsError),
}

/// A run whose displaced tree is there to come back.
#[derive(Debug)]
pub struct Candidate {
    /// What a plan says of it.
    pub source: RunSource,
    /// The instance.
    pub instance: InstanceName,
    /// The directory whose place it had.
    pub target: AbsPath,
    /// The tree.
    pub dir: Dir,
    /// What the journal says of the run.
    pub state: RunState,
}

/// What a run noted of its swap.
struct Swapped<'s> {
    staged: FileId,
    live: FileId,
    displaced_at: &'s AbsPath,
    /// Whether the target is a mount point, of which no run displaced the directory itself.
    by_entry: bool,
}

fn swapped(state: &RunState) -> Option<Swapped<'_>> {
    let swaps = state.facts().filter_map(|fact| {
        let &Fact::Swap { staged, live: Some(live), ref displaced_at, ref entries, .. } = fact else {
            return None;
        };
        Some(Swapped { staged, live, displaced_at, by_entry: !entries.is_empty() })
    });
    swaps.last()
}

/// What the registry said before a run: the values that a rollback of it puts back.
pub fn former(state: &RunState) -> Option<&LastRestore> {
    let known = state.facts().filter_map(|fact| {
        let Fact::Record { former, .. } = fact else { return None };
        former.as_ref()
    });
    known.last()
}

/// Finds the tree that a run displaced, if that tree can come back.
///
/// # Errors
/// Runs or directories could not be read. What stands in the way is a [`Refusal`].
pub fn find(cx: &Context, id: &RunId) -> Result<Result<Candidate, Refusal>, DisplacedError> {
    if cx.root.dir_optional(&journal::run_directory(&cx.config, id)?)?.is_none() {
        let help = "list what there is: abssctl run list".to_owned();
        return Ok(Err(Refusal::new("run-unknown", format!("there is no run {id}"), help)));
    }
    let all = list::all(cx)?;
    let Some(run) = all.iter().find(|run| run.id == *id) else {
        let help = "list what there is: abssctl run list".to_owned();
        return Ok(Err(Refusal::new("run-unknown", format!("there is no run {id}"), help)));
    };
    let (Some(started), Phase::Ended(Outcome::Applied)) = (&run.state.started, run.state.phase) else {
        let what = format!("run {id} did not come to its end, so it displaced nothing for good");
        let help = format!("what became of it: abssctl run show {id}");
        return Ok(Err(Refusal::new("run-not-applied", what, help)));
    };
    let target = &started.target;
    let Some(swap) = swapped(&run.state) else {
        let what =
            format!("run {id} put its tree where nothing was ({target}): there is nothing to put back");
        let help = format!("where {target} is not wanted, move it away yourself");
        return Ok(Err(Refusal::new("nothing-displaced", what, help)));
    };
    if let Some(refusal) = later(&all, run, target) {
        return Ok(Err(refusal));
    }
    if swap.by_entry {
        let what = format!(
            "run {id} replaced what is in {target} entry by entry, since a file system is mounted there, and no plan exchanges that back; the old entries are kept in {}",
            swap.displaced_at
        );
        return Ok(Err(Refusal::new("by-entry", what, by_backup(cx, run))));
    }
    let dir = cx.root.dir_optional(swap.displaced_at)?;
    let found = dir.as_ref().map(|dir| inode(cx, dir, swap.displaced_at)).transpose()?;
    let Some(dir) = dir.filter(|_| found == Some(swap.live.inode)) else {
        if let Some(keeper) = keeper(cx, &all, swap.live)? {
            let what =
                format!("the old tree of run {id}, which it displaced, is kept by run {} now", keeper.id);
            let help = format!("bring it back by undoing that one: abssctl run rollback {}", keeper.id);
            return Ok(Err(Refusal::new("displaced-moved", what, help)));
        }
        let gone = if found.is_some() { "is another directory by now" } else { "was removed" };
        let what = format!("the old tree of run {id} {gone}: {}", swap.displaced_at);
        return Ok(Err(Refusal::new("displaced-gone", what, by_backup(cx, run))));
    };
    if let Some(refusal) = unfit(cx, run, target, &dir, swap.displaced_at)? {
        return Ok(Err(refusal));
    }
    let live = cx.root.dir_optional(target)?;
    let live = live.as_ref().map(|dir| inode(cx, dir, target)).transpose()?;
    if live.is_some_and(|live| live != swap.staged.inode) {
        let what =
            format!("{target} is not the directory that run {id} put there: something else replaced it");
        return Ok(Err(Refusal::new("target-replaced", what, by_backup(cx, run))));
    }
    let displaced_at = run.state.steps.iter().find(|step| step.facts.iter().any(is_swap));
    let displaced_at = displaced_at.and_then(|step| step.ended_at).or(run.state.ended_at);
    let source = RunSource {
        run: id.clone(),
        backup_id: started.backup.clone(),
        directory: swap.displaced_at.clone(),
        displaced_at: Time::from(displaced_at.unwrap_or(jiff::Timestamp::UNIX_EPOCH)),
    };
    let (instance, target) = (started.instance.clone(), target.clone());
    let state = run.state.clone();
    Ok(Ok(Candidate { source, instance, target, dir, state }))
}

/// Why a tree that is there must not come back.
fn unfit(
    cx: &Context,
    run: &Run,
    target: &AbsPath,
    dir: &Dir,
    displaced_at: &AbsPath,
) -> Result<Option<Refusal>, DisplacedError> {
    let id = &run.id;
    let path = cx.root.host_path(displaced_at);
    let (mut entries, mut mounted) = (0_usize, None);
    tree::walk(dir, &mut |entry, _| {
        entries += 1;
        if entry.mount_point {
            mounted.get_or_insert_with(|| entry.path.clone());
        }
        Ok(())
    })
    .context("look at", path)?;
    if entries == 0 {
        let what =
            format!("run {id} put its tree into an empty directory ({target}): there is nothing to put back");
        let help = format!("where {target} is not wanted, move it away yourself");
        return Ok(Some(Refusal::new("nothing-displaced", what, help)));
    }
    if let Some(inner) = mounted {
        let what =
            format!("another file system is mounted in the old tree of run {id}, at {}", inner.display());
        let help = format!("unmount it, and look at what is below it: {displaced_at}");
        return Ok(Some(Refusal::new("mount-inside", what, help)));
    }
    let instance = run.state.started.as_ref().map(|started| &started.instance);
    // Of a damaged registry others tell.
    let registry = Registry::load(&cx.root, &cx.config).ok();
    let entry = instance.and_then(|name| registry.as_ref()?.get(name).ok());
    let moved = entry.filter(|entry| former(&run.state).is_some() && entry.paths.root != *target);
    Ok(moved.map(|entry| {
        let what = format!(
            "run {id} restored {target}, and instance {} lies in {} by now",
            entry.name, entry.paths.root
        );
        let help = by_backup(cx, run);
        Refusal::new("instance-moved", what, help)
    }))
}

/// The run that keeps a tree now: its rollback was rolled back, so that it was displaced once more.
fn keeper<'r>(cx: &Context, all: &'r [Run], tree: FileId) -> Result<Option<&'r Run>, FsError> {
    for run in all.iter().rev().filter(|run| run.state.phase == Phase::Ended(Outcome::Applied)) {
        let Some(swap) = swapped(&run.state).filter(|swap| swap.live.inode == tree.inode) else { continue };
        if let Some(dir) = cx.root.dir_optional(swap.displaced_at)?
            && inode(cx, &dir, swap.displaced_at)? == tree.inode
        {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

fn is_swap(fact: &Fact) -> bool {
    matches!(fact, Fact::Swap { .. })
}

fn inode(cx: &Context, dir: &Dir, path: &AbsPath) -> Result<u64, FsError> {
    Ok(dir.dir_metadata().context("look at", cx.root.host_path(path))?.ino())
}

/// The way back that is left: the backup of the state before.
fn by_backup(cx: &Context, run: &Run) -> String {
    let other = "see what else there is: abssctl backup list";
    let Some(id) = run.state.pre_backup() else { return format!("it made no pre-backup; {other}") };
    // Of a damaged index others tell.
    let index = BackupIndex::load(&cx.root, &cx.config).ok();
    if index.is_some_and(|index| index.find(id).is_ok_and(BackupEntry::is_available)) {
        format!("restore the backup of the state before: abssctl backup restore {id}")
    } else {
        format!("the backup of the state before, {id}, was removed; {other}")
    }
}

/// What later runs did to the same target: one that a later one rolled back counts as if both had not been.
fn later(all: &[Run], run: &Run, target: &AbsPath) -> Option<Refusal> {
    let applied = |other: &&Run| {
        let started = other.state.started.as_ref();
        other.id > run.id
            && other.state.phase == Phase::Ended(Outcome::Applied)
            && started.is_some_and(|started| started.target == *target)
    };
    let undoes = |other: &Run| other.state.started.as_ref().and_then(|started| started.rolls_back.clone());
    let mut standing: Vec<&Run> = Vec::new();
    for other in all.iter().filter(applied) {
        match standing.last() {
            Some(last) if undoes(other).is_some_and(|undone| undone == last.id) => {
                standing.pop();
            }
            Some(_) | None => standing.push(other),
        }
    }
    let (first, last) = (standing.first()?, standing.last()?);
    let id = &run.id;
    if undoes(first).as_ref() == Some(id) && standing.len() == 1 {
        let what = format!("run {id} was rolled back by run {}", first.id);
        let help = format!("to undo that: abssctl run rollback {}", first.id);
        let undone_by = Some(first.id.clone());
        return Some(Refusal { undone_by, ..Refusal::new("already-rolled-back", what, help) });
    }
    let what = format!("run {} replaced {target} after run {id}", last.id);
    let help = format!("roll that one back first: abssctl run rollback {}", last.id);
    Some(Refusal::new("replaced-since", what, help))
}

/// The run that rolled a run back and was not rolled back itself.
pub fn undone_by<'r>(all: &'r [Run], id: &RunId) -> Option<&'r Run> {
    let undoes = |other: &&Run, id: &RunId| {
        let started = other.state.started.as_ref();
        // Later ones alone, so that forged journals cannot send this in a circle.
        other.id > *id
            && other.state.phase == Phase::Ended(Outcome::Applied)
            && started.is_some_and(|started| started.rolls_back.as_ref() == Some(id))
    };
    let undone: Vec<&Run> = all.iter().filter(|other| undoes(other, id)).collect();
    undone.into_iter().rev().find(|by| undone_by(all, &by.id).is_none())
}

/// What a tree holds.
#[derive(Debug)]
pub struct Held {
    /// What a plan says of it.
    pub observed: ObservedDisplaced,
    /// What it was seen to be.
    pub survey: TargetSurvey,
}

/// Looks at a displaced tree; `data` is the server's data directory below it.
pub fn look(cx: &Context, candidate: &Candidate, data: &Path) -> Result<Held, FsError> {
    let path = cx.root.host_path(&candidate.source.directory);
    let survey = target::look(Some(&candidate.dir), data).context("look at", &path)?;
    let files = survey.entries.iter().filter(|entry| entry.kind == Kind::File);
    let files = files.filter_map(|entry| entry.path.strip_prefix(data).ok()).map(Path::to_path_buf);
    let parts = survey.account.as_ref().map(|account| whole::look(account, &files.collect()));
    let observed = ObservedDisplaced {
        tree: survey.observed.clone(),
        incomplete: parts.map(|parts| parts.gaps).unwrap_or_default(),
        migrations: Some(migrations_of(&candidate.dir, data)),
        assets_written: assets::written(&candidate.state).is_some(),
        assets_kept: assets::is_kept(cx, &candidate.state),
    };
    Ok(Held { observed, survey })
}

/// What a tree has been through.
fn migrations_of(dir: &Dir, data: &Path) -> crate::plan::observed::BackupMigrations {
    use crate::plan::observed::BackupMigrations;
    let path = data.join(layout::MIGRATE);
    let account = dir.symlink_metadata(data.join(layout::ACCOUNT)).is_ok();
    if dir.symlink_metadata(&path).is_err() {
        return BackupMigrations::of(None, account);
    }
    let read = fs::open_regular(dir, &path).and_then(|file| fs::read_limited(file, migrations::MAX_RECORD));
    match read {
        Ok(bytes) => BackupMigrations::of(Some(&bytes), account),
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            BackupMigrations::unreadable(migrations::TOO_LARGE)
        }
        Err(_) => BackupMigrations::unreadable(migrations::NO_FILE),
    }
}

/// The tree as an archive of it would be, so that both are compared with a target by the same code.
pub fn as_archive(candidate: &Candidate, held: &Held, data: &Path) -> std::io::Result<ArchiveSurvey> {
    let dir = &candidate.dir;
    let mut found = ArchiveSurvey {
        entries: held.survey.entries.len() as u64,
        bytes: held.survey.bytes,
        account: held.survey.account.clone(),
        ..ArchiveSurvey::default()
    };
    for entry in &held.survey.entries {
        match entry.kind {
            Kind::File => {
                let file = BackupFile { size: entry.size, sha256: tree::digest(dir, &entry.path)? };
                found.files.insert(entry.path.clone(), file);
            }
            Kind::Symlink => {
                found.links.insert(entry.path.clone(), dir.read_link_contents(&entry.path)?);
            }
            Kind::Directory | Kind::Special => {}
        }
    }
    for name in [layout::CONFIG, layout::MIGRATE] {
        let path = data.join(name);
        if let Ok(Some(bytes)) = fs::read_optional(dir, &path, migrations::MAX_RECORD) {
            found.texts.insert(Path::new(DATA).join(path), bytes);
        }
    }
    for group in groups(held.survey.account.as_ref()) {
        let last = target::with_group(dir, data, group, messages::last).map_err(std::io::Error::other)?;
        if let Some(last) = last {
            found.last_change.insert(group.to_owned(), last);
        }
    }
    Ok(found)
}

fn groups(account: Option<&Account>) -> impl Iterator<Item = &str> {
    account.into_iter().flat_map(|account| &account.budgets).filter_map(|budget| budget.group_id.as_deref())
}
