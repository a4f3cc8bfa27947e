//! The policy of a machine (`restore.yml`) and a plan. Pure.
//!
//! [`InForce`] is what the file says for one instance, [`Verdict`] what that means for one plan. A
//! signature is judged in [`super::approval`], which asks here whose count.

mod in_force;
#[cfg(test)]
mod tests;
mod verdict;

pub use in_force::{InForce, Signed, Uncounted};
pub use verdict::{Decision, Finding, FindingCode, Source, Verdict};
