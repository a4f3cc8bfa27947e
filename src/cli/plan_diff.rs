//! `abssctl plan diff`: two plans compared by meaning. Never looks at the machine.

use std::path::Path;

use serde_json::json;

use super::args::PlanDiffArgs;
use super::error::CliError;
use super::exit;
use super::plan::load_plan;
use super::session::Session;
use crate::plan::canonical;
use crate::plan::diff::diff;
use crate::plan::render::diff::{DiffOptions, diff_text};

/// `abssctl plan diff`
pub fn plan_diff(session: &Session, args: &PlanDiffArgs) -> Result<u8, CliError> {
    let stdin = Path::new("-");
    if args.before == stdin && args.after == stdin {
        return Err(CliError::Usage {
            what: "both plans cannot come from standard input".into(),
            help: "name a file for one of them: abssctl plan diff old.yaml -".into(),
        });
    }
    let (before, _) = load_plan(session, &args.before)?;
    let (after, _) = load_plan(session, &args.after)?;
    let found = diff(&before, &after).map_err(canonical::CanonicalError::from)?;
    let code = if args.detailed_exitcode && !found.is_same() { exit::CHANGES } else { exit::DONE };
    let value = json!({
        "same": found.is_same(),
        "before": { "id": before.metadata.id, "digest": canonical::digest(&before)? },
        "after": { "id": after.metadata.id, "digest": canonical::digest(&after)? },
        "wish": found.wish,
        "world": found.world,
        "follows": found.follows,
        "document": found.document,
        "exitCode": code,
    });
    let names = [&args.before, &args.after].map(|path| path.display().to_string());
    let options = DiffOptions { width: session.output.width, color: session.output.color, names };
    if session.output.json {
        session.output.value(&value)?;
    } else {
        // Harmless already, and coloured.
        session.output.result(diff_text(&found, &options).as_bytes())?;
    }
    Ok(code)
}
