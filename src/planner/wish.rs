//! What was asked for, and the `spec` that it becomes. Reads only.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::clients::ClientsWish;
use super::diffs;
use super::error::PlanError;
use super::known::Known;
use crate::actual::whole::Gap;
use crate::context::Context;
use crate::duration::DurationText;
use crate::facts::model::{BackupFacts, Facts, Owner};
use crate::ids::{AbsPath, BackupId, InstanceName};
use crate::plan::model::Time;
use crate::plan::observed::{ObservedService, ServiceManagerKind, ServiceTrouble};
use crate::plan::spec::{
    AssetScope, BackupSource, CompressionName, DriftPolicy, Health, OnFailure, Ownership, OwnershipSource,
    PreBackup, PreBackupMode, ReplayPolicy, RestartPolicy, Service, SessionPolicy, SourceScope, Spec, Target,
    Transfer,
};
use crate::state::backup_index::{BackupEntry, BackupIndex};
use crate::state::instances::{Registry, RegistryError};
use crate::survey::assets::Refusal;
use crate::survey::forbidden::{self, Forbidden};

/// Which backup.
#[derive(Debug, Clone)]
pub enum Selector {
    /// This one.
    Id(BackupId),
    /// The newest usable one of an instance.
    Latest(InstanceName),
    /// The newest usable one of an instance that is not newer than this.
    At(InstanceName, Timestamp),
}

/// What was asked for; `None` takes the configured default.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Which backup.
    pub selector: Selector,
    /// The instance that it must belong to.
    pub instance: Option<InstanceName>,
    /// The directory, where it is not the instance's own.
    pub dest: Option<PathBuf>,
    /// Single budgets, by name or id; all of the backup where none is named.
    pub budgets: Vec<String>,
    /// Whether the one budget comes as a new one, beside the one that is there.
    pub as_copy: bool,
    /// That new budget's name.
    pub copy_name: Option<String>,
    /// Whether unit and vhost are restored too.
    pub with_assets: bool,
    /// When to back up what is there now.
    pub pre_backup: Option<PreBackupMode>,
    /// Message of that backup.
    pub backup_message: Option<String>,
    /// What happens to clients with newer changes.
    pub clients: ClientsWish,
    /// What happens to logins in the backup.
    pub sessions: Option<SessionPolicy>,
    /// Whether the service is started.
    pub restart: RestartPolicy,
    /// Why.
    pub reason: Option<String>,
    /// How long the plan may be applied.
    pub expires: Option<DurationText>,
    /// What to do when a step after the swap fails.
    pub on_failure: Option<OnFailure>,
    /// How much the machine may differ.
    pub drift: Option<DriftPolicy>,
    /// Whether the plan may be applied more than once.
    pub replay: Option<ReplayPolicy>,
    /// How long the displaced directory is kept.
    pub retain: Option<DurationText>,
    /// Whether what the backup lacks may be missing.
    pub allow_incomplete: bool,
    /// Where files come from that the target holds already.
    pub transfer: Option<Transfer>,
}

/// Reads a time as people write it: with a zone, or a date, which means the end of that day in UTC.
pub fn parse_time(text: &str) -> Result<Timestamp, PlanError> {
    let wrong = || PlanError::Time { text: text.to_owned() };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let day: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
    let next = day.tomorrow().map_err(|_| wrong())?;
    let zoned = next.to_zoned_datetime(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
    Ok(zoned.timestamp() - jiff::SignedDuration::from_secs(1))
}

/// Finds the backup that was asked for.
pub fn select<'i>(cx: &Context, index: &'i BackupIndex, wish: &Wish) -> Result<&'i BackupEntry, PlanError> {
    let none = |instance: &InstanceName, when: String| no_backup(cx, index, instance, when);
    let entry = match &wish.selector {
        Selector::Id(id) => index.find(id)?,
        Selector::Latest(instance) => index.latest(instance).ok_or_else(|| none(instance, String::new()))?,
        Selector::At(instance, time) => index
            .at(instance, *time)
            .ok_or_else(|| none(instance, format!(" at or before {}", Time::from(*time))))?,
    };
    check_instance(&entry.id, &entry.instance, wish.instance.as_ref())?;
    match entry.unusable() {
        Some(status) => Err(unusable(&entry.id, status)),
        None => Ok(entry),
    }
}

/// Finds the backup that was asked for among those that facts tell of.
pub fn choose<'f>(facts: &'f Facts, wish: &Wish) -> Result<&'f BackupFacts, PlanError> {
    let newest = |instance: &InstanceName, latest: Option<Time>| {
        let of = facts.backups.iter().filter(|backup| backup.instance == *instance);
        let fits = |backup: &&BackupFacts| {
            backup.status == "available" && latest.is_none_or(|latest| backup.source.created_at <= latest)
        };
        of.filter(fits).max_by_key(|backup| backup.source.created_at)
    };
    let none = |instance: &InstanceName, when| PlanError::NoBackup { instance: instance.clone(), when };
    let found = match &wish.selector {
        Selector::Id(id) => facts.backup(id).ok_or_else(|| PlanError::Facts {
            what: format!("the facts do not tell of backup {id}"),
            help: format!("collect them on the machine: abssctl facts --backup {id} -o facts.json"),
        })?,
        Selector::Latest(name) => newest(name, None).ok_or_else(|| none(name, String::new()))?,
        Selector::At(name, time) => {
            let time = Time::from(*time);
            newest(name, Some(time)).ok_or_else(|| none(name, format!(" at or before {time}")))?
        }
    };
    check_instance(&found.source.backup_id, &found.instance, wish.instance.as_ref())?;
    match found.unusable() {
        Some(status) => Err(unusable(&found.source.backup_id, status)),
        None => Ok(found),
    }
}

/// Refuses a backup of another instance than the one that was asked for.
pub fn check_instance(
    backup: &BackupId,
    owner: &InstanceName,
    asked: Option<&InstanceName>,
) -> Result<(), PlanError> {
    match asked.filter(|asked| *asked != owner) {
        None => Ok(()),
        Some(asked) => {
            let (backup, owner, asked) = (backup.clone(), owner.clone(), asked.clone());
            Err(PlanError::OtherInstance { backup, owner, asked })
        }
    }
}

/// The index calls a backup missing, corrupt or removed.
pub fn unusable(backup: &BackupId, status: &str) -> PlanError {
    PlanError::Unusable { backup: backup.clone(), status: status.to_owned() }
}

/// Why an instance has no backup: its name may be wrong.
fn no_backup(cx: &Context, index: &BackupIndex, instance: &InstanceName, when: String) -> PlanError {
    match check_known(cx, index, instance) {
        Ok(()) => PlanError::NoBackup { instance: instance.clone(), when },
        Err(error) => PlanError::Survey(error.into()),
    }
}

/// Refuses a name that neither the registry nor any backup has.
pub fn check_known(cx: &Context, index: &BackupIndex, instance: &InstanceName) -> Result<(), RegistryError> {
    if index.entries().iter().any(|entry| entry.instance == *instance) {
        return Ok(());
    }
    Registry::load(&cx.root, &cx.config)?.get(instance).map(|_| ())
}

/// The backup as a plan describes it.
pub fn source(entry: &BackupEntry) -> Result<BackupSource, PlanError> {
    let algorithm = match entry.algorithm.as_str() {
        "zstd" => CompressionName::Zstd,
        "gzip" => CompressionName::Gzip,
        "none" => CompressionName::None,
        other => return Err(PlanError::Algorithm { backup: entry.id.clone(), algorithm: other.to_owned() }),
    };
    Ok(BackupSource {
        backup_id: entry.id.clone(),
        path: entry.path.clone(),
        algorithm,
        size_bytes: entry.size_bytes,
        sha256: entry.sha256,
        manifest_sha256: entry.manifest,
        created_at: Time::from(entry.created_at),
        scope: if entry.data_only { SourceScope::Data } else { SourceScope::Full },
    })
}

/// Where a wish goes: to the instance's `own` directory, or to the one that was named.
pub fn target(wish: &Wish, own: &AbsPath) -> Result<Target, PlanError> {
    let directory = match &wish.dest {
        None => own.clone(),
        Some(path) => destination(path)?,
    };
    Ok(Target { directory, live: wish.dest.is_none() })
}

/// A directory of the command line.
pub fn destination(path: &Path) -> Result<AbsPath, PlanError> {
    AbsPath::normalise(path).map_err(|error| PlanError::Path { what: "--dest", why: error.to_string() })
}

/// The `spec` of a wish for this backup and target.
///
/// # Errors
/// It names a budget that the backup does not hold, or holds twice.
pub fn spec(wish: &Wish, target: Target, known: &Known<'_>) -> Result<Spec, PlanError> {
    let defaults = &known.facts.defaults;
    let transfer = wish.transfer.unwrap_or_default();
    Ok(Spec {
        instance: known.instance.name.clone(),
        source: known.source(transfer),
        target,
        // Chosen by who knows the backup's budgets.
        budgets: Vec::new(),
        assets: if wish.with_assets { AssetScope::Full } else { AssetScope::Data },
        pre_backup: PreBackup {
            mode: wish.pre_backup.unwrap_or(defaults.pre_backup),
            message: wish.backup_message.clone(),
        },
        clients: wish.clients.resolve(known)?,
        // With single budgets all logins stay; a default is not a wish to the contrary.
        sessions: wish.sessions.unwrap_or(if wish.budgets.is_empty() {
            defaults.sessions
        } else {
            SessionPolicy::Keep
        }),
        service: Service { restart: wish.restart },
        health: Health {
            timeout: defaults.health_timeout.clone(),
            interval: DurationText::of_seconds(1),
            url: known.instance.health.url.clone(),
            ca: known.instance.health.ca.clone(),
        },
        on_failure: wish.on_failure.unwrap_or(defaults.on_failure),
        drift: wish.drift.unwrap_or(defaults.drift),
        replay: wish.replay.unwrap_or(ReplayPolicy::Once),
        retain: wish.retain.clone().unwrap_or_else(|| defaults.retain.clone()),
        ownership: ownership(known),
        transfer,
        allow_incomplete: if wish.allow_incomplete { allowed(known) } else { Vec::new() },
    })
}

/// What the backup lacks and a plan may allow.
fn allowed(known: &Known<'_>) -> Vec<Gap> {
    known.contents.incomplete.iter().filter(|gap| gap.can_be_allowed()).cloned().collect()
}

/// Refuses a target that no plan may replace, before anybody looks into it.
pub fn check_target(
    cx: &Context,
    target: &Target,
    instance: &InstanceName,
    own: &AbsPath,
) -> Result<(), PlanError> {
    check_live(target, instance, own)?;
    match forbidden::target(cx, instance, target)? {
        Some(Forbidden { why, help }) => Err(PlanError::Target { path: target.directory.clone(), why, help }),
        None => Ok(()),
    }
}

/// Refuses a target that is called live and is not, or the other way round.
pub fn check_live(target: &Target, instance: &InstanceName, own: &AbsPath) -> Result<(), PlanError> {
    let Target { directory, live } = target;
    if *live && directory != own {
        return Err(PlanError::Wish {
            what: format!(
                "spec.target says live, but instance {instance} lives in {own}, not in {directory}"
            ),
            help: format!("write directory: {own}, or live: false for a restore beside it"),
        });
    }
    if !live && directory == own {
        let Forbidden { why, help } = forbidden::own_directory();
        return Err(PlanError::Target { path: directory.clone(), why, help });
    }
    Ok(())
}

/// Whether a live service is to be started.
fn belongs_start(spec: &Spec, service: &ObservedService) -> bool {
    spec.target.live
        && match spec.service.restart {
            RestartPolicy::Auto => service.running,
            RestartPolicy::Always => true,
            RestartPolicy::Never => false,
        }
}

/// Refuses unit and vhost where they cannot be restored, or could not be shown whole to who reviews the plan.
pub fn check_assets(spec: &Spec, known: &Known<'_>) -> Result<(), PlanError> {
    if spec.assets == AssetScope::Data {
        return Ok(());
    }
    let refuse = |what: String, help: String| Err(PlanError::Wish { what, help });
    let flag = if spec.is_rollback() { "plan with --data-only" } else { "leave out --with-assets" };
    let leave_out = || format!("{flag} (spec.assets: data)");
    if !spec.target.live {
        let what = "unit and vhost belong to the instance's own directory, and this restore goes elsewhere";
        return refuse(what.into(), leave_out());
    }
    let Some(local) = known.local else {
        let what = "facts do not show unit and vhost, which are code that root runs";
        return refuse(what.into(), "plan on the machine itself: abssctl plan restore --with-assets".into());
    };
    if let Err(Refusal { what, help }) = &local.assets {
        return refuse(format!("unit and vhost cannot be restored: {what}"), help.clone());
    }
    let cut = local.diffs.iter().find(|diff| !diff.restored && diffs::is_cut(&diff.diff));
    match cut {
        Some(diff) => {
            let what = format!("the difference of {} is too long to be shown in a plan", diff.path);
            refuse(what, format!("{}, and put the file in place yourself", leave_out()))
        }
        None => Ok(()),
    }
}

/// Refuses what this program cannot do.
pub fn check_possible(spec: &Spec, service: &ObservedService) -> Result<(), PlanError> {
    if spec.service.restart == RestartPolicy::Always && service.manager == ServiceManagerKind::None {
        return Err(PlanError::Wish {
            what: "the service cannot be started: no service manager is controlled here".into(),
            help:
                "leave out --restart (spec.service.restart: auto), and start the server yourself afterwards"
                    .into(),
        });
    }
    let starts = belongs_start(spec, service);
    if let Some(trouble) = service.trouble.filter(|trouble| starts && trouble.prevents_start()) {
        let unit = service.unit.as_deref().unwrap_or("the unit of the registry");
        return Err(PlanError::Wish {
            what: format!("the service cannot be started: {unit} {}", trouble.words()),
            help: format!(
                "{}; or plan with --no-restart, and start the server yourself afterwards",
                match trouble {
                    ServiceTrouble::Masked => format!("unmask it first: systemctl unmask {unit}"),
                    ServiceTrouble::NotFound => format!(
                        "install it first: systemctl link FILE, systemctl daemon-reload; see systemctl status {unit}"
                    ),
                    ServiceTrouble::NoName =>
                        "mend paths.systemd_unit of the instance in instances.yml".to_owned(),
                    ServiceTrouble::NotLoaded | ServiceTrouble::Failed | ServiceTrouble::Restarting =>
                        format!("see what is wrong: systemctl status {unit}"),
                }
            ),
        });
    }
    Ok(())
}

/// Archives with a manifest hold the true owners. The peer's say root for everything, which would lock
/// the service out: owners come from the live tree then, and for new paths from its directory, else
/// from the service user.
fn ownership(known: &Known<'_>) -> Ownership {
    let Owner { uid, gid } = known.target.owner.unwrap_or(known.facts.new_owner);
    let from = match (known.contents.manifest, known.target.owner) {
        (true, _) => OwnershipSource::Archive,
        (false, Some(_)) => OwnershipSource::Live,
        (false, None) => OwnershipSource::Fixed,
    };
    Ownership { from, uid, gid }
}
