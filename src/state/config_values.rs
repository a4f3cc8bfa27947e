//! The settings of the peer's `config.yml` as a table: which keys there are, their defaults, and which
//! value wins. Pure; [`super::config`] reads the file and makes types of the values.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::ids::AbsPath;
use crate::state::config::ConfigError;
use crate::state::nearest::nearest;
use crate::state::yaml;

/// Variables that begin with `ABSSCTL_` and set something else than configuration.
pub const PROGRAM_VARIABLES: [&str; 5] = [
    "ABSSCTL_CONFIG_FILE",
    "ABSSCTL_ASSUME_YES",
    "ABSSCTL_SKIP_NPM",
    "ABSSCTL_THREADS",
    "ABSSCTL_VERSIONS_CACHE",
];

/// Variables with this beginning belong to the tests.
const TEST_PREFIX: &str = "ABSSCTL_TEST_";

const PREFIX: &str = "ABSSCTL_";

/// Sections that only the peer uses: what a newer peer may have added there is kept, not refused.
const OPEN_SECTIONS: [&str; 2] = ["ports.", "tls."];

/// Where a value comes from; later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A configuration file.
    File(AbsPath),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One setting: its key with dots, its value, where that comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// `backups.root`.
    pub key: String,
    /// The value; `null` where nothing is set.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// Every key with its default; `null` where the default is derived or there is none. In the order in
/// which `config show` prints them.
fn defaults() -> [(&'static str, Value); 27] {
    [
        ("install_root", json!("/srv/app")),
        ("instance_root", json!("/srv")),
        ("state_dir", json!("/var/lib/abssctl")),
        ("registry_dir", Value::Null),
        ("logs_dir", json!("/var/log/abssctl")),
        ("runtime_dir", json!("/run/abssctl")),
        ("templates_dir", json!("/etc/abssctl/templates")),
        ("backups.root", json!("/srv/backups")),
        ("backups.index", Value::Null),
        ("backups.compression.algorithm", json!("auto")),
        ("backups.compression.level", Value::Null),
        ("systemd.unit_dir", Value::Null),
        ("systemd.systemctl_bin", json!("systemctl")),
        ("systemd.journalctl_bin", json!("journalctl")),
        ("lock_timeout", json!(30)),
        ("service_user", json!("actual-sync")),
        ("reverse_proxy", json!("nginx")),
        ("ports.base", json!(5000)),
        ("ports.strategy", json!("sequential")),
        ("tls.enabled", json!(true)),
        ("tls.system.cert", json!("/etc/ssl/private/cert.pem")),
        ("tls.system.key", json!("/etc/ssl/private/cert.key")),
        ("tls.lets_encrypt.live_dir", json!("/etc/letsencrypt/live")),
        ("node_compat_file", Value::Null),
        ("npm_package_name", json!("@actual-app/sync-server")),
        ("default_version", json!("current")),
        ("config_file", Value::Null),
    ]
}

/// All settings of the peer, each with the value that won so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values(Vec<Setting>);

impl Values {
    pub(super) fn built_in() -> Self {
        let setting =
            |(key, value): (&str, Value)| Setting { key: key.to_owned(), value, origin: Origin::Default };
        Self(defaults().into_iter().map(setting).collect())
    }

    pub(super) fn settings(&self) -> &[Setting] {
        &self.0
    }

    /// The value of a key of the table.
    pub(super) fn get(&self, key: &str) -> &Value {
        self.0.iter().find(|setting| setting.key == key).map_or(&Value::Null, |setting| &setting.value)
    }

    /// Where the value of a key comes from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.0
            .iter()
            .find(|setting| setting.key == key)
            .map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// Sets one key; `null` brings its default back.
    pub(super) fn set(&mut self, key: &str, value: Value, origin: Origin) {
        if let Some(setting) = self.0.iter_mut().find(|setting| setting.key == key) {
            let default = || defaults().into_iter().find(|(known, _)| *known == key);
            *setting = match default() {
                Some((_, value_by_default)) if value.is_null() => {
                    Setting { key: key.to_owned(), value: value_by_default, origin: Origin::Default }
                }
                _ => Setting { key: key.to_owned(), value, origin },
            };
        }
    }

    /// Fills in a value that is derived from others, where none was given.
    pub(super) fn derive(&mut self, key: &str, value: String) {
        if self.get(key).is_null() {
            self.set(key, Value::String(value), Origin::Default);
        }
    }

    /// Takes over what a file says.
    pub(super) fn merge_file(
        &mut self,
        file: &Map<String, Value>,
        path: &AbsPath,
    ) -> Result<(), ConfigError> {
        let origin = Origin::File(path.clone());
        file.iter().try_for_each(|(key, value)| self.merge(key, value, &origin))
    }

    /// Takes over the variables that begin with `ABSSCTL_`: `__` nests, values are YAML.
    pub(super) fn merge_environment(
        &mut self,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), ConfigError> {
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            if PROGRAM_VARIABLES.contains(&variable.as_str()) || variable.starts_with(TEST_PREFIX) {
                continue;
            }
            let parts: Vec<String> =
                name.split("__").filter(|part| !part.is_empty()).map(str::to_lowercase).collect();
            if parts.is_empty() {
                continue;
            }
            // The peer too takes what is no YAML as the text itself.
            let value =
                yaml::parse_value(text.trim()).unwrap_or_else(|_| Value::String(text.trim().to_owned()));
            self.merge(&parts.join("."), &value, &Origin::Environment(variable.clone()))?;
        }
        Ok(())
    }

    fn merge(&mut self, key: &str, value: &Value, origin: &Origin) -> Result<(), ConfigError> {
        if self.0.iter().any(|setting| setting.key == key) {
            self.set(key, value.clone(), origin.clone());
            return Ok(());
        }
        let section = format!("{key}.");
        if !self.0.iter().any(|setting| setting.key.starts_with(&section)) {
            if OPEN_SECTIONS.iter().any(|open| key.starts_with(open)) {
                self.0.push(Setting { key: key.to_owned(), value: value.clone(), origin: origin.clone() });
                return Ok(());
            }
            return Err(self.unknown(key, origin));
        }
        match value {
            Value::Null => Ok(()),
            Value::Object(map) => map
                .iter()
                .try_for_each(|(name, value)| self.merge(&format!("{section}{name}"), value, origin)),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(ConfigError::Value {
                    key: key.to_owned(),
                    value: value.to_string(),
                    expected: "a mapping",
                    origin: origin.clone(),
                })
            }
        }
    }

    fn unknown(&self, key: &str, origin: &Origin) -> ConfigError {
        let known = self.0.iter().map(|setting| setting.key.as_str());
        let help = match nearest(key, known).first() {
            Some(near) => {
                format!("did you mean '{near}'? Settings of the restore tool go into restore.yml beside it")
            }
            None => "'abssctl config show' lists the keys; settings of the restore tool go into restore.yml"
                .to_owned(),
        };
        ConfigError::UnknownKey { key: key.to_owned(), origin: origin.clone(), help }
    }
}
