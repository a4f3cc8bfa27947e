//! The steps as a mermaid flowchart, which forges draw in comments and pages. Pure.

use super::super::model::Plan;
use super::picture::{class, picture};
use super::visible::visible;

/// Colours of the boxes that matter, readable on light and dark pages; the words say the same.
const CLASSES: &str = "  classDef quiet fill:#f6f8fa,stroke:#57606a,color:#24292f
  classDef plain fill:#ddf4ff,stroke:#0969da,color:#24292f
  classDef care fill:#fff8c5,stroke:#9a6700,color:#24292f
  classDef danger fill:#ffebe9,stroke:#cf222e,color:#82071e,stroke-width:3px
";

/// The steps as a flowchart, with a line break at its end. Each arrow leads to what comes after; a
/// setting that takes a safeguard away is a red note at its step.
pub fn mermaid(plan: &Plan) -> String {
    let picture = picture(plan);
    let mut text = String::from("flowchart TD\n");
    for (at, step) in picture.boxes.iter().enumerate() {
        let (name, effect) = (label(&step.name), label(&step.effect.text));
        text += &format!("  s{at}[\"{name}<br/>{effect}\"]:::{}\n", class(step.effect.tone));
    }
    for (from, to) in &picture.arrows {
        text += &format!("  s{from} --> s{to}\n");
    }
    for (number, (at, note)) in picture.notes.iter().enumerate() {
        text += &format!("  n{number}[\"{}\"]:::{}\n", label(&note.text), class(note.tone));
        text += &format!("  n{number} -.- s{at}\n");
    }
    text + CLASSES
}

/// Text that mermaid shows as it is: every sign that could mean something to it, to HTML or to the
/// fence around it is a numeric code.
fn label(text: &str) -> String {
    let mut safe = String::new();
    for c in visible(text).chars() {
        if c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | ',' | '/' | '-') || !c.is_ascii() {
            safe.push(c);
        } else {
            safe += &format!("#{};", u32::from(c));
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::{DriftPolicy, PreBackupMode};
    use super::super::super::testing::{sample, sample_with_service, with_steps};
    use super::*;

    #[test]
    fn the_steps_of_a_service() {
        insta::assert_snapshot!(mermaid(&sample_with_service()));
    }

    #[test]
    fn what_takes_a_safeguard_away_is_a_red_note() {
        let mut plan = sample();
        plan.spec.drift = DriftPolicy::Ignore;
        plan.spec.pre_backup.mode = PreBackupMode::None;
        plan.spec.pre_backup.message = None;
        let drawn = mermaid(&with_steps(plan));
        assert!(drawn.contains("n0[\"drift#58; ignore."), "{drawn}");
        assert!(drawn.contains("n1[\"No pre-backup."), "{drawn}");
        assert_eq!(drawn.matches(":::danger").count(), 3, "two notes and the swap: {drawn}");
    }

    #[test]
    fn no_sign_of_a_label_means_anything() {
        let hostile = "a\"]; click s0 `x` <b>%%{init: {}}%%</b> #quot; \\n $$x$$ \u{202e}\nend 日本";
        let safe = label(hostile);
        let rest: String =
            safe.split('#').map(|part| part.split_once(';').map_or(part, |(_, rest)| rest)).collect();
        assert!(!rest.contains(|c: char| "\"];`<>%{}$\\&:#\n\u{202e}".contains(c)), "{safe}");
        assert!(safe.contains("日本") && safe.contains("#92;u#123;202e#125;"), "{safe}");
    }
}
