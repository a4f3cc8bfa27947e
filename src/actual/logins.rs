//! Who can log in to a server, by its own database and its configuration: users, sessions, login
//! methods, names of bank tokens. Of secrets only digests are kept, in memory and to compare two
//! states; no output ever holds one. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use serde_json::Value;

use crate::host::sqlite::{self, ReadError};
use crate::ids::Sha256;

/// More rows of a table than this are not compared: no server has them.
const MAX_ROWS: usize = 100_000;
/// Of names this many characters are read.
const MAX_NAME: u32 = 300;
/// Of secrets this many bytes are compared.
const MAX_SECRET: u32 = 65_536;

/// Who can log in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logins {
    /// The login method that is active.
    pub active: Option<String>,
    /// Digest of what the password is checked with; `None` where there is none.
    pub password: Option<Sha256>,
    /// The `OpenID` method; `None` where it was never set up.
    pub openid: Option<OpenId>,
    /// Names of users who may log in; the nameless one of a server with a password is not among them.
    pub users: BTreeSet<String>,
    /// Whether users are there at all, and whether one who may log in owns the server.
    pub owner: Option<bool>,
    /// Digests of what open sessions are known by.
    pub sessions: BTreeSet<Sha256>,
    /// Bank tokens: names, and digests of their values.
    pub bank_tokens: BTreeMap<String, Sha256>,
}

/// The `OpenID` method of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenId {
    /// Whether it has issuer, client id and client secret: without one of them nobody can log in.
    pub complete: bool,
}

/// Reads who can log in; columns that an older server's schema lacks read as empty.
///
/// # Errors
/// [`ReadError::TooMany`], and what SQLite refuses.
pub fn read(connection: &Connection) -> Result<Logins, ReadError> {
    let mut logins = Logins::default();
    methods(connection, &mut logins)?;
    users(connection, &mut logins)?;
    for [token] in table(connection, "sessions", ["token"], "sessions")? {
        logins.sessions.insert(digest(&token));
    }
    for [name, value] in table(connection, "secrets", ["name", "value"], "bank tokens")? {
        logins.bank_tokens.insert(name_of(&name), digest(&value));
    }
    Ok(logins)
}

fn methods(connection: &Connection, logins: &mut Logins) -> Result<(), ReadError> {
    for [method, secret, active] in
        table(connection, "auth", ["method", "extra_data", "active"], "login methods")?
    {
        let method = name_of(&method);
        if active == b"1" {
            logins.active = Some(method.clone());
        }
        match method.as_str() {
            "password" if !secret.is_empty() => logins.password = Some(digest(&secret)),
            "openid" => logins.openid = Some(OpenId { complete: is_complete(&secret) }),
            _ => {}
        }
    }
    Ok(())
}

/// What the server asks for before it lets anybody through to the provider.
fn is_complete(extra: &[u8]) -> bool {
    let Ok(Value::Object(extra)) = serde_json::from_slice(extra) else { return false };
    let has = |key: &str| match extra.get(key) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) | None => false,
    };
    (has("issuer") || has("discoveryURL")) && has("client_id") && has("client_secret")
}

fn users(connection: &Connection, logins: &mut Logins) -> Result<(), ReadError> {
    for [name, enabled, owner] in table(connection, "users", ["user_name", "enabled", "owner"], "users")? {
        let enabled = enabled == b"1";
        let owns = logins.owner.unwrap_or_default() || (enabled && owner == b"1");
        logins.owner = Some(owns);
        if enabled && !name.is_empty() {
            logins.users.insert(name_of(&name));
        }
    }
    Ok(())
}

/// Rows of an ordinary table, each value as bytes; empty where a column is not stored.
fn table<const N: usize>(
    connection: &Connection,
    table: &str,
    columns: [&str; N],
    what: &'static str,
) -> Result<Vec<[Vec<u8>; N]>, ReadError> {
    let stored = sqlite::stored_columns(connection, table)?;
    if stored.is_empty() {
        return Ok(Vec::new());
    }
    let column = |name: &str| {
        let stored = stored.iter().any(|stored| stored == name);
        if stored { format!("substr(CAST(\"{name}\" AS BLOB), 1, {MAX_SECRET})") } else { "NULL".to_owned() }
    };
    let query = format!("SELECT {} FROM \"{table}\" LIMIT {}", columns.map(column).join(", "), MAX_ROWS + 1);
    let mut statement = connection.prepare(&query)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() == MAX_ROWS {
            return Err(ReadError::TooMany { what, limit: MAX_ROWS });
        }
        let mut values = [const { Vec::new() }; N];
        for (at, value) in values.iter_mut().enumerate() {
            *value = row.get::<_, Option<Vec<u8>>>(at)?.unwrap_or_default();
        }
        found.push(values);
    }
    Ok(found)
}

fn name_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(MAX_NAME as usize).collect()
}

fn digest(secret: &[u8]) -> Sha256 {
    Sha256::of(secret)
}

/// What the server's configuration says of logins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginConfig {
    /// `loginMethod`.
    pub method: Option<String>,
    /// `enforceOpenId`.
    pub enforce_openid: bool,
}

/// Reads `config.json`; one that is no JSON says nothing here, and the server refuses it.
pub fn config(bytes: &[u8]) -> LoginConfig {
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let method = value["loginMethod"].as_str();
    LoginConfig {
        method: method.map(|method| method.chars().take(100).collect()),
        enforce_openid: match &value["enforceOpenId"] {
            Value::Bool(enforce) => *enforce,
            Value::String(text) => text == "true",
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(sql: &str) -> Logins {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        read(&connection).unwrap()
    }

    const TABLES: &str = "CREATE TABLE auth (method TEXT PRIMARY KEY, extra_data TEXT, active INTEGER);
        CREATE TABLE users (id TEXT, user_name TEXT, enabled INTEGER, owner INTEGER);
        CREATE TABLE sessions (token TEXT); CREATE TABLE secrets (name TEXT, value BLOB);";

    #[test]
    fn who_can_log_in() {
        let found = logins(&format!(
            "{TABLES} INSERT INTO auth VALUES ('password', '$2b$x', 0),
               ('openid', '{{\"issuer\":{{\"name\":\"i\"}},\"client_id\":\"c\",\"client_secret\":\"s\"}}', 1);
             INSERT INTO users VALUES ('1', '', 1, 1), ('2', 'ann', 1, 0), ('3', 'bob', 0, 0);
             INSERT INTO sessions VALUES ('t'), ('u'); INSERT INTO secrets VALUES ('bank', x'00ff');"
        ));
        assert_eq!(found.active.as_deref(), Some("openid"));
        assert_eq!(found.openid, Some(OpenId { complete: true }));
        assert!(found.password.is_some() && found.owner == Some(true));
        assert_eq!(found.users.iter().map(String::as_str).collect::<Vec<_>>(), ["ann"]);
        assert_eq!((found.sessions.len(), found.bank_tokens.len()), (2, 1));
        assert!(!format!("{found:?}").contains("$2b$x"));
    }

    #[test]
    fn what_is_missing_reads_as_empty() {
        assert_eq!(logins(""), Logins::default());
        let old = logins("CREATE TABLE auth (password TEXT); INSERT INTO auth VALUES ('x');");
        assert_eq!(old, Logins::default());
        let views = logins("CREATE VIEW users AS SELECT 'eve' AS user_name, 1 AS enabled, 1 AS owner;");
        assert_eq!(views.owner, None, "a view is a program, and no answer");
        for extra in ["", "{", "[]", "{\"issuer\":\"i\",\"client_id\":\"c\"}", "{\"issuer\":\"\"}"] {
            let found = logins(&format!("{TABLES} INSERT INTO auth VALUES ('openid', '{extra}', 1);"));
            assert_eq!(found.openid, Some(OpenId { complete: false }), "{extra}");
        }
        let disabled = logins(&format!("{TABLES} INSERT INTO users VALUES ('1', 'ann', 0, 1);"));
        assert_eq!((disabled.owner, disabled.users.len()), (Some(false), 0));
    }

    #[test]
    fn configuration() {
        let of = |text: &str| config(text.as_bytes());
        assert_eq!(of("{"), LoginConfig::default());
        let found = of(r#"{"loginMethod":"openid","enforceOpenId":true}"#);
        assert_eq!((found.method.as_deref(), found.enforce_openid), (Some("openid"), true));
        assert!(of(r#"{"enforceOpenId":"true"}"#).enforce_openid);
        assert!(!of(r#"{"enforceOpenId":1}"#).enforce_openid);
    }
}
