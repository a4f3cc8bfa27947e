//! The steps of a plan as boxes and arrows: what the pictures (mermaid, dot, SVG) draw alike. Pure.

use std::collections::HashMap;

use super::super::model::Plan;
use super::super::step::StepKind;
use super::words::{self, Said, Tone};

/// Boxes, arrows between them, and notes on them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) boxes: Vec<StepBox>,
    /// From a need to the step that needs it, as indices into `boxes`.
    pub(super) arrows: Vec<(usize, usize)>,
    /// Alarms, each at the box of the step that it is about.
    pub(super) notes: Vec<(usize, Said)>,
}

/// One step.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StepBox {
    pub(super) name: String,
    pub(super) effect: Said,
    pub(super) summary: String,
}

/// All steps of a plan; needs that name no step, which no loaded plan has, are left out.
pub(super) fn picture(plan: &Plan) -> Picture {
    let mut by_id = HashMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        by_id.entry(&step.id).or_insert(at);
    }
    let boxes = plan.steps.iter().map(|step| StepBox {
        name: words::step_name(step),
        effect: words::effect(step.kind().effect()),
        summary: step.summary.clone(),
    });
    let arrows = plan.steps.iter().enumerate().flat_map(|(to, step)| {
        let from = step.needs.iter().filter_map(|need| by_id.get(need).copied());
        from.map(move |from| (from, to)).collect::<Vec<_>>()
    });
    Picture { boxes: boxes.collect(), arrows: arrows.collect(), notes: notes(plan) }
}

fn notes(plan: &Plan) -> Vec<(usize, Said)> {
    let at = |kind| plan.steps.iter().position(|step| step.kind() == kind);
    let drift = words::drift_alarm(plan).zip(at(StepKind::Check));
    let backup = words::pre_backup_alarm(plan).zip(at(StepKind::Swap));
    let incomplete = words::incomplete_alarm(plan).zip(at(StepKind::Inspect));
    [drift, incomplete, backup].into_iter().flatten().map(|(said, at)| (at, said)).collect()
}

/// The class of a box or note, by its tone.
pub(super) fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Quiet => "quiet",
        Tone::Good => "good",
        Tone::Care => "care",
        Tone::Danger => "danger",
    }
}
