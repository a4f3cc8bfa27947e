//! A number of bytes as people write it: `512B`, `64MiB`, `2GiB`. Pure; no I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// A whole number and a unit; its text is kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SizeText {
    text: String,
    bytes: u64,
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let shift = match &text[digits..] {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    let number: u64 = text[..digits].parse().ok()?;
    // Plans carry sizes as JSON numbers, which are exact below 2^53.
    number.checked_mul(1 << shift).filter(|bytes| *bytes < 1 << 53)
}

impl SizeText {
    /// So many mebibytes.
    pub fn mebibytes(count: u32) -> Self {
        Self { text: format!("{count}MiB"), bytes: u64::from(count) << 20 }
    }

    /// The number of bytes, below 2^53.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl TryFrom<String> for SizeText {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        match bytes(&text) {
            Some(bytes) => Ok(Self { text, bytes }),
            None => Err(InvalidId {
                value: text,
                expected: "a size (a whole number and one of B, KiB, MiB, GiB, TiB: '64MiB')",
            }),
        }
    }
}

impl From<SizeText> for String {
    fn from(size: SizeText) -> String {
        size.text
    }
}

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary_and_the_text_survives() {
        for (text, bytes) in
            [("0B", 0), ("512B", 512), ("64MiB", 64 << 20), ("2GiB", 2 << 30), ("1TiB", 1 << 40)]
        {
            let size = SizeText::try_from(text.to_owned()).unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, text));
        }
        assert_eq!(SizeText::mebibytes(64), SizeText::try_from("64MiB".to_owned()).unwrap());
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "64", "MiB", "64MB", "64 MiB", "-1B", "1.5GiB", "9000TiB", "99999999999999999999B"] {
            assert!(SizeText::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
