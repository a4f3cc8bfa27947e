//! A site of nginx as it may be shown: read as nginx reads it, and laid out anew with one directive a
//! line. A value is shown only where its directive is known to hold no secret and the value has the form
//! that is expected there. Pure.

use super::HIDDEN;
use super::forms;

/// What values a directive takes, as far as they are shown.
#[derive(Clone, Copy)]
enum Takes {
    /// Words and numbers.
    Settings,
    /// Addresses to listen at.
    Listen,
    /// Names of hosts.
    Hosts,
    /// Absolute paths.
    Paths,
    /// Where it passes requests to.
    Address,
    /// A header and its value.
    Header,
    /// A variable and its value.
    Variable,
    /// A code and an address.
    Return,
    /// A modifier and a path.
    Location,
    /// Paths and variables.
    Tries,
    /// Nothing that is shown.
    Secrets,
}

const SETTINGS: [&str; 34] = [
    "autoindex",
    "charset",
    "client_body_buffer_size",
    "client_body_timeout",
    "client_header_timeout",
    "client_max_body_size",
    "events",
    "gzip",
    "gzip_comp_level",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_vary",
    "http",
    "http2",
    "internal",
    "keepalive_timeout",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_busy_buffers_size",
    "proxy_connect_timeout",
    "proxy_http_version",
    "proxy_read_timeout",
    "proxy_redirect",
    "proxy_request_buffering",
    "proxy_send_timeout",
    "send_timeout",
    "sendfile",
    "server",
    "server_tokens",
    "ssl_prefer_server_ciphers",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "tcp_nodelay",
    "tcp_nopush",
];

const PATHS: [&str; 10] = [
    "access_log",
    "alias",
    "auth_basic_user_file",
    "error_log",
    "include",
    "root",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_dhparam",
    "ssl_trusted_certificate",
];

/// Directives that are named and whose values are hidden, so that a change of them can be told.
const SECRETS: [&str; 22] = [
    "allow",
    "auth_basic",
    "auth_request",
    "deny",
    "error_page",
    "fastcgi_param",
    "geo",
    "gzip_types",
    "if",
    "index",
    "limit_req",
    "map",
    "proxy_cookie_path",
    "proxy_hide_header",
    "proxy_ssl_password_file",
    "rewrite",
    "secure_link",
    "secure_link_md5",
    "ssl_ciphers",
    "ssl_protocols",
    "ssl_session_cache",
    "upstream",
];

/// Headers whose values are no secrets.
const HEADERS: [&str; 21] = [
    "accept-encoding",
    "connection",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "host",
    "origin-agent-cluster",
    "referrer-policy",
    "strict-transport-security",
    "upgrade",
    "x-content-type-options",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-frame-options",
    "x-real-ip",
    "x-xss-protection",
];

/// Headers that are named and whose values are hidden.
const SECRET_HEADERS: [&str; 4] =
    ["authorization", "content-security-policy", "cookie", "permissions-policy"];

fn takes(name: &str) -> Option<Takes> {
    match name {
        "listen" => Some(Takes::Listen),
        "server_name" => Some(Takes::Hosts),
        "proxy_pass" => Some(Takes::Address),
        "add_header" | "proxy_set_header" => Some(Takes::Header),
        "set" => Some(Takes::Variable),
        "return" => Some(Takes::Return),
        "location" => Some(Takes::Location),
        "try_files" => Some(Takes::Tries),
        _ if SETTINGS.contains(&name) => Some(Takes::Settings),
        _ if PATHS.contains(&name) => Some(Takes::Paths),
        _ if SECRETS.contains(&name) => Some(Takes::Secrets),
        _ => None,
    }
}

/// The site as it may be shown.
pub fn redact(text: &str) -> String {
    let (mut out, mut depth, mut words) = (String::new(), 0_usize, Vec::new());
    let mut line = |depth: usize, text: &str| {
        // Deeper than this no site is; a text of brackets alone must not grow.
        out.push_str(&"    ".repeat(depth.min(8)));
        out.push_str(text);
        out.push('\n');
    };
    for token in tokens(text) {
        match token {
            Token::Word(word) => words.push(word),
            Token::Comment => line(depth, &format!("# {HIDDEN}")),
            Token::End => line(depth, &format!("{};", shown(&std::mem::take(&mut words)))),
            Token::Open => {
                line(depth, &format!("{} {{", shown(&std::mem::take(&mut words))));
                depth += 1;
            }
            Token::Close => {
                if !std::mem::take(&mut words).is_empty() {
                    line(depth, HIDDEN);
                }
                depth = depth.saturating_sub(1);
                line(depth, "}");
            }
        }
    }
    if !words.is_empty() {
        line(depth, HIDDEN);
    }
    out
}

enum Token {
    /// A word, without its quotation marks.
    Word(String),
    /// `#` to the end of the line.
    Comment,
    /// `;`
    End,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// Reads as nginx does: quotation marks count at the beginning of a word, `${` opens no block. A mark that
/// is not closed takes the rest of the text with it.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut signs = text.chars().peekable();
    while let Some(c) = signs.next() {
        match c {
            _ if c.is_whitespace() => {}
            ';' => tokens.push(Token::End),
            '{' => tokens.push(Token::Open),
            '}' => tokens.push(Token::Close),
            '#' => {
                while signs.next().is_some_and(|c| c != '\n') {}
                tokens.push(Token::Comment);
            }
            '"' | '\'' => {
                let mut word = String::new();
                while let Some(next) = signs.next().filter(|next| *next != c) {
                    word.push(next);
                    if next == '\\' {
                        word.extend(signs.next());
                    }
                }
                tokens.push(Token::Word(word));
            }
            _ => {
                let mut word = String::from(c);
                let mut last = c;
                while let Some(next) = signs.next_if(|next| {
                    last == '\\' || !(next.is_whitespace() || *next == ';' || *next == '{' && last != '$')
                }) {
                    word.push(next);
                    last = if last == '\\' { ' ' } else { next };
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    tokens
}

fn shown(words: &[String]) -> String {
    let Some((name, args)) = words.split_first() else { return String::new() };
    let Some(takes) = takes(name) else { return HIDDEN.to_owned() };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let each = |fits: &dyn Fn(&str) -> bool| -> Vec<String> {
        args.iter().map(|arg| if fits(arg) { (*arg).to_owned() } else { HIDDEN.to_owned() }).collect()
    };
    let args = match takes {
        Takes::Settings => each(&forms::is_setting),
        Takes::Listen => each(&|arg| forms::is_host(arg) || forms::is_setting(arg)),
        Takes::Hosts => each(&forms::is_host),
        Takes::Paths => each(&|arg| forms::is_path(&arg.replace('*', "-")) || forms::is_word(arg)),
        Takes::Address => args.iter().map(|arg| address(arg)).collect(),
        Takes::Header => header(&args),
        Takes::Variable => match args.as_slice() {
            [name, value] if forms::is_variable(name) => vec![(*name).to_owned(), given(value)],
            _ => vec![HIDDEN.to_owned()],
        },
        Takes::Return => match args.as_slice() {
            [code] if forms::is_number(code) => vec![(*code).to_owned()],
            [code, to] if forms::is_number(code) => vec![(*code).to_owned(), address(to)],
            _ => vec![HIDDEN.to_owned()],
        },
        Takes::Location => match args.as_slice() {
            [path] => vec![path_or_hidden(path)],
            [how @ ("=" | "^~" | "~" | "~*"), path] => vec![(*how).to_owned(), path_or_hidden(path)],
            _ => vec![HIDDEN.to_owned()],
        },
        Takes::Tries => each(&|arg| {
            let code = arg.strip_prefix('=').is_some_and(forms::is_number);
            code || forms::is_path(arg) || forms::is_variable(arg.strip_suffix('/').unwrap_or(arg))
        }),
        Takes::Secrets => vec![HIDDEN.to_owned()],
    };
    [vec![name.clone()], args].concat().join(" ")
}

fn path_or_hidden(path: &str) -> String {
    if forms::is_path(path) { path.to_owned() } else { HIDDEN.to_owned() }
}

fn address(text: &str) -> String {
    if forms::is_of_variables(text) || forms::is_word(text) {
        text.to_owned()
    } else {
        forms::address(text).unwrap_or_else(|| HIDDEN.to_owned())
    }
}

/// A value that a variable is given.
fn given(value: &str) -> String {
    if forms::is_variable(value) || forms::is_number(value) || matches!(value, "on" | "off") {
        value.to_owned()
    } else {
        HIDDEN.to_owned()
    }
}

/// A header, and its value where that is known to be none of a secret's.
fn header(args: &[&str]) -> Vec<String> {
    let Some((name, values)) = args.split_first() else { return Vec::new() };
    let plain = name.to_ascii_lowercase();
    let (known, secret) = (HEADERS.contains(&plain.as_str()), SECRET_HEADERS.contains(&plain.as_str()));
    if !known {
        let name = if secret { (*name).to_owned() } else { HIDDEN.to_owned() };
        return if secret { vec![name, HIDDEN.to_owned()] } else { vec![name] };
    }
    let value = |value: &&str| {
        let host = plain == "host" && forms::is_host(value);
        let shown = value.is_empty() || host || forms::is_of_variables(value) || is_phrase(value);
        match (shown, value.contains([' ', ';']) || value.is_empty()) {
            (true, true) => format!("\"{value}\""),
            (true, false) => (*value).to_owned(),
            (false, _) => HIDDEN.to_owned(),
        }
    };
    [vec![(*name).to_owned()], values.iter().map(value).collect()].concat()
}

/// `max-age=31536000; includeSubDomains`: words and numbers as security headers have them.
fn is_phrase(text: &str) -> bool {
    text.split([' ', ';', ',']).filter(|word| !word.is_empty()).all(|word| {
        let number = word.strip_prefix("max-age=").or_else(|| word.strip_prefix('?')).unwrap_or(word);
        forms::is_setting(number)
            || matches!(word, "includeSubDomains" | "DENY" | "SAMEORIGIN" | "mode=block" | "Upgrade")
    })
}
