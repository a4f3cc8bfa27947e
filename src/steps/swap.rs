//! `swap`: puts the unpacked tree in the target's place with one `renameat2(RENAME_EXCHANGE)`, then
//! moves the displaced tree to `<parent>/.abssctl/displaced/<run>`, where it is kept. Where there was
//! nothing, one `RENAME_NOREPLACE`. Undo exchanges back. In a rollback the tree that an earlier run
//! displaced is brought into staging first, by one rename; undo gives it back to that run.
//!
//! The journal knows the inodes of both trees before the first rename. A crash leaves one of three
//! states, told apart by which inode has the target's name and where the other one lies: not begun,
//! exchanged but not moved aside, done. In each of them the target is the whole old or the whole new tree.

use cap_std::fs::{Dir, MetadataExt as _};

use super::context::{Done, Probe, StepContext, StepRunner, lock};
use super::error::StepError;
use super::{entries, overlay, service, staging};
use crate::archive::DATA;
use crate::host::fs::{self, IoContext as _};
use crate::host::processes;
use crate::ids::AbsPath;
use crate::plan::step::{Action, StagedTree, Step, StepKind, SwapMethod};
use crate::run::fact::{EntryIds, Fact, FileId};
use crate::survey::observe;

/// The code of `swap`.
#[derive(Debug)]
pub struct Swap;

/// What the journal knows of a swap.
pub(super) struct Noted {
    staged: FileId,
    live: Option<FileId>,
    pub(super) staged_at: AbsPath,
    pub(super) displaced_at: AbsPath,
    /// Where an earlier run keeps the tree that comes back.
    from: Option<AbsPath>,
    /// What changes places one by one, where a file system is mounted at the target.
    pub(super) entries: Vec<EntryIds>,
}

/// Where the two trees of a swap are.
enum Place {
    /// The target has its old tree, the other one is in staging, where an earlier run keeps it, or gone.
    Before,
    /// The target has the unpacked tree, the old one is still in staging; of a mount point, some entries.
    Exchanged,
    /// The target has the unpacked tree, the old one is kept aside (or there was none).
    After,
    /// Anything else.
    Unknown(String),
}

impl StepRunner for Swap {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let mut done = Done::default();
        let noted = match noted(cx)? {
            Some(noted) => noted,
            None => note(cx, step)?,
        };
        let by_entry = !noted.entries.is_empty();
        match place(cx, &noted)? {
            Place::Before => {
                refuse_users(cx)?;
                refuse_changes(cx)?;
                take(cx, &noted)?;
                if by_entry {
                    entries::forward(cx, &noted)?;
                } else {
                    exchange(cx, &noted)?;
                    move_aside(cx, &noted)?;
                }
            }
            // Also where all are in their places: what belongs to the directory itself may not be there yet.
            Place::Exchanged | Place::After if by_entry => entries::forward(cx, &noted)?,
            Place::Exchanged => move_aside(cx, &noted)?,
            Place::After => {}
            Place::Unknown(what) => return Err(StepError::UnknownState { what }),
        }
        done.detail = match noted.live {
            Some(_) => format!("the old tree is kept in {}", noted.displaced_at),
            None => "there was nothing to displace".to_owned(),
        };
        Ok(done)
    }

    fn undo(&self, cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        let Some(noted) = noted(cx)? else { return refuse_lost(cx) };
        let place = place(cx, &noted)?;
        let by_entry = !noted.entries.is_empty();
        if matches!(place, Place::Exchanged | Place::After) || by_entry {
            // Whoever works in the restored tree would go on writing into one that is out of the way.
            service::quiet(cx)?;
        }
        match place {
            Place::Before | Place::Exchanged | Place::After if by_entry => entries::back(cx, &noted)?,
            Place::Before => {}
            Place::Exchanged => exchange(cx, &noted)?,
            Place::After => put_back(cx, &noted)?,
            Place::Unknown(what) => return Err(StepError::UnknownState { what }),
        }
        give_back(cx, &noted)?;
        if let Some(parent) = noted.displaced_at.parent() {
            staging::prune_empty(cx.host, &parent)?;
        }
        Ok(())
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        let Some(noted) = noted(cx)? else { return refuse_lost(cx).map(|()| Probe::NotBegun) };
        match place(cx, &noted)? {
            Place::Before => Ok(Probe::NotBegun),
            Place::Exchanged => Ok(Probe::Half),
            Place::After => Ok(Probe::Done),
            Place::Unknown(what) => Err(StepError::UnknownState { what }),
        }
    }
}

fn noted(cx: &StepContext<'_>) -> Result<Option<Noted>, StepError> {
    let noted = cx.fact(|fact| {
        let Fact::Swap { staged, live, staged_at, displaced_at, entries, from } = fact else { return None };
        Some(Noted {
            from: from.clone(),
            staged: *staged,
            live: *live,
            staged_at: staged_at.clone(),
            displaced_at: displaced_at.clone(),
            entries: entries.clone(),
        })
    });
    let Some(noted) = noted else { return Ok(None) };
    // The plan and the run's id say where everything lies. Other places come from somebody who edited the
    // journal, and nothing is moved there.
    let (places, tree) = (Places::of(cx)?, before(cx));
    if (&noted.staged_at, &noted.displaced_at, &noted.from)
        != (&places.staged_at, &places.displaced_at, &places.from)
        || noted.live.zip(tree).is_some_and(|(live, tree)| live.inode != tree.inode)
    {
        let what = format!("the journal of run {} names other places or trees than its plan", cx.run);
        return Err(StepError::UnknownState { what });
    }
    Ok(Some(noted))
}

/// Where the trees of a run lie.
struct Places {
    staged_at: AbsPath,
    displaced_at: AbsPath,
    from: Option<AbsPath>,
}

impl Places {
    fn of(cx: &StepContext<'_>) -> Result<Self, StepError> {
        let with = cx
            .plan
            .steps
            .iter()
            .find_map(|step| if let Action::Swap(with) = &step.action { Some(with) } else { None });
        let with = with.ok_or(StepError::Unavailable { kind: StepKind::Swap })?;
        let tree = match with.tree {
            StagedTree::Unpacked | StagedTree::Displaced => DATA,
            StagedTree::Overlay => overlay::OVERLAY,
        };
        let staged_at = staging::join(&staging::staging(cx)?, tree)?;
        Ok(Self { staged_at, displaced_at: staging::displaced(cx)?, from: with.from.clone() })
    }
}

/// Notes which directory has the target's name before anything changes.
pub(super) fn note_target(cx: &StepContext<'_>, step: &Step) -> Result<(), StepError> {
    let target = &cx.plan.spec.target.directory;
    let (_, Some(dir)) = observe::open_target(cx.host, target)? else { return Ok(()) };
    let id = file_id(&dir).context("look at", cx.host.root.host_path(target))?;
    cx.note(step, Fact::Target { id })
}

fn before(cx: &StepContext<'_>) -> Option<FileId> {
    cx.fact(|fact| if let Fact::Target { id } = fact { Some(*id) } else { None })
}

/// Refuses where the journal tells of no swap and yet another directory has the target's name than before:
/// its end is lost, by a disk or by hand, and what lies in staging may be the only old tree.
pub fn refuse_lost(cx: &StepContext<'_>) -> Result<(), StepError> {
    if noted(cx)?.is_some() {
        return Ok(());
    }
    let Some(before) = before(cx) else { return Ok(()) };
    let target = &cx.plan.spec.target.directory;
    let (_, dir) = observe::open_target(cx.host, target)?;
    let now = dir.as_ref().map(file_id).transpose().context("look at", cx.host.root.host_path(target))?;
    if now.is_some_and(|now| now.inode == before.inode) {
        return Ok(());
    }
    let staging = staging::staging(cx)?;
    Err(StepError::UnknownState {
        what: format!(
            "{target} is another directory than before run {}, whose journal tells of no swap: its end is lost, and the old tree may lie in {staging}",
            cx.run
        ),
    })
}

/// Notes which two trees are about to change places.
fn note(cx: &StepContext<'_>, step: &Step) -> Result<Noted, StepError> {
    let target = &cx.plan.spec.target.directory;
    let Action::Swap(with) = &step.action else {
        return Err(StepError::Unavailable { kind: step.kind() });
    };
    let Places { staged_at, displaced_at, from } = Places::of(cx)?;
    let lies_at = from.as_ref().unwrap_or(&staged_at);
    let new = staging::tree(cx.host, lies_at)?
        .ok_or_else(|| StepError::Changed { what: format!("{lies_at} is gone") })?;
    let staged = file_id(&new).context("look at", cx.host.root.host_path(lies_at))?;
    let path = cx.host.root.host_path(target);
    let (parent, dir) = observe::open_target(cx.host, target)?;
    let live = dir.as_ref().map(file_id).transpose().context("look at", &path)?;
    let mounted = observe::is_mount_point(&parent, target).context("look at", &path)?;
    let entries = match dir.as_ref().filter(|_| mounted) {
        Some(dir) => entries::list(cx, dir, &new).context("list", &path)?,
        None => Vec::new(),
    };
    let found = match (&live, mounted) {
        (None, _) => SwapMethod::Rename,
        (Some(_), false) => SwapMethod::Exchange,
        (Some(_), true) => SwapMethod::Entries,
    };
    if with.method != found {
        let what = format!("{target} appeared or disappeared since it was checked");
        return Err(StepError::Changed { what });
    }
    // Of an empty mount point nothing is displaced.
    let live = live.filter(|_| entries.is_empty() || entries.iter().any(|entry| entry.old.is_some()));
    let noted = Noted { staged, live, staged_at, displaced_at, from, entries };
    let (at, aside) = (noted.staged_at.clone(), noted.displaced_at.clone());
    let (from, entries) = (noted.from.clone(), noted.entries.clone());
    cx.note(step, Fact::Swap { staged, live, staged_at: at, displaced_at: aside, entries, from })?;
    Ok(noted)
}

fn file_id(dir: &Dir) -> std::io::Result<FileId> {
    let meta = dir.dir_metadata()?;
    Ok(FileId { device: meta.dev(), inode: meta.ino() })
}

/// Looks which tree lies under which name.
fn place(cx: &StepContext<'_>, noted: &Noted) -> Result<Place, StepError> {
    if !noted.entries.is_empty() {
        return Ok(match entries::probe(cx, noted)? {
            Probe::NotBegun => Place::Before,
            Probe::Half => Place::Exchanged,
            Probe::Done => Place::After,
        });
    }
    let target = &cx.plan.spec.target.directory;
    let at = |inside: &AbsPath| -> Result<Option<FileId>, StepError> {
        let live = inside == target;
        let dir = if live { cx.host.root.dir_optional(inside)? } else { staging::tree(cx.host, inside)? };
        Ok(dir.as_ref().map(file_id).transpose().context("look at", cx.host.root.host_path(inside))?)
    };
    let (in_place, staged, displaced) = (at(target)?, at(&noted.staged_at)?, at(&noted.displaced_at)?);
    // A disk may have another device number after a reboot: what counts is that all three are on one.
    let devices: Vec<u64> = [in_place, staged, displaced].iter().flatten().map(|id| id.device).collect();
    let one_device = devices.windows(2).all(|pair| pair[0] == pair[1]);
    let inode = |id: Option<FileId>| id.map(|id| id.inode);
    let (in_place, staged, displaced) = (inode(in_place), inode(staged), inode(displaced));
    let (new, old) = (Some(noted.staged.inode), inode(noted.live));
    Ok(if one_device && in_place == old && displaced.is_none() && (staged.is_none() || staged == new) {
        Place::Before
    } else if one_device && in_place == new && old.is_some() && staged == old && displaced.is_none() {
        Place::Exchanged
    } else if one_device && in_place == new && staged.is_none() && displaced == old {
        Place::After
    } else {
        Place::Unknown(format!(
            "{target}, {} and {} hold other directories than run {} put there",
            noted.staged_at, noted.displaced_at, cx.run
        ))
    })
}

/// The last look before the exchange: whoever has files open would go on writing into the old tree.
pub fn refuse_users(cx: &StepContext<'_>) -> Result<(), StepError> {
    let path = cx.host.root.host_path(&cx.plan.spec.target.directory);
    match processes::users_of(&path).files.into_iter().next() {
        None => Ok(()),
        Some(user) => Err(StepError::InUse { pid: user.pid, command: user.command, path: user.path }),
    }
}

/// What was written since `overlay` copied the live tree would be lost.
fn refuse_changes(cx: &StepContext<'_>) -> Result<(), StepError> {
    let Some(copied) = *lock(&cx.shared.copied) else { return Ok(()) };
    let target = &cx.plan.spec.target.directory;
    let (_, Some(dir)) = observe::open_target(cx.host, target)? else {
        return Err(StepError::Changed { what: format!("{target} is gone") });
    };
    if overlay::stamp(&dir).context("look at", cx.host.root.host_path(target))? == copied {
        return Ok(());
    }
    Err(StepError::Changed { what: format!("{target} was written to after it was copied") })
}

/// Brings the tree that an earlier run keeps into staging, from where it changes places in one step and
/// where the other one is kept for an instant.
fn take(cx: &StepContext<'_>, noted: &Noted) -> Result<(), StepError> {
    let Some(from) = &noted.from else { return Ok(()) };
    if holds(cx, &noted.staged_at, noted.staged)? {
        return Ok(());
    }
    if !holds(cx, from, noted.staged)? {
        return Err(StepError::Changed { what: format!("the old tree is not in {from} any more") });
    }
    move_tree(cx, from, &noted.staged_at)
}

/// The way back of `take`: the earlier run keeps its tree as before.
fn give_back(cx: &StepContext<'_>, noted: &Noted) -> Result<(), StepError> {
    let Some(from) = &noted.from else { return Ok(()) };
    if holds(cx, &noted.staged_at, noted.staged)? {
        move_tree(cx, &noted.staged_at, from)?;
    }
    match noted.staged_at.parent() {
        Some(parent) => staging::remove_if_empty(cx.host, &parent),
        None => Ok(()),
    }
}

/// Whether this very directory lies there.
fn holds(cx: &StepContext<'_>, path: &AbsPath, tree: FileId) -> Result<bool, StepError> {
    let dir = staging::tree(cx.host, path)?;
    let found = dir.as_ref().map(file_id).transpose().context("look at", cx.host.root.host_path(path))?;
    Ok(found.is_some_and(|found| found.inode == tree.inode))
}

/// Moves a tree from one private directory to another, durably, over nothing.
fn move_tree(cx: &StepContext<'_>, from: &AbsPath, to: &AbsPath) -> Result<(), StepError> {
    if let Some(parent) = to.parent() {
        staging::ensure(cx.host, &parent)?;
    }
    let (source, name) = staging::parent_of(cx.host, from)?;
    let (target, new) = staging::parent_of(cx.host, to)?;
    let path = cx.host.root.host_path(from);
    Ok(fs::rename_noreplace(&source, name, &target, new).context("move the old tree from", path)?)
}

/// One rename; run again, it goes the other way.
fn exchange(cx: &StepContext<'_>, noted: &Noted) -> Result<(), StepError> {
    let target = &cx.plan.spec.target.directory;
    let path = cx.host.root.host_path(target);
    let (parent, name) = cx.host.root.parent_of(target)?;
    let (staging, staged) = staging::parent_of(cx.host, &noted.staged_at)?;
    if noted.live.is_some() {
        fs::exchange(&staging, staged, &parent, name).context("put the unpacked tree in place of", path)?;
    } else {
        fs::rename_noreplace(&staging, staged, &parent, name).context("put the unpacked tree at", path)?;
    }
    Ok(())
}

fn move_aside(cx: &StepContext<'_>, noted: &Noted) -> Result<(), StepError> {
    if noted.live.is_none() {
        return Ok(());
    }
    let path = cx.host.root.host_path(&noted.displaced_at);
    if let Some(parent) = noted.displaced_at.parent() {
        staging::ensure(cx.host, &parent)?;
    }
    let (staging, staged) = staging::parent_of(cx.host, &noted.staged_at)?;
    let (aside, name) = staging::parent_of(cx.host, &noted.displaced_at)?;
    Ok(fs::rename_noreplace(&staging, staged, &aside, name).context("keep the displaced tree at", path)?)
}

/// The way back from `After`: the kept tree changes places with the restored one, which goes to staging.
fn put_back(cx: &StepContext<'_>, noted: &Noted) -> Result<(), StepError> {
    let target = &cx.plan.spec.target.directory;
    if let Some(parent) = noted.staged_at.parent() {
        staging::ensure(cx.host, &parent)?;
    }
    let (staging, staged) = staging::parent_of(cx.host, &noted.staged_at)?;
    if noted.live.is_some() {
        // Through staging, so that a crash in between is a place that the probe knows.
        let (aside, name) = staging::parent_of(cx.host, &noted.displaced_at)?;
        let path = cx.host.root.host_path(&noted.displaced_at);
        fs::rename_noreplace(&aside, name, &staging, staged).context("take back", path)?;
        exchange(cx, noted)
    } else {
        let (parent, name) = cx.host.root.parent_of(target)?;
        let path = cx.host.root.host_path(target);
        Ok(fs::rename_noreplace(&parent, name, &staging, staged).context("take back", path)?)
    }
}

/// Refuses unless this run's unpacked tree has the target's name.
pub(super) fn prove(cx: &StepContext<'_>) -> Result<(), StepError> {
    let target = &cx.plan.spec.target.directory;
    let unproven = |what: String| StepError::UnknownState { what };
    let Some(noted) = noted(cx)? else {
        return Err(unproven(format!("run {} has not replaced {target}", cx.run)));
    };
    match place(cx, &noted)? {
        Place::After => Ok(()),
        Place::Before | Place::Exchanged => {
            Err(unproven(format!("{target} is not the tree that run {} unpacked", cx.run)))
        }
        Place::Unknown(what) => Err(unproven(what)),
    }
}
