//! `abssctl instance list` and `show`.

use std::path::Path;

use serde_json::{Value, json};

use super::args::InstanceShowArgs;
use super::error::CliError;
use super::exit;
use super::output::table;
use super::session::Session;
use crate::host::fs::IoContext as _;
use crate::plan::render::{human_bytes, visible};
use crate::state::backup_index::BackupIndex;
use crate::state::instances::Registry;
use crate::survey::{observe, target};

/// `abssctl instance list`
pub fn list(session: &Session) -> Result<u8, CliError> {
    let cx = session.context()?;
    let registry = Registry::load(&cx.root, &cx.config)?;
    let row = |entry: &crate::state::instances::InstanceEntry| {
        vec![
            entry.name.to_string(),
            visible(entry.domain.as_deref().unwrap_or("-")),
            entry.port.map_or_else(|| "-".to_owned(), |port| port.to_string()),
            visible(entry.version.as_deref().unwrap_or("-")),
            visible(entry.status.as_deref().unwrap_or("-")),
            entry.paths.root.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = registry.entries().iter().map(row).collect();
    let text = if rows.is_empty() {
        "no instances are registered here\n".to_owned()
    } else {
        table(&["NAME", "DOMAIN", "PORT", "VERSION", "STATUS", "DIRECTORY"], &rows)
    };
    let raw: Vec<&Value> = registry.entries().iter().map(|entry| &entry.raw).collect();
    session.output.either(&json!({ "instances": raw }), &text)?;
    Ok(exit::DONE)
}

/// `abssctl instance show`
pub fn show(session: &Session, args: &InstanceShowArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let (entry, observed) = observe::instance(&cx, &args.name)?;
    let dir = cx.root.dir_optional(&entry.paths.root)?;
    let data = Path::new(&observed.data_directory);
    let survey = target::look(dir.as_ref(), data).context("look at", cx.root.host_path(&entry.paths.root))?;
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    let backups = index.entries().iter().filter(|backup| backup.instance == args.name).count();
    let mut text = String::new();
    for (label, value) in [
        ("name", Some(entry.name.to_string())),
        ("domain", entry.domain.clone()),
        ("port", entry.port.map(|port| port.to_string())),
        ("version", entry.version.clone()),
        ("status", entry.status.clone()),
        ("directory", Some(entry.paths.root.to_string())),
        ("size", Some(format!("{} in {} entries", human_bytes(survey.bytes), survey.entries.len()))),
        ("sessions", survey.observed.sessions.map(|count| count.to_string())),
        ("backups", Some(backups.to_string())),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("{label:<10} {}\n", visible(&value)));
        }
    }
    if let Some(why) = &survey.observed.budgets_unreadable {
        text.push_str(&format!("budgets    not readable: {}\n", visible(why)));
    }
    let mut rows = Vec::new();
    let mut budgets = Vec::new();
    for budget in survey.account.iter().flat_map(|account| &account.budgets) {
        let changes =
            survey.observed.budgets.iter().find(|seen| seen.id == budget.id).and_then(|seen| seen.changes);
        rows.push(vec![
            visible(budget.name.as_deref().unwrap_or("-")),
            budget.id.clone(),
            if budget.is_encrypted() { "yes" } else { "no" }.to_owned(),
            changes.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            if budget.deleted { "deleted" } else { "" }.to_owned(),
        ]);
        budgets.push(json!({
            "id": budget.id, "name": budget.name, "encrypted": budget.is_encrypted(), "deleted": budget.deleted,
            "groupId": budget.group_id, "changes": changes,
        }));
    }
    if !rows.is_empty() {
        text.push_str(&table(&["BUDGET", "ID", "ENCRYPTED", "CHANGES", ""], &rows));
    }
    let value = json!({
        "instance": entry.raw, "bytes": survey.bytes, "entries": survey.entries.len(), "backups": backups,
        "budgets": budgets, "budgetsUnreadable": survey.observed.budgets_unreadable,
        "sessions": survey.observed.sessions,
    });
    session.output.either(&value, &text)?;
    Ok(exit::DONE)
}
