//! `abssctl run prune`: removes displaced directories whose time is over, after it has shown them. A
//! crash leaves some of them; the next one goes on.

use serde_json::{Value, json};

use super::args::RunPruneArgs;
use super::error::CliError;
use super::exit;
use super::output::table;
use super::prompt;
use super::session::Session;
use crate::context::Context;
use crate::host::clock;
use crate::host::fs::IoContext as _;
use crate::host::lock::LockName;
use crate::ids::AbsPath;
use crate::plan::model::Time;
use crate::plan::render::human_bytes;
use crate::run::list::Run;
use crate::state::backup_index::BackupIndex;
use crate::steps::cleanup;
use crate::survey::tree;

/// `abssctl run prune`
pub fn prune(session: &Session, args: &RunPruneArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let found = look(&cx, cleanup::due(&cx, args.older_than)?)?;
    if found.is_empty() {
        let empty = cleanup::empty(&cx)?;
        if !empty.is_empty() && !args.dry_run {
            let _guard = session.locks(&cx, &[LockName::Global])?;
            cleanup::remove_empty(&cx, &cleanup::empty(&cx)?);
        }
        session.output.either(&json!({ "removed": [], "warnings": [] }), "nothing to remove\n")?;
        return Ok(exit::DONE);
    }
    let objects: Vec<Value> = found.iter().map(object).collect();
    if args.dry_run {
        session.output.either(&json!({ "wouldRemove": objects }), &text(&found))?;
        return Ok(exit::DONE);
    }
    session.output.notes(text(&found).trim_end());
    let what = if found.len() == 1 { "this directory" } else { "these directories" };
    prompt::confirm(session, &format!("Remove {what}?"))?;
    let _guard = session.locks(&cx, &[LockName::Global])?;
    // Nothing goes that was not shown, and nothing that another process has dealt with meanwhile.
    let mut due = cleanup::due(&cx, args.older_than)?;
    due.retain(|(run, _)| found.iter().any(|shown| shown.run.id == run.id));
    let pruned = cleanup::remove(&cx, due);
    let lines = pruned.removed.iter().map(|(run, path)| format!("removed {path} of run {run}\n"));
    let text: String = lines.collect();
    pruned.warnings.iter().for_each(|warning| session.output.note(&format!("! {warning}")));
    let removed: Vec<Value> =
        pruned.removed.iter().map(|(run, path)| json!({ "run": run, "displaced": path })).collect();
    session.output.either(&json!({ "removed": removed, "warnings": pruned.warnings }), &text)?;
    Ok(if pruned.warnings.is_empty() { exit::DONE } else { exit::ENVIRONMENT })
}

/// A displaced tree whose time is over.
struct Found {
    run: Run,
    path: AbsPath,
    bytes: u64,
    /// Whether the pre-backup of its run cannot be had any more, so that this is the last copy.
    last_copy: bool,
}

fn look(cx: &Context, due: Vec<(Run, AbsPath)>) -> Result<Vec<Found>, CliError> {
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    due.into_iter()
        .map(|(run, path)| {
            let mut bytes = 0;
            if let Some(dir) = cx.root.dir_optional(&path)? {
                let mut count = |entry: &tree::Entry, _: &cap_std::fs::Dir| {
                    bytes += entry.size;
                    Ok(())
                };
                tree::walk(&dir, &mut count).context("measure", cx.root.host_path(&path))?;
            }
            let backup = run.state.pre_backup().and_then(|id| index.find(id).ok());
            let last_copy = backup.is_none_or(|entry| entry.unusable().is_some());
            Ok(Found { run, path, bytes, last_copy })
        })
        .collect()
}

fn object(found: &Found) -> Value {
    let state = &found.run.state;
    json!({
        "run": found.run.id,
        "displaced": found.path,
        "bytes": found.bytes,
        "endedAt": state.ended_at.map(|at| Time::from(at).to_string()),
        "preBackup": state.pre_backup(),
        "lastCopy": found.last_copy,
    })
}

fn text(found: &[Found]) -> String {
    let row = |found: &Found| {
        let state = &found.run.state;
        let mark = match (found.last_copy, state.pre_backup()) {
            (false, _) => "",
            (true, Some(_)) => "its pre-backup is gone",
            (true, None) => "it has no pre-backup",
        };
        let age = state.ended_at.map_or_else(|| "-".to_owned(), age);
        vec![found.run.id.to_string(), human_bytes(found.bytes), age, found.path.to_string(), mark.to_owned()]
    };
    table(&["RUN", "SIZE", "AGE", "DISPLACED", ""], &found.iter().map(row).collect::<Vec<_>>())
}

/// How long ago, in the largest unit that fits.
fn age(at: jiff::Timestamp) -> String {
    let seconds = clock::now().duration_since(at).as_secs().max(0);
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= length {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}
