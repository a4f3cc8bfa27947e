//! `spec.clients`: what happens to clients that hold newer changes, for all budgets or for single ones.
//! One text for one meaning: a word where all budgets are treated alike, else the word for most of them
//! and those that differ. Pure.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::spec::ClientPolicy;

/// More single budgets than this are refused: no server has them.
const MAX_BUDGETS: usize = 10_000;

/// What happens to clients with newer changes, budget by budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Clients {
    default: ClientPolicy,
    /// Only those that differ from the default.
    budgets: BTreeMap<String, ClientPolicy>,
}

/// As it stands in a document.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    All(ClientPolicy),
    Each(Each),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Each {
    default: ClientPolicy,
    budgets: BTreeMap<String, ClientPolicy>,
}

impl Clients {
    /// The same for all budgets but those that are named; one that is named for what all others get
    /// says nothing, and is left out.
    pub fn new(default: ClientPolicy, budgets: impl IntoIterator<Item = (String, ClientPolicy)>) -> Self {
        let budgets = budgets.into_iter().filter(|(_, policy)| *policy != default).collect();
        Self { default, budgets }
    }

    /// What holds for a budget.
    pub fn of(&self, budget: &str) -> ClientPolicy {
        self.budgets.get(budget).copied().unwrap_or(self.default)
    }

    /// What holds for all budgets that are not named.
    pub fn default_policy(&self) -> ClientPolicy {
        self.default
    }

    /// The ids of those that are treated otherwise than all others.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.budgets.keys().map(String::as_str)
    }

    /// Whether any budget is reset.
    pub fn resets_any(&self) -> bool {
        self.default == ClientPolicy::Reset || !self.budgets.is_empty()
    }

    /// In a few words, however many budgets are named.
    pub fn short(&self) -> String {
        let others = self.budgets.len();
        let other =
            if self.default == ClientPolicy::Merge { ClientPolicy::Reset } else { ClientPolicy::Merge };
        match others {
            0 => self.default.to_string(),
            1 => format!("{} but {other} for 1 budget", self.default),
            _ => format!("{} but {other} for {others} budgets", self.default),
        }
    }

    /// What holds for all budgets; `None` where they differ.
    pub fn for_all(&self) -> Option<ClientPolicy> {
        self.budgets.is_empty().then_some(self.default)
    }
}

impl From<ClientPolicy> for Clients {
    fn from(default: ClientPolicy) -> Self {
        Self { default, budgets: BTreeMap::new() }
    }
}

impl From<Clients> for Wire {
    fn from(clients: Clients) -> Self {
        let Clients { default, budgets } = clients;
        if budgets.is_empty() { Wire::All(default) } else { Wire::Each(Each { default, budgets }) }
    }
}

impl TryFrom<Wire> for Clients {
    type Error = String;
    fn try_from(wire: Wire) -> Result<Self, String> {
        let Each { default, budgets } = match wire {
            Wire::All(policy) => return Ok(policy.into()),
            Wire::Each(each) => each,
        };
        if budgets.is_empty() {
            return Err(format!("no budget is named; write {default} alone"));
        }
        if budgets.len() > MAX_BUDGETS {
            return Err(format!("more than {MAX_BUDGETS} budgets are named"));
        }
        if let Some((id, _)) = budgets.iter().find(|(_, policy)| **policy == default) {
            let id = id.escape_debug();
            return Err(format!("budget '{id}' is named for {default}, which all get; take it out"));
        }
        Ok(Self { default, budgets })
    }
}

/// As the command line takes it: the word for all, then single budgets.
impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.default.to_string();
        for (id, policy) in &self.budgets {
            text += &format!(", {id}={policy}");
        }
        f.pad(&text)
    }
}

impl JsonSchema for Clients {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Clients".into()
    }

    /// Two forms told apart by their type, so that an error names the field and not "none of two".
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let policy = generator.subschema_for::<ClientPolicy>();
        json_schema!({
            "description": "What happens to clients that hold changes newer than the backup: one word for all budgets, or by budget.",
            "if": { "type": "object" },
            "then": {
                "type": "object",
                "properties": {
                    "default": policy,
                    "budgets": {
                        "type": "object",
                        "description": "Budgets by id that are treated otherwise than all others; at least one.",
                        "propertyNames": { "maxLength": 200 },
                        "additionalProperties": policy
                    }
                },
                "required": ["default", "budgets"],
                "additionalProperties": false
            },
            "else": policy
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn one_meaning_has_one_text() {
        let each = json!({ "default": "merge", "budgets": { "b1": "reset" } });
        for value in [json!("merge"), json!("reset"), each.clone()] {
            let clients: Clients = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&clients).unwrap(), value);
        }
        let clients: Clients = serde_json::from_value(each).unwrap();
        assert_eq!((clients.of("b1"), clients.of("b2")), (ClientPolicy::Reset, ClientPolicy::Merge));
        assert!(clients.resets_any() && clients.for_all().is_none());
        assert_eq!(clients.to_string(), "merge, b1=reset");
        let same = |id: &str| (id.to_owned(), ClientPolicy::Merge);
        let plain = Clients::new(ClientPolicy::Merge, [same("b1"), same("b2")]);
        assert_eq!(plain, ClientPolicy::Merge.into());
        assert!(!plain.resets_any());
    }

    #[test]
    fn a_second_text_for_a_meaning_is_refused() {
        let wrong: [(Value, &str); 4] = [
            (json!({ "default": "merge", "budgets": {} }), "write merge alone"),
            (json!({ "default": "reset", "budgets": { "b1": "reset" } }), "'b1' is named for reset"),
            (json!({ "default": "merge" }), "did not match"),
            (json!({ "default": "merge", "budgets": { "b1": "reset" }, "more": 1 }), "did not match"),
        ];
        for (value, why) in wrong {
            let error = serde_json::from_value::<Clients>(value.clone()).unwrap_err().to_string();
            assert!(error.contains(why), "{value}: {error}");
        }
    }
}
