//! Instances: whether each could be replaced, and whether the installed server is known.

use std::path::Path;
use std::time::Duration;

use super::{Area, Finding, Health, Notes, count};
use crate::context::Context;
use crate::host::health::{Asker, MAX_CERTIFICATES};
use crate::host::service::{Active, Load, is_unit_name};
use crate::ids::ServerUrl;
use crate::plan::observed::Presence;
use crate::plan::preview::Verdict;
use crate::state::asset_places;
use crate::state::backup_index::BackupIndex;
use crate::state::instances::{InstanceEntry, Registry};
use crate::survey::{assets, observe, private, server};

/// How long a server may take to answer here.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn look(cx: &Context) -> Vec<Finding> {
    let mut notes = Notes::new(Area::Instances);
    let registry = match Registry::load(&cx.root, &cx.config) {
        Ok(registry) => registry,
        Err(error) => {
            notes.error("registry", &error);
            return notes.found;
        }
    };
    absent(cx, &mut notes);
    for entry in registry.entries() {
        instance(cx, entry, &mut notes);
    }
    shared(registry.entries(), &mut notes);
    let total = count(registry.entries().len(), "instance is registered", "instances are registered");
    notes.finish("registered", total)
}

/// Without a registry no instance is known, although the backups may be of some.
fn absent(cx: &Context, notes: &mut Notes) {
    let file = cx.config.instances_file();
    if !matches!(cx.root.open_file(&file), Ok(None)) {
        return;
    }
    let index = BackupIndex::load(&cx.root, &cx.config).ok();
    match index.as_ref().and_then(|index| index.entries().iter().rev().find(|entry| entry.is_available())) {
        Some(backup) => {
            let message =
                format!("{file} does not exist, so no instance is known, although there are backups");
            let help = format!(
                "put it back: a copy lies in each backup as metadata/instances.yml, the newest is {}",
                backup.id
            );
            notes.problem("registry-absent", message, help);
        }
        None => notes.warning(
            "registry-absent",
            format!("{file} does not exist: no instance is known"),
            "see which files are read: abssctl config show",
        ),
    }
}

/// Instances in one place, or one inside another: a restore of one would replace the other too.
fn shared(entries: &[InstanceEntry], notes: &mut Notes) {
    for (at, one) in entries.iter().enumerate() {
        for other in &entries[at + 1..] {
            let (one_root, other_root) = (&one.paths.root, &other.paths.root);
            if one_root.is_within(other_root) || other_root.is_within(one_root) {
                let message = format!(
                    "instances {} ({one_root}) and {} ({other_root}) share a directory: a restore of one replaces data of the other",
                    one.name, other.name
                );
                let help = "give each a directory of its own, and say so in the registry";
                notes.problem("instances-shared", message, help);
            }
        }
    }
}

fn instance(cx: &Context, entry: &InstanceEntry, notes: &mut Notes) {
    let name = &entry.name;
    let data = match observe::instance(cx, name) {
        Ok((_, observed)) => observed.data_directory,
        Err(error) => return notes.error("instance", &error),
    };
    let root = &entry.paths.root;
    let place = match observe::place(cx, root, Path::new(&data)) {
        Ok(place) => place,
        Err(error) => return notes.error("instance-directory", &error),
    };
    if place.dir.is_none() {
        let message = format!("{root}, where instance {name} should be, does not exist");
        let help = format!("restore it: abssctl plan restore --instance {name} --latest");
        notes.problem("instance-absent", message, help);
    } else if place.target.observed.presence == Presence::Empty {
        let message = format!("{root}, where instance {name} should be, is empty");
        let help = format!(
            "where it is on a disk of its own, see whether that is mounted; else restore it: abssctl plan restore --instance {name} --latest"
        );
        notes.problem("instance-empty", message, help);
    } else if let Some(why) = &place.target.observed.budgets_unreadable {
        let message = format!("the budgets of instance {name} cannot be read: {why}");
        notes.problem("instance-budgets", message, format!("look closer: abssctl instance show {name}"));
    }
    if place.read_only {
        notes.problem(
            "read-only",
            format!("the file system of {root} is mounted read-only"),
            "mount it read-write",
        );
    }
    if place.file_system.atomic_exchange == Verdict::WillNot {
        let message = format!(
            "the file system of {root} ({}) cannot exchange two directories in one step",
            place.file_system.r#type
        );
        let help = "move the instance to ext4, xfs, btrfs or another local file system";
        notes.problem("no-exchange", message, help);
    }
    let holder = private::holder(root, place.target.observed.mount_point);
    if let Some(message) = private::flaw(cx, &holder) {
        notes.problem("private-directory", message, private::HELP);
    }
    if let Some(why) = server::find(cx, entry).unknown {
        let message = format!("what the server of instance {name} can open is not known: {why}");
        notes.warning("server", message, "plans say 'not checked' for it; see docs/versions.md");
    }
    service(cx, entry, notes);
    vhost(cx, entry, notes);
}

/// Whether nginx runs, where it is to serve the instance: one that found a broken vhost when the machine
/// started stays down with all its sites, also once the vhost is mended.
fn vhost(cx: &Context, entry: &InstanceEntry, notes: &mut Notes) {
    if assets::nginx(cx).is_none_or(|nginx| nginx.runs()) {
        return;
    }
    let Ok(places) = asset_places::of(&cx.root, &cx.config, entry) else { return };
    if assets::is_linked(cx, &places.enabled, &places.site.path) == Ok(true) {
        let (name, enabled) = (&entry.name, &places.enabled);
        let message = format!("nginx does not run, and {enabled} is to serve instance {name}");
        notes.warning("nginx-stopped", message, "see why: nginx -t; then start it: systemctl start nginx");
    }
}

/// How the unit of an instance is, and whether its server answers.
fn service(cx: &Context, entry: &InstanceEntry, notes: &mut Notes) {
    let (name, unit, services) = (&entry.name, observe::unit(entry), cx.services());
    if let Some(why) = services.absent() {
        // Below another root nobody expects one.
        if cx.root.is_host() {
            let message = format!("nothing stops or starts the server of instance {name}: {why}");
            notes.add(Health::Good, "unit", message, "");
        }
        return;
    }
    if !is_unit_name(unit) {
        let message = format!("no service can have the name that the registry gives instance {name}: {unit}");
        let help =
            "name its unit in the registry (paths.systemd_unit); until then the server is not controlled";
        return notes.warning("unit-absent", message.escape_debug().to_string(), help);
    }
    if unit == observe::RECOVERY_UNIT {
        let message = format!(
            "the unit of instance {name} has the name of the one that finishes interrupted runs: {unit}"
        );
        let help = "name another unit in the registry (paths.systemd_unit), and move its file";
        return notes.problem("unit-taken", message, help);
    }
    let state = match services.state(unit) {
        Ok(state) => state,
        Err(error) => return notes.error("unit", &error),
    };
    let status = format!("see why: systemctl status {unit}");
    match state.load {
        Load::Loaded => {}
        Load::NotFound => {
            let message = format!("{unit} of instance {name} is not known to systemd");
            let help =
                "write its unit, then: systemctl daemon-reload; until then the server is not controlled";
            notes.warning("unit-absent", message, help);
            return;
        }
        Load::Bad => {
            let message = format!("systemd cannot load {unit} of instance {name}: {}", state.load_error);
            return notes.warning("unit-unusable", message, status);
        }
        Load::Masked => {
            let (message, help) =
                (format!("{unit} of instance {name} is masked"), format!("systemctl unmask {unit}"));
            // One that runs would have to be started again.
            let health = if state.is_up() { Health::Problem } else { Health::Warning };
            notes.add(health, "unit-masked", message, help);
        }
    }
    if state.active == Active::Failed || state.is_restarting() {
        let message = format!("{unit} of instance {name} has failed: it is {state}");
        return notes.warning("unit-failed", message, format!("see why: journalctl -u {unit}"));
    }
    if !state.is_up() {
        let message = format!("{unit} of instance {name} does not run: it is {state}");
        return notes.warning("unit-stopped", message, format!("start it: systemctl start {unit}"));
    }
    if state.file == "disabled" {
        let message = format!("{unit} of instance {name} runs, but does not come up with the machine");
        notes.warning("unit-disabled", message, format!("systemctl enable {unit}"));
    }
    match answer(cx, entry) {
        Ok(url) => {
            let enabled = if state.file.is_empty() { String::new() } else { format!(", {}", state.file) };
            let message = format!("{unit} of instance {name} is {state}{enabled}, and {url} answers");
            notes.add(Health::Good, "unit", message, "");
        }
        Err(why) => {
            let message =
                format!("the server of instance {name} does not answer, although {unit} is {state}: {why}");
            notes.warning("unit-silent", message, format!("see why: journalctl -u {unit}"));
        }
    }
}

/// Where a server answers, or why it does not.
fn answer(cx: &Context, entry: &InstanceEntry) -> Result<ServerUrl, String> {
    let from = observe::health(cx, entry).map_err(|error| error.to_string())?;
    let local = || entry.port.map(ServerUrl::local).ok_or("the registry names no port");
    let url = from.url.map_or_else(local, Ok)?;
    let ca = match &from.ca {
        None => None,
        Some(path) => {
            let read = cx.root.read(path, MAX_CERTIFICATES).map_err(|error| error.to_string())?;
            Some(read.ok_or_else(|| format!("{path} does not exist"))?)
        }
    };
    let asker = Asker::within(&url, ca.as_deref(), PATIENCE).map_err(|error| error.to_string())?;
    asker.health().map_err(|silence| format!("{url}: {silence}"))?;
    Ok(url)
}
