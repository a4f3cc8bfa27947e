//! The registry of instances, `instances.yml`, shared with the peer: written as the peer's `PyYAML`
//! writes it; fields that are not known here are kept.
//!
//! Read whole, changed in memory, replaced whole: a crash leaves the old or the new registry. Whoever
//! changes it holds the global lock from [`Registry::load`] to [`Registry::save`].

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::host::clock;
use crate::host::fs::{self, FsError, IoContext as _, Root};
use crate::host::machine::Actor;
use crate::ids::{AbsPath, BackupId, InstanceName, Sha256};
use crate::state::backup_index::canonical_digest;
use crate::state::config::Config;
use crate::state::nearest::nearest;
use crate::state::python_text;
use crate::state::yaml::{self, YamlError};

/// No registry is larger.
const LIMIT: u64 = 64 << 20;

/// The fields that [`entry_digest`] covers.
const IDENTITY: [&str; 5] = ["name", "domain", "port", "version", "paths"];

/// The registry cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RegistryError {
    /// It is not YAML.
    #[error("{}: {source}", .path.display())]
    #[diagnostic(
        code(abssctl::registry::syntax),
        help("correct the file at that place; a copy lies in every backup as metadata/instances.yml")
    )]
    Syntax {
        /// The registry.
        path: PathBuf,
        /// What and where.
        #[source]
        source: YamlError,
    },
    /// It is YAML of another shape.
    #[error("{}: {place}: {message}", .path.display())]
    #[diagnostic(
        code(abssctl::registry::shape),
        help("correct that entry; a copy lies in every backup as metadata/instances.yml")
    )]
    Shape {
        /// The registry.
        path: PathBuf,
        /// The entry.
        place: String,
        /// What is wrong with it.
        message: String,
    },
    /// No instance has this name.
    #[error("instance '{name}' is not in the registry {}", .path.display())]
    #[diagnostic(code(abssctl::registry::unknown_instance), help("{help}"))]
    UnknownInstance {
        /// The name.
        name: InstanceName,
        /// The registry.
        path: PathBuf,
        /// The names there are.
        help: String,
    },
    /// It cannot be read or written.
    #[error(transparent)]
    #[diagnostic(
        code(abssctl::registry::io),
        help("see whether the disk is full and who may write there, then run the command again")
    )]
    Fs(#[from] FsError),
}

/// Where the parts of an instance lie; what the registry does not say is derived from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePaths {
    /// The instance directory.
    pub root: AbsPath,
    /// The server's data directory in it.
    pub data: AbsPath,
    /// The server's `config.json`.
    pub config: AbsPath,
    /// Its directory below the runtime directory.
    pub runtime: AbsPath,
    /// Its logs.
    pub logs: AbsPath,
    /// Its directory below the state directory.
    pub state: AbsPath,
    /// Its unit.
    pub systemd_unit: AbsPath,
    /// Its vhost.
    pub nginx_site: AbsPath,
    /// The vhost's name that nginx reads.
    pub nginx_enabled: AbsPath,
}

/// An instance as the registry has it.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceEntry {
    /// Its name.
    pub name: InstanceName,
    /// Its host name.
    pub domain: Option<String>,
    /// The port that its server listens on.
    pub port: Option<u16>,
    /// The version of its server.
    pub version: Option<String>,
    /// `enabled`, `running`, `stopped` …
    pub status: Option<String>,
    /// Where its parts lie.
    pub paths: InstancePaths,
    /// The entry as it stands in the file.
    pub raw: Value,
}

/// The fields of the last restore.
const LAST_RESTORE: [&str; 4] =
    ["last_restored_at", "last_restore_source", "last_restore_destination", "last_restore_actor"];

/// What a restore leaves in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreNote {
    /// When.
    pub at: Timestamp,
    /// The backup.
    pub source: BackupId,
    /// The directory that was restored to.
    pub destination: AbsPath,
    /// Who did it.
    pub actor: Actor,
}

/// The former values of the fields that a [`RestoreNote`] replaces; a run keeps them in its journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LastRestore(Map<String, Value>);

/// The registry, in memory.
#[derive(Debug, Clone)]
pub struct Registry {
    path: AbsPath,
    shown: PathBuf,
    config: Config,
    document: Map<String, Value>,
    entries: Vec<InstanceEntry>,
}

impl InstanceEntry {
    fn parse(raw: Value, config: &Config) -> Result<Self, String> {
        let Value::Object(map) = &raw else { return Err("it is not a mapping".to_owned()) };
        let name: InstanceName = match map.get("name") {
            Some(Value::String(name)) => name.parse().map_err(|error| format!("'name': {error}"))?,
            _ => return Err("'name' is missing or not a text".to_owned()),
        };
        let port = match map.get("port") {
            None | Some(Value::Null) => None,
            Some(port) => {
                let port = port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
                Some(port.ok_or("'port' is not a port number")?)
            }
        };
        match map.get("metadata") {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(_) => return Err("'metadata' is not a mapping".to_owned()),
        }
        Ok(Self {
            domain: text(map, "domain")?,
            version: text(map, "version")?,
            status: text(map, "status")?,
            paths: InstancePaths::of(&name, map, config)?,
            name,
            port,
            raw,
        })
    }
}

/// A text, or a number that was meant as one (`version: 25.6` by hand).
fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(python_text::number(number))),
        Some(_) => Err(format!("'{key}' is not a text")),
    }
}

impl InstancePaths {
    fn of(name: &InstanceName, entry: &Map<String, Value>, config: &Config) -> Result<Self, String> {
        let given = match entry.get("paths") {
            None | Some(Value::Null) => &Map::new(),
            Some(Value::Object(paths)) => paths,
            Some(_) => return Err("'paths' is not a mapping".to_owned()),
        };
        let path = |key: &str, default: &dyn Fn() -> Result<AbsPath, String>| match given.get(key) {
            None | Some(Value::Null) => default(),
            Some(Value::String(text)) => {
                AbsPath::normalise(Path::new(text)).map_err(|error| format!("'paths.{key}': {error}"))
            }
            Some(_) => Err(format!("'paths.{key}' is not a text")),
        };
        let below = |base: &AbsPath, parts: &[&str]| {
            let joined = parts.iter().try_fold(base.clone(), |path, part| path.join(part));
            joined.map_err(|error| error.to_string())
        };
        let root = path("root", &|| Ok(config.instance_dir(name)))?;
        let data = path("data", &|| below(&root, &["data"]))?;
        Ok(Self {
            config: path("config", &|| below(&data, &["config.json"]))?,
            runtime: path("runtime", &|| below(&config.runtime_dir, &["instances", name.as_str()]))?,
            logs: path("logs", &|| below(&config.logs_dir, &[name.as_str()]))?,
            state: path("state", &|| below(&config.state_dir, &["instances", name.as_str()]))?,
            systemd_unit: path("systemd_unit", &|| Ok(config.unit_file(name)))?,
            nginx_site: path("nginx_site", &|| Ok(config.vhost_file(name, false)))?,
            nginx_enabled: path("nginx_enabled", &|| Ok(config.vhost_file(name, true)))?,
            root,
            data,
        })
    }
}

/// A digest of what makes an instance what it is: name, domain, port, version and paths. Status and
/// metadata change by themselves and are left out.
pub fn entry_digest(entry: &InstanceEntry) -> Sha256 {
    let known = IDENTITY.iter().filter_map(|key| Some(((*key).to_owned(), entry.raw.get(*key)?.clone())));
    canonical_digest(&Value::Object(known.collect()))
}

impl Registry {
    /// Reads the registry; a missing file is an empty registry.
    ///
    /// # Errors
    /// Not YAML, not of the right shape, or two entries with one name.
    pub fn load(root: &Root, config: &Config) -> Result<Self, RegistryError> {
        let path = config.instances_file();
        let shown = root.host_path(&path);
        let syntax = |source| RegistryError::Syntax { path: shown.clone(), source };
        let document = match root.read(&path, LIMIT)? {
            None => Value::Null,
            Some(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| {
                    syntax(YamlError { message: "it is not UTF-8".to_owned(), line: 0, column: 0 })
                })?;
                yaml::parse_value(&text).map_err(syntax)?
            }
        };
        let mut registry = Self {
            path,
            shown: shown.clone(),
            config: config.clone(),
            document: Map::new(),
            entries: Vec::new(),
        };
        registry.document = match document {
            Value::Null => Map::new(),
            Value::Object(map) => map,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(registry.shape("the document", "it is not a mapping with a list 'instances'"));
            }
        };
        let raws = match registry.document.get_mut("instances").map(Value::take) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(raws)) => raws,
            Some(_) => return Err(registry.shape("the document", "'instances' is not a list")),
        };
        for (at, raw) in raws.into_iter().enumerate() {
            let place = format!("instance {}", at + 1);
            let entry =
                InstanceEntry::parse(raw, config).map_err(|message| registry.shape(&place, &message))?;
            if registry.entries.iter().any(|known| known.name == entry.name) {
                return Err(registry.shape(&place, &format!("the name '{}' comes twice", entry.name)));
            }
            registry.entries.push(entry);
        }
        Ok(registry)
    }

    fn shape(&self, place: &str, message: &str) -> RegistryError {
        RegistryError::Shape {
            path: self.shown.clone(),
            place: place.to_owned(),
            message: message.to_owned(),
        }
    }

    /// All instances, in the file's order.
    pub fn entries(&self) -> &[InstanceEntry] {
        &self.entries
    }

    /// The instance of a name.
    pub fn get(&self, name: &InstanceName) -> Result<&InstanceEntry, RegistryError> {
        self.entries.iter().find(|entry| entry.name == *name).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &InstanceName) -> RegistryError {
        let known: Vec<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
        let help = match (known.as_slice(), nearest(name.as_str(), known.iter().copied()).first()) {
            ([], _) => {
                "no instance is registered; 'abssctl config show' tells which registry is read".to_owned()
            }
            (known, Some(near)) => format!("did you mean '{near}'? Known instances: {}", known.join(", ")),
            (known, None) => format!("known instances: {}", known.join(", ")),
        };
        RegistryError::UnknownInstance { name: name.clone(), path: self.shown.clone(), help }
    }

    /// Changes an entry; the result must still be one, and keep its name.
    pub fn update(
        &mut self,
        name: &InstanceName,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(), RegistryError> {
        let Some(at) = self.entries.iter().position(|entry| entry.name == *name) else {
            return Err(self.unknown(name));
        };
        let mut raw = self.entries[at].raw.clone();
        if let Some(map) = raw.as_object_mut() {
            change(map);
        }
        let place = format!("the changed entry '{name}'");
        let entry =
            InstanceEntry::parse(raw, &self.config).map_err(|message| self.shape(&place, &message))?;
        if entry.name != *name {
            return Err(self.shape(&place, "a change must keep the name"));
        }
        self.entries[at] = entry;
        Ok(())
    }

    /// Records a restore in the fields of the peer, and gives their former values for [`Registry::forget_restore`].
    pub fn record_restore(
        &mut self,
        name: &InstanceName,
        note: &RestoreNote,
    ) -> Result<LastRestore, RegistryError> {
        let mut former = LastRestore::default();
        let fields = note.fields();
        self.update(name, |map| {
            // Not `entry`: a `metadata: null` must be replaced too.
            if !map.get("metadata").is_some_and(Value::is_object) {
                map.insert("metadata".to_owned(), json!({}));
            }
            let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) else { return };
            for (key, value) in fields {
                if let Some(old) = metadata.insert(key.clone(), value) {
                    former.0.insert(key, old);
                }
            }
        })?;
        Ok(former)
    }

    /// Takes a restore out again and puts the former values back; where the fields do not tell of
    /// this restore (any more), nothing changes.
    pub fn forget_restore(
        &mut self,
        name: &InstanceName,
        note: &RestoreNote,
        former: &LastRestore,
    ) -> Result<(), RegistryError> {
        let fields = note.fields();
        self.update(name, |map| {
            let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) else { return };
            if fields.iter().any(|(key, value)| metadata.get(key) != Some(value)) {
                return;
            }
            for key in fields.keys() {
                match former.0.get(key) {
                    Some(old) => drop(metadata.insert(key.clone(), old.clone())),
                    None => drop(metadata.shift_remove(key)),
                }
            }
        })
    }

    /// Puts values of an earlier time back into the fields of the last restore, and gives what stood
    /// there; with `expected`, only where that stands there now.
    pub fn exchange_restore(
        &mut self,
        name: &InstanceName,
        values: &LastRestore,
        expected: Option<&LastRestore>,
    ) -> Result<LastRestore, RegistryError> {
        let mut former = LastRestore::default();
        self.update(name, |map| {
            if !map.get("metadata").is_some_and(Value::is_object) {
                map.insert("metadata".to_owned(), json!({}));
            }
            let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) else { return };
            let stands = |key: &str| metadata.get(key).cloned();
            former.0.extend(LAST_RESTORE.iter().filter_map(|key| Some(((*key).to_owned(), stands(key)?))));
            if expected.is_some_and(|expected| *expected != former) {
                return;
            }
            for key in LAST_RESTORE {
                match values.0.get(key) {
                    Some(value) => drop(metadata.insert(key.to_owned(), value.clone())),
                    None => drop(metadata.shift_remove(key)),
                }
            }
        })?;
        Ok(former)
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut document = self.document.clone();
        let entries = self.entries.iter().map(|entry| entry.raw.clone()).collect();
        document.insert("instances".to_owned(), Value::Array(entries));
        yaml::to_pyyaml(&Value::Object(document))
    }

    /// Replaces the file; mode and owner of an existing one are kept, a new one gets 0640. Comments
    /// that a person wrote into it are lost, as with the peer.
    ///
    /// # Atomicity
    /// [`fs::replace`]: a crash leaves the old or the new registry.
    pub fn save(&self, root: &Root) -> Result<(), RegistryError> {
        if let Some(parent) = self.path.parent() {
            root.ensure_dir(&parent, 0o750)?;
        }
        let (dir, name) = root.parent_of(&self.path)?;
        fs::replace(&dir, name, self.to_text().as_bytes(), 0o640).context("write", &self.shown)?;
        Ok(())
    }
}

impl RestoreNote {
    fn fields(&self) -> Map<String, Value> {
        let fields = [
            ("last_restored_at", json!(clock::rfc3339(self.at))),
            ("last_restore_source", json!(self.source)),
            ("last_restore_destination", json!(self.destination)),
            ("last_restore_actor", json!(self.actor)),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests;
