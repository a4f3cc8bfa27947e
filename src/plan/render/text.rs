//! A plan for the terminal: what would change first, then how. Pure.

use jiff::Timestamp;

use super::super::canonical;
use super::super::model::Plan;
use super::super::preview::FileGroup;
use super::super::spec::Source;
use super::accounts;
use super::branches::{Part, parts};
use super::layout::{Cell, Page, Style, bytes, span, wrap};
use super::words::{self, Said, Tone};

/// How a plan is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOptions {
    /// Columns of the terminal; at least 40 are used.
    pub width: usize,
    /// Whether ANSI codes may help. Nothing is said by colour alone.
    pub color: bool,
    /// The time, for ages and expiry; without it only absolute times are shown.
    pub now: Option<Timestamp>,
    /// Why the plan no longer fits the machine, where that was looked at.
    pub stale: Option<String>,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { width: 100, color: false, now: None, stale: None }
    }
}

/// The plan in lines, with a line break at its end. Hidden characters of the plan are shown as codes.
pub fn text(plan: &Plan, options: &TextOptions) -> String {
    let mut page = Page::new(options.width, options.color);
    title(&mut page, plan, options);
    warnings(&mut page, plan);
    files(&mut page, plan);
    budgets(&mut page, plan);
    logins(&mut page, plan);
    rows(&mut page, plan);
    diffs(&mut page, plan, options.width);
    checks(&mut page, plan);
    steps(&mut page, plan);
    settings(&mut page, plan);
    end(&mut page, plan);
    page.finish()
}

fn title(page: &mut Page, plan: &Plan, options: &TextOptions) {
    let (spec, made) = (&plan.spec, &plan.metadata);
    page.paragraph("", &Cell::new(Style::Bold, words::title(plan)));
    let (at, held) = match &spec.source {
        Source::Backup(backup) => (backup.created_at, words::archive(backup)),
        Source::Run(run) => (run.displaced_at, words::kept(run)),
    };
    let from = format!("{}, {held}", time(at.timestamp(), options));
    let to = words::destination(plan);
    let by = format!("{} ({})", made.created_by.name, time(made.created_at.timestamp(), options));
    let mut lines = vec![
        vec![Cell::plain("from"), Cell::plain(from)],
        vec![Cell::plain("to"), Cell::plain(to)],
        vec![Cell::plain("planned by"), Cell::plain(by)],
    ];
    if let Some(reason) = &made.reason {
        lines.push(vec![Cell::plain("because"), Cell::plain(reason)]);
    }
    if let Some(downtime) = plan.preview.downtime_ms {
        lines.push(vec![Cell::plain("downtime"), Cell::plain(words::downtime(downtime))]);
    }
    lines.push(vec![Cell::plain("status"), status(plan, options)]);
    if let Some(stale) = &options.stale {
        lines.push(vec![Cell::new(Style::Red, "STALE"), Cell::new(Style::Red, stale)]);
    }
    page.rows(lines);
}

/// A point in time and how long ago it was.
fn time(at: Timestamp, options: &TextOptions) -> String {
    match options.now.map(|now| now.as_second() - at.as_second()) {
        None => at.to_string(),
        Some(age) if age >= 0 => format!("{at}, {} ago", span(age.unsigned_abs())),
        Some(age) => format!("{at}, in {}", span(age.unsigned_abs())),
    }
}

fn status(plan: &Plan, options: &TextOptions) -> Cell {
    let expires = plan.metadata.expires_at;
    match options.now.map(|now| expires.timestamp().as_second() - now.as_second()) {
        None => Cell::plain(format!("expires {expires}")),
        Some(left) if left > 0 => {
            Cell::plain(format!("expires in {} ({expires})", span(left.unsigned_abs())))
        }
        Some(left) => {
            let text = format!("EXPIRED {} ago ({expires}); plan again", span(left.unsigned_abs()));
            Cell::new(Style::Red, text)
        }
    }
}

fn warnings(page: &mut Page, plan: &Plan) {
    let alarms = words::alarms(plan);
    if plan.preview.warnings.is_empty() && alarms.is_empty() {
        return;
    }
    page.blank();
    for alarm in alarms {
        page.paragraph("! ", &cell(alarm));
    }
    for warning in &plan.preview.warnings {
        let text = format!("{} [{}]", warning.message, warning.code);
        page.paragraph("! ", &Cell::new(Style::Yellow, text));
    }
}

fn files(page: &mut Page, plan: &Plan) {
    let files = &plan.preview.files;
    page.section(&format!("Files in {}", plan.spec.target.directory));
    let row = |name: &str, style, group: &FileGroup| {
        let examples = words::examples(group).join(", ");
        let number = Cell::plain(group.count.to_string());
        vec![Cell::new(style, name), number, Cell::plain(bytes(group.bytes)), Cell::new(Style::Dim, examples)]
    };
    page.rows(vec![
        row("added", Style::Green, &files.added),
        row("changed", Style::Yellow, &files.changed),
        row("removed", Style::Red, &files.removed),
        vec![
            Cell::plain("unchanged"),
            Cell::plain(files.unchanged.to_string()),
            Cell::plain(""),
            Cell::plain(""),
        ],
    ]);
}

fn budgets(page: &mut Page, plan: &Plan) {
    let budgets = &plan.preview.budgets;
    if budgets.is_empty() {
        return;
    }
    page.section("Budgets");
    let held = plan.spec.words().held;
    let head = ["name", "encrypted", words::after(plan), "newer changes on the server"];
    let mut table = vec![head.map(|name| Cell::new(Style::Dim, name)).to_vec()];
    table.extend(budgets.iter().map(|budget| {
        vec![
            Cell::plain(words::name(budget)),
            Cell::plain(if budget.encrypted { "yes" } else { "no" }),
            cell(words::fate(budget, held)),
            cell(words::newer(budget, plan.spec.clients.of(&budget.id))),
        ]
    }));
    page.rows(table);
    let groups: Vec<Vec<Cell>> = budgets
        .iter()
        .filter_map(|budget| {
            let change = format!("{} → {}", budget.group_id.as_deref()?, budget.new_group_id.as_deref()?);
            Some(vec![Cell::plain(words::name(budget)), Cell::plain(change)])
        })
        .collect();
    if !groups.is_empty() {
        page.section("New sync groups");
        page.rows(groups);
    }
}

/// A piece of text in the colour of its tone.
fn cell(said: Said) -> Cell {
    Cell::new(style(said.tone), said.text)
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::Plain,
        Tone::Quiet => Style::Dim,
        Tone::Good => Style::Green,
        Tone::Care => Style::Yellow,
        Tone::Danger => Style::Red,
    }
}

fn logins(page: &mut Page, plan: &Plan) {
    let rows = accounts::rows(plan);
    if !rows.is_empty() {
        page.section(accounts::TITLE);
        page.rows(rows.into_iter().map(|(name, said)| vec![Cell::plain(name), cell(said)]).collect());
    }
}

fn rows(page: &mut Page, plan: &Plan) {
    let differing: Vec<_> = plan.preview.rows.iter().filter(|row| row.live != row.backup).collect();
    if differing.is_empty() {
        return;
    }
    page.section("Rows of the server's tables that differ");
    let row = |change: &&super::super::preview::RowChange| {
        let counts = Cell::plain(words::counts(change));
        vec![Cell::plain(&change.table), counts, Cell::new(Style::Dim, &change.database)]
    };
    page.rows(differing.iter().map(row).collect());
}

fn diffs(page: &mut Page, plan: &Plan, width: usize) {
    for diff in &plan.preview.diffs {
        let fate = if diff.restored { "changes" } else { "differs, and stays as it is" };
        page.section(&format!("{} {fate}", diff.path));
        for line in diff.diff.lines() {
            let style = match line.chars().next() {
                Some('+') => Style::Green,
                Some('-') => Style::Red,
                Some('@') => Style::Dim,
                Some(_) | None => Style::Plain,
            };
            let line = super::visible(&line.replace('\t', "    "));
            for piece in wrap(&line, width.saturating_sub(4)) {
                page.paragraph("    ", &Cell::new(style, piece));
            }
        }
    }
}

fn checks(page: &mut Page, plan: &Plan) {
    if plan.preview.checks.is_empty() {
        return;
    }
    page.section("Checks");
    let row = |check: &super::super::preview::Check| {
        vec![cell(words::verdict(check.verdict)), Cell::plain(&check.id), Cell::plain(&check.why)]
    };
    page.rows(plan.preview.checks.iter().map(row).collect());
}

fn steps(page: &mut Page, plan: &Plan) {
    page.section("Steps, each after those above it; branches run side by side");
    let mut table = Vec::new();
    chain(plan, &parts(plan), "  ", "  ", &mut table);
    page.table(&table);
}

/// Rows for a chain of steps: `first` stands before its first row, `further` before all others.
fn chain(
    plan: &Plan,
    parts: &[Part],
    first: &str,
    further: &str,
    table: &mut Vec<(String, String, Vec<Cell>)>,
) {
    for (at, part) in parts.iter().enumerate() {
        let first = if at == 0 { first } else { further };
        match part {
            Part::Step(step) => {
                table.push((first.to_owned(), further.to_owned(), step_cells(plan, *step, false)));
            }
            Part::Tangle(steps) => {
                for (at, step) in steps.iter().enumerate() {
                    let front = if at == 0 { first } else { further };
                    table.push((front.to_owned(), further.to_owned(), step_cells(plan, *step, true)));
                }
            }
            Part::Branches(branches) => {
                for (branch, parts) in branches.iter().enumerate() {
                    let front = if branch == 0 { first } else { further };
                    let (mark, line) =
                        if branch + 1 == branches.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                    chain(plan, parts, &format!("{front}{mark}"), &format!("{further}{line}"), table);
                }
            }
        }
    }
}

fn step_cells(plan: &Plan, step: usize, with_needs: bool) -> Vec<Cell> {
    let step = &plan.steps[step];
    let needs: Vec<&str> = step.needs.iter().map(crate::ids::StepId::as_str).collect();
    let after = if with_needs && !needs.is_empty() {
        format!(" (after {})", needs.join(", "))
    } else {
        String::new()
    };
    vec![
        Cell::plain(words::step_name(step)),
        cell(words::effect(step.kind().effect())),
        Cell::plain(format!("{}{after}", step.summary)),
    ]
}

fn settings(page: &mut Page, plan: &Plan) {
    page.section("Settings");
    let row = |(name, said): (&str, Said)| vec![Cell::plain(name), cell(said)];
    page.rows(words::settings(plan).into_iter().map(row).collect());
}

fn end(page: &mut Page, plan: &Plan) {
    page.blank();
    let digest = canonical::digest(plan).map_or_else(|error| error.to_string(), |digest| digest.to_string());
    page.paragraph("plan ", &Cell::plain(plan.metadata.id.as_str()));
    page.paragraph("digest ", &Cell::plain(digest));
    page.paragraph("approvals ", &Cell::plain(words::approvals(plan)));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::spec::{DriftPolicy, PreBackupMode, ReplayPolicy};
    use super::super::super::testing::{sample, sample_dest, sample_with_service, with_steps};
    use super::*;

    fn at(time: &str) -> TextOptions {
        TextOptions { now: Some(time.parse().unwrap()), ..TextOptions::default() }
    }

    fn width_of(text: &str) -> usize {
        text.lines().map(unicode_width::UnicodeWidthStr::width).max().unwrap_or(0)
    }

    #[test]
    fn a_plan() {
        insta::assert_snapshot!(text(&sample(), &at("2026-11-24T09:00:00Z")));
    }

    #[test]
    fn a_plan_with_a_service_and_an_online_pre_backup() {
        let mut plan = sample_with_service();
        plan.spec.pre_backup.mode = PreBackupMode::Online;
        insta::assert_snapshot!(text(
            &with_steps(plan),
            &TextOptions { width: 80, ..at("2026-11-24T09:00:00Z") }
        ));
    }

    #[test]
    fn an_expired_and_stale_plan_with_warnings() {
        let mut plan = sample();
        plan.spec.drift = DriftPolicy::Ignore;
        plan.spec.replay = ReplayPolicy::Allowed;
        let gap = json!({ "budget": "b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11", "name": "Household",
            "lacks": "blob", "file": "user-files/file-b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11.blob" });
        crate::plan::testing::held(&mut plan).incomplete = vec![serde_json::from_value(gap).unwrap()];
        plan.spec.allow_incomplete.clone_from(&plan.observed.backup.as_ref().unwrap().incomplete);
        plan.observed.server.lacks = vec!["1719409568000-multiuser.js".into()];
        let mut plan = with_steps(plan);
        let warning = json!({ "code": "password", "message": "the password of the backup is valid again" });
        plan.preview.warnings.push(serde_json::from_value(warning).unwrap());
        let options = TextOptions {
            stale: Some("data/config.json differs".into()),
            width: 80,
            ..at("2026-11-27T10:30:00Z")
        };
        insta::assert_snapshot!(text(&plan, &options));
    }

    #[test]
    fn to_another_directory_without_a_pre_backup() {
        insta::assert_snapshot!(text(&sample_dest(), &TextOptions::default()));
    }

    fn hostile() -> Plan {
        let mut plan = sample();
        let evil = "a\u{202e}b\u{1b}[2J\u{200b}c\nd\u{2066}";
        plan.metadata.reason = Some(evil.into());
        plan.metadata.created_by.name = evil.into();
        plan.preview.budgets[0].name = Some(evil.into());
        plan.preview.budgets[1].name = Some("日本語の家計簿 ❤️".into());
        plan.preview.budgets[0].first_newer = Some(evil.into());
        plan.preview.files.added.examples = vec![evil.into(), "x".repeat(300)];
        plan.preview.rows[0].table = evil.into();
        plan.preview.diffs[0].path = evil.into();
        plan.preview.diffs[0].diff = "+\u{1b}]0;x\u{7}\n-\tb\u{202e}".into();
        plan.observed.file_system.r#type = evil.into();
        plan.observed.instance.data_directory = evil.into();
        let mut plan = with_steps(plan);
        plan.preview.checks[0].why = evil.into();
        plan.preview.warnings[0].message = evil.into();
        plan
    }

    #[test]
    fn hostile_names_are_harmless() {
        let shown = text(
            &hostile(),
            &TextOptions { width: 80, stale: Some("\u{202d}".into()), ..at("2026-11-24T09:00:00Z") },
        );
        assert!(shown.chars().all(|c| c == '\n' || !super::super::is_hidden(c)), "{shown}");
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn no_line_is_wider_than_wanted() {
        for plan in [sample(), sample_with_service(), sample_dest(), hostile()] {
            for width in [60, 80, 120] {
                let shown = text(&plan, &TextOptions { width, ..at("2026-11-24T09:00:00Z") });
                assert!(width_of(&shown) <= width, "{width}: {shown}");
            }
        }
    }

    #[test]
    fn danger_is_red_and_colour_changes_no_word() {
        let mut plan = sample_dest();
        plan.spec.drift = DriftPolicy::Ignore;
        let plan = with_steps(plan);
        let coloured = text(&plan, &TextOptions { color: true, ..TextOptions::default() });
        assert!(coloured.contains("\u{1b}[1;31mnone: the displaced"), "{coloured}");
        assert!(coloured.contains("\u{1b}[1;31mignore: whatever"), "{coloured}");
        let mut bare = coloured;
        for code in ["0", "1", "2", "1;31", "33", "32"] {
            bare = bare.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(bare, text(&plan, &TextOptions::default()));
    }
}
