//! Whether a plan's preview is true: it is made again on the machine and compared. A reviewer elsewhere
//! has only the preview to judge by, and whoever made the plan could have written anything there. Reads
//! only.

use serde_json::Value;

use super::error::PlanError;
use super::restore;
use crate::context::Context;
use crate::plan::accounts::{Accounts, Methods};
use crate::plan::diff::{self, Change};
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
    if then.structure == now.structure && then.presence == now.presence {
        let same_content = then.content == now.content;
        let mut space = fresh.observed.space.clone();
        // What is free changes by itself, and what a backup of a grown target needs grows with it.
        space.verdict = plan.observed.space.verdict;
        if !same_content {
            space.backup_bytes = plan.observed.space.backup_bytes;
        }
        expected.observed.space = space;
        expected.preview = shown(&expected, fresh.preview, same_content);
    }
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
        shown.accounts = accounts(shown.accounts, old);
        shown.budgets = shown.budgets.into_iter().map(|budget| counted(budget, old)).collect();
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
