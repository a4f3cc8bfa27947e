//! Runs a plan: [`apply`] is the whole of it, [`schedule`] runs steps as the graph allows, [`unwind`]
//! undoes them, [`recover`] goes on after an interruption, [`event`] tells about it; `halted` says what stands
//! where when it cannot.

pub mod apply;
pub mod event;
mod evidence;
mod halted;
pub mod log;
pub mod recover;
pub mod report;
pub mod schedule;
pub mod unwind;
