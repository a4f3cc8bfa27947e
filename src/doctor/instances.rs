//! Instances: whether each could be replaced, and whether the installed server is known.

use std::path::Path;

use super::{Area, Finding, Notes, count};
use crate::context::Context;
use crate::plan::observed::Presence;
use crate::plan::preview::Verdict;
use crate::state::backup_index::BackupIndex;
use crate::state::instances::{InstanceEntry, Registry};
use crate::survey::{observe, private, server};

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
}
