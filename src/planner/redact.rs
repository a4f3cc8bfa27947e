//! Takes secrets out of texts before a plan shows them: the one way by which the content of a file of
//! the server, a unit or a vhost gets into a plan, and so into every rendering of it.
//!
//! What a key means is known for the server's own configuration and for variables of its environment, so
//! there a value is shown only where its key is on a list; whatever is new or misspelt stays secret. Units
//! and vhosts have no such list: there a line is hidden for the words in it, literal headers are hidden,
//! and logins in addresses are. Pure.

use serde_json::Value;

/// What stands in the place of a value.
const HIDDEN: &str = "(kept secret)";

/// What kind of text it is, which decides what may be shown of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server's `config.json`.
    Configuration,
    /// The server's list of migrations, `.migrate`.
    Migrations,
    /// A unit of systemd.
    Unit,
    /// A site of nginx.
    Site,
}

/// Keys of `config.json` whose values are no secrets, as the server's documentation and
/// `src/load-config.js` of `@actual-app/sync-server` name them.
const SHOWN_KEYS: [&str; 27] = [
    "allowedLoginMethods",
    "authMethod",
    "cert",
    "client_id",
    "dataDir",
    "discoveryURL",
    "enforceOpenId",
    "fileSizeLimitMB",
    "fileSizeSyncLimitMB",
    "hostname",
    "issuer",
    "loginMethod",
    "mode",
    "multiuser",
    "name",
    "port",
    "projectRoot",
    "serverFiles",
    "server_hostname",
    "syncEncryptedFileSizeLimitMB",
    "token_expiration",
    "trustedAuthProxies",
    "trustedProxies",
    "userCreationMode",
    "userFiles",
    "version",
    "webRoot",
];

/// Keys of `.migrate`, as the server writes it.
const MIGRATION_KEYS: [&str; 4] = ["description", "lastRun", "timestamp", "title"];

/// Variables whose values are no secrets, beside the older tool's own (`ABSSCTL_…`), which hold none.
const SHOWN_VARIABLES: [&str; 27] = [
    "ACTUAL_ALLOWED_LOGIN_METHODS",
    "ACTUAL_CONFIG_PATH",
    "ACTUAL_DATA_DIR",
    "ACTUAL_HOSTNAME",
    "ACTUAL_LOGIN_METHOD",
    "ACTUAL_OPENID_AUTH_METHOD",
    "ACTUAL_OPENID_CLIENT_ID",
    "ACTUAL_OPENID_DISCOVERY_URL",
    "ACTUAL_OPENID_ENFORCE",
    "ACTUAL_OPENID_SERVER_HOSTNAME",
    "ACTUAL_PORT",
    "ACTUAL_SERVER_FILES",
    "ACTUAL_TOKEN_EXPIRATION",
    "ACTUAL_TRUSTED_AUTH_PROXIES",
    "ACTUAL_TRUSTED_PROXIES",
    "ACTUAL_UPLOAD_FILE_SIZE_LIMIT_MB",
    "ACTUAL_UPLOAD_FILE_SYNC_SIZE_LIMIT_MB",
    "ACTUAL_UPLOAD_SYNC_ENCRYPTED_FILE_SYNC_SIZE_LIMIT_MB",
    "ACTUAL_USER_CREATION_MODE",
    "ACTUAL_USER_FILES",
    "ACTUAL_WEB_ROOT",
    "HOME",
    "LANG",
    "NODE_ENV",
    "PATH",
    "PORT",
    "TZ",
];

/// Endings of words in a unit or vhost whose line is not shown.
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

/// Headers whose literal values are no secrets.
const SHOWN_HEADERS: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-security-policy",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
    "host",
    "origin-agent-cluster",
    "permissions-policy",
    "referrer-policy",
    "strict-transport-security",
    "upgrade",
    "x-content-type-options",
];

/// Directives of nginx that give a name a value, which may be a literal one.
const GIVES_VALUE: [&str; 6] =
    ["add_header", "fastcgi_param", "more_set_headers", "proxy_set_header", "set", "uwsgi_param"];

/// The text with its secrets taken out. JSON is laid out anew, one value a line, so that a difference is
/// one line too.
pub fn redact(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Configuration => json(text, &SHOWN_KEYS),
        Kind::Migrations => json(text, &MIGRATION_KEYS),
        Kind::Unit => text.lines().map(|line| shown(line, &hide_variables(line))).collect(),
        Kind::Site => text.lines().map(|line| shown(line, &hide_header(line))).collect(),
    }
}

fn json(text: &str, shown: &[&str]) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return "(not JSON, and so not shown)\n".to_owned();
    };
    hide_values(&mut value, false, shown);
    serde_json::to_string_pretty(&value).map_or_else(|_| String::new(), |text| text + "\n")
}

/// Objects are gone into, for their keys say what they hold; lists are what their key says.
fn hide_values(value: &mut Value, known: bool, shown: &[&str]) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                hide_values(value, shown.contains(&key.as_str()), shown);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide_values(item, known, shown)),
        Value::String(text) if known => *text = mask_logins(text),
        Value::Number(_) if known => {}
        Value::String(_) | Value::Number(_) => *value = Value::String(HIDDEN.to_owned()),
        Value::Null | Value::Bool(_) => {}
    }
}

/// The line as it may be shown: `safe` unless its words tell that it is about a secret.
fn shown(line: &str, safe: &str) -> String {
    let secret = line
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .any(|word| SECRET_WORDS.iter().any(|secret| plain(word).ends_with(secret)));
    let cut = line.find(['=', ':']);
    match cut {
        Some(cut) if secret => format!("{}{} {HIDDEN}\n", &line[..cut], &line[cut..=cut]),
        None if secret => "(a line that is kept secret)\n".to_owned(),
        Some(_) | None => format!("{}\n", mask_logins(safe)),
    }
}

fn plain(word: &str) -> String {
    word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// Hides the values of variables (`NAME=value`, also quoted), wherever they stand in the line.
fn hide_variables(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(equals) = rest.find('=') {
        let start = rest[..equals].rfind(|c: char| !is_variable(c)).map_or(0, |at| at + 1);
        let (name, value) = (&rest[start..equals], &rest[equals + 1..]);
        // A directive of the unit itself comes first in its line and is written in mixed case.
        let directive = out.is_empty()
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.contains(|c: char| c.is_ascii_lowercase());
        out.push_str(&rest[..=equals]);
        rest = value;
        if !directive {
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
            let before = line[..line.len() - rest.len() - name.len() - 1].chars().next_back();
            let end = match (quote, before.filter(|c| matches!(c, '"' | '\''))) {
                (Some(quote), _) => value[1..].find(quote).map_or(value.len(), |at| at + 2),
                (None, Some(around)) => value.find(around).unwrap_or(value.len()),
                (None, None) => value.find(char::is_whitespace).unwrap_or(value.len()),
            };
            let known = SHOWN_VARIABLES.contains(&name) || name.starts_with("ABSSCTL_");
            out.push_str(if known { &value[..end] } else { HIDDEN });
            rest = &value[end..];
        }
    }
    out + rest
}

fn is_variable(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Hides a literal value that a directive gives to a name; values made of variables are shown.
fn hide_header(line: &str) -> String {
    let mut words = line.split_whitespace();
    let gives = words.next().is_some_and(|word| GIVES_VALUE.contains(&word));
    let (Some(name), Some(value)) = (words.next(), words.next()) else { return line.to_owned() };
    let name = name.to_ascii_lowercase();
    let known = SHOWN_HEADERS.contains(&name.as_str())
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-frame-")
        || name.starts_with("access-control-");
    let value = value.trim_matches(['"', '\'', ';']);
    if !gives || known || value.starts_with('$') || value.is_empty() {
        return line.to_owned();
    }
    let indent = &line[..line.len() - line.trim_start().len()];
    let shown: Vec<&str> = line.split_whitespace().take(2).collect();
    format!("{indent}{} {HIDDEN};", shown.join(" "))
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
                out.push_str(HIDDEN);
                rest = &after[host..];
            }
            None => rest = after,
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hides(kind: Kind, text: &str, kept: &[&str]) {
        let shown = redact(kind, text);
        assert!(!shown.contains("CANARY"), "{shown}");
        for word in kept {
            assert!(shown.contains(word), "{word} of {shown}");
        }
    }

    #[test]
    fn only_known_keys_of_the_configuration_are_shown() {
        let text = r#"{"port":5007,"token_expiration":"never","openId":{"client_id":"a","client_secret":"CANARY"},
            "pin":123,"gate":["CANARY"],"nested":{"deep":{"port":1,"unknown":"CANARY"}},"flag":true}"#;
        hides(
            Kind::Configuration,
            text,
            &["5007", "never", "\"client_id\": \"a\"", "\"flag\": true", "\"port\": 1"],
        );
        assert!(!redact(Kind::Configuration, text).contains("123"));
        hides(Kind::Configuration, r#"{"discoveryURL":"https://u:CANARY@host/x"}"#, &["@host/x"]);
        hides(Kind::Configuration, r#"{"cert":{"key":"CANARY"}}"#, &[]);
    }

    #[test]
    fn a_configuration_that_is_not_json_is_not_shown() {
        assert_eq!(
            redact(Kind::Configuration, r#"{"client_secret": "CANARY""#),
            "(not JSON, and so not shown)\n"
        );
    }

    #[test]
    fn variables_of_a_unit_are_shown_where_they_are_known() {
        let kept = ["Environment=", "PORT=5007", "NODE_ENV=production"];
        hides(Kind::Unit, "Environment=NODE_ENV=production PORT=5007 GATE=CANARY", &kept);
        hides(Kind::Unit, "Environment=\"GATE=CANARY with CANARY\" PORT=5007", &["PORT=5007"]);
        hides(Kind::Unit, "Environment=GATE=\"CANARY CANARY\" 'X=CANARY y' PORT=1", &["PORT=1"]);
        hides(Kind::Unit, "Environment=PORT=1 \\\n  GATE=CANARY", &["PORT=1"]);
        hides(Kind::Unit, "ExecStart=/usr/bin/env GATE=CANARY node", &["node"]);
        hides(Kind::Unit, "Environment=ACTUAL_OPENID_CLIENT_SECRET=CANARY", &[]);
        hides(Kind::Unit, "ExecStart=/usr/bin/node --password CANARY", &[]);
        hides(Kind::Unit, "Environment=\"GATE=CANARY", &[]);
        hides(Kind::Unit, "Environment=gate=CANARY", &[]);
        hides(Kind::Unit, "  gate=CANARY", &[]);
        hides(Kind::Unit, "ExecStart=node --gate=CANARY", &["node --gate="]);
        for line in ["ExecStart=/usr/bin/node app.js", "Restart=on-failure", "RestartSec=5", "[Unit]", ""] {
            assert_eq!(redact(Kind::Unit, line).trim_end(), line);
        }
    }

    #[test]
    fn literal_headers_of_a_site_are_hidden() {
        hides(Kind::Site, "  proxy_set_header X-Gate \"CANARY\";", &["proxy_set_header X-Gate"]);
        hides(Kind::Site, "proxy_set_header Authorization \"Basic CANARY\";", &[]);
        hides(Kind::Site, "set $gate CANARY;", &["set $gate"]);
        hides(Kind::Site, "proxy_pass https://u:CANARY@host/;", &["@host/"]);
        hides(Kind::Site, "if ($http_x_token = CANARY) { return 403; }", &[]);
        for line in
            ["    proxy_set_header Host $host;", "  proxy_set_header X-Forwarded-Ssl on;", "listen 80;"]
        {
            assert_eq!(redact(Kind::Site, line), format!("{line}\n"));
        }
    }
}
