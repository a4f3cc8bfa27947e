//! The steps in the language of Graphviz: `abssctl plan show FILE --format dot | dot -Tsvg`. Pure.

use super::super::model::Plan;
use super::picture::{class, picture};
use super::visible::visible;

/// The steps as a directed graph, with a line break at its end. Each arrow leads to what comes after; a
/// setting that takes a safeguard away is a red note at its step.
pub fn dot(plan: &Plan) -> String {
    let picture = picture(plan);
    let mut text = format!(
        "digraph plan {{\n  label={};\n  labelloc=t;\n  fontname=\"sans-serif\";\n  \
         node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n",
        quoted(&[&super::words::title(plan)])
    );
    for (at, step) in picture.boxes.iter().enumerate() {
        let (label, look) = (quoted(&[&step.name, &step.effect.text]), look(class(step.effect.tone)));
        text += &format!("  s{at} [label={label}, tooltip={}, {look}];\n", quoted(&[&step.summary]));
    }
    for (from, to) in &picture.arrows {
        text += &format!("  s{from} -> s{to};\n");
    }
    for (number, (at, note)) in picture.notes.iter().enumerate() {
        let look = look(class(note.tone));
        text +=
            &format!("  n{number} [shape=note, style=filled, label={}, {look}];\n", quoted(&[&note.text]));
        text += &format!("  n{number} -> s{at} [style=dotted, arrowhead=none];\n");
    }
    text + "}\n"
}

fn look(class: &str) -> &'static str {
    match class {
        "danger" => "color=\"#cf222e\", fillcolor=\"#ffebe9\", fontcolor=\"#82071e\", penwidth=3",
        "care" => "color=\"#9a6700\", fillcolor=\"#fff8c5\"",
        "quiet" => "color=\"#57606a\", fillcolor=\"#f6f8fa\"",
        _ => "color=\"#0969da\", fillcolor=\"#ddf4ff\"",
    }
}

/// Lines as one quoted string: no escape of dot and no HTML entity in it is the plan's own.
fn quoted(lines: &[&str]) -> String {
    let mut text = String::from("\"");
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            text.push_str("\\n");
        }
        for c in visible(line).chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '&' => text.push_str("&amp;"),
                c => text.push(c),
            }
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::DriftPolicy;
    use super::super::super::testing::{sample, sample_dest, with_steps};
    use super::*;

    #[test]
    fn the_steps_and_two_alarms() {
        let mut plan = sample_dest();
        plan.spec.drift = DriftPolicy::Ignore;
        insta::assert_snapshot!(dot(&with_steps(plan)));
    }

    #[test]
    fn texts_stay_inside_their_quotes() {
        assert_eq!(quoted(&["a\"b\\", "&lt;\n\u{202e}"]), r#""a\"b\\\n&amp;lt;\\n\\u{202e}""#);
        let mut plan = sample();
        plan.steps[0].summary = "x\"]; s1 -> s0 [label=\"".into();
        assert!(dot(&plan).contains(r#"tooltip="x\"]; s1 -> s0 [label=\"""#));
    }
}
