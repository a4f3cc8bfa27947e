//! Assembles a restore plan: the wish, what the machine looks like, what would change, the steps. On the
//! machine itself, or from facts that were collected there. Reads only: not one file is opened for
//! writing.

use jiff::SignedDuration;

use super::clients;
use super::error::PlanError;
use super::known::{Known, Local, Origin};
use super::look;
use super::preview;
use super::rollback;
use super::single;
use super::wish::{self, Wish};
use crate::context::Context;
use crate::duration::DurationText;
use crate::facts::model::Facts;
use crate::host::clock;
use crate::host::machine::{Actor, ActorKind};
use crate::ids::PlanId;
use crate::plan::graph;
use crate::plan::model::{ActorType, ApiVersion, CreatedBy, Metadata, Plan, PlanKind, Time};
use crate::plan::spec::{Spec, Transfer};
use crate::state::backup_index::BackupIndex;
use crate::survey::observe;

/// Plans a restore on this machine.
pub fn plan(cx: &Context, wish: &Wish) -> Result<Plan, PlanError> {
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    let entry = wish::select(cx, &index, wish)?;
    let (instance, _) = observe::instance(cx, &entry.instance)?;
    let target = wish::target(wish, &instance.paths.root)?;
    wish::check_target(cx, &target, &entry.instance, &instance.paths.root)?;
    let seen = look::one(cx, entry, &target)?;
    let known = Known::find(&seen.facts, &entry.id, &target.directory)?;
    let known = Known { local: Some(&seen.local), ..known };
    new(&cx.actor, wish, wish::spec(wish, target, &known)?, &known)
}

/// Plans a restore on the machine where these facts were collected; nothing of this one is read.
pub fn plan_elsewhere(facts: &Facts, actor: &Actor, wish: &Wish) -> Result<Plan, PlanError> {
    let backup = wish::choose(facts, wish)?;
    let instance = facts.instance(&backup.instance);
    let own = instance.map(|instance| &instance.directory).ok_or_else(|| PlanError::Facts {
        what: format!("the facts do not tell of instance {}", backup.instance),
        help: "collect them again on the machine: abssctl facts -o facts.json".into(),
    })?;
    let target = wish::target(wish, own)?;
    wish::check_live(&target, &backup.instance, own)?;
    let known = Known::find(facts, &backup.source.backup_id, &target.directory)?;
    new(actor, wish, wish::spec(wish, target, &known)?, &known)
}

fn new(actor: &Actor, wish: &Wish, spec: Spec, known: &Known<'_>) -> Result<Plan, PlanError> {
    let spec = Spec { budgets: single::chosen(wish, known)?, ..spec };
    let expires = wish.expires.as_ref().unwrap_or(&known.facts.defaults.plan_expires);
    assemble(metadata(actor, wish.reason.clone(), expires), spec, known)
}

/// Plans again for the `spec` of a plan, which a person may have edited. Approvals are dropped: they
/// were given for another text.
pub fn refresh(cx: &Context, old: &Plan, expires: Option<&DurationText>) -> Result<Plan, PlanError> {
    here_again(cx, old, |known| renewed(&cx.actor, old, expires, known)).map(|(plan, _)| plan)
}

/// As [`refresh`], by facts.
pub fn refresh_elsewhere(
    facts: &Facts,
    actor: &Actor,
    old: &Plan,
    expires: Option<&DurationText>,
) -> Result<Plan, PlanError> {
    let target = &old.spec.target;
    if let Some(source) = old.spec.source.run() {
        let known = Known::of_run(facts, &source.run, &target.directory)?;
        return again(renewed(actor, old, expires, &known), old, &known);
    }
    let id = old.spec.source.backup_id();
    let known = Known::find(facts, id, &target.directory)?;
    if let Origin::Backup(backup) = known.origin {
        wish::check_instance(id, &backup.instance, Some(&old.spec.instance))?;
        if let Some(status) = backup.unusable() {
            return Err(wish::unusable(id, status));
        }
    }
    wish::check_live(target, &old.spec.instance, &known.instance.directory)?;
    again(renewed(actor, old, expires, &known), old, &known)
}

fn renewed(actor: &Actor, old: &Plan, expires: Option<&DurationText>, known: &Known<'_>) -> Metadata {
    let expires = expires.unwrap_or(&known.facts.defaults.plan_expires);
    metadata(actor, old.metadata.reason.clone(), expires)
}

/// Looks at this machine again for the `spec` of a plan; with what only this machine knows of it.
pub fn here_again(
    cx: &Context,
    old: &Plan,
    metadata: impl FnOnce(&Known<'_>) -> Metadata,
) -> Result<(Plan, Local), PlanError> {
    look_again(cx, old, |known| again(metadata(known), old, known))
}

/// Looks at this machine again for the `spec` of a plan, and makes something of it.
pub(super) fn look_again<T>(
    cx: &Context,
    old: &Plan,
    make: impl FnOnce(&Known<'_>) -> Result<T, PlanError>,
) -> Result<(T, Local), PlanError> {
    if let Some(source) = old.spec.source.run() {
        let (_, seen, target) = rollback::see(cx, &source.run)?;
        let known = Known::of_run(&seen.facts, &source.run, &target.directory)?;
        let known = Known { local: Some(&seen.local), ..known };
        return Ok((make(&known)?, seen.local));
    }
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    let entry = index.find(old.spec.source.backup_id())?;
    wish::check_instance(&entry.id, &entry.instance, Some(&old.spec.instance))?;
    if let Some(status) = entry.unusable() {
        return Err(wish::unusable(&entry.id, status));
    }
    let target = &old.spec.target;
    let (instance, _) = observe::instance(cx, &old.spec.instance)?;
    wish::check_target(cx, target, &old.spec.instance, &instance.paths.root)?;
    let seen = look::one(cx, entry, target)?;
    let known = Known::find(&seen.facts, &entry.id, &target.directory)?;
    let known = Known { local: Some(&seen.local), ..known };
    Ok((make(&known)?, seen.local))
}

pub(super) fn again(metadata: Metadata, old: &Plan, known: &Known<'_>) -> Result<Plan, PlanError> {
    let spec = Spec { source: known.source(old.spec.transfer), ..old.spec.clone() };
    assemble(metadata, spec, known)
}

pub(super) fn metadata(actor: &Actor, reason: Option<String>, expires: &DurationText) -> Metadata {
    let now = clock::now();
    let lifetime = SignedDuration::from_secs(i64::try_from(expires.seconds()).unwrap_or(i64::MAX));
    let expires_at = now.checked_add(lifetime).unwrap_or(jiff::Timestamp::MAX);
    Metadata {
        id: PlanId::generate(),
        created_at: Time::from(now),
        expires_at: Time::from(expires_at),
        created_by: created_by(actor),
        reason,
        generator: concat!("abssctl ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn created_by(actor: &Actor) -> CreatedBy {
    let r#type = match actor.kind {
        ActorKind::User => ActorType::User,
        ActorKind::Ci => ActorType::Ci,
        ActorKind::System => ActorType::System,
    };
    CreatedBy { r#type, name: actor.name.clone() }
}

pub(super) fn assemble(metadata: Metadata, mut spec: Spec, known: &Known<'_>) -> Result<Plan, PlanError> {
    single::complete(&mut spec, known)?;
    if spec.clients.resets_any() && known.contents.rows.is_none() {
        return Err(PlanError::Wish {
            what: "clients cannot be reset: the backup's list of budgets could not be read".into(),
            help: "use --clients merge".into(),
        });
    }
    if spec.transfer == Transfer::Delta && !known.contents.manifest {
        return Err(PlanError::Wish {
            what: "only what differs cannot be transferred: the archive has no manifest to compare with"
                .into(),
            help: "leave out --transfer (spec.transfer: full)".into(),
        });
    }
    clients::check(&spec.clients, known)?;
    wish::check_assets(&spec, known)?;
    wish::check_possible(&spec, &known.instance.service)?;
    let observed = known.observed(&spec);
    let preview = preview::preview(&metadata, &spec, &observed, known);
    let steps = graph::default_steps(&metadata, &spec, &observed)?;
    let plan = Plan {
        api_version: ApiVersion::V1,
        kind: if spec.is_rollback() { PlanKind::RollbackPlan } else { PlanKind::RestorePlan },
        metadata,
        spec,
        observed,
        preview,
        steps,
        approvals: Vec::new(),
    };
    // What is written must load: an edited spec may ask for what no plan can hold, and facts may lie.
    let broken: Vec<String> = graph::check(&plan).into_iter().map(|violation| violation.message).collect();
    if broken.is_empty() { Ok(plan) } else { Err(PlanError::Rules(broken.join("; "))) }
}
