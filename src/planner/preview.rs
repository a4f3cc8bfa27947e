//! What a restore would change: files, budgets, rows, text differences, checks and warnings. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use super::diffs;
use super::error::PlanError;
use super::redact;
use crate::actual::account::{Account, Budget};
use crate::actual::{layout, messages, whole};
use crate::context::Context;
use crate::host::{machine, processes};
use crate::plan::model::Metadata;
use crate::plan::observed::Presence;
use crate::plan::preview::{
    BudgetPresence, BudgetPreview, Check, FileChanges, FileGroup, Preview, RowChange, Verdict, Warning,
};
use crate::plan::spec::{ClientPolicy, DriftPolicy, PreBackupMode, SessionPolicy, Spec};
use crate::plan::step;
use crate::survey::archive::{ArchiveSurvey, BackupFile};
use crate::survey::observe::{self, Survey};
use crate::survey::target::{self, visible};
use crate::survey::tree::{self, Entry, Kind};

const MAX_EXAMPLES: usize = 10;

/// Says what a restore would change.
pub fn preview(
    cx: &Context,
    metadata: &Metadata,
    spec: &Spec,
    survey: &Survey,
    contents: &ArchiveSurvey,
) -> Result<Preview, PlanError> {
    let (_, dir) = observe::open_target(cx, &spec.target.directory)?;
    let data = PathBuf::from(&survey.observed.instance.data_directory);
    let looked = Looked { cx, spec, survey, contents, dir: dir.as_ref(), data: &data };
    let budgets = looked.budgets(metadata);
    let files = looked.files();
    Ok(Preview {
        rows: looked.rows(),
        diffs: looked.diffs()?,
        checks: looked.checks(),
        warnings: looked.warnings(&budgets, &files),
        files,
        budgets,
        downtime_ms: None,
    })
}

struct Looked<'a> {
    cx: &'a Context,
    spec: &'a Spec,
    survey: &'a Survey,
    contents: &'a ArchiveSurvey,
    dir: Option<&'a Dir>,
    data: &'a Path,
}

impl Looked<'_> {
    fn files(&self) -> FileChanges {
        let mut changes = FileChanges::default();
        let mut seen = BTreeSet::new();
        for entry in &self.survey.target.entries {
            if entry.kind == Kind::Directory {
                continue;
            }
            seen.insert(entry.path.clone());
            let backup = self.contents.files.get(&entry.path);
            match backup {
                None if self.contents.links.contains_key(&entry.path) && entry.kind == Kind::Symlink => {
                    changes.unchanged += 1;
                }
                None => add(&mut changes.removed, &entry.path, entry.size),
                Some(file) => {
                    if self.is_same(entry, file) {
                        changes.unchanged += 1;
                    } else {
                        add(&mut changes.changed, &entry.path, file.size);
                    }
                }
            }
        }
        for (path, file) in &self.contents.files {
            if !seen.contains(path) {
                add(&mut changes.added, path, file.size);
            }
        }
        for path in self.contents.links.keys().filter(|path| !seen.contains(*path)) {
            add(&mut changes.added, path, 0);
        }
        changes
    }

    /// Compares by size first; only files of equal size are read.
    fn is_same(&self, entry: &Entry, file: &BackupFile) -> bool {
        entry.kind == Kind::File
            && file.size == entry.size
            && self.dir.is_some_and(|dir| {
                // A file that goes away while it is read is one that changes.
                tree::digest(dir, &entry.path).is_ok_and(|digest| digest == file.sha256)
            })
    }

    /// Whether the server's own database is the backup's, with all its logins.
    fn keeps_account(&self) -> bool {
        let path = self.data.join(layout::ACCOUNT);
        let live = self.survey.target.entries.iter().find(|entry| entry.path == path);
        live.zip(self.contents.files.get(&path)).is_some_and(|(entry, file)| self.is_same(entry, file))
    }

    fn budgets(&self, metadata: &Metadata) -> Vec<BudgetPreview> {
        let by_id = |account: Option<&Account>| -> BTreeMap<String, Budget> {
            let budgets = account.into_iter().flat_map(|account| &account.budgets);
            budgets
                .filter(|budget| !budget.deleted && layout::is_plain_id(&budget.id))
                .map(|budget| (budget.id.clone(), budget.clone()))
                .collect()
        };
        let live = by_id(self.survey.target.account.as_ref());
        let backup = by_id(self.contents.account.as_ref());
        let ids: BTreeSet<&String> = live.keys().chain(backup.keys()).collect();
        let mut budgets: Vec<BudgetPreview> = ids
            .into_iter()
            .filter_map(|id| {
                let (live, backup) = (live.get(id), backup.get(id));
                let shown = backup.or(live)?;
                let presence = match (live, backup) {
                    (Some(_), Some(_)) => BudgetPresence::Both,
                    (Some(_), None) => BudgetPresence::LiveOnly,
                    (None, _) => BudgetPresence::BackupOnly,
                };
                let newer = live.and_then(|live| self.newer(live, backup));
                let resets =
                    self.spec.clients == ClientPolicy::Reset && shown.group_id.is_some() && backup.is_some();
                Some(BudgetPreview {
                    id: id.clone(),
                    name: shown.name.clone(),
                    encrypted: shown.encrypted,
                    presence,
                    changes_newer: newer.as_ref().map(|newer| newer.count),
                    first_newer: newer.as_ref().and_then(|newer| newer.first.as_deref()).map(clock_part),
                    last_newer: newer.as_ref().and_then(|newer| newer.last.as_deref()).map(clock_part),
                    group_id: shown.group_id.clone(),
                    new_group_id: resets.then(|| step::new_group_id(&metadata.id, id)),
                })
            })
            .collect();
        budgets.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        budgets
    }

    /// Changes of a live budget that the backup does not have: all of them where it is not in the
    /// backup; not known where its sync was reset since, or where a database could not be read.
    fn newer(&self, live: &Budget, backup: Option<&Budget>) -> Option<messages::Newer> {
        let group = live.group_id.as_deref()?;
        let point = match backup {
            None => None,
            Some(backup) if backup.group_id.as_deref() == Some(group) => {
                self.contents.last_change.get(group)?.as_deref()
            }
            Some(_) => return None,
        };
        let connection = target::open_group(self.dir?, self.data, group)?;
        messages::newer_than(&connection, point).ok()
    }

    /// Rows of the server's own tables, where they differ or matter.
    fn rows(&self) -> Vec<RowChange> {
        let none = BTreeMap::new();
        let live = self.survey.target.account.as_ref().map_or(&none, |account| &account.rows);
        let backup = self.contents.account.as_ref().map_or(&none, |account| &account.rows);
        let tables: BTreeSet<&String> = live.keys().chain(backup.keys()).collect();
        let database = visible(&self.data.join(layout::ACCOUNT));
        let row = |table: &&String| RowChange {
            database: database.clone(),
            table: (*table).clone(),
            live: live.get(*table).copied(),
            backup: backup.get(*table).copied(),
        };
        tables.iter().map(row).collect()
    }

    fn diffs(&self) -> Result<Vec<crate::plan::preview::TextDiff>, PlanError> {
        let mut found = Vec::new();
        for (name, backup) in &self.contents.texts {
            let (shown, live, restored) = match name.strip_prefix("data") {
                Ok(below) => {
                    let live = self.dir.map(|dir| crate::host::fs::read_optional(dir, below, 1 << 20));
                    (visible(below), live.transpose().ok().flatten().flatten(), true)
                }
                Err(_) => match self.asset(name) {
                    Some(path) => (path.to_string(), self.cx.root.read(&path, 1 << 20)?, false),
                    None => continue,
                },
            };
            if let Some(live) = live {
                found.extend(diffs::diff(&shown, kind_of(name), restored, &live, backup));
            }
        }
        Ok(found)
    }

    /// Where a unit or vhost of the backup belongs on this machine.
    fn asset(&self, member: &Path) -> Option<crate::ids::AbsPath> {
        let paths = &self.survey.entry.paths;
        if !self.spec.target.live {
            return None;
        }
        if member.starts_with("systemd") {
            Some(paths.systemd_unit.clone())
        } else if member.starts_with("nginx") {
            Some(paths.nginx_site.clone())
        } else {
            None
        }
    }

    fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut check = |id: &str, verdict, why: String| {
            checks.push(Check { id: id.to_owned(), verdict, why: line(why) });
        };
        let observed = &self.survey.observed;
        match self.contents.sha256 {
            Some(_) => check("archive", Verdict::Will, "size and SHA-256 are those of the index".into()),
            None => check(
                "archive",
                Verdict::NotChecked,
                "the size is that of the index; apply proves the SHA-256".into(),
            ),
        }
        let gaps = self.gaps();
        match &gaps {
            None => check(
                "budgets-whole",
                Verdict::NotChecked,
                "the backup's list of budgets could not be read; apply checks it".into(),
            ),
            Some(gaps) if gaps.iter().any(whole::Gap::breaks) => {
                let broken: Vec<String> =
                    gaps.iter().filter(|gap| gap.breaks()).map(whole::Gap::describe).collect();
                check("budgets-whole", Verdict::WillNot, broken.join("; "));
            }
            Some(_) => check(
                "budgets-whole",
                Verdict::Will,
                "each budget of the backup has its blob and its group database".into(),
            ),
        }
        check(
            "server-migrations",
            Verdict::NotChecked,
            "whether the installed server can open this backup is not compared yet; keep its version".into(),
        );
        match &observed.machine {
            Some(_) => check("machine", Verdict::Will, "the plan is bound to this machine".into()),
            None => check("machine", Verdict::NotChecked, "this machine has no machine id".into()),
        }
        let space = &observed.space;
        check(
            "space",
            space.verdict,
            format!(
                "up to {} bytes beside the target, {} among the backups",
                space.staging_bytes, space.backup_bytes
            ),
        );
        let kind = &observed.file_system.r#type;
        check(
            "atomic-exchange",
            observed.file_system.atomic_exchange,
            match observed.file_system.atomic_exchange {
                Verdict::Will => format!("{kind} exchanges two directories in one step"),
                Verdict::WillNot => format!("{kind} cannot exchange two directories in one step"),
                Verdict::NotChecked => format!("{kind} is tried when the plan is applied"),
            },
        );
        let users = processes::users_of(&self.cx.root.host_path(&self.spec.target.directory), &[]);
        match users.files.first() {
            Some(user) => check(
                "target-in-use",
                Verdict::WillNot,
                format!("process {} ({}) has files open in the target", user.pid, user.command),
            ),
            None if users.complete => {
                check("target-in-use", Verdict::Will, "no process has files open in the target".into());
            }
            None => check("target-in-use", Verdict::NotChecked, processes::INCOMPLETE.into()),
        }
        if !machine::is_root() {
            check("ownership", Verdict::NotChecked, "only root can give files to other users".into());
        }
        checks
    }

    fn gaps(&self) -> Option<Vec<whole::Gap>> {
        let account = self.contents.account.as_ref()?;
        let files = self.contents.files.keys().filter_map(|path| path.strip_prefix(self.data).ok());
        Some(whole::gaps(account, &files.map(Path::to_path_buf).collect()))
    }

    fn warnings(&self, budgets: &[BudgetPreview], files: &FileChanges) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |code: &str, message: String| {
            warnings.push(Warning { code: code.to_owned(), message: line(message) });
        };
        let prepares =
            self.spec.clients == ClientPolicy::Reset || self.spec.sessions == SessionPolicy::Revoke;
        if files.total() == 0 && !prepares && self.survey.observed.target.presence == Presence::Content {
            warn("no-change", "the target already holds this backup".into());
        }
        let newer: u64 = budgets
            .iter()
            .filter(|budget| budget.presence == BudgetPresence::Both)
            .filter_map(|budget| budget.changes_newer)
            .sum();
        if newer > 0 && self.spec.target.live {
            match self.spec.clients {
                ClientPolicy::Merge => warn(
                    "clients-merge",
                    format!(
                        "clients: merge — clients send newer changes back at their next sync ({newer} on the server now): they undo this restore, budget by budget. 'clients: reset' stops that"
                    ),
                ),
                ClientPolicy::Reset => warn(
                    "clients-reset",
                    format!(
                        "clients: reset — {newer} newer {} replaced; every client is told to download the restored budget",
                        if newer == 1 { "change is" } else { "changes are" }
                    ),
                ),
            }
        }
        for budget in budgets.iter().filter(|budget| budget.presence == BudgetPresence::LiveOnly) {
            let name = budget.name.as_deref().unwrap_or(&budget.id);
            let count = budget.changes_newer.map_or_else(String::new, |count| {
                format!(" ({count} {})", if count == 1 { "change" } else { "changes" })
            });
            warn(
                "budget-gone",
                format!("budget '{name}'{count} is not in the backup and is gone after the restore"),
            );
        }
        for gap in self.gaps().into_iter().flatten().filter(whole::Gap::breaks) {
            warn("backup-incomplete", format!("{}: apply will refuse this backup", gap.describe()));
        }
        if let Some(why) = &self.survey.observed.target.budgets_unreadable {
            warn("live-unreadable", format!("what would be lost could not be counted: {why}"));
        }
        if self.contents.account.as_ref().is_some_and(|account| account.sessions() > 0)
            && self.spec.sessions == SessionPolicy::Keep
            && !self.keeps_account()
        {
            warn(
                "sessions-return",
                "logins of the time of the backup are valid again; 'sessions: revoke' ends them".into(),
            );
        }
        if self.spec.pre_backup.mode == PreBackupMode::None
            && self.survey.observed.target.presence == Presence::Content
        {
            warn(
                "no-pre-backup",
                format!(
                    "nothing is backed up first: the displaced directory, kept for {}, is the only way back",
                    self.spec.retain
                ),
            );
        }
        if self.spec.drift == DriftPolicy::Ignore {
            warn(
                "drift-ignore",
                "drift: ignore — the plan is applied whatever the target holds by then".into(),
            );
        }
        warnings
    }
}

/// A line of a plan has at most 1000 characters; what is longer was made by somebody who floods it.
fn line(text: String) -> String {
    if text.chars().count() <= 1000 {
        text
    } else {
        text.chars().take(990).collect::<String>() + " … (cut)"
    }
}

/// The time in a client's timestamp: `2026-11-24T02:24:23.026Z-01B8-9a8a99a80b6872fa`.
fn clock_part(timestamp: &str) -> String {
    timestamp.get(..24).unwrap_or(timestamp).to_owned()
}

fn add(group: &mut FileGroup, path: &Path, size: u64) {
    group.count += 1;
    group.bytes += size;
    if group.examples.len() < MAX_EXAMPLES {
        group.examples.push(visible(path));
    }
}

/// What kind of text a member of an archive is.
fn kind_of(member: &Path) -> redact::Kind {
    if member.starts_with("systemd") {
        redact::Kind::Unit
    } else if member.starts_with("nginx") {
        redact::Kind::Site
    } else if member.ends_with(layout::MIGRATE) {
        redact::Kind::Migrations
    } else {
        redact::Kind::Configuration
    }
}
