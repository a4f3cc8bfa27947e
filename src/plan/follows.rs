//! What of `preview` follows from the rest of a plan: warnings, most of the checks, new sync groups.
//! The planner writes them with these functions, and the loader derives them again, so that nobody can
//! take a warning out of a plan before it is reviewed. Pure.

use std::path::Path;

use super::assets::{self, ObservedAssets};
use super::at_stake;
use super::derive::belongs;
use super::gate::Gate;
use super::model::Plan;
use super::observed::{Observed, Presence, ServiceManagerKind, ServiceTrouble};
use super::preview::{
    BudgetPresence, BudgetPreview, Check, FileChanges, Preview, TextDiff, Verdict, Warning,
};
use super::spec::{AssetScope, ClientPolicy, DriftPolicy, PreBackupMode, SessionPolicy, Source, Spec};
use super::step::{StepKind, copy_id, new_group_id};
use crate::actual::layout;
use crate::actual::whole::{self, Gap};
use crate::ids::PlanId;

/// Checks whose result is a claim of the planner; the others follow from `observed`.
pub const CLAIMED: [&str; 5] = [ARCHIVE, BUDGETS_WHOLE, IN_USE, OWNERSHIP, DIFFS];

const ARCHIVE: &str = "archive";
const DISPLACED: &str = "displaced-tree";
const BUDGETS_WHOLE: &str = "budgets-whole";
const IN_USE: &str = "target-in-use";
const OWNERSHIP: &str = "ownership";
const DIFFS: &str = "diffs";

/// What the planner says it found, beyond `observed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whether all of the archive was read and has its digest.
    pub proven: bool,
    /// Whether the backup's list of budgets could not be read.
    pub budgets_unread: bool,
    /// Whether anybody has files open in the target.
    pub in_use: InUse,
    /// Whether it is not known that files can be given to other users.
    pub owners_unknown: bool,
    /// Whether the differences of text files were not looked at.
    pub diffs_unseen: bool,
}

/// Whether anybody has files open in the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InUse {
    /// Nobody.
    No,
    /// Somebody: who, in one line.
    By(String),
    /// It is not known: why, in one line.
    Unknown(String),
}

impl Claims {
    /// What the checks of a plan claim; what they say otherwise than [`checks`] shows when that derives
    /// them again.
    pub fn of(checks: &[Check]) -> Self {
        let find = |id: &str| checks.iter().find(|check| check.id == id);
        let why = |check: &Check| check.why.clone();
        Self {
            proven: find(ARCHIVE).is_some_and(|check| check.verdict == Verdict::Will),
            budgets_unread: find(BUDGETS_WHOLE).is_some_and(|check| check.verdict == Verdict::NotChecked),
            in_use: match find(IN_USE) {
                Some(check) if check.verdict == Verdict::WillNot => InUse::By(why(check)),
                Some(check) if check.verdict == Verdict::NotChecked => InUse::Unknown(why(check)),
                Some(_) | None => InUse::No,
            },
            owners_unknown: find(OWNERSHIP).is_some(),
            diffs_unseen: find(DIFFS).is_some(),
        }
    }
}

/// All checks, in their order.
pub fn checks(spec: &Spec, observed: &Observed, claims: &Claims) -> Vec<Check> {
    let check = |id: &str, verdict, why: &str| Check { id: id.to_owned(), verdict, why: line(why) };
    let held = spec.words().held;
    let mut checks = vec![
        if let Some(run) = spec.source.run() {
            let why = format!("the tree that run {} displaced is kept, with both fingerprints", run.run);
            check(DISPLACED, Verdict::Will, &why)
        } else if claims.proven {
            check(ARCHIVE, Verdict::Will, "size and SHA-256 are those of the index")
        } else {
            let why = "the size is that of the index; apply proves the SHA-256";
            check(ARCHIVE, Verdict::NotChecked, why)
        },
        if !observed.incomplete().is_empty() {
            check(BUDGETS_WHOLE, Verdict::WillNot, &whole::describe(observed.incomplete()))
        } else if claims.budgets_unread {
            let then = if spec.is_rollback() { "it comes back as it was" } else { "apply checks it" };
            let why = format!("{held}'s list of budgets could not be read; {then}");
            check(BUDGETS_WHOLE, Verdict::NotChecked, &why)
        } else {
            let why = format!("each budget of {held} has its blob and its group database");
            check(BUDGETS_WHOLE, Verdict::Will, &why)
        },
    ];
    checks.extend(seen(spec, observed));
    checks.extend(service(spec, observed));
    checks.extend(assets::checks(observed).into_iter().map(|(id, verdict, why)| check(id, verdict, &why)));
    checks.push(match &claims.in_use {
        InUse::By(why) => check(IN_USE, Verdict::WillNot, why),
        InUse::Unknown(why) => check(IN_USE, Verdict::NotChecked, why),
        InUse::No if stops(spec, observed) => {
            check(IN_USE, Verdict::Will, "no process but the unit's own has files open in the target")
        }
        InUse::No => check(IN_USE, Verdict::Will, "no process has files open in the target"),
    });
    if claims.owners_unknown {
        checks.push(check(OWNERSHIP, Verdict::NotChecked, "only root can give files to other users"));
    }
    if claims.diffs_unseen {
        let why = "made from facts: how the text of configuration, unit and vhost differs was not seen";
        checks.push(check(DIFFS, Verdict::NotChecked, why));
    }
    checks
}

fn stops(spec: &Spec, observed: &Observed) -> bool {
    belongs(StepKind::Stop, spec, observed)
}

/// What stopping, exchanging two directories, and starting a server until it answers take, in
/// milliseconds; docs/service.md says what these rest on.
const STOPPING: u64 = 500;
const EXCHANGING: u64 = 100;
const STARTING: u64 = 2000;

/// Bytes a millisecond in which a tree is packed and the archive read back, or a tree is copied.
const PACE: u64 = 32 << 10;

/// Estimated time without a server, in milliseconds, from what was observed alone, so that two plans of the
/// same state say the same. `None` where no server is stopped, or it stays so.
pub fn downtime_ms(spec: &Spec, observed: &Observed) -> Option<u64> {
    let has = |kind| belongs(kind, spec, observed);
    if !has(StepKind::Stop) || !has(StepKind::Health) {
        return None;
    }
    let mut bytes = 0_u64;
    if has(StepKind::PreBackup) && spec.pre_backup.mode == PreBackupMode::Quiesced {
        // What it needs at most is twice what the target holds.
        bytes = bytes.saturating_add(observed.space.backup_bytes / 2);
    }
    if has(StepKind::Overlay) {
        bytes = bytes.saturating_add(observed.space.staging_bytes);
    }
    Some(STOPPING + bytes / PACE + EXCHANGING + STARTING)
}

/// Whether the unit does what the plan wants of it; nothing is said where no manager is.
fn service(spec: &Spec, observed: &Observed) -> Option<Check> {
    let service = &observed.service;
    if !spec.target.live || service.manager == ServiceManagerKind::None {
        return None;
    }
    let unit = service.unit.as_deref().unwrap_or("the unit that the registry names");
    let starts = belongs(StepKind::Start, spec, observed);
    let then = match (stops(spec, observed), starts) {
        (true, true) => "it is stopped and started again",
        (true, false) => "it is stopped, and stays so",
        (false, true) => "it is started",
        (false, false) => "it does not run, and stays so",
    };
    let (verdict, why) = match service.trouble {
        None => (Verdict::Will, format!("{unit}: {then}")),
        Some(trouble) if trouble.prevents_start() && starts => {
            (Verdict::WillNot, format!("{unit} {}: it cannot be started", trouble.words()))
        }
        Some(trouble @ (ServiceTrouble::NoName | ServiceTrouble::NotFound | ServiceTrouble::NotLoaded)) => {
            (Verdict::NotChecked, format!("{unit} {}: the server is not controlled", trouble.words()))
        }
        Some(trouble) => (Verdict::Will, format!("{unit} {}: {then}", trouble.words())),
    };
    Some(Check { id: "service".to_owned(), verdict, why: line(&why) })
}

/// The checks that follow from what was observed.
fn seen(spec: &Spec, observed: &Observed) -> [Check; 4] {
    let check = |id: &str, verdict, why: String| Check { id: id.to_owned(), verdict, why: line(&why) };
    let (space, file_system) = (&observed.space, &observed.file_system);
    let (kind, gate) = (&file_system.r#type, Gate::of(spec, observed));
    [
        check("server-migrations", gate.verdict(), gate.why(observed)),
        match &observed.machine {
            Some(_) => check("machine", Verdict::Will, "the plan is bound to the machine".into()),
            None => check("machine", Verdict::NotChecked, "the machine has no machine id".into()),
        },
        check(
            "space",
            space.verdict,
            format!(
                "up to {} bytes beside the target, {} among the backups",
                space.staging_bytes, space.backup_bytes
            ),
        ),
        check(
            "atomic-exchange",
            file_system.atomic_exchange,
            match file_system.atomic_exchange {
                Verdict::Will => format!("{kind} exchanges two directories in one step"),
                Verdict::WillNot => format!("{kind} cannot exchange two directories in one step"),
                Verdict::NotChecked => format!("{kind} is tried when the plan is applied"),
            },
        ),
    ]
}

/// All warnings, in their order; of `preview`, its own warnings are not looked at.
pub fn warnings(spec: &Spec, observed: &Observed, preview: &Preview) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message: String| {
        warnings.push(Warning { code: code.to_owned(), message: line(&message) });
    };
    let has_content = observed.target.presence == Presence::Content;
    let changes = preview.files.total() > 0;
    let prepares = spec.clients.resets_any() || spec.sessions == SessionPolicy::Revoke;
    if !changes && !prepares && has_content {
        let held = if spec.is_rollback() { "what the old tree holds" } else { "this backup" };
        warn("no-change", format!("the target already holds {held}"));
    }
    for (code, message) in at_stake::clients(spec, &preview.budgets) {
        warn(code, message);
    }
    if let Some(message) = single(spec) {
        warn("single-budgets", message);
    }
    for (code, message) in at_stake::budgets(spec, &preview.budgets) {
        warn(code, message);
    }
    if spec.is_rollback() {
        warnings_of_tree(spec, observed, &mut warn);
    } else {
        warnings_of_backup(spec, observed, &mut warn);
    }
    if let Some(why) = &observed.target.budgets_unreadable {
        warn("live-unreadable", format!("what would be lost could not be counted: {why}"));
    }
    if changes && !spec.is_single() {
        for (code, message) in at_stake::accounts(spec, observed, preview) {
            warn(code, message);
        }
    }
    if observed.assets.as_ref().is_some_and(ObservedAssets::changes) {
        let held = if spec.is_rollback() { "the run kept" } else { "the backup holds" };
        warn(
            "assets-written",
            format!("unit and vhost become what {held}: code that root runs; read their differences"),
        );
    }
    for (diff, member) in hidden_assets(observed, preview) {
        let look = match &spec.source {
            Source::Backup(backup) => {
                format!("tar -xOf {} {}/{member}", backup.path, backup.backup_id)
            }
            Source::Run(run) => format!("abssctl run show {}", run.run),
        };
        warn(
            "assets-hidden",
            format!(
                "{} gets lines that are not shown here, since they may hold a secret; read them before you agree: {look}",
                diff.path
            ),
        );
    }
    if spec.pre_backup.mode == PreBackupMode::None && has_content {
        warn(
            "no-pre-backup",
            format!(
                "nothing is backed up first: the displaced directory, kept for {}, is the only way back",
                spec.retain
            ),
        );
    }
    if observed.target.mount_point {
        warn(
            "not-in-one-step",
            format!(
                "{} is a mount point: what is in it is replaced entry by entry, not all at once; the server's data go last and in one step",
                spec.target.directory
            ),
        );
    }
    if spec.drift == DriftPolicy::Ignore {
        warn("drift-ignore", "drift: ignore — the plan is applied whatever the target holds by then".into());
    }
    warnings
}

/// Unit and vhost with lines that come and are not shown, each with its name in the archive.
fn hidden_assets<'p>(
    observed: &'p Observed,
    preview: &'p Preview,
) -> impl Iterator<Item = (&'p TextDiff, &'p str)> {
    let hidden = preview.diffs.iter().filter(|diff| diff.hidden && diff.restored);
    hidden.filter_map(|diff| {
        let mut files = observed.assets.iter().flat_map(ObservedAssets::files);
        let (_, file) = files.find(|(_, file)| file.path.as_str() == diff.path)?;
        Some((diff, file.member.as_str()))
    })
}

/// What keeps a backup from being restored, or is missing in it by the plan's will.
fn warnings_of_backup(spec: &Spec, observed: &Observed, warn: &mut impl FnMut(&str, String)) {
    let (gate, gaps) = (Gate::of(spec, observed), observed.incomplete());
    if gate.verdict() == Verdict::WillNot {
        let why = gate.why(observed);
        if spec.target.live {
            warn("server-cannot-open", format!("apply will refuse this backup: {why}"));
        } else {
            warn("server-cannot-open", format!("no server runs in the target, so it is restored; but {why}"));
        }
    }
    let gaps: Vec<Gap> = gaps.iter().filter(|gap| spec.takes(&gap.budget)).cloned().collect();
    let refused = whole::not_allowed(&gaps, &spec.allow_incomplete);
    if !refused.is_empty() {
        let why = whole::describe(refused);
        warn("backup-incomplete", format!("apply will refuse this backup: {why}"));
    } else if !gaps.is_empty() {
        let why = whole::describe(&gaps);
        warn("incomplete-allowed", format!("allowIncomplete — restored although it is not whole: {why}"));
    }
}

/// What becomes of a tree that comes back as it was.
fn warnings_of_tree(spec: &Spec, observed: &Observed, warn: &mut impl FnMut(&str, String)) {
    let gate = Gate::of(spec, observed);
    if gate.verdict() == Verdict::WillNot {
        let why = gate.why(observed);
        let what = if spec.target.live {
            "apply will refuse this rollback"
        } else {
            "no server runs in the target, so it comes back; but"
        };
        let sign = if spec.target.live { ": " } else { " " };
        warn("server-cannot-open", format!("{what}{sign}{why}"));
    }
    if let Some(tree) = observed.displaced.as_ref().filter(|tree| tree.assets_written)
        && spec.assets == AssetScope::Data
    {
        let why = if tree.assets_kept {
            "the plan leaves them alone (--data-only, or made from facts)"
        } else {
            "the old ones are not kept any more"
        };
        let what = format!("the run replaced unit and vhost too, and they stay as they are now: {why}");
        warn("assets-stay", what);
    }
    if !observed.incomplete().is_empty() {
        let why = whole::describe(observed.incomplete());
        warn("incomplete-returns", format!("the old tree was not whole, and comes back so: {why}"));
    }
    if let Some(run) = spec.source.run() {
        warn(
            "as-it-was",
            format!(
                "the old tree comes back as run {} displaced it at {}: budgets keep their sync groups, logins and passwords are those of then; what was written since goes out of the way, is kept for {}, and comes back by rolling this run back",
                run.run, run.displaced_at, spec.retain
            ),
        );
    }
}

/// What a plan of single budgets leaves alone.
fn single(spec: &Spec) -> Option<String> {
    let name = |id: &str, name: Option<&String>| format!("'{}'", name.map_or(id, String::as_str));
    match spec.budgets.as_slice() {
        [] => None,
        [super::spec::SingleBudget { id, name: known, copy_as: Some(copy) }] => Some(format!(
            "budget {} comes from the backup as the new budget '{}'; every budget that is there, logins, users and settings stay as they are",
            name(id, known.as_ref()),
            copy.name
        )),
        budgets => {
            let mut names: Vec<String> =
                budgets.iter().take(5).map(|one| name(&one.id, one.name.as_ref())).collect();
            if budgets.len() > 5 {
                names.push(format!("{} more", budgets.len() - 5));
            }
            let (what, come) = if budgets.len() == 1 { ("budget", "comes") } else { ("budgets", "come") };
            Some(format!(
                "only {what} {} {come} from the backup; all other budgets, logins, users and settings stay as they are then",
                names.join(", ")
            ))
        }
    }
}

/// Whether a budget stays as it is on the live server, since the plan restores other ones alone.
pub fn kept(spec: &Spec, budget: &BudgetPreview) -> bool {
    budget.copy_of.is_none() && !spec.replaces(&budget.id)
}

/// The id of the new budget that one of the backup comes as, where it does.
pub fn copied(plan: &PlanId, spec: &Spec, budget: &str) -> Option<String> {
    let one = spec.budgets.iter().find(|one| one.id == budget)?;
    one.copy_as.as_ref().map(|_| copy_id(plan, budget))
}

/// The sync group that a budget gets, where it gets another one: what `prepare` does to it.
pub fn new_group(plan: &PlanId, spec: &Spec, observed: &Observed, budget: &BudgetPreview) -> Option<String> {
    let restored = budget.presence != BudgetPresence::LiveOnly;
    let origin = budget.copy_of.as_ref().unwrap_or(&budget.id);
    let known = |group: &String| {
        let groups = observed.groups();
        groups.iter().any(|known| known.id == *origin && known.group_id == *group)
    };
    let wanted = if budget.copy_of.is_some() {
        copied(plan, spec, origin).as_ref() == Some(&budget.id)
    } else {
        spec.clients.of(&budget.id) == ClientPolicy::Reset && !kept(spec, budget)
    };
    let resets = wanted && restored && budget.group_id.as_ref().is_some_and(known);
    resets.then(|| new_group_id(plan, &budget.id))
}

/// The sync group of the live server, where it is another one than in the backup.
pub fn live_group(observed: &Observed, budget: &BudgetPreview) -> Option<String> {
    let live = observed.target.budgets.iter().find(|live| live.id == budget.id)?;
    let differs = budget.presence == BudgetPresence::Both && live.group_id != budget.group_id;
    live.group_id.clone().filter(|_| differs)
}

/// Where the server's own database lies below the target, as `preview.rows` writes it.
pub fn account_path(observed: &Observed) -> String {
    Path::new(&observed.instance.data_directory).join(layout::ACCOUNT).display().to_string()
}

/// The row of the server's table of logins.
pub fn sessions<'p>(observed: &Observed, preview: &'p Preview) -> Option<&'p super::preview::RowChange> {
    let database = account_path(observed);
    preview.rows.iter().find(|row| row.table == "sessions" && row.database == database)
}

/// Brings everything that follows up to date with the rest of a plan.
pub fn derive(plan: &mut Plan) {
    let claims = Claims::of(&plan.preview.checks);
    let new: Vec<_> = plan
        .preview
        .budgets
        .iter()
        .map(|budget| new_group(&plan.metadata.id, &plan.spec, &plan.observed, budget))
        .collect();
    for (budget, new) in plan.preview.budgets.iter_mut().zip(new) {
        budget.new_group_id = new;
    }
    plan.preview.checks = checks(&plan.spec, &plan.observed, &claims);
    plan.preview.warnings = warnings(&plan.spec, &plan.observed, &plan.preview);
    plan.preview.downtime_ms = downtime_ms(&plan.spec, &plan.observed);
}

/// Whether a restore into a place without content says that it changes or removes something there.
pub fn is_fresh(files: &FileChanges) -> bool {
    files.changed.count == 0 && files.removed.count == 0 && files.unchanged == 0
}

/// A line of a plan has at most 1000 characters; what is longer was made by somebody who floods it.
pub fn line(text: &str) -> String {
    if text.chars().count() <= 1000 {
        text.to_owned()
    } else {
        text.chars().take(990).collect::<String>() + " … (cut)"
    }
}
