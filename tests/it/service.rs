//! A restore stops the service and starts it again; what goes wrong on the way leaves the old server
//! running on the old tree. systemd is a stand-in here whose server is a real process; tests/appliance has
//! the real one.

use crate::resume::newest;
use crate::support::journal;
use crate::support::root::{GZIP, LIVE, ZSTD};
use crate::support::service::{Serviced, UNIT, certificates};
use crate::support::tools::{have, skip_unless, wait_for};

/// Tests here need python3 for the server and curl to ask it.
fn cannot(test: &str) -> bool {
    skip_unless(test, have("python3") && have("curl"), "python3 or curl is missing")
}

fn kinds(plan: &serde_json::Value) -> Vec<String> {
    let steps = plan["steps"].as_array().unwrap();
    steps.iter().map(|step| step["kind"].as_str().unwrap().to_owned()).collect()
}

fn check<'p>(plan: &'p serde_json::Value, id: &str) -> &'p serde_json::Value {
    let checks = plan["preview"]["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("{id}: {checks:#?}"))
}

#[test]
fn a_running_service_is_stopped_and_started_around_the_swap() {
    if cannot("a_running_service_is_stopped_and_started_around_the_swap") {
        return;
    }
    let world = Serviced::new();
    let (before, (path, plan)) = (world.pid(), world.plan(&[ZSTD]));
    assert_eq!(
        kinds(&plan),
        [
            "lock",
            "check",
            "verify",
            "extract",
            "inspect",
            "prepare",
            "stop",
            "pre-backup",
            "swap",
            "start",
            "health",
            "record",
            "cleanup"
        ]
    );
    assert_eq!(
        plan["observed"]["service"],
        serde_json::json!({ "manager": "systemd", "unit": UNIT, "running": true })
    );
    assert_eq!(check(&plan, "service")["verdict"], "will");
    assert_ne!(check(&plan, "target-in-use")["verdict"], "will-not", "its own files are no obstacle");
    assert_eq!(world.calls(), [""; 0], "planning gives no order");
    let result = world.root.apply(&path).ok().json();
    assert_eq!(result["outcome"], "applied", "{result:#}");
    assert_eq!(world.calls(), ["stop", "reset-failed", "start"]);
    world.assert_new();
    assert_ne!(world.pid(), before);
    assert_eq!(result["warnings"], serde_json::json!([]), "{result:#}");
    let health = result["steps"].as_array().unwrap().iter().find(|step| step["kind"] == "health").unwrap();
    assert!(health["detail"].as_str().unwrap().ends_with("is up, version 25.6.0"), "{health}");
    assert!(
        world
            .root
            .run(&["plan", "show", path.to_str().unwrap()])
            .ok()
            .stdout
            .contains("service down for about")
    );
    // A second plan of the same state says the same.
    let (_, plan) = world.plan(&[ZSTD]);
    let (_, again) = world.plan(&[ZSTD]);
    assert!(plan["preview"]["downtimeMs"].as_u64() >= Some(2600), "{}", plan["preview"]["downtimeMs"]);
    assert_eq!(plan["preview"]["downtimeMs"], again["preview"]["downtimeMs"]);
}

/// Proves that a run tells how long nobody was served, everywhere the same.
#[track_caller]
fn assert_downtime(world: &Serviced, result: &serde_json::Value) {
    let down = &result["downtimeMs"];
    assert!(down.as_u64().is_some_and(|down| down > 0), "{result:#}");
    assert!(down.as_u64() < result["durationMs"].as_u64(), "{result:#}");
    assert_eq!(world.root.log().last().unwrap()["context"]["downtime_ms"], *down);
    let run = result["run"].as_str().unwrap();
    assert_eq!(world.root.json(&["run", "show", run]).ok().json()["downtimeMs"], *down);
    let receipt = world.root.run(&["run", "show", run, "--receipt"]).ok().stdout;
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["downtimeMs"], *down);
}

#[test]
fn the_time_without_a_server_is_told_also_of_a_run_that_was_undone() {
    if cannot("the_time_without_a_server_is_told_also_of_a_run_that_was_undone") {
        return;
    }
    let world = Serviced::new();
    let (path, plan) = world.plan(&[ZSTD, "--pre-backup", "online"]);
    let order = kinds(&plan);
    let place = |kind: &str| order.iter().position(|step| step == kind).unwrap();
    let while_up = ["verify", "extract", "inspect", "prepare", "pre-backup"];
    assert!(while_up.into_iter().all(|kind| place(kind) < place("stop")), "{order:?}");
    let result = world.root.apply(&path).ok().json();
    assert_downtime(&world, &result);
    let steps = result["steps"].as_array().unwrap();
    let took =
        |kind: &str| steps.iter().find(|step| step["kind"] == kind).unwrap()["durationMs"].as_u64().unwrap();
    assert!(result["downtimeMs"].as_u64().unwrap() >= took("swap") + took("start"), "{result:#}");
    // Quiesced, the pre-backup counts.
    let (path, plan) = world.plan(&[ZSTD]);
    assert!(plan["preview"]["downtimeMs"].is_u64());
    let result = world.root.apply(&path).ok().json();
    assert_downtime(&world, &result);
    // Undone: until the old server answers.
    let world = Serviced::new();
    world.odd("sick", "new");
    world.settings("healthTimeout: 2s");
    let (path, _) = world.plan(&[ZSTD]);
    let error = world.root.apply(&path).error(4, "abssctl::apply::rolled_back", &["503"]);
    assert_downtime(&world, &error["result"]);
    assert!(error["result"]["downtimeMs"].as_u64().unwrap() > 2000, "{error:#}");
    // Nothing is told where the server stays stopped.
    let world = Serviced::new();
    let (path, plan) = world.plan(&[ZSTD, "--no-restart"]);
    assert_eq!(plan["preview"].get("downtimeMs"), None);
    let result = world.root.apply(&path).ok().json();
    assert_eq!(result["downtimeMs"], serde_json::Value::Null);
}

#[test]
fn an_estimate_of_somebody_else_is_refused() {
    if cannot("an_estimate_of_somebody_else_is_refused") {
        return;
    }
    let world = Serviced::new();
    let (path, mut plan) = world.plan(&[ZSTD]);
    plan["preview"]["downtimeMs"] = serde_json::json!(1);
    std::fs::write(&path, plan.to_string()).unwrap();
    let checked = world.root.json(&["plan", "check", path.to_str().unwrap()]).json();
    assert_eq!(checked["problems"][0]["code"], "preview-untrue", "{checked:#}");
    assert!(checked["problems"][0]["message"].as_str().unwrap().contains("downtimeMs"), "{checked:#}");
}

#[test]
fn doctor_says_how_the_unit_is_and_whether_its_server_answers() {
    if cannot("doctor_says_how_the_unit_is_and_whether_its_server_answers") {
        return;
    }
    let world = Serviced::new();
    let expect = |code: &str, words: &str| {
        let report = world.root.json(&["doctor"]).json();
        let findings = report["findings"].as_array().unwrap();
        let units: Vec<_> =
            findings.iter().filter(|it| it["code"].as_str().unwrap().starts_with("unit")).collect();
        assert!(
            units.iter().any(|it| it["code"] == code && it["message"].as_str().unwrap().contains(words)),
            "{code} {words}: {units:#?}"
        );
    };
    expect("unit", "is active (running), enabled, and http://127.0.0.1");
    world.odd("file", "disabled");
    expect("unit-disabled", "does not come up with the machine");
    world.odd("load", "masked");
    expect("unit-masked", "is masked");
    assert_eq!(world.root.json(&["doctor"]).json()["problems"], 1, "it runs and could not be started again");
    world.even("load");
    let registry = world.root.read(crate::support::root::REGISTRY);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let other = registry.replace(&format!("port: {}", world.port), &format!("port: {closed}"));
    world.root.write(crate::support::root::REGISTRY, other);
    expect("unit-silent", "nobody listens there");
    let mut taken: serde_json::Value = serde_yaml::from_str(&registry).unwrap();
    taken["instances"][0]["paths"]["systemd_unit"] = "/etc/systemd/system/abssctl-recover.service".into();
    world.root.write(crate::support::root::REGISTRY, taken.to_string());
    expect("unit-taken", "the one that finishes interrupted runs");
    let (_, plan) = world.plan(&[ZSTD]);
    assert_eq!(check(&plan, "service")["verdict"], "not-checked");
    world.root.write(crate::support::root::REGISTRY, registry);
    world.systemctl("stop");
    expect("unit-stopped", "it is inactive (dead)");
    world.odd("limit", "");
    expect("unit-failed", "start-limit-hit");
    world.even("limit");
    world.odd("restarting", "");
    expect("unit-failed", "auto-restart");
    for (load, code) in [("not-found", "unit-absent"), ("bad-setting", "unit-unusable")] {
        world.odd("load", load);
        expect(code, UNIT);
    }
    world.forget_calls();
    // Below another root nothing is asked unless it says so.
    world.root.write("etc/abssctl/restore.yml", "{}");
    let report = world.root.json(&["doctor"]).json();
    let findings = report["findings"].as_array().unwrap();
    assert!(!findings.iter().any(|it| it["code"].as_str().unwrap().starts_with("unit")), "{report:#}");
}

#[test]
fn a_stopped_service_stays_stopped_unless_it_is_to_be_started() {
    if cannot("a_stopped_service_stays_stopped_unless_it_is_to_be_started") {
        return;
    }
    let world = Serviced::stopped();
    let (path, plan) = world.plan(&[ZSTD]);
    assert!(!kinds(&plan).iter().any(|kind| ["stop", "start", "health"].contains(&kind.as_str())));
    let _ = world.root.apply(&path).ok();
    assert_eq!((world.calls(), world.pid()), (Vec::new(), None));
    // The policy is part of the wish.
    let world = Serviced::stopped();
    world.odd("limit", "");
    let (path, plan) = world.plan(&[ZSTD, "--restart"]);
    assert!(check(&plan, "service")["why"].as_str().unwrap().contains("has failed: it is started"));
    let _ = world.root.apply(&path).ok();
    assert_eq!(world.calls(), ["reset-failed", "start"], "counted failures are forgotten");
    world.assert_new();
}

#[test]
fn a_service_that_is_not_to_be_started_again_stays_stopped() {
    if cannot("a_service_that_is_not_to_be_started_again_stays_stopped") {
        return;
    }
    let world = Serviced::new();
    let (path, plan) = world.plan(&[ZSTD, "--no-restart"]);
    assert!(check(&plan, "service")["why"].as_str().unwrap().contains("it is stopped, and stays so"));
    let _ = world.root.apply(&path).ok();
    assert_eq!((world.calls(), world.pid()), (vec!["stop".to_owned()], None));
}

#[test]
fn a_service_in_another_state_than_in_the_plan_makes_it_stale() {
    if cannot("a_service_in_another_state_than_in_the_plan_makes_it_stale") {
        return;
    }
    let world = Serviced::new();
    let (path, _) = world.plan(&[ZSTD]);
    world.systemctl("stop");
    let _ = world.root.apply(&path).refused(5, &["service"]);
    let (path, _) = world.plan(&[ZSTD]);
    world.systemctl("start");
    world.wait_until_up();
    let _ = world.root.apply(&path).refused(5, &["service", "target-in-use"]);
    world.assert_old();
}

#[test]
fn a_server_that_does_not_start_brings_the_old_one_back_and_its_log_says_why() {
    if cannot("a_server_that_does_not_start_brings_the_old_one_back_and_its_log_says_why") {
        return;
    }
    let world = Serviced::new();
    world.odd("dies", "new");
    let (path, _) = world.plan(&[ZSTD]);
    let ran = world.root.apply(&path);
    let words = [
        "health failed, and everything is as it was",
        "the data has been through a migration that the installed server does not know",
        "\n  Error: Missing migration file: 1900000000000-later.js\n",
        "failed (failed), exit-code",
    ];
    let _ = ran.error(4, "abssctl::apply::rolled_back", &words);
    assert_eq!(world.calls(), ["stop", "reset-failed", "start", "reset-failed", "start"]);
    world.assert_old();
    assert_eq!(world.root.log().last().unwrap()["rc"], 4);
}

#[test]
fn a_server_that_does_not_answer_in_time_brings_the_old_one_back() {
    if cannot("a_server_that_does_not_answer_in_time_brings_the_old_one_back") {
        return;
    }
    for (odd, words) in [("deaf", "at last: nobody listens there"), ("sick", "answers with status 503")] {
        let world = Serviced::new();
        world.odd(odd, "new");
        // Said by the old server in the second in which the new one is started.
        world.odd("old", "Error: listen EADDRINUSE: address already in use\n");
        world.settings("healthTimeout: 10s");
        let (path, _) = world.plan(&[ZSTD]);
        let ran = world.root.apply(&path);
        let words = [words, "was asked for 10 seconds"];
        let error = ran.error(4, "abssctl::apply::rolled_back", &words);
        assert!(!error.to_string().contains("EADDRINUSE"), "{error:#}");
        assert_eq!(world.calls(), ["stop", "reset-failed", "start", "stop", "reset-failed", "start"]);
        world.assert_old();
    }
}

#[test]
fn a_failure_after_the_swap_may_be_left_for_a_person() {
    if cannot("a_failure_after_the_swap_may_be_left_for_a_person") {
        return;
    }
    let world = Serviced::new();
    world.odd("sick", "new");
    world.settings("healthTimeout: 10s");
    let (path, _) = world.plan(&[ZSTD, "--on-failure", "halt"]);
    let error =
        world.root.apply(&path).error(7, "abssctl::apply::halted", &["health failed after the swap", "503"]);
    let run = world.root.runs()[0]["run"].as_str().unwrap().to_owned();
    assert!(error["help"].as_str().unwrap().contains(&format!("abssctl run rollback {run}")));
    world.root.assert_generation("gen-a.sha256");
    assert!(world.pid().is_some(), "the new server is left");
    let _ = world.root.run(&["run", "rollback", &run, "--yes"]).ok();
    world.assert_old();
    // Or a person mends it, and the run goes on.
    let (path, _) = world.plan(&[ZSTD, "--on-failure", "halt"]);
    let _ = world.root.apply(&path).code(7);
    world.even("sick");
    let run = world.root.runs()[0]["run"].as_str().unwrap().to_owned();
    let _ = world.root.run(&["run", "resume", &run]).ok();
    world.assert_new();
}

#[test]
fn killed_around_stop_and_start_the_run_knows_that_the_service_ran() {
    if cannot("killed_around_stop_and_start_the_run_knows_that_the_service_ran") {
        return;
    }
    for when in ["kill-before-stop", "kill-after-stop", "kill-before-start", "kill-after-start"] {
        let world = Serviced::new();
        let (path, _) = world.plan(&[ZSTD]);
        world.odd(when, "");
        let killed = world.root.apply(&path);
        assert_eq!(killed.code, 128 + 9, "{when}");
        // The stand-in was left running, as an order to systemd is.
        crate::support::tools::wait_for("the order", || (!world.control(when).exists()).then_some(()));
        let forward = when.ends_with("start");
        if when == "kill-after-stop" {
            let run = world.root.runs()[0]["run"].as_str().unwrap().to_owned();
            let _ = world.root.run(&["run", "rollback", &run, "--yes"]).ok();
            world.assert_old();
            let _ = world.root.apply(&path).ok();
            world.assert_new();
            continue;
        }
        let result = world.root.apply(&path).ok().json();
        assert_eq!(result["outcome"], "applied", "{when}");
        world.assert_new();
        assert_eq!(world.root.runs().len(), if forward { 1 } else { 2 }, "{when}");
    }
}

#[test]
fn a_server_that_does_not_stop_is_told_with_its_processes() {
    if cannot("a_server_that_does_not_stop_is_told_with_its_processes") {
        return;
    }
    let world = Serviced::new();
    world.settings("healthTimeout: 2s");
    world.odd("stubborn", "");
    let (path, _) = world.plan(&[ZSTD]);
    let pid = format!("process {} (", world.pid().unwrap());
    let words = ["abssctl-budget.service did not stop within 2 seconds: it is active (running)", &pid];
    let _ = world.root.apply(&path).error(4, "abssctl::apply::rolled_back", &words);
    world.assert_old();
}

#[test]
fn whoever_else_has_files_open_keeps_the_restore_from_beginning() {
    if cannot("whoever_else_has_files_open_keeps_the_restore_from_beginning") {
        return;
    }
    let world = Serviced::new();
    let (path, _) = world.plan(&[ZSTD]);
    let file = std::fs::File::open(world.root.path("srv/budget/data/config.json")).unwrap();
    let mut other = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
    crate::support::tools::wait_for("sleep", || {
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", other.id())).ok()?;
        line.starts_with("sleep").then_some(())
    });
    let _ = world.root.apply(&path).refused(3, &["target-in-use"]);
    other.kill().unwrap();
    let _ = other.wait().unwrap();
    assert_eq!(world.calls(), [""; 0]);
    world.assert_old();
}

#[test]
fn units_that_cannot_be_started_are_told_before_anything_is_stopped() {
    if cannot("units_that_cannot_be_started_are_told_before_anything_is_stopped") {
        return;
    }
    let world = Serviced::new();
    let (path, _) = world.plan(&[ZSTD]);
    world.odd("load", "masked");
    let masked = world.root.plan_to(&[ZSTD], &world.root.work("other.json"));
    let _ = masked
        .code(2)
        .says("abssctl-budget.service is masked")
        .says("systemctl unmask abssctl-budget.service");
    let _ = world.root.apply(&path).refused(5, &["service-unit", "service"]);
    let (_, plan) = world.plan(&[ZSTD, "--no-restart"]);
    assert!(check(&plan, "service")["why"].as_str().unwrap().contains("is masked"));
    world.odd("load", "not-found");
    let (_, plan) = world.plan(&[ZSTD]);
    assert_eq!(check(&plan, "service")["verdict"], "not-checked");
    assert_eq!(
        check(&plan, "target-in-use")["verdict"],
        "will-not",
        "somebody runs whom systemd does not know"
    );
    let other = world.root.work("other.json");
    let _ = world.root.plan_to(&[ZSTD, "--restart"], &other).code(2).says("is not known to systemd");
    world.even("load");
    assert_eq!(world.calls(), [""; 0]);
    world.assert_old();
}

#[test]
fn a_unit_in_a_loop_of_failures_is_stopped_and_put_back_as_it_was() {
    if cannot("a_unit_in_a_loop_of_failures_is_stopped_and_put_back_as_it_was") {
        return;
    }
    let world = Serviced::stopped();
    world.odd("restarting", "");
    let (path, plan) = world.plan(&[ZSTD]);
    assert_eq!(plan["observed"]["service"]["trouble"], "restarting");
    assert!(kinds(&plan).contains(&"stop".to_owned()));
    let result = world.root.apply(&path).ok().json();
    assert!(result["warnings"][0].as_str().unwrap().contains("did not answer before"), "{result:#}");
    world.assert_new();
}

#[test]
fn a_unit_that_failed_before_keeps_no_undo_from_its_end() {
    if cannot("a_unit_that_failed_before_keeps_no_undo_from_its_end") {
        return;
    }
    let world = Serviced::stopped();
    world.odd("restarting", "");
    world.odd("crashes", "");
    let (path, _) = world.plan(&[ZSTD]);
    let words = ["start failed, and everything is as it was", "control process exited"];
    let error = world.root.apply(&path).error(4, "abssctl::apply::rolled_back", &words);
    let said = error["result"]["warnings"].to_string();
    assert!(said.contains("did not answer before it was stopped, and is not well now"), "{error:#}");
    let run = error["result"]["run"].as_str().unwrap();
    assert_eq!(world.root.json(&["run", "show", run]).ok().json()["outcome"], "rolled_back");
    world.root.assert_generation("gen-b.sha256");
    world.root.assert_no_private();
    // Another backup may be tried at once, and one that the server takes is restored.
    world.even("crashes");
    let (path, _) = world.plan(&[GZIP]);
    let _ = world.root.apply(&path).ok();
    world.assert_new();
}

#[test]
fn a_port_that_another_program_took_is_told() {
    if cannot("a_port_that_another_program_took_is_told") {
        return;
    }
    let world = Serviced::stopped();
    let (path, _) = world.plan(&[ZSTD, "--restart"]);
    let _taken = std::net::TcpListener::bind(("127.0.0.1", world.port)).unwrap();
    let words = ["abssctl-budget.service cannot be started: another program listens on its port"];
    let _ = world.root.apply(&path).error(4, "abssctl::apply::rolled_back", &words);
    world.root.assert_generation("gen-b.sha256");
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_server_with_a_private_authority_is_proven_by_it() {
    let can = have("python3") && have("curl") && have("openssl");
    if skip_unless("a_server_with_a_private_authority_is_proven_by_it", can, "openssl is missing") {
        return;
    }
    let world = Serviced::stopped();
    certificates(world.control("").as_path());
    let ca = std::fs::read(world.control("ca.pem")).unwrap();
    world.root.write("etc/abssctl/ca.pem", ca);
    world.settings("health:\n  url: https://127.0.0.1:{port}\n  ca: /etc/abssctl/ca.pem");
    let (path, plan) = world.plan(&[ZSTD, "--restart"]);
    assert_eq!(plan["spec"]["health"]["url"], format!("https://127.0.0.1:{}", world.port));
    let _ = world.root.apply(&path).ok();
    world.root.assert_generation("gen-a.sha256");
    // The usual authorities do not know it.
    world.settings("healthTimeout: 5s\nhealth:\n  url: https://127.0.0.1:{port}");
    let (path, _) = world.plan(&[ZSTD, "--restart"]);
    let _ =
        world.root.apply(&path).error(4, "abssctl::apply::rolled_back", &["certificate", "UnknownIssuer"]);
    // What the machine says counts, not what somebody wrote into a plan.
    let (path, _) = world.plan(&[ZSTD, "--restart"]);
    world.settings("healthTimeout: 10s");
    let _ = world.root.apply(&path).refused(5, &["health-address"]);
}

#[test]
fn below_another_root_no_service_is_touched_unless_it_says_so() {
    if cannot("below_another_root_no_service_is_touched_unless_it_says_so") {
        return;
    }
    let world = Serviced::new();
    // config.yml names a program; that alone is what the peer writes.
    for text in ["{}", "serviceManager: none", "serviceManager: auto"] {
        world.root.write("etc/abssctl/restore.yml", text);
        let (path, plan) = world.plan(&[ZSTD]);
        assert_eq!(plan["observed"]["service"], serde_json::json!({ "manager": "none", "running": false }));
        let _ = world.root.apply(&path).refused(3, &["target-in-use"]);
    }
    assert_eq!(world.calls(), [""; 0]);
    world.assert_old();
}

#[test]
fn a_rollback_stops_and_starts_the_service_too() {
    if cannot("a_rollback_stops_and_starts_the_service_too") {
        return;
    }
    let world = Serviced::new();
    let (path, _) = world.plan(&[ZSTD]);
    let run = world.root.apply(&path).ok().json()["run"].as_str().unwrap().to_owned();
    world.assert_new();
    world.forget_calls();
    let back = world.root.work("back.json");
    let _ = world.root.run(&["plan", "rollback", &run, "-o", back.to_str().unwrap()]).ok();
    let result = world.root.apply(&back).ok().json();
    assert_eq!(result["outcome"], "applied");
    assert_eq!(world.calls(), ["stop", "reset-failed", "start"]);
    world.root.assert_generation("gen-b.sha256");
    assert!(world.is_up());
}

#[test]
fn a_kept_tree_that_somebody_changed_is_refused_while_the_server_still_serves() {
    if cannot("a_kept_tree_that_somebody_changed_is_refused_while_the_server_still_serves") {
        return;
    }
    let world = Serviced::new();
    let (path, _) = world.plan(&[ZSTD]);
    let result = world.root.apply(&path).ok().json();
    let displaced = result["displaced"].as_str().unwrap().trim_start_matches('/').to_owned();
    world.root.write(format!("{displaced}/data/user-files/stray.blob"), "of nobody");
    world.forget_calls();
    let back = world.root.work("back.json");
    let run = result["run"].as_str().unwrap();
    let _ = world.root.run(&["plan", "rollback", run, "-o", back.to_str().unwrap()]).ok();
    let words = ["is not the tree that run"];
    let _ = world.root.apply(&back).error(4, "abssctl::apply::rolled_back", &words);
    assert_eq!(world.calls(), Vec::<String>::new());
    world.assert_new();
    assert!(world.is_up());
}

#[test]
fn a_server_that_somebody_started_in_the_middle_of_an_undo_is_stopped_before_the_trees_change_places() {
    if cannot("a_server_that_somebody_started_in_the_middle_of_an_undo") {
        return;
    }
    let world = Serviced::new();
    world.settings("healthTimeout: 10s");
    world.odd("sick", "new");
    let (path, _) = world.plan(&[ZSTD, "--no-pre-backup"]);
    // Killed when the new server is stopped again, and the old tree is about to come back.
    let ran = std::thread::scope(|scope| {
        let apply = scope.spawn(|| world.root.run(&["apply", path.to_str().unwrap(), "--yes"]));
        wait_for("the new server", || world.calls().contains(&"start".to_owned()).then_some(()));
        world.odd("kill-after-stop", "");
        apply.join().unwrap()
    });
    assert_eq!(ran.code, 137, "it was killed: {}{}", ran.stdout, ran.stderr);
    let run = newest(&world.root)["run"].as_str().unwrap().to_owned();
    let journal = world.root.path("var/lib/abssctl/runs").join(&run).join("journal.jsonl");
    journal::append(&journal, &serde_json::json!({ "undoDone": { "step": "start" } }));
    world.even("sick");
    world.systemctl("start");
    world.wait_until_up();
    world.forget_calls();
    let _ = world.root.run(&["run", "rollback", &run, "--yes"]).ok();
    assert_eq!(world.calls(), ["stop", "reset-failed", "start"]);
    world.assert_old();
    let open = std::fs::read_link(format!("/proc/{}/fd/3", world.pid().unwrap())).unwrap();
    assert!(open.starts_with(world.root.path(LIVE)), "{}", open.display());
}
