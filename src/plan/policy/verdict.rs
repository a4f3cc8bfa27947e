//! The verdict: what `plan check` shows, `apply` goes by, and the journal keeps. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::state::restore_config::Source;

/// What the policy says of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verdict {
    /// The file that was judged by; absent where there is none, and nothing is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Names of the rules for the plan's instance, in the order of the file.
    pub rules: Vec<String>,
    /// How many people must have approved.
    pub required_approvals: u32,
    /// The people whose approval counts.
    pub approvers: Vec<String>,
    /// Whether the plan may be applied.
    pub decision: Decision,
    /// Everything that stands in the way; empty where it is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// Whether a plan may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It may.
    Allowed,
    /// It may not, now.
    Refused,
}

/// One thing that a policy has against a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Finding {
    /// The rule; absent where it is not one of `rules` that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Stable name.
    pub code: FindingCode,
    /// What it is, for people.
    pub message: String,
}

/// What a policy can have against a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FindingCode {
    /// Too few people have approved.
    #[serde(rename = "approvals")]
    Approvals,
    /// Approvals are needed, and nothing says whose count.
    #[serde(rename = "no-allowed-signers")]
    NoAllowedSigners,
    /// `spec.clients` is not allowed.
    #[serde(rename = "policy-clients")]
    Clients,
    /// `spec.sessions` is not allowed.
    #[serde(rename = "policy-sessions")]
    Sessions,
    /// `spec.preBackup.mode` is not allowed.
    #[serde(rename = "policy-pre-backup")]
    PreBackup,
    /// `spec.drift` is not allowed.
    #[serde(rename = "policy-drift")]
    Drift,
    /// `spec.replay` is not allowed.
    #[serde(rename = "policy-replay")]
    Replay,
    /// `spec.assets` is not allowed.
    #[serde(rename = "policy-assets")]
    Assets,
    /// `spec.onFailure` is not allowed.
    #[serde(rename = "policy-on-failure")]
    OnFailure,
    /// The plan was made too long ago.
    #[serde(rename = "policy-plan-age")]
    PlanAge,
    /// Nothing may be restored at this time.
    #[serde(rename = "policy-freeze")]
    Freeze,
}

impl FindingCode {
    /// Its name, as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            FindingCode::Approvals => "approvals",
            FindingCode::NoAllowedSigners => "no-allowed-signers",
            FindingCode::Clients => "policy-clients",
            FindingCode::Sessions => "policy-sessions",
            FindingCode::PreBackup => "policy-pre-backup",
            FindingCode::Drift => "policy-drift",
            FindingCode::Replay => "policy-replay",
            FindingCode::Assets => "policy-assets",
            FindingCode::OnFailure => "policy-on-failure",
            FindingCode::PlanAge => "policy-plan-age",
            FindingCode::Freeze => "policy-freeze",
        }
    }
}

impl Verdict {
    /// In one line, for people: which file and rules it was, and what they say. `None` without a file.
    pub fn summary(&self) -> Option<String> {
        let path = &self.source.as_ref()?.path;
        let rules = match self.rules.as_slice() {
            [] => "no rule for this instance".to_owned(),
            [one] => format!("rule {one}"),
            many => format!("rules {}", many.join(", ")),
        };
        let decision = match self.decision {
            Decision::Allowed => "allowed",
            Decision::Refused => "refused",
        };
        Some(format!("{path}, {rules}: {decision}"))
    }
}
