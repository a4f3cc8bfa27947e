//! A unit of systemd as it may be shown: a value only where its directive is known to hold no secret and
//! the value has the form that is expected there. Pure.

use super::HIDDEN;
use super::forms;

/// What values a directive takes, as far as they are shown.
#[derive(Clone, Copy)]
enum Takes {
    /// A word or a number.
    Settings,
    /// Names of units.
    Units,
    /// Names of users, groups or directories.
    Names,
    /// Absolute paths.
    Paths,
    /// An address.
    Addresses,
    /// The text that the older tool writes.
    Description,
    /// A command.
    Command,
    /// Variables.
    Variables,
    /// Nothing that is shown.
    Secrets,
}

const SECTIONS: [&str; 7] = ["[Unit]", "[Service]", "[Install]", "[Socket]", "[Timer]", "[Path]", "[Mount]"];

const SETTINGS: [&str; 41] = [
    "CPUQuota",
    "CPUWeight",
    "DynamicUser",
    "KillMode",
    "LimitNOFILE",
    "LimitNPROC",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "MemoryHigh",
    "MemoryMax",
    "Nice",
    "NoNewPrivileges",
    "OOMScoreAdjust",
    "PrivateDevices",
    "PrivateTmp",
    "PrivateUsers",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectSystem",
    "RemainAfterExit",
    "Restart",
    "RestartSec",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "StandardError",
    "StandardInput",
    "StandardOutput",
    "StartLimitBurst",
    "StartLimitIntervalSec",
    "TasksMax",
    "TimeoutSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "UMask",
];

const UNITS: [&str; 10] = [
    "After",
    "Before",
    "BindsTo",
    "Conflicts",
    "PartOf",
    "RequiredBy",
    "Requires",
    "Slice",
    "WantedBy",
    "Wants",
];
const UNIT_ENDINGS: [&str; 8] =
    [".service", ".target", ".socket", ".mount", ".timer", ".slice", ".path", ".device"];

const NAMES: [&str; 9] = [
    "CacheDirectory",
    "ConfigurationDirectory",
    "Group",
    "LogsDirectory",
    "RuntimeDirectory",
    "StateDirectory",
    "SupplementaryGroups",
    "SyslogIdentifier",
    "User",
];

const PATHS: [&str; 9] = [
    "BindPaths",
    "EnvironmentFile",
    "InaccessiblePaths",
    "PIDFile",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RequiresMountsFor",
    "RootDirectory",
    "WorkingDirectory",
];

const COMMANDS: [&str; 7] =
    ["ExecCondition", "ExecReload", "ExecStart", "ExecStartPost", "ExecStartPre", "ExecStop", "ExecStopPost"];

const SECRETS: [&str; 6] = [
    "LoadCredential",
    "LoadCredentialEncrypted",
    "PassEnvironment",
    "SetCredential",
    "SetCredentialEncrypted",
    "UnsetEnvironment",
];

/// Variables whose values are no secrets.
const VARIABLES: [&str; 38] = [
    "ABSSCTL_CONFIG_FILE",
    "ABSSCTL_DATA_DIR",
    "ABSSCTL_DOMAIN",
    "ABSSCTL_INSTALL_ROOT",
    "ABSSCTL_INSTANCE",
    "ABSSCTL_INSTANCE_ROOT",
    "ABSSCTL_LOGS_DIR",
    "ABSSCTL_PORT",
    "ABSSCTL_RUNTIME_DIR",
    "ABSSCTL_STATE_DIR",
    "ABSSCTL_VERSION",
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

/// Variables that are named and whose values are hidden, so that a change of them can be told.
const SECRET_VARIABLES: [&str; 4] =
    ["ACTUAL_HTTPS_CERT", "ACTUAL_HTTPS_KEY", "ACTUAL_OPENID_CLIENT_SECRET", "ACTUAL_OPENID_PROVIDER_NAME"];

fn takes(name: &str) -> Option<Takes> {
    let lists: [(&[&str], Takes); 6] = [
        (&SETTINGS, Takes::Settings),
        (&UNITS, Takes::Units),
        (&NAMES, Takes::Names),
        (&PATHS, Takes::Paths),
        (&COMMANDS, Takes::Command),
        (&SECRETS, Takes::Secrets),
    ];
    match name {
        "Environment" => Some(Takes::Variables),
        "Description" => Some(Takes::Description),
        "Documentation" => Some(Takes::Addresses),
        _ => lists.iter().find(|(list, _)| list.contains(&name)).map(|(_, takes)| *takes),
    }
}

/// The unit as it may be shown, one directive a line.
pub fn redact(text: &str) -> String {
    logical(text).iter().map(|line| shown(line) + "\n").collect()
}

/// Lines as systemd joins them: one that ends in `\` goes on in the next that is no comment.
fn logical(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        let line = line.trim();
        if goes_on && line.starts_with(['#', ';']) {
            continue;
        }
        let (part, more) = match line.strip_suffix('\\') {
            Some(part) if !line.starts_with(['#', ';']) => (part, true),
            Some(_) | None => (line, false),
        };
        match lines.last_mut().filter(|_| goes_on) {
            Some(last) => *last = format!("{last} {}", part.trim()),
            None => lines.push(part.to_owned()),
        }
        goes_on = more;
    }
    lines
}

fn shown(line: &str) -> String {
    if line.is_empty() || SECTIONS.contains(&line) {
        return line.to_owned();
    }
    if line.starts_with(['#', ';']) {
        return format!("# {HIDDEN}");
    }
    let Some((name, value)) = line.split_once('=') else { return HIDDEN.to_owned() };
    let (name, value) = (name.trim_end(), value.trim());
    let Some(takes) = takes(name) else { return format!("{HIDDEN}={HIDDEN}") };
    // Setting it to nothing takes back what was set before.
    if value.is_empty() {
        return format!("{name}=");
    }
    let list = |fits: &dyn Fn(&str) -> bool| {
        if value.split_whitespace().all(fits) { value.to_owned() } else { HIDDEN.to_owned() }
    };
    let value = match takes {
        Takes::Settings => list(&forms::is_setting),
        Takes::Units => list(&is_unit),
        Takes::Names => list(&is_name),
        Takes::Paths => list(&|path| forms::is_path(path.strip_prefix('-').unwrap_or(path))),
        Takes::Addresses => {
            let address = |word| forms::address(word).unwrap_or_else(|| HIDDEN.to_owned());
            value.split_whitespace().map(address).collect::<Vec<_>>().join(" ")
        }
        Takes::Description => description(value),
        Takes::Command => command(value),
        Takes::Variables => variables(value),
        Takes::Secrets => HIDDEN.to_owned(),
    };
    format!("{name}={value}")
}

fn is_unit(text: &str) -> bool {
    UNIT_ENDINGS.iter().any(|end| text.ends_with(end))
        && text.len() <= 100
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@'))
}

fn is_name(text: &str) -> bool {
    let mut signs = text.chars();
    text.len() <= 32
        && signs.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && signs.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '/'))
}

/// What the older tool writes: a sentence of anybody else may say anything.
fn description(text: &str) -> String {
    let name = text.strip_prefix("Actual Budget Sync Server (").and_then(|rest| rest.strip_suffix(')'));
    if name.is_some_and(is_name) { text.to_owned() } else { HIDDEN.to_owned() }
}

/// The program and the paths behind it; from the first argument of another form on, nothing.
fn command(text: &str) -> String {
    let plain = text.trim_start_matches(['-', '@', ':', '+', '!']);
    let words: Vec<&str> = plain.split_whitespace().collect();
    let shown = words.iter().take_while(|word| forms::is_path(word)).count();
    let mut out = text[..text.len() - plain.len()].to_owned() + &words[..shown].join(" ");
    if shown < words.len() {
        out += if shown == 0 { HIDDEN } else { " …(kept secret)" };
    }
    out
}

/// Each assignment with its value where the variable is known.
fn variables(text: &str) -> String {
    let Some(words) = words(text) else { return HIDDEN.to_owned() };
    let show = |word: &String| match word.split_once('=') {
        Some((name, value)) if VARIABLES.contains(&name) => format!("{name}={}", forms::value(value)),
        Some((name, _)) if SECRET_VARIABLES.contains(&name) => format!("{name}={HIDDEN}"),
        Some(_) | None => HIDDEN.to_owned(),
    };
    words.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// Words as systemd splits them, without their quotation marks; `None` where one is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut signs = text.chars();
    while let Some(c) = signs.next() {
        match (quote, c) {
            (_, '\\') => {
                let escaped = signs.next()?;
                word.get_or_insert_default().extend(['\\', escaped]);
            }
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}
