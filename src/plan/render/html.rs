//! A plan as one page that stands alone: no script, no font, no picture from anywhere, a policy that
//! allows nothing but its own style. For reading, mailing, printing and keeping. Pure.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use sha2::{Digest as _, Sha256};

use super::super::canonical;
use super::super::model::Plan;
use super::super::preview::FileGroup;
use super::accounts;
use super::base64::base64;
use super::layout::bytes;
use super::picture::class;
use super::svg::svg;
use super::visible::visible;
use super::words::{self, Said};

/// The style of the page; its digest is in the policy.
const STYLE: &str = include_str!("page.css");

/// The plan as an HTML document, with a line break at its end. All text of the plan is shown as text.
pub fn html(plan: &Plan, now: Option<Timestamp>) -> String {
    let title = visible(&words::title(plan));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex";
                meta name="generator" content=(concat!("abssctl ", env!("CARGO_PKG_VERSION")));
                title { (title) }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                header { (head(plan, now)) }
                main {
                    (losses(plan)) (warnings(plan)) (files(plan)) (budgets(plan)) (checks(plan))
                    (logins(plan)) (rows(plan)) (diffs(plan)) (steps(plan)) (settings(plan))
                }
                footer { (end(plan)) }
            }
        }
    };
    page.into_string() + "\n"
}

/// Nothing may be loaded, run, embedded or sent.
fn policy() -> String {
    let digest = base64(&Sha256::digest(STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
}

/// Text of the plan, kept from turning the direction of what stands beside it.
fn text(text: impl AsRef<str>) -> Markup {
    html! { bdi { (visible(text.as_ref())) } }
}

fn mono(text: impl AsRef<str>) -> Markup {
    html! { code { bdi { (visible(text.as_ref())) } } }
}

fn said(said: &Said) -> Markup {
    html! { span class=(class(said.tone)) { (text(&said.text)) } }
}

fn head(plan: &Plan, now: Option<Timestamp>) -> Markup {
    let (spec, made) = (&plan.spec, &plan.metadata);
    let (act, what) = words::acts_on(plan);
    html! {
        h1 { (act) " " (mono(&what)) " of instance " (mono(spec.instance.as_str())) }
        p.lead { (words::summary(plan)) }
        @for alarm in words::alarms(plan) {
            p class=(format!("alarm {}", class(alarm.tone))) role="note" { "⚠ " (text(&alarm.text)) }
        }
        dl {
            dt { "from" } dd { (text(words::origin(plan))) }
            dt { "to" } dd { (text(words::destination(plan))) }
            dt { "planned by" } dd { (text(&made.created_by.name)) ", " (made.created_at) }
            @if let Some(reason) = &made.reason { dt { "because" } dd { (text(reason)) } }
            @if let Some(downtime) = plan.preview.downtime_ms { dt { "downtime" } dd { (words::downtime(downtime)) } }
            dt { "status" } dd { (said(&words::validity(plan, now))) }
        }
    }
}

fn losses(plan: &Plan) -> Markup {
    let losses = words::losses(plan);
    html! {
        section aria-labelledby="lost" {
            h2 #lost { "What would be lost" }
            @if losses.is_empty() { p { "Nothing that this plan saw." } }
            @else { ul { @for loss in &losses { li { (said(loss)) } } } }
        }
    }
}

fn warnings(plan: &Plan) -> Markup {
    html! {
        @if !plan.preview.warnings.is_empty() {
            section aria-labelledby="warnings" {
                h2 #warnings { "Warnings" }
                ul {
                    @for warning in &plan.preview.warnings {
                        li { span.care { (text(&warning.message)) } " " span.quiet { (mono(&warning.code)) } }
                    }
                }
            }
        }
    }
}

/// A table that scrolls where the page is narrow, by keyboard too.
fn table(name: &str, columns: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(name) tabindex="0" {
            table {
                thead { tr { @for column in columns { th scope="col" { (column) } } } }
                tbody { (rows) }
            }
        }
    }
}

fn files(plan: &Plan) -> Markup {
    let files = &plan.preview.files;
    let row = |name: &str, class: &str, group: &FileGroup| {
        html! {
            tr {
                th scope="row" class=(class) { (name) }
                td { (group.count) }
                td.nobreak { (bytes(group.bytes)) }
                td.long {
                    @for (at, path) in words::examples(group).iter().enumerate() { @if at > 0 { ", " } (mono(path)) }
                }
            }
        }
    };
    let rows = html! {
        (row("removed", "danger", &files.removed)) (row("changed", "care", &files.changed))
        (row("added", "good", &files.added))
        tr { th scope="row" { "unchanged" } td { (files.unchanged) } td {} td {} }
    };
    html! {
        section aria-labelledby="files" {
            h2 #files { "Files in " (mono(plan.spec.target.directory.as_str())) }
            (table("Files", &["files", "number", "size", "for example"], &rows))
        }
    }
}

fn budgets(plan: &Plan) -> Markup {
    let budgets = &plan.preview.budgets;
    let rows = html! {
        @for budget in budgets {
            tr {
                th scope="row" { (text(words::name(budget))) }
                td { @if budget.encrypted { "yes" } @else { "no" } }
                td { (said(&words::fate(budget, plan.spec.words().held))) }
                td.long { (said(&words::newer(budget, plan.spec.clients.of(&budget.id)))) }
            }
        }
    };
    let groups = html! {
        @for budget in budgets {
            @if let (Some(old), Some(new)) = (&budget.group_id, &budget.new_group_id) {
                tr { th scope="row" { (text(words::name(budget))) } td.long { (mono(old)) } td.long { (mono(new)) } }
            }
        }
    };
    html! {
        @if !budgets.is_empty() {
            section aria-labelledby="budgets" {
                h2 #budgets { "Budgets" }
                (table("Budgets", &["budget", "encrypted", words::after(plan), "newer changes on the server"], &rows))
                @if !groups.0.is_empty() {
                    h3 { "New sync groups" }
                    (table("New sync groups", &["budget", "sync group", words::after(plan)], &groups))
                }
            }
        }
    }
}

fn checks(plan: &Plan) -> Markup {
    let rows = html! {
        @for check in &plan.preview.checks {
            tr {
                th.nobreak scope="row" { (mono(&check.id)) }
                td.nobreak { (said(&words::verdict(check.verdict))) }
                td.long { (text(&check.why)) }
            }
        }
    };
    html! {
        @if !plan.preview.checks.is_empty() {
            section aria-labelledby="checks" {
                h2 #checks { "Checks" }
                (table("Checks", &["check", "result", "why"], &rows))
            }
        }
    }
}

fn logins(plan: &Plan) -> Markup {
    let rows = html! {
        @for (name, said_of) in &accounts::rows(plan) {
            tr { th scope="row" { (name) } td.long { (said(said_of)) } }
        }
    };
    html! {
        @if !rows.0.is_empty() {
            section aria-labelledby="logins" {
                h2 #logins { (accounts::TITLE) }
                (table(accounts::TITLE, &["what", words::after(plan)], &rows))
            }
        }
    }
}

fn rows(plan: &Plan) -> Markup {
    let differing = plan.preview.rows.iter().filter(|row| row.live != row.backup);
    let rows = html! {
        @for row in differing {
            tr { th scope="row" { (mono(&row.table)) } td.nobreak { (words::counts(row)) } td.long { (mono(&row.database)) } }
        }
    };
    html! {
        @if !rows.0.is_empty() {
            section aria-labelledby="rows" {
                h2 #rows { "Rows of the server's tables that differ" }
                (table("Rows", &["table", "rows", "database"], &rows))
            }
        }
    }
}

fn diffs(plan: &Plan) -> Markup {
    let looks = |line: &str| match line.chars().next() {
        Some('+') => "added",
        Some('-') => "removed",
        Some('@') => "place",
        Some(_) | None => "same",
    };
    html! {
        @for (at, diff) in plan.preview.diffs.iter().enumerate() {
            @let id = format!("diff-{at}");
            section aria-labelledby=(id) {
                h2 id=(id) {
                    (mono(&diff.path)) @if diff.restored { " changes" } @else { " differs, and stays as it is" }
                }
                pre {
                    @for line in diff.diff.lines() {
                        span class=(looks(line)) { (visible(&line.replace('\t', "    "))) } "\n"
                    }
                }
            }
        }
    }
}

fn steps(plan: &Plan) -> Markup {
    let rows = html! {
        @for step in &plan.steps {
            tr {
                th.nobreak scope="row" { (text(words::step_name(step))) }
                td { (said(&words::effect(step.kind().effect()))) }
                td { @for (at, need) in step.needs.iter().enumerate() { @if at > 0 { ", " } (text(need.as_str())) } }
                td.long { (text(&step.summary)) }
            }
        }
    };
    html! {
        section aria-labelledby="steps" {
            h2 #steps { "Steps" }
            p { "All of them run; arrows lead to what comes after, and steps side by side may run so." }
            (svg(plan))
            (table("Steps", &["step", "effect", "after", "does"], &rows))
        }
    }
}

fn settings(plan: &Plan) -> Markup {
    html! {
        section aria-labelledby="settings" {
            h2 #settings { "Settings" }
            dl { @for (name, what) in words::settings(plan) { dt { (name) } dd { (said(&what)) } } }
        }
    }
}

fn end(plan: &Plan) -> Markup {
    let digest = canonical::digest(plan).map_or_else(|error| error.to_string(), |digest| digest.to_string());
    html! {
        dl {
            dt { "plan" } dd { (mono(plan.metadata.id.as_str())) }
            dt { "digest" } dd { (mono(digest)) }
            dt { "approvals" } dd { (text(words::approvals(plan))) }
            dt { "made by" } dd { (text(&plan.metadata.generator)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::{DriftPolicy, PreBackupMode};
    use super::super::super::testing::{sample, sample_with_service, with_steps};
    use super::*;

    /// One tag a line, so that a difference is read easily.
    fn lines(page: &str) -> String {
        let body = page.split_once("</style>").map_or(page, |(_, body)| body);
        body.replace("><", ">\n<")
    }

    #[test]
    fn a_plan() {
        insta::assert_snapshot!(lines(&html(&sample(), Some("2026-11-24T09:00:00Z".parse().unwrap()))));
    }

    #[test]
    fn an_expired_plan_of_a_service_without_safeguards() {
        let mut plan = sample_with_service();
        plan.spec.drift = DriftPolicy::Ignore;
        plan.spec.pre_backup.mode = PreBackupMode::None;
        plan.spec.pre_backup.message = None;
        let page = html(&with_steps(plan), Some("2026-11-27T10:30:00Z".parse().unwrap()));
        assert_eq!(page.matches("class=\"alarm danger\"").count(), 2);
        assert!(page.contains("EXPIRED on"));
        insta::assert_snapshot!(lines(&page));
    }

    #[test]
    fn the_policy_allows_the_style_of_the_page_alone() {
        let page = html(&sample(), None);
        let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        let digest = base64(&Sha256::digest(style.as_bytes()));
        assert!(page.contains(&format!("default-src 'none'; style-src 'sha256-{digest}'")));
        for never in ["script", " style=", "src=", "href=", "http:", "onload", "onclick"] {
            let found = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
            let inside_tags =
                found.split('<').filter_map(|part| part.split_once('>')).any(|(tag, _)| tag.contains(never));
            assert!(!inside_tags, "{never}");
        }
    }
}
