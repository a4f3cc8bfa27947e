//! Whether a plan's preview is true: it is made again on the machine and compared. A reviewer elsewhere
//! has only the preview to judge by, and whoever made the plan could have written anything there. Reads
//! only.

use serde_json::Value;

use super::error::PlanError;
use super::restore;
use crate::context::Context;
use crate::plan::diff::{self, Change};
use crate::plan::drift;
use crate::plan::follows::{Claims, checks};
use crate::plan::model::Plan;
use crate::plan::preview::{BudgetPreview, Preview, RowChange};
use crate::survey::preflight::{Class, Problem};

/// More differences than this are not told.
const MAX_TOLD: usize = 10;

/// What the preview of a plan says otherwise than this machine shows. Where the target took data since
/// the plan, as `spec.drift` may allow, what that changes is not compared.
///
/// # Errors
/// The look failed; that says nothing about the plan.
pub fn untruths(cx: &Context, plan: &Plan) -> Result<Vec<Problem>, PlanError> {
    let fresh = restore::here_again(cx, plan, |_| plan.metadata.clone())?;
    let mut expected = plan.clone();
    let (then, now) = (&plan.observed.target, &fresh.observed.target);
    // Another target is drift, which is told as such.
    if drift::same_structure(plan, now) && then.presence == now.presence {
        let same_content = then.content == now.content;
        let mut space = fresh.observed.space.clone();
        // What is free changes by itself, and what a backup of a grown target needs grows with it.
        space.verdict = plan.observed.space.verdict;
        if !same_content {
            space.backup_bytes = plan.observed.space.backup_bytes;
            if plan.spec.is_single() {
                space.staging_bytes = plan.observed.space.staging_bytes;
            }
        }
        expected.observed.space = space;
        expected.preview = shown(&expected, fresh.preview, same_content);
    }
    // The names that the reviewers read.
    expected.spec.budgets = fresh.spec.budgets;
    expected.observed.backup = fresh.observed.backup;
    expected.observed.instance = fresh.observed.instance;
    let found = diff::diff(plan, &expected).map_err(|error| PlanError::Rules(error.to_string()))?;
    let all = found.wish.into_iter().chain(found.world).chain(found.follows).chain(found.document);
    Ok(all.take(MAX_TOLD).map(|change| problem(&change)).collect())
}

/// What the plan's preview must be, from the one that this machine gives now: what changes by itself is
/// taken from the plan.
fn shown(plan: &Plan, fresh: Preview, same_content: bool) -> Preview {
    let old = &plan.preview;
    let (mut claims, now) = (Claims::of(&old.checks), Claims::of(&fresh.checks));
    let diffs_unseen = claims.diffs_unseen;
    (claims.proven, claims.whole) = (now.proven, now.whole);
    let mut shown = Preview {
        checks: checks(&plan.observed, &claims),
        // These follow from the rest; the loader has seen to it.
        warnings: old.warnings.clone(),
        downtime_ms: old.downtime_ms,
        ..fresh
    };
    if !same_content {
        shown.files = old.files.clone();
        shown.budgets = shown.budgets.into_iter().map(|budget| counted(budget, old)).collect();
        if plan.spec.is_single() {
            // What stays may have become something else; it stays all the same.
            shown.budgets.retain(|budget| !budget.kept);
            shown.budgets.extend(old.budgets.iter().filter(|budget| budget.kept).cloned());
            let place = |id: &str| old.budgets.iter().position(|budget| budget.id == id);
            shown.budgets.sort_by_key(|budget| place(&budget.id));
            shown.rows.clone_from(&old.rows);
        }
        shown.rows = shown.rows.into_iter().map(|row| live_rows(row, old)).collect();
    }
    if !same_content || diffs_unseen {
        shown.diffs.clone_from(&old.diffs);
    }
    shown
}

/// A budget with the counts of the plan.
fn counted(budget: BudgetPreview, old: &Preview) -> BudgetPreview {
    match old.budgets.iter().find(|other| other.id == budget.id) {
        Some(old) => BudgetPreview {
            changes_newer: old.changes_newer,
            first_newer: old.first_newer.clone(),
            last_newer: old.last_newer.clone(),
            ..budget
        },
        None => budget,
    }
}

/// A row with the live count of the plan.
fn live_rows(row: RowChange, old: &Preview) -> RowChange {
    let known = old.rows.iter().find(|other| other.table == row.table && other.database == row.database);
    RowChange { live: known.map_or(row.live, |known| known.live), ..row }
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
