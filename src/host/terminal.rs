//! Asks for a passphrase on the terminal itself, without showing what is typed, wherever standard input
//! and output go. A crash in the middle leaves the terminal without echo (`stty sane` mends it); Ctrl-C
//! does not, since it is read as a key.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const BACKSPACE: [u8; 2] = [8, 127];
const LIMIT: usize = 1024;

/// Puts the terminal back as it was.
struct Quiet<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn new(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Nobody is left to be told when the terminal is gone.
        drop(tcsetattr(self.terminal, OptionalActions::Flush, &self.before).map_err(io::Error::from));
    }
}

/// Asks for a passphrase. `None`: there is no terminal to ask at.
///
/// # Errors
/// The terminal went away, or Ctrl-C was pressed ([`io::ErrorKind::Interrupted`]).
pub fn passphrase(question: &str) -> io::Result<Option<Zeroizing<String>>> {
    let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Ok(None);
    };
    let reader = terminal.try_clone()?;
    let quiet = Quiet::new(&reader)?;
    terminal.write_all(question.as_bytes())?;
    let typed = line(&reader);
    drop(quiet);
    terminal.write_all(b"\n")?;
    typed.map(Some)
}

fn line(mut terminal: &File) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT));
    let mut byte = [0];
    loop {
        if terminal.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match byte[0] {
            b'\n' | b'\r' => break,
            CTRL_C => return Err(io::ErrorKind::Interrupted.into()),
            CTRL_D if bytes.is_empty() => return Err(io::ErrorKind::Interrupted.into()),
            CTRL_U => bytes.clear(),
            byte if BACKSPACE.contains(&byte) => drop(bytes.pop()),
            byte if bytes.len() < LIMIT => bytes.push(byte),
            _ => {}
        }
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Zeroizing::new(text.to_owned()))
}
