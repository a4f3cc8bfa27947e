//! Walks a plan's graph: what comes before what, and one order in which all steps can run. Pure.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use petgraph::algo::{has_path_connecting, tarjan_scc};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Dfs;

use super::super::model::Plan;
use super::super::step::StepKind;

/// A plan's steps as a graph: an edge leads from a need to the step that needs it. Needs that name no
/// step are left out; of steps with the same id the first counts.
#[derive(Debug)]
pub(super) struct Links {
    graph: DiGraph<usize, ()>,
}

impl Links {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut graph = DiGraph::with_capacity(plan.steps.len(), plan.steps.len());
        let mut by_id = HashMap::new();
        for (at, step) in plan.steps.iter().enumerate() {
            let node = graph.add_node(at);
            by_id.entry(&step.id).or_insert(node);
        }
        for (at, step) in plan.steps.iter().enumerate() {
            for need in step.needs.iter().filter_map(|need| by_id.get(need)) {
                graph.update_edge(*need, NodeIndex::new(at), ());
            }
        }
        Self { graph }
    }

    /// The groups of steps that need each other in a circle, in document order. A step that needs
    /// itself is not among them.
    pub(super) fn cycles(&self) -> Vec<Vec<usize>> {
        let mut cycles: Vec<Vec<usize>> = tarjan_scc(&self.graph)
            .into_iter()
            .filter(|group| group.len() > 1)
            .map(|group| {
                let mut steps: Vec<usize> = group.into_iter().map(NodeIndex::index).collect();
                steps.sort_unstable();
                steps
            })
            .collect();
        cycles.sort();
        cycles
    }

    pub(super) fn closure(&self) -> Closure {
        let count = self.graph.node_count();
        let mut after = vec![vec![false; count]; count];
        for start in self.graph.node_indices() {
            let mut search = Dfs::new(&self.graph, start);
            while let Some(node) = search.next(&self.graph) {
                after[start.index()][node.index()] = node != start;
            }
        }
        Closure { after }
    }
}

/// Which step comes before which, for a graph without cycles.
#[derive(Debug)]
pub(super) struct Closure {
    after: Vec<Vec<bool>>,
}

impl Closure {
    /// Whether `first` is among the transitive needs of `then`.
    pub(super) fn before(&self, first: usize, then: usize) -> bool {
        self.after[first][then]
    }

    /// Whether one of the two comes before the other.
    pub(super) fn ordered(&self, one: usize, other: usize) -> bool {
        self.before(one, other) || self.before(other, one)
    }
}

/// The first step of a kind.
pub(super) fn step_of(plan: &Plan, kind: StepKind) -> Option<usize> {
    plan.steps.iter().position(|step| step.kind() == kind)
}

/// An order in which the steps can run one by one, as indices into `plan.steps`; of steps that could
/// be next, the one that stands first in the document. Steps on a cycle, and all after them, are left
/// out: there are none in a plan that was loaded.
pub fn order(plan: &Plan) -> Vec<usize> {
    let links = Links::new(plan);
    let mut open: Vec<usize> = links
        .graph
        .node_indices()
        .map(|node| links.graph.neighbors_directed(node, petgraph::Direction::Incoming).count())
        .collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..open.len()).filter(|step| open[*step] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(open.len());
    while let Some(Reverse(step)) = ready.pop() {
        order.push(step);
        for next in links.graph.neighbors(NodeIndex::new(step)) {
            open[next.index()] -= 1;
            if open[next.index()] == 0 {
                ready.push(Reverse(next.index()));
            }
        }
    }
    order
}

/// Whether step `first` is among the transitive needs of step `then`; both are indices into
/// `plan.steps`. False for an index that names no step, and for a step and itself.
pub fn reaches(plan: &Plan, first: usize, then: usize) -> bool {
    let count = plan.steps.len();
    first != then
        && first < count
        && then < count
        && has_path_connecting(&Links::new(plan).graph, NodeIndex::new(first), NodeIndex::new(then), None)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing;
    use super::*;

    #[test]
    fn the_order_respects_needs_and_prefers_the_document() {
        let mut plan = testing::sample_with_service();
        assert_eq!(order(&plan), (0..plan.steps.len()).collect::<Vec<_>>());
        plan.steps.reverse();
        let kinds: Vec<&str> = order(&plan).into_iter().map(|at| plan.steps[at].kind().name()).collect();
        assert_eq!(
            kinds,
            [
                "lock",
                "check",
                "extract",
                "verify",
                "inspect",
                "prepare",
                "stop",
                "pre-backup",
                "swap",
                "assets",
                "start",
                "health",
                "record",
                "cleanup"
            ]
        );
    }

    #[test]
    fn reach_is_transitive_and_not_reflexive() {
        let plan = testing::sample();
        let at = |kind| step_of(&plan, kind).unwrap();
        assert!(reaches(&plan, at(StepKind::Lock), at(StepKind::Cleanup)));
        assert!(!reaches(&plan, at(StepKind::Cleanup), at(StepKind::Lock)));
        assert!(!reaches(&plan, at(StepKind::Verify), at(StepKind::Extract)));
        assert!(!reaches(&plan, at(StepKind::Swap), at(StepKind::Swap)));
        assert!(!reaches(&plan, 0, 1000));
    }

    #[test]
    fn steps_on_a_cycle_have_no_place_in_the_order() {
        let mut plan = testing::sample();
        let cleanup = plan.steps.last().unwrap().id.clone();
        plan.steps[1].needs.push(cleanup);
        assert_eq!(order(&plan), [0]);
    }
}
