//! Forms of values that hold no secret: numbers, plain words, names, absolute paths, addresses without
//! login and query, variables alone. Whatever has none of them is hidden. Pure.

use super::HIDDEN;

/// Longer words are taken for random ones.
const MAX_WORD: usize = 32;
const MAX_VALUE: usize = 200;

fn all(text: &str, most: usize, fits: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.len() <= most && text.chars().all(fits)
}

/// `on`, `same-origin`: small letters with dashes.
pub fn is_word(text: &str) -> bool {
    all(text, MAX_WORD, |c| c.is_ascii_lowercase() || c == '-')
}

/// `5`, `90s`, `1.1`, `64k`, `0077`, `50%`: a number with a unit of at most three letters.
pub fn is_number(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
    text.len() - digits.len() <= 3
        && digits.len() <= 16
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// A word or a number.
pub fn is_setting(text: &str) -> bool {
    is_word(text) || is_number(text)
}

/// `/srv/budget/data`: absolute and of plain signs.
pub fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && all(text, MAX_VALUE, |c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '@'))
}

/// `budget.example`, `*.example`, `_`, `127.0.0.1`, `[::1]:80`.
pub fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        Some(_) | None => (text, "0"),
    };
    all(port, 5, |c| c.is_ascii_digit())
        && all(host, MAX_VALUE, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*' | ':' | '[' | ']')
        })
}

/// A value of a key that is known to be no secret: no blank, no quotation mark, no login, no query.
pub fn is_plain(text: &str) -> bool {
    text.len() <= MAX_VALUE
        && !text.contains("//")
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | ',' | '-' | '[' | ']'))
}

/// `$host`, `${host}`.
pub fn is_variable(text: &str) -> bool {
    let Some(name) = text.strip_prefix('$') else { return false };
    let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
    all(name, MAX_WORD, |c| c.is_ascii_lowercase() || c == '_')
}

/// `https://$host$request_uri`: variables alone, behind a scheme.
pub fn is_of_variables(text: &str) -> bool {
    let scheme = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let rest = scheme.unwrap_or(text).trim_start_matches("$scheme://");
    let Some(rest) = rest.strip_prefix('$') else { return false };
    rest.split('$').all(|name| is_variable(&format!("${name}")))
}

/// Scheme, host, port and path of an address; what follows is hidden. `None` for what is no plain address.
pub fn address(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let cut = rest.find(['?', '#']).unwrap_or(rest.len());
    let (shown, more) = rest.split_at(cut);
    let (host, path) = shown.split_at(shown.find('/').unwrap_or(shown.len()));
    let (login, host) = match host.rsplit_once('@') {
        Some((_, host)) => (format!("{HIDDEN}@"), host),
        None => (String::new(), host),
    };
    let plain = matches!(scheme, "http" | "https") && is_host(host) && (path.is_empty() || is_path(path));
    // An '@' that comes later may end a login too, for whoever reads it otherwise.
    (plain && !path.contains('@') && !more.contains('@')).then(|| {
        let more = if more.is_empty() { String::new() } else { format!("{}{HIDDEN}", &more[..1]) };
        format!("{scheme}://{login}{host}{path}{more}")
    })
}

/// A value of a key that is known to be no secret, as it may be shown.
pub fn value(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { address(text).unwrap_or_else(|| HIDDEN.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_login_and_query() {
        assert_eq!(address("https://h.example:8/a/b").as_deref(), Some("https://h.example:8/a/b"));
        assert_eq!(address("https://u:X@h/").as_deref(), Some("https://(kept secret)@h/"));
        assert_eq!(address("https://h/?key=X").as_deref(), Some("https://h/?(kept secret)"));
        assert_eq!(address("https://h#X").as_deref(), Some("https://h#(kept secret)"));
        for hidden in
            ["https://u:a/X@h/", "https://u:1/X@h/", "https://h/?a@b", "ftp://h/", "https://é/", "h"]
        {
            assert_eq!(address(hidden), None, "{hidden}");
        }
    }

    #[test]
    fn forms_take_what_is_plain_and_nothing_else() {
        for good in ["5", "90s", "1.1", "64k", "on", "same-origin"] {
            assert!(is_setting(good), "{good}");
        }
        for bad in ["", "On", "a b", "5x7y9", "aB", "s3cret", "-----------------------------------"] {
            assert!(!is_setting(bad), "{bad}");
        }
        assert!(is_of_variables("https://$host$request_uri") && is_of_variables("$scheme://$host"));
        for bad in ["https://$host/x", "$host-X", "${x}X", "$", "https://", "x$host", "$host?sig=X"] {
            assert!(!is_of_variables(bad), "{bad}");
        }
        assert!(is_host("[::1]:80") && is_host("127.0.0.1:5007") && is_host("*.example") && !is_host("a:b"));
        assert!(!is_path("/a?b") && !is_path("a/b") && !is_path("/a b") && !is_path("/a=b"));
    }
}
