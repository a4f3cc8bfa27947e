//! What a server that goes on taking writes can have changed of a preview's files since the plan was made:
//! only databases and budgets' blobs, by the rules of [`layout::role`]. What the plan says of all other
//! files, and how many there are, is held against the machine. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::actual::layout::{self, Role};
use crate::plan::observed::ObservedTarget;
use crate::plan::preview::{BudgetPresence, FileChanges, FileGroup, Preview};
use crate::survey::target::visible;

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Only in the backup.
    Added,
    /// In both, with another content.
    Changed,
    /// Only in the target.
    Removed,
    /// In both and equal.
    Unchanged,
}

/// Files with their bytes.
type Files = BTreeMap<PathBuf, u64>;

/// The files of a preview: those that a running server does not change, and the others.
#[derive(Debug)]
pub struct Bounds {
    data: PathBuf,
    fixed: BTreeMap<Fate, Vec<(PathBuf, u64)>>,
    moving: BTreeMap<Fate, Vec<(PathBuf, u64)>>,
}

impl Bounds {
    /// Of no file; `data` is the server's data directory below the target.
    pub fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), fixed: BTreeMap::new(), moving: BTreeMap::new() }
    }

    /// One file more.
    pub fn add(&mut self, fate: Fate, path: &Path, bytes: u64) {
        let files = if self.is_fixed(path) { &mut self.fixed } else { &mut self.moving };
        files.entry(fate).or_default().push((path.to_owned(), bytes));
    }

    /// All files of one fate by name, with their bytes.
    pub fn files(&self, fate: Fate) -> Vec<(&Path, u64)> {
        let all = [&self.fixed, &self.moving].into_iter().filter_map(|files| files.get(&fate)).flatten();
        let mut all: Vec<(&Path, u64)> = all.map(|(path, bytes)| (path.as_path(), *bytes)).collect();
        all.sort_unstable();
        all
    }

    fn is_fixed(&self, path: &Path) -> bool {
        path.strip_prefix(&self.data).map_or(Role::Fixed, layout::role) == Role::Fixed
    }

    fn fixed(&self, fate: Fate) -> Files {
        self.fixed.get(&fate).into_iter().flatten().cloned().collect()
    }

    fn moving(&self, fates: &[Fate]) -> Files {
        fates.iter().filter_map(|fate| self.moving.get(fate)).flatten().cloned().collect()
    }

    /// Files of the backup, as far as they get into a preview.
    fn of_backup(&self) -> u64 {
        let all = [&self.fixed, &self.moving].into_iter().flatten();
        let of = all.filter(|(fate, _)| **fate != Fate::Removed).map(|(_, files)| files.len() as u64);
        of.sum()
    }

    /// Whether the files of a preview can have been so when the plan was made, if nothing happened to the
    /// target since but that its server wrote.
    pub fn hold(&self, target: &ObservedTarget, preview: &Preview) -> bool {
        let FileChanges { added, changed, removed, unchanged } = &preview.files;
        let there = self.there(target);
        let (both, only_backup) = (&[Fate::Changed, Fate::Unchanged], &[Fate::Added]);

        let must_add = self.fixed(Fate::Added);
        let mut may_add = must_add.clone();
        may_add.extend(self.moving(both).into_iter().filter(|(path, _)| !there.contains(path)));
        may_add.extend(self.moving(only_backup));

        let mut must_change = self.fixed(Fate::Changed);
        let mut may_change = must_change.clone();
        let differ = self.differ(target, preview);
        must_change.extend(self.moving(both).into_iter().filter(|(path, _)| differ.contains(path)));
        may_change.extend(self.moving(both));
        may_change.extend(self.moving(only_backup));

        let fixed_go = self.fixed(Fate::Removed);
        let mut must_go = fixed_go.clone();
        let known = self.moving(&[Fate::Removed]).into_iter().filter(|(path, _)| there.contains(path));
        must_go.extend(known);
        let fixed_names: BTreeSet<String> = fixed_go.keys().map(|path| visible(path)).collect();
        let sum = added.count.checked_add(changed.count).and_then(|sum| sum.checked_add(*unchanged));

        sum == Some(self.of_backup())
            && *unchanged >= self.fixed(Fate::Unchanged).len() as u64
            && within(added, &must_add, &may_add)
            && within(changed, &must_change, &may_change)
            // What else went meanwhile (journals, uploads under way) nobody can know.
            && removed.count >= must_go.len() as u64
            && removed.bytes >= bytes(&fixed_go)
            && names(removed, &must_go, |name| fixed_names.contains(name) || !self.is_fixed(Path::new(name)))
    }

    /// Databases that were there when these budgets were observed. A blob that is missing can come back
    /// when a client uploads it.
    fn there(&self, target: &ObservedTarget) -> BTreeSet<PathBuf> {
        let mut there = BTreeSet::new();
        if target.budgets_unreadable.is_none() {
            there.insert(self.data.join(layout::ACCOUNT));
        }
        for budget in &target.budgets {
            if let Some(group) = budget.group_id.as_ref().filter(|_| budget.changes.is_some()) {
                there.insert(self.data.join(layout::group(group)));
            }
        }
        there
    }

    /// Databases that differ, by what the preview says of them.
    fn differ(&self, target: &ObservedTarget, preview: &Preview) -> BTreeSet<PathBuf> {
        let newer = |id: &str| {
            preview.budgets.iter().any(|budget| {
                budget.id == id
                    && budget.presence == BudgetPresence::Both
                    && budget.changes_newer.is_some_and(|count| count > 0)
            })
        };
        let groups = target.budgets.iter().filter(|budget| newer(&budget.id));
        let mut differ: BTreeSet<PathBuf> =
            groups.filter_map(|budget| budget.group_id.as_deref()).map(layout::group).collect();
        if preview.rows.iter().any(|row| row.live.is_some() && row.backup.is_some() && row.live != row.backup)
        {
            differ.insert(layout::ACCOUNT.into());
        }
        differ.into_iter().map(|path| self.data.join(path)).collect()
    }
}

fn bytes(files: &Files) -> u64 {
    files.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

/// Whether a group holds all of `must` and nothing beyond `may`.
fn within(group: &FileGroup, must: &Files, may: &Files) -> bool {
    let allowed: BTreeSet<String> = may.keys().map(|path| visible(path)).collect();
    (must.len() as u64..=may.len() as u64).contains(&group.count)
        && (bytes(must)..=bytes(may)).contains(&group.bytes)
        && names(group, must, |name| allowed.contains(name))
}

/// Whether the names that a group shows may be shown, and none is missing that must be.
fn names(group: &FileGroup, must: &Files, may: impl Fn(&str) -> bool) -> bool {
    let shown: BTreeSet<&str> = group.examples.iter().map(String::as_str).collect();
    let all_shown = group.count == shown.len() as u64;
    // Left out for others that come first. Links, which have no bytes, come after all files.
    let crowded_out = |path: &Path, bytes: u64| {
        !all_shown && (bytes == 0 || shown.iter().all(|other| Path::new(other) < path))
    };
    shown.len() == group.examples.len()
        && (all_shown || shown.len() == super::compare::MAX_EXAMPLES)
        && shown.iter().all(|name| may(name))
        && must
            .iter()
            .all(|(path, bytes)| shown.contains(visible(path).as_str()) || crowded_out(path, *bytes))
}
