//! Assembles a restore plan: the wish, what the machine looks like, what would change, the steps.
//! Reads only: not one file is opened for writing.

use std::path::Path;

use jiff::SignedDuration;

use super::error::PlanError;
use super::preview;
use super::wish::{self, Wish};
use crate::actual::layout;
use crate::context::Context;
use crate::duration::DurationText;
use crate::host::clock;
use crate::host::machine::{Actor, ActorKind};
use crate::ids::PlanId;
use crate::plan::graph;
use crate::plan::model::{ActorType, ApiVersion, CreatedBy, Metadata, Plan, PlanKind, Time};
use crate::plan::observed::{ObservedBackup, ObservedBackupBudget};
use crate::plan::spec::{ClientPolicy, Spec};
use crate::state::backup_index::{BackupEntry, BackupIndex, entry_digest};
use crate::store;
use crate::survey::archive::{self, ArchiveSurvey};
use crate::survey::observe;

/// Plans a restore.
pub fn plan(cx: &Context, wish: &Wish) -> Result<Plan, PlanError> {
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    let entry = wish::select(cx, &index, wish)?;
    let contents = look_into(cx, entry)?;
    let spec = wish::spec(cx, wish, entry, contents.manifest)?;
    let expires = wish.expires.clone().unwrap_or_else(|| cx.config.restore.plan_expires.clone());
    let metadata = metadata(cx, wish.reason.clone(), &expires);
    assemble(cx, metadata, spec, entry, &contents)
}

/// Plans again for the `spec` of a plan, which a person may have edited. Approvals are dropped: they
/// were given for another text.
pub fn refresh(cx: &Context, old: &Plan, expires: Option<&DurationText>) -> Result<Plan, PlanError> {
    let index = BackupIndex::load(&cx.root, &cx.config)?;
    let entry = index.find(&old.spec.source.backup_id)?;
    if entry.instance != old.spec.instance {
        let (backup, owner) = (entry.id.clone(), entry.instance.clone());
        return Err(PlanError::OtherInstance { backup, owner, asked: old.spec.instance.clone() });
    }
    wish::usable(entry)?;
    let contents = look_into(cx, entry)?;
    let spec = Spec { source: wish::source(entry)?, ..old.spec.clone() };
    let (instance, _) = observe::instance(cx, &spec.instance)?;
    wish::check_target(cx, &spec.target, &spec.instance, &instance.paths.root)?;
    let metadata =
        metadata(cx, old.metadata.reason.clone(), expires.unwrap_or(&cx.config.restore.plan_expires));
    assemble(cx, metadata, spec, entry, &contents)
}

fn metadata(cx: &Context, reason: Option<String>, expires: &DurationText) -> Metadata {
    let now = clock::now();
    let lifetime = SignedDuration::from_secs(i64::try_from(expires.seconds()).unwrap_or(i64::MAX));
    let expires_at = now.checked_add(lifetime).unwrap_or(jiff::Timestamp::MAX);
    Metadata {
        id: PlanId::generate(),
        created_at: Time::from(now),
        expires_at: Time::from(expires_at),
        created_by: created_by(&cx.actor),
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

/// Reads the archive: the manifest and the account database of ours, all of the peer's.
fn look_into(cx: &Context, entry: &BackupEntry) -> Result<ArchiveSurvey, PlanError> {
    let source = wish::source(entry)?;
    store::inspect(&cx.root, &cx.config, &entry.path, entry.size_bytes, entry.sha256)?;
    let (_, instance) = observe::instance(cx, &entry.instance)?;
    let contents = archive::look(cx, &source, Path::new(&instance.data_directory))?;
    match contents.sha256 {
        Some(found) if found != entry.sha256 => {
            Err(PlanError::Checksum { path: entry.path.clone(), found, recorded: entry.sha256 })
        }
        Some(_) | None => Ok(contents),
    }
}

fn assemble(
    cx: &Context,
    metadata: Metadata,
    spec: Spec,
    entry: &BackupEntry,
    contents: &ArchiveSurvey,
) -> Result<Plan, PlanError> {
    if spec.clients == ClientPolicy::Reset && contents.account.is_none() {
        return Err(PlanError::Wish {
            what: "clients cannot be reset: the backup's list of budgets could not be read".into(),
            help: "use --clients merge".into(),
        });
    }
    let groups = contents.account.iter().flat_map(|account| &account.budgets).filter_map(|budget| {
        // An id that cannot be a part of a file name is no budget that can be restored; inspect says so.
        let group_id = budget.group_id.clone().filter(|group| layout::is_plain_id(group))?;
        layout::is_plain_id(&budget.id).then_some(())?;
        Some(ObservedBackupBudget { id: budget.id.clone(), group_id })
    });
    let backup = ObservedBackup {
        index_entry: entry_digest(entry),
        manifest: contents.manifest,
        entries: contents.entries,
        unpacked_bytes: contents.bytes,
        budgets: groups.collect(),
    };
    let survey = observe::observe(cx, &spec, backup)?;
    wish::check_possible(&spec, &survey)?;
    let preview = preview::preview(cx, &metadata, &spec, &survey, contents)?;
    let steps = graph::default_steps(&metadata, &spec, &survey.observed)?;
    let plan = Plan {
        api_version: ApiVersion::V1,
        kind: PlanKind::RestorePlan,
        metadata,
        spec,
        observed: survey.observed,
        preview,
        steps,
        approvals: Vec::new(),
    };
    // What is written must load: an edited spec may ask for what no plan can hold.
    let broken: Vec<String> = graph::check(&plan).into_iter().map(|violation| violation.message).collect();
    if broken.is_empty() { Ok(plan) } else { Err(PlanError::Rules(broken.join("; "))) }
}
