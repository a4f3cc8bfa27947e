//! A plan as a comment on a pull request: what would be lost first, details folded, never longer than
//! the forges take. The same bytes until the plan expires. Pure.

use jiff::Timestamp;

use super::super::canonical;
use super::super::model::Plan;
use super::super::preview::{BudgetPresence, BudgetPreview, FileGroup};
use super::accounts;
use super::layout::bytes;
use super::markup::{Lines, code, code_in_html, cut, folded, prose, short};
use super::mermaid::mermaid;
use super::visible::visible;
use super::words::{self, Said, Tone};

/// The longest comment, in bytes and so in characters too: GitHub takes 65,536 characters.
pub const MAX_BYTES: usize = 65_535;

// The most bytes of each section.
const TITLE_AND_END: usize = 6000;
const LOSSES: usize = 4000;
const WARNINGS: usize = 7000;
const FILES: usize = 4000;
const BUDGETS: usize = 11_000;
const GROUPS: usize = 2000;
const CHECKS: usize = 4000;
const ROWS: usize = 2500;
const DIFFS: usize = 8000;
const PICTURE: usize = 6000;
const STEPS: usize = 6000;
const SETTINGS: usize = 3000;
/// Headings and folds of all sections.
const HEADINGS: usize = 1500;

const _: () = assert!(
    TITLE_AND_END
        + LOSSES
        + WARNINGS
        + FILES
        + BUDGETS
        + GROUPS
        + CHECKS
        + ROWS
        + DIFFS
        + PICTURE
        + STEPS
        + SETTINGS
        + HEADINGS
        <= MAX_BYTES,
    "all sections at their longest still fit"
);

/// Columns of a cell.
const CELL: usize = 200;

/// The plan as GitHub Flavored Markdown, with a line break at its end. All text of the plan is shown as
/// text: nothing in it is markup, a link, a mention or a reference to the forge that renders it.
pub fn markdown(plan: &Plan, now: Option<Timestamp>) -> String {
    let mut page = title(plan, now);
    page += &alarms(plan);
    page += &losses(plan);
    page += &warnings(plan);
    page += &files(plan);
    page += &budgets(plan);
    page += &logins(plan);
    page += &checks(plan);
    page += &rows(plan);
    page += &diffs(plan);
    page += &steps(plan);
    page += &settings(plan);
    page + &end(plan)
}

fn title(plan: &Plan, now: Option<Timestamp>) -> String {
    let (spec, made) = (&plan.spec, &plan.metadata);
    let (act, what) = words::acts_on(plan);
    let mut page = format!(
        "## {act} {} of instance {}\n\n**{}**\n\n",
        code(&what),
        code(spec.instance.as_str()),
        words::summary(plan)
    );
    let from = format!("from {}", words::origin(plan));
    page += &format!("- {}\n- to {}\n", prose(&from), prose(&short(&words::destination(plan), 1000)));
    page += &format!(
        "- planned by {}, {}\n",
        code(&short(&made.created_by.name, CELL)),
        prose(&made.created_at.to_string())
    );
    if let Some(reason) = &made.reason {
        page += &format!("- because: {}\n", prose(&short(reason, 1000)));
    }
    if let Some(downtime) = plan.preview.downtime_ms {
        page += &format!("- {}\n", words::downtime(downtime));
    }
    let validity = words::validity(plan, now);
    let strong = if validity.tone == Tone::Danger { "**" } else { "" };
    page + &format!("- {strong}{}{strong}\n", prose(&validity.text))
}

fn alarms(plan: &Plan) -> String {
    let alarm = |said: &Said| {
        let kind = if said.tone == Tone::Danger { "CAUTION" } else { "WARNING" };
        format!("\n> [!{kind}]\n> **{}**\n", prose(&said.text))
    };
    words::alarms(plan).iter().map(alarm).collect()
}

fn losses(plan: &Plan) -> String {
    let mut lines = Lines::new(LOSSES, "losses");
    for said in words::losses(plan) {
        let mark = if said.tone == Tone::Danger { "🔴" } else { "🟡" };
        lines.push(&format!("- {mark} {}", prose(&short(&said.text, 1200))));
    }
    if lines.is_empty() {
        return "\n### What would be lost\n\nNothing that this plan saw.\n".to_owned();
    }
    format!("\n### What would be lost\n\n{}", lines.finish())
}

fn warnings(plan: &Plan) -> String {
    let mut lines = Lines::new(WARNINGS, "warnings");
    for warning in &plan.preview.warnings {
        lines.push(&format!(
            "- ⚠ {} {}",
            prose(&short(&warning.message, 1000)),
            code(&short(&warning.code, CELL))
        ));
    }
    if lines.is_empty() { String::new() } else { format!("\n### Warnings\n\n{}", lines.finish()) }
}

fn files(plan: &Plan) -> String {
    let files = &plan.preview.files;
    let row = |name: &str, group: &FileGroup| {
        let shown: Vec<String> = words::examples(group)
            .iter()
            .map(|path| if *path == "…" { (*path).to_owned() } else { code(&short(path, 120)) })
            .collect();
        format!("| {name} | {} | {} | {} |", group.count, bytes(group.bytes), shown.join(" "))
    };
    let mut lines = Lines::new(FILES, "rows");
    lines.head("| files | number | size | for example |\n| --- | ---: | ---: | --- |\n");
    lines.push(&row("removed", &files.removed));
    lines.push(&row("changed", &files.changed));
    lines.push(&row("added", &files.added));
    lines.push(&format!("| unchanged | {} | | |", files.unchanged));
    format!(
        "\n### Files in {}\n\n{}",
        code(&short(plan.spec.target.directory.as_str(), 1000)),
        lines.finish()
    )
}

fn budgets(plan: &Plan) -> String {
    if plan.preview.budgets.is_empty() {
        return String::new();
    }
    let mut lines = Lines::new(BUDGETS, "budgets");
    lines.head(if plan.spec.is_rollback() {
        "| budget | encrypted | after the rollback | newer changes on the server |\n| --- | --- | --- | --- |\n"
    } else {
        "| budget | encrypted | after the restore | newer changes on the server |\n| --- | --- | --- | --- |\n"
    });
    let mut budgets: Vec<&BudgetPreview> = plan.preview.budgets.iter().collect();
    // Worst first, so that a cut leaves out what matters least.
    budgets.sort_by_key(|budget| match (budget.presence, budget.changes_newer) {
        (BudgetPresence::LiveOnly | BudgetPresence::Both, _) if budget.kept => 5,
        (BudgetPresence::LiveOnly, _) => 0,
        (BudgetPresence::Both, None) => 1,
        (BudgetPresence::Both, Some(1..)) => 2,
        (BudgetPresence::Both, Some(0)) => 3,
        (BudgetPresence::BackupOnly, _) => 4,
    });
    for budget in budgets {
        let encrypted = if budget.encrypted { "yes" } else { "no" };
        let newer = words::newer(budget, plan.spec.clients.of(&budget.id));
        lines.push(&format!(
            "| {} | {encrypted} | {} | {} |",
            code(&short(words::name(budget), CELL)),
            loud(&words::fate(budget, plan.spec.words().held)),
            loud(&newer)
        ));
    }
    let mut page = format!("\n### Budgets\n\n{}", lines.finish());
    let mut groups = Lines::new(GROUPS, "budgets");
    groups.head("| budget | sync group | after the restore |\n| --- | --- | --- |\n");
    for budget in &plan.preview.budgets {
        if let (Some(old), Some(new)) = (&budget.group_id, &budget.new_group_id) {
            let cells = [words::name(budget), old, new].map(|text| code(&short(text, CELL)));
            groups.push(&format!("| {} |", cells.join(" | ")));
        }
    }
    if !groups.is_empty() {
        page += &folded("New sync groups", &groups.finish());
    }
    page
}

fn logins(plan: &Plan) -> String {
    let rows = accounts::rows(plan);
    if rows.is_empty() {
        return String::new();
    }
    let row = |(name, said): &(&str, Said)| format!("| {name} | {} |\n", loud(said));
    let rows: String = rows.iter().map(row).collect();
    format!("\n### {}\n\n| what | {} |\n| --- | --- |\n{rows}", accounts::TITLE, words::after(plan))
}

/// What matters most, in bold.
fn loud(said: &Said) -> String {
    let text = prose(&short(&said.text, CELL));
    if said.tone == Tone::Danger { format!("**{text}**") } else { text }
}

fn checks(plan: &Plan) -> String {
    if plan.preview.checks.is_empty() {
        return String::new();
    }
    let mut lines = Lines::new(CHECKS, "checks");
    lines.head("| result | check | why |\n| --- | --- | --- |\n");
    for check in &plan.preview.checks {
        let cells = [
            loud(&words::verdict(check.verdict)),
            code(&short(&check.id, CELL)),
            prose(&short(&check.why, 500)),
        ];
        lines.push(&format!("| {} |", cells.join(" | ")));
    }
    format!("\n### Checks\n\n{}", lines.finish())
}

fn rows(plan: &Plan) -> String {
    let mut lines = Lines::new(ROWS, "tables");
    lines.head("| table | rows | database |\n| --- | --- | --- |\n");
    for row in plan.preview.rows.iter().filter(|row| row.live != row.backup) {
        let (table, database) = (code(&short(&row.table, CELL)), code(&short(&row.database, CELL)));
        lines.push(&format!("| {table} | {} | {database} |", words::counts(row)));
    }
    if lines.is_empty() {
        String::new()
    } else {
        folded("Rows of the server's tables that differ", &lines.finish())
    }
}

fn diffs(plan: &Plan) -> String {
    let mut page = String::new();
    let mut left = DIFFS;
    for (at, diff) in plan.preview.diffs.iter().enumerate() {
        let fate = if diff.restored { "changes" } else { "differs, and stays as it is" };
        let summary = format!("{} {fate}", code_in_html(&cut(&visible(&diff.path), CELL)));
        let shown: Vec<String> =
            diff.diff.lines().map(|line| cut(&visible(&line.replace('\t', "    ")), 500)).collect();
        let ticks = shown.iter().map(|line| longest_run(line)).max().unwrap_or(0).max(2) + 1;
        let fence = "`".repeat(ticks);
        let spent = 200 + summary.len() + 2 * ticks;
        if spent >= left {
            let rest = plan.preview.diffs.len() - at;
            return page + &format!("\n*Cut: {rest} more text files differ; the plan has them.*\n");
        }
        let mut lines = Lines::new(left - spent, "lines");
        for line in &shown {
            lines.push(line);
        }
        let block = format!("{fence}diff\n{}{fence}\n", lines.finish());
        let section = folded(&summary, &block);
        left = left.saturating_sub(section.len());
        page += &section;
    }
    page
}

fn longest_run(line: &str) -> usize {
    line.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn steps(plan: &Plan) -> String {
    let mut lines = Lines::new(STEPS, "steps");
    lines.head("| step | effect | after | does |\n| --- | --- | --- | --- |\n");
    for step in &plan.steps {
        let needs: Vec<&str> = step.needs.iter().map(crate::ids::StepId::as_str).collect();
        lines.push(&format!(
            "| {} | {} | {} | {} |",
            code(&words::step_name(step)),
            loud(&words::effect(step.kind().effect())),
            needs.iter().map(|need| code(need)).collect::<Vec<_>>().join(" "),
            prose(&short(&step.summary, 400))
        ));
    }
    let drawn = mermaid(plan);
    let drawn = if drawn.len() <= PICTURE { format!("```mermaid\n{drawn}```\n\n") } else { String::new() };
    let many = words::counted(words::count(plan.steps.len()), "step", "steps");
    folded(&many, &format!("{drawn}{}", lines.finish()))
}

fn settings(plan: &Plan) -> String {
    let mut lines = Lines::new(SETTINGS, "settings");
    lines.head("| setting | |\n| --- | --- |\n");
    for (name, said) in words::settings(plan) {
        lines.push(&format!("| {name} | {} |", loud(&said)));
    }
    folded("Settings", &lines.finish())
}

fn end(plan: &Plan) -> String {
    let digest = canonical::digest(plan).map_or_else(|error| error.to_string(), |digest| digest.to_string());
    format!(
        "\nplan {}, digest {}\napprovals: {}\n",
        code(plan.metadata.id.as_str()),
        code(&digest),
        prose(&short(&words::approvals(plan), 1000))
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::{DriftPolicy, PreBackupMode};
    use super::super::super::testing::{sample, sample_dest, sample_with_service, with_steps};
    use super::*;

    #[test]
    fn a_plan() {
        insta::assert_snapshot!(markdown(&sample(), Some("2026-11-24T09:00:00Z".parse().unwrap())));
    }

    #[test]
    fn an_expired_plan_of_a_service_without_safeguards() {
        let mut plan = sample_with_service();
        plan.spec.drift = DriftPolicy::Ignore;
        plan.spec.pre_backup.mode = PreBackupMode::None;
        plan.spec.pre_backup.message = None;
        let now = Some("2026-11-27T10:30:00Z".parse().unwrap());
        insta::assert_snapshot!(markdown(&with_steps(plan), now));
    }

    #[test]
    fn to_another_directory() {
        insta::assert_snapshot!(markdown(&sample_dest(), None));
    }

    #[test]
    fn it_is_the_same_until_it_expires() {
        let at = |time: &str| markdown(&sample(), Some(time.parse().unwrap()));
        assert_eq!(at("2026-11-24T09:00:00Z"), at("2026-11-25T07:59:59Z"));
        assert!(at("2026-11-25T08:00:00Z").contains("**EXPIRED"));
    }

    #[test]
    fn a_diff_cannot_leave_its_fence() {
        let mut plan = sample();
        plan.preview.diffs[0].diff = "+```\n+````\n+</details>\n".into();
        let shown = diffs(&plan);
        assert!(shown.contains("`````diff\n+```\n+````\n+</details>\n`````\n"), "{shown}");
    }
}
