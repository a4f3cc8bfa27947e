//! What is wrong with plans as a SARIF 2.1.0 log, the format that forges show beside the lines of a file.
//! Only builds JSON; writes and changes nothing.
//!
//! `log` is the log, `rules` describes every code that can turn up in it, `uri` names files in it.

mod log;
mod rules;
mod uri;

pub use self::log::{Checked, Log};
pub use self::rules::check_codes;
