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
