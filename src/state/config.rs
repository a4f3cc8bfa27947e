//! The configuration: the peer's `config.yml`, the environment, flags, and our own `restore.yml`.
//! Reads only. Order: defaults, file, environment, flags; every value remembers where it comes from.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::host::fs::{FsError, Root};
use crate::ids::{AbsPath, InstanceName, Sha256};
use crate::state::config_values::Values;
pub use crate::state::config_values::{Origin, PROGRAM_VARIABLES, Setting};
use crate::state::restore_config::{RestoreConfig, Source};
use crate::state::yaml::{self, YamlError};

/// The peer's configuration file, unless a flag or variable names another.
pub const DEFAULT_FILE: &str = "/etc/abssctl/config.yml";

/// The name of our own file, beside the peer's.
pub const RESTORE_FILE: &str = "restore.yml";

/// No configuration file is larger.
const LIMIT: u64 = 1 << 20;

/// The longest time that a lock may be waited for: a day.
const LONGEST_LOCK_TIMEOUT: f64 = 86_400.0;

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ConfigError {
    /// A key that neither the peer nor this tool knows.
    #[error("unknown setting '{key}' ({origin})")]
    #[diagnostic(code(abssctl::config::unknown_key), help("{help}"))]
    UnknownKey {
        /// The key with dots.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The nearest known key.
        help: String,
    },
    /// A value that cannot be meant.
    #[error("setting '{key}' is {value}, which is not {expected} ({origin})")]
    #[diagnostic(
        code(abssctl::config::value),
        help("correct it; 'abssctl config show' lists all settings with their origin")
    )]
    Value {
        /// The key with dots.
        key: String,
        /// The value.
        value: String,
        /// What it should be.
        expected: &'static str,
        /// Where it stands.
        origin: Origin,
    },
    /// A file is not YAML, or not of the right shape.
    #[error("{}: {source}", .path.display())]
    #[diagnostic(code(abssctl::config::syntax), help("correct the file at that place"))]
    Syntax {
        /// The file.
        path: std::path::PathBuf,
        /// What and where.
        #[source]
        source: YamlError,
    },
    /// A file that a flag or variable names is not there.
    #[error("the configuration file {} ({origin}) does not exist", .path.display())]
    #[diagnostic(
        code(abssctl::config::missing),
        help("name an existing file, or leave it out to use {DEFAULT_FILE}")
    )]
    Missing {
        /// The file.
        path: std::path::PathBuf,
        /// Who named it.
        origin: Origin,
    },
    /// A file cannot be read.
    #[error(transparent)]
    #[diagnostic(code(abssctl::config::io), help("run as root, or make the file readable"))]
    Fs(#[from] FsError),
}

/// What the command line says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigFlags {
    /// `--config`, a path inside the root.
    pub config_file: Option<AbsPath>,
    /// `--lock-timeout`, in seconds.
    pub lock_timeout: Option<f64>,
}

/// `backups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    /// Where archives lie, a directory an instance.
    pub root: AbsPath,
    /// `backups.json`.
    pub index: AbsPath,
    /// `auto`, `zstd`, `gzip` or `none`.
    pub algorithm: String,
    /// The compression level; the algorithm's own default where not set.
    pub level: Option<i32>,
}

/// `systemd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Systemd {
    /// Where units are written.
    pub unit_dir: AbsPath,
    /// The `systemctl` program, a name or path.
    pub systemctl_bin: String,
    /// The `journalctl` program, a name or path.
    pub journalctl_bin: String,
}

/// `ports`; only the peer allocates them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// The first port.
    pub base: u16,
    /// How the next one is chosen.
    pub strategy: String,
}

/// `tls`; only the peer's vhosts use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whether vhosts speak TLS.
    pub enabled: bool,
    /// The system's certificate.
    pub cert: AbsPath,
    /// Its key.
    pub key: AbsPath,
    /// Where Let's Encrypt keeps certificates.
    pub live_dir: AbsPath,
}

/// All settings. Paths are inside the root.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that was read, or would have been.
    pub config_file: AbsPath,
    /// Server programs, a directory a version.
    pub install_root: AbsPath,
    /// Instances, a directory each.
    pub instance_root: AbsPath,
    /// What abssctl remembers: registry, runs.
    pub state_dir: AbsPath,
    /// `instances.yml`, `ports.yml`, `versions.yml`.
    pub registry_dir: AbsPath,
    /// `operations.jsonl`.
    pub logs_dir: AbsPath,
    /// Locks, and what does not outlive a boot.
    pub runtime_dir: AbsPath,
    /// The peer's own templates.
    pub templates_dir: AbsPath,
    /// Archives and their index.
    pub backups: Backups,
    /// Units and the programs around them.
    pub systemd: Systemd,
    /// How long a lock is waited for.
    pub lock_timeout: Duration,
    /// The user that servers run as.
    pub service_user: String,
    /// Which web server stands in front.
    pub reverse_proxy: String,
    /// Port allocation.
    pub ports: Ports,
    /// Certificates.
    pub tls: Tls,
    /// Which Node versions a server version needs; not set by default.
    pub node_compat_file: Option<AbsPath>,
    /// The server's package.
    pub npm_package_name: String,
    /// The version of instances that name none.
    pub default_version: String,
    /// Our own settings.
    pub restore: RestoreConfig,
    /// The file that they come from; absent where there is none.
    pub restore_source: Option<Source>,
    settings: Vec<Setting>,
}

impl Config {
    /// Reads the files and merges them with the environment and flags.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong kind, a file that is no YAML, or one that was named and is not there.
    pub fn load(
        root: &Root,
        flags: &ConfigFlags,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let (path, named_by) = locate(flags, environment)?;
        let mut values = Values::built_in();
        match read_mapping(root, &path)? {
            Some(file) => values.merge_file(&file, &path)?,
            None if named_by != Origin::Default => {
                return Err(ConfigError::Missing { path: root.host_path(&path), origin: named_by });
            }
            None => {}
        }
        values.merge_environment(environment)?;
        if let Some(seconds) = flags.lock_timeout {
            values.set("lock_timeout", serde_json::json!(seconds), Origin::Flag("--lock-timeout"));
        }
        values.set("config_file", Value::String(path.to_string()), named_by);
        let own = Own::load(root, &path)?;
        let mut config = Typed(&mut values).config(path, own.restore)?;
        config.restore_source = own.source;
        config.settings = values.settings().iter().cloned().chain(own.settings).collect();
        Ok(config)
    }

    /// Every setting as `(key, value, origin)` for people; an empty value where nothing is set.
    pub fn table(&self) -> Vec<(String, String, Origin)> {
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                other.to_string()
            }
        };
        self.settings
            .iter()
            .map(|setting| (setting.key.clone(), text(&setting.value), setting.origin.clone()))
            .collect()
    }

    /// Whether a person set a key of `restore.yml`, such as `clients`.
    pub fn restore_sets(&self, key: &str) -> bool {
        let is_it = |setting: &&Setting| setting.key.strip_prefix("restore.") == Some(key);
        self.settings.iter().find(is_it).is_some_and(|setting| setting.origin != Origin::Default)
    }

    /// The directory of an instance that the registry gives no other.
    pub fn instance_dir(&self, name: &InstanceName) -> AbsPath {
        below(&self.instance_root, name.as_str())
    }

    /// Where runs keep their plan and journal: `<state_dir>/runs`.
    pub fn runs_dir(&self) -> AbsPath {
        below(&self.state_dir, "runs")
    }

    /// The registry of instances.
    pub fn instances_file(&self) -> AbsPath {
        below(&self.registry_dir, "instances.yml")
    }

    /// The operations log.
    pub fn operations_log(&self) -> AbsPath {
        below(&self.logs_dir, "operations.jsonl")
    }

    /// The unit of an instance that the registry gives no other.
    pub fn unit_file(&self, name: &InstanceName) -> AbsPath {
        below(&self.systemd.unit_dir, &format!("abssctl-{name}.service"))
    }

    /// The vhost of an instance that the registry gives no other; `enabled` for the name that nginx reads.
    pub fn vhost_file(&self, name: &InstanceName, enabled: bool) -> AbsPath {
        let dir = below(
            &below(&self.runtime_dir, "nginx"),
            if enabled { "sites-enabled" } else { "sites-available" },
        );
        below(&dir, &format!("abssctl-{name}.conf"))
    }
}

/// A path and one more part, which this crate chose or checked.
fn below(base: &AbsPath, name: &str) -> AbsPath {
    // Only a path of more than 4095 bytes can fail, and no file can be opened below such a base either.
    base.join(name).unwrap_or_else(|_| base.clone())
}

fn locate(
    flags: &ConfigFlags,
    environment: &BTreeMap<String, String>,
) -> Result<(AbsPath, Origin), ConfigError> {
    if let Some(path) = &flags.config_file {
        return Ok((path.clone(), Origin::Flag("--config")));
    }
    let variable = "ABSSCTL_CONFIG_FILE";
    let (text, origin) = match environment.get(variable).filter(|text| !text.is_empty()) {
        Some(text) => (text.as_str(), Origin::Environment(variable.to_owned())),
        None => (DEFAULT_FILE, Origin::Default),
    };
    if let Ok(path) = AbsPath::normalise(Path::new(text)) {
        return Ok((path, origin));
    }
    let (key, value) = ("config_file".to_owned(), format!("'{}'", text.escape_debug()));
    Err(ConfigError::Value { key, value, expected: PATH, origin })
}

const PATH: &str = "an absolute path without '.', '..' and control characters";

fn read_mapping(root: &Root, path: &AbsPath) -> Result<Option<Map<String, Value>>, ConfigError> {
    let Some(bytes) = root.read(path, LIMIT)? else { return Ok(None) };
    mapping(&text(bytes, root, path)?, root, path).map(Some)
}

fn mapping(text: &str, root: &Root, path: &AbsPath) -> Result<Map<String, Value>, ConfigError> {
    let syntax = |source| ConfigError::Syntax { path: root.host_path(path), source };
    match yaml::parse_value(text).map_err(syntax)? {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(syntax(YamlError {
            message: "it is not a mapping of keys to values".to_owned(),
            line: 1,
            column: 1,
        })),
    }
}

fn text(bytes: Vec<u8>, root: &Root, path: &AbsPath) -> Result<String, ConfigError> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        let source = YamlError { message: "it is not UTF-8".to_owned(), line, column: 1 };
        ConfigError::Syntax { path: root.host_path(path), source }
    })
}

/// Our own file, read once: what is digested is what is parsed.
struct Own {
    restore: RestoreConfig,
    source: Option<Source>,
    settings: Vec<Setting>,
}

impl Own {
    fn load(root: &Root, beside: &AbsPath) -> Result<Self, ConfigError> {
        let path = below(&beside.parent().unwrap_or_else(|| beside.clone()), RESTORE_FILE);
        let (mut restore, mut known, mut source) = (RestoreConfig::default(), Map::new(), None);
        if let Some(bytes) = root.read(&path, LIMIT)? {
            source = Some(Source { path: path.clone(), sha256: Sha256::of(&bytes) });
            let text = text(bytes, root, &path)?;
            known = mapping(&text, root, &path)?;
            if !known.is_empty() {
                restore = yaml::from_str(&text).map_err(|error| ConfigError::Syntax {
                    path: root.host_path(&path),
                    source: YamlError { message: with_rule_name(&error.message, &known), ..error },
                })?;
            }
        } else if root.is_dangling_link(&path)? {
            // A policy that cannot be found is not the same as none.
            return Err(ConfigError::Missing { path: root.host_path(&path), origin: Origin::File(path) });
        }
        let origin = |key: &str| {
            if known.contains_key(key) { Origin::File(path.clone()) } else { Origin::Default }
        };
        let settings = settings(&restore, origin);
        Ok(Self { restore, source, settings })
    }
}

/// The settings one by one, and the limits of each rule.
fn settings(restore: &RestoreConfig, origin: impl Fn(&str) -> Origin) -> Vec<Setting> {
    let keys = |value: Value| match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    let value = |value: Result<Value, serde_json::Error>| keys(value.unwrap_or_default());
    let mut settings: Vec<Setting> = value(serde_json::to_value(restore))
        .into_iter()
        .filter(|(key, _)| key != "rules")
        .map(|(key, value)| Setting { origin: origin(&key), key: format!("restore.{key}"), value })
        .collect();
    for rule in restore.rules.all() {
        let key = |key: &str| format!("restore.rules.{}.{key}", rule.name.as_str());
        let limits = value(serde_json::to_value(rule)).into_iter();
        settings.extend(
            limits.filter(|(key, _)| key != "name" && key != "freeze").map(|(limit, value)| Setting {
                key: key(&limit),
                value,
                origin: origin("rules"),
            }),
        );
        let freezes = rule.freezes().iter().enumerate();
        settings.extend(freezes.map(|(at, freeze)| Setting {
            key: key(&format!("freeze.{at}")),
            value: Value::String(freeze.to_string()),
            origin: origin("rules"),
        }));
    }
    settings
}

/// An error in a rule, with the rule's name beside its number.
fn with_rule_name(message: &str, known: &Map<String, Value>) -> String {
    let named = || {
        let (number, rest) = message.strip_prefix("rules[")?.split_once(']')?;
        let name = known.get("rules")?.get(number.parse::<usize>().ok()?)?.get("name")?.as_str()?;
        Some(format!("rules[{number}] ('{}'){rest}", name.escape_debug()))
    };
    named().unwrap_or_else(|| message.to_owned())
}

/// Makes types of the merged values.
struct Typed<'v>(&'v mut Values);

impl Typed<'_> {
    fn config(&mut self, config_file: AbsPath, restore: RestoreConfig) -> Result<Config, ConfigError> {
        let (state_dir, runtime_dir) = (self.path("state_dir")?, self.path("runtime_dir")?);
        let backups_root = self.path("backups.root")?;
        self.0.derive("registry_dir", below(&state_dir, "registry").to_string());
        self.0.derive("backups.index", below(&backups_root, "backups.json").to_string());
        self.0.derive("systemd.unit_dir", below(&runtime_dir, "systemd").to_string());
        Ok(Config {
            config_file,
            install_root: self.path("install_root")?,
            instance_root: self.path("instance_root")?,
            registry_dir: self.path("registry_dir")?,
            logs_dir: self.path("logs_dir")?,
            templates_dir: self.path("templates_dir")?,
            backups: self.backups(backups_root)?,
            systemd: self.systemd()?,
            lock_timeout: self.lock_timeout()?,
            service_user: self.text("service_user")?,
            reverse_proxy: self.text("reverse_proxy")?,
            ports: self.ports()?,
            tls: self.tls()?,
            node_compat_file: if self.0.get("node_compat_file").is_null() {
                None
            } else {
                Some(self.path("node_compat_file")?)
            },
            npm_package_name: self.text("npm_package_name")?,
            default_version: self.text("default_version")?,
            state_dir,
            runtime_dir,
            restore,
            restore_source: None,
            settings: Vec::new(),
        })
    }

    fn backups(&self, root: AbsPath) -> Result<Backups, ConfigError> {
        let algorithm = self.text("backups.compression.algorithm")?;
        if !["auto", "zstd", "gzip", "none"].contains(&algorithm.as_str()) {
            return Err(self.wrong("backups.compression.algorithm", "one of auto, zstd, gzip, none"));
        }
        let key = "backups.compression.level";
        let given = self.0.get(key);
        let level = given.as_i64().and_then(|level| i32::try_from(level).ok()).filter(|level| *level > 0);
        if level.is_none() && !given.is_null() {
            return Err(self.wrong(key, "a whole number greater than zero"));
        }
        Ok(Backups { root, index: self.path("backups.index")?, algorithm, level })
    }

    fn systemd(&self) -> Result<Systemd, ConfigError> {
        Ok(Systemd {
            unit_dir: self.path("systemd.unit_dir")?,
            systemctl_bin: self.text("systemd.systemctl_bin")?,
            journalctl_bin: self.text("systemd.journalctl_bin")?,
        })
    }

    fn ports(&self) -> Result<Ports, ConfigError> {
        let base = self.0.get("ports.base").as_u64().and_then(|base| u16::try_from(base).ok());
        let base = base.ok_or_else(|| self.wrong("ports.base", "a port number"))?;
        Ok(Ports { base, strategy: self.text("ports.strategy")? })
    }

    fn tls(&self) -> Result<Tls, ConfigError> {
        Ok(Tls {
            enabled: self
                .0
                .get("tls.enabled")
                .as_bool()
                .ok_or_else(|| self.wrong("tls.enabled", "true or false"))?,
            cert: self.path("tls.system.cert")?,
            key: self.path("tls.system.key")?,
            live_dir: self.path("tls.lets_encrypt.live_dir")?,
        })
    }

    fn lock_timeout(&self) -> Result<Duration, ConfigError> {
        let value = self.0.get("lock_timeout");
        let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        match seconds {
            // Zero from the flag means: try once. The peer's file may not say so.
            Some(seconds) if (0.0..=LONGEST_LOCK_TIMEOUT).contains(&seconds) => {
                let from_flag = matches!(self.0.origin("lock_timeout"), Origin::Flag(_));
                if seconds == 0.0 && !from_flag {
                    return Err(self.wrong("lock_timeout", "a number of seconds greater than zero"));
                }
                Ok(Duration::from_secs_f64(seconds))
            }
            _ => Err(self.wrong("lock_timeout", "a number of seconds, at most a day")),
        }
    }

    fn path(&self, key: &str) -> Result<AbsPath, ConfigError> {
        let text = self.0.get(key).as_str().ok_or_else(|| self.wrong(key, PATH))?;
        AbsPath::normalise(Path::new(text)).map_err(|_| self.wrong(key, PATH))
    }

    fn text(&self, key: &str) -> Result<String, ConfigError> {
        // `default_version: 25.6` is a number to YAML, and meant as text.
        match self.0.get(key) {
            Value::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
                Ok(text.clone())
            }
            Value::Number(number) => Ok(number.to_string()),
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                Err(self.wrong(key, "a text"))
            }
        }
    }

    fn wrong(&self, key: &str, expected: &'static str) -> ConfigError {
        let value = match self.0.get(key) {
            Value::String(text) => format!("'{}'", text.escape_debug()),
            other
            @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                other.to_string()
            }
        };
        ConfigError::Value { key: key.to_owned(), value, expected, origin: self.0.origin(key) }
    }
}

#[cfg(test)]
mod tests;
