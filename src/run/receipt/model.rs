//! The receipt as a document, and its two digests. Pure.
//!
//! `digest` says what was done: it is the same for two runs that did the same, so everything is left out of
//! it that differs between two undisturbed runs. `checksum` covers all of one receipt, `digest` too.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::host::machine::Actor;
use crate::ids::{AbsPath, BackupId, InstanceName, PlanDigest, PlanId, RunId, Sha256, StepId};
use crate::plan::clients::Clients;
use crate::plan::model::{ApiVersion, CreatedBy, Time};
use crate::plan::policy::Verdict;
use crate::plan::spec::{SessionPolicy, SingleBudget};
use crate::plan::step::StepKind;
use crate::run::state::Outcome;
use crate::run::summary::StepOutcome;

/// The record of one run of a plan: written by `apply --receipt`, to be kept beside the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Receipt of a run of abssctl")]
pub struct Receipt {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What the document is.
    pub kind: ReceiptKind,
    /// The run.
    pub run: RunId,
    /// The plan that it applied.
    pub plan: PlanPart,
    /// The instance.
    pub instance: InstanceName,
    /// The backup that was restored; in a rollback, the one that the undone run had restored.
    pub backup: BackupPart,
    /// The run that was rolled back; absent in a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<RunId>,
    /// The directory that was replaced.
    pub target: AbsPath,
    /// Whether it is the one that the instance's server runs from.
    pub live: bool,
    /// Who applied the plan; not proven by anything.
    pub actor: Actor,
    /// The approvals that counted when the run began.
    pub approvals: Vec<ApprovalPart>,
    /// What the policy of the machine said; absent where the run did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Verdict>,
    /// The journal of the run.
    pub journal: JournalPart,
    /// What the directory held, before and after.
    pub tree: TreePart,
    /// The backup of the state before; null where none was made.
    pub pre_backup: Option<BackupId>,
    /// Where the replaced tree is kept; null where nothing was replaced.
    pub displaced: Option<AbsPath>,
    /// The only budgets that were restored; empty where the whole backup was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<SingleBudget>,
    /// What happens to clients with newer changes.
    pub clients: Clients,
    /// What happens to the logins in the backup.
    pub sessions: SessionPolicy,
    /// The plan's steps, in its order.
    pub steps: Vec<StepPart>,
    /// When the run began.
    pub started_at: Time,
    /// When it ended, or halted.
    pub ended_at: Time,
    /// Time without a server, in milliseconds; absent where none was stopped, or it did not answer before
    /// or since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_ms: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The program's exit code.
    pub exit_code: u8,
    /// SHA-256 of what was done: the same for each run that did the same.
    pub digest: Sha256,
    /// SHA-256 of all the rest of this document.
    pub checksum: Sha256,
}

/// What the document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReceiptKind {
    /// The record of one run.
    Receipt,
}

/// The plan of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanPart {
    /// Its id.
    pub id: PlanId,
    /// Its digest: what the approvals are signatures over.
    pub digest: PlanDigest,
    /// When it was made.
    pub created_at: Time,
    /// Who made it; not proven by anything.
    pub created_by: CreatedBy,
    /// Why, in the words of the person who asked for it; null where nobody said.
    pub reason: Option<String>,
}

/// The backup of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupPart {
    /// Its id in the index.
    pub id: BackupId,
    /// SHA-256 of its archive; absent in a rollback, which reads none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

/// An approval that counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalPart {
    /// Whose, as the allowed signers name them.
    pub principal: String,
    /// The key, as OpenSSH prints it; null where it could not be read.
    pub key_fingerprint: Option<String>,
    /// When, as the signer said; absent where nobody said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Time>,
    /// SHA-256 of the signature's armor.
    pub signature: Sha256,
}

/// The journal of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JournalPart {
    /// How many lines it has.
    pub records: u64,
    /// SHA-256 of the last line, without its line break. Each line holds that of the line before, so this
    /// one stands for all.
    pub head: Sha256,
}

/// SHA-256 over the listing of a whole tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TreePart {
    /// The tree that was replaced; null where there was none, or where it is not known.
    pub before: Option<Sha256>,
    /// The tree that was put in place; null where none was, or where it is not known.
    pub after: Option<Sha256>,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepPart {
    /// Its id in the plan.
    pub id: StepId,
    /// Its kind.
    pub kind: StepKind,
    /// What became of it.
    pub outcome: StepOutcome,
    /// When it began; null where it did not.
    pub started_at: Option<Time>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// Fields whose values differ between two undisturbed runs of the same plan on the same machine.
const OF_ONE_RUN: [&str; 5] = ["run", "journal", "startedAt", "endedAt", "downtimeMs"];

/// No receipt is larger.
pub const MAX_BYTES: u64 = 16 << 20;

impl Receipt {
    /// Computes both digests.
    ///
    /// # Errors
    /// Never seen: a receipt has a canonical form.
    pub fn seal(&mut self) -> Result<(), serde_json::Error> {
        self.digest = self.own_digest()?;
        self.checksum = self.own_checksum()?;
        Ok(())
    }

    /// SHA-256 over the canonical JSON (RFC 8785) of what was done: without `digest`, `checksum`, `run`,
    /// `journal`, all times and durations and `actor.session`; `preBackup` and `displaced` as whether there
    /// is one.
    ///
    /// # Errors
    /// Never seen: a receipt has a canonical form.
    pub fn own_digest(&self) -> Result<Sha256, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        if let Value::Object(fields) = &mut value {
            for name in OF_ONE_RUN.iter().chain(&["digest", "checksum"]) {
                fields.shift_remove(*name);
            }
            fields.insert("preBackup".to_owned(), json!(self.pre_backup.is_some()));
            fields.insert("displaced".to_owned(), json!(self.displaced.is_some()));
            if let Some(Value::Object(actor)) = fields.get_mut("actor") {
                actor.shift_remove("session");
            }
            for step in fields.get_mut("steps").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Value::Object(step) = step {
                    step.shift_remove("startedAt");
                    step.shift_remove("durationMs");
                }
            }
        }
        Ok(Sha256::of(&serde_json_canonicalizer::to_vec(&value)?))
    }

    /// SHA-256 over the canonical JSON (RFC 8785) of all but `checksum`.
    ///
    /// # Errors
    /// Never seen: a receipt has a canonical form.
    pub fn own_checksum(&self) -> Result<Sha256, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        if let Value::Object(fields) = &mut value {
            fields.shift_remove("checksum");
        }
        Ok(Sha256::of(&serde_json_canonicalizer::to_vec(&value)?))
    }

    /// The document as it is written: indented, with a line break at its end.
    ///
    /// # Errors
    /// Never seen: a receipt has a text.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// A time of the journal as receipts have it: in whole seconds.
pub(super) fn seconds(time: Timestamp) -> Time {
    Time::from(time)
}

/// The JSON Schema of receipts, as `schemas/receipt.schema.json` holds it.
pub fn schema() -> Value {
    schemars::schema_for!(Receipt).to_value()
}
