//! The rules of `restore.yml`: what a plan for some instances needs to be applied here. Pure.
//!
//! A rule can only tighten, and a text that cannot be meant as a rule is refused: whoever writes down a
//! limit must not go without it for a slip of the pen. So nothing is empty, null, or without effect.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::freeze::Freeze;
use super::pattern::{Patterns, Standing};
use super::restore_config::{
    ClientsDefault, DriftDefault, OnFailureDefault, PreBackupDefault, SessionsDefault,
};
use crate::duration::DurationText;
use crate::ids::InstanceName;

/// Whether a plan may be applied more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayChoice {
    /// Once.
    Once,
    /// Again with `apply --replay`.
    Allowed,
}

/// Whether unit and vhost are restored too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AssetsChoice {
    /// Files of the instance directory alone.
    Data,
    /// Unit and vhost too.
    Full,
}

/// What plans for some instances need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Its name, for messages.
    pub name: RuleName,
    /// The instances that it is for; absent: all.
    #[serde(default, deserialize_with = "instances", skip_serializing_if = "Option::is_none")]
    pub instances: Option<Patterns>,
    /// How many people must have approved.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub require_approvals: Option<NonZeroU32>,
    /// Whose approvals count.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub approvers: Option<Patterns>,
    /// `false`: the approval of the plan's author does not count.
    #[serde(default, deserialize_with = "only_false", skip_serializing_if = "Option::is_none")]
    pub author_may_approve: Option<bool>,
    /// How old an approval may be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub approval_max_age: Option<DurationText>,
    /// How old a plan may be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub plan_max_age: Option<DurationText>,
    /// What `spec.clients` may be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub clients: Option<AnyOf<ClientsDefault>>,
    /// What `spec.sessions` may be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub sessions: Option<AnyOf<SessionsDefault>>,
    /// What `spec.preBackup.mode` may be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub pre_backup: Option<AnyOf<PreBackupDefault>>,
    /// What `spec.drift` may be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub drift: Option<AnyOf<DriftDefault>>,
    /// What `spec.replay` may be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub replay: Option<AnyOf<ReplayChoice>>,
    /// What `spec.assets` may be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub assets: Option<AnyOf<AssetsChoice>>,
    /// What `spec.onFailure` may be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<AnyOf<OnFailureDefault>>,
    /// When nothing may be restored.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub freeze: Option<AnyOf<Freeze>>,
}

impl Rule {
    /// Whether it is for this instance.
    pub fn is_for(&self, instance: &InstanceName) -> bool {
        let standing = |patterns: &Patterns| patterns.standing(instance.as_str());
        self.instances.as_ref().is_none_or(|patterns| standing(patterns) == Standing::In)
    }

    /// Its freezes.
    pub fn freezes(&self) -> &[Freeze] {
        self.freeze.as_ref().map_or(&[], AnyOf::all)
    }

    /// Whether it asks for anything. Exhaustive, so that no new limit is forgotten.
    fn limits(&self) -> bool {
        let Self {
            name: _,
            instances: _,
            require_approvals,
            approvers,
            author_may_approve,
            approval_max_age,
            plan_max_age,
            clients,
            sessions,
            pre_backup,
            drift,
            replay,
            assets,
            on_failure,
            freeze,
        } = self;
        [approval_max_age.is_some(), plan_max_age.is_some(), approvers.is_some(), freeze.is_some()]
            .into_iter()
            .chain([require_approvals.is_some(), author_may_approve.is_some(), clients.is_some()])
            .chain([sessions.is_some(), pre_backup.is_some(), drift.is_some(), replay.is_some()])
            .chain([assets.is_some(), on_failure.is_some()])
            .any(|limit| limit)
    }
}

/// The rules of a file, in its order: names differ, and each limits something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AnyOf<Rule>", into = "Vec<Rule>")]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// All rules.
    pub fn all(&self) -> &[Rule] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Rules> for Vec<Rule> {
    fn from(rules: Rules) -> Self {
        rules.0
    }
}

impl TryFrom<AnyOf<Rule>> for Rules {
    type Error = String;
    fn try_from(rules: AnyOf<Rule>) -> Result<Self, String> {
        let mut names: Vec<&RuleName> = Vec::new();
        for (at, rule) in rules.all().iter().enumerate() {
            let name = &rule.name;
            if names.contains(&name) {
                return Err(format!("[{at}]: the name '{}' is there twice", name.as_str()));
            }
            if !rule.limits() {
                return Err(format!("[{at}]: the rule '{}' limits nothing", name.as_str()));
            }
            names.push(name);
        }
        Ok(Self(rules.0))
    }
}

/// The name of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleName(String);

impl RuleName {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<RuleName> for String {
    fn from(name: RuleName) -> Self {
        name.0
    }
}

impl TryFrom<String> for RuleName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if (1..=64).contains(&text.len()) && text.chars().all(known) {
            Ok(Self(text))
        } else {
            let shown = text.escape_debug();
            Err(format!("'{shown}' is no name of a rule (letters, digits, '-' and '_', at most 64)"))
        }
    }
}

/// A list that is not empty and names nothing twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<T>", bound(deserialize = "T: Deserialize<'de> + PartialEq"))]
pub struct AnyOf<T>(Vec<T>);

impl<T: PartialEq> AnyOf<T> {
    /// Whether it is in the list.
    pub fn has(&self, value: &T) -> bool {
        self.0.contains(value)
    }
}

impl<T> AnyOf<T> {
    /// All of them.
    pub fn all(&self) -> &[T] {
        &self.0
    }
}

impl<T: PartialEq> TryFrom<Vec<T>> for AnyOf<T> {
    type Error = &'static str;
    fn try_from(list: Vec<T>) -> Result<Self, &'static str> {
        if list.is_empty() {
            return Err("the list is empty; leave the key out, or name something");
        }
        let twice = list.iter().enumerate().any(|(at, value)| list[..at].contains(value));
        if twice { Err("the list names the same twice") } else { Ok(Self(list)) }
    }
}

/// A key that is there has a value: `null`, which a list becomes whose items are all commented out, is
/// none.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    match Option::<T>::deserialize(from)? {
        Some(value) => Ok(Some(value)),
        None => Err(de::Error::custom("it has no value; leave the key out, or write one")),
    }
}

fn only_false<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    match given(from)? {
        Some(true) => Err(de::Error::custom("a rule can only tighten: write false, or leave the key out")),
        other => Ok(other),
    }
}

/// Patterns that some instance can have as its name.
fn instances<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Patterns>, D::Error> {
    let patterns: Option<Patterns> = given(from)?;
    for text in patterns.iter().flat_map(Patterns::texts) {
        let sample: String = text.trim_start_matches('!').replace(['*', '?'], "a");
        if sample.parse::<InstanceName>().is_err() {
            let shown = text.escape_debug();
            return Err(de::Error::custom(format!("'{shown}' fits no name that an instance can have")));
        }
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::yaml;

    fn rules(text: &str) -> Result<Rules, String> {
        yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_survives_a_round_trip() {
        let text = "
- name: production
  instances: [\"prod-*\", \"!prod-test\"]
  requireApprovals: 2
  approvers: [\"*@ops.example.org\"]
  authorMayApprove: false
  approvalMaxAge: 3d
  planMaxAge: 7d
  clients: [reset]
  sessions: [revoke, keep]
  preBackup: [quiesced]
  drift: [structure, exact]
  replay: [once]
  assets: [data]
  onFailure: [rollback]
  freeze:
    - {from: 2026-12-20T00:00, until: 2027-01-02T06:00, zone: Europe/Berlin, why: year end}
    - {days: [mon], from: 08:00, until: 18:00, zone: UTC}
";
        let read = rules(text).unwrap();
        let written = yaml::to_pyyaml(&serde_json::to_value(&read).unwrap());
        assert_eq!(rules(&written).unwrap(), read);
        let rule = &read.all()[0];
        let is_for = |name: &str| rule.is_for(&name.parse().unwrap());
        assert!(is_for("prod-1") && !is_for("prod-test") && !is_for("Prod-1") && !is_for("test"));
        assert_eq!(rule.freezes().len(), 2);
        let all = rules("[{name: a, replay: [once]}]").unwrap();
        assert!(all.all()[0].is_for(&"x".parse().unwrap()) && all.all()[0].freezes().is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (rule, what) in [
            ("replay: [once]", "missing field `name`"),
            ("name: ''\n  replay: [once]", "no name of a rule"),
            ("name: a b\n  replay: [once]", "no name of a rule"),
            ("name: a", "limits nothing"),
            ("name: a\n  instances: ['*']", "limits nothing"),
            ("name: a\n  replay: [once]\n- name: a\n  replay: [once]", "twice"),
            ("name: a\n  replays: [once]", "unknown field `replays`"),
            ("name: a\n  requireapprovals: 1", "unknown field `requireapprovals`"),
            ("name: a\n  replay: [once]\n  replay: [allowed]", "duplicate field `replay`"),
            ("name: a\n  replay: []", "empty"),
            ("name: a\n  replay:", "replay"),
            ("name: a\n  replay: once", "expected a sequence"),
            ("name: a\n  replay: [twice]", "unknown variant `twice`"),
            ("name: a\n  replay: [once, once]", "same twice"),
            ("name: a\n  instances: []\n  replay: [once]", "empty"),
            ("name: a\n  instances:\n  replay: [once]", "instances"),
            ("name: a\n  instances: prod\n  replay: [once]", "instances"),
            ("name: a\n  instances: ['!prod']\n  replay: [once]", "only takes out"),
            ("name: a\n  instances: ['prod *']\n  replay: [once]", "fits no name"),
            ("name: a\n  instances: ['prod-[12]']\n  replay: [once]", "fits no name"),
            ("name: a\n  instances: ['-prod']\n  replay: [once]", "fits no name"),
            ("name: a\n  approvers: []", "empty"),
            ("name: a\n  approvers: ['a,b']", "comma"),
            ("name: a\n  requireApprovals: 0", "nonzero"),
            ("name: a\n  requireApprovals: -1", "requireApprovals"),
            ("name: a\n  requireApprovals: '2'", "requireApprovals"),
            ("name: a\n  requireApprovals: null", "requireApprovals"),
            ("name: a\n  authorMayApprove: true", "only tighten"),
            ("name: a\n  authorMayApprove: no", "authorMayApprove"),
            ("name: a\n  planMaxAge: 7", "planMaxAge"),
            ("name: a\n  approvalMaxAge: 3 days", "approvalMaxAge"),
            ("name: a\n  freeze: []", "empty"),
            ("name: a\n  freeze:", "freeze"),
            ("name: a\n  freeze: [{}]", "freeze[0]"),
        ] {
            let error = rules(&format!("- {rule}\n")).expect_err(rule);
            assert!(error.contains(what), "{rule}: {error}");
        }
        for empty in ["[]", "null", "~", "", "{}"] {
            assert!(rules(empty).is_err(), "{empty:?} counts as rules");
        }
    }
}
