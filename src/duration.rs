//! stub
use serde::{Deserialize, Serialize};
/// A duration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DurationText(String);
impl DurationText {
    /// Seconds.
    pub fn seconds(&self) -> u64 {
        let (n, u) = self.0.split_at(self.0.len() - 1);
        n.parse::<u64>().unwrap_or(0)
            * match u {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                "d" => 86400,
                _ => 604_800,
            }
    }
}
impl TryFrom<String> for DurationText {
    type Error = crate::ids::InvalidId;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Ok(Self(s))
    }
}
impl From<DurationText> for String {
    fn from(d: DurationText) -> String {
        d.0
    }
}
impl std::fmt::Display for DurationText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}
impl schemars::JsonSchema for DurationText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DurationText".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[1-9][0-9]{0,8}[smhdw]$" })
    }
}
