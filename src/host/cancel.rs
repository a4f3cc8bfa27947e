//! The wish to stop: set by a signal handler or a failed neighbour, asked for by every long loop.
//! Changes nothing on disk; whoever stops early says in its own file what it leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A counter of stop requests that its clones share. The first request asks for a stop at the next
/// safe point; callers that know a harder stop look at [`Cancel::count`].
#[derive(Clone, Default, Debug)]
pub struct Cancel(Arc<AtomicUsize>);

/// The work ended early because somebody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request")]
pub struct Cancelled;

impl Cancel {
    /// Asks for a stop; each call counts.
    pub fn request(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// How often a stop was asked for.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Whether a stop was asked for.
    pub fn is_requested(&self) -> bool {
        self.count() > 0
    }

    /// `Err` once a stop was asked for: what a long loop calls in each round, with `?`.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_requested() { Err(Cancelled) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_request() {
        let cancel = Cancel::default();
        let other = cancel.clone();
        assert_eq!(cancel.check(), Ok(()));
        other.request();
        other.request();
        assert_eq!((cancel.check(), cancel.count()), (Err(Cancelled), 2));
    }
}
