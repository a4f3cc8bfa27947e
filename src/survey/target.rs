//! The target directory: what stands there and a fingerprint of it in two parts. Reads only; a live
//! database is opened so that neither it nor its directory changes.
//!
//! What the fingerprints can miss: `content` compares names, sizes, times, inodes and database headers,
//! so a program that rewrites a blob in place and sets its time back is not seen. `structure` reads the
//! bytes of fixed files up to 16 MiB; larger ones go by size and time.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use super::tree::{self, Entry, Kind};
use crate::actual::account::{self, Account, Budget};
use crate::actual::layout::{self, Role};
use crate::actual::messages;
use crate::host::{fs, sqlite};
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
    TargetSurvey { observed, entries: Vec::new(), account: None, bytes: 0 }
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
        let Entry { size, mtime, inode, .. } = entry;
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
        let (account, unreadable) = match read_account(dir, data) {
            Ok(account) if account.budgets.iter().any(is_strange) => {
                (None, Some("a budget has an id that no server gives".to_owned()))
            }
            Ok(account) => (Some(account), None),
            Err(why) => (None, Some(why)),
        };
        let mut budgets: Vec<ObservedBudget> = account
            .iter()
            .flat_map(|account| &account.budgets)
            .map(|budget| {
                let changes = budget.group_id.as_deref().and_then(|group| count_changes(dir, data, group));
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
        TargetSurvey { observed, entries: self.entries, account, bytes: self.bytes }
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

/// Reads the server's own database of a live or staged tree; the reason where that is not possible.
pub fn read_account(dir: &Dir, data: &Path) -> Result<Account, String> {
    let path = data.join(layout::ACCOUNT);
    if !dir.try_exists(&path).map_err(|error| format!("{}: {error}", path.display()))? {
        return Err(format!("{} is missing", path.display()));
    }
    let connection = sqlite::open_read_only(dir, &path).map_err(|error| error.to_string())?;
    account::read(&connection).map_err(|error| format!("{}: {error}", path.display()))
}

fn count_changes(dir: &Dir, data: &Path, group: &str) -> Option<u64> {
    let connection = open_group(dir, data, group)?;
    messages::count(&connection).ok()
}

/// Opens a group database of a live tree for reading; `None` where it is missing or cannot be read safely.
pub fn open_group(dir: &Dir, data: &Path, group: &str) -> Option<rusqlite::Connection> {
    let path: PathBuf = data.join(layout::is_plain_id(group).then(|| layout::group(group))?);
    dir.try_exists(&path).ok()?.then_some(())?;
    sqlite::open_read_only(dir, &path).ok()
}
