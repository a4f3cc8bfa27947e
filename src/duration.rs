//! A length of time as people write it: `90s`, `30m`, `12h`, `7d`, `2w`. Pure; no I/O.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// A whole number and a unit; its text is kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DurationText {
    text: String,
    seconds: u64,
}

const PATTERN: &str = "^(0|[1-9][0-9]{0,8})[smhdw]$";

fn seconds(text: &str) -> Option<u64> {
    let unit = match text.bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 24 * 3600,
        b'w' => 7 * 24 * 3600,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let canonical = digits == "0" || !digits.starts_with('0');
    let shape = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && canonical;
    if !shape {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl DurationText {
    /// So many days.
    pub fn days(days: u32) -> Self {
        Self { text: format!("{days}d"), seconds: u64::from(days) * 24 * 3600 }
    }

    /// So many seconds.
    pub fn of_seconds(seconds: u32) -> Self {
        Self { text: format!("{seconds}s"), seconds: seconds.into() }
    }

    /// Its length in seconds.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// Its length, for timeouts.
    pub fn as_duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for DurationText {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        match seconds(&text) {
            Some(seconds) => Ok(Self { text, seconds }),
            None => Err(InvalidId {
                value: text,
                expected: "a duration (a whole number and one of s, m, h, d, w: '90s', '30m', '12h', '7d', '2w')",
            }),
        }
    }
}

impl FromStr for DurationText {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::try_from(text.to_owned())
    }
}

impl From<DurationText> for String {
    fn from(duration: DurationText) -> String {
        duration.text
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_text_survive() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600), ("0s", 0)]
        {
            let duration: DurationText = text.parse().unwrap();
            assert_eq!((duration.seconds(), duration.to_string().as_str()), (seconds, text));
            assert_eq!(serde_json::to_string(&duration).unwrap(), format!("\"{text}\""));
        }
        assert_eq!("999999999w".parse::<DurationText>().unwrap().seconds(), 999_999_999 * 604_800);
        assert_eq!(DurationText::days(7), "7d".parse().unwrap());
        assert_eq!(DurationText::of_seconds(90), "90s".parse().unwrap());
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "s", "7", "7 d", "-1d", "+1d", "1.5h", "07d", "7D", "1000000000s", "1d2h", "٣d", "7é"]
        {
            assert!(bad.parse::<DurationText>().is_err(), "{bad:?}");
        }
    }
}
