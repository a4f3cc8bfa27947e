//! Rules 8 and 9: what a step does follows from `spec` and `observed`, and these make sense. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::assets::ObservedAssets;
use super::super::derive::{belongs, derive};
use super::super::model::{MAX_INTEGER, Plan, PlanKind};
use super::super::observed::{Presence, ServiceManagerKind};
use super::super::spec::{
    AssetScope, OwnershipSource, ReplayPolicy, RestartPolicy, RunSource, SessionPolicy, SourceScope, Transfer,
};
use super::super::step::{Action, Step, StepKind};
use super::rule::{Rule, Violation};
use crate::actual::layout::is_plain_id;
use crate::host::fs::PRIVATE;
use crate::ids::AbsPath;

pub(super) fn check(plan: &Plan) -> Vec<Violation> {
    let mut found = steps(plan);
    found.extend(kind(plan));
    found.extend(as_it_was(plan));
    found.extend(clients(plan));
    found.extend(expiry(plan));
    found.extend(assets(plan));
    found.extend(budgets(plan));
    found.extend(service(plan));
    found.extend(target(plan));
    found.extend(data_directory(plan));
    found.extend(fingerprints(plan));
    found.extend(sorted(plan));
    if let Ok(value) = serde_json::to_value(plan) {
        integers(&value, &mut String::new(), &mut found);
    }
    found
}

/// Rule 8.
fn steps(plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, step) in plan.steps.iter().enumerate() {
        let before = found.len();
        if belongs(step.kind(), &plan.spec, &plan.observed) {
            match derive(step.kind(), &plan.metadata, &plan.spec, &plan.observed) {
                Ok(expected) => found.extend(parameters(at, step, &expected)),
                Err(error) => {
                    found.push(Violation::new(Rule::Parameters, format!("/steps/{at}"), error.to_string()));
                }
            }
        }
        let summary = step.action.summary();
        // Parameters that are wrong make the summary wrong too; one message is enough.
        if step.summary != summary && found.len() == before {
            let message =
                format!("the summary of step '{}' does not say what it does: write '{summary}'", step.id);
            found.push(Violation::new(Rule::Summary, format!("/steps/{at}/summary"), message));
        }
    }
    found
}

/// Rule 9: the kind, the source and what was seen of it go together.
fn kind(plan: &Plan) -> Vec<Violation> {
    let rollback = plan.kind == PlanKind::RollbackPlan;
    let observed = &plan.observed;
    let (word, of) = if rollback { ("RollbackPlan", "a run") } else { ("RestorePlan", "a backup") };
    let mut found = Vec::new();
    let mut wrong = |place: &str, message: String| found.push(Violation::new(Rule::Kind, place, message));
    if plan.spec.is_rollback() != rollback {
        wrong("/spec/source", format!("the source of a {word} must be {of}"));
    }
    for (place, there, wanted) in [
        ("backup", observed.backup.is_some(), !rollback),
        ("displaced", observed.displaced.is_some(), rollback),
    ] {
        if there && !wanted {
            wrong(&format!("/observed/{place}"), format!("observed.{place} has no place in a {word}"));
        } else if !there && wanted {
            wrong("/observed", format!("observed.{place} is missing, which every {word} has"));
        }
    }
    if let Some(tree) = observed.displaced.as_ref().map(|displaced| &displaced.tree)
        && (tree.presence != Presence::Content || tree.structure.is_none() || tree.content.is_none())
    {
        wrong("/observed/displaced/tree", "the old tree has content and both fingerprints".to_owned());
    }
    found
}

/// Rule 9: what a restore may change in a backup has no meaning for a tree that comes back.
fn as_it_was(plan: &Plan) -> Vec<Violation> {
    let spec = &plan.spec;
    if !spec.is_rollback() {
        return Vec::new();
    }
    let fixed = [
        ("budgets", spec.budgets.is_empty(), "no budgets"),
        ("clients", !spec.clients.resets_any(), "clients: merge"),
        ("sessions", spec.sessions == SessionPolicy::Keep, "sessions: keep"),
        ("replay", spec.replay == ReplayPolicy::Once, "replay: once"),
        ("ownership", spec.ownership.from == OwnershipSource::Kept, "from: kept"),
        ("transfer", spec.transfer == Transfer::Full, "transfer: full"),
        ("allowIncomplete", spec.allow_incomplete.is_empty(), "no allowIncomplete"),
    ];
    let wrong = fixed.into_iter().filter(|(_, fits, _)| !fits);
    wrong
        .map(|(field, _, value)| {
            let message = format!("a rollback brings the tree back as it was: write {value}");
            Violation::new(Rule::AsItWas, format!("/spec/{field}"), message)
        })
        .collect()
}

/// Rule 9: budgets that `spec.clients` names are in the backup and have a sync group.
fn clients(plan: &Plan) -> Vec<Violation> {
    let known = |id: &str| plan.observed.groups().iter().any(|budget| budget.id == id);
    let unknown = plan.spec.clients.named().filter(|id| !known(id));
    unknown
        .map(|id| {
            let message =
                format!("spec.clients names budget '{id}', which the backup does not hold with a sync group");
            Violation::new(Rule::Clients, "/spec/clients", message)
        })
        .collect()
}

fn parameters(at: usize, step: &Step, expected: &Action) -> Vec<Violation> {
    let given = &step.action;
    if given == expected {
        return Vec::new();
    }
    let fields = |action: &Action| match action.parameters() {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    };
    let (given_fields, expected_fields) = (fields(given), fields(expected));
    let mut names: Vec<&String> = expected_fields.keys().collect();
    names.extend(given_fields.keys().filter(|name| !expected_fields.contains_key(*name)));
    let differing = names.into_iter().filter(|name| given_fields.get(*name) != expected_fields.get(*name));
    differing
        .map(|name| {
            let (given, expected) = (given_fields.get(name), expected_fields.get(name));
            let place = if given.is_some() {
                format!("/steps/{at}/with/{name}")
            } else {
                format!("/steps/{at}/with")
            };
            let (id, given, expected) = (&step.id, short(given), short(expected));
            let message = format!("{name} of step '{id}' is {given} where spec and observed say {expected}");
            Violation::new(Rule::Parameters, place, message)
        })
        .collect()
}

/// A value in few characters.
fn short(value: Option<&Value>) -> String {
    let Some(value) = value else { return "absent".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= 120 { text } else { text.chars().take(117).chain("...".chars()).collect() }
}

fn expiry(plan: &Plan) -> Option<Violation> {
    let (made, expires) = (plan.metadata.created_at, plan.metadata.expires_at);
    (expires <= made).then(|| {
        let message = format!("the plan expires at {expires}, which is not after it was made ({made})");
        Violation::new(Rule::Expiry, "/metadata/expiresAt", message)
    })
}

fn assets(plan: &Plan) -> Option<Violation> {
    let seen = plan.observed.assets.as_ref();
    let why = if plan.spec.assets == AssetScope::Data {
        let message = "observed.assets has no place where spec.assets is data".to_owned();
        return seen.map(|_| Violation::new(Rule::Assets, "/observed/assets", message));
    } else if plan.spec.source.backup().is_some_and(|backup| backup.scope == SourceScope::Data) {
        "spec.source.scope is data: the archive has neither unit nor vhost"
    } else if !plan.spec.target.live {
        "spec.target.live is false: unit and vhost belong to the live instance"
    } else if let Some(seen) = seen {
        return asset_files(seen, plan.spec.is_rollback())
            .map(|message| Violation::new(Rule::Assets, "/observed/assets", message.to_owned()));
    } else {
        "observed.assets is missing, which says what is there"
    };
    Some(Violation::new(
        Rule::Assets,
        "/spec/assets",
        format!("unit and vhost cannot be restored, since {why}"),
    ))
}

/// What is wrong with the files that come.
fn asset_files(seen: &ObservedAssets, rollback: bool) -> Option<&'static str> {
    if seen.files().next().is_none() {
        Some("observed.assets names neither unit nor vhost: write spec.assets: data")
    } else if seen.enabled.is_some() && seen.site.is_none() {
        Some("observed.assets enables a vhost that does not come")
    } else if !rollback && seen.files().any(|(_, file)| file.sha256.is_none()) {
        Some("observed.assets lacks the digest of a file of the backup")
    } else if seen.enabled.as_ref().is_some_and(|link| !link.wanted) && !rollback {
        Some("observed.assets disables a vhost, which only a rollback may do")
    } else {
        None
    }
}

/// Single budgets: everything else is taken from the live tree, so that this must be there and whole, and
/// what is about all of the server has no place.
fn budgets(plan: &Plan) -> Vec<Violation> {
    let (spec, target) = (&plan.spec, &plan.observed.target);
    let mut found = Vec::new();
    if !spec.is_single() {
        return found;
    }
    let mut wrong = |place: &str, message: &str| {
        found.push(Violation::new(
            Rule::Budgets,
            place,
            format!("spec.budgets names single budgets, but {message}"),
        ));
    };
    if !spec.target.live {
        wrong(
            "/spec/target/live",
            "the target is not the instance's own directory, from which all else is taken",
        );
    }
    if target.presence != Presence::Content || target.budgets_unreadable.is_some() {
        wrong("/observed/target", "the live server's list of budgets could not be read");
    }
    if spec.sessions != SessionPolicy::Keep {
        wrong("/spec/sessions", "the logins of the live server stay as they are: write sessions: keep");
    }
    if spec.assets != AssetScope::Data {
        wrong("/spec/assets", "unit and vhost belong to the whole instance: write assets: data");
    }
    let mut seen = BTreeSet::new();
    for (at, budget) in spec.budgets.iter().enumerate() {
        if !is_plain_id(&budget.id) || !seen.insert(&budget.id) {
            wrong(&format!("/spec/budgets/{at}/id"), "this id is no plain id, or is there twice");
        }
        if let Some(copy) = &budget.copy_as
            && (spec.budgets.len() > 1
                || copy.name.trim().is_empty()
                || copy.name.chars().any(char::is_control))
        {
            let message = "copyAs needs a plain name, and is for one budget alone";
            wrong(&format!("/spec/budgets/{at}/copyAs"), message);
        }
    }
    found
}

fn service(plan: &Plan) -> Option<Violation> {
    let service = &plan.observed.service;
    let used =
        [StepKind::Stop, StepKind::Start].iter().any(|kind| belongs(*kind, &plan.spec, &plan.observed));
    let starts = belongs(StepKind::Start, &plan.spec, &plan.observed);
    let unit_that;
    // A wish that no step fulfils would be passed over in silence.
    let wished = plan.spec.service.restart == RestartPolicy::Always && plan.spec.target.live;
    let missing = if !used && !wished {
        return None;
    } else if service.manager == ServiceManagerKind::None {
        "no service manager was observed"
    } else if service.unit.is_none() {
        "no unit was observed"
    } else if let Some(trouble) = service.trouble.filter(|trouble| trouble.prevents_start() && starts) {
        unit_that = format!("its unit {}", trouble.words());
        &unit_that
    } else {
        return None;
    };
    let message = format!("the service is to be stopped or started, but {missing}");
    Some(Violation::new(Rule::ServiceManager, "/observed/service", message))
}

fn target(plan: &Plan) -> Option<Violation> {
    let directory = &plan.spec.target.directory;
    if let Some(run) = plan.spec.source.run() {
        // The tree lies beside the target, where the run put it, and nowhere else.
        return (!beside(directory, run)).then(|| {
            let message = format!(
                "{} is not where run {} keeps the old tree of {directory}; name another directory",
                run.directory, run.run
            );
            Violation::new(Rule::TargetDirectory, "/spec/source/directory", message)
        });
    }
    let archives = plan.spec.source.backup().and_then(|backup| backup.path.parent());
    let why = if directory.parent().is_none() {
        "the root directory is no target".to_owned()
    } else {
        match archives {
            None => "the archive has no directory".to_owned(),
            Some(archives) if directory.is_within(&archives) => {
                format!("{directory} lies inside {archives}, where the archive is")
            }
            Some(archives) if archives.is_within(directory) => {
                format!("{directory} contains {archives}, where the archive is")
            }
            Some(_) => return None,
        }
    };
    Some(Violation::new(
        Rule::TargetDirectory,
        "/spec/target/directory",
        format!("{why}; name another directory"),
    ))
}

/// Whether a tree lies where its run displaced it to.
fn beside(target: &AbsPath, run: &RunSource) -> bool {
    let parts = [PRIVATE, "displaced", run.run.as_str()];
    let place =
        target.parent().and_then(|parent| parts.iter().try_fold(parent, |path, part| path.join(part)).ok());
    place.is_some_and(|place| place == run.directory)
}

fn data_directory(plan: &Plan) -> Option<Violation> {
    let directory = &plan.observed.instance.data_directory;
    let ordinary = |part: &str| !part.is_empty() && part != "." && part != "..";
    let fine =
        directory == "." || (directory.split('/').all(ordinary) && !directory.chars().any(char::is_control));
    (!fine).then(|| {
        let message = format!(
            "the data directory '{directory}' must be a path relative to the instance directory, without '..' and empty parts"
        );
        Violation::new(Rule::DataDirectory, "/observed/instance/dataDirectory", message)
    })
}

fn fingerprints(plan: &Plan) -> Vec<Violation> {
    let target = &plan.observed.target;
    let content = target.presence == Presence::Content;
    [("structure", target.structure.is_some()), ("content", target.content.is_some())]
        .into_iter()
        .filter(|(_, there)| *there != content)
        .map(|(name, there)| {
            let (place, why) = if there {
                (format!("/observed/target/{name}"), "is there, but the target has no content")
            } else {
                ("/observed/target".to_owned(), "is missing, but the target has content")
            };
            Violation::new(Rule::Fingerprints, place, format!("the fingerprint '{name}' {why}"))
        })
        .collect()
}

fn sorted(plan: &Plan) -> Vec<Violation> {
    let target = &plan.observed.target;
    let files: Vec<&str> = target.files.iter().map(|file| file.path.as_str()).collect();
    let live: Vec<&str> = target.budgets.iter().map(|budget| budget.id.as_str()).collect();
    let backup: Vec<&str> = plan.observed.groups().iter().map(|budget| budget.id.as_str()).collect();
    let tree = plan.observed.displaced.as_ref().map(|displaced| &displaced.tree);
    let tree_files = tree.iter().flat_map(|tree| &tree.files).map(|file| file.path.as_str()).collect();
    let tree_budgets = tree.iter().flat_map(|tree| &tree.budgets).map(|one| one.id.as_str()).collect();
    let lists = [
        ("/observed/displaced/tree/files", tree_files),
        ("/observed/displaced/tree/budgets", tree_budgets),
        ("/observed/target/files", files),
        ("/observed/target/budgets", live),
        ("/observed/backup/budgets", backup),
    ];
    let mut found = Vec::new();
    for (place, names) in lists {
        for (at, pair) in names.windows(2).enumerate().filter(|(_, pair)| pair[0] >= pair[1]) {
            let message = if pair[0] == pair[1] {
                format!("'{}' is there twice", pair[1])
            } else {
                format!("'{}' must come before '{}': the list is sorted", pair[1], pair[0])
            };
            found.push(Violation::new(Rule::Sorted, format!("{place}/{}", at + 1), message));
        }
    }
    found
}

/// Numbers anywhere in the document.
fn integers(value: &Value, place: &mut String, found: &mut Vec<Violation>) {
    let mut below = |name: &str, value: &Value| {
        let length = place.len();
        place.push('/');
        place.push_str(name);
        integers(value, place, found);
        place.truncate(length);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| below(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| below(&at.to_string(), value));
        }
        Value::Number(number) if number.as_u64().is_none_or(|number| number > MAX_INTEGER) => {
            let message = format!("the number {number} is too large to be exact for every reader");
            found.push(Violation::new(Rule::Integers, place.clone(), message));
        }
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::DriftPolicy;
    use super::super::super::testing::{
        self, consistent, sample, sample_dest, sample_with_service, with_steps,
    };
    use super::super::check;
    use super::*;

    fn broken(plan: &Plan) -> Vec<(Rule, String)> {
        check(plan).into_iter().map(|violation| (violation.rule, violation.pointer)).collect()
    }

    #[test]
    fn rule_8_every_parameter_counts() {
        let mut plan = sample();
        plan.spec.drift = DriftPolicy::Ignore;
        let plan = consistent(plan);
        assert_eq!(broken(&plan), [(Rule::Parameters, "/steps/1/with/drift".into())]);
        let mut plan = sample();
        testing::archive(&mut plan).size_bytes += 1;
        assert_eq!(broken(&plan), [(Rule::Parameters, "/steps/2/with/sizeBytes".into())]);
        assert!(
            check(&plan)[0]
                .message
                .contains("sizeBytes of step 'verify' is 187431 where spec and observed say 187432")
        );
        let mut plan = sample();
        plan.spec.pre_backup.message = None;
        assert_eq!(broken(&plan), [(Rule::Parameters, "/steps/6/with/message".into())]);
        let mut plan = sample_with_service();
        plan.metadata.id = crate::ids::PlanId::generate();
        let plan = consistent(plan);
        assert_eq!(broken(&plan), [(Rule::Parameters, "/steps/5/with/groups".into())]);
    }

    #[test]
    fn rule_8_a_step_that_cannot_be_made() {
        let mut plan = sample_with_service();
        plan.observed.instance.port = None;
        let both = ["/steps/6", "/steps/11"].map(|step| (Rule::Parameters, step.into()));
        assert_eq!(broken(&plan), both);
        // The configuration may say where it is asked.
        plan.spec.health.url = Some("https://budget.example".parse().unwrap());
        assert_eq!(broken(&with_steps(plan)), []);
    }

    #[test]
    fn rule_8_summaries() {
        let mut plan = sample();
        plan.steps[0].summary = "nothing to see here".into();
        assert_eq!(broken(&plan), [(Rule::Summary, "/steps/0/summary".into())]);
    }

    #[test]
    fn rule_9_expiry() {
        let mut plan = sample();
        plan.metadata.expires_at = plan.metadata.created_at;
        assert_eq!(broken(&plan), [(Rule::Expiry, "/metadata/expiresAt".into())]);
    }

    #[test]
    fn rule_9_assets() {
        let mut plan = sample_with_service();
        testing::archive(&mut plan).scope = SourceScope::Data;
        assert_eq!(broken(&plan), [(Rule::Assets, "/spec/assets".into())]);
        let mut plan = sample_with_service();
        plan.spec.target.live = false;
        assert_eq!(broken(&with_steps(plan)), [(Rule::Assets, "/spec/assets".into())]);
        let mut plan = sample();
        plan.observed.assets = sample_with_service().observed.assets;
        assert_eq!(broken(&with_steps(plan)), [(Rule::Assets, "/observed/assets".into())]);
        let edits: [fn(&mut ObservedAssets); 4] = [
            |seen| (seen.unit, seen.site, seen.enabled) = (None, None, None),
            |seen| seen.site = None,
            |seen| seen.unit.as_mut().unwrap().sha256 = None,
            |seen| seen.enabled.as_mut().unwrap().wanted = false,
        ];
        for edit in edits {
            let mut plan = sample_with_service();
            edit(plan.observed.assets.as_mut().unwrap());
            assert_eq!(broken(&with_steps(plan)), [(Rule::Assets, "/observed/assets".into())]);
        }
        // A machine without systemd takes the files too; that nobody is told is a check.
        let mut plan = sample_with_service();
        plan.observed.service.manager = ServiceManagerKind::None;
        plan.observed.service.running = false;
        plan.observed.service.unit = None;
        assert_eq!(broken(&with_steps(plan)), []);
    }

    #[test]
    fn rule_9_a_unit_that_cannot_be_started() {
        use super::super::super::observed::ServiceTrouble as Trouble;
        let of = |trouble, restart| {
            let mut plan = sample_with_service();
            plan.observed.service.trouble = Some(trouble);
            plan.spec.service.restart = restart;
            broken(&with_steps(consistent(plan)))
        };
        let refused = [(Rule::ServiceManager, "/observed/service".into())];
        for trouble in [Trouble::Masked, Trouble::NotFound, Trouble::NotLoaded] {
            assert_eq!(of(trouble, RestartPolicy::Auto), refused, "{trouble:?}");
            assert_eq!(of(trouble, RestartPolicy::Never), []);
        }
        assert_eq!(of(Trouble::Failed, RestartPolicy::Auto), []);
        assert_eq!(of(Trouble::Restarting, RestartPolicy::Always), []);
    }

    #[test]
    fn rule_9_service_manager() {
        let mut plan = sample();
        plan.observed.service.running = true;
        plan.observed.service.unit = Some("abssctl-budget.service".into());
        assert_eq!(broken(&with_steps(plan)), [(Rule::ServiceManager, "/observed/service".into())]);
        let mut plan = sample();
        plan.spec.service.restart = RestartPolicy::Always;
        assert_eq!(broken(&with_steps(plan)), [(Rule::ServiceManager, "/observed/service".into())]);
    }

    #[test]
    fn rule_9_target_directory() {
        for bad in ["/", "/srv", "/srv/backups/budget", "/srv/backups/budget/x"] {
            let mut plan = sample();
            plan.spec.target.directory = bad.parse().unwrap();
            assert_eq!(
                broken(&with_steps(plan)),
                [(Rule::TargetDirectory, "/spec/target/directory".into())],
                "{bad}"
            );
        }
        let mut plan = sample_dest();
        plan.spec.target.directory = "/srv/backups/budget-restored".parse().unwrap();
        assert_eq!(broken(&with_steps(plan)), []);
    }

    #[test]
    fn rule_9_data_directory() {
        for (path, fine) in [
            ("data", true),
            ("a/b", true),
            (".", true),
            ("", false),
            ("/data", false),
            ("../x", false),
            ("a/../b", false),
            ("a//b", false),
            ("a/", false),
            ("a\nb", false),
        ] {
            let mut plan = sample();
            plan.observed.instance.data_directory = path.into();
            plan.preview.rows[0].database = super::super::super::follows::account_path(&plan.observed);
            let expected: &[(Rule, String)] =
                if fine { &[] } else { &[(Rule::DataDirectory, "/observed/instance/dataDirectory".into())] };
            assert_eq!(broken(&with_steps(plan)), expected, "{path:?}");
        }
    }

    #[test]
    fn rule_9_fingerprints() {
        let mut plan = sample();
        plan.observed.target.structure = None;
        assert_eq!(broken(&plan), [(Rule::Fingerprints, "/observed/target".into())]);
        let mut plan = sample_dest();
        plan.observed.target.content = plan.spec.source.backup().map(|backup| backup.sha256);
        assert_eq!(broken(&plan), [(Rule::Fingerprints, "/observed/target/content".into())]);
    }

    #[test]
    fn rule_9_lists_are_sorted_and_unique() {
        let mut plan = sample();
        plan.observed.target.files.reverse();
        let plan = consistent(plan);
        assert_eq!(broken(&plan), [(Rule::Sorted, "/observed/target/files/1".into())]);
        let mut plan = sample();
        let twice = plan.observed.target.budgets[0].clone();
        plan.observed.target.budgets.insert(0, twice);
        let plan = consistent(plan);
        assert_eq!(broken(&plan), [(Rule::Sorted, "/observed/target/budgets/1".into())]);
    }

    #[test]
    fn rule_9_integers() {
        let mut plan = sample();
        plan.observed.space.staging_bytes = MAX_INTEGER;
        let mut plan = consistent(plan);
        assert_eq!(broken(&plan), []);
        plan.observed.space.staging_bytes += 1;
        let plan = consistent(plan);
        assert_eq!(broken(&plan), [(Rule::Integers, "/observed/space/stagingBytes".into())]);
    }
}
