//! A plan for the terminal: what would change first, then how. Pure.

use jiff::Timestamp;

use super::super::canonical;
use super::super::model::Plan;
use super::super::observed::ServiceManagerKind;
use super::super::preview::{BudgetPresence, BudgetPreview, FileGroup, Verdict};
use super::super::spec::{
    AssetScope, ClientPolicy, DriftPolicy, OnFailure, PreBackupMode, ReplayPolicy, RestartPolicy,
    SessionPolicy, SourceScope,
};
use super::super::step::StepKind;
use super::branches::{Part, parts};
use super::layout::{Cell, Page, Style, bytes, span, wrap};

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
    let title = format!("Restore backup {} of instance {}", spec.source.backup_id, spec.instance);
    page.paragraph("", &Cell::new(Style::Bold, title));
    let scope = match spec.source.scope {
        SourceScope::Full => "with unit and vhost",
        SourceScope::Data => "data only",
    };
    let from = format!(
        "{}, {} ({}, {scope})",
        time(spec.source.created_at.timestamp(), options),
        bytes(spec.source.size_bytes),
        spec.source.algorithm
    );
    let to = if spec.target.live {
        format!("{}, the live directory of the instance", spec.target.directory)
    } else {
        format!("{}, not the live directory", spec.target.directory)
    };
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
        let about = format!("about {}.{} s without a server", downtime / 1000, downtime % 1000 / 100);
        lines.push(vec![Cell::plain("downtime"), Cell::plain(about)]);
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
    if plan.preview.warnings.is_empty() {
        return;
    }
    page.blank();
    for warning in &plan.preview.warnings {
        let text = format!("{} [{}]", warning.message, warning.code);
        page.paragraph("! ", &Cell::new(Style::Yellow, text));
    }
}

fn files(page: &mut Page, plan: &Plan) {
    let files = &plan.preview.files;
    page.section(&format!("Files in {}", plan.spec.target.directory));
    let row = |name: &str, style, group: &FileGroup| {
        let mut examples = group.examples.join(", ");
        if u64::try_from(group.examples.len()).is_ok_and(|shown| shown < group.count) && !examples.is_empty()
        {
            examples += ", …";
        }
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
    let head = ["name", "encrypted", "after the restore", "newer changes on the server"];
    let mut table = vec![head.map(|name| Cell::new(Style::Dim, name)).to_vec()];
    table.extend(budgets.iter().map(|budget| {
        let (fate, style) = match budget.presence {
            BudgetPresence::Both => ("as in the backup", Style::Plain),
            BudgetPresence::LiveOnly => ("gone", Style::Red),
            BudgetPresence::BackupOnly => ("back", Style::Green),
        };
        vec![
            Cell::plain(name(budget)),
            Cell::plain(if budget.encrypted { "yes" } else { "no" }),
            Cell::new(style, fate),
            newer(budget, plan.spec.clients),
        ]
    }));
    page.rows(table);
    let groups: Vec<Vec<Cell>> = budgets
        .iter()
        .filter_map(|budget| {
            let change = format!("{} → {}", budget.group_id.as_deref()?, budget.new_group_id.as_deref()?);
            Some(vec![Cell::plain(name(budget)), Cell::plain(change)])
        })
        .collect();
    if !groups.is_empty() {
        page.section("New sync groups");
        page.rows(groups);
    }
}

fn name(budget: &BudgetPreview) -> &str {
    budget.name.as_deref().unwrap_or(&budget.id)
}

/// What becomes of changes that the backup does not have.
fn newer(budget: &BudgetPreview, clients: ClientPolicy) -> Cell {
    let count = match (budget.presence, budget.changes_newer) {
        (BudgetPresence::BackupOnly, _) | (_, Some(0)) => return Cell::plain("none"),
        (_, None) => return Cell::new(Style::Yellow, "not counted"),
        (_, Some(count)) => count,
    };
    let (fate, style) = match (budget.presence, clients) {
        (BudgetPresence::Both, ClientPolicy::Merge) => ("come back from clients", Style::Yellow),
        (BudgetPresence::Both, ClientPolicy::Reset) => ("lost", Style::Red),
        (BudgetPresence::LiveOnly | BudgetPresence::BackupOnly, _) => ("lost with it", Style::Red),
    };
    let times = match (&budget.first_newer, &budget.last_newer) {
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        (Some(one), None) | (None, Some(one)) => format!(", {one}"),
        (None, None) => String::new(),
    };
    Cell::new(style, format!("{count} {fate}{times}"))
}

fn rows(page: &mut Page, plan: &Plan) {
    let differing: Vec<_> = plan.preview.rows.iter().filter(|row| row.live != row.backup).collect();
    if differing.is_empty() {
        return;
    }
    page.section("Rows of the server's tables that differ");
    let number = |count: Option<u64>| count.map_or_else(|| "none".to_owned(), |count| count.to_string());
    let row = |change: &&super::super::preview::RowChange| {
        let change_text = format!("{} → {}", number(change.live), number(change.backup));
        vec![Cell::plain(&change.table), Cell::plain(change_text), Cell::new(Style::Dim, &change.database)]
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
        let (mark, style) = match check.verdict {
            Verdict::Will => ("✓ will", Style::Green),
            Verdict::WillNot => ("✗ will not", Style::Red),
            Verdict::NotChecked => ("? not checked", Style::Yellow),
        };
        vec![Cell::new(style, mark), Cell::plain(&check.id), Cell::plain(&check.why)]
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
    use super::super::step::Effect;
    let step = &plan.steps[step];
    let (effect, style) = match step.kind().effect() {
        Effect::Read => ("read", Style::Dim),
        Effect::Staging => ("staging", Style::Plain),
        Effect::Live => ("live", Style::Red),
        Effect::Service => ("service", Style::Yellow),
        Effect::Record => ("record", Style::Yellow),
    };
    let needs: Vec<&str> = step.needs.iter().map(crate::ids::StepId::as_str).collect();
    let after = if with_needs && !needs.is_empty() {
        format!(" (after {})", needs.join(", "))
    } else {
        String::new()
    };
    let name = if step.id.as_str() == step.kind().name() {
        step.id.to_string()
    } else {
        format!("{} ({})", step.id, step.kind())
    };
    vec![Cell::plain(name), Cell::new(style, effect), Cell::plain(format!("{}{after}", step.summary))]
}

fn settings(page: &mut Page, plan: &Plan) {
    let spec = &plan.spec;
    page.section("Settings");
    let row = |name: &str, (style, text): (Style, String)| vec![Cell::plain(name), Cell::new(style, text)];
    let pre_backup = match spec.pre_backup.mode {
        PreBackupMode::None => (Style::Red, "none: the displaced directory is the only way back".to_owned()),
        mode @ (PreBackupMode::Quiesced | PreBackupMode::Online) => {
            (Style::Plain, format!("{mode}, to {}", plan.observed.space.backup_directory))
        }
    };
    let space = &plan.observed.space;
    let needs = format!(
        "{} beside the target ({}), {} for the pre-backup",
        bytes(space.staging_bytes),
        plan.observed.file_system.r#type,
        bytes(space.backup_bytes)
    );
    let mut rows = vec![
        row("pre-backup", pre_backup),
        row("clients", clients(spec.clients)),
        row("sessions", sessions(spec.sessions)),
        row("service", service(plan)),
        row("unit, vhost", assets(spec.assets)),
        row("on failure", on_failure(spec.on_failure)),
        row("drift", drift(spec.drift)),
        row("replay", replay(spec.replay)),
        row("retain", (Style::Plain, format!("the displaced directory for {}", spec.retain))),
        row("space", (Style::Plain, needs)),
    ];
    if plan.steps.iter().any(|step| step.kind() == StepKind::Health) {
        let health = format!("up to {}, asked every {}", spec.health.timeout, spec.health.interval);
        rows.push(row("health", (Style::Plain, health)));
    }
    page.rows(rows);
}

fn clients(policy: ClientPolicy) -> (Style, String) {
    let text = match policy {
        ClientPolicy::Merge => "merge: clients send their newer changes back",
        ClientPolicy::Reset => "reset: new sync groups, clients must download the restored state",
    };
    (Style::Plain, text.to_owned())
}

fn sessions(policy: SessionPolicy) -> (Style, String) {
    let text = match policy {
        SessionPolicy::Keep => "keep: the logins of the backup are valid again",
        SessionPolicy::Revoke => "revoke: everybody logs in again",
    };
    (Style::Plain, text.to_owned())
}

fn service(plan: &Plan) -> (Style, String) {
    let observed = &plan.observed.service;
    let restart = match plan.spec.service.restart {
        RestartPolicy::Auto => "auto: started if it ran",
        RestartPolicy::Always => "always started",
        RestartPolicy::Never => "never started",
    };
    let seen = match (observed.manager, &observed.unit) {
        (ServiceManagerKind::None, _) => {
            let text = "not controlled: stop the server before apply, start it afterwards";
            return (Style::Plain, text.to_owned());
        }
        (ServiceManagerKind::Systemd, unit) => format!(
            "{} {}",
            unit.as_deref().unwrap_or("no unit"),
            if observed.running { "was running" } else { "was not running" }
        ),
    };
    (Style::Plain, format!("{restart}; {seen}"))
}

fn assets(scope: AssetScope) -> (Style, String) {
    match scope {
        AssetScope::Data => (Style::Plain, "stay as they are".to_owned()),
        AssetScope::Full => (Style::Yellow, "restored too: code that root runs".to_owned()),
    }
}

fn on_failure(policy: OnFailure) -> (Style, String) {
    match policy {
        OnFailure::Rollback => (Style::Plain, "rollback: everything is put back".to_owned()),
        OnFailure::Halt => (Style::Yellow, "halt: everything stays for a person to look at".to_owned()),
    }
}

fn drift(policy: DriftPolicy) -> (Style, String) {
    match policy {
        DriftPolicy::Structure => {
            (Style::Plain, "structure: more changes of the same budgets are fine".to_owned())
        }
        DriftPolicy::Exact => (Style::Plain, "exact: any difference is refused".to_owned()),
        DriftPolicy::Ignore => {
            (Style::Red, "ignore: whatever is in the target by then is replaced, reviewed or not".to_owned())
        }
    }
}

fn replay(policy: ReplayPolicy) -> (Style, String) {
    match policy {
        ReplayPolicy::Once => (Style::Plain, "once".to_owned()),
        ReplayPolicy::Allowed => (Style::Yellow, "allowed: the plan may be applied again".to_owned()),
    }
}

fn end(page: &mut Page, plan: &Plan) {
    page.blank();
    let digest = canonical::digest(plan).map_or_else(|error| error.to_string(), |digest| digest.to_string());
    let approvals = match plan.approvals.as_slice() {
        [] => "none in the file".to_owned(),
        all => {
            let names: Vec<&str> = all.iter().map(|approval| approval.principal.as_str()).collect();
            format!("{} in the file, not checked here: {}", all.len(), names.join(", "))
        }
    };
    page.paragraph("plan ", &Cell::plain(plan.metadata.id.as_str()));
    page.paragraph("digest ", &Cell::plain(digest));
    page.paragraph("approvals ", &Cell::plain(approvals));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        plan.preview.checks[1].verdict = Verdict::WillNot;
        let warning = json!({ "code": "password", "message": "the password of the backup is valid again" });
        plan.preview.warnings.push(serde_json::from_value(warning).unwrap());
        let options = TextOptions {
            stale: Some("data/config.json differs".into()),
            width: 80,
            ..at("2026-11-27T10:30:00Z")
        };
        insta::assert_snapshot!(text(&with_steps(plan), &options));
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
        plan.preview.checks[0].why = evil.into();
        plan.preview.warnings[0].message = evil.into();
        plan.observed.file_system.r#type = evil.into();
        plan.observed.instance.data_directory = evil.into();
        with_steps(plan)
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
