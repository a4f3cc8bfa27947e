//! The steps as a picture inside a page: layers from top to bottom, arrows to what comes after. Pure.

use maud::{Markup, html};

use super::super::graph;
use super::super::model::Plan;
use super::picture::{Picture, class, picture};
use super::visible::visible;

const WIDTH: usize = 168;
const HEIGHT: usize = 44;
const GAP: usize = 24;
/// Between two layers: room for arrows.
const BETWEEN: usize = 34;
/// A column in which only an arrow passes.
const LANE: usize = 24;

/// What stands in a layer: a box, or an arrow on its way to a layer further down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Box(usize),
    Pass(usize),
}

/// Where everything is, in pixels.
struct Layout {
    width: usize,
    height: usize,
    /// Centre and top of each box; none for steps that no order reaches.
    boxes: Vec<Option<(usize, usize)>>,
    /// Of each arrow: centre and top of the layers that it passes.
    passes: Vec<Vec<(usize, usize)>>,
}

/// The steps as inline SVG with a title and a description for those who do not see it.
pub(super) fn svg(plan: &Plan) -> Markup {
    let picture = picture(plan);
    let layout = layout(plan, &picture);
    let said: Vec<String> = picture
        .boxes
        .iter()
        .enumerate()
        .map(|(at, step)| {
            let before = picture.arrows.iter().filter(|(_, to)| *to == at);
            let needs: Vec<&str> = before.map(|(from, _)| picture.boxes[*from].name.as_str()).collect();
            let after =
                if needs.is_empty() { "first".to_owned() } else { format!("after {}", needs.join(" and ")) };
            format!("{}: {after}.", step.name)
        })
        .collect();
    let view = format!("0 0 {} {}", layout.width, layout.height);
    html! {
        svg.steps role="img" aria-labelledby="steps-title steps-desc" viewBox=(view)
            width=(layout.width) height=(layout.height) xmlns="http://www.w3.org/2000/svg" {
            title id="steps-title" { "The steps and their order" }
            desc id="steps-desc" { (visible(&said.join(" "))) }
            defs {
                marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto" {
                    path.tip d="M0 0 8 4 0 8z" {}
                }
            }
            @for (at, (from, to)) in picture.arrows.iter().enumerate() {
                @if let (Some(from), Some(to)) = (layout.boxes[*from], layout.boxes[*to]) {
                    path.arrow d=(arrow(from, &layout.passes[at], to)) marker-end="url(#tip)" {}
                }
            }
            @for (at, step) in picture.boxes.iter().enumerate() {
                @if let Some((centre, top)) = layout.boxes[at] {
                    @let alarm = picture.notes.iter().any(|(of, _)| *of == at);
                    g class=(format!("box {}{}", class(step.effect.tone), if alarm { " alarmed" } else { "" })) {
                        rect x=(centre - WIDTH / 2) y=(top) width=(WIDTH) height=(HEIGHT) rx="6" {}
                        text.name x=(centre) y=(top + 19) { (fitting(&step.name)) @if alarm { " ⚠" } }
                        text.effect x=(centre) y=(top + 35) { (step.effect.text) }
                    }
                }
            }
        }
    }
}

/// A name that fits into its box.
fn fitting(name: &str) -> String {
    let shown = visible(name);
    if shown.chars().count() <= 20 {
        return shown;
    }
    shown.chars().take(19).chain(['…']).collect()
}

/// From the bottom of a box, through the layers between, to the top of another.
fn arrow(from: (usize, usize), passes: &[(usize, usize)], to: (usize, usize)) -> String {
    let mut at = (from.0, from.1 + HEIGHT);
    let mut d = format!("M{} {}", at.0, at.1);
    let mut curve = |next: (usize, usize)| {
        let middle = usize::midpoint(at.1, next.1);
        let step = format!("C{} {middle} {} {middle} {} {}", at.0, next.0, next.0, next.1);
        at = next;
        step
    };
    for (centre, top) in passes {
        d += &curve((*centre, *top));
        d += &curve((*centre, top + HEIGHT));
    }
    d + &curve((to.0, to.1 - 2))
}

/// Each step one layer below the lowest of its needs.
fn layout(plan: &Plan, picture: &Picture) -> Layout {
    let order = graph::order(plan);
    let mut layer = vec![0; picture.boxes.len()];
    for at in &order {
        let above = picture.arrows.iter().filter(|(_, to)| to == at).map(|(from, _)| layer[*from] + 1);
        layer[*at] = above.max().unwrap_or(0);
    }
    let depth = order.iter().map(|at| layer[*at] + 1).max().unwrap_or(0);
    let mut layers: Vec<Vec<Slot>> = vec![Vec::new(); depth];
    for at in &order {
        layers[layer[*at]].push(Slot::Box(*at));
    }
    for (at, (from, to)) in picture.arrows.iter().enumerate() {
        // A step on a circle, which no loaded plan has, stands nowhere.
        if order.contains(from) && order.contains(to) {
            (layer[*from] + 1..layer[*to]).for_each(|between| layers[between].push(Slot::Pass(at)));
        }
    }
    place(&layers, picture)
}

fn place(layers: &[Vec<Slot>], picture: &Picture) -> Layout {
    let wide = |slot: &Slot| if matches!(slot, Slot::Box(_)) { WIDTH } else { LANE };
    let width_of =
        |slots: &[Slot]| slots.iter().map(wide).sum::<usize>() + GAP * slots.len().saturating_sub(1);
    let widest = layers.iter().map(|slots| width_of(slots)).max().unwrap_or(0);
    let mut layout = Layout {
        width: widest + 2 * GAP,
        height: layers.len() * (HEIGHT + BETWEEN) + BETWEEN / 2,
        boxes: vec![None; picture.boxes.len()],
        passes: vec![Vec::new(); picture.arrows.len()],
    };
    for (depth, slots) in layers.iter().enumerate() {
        let top = BETWEEN / 2 + depth * (HEIGHT + BETWEEN);
        let mut left = GAP + (widest - width_of(slots)) / 2;
        for slot in slots {
            let centre = left + wide(slot) / 2;
            left += wide(slot) + GAP;
            match slot {
                Slot::Box(at) => layout.boxes[*at] = Some((centre, top)),
                Slot::Pass(arrow) => layout.passes[*arrow].push((centre, top)),
            }
        }
    }
    layout
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::PreBackupMode;
    use super::super::super::testing::{sample, sample_with_service, with_steps};
    use super::*;

    #[test]
    fn boxes_do_not_overlap_and_arrows_point_down() {
        let mut online = sample_with_service();
        online.spec.pre_backup.mode = PreBackupMode::Online;
        for plan in [sample(), sample_with_service(), with_steps(online)] {
            let picture = picture(&plan);
            let layout = layout(&plan, &picture);
            let boxes: Vec<(usize, usize)> = layout.boxes.iter().copied().map(Option::unwrap).collect();
            for (at, (centre, top)) in boxes.iter().enumerate() {
                assert!(centre + WIDTH / 2 <= layout.width && top + HEIGHT <= layout.height);
                for (other, below) in &boxes[at + 1..] {
                    assert!(top != below || centre.abs_diff(*other) >= WIDTH, "{boxes:?}");
                }
            }
            for (from, to) in &picture.arrows {
                assert!(boxes[*from].1 < boxes[*to].1);
            }
        }
    }

    #[test]
    fn a_long_arrow_passes_beside_the_boxes() {
        let mut plan = sample_with_service();
        plan.spec.pre_backup.mode = PreBackupMode::Online;
        let plan = with_steps(plan);
        let layout = layout(&plan, &picture(&plan));
        let long = layout.passes.iter().max_by_key(|passes| passes.len()).unwrap();
        assert!(!long.is_empty());
        for (centre, top) in long {
            for (other, at) in layout.boxes.iter().flatten() {
                assert!(at != top || other.abs_diff(*centre) >= WIDTH / 2 + LANE / 2);
            }
        }
    }

    #[test]
    fn steps_on_a_circle_are_left_out() {
        let mut plan = sample();
        let cleanup = plan.steps.last().unwrap().id.clone();
        plan.steps[1].needs.push(cleanup);
        assert_eq!(svg(&plan).into_string().matches("<rect").count(), 1);
    }
}
