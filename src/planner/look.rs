//! Looks at the machine and puts what it shows into a document of facts: about one backup and one target
//! for a plan that is made here, about many for `abssctl facts`. Reads only: not one file is opened for
//! writing.

use std::path::{Path, PathBuf};

use cap_std::fs::MetadataExt as _;

use super::compare::Target as Compared;
use super::diffs;
use super::error::PlanError;
use super::known::Local;
use super::redact;
use super::wish;
use crate::actual::account::Account;
use crate::actual::{layout, whole};
use crate::context::Context;
use crate::facts::model::{
    BackupFacts, Contents, Defaults, DeletedBudget, DisplacedFacts, Facts, FactsKind, InstanceFacts, Owner,
    TableRows, TargetFacts,
};
use crate::host::fs::IoContext as _;
use crate::host::lock::{self, LockName};
use crate::host::{clock, machine, processes};
use crate::ids::{AbsPath, InstanceName};
use crate::plan::assets::{AssetKind, ObservedAssets};
use crate::plan::follows::InUse;
use crate::plan::model::{ApiVersion, Time};
use crate::plan::observed::{ObservedBackupBudget, ObservedService};
use crate::plan::preview::TextDiff;
use crate::plan::spec::{BackupSource, PreBackupMode, Target};
use crate::state::asset_places::{self, AssetPlaces};
use crate::state::backup_index::{BackupEntry, entry_digest};
use crate::state::instances::InstanceEntry;
use crate::store;
use crate::survey::archive::{self, ArchiveSurvey};
use crate::survey::assets::{self, Kept, Refusal};
use crate::survey::displaced::{self, Candidate};
use crate::survey::{observe, preflight, server};

/// Facts about one backup and one target, and what no facts hold.
#[derive(Debug)]
pub struct Seen {
    /// The document.
    pub facts: Facts,
    /// What only the machine itself shows.
    pub local: Local,
}

/// Looks at everything that a plan for this backup and target needs.
pub fn one(cx: &Context, entry: &BackupEntry, target: &Target) -> Result<Seen, PlanError> {
    let (registered, mut instance) = self::instance(cx, &entry.instance)?;
    let data = PathBuf::from(&instance.registry.data_directory);
    let (mut backup, contents) = self::backup(cx, entry, &data)?;
    let (found, compared) = self::target(cx, &data, target)?;
    if let Some(known) = &mut backup.contents {
        known.changes.push(compared.changes(&target.directory, &contents));
    }
    let assets = assets::look(cx, &registered, &contents);
    let local = local(cx, &registered, &instance.service, target, &compared, &contents, assets)?;
    instance.targets.push(found);
    let mut facts = nothing(cx)?;
    facts.instances.push(instance);
    facts.backups.push(backup);
    Ok(Seen { facts, local })
}

/// Looks at everything that a plan for the return of this tree needs.
pub fn displaced(cx: &Context, candidate: &Candidate, target: &Target) -> Result<Seen, PlanError> {
    let (registered, mut instance) = self::instance(cx, &candidate.instance)?;
    let data = PathBuf::from(&instance.registry.data_directory);
    let (found, compared) = self::target(cx, &data, target)?;
    let (tree, mut archive) = self::tree(cx, candidate, &data, &compared)?;
    let assets = match assets::kept(cx, &registered, &candidate.state) {
        Ok(Some(Kept { assets, texts })) => {
            archive.texts.extend(texts);
            Ok(assets)
        }
        Ok(None) => Err(Refusal::without("the run replaced neither")),
        Err(refusal) => Err(refusal),
    };
    let local = local(cx, &registered, &instance.service, target, &compared, &archive, assets)?;
    instance.targets.push(found);
    let mut facts = nothing(cx)?;
    facts.instances.push(instance);
    facts.displaced.push(tree);
    Ok(Seen { facts, local })
}

/// The tree that a run displaced, against the target whose place it had.
pub fn tree(
    cx: &Context,
    candidate: &Candidate,
    data: &Path,
    compared: &Compared,
) -> Result<(DisplacedFacts, ArchiveSurvey), PlanError> {
    let held = displaced::look(cx, candidate, data)?;
    let path = cx.root.host_path(&candidate.source.directory);
    let archive = displaced::as_archive(candidate, &held, data).context("read", path)?;
    let mut contents = contents(&archive, data);
    contents.changes.push(compared.changes(&candidate.target, &archive));
    let facts = DisplacedFacts {
        source: candidate.source.clone(),
        instance: candidate.instance.clone(),
        directory: candidate.target.clone(),
        observed: held.observed,
        contents,
    };
    Ok((facts, archive))
}

/// A document that tells of no instance and no backup.
pub fn nothing(cx: &Context) -> Result<Facts, PlanError> {
    Ok(Facts {
        api_version: ApiVersion::V1,
        kind: FactsKind::Facts,
        collected_at: Time::from(clock::now()),
        generator: concat!("abssctl ", env!("CARGO_PKG_VERSION")).to_owned(),
        machine: machine::machine_id(&cx.root)?,
        defaults: defaults(cx),
        backup_directory: cx.config.backups.root.clone(),
        new_owner: new_owner(cx)?,
        instances: Vec::new(),
        backups: Vec::new(),
        displaced: Vec::new(),
    })
}

fn defaults(cx: &Context) -> Defaults {
    let restore = &cx.config.restore;
    Defaults {
        plan_expires: restore.plan_expires.clone(),
        retain: restore.retain.clone(),
        pre_backup: restore.pre_backup.into(),
        on_failure: restore.on_failure.into(),
        drift: restore.drift.into(),
        clients: restore.clients.into(),
        sessions: restore.sessions.into(),
        health_timeout: restore.health_timeout.clone(),
    }
}

/// The configured service user by `/etc/passwd` inside the root, else who runs this.
fn new_owner(cx: &Context) -> Result<Owner, PlanError> {
    let me = Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    let path: AbsPath = "/etc/passwd".parse().expect("the literal is an absolute path");
    let Some(bytes) = cx.root.read(&path, 16 << 20)? else { return Ok(me) };
    let text = String::from_utf8_lossy(&bytes);
    let ids = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == cx.config.service_user).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        Some(Owner { uid, gid: fields.next()?.parse().ok()? })
    });
    Ok(ids.unwrap_or(me))
}

/// An instance as the registry has it, none of its targets looked at.
pub fn instance(cx: &Context, name: &InstanceName) -> Result<(InstanceEntry, InstanceFacts), PlanError> {
    let (registered, observed) = observe::instance(cx, name)?;
    let facts = InstanceFacts {
        name: name.clone(),
        directory: registered.paths.root.clone(),
        registry: observed,
        service: observe::service(cx, &registered)?,
        health: observe::health(cx, &registered)?,
        server: server::find(cx, &registered),
        targets: Vec::new(),
        not_seen: None,
    };
    Ok((registered, facts))
}

/// Looks at a target; `data` is the server's data directory below it.
pub fn target(cx: &Context, data: &Path, target: &Target) -> Result<(TargetFacts, Compared), PlanError> {
    let Target { directory, live } = target;
    let place = observe::place(cx, directory, data)?;
    if let Some(why) = preflight::foreign_content(*live, data, &place.target) {
        let (path, help) = (directory.clone(), preflight::OTHER_TARGET.to_owned());
        return Err(PlanError::Target { path, why, help });
    }
    let owner = match &place.dir {
        None => None,
        Some(dir) => {
            let meta = dir.dir_metadata().context("look at", cx.root.host_path(directory))?;
            Some(Owner { uid: meta.uid(), gid: meta.gid() })
        }
    };
    let seen = &place.target;
    let most = observe::backup_bytes(PreBackupMode::Quiesced, seen.observed.presence, seen.bytes);
    let facts = TargetFacts {
        directory: directory.clone(),
        observed: seen.observed.clone(),
        file_system: place.file_system.clone(),
        owner,
        bytes: seen.bytes,
        backup_fits: most <= observe::backup_free(cx)?,
        rows: seen.account.as_ref().map(rows).unwrap_or_default(),
    };
    Ok((facts, Compared::new(place, data, &cx.known)))
}

fn rows(account: &Account) -> Vec<TableRows> {
    account.rows.iter().map(|(table, rows)| TableRows { table: table.clone(), rows: *rows }).collect()
}

/// A backup as the index has it, its archive not looked into.
pub fn listed(entry: &BackupEntry, source: BackupSource) -> BackupFacts {
    BackupFacts {
        source,
        instance: entry.instance.clone(),
        status: entry.status.chars().take(100).collect(),
        index_entry: entry_digest(entry),
        contents: None,
        not_read: None,
    }
}

/// A backup and what its archive holds: by the manifest and the account database of ours, by all of
/// the peer's.
pub fn backup(
    cx: &Context,
    entry: &BackupEntry,
    data: &Path,
) -> Result<(BackupFacts, ArchiveSurvey), PlanError> {
    let source = wish::source(entry)?;
    store::inspect(&cx.root, &cx.config, &entry.path, entry.size_bytes, entry.sha256)?;
    let found = archive::look(cx, &source, data)?;
    match found.sha256 {
        Some(found) if found != entry.sha256 => {
            Err(PlanError::Checksum { path: entry.path.clone(), found, recorded: entry.sha256 })
        }
        Some(_) | None => {
            let contents = Some(contents(&found, data));
            Ok((BackupFacts { contents, ..listed(entry, source) }, found))
        }
    }
}

/// What an archive holds, as facts tell of it.
pub fn contents(found: &ArchiveSurvey, data: &Path) -> Contents {
    let groups = found.account.iter().flat_map(|account| &account.budgets).filter_map(|budget| {
        // An id that cannot be a part of a file name is no budget that can be restored; inspect says so.
        let group_id = budget.group_id.clone().filter(|group| layout::is_plain_id(group))?;
        layout::is_plain_id(&budget.id).then_some(())?;
        Some(ObservedBackupBudget { id: budget.id.clone(), group_id })
    });
    let files = || found.files.keys().filter_map(|path| path.strip_prefix(data).ok()).map(Path::to_path_buf);
    let parts = found.account.as_ref().map(|account| whole::look(account, &files().collect()));
    Contents {
        manifest: found.manifest,
        entries: found.entries,
        unpacked_bytes: found.bytes,
        proven: found.sha256.is_some(),
        groups: groups.collect(),
        rows: found.account.as_ref().map(rows),
        incomplete: parts.map(|parts| parts.gaps).unwrap_or_default(),
        migrations: found.migrations(data),
        deleted: deleted(found.account.as_ref()),
        changes: Vec::new(),
    }
}

/// Budgets that were deleted when the backup was made.
fn deleted(account: Option<&Account>) -> Vec<DeletedBudget> {
    let budgets = account.into_iter().flat_map(|account| &account.budgets);
    budgets
        .filter(|budget| budget.deleted && layout::is_plain_id(&budget.id))
        .map(|budget| DeletedBudget { id: budget.id.clone(), name: budget.name.clone() })
        .collect()
}

fn local(
    cx: &Context,
    registered: &InstanceEntry,
    service: &ObservedService,
    target: &Target,
    compared: &Compared,
    contents: &ArchiveSurvey,
    assets: Result<ObservedAssets, Refusal>,
) -> Result<Local, PlanError> {
    let mut users = processes::users_of(&cx.root.host_path(&target.directory));
    let unit = service.unit.as_deref().filter(|_| target.live && service.running);
    if let Some(state) = unit.and_then(|unit| cx.services().state(unit).ok()) {
        users.files.retain(|user| !state.owns(user.pid));
    }
    // Whoever holds a lock is waited for when the plan is applied.
    let locks = [LockName::Global, LockName::Instance(registered.name.clone())];
    users.leave_out(|| lock::holders(&cx.root, &cx.config.runtime_dir, &locks));
    let in_use = match users.files.first() {
        Some(user) => {
            InUse::By(format!("process {} ({}) has files open in the target", user.pid, user.command))
        }
        None if users.complete => InUse::No,
        None => InUse::Unknown(processes::INCOMPLETE.into()),
    };
    let places = asset_places::of(&cx.root, &cx.config, registered)?;
    let diffs = text_diffs(cx, &places, target, compared, contents)?;
    let bounds = compared.bounds(contents);
    let unread = compared.unread();
    Ok(Local { diffs, in_use, bounds, owners_unknown: !machine::is_root(), unread, assets })
}

fn text_diffs(
    cx: &Context,
    places: &AssetPlaces,
    target: &Target,
    compared: &Compared,
    contents: &ArchiveSurvey,
) -> Result<Vec<TextDiff>, PlanError> {
    let mut found = Vec::new();
    for (name, backup) in &contents.texts {
        let (shown, live, restored) = match name.strip_prefix("data") {
            Ok(below) => {
                let dir = compared.place.dir.as_ref();
                let live = dir.map(|dir| crate::host::fs::read_optional(dir, below, 1 << 20));
                let shown = crate::survey::target::visible(below);
                let live = live.transpose().unwrap_or_else(|error| {
                    compared.not_read(format!("{shown}: {error}"));
                    None
                });
                (shown, live.flatten(), true)
            }
            Err(_) => match asset(places, target.live, name) {
                // What is not there yet is new as a whole.
                Some(path) => {
                    let live = cx.root.read_unmasked(path, 1 << 20)?.unwrap_or_default();
                    (path.to_string(), Some(live), false)
                }
                None => continue,
            },
        };
        if let Some(live) = live {
            found.extend(diffs::diff(&shown, kind_of(name), restored, &live, backup));
        }
    }
    Ok(found)
}

/// Where a unit or vhost of the backup belongs on this machine.
fn asset<'p>(places: &'p AssetPlaces, live: bool, member: &Path) -> Option<&'p AbsPath> {
    match assets::kind_of(member).filter(|_| live)? {
        AssetKind::Unit => Some(&places.unit.path),
        AssetKind::Site => Some(&places.site.path),
    }
}

/// What kind of text a member of an archive is.
fn kind_of(member: &Path) -> redact::Kind {
    match assets::kind_of(member) {
        Some(AssetKind::Unit) => redact::Kind::Unit,
        Some(AssetKind::Site) => redact::Kind::Site,
        None if member.ends_with(layout::MIGRATE) => redact::Kind::Migrations,
        None => redact::Kind::Configuration,
    }
}
