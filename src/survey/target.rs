//! The target directory: what stands there and a fingerprint of it in two parts. Reads only; a live
//! database is opened so that neither it nor its directory changes.
//!
//! What the fingerprints can miss: `content` compares names, sizes, times, inodes and database headers,
//! so a program that rewrites a blob in place and sets its time back is not seen. `structure` reads the
//! bytes of fixed files up to 16 MiB; larger ones go by size and time.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::Path;

use cap_std::fs::Dir;

use super::tree::{self, Entry, Kind};
use crate::actual::account::{self, Account, Budget};
use crate::actual::layout::{self, Role};
use crate::actual::messages;
use crate::host::fs;
use crate::host::sqlite::{self, ReadError};
use crate::host::stamp::Stamp;
use crate::ids::Sha256;
use crate::plan::observed::{self, ObservedBudget, ObservedFile, ObservedTarget, Presence};

/// More entries than any instance has at its top; where they change places one by one, the journal lists
/// them all.
pub const MAX_ENTRIES: usize = 1000;
const MAX_LISTED: usize = 100;
const MAX_HASHED: u64 = 16 << 20;

/// A target, looked at.
#[derive(Debug)]
pub struct TargetSurvey {
    /// What goes into the plan.
    pub observed: ObservedTarget,
    /// Its entries, by name.
    pub entries: Vec<Entry>,
    /// The server's own database, where it could be read.
    pub account: Option<Account>,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Databases that the machine could not read: not for what they hold, but for the disk.
    pub unread: Vec<Unread>,
}

/// A database of the target that the machine could not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The sync group whose database it is; `None` for the server's own.
    pub group: Option<String>,
    /// Which file, and why.
    pub why: String,
}

impl TargetSurvey {
    /// What could be read when `planned` was seen and cannot now: nothing can be compared then.
    pub fn unread_since(&self, planned: &ObservedTarget) -> Option<&Unread> {
        let was_counted = |group: &String| {
            let mut budgets = planned.budgets.iter();
            budgets.any(|budget| budget.group_id.as_ref() == Some(group) && budget.changes.is_some())
        };
        self.unread.iter().find(|unread| match &unread.group {
            Some(group) => was_counted(group),
            None => planned.presence == Presence::Content && planned.budgets_unreadable.is_none(),
        })
    }
}

/// Looks at a target; `None` for one that does not exist. `data` is the server's data directory below it.
pub fn look(target: Option<&Dir>, data: &Path) -> io::Result<TargetSurvey> {
    let Some(dir) = target else { return Ok(empty(Presence::Absent)) };
    let mut builder = Builder::default();
    tree::walk(dir, &mut |entry, parent| builder.add(entry, parent, data))?;
    if builder.entries.is_empty() {
        return Ok(empty(Presence::Empty));
    }
    Ok(builder.finish(dir, data))
}

/// Why the entries of a mount point could not change places one by one, each by its name.
pub fn unmovable(entries: &[Entry]) -> Option<String> {
    let mut top = entries.iter().map(|entry| &entry.path).filter(|path| path.components().count() == 1);
    if let Some(path) = top.clone().find(|path| path.to_str().is_none()) {
        return Some(format!("the name {} in it is not UTF-8", visible(path)));
    }
    top.nth(MAX_ENTRIES).map(|_| format!("it has more than {MAX_ENTRIES} entries"))
}

fn empty(presence: Presence) -> TargetSurvey {
    let observed = ObservedTarget {
        presence,
        mount_point: false,
        structure: None,
        content: None,
        files: Vec::new(),
        budgets: Vec::new(),
        budgets_unreadable: None,
        sessions: None,
    };
    TargetSurvey { observed, entries: Vec::new(), account: None, bytes: 0, unread: Vec::new() }
}

#[derive(Default)]
struct Builder {
    entries: Vec<Entry>,
    fixed: Vec<ObservedFile>,
    content: String,
    bytes: u64,
}

impl Builder {
    fn add(&mut self, entry: &Entry, parent: &Dir, data: &Path) -> io::Result<()> {
        let role = entry.path.strip_prefix(data).map_or(Role::Fixed, layout::role);
        let name = Path::new(entry.path.file_name().unwrap_or_default());
        let header = if role == Role::Database && entry.kind == Kind::File {
            header(parent, name)?
        } else {
            String::new()
        };
        let Entry { size, mtime, stamp: Stamp { inode, .. }, .. } = entry;
        let path = entry.path.as_os_str().as_encoded_bytes().escape_ascii();
        // A directory's own time and size change with what is in it.
        if entry.kind == Kind::Directory {
            writeln!(self.content, "{path} directory {inode}").map_err(io::Error::other)?;
        } else {
            writeln!(self.content, "{path} {:?} {size} {mtime} {inode} {header}", entry.kind)
                .map_err(io::Error::other)?;
        }
        if role == Role::Fixed || entry.kind == Kind::Directory {
            self.fixed.push(ObservedFile {
                path: visible(&entry.path),
                digest: fixed_digest(entry, parent, name)?,
            });
        }
        self.bytes += entry.size;
        self.entries.push(entry.clone());
        Ok(())
    }

    fn finish(mut self, dir: &Dir, data: &Path) -> TargetSurvey {
        self.fixed.sort();
        let mut unread = Vec::new();
        let (account, unreadable) = match read_account(dir, data) {
            Ok(account) if account.budgets.iter().any(is_strange) => {
                (None, Some("a budget has an id that no server gives".to_owned()))
            }
            Ok(account) => (Some(account), None),
            Err(error) => {
                if error.by_machine {
                    unread.push(Unread { group: None, why: error.why.clone() });
                }
                (None, Some(error.why))
            }
        };
        let mut budgets: Vec<ObservedBudget> = account
            .iter()
            .flat_map(|account| &account.budgets)
            .map(|budget| {
                let count = |group| match with_group(dir, data, group, messages::count) {
                    Ok(changes) => changes,
                    Err(error) => {
                        unread.push(Unread { group: Some(String::from(group)), why: error.why });
                        None
                    }
                };
                let changes = budget.group_id.as_deref().and_then(count);
                ObservedBudget {
                    id: budget.id.clone(),
                    group_id: budget.group_id.clone(),
                    deleted: budget.deleted,
                    changes,
                }
            })
            .collect();
        budgets.sort();
        let structure = observed::structure(&self.fixed, &budgets, unreadable.is_none());
        let observed = ObservedTarget {
            presence: Presence::Content,
            mount_point: false,
            structure: Some(structure),
            content: Some(Sha256::of(self.content.as_bytes())),
            files: if self.fixed.len() > MAX_LISTED { Vec::new() } else { self.fixed },
            budgets,
            budgets_unreadable: unreadable,
            sessions: account.as_ref().map(Account::sessions),
        };
        TargetSurvey { observed, entries: self.entries, account, bytes: self.bytes, unread }
    }
}

/// Whether a budget has an id that cannot be a part of a file name: no server gives such ones.
fn is_strange(budget: &Budget) -> bool {
    [Some(&budget.id), budget.group_id.as_ref()].into_iter().flatten().any(|id| !layout::is_plain_id(id))
}

/// A path as text; what is not UTF-8 is shown as codes.
pub fn visible(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => path.as_os_str().as_encoded_bytes().escape_ascii().to_string(),
    }
}

/// The first 100 bytes of a database hold its size and change counter.
fn header(parent: &Dir, name: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match fs::open_regular(parent, name) {
        Ok(file) => file.take(100).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(Sha256::of(&bytes).to_string())
}

fn fixed_digest(entry: &Entry, parent: &Dir, name: &Path) -> io::Result<Sha256> {
    let content = match entry.kind {
        Kind::File if entry.size <= MAX_HASHED => tree::digest(parent, name)?.to_string(),
        Kind::File => format!("{} bytes at {}", entry.size, entry.mtime),
        Kind::Symlink => {
            let target = parent.read_link_contents(name)?;
            target.as_os_str().as_encoded_bytes().escape_ascii().to_string()
        }
        Kind::Directory | Kind::Special => String::new(),
    };
    let Entry { kind, mode, uid, gid, .. } = entry;
    Ok(Sha256::of(format!("{kind:?} {mode:o} {uid}:{gid} {content}").as_bytes()))
}

/// Why a database of a tree was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotRead {
    /// Which file, and why.
    pub why: String,
    /// Whether the machine is at fault: the disk, or who else works on it.
    pub by_machine: bool,
}

impl NotRead {
    fn of(path: &Path, error: &ReadError) -> Self {
        let by_machine = matches!(error, ReadError::Sql(error) if sqlite::is_of_machine(error));
        Self { why: format!("{}: {error}", path.display()), by_machine }
    }
}

impl From<sqlite::SqliteError> for NotRead {
    fn from(error: sqlite::SqliteError) -> Self {
        Self { by_machine: error.is_environment(), why: error.to_string() }
    }
}

/// Reads the server's own database of a live or staged tree.
///
/// # Errors
/// It is missing, damaged, or cannot be read by this machine.
pub fn read_account(dir: &Dir, data: &Path) -> Result<Account, NotRead> {
    let path = data.join(layout::ACCOUNT);
    let failed = |why| NotRead { why, by_machine: true };
    if !dir.try_exists(&path).map_err(|error| failed(format!("{}: {error}", path.display())))? {
        return Err(NotRead { why: format!("{} is missing", path.display()), by_machine: false });
    }
    confirmed(|| {
        let connection = sqlite::open_read_only(dir, &path)?;
        account::read(&connection).map_err(|error| NotRead::of(&path, &error))
    })
}

/// Believes that a database is damaged only where a second look shows the same: SQLite says so too of a
/// page that the disk did not give.
fn confirmed<T>(look: impl Fn() -> Result<T, NotRead>) -> Result<T, NotRead> {
    let first = match look() {
        Err(error) if !error.by_machine => error,
        other => return other,
    };
    match look() {
        Err(second) if !second.by_machine => Err(first),
        Ok(_) | Err(_) => {
            let why = format!("{}, and at a second look it was not: the disk cannot be relied on", first.why);
            Err(NotRead { why, by_machine: true })
        }
    }
}

/// Reads something from a group database of a live tree; `None` where that is missing or damaged.
///
/// # Errors
/// The machine cannot read it.
pub fn with_group<T>(
    dir: &Dir,
    data: &Path,
    group: &str,
    read: impl Fn(&rusqlite::Connection) -> Result<T, ReadError>,
) -> Result<Option<T>, NotRead> {
    if !layout::is_plain_id(group) {
        return Ok(None);
    }
    let path = data.join(layout::group(group));
    if dir.symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let found = confirmed(|| {
        let connection = sqlite::open_read_only(dir, &path)?;
        read(&connection).map_err(|error| NotRead::of(&path, &error))
    });
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.by_machine => Err(error),
        Err(_) => Ok(None),
    }
}
