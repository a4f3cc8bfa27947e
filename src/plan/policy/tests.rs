//! Each limit, both sides; several rules at once.

use jiff::Timestamp;

use super::{Decision, FindingCode, InForce, Signed};
use crate::plan::clients::Clients;
use crate::plan::model::{Plan, Time};
use crate::plan::spec::ClientPolicy;
use crate::plan::testing;
use crate::state::restore_config::RestoreConfig;
use crate::state::yaml;

/// The sample is of the instance budget, made at 2026-11-24T08:00:00Z, a Tuesday, and expires a day later.
const MADE: &str = "2026-11-24T08:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn settings(text: &str) -> RestoreConfig {
    yaml::from_str(text).unwrap()
}

fn one(rule: &str) -> RestoreConfig {
    settings(&format!("rules: [{{name: r, {rule}}}]"))
}

fn of<'c>(settings: &'c RestoreConfig, plan: &Plan) -> InForce<'c> {
    InForce::new(settings, None, &plan.spec.instance)
}

/// Names of what a rule has against the sample, changed, at a time.
fn against(rule: &str, now: &str, change: impl FnOnce(&mut Plan)) -> Vec<&'static str> {
    let mut plan = testing::sample();
    change(&mut plan);
    let settings = one(rule);
    let findings = of(&settings, &plan).findings(&plan, at(now));
    assert!(findings.iter().all(|finding| finding.rule.as_deref() == Some("r")));
    findings.iter().map(|finding| finding.code.name()).collect()
}

#[test]
fn each_setting_is_allowed_or_not() {
    use crate::plan::spec::{
        AssetScope, ClientPolicy, DriftPolicy, OnFailure, PreBackupMode, ReplayPolicy, SessionPolicy,
    };
    type Change = fn(&mut Plan);
    // The limit, a code, a value that it allows, one that it does not.
    let table: [(&str, &str, Change, Change); 7] = [
        (
            "clients: [reset]",
            "policy-clients",
            |plan| plan.spec.clients = ClientPolicy::Reset.into(),
            |plan| plan.spec.clients = ClientPolicy::Merge.into(),
        ),
        (
            "sessions: [revoke]",
            "policy-sessions",
            |plan| plan.spec.sessions = SessionPolicy::Revoke,
            |plan| plan.spec.sessions = SessionPolicy::Keep,
        ),
        (
            "preBackup: [quiesced, online]",
            "policy-pre-backup",
            |plan| plan.spec.pre_backup.mode = PreBackupMode::Online,
            |plan| plan.spec.pre_backup.mode = PreBackupMode::None,
        ),
        (
            "drift: [structure, exact]",
            "policy-drift",
            |plan| plan.spec.drift = DriftPolicy::Exact,
            |plan| plan.spec.drift = DriftPolicy::Ignore,
        ),
        (
            "replay: [once]",
            "policy-replay",
            |plan| plan.spec.replay = ReplayPolicy::Once,
            |plan| plan.spec.replay = ReplayPolicy::Allowed,
        ),
        (
            "assets: [data]",
            "policy-assets",
            |plan| plan.spec.assets = AssetScope::Data,
            |plan| plan.spec.assets = AssetScope::Full,
        ),
        (
            "onFailure: [rollback]",
            "policy-on-failure",
            |plan| plan.spec.on_failure = OnFailure::Rollback,
            |plan| plan.spec.on_failure = OnFailure::Halt,
        ),
    ];
    for (rule, code, allowed, forbidden) in table {
        assert_eq!(against(rule, MADE, allowed), [""; 0], "{rule}");
        assert_eq!(against(rule, MADE, forbidden), [code], "{rule}");
        // Every other limit is none for it.
        assert_eq!(against("planMaxAge: 1d", MADE, forbidden), [""; 0], "{rule}");
    }
    let plan = testing::sample();
    let settings = one("clients: [reset]");
    let finding = of(&settings, &plan).findings(&plan, at(MADE)).remove(0);
    assert_eq!(finding.message, "spec.clients is merge, and rule 'r' allows reset alone");
}

#[test]
fn a_plan_grows_too_old_after_its_time_and_not_at_it() {
    for (now, expected) in
        [(MADE, &[][..]), ("2026-11-24T20:00:00Z", &[]), ("2026-11-24T20:00:01Z", &["policy-plan-age"])]
    {
        assert_eq!(against("planMaxAge: 12h", now, |_| {}), expected, "{now}");
    }
    // A clock that is behind makes no plan old, and no length of time is too long to be compared.
    assert_eq!(against("planMaxAge: 12h", "2020-01-01T00:00:00Z", |_| {}), [""; 0]);
    assert_eq!(against("planMaxAge: 999999999w", MADE, |_| {}), [""; 0]);
    let plan = testing::sample();
    for (rule, expected) in [
        ("planMaxAge: 12h", Some("2026-11-24T20:00:00Z")),
        ("planMaxAge: 1d", None),
        ("planMaxAge: 999999999w", None),
        ("replay: [once]", None),
    ] {
        let settings = one(rule);
        let end = of(&settings, &plan).too_old_from(&plan);
        assert_eq!(end.map(|(_, end)| end.to_string()).as_deref(), expected, "{rule}");
    }
}

#[test]
fn a_freeze_says_when_the_last_of_those_that_follow_ends() {
    let settings = settings(
        "
rules:
  - name: night
    freeze: [{days: [tue], from: 22:00, until: 06:00, zone: Europe/Berlin, why: backups}]
  - name: morning
    freeze: [{days: [wed], from: 06:00, until: 08:00, zone: Europe/Berlin}]
  - name: elsewhere
    instances: [other]
    freeze: [{from: 2026-01-01T00:00, until: 2027-01-01T00:00, zone: UTC}]
",
    );
    let plan = testing::sample();
    let in_force = of(&settings, &plan);
    assert!(in_force.findings(&plan, at("2026-11-24T20:59:59Z")).is_empty());
    assert!(in_force.findings(&plan, at("2026-11-25T07:00:00Z")).is_empty());
    let findings = in_force.findings(&plan, at("2026-11-24T21:00:00Z"));
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].rule.as_deref(), findings[0].code), (Some("night"), FindingCode::Freeze));
    assert_eq!(
        findings[0].message,
        "rule 'night' allows no restore now, tue 22:00 to 06:00 Europe/Berlin (backups); possible again from \
         2026-11-25T08:00 Europe/Berlin (2026-11-25T07:00:00Z)"
    );
}

#[test]
fn a_freeze_that_never_ends_says_so() {
    let settings = one("freeze: [{from: 00:00, until: 24:00, zone: UTC}]");
    let plan = testing::sample();
    let message = of(&settings, &plan).findings(&plan, at(MADE)).remove(0).message;
    assert!(message.ends_with("no end is in sight"), "{message}");
}

#[test]
fn the_strictest_wins_and_nothing_loosens() {
    let plan = testing::sample();
    let rules = "
rules:
  - {name: all, requireApprovals: 1, clients: [merge, reset]}
  - {name: two, instances: ['bud*'], requireApprovals: 2, clients: [reset], authorMayApprove: false}
  - {name: other, instances: [Budget, budge, 'budget?'], requireApprovals: 9, replay: [allowed]}
";
    let loose = settings(rules);
    let in_force = of(&loose, &plan);
    assert_eq!(in_force.required(0), (2, Some("two")));
    assert_eq!(in_force.required(2), (2, None));
    assert_eq!(in_force.required(3), (3, None));
    assert!(!in_force.author_may_approve());
    let findings = in_force.findings(&plan, at(MADE));
    assert_eq!(findings.iter().map(|finding| finding.code.name()).collect::<Vec<_>>(), ["policy-clients"]);
    let verdict = in_force.verdict(2, vec!["anna".into()], findings);
    assert_eq!((verdict.decision, verdict.rules), (Decision::Refused, vec!["all".into(), "two".into()]));
    let strict = settings(&format!("requireApprovals: 3\nauthorMayApprove: false\n{rules}"));
    assert_eq!(of(&strict, &plan).required(1), (3, None));
    // Without a file nothing is required.
    let none = RestoreConfig::default();
    let in_force = of(&none, &plan);
    assert_eq!(in_force.required(0), (0, None));
    assert!(in_force.author_may_approve() && in_force.findings(&plan, at(MADE)).is_empty());
    let verdict = in_force.verdict(0, Vec::new(), Vec::new());
    assert_eq!((verdict.decision, verdict.summary()), (Decision::Allowed, None));
    let json = serde_json::to_value(&verdict).unwrap();
    let expected =
        serde_json::json!({ "rules": [], "requiredApprovals": 0, "approvers": [], "decision": "allowed" });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<super::Verdict>(json).unwrap(), verdict);
}

fn uncounted(settings: &RestoreConfig, signed: Signed<'_>, now: &str) -> Option<String> {
    let plan = testing::sample();
    of(settings, &plan).uncounted(&plan, signed, at(now)).map(|why| why.to_string())
}

#[test]
fn whose_approval_counts_goes_by_every_rule() {
    let settings = settings(
        "
rules:
  - {name: ops, approvers: ['*@ops.example.org', '!carl@*']}
  - {name: short, approvers: ['????@*']}
  - {name: elsewhere, instances: [other], approvers: [nobody]}
",
    );
    for (principal, names, expected) in [
        ("anna@ops.example.org", &["anna@ops.example.org"][..], None),
        (
            "anna@dev.example.org",
            &[],
            Some("rule 'ops' does not count it: anna@dev.example.org is not among the approvers"),
        ),
        ("Anna@Ops.example.org", &[], Some("rule 'ops' does not count it: Anna@Ops.example.org is not")),
        ("berta@ops.example.org", &[], Some("rule 'short' does not count it: berta@ops.example.org is not")),
        ("carl@ops.example.org", &[], Some("rule 'ops' does not count it: carl@ops.example.org is not")),
        // The list of signers lets carl's key sign under any name of the company.
        ("anna@ops.example.org", &["carl@ops.example.org"], Some("its key is that of carl@ops.example.org")),
        // Other names of a key are no obstacle, and no help.
        ("anna@ops.example.org", &["annabel@home"], None),
        ("annx@home", &["anna@ops.example.org"], Some("annx@home is not among")),
    ] {
        let signed = Signed { principal, names, at: None };
        let why = uncounted(&settings, signed, MADE);
        match expected {
            None => assert_eq!(why, None, "{principal}"),
            Some(words) => {
                assert!(why.as_deref().is_some_and(|why| why.contains(words)), "{principal}: {why:?}");
            }
        }
    }
}

#[test]
fn an_approval_is_young_where_its_plan_is_and_else_by_its_own_word() {
    let settings = one("approvalMaxAge: 3d");
    let young = "2026-11-27T08:00:00Z";
    let later = "2026-11-30T08:00:00Z";
    for (signed_at, now, expected) in [
        (None, young, None),
        // What the signer wrote does not count against a plan that is young itself.
        (Some("2020-01-01T00:00:00Z"), young, None),
        (None, "2026-11-27T08:00:01Z", Some("does not say when")),
        (Some("2026-11-27T08:00:00Z"), later, None),
        (Some("2026-11-27T07:59:59Z"), later, Some("older than 3d")),
        (Some("2026-11-30T08:05:00Z"), later, None),
        (Some("2026-11-30T08:05:01Z"), later, Some("in the future")),
    ] {
        let at = signed_at.map(|time| Time::from(at(time)));
        let why = uncounted(&settings, Signed { principal: "anna", names: &[], at }, now);
        match expected {
            None => assert_eq!(why, None, "{signed_at:?} {now}"),
            Some(words) => {
                assert!(why.as_deref().is_some_and(|why| why.contains(words)), "{signed_at:?}: {why:?}");
            }
        }
    }
}

#[test]
fn names_of_findings_are_those_of_json() {
    for code in [
        FindingCode::Approvals,
        FindingCode::NoAllowedSigners,
        FindingCode::Clients,
        FindingCode::Sessions,
        FindingCode::PreBackup,
        FindingCode::Drift,
        FindingCode::Replay,
        FindingCode::Assets,
        FindingCode::OnFailure,
        FindingCode::PlanAge,
        FindingCode::Freeze,
    ] {
        assert_eq!(serde_json::to_value(code).unwrap(), code.name());
    }
}

#[test]
fn clients_are_judged_for_every_budget() {
    let one_reset = |default: ClientPolicy, other: ClientPolicy| {
        let mut plan = testing::sample();
        let id = plan.observed.groups()[0].id.clone();
        plan.spec.clients = Clients::new(default, [(id, other)]);
        plan
    };
    let settings = settings("rules: [{name: r, clients: [reset]}]");
    let messages = |plan: &Plan| {
        of(&settings, plan)
            .findings(plan, at(MADE))
            .into_iter()
            .map(|finding| finding.message)
            .collect::<Vec<_>>()
    };
    let plan = one_reset(ClientPolicy::Merge, ClientPolicy::Reset);
    assert_eq!(messages(&plan), ["spec.clients is merge, and rule 'r' allows reset alone"]);
    let plan = one_reset(ClientPolicy::Reset, ClientPolicy::Merge);
    let id = &plan.observed.groups()[0].id;
    let expected = format!("spec.clients.budgets.{id} is merge, and rule 'r' allows reset alone");
    assert_eq!(messages(&plan), [expected]);
    assert!(messages(&one_reset(ClientPolicy::Reset, ClientPolicy::Reset)).is_empty());
}
