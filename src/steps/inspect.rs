//! `inspect`: proves that what was unpacked is whole and sound before anything live changes: the
//! archive's manifest, every database, each budget's parts, and that the installed server starts on it.
//! Reads only, and lets the system bring to disk meanwhile what was unpacked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use super::context::{Done, Probe, StepContext, StepRunner, lock};
use super::error::StepError;
use super::{assets, staging};
use crate::actual::{account, layout, messages, migrations, whole};
use crate::archive::DATA;
use crate::archive::{EntryKind, Extracted};
use crate::host::fs::{self, FsError, IoContext as _, Syncing};
use crate::host::pool::Batches;
use crate::host::sqlite::{self, SqliteError};
use crate::plan::gate::Gate;
use crate::plan::observed::BackupMigrations;
use crate::plan::preview::Verdict;
use crate::plan::spec::Spec;
use crate::plan::step::{Action, Step};
use crate::survey::{observe, server};

/// How many databases that were not checked are named.
const SHOWN: usize = 10;

/// The code of `inspect`.
#[derive(Debug)]
pub struct Inspect;

impl StepRunner for Inspect {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let Action::Inspect(with) = &step.action else {
            return Err(StepError::Unavailable { kind: step.kind() });
        };
        let directory = staging::staging(cx)?;
        let dir = staging::existing(cx.host, &directory)?
            .ok_or_else(|| StepError::Changed { what: format!("{directory} is gone") })?;
        let path = cx.host.root.host_path(&directory);
        let (held, unpacked) = (lock(&cx.shared.extracted), lock(&cx.shared.unpacked));
        let (Some(extracted), Some(unpacked)) = (&*held, &*unpacked) else {
            return Err(StepError::UnknownState { what: "nothing was unpacked by this process".into() });
        };
        let mut syncing = lock(&cx.shared.syncing);
        if syncing.is_none() {
            // Not earlier: the journal would have to wait for it before it can say that this begins.
            *syncing = Some(Syncing::begin(unpacked).context("sync", &path)?);
        }
        drop(syncing);
        if let Some(manifest) = &extracted.manifest {
            manifest.verify(extracted)?;
        } else if with.manifest {
            return Err(StepError::Unsound {
                why: "the archive had a manifest when the plan was made, and has none now".into(),
            });
        }
        let data = Path::new(DATA).join(&cx.plan.observed.instance.data_directory);
        let _stop = sqlite::stop_on(&cx.stop);
        let (databases, unchecked) = check_databases(cx, &dir, extracted, &path, &data)?;
        let mut done = check_whole(&dir, &data, &cx.plan.spec).map_err(|error| within(&path, error))?;
        assets::prove(cx)?;
        let (gate, warnings) = check_migrations(cx, &dir, &data).map_err(|error| within(&path, error))?;
        done.detail = format!("{databases} databases sound, {}, {gate}", done.detail);
        done.warnings.extend(unchecked.into_iter().chain(warnings));
        Ok(done)
    }

    fn undo(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        Ok(())
    }

    fn probe(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        Ok(Probe::NotBegun)
    }
}

/// An error about a file of a tree, with the place of the tree.
pub(super) fn within(tree: &Path, error: StepError) -> StepError {
    if let StepError::Fs(FsError { action, path, source }) = error {
        StepError::Fs(FsError { action, path: tree.join(path), source })
    } else {
        error
    }
}

/// Every file that says it is a database is one, sound all through. Gives their number, and what could
/// not be checked since no server makes its like.
fn check_databases(
    cx: &StepContext<'_>,
    dir: &Dir,
    extracted: &Extracted,
    path: &Path,
    data: &Path,
) -> Result<(usize, Vec<String>), StepError> {
    let sound = lock(&cx.shared.sound);
    let (mut count, mut unchecked, mut misnamed) = (sound.len(), Vec::new(), None);
    let servers = |file: &Path| {
        file.strip_prefix(data)
            .is_ok_and(|below| below == Path::new(layout::ACCOUNT) || below.starts_with(layout::USER_FILES))
    };
    let mut take = |(checked, file): (Result<(), SqliteError>, PathBuf)| match checked {
        Ok(()) => {
            count += 1;
            Ok(())
        }
        Err(error @ SqliteError::Computes { .. }) if !servers(&file) => {
            if unchecked.len() < SHOWN {
                unchecked.push(error.to_string());
            }
            Ok(())
        }
        Err(error) => {
            cx.check_cancelled()?;
            Err(StepError::from(error))
        }
    };
    let all = extracted.database_bytes();
    let tree = dir.try_clone().context("open", path)?;
    let mut checks = Batches::new(&cx.stop, move |files: Vec<PathBuf>, stop| {
        let _stop = sqlite::stop_on(stop);
        let check = |file: PathBuf| (sqlite::quick_check_beside(&tree, &file, all), file);
        files.into_iter().map(check).collect::<Vec<_>>()
    });
    let files = extracted.entries.iter().filter(|entry| entry.kind == EntryKind::File);
    for entry in files.filter(|entry| !sound.contains(&entry.path)) {
        cx.check_cancelled()?;
        if entry.is_sqlite {
            // A companion that SQLite removed when it settled its database.
            if !dir.try_exists(&entry.path).context("look for", path.join(&entry.path))? {
                continue;
            }
            for checked in checks.push(entry.path.clone(), entry.size).unwrap_or_default() {
                take(checked)?;
            }
        } else if entry.size > 0 && entry.path.extension().is_some_and(|end| end == "sqlite") {
            misnamed = Some(format!("{} is not a SQLite database", entry.path.display()));
            break;
        }
    }
    // What comes first in the archive is told.
    while let Some(checked) = checks.pop() {
        checked.into_iter().try_for_each(&mut take)?;
    }
    if let Some(why) = misnamed {
        return Err(StepError::Unsound { why });
    }
    Ok((count, unchecked))
}

/// The server's list of budgets, its tables, and each budget's parts: of the tree as it stands on disk,
/// where a symbolic link is no part of anything.
pub(super) fn check_whole(dir: &Dir, data: &Path, spec: &Spec) -> Result<Done, StepError> {
    let path = data.join(layout::ACCOUNT);
    let unsound = |why: String| StepError::Unsound { why };
    let files = regular_files(dir, data)?;
    if !files.contains(Path::new(layout::ACCOUNT)) {
        return Err(unsound(format!("it holds no regular file {}", path.display())));
    }
    let connection = sqlite::open_immutable(dir, &path)?;
    let read = account::read(&connection).map_err(|error| unsound(format!("{}: {error}", path.display())))?;
    if let Some(table) = account::REQUIRED_TABLES.iter().find(|table| !read.rows.contains_key(**table)) {
        return Err(unsound(format!("{} has no table '{table}'", path.display())));
    }
    let mut found = whole::look(&read, &files);
    // What a restore of single budgets leaves in the backup need not be whole.
    found.gaps.retain(|gap| spec.takes(&gap.budget));
    let refused = whole::not_allowed(&found.gaps, &spec.allow_incomplete);
    if !refused.is_empty() {
        return Err(unsound(whole::describe(refused)));
    }
    for budget in read.budgets.iter().filter(|budget| !budget.deleted) {
        if let Some(group) = budget.group_id.as_deref().map(layout::group)
            && files.contains(&group)
        {
            check_group(dir, &data.join(group))?;
        }
    }
    let incomplete = found.gaps.iter().map(|gap| format!("{}, as the plan allows", gap.describe()));
    let warnings = incomplete.chain(found.orphans.describe()).collect();
    let live = read.budgets.iter().filter(|budget| !budget.deleted);
    let lack = |budget: &&account::Budget| found.gaps.iter().any(|gap| gap.budget == budget.id);
    let (incomplete, whole): (Vec<_>, Vec<_>) = live.partition(lack);
    let mut detail = format!("{} budgets whole", whole.len());
    if !incomplete.is_empty() {
        detail += &format!(", {} not, as the plan allows", incomplete.len());
    }
    Ok(Done { detail, warnings })
}

/// Whether the installed server starts on the tree as it stands on disk: what the plan says of the
/// backup is proven, and the server is looked at once more. Gives a word for the result, and warnings.
fn check_migrations(
    cx: &StepContext<'_>,
    dir: &Dir,
    data: &Path,
) -> Result<(&'static str, Vec<String>), StepError> {
    let unsound = |why: String| StepError::Unsound { why };
    let found = staged_migrations(dir, data)?;
    let plan = cx.plan;
    if plan.observed.migrations().is_some_and(|planned| *planned != found) {
        return Err(unsound("its .migrate is not as the plan says".into()));
    }
    let (entry, _) = observe::instance(cx.host, &plan.spec.instance)?;
    let mut now = plan.observed.clone();
    now.server = server::find(cx.host, &entry).judge(Some(&found));
    if let Some(backup) = &mut now.backup {
        backup.migrations = Some(found);
    }
    let gate = Gate::of(&plan.spec, &now);
    match gate.verdict() {
        Verdict::Will => Ok(("migrations known", Vec::new())),
        // The plan says so, or it would be stale.
        Verdict::NotChecked => Ok(("migrations not compared", Vec::new())),
        Verdict::WillNot if plan.spec.target.live => Err(unsound(gate.why(&now))),
        Verdict::WillNot => Ok(("migrations not known", vec![gate.why(&now)])),
    }
}

/// What the unpacked tree has been through.
fn staged_migrations(dir: &Dir, data: &Path) -> Result<BackupMigrations, StepError> {
    let path = data.join(layout::MIGRATE);
    let there = |path: &Path| dir.symlink_metadata(path).is_ok();
    let account = there(&data.join(layout::ACCOUNT));
    if !there(&path) {
        return Ok(BackupMigrations::of(None, account));
    }
    match fs::open_regular(dir, &path) {
        Ok(file) if file.metadata().context("inspect", &path)?.len() > migrations::MAX_RECORD => {
            Ok(BackupMigrations::unreadable(migrations::TOO_LARGE))
        }
        Ok(file) => {
            let bytes = fs::read_limited(file, migrations::MAX_RECORD).context("read", &path)?;
            Ok(BackupMigrations::of(Some(&bytes), account))
        }
        Err(_) => Ok(BackupMigrations::unreadable(migrations::NO_FILE)),
    }
}

/// The account database and the budgets' files, below the data directory, as far as they are regular.
fn regular_files(dir: &Dir, data: &Path) -> Result<BTreeSet<PathBuf>, StepError> {
    let account = Path::new(layout::ACCOUNT);
    let mut files = Vec::new();
    for folder in [account.parent().unwrap_or(account), Path::new(layout::USER_FILES)] {
        let path = data.join(folder);
        let opened = match fs::open_dir(dir, &path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.context("open directory", &path)?,
        };
        let mut names = Vec::new();
        for entry in opened.entries().context("list", &path)? {
            let entry = entry.context("list", &path)?;
            if entry.file_type().context("inspect", &path)?.is_file() {
                names.push(entry.file_name());
            }
        }
        // Names are compared faster than paths.
        names.sort_unstable();
        files.extend(names.into_iter().map(|name| folder.join(name)));
    }
    Ok(files.into_iter().collect())
}

pub(super) fn check_group(dir: &Dir, path: &Path) -> Result<(), StepError> {
    let connection = sqlite::open_immutable(dir, path)?;
    let unsound =
        |error: &dyn std::fmt::Display| StepError::Unsound { why: format!("{}: {error}", path.display()) };
    messages::require(&connection).map_err(|error| unsound(&error))?;
    let tables = sqlite::tables(&connection).map_err(|error| unsound(&error))?;
    match messages::REQUIRED_TABLES.iter().find(|required| !tables.iter().any(|table| table == *required)) {
        Some(missing) => Err(unsound(&format!("it has no table '{missing}'"))),
        None => Ok(()),
    }
}
