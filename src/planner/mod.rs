//! Reads the machine and writes a plan; changes nothing. [`wish`] turns what was asked for into a
//! `spec`, [`restore`] assembles the plan, [`preview`] says what it would change.

pub mod diffs;
pub mod error;
pub mod preview;
pub mod redact;
pub mod restore;
pub mod wish;

pub use error::PlanError;
pub use restore::{plan, refresh};
pub use wish::{Selector, Wish};
