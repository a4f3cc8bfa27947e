//! Whether a data directory is whole: each budget of the server's list has its blob and its group
//! database, and each of these has its budget. A server whose parts do not belong together offers its
//! login and then fails, budget by budget. Reads only.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::layout;

/// More gaps than this are not listed: no plan can allow a longer list.
pub const MAX_GAPS: usize = 100;
/// How many gaps one line names.
const SHOWN: usize = 10;
/// How many files that belong to no budget are named.
const NAMED: usize = 5;
/// Characters of a name or id that are shown.
const MAX_NAME: usize = 100;
/// Characters of a path that are shown: more than one with a plain id has.
const MAX_PATH: usize = 240;

/// A part of a budget that is missing: the server would serve something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gap {
    /// The server's id of the budget.
    #[schemars(length(max = 300))]
    pub budget: String,
    /// Its name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub name: Option<String>,
    /// What it lacks.
    pub lacks: Lacks,
    /// The missing file, below the data directory; absent where no file can have such a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub file: Option<String>,
}

/// What a budget lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lacks {
    /// Its blob: new devices cannot download it.
    Blob,
    /// Its group database: new devices silently get the state of the blob.
    GroupDatabase,
    /// An id that can be a part of a file name: it is no budget that a server made.
    UsableId,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What is missing, budget by budget; the first hundred.
    pub gaps: Vec<Gap>,
    /// Blobs and group databases that no budget names: only dead weight.
    pub orphans: Orphans,
}

/// Files that belong to no budget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// How many.
    pub count: usize,
    /// The first five by name, below the data directory.
    pub named: Vec<PathBuf>,
}

impl Orphans {
    /// In lines for a person: each that is named, then how many more there are.
    pub fn describe(&self) -> Vec<String> {
        let name =
            |file: &PathBuf| format!("{} belongs to no budget", shown(&file.to_string_lossy(), MAX_PATH));
        let mut lines: Vec<String> = self.named.iter().map(name).collect();
        match self.count - self.named.len() {
            0 => {}
            1 => lines.push("and 1 more file that belongs to no budget".to_owned()),
            more => lines.push(format!("and {} more files that belong to no budget", grouped(more))),
        }
        lines
    }
}

impl Gap {
    /// Whether a person may want it restored all the same: what is missing is known, and no id is strange.
    pub fn can_be_allowed(&self) -> bool {
        self.lacks != Lacks::UsableId
    }

    /// Whether a list allows it. Name and file are for people and decide nothing: the file of a budget
    /// follows from its row, and has another name in a new sync group.
    pub fn is_in(&self, allowed: &[Gap]) -> bool {
        let same = |other: &Gap| (&other.budget, other.lacks) == (&self.budget, self.lacks);
        self.can_be_allowed() && allowed.iter().any(same)
    }

    /// In one line, for a person; hidden characters are shown as codes, long text is cut.
    pub fn describe(&self) -> String {
        let name = shown(self.name.as_ref().unwrap_or(&self.budget), MAX_NAME);
        let file = shown(self.file.as_deref().unwrap_or_default(), MAX_PATH);
        match self.lacks {
            Lacks::Blob => format!("budget '{name}' has no blob {file}"),
            Lacks::GroupDatabase => format!("budget '{name}' has no group database {file}"),
            Lacks::UsableId => format!("budget id '{}' cannot be a file name", shown(&self.budget, MAX_NAME)),
        }
    }
}

/// A number as people read it: 19,943.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text of a database or a file name that is safe to print.
fn shown(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == most {
            shown.push('…');
            break;
        }
        match c {
            '\'' | '"' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// Compares the server's list with the files that are there (paths below the data directory). Gives the
/// first hundred gaps.
pub fn look(account: &Account, files: &BTreeSet<PathBuf>) -> Found {
    let mut found = Found::default();
    let mut claimed = BTreeSet::new();
    for budget in &account.budgets {
        let gap = |lacks, file: Option<&Path>| Gap {
            budget: budget.id.clone(),
            name: budget.name.clone(),
            lacks,
            file: file.map(|file| file.display().to_string()),
        };
        let ids = [Some(&budget.id), budget.group_id.as_ref()];
        if let Some(id) = ids.into_iter().flatten().find(|id| !layout::is_plain_id(id)) {
            found.gaps.push(Gap { budget: id.clone(), ..gap(Lacks::UsableId, None) });
            continue;
        }
        let blob = layout::blob(&budget.id);
        if !files.contains(&blob) && !budget.deleted {
            found.gaps.push(gap(Lacks::Blob, Some(&blob)));
        }
        claimed.insert(blob);
        if let Some(group) = budget.group_id.as_deref().map(layout::group) {
            if !files.contains(&group) && !budget.deleted {
                found.gaps.push(gap(Lacks::GroupDatabase, Some(&group)));
            }
            claimed.insert(group);
        }
    }
    for path in files.iter().filter(|path| is_owned(path) && !claimed.contains(*path)) {
        found.orphans.count += 1;
        if found.orphans.named.len() < NAMED {
            found.orphans.named.push(path.clone());
        }
    }
    found.gaps.truncate(MAX_GAPS);
    found
}

/// Whether a file is one that belongs to a budget, by its name.
fn is_owned(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let is = |begin: &[u8], end: &[u8]| name.starts_with(begin) && name.ends_with(end);
    (is(b"file-", b".blob") || is(b"group-", b".sqlite")) && path.starts_with(layout::USER_FILES)
}

/// What of these gaps a list does not allow. A list of gaps that was cut is never allowed as a whole.
pub fn not_allowed<'g>(gaps: &'g [Gap], allowed: &[Gap]) -> Vec<&'g Gap> {
    let cut = gaps.len() >= MAX_GAPS;
    gaps.iter().filter(|gap| cut || !gap.is_in(allowed)).collect()
}

/// Gaps in one line; the first ten.
pub fn describe<'g>(gaps: impl IntoIterator<Item = &'g Gap>) -> String {
    let all: Vec<String> = gaps.into_iter().map(Gap::describe).collect();
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => all.join("; "),
        Some(more) => format!("{}; and {more} more", all[..SHOWN].join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Budget;
    use super::*;

    fn account(deleted: bool) -> Account {
        let budget = Budget {
            id: "b1".into(),
            group_id: Some("g1".into()),
            name: Some("Household".into()),
            key_id: None,
            deleted,
        };
        Account { budgets: vec![budget], ..Account::default() }
    }

    #[test]
    fn each_part_that_is_missing_is_named() {
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        let all = files(&["user-files/file-b1.blob", "user-files/group-g1.sqlite"]);
        assert_eq!(look(&account(false), &all), Found::default());
        let lacks = |found: &Found| found.gaps.iter().map(|gap| gap.lacks).collect::<Vec<_>>();
        let found = look(&account(false), &files(&["user-files/group-g1.sqlite"]));
        assert_eq!((lacks(&found), found.orphans.count), (vec![Lacks::Blob], 0));
        let found = look(&account(false), &files(&["user-files/file-b1.blob", "user-files/file-b2.blob"]));
        assert_eq!((lacks(&found), found.orphans.count), (vec![Lacks::GroupDatabase], 1));
        assert_eq!(look(&account(true), &files(&[])).gaps, [], "a deleted budget's files may be gone");
    }

    #[test]
    fn of_many_files_without_a_budget_five_are_named_and_the_rest_is_counted() {
        let lines = |count: usize| {
            let files = (0..count).map(|n| PathBuf::from(format!("user-files/file-{n:06}.blob"))).collect();
            look(&Account::default(), &files).orphans.describe()
        };
        assert_eq!(lines(0), Vec::<String>::new());
        assert_eq!(lines(1), ["user-files/file-000000.blob belongs to no budget"]);
        assert_eq!(lines(5).len(), 5);
        assert_eq!(lines(6)[5], "and 1 more file that belongs to no budget");
        assert_eq!(lines(7)[5], "and 2 more files that belong to no budget");
        assert_eq!(
            (lines(19_948).len(), lines(19_948)[5].as_str()),
            (6, "and 19,943 more files that belong to no budget")
        );
        assert_eq!(grouped(1_000_005), "1,000,005");
    }

    #[test]
    fn exactly_what_a_list_names_is_allowed() {
        let gaps = look(&account(false), &BTreeSet::new()).gaps;
        assert_eq!(gaps.len(), 2);
        assert_eq!(not_allowed(&gaps, &gaps).len(), 0);
        assert_eq!(not_allowed(&gaps, &gaps[..1]), [&gaps[1]]);
        let unnamed = Gap { name: None, ..gaps[0].clone() };
        assert!(gaps[0].is_in(&[unnamed]), "the name decides nothing");
        let renamed = Gap { file: None, ..gaps[1].clone() };
        assert!(gaps[1].is_in(&[renamed]), "nor does the file");
        let other = Gap { budget: "b2".into(), ..gaps[0].clone() };
        assert!(!gaps[0].is_in(&[other]));
        let strange = Gap { lacks: Lacks::UsableId, file: None, ..gaps[0].clone() };
        assert!(!strange.is_in(std::slice::from_ref(&strange)), "no list can allow it");
        let flood = vec![gaps[0].clone(); MAX_GAPS];
        assert_eq!(not_allowed(&flood, &flood).len(), MAX_GAPS, "it may go on");
    }

    #[test]
    fn what_a_database_says_cannot_flood_or_steer_a_terminal() {
        let mut hostile = account(false);
        hostile.budgets[0].name = Some("\u{1b}[31mO'Neil\u{202e}\n".to_owned() + &"x".repeat(5000));
        let mut long = hostile.budgets[0].clone();
        long.id = "i".repeat(201);
        hostile.budgets.push(long);
        let first = hostile.budgets[0].clone();
        hostile.budgets.extend((0..500).map(|n| Budget { id: format!("b/{n}"), ..first.clone() }));
        let files = BTreeSet::from([PathBuf::from("user-files/file-\u{1b}.blob")]);
        let found = look(&hostile, &files).gaps;
        assert_eq!(found.len(), 100);
        assert!(found[2].lacks == Lacks::UsableId && found[2].budget.len() == 201, "{:?}", found[2]);
        let orphans = look(&Account::default(), &files).orphans;
        for text in found.iter().map(Gap::describe).chain(orphans.describe()) {
            assert!(text.chars().count() < 1000 && !text.contains(char::is_control), "{text:?}");
            assert!(!text.contains('\u{202e}'), "{text:?}");
        }
        assert!(found[0].describe().contains("O'Neil"), "{}", found[0].describe());
    }
}
