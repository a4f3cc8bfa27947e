//! Two plans compared by meaning: what the wish changed, what the world changed, what follows from
//! both. Order where it means nothing, ids and times do not count. Pure.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use similar::TextDiff;

use super::model::Plan;
use super::step::{copy_id, new_group_id};

/// What differs between two plans, by cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanDiff {
    /// What was wished otherwise.
    pub wish: Vec<Change>,
    /// What was seen otherwise although the same thing was looked at.
    pub world: Vec<Change>,
    /// What follows: steps, preview, and what was seen of another thing than before.
    pub follows: Vec<Change>,
    /// Of the document alone: ids, times, author, reason, approvals. Changes no meaning.
    pub document: Vec<Change>,
}

impl PlanDiff {
    /// Whether both plans mean the same.
    pub fn is_same(&self) -> bool {
        self.wish.is_empty() && self.world.is_empty() && self.follows.is_empty()
    }
}

/// One value that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// Where: field names with dots between them; members of lists by what identifies them, in
    /// brackets: `observed.target.budgets[b1f6…].changes`.
    pub path: String,
    /// The name of the budget that it is about, where it is about one with a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// The value in the first plan; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The value in the second plan; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Unified diff of two texts of several lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// Compares two plans.
///
/// # Errors
/// A plan cannot be written as JSON: never seen for one that was loaded.
pub fn diff(before: &Plan, after: &Plan) -> Result<PlanDiff, serde_json::Error> {
    let (old, new) = (meaning(before)?, meaning(after)?);
    let mut changes = Vec::new();
    compare("", Some(&old), Some(&new), &mut changes);
    let names = names(before, after);
    let mut diff = PlanDiff::default();
    for mut change in changes {
        change.budget = budget_of(&change.path, &names);
        let group = match cause(&change.path, before, after) {
            Cause::Wish => &mut diff.wish,
            Cause::World => &mut diff.world,
            Cause::Follows => &mut diff.follows,
            Cause::Document => &mut diff.document,
        };
        group.push(change);
    }
    Ok(diff)
}

/// Why something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Wish,
    World,
    Follows,
    Document,
}

/// What was seen of another backup, target or instance than before says nothing of the world: it
/// follows from the wish.
fn cause(path: &str, before: &Plan, after: &Plan) -> Cause {
    let (old, new) = (&before.spec, &after.spec);
    let run = |spec: &super::spec::Spec| spec.source.run().map(|run| run.run.clone());
    let same_backup = old.source.backup_id() == new.source.backup_id() && run(old) == run(new);
    let same_target = old.target.directory == new.target.directory;
    let same_instance = old.instance == new.instance;
    let seen = |same: bool| if same { Cause::World } else { Cause::Follows };
    let below = |part: &str| {
        path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    if path == "spec.source.backupId" || path == "spec.source.run" || path == "spec.target.directory" {
        Cause::Wish
    } else if below("spec.source") {
        // All but the id is what the index says of it.
        seen(same_backup)
    } else if below("spec.target") {
        seen(same_target && same_instance)
    } else if below("spec") {
        Cause::Wish
    } else if below("observed.backup") || below("observed.displaced") {
        seen(same_backup)
    } else if below("observed.space") {
        seen(same_backup && same_target && old.pre_backup.mode == new.pre_backup.mode)
    } else if below("observed.target") || below("observed.fileSystem") {
        seen(same_target)
    } else if below("observed.instance") || below("observed.service") {
        seen(same_instance)
    } else if below("observed") {
        Cause::World
    } else if below("metadata") || below("approvals") {
        Cause::Document
    } else {
        Cause::Follows
    }
}

/// The plan without what says nothing of its own: summaries and effects, which follow from a step's
/// kind and parameters, and new group ids, where they are made from the plan's id.
fn meaning(plan: &Plan) -> Result<Value, serde_json::Error> {
    let derived = |budget: &str, group: &str| group == new_group_id(&plan.metadata.id, budget);
    let fresh = Value::String("new".to_owned());
    let mut marks = Vec::new();
    for (at, budget) in plan.preview.budgets.iter().enumerate() {
        if budget.new_group_id.as_deref().is_some_and(|group| derived(&budget.id, group)) {
            marks.push(format!("/preview/budgets/{at}/newGroupId"));
        }
    }
    let mut value = serde_json::to_value(plan)?;
    for (at, step) in value["steps"].as_array().into_iter().flatten().enumerate() {
        for (group, change) in step["with"]["groups"].as_array().into_iter().flatten().enumerate() {
            let (budget, to) = (change["budget"].as_str().unwrap_or_default(), change["to"].as_str());
            if to.is_some_and(|to| derived(budget, to)) {
                marks.push(format!("/steps/{at}/with/groups/{group}/to"));
            }
        }
    }
    for mark in marks {
        if let Some(place) = value.pointer_mut(&mark) {
            *place = fresh.clone();
        }
    }
    for (id, mark) in derived_ids(plan) {
        for part in ["preview", "steps"] {
            replace(&mut value[part], &id, &mark);
        }
    }
    for step in value["steps"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        step.remove("summary");
        step.remove("effect");
    }
    Ok(value)
}

/// The ids that single budgets get by the plan's id, with what stands for them.
fn derived_ids(plan: &Plan) -> Vec<(String, String)> {
    let of = |id: &String| {
        let copy = copy_id(&plan.metadata.id, id);
        let group = |budget: &str| new_group_id(&plan.metadata.id, budget);
        [
            (group(&copy), format!("new-group-of-copy-{id}")),
            (group(id), "new".to_owned()),
            (copy, format!("copy-{id}")),
        ]
    };
    plan.spec.budgets.iter().flat_map(|one| of(&one.id)).collect()
}

/// Replaces an id wherever it stands in a value, also inside of names of files.
fn replace(value: &mut Value, id: &str, mark: &str) {
    match value {
        Value::String(text) if text.contains(id) => *text = text.replace(id, mark),
        Value::Array(all) => all.iter_mut().for_each(|one| replace(one, id, mark)),
        Value::Object(all) => all.values_mut().for_each(|one| replace(one, id, mark)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Adds what differs between two values at a place.
fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => objects(path, old, new, changes),
        (Some(Value::Array(old)), Some(Value::Array(new))) => lists(path, old, new, changes),
        // A list that is left out where it is empty.
        (Some(Value::Array(old)), None) => lists(path, old, &[], changes),
        (None, Some(Value::Array(new))) => lists(path, &[], new, changes),
        (old, new) if old == new => {}
        (old, new) => changes.push(Change {
            path: path.to_owned(),
            budget: None,
            before: old.cloned(),
            after: new.cloned(),
            diff: text_diff(old, new),
        }),
    }
}

fn objects(path: &str, old: &Map<String, Value>, new: &Map<String, Value>, changes: &mut Vec<Change>) {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        compare(&place, old.get(key), new.get(key), changes);
    }
}

/// Members of lists are the same by what identifies them, wherever they stand.
fn lists(path: &str, old: &[Value], new: &[Value], changes: &mut Vec<Change>) {
    let (old, new) = (keyed(old), keyed(new));
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        compare(&format!("{path}[{}]", key.0), old.get(key), new.get(key), changes);
    }
}

/// The members of a list by identity; of equal ones, each once more.
fn keyed(list: &[Value]) -> BTreeMap<(String, usize), Value> {
    let mut by_key = BTreeMap::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for member in list {
        let key = identity(member);
        let number = seen.entry(key.clone()).or_default();
        by_key.insert((key, *number), member.clone());
        *number += 1;
    }
    by_key
}

/// What makes a member of a list the same as one of the other plan.
fn identity(member: &Value) -> String {
    let field = |name: &str| member.get(name).and_then(Value::as_str);
    let parts: Vec<&str> = if let (Some(database), Some(table)) = (field("database"), field("table")) {
        vec![database, table]
    } else if let (Some(code), Some(message)) = (field("code"), field("message")) {
        vec![code, message]
    } else if let Some(one) =
        ["id", "path", "budget", "principal"].into_iter().find_map(field).or_else(|| member.as_str())
    {
        vec![one]
    } else {
        return member.to_string();
    };
    parts.join(" ")
}

fn text_diff(before: Option<&Value>, after: Option<&Value>) -> Option<String> {
    let (old, new) = (before?.as_str()?, after?.as_str()?);
    let several = old.lines().count() > 1 || new.lines().count() > 1;
    several.then(|| TextDiff::from_lines(old, new).unified_diff().context_radius(2).to_string())
}

/// Names of budgets by id; the second plan's where they differ.
fn names<'p>(before: &'p Plan, after: &'p Plan) -> BTreeMap<&'p str, &'p str> {
    let budgets = before.preview.budgets.iter().chain(&after.preview.budgets);
    budgets.filter_map(|budget| Some((budget.id.as_str(), budget.name.as_deref()?))).collect()
}

fn budget_of(path: &str, names: &BTreeMap<&str, &str>) -> Option<String> {
    let key = path.split_once("udgets[").or_else(|| path.split_once("groups["))?.1;
    names.get(key.split_once(']')?.0).map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::model::Approval;
    use super::super::spec::{ClientPolicy, PreBackupMode};
    use super::super::testing::{sample, sample_dest, sample_with_service, with_steps};
    use super::*;

    fn paths(changes: &[Change]) -> Vec<&str> {
        changes.iter().map(|change| change.path.as_str()).collect()
    }

    #[test]
    fn ids_that_single_budgets_get_by_the_plans_id_are_no_difference() {
        for sample in [crate::plan::testing::sample_single, crate::plan::testing::sample_copy] {
            let first = sample();
            let mut second = first.clone();
            second.metadata.id = "01KATCV2N8Q4ZJ6M5R7T9V1W3Y".parse().unwrap();
            let copy = copy_id(&second.metadata.id, &first.spec.budgets[0].id);
            for budget in second.preview.budgets.iter_mut().filter(|budget| budget.copy_of.is_some()) {
                budget.id.clone_from(&copy);
            }
            let second = crate::plan::testing::with_steps(second);
            let found = diff(&first, &second).unwrap();
            assert!(
                found.wish.is_empty() && found.world.is_empty() && found.follows.is_empty(),
                "{found:#?}"
            );
        }
    }

    #[test]
    fn a_plan_and_itself() {
        for plan in [sample(), sample_with_service(), sample_dest()] {
            assert_eq!(diff(&plan, &plan).unwrap(), PlanDiff::default());
        }
    }

    #[test]
    fn the_same_plan_made_again_means_the_same() {
        let first = sample_with_service();
        let mut second = first.clone();
        second.metadata.id = "01KATCV2N8Q4ZJ6M5R7T9V1W3Y".parse().unwrap();
        second.metadata.created_at = "2026-11-24T08:00:01Z".to_owned().try_into().unwrap();
        second.metadata.reason = None;
        let budget = &mut second.preview.budgets[0];
        budget.new_group_id = Some(new_group_id(&second.metadata.id, &budget.id));
        let second = with_steps(second);
        assert_ne!(first.preview.budgets[0].new_group_id, second.preview.budgets[0].new_group_id);
        let found = diff(&first, &second).unwrap();
        assert!(found.is_same(), "{found:?}");
        assert_eq!(paths(&found.document), ["metadata.id", "metadata.createdAt", "metadata.reason"]);
    }

    #[test]
    fn another_wish_and_what_follows() {
        let first = sample();
        let mut second = first.clone();
        second.spec.clients = ClientPolicy::Reset.into();
        second.spec.pre_backup.mode = PreBackupMode::None;
        let budget = &mut second.preview.budgets[0];
        budget.new_group_id = Some(new_group_id(&second.metadata.id, &budget.id));
        let found = diff(&first, &with_steps(second)).unwrap();
        assert_eq!(paths(&found.wish), ["spec.preBackup.mode", "spec.clients"]);
        assert_eq!(paths(&found.world), <[&str; 0]>::default());
        let follows = paths(&found.follows);
        assert!(follows.contains(&"steps[pre-backup]") && follows.contains(&"steps[prepare].with.clients"));
        assert!(
            follows.contains(&"preview.budgets[b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11].newGroupId"),
            "{follows:?}"
        );
        assert_eq!(found.follows[0].budget.as_deref(), Some("Household"));
    }

    #[test]
    fn another_world() {
        let first = sample();
        let mut second = first.clone();
        second.observed.target.budgets[0].changes = Some(990);
        second.observed.target.files.remove(0);
        super::super::testing::archive(&mut second).size_bytes += 1;
        second.preview.budgets[0].changes_newer = Some(720);
        second.preview.diffs[0].diff.push_str("+one line more\n");
        let found = diff(&first, &with_steps(second)).unwrap();
        assert_eq!(
            paths(&found.world),
            [
                "spec.source.sizeBytes",
                "observed.target.structure",
                "observed.target.files[data/.migrate]",
                "observed.target.budgets[b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11].changes"
            ]
        );
        assert!(found.wish.is_empty() && found.document.is_empty());
        let text = found.follows.iter().find(|change| change.path.starts_with("preview.diffs")).unwrap();
        assert!(text.diff.as_deref().unwrap().contains("\n++one line more\n"), "{text:?}");
    }

    #[test]
    fn what_was_seen_of_another_target_follows_from_the_wish() {
        let found = diff(&sample(), &sample_dest()).unwrap();
        assert!(paths(&found.wish).contains(&"spec.target.directory"));
        assert!(paths(&found.follows).iter().any(|path| path.starts_with("observed.target")));
        assert_eq!(paths(&found.world), <[&str; 0]>::default());
    }

    #[test]
    fn order_and_approvals_mean_nothing() {
        let first = sample();
        let mut second = first.clone();
        second.steps.reverse();
        second.steps.iter_mut().for_each(|step| step.needs.reverse());
        second.preview.budgets.reverse();
        second.approvals.push(Approval {
            principal: "alice@example.org".into(),
            key_fingerprint: "SHA256:x".into(),
            signed_at: second.metadata.created_at,
            signature: "x".into(),
        });
        let found = diff(&first, &second).unwrap();
        assert!(found.is_same(), "{found:?}");
        assert_eq!(paths(&found.document), ["approvals[alice@example.org]"]);
    }

    #[test]
    fn it_is_the_same_from_the_other_side() {
        let (one, other) =
            (diff(&sample(), &sample_dest()).unwrap(), diff(&sample_dest(), &sample()).unwrap());
        let sorted = |changes: &[Change]| {
            let mut paths: Vec<String> = changes.iter().map(|change| change.path.clone()).collect();
            paths.sort();
            paths
        };
        assert_eq!(sorted(&one.wish), sorted(&other.wish));
        assert_eq!(sorted(&one.follows), sorted(&other.follows));
    }
}
