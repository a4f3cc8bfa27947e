//! Tests of the configuration with real files below a temporary root.

use miette::Diagnostic as _;

use super::*;
use crate::host::fs;
use crate::state::testing::{empty_root, instance_tree};

fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

fn put(root: &Root, file: &str, content: &[u8]) {
    let file = path(file);
    root.ensure_dir(&file.parent().unwrap(), 0o755).unwrap();
    let (dir, name) = root.parent_of(&file).unwrap();
    fs::replace(&dir, name, content, 0o644).unwrap();
}

fn load(root: &Root, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::load(root, &ConfigFlags::default(), &environment)
}

fn origin(config: &Config, key: &str) -> String {
    config.settings.iter().find(|setting| setting.key == key).unwrap().origin.to_string()
}

#[test]
fn without_any_file_the_defaults_hold() {
    let (_keep, root) = empty_root();
    let config =
        load(&root, &[("PATH", "/bin"), ("ABSSCTL_ASSUME_YES", "1"), ("ABSSCTL_TEST_X", "y")]).unwrap();
    assert_eq!(config.backups.index, path("/srv/backups/backups.json"));
    assert_eq!(config.systemd.unit_dir, path("/run/abssctl/systemd"));
    assert_eq!(config.registry_dir, path("/var/lib/abssctl/registry"));
    assert_eq!(config.lock_timeout, Duration::from_secs(30));
    assert_eq!(config.service_user, "actual-sync");
    assert_eq!(config.restore, RestoreConfig::default());
    assert!(config.settings.iter().all(|setting| setting.origin == Origin::Default));
    let name = "budget".parse().unwrap();
    assert_eq!(config.instance_dir(&name), path("/srv/budget"));
    assert_eq!(config.vhost_file(&name, true), path("/run/abssctl/nginx/sites-enabled/abssctl-budget.conf"));
}

#[test]
fn the_peers_real_file_is_read() {
    let (_keep, root) = instance_tree();
    let config = load(&root, &[]).unwrap();
    assert_eq!(config.systemd.unit_dir, path("/etc/systemd/system"));
    assert_eq!(config.ports, Ports { base: 5000, strategy: "sequential".into() });
    assert_eq!(origin(&config, "systemd.unit_dir"), "file /etc/abssctl/config.yml");
    let row = config.table().into_iter().find(|(key, ..)| key == "ports.base").unwrap();
    assert_eq!((row.1.as_str(), row.2.to_string().as_str()), ("5000", "file /etc/abssctl/config.yml"));
}

#[test]
fn later_sources_win_and_say_so() {
    let (_keep, root) = empty_root();
    put(
        &root,
        "/etc/abssctl/config.yml",
        b"backups:\n  root: /data/b\n  compression: {algorithm: zstd, level: 3}\nlock_timeout: 5\n",
    );
    let config = load(
        &root,
        &[
            ("ABSSCTL_BACKUPS__COMPRESSION__ALGORITHM", "none"),
            ("ABSSCTL_TLS__ENABLED", "no"),
            ("ABSSCTL_PORTS", "{base: 6000}"),
        ],
    )
    .unwrap();
    assert_eq!(config.backups.index, path("/data/b/backups.json"));
    assert_eq!((config.backups.algorithm.as_str(), config.backups.level), ("none", Some(3)));
    assert_eq!(
        origin(&config, "backups.compression.algorithm"),
        "environment ABSSCTL_BACKUPS__COMPRESSION__ALGORITHM"
    );
    assert!(!config.tls.enabled, "'no' is false to the peer");
    assert_eq!(config.ports.base, 6000);
    let flags = ConfigFlags { lock_timeout: Some(0.5), ..ConfigFlags::default() };
    let config = Config::load(&root, &flags, &BTreeMap::new()).unwrap();
    assert_eq!(config.lock_timeout, Duration::from_millis(500));
    assert_eq!(origin(&config, "lock_timeout"), "flag --lock-timeout");
    let row = ("backups.root".to_owned(), "/data/b".to_owned(), origin(&config, "backups.root"));
    assert_eq!(row.2, "file /etc/abssctl/config.yml");
    assert!(
        config
            .table()
            .iter()
            .any(|(key, value, from)| (key, value, from.to_string()) == (&row.0, &row.1, row.2.clone()))
    );
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let (_keep, root) = empty_root();
    for (text, key, near) in [
        ("instal_root: /x\n", "instal_root", "install_root"),
        ("backups: {rot: /x}\n", "backups.rot", "backups.root"),
        ("colour: red\n", "colour", "restore.yml"),
    ] {
        put(&root, "/etc/abssctl/config.yml", text.as_bytes());
        let error = load(&root, &[]).unwrap_err();
        assert!(error.to_string().contains(&format!("'{key}'")), "{error}");
        assert!(error.help().unwrap().to_string().contains(near), "{}", error.help().unwrap());
        assert_eq!(error.code().unwrap().to_string(), "abssctl::config::unknown_key");
    }
    put(&root, "/etc/abssctl/config.yml", b"tls: {newer: 1}\nports:\n");
    assert_eq!(load(&root, &[]).unwrap().ports.base, 5000);
    let error = load(&root, &[("ABSSCTL_BACKUP__ROOT", "/x")]).unwrap_err();
    assert!(error.to_string().contains("environment ABSSCTL_BACKUP__ROOT"), "{error}");
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_their_origin() {
    let (_keep, root) = empty_root();
    for text in [
        "state_dir: relative\n",
        "state_dir: /a/../b\n",
        "state_dir: 5\n",
        "lock_timeout: 0\n",
        "lock_timeout: -1\n",
        "lock_timeout: soon\n",
        "lock_timeout: true\n",
        "lock_timeout: 1.0e+300\n",
        "backups: text\n",
        "backups: {compression: {algorithm: xz}}\n",
        "backups: {compression: {level: 0}}\n",
        "ports: {base: 70000}\n",
        "tls: {enabled: maybe}\n",
        "service_user: [a]\n",
    ] {
        put(&root, "/etc/abssctl/config.yml", text.as_bytes());
        let error = load(&root, &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Value { .. }), "{text:?}: {error}");
        assert!(error.to_string().contains("(file /etc/abssctl/config.yml)"), "{error}");
    }
    put(
        &root,
        "/etc/abssctl/config.yml",
        b"state_dir: /var//lib/x/\nlock_timeout: '7'\ninstall_root: ~\ndefault_version: 25.6\n",
    );
    let config = load(&root, &[]).unwrap();
    assert_eq!(config.state_dir, path("/var/lib/x"));
    assert_eq!(config.lock_timeout, Duration::from_secs(7));
    assert_eq!(
        (config.install_root.as_str(), origin(&config, "install_root").as_str()),
        ("/srv/app", "default")
    );
    assert_eq!(config.default_version, "25.6");
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place() {
    let (_keep, root) = empty_root();
    for (content, part) in [
        (&b"a: 1\n  b: ["[..], "line"),
        (b"- a\n", "not a mapping"),
        (b"state_dir: /a\nstate_dir: /b\n", "line 2"),
        (b"a: \xff\n", "not UTF-8"),
    ] {
        put(&root, "/etc/abssctl/config.yml", content);
        let error = load(&root, &[]).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("/etc/abssctl/config.yml"), "{error}");
    }
    put(&root, "/etc/abssctl/config.yml", &vec![b'#'; usize::try_from(LIMIT + 1).unwrap()]);
    assert!(matches!(load(&root, &[]).unwrap_err(), ConfigError::Fs(_)));
}

#[test]
fn a_file_that_was_named_must_exist() {
    let (_keep, root) = empty_root();
    let error = load(&root, &[("ABSSCTL_CONFIG_FILE", "/etc/other.yml")]).unwrap_err();
    assert!(matches!(error, ConfigError::Missing { .. }), "{error}");
    put(&root, "/etc/other.yml", b"service_user: bob\n");
    put(&root, "/etc/restore.yml", b"retain: 2w\n");
    let config = load(&root, &[("ABSSCTL_CONFIG_FILE", "/etc/other.yml")]).unwrap();
    assert_eq!((config.service_user.as_str(), config.restore.retain.as_str()), ("bob", "2w"));
    assert_eq!(origin(&config, "config_file"), "environment ABSSCTL_CONFIG_FILE");
    let flags = ConfigFlags { config_file: Some(path("/none.yml")), lock_timeout: None };
    let environment = BTreeMap::from([("ABSSCTL_CONFIG_FILE".to_owned(), "/etc/other.yml".to_owned())]);
    assert!(Config::load(&root, &flags, &environment).unwrap_err().to_string().contains("flag --config"));
}

#[test]
fn our_own_file_is_strict() {
    let (_keep, root) = empty_root();
    put(
        &root,
        "/etc/abssctl/restore.yml",
        b"# policy\nplanExpires: 12h\nexpansionFactor: 50\nminimumExpansion: 1GiB\n",
    );
    let config = load(&root, &[]).unwrap();
    assert_eq!(config.restore.plan_expires.seconds(), 12 * 3600);
    assert_eq!(config.restore.expansion_factor, 50);
    assert_eq!(origin(&config, "restore.planExpires"), "file /etc/abssctl/restore.yml");
    assert_eq!(origin(&config, "restore.retain"), "default");
    for bad in [
        "planExpire: 1d\n",
        "retain: 1y\n",
        "preBackup: maybe\n",
        "expansionFactor: -1\n",
        "[]\n",
        "retain: 1d\nretain: 2d\n",
    ] {
        put(&root, "/etc/abssctl/restore.yml", bad.as_bytes());
        let error = load(&root, &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Syntax { .. }), "{bad:?}: {error}");
        assert!(error.to_string().contains("restore.yml"), "{error}");
    }
    put(&root, "/etc/abssctl/restore.yml", b"# nothing yet\n");
    assert_eq!(load(&root, &[]).unwrap().restore, RestoreConfig::default());
}
