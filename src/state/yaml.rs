//! YAML in and out: the only module that names `serde_yaml`. Pure; no I/O.

use serde_json::Value;

/// A text that is not YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {line}, column {column})")]
pub struct YamlError {
    /// What is wrong.
    pub message: String,
    /// Line, from 1; 0 where unknown.
    pub line: usize,
    /// Column, from 1; 0 where unknown.
    pub column: usize,
}

/// Reads one document; duplicate keys are refused, the order of keys is kept.
pub fn parse_value(text: &str) -> Result<Value, YamlError> {
    let refuse = |message: String, at: Option<serde_yaml::Location>| YamlError {
        message,
        line: at.as_ref().map_or(0, serde_yaml::Location::line),
        column: at.as_ref().map_or(0, serde_yaml::Location::column),
    };
    let value: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|error| refuse(error.to_string(), error.location()))?;
    serde_json::to_value(&value).map_err(|error| refuse(error.to_string(), None))
}

/// Whether a plain scalar of this text could be taken for something else by a reader of YAML 1.1 or 1.2.
pub fn needs_quotes(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let words = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<", "="];
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.chars().all(|c| c.is_ascii_hexdigit() || "+-.:_xoeETZ inf".contains(c));
    words.contains(&lower.as_str()) || numeric
}
