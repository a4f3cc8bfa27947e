//! What an attacker does with plans, keys and archives that were approved; the table that these belong to
//! is docs/security.md.

use serde_json::{Value, json};
use sha2::Digest as _;

use crate::policy::Team;
use crate::support::root::{GZIP, ZSTD};
use crate::support::{Ran, TestRoot};

#[test]
fn a_copy_of_an_applied_plan_is_not_applied_again() {
    let team = Team::new("requireApprovals: 1\n");
    team.sign(0, "anna");
    let _ = team.apply(&[]);
    // Somebody works on, and a copy turns up: another name, another form, the same signature.
    team.root.sql("srv/budget/data/server-files/account.sqlite", "UPDATE files SET name = 'Worked on'");
    let plan: Value = serde_json::from_slice(&std::fs::read(&team.plan).unwrap()).unwrap();
    let copy = team.root.work("innocent.yaml");
    let yaml = team.root.run(&["plan", "show", team.plan(), "--format", "yaml"]).ok().stdout;
    std::fs::write(&copy, yaml).unwrap();
    let before = team.root.tree();
    for more in [&[] as &[&str], &["--replay"]] {
        let args = [&["apply", copy.to_str().unwrap(), "--yes"], more].concat();
        let ran = team.root.json(&args);
        match more {
            [] => assert_eq!(ran.ok().json()["outcome"], "already_applied"),
            _ => assert_eq!(ran.refused(5, &["already-applied"])["problems"][0]["code"], "already-applied"),
        }
    }
    before.assert_same(&team.root.tree(), "a copy of an applied plan");
    // The copy that allows itself to be applied again is another plan, and nobody signed that.
    let mut other = plan;
    other["spec"]["replay"] = json!("allowed");
    std::fs::write(&copy, other.to_string()).unwrap();
    let told = team.root.json(&["apply", copy.to_str().unwrap(), "--yes", "--replay"]).code(5).json();
    assert_eq!(told["problems"][0]["code"], "approvals", "{told:#}");
    before.assert_same(&team.root.tree(), "a copy that was changed");
}

#[test]
fn a_signature_moved_to_another_plan_does_not_count() {
    let team = Team::new("requireApprovals: 1\n");
    team.sign(0, "anna");
    let approved: Value = serde_json::from_slice(&std::fs::read(&team.plan).unwrap()).unwrap();
    let _ = team.root.plan_to(&[GZIP], &team.plan).ok();
    let mut other: Value = serde_json::from_slice(&std::fs::read(&team.plan).unwrap()).unwrap();
    other["approvals"] = approved["approvals"].clone();
    std::fs::write(&team.plan, other.to_string()).unwrap();
    team.refused(&[], &["nobody has approved", "does not belong to this plan"]);
}

#[test]
fn a_key_that_was_taken_from_the_list_counts_no_more() {
    let team = Team::new("requireApprovals: 1\n");
    team.sign(0, "anna");
    let list = format!("bert {}\n", team.keys[1].public());
    team.root.write("etc/abssctl/allowed_signers", &list);
    team.refused(&[], &["nobody has approved", "not among the allowed signers"]);
    // The same key, ended by a date.
    let ended = format!("{list}anna valid-before=\"20260101\" {}\n", team.keys[0].public());
    team.root.write("etc/abssctl/allowed_signers", ended);
    team.refused(&[], &["nobody has approved"]);
    team.root.write("etc/abssctl/allowed_signers", format!("{list}anna {}\n", team.keys[0].public()));
    assert_eq!(team.apply(&[])["approvers"], json!(["anna"]));
}

#[test]
fn an_archive_that_was_exchanged_with_its_sidecar_and_its_index_entry_is_refused() {
    let team = Team::new("requireApprovals: 1\n");
    team.sign(0, "anna");
    exchange(&team.root);
    // Everything on the disk agrees: another command would take the archive for sound.
    let _ = team.root.run(&["backup", "verify", ZSTD]).ok();
    let before = team.root.tree();
    let ran: Ran = team.root.json(&["apply", team.plan(), "--yes"]);
    let told = ran.refused(5, &["backup-differs", "backup-differs", "archive", "backup-entry"]);
    assert!(told["message"].as_str().unwrap().contains("sha256"), "{told:#}");
    before.assert_same(&team.root.tree(), "an archive that was exchanged");
}

/// Puts another archive in the place of the approved one, with all that describes it.
fn exchange(root: &TestRoot) {
    let path = root.entry(ZSTD)["path"].as_str().unwrap().to_owned();
    let mut bytes = std::fs::read(root.path(&path)).unwrap();
    // A frame that a decoder skips: other bytes, the same content.
    bytes.extend([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
    let sum: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = std::path::Path::new(&path).file_name().unwrap().to_str().unwrap();
    root.write(format!("{path}.sha256"), format!("{sum}  {name}\n"));
    root.write(&path, &bytes);
    root.edit_entry(ZSTD, |entry| {
        entry["size_bytes"] = json!(bytes.len());
        entry["checksum"]["value"] = json!(sum);
    });
}

#[test]
fn signatures_of_nobody_push_out_no_others() {
    let team = Team::new("requireApprovals: 1\n");
    let key = team.keys[0].text();
    let _ = team.root.run(&["plan", "approve", team.plan(), "--key", key, "--detached", "--yes"]).ok();
    let junk = |number: u32| team.root.work(&format!("plan.json.0{number}.sig"));
    for number in 0..100 {
        std::fs::write(junk(number), "x").unwrap();
    }
    for command in [&["plan", "verify", team.plan()] as &[&str], &["apply", team.plan(), "--yes"]] {
        let _ = team.root.json(command).error(6, "abssctl::approve::too_many", &["101 signatures"]);
    }
    for number in 0..100 {
        std::fs::remove_file(junk(number)).unwrap();
    }
    assert_eq!(team.apply(&[])["approvers"], json!(["anna"]));
}

#[test]
fn a_link_beside_a_plan_brings_no_file_into_the_run() {
    let team = Team::new("");
    let secret = team.root.work("secret");
    std::fs::write(&secret, "-----BEGIN SSH SIGNATURE-----\nroot:$6$hash\n").unwrap();
    std::os::unix::fs::symlink(&secret, team.root.work("plan.json.root.sig")).unwrap();
    std::fs::write(team.root.work("plan.json.junk.sig"), "no signature").unwrap();
    let result = team.apply(&[]);
    let run = team.root.path(format!("var/lib/abssctl/runs/{}", result["run"].as_str().unwrap()));
    let kept: Vec<String> = std::fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| std::path::Path::new(name).extension().is_some_and(|end| end == "sig"))
        .collect();
    assert_eq!(kept, Vec::<String>::new());
}

#[test]
fn the_callers_time_zone_revives_no_key() {
    let team = Team::new("requireApprovals: 1\n");
    team.sign(0, "anna");
    // Six hours ago, as a clock that knows no zone shows it.
    let ended = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(6)).to_string();
    let ended: String = ended.chars().filter(char::is_ascii_digit).take(14).collect();
    let list = format!("anna valid-before=\"{ended}\" {}\n", team.keys[0].public());
    team.root.write("etc/abssctl/allowed_signers", list);
    for zone in ["UTC", "AAA24", "AAA-14"] {
        let mut command = team.root.command(&["apply", team.plan(), "--yes", "--json"]);
        let _ = Ran::of(command.env("TZ", zone)).refused(6, &["approvals"]);
    }
    // The zone of the machine counts: where it is ten hours behind, the key has not ended yet.
    let zone = "/usr/share/zoneinfo/Pacific/Honolulu";
    if std::path::Path::new(zone).exists() {
        std::fs::create_dir_all(team.root.path("usr/share/zoneinfo/Pacific")).unwrap();
        let _ = std::fs::copy(zone, team.root.path(zone)).unwrap();
        std::os::unix::fs::symlink(zone, team.root.path("etc/localtime")).unwrap();
        assert_eq!(team.apply(&[])["approvers"], json!(["anna"]));
    }
}

#[test]
fn signing_again_under_the_right_name_puts_a_wrong_one_right() {
    let team = Team::new("requireApprovals: 1\n");
    team.sign(0, "wrong");
    team.sign(0, "anna");
    let verified = team.root.json(&["plan", "verify", team.plan()]).ok().json();
    assert_eq!(verified["signatures"].as_array().unwrap().len(), 1, "{verified:#}");
    assert_eq!(team.apply(&[])["approvers"], json!(["anna"]));
}

#[test]
fn who_signs_is_shown_what_would_be_lost() {
    let team = Team::new("");
    let ran = team.root.run(&["plan", "approve", team.plan(), "--key", team.keys[0].text(), "--yes"]).ok();
    let plan: Value = serde_json::from_slice(&std::fs::read(&team.plan).unwrap()).unwrap();
    for warning in plan["preview"]["warnings"].as_array().unwrap() {
        assert!(ran.stderr.contains(warning["message"].as_str().unwrap()), "{warning}: {}", ran.stderr);
    }
}

#[test]
fn a_name_that_is_no_text_is_not_approved_into_nowhere() {
    use std::os::unix::ffi::OsStrExt as _;
    let team = Team::new("");
    let path = team.root.work("x").with_file_name(std::ffi::OsStr::from_bytes(b"\xff.json"));
    let _ = std::fs::copy(&team.plan, &path).unwrap();
    let mut command = team.root.command(&["plan", "approve", "--detached", "--yes", "--json", "--key"]);
    let ran = Ran::of(command.arg(team.keys[0].text()).arg(&path));
    let _ = ran.error(2, "abssctl::approve::file_name", &["not UTF-8"]);
}
