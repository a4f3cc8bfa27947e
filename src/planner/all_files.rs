//! Every file that a plan would add, change or remove; the plan itself names ten of each. Made on the machine,
//! by what the archive says it holds and the target as it stands now. Reads only; memory grows with the
//! number of files, by their names.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::bounds::Fate;
use super::error::PlanError;
use super::known::Known;
use super::restore;
use super::single::{self, List};
use crate::context::Context;
use crate::host::machine;
use crate::plan::model::Plan;
use crate::plan::observed::Observed;
use crate::plan::preview::FileChanges;
use crate::plan::spec::Source;
use crate::survey::target::visible;

/// Every file that a plan would add, change or remove, as the machine stands.
#[derive(Debug, Serialize)]
pub struct AllFiles {
    /// Only in the backup.
    pub added: Files,
    /// In both, with another content.
    pub changed: Files,
    /// Only in the target: gone after the restore.
    pub removed: Files,
    /// How many are in both and equal.
    pub unchanged: u64,
    /// What a reader of the plan must know of these lists.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// Files with one fate.
#[derive(Debug, Serialize)]
pub struct Files {
    /// How many.
    pub count: u64,
    /// Their bytes: of the backup for added and changed, of the target for removed.
    pub bytes: u64,
    /// Each of them, by name.
    pub files: Vec<File>,
}

/// A file of the target.
#[derive(Debug, Serialize)]
pub struct File {
    /// Relative to the target; what is not UTF-8 is shown as codes.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
}

/// Compares what comes with what is there, file by file.
///
/// # Errors
/// The plan is of another machine, what comes is not here or not what the plan was made for, or either
/// cannot be read.
pub fn all_files(cx: &Context, plan: &Plan) -> Result<AllFiles, PlanError> {
    if let (Some(then), Some(now)) = (plan.observed.machine, machine::machine_id(&cx.root)?)
        && then != now
    {
        return Err(PlanError::OtherMachine);
    }
    let make = |known: &Known<'_>| {
        let fresh = restore::again(plan.metadata.clone(), plan, known)?;
        let list = plan
            .spec
            .is_single()
            .then(|| single::list(&fresh.spec, &fresh.observed, known, &fresh.preview.budgets));
        Ok((fresh, list))
    };
    let ((fresh, list), local) = restore::look_again(cx, plan, make)?;
    if !is_same_source(plan, &fresh) {
        let what = match &plan.spec.source {
            Source::Backup(backup) => format!("backup {}", backup.backup_id),
            Source::Run(run) => format!("the old tree of run {}", run.run),
        };
        return Err(PlanError::OtherSource { what });
    }
    if let Some(why) = local.unread.first() {
        return Err(PlanError::Unread { directory: plan.spec.target.directory.clone(), why: why.clone() });
    }
    let of = |fate, listed: fn(&List) -> &[(PathBuf, u64)]| match &list {
        Some(list) => files(listed(list).iter().map(|(path, bytes)| (path.as_path(), *bytes))),
        None => files(local.bounds.files(fate).into_iter()),
    };
    Ok(AllFiles {
        added: of(Fate::Added, |list| &list.added),
        changed: of(Fate::Changed, |list| &list.changed),
        removed: of(Fate::Removed, |list| &list.removed),
        unchanged: fresh.preview.files.unchanged,
        warnings: warnings(plan, &fresh),
    })
}

/// Whether what comes is what the plan was made for, as far as can be said without reading all of it.
fn is_same_source(plan: &Plan, fresh: &Plan) -> bool {
    let held = |observed: &Observed| {
        observed.backup.as_ref().map(|backup| (backup.manifest, backup.entries, backup.unpacked_bytes))
    };
    plan.spec.source == fresh.spec.source
        && held(&plan.observed) == held(&fresh.observed)
        && plan.observed.displaced == fresh.observed.displaced
}

fn files<'f>(all: impl Iterator<Item = (&'f Path, u64)>) -> Files {
    let files: Vec<File> = all.map(|(path, bytes)| File { path: visible(path), bytes }).collect();
    Files { count: files.len() as u64, bytes: files.iter().map(|file| file.bytes).sum(), files }
}

/// Where the target is not as the plan saw it, the lists are not those that the plan counts.
fn warnings(plan: &Plan, fresh: &Plan) -> Vec<String> {
    let (then, now) = (&plan.preview.files, &fresh.preview.files);
    let differ = then != now;
    let counts = format!("the plan says {}; now it is {}", words(then), words(now));
    let directory = &plan.spec.target.directory;
    match (plan.observed.target.content == fresh.observed.target.content, differ) {
        (true, false) => Vec::new(),
        (true, true) => vec![format!("the preview is not of this machine: {counts}")],
        (false, false) => {
            vec![format!("{directory} has changed since the plan was made, the counts have not")]
        }
        (false, true) => vec![format!("{directory} has changed since the plan was made: {counts}")],
    }
}

fn words(files: &FileChanges) -> String {
    let FileChanges { added, changed, removed, unchanged } = files;
    format!(
        "{} added, {} changed, {} removed, {unchanged} unchanged",
        added.count, changed.count, removed.count
    )
}
