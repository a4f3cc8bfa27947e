//! Rule 10: a reviewer sees every warning. What of `preview` follows from the rest of the plan is
//! derived again, and what `observed` knows too must agree with it. Pure.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::super::follows::{self, Claims};
use super::super::model::Plan;
use super::super::observed::{self, ObservedTarget, Presence};
use super::super::preview::{BudgetPresence, BudgetPreview, DeletedIn};
use super::rule::{Rule, Violation};
use crate::actual::layout::is_plain_id;

pub(super) fn check(plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    found.extend(structure(plan));
    found.extend(warnings(plan));
    found.extend(checks(plan));
    found.extend(budgets(plan));
    found.extend(live_budgets(plan));
    found.extend(single_budgets(plan));
    found.extend(rest(plan));
    found
}

/// The lists behind the fingerprint cannot be edited without it. Beyond 100 files they are not there,
/// and only the machine can tell.
fn structure(plan: &Plan) -> Vec<Violation> {
    let tree = plan.observed.displaced.as_ref().map(|displaced| &displaced.tree);
    let trees = [("target", Some(&plan.observed.target)), ("displaced/tree", tree)];
    let wrong = |target: &ObservedTarget| {
        let readable = target.budgets_unreadable.is_none();
        let listed = observed::structure(&target.files, &target.budgets, readable);
        !target.files.is_empty() && target.structure.is_some_and(|given| given != listed)
    };
    let trees = trees.into_iter().filter(|(_, tree)| tree.is_some_and(wrong));
    trees
        .map(|(name, _)| {
            let message = "the fingerprint 'structure' is not that of the files and budgets that are listed";
            Violation::new(Rule::Structure, format!("/observed/{name}/structure"), message)
        })
        .collect()
}

fn warnings(plan: &Plan) -> Vec<Violation> {
    let expected = follows::warnings(&plan.spec, &plan.observed, &plan.preview);
    let name = |warning: &super::super::preview::Warning| format!("the warning '{}'", warning.code);
    compare(Rule::Warnings, "/preview/warnings", &plan.preview.warnings, &expected, name, |warning| {
        format!("code '{}' and message '{}'", warning.code, warning.message)
    })
}

fn checks(plan: &Plan) -> Vec<Violation> {
    let expected = follows::checks(&plan.spec, &plan.observed, &Claims::of(&plan.preview.checks));
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
        if budget.kept != follows::kept(&plan.spec, budget) {
            let says = if budget.kept { "is not kept: it comes from the backup" } else { "is kept as it is" };
            wrong("/kept", says.to_owned());
        }
        if let Some(of) = &budget.copy_of
            && follows::copied(&plan.metadata.id, &plan.spec, of).as_ref() != Some(&budget.id)
        {
            wrong("/copyOf", format!("is no copy of '{of}' that spec.budgets asks for"));
        }
        if budget.kept && budget.presence == BudgetPresence::BackupOnly {
            wrong("/presence", "is neither on the live server nor restored".to_owned());
        }
        // What stays, and what is new, has no other group on the live server.
        let replaced = !budget.kept && budget.copy_of.is_none();
        let live_group = replaced.then(|| follows::live_group(&plan.observed, budget)).flatten();
        if budget.live_group_id != live_group {
            wrong("", "has another liveGroupId than the one that was observed".to_owned());
        }
        let there = plan.observed.target.budgets.iter().any(|live| live.id == budget.id && live.deleted);
        let fits = if replaced {
            match budget.presence {
                BudgetPresence::Both => budget.deleted.is_none(),
                BudgetPresence::LiveOnly => budget.deleted != Some(DeletedIn::Live),
                BudgetPresence::BackupOnly => budget.deleted == there.then_some(DeletedIn::Live),
            }
        } else {
            budget.deleted.is_none()
        };
        if !fits {
            wrong("", "is deleted elsewhere than it was observed".to_owned());
        }
        if let Err(group) = group_fits(plan, budget) {
            wrong("", format!("has another groupId than the one that was observed: {group}"));
        }
    }
    found
}

/// Whether a budget's sync group is the one that was observed, or the one that was.
fn group_fits(plan: &Plan, budget: &BudgetPreview) -> Result<(), String> {
    let (id, shown) = (&budget.id, budget.group_id.as_ref());
    let observed = &plan.observed;
    let id = budget.copy_of.as_ref().unwrap_or(id);
    let seen = if budget.presence == BudgetPresence::LiveOnly || budget.kept {
        let live = observed.target.budgets.iter().find(|live| live.id == *id);
        live.and_then(|live| live.group_id.as_ref())
    } else {
        let of_tree = observed.displaced.iter().flat_map(|displaced| &displaced.tree.budgets);
        let known = observed.groups().iter().find(|known| known.id == *id);
        // One whose group cannot be a file name is not observed.
        let known = known.map(|known| &known.group_id).or(shown.filter(|group| !is_plain_id(group)));
        known.or(of_tree.into_iter().find(|known| known.id == *id).and_then(|known| known.group_id.as_ref()))
    };
    if seen == shown { Ok(()) } else { Err(seen.cloned().unwrap_or_else(|| "none".to_owned())) }
}

/// Every single budget that is restored is shown, under the name that `spec` has.
fn single_budgets(plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, one) in plan.spec.budgets.iter().enumerate() {
        let copy = follows::copied(&plan.metadata.id, &plan.spec, &one.id);
        let mut wrong = |message: String| {
            found.push(Violation::new(Rule::Preview, format!("/spec/budgets/{at}"), message));
        };
        let id = copy.as_ref().unwrap_or(&one.id);
        let shown = plan.preview.budgets.iter().find(|budget| budget.id == *id);
        let Some(shown) = shown.filter(|budget| budget.presence != BudgetPresence::LiveOnly) else {
            wrong(format!("budget '{}' of the backup is not shown in the preview", one.id));
            continue;
        };
        let name = one.copy_as.as_ref().map_or(&one.name, |_| &shown.name);
        if *name != shown.name
            || one.copy_as.as_ref().is_some_and(|copy| Some(&copy.name) != shown.name.as_ref())
        {
            wrong(format!("budget '{}' has another name in the preview", one.id));
        }
        if copy.is_some() && (shown.encrypted || shown.copy_of.as_ref() != Some(&one.id)) {
            wrong(format!(
                "budget '{}' is end-to-end encrypted, or not shown as a copy: it cannot be copied",
                one.id
            ));
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::preview::{KeyChange, Verdict};
    use super::super::super::spec::{DriftPolicy, PreBackupMode};
    use super::super::super::testing::{consistent, sample, sample_dest, sample_with_service, with_steps};
    use super::super::check as check_all;
    use super::*;
    use crate::actual::whole::Gap;

    fn broken(plan: &Plan) -> Vec<(Rule, String)> {
        check_all(plan).into_iter().map(|violation| (violation.rule, violation.pointer)).collect()
    }

    fn gap() -> Gap {
        serde_json::from_value(json!({
            "budget": "b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11", "name": "Household", "lacks": "group-database"
        }))
        .unwrap()
    }

    /// Plans that have every warning between them.
    fn warned() -> Vec<Plan> {
        let mut careless = sample();
        careless.spec.pre_backup.mode = PreBackupMode::None;
        careless.spec.pre_backup.message = None;
        careless.spec.drift = DriftPolicy::Ignore;
        let mut incomplete = sample();
        incomplete.observed.backup.as_mut().unwrap().incomplete = vec![gap()];
        let mut allowed = incomplete.clone();
        allowed.spec.allow_incomplete = vec![gap()];
        allowed.observed.server.lacks = vec!["1719409568000-multiuser.js".into()];
        let mut unreadable = sample();
        unreadable.observed.target.budgets.clear();
        unreadable.observed.target.budgets_unreadable = Some("it is no database".into());
        unreadable.observed.target.sessions = None;
        unreadable.preview.budgets.clear();
        let mut same = sample();
        same.preview.files = serde_json::from_value(json!({
            "added": { "count": 0, "bytes": 0 }, "changed": { "count": 0, "bytes": 0 },
            "removed": { "count": 0, "bytes": 0 }, "unchanged": 11
        }))
        .unwrap();
        let single = super::super::super::testing::sample_single();
        let mut moved = sample();
        moved.observed.target.budgets[0].group_id = Some("other".into());
        moved.observed.target.budgets[1].deleted = true;
        let (household, holiday) = moved.preview.budgets.split_at_mut(1);
        household[0].live_group_id = Some("other".into());
        household[0].key_change = Some(KeyChange::OtherKey);
        holiday[0].presence = BudgetPresence::BackupOnly;
        holiday[0].deleted = Some(DeletedIn::Live);
        holiday[0].group_id = None;
        let plans = vec![
            sample(),
            sample_with_service(),
            single,
            careless,
            incomplete,
            allowed,
            unreadable,
            same,
            moved,
        ];
        plans.into_iter().map(with_steps).collect()
    }

    #[test]
    fn rule_10_every_warning_counts() {
        let mut codes = BTreeSet::new();
        for good in warned() {
            assert_eq!(broken(&good), []);
            for at in 0..good.preview.warnings.len() {
                codes.insert(good.preview.warnings[at].code.clone());
                let mut plan = good.clone();
                plan.preview.warnings.remove(at);
                assert!(
                    broken(&plan).iter().all(|(rule, _)| *rule == Rule::Warnings)
                        && !broken(&plan).is_empty()
                );
                let mut plan = good.clone();
                plan.preview.warnings[at].message.push_str(", but that is fine");
                assert_eq!(broken(&plan), [(Rule::Warnings, format!("/preview/warnings/{at}"))]);
                let mut plan = good.clone();
                plan.preview.warnings[at].code = "hint".into();
                let found = broken(&plan);
                // Of two of one code the other is still there: then the place is told.
                let place = |place: &str| place.starts_with("/preview/warnings");
                assert!(found.iter().all(|(rule, at)| *rule == Rule::Warnings && place(at)), "{found:?}");
                assert!(!found.is_empty());
            }
            let mut plan = good.clone();
            plan.preview
                .warnings
                .insert(0, serde_json::from_value(json!({ "code": "x", "message": "y" })).unwrap());
            assert!(!broken(&plan).is_empty());
        }
        let all = [
            "assets-hidden",
            "assets-written",
            "backup-incomplete",
            "bank-tokens",
            "budget-gone",
            "budget-key",
            "budget-returns",
            "clients-merge",
            "clients-reset",
            "drift-ignore",
            "incomplete-allowed",
            "live-unreadable",
            "locked-out",
            "login-method",
            "no-change",
            "no-pre-backup",
            "password-returns",
            "server-cannot-open",
            "sessions-return",
            "single-budgets",
            "sync-was-reset",
            "users-gone",
            "users-return",
        ];
        assert_eq!(codes.iter().map(String::as_str).collect::<Vec<_>>(), all);
    }

    #[test]
    fn rule_10_every_check_counts() {
        let good = sample();
        for at in 0..good.preview.checks.len() {
            let id = good.preview.checks[at].id.clone();
            let mut plan = good.clone();
            plan.preview.checks.remove(at);
            assert!(broken(&plan).contains(&(Rule::Checks, "/preview/checks".into())), "{id}");
            let mut plan = good.clone();
            plan.preview.checks[at].why = "all is well".into();
            let free = plan.preview.checks[at].verdict == Verdict::NotChecked && id == "target-in-use";
            assert_eq!(broken(&plan).is_empty(), free, "{id}");
        }
        let mut plan = good;
        plan.observed.file_system.atomic_exchange = Verdict::WillNot;
        assert_eq!(broken(&plan), [(Rule::Checks, "/preview/checks/5".into())]);
    }

    #[test]
    fn rule_10_budgets_are_those_that_were_observed() {
        type Edit<'e> = (&'e dyn Fn(&mut Plan), &'e str);
        let edits: [Edit<'_>; 9] = [
            (&|plan| plan.preview.budgets[0].live_group_id = Some("other".into()), "/preview/budgets/0"),
            (&|plan| plan.preview.budgets[0].deleted = Some(DeletedIn::Live), "/preview/budgets/0"),
            (&|plan| plan.observed.target.budgets[0].group_id = Some("other".into()), "/preview/budgets/0"),
            (&|plan| drop(plan.preview.budgets.remove(1)), "/preview/budgets"),
            (&|plan| plan.preview.budgets[1].presence = BudgetPresence::BackupOnly, "/preview/budgets"),
            (&|plan| plan.preview.budgets[1].presence = BudgetPresence::Both, "/preview/budgets/1"),
            (&|plan| plan.preview.budgets[0].group_id = Some("other".into()), "/preview/budgets/0"),
            (&|plan| plan.preview.budgets[1].group_id = Some("other".into()), "/preview/budgets/1"),
            (&|plan| plan.preview.budgets[0].new_group_id = Some("mine".into()), "/preview/budgets/0"),
        ];
        for (at, (edit, place)) in edits.iter().enumerate() {
            let mut plan = sample();
            edit(&mut plan);
            // What follows is brought up to date, as somebody who knows the rules would do.
            let new = plan.preview.budgets[0].new_group_id.clone();
            let mut plan = consistent(plan);
            plan.preview.budgets[0].new_group_id = new;
            assert!(broken(&plan).contains(&(Rule::Preview, (*place).into())), "{at}: {:?}", broken(&plan));
        }
        let mut plan = sample_with_service();
        plan.preview.budgets[0].new_group_id = None;
        assert_eq!(broken(&plan), [(Rule::Preview, "/preview/budgets/0".into())]);
    }

    #[test]
    fn rule_10_single_budgets_are_shown_as_what_they_are() {
        use super::super::super::testing::{sample_copy, sample_single};
        type Edit<'e> = (fn() -> Plan, &'e dyn Fn(&mut Plan), &'e str);
        let edits: [Edit<'_>; 7] = [
            (sample_single, &|plan| plan.preview.budgets[0].kept = true, "/preview/budgets/0/kept"),
            (sample_single, &|plan| plan.preview.budgets[1].kept = false, "/preview/budgets/1/kept"),
            (sample_single, &|plan| plan.spec.budgets[0].name = Some("Other".into()), "/spec/budgets/0"),
            (sample_copy, &|plan| plan.preview.budgets[0].kept = false, "/preview/budgets/0/kept"),
            (sample_copy, &|plan| plan.preview.budgets[2].encrypted = true, "/spec/budgets/0"),
            (sample_copy, &|plan| plan.preview.budgets[2].copy_of = None, "/preview/budgets/2/kept"),
            (sample_copy, &|plan| drop(plan.preview.budgets.remove(2)), "/spec/budgets/0"),
        ];
        for (at, (sample, edit, place)) in edits.iter().enumerate() {
            assert_eq!(broken(&sample()), []);
            let mut plan = sample();
            edit(&mut plan);
            let found = broken(&consistent(plan));
            assert!(found.contains(&(Rule::Preview, (*place).into())), "{at}: {found:?}");
        }
    }

    #[test]
    fn rule_9_what_is_about_the_whole_server_has_no_place_beside_single_budgets() {
        use super::super::super::testing::sample_single;
        let edits: [&dyn Fn(&mut Plan); 5] = [
            &|plan| plan.spec.target.live = false,
            &|plan| plan.spec.sessions = super::super::super::spec::SessionPolicy::Revoke,
            &|plan| plan.observed.target.budgets_unreadable = Some("why".into()),
            &|plan| plan.spec.budgets.push(plan.spec.budgets[0].clone()),
            &|plan| plan.spec.budgets[0].id = "../x".into(),
        ];
        for (at, edit) in edits.iter().enumerate() {
            let mut plan = sample_single();
            edit(&mut plan);
            let found = broken(&plan);
            assert!(found.iter().any(|(rule, _)| *rule == Rule::Budgets), "{at}: {found:?}");
        }
    }

    #[test]
    fn rule_10_rows_files_and_diffs_agree() {
        let mut plan = sample();
        plan.preview.rows.remove(0);
        assert_eq!(broken(&consistent(plan)), [(Rule::Preview, "/preview/rows".into())]);
        let mut plan = sample_dest();
        plan.preview.files.removed.count = 1;
        assert_eq!(broken(&plan), [(Rule::Preview, "/preview/files".into())]);
        let mut plan = sample();
        let unseen = json!({ "id": "diffs", "verdict": "not-checked", "why": "" });
        plan.preview.checks.push(serde_json::from_value(unseen).unwrap());
        assert_eq!(broken(&consistent(plan)), [(Rule::Preview, "/preview/diffs".into())]);
    }

    #[test]
    fn rule_9_the_fingerprint_is_that_of_the_lists() {
        let mut plan = sample();
        plan.observed.target.budgets[0].deleted = true;
        plan.preview.budgets.remove(0);
        assert!(broken(&plan).contains(&(Rule::Structure, "/observed/target/structure".into())));
        let mut plan = sample();
        plan.observed.target.files.remove(0);
        assert_eq!(broken(&plan), [(Rule::Structure, "/observed/target/structure".into())]);
    }
}
