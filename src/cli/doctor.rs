//! `abssctl doctor`: what is not in order here, and what to type. Reads only.

use serde_json::{Value, json};

use super::error::CliError;
use super::exit;
use super::session::Session;
use crate::doctor::{self, Finding, Health};
use crate::plan::render::visible;

/// `abssctl doctor`
pub fn doctor(session: &Session) -> Result<u8, CliError> {
    let found = match session.context() {
        Ok(cx) => doctor::examine(&cx),
        // Nothing can be looked at without it, and that is what is to be said.
        Err(CliError::Config(error)) => vec![doctor::unconfigured(&error)],
        Err(error) => return Err(error),
    };
    let of = |health: Health| found.iter().filter(|finding| finding.health == health).count();
    let (problems, warnings) = (of(Health::Problem), of(Health::Warning));
    let objects: Vec<Value> = found.iter().map(object).collect();
    let mut text: String = found.iter().map(line).collect();
    text.push_str(&match (problems, warnings) {
        (0, 0) => "all is in order\n".to_owned(),
        (0, 1) => "nothing is wrong; 1 thing to know\n".to_owned(),
        (0, more) => format!("nothing is wrong; {more} things to know\n"),
        (1, _) => "1 problem\n".to_owned(),
        (more, _) => format!("{more} problems\n"),
    });
    let value = json!({ "problems": problems, "warnings": warnings, "findings": objects });
    session.output.either(&value, &text)?;
    Ok(if problems == 0 { exit::DONE } else { exit::ENVIRONMENT })
}

fn object(finding: &Finding) -> Value {
    json!({
        "area": finding.area.name(),
        "health": finding.health.name(),
        "code": finding.code,
        "message": finding.message,
        "help": finding.help,
    })
}

/// A finding, and below it what to type.
fn line(finding: &Finding) -> String {
    let mark = match finding.health {
        Health::Good => "ok",
        Health::Warning => "note",
        Health::Problem => "PROBLEM",
    };
    let mut text = format!("{mark:<8} {:<10} {}\n", finding.area.name(), visible(&finding.message));
    for help in finding.help.lines() {
        text.push_str(&format!("{:<19} {}\n", "", visible(help)));
    }
    text
}
