//! Approvals: signatures of people over the canonical text of a plan, and who of them counts. Pure.
//!
//! [`sshsig`] is the signature, [`allowed_signers`] the list of who may sign with which key, [`judge()`]
//! puts the two together, [`detached`] names the files of signatures that lie beside a plan.

pub mod allowed_signers;
pub mod detached;
mod flaw;
mod judge;
pub mod sshsig;

pub use flaw::Flaw;
pub use judge::{Claim, Judged, Place, Policy, Standing, approvers, claims, judge};
pub use sshsig::NAMESPACE;
