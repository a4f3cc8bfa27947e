//! What a policy says for one instance: its settings and all rules for the instance. All of them hold
//! together, so that the strictest wins. Pure.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::verdict::{Decision, Finding, FindingCode, Source, Verdict};
use crate::duration::DurationText;
use crate::host::clock;
use crate::ids::InstanceName;
use crate::plan::clients::Clients;
use crate::plan::model::{Plan, Time};
use crate::plan::render::visible;
use crate::state::config::Config;
use crate::state::freeze::Freeze;
use crate::state::pattern::Standing;
use crate::state::restore_config::{ClientsDefault, RestoreConfig};
use crate::state::rules::{AnyOf, Rule};

/// More freezes than this do not follow one another.
const FREEZES: usize = 1000;

/// What a policy says for one instance.
#[derive(Debug, Clone)]
pub struct InForce<'c> {
    base: &'c RestoreConfig,
    source: Option<&'c Source>,
    rules: Vec<&'c Rule>,
}

/// What is known of a signature that is valid.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Who signed.
    pub principal: &'a str,
    /// All names that the list of signers has for the key.
    pub names: &'a [&'a str],
    /// When, as the signer says; nothing proves it.
    pub at: Option<Time>,
}

/// Why a valid signature does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncounted {
    /// The rule that does not count it.
    pub rule: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Uncounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule '{}' does not count it: {}", self.rule, self.why)
    }
}

impl<'c> InForce<'c> {
    /// The policy of this configuration for an instance.
    pub fn of(config: &'c Config, instance: &InstanceName) -> Self {
        Self::new(&config.restore, config.restore_source.as_ref(), instance)
    }

    /// The policy of these settings for an instance.
    pub fn new(base: &'c RestoreConfig, source: Option<&'c Source>, instance: &InstanceName) -> Self {
        let rules = base.rules.all().iter().filter(|rule| rule.is_for(instance)).collect();
        Self { base, source, rules }
    }

    /// How many approvals are needed where somebody asks for so many, and the rule that says so.
    pub fn required(&self, asked: u32) -> (u32, Option<&'c str>) {
        let mut strictest = (self.base.require_approvals.max(asked), None);
        for rule in &self.rules {
            if let Some(needed) = rule.require_approvals.filter(|needed| needed.get() > strictest.0) {
                strictest = (needed.get(), Some(rule.name.as_str()));
            }
        }
        strictest
    }

    /// Whether the plan's author may approve it.
    pub fn author_may_approve(&self) -> bool {
        self.base.author_may_approve && self.rules.iter().all(|rule| rule.author_may_approve != Some(false))
    }

    /// Why a signature that is valid does not count.
    pub fn uncounted(&self, plan: &Plan, signed: Signed<'_>, now: Timestamp) -> Option<Uncounted> {
        self.rules.iter().find_map(|rule| {
            let why = not_an_approver(rule, signed).or_else(|| too_old(rule, plan, signed.at, now))?;
            Some(Uncounted { rule: rule.name.as_str().to_owned(), why })
        })
    }

    /// What the rules have against a plan, but for its approvals.
    pub fn findings(&self, plan: &Plan, now: Timestamp) -> Vec<Finding> {
        let mut found = Vec::new();
        for rule in &self.rules {
            let finding = |code: FindingCode, message: String| Finding {
                rule: Some(rule.name.as_str().to_owned()),
                code,
                message,
            };
            found.extend(settings(rule, plan).into_iter().map(|(code, message)| finding(code, message)));
            if let Some(longest) = &rule.plan_max_age
                && is_older(plan.metadata.created_at.timestamp(), longest, now)
            {
                let (name, made) = (rule.name.as_str(), plan.metadata.created_at);
                let message =
                    format!("the plan is of {made}, and rule '{name}' takes none older than {longest}");
                found.push(finding(FindingCode::PlanAge, message));
            }
            if let Some(freeze) = rule.freezes().iter().find(|freeze| freeze.ends(now).is_some()) {
                found.push(finding(FindingCode::Freeze, self.frozen(rule, freeze, now)));
            }
        }
        found
    }

    /// From when on a rule calls the plan too old: earlier than it expires.
    pub fn too_old_from(&self, plan: &Plan) -> Option<(&'c str, Time)> {
        let made = plan.metadata.created_at.timestamp();
        let ends = self.rules.iter().filter_map(|rule| {
            let seconds = i64::try_from(rule.plan_max_age.as_ref()?.seconds()).ok()?;
            let end = made.checked_add(SignedDuration::from_secs(seconds)).ok()?;
            Some((rule.name.as_str(), Time::from(end)))
        });
        ends.filter(|(_, end)| *end < plan.metadata.expires_at).min_by_key(|(_, end)| *end)
    }

    /// Puts a verdict together.
    pub fn verdict(&self, required: u32, approvers: Vec<String>, findings: Vec<Finding>) -> Verdict {
        let decision = if findings.is_empty() { Decision::Allowed } else { Decision::Refused };
        Verdict {
            source: self.source.cloned(),
            rules: self.rules.iter().map(|rule| rule.name.as_str().to_owned()).collect(),
            required_approvals: required,
            approvers,
            decision,
            findings,
        }
    }

    fn frozen(&self, rule: &Rule, freeze: &Freeze, now: Timestamp) -> String {
        let name = rule.name.as_str();
        let again = match self.thawed(now) {
            Some(end) => format!("possible again from {} ({})", freeze.local(end), Time::from(end)),
            None => "no end is in sight".to_owned(),
        };
        format!("rule '{name}' allows no restore now, {}; {again}", visible(&freeze.to_string()))
    }

    /// When no freeze holds any more, of whichever rule; `None` where that never comes.
    fn thawed(&self, now: Timestamp) -> Option<Timestamp> {
        let mut at = now;
        for _ in 0..FREEZES {
            let freezes = self.rules.iter().flat_map(|rule| rule.freezes());
            match freezes.filter_map(|freeze| freeze.ends(at)).max() {
                Some(end) => at = end,
                None => return Some(at),
            }
        }
        None
    }
}

/// Patterns of a rule decide by the name that signed; those that take out, by every name of the key too,
/// so that nobody who is taken out comes back under another name.
fn not_an_approver(rule: &Rule, signed: Signed<'_>) -> Option<String> {
    let patterns = rule.approvers.as_ref()?;
    let taken_out = signed.names.iter().find(|name| patterns.standing(name) == Standing::TakenOut);
    match (patterns.standing(signed.principal), taken_out) {
        (Standing::In, None) => None,
        (Standing::In, Some(name)) => {
            Some(format!("its key is that of {}, who is not among the approvers", visible(name)))
        }
        (Standing::Out | Standing::TakenOut, _) => {
            Some(format!("{} is not among the approvers", visible(signed.principal)))
        }
    }
}

/// No approval is older than its plan, whose time is signed. Where the plan is older than an approval
/// may be, what the signer wrote must do.
fn too_old(rule: &Rule, plan: &Plan, at: Option<Time>, now: Timestamp) -> Option<String> {
    let longest = rule.approval_max_age.as_ref()?;
    if !is_older(plan.metadata.created_at.timestamp(), longest, now) {
        return None;
    }
    match at {
        None => Some(format!(
            "a signature beside the plan does not say when it was given, and the plan is older than {longest}: sign without --detached, or plan again"
        )),
        Some(at) if at.timestamp() > now + clock::APART => {
            Some(format!("it is said to be of {at}, in the future"))
        }
        Some(at) if is_older(at.timestamp(), longest, now) => {
            Some(format!("it is of {at}, older than {longest}"))
        }
        Some(_) => None,
    }
}

fn is_older(time: Timestamp, longest: &DurationText, now: Timestamp) -> bool {
    let age = now.as_second().saturating_sub(time.as_second());
    u64::try_from(age).is_ok_and(|age| age > longest.seconds())
}

/// The settings of a plan that a rule does not allow.
fn settings(rule: &Rule, plan: &Plan) -> Vec<(FindingCode, String)> {
    let (spec, name) = (&plan.spec, rule.name.as_str());
    // A rollback changes nothing in what comes back: there is nothing to choose, and nothing to forbid.
    let chosen = !spec.is_rollback();
    let allowed_clients = rule.clients.as_ref().filter(|_| chosen);
    let allowed_sessions = rule.sessions.as_ref().filter(|_| chosen);
    let allowed_assets = rule.assets.as_ref().filter(|_| chosen);
    let found = [
        (FindingCode::Clients, clients(name, &spec.clients, allowed_clients)),
        (FindingCode::Sessions, forbidden(name, "sessions", &spec.sessions, allowed_sessions)),
        (
            FindingCode::PreBackup,
            forbidden(name, "preBackup.mode", &spec.pre_backup.mode, rule.pre_backup.as_ref()),
        ),
        (FindingCode::Drift, forbidden(name, "drift", &spec.drift, rule.drift.as_ref())),
        (FindingCode::Replay, forbidden(name, "replay", &spec.replay, rule.replay.as_ref())),
        (FindingCode::Assets, forbidden(name, "assets", &spec.assets, allowed_assets)),
        (FindingCode::OnFailure, forbidden(name, "onFailure", &spec.on_failure, rule.on_failure.as_ref())),
    ];
    found.into_iter().filter_map(|(code, message)| Some((code, message?))).collect()
}

/// What holds for every budget must be allowed: what most get, and what single ones get.
fn clients(rule: &str, clients: &Clients, allowed: Option<&AnyOf<ClientsDefault>>) -> Option<String> {
    let most = clients.default_policy();
    if let Some(message) = forbidden(rule, "clients", &most, allowed) {
        return Some(message);
    }
    let first = clients.named().next()?;
    forbidden(rule, &format!("clients.budgets.{}", visible(first)), &clients.of(first), allowed)
}

/// That a value is not among those that a rule allows.
fn forbidden<T, A>(rule: &str, key: &str, value: &T, allowed: Option<&AnyOf<A>>) -> Option<String>
where
    T: From<A> + PartialEq + fmt::Display,
    A: Copy,
{
    let allowed: Vec<T> = allowed?.all().iter().map(|allowed| T::from(*allowed)).collect();
    if allowed.contains(value) {
        return None;
    }
    let allowed: Vec<String> = allowed.iter().map(T::to_string).collect();
    Some(format!("spec.{key} is {value}, and rule '{rule}' allows {} alone", allowed.join(" or ")))
}
