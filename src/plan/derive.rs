//! What a step of a kind does for a given wish, and whether it belongs into a plan: the one function that says so.
//! A loaded plan must say the same (no second truth). Pure.

use super::assets::{ObservedAssets, ProxyKind};
use super::groups::{group_changes, overlay_budgets};
use super::model::Metadata;
use super::observed::{Observed, Presence, ServiceManagerKind};
use super::spec::{AssetScope, PreBackupMode, RestartPolicy, Source, Spec, Transfer};
use super::step::{
    Action, AssetFile, AssetLink, AssetsWith, CheckWith, CleanupWith, ExtractWith, HealthWith, InspectWith,
    LockWith, OverlayWith, PreBackupWith, PrepareWith, RecordWith, StagedTree, StartWith, StepKind, StopWith,
    SwapMethod, SwapWith, VerifyWith,
};
use crate::ids::ServerUrl;

/// A step of this kind is not part of this plan, or cannot be made from what was observed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a step of kind {kind} has no place in this plan: {why}")]
pub struct NoSuchStep {
    /// The kind.
    pub kind: StepKind,
    /// Why.
    pub why: &'static str,
}

/// What a step of this kind does for this wish: the only source of step parameters.
pub fn derive(
    kind: StepKind,
    metadata: &Metadata,
    spec: &Spec,
    observed: &Observed,
) -> Result<Action, NoSuchStep> {
    let unit = || {
        observed
            .service
            .unit
            .clone()
            .ok_or(NoSuchStep { kind, why: "no service was observed, so there is no unit" })
    };
    let url = || {
        let port = observed.instance.port.map(ServerUrl::local);
        let why = "the instance has no port, and restore.yml no health.url";
        spec.health.url.clone().or(port).ok_or(NoSuchStep { kind, why })
    };
    let backup = || {
        let parts = spec.source.backup().zip(observed.backup.as_ref());
        parts.ok_or(NoSuchStep { kind, why: "a rollback reads no archive" })
    };
    Ok(match kind {
        StepKind::Lock => Action::Lock(LockWith { instance: spec.instance.clone() }),
        StepKind::Check => Action::Check(CheckWith { drift: spec.drift }),
        StepKind::Verify => {
            let (source, _) = backup()?;
            let (path, size_bytes, sha256) = (source.path.clone(), source.size_bytes, source.sha256);
            Action::Verify(VerifyWith { path, size_bytes, sha256, manifest_sha256: spec.manifest_proof() })
        }
        StepKind::Extract => {
            let (source, held) = backup()?;
            Action::Extract(ExtractWith {
                path: source.path.clone(),
                algorithm: source.algorithm,
                max_bytes: held.unpacked_bytes,
                max_entries: held.entries,
                ownership: spec.ownership.clone(),
                reuse: (spec.transfer == Transfer::Delta && observed.target.presence == Presence::Content)
                    .then(|| spec.target.directory.clone()),
            })
        }
        StepKind::Inspect => Action::Inspect(InspectWith {
            data_directory: observed.instance.data_directory.clone(),
            manifest: backup()?.1.manifest,
            allow_incomplete: spec.allow_incomplete.clone(),
        }),
        StepKind::Prepare => Action::Prepare(PrepareWith {
            clients: spec.clients.clone(),
            sessions: spec.sessions,
            groups: group_changes(&metadata.id, spec, observed),
        }),
        StepKind::Stop => Action::Stop(StopWith {
            unit: unit()?,
            timeout: spec.health.timeout.clone(),
            url: url()?,
            ca: spec.health.ca.clone(),
        }),
        StepKind::PreBackup => Action::PreBackup(PreBackupWith {
            mode: spec.pre_backup.mode,
            directory: spec.target.directory.clone(),
            message: spec.pre_backup.message.clone(),
        }),
        StepKind::Overlay => Action::Overlay(OverlayWith {
            directory: spec.target.directory.clone(),
            data_directory: observed.instance.data_directory.clone(),
            budgets: overlay_budgets(&metadata.id, spec, observed)?,
        }),
        StepKind::Swap => Action::Swap(SwapWith {
            directory: spec.target.directory.clone(),
            method: match observed.target.presence {
                Presence::Absent => SwapMethod::Rename,
                _ if observed.target.mount_point => SwapMethod::Entries,
                Presence::Empty | Presence::Content => SwapMethod::Exchange,
            },
            tree: match &spec.source {
                Source::Run(_) => StagedTree::Displaced,
                Source::Backup(_) if spec.is_single() => StagedTree::Overlay,
                Source::Backup(_) => StagedTree::Unpacked,
            },
            from: spec.source.run().map(|run| run.directory.clone()),
        }),
        StepKind::Assets => Action::Assets(assets_with(observed)?),
        StepKind::Start => Action::Start(StartWith { unit: unit()?, timeout: spec.health.timeout.clone() }),
        StepKind::Health => Action::Health(HealthWith {
            unit: unit()?,
            url: url()?,
            ca: spec.health.ca.clone(),
            timeout: spec.health.timeout.clone(),
            interval: spec.health.interval.clone(),
        }),
        StepKind::Record => Action::Record(RecordWith {
            backup_id: spec.source.backup_id().clone(),
            directory: spec.target.directory.clone(),
            live: spec.target.live,
            rolls_back: spec.source.run().map(|run| run.run.clone()),
        }),
        StepKind::Cleanup => Action::Cleanup(CleanupWith { retain: spec.retain.clone() }),
    })
}

fn assets_with(observed: &Observed) -> Result<AssetsWith, NoSuchStep> {
    let why = "neither unit nor vhost was observed";
    let assets = observed.assets.as_ref().ok_or(NoSuchStep { kind: StepKind::Assets, why })?;
    let ObservedAssets { unit, site, enabled, proxy } = assets;
    let files = assets.files().map(|(kind, file)| AssetFile {
        kind,
        path: file.path.clone(),
        member: file.member.clone(),
        sha256: file.sha256,
    });
    let link = enabled.as_ref().zip(site.as_ref()).map(|(link, site)| AssetLink {
        path: link.path.clone(),
        to: site.path.clone(),
        wanted: link.wanted,
    });
    Ok(AssetsWith {
        files: files.collect(),
        link,
        systemd: unit.is_some() && observed.service.manager == ServiceManagerKind::Systemd,
        nginx: site.is_some() && *proxy == ProxyKind::Nginx,
    })
}

/// Whether a step of this kind belongs into a plan for this wish, by the rules on the graph: always,
/// or depending on what was observed.
pub fn belongs(kind: StepKind, spec: &Spec, observed: &Observed) -> bool {
    let running = observed.service.running && spec.target.live;
    let starts = match spec.service.restart {
        RestartPolicy::Auto => running,
        RestartPolicy::Always => spec.target.live && observed.service.unit.is_some(),
        RestartPolicy::Never => false,
    };
    match kind {
        StepKind::Lock | StepKind::Check | StepKind::Swap | StepKind::Record | StepKind::Cleanup => true,
        // A rollback exchanges a tree that is there as it is.
        StepKind::Verify | StepKind::Extract | StepKind::Inspect | StepKind::Prepare => !spec.is_rollback(),
        StepKind::PreBackup => {
            spec.pre_backup.mode != PreBackupMode::None && observed.target.presence == Presence::Content
        }
        StepKind::Overlay => spec.is_single(),
        StepKind::Stop => running,
        StepKind::Assets => spec.assets == AssetScope::Full,
        StepKind::Start | StepKind::Health => starts,
    }
}
