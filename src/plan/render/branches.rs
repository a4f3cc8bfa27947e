//! The steps of a plan as a chain with branches, for views that show lines. Pure.

use super::super::graph;
use super::super::model::Plan;

/// A part of the graph.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// One step, as an index into the plan's steps: all before it are done, all after it wait.
    Step(usize),
    /// Chains that run side by side.
    Branches(Vec<Vec<Part>>),
    /// Steps with needs across, in an order in which they can run.
    Tangle(Vec<usize>),
}

/// All steps of a plan. Steps on a cycle, which no loaded plan has, are left out.
pub(super) fn parts(plan: &Plan) -> Vec<Part> {
    chain(plan, &graph::order(plan))
}

/// Cuts steps, given in an order in which they can run, at those that all others wait for.
fn chain(plan: &Plan, steps: &[usize]) -> Vec<Part> {
    let ordered = |a: usize, b: usize| a == b || graph::reaches(plan, a, b) || graph::reaches(plan, b, a);
    let mut parts = Vec::new();
    let mut between = Vec::new();
    for step in steps.iter().copied() {
        if steps.iter().all(|other| ordered(step, *other)) {
            parts.extend(beside(plan, &between, steps.len()));
            between.clear();
            parts.push(Part::Step(step));
        } else {
            between.push(step);
        }
    }
    parts.extend(beside(plan, &between, steps.len()));
    parts
}

/// Steps of which none is waited for by all: side by side where they fall apart, else as they are.
fn beside(plan: &Plan, steps: &[usize], of: usize) -> Option<Part> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for step in steps {
        let linked = |group: &Vec<usize>| {
            group.iter().any(|other| plan.steps[*step].needs.contains(&plan.steps[*other].id))
        };
        let (with, mut without): (Vec<_>, Vec<_>) = groups.into_iter().partition(linked);
        let mut joined: Vec<usize> = with.concat();
        joined.push(*step);
        joined.sort_by_key(|step| steps.iter().position(|other| other == step));
        without.push(joined);
        groups = without;
    }
    groups.sort_by_key(|group| steps.iter().position(|step| Some(step) == group.first()));
    match groups.len() {
        0 => None,
        1 if steps.len() == of => Some(Part::Tangle(steps.to_vec())),
        1 => Some(Part::Branches(vec![chain(plan, steps)])),
        _ => Some(Part::Branches(groups.iter().map(|group| chain(plan, group)).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::PreBackupMode;
    use super::super::super::testing::{sample, sample_with_service, with_steps};
    use super::Part::{Branches, Step, Tangle};
    use super::*;

    #[test]
    fn the_default_graph_has_one_fork() {
        let forked = Branches(vec![vec![Step(2)], vec![Step(3)]]);
        let mut expected = vec![Step(0), Step(1), forked];
        expected.extend((4..10).map(Step));
        assert_eq!(parts(&sample()), expected);
    }

    #[test]
    fn an_online_pre_backup_is_a_branch_of_its_own() {
        let mut plan = sample_with_service();
        plan.spec.pre_backup.mode = PreBackupMode::Online;
        let plan = with_steps(plan);
        let forked = Branches(vec![vec![Step(2)], vec![Step(3)]]);
        // `stop` waits for both of them.
        assert_eq!(parts(&plan)[2], Branches(vec![vec![forked, Step(4), Step(5)], vec![Step(6)]]));
    }

    #[test]
    fn needs_across_are_listed() {
        let mut plan = sample();
        plan.steps.truncate(4);
        for (step, needs) in [(0, vec![]), (1, vec![]), (2, vec!["lock"]), (3, vec!["lock", "check"])] {
            plan.steps[step].needs = needs.into_iter().map(|need: &str| need.parse().unwrap()).collect();
        }
        assert_eq!(parts(&plan), [Tangle(vec![0, 1, 2, 3])]);
    }
}
