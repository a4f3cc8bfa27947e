//! What can be wrong with backup, unit, port and disk when a restore comes: the old server is there
//! afterwards, and the message says what a person needs to know.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::instance::{Hardening, UNIT, backed_up};
use crate::kill::kind;
use crate::machine::{Machine, wait};
use crate::restore::newest;
use crate::support::root::ZSTD;
use crate::watch::{States, login};

fn states(machine: &Machine) -> States {
    vec![("old", machine.live()), ("new", backed_up(&machine.srv("")))]
}

/// Changes a file of the live directory while the server is stopped, and starts nothing.
fn edit(machine: &Machine, file: &str, change: impl Fn(&mut Value)) {
    let path = machine.srv("budget/data").join(file);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// A server of this version does not start on this.
fn spoil(machine: &Machine) {
    edit(machine, "config.json", |config| config["later"] = json!(true));
}

fn mend(machine: &Machine) {
    edit(machine, "config.json", |config| drop(config.as_object_mut().unwrap().remove("later")));
}

fn property(machine: &Machine, name: &str) -> String {
    let ran = machine.run("systemctl", &["show", "--value", "--property", name, UNIT]).ok();
    ran.stdout.trim().to_owned()
}

#[test]
fn a_backup_that_the_server_cannot_open_brings_the_old_server_back() {
    let Some(machine) = Machine::boot("a_backup_that_the_server_cannot_open", Hardening::None) else {
        return;
    };
    let states = states(&machine);
    let _ = machine.run("systemctl", &["stop", UNIT]).ok();
    spoil(&machine);
    let id = machine.back_up();
    mend(&machine);
    let _ = machine.run("systemctl", &["start", UNIT]).ok();
    machine.wait_until_it_serves();
    let watch = machine.watch(&states);
    let _ = machine.plan(&[&id]).ok();
    let cause = "config.json has a key that the installed server does not know";
    let words = ["everything is as it was", cause, "configuration param 'later' not declared in the schema"];
    let error = machine.apply().error(4, "abssctl::apply::rolled_back", &words);
    crate::say(error["message"].as_str().unwrap());
    login(machine.network()).unwrap();
    assert_eq!(watch.end().order(), ["old", "away", "old"]);
    assert_eq!(machine.live(), states[0].1);
    assert_eq!(property(&machine, "ActiveState"), "active");
}

/// Somebody who takes the server's port as soon as it is free, and answers nobody.
struct Thief {
    thread: JoinHandle<()>,
    go: mpsc::Sender<()>,
}

impl Thief {
    fn lurk(machine: &Machine, port: u16) -> Self {
        let network = machine.network();
        let (go, leave) = mpsc::channel();
        let (ready, lurks) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(()).unwrap();
            let mut took = None;
            while leave.try_recv() == Err(mpsc::TryRecvError::Empty) {
                took = took.or_else(|| TcpListener::bind(("127.0.0.1", port)).ok());
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert!(took.is_some(), "the port was never free");
        });
        lurks.recv().unwrap();
        Self { thread, go }
    }

    fn leave(self) {
        self.go.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

#[test]
fn a_port_that_another_program_takes_meanwhile_halts_until_it_is_free() {
    let Some(machine) = Machine::boot("a_port_that_another_program_takes", Hardening::None) else { return };
    let states = states(&machine);
    let watch = machine.watch(&states);
    let _ = machine.plan(&[ZSTD]).ok();
    let thief = Thief::lurk(&machine, 5007);
    // Neither the new server nor the old one can listen.
    let words = ["another program listens on its port 5007", "its port is taken by another program"];
    let error = machine.apply().error(7, "abssctl::apply::halted", &words);
    crate::say(&format!("{}\n{}", error["message"].as_str().unwrap(), error["help"].as_str().unwrap()));
    assert_eq!(machine.live(), states[0].1, "the old tree is back");
    thief.leave();
    let run = newest(&machine);
    let _ = machine.run("abssctl", &["run", "rollback", &run, "--yes"]).ok();
    login(machine.network()).unwrap();
    assert_eq!(watch.end().order(), ["old", "away", "old"]);
    let _ = machine.restore(&[ZSTD]);
    assert_eq!(machine.live(), states[1].1);
}

#[test]
fn units_that_fail_are_healed_by_a_restore() {
    let Some(machine) = Machine::boot("units_that_fail", Hardening::None) else { return };
    let states = states(&machine);
    // So often in so short a time that systemd gives up.
    spoil(&machine);
    let _ = machine.run("systemctl", &["restart", UNIT]);
    wait("a start limit", || {
        let seen = property(&machine, "ActiveState") + " " + &property(&machine, "Result");
        if seen.starts_with("failed ") { Ok(()) } else { Err(seen) }
    });
    // As it was: it does not run.
    let _ = machine.plan(&[ZSTD]).ok();
    let _ = machine.apply().ok();
    assert_eq!(property(&machine, "ActiveState"), "failed");
    assert!(login(machine.network()).is_err());
    // Counted failures are no obstacle to the start.
    spoil(&machine);
    let _ = machine.restore(&[ZSTD, "--restart"]);
    assert_eq!(machine.watch(&states).end().order(), ["new"]);

    // Again and again for ever.
    let drop_in = format!("/etc/systemd/system/{UNIT}.d");
    let _ = machine.run("mkdir", &["-p", &drop_in]).ok();
    let text = "printf '[Unit]\\nStartLimitIntervalSec=0\\n' >\"$0/loop.conf\" && systemctl daemon-reload";
    let _ = machine.run("sh", &["-c", text, &drop_in]).ok();
    spoil(&machine);
    let _ = machine.run("systemctl", &["restart", UNIT]);
    wait("a loop", || {
        let seen = property(&machine, "NRestarts");
        if seen.parse::<u32>().unwrap() > 6 { Ok(()) } else { Err(seen) }
    });
    let result = machine.restore(&[ZSTD]);
    assert!(result["warnings"][0].as_str().unwrap().contains("did not answer before"), "{result:#}");
    assert_eq!(machine.watch(&states).end().order(), ["new"]);
    // A loop that the restore brings is undone although the unit would go on for ever.
    let _ = machine.run("systemctl", &["stop", UNIT]).ok();
    spoil(&machine);
    let id = machine.back_up();
    mend(&machine);
    let _ = machine.run("systemctl", &["start", UNIT]).ok();
    machine.wait_until_it_serves();
    let _ = machine.plan(&[&id]).ok();
    let words = ["it ends again and again", "config.json has a key"];
    let _ = machine.apply().error(4, "abssctl::apply::rolled_back", &words);
    assert_eq!(machine.watch(&states).end().order(), ["new"]);
}

#[test]
fn a_masked_unit_is_stopped_only_by_somebody_who_starts_it_no_more() {
    let Some(machine) = Machine::boot("a_masked_unit", Hardening::None) else { return };
    let states = states(&machine);
    let _ = machine.plan(&[ZSTD]).ok();
    let file = format!("/etc/systemd/system/{UNIT}");
    let _ = machine.run("mv", &[&file, "/root/"]).ok();
    let _ = machine.run("systemctl", &["mask", UNIT]).ok();
    let _ = machine.apply().refused(5, &["service-unit", "service"]);
    let _ = machine.plan(&[ZSTD]).code(2).says(&format!("systemctl unmask {UNIT}"));
    assert_eq!(machine.watch(&states).end().order(), ["old"], "it goes on as it was");
    let _ = machine.plan(&[ZSTD, "--no-restart"]).ok();
    let _ = machine.apply().ok();
    assert!(login(machine.network()).is_err());
    let _ = machine.run("systemctl", &["unmask", UNIT]).ok();
    let _ = machine.run("mv", &[&format!("/root/{UNIT}"), &file]).ok();
    let _ = machine.run("systemctl", &["daemon-reload"]).ok();
    let _ = machine.run("systemctl", &["start", UNIT]).ok();
    machine.wait_until_it_serves();
    assert_eq!(machine.watch(&states).end().order(), ["new"]);
}

#[test]
fn a_disk_that_is_full_in_the_middle_brings_the_old_server_back() {
    let disk = Some("size=24m,mode=755");
    let Some(machine) = Machine::boot_on("a_disk_that_is_full", Hardening::None, disk) else { return };
    let states = states(&machine);
    let back = machine.restore(&[ZSTD]);
    let journal = machine.journal(back["run"].as_str().unwrap());
    let _ = machine.restore(&[back["preBackup"].as_str().unwrap()]);
    // Space was looked for and found; then it goes, before the tree is unpacked, and after that.
    for place in ["check", "prepare"] {
        let record = journal.iter().position(|record| kind(record) == format!("stepDone {place}")).unwrap();
        let watch = machine.watch(&states);
        let _ = machine.plan(&[ZSTD]).ok();
        let mut applying = machine.begin();
        let (run, _) = applying.wait_for(record + 1);
        let filler = machine.srv("filler");
        let full = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(&filler).unwrap());
        assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        let ended = applying.end();
        let shown = machine.run("abssctl", &["run", "show", &run]).ok().stdout;
        crate::say(&shown);
        // In the words of the kernel, or SQLite's.
        let known = ["No space left on device", "no storage space"];
        assert!(known.iter().any(|words| shown.contains(words)), "{shown}");
        assert_eq!(ended, 3, "{shown}");
        assert!(!shown.contains("pre-backup  2"), "none was made: {shown}");
        // Where it hits the unpacking, nothing was stopped yet.
        let order = watch.end().order();
        assert!(order == ["old"] || order == ["old", "away", "old"], "{place}: {order:?}");
        assert_eq!(machine.live(), states[0].1);
        std::fs::remove_file(filler).unwrap();
    }
    let _ = machine.restore(&[ZSTD]);
    assert_eq!(machine.watch(&states).end().order(), ["new"]);
}
