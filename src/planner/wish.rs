//! What was asked for, and the `spec` that it becomes. Reads only.

use std::path::PathBuf;

use jiff::Timestamp;

use super::error::PlanError;
use crate::context::Context;
use crate::duration::DurationText;
use crate::ids::{AbsPath, BackupId, InstanceName};
use crate::plan::model::Time;
use crate::plan::spec::{
    AssetScope, ClientPolicy, CompressionName, DriftPolicy, Health, OnFailure, Ownership, OwnershipSource,
    PreBackup, PreBackupMode, ReplayPolicy, RestartPolicy, Service, SessionPolicy, Source, SourceScope, Spec,
    Target,
};
use crate::state::backup_index::{BackupEntry, BackupIndex};
use crate::state::instances::{Registry, RegistryError};
use crate::survey::forbidden::{self, Forbidden};
use crate::survey::observe::{self, Survey};
use crate::survey::preflight;

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
    /// Whether unit and vhost are restored too.
    pub with_assets: bool,
    /// When to back up what is there now.
    pub pre_backup: Option<PreBackupMode>,
    /// Message of that backup.
    pub backup_message: Option<String>,
    /// What happens to clients with newer changes.
    pub clients: Option<ClientPolicy>,
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
    if let Some(asked) = wish.instance.as_ref().filter(|asked| **asked != entry.instance) {
        let (backup, owner) = (entry.id.clone(), entry.instance.clone());
        return Err(PlanError::OtherInstance { backup, owner, asked: asked.clone() });
    }
    usable(entry)?;
    Ok(entry)
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

/// Refuses a backup that the index calls missing, corrupt or removed.
pub fn usable(entry: &BackupEntry) -> Result<(), PlanError> {
    match entry.unusable() {
        Some(status) => Err(PlanError::Unusable { backup: entry.id.clone(), status: status.to_owned() }),
        None => Ok(()),
    }
}

/// The backup as a plan describes it.
pub fn source(entry: &BackupEntry) -> Result<Source, PlanError> {
    let algorithm = match entry.algorithm.as_str() {
        "zstd" => CompressionName::Zstd,
        "gzip" => CompressionName::Gzip,
        "none" => CompressionName::None,
        other => return Err(PlanError::Algorithm { backup: entry.id.clone(), algorithm: other.to_owned() }),
    };
    Ok(Source {
        backup_id: entry.id.clone(),
        path: entry.path.clone(),
        algorithm,
        size_bytes: entry.size_bytes,
        sha256: entry.sha256,
        created_at: Time::from(entry.created_at),
        scope: if entry.data_only { SourceScope::Data } else { SourceScope::Full },
    })
}

/// The `spec` of a wish for this backup. `manifest`: whether the archive knows the true owners.
pub fn spec(cx: &Context, wish: &Wish, entry: &BackupEntry, manifest: bool) -> Result<Spec, PlanError> {
    let (instance, _) = observe::instance(cx, &entry.instance)?;
    let own = instance.paths.root.clone();
    let directory = match &wish.dest {
        None => own.clone(),
        Some(path) => AbsPath::normalise(path)
            .map_err(|error| PlanError::Path { what: "--dest", why: error.to_string() })?,
    };
    let live = wish.dest.is_none();
    let target = Target { directory, live };
    check_target(cx, &target, &entry.instance, &own)?;
    let defaults = &cx.config.restore;
    Ok(Spec {
        instance: entry.instance.clone(),
        source: source(entry)?,
        ownership: ownership(cx, &target.directory, manifest)?,
        target,
        assets: if wish.with_assets { AssetScope::Full } else { AssetScope::Data },
        pre_backup: PreBackup {
            mode: wish.pre_backup.unwrap_or(defaults.pre_backup.into()),
            message: wish.backup_message.clone(),
        },
        clients: wish.clients.unwrap_or(defaults.clients.into()),
        sessions: wish.sessions.unwrap_or(defaults.sessions.into()),
        service: Service { restart: wish.restart },
        health: Health { timeout: defaults.health_timeout.clone(), interval: DurationText::of_seconds(1) },
        on_failure: wish.on_failure.unwrap_or(defaults.on_failure.into()),
        drift: wish.drift.unwrap_or(defaults.drift.into()),
        replay: wish.replay.unwrap_or(ReplayPolicy::Once),
        retain: wish.retain.clone().unwrap_or_else(|| defaults.retain.clone()),
    })
}

/// Refuses a target that no plan may replace, before anybody looks into it.
pub fn check_target(
    cx: &Context,
    target: &Target,
    instance: &InstanceName,
    own: &AbsPath,
) -> Result<(), PlanError> {
    let Target { directory, live } = target;
    if *live && directory != own {
        return Err(PlanError::Wish {
            what: format!(
                "spec.target says live, but instance {instance} lives in {own}, not in {directory}"
            ),
            help: format!("write directory: {own}, or live: false for a restore beside it"),
        });
    }
    match forbidden::target(cx, instance, target)? {
        Some(Forbidden { why, help }) => Err(PlanError::Target { path: directory.clone(), why, help }),
        None => Ok(()),
    }
}

/// Refuses what this program cannot do, and a target that is no instance.
pub fn check_possible(spec: &Spec, survey: &Survey) -> Result<(), PlanError> {
    if spec.assets == AssetScope::Full {
        return Err(PlanError::Wish {
            what: "unit and vhost cannot be restored: no service manager is controlled here".into(),
            help: "leave out --with-assets (spec.assets: data); the plan shows how they differ".into(),
        });
    }
    if spec.service.restart == RestartPolicy::Always {
        return Err(PlanError::Wish {
            what: "the service cannot be started: no service manager is controlled here".into(),
            help:
                "leave out --restart (spec.service.restart: auto), and start the server yourself afterwards"
                    .into(),
        });
    }
    match preflight::foreign_content(spec, survey) {
        Some(why) => {
            let (path, help) = (spec.target.directory.clone(), preflight::OTHER_TARGET.to_owned());
            Err(PlanError::Target { path, why, help })
        }
        None => Ok(()),
    }
}

/// Archives with a manifest hold the true owners. The peer's say root for everything, which would lock
/// the service out: owners come from the live tree then, and for new paths from its directory, else
/// from the service user.
fn ownership(cx: &Context, target: &AbsPath, manifest: bool) -> Result<Ownership, PlanError> {
    use crate::host::fs::IoContext as _;
    use cap_std::fs::MetadataExt as _;
    let (_, dir) = observe::open_target(cx, target)?;
    let own = match &dir {
        Some(dir) => {
            let meta = dir.dir_metadata().context("look at", cx.root.host_path(target))?;
            Some((meta.uid(), meta.gid()))
        }
        None => service_user(cx)?,
    };
    let (uid, gid) =
        own.unwrap_or_else(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    let from = match (manifest, &dir) {
        (true, _) => OwnershipSource::Archive,
        (false, Some(_)) => OwnershipSource::Live,
        (false, None) => OwnershipSource::Fixed,
    };
    Ok(Ownership { from, uid, gid })
}

/// Numeric ids of the configured service user, from `/etc/passwd` inside the root.
fn service_user(cx: &Context) -> Result<Option<(u32, u32)>, PlanError> {
    let path: AbsPath = "/etc/passwd".parse().expect("the literal is an absolute path");
    let Some(bytes) = cx.root.read(&path, 16 << 20)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let ids = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == cx.config.service_user).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        Some((uid, fields.next()?.parse().ok()?))
    });
    Ok(ids)
}
