//! The machine goes down in the middle of a restore, by a reboot or without its power. After the next start
//! it serves the old state or the new one, and nobody had to do anything.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::instance::{Hardening, UNIT, backed_up};
use crate::kill::{kind, some};
use crate::machine::Machine;
use crate::support::root::ZSTD;

#[test]
fn a_machine_that_goes_down_in_the_middle_of_a_restore_comes_back_and_serves_by_itself() {
    let name = "a_machine_that_goes_down_in_the_middle";
    let Some(mut machine) = Machine::boot(name, Hardening::None) else { return };
    let states = vec![("b", machine.live()), ("a", backed_up(&machine.srv("")))];
    let b = machine.back_up();
    // One that nobody disturbs shows the places: after each record of the journal but the last.
    let run = machine.restore(&[ZSTD])["run"].as_str().unwrap().to_owned();
    let places: Vec<usize> = (1..machine.journal(&run).len()).collect();
    let places = some(&places, if crate::is_all() { 20 } else { 3 });
    let mut live = "a";
    let mut ends = BTreeMap::<String, usize>::new();
    for (n, place) in places.into_iter().enumerate() {
        let (from, to, backup) = if live == "a" { ("a", "b", &b[..]) } else { ("b", "a", ZSTD) };
        let watch = machine.watch(&states);
        let _ = machine.plan(&[backup]).ok();
        let mut applying = machine.begin();
        let (run, record) = applying.wait_for(place);
        let mut child = applying.forget();
        let since = Instant::now();
        let cut = n % 2 == 0;
        if cut {
            machine.cut_power();
            machine.start();
        } else {
            machine.reboot();
        }
        let _ = child.wait().unwrap();
        let took = since.elapsed();
        let order = watch.end().order();
        let record = kind(&record);
        let (how, steps) = (if cut { "power cut" } else { "reboot" }, machine.journal(&run));
        let after: Vec<String> = steps.iter().skip(place).map(|record| kind(record)).collect();
        crate::say(&format!(
            "{how} at record {place} ({record}): {order:?} in {took:?}; {}",
            after.join(", ")
        ));
        assert!(order.iter().all(|saw| [from, "away", to].contains(saw)), "{order:?}");
        assert_eq!(order[0], from);
        live = order.last().unwrap();
        assert_ne!(live, "away");
        // A reboot asks the program to stop, which undoes the restore; without power it cannot.
        let before: Vec<String> = steps.iter().take(place).map(|record| kind(record)).collect();
        if cut && before.iter().any(|record| record == "stepDone swap") {
            assert_eq!(live, to, "a run that has replaced the target goes on: {after:?}");
        } else if cut && !before.iter().any(|record| record == "stepStarted swap") {
            assert!(live == from || after.iter().any(|record| record == "stepDone swap"), "{after:?}");
        }
        assert_eq!(machine.live(), states.iter().find(|state| state.0 == live).unwrap().1);
        let active = machine.run("systemctl", &["is-active", UNIT]).stdout;
        assert_eq!(active.trim(), "active", "it is the unit that answers");
        let recovery = ["is-failed", "abssctl-recover.service"];
        assert_ne!(machine.run("systemctl", &recovery).stdout.trim(), "failed", "a run is left unfinished");
        *ends.entry(format!("{how}: {}", if live == to { "new" } else { "old" })).or_default() += 1;
    }
    crate::say(&format!("after the next start: {ends:?}"));
}
