//! `abssctl config …`

use serde_json::json;

use super::error::CliError;
use super::exit;
use super::output::table;
use super::session::Session;

/// `abssctl config show`
pub fn show(session: &Session) -> Result<u8, CliError> {
    let cx = session.context()?;
    let settings = cx.config.table();
    let rows: Vec<Vec<String>> = settings
        .iter()
        .map(|(key, value, origin)| vec![key.clone(), value.clone(), origin.to_string()])
        .collect();
    let objects: Vec<_> = settings
        .iter()
        .map(|(key, value, origin)| json!({ "key": key, "value": value, "origin": origin.to_string() }))
        .collect();
    session.output.either(&json!({ "settings": objects }), &table(&["KEY", "VALUE", "ORIGIN"], &rows))?;
    Ok(exit::DONE)
}
