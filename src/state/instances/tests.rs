//! Tests of the registry against the peer's real file and broken ones.

use std::collections::BTreeMap;

use miette::Diagnostic as _;

use super::*;
use crate::host::machine::ActorKind;
use crate::state::config::ConfigFlags;
use crate::state::testing::{empty_root, instance_tree};

const FILE: &str = "/var/lib/abssctl/registry/instances.yml";

fn config(root: &Root) -> Config {
    Config::load(root, &ConfigFlags::default(), &BTreeMap::new()).unwrap()
}

fn load(root: &Root) -> Result<Registry, RegistryError> {
    Registry::load(root, &config(root))
}

fn text_of(root: &Root) -> String {
    std::fs::read_to_string(root.host_path(&FILE.parse().unwrap())).unwrap()
}

fn put(root: &Root, content: &[u8]) {
    let path: AbsPath = FILE.parse().unwrap();
    root.ensure_dir(&path.parent().unwrap(), 0o750).unwrap();
    let (dir, name) = root.parent_of(&path).unwrap();
    fs::replace(&dir, name, content, 0o640).unwrap();
}

fn note() -> RestoreNote {
    RestoreNote {
        at: "2026-11-24T02:40:08Z".parse().unwrap(),
        source: "20261124-023952-budget-41774e".parse().unwrap(),
        destination: "/srv/budget".parse().unwrap(),
        actor: Actor { kind: ActorKind::User, name: "root".into(), session: None },
    }
}

#[test]
fn the_peers_real_registry_comes_back_byte_for_byte() {
    let (_keep, root) = instance_tree();
    let before = text_of(&root);
    let registry = load(&root).unwrap();
    let entry = registry.get(&"budget".parse().unwrap()).unwrap();
    assert_eq!(
        (entry.port, entry.version.as_deref(), entry.status.as_deref()),
        (Some(5007), Some("25.6.0"), Some("enabled"))
    );
    assert_eq!(entry.paths.data.as_str(), "/srv/budget/data");
    assert_eq!(entry.paths.nginx_enabled.as_str(), "/run/abssctl/nginx/sites-enabled/abssctl-budget.conf");
    registry.save(&root).unwrap();
    assert_eq!(text_of(&root), before);
}

#[test]
fn a_restore_is_recorded_and_forgotten_without_a_trace() {
    let (_keep, root) = instance_tree();
    let before = text_of(&root);
    let name = "budget".parse().unwrap();
    let mut registry = load(&root).unwrap();
    let digest = entry_digest(registry.get(&name).unwrap());
    let former = registry.record_restore(&name, &note()).unwrap();
    registry.update(&name, |map| drop(map.insert("status".into(), json!("running")))).unwrap();
    assert_eq!(entry_digest(registry.get(&name).unwrap()), digest, "status and metadata are no identity");
    let expected = "    last_restored_at: '2026-11-24T02:40:08Z'\n    last_restore_source: 20261124-023952-budget-41774e\n    \
                    last_restore_destination: /srv/budget\n    last_restore_actor:\n      type: user\n      name: root\n";
    assert!(registry.to_text().ends_with(expected), "{}", registry.to_text());
    registry.update(&name, |map| drop(map.insert("status".into(), json!("enabled")))).unwrap();
    registry.forget_restore(&name, &note(), &former).unwrap();
    assert_eq!(registry.to_text(), before);
    registry.forget_restore(&name, &note(), &former).unwrap();
    assert_eq!(registry.to_text(), before, "a second time changes nothing");
}

#[test]
fn forgetting_puts_former_values_back_and_spares_newer_ones() {
    let (_keep, root) = instance_tree();
    let name = "budget".parse().unwrap();
    let mut registry = load(&root).unwrap();
    registry.record_restore(&name, &note()).unwrap();
    let once = registry.to_text();
    let second = RestoreNote { at: "2026-11-25T00:00:00Z".parse().unwrap(), ..note() };
    let former = registry.record_restore(&name, &second).unwrap();
    let twice = registry.to_text();
    let journaled: LastRestore = serde_json::from_str(&serde_json::to_string(&former).unwrap()).unwrap();
    registry.forget_restore(&name, &note(), &LastRestore::default()).unwrap();
    assert_eq!(registry.to_text(), twice);
    registry.forget_restore(&name, &second, &journaled).unwrap();
    assert_eq!(registry.to_text(), once);
}

#[test]
fn identity_is_name_domain_port_version_and_paths() {
    let (_keep, root) = instance_tree();
    let name = "budget".parse().unwrap();
    let registry = load(&root).unwrap();
    let digest = entry_digest(registry.get(&name).unwrap());
    for (key, value) in
        [("domain", json!("x")), ("port", json!(1)), ("version", json!("1")), ("paths", json!({}))]
    {
        let mut changed = registry.clone();
        changed.update(&name, |map| drop(map.insert(key.into(), value))).unwrap();
        assert_ne!(entry_digest(changed.get(&name).unwrap()), digest, "{key}");
    }
    let mut renamed = registry.clone();
    assert!(renamed.update(&name, |map| drop(map.insert("name".into(), json!("other")))).is_err());
}

#[test]
fn missing_parts_are_derived_and_a_missing_file_is_empty() {
    let (_keep, root) = empty_root();
    assert!(load(&root).unwrap().entries().is_empty());
    let error = load(&root).unwrap().get(&"budget".parse().unwrap()).unwrap_err().help().unwrap().to_string();
    assert!(error.contains("no instance"), "{error}");
    put(&root, b"instances:\n- name: home\n  version: 25.6\n  metadata:\n");
    let mut registry = load(&root).unwrap();
    let name = "home".parse().unwrap();
    let entry = registry.get(&name).unwrap();
    assert_eq!(entry.version.as_deref(), Some("25.6"));
    assert_eq!(entry.paths.root.as_str(), "/srv/home");
    assert_eq!(entry.paths.config.as_str(), "/srv/home/data/config.json");
    assert_eq!(entry.paths.systemd_unit.as_str(), "/run/abssctl/systemd/abssctl-home.service");
    registry.record_restore(&name, &note()).unwrap();
    registry.save(&root).unwrap();
    assert!(text_of(&root).contains("last_restore_source"));
    for empty in [&b""[..], b"instances:\n", b"instances: []\n"] {
        put(&root, empty);
        assert!(load(&root).unwrap().entries().is_empty());
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let (_keep, root) = instance_tree();
    let registry = load(&root).unwrap();
    for (name, part) in [("budgt", "did you mean 'budget'"), ("nobody", "known instances: budget")] {
        let error = registry.get(&name.parse().unwrap()).unwrap_err();
        assert!(error.help().unwrap().to_string().contains(part), "{}", error.help().unwrap());
    }
}

#[test]
fn broken_files_are_refused_with_their_place() {
    let (_keep, root) = empty_root();
    for (content, part) in [
        (&b"instances:\n- name: a\n  name: b\n"[..], "line 3"),
        (b"instances: [", "line"),
        (b"- a\n", "not a mapping"),
        (b"instances: 5\n", "not a list"),
        (b"instances:\n- 5\n", "instance 1"),
        (b"instances:\n- name: ../x\n", "'name'"),
        (b"instances:\n- name: a\n  port: 70000\n", "'port'"),
        (b"instances:\n- name: a\n  paths: {root: ../x}\n", "'paths.root'"),
        (b"instances:\n- name: a\n  paths: 5\n", "'paths'"),
        (b"instances:\n- name: a\n  metadata: 5\n", "'metadata'"),
        (b"instances:\n- name: a\n- name: a\n", "comes twice"),
        (b"\xff\n", "UTF-8"),
    ] {
        put(&root, content);
        let error = load(&root).unwrap_err();
        assert!(error.to_string().contains(part) && error.to_string().contains("instances.yml"), "{error}");
        assert!(error.help().is_some() && error.code().is_some());
    }
}
