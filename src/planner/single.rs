//! Single budgets: which ones a person means, whether they can be restored alone, and what that would
//! change. Pure: it goes by what is known, on the machine and elsewhere alike.

use std::path::{Path, PathBuf};

use super::error::PlanError;
use super::known::Known;
use super::wish::Wish;
use crate::actual::layout;
use crate::actual::whole::{self, Gap};
use crate::facts::model::{BudgetFiles, FileChange, FileState};
use crate::plan::follows;
use crate::plan::model::Metadata;
use crate::plan::observed::{Observed, Presence};
use crate::plan::preview::{BudgetPresence, BudgetPreview, FileChanges, FileGroup, RowChange};
use crate::plan::render::is_hidden;
use crate::plan::spec::{ClientPolicy, CopyAs, SessionPolicy, SingleBudget, Spec, Transfer};
use crate::state::nearest::nearest;

/// Names that one message lists.
const LISTED: usize = 10;

fn refused(what: String, help: impl Into<String>) -> PlanError {
    PlanError::Wish { what, help: help.into() }
}

/// The budgets that were asked for by name or id; none where all are meant.
///
/// # Errors
/// A name that no budget of the backup has, that several have, or that one has which is deleted.
pub fn chosen(wish: &Wish, known: &Known<'_>) -> Result<Vec<SingleBudget>, PlanError> {
    let mut budgets: Vec<SingleBudget> = Vec::new();
    for asked in &wish.budgets {
        let found = find(asked, known)?;
        if budgets.iter().all(|one| one.id != found.id) {
            budgets.push(SingleBudget { id: found.id.clone(), name: found.name.clone(), copy_as: None });
        }
    }
    if wish.as_copy {
        let [only] = budgets.as_mut_slice() else {
            return Err(refused(
                "--as-copy makes one new budget, and needs exactly one --budget".into(),
                "abssctl plan restore BACKUP_ID --budget NAME --as-copy",
            ));
        };
        let date = known.source(Transfer::Full).created_at().to_string();
        let day = date.split('T').next().unwrap_or_default().to_owned();
        let old: String = only.name.as_deref().unwrap_or(&only.id).chars().take(150).collect();
        let name = wish.copy_name.clone().unwrap_or_else(|| format!("{old} (restored {day})"));
        if name.trim().is_empty() || name.chars().any(is_hidden) || name.chars().count() > 200 {
            return Err(refused(
                "the new budget's name is empty, too long or holds characters that are not seen".into(),
                "give one of 1 to 200 plain characters: --copy-name TEXT",
            ));
        }
        only.copy_as = Some(CopyAs { name });
    }
    Ok(budgets)
}

fn in_backup<'k>(known: &Known<'k>) -> impl Iterator<Item = &'k BudgetPreview> {
    known.changes.budgets.iter().filter(|budget| budget.presence != BudgetPresence::LiveOnly)
}

fn find<'k>(asked: &str, known: &Known<'k>) -> Result<&'k BudgetPreview, PlanError> {
    if let Some(budget) = in_backup(known).find(|budget| budget.id == asked) {
        return Ok(budget);
    }
    let named: Vec<_> = in_backup(known).filter(|budget| budget.name.as_deref() == Some(asked)).collect();
    match named.as_slice() {
        [one] => return Ok(one),
        [] => {}
        many => {
            let ids: Vec<&str> = many.iter().take(LISTED).map(|budget| budget.id.as_str()).collect();
            return Err(refused(
                format!("{} budgets of the backup are named '{asked}'", many.len()),
                format!("name one by its id: --budget {}", ids.join(", --budget ")),
            ));
        }
    }
    let source = known.source(Transfer::Full);
    let backup = source.backup_id();
    let deleted = &known.contents.deleted;
    if deleted.iter().any(|budget| budget.id == asked || budget.name.as_deref() == Some(asked)) {
        return Err(refused(
            format!("budget '{asked}' was deleted already when backup {backup} was made"),
            "choose an older backup: abssctl backup list",
        ));
    }
    if known.contents.rows.is_none() {
        return Err(refused(
            format!("the list of budgets of backup {backup} could not be read"),
            "restore all of it: leave out --budget; or choose another: abssctl backup list",
        ));
    }
    let names: Vec<&str> =
        in_backup(known).map(|budget| budget.name.as_deref().unwrap_or(&budget.id)).collect();
    let mut listed = nearest(asked, names.iter().copied());
    listed.extend(names.iter().filter(|name| !nearest(asked, names.iter().copied()).contains(name)));
    let more =
        if listed.len() > LISTED { format!(" and {} more", listed.len() - LISTED) } else { String::new() };
    listed.truncate(LISTED);
    let there = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
    Err(refused(
        format!("backup {backup} has no budget '{asked}'"),
        format!("name one of those that it has, or its id: {there}{more}"),
    ))
}

/// Fills in what follows from the ids that a person wrote, and refuses what cannot be restored alone.
pub fn complete(spec: &mut Spec, known: &Known<'_>) -> Result<(), PlanError> {
    if !spec.is_single() {
        return Ok(());
    }
    check(spec, known)?;
    let ids: Vec<String> = spec.budgets.iter().map(|one| one.id.clone()).collect();
    for one in &mut spec.budgets {
        let id = &one.id;
        let Some(found) = in_backup(known).find(|budget| budget.id == *id) else {
            find(id, known)?;
            continue;
        };
        one.name.clone_from(&found.name);
        let shown = found.name.as_deref().unwrap_or(id);
        let Some(group) = known.contents.groups.iter().find(|group| group.id == *id) else {
            return Err(refused(
                format!("budget '{shown}' has no sync group in the backup: its sync was being reset"),
                "choose another backup: abssctl backup list",
            ));
        };
        let others = known.target.observed.budgets.iter().filter(|other| other.id != *id);
        let mut taken = others.filter(|other| other.group_id.as_ref() == Some(&group.group_id));
        let keeps_it = one.copy_as.is_none() && spec.clients.of(id) == ClientPolicy::Merge;
        if let Some(other) = taken.find(|other| keeps_it && !ids.contains(&other.id)) {
            return Err(refused(
                format!(
                    "the live server's budget {} has the sync group of budget '{shown}' of the backup already, and two cannot share one",
                    other.id
                ),
                "give the restored budget a new one: --clients reset",
            ));
        }
        if !known.changes.budget_files.iter().any(|files| files.id == *id) {
            let gaps: Vec<&Gap> = known.contents.incomplete.iter().filter(|gap| gap.budget == *id).collect();
            let why = if gaps.is_empty() {
                "its blob or its group database is missing".to_owned()
            } else {
                whole::describe(gaps)
            };
            return Err(refused(
                format!("budget '{shown}' is not whole in the backup: {why}"),
                "choose another backup: abssctl backup list",
            ));
        }
        if one.copy_as.is_some() && found.encrypted {
            return Err(refused(
                format!(
                    "budget '{shown}' is end-to-end encrypted and cannot be copied: the name under which devices store it is inside, and a device that holds the old one would overwrite that"
                ),
                "restore it in place of the old one: leave out --as-copy",
            ));
        }
    }
    Ok(())
}

/// What is about all of the server has no place beside single budgets.
fn check(spec: &Spec, known: &Known<'_>) -> Result<(), PlanError> {
    if !spec.target.live {
        return Err(refused(
            "single budgets go into the instance's own directory, since all else is taken from there".into(),
            "leave out --dest, or restore all of the backup there: leave out --budget",
        ));
    }
    if spec.sessions == SessionPolicy::Revoke {
        return Err(refused(
            "with single budgets the logins of the live server stay as they are, and 'revoke' is about those in the backup".into(),
            "leave out --sessions (spec.sessions: keep)",
        ));
    }
    let target = &known.target.observed;
    let unreadable = target.budgets_unreadable.as_deref();
    if target.presence != Presence::Content || unreadable.is_some() {
        let why = unreadable.unwrap_or("there is no instance");
        return Err(refused(
            format!("{} cannot be combined with single budgets: {why}", spec.target.directory),
            "restore all of the backup: leave out --budget",
        ));
    }
    Ok(())
}

/// The budgets, as a plan of single ones shows them: those that come, and those that stay.
pub fn budgets(
    metadata: &Metadata,
    spec: &Spec,
    observed: &Observed,
    known: &Known<'_>,
) -> Vec<BudgetPreview> {
    let mut shown = Vec::new();
    for budget in &known.changes.budgets {
        let one = spec.budgets.iter().find(|one| one.id == budget.id);
        let live = budget.presence != BudgetPresence::BackupOnly;
        if spec.replaces(&budget.id) {
            shown.push(budget.clone());
        } else if live {
            let group = observed.target.budgets.iter().find(|live| live.id == budget.id);
            shown.push(BudgetPreview {
                kept: true,
                group_id: group.and_then(|live| live.group_id.clone()),
                ..alone(budget)
            });
        }
        if let (Some(copy), Some(id)) =
            (one.and_then(|one| one.copy_as.as_ref()), follows::copied(&metadata.id, spec, &budget.id))
        {
            shown.push(BudgetPreview {
                id,
                name: Some(copy.name.clone()),
                presence: BudgetPresence::BackupOnly,
                copy_of: Some(budget.id.clone()),
                ..alone(budget)
            });
        }
    }
    shown
}

/// A budget of which the other side takes and loses nothing.
fn alone(budget: &BudgetPreview) -> BudgetPreview {
    BudgetPreview {
        changes_newer: None,
        first_newer: None,
        last_newer: None,
        deleted: None,
        key_change: None,
        live_group_id: None,
        ..budget.clone()
    }
}

/// Files that would change: those of these budgets, and the server's own database.
pub fn files(spec: &Spec, observed: &Observed, known: &Known<'_>, budgets: &[BudgetPreview]) -> FileChanges {
    let all = &known.changes.files;
    let total = all.changed.count + all.removed.count + all.unchanged;
    let list = list(spec, observed, known, budgets);
    let mut changes = FileChanges {
        added: grouped(&list.added),
        changed: grouped(&list.changed),
        removed: grouped(&list.removed),
        unchanged: 0,
    };
    changes.unchanged = total.saturating_sub(changes.changed.count + changes.removed.count);
    changes
}

/// The same files, each by its name.
pub fn list(spec: &Spec, observed: &Observed, known: &Known<'_>, budgets: &[BudgetPreview]) -> List {
    let data = Path::new(&observed.instance.data_directory);
    let mut list = List::default();
    list.changed.push((data.join(layout::ACCOUNT), known.changes.account_bytes.unwrap_or_default()));
    for budget in budgets.iter().filter(|budget| !budget.kept && budget.presence != BudgetPresence::LiveOnly)
    {
        let origin = budget.copy_of.as_ref().unwrap_or(&budget.id);
        let Some(files) = known.changes.budget_files.iter().find(|files| files.id == *origin) else {
            continue;
        };
        if budget.copy_of.is_some() {
            list.added.push((data.join(layout::blob(&budget.id)), files.blob.bytes));
        } else {
            list.put(data.join(layout::blob(&budget.id)), files.blob);
        }
        list.group(data, spec, observed, budget, files);
    }
    for files in [&mut list.added, &mut list.changed, &mut list.removed] {
        files.sort();
    }
    list
}

/// Files that a restore of single budgets would change, by name, with their bytes.
#[derive(Debug, Default)]
pub struct List {
    /// Not there now.
    pub added: Vec<(PathBuf, u64)>,
    /// There with another content.
    pub changed: Vec<(PathBuf, u64)>,
    /// Gone afterwards.
    pub removed: Vec<(PathBuf, u64)>,
}

impl List {
    fn put(&mut self, path: PathBuf, file: FileChange) {
        match file.state {
            FileState::Added => self.added.push((path, file.bytes)),
            FileState::Changed => self.changed.push((path, file.bytes)),
            FileState::Unchanged => {}
        }
    }

    /// A group database under its name after the restore; the one that the budget has now goes with it.
    fn group(
        &mut self,
        data: &Path,
        spec: &Spec,
        observed: &Observed,
        budget: &BudgetPreview,
        files: &BudgetFiles,
    ) {
        let Some(group) = &budget.group_id else { return };
        let after = budget.new_group_id.as_ref().unwrap_or(group);
        if after == group {
            self.put(data.join(layout::group(group)), files.group);
        } else {
            self.added.push((data.join(layout::group(after)), files.group.bytes));
        }
        let live = observed.target.budgets.iter().find(|live| live.id == budget.id);
        let old = live.and_then(|live| live.group_id.as_ref()).filter(|old| *old != after);
        if let (true, Some(old), Some(bytes)) = (spec.replaces(&budget.id), old, files.live_group_bytes) {
            self.removed.push((data.join(layout::group(old)), bytes));
        }
    }
}

fn grouped(files: &[(PathBuf, u64)]) -> FileGroup {
    FileGroup {
        count: files.len() as u64,
        bytes: files.iter().map(|(_, bytes)| bytes).sum(),
        examples: files.iter().take(10).map(|(path, _)| path.display().to_string()).collect(),
    }
}

/// Rows of the server's own tables after the restore: one budget more where it is not there now.
pub fn rows(rows: &mut Vec<RowChange>, budgets: &[BudgetPreview], observed: &Observed) {
    rows.retain(|row| row.live.is_some());
    let is_new = |budget: &&BudgetPreview| {
        !budget.kept && !observed.target.budgets.iter().any(|live| live.id == budget.id)
    };
    let new = budgets.iter().filter(is_new).count() as u64;
    for row in rows.iter_mut() {
        row.backup = row.live.map(|live| if row.table == "files" { live + new } else { live });
    }
    // How many of the access rows come depends on the users that are there then.
    rows.retain(|row| row.table != "user_access");
}
