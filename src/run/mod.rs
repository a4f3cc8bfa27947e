//! Runs: what is on disk of each application of a plan. [`fact`] and [`state`] are the vocabulary and
//! the transition table, [`journal`] the file, [`list`] finds runs.

mod bounded;
pub mod fact;
pub mod journal;
pub mod list;
pub mod receipt;
pub mod state;
pub mod summary;
