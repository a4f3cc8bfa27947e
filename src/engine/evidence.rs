//! The signatures that came with a plan, as a run keeps them: the detached ones as files beside the plan's
//! bytes, under names by which `plan verify` of that plan finds them. Pure; the journal writes the files.

use crate::ids::Sha256;
use crate::plan::approval::{Place, Standing, claims, detached};
use crate::plan::model::Plan;
use crate::run::journal::PLAN;
use crate::run::state::Signature;
use crate::survey::approvals::{Approvals, Evidence};

/// The files to keep: name in the run's directory, and text.
pub(super) fn kept(evidence: &Evidence) -> Vec<(String, &str)> {
    let files = evidence.detached.iter();
    let signed = files.filter(|(_, text)| is_signature(text));
    signed.filter_map(|(file, text)| Some((kept_name(&evidence.plan_name, file)?, text.as_str()))).collect()
}

/// Whether it is a signature at all, of whatever: nothing else that lies there is kept.
fn is_signature(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN SSH SIGNATURE-----")
}

/// What the name of a detached signature becomes when the plan's file is called `plan`.
fn kept_name(plan: &str, file: &str) -> Option<String> {
    detached::principal_of(plan, file).map(|principal| detached::file_name(PLAN, &principal))
}

/// What the journal notes of them: every one that is kept as a file, and those in the plan that count.
pub(super) fn signatures(plan: &Plan, evidence: &Evidence, approvals: Option<&Approvals>) -> Vec<Signature> {
    let given = claims(plan, &evidence.plan_name, evidence.detached.clone());
    // Judged in the order in which they were given; not at all where there is no list to judge them by.
    let judged = approvals.map(|approvals| approvals.judged.as_slice()).unwrap_or_default();
    let note = |(index, claim): (usize, crate::plan::approval::Claim)| {
        let judged = judged.get(index);
        let counts = judged.is_some_and(|judged| judged.standing == Standing::Counts);
        let file = match &claim.place {
            Place::Embedded => None,
            Place::Detached(file) if is_signature(&claim.signature) => kept_name(&evidence.plan_name, file),
            Place::Detached(_) => None,
        };
        (counts || file.is_some()).then(|| Signature {
            sha256: Sha256::of(claim.signature.as_bytes()),
            key_fingerprint: judged.and_then(|judged| judged.fingerprint.clone()),
            principal: claim.principal,
            signed_at: claim.signed_at,
            file,
            counts,
        })
    };
    given.into_iter().enumerate().filter_map(note).collect()
}
