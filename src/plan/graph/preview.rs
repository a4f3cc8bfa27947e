//! Rule 10: a reviewer sees every warning. What of `preview` follows from the rest of the plan is
//! derived again, and what `observed` knows too must agree with it. Pure.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::super::follows::{self, Claims};
use super::super::model::Plan;
use super::super::observed::{self, Presence};
use super::super::preview::{BudgetPresence, BudgetPreview};
use super::rule::{Rule, Violation};

pub(super) fn check(plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    found.extend(structure(plan));
    found.extend(warnings(plan));
    found.extend(checks(plan));
    found.extend(budgets(plan));
    found.extend(live_budgets(plan));
    found.extend(rest(plan));
    found
}

/// The lists behind the fingerprint cannot be edited without it. Beyond 100 files they are not there,
/// and only the machine can tell.
fn structure(plan: &Plan) -> Option<Violation> {
    let target = &plan.observed.target;
    let given = target.structure.filter(|_| !target.files.is_empty())?;
    let readable = target.budgets_unreadable.is_none();
    (given != observed::structure(&target.files, &target.budgets, readable)).then(|| {
        let message = "the fingerprint 'structure' is not that of the files and budgets that are listed";
        Violation::new(Rule::Structure, "/observed/target/structure", message)
    })
}

fn warnings(plan: &Plan) -> Vec<Violation> {
    let expected = follows::warnings(&plan.spec, &plan.observed, &plan.preview);
    let name = |warning: &super::super::preview::Warning| format!("the warning '{}'", warning.code);
    compare(Rule::Warnings, "/preview/warnings", &plan.preview.warnings, &expected, name, |warning| {
        format!("code '{}' and message '{}'", warning.code, warning.message)
    })
}

fn checks(plan: &Plan) -> Vec<Violation> {
    let expected = follows::checks(&plan.observed, &Claims::of(&plan.preview.checks));
    let name = |check: &super::super::preview::Check| format!("the check '{}'", check.id);
    compare(Rule::Checks, "/preview/checks", &plan.preview.checks, &expected, name, |check| {
        format!("why '{}'", check.why)
    })
}

/// Compares two lists in order: one violation for what is missing, one for each place that differs.
fn compare<T: PartialEq + Debug>(
    rule: Rule,
    place: &str,
    given: &[T],
    expected: &[T],
    name: impl Fn(&T) -> String,
    say: impl Fn(&T) -> String,
) -> Vec<Violation> {
    let missing = expected.iter().filter(|one| !given.iter().any(|other| name(other) == name(one)));
    let mut found: Vec<Violation> = missing
        .map(|one| {
            Violation::new(rule, place, format!("{} is missing, which follows from the plan", name(one)))
        })
        .collect();
    if !found.is_empty() {
        return found;
    }
    for (at, one) in given.iter().enumerate() {
        let message = match expected.get(at) {
            Some(other) if one == other => continue,
            Some(other) if name(one) == name(other) => {
                format!("{} does not say what follows from the plan: {}", name(one), say(other))
            }
            Some(other) => format!("{} stands where {} belongs", name(one), name(other)),
            None => format!("{} does not follow from the plan", name(one)),
        };
        found.push(Violation::new(rule, format!("{place}/{at}"), message));
    }
    if found.is_empty() && given.len() < expected.len() {
        found.push(Violation::new(rule, place, "one of them is missing".to_owned()));
    }
    found
}

/// Sync groups: the old ones are those that were observed, the new ones those that `prepare` gives.
fn budgets(plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (at, budget) in plan.preview.budgets.iter().enumerate() {
        let mut wrong = |field: &str, message: String| {
            let place = format!("/preview/budgets/{at}{field}");
            found.push(Violation::new(Rule::Preview, place, format!("budget '{}' {message}", budget.id)));
        };
        if !seen.insert(&budget.id) {
            wrong("/id", "is there twice".to_owned());
        }
        let expected = follows::new_group(&plan.metadata.id, &plan.spec, &plan.observed, budget);
        if budget.new_group_id != expected {
            let expected = expected.unwrap_or_else(|| "none".to_owned());
            wrong("", format!("gets another newGroupId than the one that follows: {expected}"));
        }
        if let Some(group) = group_seen(plan, budget).filter(|group| budget.group_id != *group) {
            let group = group.unwrap_or_else(|| "none".to_owned());
            wrong("", format!("has another groupId than the one that was observed: {group}"));
        }
    }
    found
}

/// The sync group of a budget as it was observed, where it must have been.
fn group_seen(plan: &Plan, budget: &BudgetPreview) -> Option<Option<String>> {
    if budget.presence == BudgetPresence::LiveOnly {
        let live = plan.observed.target.budgets.iter().find(|live| live.id == budget.id)?;
        return Some(live.group_id.clone());
    }
    match plan.observed.backup.budgets.iter().find(|known| known.id == budget.id) {
        Some(known) => Some(Some(known.group_id.clone())),
        // One that never synced, or whose group cannot be a file name, is not observed.
        None => budget.group_id.as_deref().is_some_and(crate::actual::layout::is_plain_id).then_some(None),
    }
}

/// Every budget of the live server is shown, as one that stays or as one that goes, and no other.
fn live_budgets(plan: &Plan) -> Vec<Violation> {
    let shown = plan.preview.budgets.iter().filter(|budget| budget.presence != BudgetPresence::BackupOnly);
    let shown: BTreeSet<&str> = shown.map(|budget| budget.id.as_str()).collect();
    let live = plan.observed.target.budgets.iter().filter(|budget| !budget.deleted);
    let live: BTreeSet<&str> = live.map(|budget| budget.id.as_str()).collect();
    let not_shown = live.difference(&shown).map(|id| format!("the live server's budget '{id}' is not shown"));
    let not_there =
        shown.difference(&live).map(|id| format!("budget '{id}' was not observed on the live server"));
    not_shown
        .chain(not_there)
        .map(|message| Violation::new(Rule::Preview, "/preview/budgets", message))
        .collect()
}

/// Logins, files and differences.
fn rest(plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    let (preview, target) = (&plan.preview, &plan.observed.target);
    let mut wrong = |place: &str, message: &str| found.push(Violation::new(Rule::Preview, place, message));
    if let Some(count) = target.sessions {
        let row = follows::sessions(&plan.observed, preview);
        // A server without the table has no logins and no row.
        if row.map_or(count > 0, |row| row.live.unwrap_or_default() != count) {
            wrong("/preview/rows", "the live server's logins are not shown as they were observed");
        }
    }
    if target.presence != Presence::Content && !follows::is_fresh(&preview.files) {
        wrong("/preview/files", "files are changed or removed where the target has no content");
    }
    if Claims::of(&preview.checks).diffs_unseen && !preview.diffs.is_empty() {
        wrong("/preview/diffs", "differences are shown that the check 'diffs' says were not seen");
    }
    found
}
