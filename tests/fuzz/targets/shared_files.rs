//! Files that other programs write too: index, registry, settings, operations log, `.migrate`.

use std::collections::BTreeMap;

use abssctl::actual::migrations;
use abssctl::state::backup_index::BackupIndex;
use abssctl::state::config::{Config, ConfigFlags};
use abssctl::state::instances::Registry;
use abssctl::state::operations_log;
use abssctl::state::rules::Rule;
use jiff::Timestamp;
use serde_json::Value;

use super::{note, with_file};

fn code(error: &impl miette::Diagnostic) -> String {
    error.code().map(|code| code.to_string()).unwrap_or_default()
}

/// The index: what is written again holds every field, known or not, in its order.
pub fn index(bytes: &[u8]) {
    with_file("srv/backups/backups.json", bytes, |root, config| {
        let index = match BackupIndex::load(root, config) {
            Ok(index) => index,
            Err(error) => return note(("no index", code(&error), error.to_string().len() / 8)),
        };
        note(("index", index.entries().len().min(5)));
        for entry in index.entries() {
            assert_eq!(index.find(&entry.id).unwrap().id, entry.id);
            note(("entry", entry.is_available(), entry.unusable().is_some()));
            assert!(index.at(&entry.instance, Timestamp::MAX).is_some() || !entry.is_available());
        }
        let text = index.to_text();
        assert!(text.is_ascii() && text.ends_with('\n'));
        index.save(root).unwrap();
        let again = BackupIndex::load(root, config).unwrap();
        assert_eq!(again.to_text(), text, "saved once more, it stays");
        let mut before: Value = serde_json::from_slice(bytes).unwrap();
        if before.get("backups").is_none() {
            before["backups"] = Value::Array(Vec::new());
        }
        let after: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(before, after, "no field is lost or changed");
    });
}

/// The registry: the same for its YAML.
pub fn registry(bytes: &[u8]) {
    with_file("var/lib/abssctl/registry/instances.yml", bytes, |root, config| {
        let registry = match Registry::load(root, config) {
            Ok(registry) => registry,
            Err(error) => return note(("no registry", code(&error), error.to_string().len() / 8)),
        };
        note(("registry", registry.entries().len().min(5)));
        let text = registry.to_text();
        registry.save(root).unwrap();
        let again = match Registry::load(root, config) {
            Ok(again) => again,
            Err(error) => panic!("what we write, we read: {error}\n{text}"),
        };
        assert_eq!(again.to_text(), text);
        assert_eq!(again.entries().len(), registry.entries().len());
    });
}

/// `restore.yml`: read as it is, and as the rules alone.
pub fn rules(bytes: &[u8]) {
    with_file("etc/abssctl/none", b"", |root, _| {
        let file = root.host_path(&"/etc/abssctl/restore.yml".parse().unwrap());
        std::fs::write(&file, bytes).unwrap();
        let loaded = Config::load(root, &ConfigFlags::default(), &BTreeMap::new());
        match &loaded {
            Err(error) => note(("no rules", code(error), error.to_string().len() / 8)),
            Ok(config) => {
                note(("rules", config.restore.rules.all().len().min(4)));
                let now = Timestamp::from_second(1_795_500_000).unwrap();
                for freeze in config.restore.rules.all().iter().flat_map(Rule::freezes) {
                    note(("frozen", freeze.ends(now).is_some()));
                }
                drop(config.table());
                // What was understood, written down, is understood the same way.
                let text = serde_json::to_string(&config.restore).unwrap();
                std::fs::write(&file, &text).unwrap();
                let again = Config::load(root, &ConfigFlags::default(), &BTreeMap::new());
                let again = again.unwrap_or_else(|error| panic!("{error}\n{text}"));
                assert_eq!(serde_json::to_string(&again.restore).unwrap(), text);
            }
        }
        std::fs::remove_file(&file).unwrap();
    });
}

/// The operations log: an operation of the last mebibyte is found, whatever stands around it.
pub fn log(bytes: &[u8]) {
    with_file("var/log/abssctl/operations.jsonl", bytes, |root, config| {
        let find = |id: &str| operations_log::contains(root, config, id).unwrap();
        let tail = &bytes[bytes.len().saturating_sub(1 << 20)..];
        for line in tail.split(|byte| *byte == b'\n') {
            let line = serde_json::from_slice::<Value>(line);
            let id = line.as_ref().ok().and_then(|line| line.get("op_id"));
            note(("line", line.is_ok(), id.map(|id| id.as_str().map(|id| id.len().min(40)))));
            if let Some(id) = id.and_then(Value::as_str).filter(|_| line.as_ref().is_ok_and(Value::is_object))
            {
                assert!(find(id), "{id:?} is there");
            }
        }
        note(("found", find("01KAV6ZP3NQ3T7Y2M5C8E1D9FA"), find("")));
    });
}

/// The server's record of migrations, and the titles in a program.
pub fn migrate(bytes: &[u8]) {
    match migrations::record(bytes) {
        Err(error) => note(("no record", error.to_string())),
        Ok(titles) => {
            let titles = titles.unwrap_or_default();
            note(("titles", titles.len().min(9)));
            for title in &titles {
                assert!(title.len() <= 255 && title.is_ascii());
                note(("title", migrations::is_title(title)));
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let found = migrations::bundled(text);
        note(("bundled", found.len().min(9)));
        assert!(found.iter().all(|title| migrations::is_title(title)));
    }
}
