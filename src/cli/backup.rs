//! `abssctl backup create`, `list`, `show` and `verify`; `backup restore` has a file of its own. `create`
//! writes an archive, its sidecar and an index entry, `verify` its result into the index; both append
//! to the operations log where the peer does. What a crash leaves is said where the writing is done.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::args::{BackupCreateArgs, BackupListArgs, BackupShowArgs, BackupVerifyArgs, CompressionHow};
use super::error::CliError;
use super::exit;
use super::output::table;
use super::session::Session;
use crate::archive::Algorithm;
use crate::backup::verify::{self, Finding};
use crate::backup::{self, Compression, Created, Request};
use crate::context::Context;
use crate::host::lock::LockName;
use crate::plan::model::Time;
use crate::plan::render::{human_bytes, visible};
use crate::planner::wish;
use crate::state::backup_index::{BackupEntry, BackupIndex};
use crate::state::operations_log::{Operation, OperationResult, Status};

/// `abssctl backup create`
pub fn create(session: &Session, args: &BackupCreateArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let request = Request {
        id: backup::new_id(&args.instance),
        instance: args.instance.clone(),
        directory: None,
        data_only: args.data_only,
        algorithm: match args.compression {
            None => Compression::from_config(&cx.config),
            Some(CompressionHow::Auto) => Compression::Auto,
            Some(CompressionHow::Zstd) => Compression::Named(Algorithm::Zstd),
            Some(CompressionHow::Gzip) => Compression::Named(Algorithm::Gzip),
            Some(CompressionHow::None) => Compression::Named(Algorithm::None),
        },
        level: args.level.or(cx.config.backups.level.filter(|_| args.compression.is_none())),
        message: args.message.clone(),
        labels: args.labels.clone(),
        prove: false,
    };
    // A name or level that is wrong is said before any file is made, the lock files included.
    backup::validate(&cx, &request)?;
    let mut operation = operation(&cx, args);
    let names = [LockName::Global, LockName::Instance(args.instance.clone())];
    let guard = session.locks(&cx, &names)?;
    operation.lock_wait(guard.waited());
    let made = backup::create(&cx, &request, &|_| {});
    let result = match &made {
        Ok(created) => {
            let mut result = OperationResult::new(Status::Success, "Backup created.");
            result.changed = 3;
            result.backups = vec![created.id.to_string()];
            result
        }
        Err(error) => {
            let mut result = OperationResult::new(Status::Error, "Backup was not created.");
            result.errors = vec![error.to_string()];
            result
        }
    };
    let code = match &made {
        Ok(_) => exit::DONE,
        Err(_) => exit::ENVIRONMENT,
    };
    let logged = operation.finish(&cx.root, &cx.config, code, &result);
    let created = made?;
    if let Err(error) = logged {
        session
            .output
            .note(&format!("! the backup is made, but the operations log could not be written: {error}"));
    }
    session.output.either(&created_json(&created), &created_text(&created))?;
    Ok(exit::DONE)
}

fn operation(cx: &Context, args: &BackupCreateArgs) -> Operation {
    let values = json!({
        "instance": args.instance,
        "data_only": args.data_only,
        "compression_level": args.level,
        "message": args.message,
        "labels": args.labels,
    });
    let values = values.as_object().cloned().unwrap_or_else(Map::new);
    let target = json!({ "kind": "backup", "instance": args.instance });
    Operation::begin("backup create", values, cx.actor.clone()).with_target(target)
}

fn created_json(created: &Created) -> Value {
    json!({
        "id": created.id,
        "archive": created.archive,
        "checksum": created.checksum,
        "size_bytes": created.size_bytes,
        "algorithm": created.algorithm.to_string(),
        "compression_level": created.level,
        "checksum_file": created.checksum_file,
        "message": created.message,
        "labels": created.labels,
        "data_only": created.data_only,
    })
}

fn created_text(created: &Created) -> String {
    format!(
        "created backup {}\n  archive  {}\n  sha256   {}\n  size     {} ({} members of {})\n",
        created.id,
        created.archive,
        created.checksum,
        human_bytes(created.size_bytes),
        created.entries,
        human_bytes(created.payload_bytes),
    )
}

/// `abssctl backup list`
pub fn list(session: &Session, args: &BackupListArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    if let Some(instance) = &args.instance {
        wish::check_known(&cx, &index, instance)?;
    }
    let mut entries: Vec<&BackupEntry> = index.entries().iter().collect();
    entries.retain(|entry| args.instance.as_ref().is_none_or(|instance| *instance == entry.instance));
    entries.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    let missing = missing_index(&cx)?;
    if let Some(path) = &missing {
        session.output.note(&format!("! there is no index of backups: {} does not exist", path.display()));
    }
    if session.output.json {
        let raw: Vec<Value> = entries.iter().map(|entry| entry.raw()).collect();
        session.output.value(&json!({ "backups": raw }))?;
        return Ok(exit::DONE);
    }
    let row = |entry: &&BackupEntry| {
        vec![
            entry.id.to_string(),
            entry.instance.to_string(),
            Time::from(entry.created_at).to_string(),
            human_bytes(entry.size_bytes),
            if entry.data_only { "data" } else { "full" }.to_owned(),
            visible(&entry.status),
            visible(entry.message.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    let text = if missing.is_some() {
        "no backups\n".to_owned()
    } else if rows.is_empty() {
        "no backups; make one: abssctl backup create INSTANCE\n".to_owned()
    } else {
        table(&["ID", "INSTANCE", "CREATED", "SIZE", "SCOPE", "STATUS", "MESSAGE"], &rows)
    };
    session.output.text(&text)?;
    Ok(exit::DONE)
}

/// Where the index would be, if it is not there: most often a sign of a wrong root or configuration.
fn missing_index(cx: &Context) -> Result<Option<PathBuf>, CliError> {
    let path = &cx.config.backups.index;
    Ok(cx.root.open_file(path)?.is_none().then(|| cx.root.host_path(path)))
}

/// `abssctl backup show`
pub fn show(session: &Session, args: &BackupShowArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    let entry = index.find(&args.backup)?;
    let mut lines = vec![
        ("id", entry.id.to_string()),
        ("instance", entry.instance.to_string()),
        ("created", Time::from(entry.created_at).to_string()),
        ("archive", entry.path.to_string()),
        ("size", format!("{} ({} bytes)", human_bytes(entry.size_bytes), entry.size_bytes)),
        ("compression", entry.algorithm.clone()),
        ("sha256", entry.sha256.to_string()),
        ("scope", if entry.data_only { "data" } else { "full" }.to_owned()),
        ("status", entry.status.clone()),
    ];
    if !entry.labels.is_empty() {
        lines.push(("labels", entry.labels.join(", ")));
    }
    if let Some(message) = &entry.message {
        lines.push(("message", message.clone()));
    }
    let mut text = String::new();
    for (label, value) in lines {
        text.push_str(&format!("{label:<12} {}\n", visible(&value)));
    }
    text.push_str(&restores_text(&entry.raw()));
    session.output.either(&json!({ "backup": entry.raw() }), &text)?;
    Ok(exit::DONE)
}

/// `abssctl backup verify`
pub fn verify(session: &Session, args: &BackupVerifyArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let wanted = |entry: &&BackupEntry| match &args.backup {
        Some(id) => entry.id == *id,
        None => entry.status != "removed",
    };
    if let Some(path) = missing_index(&cx)? {
        return Err(CliError::NoIndex(path));
    }
    if let Some(id) = &args.backup {
        BackupIndex::load(&cx.root, &cx.config)?.find(id)?;
    }
    let _guard = session.locks(&cx, &[LockName::Global])?;
    // Read again under the lock: another process may have added to it.
    let mut index = BackupIndex::load(&cx.root, &cx.config)?;
    let entries: Vec<BackupEntry> = index.entries().iter().filter(wanted).cloned().collect();
    let mut text = String::new();
    let mut results = Vec::new();
    let mut bad = 0;
    for entry in &entries {
        let found = verify::verify(&cx, &mut index, entry)?;
        let mark = if found.finding == Finding::Sound { "✓" } else { "✗" };
        bad += usize::from(found.finding != Finding::Sound);
        text.push_str(&format!(
            "{mark} {}  {}  {}\n",
            entry.id,
            found.finding.status(),
            visible(&found.message)
        ));
        results.push(json!({
            "id": entry.id, "status": found.finding.status(), "message": found.message,
            "previous_status": found.previous_status, "entry": found.entry,
        }));
    }
    text.push_str(&format!("{} checked, {bad} not sound\n", entries.len()));
    session.output.either(&json!({ "results": results }), &text)?;
    Ok(if bad == 0 { exit::DONE } else { exit::ENVIRONMENT })
}

/// The restores of a backup, as a table.
fn restores_text(raw: &Value) -> String {
    let restores = raw["restores"].as_array().map(Vec::as_slice).unwrap_or_default();
    if restores.is_empty() {
        return "restores     none recorded\n".to_owned();
    }
    let cell = |value: &Value| visible(value.as_str().unwrap_or("-"));
    let row = |restore: &Value| {
        let only = match restore["budgets"].as_array().map_or(0, Vec::len) {
            0 => String::new(),
            1 => " (1 budget)".to_owned(),
            count => format!(" ({count} budgets)"),
        };
        let only =
            restore["rolls_back"].as_str().map_or(only, |run| format!(" (rolls back {})", visible(run)));
        vec![
            cell(&restore["at"]),
            cell(&restore["to"]) + &only,
            cell(&restore["actor"]["name"]),
            cell(&restore["clients"]),
            cell(&restore["pre_backup"]),
            cell(&restore["run"]),
        ]
    };
    let rows: Vec<Vec<String>> = restores.iter().map(row).collect();
    let shown = table(&["AT", "TO", "BY", "CLIENTS", "STATE BEFORE", "RUN"], &rows);
    format!("restores\n{}", shown.lines().map(|line| format!("  {line}\n")).collect::<String>())
}
