//! Signals: the first SIGINT or SIGTERM asks the work to stop at its next safe point; the second ends
//! the process at once, and the next apply goes on from the journal. The handlers themselves throw the
//! switch: whatever a signal interrupts sees it before it does anything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::exit;
use crate::host::cancel::Cancel;

/// What signal came.
#[derive(Debug, Clone, Default)]
pub struct Caught(Arc<AtomicUsize>);

impl Caught {
    /// The exit code of the signal that came.
    pub fn exit_code(&self) -> u8 {
        match self.0.load(Ordering::SeqCst) {
            0 => exit::INTERRUPTED,
            code => u8::try_from(code).unwrap_or(exit::INTERRUPTED),
        }
    }
}

/// Listens for signals from now on.
pub fn listen(cancel: &Cancel) -> std::io::Result<Caught> {
    let caught = Caught::default();
    for (signal, code) in [(SIGINT, exit::INTERRUPTED), (SIGTERM, exit::TERMINATED)] {
        // In this order: the signal that asks first must not end the process itself.
        flag::register_conditional_default(signal, cancel.switch())?;
        flag::register_usize(signal, Arc::clone(&caught.0), usize::from(code))?;
        flag::register(signal, cancel.switch())?;
    }
    Ok(caught)
}
