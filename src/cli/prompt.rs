//! Questions to the person at the terminal. The safe answer is the default.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::error::CliError;
use super::session::Session;

/// Asks before something is changed. `--yes` answers; without a terminal nobody can be asked, and nothing
/// is changed.
pub fn confirm(session: &Session, question: &str) -> Result<(), CliError> {
    if session.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::NoTerminal);
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::Declined),
    }
}
