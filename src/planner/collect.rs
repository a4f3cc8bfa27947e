//! Collects facts: what plans for many backups need, so that they can be made elsewhere. Reads only; an
//! archive that does not begin with a manifest is read where it was asked for by name.

use std::path::{Path, PathBuf};

use super::compare;
use super::error::PlanError;
use super::look;
use super::wish;
use crate::archive::ArchiveError;
use crate::context::Context;
use crate::facts::model::{BackupFacts, Changes, DisplacedFacts, Facts, InstanceFacts};
use crate::host::cancel::Cancelled;
use crate::ids::{AbsPath, BackupId, InstanceName};
use crate::plan::follows;
use crate::plan::spec::Target;
use crate::run::list::{self, Run};
use crate::state::backup_index::{BackupEntry, BackupIndex};
use crate::state::instances::Registry;
use crate::store;
use crate::survey::archive::{self, ArchiveSurvey, LookError};
use crate::survey::displaced::{self, DisplacedError};
use crate::survey::observe::SurveyError;

const ASK: &str = "its archive has no manifest and is read only when it is asked for by name";

/// What facts are asked about.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// These instances; all, or those of the backups, where none is named.
    pub instances: Vec<InstanceName>,
    /// These backups, whatever it takes to read them; all where none is named.
    pub backups: Vec<BackupId>,
    /// These directories too, beside the instances' own.
    pub destinations: Vec<AbsPath>,
}

/// Collects facts about a machine.
///
/// # Errors
/// Something that was asked for by name is not known or cannot be looked at. What else cannot be is told
/// in the document.
pub fn facts(cx: &Context, ask: &Ask) -> Result<Facts, PlanError> {
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    let mut facts = look::nothing(cx)?;
    for name in instances(cx, &index, ask)? {
        let (instance, compared) = instance(cx, &name, ask)?;
        let data = PathBuf::from(&instance.registry.data_directory);
        let of = index.entries().iter().filter(|entry| entry.instance == name);
        for entry in of.filter(|entry| ask.backups.is_empty() || ask.backups.contains(&entry.id)) {
            facts.backups.extend(backup(cx, entry, &data, ask, &compared)?);
        }
        if ask.backups.is_empty() {
            facts.displaced.extend(displaced(cx, &name, &data, &compared)?);
        }
        facts.instances.push(instance);
    }
    Ok(facts)
}

/// The names of the instances, sorted.
fn instances(cx: &Context, index: &BackupIndex, ask: &Ask) -> Result<Vec<InstanceName>, PlanError> {
    let registry = Registry::load(&cx.root, &cx.config).map_err(SurveyError::from)?;
    let mut names = ask.instances.clone();
    for name in &names {
        registry.get(name).map_err(SurveyError::from)?;
    }
    for id in &ask.backups {
        let entry = index.find(id)?;
        match ask.instances.as_slice() {
            [] => names.push(entry.instance.clone()),
            [first, ..] if !ask.instances.contains(&entry.instance) => {
                wish::check_instance(id, &entry.instance, Some(first))?;
            }
            [_, ..] => {}
        }
    }
    if names.is_empty() {
        names = registry.entries().iter().map(|entry| entry.name.clone()).collect();
    }
    names.sort();
    names.dedup();
    Ok(names)
}

type Targets = Vec<(AbsPath, compare::Target)>;

/// An instance and the directories that its backups can be restored to.
fn instance(cx: &Context, name: &InstanceName, ask: &Ask) -> Result<(InstanceFacts, Targets), PlanError> {
    let (registered, mut facts) = look::instance(cx, name)?;
    let own = registered.paths.root;
    let data = PathBuf::from(&facts.registry.data_directory);
    let mut targets = Vec::new();
    let mut look = |target: &Target, facts: &mut InstanceFacts| {
        wish::check_target(cx, target, name, &own)?;
        let (found, compared) = look::target(cx, &data, target)?;
        facts.targets.push(found);
        targets.push((target.directory.clone(), compared));
        Ok(())
    };
    let live = Target { directory: own.clone(), live: true };
    if let Err(error) = look(&live, &mut facts) {
        let error: PlanError = error;
        facts.not_seen = Some(follows::line(&error.to_string()));
    }
    for directory in &ask.destinations {
        if facts.targets.iter().all(|target| target.directory != *directory) {
            look(&Target { directory: directory.clone(), live: false }, &mut facts)?;
        }
    }
    Ok((facts, targets))
}

/// Trees that runs of an instance displaced and that can come back: of each target the newest at most.
fn displaced(
    cx: &Context,
    name: &InstanceName,
    data: &Path,
    targets: &Targets,
) -> Result<Vec<DisplacedFacts>, PlanError> {
    // An unfinished run may have one of them in its hands, and so may one with a damaged journal.
    if !matches!(list::unfinished(cx, name), Ok(None)) {
        return Ok(Vec::new());
    }
    let all = list::all(cx).map_err(DisplacedError::from)?;
    let of = |run: &Run| run.state.started.as_ref().is_some_and(|started| started.instance == *name);
    let mut found = Vec::new();
    for run in all.iter().filter(|run| of(run)) {
        let Ok(candidate) = displaced::find(cx, &run.id)? else { continue };
        if let Some((_, compared)) = targets.iter().find(|(directory, _)| *directory == candidate.target) {
            found.push(look::tree(cx, &candidate, data, compared)?.0);
        }
    }
    Ok(found)
}

/// A backup; `None` for one that this program cannot read and nobody asked for.
fn backup(
    cx: &Context,
    entry: &BackupEntry,
    data: &Path,
    ask: &Ask,
    targets: &Targets,
) -> Result<Option<BackupFacts>, PlanError> {
    let asked = ask.backups.contains(&entry.id);
    let (mut facts, contents) = if let Some(status) = entry.unusable() {
        if asked {
            return Err(wish::unusable(&entry.id, status));
        }
        let Ok(source) = wish::source(entry) else { return Ok(None) };
        (look::listed(entry, source), None)
    } else if asked {
        let (facts, contents) = look::backup(cx, entry, data)?;
        (facts, Some(contents))
    } else {
        let Ok(source) = wish::source(entry) else { return Ok(None) };
        let mut facts = look::listed(entry, source);
        let contents = match quickly(cx, entry, data) {
            Ok(contents) => {
                facts.not_read = contents.is_none().then(|| ASK.to_owned());
                contents
            }
            Err(error) => {
                facts.not_read = Some(follows::line(&error.to_string()));
                None
            }
        };
        facts.contents = contents.as_ref().map(|found| look::contents(found, data));
        (facts, contents)
    };
    if let (Some(known), Some(contents)) = (&mut facts.contents, &contents) {
        let change = |(directory, target): &(AbsPath, compare::Target)| target.changes(directory, contents);
        known.changes = targets.iter().map(change).collect::<Vec<Changes>>();
    }
    if cx.cancel.is_requested() {
        return Err(LookError::from(ArchiveError::from(Cancelled)).into());
    }
    Ok(Some(facts))
}

/// What an archive holds, where that is cheap to know.
fn quickly(cx: &Context, entry: &BackupEntry, data: &Path) -> Result<Option<ArchiveSurvey>, PlanError> {
    let source = wish::source(entry)?;
    store::inspect(&cx.root, &cx.config, &entry.path, entry.size_bytes, entry.sha256)?;
    Ok(archive::look_quickly(cx, &source, data)?)
}
