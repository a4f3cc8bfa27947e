//! Whether a plan's preview is true: it is made again on the machine and compared. A reviewer elsewhere
//! has only the preview to judge by, and whoever made the plan could have written anything there. Reads
//! only.
//!
//! Where the target took data since the plan, parts of the preview are another by now. How far they can be
//! so is known: a server adds changes to a group and removes none, and of files it writes databases and
//! blobs alone ([`Bounds`]). What lies beyond is refused, the rest is said.

use serde_json::Value;

use super::bounds::Bounds;
use super::error::PlanError;
use super::restore;
use crate::context::Context;
use crate::plan::accounts::{Accounts, Methods};
use crate::plan::diff::{self, Change};
use crate::plan::drift;
use crate::plan::follows::{Claims, checks};
use crate::plan::model::Plan;
use crate::plan::observed::ObservedBudget;
use crate::plan::preview::{BudgetPreview, Preview, RowChange, Warning};
use crate::survey::preflight::{Class, Problem};

/// More differences than this are not told.
const MAX_TOLD: usize = 10;

/// What came out when a preview was made again.
#[derive(Debug, Default)]
pub struct Again {
    /// What the plan says otherwise than this machine shows.
    pub problems: Vec<Problem>,
    /// What reviewers could not see, since it came after the plan or could not be counted then.
    pub said: Vec<String>,
}

/// Makes the preview of a plan again and compares. Where the target took data since the plan, as
/// `spec.drift` may allow, what that can have changed is said and no problem.
///
/// # Errors
/// The look failed; that says nothing about the plan.
pub fn untruths(cx: &Context, plan: &Plan) -> Result<Again, PlanError> {
    let (mut fresh, local) = restore::here_again(cx, plan, |_| plan.metadata.clone())?;
    let mut expected = plan.clone();
    let (then, now) = (&plan.observed.target, &fresh.observed.target);
    let mut said = Vec::new();
    // Another target is drift, which is told as such.
    if drift::same_structure(plan, now) && then.presence == now.presence {
        let same_content = then.content == now.content;
        let mut space = fresh.observed.space.clone();
        // What is free changes by itself, and what a backup of a grown target needs grows with it.
        space.verdict = plan.observed.space.verdict;
        if !same_content {
            space.backup_bytes = plan.observed.space.backup_bytes;
            said = news(plan, &fresh);
            if plan.spec.is_single() {
                space.staging_bytes = plan.observed.space.staging_bytes;
            }
        }
        expected.observed.space = space;
        expected.preview = shown(plan, &fresh, &local.bounds, same_content);
    } else {
        said.extend(unseen(&plan.preview, &fresh.preview).map(|warning| warning.message.clone()));
    }
    // The names that the reviewers read.
    expected.spec.budgets = fresh.spec.budgets;
    expected.observed.backup = fresh.observed.backup;
    expected.observed.displaced = fresh.observed.displaced;
    expected.observed.instance = fresh.observed.instance;
    if let (Some(now), Some(then)) = (&mut fresh.observed.assets, &plan.observed.assets) {
        // What the machine has in their places is compared as drift.
        now.take_present(then);
    }
    expected.observed.assets = fresh.observed.assets;
    let found = diff::diff(plan, &expected).map_err(|error| PlanError::Rules(error.to_string()))?;
    let mut all =
        found.wish.into_iter().chain(found.world).chain(found.follows).chain(found.document).peekable();
    // Where something could not be read the difference tells nothing about the plan.
    if let (Some(_), Some(why)) = (all.peek(), local.unread.first()) {
        return Err(PlanError::Unread { directory: plan.spec.target.directory.clone(), why: why.clone() });
    }
    Ok(Again { problems: all.take(MAX_TOLD).map(|change| problem(&change)).collect(), said })
}

/// What the plan's preview must be, from the one that this machine gives now: what changes by itself is
/// taken from the plan, as far as it can have changed so.
fn shown(plan: &Plan, fresh: &Plan, bounds: &Bounds, same_content: bool) -> Preview {
    let old = &plan.preview;
    let (mut claims, now) = (Claims::of(&old.checks), Claims::of(&fresh.preview.checks));
    (claims.proven, claims.budgets_unread) = (now.proven, now.budgets_unread);
    let mut shown = Preview {
        checks: checks(&plan.spec, &plan.observed, &claims),
        // These follow from the rest; the loader has seen to it.
        warnings: old.warnings.clone(),
        downtime_ms: old.downtime_ms,
        ..fresh.preview.clone()
    };
    if !same_content {
        // The bounds are those of a whole backup; of single budgets other numbers than now are said.
        if plan.spec.is_single() || bounds.hold(&plan.observed.target, old) {
            shown.files = old.files.clone();
        }
        shown.accounts = accounts(shown.accounts, old);
        for budget in &mut shown.budgets {
            counted(budget, plan, fresh);
        }
        if plan.spec.is_single() {
            // What stays may have become something else; it stays all the same.
            shown.budgets.retain(|budget| !budget.kept);
            shown.budgets.extend(old.budgets.iter().filter(|budget| budget.kept).cloned());
            let place = |id: &str| old.budgets.iter().position(|budget| budget.id == id);
            shown.budgets.sort_by_key(|budget| place(&budget.id));
            shown.rows.clone_from(&old.rows);
        }
        for row in &mut shown.rows {
            live_rows(row, old);
        }
    }
    // They are of files that a running server does not change; unit and vhost may have become what comes.
    if claims.diffs_unseen || plan.observed.assets != fresh.observed.assets {
        shown.diffs.clone_from(&old.diffs);
    }
    shown
}

/// Takes the counts of a budget from the plan, if they can have been so.
fn counted(budget: &mut BudgetPreview, plan: &Plan, fresh: &Plan) {
    let Some(old) = plan.preview.budgets.iter().find(|other| other.id == budget.id) else { return };
    let (then, now) = (held(plan, &budget.id), held(fresh, &budget.id));
    if can_have_been(old, then, budget, now) {
        budget.changes_newer = old.changes_newer;
        budget.first_newer.clone_from(&old.first_newer);
        budget.last_newer.clone_from(&old.last_newer);
    }
}

/// Who could log in, with what the plan says of the live server.
fn accounts(fresh: Option<Accounts>, old: &Preview) -> Option<Accounts> {
    let fresh = fresh?;
    let Some(old) = &old.accounts else { return Some(fresh) };
    let login_method = Methods { live: old.login_method.live.clone(), backup: fresh.login_method.backup };
    Some(Accounts {
        login_method,
        configured_method: fresh.configured_method,
        locked_out: fresh.locked_out,
        ..old.clone()
    })
}

/// Changes that the server held of a budget.
fn held(plan: &Plan, id: &str) -> Option<u64> {
    let budgets: &[ObservedBudget] = &plan.observed.target.budgets;
    budgets.iter().find(|budget| budget.id == id)?.changes
}

/// Whether the counts of a budget can have been `old` when the server held `then` changes of it, if it
/// holds `now` by now and they are `new`. A server adds changes to a group and takes none out, so what was
/// newer than the backup is so still, and each one more is counted as drift.
fn can_have_been(old: &BudgetPreview, then: Option<u64>, new: &BudgetPreview, now: Option<u64>) -> bool {
    let times = |budget: &BudgetPreview| (budget.first_newer.is_some(), budget.last_newer.is_some());
    let some = old.changes_newer.is_some_and(|count| count > 0);
    if times(old) != (some, some) || old.first_newer > old.last_newer {
        return false;
    }
    match (old.changes_newer, new.changes_newer) {
        (Some(was), Some(is)) => {
            let come = now.unwrap_or_default().saturating_sub(then.unwrap_or_default());
            let come = if then.is_some() { come } else { 0 };
            let fewer = then > now;
            let same = was == is && then == now;
            was.saturating_add(come) >= is
                && then.is_none_or(|then| was <= then)
                && (fewer || was <= is)
                && (!same || (&old.first_newer, &old.last_newer) == (&new.first_newer, &new.last_newer))
                && (fewer || !some || old.first_newer >= new.first_newer && old.last_newer <= new.last_newer)
        }
        // Counted then, and not now: nobody can say more, if the database cannot be read.
        (Some(was), None) => now.is_none() && then.is_none_or(|then| was <= then),
        // Not counted then although it could be read.
        (None, Some(_)) => then.is_none(),
        (None, None) => true,
    }
}

/// Takes the live count of a row from the plan. The list of budgets is a part of the structure, so that
/// it has as many rows as then.
fn live_rows(row: &mut RowChange, old: &Preview) {
    let known = old.rows.iter().find(|other| other.table == row.table && other.database == row.database);
    if let Some(known) = known.filter(|known| known.live.is_some() == row.live.is_some())
        && row.table != "files"
    {
        row.live = known.live;
    }
}

/// What this machine shows and the reviewers could not see.
fn news(plan: &Plan, fresh: &Plan) -> Vec<String> {
    let (old, new) = (&plan.preview, &fresh.preview);
    let mut said: Vec<String> = unseen(old, new).map(|warning| warning.message.clone()).collect();
    for budget in &new.budgets {
        let name = budget.name.as_deref().unwrap_or(&budget.id);
        let Some(old) = old.budgets.iter().find(|other| other.id == budget.id) else { continue };
        if let (None, Some(count)) = (old.changes_newer, budget.changes_newer) {
            said.push(format!(
                "budget '{name}': {count} newer changes would be replaced, which the plan does not count"
            ));
        }
        if let (Some(then), Some(now)) = (held(plan, &budget.id), held(fresh, &budget.id))
            && then > now
        {
            said.push(format!("budget '{name}': the server held {then} changes, now it holds {now}"));
        }
    }
    let counts = |preview: &Preview| {
        let files = &preview.files;
        (files.added.count, files.changed.count, files.removed.count)
    };
    if counts(old) != counts(new) {
        let words =
            |(added, changed, removed)| format!("{added} added, {changed} changed, {removed} removed");
        let (then, now) = (words(counts(old)), words(counts(new)));
        said.push(format!("files: the plan says {then}; now it is {now}"));
    }
    for row in &new.rows {
        let known = old.rows.iter().find(|other| other.table == row.table && other.database == row.database);
        if let (Some(was), Some(is)) = (known.and_then(|known| known.live), row.live)
            && was != is
        {
            said.push(format!(
                "table {}: the plan says {was} rows on the server, now it has {is}",
                row.table
            ));
        }
    }
    said
}

/// Warnings that the plan would have if it were made now, and that reviewers did not read.
fn unseen<'p>(old: &'p Preview, new: &'p Preview) -> impl Iterator<Item = &'p Warning> {
    new.warnings.iter().filter(|warning| old.warnings.iter().all(|known| known.code != warning.code))
}

fn problem(change: &Change) -> Problem {
    let budget = change.budget.as_ref().map(|name| format!(" (budget '{name}')")).unwrap_or_default();
    let (says, shows) = (short(change.before.as_ref()), short(change.after.as_ref()));
    Problem {
        code: "preview-untrue",
        class: Class::Refused,
        message: format!("{}{budget}: the plan says {says}, this machine shows {shows}", change.path),
        help: "the reviewers saw something else than what would happen; find out who edited the plan, and make a new one: abssctl plan refresh FILE".to_owned(),
    }
}

/// A value in few characters.
fn short(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= 200 { text } else { text.chars().take(197).collect::<String>() + "…" }
}
