//! `inspect`: proves that what was unpacked is whole and sound before anything live changes: the
//! archive's manifest, every database, each budget's parts. Reads only.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use super::context::{Done, Probe, StepContext, StepRunner, lock};
use super::error::StepError;
use super::extract::DATA;
use super::staging;
use crate::actual::{account, layout, messages, whole};
use crate::archive::{EntryKind, Extracted};
use crate::host::fs::IoContext as _;
use crate::host::sqlite;
use crate::plan::step::Step;

/// The code of `inspect`.
#[derive(Debug)]
pub struct Inspect;

impl StepRunner for Inspect {
    fn run(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Done, StepError> {
        let directory = staging::staging(&cx.plan.spec.target.directory, cx.run)?;
        let dir = cx.host.root.dir(&directory)?;
        let held = lock(&cx.shared.extracted);
        let Some(extracted) = held.as_ref() else {
            return Err(StepError::UnknownState { what: "nothing was unpacked by this process".into() });
        };
        if let Some(manifest) = &extracted.manifest {
            manifest.verify(extracted)?;
        } else if cx.plan.observed.backup.manifest {
            return Err(StepError::Unsound {
                why: "the archive had a manifest when the plan was made, and has none now".into(),
            });
        }
        let path = cx.host.root.host_path(&directory);
        let databases = check_databases(cx, &dir, extracted, &path)?;
        let data = Path::new(DATA).join(&cx.plan.observed.instance.data_directory);
        let mut done = check_whole(&dir, &data, extracted)?;
        done.detail = format!("{databases} databases sound, {}", done.detail);
        Ok(done)
    }

    fn undo(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        Ok(())
    }

    fn probe(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        Ok(Probe::NotBegun)
    }
}

/// Every file that says it is a database is one, sound all through.
fn check_databases(
    cx: &StepContext<'_>,
    dir: &Dir,
    extracted: &Extracted,
    path: &Path,
) -> Result<usize, StepError> {
    let mut count = 0;
    for entry in extracted.entries.iter().filter(|entry| entry.kind == EntryKind::File) {
        cx.check_cancelled()?;
        let mut header = Vec::new();
        match dir.open(&entry.path) {
            Ok(file) => file.take(16).read_to_end(&mut header).context("read", path.join(&entry.path))?,
            // A companion that SQLite removed when it settled its database.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).context("read", path.join(&entry.path))?,
        };
        let named = entry.path.extension().is_some_and(|end| end == "sqlite");
        if !sqlite::looks_like_sqlite(&header) {
            if named && entry.size > 0 {
                return Err(StepError::Unsound {
                    why: format!("{} is not a SQLite database", entry.path.display()),
                });
            }
            continue;
        }
        sqlite::quick_check(dir, &entry.path)?;
        count += 1;
    }
    Ok(count)
}

/// The server's list of budgets, its tables, and each budget's parts.
fn check_whole(dir: &Dir, data: &Path, extracted: &Extracted) -> Result<Done, StepError> {
    let path = data.join(layout::ACCOUNT);
    let unsound = |why: String| StepError::Unsound { why };
    if !extracted.entries.iter().any(|entry| entry.path == path) {
        return Err(unsound(format!("it holds no {}", path.display())));
    }
    let connection = sqlite::open_immutable(dir, &path)?;
    let read = account::read(&connection).map_err(|error| unsound(format!("{}: {error}", path.display())))?;
    if let Some(table) = account::REQUIRED_TABLES.iter().find(|table| !read.rows.contains_key(**table)) {
        return Err(unsound(format!("{} has no table '{table}'", path.display())));
    }
    let files: BTreeSet<PathBuf> = extracted
        .entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::File || entry.kind == EntryKind::Hardlink)
        .filter_map(|entry| entry.path.strip_prefix(data).ok().map(Path::to_path_buf))
        .collect();
    let gaps = whole::gaps(&read, &files);
    let broken: Vec<String> = gaps.iter().filter(|gap| gap.breaks()).map(whole::Gap::describe).collect();
    if !broken.is_empty() {
        return Err(unsound(broken.join("; ")));
    }
    for budget in read.budgets.iter().filter(|budget| !budget.deleted) {
        if let Some(group) = &budget.group_id {
            check_group(dir, &data.join(layout::group(group)))?;
        }
    }
    let warnings = gaps.iter().filter(|gap| !gap.breaks()).map(whole::Gap::describe).collect();
    let live = read.budgets.iter().filter(|budget| !budget.deleted).count();
    Ok(Done { detail: format!("{live} budgets whole"), warnings })
}

fn check_group(dir: &Dir, path: &Path) -> Result<(), StepError> {
    let connection = sqlite::open_immutable(dir, path)?;
    for table in messages::REQUIRED_TABLES {
        let query = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let found = connection.query_row(query, [table], |row| row.get::<_, i64>(0));
        let found =
            found.map_err(|error| StepError::Unsound { why: format!("{}: {error}", path.display()) })?;
        if found != 1 {
            return Err(StepError::Unsound { why: format!("{} has no table '{table}'", path.display()) });
        }
    }
    Ok(())
}
