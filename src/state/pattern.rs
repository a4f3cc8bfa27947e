//! Names by pattern, as OpenSSH has them: `*` stands for any text, `?` for one byte, and in a list
//! `!pattern` takes out again. Case counts. Pure.

use serde::{Deserialize, Serialize};

/// The longest pattern in bytes.
const LONGEST: usize = 200;

/// What stands in a list for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A pattern fits and none takes it out.
    In,
    /// No pattern fits.
    Out,
    /// A `!pattern` fits.
    TakenOut,
}

/// Where a name stands in a list of patterns.
pub fn standing<'p>(name: &str, patterns: impl IntoIterator<Item = &'p str>) -> Standing {
    let mut found = Standing::Out;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if fits(name.as_bytes(), pattern.as_bytes()) => return Standing::TakenOut,
            None if fits(name.as_bytes(), pattern.as_bytes()) => found = Standing::In,
            Some(_) | None => {}
        }
    }
    found
}

/// Linear in practice: only the last `*` is tried again.
fn fits(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(place) {
            Some(b'*') => {
                star = Some((place, at));
                place += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[at] => {
                at += 1;
                place += 1;
            }
            Some(_) | None => {
                let Some((star_place, star_at)) = star else { return false };
                star = Some((star_place, star_at + 1));
                place = star_place + 1;
                at = star_at + 1;
            }
        }
    }
    pattern[place..].iter().all(|byte| *byte == b'*')
}

/// A list of patterns that can be meant: at least one says who is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Where a name stands.
    pub fn standing(&self, name: &str) -> Standing {
        standing(name, self.0.iter().map(String::as_str))
    }

    /// The patterns as they were written.
    pub fn texts(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Patterns {
    type Error = String;
    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        if texts.is_empty() {
            return Err("the list is empty; leave the key out, or name patterns".to_owned());
        }
        for text in &texts {
            well_formed(text)?;
        }
        if texts.iter().all(|text| text.starts_with('!')) {
            return Err("it only takes out: add '*' for all others".to_owned());
        }
        Ok(Self(texts))
    }
}

impl From<Patterns> for Vec<String> {
    fn from(patterns: Patterns) -> Self {
        patterns.0
    }
}

fn well_formed(text: &str) -> Result<(), String> {
    let body = text.strip_prefix('!').unwrap_or(text);
    let shown = text.escape_debug();
    if body.is_empty() || text.len() > LONGEST {
        return Err(format!("'{shown}' is no pattern: 1 to {LONGEST} bytes are"));
    }
    if body.contains(',') {
        return Err(format!("'{shown}' has a comma: make each pattern an item of the list"));
    }
    if body.contains('!') {
        return Err(format!("'{shown}' has a '!' that is not its first character"));
    }
    if body.trim() != body || body.chars().any(char::is_control) {
        return Err(format!("'{shown}' has blanks around it or control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Result<Patterns, String> {
        Patterns::try_from(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn patterns_fit_as_opensshs_do() {
        use Standing::{In, Out, TakenOut};
        for (name, patterns, expected) in [
            ("prod-eu.1", &["*"][..], In),
            ("prod-eu.1", &["prod-*"], In),
            ("prod-", &["prod-*"], In),
            ("prod", &["prod-*"], Out),
            ("aprod-1", &["prod-*"], Out),
            ("Prod-1", &["prod-*"], Out),
            ("prod-1", &["prod-?"], In),
            ("prod-10", &["prod-?"], Out),
            ("prod.1", &["prod?1"], In),
            ("abcabc", &["*abc"], In),
            ("abcab", &["*abc"], Out),
            ("prod-test", &["prod-*", "!prod-test"], TakenOut),
            ("prod-test", &["!prod-test", "prod-*"], TakenOut),
            ("prod-live", &["!prod-test", "prod-*"], In),
            ("", &["*"], In),
            ("", &["?"], Out),
            ("[a]", &["[a]"], In),
            ("a", &["[a]"], Out),
        ] {
            assert_eq!(list(patterns).unwrap().standing(name), expected, "{name} {patterns:?}");
        }
        // Many stars take no time.
        assert_eq!(standing(&"a".repeat(5000), ["*a*a*a*a*a*a*a*a*a*a*b"]), Out);
    }

    #[test]
    fn lists_that_cannot_be_meant_are_refused() {
        for (texts, what) in [
            (&[][..], "empty"),
            (&[""], "no pattern"),
            (&["!"], "no pattern"),
            (&["!prod"], "only takes out"),
            (&["a,b"], "comma"),
            (&["a", "!!b"], "not its first"),
            (&["a!b"], "not its first"),
            (&[" a"], "blanks"),
            (&["a\n"], "blanks"),
            (&["a\u{7}b"], "control"),
        ] {
            let error = list(texts).unwrap_err();
            assert!(error.contains(what), "{texts:?}: {error}");
        }
        assert!(list(&[&"a".repeat(201)]).is_err());
    }
}
