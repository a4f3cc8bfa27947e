//! YAML in and out: the only module that names `serde_yaml`.
//!
//! Two readings, because two programs read these files. [`from_str`] is for our own files (YAML 1.2,
//! straight into a type). [`parse_value`] reads the peer's files as the peer's `PyYAML` does (YAML 1.1:
//! `yes` is true, `1e5` is text), which `serde_yaml` would not. [`to_pyyaml`] writes what `PyYAML`
//! writes. Pure; no I/O.

mod compose;
mod emit;
mod scalar;

#[cfg(test)]
mod emit_tests;

use serde::de::DeserializeOwned;

pub use self::compose::parse_value;
pub use self::emit::to_pyyaml;
pub use self::scalar::needs_quotes;

/// A text that is not the YAML that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", place(*.line, *.column))]
pub struct YamlError {
    /// What is wrong, without the place.
    pub message: String,
    /// The line, from 1; 0 where it is not known.
    pub line: usize,
    /// The column in characters, from 1; 0 where it is not known.
    pub column: usize,
}

fn place(line: usize, column: usize) -> String {
    if line == 0 { String::new() } else { format!(" (line {line}, column {column})") }
}

/// Reads one document into a type, by the rules of YAML 1.2.
///
/// # Errors
/// Not YAML, more than one document, or not of that type; a struct refuses a key that comes twice.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let full = error.to_string();
        let suffix = format!(" at line {line} column {column}");
        let message = full.strip_suffix(&suffix).unwrap_or(&full);
        YamlError { message: with_path(&path, message), line, column }
    })
}

/// The message with the whole path to the value, where the parser knows it up to some level only.
fn with_path(path: &str, message: &str) -> String {
    if path == "." {
        return message.to_owned();
    }
    // The parser's own path is the whole one, or that of a level above.
    let mut ends =
        path.char_indices().filter(|(_, c)| ".[".contains(*c)).map(|(at, _)| at).chain([path.len()]);
    // A path that begins with an item of a list has a dot before it there.
    let bare = if path.starts_with('[') { message.strip_prefix('.').unwrap_or(message) } else { message };
    let known = ends.find_map(|end| bare.strip_prefix(&path[..end])?.strip_prefix(": "));
    format!("{path}: {}", known.unwrap_or(message))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn errors_say_where() {
        let error = from_str::<BTreeMap<String, u8>>("a: 1\nb: x\n").unwrap_err();
        assert_eq!((error.line, error.column), (2, 4), "{error}");
        assert!(!error.message.contains("at line"), "{error}");
        assert_eq!(error.message, "b: invalid type: string \"x\", expected u8");
        let error = from_str::<BTreeMap<String, Vec<crate::ids::AbsPath>>>("a:\n- /x\n- y\n").unwrap_err();
        assert!(error.message.starts_with("a[1]: 'y' is not"), "{error}");
        let error = from_str::<u8>("a: [").unwrap_err();
        assert!(error.to_string().contains("(line "), "{error}");
    }

    #[test]
    fn the_two_readings_differ_where_the_versions_of_yaml_do() {
        assert_eq!(from_str::<serde_json::Value>("yes").unwrap(), serde_json::json!("yes"));
        assert_eq!(parse_value("yes").unwrap(), serde_json::json!(true));
    }
}
