//! `abssctl backup restore`: plan, confirm and apply in one go.

use std::path::Path;

use serde_json::json;

use super::apply::{Job, run, say_what_is_lost};
use super::args::BackupRestoreArgs;
use super::error::CliError;
use super::progress::Mode;
use super::session::Session;
use super::{exit, plan as plan_cli, prompt};
use crate::engine::apply::ApplyError;
use crate::plan::canonical;
use crate::plan::policy::Decision;
use crate::planner::{self, Selector};
use crate::survey::approvals::Evidence;
use crate::survey::policy;

/// `abssctl backup restore`
pub fn restore(session: &Session, args: &BackupRestoreArgs) -> Result<u8, CliError> {
    let cx = session.context()?;
    let wish = plan_cli::to_wish(Selector::Id(args.backup.clone()), args.instance.clone(), &args.wish);
    let plan = planner::plan(&cx, &wish)?;
    let shown = plan_cli::as_text(session, &plan, session.output.color);
    // A plan that nobody else saw has no approvals: where the policy needs some, it is refused.
    let evidence = Evidence::default();
    let look = policy::look(&cx, &plan, &evidence);
    if args.dry_run {
        plan_cli::say_policy(session, &look, &plan, Path::new("FILE"));
        let digest = canonical::digest(&plan)?;
        let value = json!({ "plan": plan, "path": null, "digest": digest });
        if session.output.json {
            session.output.value(&value)?;
        } else {
            session.output.result(shown.as_bytes())?;
        }
        return Ok(exit::DONE);
    }
    if look.verdict.decision == Decision::Refused {
        let problems = look.verdict.findings.iter().map(policy::problem).collect();
        return Err(ApplyError::Refused { problems }.into());
    }
    if session.yes {
        // Nobody is asked, so that what it means must at least be there to read.
        say_what_is_lost(session, &plan, &[]);
    } else {
        session.output.note_prepared(&shown);
        prompt::confirm(session, &format!("Restore {} now?", args.backup))?;
    }
    let bytes = plan_cli::bytes_of(&plan)?;
    run(
        session,
        &cx,
        &plan,
        &bytes,
        &Job { replay: false, evidence: &evidence, command: "backup restore", mode: Mode::Lines },
    )
}
