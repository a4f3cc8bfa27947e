//! What killed processes may have left beside instances and among the files of state, and no run or
//! index names: staging and displaced directories, temporary files.

use std::collections::BTreeSet;

use super::{Area, Finding, Health, Notes, names};
use crate::context::Context;
use crate::host::fs;
use crate::ids::AbsPath;
use crate::run::fact::Fact;
use crate::run::journal::JournalError;
use crate::run::list::{self, Run};
use crate::run::traces;
use crate::steps::cleanup;

/// What to do with a directory that no run names.
const UNNAMED: &str = "it may be the old data of a run whose record was moved away: compare it with the instance; when nobody misses what is in it, remove it by hand";
/// The same, while a record that may name it is missing or damaged.
const KEEP: &str = "leave it as it is: it may be the old data of a run whose record cannot be read; mend first what is said of runs";

pub(super) fn look(cx: &Context) -> Vec<Finding> {
    let mut notes = Notes::new(Area::Leftovers);
    let runs = list::all(cx);
    let unnamed = if is_whole(cx, &runs) { UNNAMED } else { KEEP };
    let runs = runs.unwrap_or_default();
    let named: BTreeSet<AbsPath> = runs.iter().flat_map(directories).collect();
    let targets = runs.iter().filter_map(|run| Some(run.about(cx)?.target));
    for base in traces::private_directories(cx, targets) {
        for folder in traces::FOLDERS {
            let Ok(parent) = base.join(folder) else { continue };
            let held = names(cx, &parent);
            if held.is_empty() && matches!(cx.root.dir_optional(&parent), Ok(Some(_))) {
                let message = format!("{parent} is empty, and its run could not remove it");
                notes.warning(
                    "empty-directory",
                    message,
                    "nothing to do: the next run uses it and removes it",
                );
            }
            for path in held.iter().filter_map(|name| parent.join(name).ok()) {
                if !named.contains(&path) && !runs.iter().any(|run| is_of(run, &path)) {
                    let message = format!("{path} belongs to no run that is on record");
                    notes.warning("unnamed-directory", message, unnamed);
                }
            }
        }
    }
    for parent in parents(cx, &runs) {
        for name in names(cx, &parent).iter().filter(|name| fs::is_temporary(name)) {
            let message = format!("{parent}/{name} is what a process left that was killed while it wrote");
            notes.warning(
                "temporary-file",
                message,
                "nothing to do: the next one that writes there removes it",
            );
        }
    }
    if notes.found.is_empty() {
        notes.add(Health::Good, "leftovers", "nothing is left of killed processes".to_owned(), "");
    }
    notes.found
}

/// Whether every run is on record, and each record sound: else nobody can say what belongs to none.
fn is_whole(cx: &Context, runs: &Result<Vec<Run>, JournalError>) -> bool {
    runs.as_ref().is_ok_and(|runs| runs.iter().all(|run| run.damage.is_none()))
        && list::strangers(cx).is_ok_and(|names| names.is_empty())
}

/// Whether a private directory has the name of a run: its journal need not tell of it, as where it was cut
/// off in the middle of a step.
fn is_of(run: &Run, path: &AbsPath) -> bool {
    path.file_name().is_some_and(|name| name.starts_with(run.id.as_str()))
}

/// The private directories that a run knows of.
fn directories(run: &Run) -> Vec<AbsPath> {
    let of = |fact: &Fact| match fact {
        Fact::Staging { directory } => vec![directory.clone()],
        Fact::Swap { staged_at, displaced_at, .. } => {
            [staged_at.parent(), Some(displaced_at.clone()), cleanup::doomed(displaced_at)]
                .into_iter()
                .flatten()
                .collect()
        }
        Fact::Target { .. }
        | Fact::PreBackup { .. }
        | Fact::Record { .. }
        | Fact::Assets { .. }
        | Fact::AssetsTold
        | Fact::Service(_)
        | Fact::Tree { .. } => Vec::new(),
    };
    run.state.facts().flat_map(of).collect()
}

/// Where files are replaced through temporary names.
fn parents(cx: &Context, runs: &[Run]) -> BTreeSet<AbsPath> {
    let config = &cx.config;
    let mut found = BTreeSet::from([config.registry_dir.clone(), config.backups.root.clone()]);
    found.extend(config.backups.index.parent());
    found.extend(runs.iter().filter_map(|run| config.runs_dir().join(run.id.as_str()).ok()));
    found
}
