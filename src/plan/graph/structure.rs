//! Rules 1 to 7: ids, kinds and the order of the steps. Pure.

use std::collections::{HashMap, HashSet};

use super::super::derive::belongs;
use super::super::model::Plan;
use super::super::spec::{PreBackupMode, Transfer};
use super::super::step::{Effect, StepKind};
use super::order::{Closure, Links, step_of};
use super::rule::{Rule, Violation};
use crate::ids::StepId;

use StepKind::{
    Assets, Check, Cleanup, Extract, Health, Inspect, Lock, Overlay, PreBackup, Prepare, Record, Start, Stop,
    Swap, Verify,
};

/// Kinds that a plan may have only as what was wished and seen says.
const OPTIONAL: [StepKind; 6] = [PreBackup, Overlay, Stop, Assets, Start, Health];

/// Rule 4, as pairs.
const ARCHIVE_ORDER: [(StepKind, StepKind); 8] = [
    (Check, Swap),
    (Check, Verify),
    (Check, Extract),
    (Verify, Inspect),
    (Extract, Inspect),
    (Inspect, Prepare),
    (Prepare, Swap),
    (Swap, Record),
];

/// Rule 6, as pairs; a pair counts where both are there.
const SERVICE_ORDER: [(StepKind, StepKind); 11] = [
    (Check, Stop),
    (Prepare, Stop),
    (Stop, Swap),
    (Swap, Assets),
    (Assets, Start),
    (Assets, Record),
    (Swap, Start),
    (Start, Health),
    (Start, Record),
    (Swap, Health),
    (Health, Record),
];

/// Rule 6, for `overlay`: what it copies must be quiet, and what it takes from the backup prepared.
const OVERLAY_ORDER: [(StepKind, StepKind); 3] = [(Prepare, Overlay), (Stop, Overlay), (Overlay, Swap)];

pub(super) fn check(plan: &Plan) -> Vec<Violation> {
    if plan.steps.is_empty() {
        return vec![Violation::new(Rule::NotEmpty, "/steps", "the plan has no steps")];
    }
    let mut found = needs(plan);
    let sound = found.is_empty();
    found.extend(kinds(plan));
    found.extend(presence(plan));
    // More steps than kinds break rule 2 already, and looking at all pairs of them would take long.
    if sound && plan.steps.len() <= StepKind::ALL.len() {
        let order = Order { plan, closure: Links::new(plan).closure() };
        found.extend(order.ends());
        found.extend(order.pairs(Rule::ArchiveOrder, &ARCHIVE_ORDER));
        found.extend(order.pre_backup());
        found.extend(order.pairs(Rule::ServiceOrder, &SERVICE_ORDER));
        found.extend(order.pairs(Rule::OverlayOrder, &OVERLAY_ORDER));
        found.extend(order.serial());
    }
    found
}

/// Rule 1.
fn needs(plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut first: HashMap<&StepId, usize> = HashMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        if let Some(other) = first.get(&step.id) {
            let message = format!("steps {other} and {at} both have the id '{}'", step.id);
            found.push(Violation::new(Rule::UniqueIds, format!("/steps/{at}/id"), message));
        } else {
            first.insert(&step.id, at);
        }
    }
    for (at, step) in plan.steps.iter().enumerate() {
        let mut seen = HashSet::new();
        for (place, need) in step.needs.iter().enumerate() {
            let id = &step.id;
            let (rule, message) = if *need == step.id {
                (Rule::NoSelfNeed, format!("step '{id}' needs itself"))
            } else if !first.contains_key(need) {
                (Rule::KnownNeeds, format!("step '{id}' needs '{need}', and there is no such step"))
            } else if !seen.insert(need) {
                (Rule::DistinctNeeds, format!("step '{id}' names '{need}' twice among its needs"))
            } else {
                continue;
            };
            found.push(Violation::new(rule, format!("/steps/{at}/needs/{place}"), message));
        }
    }
    let cycles = Links::new(plan).cycles();
    found.extend(cycles.into_iter().map(|steps| {
        let names: Vec<String> =
            steps.iter().take(20).map(|at| format!("'{}'", plan.steps[*at].id)).collect();
        let message =
            format!("the steps {} wait for each other, so none of them can begin", names.join(", "));
        Violation::new(Rule::Acyclic, format!("/steps/{}/needs", steps[0]), message)
    }));
    found
}

/// Rule 2.
fn kinds(plan: &Plan) -> Vec<Violation> {
    let mut first: HashMap<StepKind, usize> = HashMap::new();
    let mut found = Vec::new();
    for (at, step) in plan.steps.iter().enumerate() {
        let kind = step.kind();
        if let Some(other) = first.get(&kind) {
            let message =
                format!("step '{}' is a second '{kind}' beside step '{}'", step.id, plan.steps[*other].id);
            found.push(Violation::new(Rule::SingleKinds, format!("/steps/{at}/kind"), message));
        } else {
            first.insert(kind, at);
        }
    }
    let what = if plan.spec.is_rollback() { "rollback" } else { "restore" };
    for kind in StepKind::ALL.iter().copied().filter(|kind| !OPTIONAL.contains(kind)) {
        match (first.get(&kind), belongs(kind, &plan.spec, &plan.observed)) {
            (None, true) => {
                let message = format!("there is no step of kind '{kind}', which every {what} has");
                found.push(Violation::new(Rule::RequiredKinds, "/steps", message));
            }
            (Some(at), false) => {
                let message = format!("there is a step of kind '{kind}', which has no place in a {what}");
                found.push(Violation::new(Rule::RequiredKinds, format!("/steps/{at}/kind"), message));
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    found
}

/// Rules 5 and 6, as far as they say which steps are there.
fn presence(plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    for kind in OPTIONAL {
        let rule = if kind == PreBackup {
            Rule::PreBackupPresence
        } else if kind == Overlay {
            Rule::OverlayPresence
        } else {
            Rule::ServicePresence
        };
        let wanted = belongs(kind, &plan.spec, &plan.observed);
        match step_of(plan, kind) {
            None if wanted => found.push(Violation::new(
                rule,
                "/steps",
                format!("there is no step of kind '{kind}', but {}", reason(kind, true)),
            )),
            Some(at) if !wanted => found.push(Violation::new(
                rule,
                format!("/steps/{at}/kind"),
                format!("there is a step of kind '{kind}', but {}", reason(kind, false)),
            )),
            None | Some(_) => {}
        }
    }
    found
}

fn reason(kind: StepKind, wanted: bool) -> &'static str {
    match (kind, wanted) {
        (PreBackup, true) => "spec.preBackup wants a backup and the target was seen to have content",
        (PreBackup, false) => "spec.preBackup.mode is none or the target was seen to have no content",
        (Overlay, true) => "spec.budgets names single budgets",
        (Overlay, false) => "spec.budgets names none",
        (Stop, true) => "the service of the live target was seen running",
        (Stop, false) => "the service was not seen running, or the target is not live",
        (Assets, true) => "spec.assets is full",
        (Assets, false) => "spec.assets is data",
        (_, true) => "spec.service.restart and the observed service say that it is started",
        (_, false) => "spec.service.restart and the observed service say that it is not started",
    }
}

/// Rules 3 to 7, for a graph that obeys rule 1.
struct Order<'p> {
    plan: &'p Plan,
    closure: Closure,
}

impl Order<'_> {
    /// The only step of a kind; none where rule 2 is broken for it.
    fn only(&self, kind: StepKind) -> Option<usize> {
        let mut steps = (0..self.plan.steps.len()).filter(|at| self.plan.steps[*at].kind() == kind);
        match (steps.next(), steps.next()) {
            (Some(step), None) => Some(step),
            (None | Some(_), _) => None,
        }
    }

    fn id(&self, step: usize) -> &StepId {
        &self.plan.steps[step].id
    }

    fn must(&self, rule: Rule, first: usize, then: usize) -> Option<Violation> {
        (!self.closure.before(first, then)).then(|| {
            let (before, after) = (self.id(first), self.id(then));
            let mend = if self.closure.before(then, first) {
                format!("but now '{before}' needs '{after}'")
            } else {
                format!("so add '{before}' to the needs of '{after}' or of a step before it")
            };
            let message = format!("step '{before}' must come before '{after}', {mend}");
            Violation::new(rule, format!("/steps/{then}/needs"), message)
        })
    }

    fn pairs(&self, rule: Rule, pairs: &[(StepKind, StepKind)]) -> Vec<Violation> {
        let place = |(first, then): &(StepKind, StepKind)| Some((self.only(*first)?, self.only(*then)?));
        pairs.iter().filter_map(place).filter_map(|(first, then)| self.must(rule, first, then)).collect()
    }

    /// Rule 3.
    fn ends(&self) -> Vec<Violation> {
        let others = |end: usize| (0..self.plan.steps.len()).filter(move |at| *at != end);
        let lock = self
            .only(Lock)
            .into_iter()
            .flat_map(|lock| others(lock).filter_map(move |step| self.must(Rule::LockFirst, lock, step)));
        let cleanup = self.only(Cleanup).into_iter().flat_map(|cleanup| {
            others(cleanup).filter_map(move |step| self.must(Rule::CleanupLast, step, cleanup))
        });
        lock.chain(cleanup).collect()
    }

    /// Rule 5, as far as it is about order.
    fn pre_backup(&self) -> Vec<Violation> {
        let mut found = self.pairs(Rule::PreBackupOrder, &[(Check, PreBackup), (PreBackup, Swap)]);
        if self.quiesced() {
            found.extend(self.pairs(Rule::PreBackupOrder, &[(Stop, PreBackup)]));
        }
        if self.plan.spec.transfer == Transfer::Delta {
            // Both read the live databases: one that closes a file lets go of the other's locks on it.
            found.extend(self.pairs(Rule::PreBackupOrder, &[(Extract, PreBackup)]));
        }
        found
    }

    fn quiesced(&self) -> bool {
        self.plan.spec.pre_backup.mode == PreBackupMode::Quiesced
    }

    /// Rule 7. A quiesced pre-backup counts as a step that changes the machine, and may not run beside
    /// the unpacking either: it would compete for the disk while the service is down.
    fn serial(&self) -> Vec<Violation> {
        let effect = |at: usize| self.plan.steps[at].kind().effect();
        let changes = |at: usize| matches!(effect(at), Effect::Live | Effect::Service | Effect::Record);
        let quiesced = |at: usize| self.quiesced() && self.plan.steps[at].kind() == PreBackup;
        let count = self.plan.steps.len();
        let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other)));
        let beside = |(one, other): &(usize, usize)| {
            let exclusive = (changes(*one) && changes(*other))
                || (quiesced(*one) && effect(*other) != Effect::Read)
                || (quiesced(*other) && effect(*one) != Effect::Read);
            exclusive && !self.closure.ordered(*one, *other)
        };
        pairs
            .filter(beside)
            .map(|(one, other)| {
                let message = format!(
                    "steps '{}' and '{}' could run at the same time; one must come before the other",
                    self.id(one),
                    self.id(other)
                );
                Violation::new(Rule::Serial, format!("/steps/{other}/needs"), message)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::observed::Presence;
    use super::super::super::preview::FileChanges;
    use super::super::super::testing;
    use super::super::super::testing::{consistent, sample, sample_with_service, with_steps};
    use super::super::check;
    use super::*;

    fn id(text: &str) -> StepId {
        text.parse().unwrap()
    }

    fn at(plan: &Plan, kind: StepKind) -> usize {
        step_of(plan, kind).unwrap()
    }

    fn set_needs(plan: &mut Plan, kind: StepKind, needs: &[&str]) {
        let step = at(plan, kind);
        plan.steps[step].needs = needs.iter().map(|need| id(need)).collect();
    }

    /// The rules that a plan breaks, each once, and one place.
    fn broken(plan: &Plan) -> (Vec<Rule>, String) {
        let found = check(plan);
        let mut rules: Vec<Rule> = found.iter().map(|violation| violation.rule).collect();
        rules.dedup();
        (rules, found.first().map(|violation| violation.pointer.clone()).unwrap_or_default())
    }

    #[test]
    fn the_samples_obey_all_rules() {
        let more = [testing::sample_dest(), testing::sample_single(), testing::sample_copy()];
        for plan in [sample(), sample_with_service()].into_iter().chain(more) {
            assert_eq!(check(&plan), []);
        }
    }

    #[test]
    fn rule_6_overlay_is_there_for_single_budgets_and_between_prepare_and_swap() {
        let single = testing::sample_single();
        let mut plan = single.clone();
        let overlay = at(&plan, Overlay);
        plan.steps.remove(overlay);
        set_needs(&mut plan, Swap, &["pre-backup"]);
        assert_eq!(broken(&plan), (vec![Rule::OverlayPresence], "/steps".into()));
        let mut plan = sample();
        let mut step = single.steps[overlay].clone();
        step.needs = vec![id("pre-backup")];
        let swap = at(&plan, Swap);
        plan.steps.insert(swap, step);
        set_needs(&mut plan, Swap, &["overlay"]);
        assert!(broken(&plan).0.contains(&Rule::OverlayPresence));
        let mut plan = single.clone();
        set_needs(&mut plan, Overlay, &["inspect"]);
        set_needs(&mut plan, Swap, &["pre-backup", "overlay"]);
        assert!(broken(&plan).0.contains(&Rule::OverlayOrder));
        // Before the server is stopped it would copy what is still written.
        let mut plan = single;
        plan.observed.service = sample_with_service().observed.service;
        let mut plan = with_steps(plan);
        assert_eq!(check(&plan), []);
        set_needs(&mut plan, Overlay, &["prepare"]);
        set_needs(&mut plan, Swap, &["pre-backup", "overlay"]);
        assert!(broken(&plan).0.contains(&Rule::OverlayOrder));
    }

    #[test]
    fn rule_1_not_empty() {
        let mut plan = sample();
        plan.steps.clear();
        assert_eq!(broken(&plan), (vec![Rule::NotEmpty], "/steps".into()));
    }

    #[test]
    fn rule_1_ids_are_unique() {
        let mut plan = sample();
        let extract = at(&plan, Extract);
        plan.steps[extract].id = id("verify");
        set_needs(&mut plan, Inspect, &["verify"]);
        assert_eq!(broken(&plan), (vec![Rule::UniqueIds], format!("/steps/{extract}/id")));
    }

    #[test]
    fn rule_1_needs_are_known_distinct_and_not_the_step_itself() {
        for (more, rule) in
            [("nowhere", Rule::KnownNeeds), ("swap", Rule::NoSelfNeed), ("pre-backup", Rule::DistinctNeeds)]
        {
            let mut plan = sample();
            let swap = at(&plan, Swap);
            plan.steps[swap].needs.push(id(more));
            assert_eq!(broken(&plan), (vec![rule], format!("/steps/{swap}/needs/1")));
        }
    }

    #[test]
    fn rule_1_no_cycles() {
        let mut plan = sample();
        let inspect = at(&plan, Inspect);
        plan.steps[inspect].needs.push(id("swap"));
        assert_eq!(broken(&plan), (vec![Rule::Acyclic], format!("/steps/{inspect}/needs")));
        let message = &check(&plan)[0].message;
        assert!(message.contains("'inspect', 'prepare', 'pre-backup', 'swap'"), "{message}");
    }

    #[test]
    fn rule_2_required_kinds() {
        for kind in [Lock, Check, Verify, Extract, Inspect, Prepare, Swap, Record, Cleanup] {
            let mut plan = sample();
            let gone = at(&plan, kind);
            let removed = plan.steps.remove(gone);
            for step in &mut plan.steps {
                if let Some(place) = step.needs.iter().position(|need| *need == removed.id) {
                    step.needs.remove(place);
                    step.needs.extend(removed.needs.iter().cloned());
                }
            }
            assert_eq!(broken(&plan), (vec![Rule::RequiredKinds], "/steps".into()), "{kind}");
        }
    }

    #[test]
    fn rule_2_single_kinds() {
        let mut plan = sample();
        let mut second = plan.steps[at(&plan, Inspect)].clone();
        second.id = id("again");
        plan.steps.push(second);
        set_needs(&mut plan, Prepare, &["inspect", "again"]);
        assert_eq!(broken(&plan), (vec![Rule::SingleKinds], format!("/steps/{}/kind", plan.steps.len() - 1)));
    }

    #[test]
    fn rule_3_lock_first_and_cleanup_last() {
        let mut plan = sample();
        set_needs(&mut plan, Check, &[]);
        set_needs(&mut plan, Extract, &["check", "lock"]);
        assert_eq!(broken(&plan).0, [Rule::LockFirst]);
        let mut plan = sample();
        set_needs(&mut plan, Cleanup, &["swap"]);
        assert_eq!(broken(&plan).0, [Rule::CleanupLast]);
    }

    #[test]
    fn rule_4_each_pair() {
        let mut plan = sample();
        set_needs(&mut plan, Verify, &["lock"]);
        assert_eq!(broken(&plan), (vec![Rule::ArchiveOrder], "/steps/2/needs".into()));
        let mut plan = sample();
        set_needs(&mut plan, Inspect, &["extract"]);
        set_needs(&mut plan, Prepare, &["inspect", "verify"]);
        assert_eq!(broken(&plan).0, [Rule::ArchiveOrder]);
        let mut plan = sample();
        set_needs(&mut plan, Inspect, &["verify"]);
        set_needs(&mut plan, Prepare, &["inspect", "extract"]);
        assert_eq!(broken(&plan).0, [Rule::ArchiveOrder]);
        let mut plan = sample();
        set_needs(&mut plan, Prepare, &["extract", "verify"]);
        set_needs(&mut plan, PreBackup, &["prepare", "inspect"]);
        assert_eq!(broken(&plan).0, [Rule::ArchiveOrder]);
        assert_eq!(check(&plan).len(), 1);
    }

    #[test]
    fn verify_and_extract_may_be_in_sequence() {
        let mut plan = sample();
        set_needs(&mut plan, Extract, &["verify"]);
        assert_eq!(check(&plan), []);
    }

    #[test]
    fn rule_5_presence() {
        let mut plan = sample();
        plan.spec.pre_backup.mode = PreBackupMode::None;
        plan = with_steps(plan);
        plan.spec.pre_backup.mode = PreBackupMode::Quiesced;
        let plan = consistent(plan);
        assert_eq!(broken(&plan), (vec![Rule::PreBackupPresence], "/steps".into()));
        let mut plan = sample();
        plan.observed.target = serde_json::from_value(serde_json::json!({ "presence": "empty" })).unwrap();
        assert_eq!(plan.observed.target.presence, Presence::Empty);
        plan.preview.files = FileChanges::default();
        plan.preview.budgets.clear();
        let plan = consistent(plan);
        assert_eq!(
            broken(&plan),
            (vec![Rule::PreBackupPresence], format!("/steps/{}/kind", at(&plan, PreBackup)))
        );
    }

    #[test]
    fn rule_5_order() {
        let mut plan = sample();
        plan.spec.pre_backup.mode = PreBackupMode::Online;
        let good = with_steps(plan);
        let mut plan = good.clone();
        set_needs(&mut plan, PreBackup, &["lock"]);
        assert_eq!(broken(&plan).0, [Rule::PreBackupOrder]);
        let mut plan = good;
        set_needs(&mut plan, Swap, &["prepare"]);
        set_needs(&mut plan, Record, &["swap", "pre-backup"]);
        assert_eq!(broken(&plan).0, [Rule::PreBackupOrder]);
    }

    #[test]
    fn rule_5_quiesced_comes_after_stop() {
        let mut plan = sample_with_service();
        set_needs(&mut plan, PreBackup, &["prepare"]);
        set_needs(&mut plan, Stop, &["pre-backup"]);
        set_needs(&mut plan, Swap, &["stop"]);
        assert_eq!(broken(&plan).0, [Rule::PreBackupOrder]);
    }

    #[test]
    fn rule_6_presence() {
        for kind in [Stop, Start, Health, Assets] {
            let mut plan = sample_with_service();
            let gone = at(&plan, kind);
            let removed = plan.steps.remove(gone);
            for step in &mut plan.steps {
                if step.needs.contains(&removed.id) {
                    step.needs = removed.needs.clone();
                }
            }
            assert_eq!(broken(&plan), (vec![Rule::ServicePresence], "/steps".into()), "{kind}");
        }
        let mut plan = sample_with_service();
        plan.observed.service.running = false;
        let superfluous: Vec<String> = check(&plan).into_iter().map(|violation| violation.pointer).collect();
        // The check of the service is derived from what was observed, too.
        let superfluous: Vec<&String> =
            superfluous.iter().filter(|place| place.starts_with("/steps")).collect();
        assert_eq!(superfluous, ["/steps/6/kind", "/steps/10/kind", "/steps/11/kind"]);
    }

    #[test]
    fn rule_6_order() {
        let chains: [(StepKind, &[&str], StepKind, &[&str]); 4] = [
            (Stop, &["inspect"], PreBackup, &["stop", "prepare"]),
            (Health, &["assets"], Record, &["health", "start"]),
            (Record, &["start"], Cleanup, &["record", "health"]),
            (Assets, &["pre-backup"], Start, &["assets", "swap"]),
        ];
        for (kind, needs, then, then_needs) in chains {
            let mut plan = sample_with_service();
            set_needs(&mut plan, kind, needs);
            set_needs(&mut plan, then, then_needs);
            assert!(broken(&plan).0.contains(&Rule::ServiceOrder), "{kind}");
            let others = broken(&plan).0.into_iter().filter(|rule| *rule != Rule::ServiceOrder);
            assert!(others.into_iter().all(|rule| rule == Rule::Serial), "{kind}");
        }
    }

    #[test]
    fn rule_6_assets_before_record_where_nothing_is_started() {
        let mut plan = sample_with_service();
        plan.spec.service.restart = super::super::super::spec::RestartPolicy::Never;
        let mut plan = with_steps(plan);
        assert_eq!(check(&plan), []);
        set_needs(&mut plan, Record, &["swap"]);
        set_needs(&mut plan, Assets, &["record"]);
        set_needs(&mut plan, Cleanup, &["assets"]);
        assert_eq!(broken(&plan).0, [Rule::ServiceOrder]);
    }

    #[test]
    fn rule_7_a_quiesced_pre_backup_runs_beside_nothing_that_writes() {
        let mut plan = sample();
        set_needs(&mut plan, PreBackup, &["check"]);
        set_needs(&mut plan, Swap, &["pre-backup", "prepare"]);
        assert_eq!(broken(&plan).0, [Rule::Serial]);
        let pairs: Vec<String> = check(&plan).into_iter().map(|violation| violation.message).collect();
        assert_eq!(pairs.len(), 2, "{pairs:?}");
    }

    #[test]
    fn an_inversion_says_so() {
        let mut plan = sample_with_service();
        set_needs(&mut plan, Start, &["pre-backup"]);
        set_needs(&mut plan, Swap, &["start"]);
        set_needs(&mut plan, Assets, &["swap"]);
        set_needs(&mut plan, Health, &["assets"]);
        let messages: Vec<String> = check(&plan).into_iter().map(|violation| violation.message).collect();
        assert!(messages.iter().any(|text| text.contains("but now 'swap' needs 'start'")), "{messages:?}");
    }
}
