//! Which sync groups and ids budgets get: chosen by the plan, so that reviewers see them and every run of
//! the plan gives the same. Pure.

use super::derive::NoSuchStep;
use super::observed::{Observed, ObservedBackupBudget};
use super::spec::{ClientPolicy, SingleBudget, Spec};
use super::step::{BudgetCopy, GroupChange, OverlayBudget, OverlayWith, StepKind};
use crate::ids::{PlanId, Sha256};

/// The sync groups that `prepare` gives.
pub(super) fn group_changes(plan: &PlanId, spec: &Spec, observed: &Observed) -> Vec<GroupChange> {
    let change = |budget: &ObservedBackupBudget| GroupChange {
        budget: budget.id.clone(),
        from: budget.group_id.clone(),
        to: new_group_id(plan, &budget.id),
    };
    let reset = |budget: &&ObservedBackupBudget| {
        spec.replaces(&budget.id) && spec.clients.of(&budget.id) == ClientPolicy::Reset
    };
    observed.groups().iter().filter(reset).map(change).collect()
}

/// The budgets that `overlay` takes from the backup.
pub(super) fn overlay_budgets(
    plan: &PlanId,
    spec: &Spec,
    observed: &Observed,
) -> Result<Vec<OverlayBudget>, NoSuchStep> {
    let one = |wished: &SingleBudget| {
        let known = observed.groups().iter().find(|known| known.id == wished.id);
        let known = known.ok_or(NoSuchStep {
            kind: StepKind::Overlay,
            why: "spec.budgets names one that has no sync group in the backup, or is not in it",
        })?;
        let copy = wished.copy_as.as_ref().map(|copy| {
            let budget = copy_id(plan, &wished.id);
            BudgetCopy { group: new_group_id(plan, &budget), budget, name: copy.name.clone() }
        });
        let resets = spec.clients.of(&wished.id) == ClientPolicy::Reset && copy.is_none();
        let group = if resets { new_group_id(plan, &wished.id) } else { known.group_id.clone() };
        Ok(OverlayBudget { budget: wished.id.clone(), group, copy })
    };
    spec.budgets.iter().map(one).collect()
}

/// The group id that a budget gets under `clients: reset`: a version-8 UUID made from the plan's id
/// and the budget's, so that reviewers see it and every run of the plan gives the same.
pub fn new_group_id(plan: &PlanId, budget: &str) -> String {
    derived_id("sync group", plan, budget)
}

/// The id of the new budget that one of the backup comes as: made as [`new_group_id`] is.
pub fn copy_id(plan: &PlanId, budget: &str) -> String {
    derived_id("budget copy", plan, budget)
}

fn derived_id(what: &str, plan: &PlanId, budget: &str) -> String {
    let mut bytes = [0_u8; 16];
    let digest = Sha256::of(format!("abssctl {what} v1\n{plan}\n{budget}\n").as_bytes());
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = |range: std::ops::Range<usize>| base16ct::lower::encode_string(&bytes[range]);
    format!("{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
}

/// What `overlay` does, in one line.
pub(super) fn overlaid(with: &OverlayWith) -> String {
    let name = |one: &OverlayBudget| match &one.copy {
        Some(copy) => format!("{} as new budget {}", one.budget, copy.budget),
        None => one.budget.clone(),
    };
    let mut names: Vec<String> = with.budgets.iter().take(5).map(name).collect();
    if with.budgets.len() > 5 {
        names.push(format!("{} more", with.budgets.len() - 5));
    }
    format!("copy {} as it is then, with these budgets from the backup: {}", with.directory, names.join(", "))
}
