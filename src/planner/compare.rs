//! What restoring a backup to a target would change: files and budgets. Reads only; a file of the target
//! is read where the backup has one of the same name and size, once for all backups.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::accounts::{self, State};
use super::bounds::{Bounds, Fate};
use crate::actual::account::{Account, Budget};
use crate::actual::logins::{self, LoginConfig};
use crate::actual::{layout, messages};
use crate::archive::DATA;
use crate::facts::model::{BudgetFiles, Changes, FileChange, FileState};
use crate::host::cancel::Cancel;
use crate::host::fs;
use crate::host::pool::Batches;
use crate::host::stamp::Known;
use crate::ids::{AbsPath, Sha256};
use crate::plan::accounts::Accounts;
use crate::plan::preview::{BudgetPresence, BudgetPreview, DeletedIn, FileChanges, FileGroup, KeyChange};
use crate::survey::archive::{ArchiveSurvey, BackupFile};
use crate::survey::observe::Place;
use crate::survey::target::{self, visible};
use crate::survey::tree::{self, Digested, Digesting, Entry, Kind};

/// More names of a group are not shown.
pub const MAX_EXAMPLES: usize = 10;
const MAX_CONFIG: u64 = 1 << 20;
/// Files of so many bytes are better not read twice; of smaller ones there may be very many to remember.
const LARGE: u64 = 1 << 20;

/// A target that backups are compared with.
#[derive(Debug)]
pub struct Target {
    /// What stands there.
    pub place: Place,
    /// The server's data directory below it.
    data: PathBuf,
    /// Digests of its files, as far as they were read; `None` for one that went away meanwhile.
    digests: RefCell<HashMap<PathBuf, Option<Sha256>>>,
    /// Those of large files, by what the files are known.
    known: Known,
    /// What the machine could not read of it.
    unread: RefCell<Vec<String>>,
}

impl Target {
    /// A target that was looked at. The digests of its large files are added to those that are known.
    pub fn new(place: Place, data: &Path, known: &Known) -> Self {
        let unread = place.target.unread.iter().map(|unread| unread.why.clone()).collect();
        Self {
            place,
            data: data.to_owned(),
            digests: RefCell::default(),
            known: known.clone(),
            unread: RefCell::new(unread),
        }
    }

    /// Notes what the machine could not read; comparing goes on without.
    pub fn not_read(&self, why: String) {
        self.unread.borrow_mut().push(why);
    }

    /// What the machine could not read so far, each with its reason.
    pub fn unread(&self) -> Vec<String> {
        self.unread.borrow().clone()
    }

    /// What restoring this backup there would change.
    pub fn changes(&self, directory: &AbsPath, contents: &ArchiveSurvey) -> Changes {
        Changes {
            directory: directory.clone(),
            fits: contents.bytes <= self.place.free,
            copy_fits: contents.bytes.saturating_add(self.place.target.bytes) <= self.place.free,
            files: self.files(contents),
            budgets: self.budgets(contents),
            budget_files: self.budget_files(contents),
            account_bytes: self.entry(Path::new(layout::ACCOUNT)).map(|entry| entry.size),
            accounts: self.accounts(contents),
        }
    }

    /// An entry of the target, by its path below the data directory.
    fn entry(&self, below: &Path) -> Option<&Entry> {
        let path = self.data.join(below);
        self.place.target.entries.iter().find(|entry| entry.path == path)
    }

    /// The files of each budget of the backup that has both.
    fn budget_files(&self, contents: &ArchiveSurvey) -> Vec<BudgetFiles> {
        let live = self.place.target.account.iter().flat_map(|account| &account.budgets);
        // A deleted one too: what is left of it goes.
        let live: BTreeMap<&str, &Budget> = live.map(|budget| (budget.id.as_str(), budget)).collect();
        let file = |below: PathBuf| {
            let file = contents.files.get(&self.data.join(&below))?;
            let state = match self.entry(&below) {
                None => FileState::Added,
                Some(entry) if self.is_same(entry, file) => FileState::Unchanged,
                Some(_) => FileState::Changed,
            };
            Some(FileChange { bytes: file.size, state })
        };
        let one = |(id, budget): (&String, &&Budget)| {
            let group = budget.group_id.as_deref().filter(|group| layout::is_plain_id(group))?;
            let live_group = live.get(id.as_str()).and_then(|live| live.group_id.as_deref());
            Some(BudgetFiles {
                id: id.clone(),
                blob: file(layout::blob(id))?,
                group: file(layout::group(group))?,
                live_group_bytes: live_group
                    .and_then(|group| self.entry(&layout::group(group)))
                    .map(|entry| entry.size),
            })
        };
        by_id(contents.account.as_ref()).iter().filter_map(one).collect()
    }

    /// Who could log in after the restore.
    fn accounts(&self, contents: &ArchiveSurvey) -> Option<Accounts> {
        let path = self.data.join(layout::CONFIG);
        let read = |bytes: Option<&[u8]>| bytes.map_or_else(LoginConfig::default, logins::config);
        let live = self.place.dir.as_ref().and_then(|dir| {
            fs::read_optional(dir, &path, MAX_CONFIG).unwrap_or_else(|error| {
                self.not_read(format!("{}: {error}", path.display()));
                None
            })
        });
        let (live, backup) = (
            read(live.as_deref()),
            read(contents.texts.get(&Path::new(DATA).join(&path)).map(Vec::as_slice)),
        );
        let old = self.place.target.account.as_ref().and_then(|account| account.logins.as_ref());
        let new = contents.account.as_ref().and_then(|account| account.logins.as_ref());
        accounts::changes(State { logins: old, config: &live }, State { logins: new, config: &backup })
    }

    fn files(&self, contents: &ArchiveSurvey) -> FileChanges {
        let mut changes = FileChanges::default();
        self.fates(contents, &mut |fate, path, size| match fate {
            Fate::Added => add(&mut changes.added, path, size),
            Fate::Changed => add(&mut changes.changed, path, size),
            Fate::Removed => add(&mut changes.removed, path, size),
            Fate::Unchanged => changes.unchanged += 1,
        });
        changes
    }

    /// Which files of a preview a running server cannot change, and which it can.
    pub fn bounds(&self, contents: &ArchiveSurvey) -> Bounds {
        let mut bounds = Bounds::new(&self.data);
        self.fates(contents, &mut |fate, path, size| bounds.add(fate, path, size));
        bounds
    }

    /// Reads on all cores what has to be read for that.
    fn read(&self, contents: &ArchiveSurvey) {
        let Some(dir) = &self.place.dir else { return };
        let Ok(below) = dir.try_clone() else { return };
        let mut digests = self.digests.borrow_mut();
        let mut small = Batches::new(&Cancel::default(), move |paths: Vec<PathBuf>, _| {
            let digest = |path: PathBuf| -> Digested {
                let read = tree::digest(&below, &path);
                (path, read.map(|sha256| (sha256, None)))
            };
            paths.into_iter().map(digest).collect::<Vec<_>>()
        });
        let (mut large, mut found) = (Digesting::default(), Vec::new());
        let is_file = |entry: &&Entry| entry.kind == Kind::File;
        for entry in self.place.target.entries.iter().filter(is_file) {
            let same = contents.files.get(&entry.path).is_some_and(|file| file.size == entry.size);
            if !same || digests.contains_key(&entry.path) {
                continue;
            }
            if entry.size >= LARGE {
                found.extend(large.push(dir, &entry.path));
            } else {
                found.extend(small.push(entry.path.clone(), entry.size).unwrap_or_default());
            }
        }
        found.extend(std::iter::from_fn(|| small.pop()).flatten());
        found.extend(std::iter::from_fn(|| large.pop()));
        for (path, digest) in found {
            // What could not be read is told where it is needed.
            let Ok((digest, stamp)) = digest else { continue };
            digests.insert(path, Some(digest));
            if let Some(stamp) = stamp {
                self.known.insert(stamp, digest);
            }
        }
    }

    /// What becomes of each file, by name; with its bytes: of the backup, or of the target where it goes.
    fn fates(&self, contents: &ArchiveSurvey, say: &mut dyn FnMut(Fate, &Path, u64)) {
        self.read(contents);
        let mut seen = BTreeSet::new();
        for entry in &self.place.target.entries {
            if entry.kind == Kind::Directory {
                continue;
            }
            seen.insert(&entry.path);
            match contents.files.get(&entry.path) {
                None if contents.links.contains_key(&entry.path) && entry.kind == Kind::Symlink => {
                    say(Fate::Unchanged, &entry.path, 0);
                }
                None => say(Fate::Removed, &entry.path, entry.size),
                Some(file) if self.is_same(entry, file) => say(Fate::Unchanged, &entry.path, file.size),
                Some(file) => say(Fate::Changed, &entry.path, file.size),
            }
        }
        for (path, file) in contents.files.iter().filter(|(path, _)| !seen.contains(path)) {
            say(Fate::Added, path, file.size);
        }
        for path in contents.links.keys().filter(|path| !seen.contains(*path)) {
            say(Fate::Added, path, 0);
        }
    }

    /// Compares by size first; only files of equal size are read.
    fn is_same(&self, entry: &Entry, file: &BackupFile) -> bool {
        if entry.kind != Kind::File || file.size != entry.size {
            return false;
        }
        let Some(dir) = &self.place.dir else { return false };
        let mut digests = self.digests.borrow_mut();
        // A file that goes away while it is read is one that changes.
        let digest =
            digests.entry(entry.path.clone()).or_insert_with(|| match tree::digest(dir, &entry.path) {
                Ok(digest) => Some(digest),
                Err(error) => {
                    if error.kind() != ErrorKind::NotFound {
                        self.not_read(format!("{}: {error}", entry.path.display()));
                    }
                    None
                }
            });
        *digest == Some(file.sha256)
    }

    fn budgets(&self, contents: &ArchiveSurvey) -> Vec<BudgetPreview> {
        let accounts = (self.place.target.account.as_ref(), contents.account.as_ref());
        let (live, backup) = (by_id(accounts.0), by_id(accounts.1));
        let deleted = (deleted(accounts.0), deleted(accounts.1));
        let ids: BTreeSet<&String> = live.keys().chain(backup.keys()).collect();
        let mut budgets: Vec<BudgetPreview> = ids
            .into_iter()
            .filter_map(|id| {
                let (live, backup) = (live.get(id), backup.get(id));
                let shown = backup.or(live)?;
                let presence = match (live, backup) {
                    (Some(_), Some(_)) => BudgetPresence::Both,
                    (Some(_), None) => BudgetPresence::LiveOnly,
                    (None, _) => BudgetPresence::BackupOnly,
                };
                let newer = live.and_then(|live| self.newer(contents, live, backup.copied()));
                let time = |of: Option<&String>| of.map(|timestamp| clock_part(timestamp));
                Some(BudgetPreview {
                    id: id.clone(),
                    name: shown.name.clone(),
                    encrypted: shown.is_encrypted(),
                    presence,
                    deleted: match presence {
                        BudgetPresence::BackupOnly => deleted.0.contains(id).then_some(DeletedIn::Live),
                        BudgetPresence::LiveOnly => deleted.1.contains(id).then_some(DeletedIn::Backup),
                        BudgetPresence::Both => None,
                    },
                    key_change: live.zip(backup).and_then(|(live, backup)| key_change(live, backup)),
                    changes_newer: newer.as_ref().map(|newer| newer.count),
                    first_newer: newer.as_ref().and_then(|newer| time(newer.first.as_ref())),
                    last_newer: newer.as_ref().and_then(|newer| time(newer.last.as_ref())),
                    group_id: shown.group_id.clone(),
                    kept: false,
                    copy_of: None,
                    live_group_id: live
                        .filter(|live| backup.is_some() && live.group_id != shown.group_id)
                        .and_then(|live| live.group_id.clone()),
                    new_group_id: None,
                })
            })
            .collect();
        budgets.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        budgets
    }

    /// Changes of a live budget that the backup does not have: all of them where it is not in the
    /// backup; not known where its sync was reset since, or where a database could not be read.
    fn newer(
        &self,
        contents: &ArchiveSurvey,
        live: &Budget,
        backup: Option<&Budget>,
    ) -> Option<messages::Newer> {
        let group = live.group_id.as_deref()?;
        let point = match backup {
            None => None,
            Some(backup) if backup.group_id.as_deref() == Some(group) => {
                contents.last_change.get(group)?.as_deref()
            }
            Some(_) => return None,
        };
        let read = |open: &rusqlite::Connection| messages::newer_than(open, point);
        let found = target::with_group(self.place.dir.as_ref()?, &self.data, group, read);
        found.unwrap_or_else(|error| {
            self.not_read(error.to_string());
            None
        })
    }
}

/// Budgets that a server shows.
fn by_id(account: Option<&Account>) -> BTreeMap<String, &Budget> {
    let budgets = account.into_iter().flat_map(|account| &account.budgets);
    budgets
        .filter(|budget| !budget.deleted && layout::is_plain_id(&budget.id))
        .map(|budget| (budget.id.clone(), budget))
        .collect()
}

/// Budgets that are marked as deleted.
fn deleted(account: Option<&Account>) -> BTreeSet<&String> {
    let budgets = account.into_iter().flat_map(|account| &account.budgets);
    budgets.filter(|budget| budget.deleted).map(|budget| &budget.id).collect()
}

fn key_change(live: &Budget, backup: &Budget) -> Option<KeyChange> {
    match (&live.key_id, &backup.key_id) {
        (None, Some(_)) => Some(KeyChange::DecryptedSince),
        (Some(_), None) => Some(KeyChange::EncryptedSince),
        (live, backup) => (live != backup).then_some(KeyChange::OtherKey),
    }
}

/// The time in a client's timestamp: `2026-11-24T02:24:23.026Z-01B8-9a8a99a80b6872fa`.
fn clock_part(timestamp: &str) -> String {
    timestamp.get(..24).unwrap_or(timestamp).to_owned()
}

fn add(group: &mut FileGroup, path: &Path, size: u64) {
    group.count += 1;
    group.bytes += size;
    if group.examples.len() < MAX_EXAMPLES {
        group.examples.push(visible(path));
    }
}
