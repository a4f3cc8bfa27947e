//! The server's migrations: which a data directory has been through (its `.migrate`), and which an
//! installed server knows, by the text of its program. A server refuses a state that has been through
//! one that it does not know, and brings an older state up to date at its first start. Pure; whatever
//! the text holds, it is only read.

use std::collections::BTreeSet;

use serde_json::Value;

/// The largest `.migrate` that is read, in bytes; real ones have less than one thousand.
pub const MAX_RECORD: u64 = 1 << 20;
/// What is wrong with a larger one.
pub const TOO_LARGE: &str = "it is larger than 1 MiB";
/// What is wrong with a link or a directory of this name.
pub const NO_FILE: &str = "it is no regular file";
/// More titles than this are refused; real servers have about ten.
pub const MAX_TITLES: usize = 1000;
/// The longest title, in characters.
const MAX_TITLE: usize = 200;
/// Digits that a title of the server begins with: milliseconds of its making.
const DIGITS: usize = 13;

/// Why a `.migrate` says nothing: in one line, without a byte of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON.
    #[error("it is not JSON")]
    Json,
    /// It lacks what the server looks for.
    #[error("it has no 'lastRun' and list of 'migrations'")]
    Shape,
    /// A title is none.
    #[error("it names a migration as no server does")]
    Title,
    /// There are more of them than any server has.
    #[error("it names more than {MAX_TITLES} migrations")]
    TooMany,
}

/// Reads a `.migrate`: the titles of the migrations that were run, sorted; `None` for an empty file,
/// which the server takes for a missing one. As the server's own reader (the npm package `migrate`),
/// an entry with the timestamp null was not run.
///
/// # Errors
/// The server would refuse it, or no server wrote it.
pub fn record(bytes: &[u8]) -> Result<Option<BTreeSet<String>>, RecordError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|_| RecordError::Json)?;
    let Some(Value::Array(migrations)) = value.get("lastRun").and_then(|_| value.get("migrations")) else {
        return Err(RecordError::Shape);
    };
    if migrations.len() > MAX_TITLES {
        return Err(RecordError::TooMany);
    }
    let mut titles = BTreeSet::new();
    for migration in migrations {
        let title = migration.get("title").and_then(Value::as_str).filter(|title| is_plain(title));
        let title = title.ok_or(RecordError::Title)?;
        match migration.get("timestamp") {
            Some(Value::Null) => {}
            Some(Value::Number(time)) if time.as_f64().is_some_and(|time| time > 0.0) => {
                titles.insert(title.to_owned());
            }
            // The server would run it once more.
            Some(_) | None => return Err(RecordError::Title),
        }
    }
    Ok(Some(titles))
}

fn is_plain(title: &str) -> bool {
    (1..=MAX_TITLE).contains(&title.len())
        && title.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Whether a file name is a migration of the server: 13 digits, a hyphen, a name, `.js`.
pub fn is_title(name: &str) -> bool {
    let Some(rest) = name.get(DIGITS..) else { return false };
    name.bytes().take(DIGITS).all(|byte| byte.is_ascii_digit())
        && rest.len() > "-.js".len()
        && rest.starts_with('-')
        && rest.ends_with(".js")
        && is_plain(name)
}

/// The titles in a program whose migrations are bundled: string literals that are a title, alone or
/// behind `…migrations/`. The chunks that it imports them from (`"./<title>-<hash>.js"`) and the names in
/// comments are none.
pub fn bundled(program: &str) -> BTreeSet<String> {
    let mut titles = BTreeSet::new();
    for (end, _) in program.match_indices(".js") {
        let end = end + ".js".len();
        // All bytes of a literal before the title are ASCII, or it is none.
        let Some(quote) = program.as_bytes().get(end).filter(|byte| b"\"'`".contains(byte)) else { continue };
        let from = end.saturating_sub(2 * MAX_TITLE);
        let before = &program.as_bytes()[from..end];
        let Some(begin) = before.iter().rposition(|byte| byte == quote) else { continue };
        let Ok(literal) = std::str::from_utf8(&before[begin + 1..]) else { continue };
        let (folder, title) = literal.rsplit_once('/').unwrap_or(("migrations", literal));
        let of_migrations = folder == "migrations" || folder.ends_with("/migrations");
        if of_migrations && is_title(title) {
            titles.insert(title.to_owned());
        }
    }
    titles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(titles: &[&str]) -> BTreeSet<String> {
        titles.iter().map(|title| (*title).to_owned()).collect()
    }

    #[test]
    fn a_record_names_what_was_run() {
        let text = r#"{ "lastRun": "b.js", "migrations": [
            { "title": "1694360000000-create-folders.js", "timestamp": 1795486892281 },
            { "title": "1718889148000-openid.js", "timestamp": null },
            { "title": "1719409568000-multiuser.js", "timestamp": 1, "description": "x" } ] }"#;
        let found = record(text.as_bytes()).unwrap().unwrap();
        assert_eq!(found, set(&["1694360000000-create-folders.js", "1719409568000-multiuser.js"]));
        assert_eq!(record(b""), Ok(None));
        assert_eq!(record(br#"{"lastRun":null,"migrations":[]}"#), Ok(Some(set(&[]))));
    }

    #[test]
    fn what_no_server_wrote_is_refused_without_repeating_it() {
        let flood = format!(
            r#"{{"lastRun":null,"migrations":[{}{{"title":"a"}}]}}"#,
            r#"{"title":"a"},"#.repeat(MAX_TITLES)
        );
        let deep = "[".repeat(100_000);
        for (text, error) in [
            ("\u{1b}[31m", RecordError::Json),
            (deep.as_str(), RecordError::Json),
            ("\n", RecordError::Json),
            ("[]", RecordError::Shape),
            ("null", RecordError::Shape),
            (r#"{"migrations":[]}"#, RecordError::Shape),
            (r#"{"lastRun":null,"migrations":null}"#, RecordError::Shape),
            (r#"{"lastRun":null,"migrations":[1]}"#, RecordError::Title),
            (r#"{"lastRun":null,"migrations":[{"title":"a\u001b[31m","timestamp":1}]}"#, RecordError::Title),
            (r#"{"lastRun":null,"migrations":[{"title":"","timestamp":1}]}"#, RecordError::Title),
            (r#"{"lastRun":null,"migrations":[{"title":"a"}]}"#, RecordError::Title),
            (r#"{"lastRun":null,"migrations":[{"title":"a","timestamp":0}]}"#, RecordError::Title),
            (flood.as_str(), RecordError::TooMany),
        ] {
            assert_eq!(record(text.as_bytes()), Err(error), "{text:.60}");
        }
    }

    #[test]
    fn titles_of_a_bundle_are_the_keys_and_not_the_chunks() {
        let text = r#"//#region migrations/1694360000000-in-a-comment.js
            var loaders = { "../migrations/1694360479680-create-account-db.js": () => import("./1694360479680-create-account-db-RFL90QIP.js"),
              '1718889148000-openid.js': x, `/migrations/1719409568000-multiuser.js`: y, "é/migrations/1719409568001-é.js": z,
              "other/1719409568002-no.js": 0, "migrations/171940956800-short.js": 0, "notmigrations/1719409568003-no.js": 0,
              "1719409568004-.js'": 0, "../migrations/1763873568237-server-global-prefs.js": 0 };
            //# sourceMappingURL=1719409568000-multiuser-D0ObQKmZ.js.map"#;
        let expected = [
            "1694360479680-create-account-db.js",
            "1718889148000-openid.js",
            "1719409568000-multiuser.js",
            "1763873568237-server-global-prefs.js",
        ];
        assert_eq!(bundled(text), set(&expected));
        for none in ["", ".js", ".js\"", "\".js\"", "é.js'", &"\"".repeat(9000), &".js'".repeat(9000)] {
            assert_eq!(bundled(none), set(&[]));
        }
    }
}
