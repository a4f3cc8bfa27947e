//! Questions to the person at the terminal. The safe answer is the default.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::CliError;
use super::session::Session;

/// How often a waiting question looks for a signal.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Asks before something is changed. `--yes` answers; without a terminal nobody can be asked, and nothing
/// is changed.
pub fn confirm(session: &Session, question: &str) -> Result<(), CliError> {
    if session.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::NoTerminal);
    }
    loop {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        match answer(session)?.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(()),
            "" | "n" | "no" => return Err(CliError::Declined),
            _ => writeln!(stderr, "please answer y or n")?,
        }
    }
}

/// Asks for one of some answers, each a letter with its word. No answer, and whatever means no, ends the
/// command; so does a question that nobody can be asked.
pub fn choose<T: Copy>(
    session: &Session,
    question: &str,
    answers: &[(char, &str, T)],
) -> Result<T, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::NoTerminal);
    }
    let letters: Vec<String> = answers.iter().map(|(letter, _, _)| letter.to_string()).collect();
    loop {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question} [{}/A] ", letters.join("/"))?;
        stderr.flush()?;
        let given = answer(session)?.trim().to_ascii_lowercase();
        if ["", "a", "abort", "n", "no"].contains(&given.as_str()) {
            return Err(CliError::Declined);
        }
        let is_it = |(letter, word, _): &&(char, &str, T)| given == letter.to_string() || given == *word;
        if let Some((_, _, value)) = answers.iter().find(is_it) {
            return Ok(*value);
        }
        writeln!(stderr, "please answer {} or a", letters.join(", "))?;
    }
}

/// One line, or the end of the command: a signal while the question waits, or no answer at all.
fn answer(session: &Session) -> Result<String, CliError> {
    let stdin = io::stdin();
    loop {
        if session.is_interrupted() {
            session.output.note("");
            return Err(CliError::Interrupted);
        }
        let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut waiting, Some(&PAUSE)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(CliError::Output(error.into())),
        }
    }
    let mut line = String::new();
    if stdin.lock().read_line(&mut line)? == 0 {
        session.output.note("");
        return Err(CliError::Declined);
    }
    Ok(line)
}
