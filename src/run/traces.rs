//! What a run leaves besides its journal: the plan that lies there too, and the trees that have its name.
//! They tell of a run whose journal does not. Reads only.

use std::collections::BTreeSet;

use super::journal;
use crate::context::Context;
use crate::host::fs;
use crate::ids::{AbsPath, RunId};
use crate::plan::load;
use crate::plan::model::Plan;
use crate::state::instances::Registry;

/// The folders of the private directory that hold trees, each under the name of its run.
pub const FOLDERS: [&str; 2] = ["staging", "displaced"];

/// The plan that a run keeps, where it can be read.
pub fn plan(cx: &Context, run: &RunId) -> Option<Plan> {
    let file = journal::plan_file(&cx.config, run).ok()?;
    let bytes = cx.root.read(&file, load::MAX_BYTES as u64).ok()??;
    load::parse(journal::PLAN, &bytes).ok()
}

/// Where private directories may be: beside and in each instance, and each of these targets.
pub fn private_directories(cx: &Context, targets: impl Iterator<Item = AbsPath>) -> BTreeSet<AbsPath> {
    let registry = Registry::load(&cx.root, &cx.config).ok();
    let instances = registry.iter().flat_map(Registry::entries).map(|entry| entry.paths.root.clone());
    instances
        .chain(targets)
        .flat_map(|target| [target.parent(), Some(target)])
        .flatten()
        .filter_map(|path| path.join(fs::PRIVATE).ok())
        .collect()
}

/// A tree that has the name of a run, where there is one: beside an instance, or the target of its plan.
pub fn tree(cx: &Context, run: &RunId) -> Option<AbsPath> {
    let target = plan(cx, run).map(|plan| plan.spec.target.directory);
    let bases = private_directories(cx, target.into_iter());
    let mut trees = bases
        .iter()
        .flat_map(|base| FOLDERS.iter().filter_map(|folder| base.join(folder).ok()?.join(run.as_str()).ok()));
    trees.find(|path| matches!(cx.root.dir_optional(path), Ok(Some(_))))
}
