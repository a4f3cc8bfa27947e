//! Reads the machine and writes a plan; changes nothing. [`look`] puts what the machine shows into a
//! document of facts, with [`compare`] for what would change; [`collect`] does so for many backups.
//! [`known`] is what a plan is made from: [`wish`] turns what was asked for into a `spec`, [`restore`]
//! assembles the plan, [`preview`] says what it would change, [`again`] whether a plan says so truly,
//! as far as [`bounds`] lets it. [`fn@all_files`] lists what a preview counts.

mod accounts;
pub mod again;
pub mod all_files;
pub mod bounds;
pub mod clients;
pub mod collect;
pub mod compare;
pub mod diffs;
pub mod error;
pub mod known;
pub mod look;
pub mod preview;
pub mod redact;
pub mod restore;
pub mod rollback;
pub mod single;
pub mod wish;

pub use again::untruths;
pub use all_files::all_files;
pub use clients::ClientsWish;
pub use collect::facts;
pub use error::PlanError;
pub use restore::{plan, plan_elsewhere, refresh, refresh_elsewhere};
pub use rollback::RollbackWish;
pub use wish::{Selector, Wish};
