//! The canonical text of a plan: RFC 8785 JSON of everything but `approvals`. Its SHA-256 is the plan's
//! digest, and it is what approvers sign. Pure.

use super::model::Plan;
use crate::ids::{PlanDigest, Sha256};

/// A plan that has no canonical text: never seen for a plan that was loaded or planned.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the plan has no canonical form: {0}")]
#[diagnostic(
    code(abssctl::plan::canonical),
    help("this is a defect of abssctl; please report it with the plan file")
)]
pub struct CanonicalError(#[from] serde_json::Error);

/// The canonical text, without a line break at its end.
pub fn canonical(plan: &Plan) -> Result<Vec<u8>, CanonicalError> {
    let mut unsigned = plan.clone();
    unsigned.approvals = Vec::new();
    Ok(serde_json_canonicalizer::to_vec(&serde_json::to_value(&unsigned)?)?)
}

/// The digest of the canonical text.
pub fn digest(plan: &Plan) -> Result<PlanDigest, CanonicalError> {
    Ok(PlanDigest(Sha256::of(&canonical(plan)?)))
}
