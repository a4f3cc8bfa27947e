//! A switch that asks work to stop. Signals throw it from another thread; every loop that may take long
//! looks at it. Changes nothing by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts how often somebody asked to stop. Clones share the count.
#[derive(Clone, Default, Debug)]
pub struct Cancel {
    own: Arc<AtomicUsize>,
    parent: Option<Arc<AtomicUsize>>,
}

/// The work was stopped because somebody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request")]
pub struct Cancelled;

impl Cancel {
    /// A switch of its own that is also thrown by this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { own: Arc::default(), parent: Some(Arc::clone(&self.own)) }
    }

    /// Asks to stop: at the next safe point.
    pub fn request(&self) {
        self.own.fetch_add(1, Ordering::SeqCst);
    }

    /// How often somebody asked.
    pub fn count(&self) -> usize {
        let parent = self.parent.as_ref().map_or(0, |parent| parent.load(Ordering::SeqCst));
        self.own.load(Ordering::SeqCst) + parent
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.count() > 0
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
        assert_eq!((clone.check(), clone.count()), (Err(Cancelled), 1));
        assert_eq!(child.count(), 2);
    }
}
