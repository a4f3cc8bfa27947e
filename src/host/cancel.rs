//! A switch that asks work to stop. The handlers of signals throw it; every loop that may take long looks
//! at it. Changes nothing by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody asked to stop. Clones share the answer.
#[derive(Clone, Default, Debug)]
pub struct Cancel {
    own: Arc<AtomicBool>,
    /// Those that it is a child of, however far up.
    above: Vec<Arc<AtomicBool>>,
}

/// The work was stopped because somebody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request")]
pub struct Cancelled;

impl Cancel {
    /// A switch of its own that is also thrown by this one.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut above = self.above.clone();
        above.push(Arc::clone(&self.own));
        Self { own: Arc::default(), above }
    }

    /// Asks to stop: at the next safe point.
    pub fn request(&self) {
        self.own.store(true, Ordering::SeqCst);
    }

    /// The switch itself, for a handler of signals, which may do nothing but store a value.
    pub fn switch(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.own)
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        let asked = |switch: &Arc<AtomicBool>| switch.load(Ordering::SeqCst);
        asked(&self.own) || self.above.iter().any(asked)
    }

    /// An error as soon as somebody asked: `cancel.check()?` in loops.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_requested() { Err(Cancelled) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_request_and_children_follow() {
        let cancel = Cancel::default();
        let (clone, child) = (cancel.clone(), cancel.child());
        assert!(clone.check().is_ok());
        child.request();
        assert!(child.is_requested() && !cancel.is_requested());
        cancel.request();
        assert_eq!(clone.check(), Err(Cancelled));
        let other = cancel.child();
        assert!(other.is_requested() && other.child().is_requested());
    }
}
