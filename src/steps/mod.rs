//! The step kinds: one file each, with what it changes, what its undo restores and what a crash in the
//! middle leaves. [`runner`] is the registry; adding a kind is its file and one line there.

pub mod assets;
pub mod check;
pub mod cleanup;
pub mod context;
mod entries;
pub mod error;
pub mod extract;
pub mod health;
pub mod inspect;
pub mod lock;
pub mod overlay;
pub mod pass;
pub mod pre_backup;
pub mod prepare;
pub mod record;
pub mod registry;
mod service;
mod sound;
pub mod staging;
pub mod start;
pub mod stop;
pub mod swap;
mod trees;
pub mod verify;

pub use context::{Done, Probe, StepContext, StepRunner};
pub use error::StepError;
pub use registry::runner;
