//! Whether a data directory is whole: each budget of the server's list has its blob and its group
//! database, and each of these has its budget. A server whose parts do not belong together offers its
//! login and then fails, budget by budget. Reads only.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::account::Account;
use super::layout;

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

    /// In one line, for a person.
    pub fn describe(&self) -> String {
        match self {
            Gap::NoBlob { budget, file } => format!("budget '{budget}' has no blob {}", file.display()),
            Gap::NoGroup { budget, file } => {
                format!("budget '{budget}' has no group database {}", file.display())
            }
            Gap::StrangeId { id } => format!("budget id '{}' cannot be a file name", id.escape_debug()),
            Gap::Orphan { file } => format!("{} belongs to no budget", file.display()),
        }
    }
}

/// Compares the server's list with the files that are there (paths below the data directory).
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
            encrypted: false,
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
}
