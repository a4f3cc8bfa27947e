//! Instances: whether each could be replaced, and whether the installed server is known.

use std::path::Path;

use super::{Area, Finding, Notes, count};
use crate::context::Context;
use crate::plan::preview::Verdict;
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
    for entry in registry.entries() {
        instance(cx, entry, &mut notes);
    }
    let total = count(registry.entries().len(), "instance is registered", "instances are registered");
    notes.finish("registered", total)
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
