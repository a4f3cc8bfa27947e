//! Two plans compared, in lines for the terminal: by cause, what means nothing last. Pure.

use serde_json::Value;

use super::super::diff::{Change, PlanDiff};
use super::layout::{Cell, Page, Style};
use super::visible::visible;

/// The longest value that a line shows; `--json` has all of it.
const LONGEST: usize = 160;

/// How a comparison is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffOptions {
    /// Columns of the terminal; at least 40 are used.
    pub width: usize,
    /// Whether ANSI codes may help. Nothing is said by colour alone.
    pub color: bool,
    /// What the two plans are called.
    pub names: [String; 2],
}

/// The comparison in lines, with a line break at its end. Hidden characters are shown as codes.
pub fn diff_text(diff: &PlanDiff, options: &DiffOptions) -> String {
    let mut page = Page::new(options.width, options.color);
    let [before, after] = &options.names;
    if diff.is_same() {
        page.paragraph(
            "",
            &Cell::new(Style::Bold, format!("no difference in meaning between {before} and {after}")),
        );
    } else {
        page.paragraph("", &Cell::new(Style::Bold, format!("from {before} to {after}")));
    }
    let groups = [
        ("The wish changed", &diff.wish),
        ("The world changed", &diff.world),
        ("What follows", &diff.follows),
        ("Of the document alone, without a meaning", &diff.document),
    ];
    for (title, changes) in groups {
        if !changes.is_empty() {
            page.section(title);
            for change in changes {
                show(&mut page, change);
            }
        }
    }
    page.finish()
}

fn show(page: &mut Page, change: &Change) {
    let (mark, style) = match (&change.before, &change.after) {
        (None, _) => ("  + ", Style::Green),
        (_, None) => ("  - ", Style::Red),
        (Some(_), Some(_)) => ("  ~ ", Style::Yellow),
    };
    let about = change.budget.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    if let Some(diff) = &change.diff {
        page.paragraph(mark, &Cell::new(style, format!("{}{about}", change.path)));
        for line in diff.lines() {
            let style = match line.chars().next() {
                Some('+') => Style::Green,
                Some('-') => Style::Red,
                Some('@') => Style::Dim,
                Some(_) | None => Style::Plain,
            };
            page.paragraph("      ", &Cell::new(style, line.replace('\t', "    ")));
        }
        return;
    }
    let values = match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("{} → {}", value(before), value(after)),
        (Some(one), None) | (None, Some(one)) => member(&change.path, one),
        (None, None) => String::new(),
    };
    let values = if values.is_empty() { values } else { format!(": {values}") };
    page.paragraph(mark, &Cell::new(style, format!("{}{about}{values}", change.path)));
}

/// What a value says that its place does not say already.
fn member(path: &str, one: &Value) -> String {
    let key = path.split_once('[').map_or("", |(_, key)| key);
    let told = |value: &Value| value.as_str().is_some_and(|text| key.contains(text));
    match one {
        Value::Object(fields) => {
            let rest = fields.iter().filter(|(_, value)| !told(value));
            let rest: Vec<String> = rest.map(|(name, one)| format!("{name} {}", value(one))).collect();
            cut(&rest.join(", "))
        }
        Value::String(_) if told(one) => String::new(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value(one),
    }
}

/// A value as people write it.
fn value(value: &Value) -> String {
    cut(&match value.as_str() {
        Some(text) => visible(text),
        None => visible(&value.to_string()),
    })
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::diff::diff;
    use super::super::super::spec::{ClientPolicy, DriftPolicy};
    use super::super::super::testing::{sample, sample_dest, with_steps};
    use super::super::is_hidden;
    use super::*;

    fn options(color: bool) -> DiffOptions {
        DiffOptions { width: 100, color, names: ["old.yaml".into(), "new.yaml".into()] }
    }

    #[test]
    fn another_wish_in_another_world() {
        let mut plan = sample();
        plan.metadata.id = "01KATCV2N8Q4ZJ6M5R7T9V1W3Y".parse().unwrap();
        plan.spec.clients = ClientPolicy::Reset.into();
        plan.spec.drift = DriftPolicy::Ignore;
        plan.observed.target.budgets[0].changes = Some(990);
        plan.preview.budgets[0].changes_newer = Some(720);
        plan.preview.diffs[0].diff.push_str("+\tone line more\n");
        plan.preview.files.added.examples.push("data/new".into());
        insta::assert_snapshot!(diff_text(&diff(&sample(), &with_steps(plan)).unwrap(), &options(false)));
    }

    #[test]
    fn to_another_directory() {
        insta::assert_snapshot!(diff_text(&diff(&sample(), &sample_dest()).unwrap(), &options(false)));
    }

    #[test]
    fn the_same_meaning() {
        let same = diff(&sample(), &sample()).unwrap();
        assert_eq!(
            diff_text(&same, &options(false)),
            "no difference in meaning between old.yaml and new.yaml\n"
        );
    }

    #[test]
    fn hostile_texts_are_harmless() {
        let evil = "a\u{202e}b\u{1b}[2J\nc".repeat(40);
        let mut plan = sample();
        plan.metadata.reason = Some(evil.clone());
        plan.preview.budgets[0].name = Some(evil.clone());
        plan.preview.budgets[0].changes_newer = None;
        plan.preview.files.added.examples.push(evil.clone());
        plan.preview.diffs[0].path = evil;
        let shown = diff_text(&diff(&sample(), &plan).unwrap(), &options(false));
        assert!(shown.chars().all(|c| c == '\n' || !is_hidden(c)), "{shown}");
        assert!(shown.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 100));
    }
}
