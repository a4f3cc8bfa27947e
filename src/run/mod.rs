//! Runs: what is on disk of each application of a plan. [`fact`] and [`state`] are the vocabulary and
//! the transition table, [`journal`] the file, [`list`] finds runs, [`traces`] what is left of one whose
//! journal does not tell.

mod bounded;
pub mod fact;
pub mod journal;
pub mod list;
pub mod receipt;
pub mod state;
pub mod summary;
pub mod traces;
