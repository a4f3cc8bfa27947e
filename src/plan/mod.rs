//! The plan document: what a restore will do, as a typed text that people review and machines execute.
//!
//! Pure: nothing here reads a file, a clock or the network. [`model`] is the document; [`spec`] the
//! wish, [`observed`] what the planner saw, [`preview`] what would change, [`step`] the steps and the
//! one function that derives them, [`follows`] what of `preview` follows from the rest, [`gate`] whether
//! the installed server opens the backup, [`assets`] unit and vhost, [`graph`] the rules that make any order safe, [`canonical`] the
//! bytes that are digested and signed, [`approval`] the signatures over them, [`source`] the text with
//! its positions, [`load`] the strict reader, [`emit`] the writer, [`render`] the views for people,
//! [`diff`] two plans compared.

pub mod accounts;
pub mod approval;
pub mod assets;
pub mod at_stake;
pub mod canonical;
pub mod clients;
pub mod derive;
pub mod diff;
pub mod drift;
pub mod emit;
pub mod follows;
pub mod gate;
pub mod graph;
mod groups;
pub mod load;
pub mod model;
pub mod observed;
pub mod policy;
pub mod preview;
pub mod render;
pub mod schema;
pub mod source;
pub mod spec;
pub mod step;
mod summary;
#[doc(hidden)]
pub mod testing;
