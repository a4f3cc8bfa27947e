//! Names and digests that must not be mixed up: each is its own type, parsing makes it valid, and
//! nothing later checks again. Pure; no I/O.

use std::borrow::Cow;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A text that is not a valid value of an identifier type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not {expected}", .value.escape_debug())]
pub struct InvalidId {
    /// The text as given.
    pub value: String,
    /// What it should have been, with an article: "an instance name (…)".
    pub expected: &'static str,
}

/// Declares a newtype over `String` whose `TryFrom` holds the only check, with `Display`,
/// `FromStr`, serde and a JSON Schema pattern that says the same.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:expr, $pattern:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&value) {
                    Ok(Self(value))
                } else {
                    Err(InvalidId { value, expected: $expected })
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

fn is_word(text: &str, extra: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

text_id!(
    /// The name of an instance: a directory name, a part of a unit's name, of a lock file and of backup ids.
    InstanceName,
    "an instance name (letters, digits, '-', '_' and '.', starting with a letter or digit, at most 64)",
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    |text| text.len() <= 64 && is_word(text, "._-")
);

text_id!(
    /// The id of a backup: `YYYYMMDD-HHMMSS-<instance>-<6 hex>`; other programs' ids of safe characters are accepted.
    BackupId,
    "a backup id (letters, digits, '-', '_' and '.', starting with a letter or digit, at most 128)",
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
    |text| text.len() <= 128 && is_word(text, "._-")
);

text_id!(
    /// The id of a step, unique within its plan; the journal's keys.
    StepId,
    "a step id (lower-case letters, digits and '-', starting with a letter or digit, at most 64)",
    "^[a-z0-9][a-z0-9-]{0,63}$",
    |text| text.len() <= 64 && is_word(text, "-") && !text.chars().any(|c| c.is_ascii_uppercase())
);

const ULID_PATTERN: &str = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$";

fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text.starts_with(|c| ('0'..='7').contains(&c))
        && text.chars().all(|c| c.is_ascii_digit() || (c.is_ascii_uppercase() && !"ILOU".contains(c)))
}

text_id!(
    /// The id of a plan: a ULID.
    PlanId, "a ULID (26 characters of Crockford's base 32)", ULID_PATTERN, is_ulid
);

text_id!(
    /// The id of one run of a plan: a ULID; names the run's directory.
    RunId, "a ULID (26 characters of Crockford's base 32)", ULID_PATTERN, is_ulid
);

impl PlanId {
    /// A new id, from the time and the system's random source.
    pub fn generate() -> Self {
        Self(ulid::Ulid::generate().to_string())
    }
}

impl RunId {
    /// A new id, from the time and the system's random source.
    pub fn generate() -> Self {
        Self(ulid::Ulid::generate().to_string())
    }

    /// When it was made, to the millisecond; the beginning of time where it holds no time that there is.
    pub fn made_at(&self) -> jiff::Timestamp {
        let id = ulid::Ulid::from_string(&self.0).unwrap_or_default();
        let millis = i64::try_from(id.timestamp_ms()).unwrap_or_default();
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

text_id!(
    /// Where a server is asked: `http` or `https`, a host, a port where it is no usual one, and a path that
    /// `/health` is added to. No user, no query.
    ServerUrl,
    "the address of a server ('http://127.0.0.1:5006', 'https://budget.example.org')",
    "^https?://[A-Za-z0-9.:\\[\\]-]{1,255}(/[A-Za-z0-9._~-]{1,64}){0,8}$",
    is_server_url
);

text_id!(
    /// The address of every instance's server, with `{port}`, `{instance}` and `{domain}` for what differs.
    UrlTemplate,
    "the address of a server ('https://localhost:{port}'; {port}, {instance} and {domain} are filled in)",
    "^https?://[A-Za-z0-9.:\\[\\]{}-]{1,255}(/[A-Za-z0-9._~{}-]{1,64}){0,8}$",
    |text| is_server_url(&fill(text, "1", "a", "a"))
);

fn is_server_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let mut parts = rest.split('/');
    let host = parts.next().unwrap_or_default();
    let only = |part: &str, extra: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
    let rest: Vec<&str> = parts.collect();
    (1..=255).contains(&host.len())
        && only(host, ".:[]-")
        && rest.len() <= 8
        && rest.iter().all(|part| (1..=64).contains(&part.len()) && only(part, "._~-"))
}

fn fill(template: &str, port: &str, instance: &str, domain: &str) -> String {
    template.replace("{port}", port).replace("{instance}", instance).replace("{domain}", domain)
}

impl UrlTemplate {
    /// The address of one instance.
    ///
    /// # Errors
    /// It asks for a port or domain that the instance does not have, or the result is no address.
    pub fn of(
        &self,
        instance: &InstanceName,
        port: Option<u16>,
        domain: Option<&str>,
    ) -> Result<ServerUrl, InvalidId> {
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        ServerUrl::try_from(fill(&self.0, &port, instance.as_str(), domain.unwrap_or_default()))
    }
}

impl ServerUrl {
    /// A server of this machine that listens on this port.
    pub fn local(port: u16) -> Self {
        Self(format!("http://127.0.0.1:{port}"))
    }
}

text_id!(
    /// An absolute path as it is inside the root (`--root`): UTF-8, no `.` or `..`, no empty part, no
    /// control character, no slash at the end.
    AbsPath,
    "an absolute path without '.', '..', empty parts or control characters",
    "^(/|(/[^/\\u0000-\\u001f\\u007f]+)+)$",
    |text| {
        text == "/"
            || (text.starts_with('/')
                && text.len() <= 4095
                && !text.chars().any(char::is_control)
                && text[1..].split('/').all(|part| !part.is_empty() && part != "." && part != ".."))
    }
);

impl AbsPath {
    /// Normalises a path that a person or a configuration file gave: repeated and trailing slashes go;
    /// `.`/`..`, a relative path or a name that is not UTF-8 is refused.
    pub fn normalise(path: &Path) -> Result<Self, InvalidId> {
        // Most are normal already.
        if let Some(Ok(path)) = path.to_str().map(str::parse) {
            return Ok(path);
        }
        let clean: PathBuf = path.components().collect();
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        match clean.to_str() {
            Some(text) if plain => Self::try_from(text.to_owned()),
            _ => Err(InvalidId {
                value: path.display().to_string(),
                expected: "an absolute path without '.', '..', empty parts or control characters",
            }),
        }
    }

    /// This path with one more part; `name` must be a single part.
    pub fn join(&self, name: &str) -> Result<Self, InvalidId> {
        Self::try_from(if self.0 == "/" { format!("/{name}") } else { format!("{}/{name}", self.0) })
    }

    /// The directory that holds it; `None` for `/`.
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.rfind('/').filter(|_| self.0 != "/")?;
        Some(Self(if cut == 0 { "/".into() } else { self.0[..cut].into() }))
    }

    /// The last part; `None` for `/`.
    pub fn file_name(&self) -> Option<&str> {
        self.0.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// Whether it is `base` or lies below it.
    pub fn is_within(&self, base: &AbsPath) -> bool {
        Path::new(&self.0).starts_with(&base.0)
    }

    /// As a standard path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Without the leading slash, for lookups below an open root directory; `.` for the root itself.
    pub fn relative(&self) -> &Path {
        if self.0 == "/" { Path::new(".") } else { Path::new(&self.0[1..]) }
    }
}

/// A SHA-256 digest; its text is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// From a finished hasher's output.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: a manifest has very many of them.
        let mut text = [0; 64];
        f.write_str(base16ct::lower::encode_str(&self.0, &mut text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid =
            || InvalidId { value: text.to_owned(), expected: "a SHA-256 digest (64 lower-case hex digits)" };
        let mut bytes = [0; 32];
        let read = base16ct::lower::decode(text, &mut bytes).map_err(|_| invalid())?;
        if read.len() != 32 {
            return Err(invalid());
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Without a text of its own for each: a manifest has very many of them.
impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Sha256;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Sha256, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Sha256 {
    fn schema_name() -> Cow<'static, str> {
        "Sha256".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

/// The digest of a plan's canonical text; its text is `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanDigest(pub Sha256);

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for PlanDigest {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok()).map(Self).ok_or_else(|| InvalidId {
            value: text.to_owned(),
            expected: "a plan digest ('sha256:' and 64 lower-case hex digits)",
        })
    }
}

impl TryFrom<String> for PlanDigest {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<PlanDigest> for String {
    fn from(digest: PlanDigest) -> String {
        digest.to_string()
    }
}

impl JsonSchema for PlanDigest {
    fn schema_name() -> Cow<'static, str> {
        "PlanDigest".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_escape_are_not_paths() {
        for bad in ["", "srv", "/srv/", "/srv/../etc", "/./srv", "//srv", "/srv//a", "/a\nb", "/a\0b"] {
            assert!(AbsPath::from_str(bad).is_err(), "{bad:?}");
        }
        assert_eq!(AbsPath::normalise(Path::new("/srv//budget/")).unwrap().as_str(), "/srv/budget");
        assert!(AbsPath::normalise(Path::new("/srv/../etc")).is_err());
        assert!(AbsPath::normalise(Path::new("srv")).is_err());
    }

    #[test]
    fn parents_and_names() {
        let path = AbsPath::from_str("/srv/budget").unwrap();
        assert_eq!(path.parent().unwrap().as_str(), "/srv");
        assert_eq!(path.parent().unwrap().parent().unwrap().as_str(), "/");
        assert_eq!(path.file_name(), Some("budget"));
        assert!(path.is_within(&AbsPath::from_str("/srv").unwrap()));
        assert!(!AbsPath::from_str("/srvx").unwrap().is_within(&AbsPath::from_str("/srv").unwrap()));
    }

    #[test]
    fn digests_are_exact() {
        let digest = Sha256::of(b"");
        assert_eq!(digest.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest.to_string().parse::<Sha256>().unwrap(), digest);
        assert!(digest.to_string().to_uppercase().parse::<Sha256>().is_err());
    }

    #[test]
    fn addresses_of_servers_name_no_user_and_no_query() {
        for good in ["http://127.0.0.1:5006", "https://budget.example.org", "http://[::1]:80/a/b"] {
            assert!(ServerUrl::from_str(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://",
            "ftp://a",
            "http://u@a",
            "http://a/",
            "http://a?b",
            "http://a#b",
            "http://a b",
            "http://a\n",
            "file:///etc/passwd",
            "http://{port}",
        ] {
            assert!(ServerUrl::from_str(bad).is_err(), "{bad}");
        }
        let template = UrlTemplate::from_str("https://{domain}:{port}/{instance}").unwrap();
        let name = InstanceName::from_str("budget").unwrap();
        assert_eq!(template.of(&name, Some(1), Some("a.b")).unwrap().as_str(), "https://a.b:1/budget");
        assert!(template.of(&name, Some(1), Some("u@a")).is_err());
        assert!(UrlTemplate::from_str("https://{other}").is_err());
    }

    #[test]
    fn names_with_tricks_are_refused() {
        for bad in ["", "..", ".hidden", "a/b", "a b", "-x", "é", "a\n"] {
            assert!(InstanceName::from_str(bad).is_err(), "{bad:?}");
            assert!(BackupId::from_str(bad).is_err(), "{bad:?}");
        }
        assert!(RunId::from_str(RunId::generate().as_str()).is_ok());
        let made = RunId::from_str("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap().made_at();
        assert_eq!(made.as_millisecond(), 1_469_922_850_259);
        assert!(RunId::from_str("01ARZ3NDEKTSV4RRFFQ69G5FAI").is_err());
    }
}
