//! `prepare`: changes the unpacked tree as the plan wants it (`clients: reset`, `sessions: revoke`);
//! with `merge` and `keep` it stays byte for byte. What was changed is proven whole once more. Then the
//! digest of the whole tree goes into the journal: it is what will be put in place, once it is durable. Undo
//! is `extract`'s: the tree is thrown away.

use std::path::Path;

use super::context::{Done, Probe, StepContext, StepRunner, lock};
use super::error::StepError;
use super::{inspect, staging, trees};
use crate::actual::clients::{self, NewGroup};
use crate::actual::layout;
use crate::actual::whole::Lacks;
use crate::archive::DATA;
use crate::host::fs::{self, IoContext as _};
use crate::host::sqlite;
use crate::ids::AbsPath;
use crate::plan::spec::SessionPolicy;
use crate::plan::step::{Action, PrepareWith, Step};
use crate::run::fact::Side;

/// The code of `prepare`.
#[derive(Debug)]
pub struct Prepare;

impl StepRunner for Prepare {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let Action::Prepare(with) = &step.action else {
            return Err(StepError::Unavailable { kind: step.kind() });
        };
        let directory = staging::staging(cx)?;
        let mut done = if !with.clients.resets_any() && with.sessions == SessionPolicy::Keep {
            Done::new("nothing to change")
        } else {
            Done::new(change(cx, with, &directory)?)
        };
        // Where `overlay` builds another tree, that one is noted.
        if !cx.plan.spec.is_single() {
            let held = lock(&cx.shared.extracted);
            let settled =
                held.as_ref().map(|extracted| extracted.settled(Path::new(DATA))).unwrap_or_default();
            let data = staging::join(&directory, DATA)?;
            trees::note(cx, step, Side::After, &data, &settled, &mut done)?;
        }
        if let Some(syncing) = lock(&cx.shared.syncing).take() {
            syncing.wait().context("sync", cx.host.root.host_path(&directory))?;
        }
        cx.check_cancelled()?;
        Ok(done)
    }

    fn undo(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        Ok(())
    }

    fn probe(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        Ok(Probe::NotBegun)
    }
}

/// Changes the unpacked tree, proves and syncs it; says in one line what was changed.
fn change(cx: &StepContext<'_>, with: &PrepareWith, directory: &AbsPath) -> Result<String, StepError> {
    let dir = staging::existing(cx.host, directory)?
        .ok_or_else(|| StepError::Changed { what: format!("{directory} is gone") })?;
    let path = cx.host.root.host_path(directory);
    let below = Path::new(DATA).join(&cx.plan.observed.instance.data_directory);
    let data = fs::open_dir(&dir, &below).context("open", path.join(&below))?;
    let _stop = sqlite::stop_on(&cx.stop);
    let allowed = &cx.plan.spec.allow_incomplete;
    let mut parts = Vec::new();
    if with.clients.resets_any() {
        let groups: Vec<NewGroup<'_>> = with
            .groups
            .iter()
            .map(|change| NewGroup {
                budget: &change.budget,
                from: &change.from,
                to: &change.to,
                may_lack: allowed
                    .iter()
                    .any(|gap| gap.lacks == Lacks::GroupDatabase && gap.budget == change.budget),
            })
            .collect();
        clients::reset_groups(&data, &groups)?;
        parts.push(match groups.len() {
            1 => "1 budget has a new sync group".to_owned(),
            count => format!("{count} budgets have a new sync group"),
        });
    }
    if with.sessions == SessionPolicy::Revoke {
        clients::revoke_sessions(&data)?;
        parts.push("all logins are ended".to_owned());
    }
    // The statements ran in a database that somebody else wrote.
    sqlite::quick_check(&data, Path::new(layout::ACCOUNT))?;
    inspect::check_whole(&dir, &below, &cx.plan.spec).map_err(|error| inspect::within(&path, error))?;
    fs::sync_filesystem(&dir).context("sync", path)?;
    Ok(parts.join(", "))
}
