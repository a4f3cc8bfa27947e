//! `abssctl plan validate`: plan files by themselves. Never looks at the machine, changes nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{PlanValidateArgs, ReportFormat};
use super::error::CliError;
use super::exit;
use super::output::error_object;
use super::plan::load_plan;
use super::sarif::Log;
use super::session::{Session, typed};
use crate::ids::{PlanDigest, PlanId};
use crate::plan::canonical;

/// What is said of a valid plan.
struct Valid {
    id: PlanId,
    digest: PlanDigest,
    steps: usize,
}

/// One file and what it is.
type Looked<'a> = (&'a Path, Result<Valid, CliError>);

/// `abssctl plan validate`
pub fn validate(session: &Session, args: &PlanValidateArgs) -> Result<u8, CliError> {
    let stdin = |path: &&PathBuf| path.as_path() == Path::new("-");
    if args.files.iter().filter(stdin).count() > 1 {
        return Err(CliError::Usage {
            what: "standard input can be read once".into(),
            help: "name '-' once: abssctl plan validate - plan.yaml".into(),
        });
    }
    let sarif = report_format(session, args.format)? == ReportFormat::Sarif;
    if let ([file], false) = (args.files.as_slice(), sarif) {
        let valid = look(session, file)?;
        session.output.either(&object(&valid), &line(file, &valid))?;
        return Ok(exit::DONE);
    }
    let looked: Vec<Looked<'_>> =
        args.files.iter().map(|file| (file.as_path(), look(session, file))).collect();
    let code = exit::worst(looked.iter().map(|(_, result)| code(session, result)));
    if sarif {
        session.output.value(&log(&looked, code))?;
    } else if session.output.json {
        let plans: Vec<Value> = looked.iter().map(|looked| entry(session, looked)).collect();
        session.output.value(&json!({ "valid": code == exit::DONE, "plans": plans, "exitCode": code }))?;
    }
    for (file, result) in &looked {
        match result {
            Err(error) => session.output.tell(error, &typed(file)),
            Ok(valid) if sarif => session.output.note(line(file, valid).trim_end()),
            Ok(valid) if !session.output.json => session.output.text(&line(file, valid))?,
            Ok(_) => {}
        }
    }
    Ok(code)
}

/// The format that was asked for; `--json` is an older way to say one.
pub(super) fn report_format(
    session: &Session,
    format: Option<ReportFormat>,
) -> Result<ReportFormat, CliError> {
    match (format, session.output.json) {
        (Some(ReportFormat::Sarif), true) => Err(CliError::Usage {
            what: "--format sarif and --json are two answers to one question".into(),
            help: "leave one of them out".into(),
        }),
        (_, true) => Ok(ReportFormat::Json),
        (format, false) => Ok(format.unwrap_or(ReportFormat::Text)),
    }
}

fn look(session: &Session, file: &Path) -> Result<Valid, CliError> {
    let (plan, _) = load_plan(session, file)?;
    let digest = canonical::digest(&plan)?;
    Ok(Valid { id: plan.metadata.id, digest, steps: plan.steps.len() })
}

fn code(session: &Session, result: &Result<Valid, CliError>) -> u8 {
    match result {
        Ok(_) => exit::DONE,
        Err(error) => exit::code(error, session.interrupted()),
    }
}

fn object(valid: &Valid) -> Value {
    json!({ "valid": true, "id": valid.id, "digest": valid.digest, "steps": valid.steps })
}

/// One of several files.
fn entry(session: &Session, (file, result): &Looked<'_>) -> Value {
    let name = file.display().to_string();
    let known = match result {
        Ok(valid) => object(valid),
        Err(error) => {
            json!({ "valid": false, "error": error_object(error, code(session, result), &typed(file)) })
        }
    };
    let mut value = json!({ "file": name });
    if let (Value::Object(entry), Value::Object(known)) = (&mut value, known) {
        entry.extend(known);
    }
    value
}

fn line(file: &Path, valid: &Valid) -> String {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { typed(file) };
    format!("{name} is a valid plan: {} steps, {}\n", valid.steps, valid.digest)
}

fn log(looked: &[Looked<'_>], code: u8) -> Value {
    let mut log = Log::new();
    for (file, result) in looked {
        match result {
            Ok(_) => drop(log.file(file)),
            Err(error) => log.error(file, error),
        }
    }
    log.finish(code)
}
