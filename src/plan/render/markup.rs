//! Makes plan text harmless in Markdown: inline code for what could be markup, and lines up to a limit.
//! Pure.

use super::visible::visible;

/// Text as a span of code. Inside of one nothing is markup, a mention or a link; the two signs that
/// could end it or the table cell around it are shown as their codes.
pub(super) fn code(text: &str) -> String {
    let inside = safe(text);
    // Renderers strip one blank from both ends, and a span cannot be empty.
    match inside.as_str() {
        "" => "(empty)".to_owned(),
        text if text.chars().all(|c| c == ' ') => "(blank)".to_owned(),
        text if text.starts_with(' ') || text.ends_with(' ') => format!("` {text} `"),
        text => format!("`{text}`"),
    }
}

fn safe(text: &str) -> String {
    let mut safe = String::new();
    for c in visible(text).chars() {
        match c {
            '`' | '|' => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// A sentence: words of letters, digits and harmless signs stay as they are, all others become code.
pub(super) fn prose(text: &str) -> String {
    let shown = visible(text);
    let mut parts: Vec<String> = Vec::new();
    let mut odd: Vec<&str> = Vec::new();
    let flush = |odd: &mut Vec<&str>, parts: &mut Vec<String>, after: &str| {
        if !odd.is_empty() {
            parts.push(code(&odd.join(" ")) + after);
            odd.clear();
        }
    };
    for word in shown.split(' ').filter(|word| !word.is_empty()) {
        if is_plain(word) {
            flush(&mut odd, &mut parts, "");
            parts.push(word.to_owned());
        } else {
            // A comma after a path is the sentence's.
            let bare = word.trim_end_matches([',', ';', '.']);
            odd.push(if bare.is_empty() { word } else { bare });
            if bare.len() < word.len() && !bare.is_empty() {
                flush(&mut odd, &mut parts, &word[bare.len()..]);
            }
        }
    }
    flush(&mut odd, &mut parts, "");
    if parts.is_empty() { "(empty)".to_owned() } else { parts.join(" ") }
}

/// Whether no renderer sees anything but a word: neither markup nor an address, a mention, a reference to
/// an issue or a commit.
fn is_plain(word: &str) -> bool {
    let core = word.trim_start_matches('(').trim_end_matches([',', '.', ';', ':', '!', '?', ')', '%', '…']);
    let lower = core.to_lowercase();
    let letters = |c: char| c.is_alphanumeric() || !c.is_ascii() && !c.is_whitespace();
    let digest = core.len() >= 7 && core.chars().all(|c| c.is_ascii_hexdigit());
    let reference = lower.contains("www")
        || lower.split("gh-").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    !digest && !reference && core.chars().all(|c| letters(c) || matches!(c, '.' | '-' | '\'' | ','))
        // Options look best as code.
        && !core.starts_with(['-', '.'])
}

/// The beginning of a text, at most so many bytes as [`code`] and [`prose`] show it.
pub(super) fn short(text: &str, max: usize) -> String {
    cut(&safe(text), max)
}

/// The beginning of a text, at most so many bytes with the sign that says so.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A part that is folded until somebody opens it. `summary` is HTML of ours.
pub(super) fn folded(summary: &str, inside: &str) -> String {
    format!("\n<details>\n<summary>{summary}</summary>\n\n{inside}\n</details>\n")
}

/// Visible text inside an HTML tag of ours.
pub(super) fn code_in_html(text: &str) -> String {
    let mut safe = String::from("<code>");
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '/' | '-') || !c.is_ascii() {
            safe.push(c);
        } else {
            safe += &format!("&#{};", u32::from(c));
        }
    }
    safe + "</code>"
}

/// Lines up to a limit of bytes; what does not fit is counted.
#[derive(Debug)]
pub(super) struct Lines {
    head: &'static str,
    text: String,
    limit: usize,
    left_out: usize,
    what: &'static str,
}

impl Lines {
    /// `what` names the lines in the note on a cut.
    pub(super) fn new(limit: usize, what: &'static str) -> Self {
        Self { head: "", text: String::new(), limit, left_out: 0, what }
    }

    /// Lines that stand before all others, where there are others.
    pub(super) fn head(&mut self, head: &'static str) {
        self.head = head;
    }

    /// A line; nothing more is taken after one that did not fit.
    pub(super) fn push(&mut self, line: &str) {
        // Room for the head and the note.
        if self.left_out > 0 || self.head.len() + self.text.len() + line.len() + 100 > self.limit {
            self.left_out += 1;
        } else {
            self.text += line;
            self.text.push('\n');
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.left_out == 0
    }

    pub(super) fn finish(self) -> String {
        let note = match self.left_out {
            0 => String::new(),
            rest => format!("\n*Cut: {rest} more {}; the plan has them.*\n", self.what),
        };
        format!("{}{}{note}", self.head, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_cannot_be_left() {
        assert_eq!(code("a`b|c"), "`a\\u{60}b\\u{7c}c`");
        assert_eq!(code(""), "(empty)");
        assert_eq!(code("  "), "(blank)");
        assert_eq!(code(" a"), "`  a `");
        assert_eq!(code("a\nb\u{202e}"), "`a\\nb\\u{202e}`");
    }

    #[test]
    fn sentences_keep_their_words_and_nothing_else_is_markup() {
        assert_eq!(prose("675 newer changes of Household, back."), "675 newer changes of Household, back.");
        assert_eq!(prose("use --clients reset (now)"), "use `--clients` reset (now)");
        for odd in [
            "@alice",
            "#12",
            "a@b.c",
            "https://x.y",
            "www.x.y",
            "WWW.x",
            "GH-12",
            "*a*",
            "_a_",
            "~a~",
            "<b>",
            "[a](b)",
            "a|b",
            "&lt;",
            "\\",
            "!12",
            "$x$",
            "%1",
            ":smile:",
            "a/b",
            "d670460b4b4aece5915caf5c68d12f560a9fe3e4",
            "-",
            "+",
            "1\u{200b}",
        ] {
            let shown = prose(odd);
            assert!(shown.starts_with('`') && shown.trim_end_matches(';').ends_with('`'), "{odd}: {shown}");
        }
        assert_eq!(prose("ask @a #1 now"), "ask `@a #1` now");
        assert_eq!(prose("to /srv/a, /srv/b; ok"), "to `/srv/a`, `/srv/b`; ok");
        assert_eq!(prose(" \n "), "`\\n`");
    }

    #[test]
    fn cuts_are_said_and_nothing_comes_after_them() {
        let mut lines = Lines::new(112, "things");
        for line in ["0123456789", "0123456789", "0"] {
            lines.push(line);
        }
        assert_eq!(lines.finish(), "0123456789\n\n*Cut: 2 more things; the plan has them.*\n");
        assert_eq!(short("日本語", 8), "日…");
        assert_eq!(short("日本語", 9), "日本語");
    }
}
