//! Tests of the index against the peer's real file, its recorded outputs, and Python's own JSON writer.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use miette::Diagnostic as _;

use super::*;
use crate::host::machine::ActorKind;
use crate::ids::PlanDigest;
use crate::state::config::ConfigFlags;
use crate::state::testing::{empty_root, instance_tree, python};

fn config(root: &Root) -> Config {
    Config::load(root, &ConfigFlags::default(), &BTreeMap::new()).unwrap()
}

fn put(root: &Root, content: &[u8]) {
    let path: AbsPath = "/srv/backups/backups.json".parse().unwrap();
    root.ensure_dir(&path.parent().unwrap(), 0o750).unwrap();
    let (dir, name) = root.parent_of(&path).unwrap();
    fs::replace(&dir, name, content, 0o640).unwrap();
}

fn text(root: &Root) -> String {
    std::fs::read_to_string(root.host_path(&"/srv/backups/backups.json".parse().unwrap())).unwrap()
}

fn entry(id: &str, created_at: &str, status: &str) -> Value {
    json!({
        "id": id, "instance": "budget", "created_at": created_at, "path": format!("/srv/backups/budget/{id}.tar"),
        "algorithm": "none", "size_bytes": 1, "checksum": {"algorithm": "sha256", "value": Sha256::of(b"")},
        "status": status, "metadata": {"data_only": false, "labels": []},
    })
}

fn index_of(entries: &[Value]) -> (tempfile::TempDir, Root, BackupIndex) {
    let (keep, root) = empty_root();
    put(&root, json!({"backups": entries}).to_string().as_bytes());
    let index = BackupIndex::load(&root, &config(&root)).unwrap();
    (keep, root, index)
}

fn record(run: &RunId) -> RestoreRecord {
    RestoreRecord {
        run: run.clone(),
        plan: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        plan_digest: PlanDigest(Sha256::of(b"plan")),
        at: "2026-11-25T10:00:00Z".parse().unwrap(),
        to: "/srv/budget".parse().unwrap(),
        actor: Actor { kind: ActorKind::User, name: "ann".into(), session: None },
        approvers: Vec::new(),
        pre_backup: None,
        clients: "reset".into(),
        budgets: Vec::new(),
        outcome: "applied".into(),
        rolls_back: None,
    }
}

#[test]
fn the_peers_real_index_comes_back_byte_for_byte() {
    let (_keep, root) = instance_tree();
    let before = text(&root);
    let index = BackupIndex::load(&root, &config(&root)).unwrap();
    assert_eq!(index.entries().len(), 4);
    let first = &index.entries()[0];
    assert_eq!((first.algorithm.as_str(), first.size_bytes, first.data_only), ("zstd", 43_980, false));
    assert_eq!(
        (first.labels.as_slice(), first.message.as_deref()),
        (&["nightly".to_owned()][..], Some("before week 2 (zstd)"))
    );
    index.save(&root).unwrap();
    assert_eq!(text(&root), before);
}

#[test]
fn recorded_entries_are_written_as_python_writes_them() {
    let recorded = include_bytes!("../../../tests/fixtures/peer/backup-list.json");
    let script = "import json,sys; sys.stdout.write(json.dumps(json.load(sys.stdin),indent=2)+'\\n')";
    let Some(expected) = python(script, recorded) else { return };
    assert!(expected.contains("donn\\u00e9es seules \\u2713"), "{expected}");
    let (_keep, root) = empty_root();
    put(&root, expected.as_bytes());
    BackupIndex::load(&root, &config(&root)).unwrap().save(&root).unwrap();
    assert_eq!(text(&root), expected);
}

#[test]
fn unknown_fields_and_their_order_survive_changes() {
    let (_keep, root) = empty_root();
    let mut odd = entry("a-1", "2026-11-24T02:26:32Z", "available");
    odd["zebra"] = json!({"y": 1.0, "x": [1e22]});
    put(&root, json!({"later": 1, "backups": [odd], "version": 2}).to_string().as_bytes());
    let mut index = BackupIndex::load(&root, &config(&root)).unwrap();
    index.update(&"a-1".parse().unwrap(), |map| drop(map.insert("status".into(), json!("removed")))).unwrap();
    index.save(&root).unwrap();
    let value: Value = serde_json::from_str(&text(&root)).unwrap();
    assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["later", "backups", "version"]);
    assert_eq!(value["backups"][0].as_object().unwrap().keys().next_back().unwrap(), "zebra");
    assert!(text(&root).contains("\"y\": 1.0") && text(&root).contains("1e+22"), "{}", text(&root));
}

#[test]
fn no_file_is_an_empty_index_and_a_new_one_is_private() {
    let (_keep, root) = empty_root();
    let mut index = BackupIndex::load(&root, &config(&root)).unwrap();
    let backup = NewBackup {
        manifest: Sha256::of(b"manifest"),
        id: "20261124-022632-budget-fc166c".parse().unwrap(),
        instance: "budget".parse().unwrap(),
        created_at: "2026-11-24T02:26:32Z".parse().unwrap(),
        path: "/srv/backups/budget/20261124-022632-budget-fc166c.tar.zst".parse().unwrap(),
        algorithm: "zstd".into(),
        size_bytes: 43_980,
        sha256: "eaf6dd62dc0acc755d01ec48cbc8b0c2900bb07e06dada8415af1d50abfa0efe".parse().unwrap(),
        data_only: false,
        labels: vec!["nightly".into()],
        compression_level: None,
        message: Some("before week 2 (zstd)".into()),
        created_by: Actor { kind: ActorKind::User, name: "root".into(), session: None },
    };
    index.add(backup.clone()).unwrap();
    assert!(matches!(index.add(backup), Err(IndexError::Duplicate { .. })));
    index.save(&root).unwrap();
    let path = root.host_path(&"/srv/backups/backups.json".parse().unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o750);

    // The same entry in the peer's own file has the same bytes.
    let (_keep, peer) = instance_tree();
    let ours = text(&root);
    let ours = ours.strip_prefix("{\n  \"backups\": [\n").unwrap().strip_suffix("\n  ]\n}\n").unwrap();
    // But for a field of ours.
    let of_ours = format!(",\n        \"manifest_sha256\": \"{}\"", Sha256::of(b"manifest"));
    assert_eq!(ours.matches(&of_ours).count(), 1, "{ours}");
    let ours = ours.replace(&of_ours, "");
    assert!(text(&peer).contains(&ours), "{ours}");
}

#[test]
fn broken_files_are_refused_with_their_place() {
    let (_keep, root) = empty_root();
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut one = entry("a-1", "2026-11-24T02:26:32Z", "available");
        change(&mut one);
        json!({"backups": [entry("a-0", "2026-11-24T02:26:32Z", "available"), one]}).to_string()
    };
    for (content, part) in [
        ("{\"backups\": [\n  oops\n]}".to_owned(), "(line 2, column 3)"),
        ("[]".to_owned(), "not an object"),
        ("{\"backups\": {}}".to_owned(), "'backups' is not a list"),
        ("{\"backups\": [1]}".to_owned(), "entry 1"),
        (broken(&|one| one["path"] = json!("../x")), "entry 2 ('a-1'): 'path'"),
        (broken(&|one| one["id"] = json!("../x")), "'id'"),
        (broken(&|one| one["created_at"] = json!("yesterday")), "'created_at'"),
        (broken(&|one| one["size_bytes"] = json!(-1)), "'size_bytes'"),
        (broken(&|one| one["checksum"]["value"] = json!("ABC")), "'checksum.value'"),
        (broken(&|one| one["metadata"] = json!([])), "'metadata'"),
        (broken(&|one| one["restores"] = json!([1])), "'restores'"),
        (broken(&|one| drop(one.as_object_mut().unwrap().remove("status"))), "'status'"),
        (broken(&|one| one["id"] = json!("a-0")), "two entries with the id 'a-0'"),
    ] {
        put(&root, content.as_bytes());
        let error = BackupIndex::load(&root, &config(&root)).unwrap_err();
        assert!(error.to_string().contains(part) && error.to_string().contains("backups.json"), "{error}");
        assert!(error.help().is_some() && error.code().is_some());
        assert_eq!(text(&root), content, "a broken index is left as it is");
    }
}

#[test]
fn the_newest_available_backup_of_a_time_is_found() {
    let (_keep, _root, index) = index_of(&[
        entry("b-3", "2026-11-26T00:00:00Z", "available"),
        entry("b-1", "2026-11-24T00:00:00Z", "available"),
        entry("b-2", "2026-11-25T00:00:00Z", "available"),
        entry("b-4", "2026-11-27T00:00:00Z", "removed"),
    ]);
    let budget = "budget".parse().unwrap();
    assert_eq!(index.latest(&budget).unwrap().id.as_str(), "b-3");
    assert_eq!(index.at(&budget, "2026-11-25T00:00:00Z".parse().unwrap()).unwrap().id.as_str(), "b-2");
    assert!(index.at(&budget, "2026-11-23T00:00:00Z".parse().unwrap()).is_none());
    assert!(index.latest(&"other".parse().unwrap()).is_none());
}

#[test]
fn a_mistyped_id_is_answered_with_the_nearest() {
    let (_keep, _root, index) =
        index_of(&[entry("20261124-022632-budget-fc166c", "2026-11-24T02:26:32Z", "available")]);
    let error = index.find(&"20261124-022632-budget-fc166d".parse().unwrap()).unwrap_err();
    assert!(error.help().unwrap().to_string().contains("fc166c"), "{}", error.help().unwrap());
    let error = index.find(&"x".parse().unwrap()).unwrap_err();
    assert!(error.help().unwrap().to_string().contains("backup list"));
    assert!(index.find(&"20261124-022632-budget-fc166c".parse().unwrap()).is_ok());
}

#[test]
fn verification_and_restores_leave_the_digest_as_it_is() {
    let recorded: Value =
        serde_json::from_slice(include_bytes!("../../../tests/fixtures/peer/backup-verify.json")).unwrap();
    let verified = recorded["results"][0]["entry"].clone();
    let list: Value =
        serde_json::from_slice(include_bytes!("../../../tests/fixtures/peer/backup-list.json")).unwrap();
    let plain =
        list["backups"].as_array().unwrap().iter().find(|entry| entry["id"] == verified["id"]).unwrap();
    let (_keep, _root, mut index) = index_of(std::slice::from_ref(plain));
    let digest = entry_digest(&index.entries()[0]);
    let (_keep2, _root2, with_verification) = index_of(&[verified]);
    assert_eq!(entry_digest(&with_verification.entries()[0]), digest);
    let id = index.entries()[0].id.clone();
    index.record_restore(&id, &record(&RunId::generate())).unwrap();
    index.update(&id, |map| drop(map.insert("status".into(), json!("missing")))).unwrap();
    assert_eq!(entry_digest(index.find(&id).unwrap()), digest);
    index.update(&id, |map| drop(map.insert("size_bytes".into(), json!(1)))).unwrap();
    assert_ne!(entry_digest(index.find(&id).unwrap()), digest);
}

#[test]
fn a_restore_is_recorded_once_and_forgotten_without_a_trace() {
    let (_keep, root) = instance_tree();
    let before = text(&root);
    let mut index = BackupIndex::load(&root, &config(&root)).unwrap();
    let id = index.entries()[1].id.clone();
    let run = RunId::generate();
    index.record_restore(&id, &record(&run)).unwrap();
    let once = index.to_text();
    index.record_restore(&id, &record(&run)).unwrap();
    assert_eq!(index.to_text(), once);
    assert!(once.contains("\"restored_to\": \"/srv/budget\""));
    index.forget_restore(&id, &run).unwrap();
    index.save(&root).unwrap();
    assert_eq!(text(&root), before);
    let unknown = "nothing".parse().unwrap();
    assert!(matches!(index.record_restore(&unknown, &record(&run)), Err(IndexError::UnknownBackup { .. })));
}

#[test]
fn a_write_that_fails_leaves_the_old_index() {
    let (_keep, root, index) = index_of(&[entry("a-1", "2026-11-24T02:26:32Z", "available")]);
    let dir = root.host_path(&"/srv/backups".parse().unwrap());
    std::fs::remove_file(dir.join("backups.json")).unwrap();
    std::fs::create_dir(dir.join("backups.json")).unwrap();
    let error = index.save(&root).unwrap_err();
    assert!(error.to_string().contains("backups.json"), "{error}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no temporary file is left");
    assert!(matches!(BackupIndex::load(&root, &config(&root)).unwrap_err(), IndexError::Fs(_)));
}
