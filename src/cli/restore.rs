//! `abssctl backup restore`: plan, confirm and apply in one go.

use serde_json::json;

use super::apply::{Job, run};
use super::args::BackupRestoreArgs;
use super::error::CliError;
use super::progress::Mode;
use super::session::Session;
use super::{exit, plan as plan_cli, prompt};
use crate::plan::canonical;
use crate::plan::spec::ClientPolicy;
use crate::planner::{self, Selector};
use crate::survey::approvals::Evidence;

/// `abssctl backup restore`
pub fn restore(session: &Session, args: &BackupRestoreArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let wish = plan_cli::to_wish(Selector::Id(args.backup.clone()), args.instance.clone(), &args.wish);
    let plan = planner::plan(&cx, &wish)?;
    let shown = plan_cli::as_text(session, &plan, session.output.color);
    if args.dry_run {
        let digest = canonical::digest(&plan)?;
        session.output.either(&json!({ "plan": plan, "path": null, "digest": digest }), &shown)?;
        return Ok(exit::DONE);
    }
    if !session.yes {
        session.output.note(&shown);
        prompt::confirm(session, &format!("Restore {} now?", args.backup))?;
    } else if wish.clients.is_none() && plan.spec.clients == ClientPolicy::Merge {
        // Nobody chose, so that what it means must at least be read afterwards.
        for warning in plan.preview.warnings.iter().filter(|warning| warning.code == "clients-merge") {
            session.output.note(&format!("! {}", warning.message));
        }
    }
    // A plan that nobody else saw has no approvals: where the policy needs some, it is refused.
    let evidence = Evidence::default();
    let bytes = plan_cli::bytes_of(&plan)?;
    run(
        session,
        &cx,
        &plan,
        &bytes,
        &Job { replay: false, evidence: &evidence, command: "backup restore", mode: Mode::Lines },
    )
}
