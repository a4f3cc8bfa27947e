//! What a machine shows its users before, during and after backups and restores.

use crate::instance::{Hardening, UNIT, backed_up};
use crate::machine::{Machine, PEER};
use crate::support::Ran;
use crate::support::root::{GZIP, ZSTD};
use crate::support::tools::skip_unless;
use crate::watch::States;

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
fn the_peer_backs_up_in_the_machine_and_its_backup_is_restored() {
    let test = "the_peer_backs_up_in_the_machine";
    if skip_unless(test, crate::instance::peer().is_some(), "ABSSCTL_TEST_PEER names no peer in a venv") {
        return;
    }
    let Some(machine) = Machine::boot(test, Hardening::None) else { return };
    let states = states(&machine);
    let _ = machine.restore(&[GZIP]);
    // As its users must: the peer copies the files of a running server as they are.
    let _ = machine.run("systemctl", &["stop", UNIT]).ok();
    let words = ["-m", "abssctl.cli", "backup", "create", "budget", "--json", "--yes"];
    let mut peer = machine.command("python3", &words);
    // The published one does not know all that the configuration says.
    peer.env("PYTHONPATH", PEER).env("ABSSCTL_CONFIG_FILE", "/dev/null");
    let said = Ran::of(&mut peer).ok();
    let _ = machine.run("systemctl", &["start", UNIT]).ok();
    machine.wait_until_it_serves();
    let backups = machine.abssctl(&["backup", "list"]);
    crate::say(&format!("{said:?}\n{backups:#}"));
    let _ = machine.restore(&["--instance", "budget", "--latest"]);
    assert_eq!(machine.live(), states[1].1);
}
