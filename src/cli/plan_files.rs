//! `abssctl plan show --all-files`: every file that a plan would add, change or remove, of which the plan
//! itself names ten each. Looks at this machine; changes nothing.

use serde::Serialize;

use super::args::{PlanShowArgs, ShowFormat};
use super::error::CliError;
use super::exit;
use super::plan::load_plan;
use super::session::Session;
use crate::ids::{AbsPath, PlanDigest, PlanId};
use crate::plan::canonical;
use crate::plan::model::Plan;
use crate::plan::render::{human_bytes, visible};
use crate::planner;
use crate::planner::all_files::AllFiles;

/// The answer as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    plan: &'a PlanId,
    plan_digest: PlanDigest,
    target: &'a AbsPath,
    files: &'a AllFiles,
    warnings: &'a [String],
}

/// `abssctl plan show --all-files`
pub(super) fn show(session: &Session, args: &PlanShowArgs) -> Result<u8, CliError> {
    let json = session.output.json || args.format == ShowFormat::Json;
    if !json && args.format != ShowFormat::Text {
        return Err(CliError::Usage {
            what: "--all-files is shown as text or as JSON alone".into(),
            help: "leave --format out, or write --format json".into(),
        });
    }
    let (plan, _) = load_plan(session, &args.file)?;
    let cx = session.context()?;
    let files = planner::all_files(&cx, &plan)?;
    for warning in &files.warnings {
        session.output.note(&format!("! {warning}"));
    }
    if json {
        let answer = Answer {
            plan: &plan.metadata.id,
            plan_digest: canonical::digest(&plan)?,
            target: &plan.spec.target.directory,
            files: &files,
            warnings: &files.warnings,
        };
        session.output.value(&answer)?;
    } else {
        session.output.text(&text(&plan, &files))?;
    }
    Ok(exit::DONE)
}

/// The counts as `plan show` has them, then one line a file, its name last and whole.
fn text(plan: &Plan, files: &AllFiles) -> String {
    let groups =
        [("added", '+', &files.added), ("changed", '~', &files.changed), ("removed", '-', &files.removed)];
    let mut text = format!("Files in {}\n", plan.spec.target.directory);
    let digits = |count: u64| count.to_string().len();
    let width = groups.iter().map(|(_, _, group)| group.count).chain([files.unchanged]).map(digits).max();
    let width = width.unwrap_or_default();
    for (name, _, group) in &groups {
        text.push_str(&format!("  {name:<9}  {:<width$}  {}\n", group.count, human_bytes(group.bytes)));
    }
    text.push_str(&format!("  unchanged  {}\n", files.unchanged));
    for (_, sign, group) in groups.iter().filter(|(_, _, group)| group.count > 0) {
        text.push('\n');
        for file in &group.files {
            text.push_str(&format!("  {sign} {:>10}  {}\n", human_bytes(file.bytes), visible(&file.path)));
        }
    }
    text
}
