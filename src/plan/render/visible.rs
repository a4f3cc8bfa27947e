//! Makes hostile text harmless to look at. Pure.

/// Whether a character is not seen as itself: control characters, marks that turn the direction of
/// text, characters without width or ink, and code points that are no characters.
///
/// U+FE0F (the emoji variant) and its like are left, since ordinary names contain them.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
        || (u32::from(c) & 0xfffe) == 0xfffe
}

/// The text with every hidden character shown as its code: `\u{202e}`; line breaks and tabs as `\n`,
/// `\r` and `\t`.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_hidden(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// JSON text that means the same, with every hidden character of its strings as an escape.
pub fn visible_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // What JSON allows outside of strings, and what it has escaped inside of them already.
        if c.is_ascii() && c != '\u{7f}' || !is_hidden(c) {
            shown.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_become_codes() {
        assert_eq!(visible("a\u{202e}b"), "a\\u{202e}b");
        for c in [
            "\u{202a}",
            "\u{2066}",
            "\u{2069}",
            "\u{200e}",
            "\u{200f}",
            "\u{61c}",
            "\u{200b}",
            "\u{200d}",
            "\u{feff}",
            "\u{2060}",
            "\u{0}",
            "\u{1b}",
            "\u{7f}",
            "\u{9b}",
            "\u{85}",
            "\u{2028}",
            "\u{e0041}",
            "\u{ffff}",
            "\u{1fffe}",
            "\u{e000}",
        ] {
            assert!(visible(c).starts_with("\\u{"), "{c:?}");
        }
        assert_eq!(visible("a\n\t\r"), "a\\n\\t\\r");
    }

    #[test]
    fn json_means_the_same_and_shows_what_it_hides() {
        let value =
            serde_json::json!({ "a\u{202e}": ["\u{9b}31m", "\u{e0041}", "\u{7f}", "\n\u{1b}", "日本 ❤️ é"] });
        let text = visible_json(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(!text.chars().any(|c| is_hidden(c) && c != '\n'), "{text:?}");
        assert!(
            text.contains("日本 ❤️ é") && text.contains("\\u202e") && text.contains("\\udb40\\udc41"),
            "{text}"
        );
    }

    #[test]
    fn ordinary_text_stays() {
        for text in ["Household", "Hôtel – 日本 ❤️", "/srv/budget", "a b"] {
            assert_eq!(visible(text), text);
        }
    }
}
