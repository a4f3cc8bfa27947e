//! Differences of small text files (the server's configuration, unit, vhost) as unified diffs with
//! secrets taken out before anything is compared.

use similar::TextDiff;

use crate::plan::preview;

const MAX_LINES: usize = 200;
const MAX_BYTES: usize = 16 << 10;

/// Words in a key whose value is never shown.
const SECRET_WORDS: [&str; 10] = [
    "secret",
    "password",
    "passwd",
    "token",
    "private",
    "credential",
    "apikey",
    "authorization",
    "cookie",
    "bearer",
];

/// The difference of a text file as a plan shows it; `None` where it is equal, or not text.
pub fn diff(path: &str, restored: bool, live: &[u8], backup: &[u8]) -> Option<preview::TextDiff> {
    if live == backup {
        return None;
    }
    let (live, backup) = (redact(std::str::from_utf8(live).ok()?), redact(std::str::from_utf8(backup).ok()?));
    if live == backup {
        let diff = "(only values that are kept secret differ)\n".to_owned();
        return Some(preview::TextDiff { path: path.to_owned(), restored, diff });
    }
    let text = TextDiff::from_lines(&live, &backup);
    let whole = text.unified_diff().context_radius(2).header("now", "backup").to_string();
    let mut diff = String::new();
    let mut lines = whole.lines();
    for line in lines.by_ref().take(MAX_LINES) {
        if diff.len() + line.len() > MAX_BYTES {
            diff.push_str("(more differences are not shown)\n");
            break;
        }
        diff.push_str(line);
        diff.push('\n');
    }
    if lines.next().is_some() && !diff.ends_with("shown)\n") {
        diff.push_str("(more differences are not shown)\n");
    }
    Some(preview::TextDiff { path: path.to_owned(), restored, diff })
}

/// Takes secrets out of a text: values of JSON by their key, `KEY=value` and `Key: value` lines by
/// theirs. JSON is laid out anew, one value a line, so that a difference is one line too.
pub fn redact(text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(mut value) => {
            redact_value(&mut value);
            serde_json::to_string_pretty(&value).map_or_else(|_| String::new(), |text| text + "\n")
        }
        Err(_) => text.lines().map(redact_line).collect(),
    }
}

fn is_secret(key: &str) -> bool {
    let plain: String =
        key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| plain.contains(word)) || plain.ends_with("key")
}

fn redact_value(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                if is_secret(key) && !value.is_null() {
                    *value = serde_json::Value::String("(kept secret)".to_owned());
                } else {
                    redact_value(value);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(redact_value),
        serde_json::Value::String(text) => *text = mask_logins(text),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// Takes user and password out of addresses: `https://user:password@host/`.
fn mask_logins(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(['/', ' ', '"', '\'', '?', '#']).unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(host) => {
                out.push_str("(kept secret)");
                rest = &after[host..];
            }
            None => rest = after,
        }
    }
    out + rest
}

fn redact_line(line: &str) -> String {
    let cut = line.rfind(['=', ':']).map(|_| line.find(['=', ':']).unwrap_or(line.len()));
    let secret_word =
        line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).any(is_secret_word);
    match cut {
        Some(cut) if secret_word => format!("{}{} (kept secret)\n", &line[..cut], &line[cut..=cut]),
        None if secret_word => "(a line that is kept secret)\n".to_owned(),
        Some(_) | None => format!("{}\n", mask_logins(line)),
    }
}

/// In free text only names that end in a secret word count, or half of every unit would be hidden.
fn is_secret_word(word: &str) -> bool {
    let plain: String =
        word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    SECRET_WORDS.iter().any(|secret| plain.ends_with(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_configuration_are_taken_out() {
        let live = br#"{"port":5007,"openId":{"client_id":"a","client_secret":"CANARY-1"},"token_expiration":"never"}"#;
        let backup = br#"{"port":5008,"openId":{"client_id":"a","client_secret":"CANARY-2"}}"#;
        let diff = diff("config.json", true, live, backup).unwrap().diff;
        assert!(!diff.contains("CANARY"), "{diff}");
        assert!(diff.contains("-  \"port\": 5007") && diff.contains("+  \"port\": 5008"), "{diff}");
    }

    #[test]
    fn a_secret_that_changed_is_said_and_not_shown() {
        let diff = diff("config.json", true, br#"{"password":"a"}"#, br#"{"password":"b"}"#).unwrap().diff;
        assert_eq!(diff, "(only values that are kept secret differ)\n");
    }

    #[test]
    fn lines_of_a_unit_are_redacted_by_their_name() {
        let text = redact("Environment=ACTUAL_OPENID_CLIENT_SECRET=CANARY\nExecStart=/usr/bin/node\n");
        assert!(!text.contains("CANARY") && text.contains("ExecStart=/usr/bin/node"), "{text}");
    }

    #[test]
    fn headers_and_logins_in_addresses_are_taken_out() {
        let text =
            redact("proxy_set_header Authorization \"Basic CANARY\";\nproxy_pass https://u:CANARY@host/;\n");
        assert!(!text.contains("CANARY") && text.contains("@host/"), "{text}");
        let text = redact(r#"{"url":"https://u:CANARY@host/x","port":1}"#);
        assert!(!text.contains("CANARY") && text.contains("@host/x"), "{text}");
    }

    #[test]
    fn long_differences_are_cut() {
        let live: String = (0..1000).map(|line| format!("a{line}\n")).collect();
        let diff = diff("x", false, live.as_bytes(), b"b\n").unwrap().diff;
        assert!(diff.len() < 32768 && diff.ends_with("(more differences are not shown)\n"));
    }
}
