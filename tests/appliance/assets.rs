//! Unit and vhost with `--with-assets`: the real systemd and nginx read what the backup holds, a rollback
//! brings back the others, and what nginx does not take never reaches its users.

use crate::http::Request;
use crate::instance::{Hardening, UNIT, VHOST, backed_up};
use crate::kill::kind;
use crate::machine::{Machine, wait};
use crate::restore::newest;
use crate::watch::{States, inside, login};

fn states(machine: &Machine) -> States {
    vec![("old", machine.live()), ("new", backed_up(&machine.srv("")))]
}

/// Gives unit and vhost a mark that systemd and nginx show to whoever asks, and has them read it.
fn mark(machine: &Machine, mark: &str) {
    let unit = machine.disk(&format!("etc/systemd/system/{UNIT}"));
    let text = std::fs::read_to_string(&unit).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with("Description="));
    let marked = kept.map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(&unit, marked.replace("[Unit]\n", &format!("[Unit]\nDescription={mark}\n"))).unwrap();

    let vhost = machine.disk(VHOST);
    let text = std::fs::read_to_string(&vhost).unwrap();
    let kept = text.lines().filter(|line| !line.contains("location = /mark"));
    let marked = kept.map(|line| format!("{line}\n")).collect::<String>();
    let answer = format!("location = /mark {{ return 200 {mark}; }}\n    location / {{");
    std::fs::write(&vhost, marked.replace("location / {", &answer)).unwrap();
    read_again(machine);
    assert_eq!(marks(machine), [mark, mark]);
}

fn read_again(machine: &Machine) {
    let _ = machine.run("systemctl", &["daemon-reload"]).ok();
    let _ = machine.run("systemctl", &["reload", "nginx.service"]).ok();
}

/// The marks that systemd and nginx show. nginx answers by its old workers for a moment after a reload.
fn marks(machine: &Machine) -> [String; 2] {
    let unit = || {
        let ran = machine.run("systemctl", &["show", "--value", "--property=Description", UNIT]).ok();
        ran.stdout.trim().to_owned()
    };
    let vhost = || {
        let answer = inside(machine.network(), || Request::get("/mark").ask("11.255.255.254")).unwrap();
        String::from_utf8(answer.body).unwrap()
    };
    let (unit, mut seen) = (unit(), vhost());
    // What the two show may differ for good: then it is told after a second.
    for _ in 0..50 {
        if unit == seen {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        seen = vhost();
    }
    [unit, seen]
}

/// systemd has read the newest files.
fn nothing_is_unread(machine: &Machine) {
    let ran = machine.run("systemctl", &["show", "--value", "--property=NeedDaemonReload", UNIT]).ok();
    assert_eq!(ran.stdout.trim(), "no");
}

#[test]
fn unit_and_vhost_come_back_when_asked_and_a_rollback_brings_the_others_back() {
    let Some(machine) = Machine::boot("unit_and_vhost_come_back", Hardening::None) else { return };
    mark(&machine, "then");
    let id = machine.back_up();
    mark(&machine, "now");
    let states = vec![("state", machine.live())];

    let watch = machine.watch(&states);
    let result = machine.restore(&[&id]);
    assert_eq!(marks(&machine), ["now", "now"], "without the flag they stay: {result:#}");
    let _ = machine.restore(&[&id, "--with-assets"]);
    assert_eq!(marks(&machine), ["then", "then"]);
    nothing_is_unread(&machine);
    let run = newest(&machine);
    let _ = machine.abssctl(&["run", "rollback", &run]);
    login(machine.network()).unwrap();
    assert_eq!(marks(&machine), ["now", "now"]);
    nothing_is_unread(&machine);
    assert_eq!(watch.end().order(), ["state", "away", "state", "away", "state", "away", "state"]);
}

#[test]
fn a_vhost_that_nginx_does_not_take_brings_everything_back() {
    let Some(machine) = Machine::boot("a_vhost_that_nginx_does_not_take", Hardening::None) else { return };
    mark(&machine, "now");
    let states = states(&machine);
    let vhost = machine.disk(VHOST);
    let text = std::fs::read_to_string(&vhost).unwrap();
    let broken = [
        text.replace("/etc/ssl/private/cert.pem", "/etc/ssl/private/gone.pem"),
        text.replace("http://127.0.0.1:5007", "http://server.of.another.machine:5007"),
    ];
    for (site, says) in broken.iter().zip(["/etc/ssl/private/gone.pem", "host not found in upstream"]) {
        std::fs::write(&vhost, site).unwrap();
        let id = machine.back_up();
        std::fs::write(&vhost, &text).unwrap();
        let watch = machine.watch(&states);
        let _ = machine.plan(&[&id, "--with-assets"]).ok();
        let error = machine.apply().error(4, "abssctl::apply::rolled_back", &[says]);
        crate::say(error["message"].as_str().unwrap());
        login(machine.network()).unwrap();
        assert_eq!(watch.end().order(), ["old", "away", "old"]);
        assert_eq!(std::fs::read_to_string(&vhost).unwrap(), text);
        assert_eq!(marks(&machine), ["now", "now"]);
        nothing_is_unread(&machine);
        assert_eq!(machine.live(), states[0].1);
    }
}

#[test]
fn a_configuration_of_nginx_that_others_broke_is_no_fault_of_a_plain_restore() {
    let name = "a_configuration_of_nginx_that_others_broke";
    let Some(machine) = Machine::boot(name, Hardening::None) else { return };
    mark(&machine, "then");
    let id = machine.back_up();
    mark(&machine, "now");
    let states = vec![("state", machine.live())];
    let other = machine.disk("etc/nginx/sites-enabled/other.conf");
    std::fs::write(&other, "server {\n    listen 8081;\n    CANARY-7 on;\n}\n").unwrap();

    // It goes on with what it has read: a plain restore has nothing to do with it.
    let watch = machine.watch(&states);
    let _ = machine.restore(&[&id]);
    assert_eq!(watch.end().order(), ["state", "away", "state"]);
    // One that needs nginx to read the vhost says whose file it is, and shows no line of it.
    let _ = machine.plan(&[&id, "--with-assets"]).ok();
    let error = machine.apply().error(4, "abssctl::apply::rolled_back", &["other.conf:3"]);
    let message = error["message"].as_str().unwrap();
    crate::say(message);
    assert!(!message.contains("CANARY"), "{message}");
    login(machine.network()).unwrap();
    assert_eq!(marks(&machine), ["now", "now"]);
    std::fs::remove_file(other).unwrap();
    let _ = machine.restore(&[&id, "--with-assets"]);
    assert_eq!(marks(&machine), ["then", "then"]);
}

#[test]
fn without_power_between_the_files_and_their_reading_the_next_boot_ends_it() {
    let Some(mut machine) = Machine::boot("without_power_between_the_files", Hardening::None) else { return };
    mark(&machine, "then");
    let id = machine.back_up();
    mark(&machine, "now");
    let run = machine.restore(&[&id, "--with-assets"])["run"].as_str().unwrap().to_owned();
    let journal = machine.journal(&run);
    let _ = machine.abssctl(&["run", "rollback", &run]);
    assert_eq!(marks(&machine), ["now", "now"]);
    let of_assets = |record: &String| kind(record).ends_with(" assets") || record.contains("\"assets\"");
    let places: Vec<usize> = (1..journal.len()).filter(|n| of_assets(&journal[n - 1])).collect();
    assert!(places.len() >= 2, "{journal:#?}");
    for place in [places[0], places[places.len() - 1]] {
        let _ = machine.plan(&[&id, "--with-assets"]).ok();
        let mut applying = machine.begin();
        let (run, record) = applying.wait_for(place);
        let mut child = applying.forget();
        machine.cut_power();
        machine.start();
        let _ = child.wait().unwrap();
        // The tree is the new one by then, so it goes forward.
        wait("the end of the run", || {
            let records = machine.journal(&run);
            let last = records.last().map(|record| kind(record)).unwrap_or_default();
            if last.starts_with("runEnded") || last.contains("succeeded") { Ok(()) } else { Err(last) }
        });
        assert_eq!(marks(&machine), ["then", "then"], "cut off at {}", kind(&record));
        nothing_is_unread(&machine);
        let _ = machine.abssctl(&["run", "rollback", &run]);
        assert_eq!(marks(&machine), ["now", "now"]);
    }
}
