//! Differences of small text files (the server's configuration, unit, vhost) as unified diffs with
//! secrets taken out before anything is compared.

use std::collections::HashSet;

use similar::TextDiff;

use super::redact::{Kind, redact};
use crate::plan::preview;

const MAX_LINES: usize = 200;
const MAX_BYTES: usize = 16 << 10;

/// The last line of a difference that was cut.
const CUT: &str = "(more differences are not shown)\n";

/// The difference of a text file as a plan shows it; `None` where it is equal, or not text.
pub fn diff(path: &str, kind: Kind, restored: bool, live: &[u8], backup: &[u8]) -> Option<preview::TextDiff> {
    if live == backup {
        return None;
    }
    let (live_text, backup_text) = (std::str::from_utf8(live).ok()?, std::str::from_utf8(backup).ok()?);
    let (live, backup) = (redact(kind, live_text), redact(kind, backup_text));
    let hidden = hides(kind, live_text, backup_text, &backup);
    if live == backup {
        let diff = "(only values that are kept secret differ)\n".to_owned();
        return Some(preview::TextDiff { path: path.to_owned(), restored, diff, hidden });
    }
    let text = TextDiff::from_lines(&live, &backup);
    let whole = text.unified_diff().context_radius(2).header("now", "backup").to_string();
    let mut diff = String::new();
    let mut lines = whole.lines();
    for line in lines.by_ref().take(MAX_LINES) {
        if diff.len() + line.len() > MAX_BYTES {
            diff.push_str(CUT);
            break;
        }
        diff.push_str(line);
        diff.push('\n');
    }
    if lines.next().is_some() && !is_cut(&diff) {
        diff.push_str(CUT);
    }
    Some(preview::TextDiff { path: path.to_owned(), restored, diff, hidden })
}

/// Whether a unit or vhost has lines that the other text does not have and that are not shown whole. Comments
/// do nothing; the layout does not count.
fn hides(kind: Kind, live: &str, backup: &str, shown: &str) -> bool {
    let comments: &[char] = match kind {
        Kind::Unit => &['#', ';'],
        Kind::Site => &['#'],
        Kind::Configuration | Kind::Migrations => return false,
    };
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = |text: &str| -> HashSet<String> { text.lines().map(plain).collect() };
    let (live, shown) = (lines(live), lines(shown));
    let comes = backup.lines().map(plain).filter(|line| !line.is_empty() && !line.starts_with(comments));
    comes.filter(|line| !live.contains(line)).any(|line| !shown.contains(&line))
}

/// Whether a difference is not shown whole.
pub fn is_cut(diff: &str) -> bool {
    diff.ends_with(CUT)
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
    fn lines_that_come_and_are_not_shown_whole_are_told() {
        let hidden = |kind, live: &str, backup: &str| {
            diff("x", kind, true, live.as_bytes(), backup.as_bytes()).unwrap().hidden
        };
        let unit = "[Service]\nExecStart=/usr/bin/node server.js\nUser=a\n";
        assert!(!hidden(Kind::Unit, unit, &unit.replace("User=a", "User=b")));
        assert!(!hidden(Kind::Unit, unit, &unit.replace("User=a", "# by hand\nUser=a")));
        assert!(hidden(Kind::Unit, unit, &unit.replace("server.js", "other.js")));
        assert!(hidden(Kind::Unit, "", &unit.replace("User=a", "ExecStartPre=/bin/sh -c evil")));
        assert!(hidden(Kind::Unit, unit, &unit.replace("User=a", "Environment=TOKEN=x")));
        let site = "server {\n    listen 80;\n    proxy_pass http://127.0.0.1:5007;\n}\n";
        assert!(!hidden(Kind::Site, site, &site.replace("80", "8080")));
        assert!(hidden(Kind::Site, site, &site.replace("listen 80", "content_by_lua_block { evil() }")));
    }

    #[test]
    fn long_differences_are_cut() {
        let live: String = (0..1000).map(|line| format!("a{line}\n")).collect();
        let diff = diff("x", Kind::Unit, false, live.as_bytes(), b"b\n").unwrap().diff;
        assert!(diff.len() < 32768 && is_cut(&diff) && diff.ends_with("(more differences are not shown)\n"));
    }
}
