//! Whatever loads obeys the rules on the graph, and whatever obeys them loads: a second, plain
//! statement of the rules over JSON and a matrix of all paths says what must happen to randomly edited
//! plans.

use abssctl::plan::graph::{default_steps, order};
use abssctl::plan::load::load;
use abssctl::plan::model::Plan;
use abssctl::plan::step::{Step, new_group_id};
use abssctl::plan::testing::{consistent, sample, sample_dest, sample_with_service};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

const KINDS: [&str; 14] = [
    "lock",
    "check",
    "verify",
    "extract",
    "inspect",
    "prepare",
    "stop",
    "pre-backup",
    "swap",
    "assets",
    "start",
    "health",
    "record",
    "cleanup",
];

// ---- the rules, once more ----

fn effect(kind: &str) -> &'static str {
    match kind {
        "extract" | "prepare" | "pre-backup" | "cleanup" => "staging",
        "stop" | "assets" | "start" => "service",
        "swap" => "live",
        "record" => "record",
        _ => "read",
    }
}

fn belongs(kind: &str, plan: &Value) -> bool {
    let (spec, observed) = (&plan["spec"], &plan["observed"]);
    let live = spec["target"]["live"] == true;
    let running = observed["service"]["running"] == true && live;
    let starts = match spec["service"]["restart"].as_str() {
        Some("auto") => running,
        Some("always") => live && observed["service"].get("unit").is_some(),
        _ => false,
    };
    match kind {
        "stop" => running,
        "start" | "health" => starts,
        "assets" => spec["assets"] == "full",
        "pre-backup" => spec["preBackup"]["mode"] != "none" && observed["target"]["presence"] == "content",
        _ => true,
    }
}

/// Where the server is asked.
fn url(plan: &Value) -> Option<String> {
    let port = plan["observed"]["instance"].get("port")?;
    Some(format!("http://127.0.0.1:{port}"))
}

/// The parameters of a step, from the wish and what was seen; none where there are none to be had.
fn parameters(kind: &str, plan: &Value) -> Option<Value> {
    let (spec, observed) = (&plan["spec"], &plan["observed"]);
    let (source, directory) = (&spec["source"], &spec["target"]["directory"]);
    let unit = observed["service"].get("unit");
    Some(match kind {
        "lock" => json!({ "instance": spec["instance"] }),
        "check" => json!({ "drift": spec["drift"] }),
        "verify" => json!({
            "path": source["path"], "sizeBytes": source["sizeBytes"], "sha256": source["sha256"]
        }),
        "extract" => json!({
            "path": source["path"], "algorithm": source["algorithm"],
            "maxBytes": observed["backup"]["unpackedBytes"], "maxEntries": observed["backup"]["entries"],
            "ownership": spec["ownership"]
        }),
        "inspect" => json!({
            "dataDirectory": observed["instance"]["dataDirectory"], "manifest": observed["backup"]["manifest"]
        }),
        "prepare" => {
            let mut with = json!({ "clients": spec["clients"], "sessions": spec["sessions"] });
            if spec["clients"] == "reset" {
                let id = plan["metadata"]["id"].as_str()?.parse().ok()?;
                let budgets = observed["backup"]["budgets"].as_array()?;
                with["groups"] = budgets
                    .iter()
                    .map(|budget| {
                        let to = new_group_id(&id, budget["id"].as_str().unwrap_or_default());
                        json!({ "budget": budget["id"], "from": budget["groupId"], "to": to })
                    })
                    .collect();
            }
            with
        }
        "stop" => json!({ "unit": unit?, "timeout": spec["health"]["timeout"], "url": url(plan)? }),
        "pre-backup" => {
            let mut with = json!({ "mode": spec["preBackup"]["mode"], "directory": directory });
            if let Some(message) = spec["preBackup"].get("message") {
                with["message"] = message.clone();
            }
            with
        }
        "swap" => {
            let absent = observed["target"]["presence"] == "absent";
            json!({ "directory": directory, "method": if absent { "rename" } else { "exchange" } })
        }
        "assets" => {
            let seen = observed.get("assets")?;
            let files = ["unit", "site"].into_iter().filter_map(|kind| {
                let file = seen.get(kind)?;
                let (path, member, sha256) = (&file["path"], &file["member"], &file["sha256"]);
                Some(json!({ "kind": kind, "path": path, "member": member, "sha256": sha256 }))
            });
            let (link, site) = (&seen["enabled"], &seen["site"]);
            json!({
                "files": files.collect::<Vec<_>>(),
                "link": { "path": link["path"], "to": site["path"], "wanted": link["wanted"] },
                "systemd": observed["service"]["manager"] == "systemd", "nginx": seen["proxy"] == "nginx"
            })
        }
        "start" => json!({ "unit": unit?, "timeout": spec["health"]["timeout"] }),
        "health" => json!({
            "unit": unit?, "url": url(plan)?, "timeout": spec["health"]["timeout"],
            "interval": spec["health"]["interval"]
        }),
        "record" => json!({
            "backupId": source["backupId"], "directory": directory, "live": spec["target"]["live"]
        }),
        "cleanup" => json!({ "retain": spec["retain"] }),
        _ => return None,
    })
}

/// `before[a][b]`: step `a` comes before step `b`. None where ids or needs are broken.
fn paths(steps: &[Value]) -> Option<Vec<Vec<bool>>> {
    let count = steps.len();
    let mut before = vec![vec![false; count]; count];
    for (then, step) in steps.iter().enumerate() {
        if steps.iter().filter(|other| other["id"] == step["id"]).count() != 1 {
            return None;
        }
        let needs = step["needs"].as_array()?;
        for (place, need) in needs.iter().enumerate() {
            let first = steps.iter().position(|other| other["id"] == *need)?;
            if needs[..place].contains(need) {
                return None;
            }
            before[first][then] = true;
        }
    }
    for middle in 0..count {
        for first in 0..count {
            for then in 0..count {
                before[first][then] |= before[first][middle] && before[middle][then];
            }
        }
    }
    (0..count).all(|step| !before[step][step]).then_some(before)
}

fn semantics(plan: &Value) -> bool {
    let (spec, observed) = (&plan["spec"], &plan["observed"]);
    let managed = observed["service"]["manager"] != "none";
    let seen = observed.get("assets").is_some();
    let held = spec["source"]["scope"] == "full" && spec["target"]["live"] == true;
    let assets = if spec["assets"] == "data" { !seen } else { seen && held };
    // A live service that is always started needs something that starts it, or the wish is passed over.
    let always = spec["service"]["restart"] == "always" && spec["target"]["live"] == true;
    let switched = belongs("stop", plan) || belongs("start", plan) || always;
    assets && (!switched || (managed && observed["service"].get("unit").is_some()))
}

fn step_is_right(step: &Value, plan: &Value) -> bool {
    let Some(kind) = step["kind"].as_str() else { return false };
    let Ok(parsed) = serde_json::from_value::<Step>(step.clone()) else { return false };
    belongs(kind, plan)
        && step["effect"] == effect(kind)
        && parameters(kind, plan).as_ref() == Some(&step["with"])
        && step["summary"] == parsed.action.summary()
}

fn obeys(plan: &Value) -> bool {
    let Some(steps) = plan["steps"].as_array().filter(|steps| !steps.is_empty()) else { return false };
    let Some(before) = paths(steps) else { return false };
    let of =
        |kind: &str| -> Vec<usize> { (0..steps.len()).filter(|at| steps[*at]["kind"] == kind).collect() };
    let counts = KINDS.iter().all(|kind| of(kind).len() == usize::from(belongs(kind, plan)));
    if !counts || !semantics(plan) || !steps.iter().all(|step| step_is_right(step, plan)) {
        return false;
    }
    let comes_before = |first: &str, then: &str| {
        of(first).iter().all(|first| of(then).iter().all(|then| before[*first][*then]))
    };
    let chain = |kinds: &[&str]| kinds.windows(2).all(|pair| comes_before(pair[0], pair[1]));
    let ends = KINDS[1..].iter().all(|kind| comes_before("lock", kind))
        && KINDS[..13].iter().all(|kind| comes_before(kind, "cleanup"));
    let archive = chain(&["check", "verify", "inspect", "prepare", "swap", "record"])
        && chain(&["check", "extract", "inspect"]);
    let present: Vec<&str> = ["prepare", "stop", "swap", "start", "health", "record"]
        .into_iter()
        .filter(|kind| !of(kind).is_empty())
        .collect();
    let service = chain(&present) && comes_before("swap", "assets") && comes_before("assets", "start");
    let assets = !of("start").is_empty() || comes_before("assets", "record");
    let quiesced = plan["spec"]["preBackup"]["mode"] == "quiesced";
    let backup = chain(&["check", "pre-backup"])
        && comes_before("pre-backup", "swap")
        && (!quiesced || comes_before("stop", "pre-backup"));
    let kind = |at: usize| steps[at]["kind"].as_str().unwrap_or_default();
    let serial = (0..steps.len()).all(|one| {
        (0..one).all(|other| {
            let (a, b) = (effect(kind(one)), effect(kind(other)));
            let changes = |effect: &str| matches!(effect, "live" | "service" | "record");
            let heavy = |at: usize| quiesced && kind(at) == "pre-backup";
            let together =
                (changes(a) && changes(b)) || (heavy(one) && b != "read") || (heavy(other) && a != "read");
            !together || before[one][other] || before[other][one]
        })
    });
    ends && archive && service && assets && backup && serial
}

// ---- random edits ----

#[derive(Debug, Clone)]
enum Edit {
    Drop(Index),
    Duplicate(Index),
    AddEdge(Index, Index),
    /// From a step that stands before it: keeps most plans good.
    AddForwardEdge(Index, Index),
    DropEdge(Index, Index),
    Rewire(Index, Index, Index),
    /// Lets a step no longer wait for one of its needs; all else keeps its order.
    Loosen(Index, Index),
    SwapKinds(Index, Index),
    /// Lets a step and one of its needs change places.
    Invert(Index, Index),
    Reorder(Index, Index),
    Rename(Index),
    Parameter(Index),
    Summary(Index),
    Set(&'static str, &'static str),
    Running(bool),
    /// Whether unit and vhost were seen, whatever is wished.
    Seen(bool),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        1 => at().prop_map(Edit::Drop),
        1 => at().prop_map(Edit::Duplicate),
        2 => (at(), at()).prop_map(|(a, b)| Edit::AddEdge(a, b)),
        4 => (at(), at()).prop_map(|(a, b)| Edit::AddForwardEdge(a, b)),
        3 => (at(), at()).prop_map(|(a, b)| Edit::DropEdge(a, b)),
        3 => (at(), at(), at()).prop_map(|(a, b, c)| Edit::Rewire(a, b, c)),
        4 => (at(), at()).prop_map(|(a, b)| Edit::Loosen(a, b)),
        1 => (at(), at()).prop_map(|(a, b)| Edit::SwapKinds(a, b)),
        3 => (at(), at()).prop_map(|(a, b)| Edit::Invert(a, b)),
        3 => (at(), at()).prop_map(|(a, b)| Edit::Reorder(a, b)),
        2 => at().prop_map(Edit::Rename),
        1 => at().prop_map(Edit::Parameter),
        1 => at().prop_map(Edit::Summary),
        1 => select(&[
            ("/spec/preBackup/mode", "quiesced"), ("/spec/preBackup/mode", "online"), ("/spec/preBackup/mode", "none"),
            ("/spec/service/restart", "auto"), ("/spec/service/restart", "always"), ("/spec/service/restart", "never"),
            ("/spec/assets", "full"), ("/spec/assets", "data"), ("/spec/source/scope", "data"),
            ("/spec/drift", "ignore"), ("/spec/clients", "merge"), ("/spec/clients", "reset"),
        ][..]).prop_map(|(place, value)| Edit::Set(place, value)),
        1 => any::<bool>().prop_map(Edit::Running),
        1 => any::<bool>().prop_map(Edit::Seen),
    ]
}

fn apply(plan: &mut Value, edit: &Edit) {
    if let Edit::Set(place, value) = edit {
        if let Some(field) = plan.pointer_mut(place) {
            *field = json!(value);
        }
        // Who wishes for unit and vhost has mostly looked at them too.
        if *place == "/spec/assets" {
            apply(plan, &Edit::Seen(*value == "full"));
        }
        return;
    }
    if let (Edit::Seen(seen), Some(observed)) = (edit, plan["observed"].as_object_mut()) {
        drop(observed.remove("assets"));
        if *seen {
            let assets = serde_json::to_value(sample_with_service().observed.assets);
            drop(observed.insert("assets".into(), assets.expect("it has a JSON form")));
        }
        return;
    }
    if let Edit::Running(running) = edit {
        plan["observed"]["service"]["running"] = json!(running);
        return;
    }
    let Some(steps) = plan["steps"].as_array_mut().filter(|steps| !steps.is_empty()) else { return };
    let count = steps.len();
    let needs = |step: &mut Value, change: &mut dyn FnMut(&mut Vec<Value>)| {
        if let Some(needs) = step["needs"].as_array_mut() {
            change(needs);
        }
    };
    match edit {
        Edit::Drop(at) => drop(steps.remove(at.index(count))),
        Edit::Duplicate(at) => {
            let mut copy = steps[at.index(count)].clone();
            copy["id"] = json!("copy");
            steps.push(copy);
        }
        Edit::AddEdge(from, to) => {
            let id = steps[from.index(count)]["id"].clone();
            needs(&mut steps[to.index(count)], &mut |needs| needs.push(id.clone()));
        }
        Edit::AddForwardEdge(from, to) => {
            let (a, b) = (from.index(count), to.index(count));
            let id = steps[a.min(b)]["id"].clone();
            needs(&mut steps[a.max(b)], &mut |needs| {
                if a != b && !needs.contains(&id) {
                    needs.push(id.clone());
                }
            });
        }
        Edit::DropEdge(at, place) => needs(&mut steps[at.index(count)], &mut |needs| {
            if !needs.is_empty() {
                needs.remove(place.index(needs.len()));
            }
        }),
        Edit::Rewire(at, place, to) => {
            let id = steps[to.index(count)]["id"].clone();
            needs(&mut steps[at.index(count)], &mut |needs| {
                if !needs.is_empty() {
                    let place = place.index(needs.len());
                    needs[place] = id.clone();
                }
            });
        }
        Edit::Loosen(at, place) => loosen(steps, at.index(count), *place),
        Edit::SwapKinds(a, b) => {
            swap_kinds(steps, a.index(count), b.index(count));
        }
        Edit::Invert(at, place) => {
            let at = at.index(count);
            let needs = steps[at]["needs"].as_array().cloned().unwrap_or_default();
            if !needs.is_empty() {
                let need = &needs[place.index(needs.len())];
                if let Some(other) = steps.iter().position(|step| step["id"] == *need) {
                    swap_kinds(steps, at, other);
                }
            }
        }
        Edit::Reorder(a, b) => steps.swap(a.index(count), b.index(count)),
        Edit::Rename(at) => {
            let old = steps[at.index(count)]["id"].clone();
            let new = json!(format!("step-{}", at.index(count)));
            if steps.iter().any(|step| step["id"] == new) {
                return;
            }
            steps[at.index(count)]["id"] = new.clone();
            for step in steps {
                needs(step, &mut |needs| {
                    needs.iter_mut().filter(|need| **need == old).for_each(|need| *need = new.clone());
                });
            }
        }
        Edit::Parameter(at) => {
            if let Some(field) =
                steps[at.index(count)]["with"].as_object_mut().and_then(|with| with.values_mut().next())
            {
                *field = match &*field {
                    Value::Number(_) => json!(4),
                    Value::String(text) if text.starts_with('/') => json!("/elsewhere"),
                    Value::String(text) => json!(format!("{text}9")),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return,
                };
            }
        }
        Edit::Summary(at) => steps[at.index(count)]["summary"] = json!("all is well"),
        Edit::Set(..) | Edit::Running(_) | Edit::Seen(_) => {}
    }
}

/// Exchanges what two steps do; ids and needs stay.
fn swap_kinds(steps: &mut [Value], a: usize, b: usize) {
    for field in ["kind", "effect", "summary", "with"] {
        let (one, other) = (steps[a][field].clone(), steps[b][field].clone());
        steps[a][field] = other;
        steps[b][field] = one;
    }
}

/// Puts the needs of a need in its place, and the need itself among the needs of whatever waits for the
/// step.
fn loosen(steps: &mut [Value], at: usize, place: Index) {
    let mut needs = steps[at]["needs"].as_array().cloned().unwrap_or_default();
    if needs.is_empty() {
        return;
    }
    let need = needs.remove(place.index(needs.len()));
    let before = steps.iter().find(|step| step["id"] == need).map(|step| step["needs"].clone());
    let add = |list: &mut Vec<Value>, more: Value| {
        if !list.contains(&more) {
            list.push(more);
        }
    };
    for more in before.as_ref().and_then(Value::as_array).into_iter().flatten() {
        add(&mut needs, more.clone());
    }
    steps[at]["needs"] = json!(needs);
    let id = steps[at]["id"].clone();
    for step in steps.iter_mut().filter(|step| step["id"] != need) {
        let list = step["needs"].as_array_mut().filter(|list| list.contains(&id));
        if let Some(list) = list {
            add(list, need.clone());
        }
    }
}

/// A good plan for one of many wishes, where that wish has steps.
fn base(which: usize, settings: &[Edit]) -> Value {
    let plan = [sample(), sample_with_service(), sample_with_service(), sample_dest()][which % 4].clone();
    let mut value = serde_json::to_value(plan).expect("plans have a JSON form");
    for edit in
        settings.iter().filter(|edit| matches!(edit, Edit::Set(..) | Edit::Running(_) | Edit::Seen(_)))
    {
        apply(&mut value, edit);
    }
    let plan: Plan = serde_json::from_value(value.clone()).expect("settings keep the form");
    if let Ok(steps) = default_steps(&plan.metadata, &plan.spec, &plan.observed) {
        value["steps"] = serde_json::to_value(steps).expect("steps have a JSON form");
    }
    value
}

fn any_plan() -> impl Strategy<Value = Value> {
    let edits = proptest::collection::vec(any_edit(), 0..6);
    (0_usize..4, proptest::collection::vec(any_edit(), 0..12), edits).prop_map(|(which, settings, edits)| {
        let mut plan = base(which, &settings);
        for edit in &edits {
            apply(&mut plan, edit);
        }
        // What the preview must say follows from the rest, by rules of their own.
        let Ok(parsed) = serde_json::from_value::<Plan>(plan.clone()) else { return plan };
        plan["preview"] =
            serde_json::to_value(consistent(parsed).preview).expect("a preview has a JSON form");
        plan
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn what_loads_obeys_and_what_obeys_loads(plan in any_plan()) {
        let loaded = load("plan", plan.to_string().as_bytes());
        let problems = loaded.as_ref().err().map(|errors| errors.problems().to_vec());
        prop_assert_eq!(loaded.is_ok(), obeys(&plan), "{:#?}", problems);
        if let Ok(plan) = loaded {
            let order = order(&plan);
            prop_assert_eq!(order.len(), plan.steps.len());
            for (place, step) in order.iter().enumerate() {
                let done: Vec<_> = order[..place].iter().map(|done| &plan.steps[*done].id).collect();
                prop_assert!(plan.steps[*step].needs.iter().all(|need| done.contains(&need)));
            }
        }
    }
}

#[test]
fn the_random_plans_are_of_both_sorts() {
    let mut runner = TestRunner::deterministic();
    let plans: Vec<Value> =
        (0..400).map(|_| any_plan().new_tree(&mut runner).expect("a plan can be made").current()).collect();
    let good = plans.iter().filter(|plan| obeys(plan)).count();
    assert!((60..=340).contains(&good), "{good} of 400 obey");
}
