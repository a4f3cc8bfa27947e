//! The command line: one file a command group. [`args`] is what can be typed (its doc comments are the
//! help), [`output`] writes results, [`exit`] maps errors to exit codes, in one place.

pub mod apply;
pub mod approve;
pub mod args;
pub mod backup;
pub mod backup_prune;
pub mod config;
pub mod doctor;
pub mod error;
pub mod exit;
pub mod facts;
pub mod instance;
pub mod output;
mod parse;
pub mod plan;
pub mod plan_diff;
mod plan_files;
pub mod plan_validate;
pub mod progress;
pub mod prompt;
pub mod prune;
pub mod receipt;
mod recover;
pub mod restore;
pub mod resume;
pub mod rollback;
pub mod run;
pub mod sarif;
pub mod schema;
pub mod session;
pub mod signals;
pub mod verify;

pub use session::main;
