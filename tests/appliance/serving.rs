//! What a machine shows its users before, during and after backups and restores.

use serde_json::Value;

use crate::instance::{Hardening, UNIT, backed_up};
use crate::machine::Machine;
use crate::support::root::{DATA_ONLY, GZIP, NONE, ZSTD};
use crate::watch::{Saw, States};

/// The live state and that of the peer's backups.
fn states(machine: &Machine) -> States {
    vec![("old", machine.live()), ("new", backed_up(&machine.srv("")))]
}

#[test]
fn it_boots_and_serves_also_after_a_reboot_and_a_power_cut() {
    let Some(mut machine) = Machine::boot("it_boots_and_serves", Hardening::None) else { return };
    let states = states(&machine);
    assert_eq!(machine.watch(&states).end().order(), ["old"]);
    machine.reboot();
    assert_eq!(machine.watch(&states).end().order(), ["old"]);
    machine.cut_power();
    machine.start();
    assert_eq!(machine.watch(&states).end().order(), ["old"]);
    assert_eq!(machine.live(), states[0].1);
}

#[test]
fn a_backup_takes_nothing_from_the_users() {
    let Some(machine) = Machine::boot("a_backup_takes_nothing", Hardening::None) else { return };
    let states = states(&machine);
    let watch = machine.watch(&states);
    let id = machine.back_up();
    assert_eq!(watch.end().order(), ["old"]);
    let _ = machine.run("abssctl", &["backup", "verify", &id]).ok();
}

#[test]
fn a_restore_by_plan_shows_the_old_then_an_error_page_then_the_new() {
    restore_under_watch("a_restore_by_plan", Hardening::None);
}

#[test]
fn a_restore_of_a_unit_that_sees_the_system_read_only() {
    restore_under_watch("a_restore_of_a_strict_unit", Hardening::Strict);
}

fn restore_under_watch(test: &str, hardening: Hardening) {
    let Some(machine) = Machine::boot(test, hardening) else { return };
    let states = states(&machine);
    let watch = machine.watch(&states);
    let result = machine.restore(&[ZSTD]);
    assert_eq!(watch.end().order(), ["old", "away", "new"]);
    assert_eq!(machine.live(), states[1].1);
    let back = result["preBackup"].as_str().unwrap();
    let watch = machine.watch(&states);
    let _ = machine.restore(&[back]);
    assert_eq!(watch.end().order(), ["new", "away", "old"]);
    assert_eq!(machine.live(), states[0].1);
}

#[test]
fn every_backup_of_the_peer_is_restored_and_the_server_opens_it() {
    let Some(machine) = Machine::boot("every_backup_of_the_peer", Hardening::None) else { return };
    let states = states(&machine);
    let live = machine.back_up();
    for backup in [GZIP, NONE, DATA_ONLY] {
        let result = machine.restore(&[backup]);
        assert_eq!(machine.watch(&states).end().order(), ["new"], "{backup}");
        let inspected = detail(&result, "inspect");
        assert!(inspected.contains("migrations known"), "the installed server was found: {inspected}");
        let _ = machine.restore(&[&live]);
        assert_eq!(machine.watch(&states).end().order(), ["old"], "back from {backup}");
    }
}

#[test]
fn the_client_tells_a_mix_from_both_states() {
    let Some(machine) = Machine::boot("the_client_tells_a_mix", Hardening::None) else { return };
    let states = states(&machine);
    let group = format!("data/user-files/group-{}.sqlite", states[0].1.group);
    let other = machine.srv("other");
    let _ =
        machine.run("abssctl", &["plan", "restore", ZSTD, "--dest", "/srv/other", "-o", "/root/mix"]).ok();
    let _ = machine.abssctl(&["apply", "/root/mix"]);
    let _ = machine.run("systemctl", &["stop", UNIT]).ok();
    let _ = std::fs::copy(other.join(&group), machine.srv("budget").join(&group)).unwrap();
    let _ = machine.run("systemctl", &["start", UNIT]).ok();
    machine.wait_until_it_serves();
    let order = machine.watch(&states).end().order();
    assert!(order.starts_with(&["old", "new", "old"]), "budgets of one, changes of the other: {order:?}");

    let sql = "DELETE FROM files WHERE name = 'Household'";
    rusqlite::Connection::open(machine.srv("budget/data/server-files/account.sqlite"))
        .unwrap()
        .execute_batch(sql)
        .unwrap();
    let record = machine.watch(&states).end();
    let wrong = record.0.iter().filter(|sight| matches!(sight.saw, Saw::Wrong(_))).count();
    assert!(wrong > 0, "a budget that no state lacks is missing: {record:#?}");
}

/// What a step has said.
fn detail<'r>(result: &'r Value, step: &str) -> &'r str {
    let step = result["steps"].as_array().unwrap().iter().find(|done| done["kind"] == step);
    step.and_then(|step| step["detail"].as_str()).unwrap_or_else(|| panic!("{result:#}"))
}
