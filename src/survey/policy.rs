//! What this machine's policy (`restore.yml`) says of a plan now: its approvals, its settings, its age,
//! the time of day. Reads only.

use super::approvals::{self, Approvals, Evidence};
use super::preflight::{Class, Problem};
use crate::context::Context;
use crate::host::clock;
use crate::plan::model::{Plan, Time};
use crate::plan::policy::{Finding, FindingCode, InForce, Verdict};

/// What was found.
#[derive(Debug, Clone)]
pub struct Look<'c> {
    /// Who approved the plan.
    pub approvals: Approvals,
    /// What the policy says.
    pub verdict: Verdict,
    /// The rule that calls the plan too old before it expires, and from when on.
    pub too_old_from: Option<(&'c str, Time)>,
}

/// Judges a plan, with what came with it, by the policy of this machine.
pub fn look<'c>(cx: &'c Context, plan: &Plan, evidence: &Evidence) -> Look<'c> {
    let in_force = InForce::of(&cx.config, &plan.spec.instance);
    let approvals = approvals::look(cx, plan, evidence, &in_force);
    let mut findings: Vec<Finding> = approvals.missing().into_iter().collect();
    findings.extend(in_force.findings(plan, clock::now()));
    let verdict = in_force.verdict(approvals.required, approvals.approvers.clone(), findings);
    Look { approvals, verdict, too_old_from: in_force.too_old_from(plan) }
}

/// A finding as a problem: with its class, which decides the exit code, and with what to do.
pub fn problem(finding: &Finding) -> Problem {
    let (class, help) = match finding.code {
        FindingCode::Approvals => (
            Class::Approval,
            "let others approve it: abssctl plan approve FILE\nwhy an approval does not count: abssctl plan verify FILE",
        ),
        FindingCode::NoAllowedSigners => (
            Class::Approval,
            "write down who may approve (docs/approvals.md), or name the file: allowedSigners in restore.yml",
        ),
        FindingCode::Clients
        | FindingCode::Sessions
        | FindingCode::PreBackup
        | FindingCode::Drift
        | FindingCode::Replay
        | FindingCode::Assets
        | FindingCode::OnFailure => (
            Class::Refused,
            "change it in the plan's spec, then: abssctl plan refresh FILE\nthe policy: abssctl config show",
        ),
        FindingCode::PlanAge => (Class::Stale, "make a new one: abssctl plan refresh FILE"),
        FindingCode::Freeze => (Class::Environment, "wait until then and run the command again"),
    };
    let (code, message) = (finding.code.name(), finding.message.clone());
    Problem { code, class, message, help: help.to_owned() }
}
