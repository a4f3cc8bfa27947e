//! Assembles a rollback plan: the tree that a run displaced comes back. The same document as a restore's,
//! made by the same code from the same facts. Reads only.

use super::error::PlanError;
use super::known::{Known, Local};
use super::look::{self, Seen};
use super::restore;
use super::wish;
use crate::context::Context;
use crate::duration::DurationText;
use crate::facts::model::Facts;
use crate::host::machine::Actor;
use crate::ids::RunId;
use crate::plan::clients::Clients;
use crate::plan::model::Plan;
use crate::plan::spec::{
    AssetScope, ClientPolicy, DriftPolicy, Health, OnFailure, Ownership, OwnershipSource, PreBackup,
    PreBackupMode, ReplayPolicy, RestartPolicy, RunSource, Service, SessionPolicy, Spec, Target, Transfer,
};
use crate::run::list;
use crate::survey::displaced::{self, Candidate, DisplacedError, Refusal};
use crate::survey::observe;
use crate::survey::preflight::{self, Problem};

/// What was asked for; `None` takes the configured default.
#[derive(Debug, Clone)]
pub struct RollbackWish {
    /// The run to undo.
    pub run: RunId,
    /// Whether unit and vhost stay as they are, also where the run replaced them.
    pub data_only: bool,
    /// When to back up what is there now.
    pub pre_backup: Option<PreBackupMode>,
    /// Message of that backup.
    pub backup_message: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// How long the plan may be applied.
    pub expires: Option<DurationText>,
    /// What to do when a step after the swap fails.
    pub on_failure: Option<OnFailure>,
    /// How much the machine may differ.
    pub drift: Option<DriftPolicy>,
    /// How long the tree that goes is kept.
    pub retain: Option<DurationText>,
}

/// Plans the rollback of a run on this machine.
pub fn plan(cx: &Context, wish: &RollbackWish) -> Result<Plan, PlanError> {
    let (candidate, seen, target) = see(cx, &wish.run)?;
    let known = Known::of_run(&seen.facts, &wish.run, &target.directory)?;
    let known = Known { local: Some(&seen.local), ..known };
    new(&cx.actor, wish, &candidate.source, target, &known)
}

/// Plans the rollback of a run on the machine where these facts were collected.
pub fn plan_elsewhere(facts: &Facts, actor: &Actor, wish: &RollbackWish) -> Result<Plan, PlanError> {
    let run = &wish.run;
    let lacks = || PlanError::Facts {
        what: format!("the facts do not tell of a tree of run {run} that could come back"),
        help: "collect them again on the machine: abssctl facts -o facts.json".to_owned(),
    };
    let tree = facts.displaced(run).ok_or_else(lacks)?;
    let own = &facts.instance(&tree.instance).ok_or_else(lacks)?.directory;
    let target = Target { live: *own == tree.directory, directory: tree.directory.clone() };
    let known = Known::of_run(facts, run, &target.directory)?;
    new(actor, wish, &tree.source, target, &known)
}

fn new(
    actor: &Actor,
    wish: &RollbackWish,
    source: &RunSource,
    target: Target,
    known: &Known<'_>,
) -> Result<Plan, PlanError> {
    let spec = spec(wish, source, target, known);
    let expires = wish.expires.as_ref().unwrap_or(&known.facts.defaults.plan_expires);
    restore::assemble(restore::metadata(actor, wish.reason.clone(), expires), spec, known)
}

/// Looks at the tree that a run displaced and at the target.
pub(super) fn see(cx: &Context, run: &RunId) -> Result<(Candidate, Seen, Target), PlanError> {
    if let Some(other) = run_of_another(cx, run)? {
        return Err(other);
    }
    let candidate = find(cx, run)?;
    let (instance, _) = observe::instance(cx, &candidate.instance)?;
    let own = instance.paths.root;
    let target = Target { live: own == candidate.target, directory: candidate.target.clone() };
    wish::check_target(cx, &target, &candidate.instance, &own)?;
    let seen = look::displaced(cx, &candidate, &target);
    // A prune takes the tree its name before it takes its files: where it is gone by now, that is what to
    // tell, not which file was missing, and what was read of it is no whole.
    drop(find(cx, run)?);
    Ok((candidate, seen?, target))
}

/// The tree that a run displaced. One that cannot be looked at is asked for again: it may be on its way out.
fn find(cx: &Context, run: &RunId) -> Result<Candidate, PlanError> {
    let mut found = displaced::find(cx, run);
    if !matches!(found, Ok(Ok(_))) {
        found = displaced::find(cx, run);
    }
    found?.map_err(refused)
}

/// An unfinished run of the same instance may have the tree in its hands.
fn run_of_another(cx: &Context, run: &RunId) -> Result<Option<PlanError>, PlanError> {
    let all = list::all(cx).map_err(DisplacedError::from)?;
    let Some(started) = all.iter().find(|one| one.id == *run).and_then(|one| one.state.started.as_ref())
    else {
        return Ok(None);
    };
    let unfinished = list::unfinished(cx, &started.instance).map_err(DisplacedError::from)?;
    Ok(unfinished.map(|other| {
        let Problem { message: what, help, .. } = preflight::unfinished(&other.id, &started.instance);
        PlanError::Rollback { what, help, undone_by: None }
    }))
}

fn refused(refusal: Refusal) -> PlanError {
    let Refusal { code: _, what, help, undone_by } = refusal;
    PlanError::Rollback { what, help, undone_by }
}

fn spec(wish: &RollbackWish, source: &RunSource, target: Target, known: &Known<'_>) -> Spec {
    let defaults = &known.facts.defaults;
    // What the run did is undone, where what it replaced is kept, unless it is not wanted.
    let assets = match known.local {
        Some(Local { assets: Ok(_), .. }) if target.live && !wish.data_only => AssetScope::Full,
        Some(_) | None => AssetScope::Data,
    };
    Spec {
        instance: known.instance.name.clone(),
        source: crate::plan::spec::Source::Run(source.clone()),
        target,
        budgets: Vec::new(),
        assets,
        pre_backup: PreBackup {
            mode: wish.pre_backup.unwrap_or(defaults.pre_backup),
            message: wish.backup_message.clone(),
        },
        clients: Clients::from(ClientPolicy::Merge),
        sessions: SessionPolicy::Keep,
        service: Service { restart: RestartPolicy::Auto },
        health: Health {
            timeout: defaults.health_timeout.clone(),
            interval: DurationText::of_seconds(1),
            url: known.instance.health.url.clone(),
            ca: known.instance.health.ca.clone(),
        },
        on_failure: wish.on_failure.unwrap_or(defaults.on_failure),
        drift: wish.drift.unwrap_or(defaults.drift),
        replay: ReplayPolicy::Once,
        transfer: Transfer::Full,
        retain: wish.retain.clone().unwrap_or_else(|| defaults.retain.clone()),
        ownership: Ownership { from: OwnershipSource::Kept, uid: 0, gid: 0 },
        allow_incomplete: Vec::new(),
    }
}
