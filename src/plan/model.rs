//! The plan document as types: envelope, metadata and approvals. Pure.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::observed::Observed;
use super::preview::Preview;
use super::spec::Spec;
use super::step::{Action, Step};
use crate::duration::DurationText;
use crate::ids::{InvalidId, PlanId};

/// The largest integer of a plan: every JSON reader keeps integers up to here exact.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// A restore as a document: written by `plan restore`, reviewed, approved, executed by `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "abssctl plan")]
pub struct Plan {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What the plan does.
    pub kind: PlanKind,
    /// Who made it, when and why.
    pub metadata: Metadata,
    /// The wish. The only part to edit by hand; `abssctl plan refresh` derives the rest again.
    pub spec: Spec,
    /// What the planner saw on the machine, and `apply` compares.
    pub observed: Observed,
    /// What would change. For people; `apply` decides nothing by it.
    pub preview: Preview,
    /// The steps, as a graph.
    pub steps: Vec<Step>,
    /// Signatures over the canonical text of everything else; not part of the digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
}

impl Plan {
    /// The unit that its steps stop or start, and how long either may take; `None` where none is controlled.
    pub fn unit(&self) -> Option<(&str, &DurationText)> {
        self.steps.iter().find_map(|step| {
            if let Action::Stop(with) = &step.action {
                Some((with.unit.as_str(), &with.timeout))
            } else if let Action::Start(with) = &step.action {
                Some((with.unit.as_str(), &with.timeout))
            } else {
                None
            }
        })
    }
}

/// The version of the plan format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The first version.
    #[serde(rename = "abssctl/v1")]
    V1,
}

/// What a plan does. `PromotePlan` is reserved and refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlanKind {
    /// Puts a backup into a directory.
    RestorePlan,
    /// Puts the directory back that a run displaced.
    RollbackPlan,
}

/// Kinds that a later version will write: known, so that the message can say so.
pub const RESERVED_KINDS: [&str; 1] = ["PromotePlan"];

/// Who made the plan, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// A ULID: new for each plan and each refresh.
    pub id: PlanId,
    /// When the planner looked.
    pub created_at: Time,
    /// When `apply` starts to refuse it.
    pub expires_at: Time,
    /// Who ran the planner.
    pub created_by: CreatedBy,
    /// Why, in the words of the person who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Program and version that wrote it.
    #[schemars(length(max = 100))]
    pub generator: String,
}

/// Who ran the planner: not proven by anything; approvals are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreatedBy {
    /// A person, a CI job or the system itself.
    pub r#type: ActorType,
    /// Login name.
    #[schemars(length(max = 200))]
    pub name: String,
}

/// What kind of actor runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActorType {
    /// A person.
    User,
    /// A CI job.
    Ci,
    /// The system: a timer, a boot job.
    System,
}

/// One person's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// Who, as the allowed-signers file names them.
    #[schemars(length(max = 200))]
    pub principal: String,
    /// `SHA256:…` as OpenSSH prints it.
    #[schemars(length(max = 200))]
    pub key_fingerprint: String,
    /// When, as the signer said.
    pub signed_at: Time,
    /// Armored SSHSIG over the canonical text, namespace `abssctl-plan@v1`.
    #[schemars(length(max = 16384))]
    pub signature: String,
}

/// A time in whole seconds, UTC: `2026-11-24T02:26:32Z` and no other form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(Timestamp);

impl Time {
    /// The point in time.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl From<Timestamp> for Time {
    /// Cuts to whole seconds.
    fn from(time: Timestamp) -> Self {
        Self(Timestamp::from_second(time.as_second()).unwrap_or(time))
    }
}

impl TryFrom<String> for Time {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        match text.parse::<Timestamp>() {
            Ok(time) if time.to_string() == text && text.len() == 20 => Ok(Self(time)),
            Ok(_) | Err(_) => {
                let expected = "a time that exists, in UTC, of the form 2026-11-24T02:26:32Z, until 9999-12-30T22:00:00Z";
                Err(InvalidId { value: text, expected })
            }
        }
    }
}

impl From<Time> for String {
    fn from(time: Time) -> String {
        time.to_string()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A time in whole seconds, UTC.",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
        })
    }
}
