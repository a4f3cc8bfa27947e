//! Drift: how the world differs from what the planner observed, and whether the plan's policy lets it
//! be. Pure: both observations come from the caller.

use super::assets::{AssetKind, ProxyKind};
use super::gate::Gate;
use super::model::Plan;
use super::observed::{Observed, ObservedBudget, ObservedTarget, Presence};
use super::preview::{Preview, Verdict};
use super::spec::DriftPolicy;

/// One way in which the world differs from the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A stable name of what differs.
    pub code: &'static str,
    /// What differs, in one line.
    pub message: String,
}

/// What differs, split by what the plan's policy says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// Differences that make the plan stale.
    pub refused: Vec<Difference>,
    /// Differences that are let be, and said.
    pub tolerated: Vec<Difference>,
    /// Changes that the live budgets took since the plan and that nobody reviewed.
    pub newer_changes: u64,
}

/// How much a difference weighs.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Data that a running server writes.
    Content,
    /// Another world.
    Structure,
    /// Another machine, instance, backup or target.
    Identity,
}

/// Compares what the plan observed with what is there now.
pub fn compare(plan: &Plan, now: &Observed) -> Drift {
    let mut found = Found::default();
    found.identity(&plan.observed, now);
    found.service(plan, now);
    found.server(plan, now);
    found.target(plan, &now.target);
    let newer_changes = newer_changes(plan, &now.target);
    let limit = match plan.spec.drift {
        DriftPolicy::Exact => Weight::Content,
        DriftPolicy::Structure => Weight::Structure,
        DriftPolicy::Ignore => Weight::Identity,
    };
    let mut drift = Drift { newer_changes, ..Drift::default() };
    for (weight, difference) in found.0 {
        if weight >= limit { &mut drift.refused } else { &mut drift.tolerated }.push(difference);
    }
    drift
}

/// As [`compare`], but only identity counts: for a plan with `replay: allowed` that is applied again.
pub fn compare_identity(plan: &Plan, now: &Observed) -> Drift {
    let mut found = Found::default();
    found.identity(&plan.observed, now);
    Drift { refused: found.0.into_iter().map(|(_, difference)| difference).collect(), ..Drift::default() }
}

#[derive(Default)]
struct Found(Vec<(Weight, Difference)>);

impl Found {
    fn add(&mut self, weight: Weight, code: &'static str, message: String) {
        self.0.push((weight, Difference { code, message }));
    }

    fn identity(&mut self, planned: &Observed, now: &Observed) {
        if planned.machine.is_some() && planned.machine != now.machine {
            self.add(
                Weight::Identity,
                "machine",
                "this is another machine than the one the plan was made on".into(),
            );
        }
        if planned.instance.registry_entry != now.instance.registry_entry {
            let message =
                "the instance's registry entry (name, domain, port, version or paths) has changed".into();
            self.add(Weight::Identity, "registry-entry", message);
        }
        if planned.instance.data_directory != now.instance.data_directory {
            let (was, is) = (&planned.instance.data_directory, &now.instance.data_directory);
            self.add(
                Weight::Identity,
                "data-directory",
                format!("the server's data directory was {was}, now it is {is}"),
            );
        }
        self.assets(planned, now);
        let entry = |observed: &Observed| observed.backup.as_ref().map(|backup| backup.index_entry);
        if planned.displaced != now.displaced {
            let message = "the old tree is not as the plan saw it, although nothing writes there".into();
            self.add(Weight::Identity, "displaced-tree", message);
        }
        if entry(planned) != entry(now) {
            self.add(Weight::Identity, "backup-entry", "the backup's entry in the index has changed".into());
        }
        // The steps follow from it (a pre-backup where there is content): with another presence they are wrong.
        if planned.target.presence != now.target.presence {
            let word = |presence| match presence {
                Presence::Absent => "absent",
                Presence::Empty => "empty",
                Presence::Content => "a directory with content",
            };
            let (was, is) = (word(planned.target.presence), word(now.target.presence));
            self.add(Weight::Identity, "target", format!("the target was {was}, now it is {is}"));
        } else if planned.target.mount_point != now.target.mount_point {
            let word = |mounted| if mounted { "a mount point" } else { "no mount point" };
            let (was, is) = (word(planned.target.mount_point), word(now.target.mount_point));
            self.add(Weight::Identity, "target", format!("the target was {was}, now it is {is}"));
        }
    }

    /// What root runs is never replaced unseen, whatever the policy says. What is there already as it is to be
    /// is no difference.
    fn assets(&mut self, planned: &Observed, now: &Observed) {
        let (Some(was), Some(is)) = (&planned.assets, &now.assets) else {
            if planned.assets.is_some() != now.assets.is_some() {
                let message = "unit and vhost could be looked at for the plan, and cannot be now";
                self.add(Weight::Identity, "assets", message.into());
            }
            return;
        };
        for (kind, was, is) in
            [(AssetKind::Unit, &was.unit, &is.unit), (AssetKind::Site, &was.site, &is.site)]
        {
            let (Some(was), Some(is)) = (was, is) else { continue };
            let kind = kind.words();
            if (&was.path, was.found_by) != (&is.path, is.found_by) {
                let message = format!(
                    "the {kind} was {} by {}, now it is {} by {}",
                    was.path, was.found_by, is.path, is.found_by
                );
                self.add(Weight::Identity, "assets", message);
            } else if was.now != is.now && is.now != was.sha256 {
                let message =
                    format!("the {kind} {} is not the one that the plan shows the difference to", is.path);
                self.add(Weight::Identity, "assets", message);
            }
        }
        if let (Some(was), Some(is)) = (&was.enabled, &is.enabled)
            && (was.path != is.path || was.now != is.now && is.now != was.wanted)
        {
            let message =
                format!("the vhost is enabled or disabled by {} otherwise than the plan shows", is.path);
            self.add(Weight::Identity, "assets", message);
        }
        if was.proxy != is.proxy {
            let word = |kind| if kind == ProxyKind::Nginx { "was there" } else { "was not there" };
            let message = format!("nginx {} for the plan, and now it is otherwise", word(was.proxy));
            self.add(Weight::Structure, "proxy", message);
        }
    }

    fn service(&mut self, plan: &Plan, now: &Observed) {
        let planned = &plan.observed;
        let live = plan.spec.target.live;
        if live && planned.service.running != now.service.running {
            let word = |running| if running { "running" } else { "stopped" };
            let (was, is) = (word(planned.service.running), word(now.service.running));
            self.add(Weight::Structure, "service", format!("the service was {was}, now it is {is}"));
        } else if live && !planned.service.is_same_unit(&now.service) {
            self.add(
                Weight::Structure,
                "service",
                "the service manager or the unit is another one, or it may not be started any more".into(),
            );
        }
        if planned.file_system != now.file_system {
            let (was, is) = (&planned.file_system.r#type, &now.file_system.r#type);
            self.add(
                Weight::Structure,
                "file-system",
                format!("the target's file system was {was}, now it is {is}"),
            );
        }
    }

    /// Another server that still opens the backup is told, and makes no plan stale.
    fn server(&mut self, plan: &Plan, now: &Observed) {
        let planned = &plan.observed;
        let (was, is) = (Gate::of(&plan.spec, planned), Gate::of(&plan.spec, now));
        let promised = plan.spec.target.live && was.verdict() != Verdict::NotChecked;
        if plan.spec.target.live && is.verdict() == Verdict::WillNot {
            // Refused as such: another plan would be too.
        } else if promised && was.verdict() != is.verdict() {
            let (then, now) = (was.why(planned), is.why(now));
            let message =
                format!("the installed server is another one: the plan says that {then}; now {now}");
            self.add(Weight::Structure, "server", message);
        } else if planned.server != now.server {
            let message =
                format!("the installed server is another one than in the plan; now {}", is.why(now));
            self.add(Weight::Content, "server-other", message);
        }
    }

    fn target(&mut self, plan: &Plan, now: &ObservedTarget) {
        let planned = &plan.observed.target;
        if planned.presence != now.presence {
            return;
        }
        // The lists too, and not the fingerprint alone: reviewers read them, and who wrote the plan could
        // have written other ones.
        let before = self.0.len();
        self.budgets(plan, planned, now);
        self.files(planned, now);
        if !same_structure(plan, now) && self.0.len() == before {
            let message = "files of the target that a server does not change are different".into();
            self.add(Weight::Structure, "target-structure", message);
        }
        if planned.structure == now.structure && planned.content == now.content && counts_differ(planned, now)
        {
            let message =
                "changes or logins are counted otherwise than the target holds: the plan was edited";
            self.add(Weight::Structure, "target-counts", message.into());
        }
        if planned.content != now.content {
            let newer = newer_changes(plan, now);
            let message = if newer > 0 {
                let plural = if newer == 1 { "change" } else { "changes" };
                format!("{newer} more {plural} than reviewed would be replaced")
            } else {
                "the data of the target has changed since the plan".into()
            };
            self.add(Weight::Content, "target-content", message);
        }
    }

    fn budgets(&mut self, plan: &Plan, planned: &ObservedTarget, now: &ObservedTarget) {
        if planned.budgets_unreadable.is_some() != now.budgets_unreadable.is_some() {
            let message =
                "the server's list of budgets could be read at one time and not at the other".into();
            self.add(Weight::Structure, "budgets-readable", message);
            return;
        }
        let named = |id: &str| named(&plan.preview, id);
        let weight = |id: &str| if plan.spec.replaces(id) { Weight::Structure } else { Weight::Content };
        for was in &planned.budgets {
            match now.budgets.iter().find(|budget| budget.id == was.id) {
                None => self.add(weight(&was.id), "budget-gone", format!("{} is gone", named(&was.id))),
                Some(is) if is.group_id != was.group_id => {
                    let message = format!("{} has another sync group: its sync was reset", named(&was.id));
                    self.add(weight(&was.id), "budget-group", message);
                }
                Some(is) if is.deleted != was.deleted => {
                    self.add(
                        weight(&was.id),
                        "budget-deleted",
                        format!("{} was deleted or undeleted", named(&was.id)),
                    );
                }
                Some(_) => {}
            }
        }
        for is in &now.budgets {
            if !planned.budgets.iter().any(|budget| budget.id == is.id) {
                self.add(weight(&is.id), "budget-new", format!("{} is new", named(&is.id)));
            }
        }
    }

    fn files(&mut self, planned: &ObservedTarget, now: &ObservedTarget) {
        for was in &planned.files {
            match now.files.iter().find(|file| file.path == was.path) {
                None => self.add(Weight::Structure, "file-gone", format!("{} is gone", was.path)),
                Some(is) if is.digest != was.digest => {
                    self.add(Weight::Structure, "file-changed", format!("{} has changed", was.path));
                }
                Some(_) => {}
            }
        }
        for is in &now.files {
            if !planned.files.iter().any(|file| file.path == is.path) {
                self.add(Weight::Structure, "file-new", format!("{} is new", is.path));
            }
        }
    }
}

/// Whether what a running server does not change is as the plan saw it. For a plan of single budgets the
/// other budgets do not count: they stay as they are, whatever they are. Beyond 100 files there is only a
/// digest of files and budgets together; then another budget that is new looks like another file.
pub fn same_structure(plan: &Plan, now: &ObservedTarget) -> bool {
    let planned = &plan.observed.target;
    if planned.structure == now.structure {
        return true;
    }
    if !plan.spec.is_single() || planned.files.is_empty() || now.files.is_empty() {
        return false;
    }
    let own = |target: &ObservedTarget| -> Vec<ObservedBudget> {
        let of = target.budgets.iter().filter(|budget| plan.spec.replaces(&budget.id));
        of.map(|budget| ObservedBudget { changes: None, ..budget.clone() }).collect()
    };
    planned.files == now.files
        && planned.budgets_unreadable.is_some() == now.budgets_unreadable.is_some()
        && own(planned) == own(now)
}

/// A budget by the name that the reviewers saw, where the plan has one.
fn named(preview: &Preview, id: &str) -> String {
    let name =
        preview.budgets.iter().find(|budget| budget.id == id).and_then(|budget| budget.name.as_deref());
    name.map_or_else(|| format!("budget {id}"), |name| format!("budget '{name}' ({id})"))
}

/// Whether what is counted in a target differs; what could not be counted at one time says nothing.
fn counts_differ(planned: &ObservedTarget, now: &ObservedTarget) -> bool {
    let differ = |was: Option<u64>, is: Option<u64>| was.zip(is).is_some_and(|(was, is)| was != is);
    differ(planned.sessions, now.sessions)
        || planned.budgets.iter().any(|was| {
            let is = now.budgets.iter().find(|budget| budget.id == was.id);
            is.is_some_and(|is| differ(was.changes, is.changes))
        })
}

/// Changes that the plan replaces and nobody reviewed.
fn newer_changes(plan: &Plan, now: &ObservedTarget) -> u64 {
    let more = |is: &ObservedBudget| {
        plan.spec.replaces(&is.id).then_some(())?;
        let was = plan.observed.target.budgets.iter().find(|budget| budget.id == is.id)?;
        Some(is.changes?.saturating_sub(was.changes?))
    };
    now.budgets.iter().filter_map(more).sum()
}
