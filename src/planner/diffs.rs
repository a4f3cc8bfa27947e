//! Differences of small text files (the server's configuration, unit, vhost) as unified diffs with
//! secrets taken out before anything is compared.

use similar::TextDiff;

use super::redact::{Kind, redact};
use crate::plan::preview;

const MAX_LINES: usize = 200;
const MAX_BYTES: usize = 16 << 10;

/// The difference of a text file as a plan shows it; `None` where it is equal, or not text.
pub fn diff(path: &str, kind: Kind, restored: bool, live: &[u8], backup: &[u8]) -> Option<preview::TextDiff> {
    if live == backup {
        return None;
    }
    let live = redact(kind, std::str::from_utf8(live).ok()?);
    let backup = redact(kind, std::str::from_utf8(backup).ok()?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_configuration_are_taken_out() {
        let live = br#"{"port":5007,"openId":{"client_id":"a","client_secret":"CANARY-1"},"token_expiration":"never"}"#;
        let backup = br#"{"port":5008,"openId":{"client_id":"a","client_secret":"CANARY-2"}}"#;
        let diff = diff("config.json", Kind::Configuration, true, live, backup).unwrap().diff;
        assert!(!diff.contains("CANARY"), "{diff}");
        assert!(diff.contains("-  \"port\": 5007") && diff.contains("+  \"port\": 5008"), "{diff}");
    }

    #[test]
    fn a_secret_that_changed_is_said_and_not_shown() {
        let diff =
            diff("config.json", Kind::Configuration, true, br#"{"password":"a"}"#, br#"{"password":"b"}"#)
                .unwrap()
                .diff;
        assert_eq!(diff, "(only values that are kept secret differ)\n");
    }

    #[test]
    fn long_differences_are_cut() {
        let live: String = (0..1000).map(|line| format!("a{line}\n")).collect();
        let diff = diff("x", Kind::Unit, false, live.as_bytes(), b"b\n").unwrap().diff;
        assert!(diff.len() < 32768 && diff.ends_with("(more differences are not shown)\n"));
    }
}
