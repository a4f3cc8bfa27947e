//! `abssctl schema`, `completion` and `man`: documents made from the types and from the command line.

use clap::CommandFactory as _;

use super::args::{Cli, CompletionArgs, SchemaArgs, SchemaName};
use super::error::CliError;
use super::exit;
use super::session::Session;

/// `abssctl schema`
pub fn schema(session: &Session, args: &SchemaArgs) -> Result<u8, CliError> {
    let value = match args.name {
        SchemaName::Plan => crate::plan::schema::plan_schema().clone(),
        SchemaName::Facts => crate::facts::schema::facts_schema().clone(),
        SchemaName::Event => schemars::schema_for!(crate::engine::event::Event).to_value(),
        SchemaName::Result => schemars::schema_for!(crate::engine::report::Report).to_value(),
        SchemaName::Receipt => crate::run::receipt::model::schema(),
    };
    session.output.value(&value)?;
    Ok(exit::DONE)
}

/// `abssctl completion`
pub fn completion(session: &Session, args: &CompletionArgs) -> Result<u8, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "abssctl", &mut text);
    session.output.result(&text)?;
    Ok(exit::DONE)
}

/// `abssctl man`
pub fn man(session: &Session) -> Result<u8, CliError> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    session.output.result(&text)?;
    Ok(exit::DONE)
}
