//! `abssctl backup prune`: shows which backups would go, asks, and removes them. What a crash leaves is
//! said in [`crate::backup::prune`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::args::BackupPruneArgs;
use super::error::CliError;
use super::exit;
use super::output::table;
use super::prompt;
use super::session::Session;
use crate::backup::prune::{self, Choice, Keep};
use crate::context::Context;
use crate::host::lock::LockName;
use crate::ids::{BackupId, InstanceName};
use crate::plan::model::Time;
use crate::plan::render::{human_bytes, visible};
use crate::planner::wish;
use crate::run::list;
use crate::state::backup_index::{BackupEntry, BackupIndex};
use crate::state::operations_log::{Operation, OperationResult, Status};

const DAY: u64 = 86_400;

/// `abssctl backup prune`
pub fn prune(session: &Session, args: &BackupPruneArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let shown = choose(&cx, args)?;
    for (id, why) in &shown.spared {
        session.output.note(&format!("{id} stays: {why}"));
    }
    let doomed: Vec<&BackupEntry> = shown.remove.iter().chain(&shown.left).collect();
    if doomed.is_empty() {
        session.output.either(&json!({ "results": [], "spared": spared(&shown) }), "nothing to remove\n")?;
        return Ok(exit::DONE);
    }
    if args.dry_run {
        let results: Vec<Value> = doomed.iter().map(|entry| result(entry, "planned")).collect();
        session.output.either(&json!({ "results": results, "spared": spared(&shown) }), &text(&doomed))?;
        return Ok(exit::DONE);
    }
    session.output.notes(text(&doomed).trim_end());
    let what =
        if doomed.len() == 1 { "this backup".to_owned() } else { format!("these {} backups", doomed.len()) };
    prompt::confirm(session, &format!("Remove {what}? They cannot be brought back."))?;
    let wanted: BTreeSet<&BackupId> = doomed.iter().map(|entry| &entry.id).collect();
    let instances: BTreeSet<InstanceName> = doomed.iter().map(|entry| entry.instance.clone()).collect();
    let locks = instances.into_iter().map(LockName::Instance);
    let names: Vec<LockName> = std::iter::once(LockName::Global).chain(locks).collect();
    let mut operation = operation(&cx, args);
    let guard = session.locks(&cx, &names)?;
    operation.lock_wait(guard.waited());
    // Nothing goes that was not shown, and nothing that is needed by now.
    let mut now = choose(&cx, args)?;
    now.remove.retain(|entry| wanted.contains(&entry.id));
    now.left.retain(|entry| wanted.contains(&entry.id));
    let (removed, failed) = remove(&cx, &now)?;
    let code = if failed.is_empty() { exit::DONE } else { exit::ENVIRONMENT };
    log(session, &cx, &operation, code, &removed, &failed);
    for why in &failed {
        session.output.note(&format!("! {why}"));
    }
    let results: Vec<Value> = removed.iter().map(|entry| result(entry, prune::REMOVED)).collect();
    let lines: String = removed.iter().map(|entry| format!("removed {}\n", entry.id)).collect();
    session
        .output
        .either(&json!({ "results": results, "spared": spared(&now), "errors": failed }), &lines)?;
    Ok(code)
}

fn choose(cx: &Context, args: &BackupPruneArgs) -> Result<Choice, CliError> {
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    if let Some(instance) = &args.instance {
        wish::check_known(cx, &index, instance)?;
    }
    let keep = match (args.keep, args.age) {
        (Some(number), _) => Keep::Newest(number),
        (None, days) => Keep::Younger(u64::from(days.unwrap_or_default()) * DAY),
    };
    Ok(prune::choose(cx, &index, args.instance.as_ref(), keep, &list::all(cx)?))
}

/// Removes one after the other; an archive that cannot be removed keeps no other from it.
fn remove(cx: &Context, choice: &Choice) -> Result<(Vec<BackupEntry>, Vec<String>), CliError> {
    let mut index = BackupIndex::load(&cx.root, &cx.config)?;
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    let mut proven: BTreeMap<InstanceName, Result<(), String>> = BTreeMap::new();
    for entry in choice.remove.iter().chain(&choice.left) {
        if cx.cancel.is_requested() {
            failed.push("stopped on request; the rest stays".to_owned());
            break;
        }
        let stays = proven.entry(entry.instance.clone());
        let stays = stays.or_insert_with(|| prune::prove_newest(cx, &index, &entry.instance));
        if let (Err(why), true) = (stays, entry.status != prune::REMOVED) {
            failed.push(format!("{} stays: {why}", entry.id));
            continue;
        }
        match prune::remove(cx, &mut index, entry) {
            Ok(()) => removed.push(entry.clone()),
            Err(error) => failed.push(format!("{}: {error}", entry.id)),
        }
    }
    Ok((removed, failed))
}

fn operation(cx: &Context, args: &BackupPruneArgs) -> Operation {
    let values = json!({
        "instance": args.instance, "keep": args.keep, "older_than": args.age, "dry_run": args.dry_run,
    });
    let values = values.as_object().cloned().unwrap_or_default();
    let target = json!({ "kind": "backup", "scope": "prune", "instance": args.instance });
    Operation::begin("backup prune", values, cx.actor.clone()).with_target(target)
}

fn log(
    session: &Session,
    cx: &Context,
    operation: &Operation,
    code: u8,
    removed: &[BackupEntry],
    failed: &[String],
) {
    let (status, message) = if failed.is_empty() {
        (Status::Success, "Backup prune completed.")
    } else {
        (Status::Error, "Backup prune did not remove everything.")
    };
    let mut result = OperationResult::new(status, message);
    result.errors = failed.to_vec();
    result.changed = removed.len() as u64;
    result.backups = removed.iter().map(|entry| entry.id.to_string()).collect();
    if let Err(error) = operation.finish(&cx.root, &cx.config, code, &result) {
        session.output.note(&format!("! the operations log could not be written: {error}"));
    }
}

fn result(entry: &BackupEntry, status: &str) -> Value {
    json!({ "id": entry.id, "instance": entry.instance, "status": status })
}

fn spared(choice: &Choice) -> Vec<Value> {
    choice.spared.iter().map(|(id, why)| json!({ "id": id, "why": why })).collect()
}

fn text(entries: &[&BackupEntry]) -> String {
    let row = |entry: &&BackupEntry| {
        vec![
            entry.id.to_string(),
            entry.instance.to_string(),
            Time::from(entry.created_at).to_string(),
            human_bytes(entry.size_bytes),
            visible(&entry.status),
            visible(&entry.labels.join(", ")),
        ]
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    table(&["ID", "INSTANCE", "CREATED", "SIZE", "STATUS", "LABELS"], &rows)
}
