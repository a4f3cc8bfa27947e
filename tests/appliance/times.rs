//! How long users wait: restores against bare restarts of the same unit, in turns on the same machine.

use std::time::Duration;

use crate::instance::{Hardening, UNIT, backed_up};
use crate::machine::Machine;
use crate::support::root::ZSTD;

/// How many of each.
fn rounds() -> usize {
    if crate::is_all() { 20 } else { 4 }
}

#[test]
fn restores_keep_users_waiting_little_longer_than_restarts() {
    let Some(machine) = Machine::boot("restores_keep_users_waiting", Hardening::None) else { return };
    let states = vec![("b", machine.live()), ("a", backed_up(&machine.srv("")))];
    let b = machine.back_up();
    let (mut restores, mut restarts, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds() {
        let (from, to, backup) = if round % 2 == 0 { ("b", "a", ZSTD) } else { ("a", "b", &b[..]) };
        let watch = machine.watch(&states);
        let result = machine.restore(&[backup, "--pre-backup", "online"]);
        let record = watch.end();
        assert_eq!(record.order(), [from, "away", to], "restore {round}");
        restores.push(record.downtime());
        told.push((record.downtime(), Duration::from_millis(result["downtimeMs"].as_u64().unwrap())));

        let watch = machine.watch(&states);
        let _ = machine.run("systemctl", &["restart", UNIT]).ok();
        machine.wait_until_it_serves();
        let record = watch.end();
        assert_eq!(record.order(), [to, "away", to], "restart {round}");
        restarts.push(record.downtime());
    }
    // What a restore tells as its downtime is what users had. They ask at other moments than it does: it may
    // differ by the pauses of both, and by what a loaded machine adds to an answer.
    for (seen, told) in &told {
        crate::say(&format!("downtime seen {seen:?}, told {told:?}"));
        assert!(
            seen.abs_diff(*told) < *seen / 4 + Duration::from_millis(500),
            "seen {seen:?}, told {told:?}"
        );
    }
    let (restore, restart) = (median(&mut restores), median(&mut restarts));
    crate::say(&format!(
        "{} restores: median downtime {restore:?}, longest {:?}; {} restarts: median {restart:?}",
        restores.len(),
        restores.iter().max().unwrap(),
        restarts.len()
    ));
    // Machines are noisy: a few of each prove nothing about time.
    let limit = restart * 3 / 2 + Duration::from_millis(100);
    assert!(!crate::is_all() || restore < limit, "{restore:?} against {limit:?}");
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
