//! What killed processes may have left beside instances and among the files of state, and no run or
//! index names: staging and displaced directories, temporary files.

use std::collections::BTreeSet;

use super::{Area, Finding, Health, Notes, names};
use crate::context::Context;
use crate::host::fs;
use crate::ids::AbsPath;
use crate::run::fact::Fact;
use crate::run::list::{self, Run};
use crate::state::instances::Registry;
use crate::steps::cleanup;

pub(super) fn look(cx: &Context) -> Vec<Finding> {
    let mut notes = Notes::new(Area::Leftovers);
    let runs = list::all(cx).unwrap_or_default();
    let named: BTreeSet<AbsPath> = runs.iter().flat_map(directories).collect();
    for base in bases(cx, &runs) {
        for kind in ["staging", "displaced"] {
            let Ok(parent) = base.join(kind) else { continue };
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
                    let help = "when nobody misses what is in it, remove it by hand";
                    notes.warning("unnamed-directory", message, help);
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

/// Whether a private directory has the name of a run whose journal cannot tell what it made.
fn is_of(run: &Run, path: &AbsPath) -> bool {
    run.damage.is_some() && path.file_name().is_some_and(|name| name.starts_with(run.id.as_str()))
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

/// Where private directories may be: beside and in each instance, and each target of a run.
fn bases(cx: &Context, runs: &[Run]) -> BTreeSet<AbsPath> {
    let registry = Registry::load(&cx.root, &cx.config).ok();
    let instances = registry.iter().flat_map(Registry::entries).map(|entry| entry.paths.root.clone());
    let targets = runs.iter().filter_map(|run| Some(run.state.started.as_ref()?.target.clone()));
    instances
        .chain(targets)
        .flat_map(|target| [target.parent(), Some(target)])
        .flatten()
        .filter_map(|path| path.join(fs::PRIVATE).ok())
        .collect()
}

/// Where files are replaced through temporary names.
fn parents(cx: &Context, runs: &[Run]) -> BTreeSet<AbsPath> {
    let config = &cx.config;
    let mut found = BTreeSet::from([config.registry_dir.clone(), config.backups.root.clone()]);
    found.extend(config.backups.index.parent());
    found.extend(runs.iter().filter_map(|run| config.runs_dir().join(run.id.as_str()).ok()));
    found
}
