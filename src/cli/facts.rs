//! `abssctl facts`, and reading what it wrote.

use std::path::Path;

use super::args::FactsArgs;
use super::error::CliError;
use super::exit;
use super::plan::{put, refuse_other_file};
use super::session::Session;
use crate::facts::load;
use crate::facts::model::Facts;
use crate::planner::collect::Ask;
use crate::planner::{self, wish};

/// `abssctl facts`
pub fn facts(session: &Session, args: &FactsArgs) -> Result<u8, CliError> {
    let destinations = args.dest.iter().map(|path| wish::destination(path));
    let ask = Ask {
        instances: args.instance.clone(),
        backups: args.backup.clone(),
        destinations: destinations.collect::<Result<_, _>>()?,
    };
    let cx = session.context()?;
    let facts = planner::facts(&cx, &ask)?;
    let text = serde_json::to_string_pretty(&facts).map_err(std::io::Error::other)? + "\n";
    // What is written must load.
    if text.len() > load::MAX_BYTES {
        return Err(CliError::Usage {
            what: format!(
                "the facts have {} bytes, and nobody reads more than {}",
                text.len(),
                load::MAX_BYTES
            ),
            help: "ask for less: abssctl facts --backup ID, or --instance NAME".into(),
        });
    }
    if args.output == Path::new("-") {
        session.output.result(text.as_bytes())?;
        return Ok(exit::DONE);
    }
    refuse_other_file(&args.output, &["\"Facts\""], "document of facts")?;
    put(&args.output, text.as_bytes())?;
    let shown = args.output.display();
    let backups = facts.backups.iter().filter(|backup| backup.contents.is_some()).count();
    session.output.note(&format!("facts for plans of {backups} backups written to {shown}"));
    for backup in &facts.backups {
        if let Some(why) = &backup.not_read {
            session.output.note(&format!("  ? {}: {why}", backup.source.backup_id));
        }
    }
    session
        .output
        .note(&format!("next, elsewhere: abssctl plan restore BACKUP_ID --facts {shown} -o plan.yaml"));
    Ok(exit::DONE)
}

/// Reads facts, or standard input for `-`.
pub fn read(session: &Session, path: &Path) -> Result<Facts, CliError> {
    let (name, bytes) = session.read_input(path, CliError::NoFactsFile)?;
    Ok(load::load(&name, &bytes)?)
}
