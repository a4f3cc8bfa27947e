//! Takes secrets out of texts before a plan shows them: the one way by which the content of a file of
//! the server, a unit or a vhost gets into a plan, and so into every rendering of it.
//!
//! A value is shown only where its key, variable or directive is on a list, and where the value has the
//! form that is expected there ([`forms`]). Whatever is new, misspelt or odd stays secret, comments too.
//! Pure.

pub mod forms;
pub mod site;
pub mod unit;

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
const SHOWN_KEYS: [&str; 26] = [
    "allowedLoginMethods",
    "authMethod",
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

/// Keys of `config.json` that are named and whose values are hidden, or which hold others.
const NAMED_KEYS: [&str; 16] = [
    "allowlist",
    "authorization_endpoint",
    "ca",
    "cert",
    "client_secret",
    "corsProxy",
    "enabled",
    "https",
    "key",
    "openId",
    "passphrase",
    "password",
    "token",
    "token_endpoint",
    "upload",
    "userinfo_endpoint",
];

/// The text with its secrets taken out. JSON is laid out anew, one value a line, so that a difference is
/// one line too; so are units and sites, one directive a line.
pub fn redact(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Configuration => json(text, &SHOWN_KEYS),
        Kind::Migrations => json(text, &MIGRATION_KEYS),
        Kind::Unit => unit::redact(text),
        Kind::Site => site::redact(text),
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
            let mut hidden = 0_usize;
            for (key, mut value) in std::mem::take(map) {
                let known = shown.contains(&key.as_str());
                hide_values(&mut value, known, shown);
                let named = known || NAMED_KEYS.contains(&key.as_str());
                hidden += usize::from(!named);
                // Each stands there once.
                let key = match (named, hidden) {
                    (true, _) => key,
                    (false, 1) => HIDDEN.to_owned(),
                    (false, _) => format!("{HIDDEN} {hidden}"),
                };
                map.insert(key, value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide_values(item, known, shown)),
        Value::String(text) if known => *text = forms::value(text),
        Value::Number(_) if known => {}
        Value::String(_) | Value::Number(_) => *value = Value::String(HIDDEN.to_owned()),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The older tool's own files, as it writes them.
    const UNIT: &str = "[Unit]
Description=Actual Budget Sync Server (budget)
After=network.target

[Service]
Type=simple
User=actual-sync
EnvironmentFile=/etc/default/abssctl-node
WorkingDirectory=/srv/budget
ExecStart=/usr/local/bin/abssctl-node-run /srv/app/v25.6.0/server.js
Restart=on-failure
RestartSec=5
Environment=NODE_ENV=production ABSSCTL_INSTANCE=budget ABSSCTL_DOMAIN=budget.example PORT=5007 ABSSCTL_CONFIG_FILE=/etc/abssctl/config.yml ABSSCTL_VERSION=25.6.0

[Install]
WantedBy=multi-user.target
";
    const SITE: &str = "server {
    listen 80;
    listen 443 ssl;
    ssl_certificate /etc/ssl/private/cert.pem;
    ssl_certificate_key /etc/ssl/private/cert.key;
    server_name budget.example;
    access_log /var/log/abssctl/budget.nginx.access.log;
    location / {
        proxy_pass http://127.0.0.1:5007;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Ssl on;
    }
}
";

    #[track_caller]
    fn hides(kind: Kind, text: &str, shown: &str) {
        assert_eq!(redact(kind, text).trim_end(), shown, "{text}");
        assert!(!shown.contains("CANARY"));
    }

    #[test]
    fn only_known_keys_of_the_configuration_are_shown() {
        let text = r#"{"port":5007,"token_expiration":"never","openId":{"client_id":"a","client_secret":"CANARY"},
            "CANARY":123,"gate":["CANARY"],"https":{"cert":"-----BEGIN PRIVATE KEY-----CANARY","key":"CANARY"},
            "discoveryURL":"https://u:CANARY@host/x?key=CANARY","issuer":{"name":"CANARY and CANARY"},
            "hostname":"https://u:a/CANARY@h/","dataDir":"/data","multiuser":true}"#;
        let shown = redact(Kind::Configuration, text);
        assert!(!shown.contains("CANARY") && !shown.contains("123"), "{shown}");
        for kept in [
            "\"port\": 5007",
            "\"never\"",
            "\"client_id\": \"a\"",
            "\"client_secret\": \"(kept secret)\"",
            "\"(kept secret) 2\"",
            "https://(kept secret)@host/x?(kept secret)",
            "\"dataDir\": \"/data\"",
            "\"multiuser\": true",
        ] {
            assert!(shown.contains(kept), "{kept} of {shown}");
        }
    }

    #[test]
    fn a_configuration_that_is_not_json_is_not_shown() {
        assert_eq!(
            redact(Kind::Configuration, r#"{"client_secret": "CANARY""#),
            "(not JSON, and so not shown)\n"
        );
    }

    #[test]
    fn what_the_older_tool_writes_is_shown_whole() {
        assert_eq!(redact(Kind::Unit, UNIT), UNIT);
        assert_eq!(redact(Kind::Site, SITE), SITE);
    }

    #[test]
    fn a_unit_shows_what_is_known_to_be_harmless() {
        for (text, shown) in [
            (
                "Environment=NODE_ENV=production PORT=5007 GATE=CANARY",
                "Environment=NODE_ENV=production PORT=5007 (kept secret)",
            ),
            ("Environment=\"GATE=CANARY with CANARY\" PORT=5007", "Environment=(kept secret) PORT=5007"),
            (
                "Environment=GATE=\"CANARY CANARY\" 'X=CANARY y' PORT=1",
                "Environment=(kept secret) (kept secret) PORT=1",
            ),
            ("Environment=PORT=1 \\\n# CANARY\n  GATE=CANARY", "Environment=PORT=1 (kept secret)"),
            (
                "Environment=ACTUAL_OPENID_CLIENT_SECRET=\\\nCANARY",
                "Environment=ACTUAL_OPENID_CLIENT_SECRET=(kept secret) (kept secret)",
            ),
            ("Environment=GATE='it is \"A' CANARY", "Environment=(kept secret) (kept secret)"),
            ("Environment=\"GATE=CANARY", "Environment=(kept secret)"),
            ("Environment=ABSSCTL_PW=CANARY CANARY=1", "Environment=(kept secret) (kept secret)"),
            (
                "Environment=ACTUAL_OPENID_DISCOVERY_URL=https://h/?key=CANARY",
                "Environment=ACTUAL_OPENID_DISCOVERY_URL=https://h/?(kept secret)",
            ),
            (
                "Environment=ACTUAL_HOSTNAME=https://u:a/CANARY@h/",
                "Environment=ACTUAL_HOSTNAME=(kept secret)",
            ),
            ("SetCredentialEncrypted=foo: \\\n  CANARY \\\n  CANARY", "SetCredentialEncrypted=(kept secret)"),
            (
                "ExecStartPre=-/usr/bin/gate /srv/x --pin CANARY /srv/y",
                "ExecStartPre=-/usr/bin/gate /srv/x …(kept secret)",
            ),
            (
                "ExecStartPre=/usr/bin/curl -u admin:CANARY https://h/",
                "ExecStartPre=/usr/bin/curl …(kept secret)",
            ),
            ("ExecStart=/bin/sh -c 'echo CANARY | x'", "ExecStart=/bin/sh …(kept secret)"),
            ("ExecStart=CANARY", "ExecStart=(kept secret)"),
            ("Description=CANARY", "Description=(kept secret)"),
            (
                "Documentation=https://h/a?CANARY CANARY",
                "Documentation=https://h/a?(kept secret) (kept secret)",
            ),
            ("RestartSec=CANARY", "RestartSec=(kept secret)"),
            ("X-CANARY=CANARY", "(kept secret)=(kept secret)"),
            ("# CANARY", "# (kept secret)"),
            ("[CANARY]", "(kept secret)"),
            ("CANARY", "(kept secret)"),
            ("After=CANARY\nEnvironment=", "After=(kept secret)\nEnvironment="),
        ] {
            hides(Kind::Unit, text, shown);
        }
    }

    #[test]
    fn a_site_shows_what_is_known_to_be_harmless() {
        for (text, shown) in [
            ("listen 80; set $gate CANARY;", "listen 80;\nset $gate (kept secret);"),
            ("proxy_set_header X-Gate \"CANARY\";", "proxy_set_header (kept secret);"),
            (
                "proxy_set_header\n  Authorization\n  \"Basic CANARY\";",
                "proxy_set_header Authorization (kept secret);",
            ),
            ("proxy_set_header X-Gate $host-CANARY;", "proxy_set_header (kept secret);"),
            ("proxy_set_header Host $host-CANARY;", "proxy_set_header Host (kept secret);"),
            ("proxy_set_header X-Forwarded-Gate CANARY;", "proxy_set_header (kept secret);"),
            (
                "add_header Strict-Transport-Security \"max-age=1; includeSubDomains\" always;",
                "add_header Strict-Transport-Security \"max-age=1; includeSubDomains\" always;",
            ),
            ("set $g \"${x}CANARY\";", "set $g (kept secret);"),
            ("set $g ${x}CANARY;", "set $g (kept secret);"),
            ("set $g ${x};", "set $g ${x};"),
            ("if ($arg_k = \"CANARY\") { return 403; }", "if (kept secret) {\n    return 403;\n}"),
            ("return 301 https://h/?sig=CANARY;", "return 301 https://h/?(kept secret);"),
            ("return 301 https://$host$request_uri;", "return 301 https://$host$request_uri;"),
            ("return 200 'CANARY;CANARY'", "(kept secret)"),
            ("proxy_pass https://u:CANARY@host/;", "proxy_pass https://(kept secret)@host/;"),
            ("proxy_pass https://u:a/CANARY@h/;", "proxy_pass (kept secret);"),
            ("# CANARY\nCANARY CANARY;", "# (kept secret)\n(kept secret);"),
            ("location ~ CANARY { CANARY }", "location ~ (kept secret) {\n    (kept secret)\n}"),
            ("map $http_x $y { CANARY 1; }", "map (kept secret) {\n    (kept secret);\n}"),
            ("listen 80; \"CANARY; listen 81;", "listen 80;\n(kept secret)"),
            ("listen 80 # CANARY ; \n;", "# (kept secret)\nlisten 80;"),
            ("try_files $uri $uri/ /index.html =404;", "try_files $uri $uri/ /index.html =404;"),
            ("ssl_certificate_key \"data:CANARY\";", "ssl_certificate_key (kept secret);"),
        ] {
            hides(Kind::Site, text, shown);
        }
    }
}
