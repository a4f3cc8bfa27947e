//! What a plan means, in words: the one source of all renderings, so that none says less than another.
//! The words may hold hostile text of the plan; each rendering makes it harmless in its own way. Pure.

use jiff::Timestamp;

use super::super::model::Plan;
use super::super::observed::{Presence, ServiceManagerKind};
use super::super::preview::{
    BudgetPresence, BudgetPreview, DeletedIn, FileGroup, KeyChange, RowChange, Verdict,
};
use super::super::spec::{
    AssetScope, BackupSource, ClientPolicy, DriftPolicy, OnFailure, PreBackupMode, ReplayPolicy,
    RestartPolicy, RunSource, SessionPolicy, SingleBudget, Source, SourceScope, Spec,
};
use super::super::step::{Effect, Step, StepKind};
use super::accounts;
use super::layout::bytes;
use crate::actual::whole;

/// Names that a sentence lists before it counts the rest.
const NAMES: usize = 5;

/// How much a text matters. Looks only help; the words say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Quiet,
    Good,
    Care,
    Danger,
}

/// A text and how much it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) tone: Tone,
    pub(super) text: String,
}

impl Said {
    pub(super) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }

    fn plain(text: impl Into<String>) -> Self {
        Self::new(Tone::Plain, text)
    }
}

pub(super) fn title(plan: &Plan) -> String {
    let (act, what) = acts_on(plan);
    format!("{act} {what} of instance {}", plan.spec.instance)
}

/// What the plan does, and with what: for titles, which mark the name of it.
pub(super) fn acts_on(plan: &Plan) -> (&'static str, String) {
    match &plan.spec.source {
        Source::Backup(backup) => ("Restore backup", backup.backup_id.to_string()),
        Source::Run(run) => ("Roll back run", run.run.to_string()),
    }
}

/// When what the plan does is done.
pub(super) fn after(plan: &Plan) -> &'static str {
    if plan.spec.is_rollback() { "after the rollback" } else { "after the restore" }
}

/// What comes, and of when.
pub(super) fn origin(plan: &Plan) -> String {
    match &plan.spec.source {
        Source::Backup(backup) => format!("a backup of {}, {}", backup.created_at, archive(backup)),
        Source::Run(run) => format!("the old tree, displaced {}, {}", run.displaced_at, kept(run)),
    }
}

/// Where a displaced tree is, and what had taken its place.
pub(super) fn kept(run: &RunSource) -> String {
    format!("kept in {} since backup {} was restored", run.directory, run.backup_id)
}

/// What the archive is like.
pub(super) fn archive(source: &BackupSource) -> String {
    let scope = match source.scope {
        SourceScope::Full => "with unit and vhost",
        SourceScope::Data => "data only",
    };
    format!("{} ({}, {scope})", bytes(source.size_bytes), source.algorithm)
}

pub(super) fn destination(plan: &Plan) -> String {
    let target = &plan.spec.target;
    let which = if target.live { "the live directory of the instance" } else { "not the live directory" };
    format!("{}, {which}", target.directory)
}

pub(super) fn downtime(milliseconds: u64) -> String {
    format!("about {}.{} s without a server", milliseconds / 1000, milliseconds % 1000 / 100)
}

/// Until when the plan may be applied. The same words until then, so that a comment does not change.
pub(super) fn validity(plan: &Plan, now: Option<Timestamp>) -> Said {
    let expires = plan.metadata.expires_at;
    if now.is_some_and(|now| expires.timestamp() <= now) {
        Said::new(Tone::Danger, format!("EXPIRED on {expires}; plan again"))
    } else {
        Said::plain(format!("expires {expires}"))
    }
}

/// What changes, in one line.
pub(super) fn summary(plan: &Plan) -> String {
    let files = &plan.preview.files;
    let mut parts = vec![
        counted(files.removed.count, "file removed", "files removed"),
        format!("{} changed", files.changed.count),
        format!("{} added", files.added.count),
    ];
    let gone = of_presence(plan, BudgetPresence::LiveOnly).len();
    if gone > 0 {
        parts.push(counted(count(gone), "budget gone", "budgets gone"));
    }
    let newer = total_newer(plan.preview.budgets.iter());
    if newer > 0 {
        parts.push(counted(newer, "newer change on the server", "newer changes on the server"));
    }
    parts.join(", ")
}

/// Settings that take a safeguard away, for the top of every rendering.
pub(super) fn alarms(plan: &Plan) -> Vec<Said> {
    [incomplete_alarm(plan), drift_alarm(plan), pre_backup_alarm(plan)].into_iter().flatten().collect()
}

pub(super) fn incomplete_alarm(plan: &Plan) -> Option<Said> {
    let allowed = &plan.spec.allow_incomplete;
    let text = format!("allowIncomplete: {}.", whole::describe(allowed));
    (!allowed.is_empty()).then(|| Said::new(Tone::Danger, text))
}

pub(super) fn drift_alarm(plan: &Plan) -> Option<Said> {
    let text = "drift: ignore. Whatever is in the target by then is replaced, reviewed or not.";
    (plan.spec.drift == DriftPolicy::Ignore).then(|| Said::new(Tone::Danger, text))
}

pub(super) fn pre_backup_alarm(plan: &Plan) -> Option<Said> {
    let (tone, text) = match plan.observed.target.presence {
        Presence::Content => (
            Tone::Danger,
            "No pre-backup. The displaced directory is the only way back, and it is removed in time.",
        ),
        Presence::Absent | Presence::Empty => {
            (Tone::Care, "No pre-backup. Nothing was in the target when this was planned.")
        }
    };
    (plan.spec.pre_backup.mode == PreBackupMode::None).then(|| Said::new(tone, text))
}

/// What would be lost, worst first; empty where nothing would.
pub(super) fn losses(plan: &Plan) -> Vec<Said> {
    let held = plan.spec.words().held;
    let mut losses = Vec::new();
    let gone = of_presence(plan, BudgetPresence::LiveOnly);
    if !gone.is_empty() {
        let many = counted(count(gone.len()), "budget is", "budgets are");
        losses.push(Said::new(Tone::Danger, format!("{many} not in {held} and gone: {}", names(&gone))));
    }
    let both = of_presence(plan, BudgetPresence::Both);
    let newer: Vec<_> =
        both.iter().copied().filter(|budget| budget.changes_newer.is_some_and(|n| n > 0)).collect();
    if !newer.is_empty() {
        let back = "leave the server and come back at the next sync of their clients";
        let fates =
            [(ClientPolicy::Reset, Tone::Danger, "will be lost"), (ClientPolicy::Merge, Tone::Care, back)];
        for (policy, tone, fate) in fates {
            let of = |budget: &&BudgetPreview| plan.spec.clients.of(&budget.id) == policy;
            let newer: Vec<&BudgetPreview> = newer.iter().copied().filter(of).collect();
            if !newer.is_empty() {
                let many = counted(total_newer(newer.iter().copied()), "change", "changes");
                losses.push(Said::new(tone, format!("{many} newer than {held} {fate}: {}", names(&newer))));
            }
        }
    }
    let unknown: Vec<_> = plan
        .preview
        .budgets
        .iter()
        .filter(|budget| {
            budget.presence != BudgetPresence::BackupOnly && !budget.kept && budget.changes_newer.is_none()
        })
        .collect();
    if !unknown.is_empty() {
        losses.push(Said::new(Tone::Care, format!("newer changes were not counted: {}", names(&unknown))));
    }
    losses.extend(accounts::losses(plan));
    let removed = &plan.preview.files.removed;
    if removed.count > 0 {
        let many = counted(removed.count, "file", "files");
        losses.push(Said::new(
            Tone::Care,
            format!("{many} ({}) removed from {}", bytes(removed.bytes), plan.spec.target.directory),
        ));
    }
    losses
}

/// Saturates: a plan's numbers are as large as its author likes.
fn total_newer<'p>(budgets: impl Iterator<Item = &'p BudgetPreview>) -> u64 {
    budgets.filter_map(|budget| budget.changes_newer).fold(0, u64::saturating_add)
}

fn of_presence(plan: &Plan, presence: BudgetPresence) -> Vec<&BudgetPreview> {
    plan.preview.budgets.iter().filter(|budget| budget.presence == presence && !budget.kept).collect()
}

fn names(budgets: &[&BudgetPreview]) -> String {
    let mut listed: Vec<String> = budgets.iter().take(NAMES).map(|budget| name(budget).to_owned()).collect();
    if budgets.len() > NAMES {
        listed.push(format!("and {} more", budgets.len() - NAMES));
    }
    listed.join(", ")
}

/// A length as a number of a plan.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The files that a group names, and a sign where there are more.
pub(super) fn examples(group: &FileGroup) -> Vec<&str> {
    let mut listed: Vec<&str> = group.examples.iter().map(String::as_str).collect();
    if !listed.is_empty() && count(listed.len()) < group.count {
        listed.push("…");
    }
    listed
}

pub(super) fn name(budget: &BudgetPreview) -> &str {
    budget.name.as_deref().unwrap_or(&budget.id)
}

pub(super) fn fate(budget: &BudgetPreview, held: &str) -> Said {
    if budget.kept {
        return Said::plain("stays as it is");
    }
    if budget.copy_of.is_some() {
        return Said::new(Tone::Good, "new, beside the old one");
    }
    let (tone, mut text) = match (budget.presence, budget.deleted) {
        (BudgetPresence::Both, _) => (Tone::Plain, format!("as in {held}")),
        (BudgetPresence::LiveOnly, Some(DeletedIn::Backup)) => {
            (Tone::Danger, format!("gone (deleted in {held})"))
        }
        (BudgetPresence::LiveOnly, _) => (Tone::Danger, "gone".to_owned()),
        (BudgetPresence::BackupOnly, Some(DeletedIn::Live)) => {
            (Tone::Good, "back (deleted since)".to_owned())
        }
        (BudgetPresence::BackupOnly, _) => (Tone::Good, "back".to_owned()),
    };
    if budget.live_group_id.is_some() {
        text += "; its sync was reset since";
    }
    match budget.key_change {
        None => {}
        Some(KeyChange::EncryptedSince) => text += "; not encrypted any more",
        Some(KeyChange::DecryptedSince) => text += "; encrypted again",
        Some(KeyChange::OtherKey) => text += "; with its former encryption key",
    }
    Said::new(tone, text)
}

/// What becomes of changes that the backup does not have.
pub(super) fn newer(budget: &BudgetPreview, clients: ClientPolicy) -> Said {
    if budget.kept {
        return Said::plain("kept");
    }
    let count = match (budget.presence, budget.changes_newer) {
        (BudgetPresence::BackupOnly, _) | (_, Some(0)) => return Said::plain("none"),
        (_, None) => return Said::new(Tone::Care, "not counted"),
        (_, Some(count)) => count,
    };
    let (fate, tone) = match (budget.presence, clients) {
        (BudgetPresence::Both, ClientPolicy::Merge) => ("come back from clients", Tone::Care),
        (BudgetPresence::Both, ClientPolicy::Reset) => ("lost", Tone::Danger),
        (BudgetPresence::LiveOnly | BudgetPresence::BackupOnly, _) => ("lost with it", Tone::Danger),
    };
    let times = match (&budget.first_newer, &budget.last_newer) {
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        (Some(one), None) | (None, Some(one)) => format!(", {one}"),
        (None, None) => String::new(),
    };
    Said::new(tone, format!("{count} {fate}{times}"))
}

/// Rows of a table, now and after.
pub(super) fn counts(change: &RowChange) -> String {
    let number = |count: Option<u64>| count.map_or_else(|| "none".to_owned(), |count| count.to_string());
    format!("{} → {}", number(change.live), number(change.backup))
}

pub(super) fn verdict(verdict: Verdict) -> Said {
    match verdict {
        Verdict::Will => Said::new(Tone::Good, "✓ will"),
        Verdict::WillNot => Said::new(Tone::Danger, "✗ will not"),
        Verdict::NotChecked => Said::new(Tone::Care, "? not checked"),
    }
}

pub(super) fn effect(effect: Effect) -> Said {
    match effect {
        Effect::Read => Said::new(Tone::Quiet, "read"),
        Effect::Staging => Said::plain("staging"),
        Effect::Live => Said::new(Tone::Danger, "live"),
        Effect::Service => Said::new(Tone::Care, "service"),
        Effect::Record => Said::new(Tone::Care, "record"),
    }
}

/// A step's id, and its kind where that is another word.
pub(super) fn step_name(step: &Step) -> String {
    if step.id.as_str() == step.kind().name() {
        step.id.to_string()
    } else {
        format!("{} ({})", step.id, step.kind())
    }
}

pub(super) fn approvals(plan: &Plan) -> String {
    match plan.approvals.as_slice() {
        [] => "none in the file".to_owned(),
        all => {
            let names: Vec<&str> = all.iter().map(|approval| approval.principal.as_str()).collect();
            format!("{} in the file, not checked here: {}", all.len(), names.join(", "))
        }
    }
}

/// Every setting by name.
pub(super) fn settings(plan: &Plan) -> Vec<(&'static str, Said)> {
    let (spec, space) = (&plan.spec, &plan.observed.space);
    let pre_backup = match spec.pre_backup.mode {
        PreBackupMode::None => Said::new(Tone::Danger, "none: the displaced directory is the only way back"),
        mode @ (PreBackupMode::Quiesced | PreBackupMode::Online) => {
            Said::plain(format!("{mode}, to {}", space.backup_directory))
        }
    };
    let needs = format!(
        "{} beside the target ({}), {} for the pre-backup",
        bytes(space.staging_bytes),
        plan.observed.file_system.r#type,
        bytes(space.backup_bytes)
    );
    let mut settings = vec![
        ("pre-backup", pre_backup),
        ("clients", clients(plan)),
        (
            "sessions",
            if spec.is_single() {
                Said::plain("keep: the logins of the live server stay as they are")
            } else {
                sessions(spec)
            },
        ),
        ("service", service(plan)),
        ("unit, vhost", assets(plan)),
        ("on failure", on_failure(spec.on_failure)),
        ("drift", drift(spec.drift)),
        ("replay", replay(spec.replay)),
        ("retain", Said::plain(format!("the displaced directory for {}", spec.retain))),
        ("space", Said::plain(needs)),
    ];
    if !spec.allow_incomplete.is_empty() {
        let parts = counted(count(spec.allow_incomplete.len()), "part", "parts");
        let text = format!("{parts} of budgets may be missing: {}", whole::describe(&spec.allow_incomplete));
        settings.push(("incomplete", Said::new(Tone::Danger, text)));
    }
    if spec.is_single() {
        settings.insert(0, ("budgets", budgets(&spec.budgets)));
    }
    if plan.steps.iter().any(|step| step.kind() == StepKind::Health) {
        let at = spec.health.url.as_ref().map(|url| format!("at {url} ")).unwrap_or_default();
        let health = format!("{at}up to {}, asked every {}", spec.health.timeout, spec.health.interval);
        settings.push(("health", Said::plain(health)));
    }
    settings
}

/// Which budgets come from the backup, where not all do.
fn budgets(single: &[SingleBudget]) -> Said {
    let name = |one: &SingleBudget| {
        let name = one.name.as_deref().unwrap_or(&one.id);
        match &one.copy_as {
            Some(copy) => format!("{name} as the new budget {}", copy.name),
            None => name.to_owned(),
        }
    };
    let mut names: Vec<String> = single.iter().take(NAMES).map(name).collect();
    if single.len() > NAMES {
        names.push(format!("and {} more", single.len() - NAMES));
    }
    Said::new(Tone::Care, format!("only {}; all else stays as it is", names.join(", ")))
}

fn clients(plan: &Plan) -> Said {
    let clients = &plan.spec.clients;
    let word = |policy| match policy {
        ClientPolicy::Merge => "merge: clients send their newer changes back",
        ClientPolicy::Reset => "reset: new sync groups, clients must download the restored state",
    };
    let mut text = word(clients.default_policy()).to_owned();
    let named: Vec<&str> = clients.named().collect();
    if let Some(first) = named.first() {
        let known = |id: &&str| plan.preview.budgets.iter().find(|budget| budget.id == *id);
        let mut names: Vec<&str> = named.iter().take(NAMES).map(|id| known(id).map_or(*id, name)).collect();
        let more = format!("and {} more", named.len().saturating_sub(NAMES));
        if named.len() > NAMES {
            names.push(&more);
        }
        text += &format!("; but for {}, {}", names.join(", "), word(clients.of(first)));
    }
    Said::plain(text)
}

fn sessions(spec: &Spec) -> Said {
    Said::plain(match spec.sessions {
        SessionPolicy::Keep => format!("keep: the logins of {} are valid again", spec.words().held),
        SessionPolicy::Revoke => "revoke: everybody logs in again".to_owned(),
    })
}

fn service(plan: &Plan) -> Said {
    let observed = &plan.observed.service;
    let restart = match plan.spec.service.restart {
        RestartPolicy::Auto => "auto: started if it ran",
        RestartPolicy::Always => "always started",
        RestartPolicy::Never => "never started",
    };
    let seen = match (observed.manager, &observed.unit) {
        (ServiceManagerKind::None, _) => {
            return Said::plain("not controlled: stop the server before apply, start it afterwards");
        }
        (ServiceManagerKind::Systemd, unit) => format!(
            "{} {}",
            unit.as_deref().unwrap_or("no unit"),
            match (observed.running, observed.trouble) {
                (_, Some(trouble)) => trouble.words(),
                (true, None) => "was running",
                (false, None) => "was not running",
            }
        ),
    };
    Said::plain(format!("{restart}; {seen}"))
}

fn assets(plan: &Plan) -> Said {
    match plan.spec.assets {
        AssetScope::Data if plan.preview.diffs.iter().any(|diff| !diff.restored) => {
            Said::plain("stay as they are, although they differ: see below; --with-assets restores them")
        }
        AssetScope::Data => Said::plain("stay as they are"),
        AssetScope::Full => {
            let seen = plan.observed.assets.iter();
            let files = seen.flat_map(super::super::assets::ObservedAssets::files);
            let places: Vec<String> =
                files.map(|(_, file)| format!("{} (by {})", file.path, file.found_by)).collect();
            Said::new(Tone::Care, format!("restored too, code that root runs: {}", places.join(", ")))
        }
    }
}

fn on_failure(policy: OnFailure) -> Said {
    match policy {
        OnFailure::Rollback => Said::plain("rollback: everything is put back"),
        OnFailure::Halt => Said::new(Tone::Care, "halt: everything stays for a person to look at"),
    }
}

fn drift(policy: DriftPolicy) -> Said {
    match policy {
        DriftPolicy::Structure => Said::plain("structure: more changes of the same budgets are fine"),
        DriftPolicy::Exact => Said::plain("exact: any difference is refused"),
        DriftPolicy::Ignore => {
            Said::new(Tone::Danger, "ignore: whatever is in the target by then is replaced, reviewed or not")
        }
    }
}

fn replay(policy: ReplayPolicy) -> Said {
    match policy {
        ReplayPolicy::Once => Said::plain("once"),
        ReplayPolicy::Allowed => Said::new(Tone::Care, "allowed: the plan may be applied again"),
    }
}
