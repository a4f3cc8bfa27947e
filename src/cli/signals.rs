//! Signals: the first SIGINT or SIGTERM asks the work to stop at its next safe point; the second ends
//! the process at once, and the next apply goes on from the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit;
use crate::host::cancel::Cancel;

/// What signals came.
#[derive(Debug, Clone, Default)]
pub struct Caught(Arc<AtomicU8>);

impl Caught {
    /// The exit code of the signal that came first.
    pub fn exit_code(&self) -> u8 {
        match self.0.load(Ordering::Relaxed) {
            0 => exit::INTERRUPTED,
            code => code,
        }
    }
}

/// Listens for signals from now on.
pub fn listen(cancel: &Cancel) -> std::io::Result<Caught> {
    let caught = Caught::default();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (cancel, seen) = (cancel.clone(), caught.clone());
    std::thread::spawn(move || {
        for signal in &mut signals {
            if cancel.is_requested() {
                // Fails for unknown signals only; these two are known.
                drop(signal_hook::low_level::emulate_default_handler(signal));
            }
            let code = if signal == SIGTERM { exit::TERMINATED } else { exit::INTERRUPTED };
            seen.0.store(code, Ordering::Relaxed);
            cancel.request();
        }
    });
    Ok(caught)
}
