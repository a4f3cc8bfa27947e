//! The allowed-signers file of OpenSSH (`ssh-keygen(1)`, "ALLOWED SIGNERS"): who may sign with which
//! key. Pure.
//!
//! A line that cannot be read grants nothing and is told as a [`Mistake`], as OpenSSH does. So is one
//! with `cert-authority`: certificates are not supported here, and the key of an authority signs nothing.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

use super::Flaw;
use crate::state::pattern;

/// What OpenSSH takes for a blank: a form feed or a no-break space is none.
const BLANK: [char; 3] = [' ', '\t', '\r'];

/// A pattern of this many bytes makes OpenSSH find that its whole list fits nobody.
const TOO_LONG: usize = 1023;

/// One key and who may use it for what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    number: usize,
    principals: String,
    key: KeyData,
    options: Options,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    cert_authority: bool,
    namespaces: Option<String>,
    valid_after: Option<Timestamp>,
    valid_before: Option<Timestamp>,
}

/// A line that grants nothing since it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedSigners {
    lines: Vec<Line>,
    mistakes: Vec<Mistake>,
}

impl AllowedSigners {
    /// Reads the file. `zone` is what its times without a `Z` mean.
    pub fn read(text: &str, zone: &TimeZone) -> Self {
        let mut read = Self::default();
        for (index, text) in text.lines().enumerate() {
            let text = text.trim_matches([' ', '\t', '\r']);
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            match line(index + 1, text, zone) {
                Ok(line) => read.lines.push(line),
                Err(message) => read.mistakes.push(Mistake { line: index + 1, message }),
            }
        }
        read
    }

    /// Lines that grant nothing since they cannot be read.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Whether this principal may sign with this key, for this purpose, at this time. As OpenSSH does:
    /// the first line that grants it decides, and lines that do not are no obstacle.
    ///
    /// # Errors
    /// Why no line grants it: what the line says that came nearest.
    pub fn permits(
        &self,
        principal: &str,
        key: &KeyData,
        namespace: &str,
        now: Timestamp,
    ) -> Result<(), Flaw> {
        let mut nearest = Flaw::NotListed;
        for line in self.lines.iter().filter(|line| line.key == *key) {
            if !matches(principal, &line.principals) {
                if nearest == Flaw::NotListed {
                    nearest = Flaw::OtherPrincipal { principals: line.principals.clone() };
                }
                continue;
            }
            match line.grants(namespace, now) {
                Ok(()) => return Ok(()),
                Err(flaw) => nearest = flaw,
            }
        }
        Err(nearest)
    }

    /// The names, without patterns, that stand beside a key.
    pub fn names_of(&self, key: &KeyData) -> Vec<&str> {
        let lines = self.lines.iter().filter(|line| line.key == *key && !line.options.cert_authority);
        let names = lines.flat_map(|line| line.principals.split(','));
        let mut names: Vec<&str> =
            names.filter(|name| !name.is_empty() && !name.contains(['*', '?', '!'])).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Line {
    fn grants(&self, namespace: &str, now: Timestamp) -> Result<(), Flaw> {
        let (line, options) = (self.number, &self.options);
        if options.cert_authority {
            return Err(Flaw::CertAuthority { line });
        }
        if let Some(namespaces) = &options.namespaces
            && !matches(namespace, namespaces)
        {
            return Err(Flaw::Namespace { line, namespaces: namespaces.clone() });
        }
        if let Some(from) = options.valid_after.filter(|from| now.as_second() < from.as_second()) {
            return Err(Flaw::NotYet { line, from });
        }
        if let Some(until) = options.valid_before.filter(|until| now.as_second() > until.as_second()) {
            return Err(Flaw::NoLonger { line, until });
        }
        Ok(())
    }
}

fn line(number: usize, text: &str, zone: &TimeZone) -> Result<Line, String> {
    let (principals, rest) = principals(text)?;
    // No option begins like the type of a key.
    if ["ssh-", "ecdsa-", "sk-"].iter().any(|start| rest.starts_with(start)) {
        return Ok(Line { number, principals, key: key(rest)?, options: Options::default() });
    }
    let (given, rest) = rest.split_at(end_of_options(rest).ok_or("a quotation mark is not closed")?);
    Ok(Line { number, principals, options: options(given, zone)?, key: key(rest)? })
}

/// The first word, which may stand in quotation marks, and what follows.
fn principals(text: &str) -> Result<(String, &str), String> {
    let (word, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quotation mark is not closed")?,
        None => text.split_once(BLANK).ok_or("it has no key")?,
    };
    if word.is_empty() {
        Err("it names nobody".to_owned())
    } else {
        Ok((word.to_owned(), rest.trim_start_matches(BLANK)))
    }
}

fn key(text: &str) -> Result<KeyData, String> {
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    let (Some(kind), Some(base64)) = (words.next(), words.next()) else {
        return Err("it has no key".to_owned());
    };
    match PublicKey::from_openssh(&format!("{kind} {base64}")) {
        Ok(key) => Ok(key.key_data().clone()),
        Err(error) => Err(format!("its key cannot be read: {error}")),
    }
}

/// Where the options end: at the first blank outside of quotation marks.
fn end_of_options(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            ' ' | '\t' if !quoted => return Some(at),
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        // Whatever stands before it, as OpenSSH has it.
        escaped = c == '\\';
    }
    (!quoted).then_some(text.len())
}

fn options(text: &str, zone: &TimeZone) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = text;
    while !rest.is_empty() {
        // Between two commas, or before the first, there may be nothing.
        if !rest.starts_with(',') {
            rest = option(&mut options, rest, zone)?;
        }
        rest = match rest.strip_prefix(',') {
            None if rest.is_empty() => break,
            None | Some("") => return Err("its options end oddly".to_owned()),
            Some(rest) => rest,
        };
    }
    match (options.valid_after, options.valid_before) {
        (Some(after), Some(before)) if before <= after => {
            Err("valid-before is not after valid-after".to_owned())
        }
        _ => Ok(options),
    }
}

/// Reads one option, and gives what follows.
fn option<'t>(options: &mut Options, text: &'t str, zone: &TimeZone) -> Result<&'t str, String> {
    let (name, after) = text.split_at(text.find(['=', ',']).unwrap_or(text.len()));
    let name = name.to_ascii_lowercase();
    if name == "cert-authority" && !after.starts_with('=') {
        options.cert_authority = true;
        return Ok(after);
    }
    let Some(value) = after.strip_prefix('=') else {
        return Err(format!("the option '{name}' is not known"));
    };
    let (value, after) = unquoted(&name, value)?;
    set(options, &name, value, zone)?;
    Ok(after)
}

fn set(options: &mut Options, name: &str, value: String, zone: &TimeZone) -> Result<(), String> {
    let twice = match name {
        "namespaces" => options.namespaces.replace(value).is_some(),
        "valid-after" => options.valid_after.replace(time(&value, zone)?).is_some(),
        "valid-before" => options.valid_before.replace(time(&value, zone)?).is_some(),
        _ => return Err(format!("the option '{name}' is not known")),
    };
    if twice { Err(format!("the option '{name}' stands there twice")) } else { Ok(()) }
}

/// The text in quotation marks at the beginning, and what follows.
fn unquoted<'t>(name: &str, text: &'t str) -> Result<(String, &'t str), String> {
    let quoted =
        text.strip_prefix('"').ok_or_else(|| format!("the value of '{name}' is not in quotation marks"))?;
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        if c == '"' && !escaped {
            return Ok((quoted[..at].replace("\\\"", "\""), &quoted[at + 1..]));
        }
        escaped = c == '\\';
    }
    Err("a quotation mark is not closed".to_owned())
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, with `Z` or `UTC` for UTC. As for OpenSSH the 30th of
/// February is the 2nd of March, and there are seconds 60 and 61.
fn time(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let wrong = || format!("'{text}' is no time like 20261231, 202612312359Z or 20261231235959Z");
    let utc = |end: &str| {
        let (digits, given) = text.split_at_checked(text.len().checked_sub(end.len())?)?;
        given.eq_ignore_ascii_case(end).then_some(digits)
    };
    let (digits, zone) = match utc("Z").or_else(|| utc("UTC")) {
        Some(digits) => (digits, &TimeZone::UTC),
        None => (text, zone),
    };
    if !matches!(digits.len(), 8 | 12 | 14) {
        return Err(wrong());
    }
    // A part that is not there is the hour 0, the minute 0, the second 0.
    let part = |from: usize, to: usize, least: i64, most: i64| {
        let Some(part) = digits.get(from..to) else { return (from >= digits.len()).then_some(0) };
        let number = part.trim_start_matches(' ');
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse().ok().filter(|number| plain && (least..=most).contains(number))
    };
    let read = || {
        let (year, month) = (part(0, 4, 0, 9999)?, part(4, 6, 1, 12)?);
        let day = part(6, 8, 1, 31)?;
        let (hour, minute, second) = (part(8, 10, 0, 23)?, part(10, 12, 0, 59)?, part(12, 14, 0, 61)?);
        let first =
            DateTime::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1, 0, 0, 0, 0).ok()?;
        let seconds = (((day - 1) * 24 + hour) * 60 + minute) * 60 + second;
        // Later than any time that this program knows is as good as never.
        let time = first.checked_add(SignedDuration::from_secs(seconds));
        let time = time.and_then(|time| zone.to_timestamp(time));
        time.ok().or((year == 9999).then_some(Timestamp::MAX))
    };
    read().filter(|time| time.as_second() > 0).ok_or_else(wrong)
}

/// Whether a text is in a comma-separated list of patterns; a `!pattern` that fits excludes it.
fn matches(text: &str, list: &str) -> bool {
    let long = |pattern: &str| pattern.strip_prefix('!').unwrap_or(pattern).len() >= TOO_LONG;
    !list.split(',').any(long) && pattern::standing(text, list.split(',')) == pattern::Standing::In
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const NS: &str = "abssctl-plan@v1";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn asked(file: &str, principal: &str, now: &str) -> Result<(), Flaw> {
        let signers = AllowedSigners::read(file, &TimeZone::UTC);
        signers.permits(principal, &super::key(KEY).unwrap(), NS, at(now))
    }

    fn now(file: &str) -> Result<(), Flaw> {
        asked(file, "anna@example.org", "2026-11-24T12:00:00Z")
    }

    fn mistake(line: &str) -> String {
        let signers = AllowedSigners::read(line, &TimeZone::UTC);
        assert!(signers.lines.is_empty(), "{line}");
        signers.mistakes()[0].message.clone()
    }

    #[test]
    fn who_is_listed_may_sign() {
        for principals in [
            "anna@example.org",
            "bert,anna@example.org",
            "*@example.org",
            "a??a@*",
            "\"anna@example.org\"",
            "!bert@example.org,*@example.org",
        ] {
            assert_eq!(
                now(&format!("# team\n\n{principals} {KEY} Anna's laptop\r\n")),
                Ok(()),
                "{principals}"
            );
        }
        for principals in ["anna", "bert", "*@example.com", "!anna@*,*", "Anna@example.org", "*@example.org?"]
        {
            let expected = Err(Flaw::OtherPrincipal { principals: principals.into() });
            assert_eq!(now(&format!("{principals} {KEY}")), expected);
        }
        assert_eq!(now(&format!("anna@example.org {OTHER}")), Err(Flaw::NotListed));
        assert_eq!(now(&format!("anna@example.org {OTHER}\nanna@example.org {KEY}\n")), Ok(()));
    }

    #[test]
    fn options_limit_it() {
        assert_eq!(now(&format!("* namespaces=\"git,abssctl-*\" {KEY}")), Ok(()));
        assert!(matches!(now(&format!("* namespaces=\"git\" {KEY}")), Err(Flaw::Namespace { line: 1, .. })));
        assert_eq!(now(&format!("* Valid-After=\"20261124\",valid-before=\"202611241200Z\" {KEY}")), Ok(()));
        assert!(matches!(
            now(&format!("* valid-before=\"20261124115959Z\" {KEY}")),
            Err(Flaw::NoLonger { .. })
        ));
        assert!(matches!(now(&format!("* valid-after=\"20261124120001\" {KEY}")), Err(Flaw::NotYet { .. })));
        assert_eq!(now(&format!("* cert-authority {KEY}")), Err(Flaw::CertAuthority { line: 1 }));
        let expired = format!("* valid-before=\"20200101\" {KEY}\n* {KEY}\n");
        assert_eq!(now(&expired), Ok(()), "another line grants it");
    }

    #[test]
    fn times_without_a_z_are_local() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let signers = AllowedSigners::read(&format!("* valid-after=\"202611241400\" {KEY}"), &zone);
        let key = super::key(KEY).unwrap();
        assert_eq!(signers.permits("x", &key, NS, at("2026-11-24T12:00:00Z")), Ok(()));
        assert!(signers.permits("x", &key, NS, at("2026-11-24T11:59:59Z")).is_err());
    }

    #[test]
    fn lines_that_cannot_be_read_grant_nothing() {
        for (line, what) in [
            ("anna".to_owned(), "no key"),
            (format!("anna ssh-ed25519 {}", &KEY[12..40]), "key cannot be read"),
            (format!("anna namespaces=git {KEY}"), "quotation marks"),
            (format!("anna namespaces=\"git {KEY}"), "not closed"),
            (format!("\"anna {KEY}"), "not closed"),
            (format!("anna no-touch-required {KEY}"), "not known"),
            (format!("anna zone=\"x\" {KEY}"), "not known"),
            (format!("anna cert-authority, {KEY}"), "end oddly"),
            (format!("anna namespaces=\"a\",namespaces=\"b\" {KEY}"), "twice"),
            (format!("anna valid-after=\"tomorrow\" {KEY}"), "no time"),
            (format!("anna valid-after=\"20260232\" {KEY}"), "no time"),
            (format!("anna valid-after=\"éé1231\" {KEY}"), "no time"),
            (format!("anna valid-after=\"UTC\" {KEY}"), "no time"),
            (format!("anna \u{c}{KEY}"), "not known"),
            (format!("anna valid-after=\"19700101Z\" {KEY}"), "no time"),
            (format!("anna valid-after=\"20270101\",valid-before=\"20260101\" {KEY}"), "not after"),
        ] {
            let message = mistake(&line);
            assert!(message.contains(what), "{line}: {message}");
        }
    }

    #[test]
    fn names_beside_a_key_are_no_patterns() {
        let file = format!("bert,*@x {KEY}\nanna,!carl {KEY}\nca cert-authority {KEY}\ndora {OTHER}\n");
        let signers = AllowedSigners::read(&file, &TimeZone::UTC);
        assert_eq!(signers.names_of(&super::key(KEY).unwrap()), ["anna", "bert"]);
    }
}
