//! The program is killed between any two steps; the same run, resumed, ends well, and users meanwhile see
//! the old state, an error page, the new state, never anything else.

use crate::instance::{Hardening, backed_up};
use crate::machine::Machine;
use crate::support::root::ZSTD;

/// So many of the places, evenly.
pub(crate) fn some(places: &[usize], count: usize) -> Vec<usize> {
    (0..count).map(|n| places[(2 * n + 1) * places.len() / (2 * count)]).collect()
}

#[test]
fn killed_between_any_two_steps_a_resumed_restore_ends_well() {
    let Some(machine) = Machine::boot("killed_between_any_two_steps", Hardening::None) else { return };
    let states = vec![("b", machine.live()), ("a", backed_up(&machine.srv("")))];
    let b = machine.back_up();
    // One that nobody disturbs shows the places.
    let run = machine.restore(&[ZSTD])["run"].as_str().unwrap().to_owned();
    let journal = machine.journal(&run);
    let mut steps: Vec<usize> = (1..=journal.len()).filter(|n| journal[n - 1].contains("stepDone")).collect();
    // After the last one, nothing is left that could be cut off.
    let _ = steps.pop().unwrap();
    let mut from = "a";
    let count = if crate::is_all() { steps.len() } else { 5 };
    for place in some(&steps, count) {
        let (to, backup) = if from == "a" { ("b", &b[..]) } else { ("a", ZSTD) };
        let watch = machine.watch(&states);
        let _ = machine.plan(&[backup]).ok();
        let mut applying = machine.begin();
        let (run, record) = applying.wait_for(place);
        applying.kill();
        let killed = machine.watch(&states).end();
        let result = machine.run("abssctl", &["run", "resume", &run, "--yes", "--json"]).ok().json();
        let order = watch.end().order();
        crate::say(&format!("killed at record {place}, {}: {:?}, {order:?}", kind(&record), killed.order()));
        assert_eq!(result["outcome"], "applied", "{result:#}");
        assert_eq!(order.first(), Some(&from));
        assert_eq!(order.last(), Some(&to));
        // Nothing of the old state comes back once the new one was there.
        let first = order.iter().position(|saw| *saw == to).unwrap();
        assert!(!order[first..].contains(&from), "{order:?}");
        assert_eq!(machine.live(), states.iter().find(|state| state.0 == to).unwrap().1);
        from = to;
    }
}

/// What a record says, in short.
pub(crate) fn kind(record: &str) -> String {
    let record: serde_json::Value = serde_json::from_str(record).unwrap_or_default();
    let event = &record["event"];
    let name = event.as_object().and_then(|event| event.keys().next().cloned()).unwrap_or_default();
    let of = ["step", "outcome"].into_iter().find_map(|key| event[&name][key].as_str());
    of.map_or_else(|| name.clone(), |of| format!("{name} {of}"))
}
