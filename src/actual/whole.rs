//! Whether a data directory is whole: each budget of the server's list has its blob and its group
//! database, and each of these has its budget. A server whose parts do not belong together offers its
//! login and then fails, budget by budget. Reads only.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::layout;

/// More gaps than this are not listed; those that break come first.
const MAX_GAPS: usize = 100;
/// Characters of a name or id that are shown.
const MAX_NAME: usize = 100;
/// Characters of a path that are shown: more than one with a plain id has.
const MAX_PATH: usize = 240;

/// Something missing or left over, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// A budget without its blob: new devices cannot download it.
    NoBlob {
        /// Name or id of the budget.
        budget: String,
        /// The missing file, below the data directory.
        file: PathBuf,
    },
    /// A budget without its group database: new devices silently get an old state.
    NoGroup {
        /// Name or id of the budget.
        budget: String,
        /// The missing file, below the data directory.
        file: PathBuf,
    },
    /// An id that cannot be a part of a file name.
    StrangeId {
        /// The id.
        id: String,
    },
    /// A blob or group database that no budget names.
    Orphan {
        /// The file, below the data directory.
        file: PathBuf,
    },
}

impl Gap {
    /// Whether the server would serve something wrong; an orphan is only dead weight.
    pub fn breaks(&self) -> bool {
        !matches!(self, Gap::Orphan { .. })
    }

    /// In one line, for a person; hidden characters are shown as codes, long text is cut.
    pub fn describe(&self) -> String {
        let path = |file: &Path| shown(&file.to_string_lossy(), MAX_PATH);
        match self {
            Gap::NoBlob { budget, file } => {
                format!("budget '{}' has no blob {}", shown(budget, MAX_NAME), path(file))
            }
            Gap::NoGroup { budget, file } => {
                format!("budget '{}' has no group database {}", shown(budget, MAX_NAME), path(file))
            }
            Gap::StrangeId { id } => format!("budget id '{}' cannot be a file name", shown(id, MAX_NAME)),
            Gap::Orphan { file } => format!("{} belongs to no budget", path(file)),
        }
    }
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
/// first hundred gaps, those that break first.
pub fn gaps(account: &Account, files: &BTreeSet<PathBuf>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut claimed = BTreeSet::new();
    for budget in &account.budgets {
        let name = budget.name.clone().unwrap_or_else(|| budget.id.clone());
        let ids = [Some(&budget.id), budget.group_id.as_ref()];
        if let Some(id) = ids.into_iter().flatten().find(|id| !layout::is_plain_id(id)) {
            gaps.push(Gap::StrangeId { id: id.clone() });
            continue;
        }
        let blob = layout::blob(&budget.id);
        if !files.contains(&blob) && !budget.deleted {
            gaps.push(Gap::NoBlob { budget: name.clone(), file: blob.clone() });
        }
        claimed.insert(blob);
        if let Some(group) = budget.group_id.as_deref().map(layout::group) {
            if !files.contains(&group) && !budget.deleted {
                gaps.push(Gap::NoGroup { budget: name, file: group.clone() });
            }
            claimed.insert(group);
        }
    }
    let owned = |path: &&PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        path.starts_with(layout::USER_FILES)
            && ((name.starts_with("file-") && name.ends_with(".blob"))
                || (name.starts_with("group-") && name.ends_with(".sqlite")))
    };
    let orphans = files.iter().filter(owned).filter(|path| !claimed.contains(*path));
    gaps.extend(orphans.map(|path| Gap::Orphan { file: path.clone() }));
    gaps.truncate(MAX_GAPS);
    gaps
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
        assert_eq!(
            gaps(&account(false), &files(&["user-files/file-b1.blob", "user-files/group-g1.sqlite"])),
            []
        );
        let found = gaps(&account(false), &files(&["user-files/group-g1.sqlite"]));
        assert!(matches!(&found[..], [Gap::NoBlob { .. }]), "{found:?}");
        let found = gaps(&account(false), &files(&["user-files/file-b1.blob", "user-files/file-b2.blob"]));
        assert!(matches!(&found[..], [Gap::NoGroup { .. }, Gap::Orphan { .. }]), "{found:?}");
        assert_eq!(gaps(&account(true), &files(&[])), [], "a deleted budget's files may be gone");
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
        let found = gaps(&hostile, &files);
        assert_eq!(found.len(), 100);
        assert!(found.iter().all(Gap::breaks));
        assert!(matches!(&found[2], Gap::StrangeId { id } if id.len() == 201), "{:?}", found[2]);
        for gap in found.iter().chain(&gaps(&Account::default(), &files)) {
            let text = gap.describe();
            assert!(text.chars().count() < 1000 && !text.contains(char::is_control), "{text:?}");
            assert!(!text.contains('\u{202e}'), "{text:?}");
        }
        assert!(found[0].describe().contains("O'Neil"), "{}", found[0].describe());
    }
}
