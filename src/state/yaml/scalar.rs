//! What a plain (unquoted) scalar means to readers of YAML 1.1 and of YAML 1.2. Pure.
//!
//! The patterns of 1.1 are those of `PyYAML` 6.0 (`resolver.py`), those of 1.2 the core schema
//! (section 10.3.2) and what `serde_yaml` takes besides.

/// What a reader of YAML 1.1 makes of a plain scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    /// The text itself.
    Text,
    /// Null.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number that fits.
    Int(i128),
    /// A number with a fraction, infinite, or not a number.
    Float(f64),
    /// A whole number beyond what can be held.
    TooLarge,
    /// A date or time; kept as text here, but a reader of 1.1 makes a date of it.
    Timestamp,
    /// `<<` and `=`: no plain text for a reader of 1.1.
    Special,
}

/// Resolves a plain scalar as `PyYAML` does.
pub(super) fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Meaning::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Meaning::Bool(false);
        }
        "<<" | "=" => return Meaning::Special,
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float(f64::NAN),
        _ => {}
    }
    if let Some(float) = float(text) {
        Meaning::Float(float)
    } else if let Some(int) = int(text) {
        int
    } else if is_timestamp(text) {
        Meaning::Timestamp
    } else {
        Meaning::Text
    }
}

fn unsigned(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn all(text: &str, allowed: fn(u8) -> bool) -> bool {
    text.bytes().all(allowed)
}

fn digit_or_line(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'_'
}

fn starts_with_digit(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_digit())
}

/// `[0-5]?[0-9]`, the parts of a sexagesimal number after the first.
fn sixtieth(part: &str) -> bool {
    match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    }
}

fn float(text: &str) -> Option<f64> {
    let (negative, rest) = unsigned(text);
    let sign = if negative { -1.0 } else { 1.0 };
    if matches!(rest, ".inf" | ".Inf" | ".INF") {
        return Some(sign * f64::INFINITY);
    }
    if let Some((whole, fraction)) = rest.rsplit_once('.')
        && let Some((first, parts)) = whole.split_once(':')
    {
        let shape = starts_with_digit(first)
            && all(first, digit_or_line)
            && parts.split(':').all(sixtieth)
            && all(fraction, digit_or_line);
        return shape.then(|| sign * sexagesimal_float(whole, fraction));
    }
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let whole_part = starts_with_digit(whole) && all(whole, digit_or_line) && all(fraction, digit_or_line);
    // `PyYAML` takes a sign before the dot only where a digit follows the sign.
    let bare_fraction = whole.is_empty()
        && rest.len() == text.len()
        && starts_with_digit(fraction)
        && all(fraction, digit_or_line);
    let exponent_fits = exponent
        .is_none_or(|e| e.starts_with(['+', '-']) && e.len() > 1 && all(&e[1..], |b: u8| b.is_ascii_digit()));
    if !(whole_part || bare_fraction) || !exponent_fits {
        return None;
    }
    rest.replace('_', "").parse::<f64>().ok().map(|value| sign * value)
}

fn sexagesimal_float(whole: &str, fraction: &str) -> f64 {
    let mut value = 0.0;
    for part in whole.split(':') {
        value = value * 60.0 + part.replace('_', "").parse::<f64>().unwrap_or(0.0);
    }
    value + format!("0.{}", fraction.replace('_', "")).parse::<f64>().unwrap_or(0.0)
}

fn int(text: &str) -> Option<Meaning> {
    let (negative, rest) = unsigned(text);
    let signed = |magnitude: Option<i128>| match magnitude {
        Some(value) => Meaning::Int(if negative { -value } else { value }),
        None => Meaning::TooLarge,
    };
    let radix = |digits: &str, radix: u32| i128::from_str_radix(&digits.replace('_', ""), radix).ok();
    if let Some(digits) = rest.strip_prefix("0b") {
        let shape = !digits.is_empty() && all(digits, |b| matches!(b, b'0' | b'1' | b'_'));
        return shape.then(|| signed(radix(digits, 2)));
    }
    if let Some(digits) = rest.strip_prefix("0x") {
        let shape = !digits.is_empty() && all(digits, |b| b.is_ascii_hexdigit() || b == b'_');
        return shape.then(|| signed(radix(digits, 16)));
    }
    if rest == "0" {
        return Some(Meaning::Int(0));
    }
    if let Some(digits) = rest.strip_prefix('0') {
        let shape = all(digits, |b| matches!(b, b'0'..=b'7' | b'_'));
        // `0_` has no digits left but is an octal zero to the peer.
        return shape.then(|| signed(radix(&format!("0{digits}"), 8)));
    }
    if !starts_with_digit(rest) {
        return None;
    }
    if let Some((first, parts)) = rest.split_once(':') {
        let shape = all(first, digit_or_line) && parts.split(':').all(sixtieth);
        return shape.then(|| signed(sexagesimal_int(rest)));
    }
    all(rest, digit_or_line).then(|| signed(radix(rest, 10)))
}

fn sexagesimal_int(text: &str) -> Option<i128> {
    text.split(':').try_fold(0_i128, |sum, part| {
        sum.checked_mul(60)?.checked_add(part.replace('_', "").parse::<i128>().ok()?)
    })
}

/// Takes between `least` and `most` ASCII digits from the front.
fn digits(text: &str, least: usize, most: usize) -> Option<&str> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    (count >= least).then(|| &text[count..])
}

fn is_timestamp(text: &str) -> bool {
    is_date(text) || is_date_time(text).is_some_and(str::is_empty)
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(
            |(at, byte)| {
                if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() }
            },
        )
}

fn is_date_time(text: &str) -> Option<&str> {
    let rest = digits(text, 4, 4)?.strip_prefix('-')?;
    let rest = digits(rest, 1, 2)?.strip_prefix('-')?;
    let rest = digits(rest, 1, 2)?;
    let rest = match rest.strip_prefix(['T', 't']) {
        Some(rest) => rest,
        None => rest.starts_with([' ', '\t']).then(|| rest.trim_start_matches([' ', '\t']))?,
    };
    let rest = digits(rest, 1, 2)?.strip_prefix(':')?;
    let rest = digits(rest, 2, 2)?.strip_prefix(':')?;
    let rest = digits(rest, 2, 2)?;
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    let zone = rest.trim_start_matches([' ', '\t']);
    if let Some(rest) = zone.strip_prefix('Z') {
        return Some(rest);
    }
    let Some(offset) = zone.strip_prefix(['+', '-']) else { return Some(rest) };
    let rest = digits(offset, 1, 2)?;
    match rest.strip_prefix(':') {
        Some(minutes) => digits(minutes, 2, 2),
        None => Some(rest),
    }
}

/// Whether a reader of YAML 1.2 takes a plain scalar for anything but its text.
pub(super) fn misread_by_1_2(text: &str) -> bool {
    if matches!(
        text,
        "" | "~"
            | "null"
            | "Null"
            | "NULL"
            | "true"
            | "True"
            | "TRUE"
            | "false"
            | "False"
            | "FALSE"
            | ".nan"
            | ".NaN"
            | ".NAN"
    ) {
        return true;
    }
    let (_, rest) = unsigned(text);
    if matches!(rest, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let based = [("0o", 8), ("0x", 16), ("0b", 2)];
    if based.iter().any(|(prefix, radix)| {
        rest.strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(*radix)))
    }) {
        return true;
    }
    rest.contains(|c: char| c.is_ascii_digit())
        && rest.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && rest.parse::<f64>().is_ok()
}

/// What `PyYAML`'s analysis of a scalar allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// It has a line break.
    pub(super) multiline: bool,
    /// It may stand unquoted in block style.
    pub(super) plain: bool,
    /// It may stand in single quotes.
    pub(super) single_quoted: bool,
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_blank(c: Option<char>) -> bool {
    c.is_none_or(|c| matches!(c, '\0' | ' ' | '\t' | '\r') || is_break(c))
}

/// Looks at the characters of a scalar (`emitter.py`, `analyze_scalar`, block context).
pub(super) fn shape(text: &str) -> Shape {
    let chars: Vec<char> = text.chars().collect();
    let (Some(&first), Some(&last)) = (chars.first(), chars.last()) else {
        return Shape { multiline: false, plain: true, single_quoted: true };
    };
    let mut indicators = text.starts_with("---") || text.starts_with("...");
    let (mut breaks, mut special, mut break_space, mut space_break) = (false, false, false, false);
    let mut previous = None;
    for (at, &c) in chars.iter().enumerate() {
        let next = chars.get(at + 1).copied();
        indicators |= match c {
            '?' | '-' if at == 0 => is_blank(next),
            ':' => is_blank(next),
            '#' => is_blank(previous),
            ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                at == 0
            }
            _ => false,
        };
        breaks |= is_break(c);
        special |= c != '\n' && !(' '..='~').contains(&c);
        break_space |= c == ' ' && previous.is_some_and(is_break);
        space_break |= is_break(c) && previous == Some(' ');
        previous = Some(c);
    }
    let edges = [first, last].iter().any(|&c| c == ' ' || is_break(c));
    Shape {
        multiline: breaks,
        plain: !(edges || indicators || breaks || break_space || space_break || special),
        single_quoted: !(break_space || space_break || special),
    }
}

/// Whether a text must be quoted so that readers of YAML 1.1 and of YAML 1.2 both get exactly this text.
///
/// True for what one of them takes for a number, a date, a truth value (`y`, `n`, `yes`, `on` too) or
/// null, and for what is no plain scalar in block style: indicators, edges of blanks, line breaks,
/// control and non-ASCII characters.
pub fn needs_quotes(text: &str) -> bool {
    !shape(text).plain
        || meaning(text) != Meaning::Text
        || misread_by_1_2(text)
        || matches!(text, "y" | "Y" | "n" | "N")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISREAD: [&str; 51] = [
        "",
        "~",
        "null",
        "yes",
        "No",
        "on",
        "y",
        "1",
        "-1",
        "0x1f",
        "0o17",
        "017",
        "1e5",
        "1.5",
        ".5",
        "1_000",
        "12:30",
        "1:30.5",
        "2026-11-24",
        "2026-11-24T02:26:32Z",
        "2026-1-2 3:04:05 +01:00",
        ".inf",
        "-.INF",
        ".nan",
        "<<",
        "=",
        " x",
        "x ",
        "a: b",
        "a #b",
        "- a",
        "?",
        "*a",
        "&a",
        "!a",
        "'a",
        "\"a",
        "%a",
        "@a",
        "`a",
        "[a",
        "{a",
        "a\nb",
        "é",
        "a\tb",
        "---",
        "...",
        "a:",
        "#a",
        "|",
        ">",
    ];

    #[test]
    fn what_one_reader_would_misread_is_quoted() {
        for text in MISREAD {
            assert!(needs_quotes(text), "{text:?}");
        }
    }

    #[test]
    fn plain_words_stay_plain() {
        for text in [
            "25.6.0",
            "budget",
            "/srv/budget",
            "a b",
            "-a",
            "?a",
            ":a",
            "a#b",
            "a:b",
            "budget.example",
            "1.2.3",
            "e5",
            "1e",
            "0b2",
            "0o8",
            "0xg",
            "12:61",
            "2026-11",
            "sha256:ab",
            "x'y",
            "20261124-022632-budget-fc166c",
        ] {
            assert!(!needs_quotes(text), "{text:?}");
        }
    }

    #[test]
    fn numbers_as_the_peer_reads_them() {
        assert_eq!(meaning("0x1F"), Meaning::Int(31));
        assert_eq!(meaning("-010"), Meaning::Int(-8));
        assert_eq!(meaning("1_000"), Meaning::Int(1000));
        assert_eq!(meaning("1:30"), Meaning::Int(90));
        assert_eq!(meaning("0b11"), Meaning::Int(3));
        assert_eq!(meaning("1.5e+3"), Meaning::Float(1500.0));
        assert_eq!(meaning("-1:30.5"), Meaning::Float(-90.5));
        assert_eq!(meaning("1e5"), Meaning::Text);
        assert_eq!(meaning("1.5e3"), Meaning::Text);
        assert_eq!(meaning("0o17"), Meaning::Text);
        assert_eq!(meaning("-.5"), Meaning::Text);
        assert_eq!(meaning(&"9".repeat(60)), Meaning::TooLarge);
    }
}
