//! Holds a receipt against itself, against a plan, and against the run's directory where that is on this
//! machine. A receipt is not signed: whoever can change all three together is not found out. Reads only.

use serde_json::Value;

use super::build::{build_at, file, kept_plan};
use super::error::ReceiptError;
use super::model::{ApprovalPart, Receipt};
use crate::context::Context;
use crate::ids::{RunId, Sha256};
use crate::plan::approval::Claim;
use crate::plan::approval::sshsig::{self, MAX_ARMOR, SshSig};
use crate::plan::canonical;
use crate::plan::model::Plan;
use crate::run::journal;
use crate::run::state::{Outcome, RunState, Signature};

/// What a run's directory said of a receipt: nothing else than the receipt.
#[derive(Debug)]
pub struct RunFound {
    /// How many records the journal has now.
    pub records: u64,
    /// How the run stands now, where it went on after the receipt was written; only a halted one does.
    pub went_on: Option<Option<Outcome>>,
    /// The signatures that are kept with it, whole: name or signer, and armor.
    pub signatures: Vec<(Signature, String)>,
}

/// Reads a receipt and proves that it was not changed since it was written.
///
/// # Errors
/// It is no receipt, or was changed.
pub fn read(name: &str, bytes: &[u8]) -> Result<Receipt, ReceiptError> {
    let unreadable =
        |error: serde_json::Error| ReceiptError::Unreadable { name: name.to_owned(), why: error.to_string() };
    let receipt: Receipt = serde_json::from_slice(bytes).map_err(unreadable)?;
    let changed = |what| Err(ReceiptError::Changed { name: name.to_owned(), what });
    if receipt.own_digest().map_err(unreadable)? != receipt.digest {
        return changed("digest");
    }
    if receipt.own_checksum().map_err(unreadable)? != receipt.checksum {
        return changed("checksum");
    }
    Ok(receipt)
}

/// Proves that a receipt is of this plan and says of it what it says.
///
/// # Errors
/// It is of another plan, or says something else of it.
pub fn against_plan(name: &str, receipt: &Receipt, plan: &Plan) -> Result<(), ReceiptError> {
    let of = &receipt.plan;
    let digest = canonical::digest(plan).ok();
    if of.id != plan.metadata.id || Some(of.digest) != digest {
        let (id, digest) = (of.id.clone(), of.digest);
        return Err(ReceiptError::OtherPlan { name: name.to_owned(), id, digest });
    }
    let (metadata, spec) = (&plan.metadata, &plan.spec);
    let steps = receipt.steps.iter().map(|step| (&step.id, step.kind));
    let same = [
        ("plan.createdAt", of.created_at == metadata.created_at),
        ("plan.createdBy", of.created_by == metadata.created_by),
        ("plan.reason", of.reason == metadata.reason),
        ("instance", receipt.instance == spec.instance),
        ("backup.id", receipt.backup.id == *spec.source.backup_id()),
        ("backup.sha256", receipt.backup.sha256 == spec.source.backup().map(|backup| backup.sha256)),
        ("rollsBack", receipt.rolls_back.as_ref() == spec.source.run().map(|run| &run.run)),
        ("target", receipt.target == spec.target.directory),
        ("live", receipt.live == spec.target.live),
        ("budgets", receipt.budgets == spec.budgets),
        ("clients", receipt.clients == spec.clients),
        ("sessions", receipt.sessions == spec.sessions),
        ("steps", steps.eq(plan.steps.iter().map(|step| (&step.id, step.kind())))),
    ];
    match same.into_iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((what, _)) => {
            Err(ReceiptError::ContradictsPlan { name: name.to_owned(), what: what.to_owned() })
        }
    }
}

/// Proves that the journal of the run has an unbroken chain with the receipt's head, that the receipt says
/// exactly what the run's directory says, and that the kept signatures are those that came with the plan.
/// `None`: the run's directory is not on this machine.
///
/// # Errors
/// One of them is not so.
pub fn against_run(cx: &Context, name: &str, receipt: &Receipt) -> Result<Option<RunFound>, ReceiptError> {
    let run = &receipt.run;
    if cx.root.dir_optional(&journal::run_directory(&cx.config, run)?)?.is_none() {
        return Ok(None);
    }
    let whole = journal::history(&cx.root, &cx.config, run, None)?;
    if let Some(damage) = whole.damage {
        return Err(damage.into());
    }
    let contradicts = |what: &str| {
        let (name, what) = (name.to_owned(), what.to_owned());
        Err(ReceiptError::ContradictsRun { name, run: run.clone(), what })
    };
    if whole.records < receipt.journal.records {
        return contradicts("journal.records");
    }
    let made = match build_at(cx, run, receipt.journal.records) {
        Err(ReceiptError::NotEnded { .. }) => return contradicts("endedAt"),
        other => other?,
    };
    if let Some(what) = difference(&made, receipt) {
        return contradicts(&what);
    }
    let signatures = kept_signatures(cx, run, &whole.state)?;
    let went_on = whole.records > receipt.journal.records;
    let now = whole.state.ended.as_ref().map(|ended| ended.outcome);
    Ok(Some(RunFound { records: whole.records, went_on: went_on.then_some(now), signatures }))
}

/// The first field of a document that is another one in the other.
fn difference(a: &Receipt, b: &Receipt) -> Option<String> {
    if a == b {
        return None;
    }
    let fields = |receipt: &Receipt| match serde_json::to_value(receipt) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (a, b) = (fields(a), fields(b));
    // An older field first: the digests differ whenever anything does.
    let other = a.keys().chain(b.keys()).find(|name| a.get(*name) != b.get(*name));
    Some(other.cloned().unwrap_or_else(|| "checksum".to_owned()))
}

/// Reads the signatures that came with the plan of a run, each as the journal knows it.
fn kept_signatures(
    cx: &Context,
    run: &RunId,
    state: &RunState,
) -> Result<Vec<(Signature, String)>, ReceiptError> {
    let Some(started) = &state.started else { return Ok(Vec::new()) };
    let plan = kept_plan(cx, run, started)?;
    let mut found = Vec::new();
    for signature in &started.signatures {
        let wrong = |why: &str| ReceiptError::KeptSignature {
            run: run.clone(),
            name: signature.file.clone().unwrap_or_else(|| format!("of {}", signature.principal)),
            why: why.to_owned(),
        };
        let armor = if let Some(name) = &signature.file {
            // What is no text grew when it was read as one.
            let bytes = cx.root.read(&file(cx, run, name)?, 4 * MAX_ARMOR as u64)?;
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        } else {
            let mut embedded = plan.approvals.iter().map(|approval| &approval.signature);
            embedded.find(|armor| Sha256::of(armor.as_bytes()) == signature.sha256).cloned()
        };
        let armor = armor.ok_or_else(|| wrong("is gone"))?;
        if Sha256::of(armor.as_bytes()) != signature.sha256 {
            return Err(wrong("is not the one that came with the plan"));
        }
        found.push((signature.clone(), armor));
    }
    Ok(found)
}

/// Looks for the signature of an approval among those that are there, and proves that it is one over the
/// plan by the key that the receipt names. `false`: it is not there. Whether the key is that person's, and
/// was then, only the allowed signers of the machine said.
///
/// # Errors
/// It is there, and proves nothing.
pub fn prove(
    name: &str,
    approval: &ApprovalPart,
    plan: &Plan,
    claims: &[Claim],
    kept: &[(Signature, String)],
) -> Result<bool, ReceiptError> {
    let wanted = |armor: &&str| Sha256::of(armor.as_bytes()) == approval.signature;
    let of_plan = claims.iter().map(|claim| claim.signature.as_str());
    let Some(armor) = of_plan.chain(kept.iter().map(|(_, armor)| armor.as_str())).find(wanted) else {
        return Ok(false);
    };
    let proven = || {
        let sig = SshSig::read(armor).ok()?;
        sig.prove(&canonical::canonical(plan).ok()?).ok()?;
        (Some(sshsig::fingerprint(sig.key())) == approval.key_fingerprint).then_some(())
    };
    match proven() {
        Some(()) => Ok(true),
        None => Err(ReceiptError::ContradictsPlan { name: name.to_owned(), what: "approvals".to_owned() }),
    }
}
