//! What a server that does not start says of the reason: the known messages of Actual's server and of node,
//! in words that tell what to do. Pure.

/// What a log is searched for, and what it means; the first that is found counts.
const CAUSES: [(&str, &str); 16] = [
    (
        "Missing migration file",
        "the data has been through a migration that the installed server does not know: install the server that made it",
    ),
    (
        "no such column: password",
        "the record of migrations (.migrate) is missing beside a database that has been migrated",
    ),
    ("SQLITE_CORRUPT", "its database is damaged"),
    ("database disk image is malformed", "its database is damaged"),
    ("SQLITE_NOTADB", "its database is no database"),
    ("file is not a database", "its database is no database"),
    ("SQLITE_CANTOPEN", "it cannot open its database: see the owner and mode of the data directory"),
    (
        "unable to open database file",
        "it cannot open its database: see the owner and mode of the data directory",
    ),
    (
        "SQLITE_READONLY",
        "it may not write its database: see owner and mode, and ProtectSystem= or ReadWritePaths= of the unit",
    ),
    (
        "readonly database",
        "it may not write its database: see owner and mode, and ProtectSystem= or ReadWritePaths= of the unit",
    ),
    ("EROFS", "its data lies where it may only read: see ProtectSystem= and ReadWritePaths= of the unit"),
    ("EADDRINUSE", "its port is taken by another program"),
    ("EACCES", "it may not read or write a file of its own: see owner and mode of the data directory"),
    ("ENOSPC", "its disk is full"),
    ("not declared in the schema", "config.json has a key that the installed server does not know"),
    (
        "was compiled against a different Node.js version",
        "its native modules belong to another version of node: npm rebuild",
    ),
];

/// Said by node where a part of the program is not there.
const INCOMPLETE: [&str; 2] = ["Cannot find module", "ERR_MODULE_NOT_FOUND"];

/// The known cause that a log tells of.
pub fn cause(log: &str) -> Option<&'static str> {
    let known = CAUSES.iter().find(|(text, _)| log.contains(text)).map(|(_, cause)| *cause);
    known.or_else(|| {
        let incomplete = INCOMPLETE.iter().any(|text| log.contains(text));
        incomplete.then_some("a part of its program is missing: install that version again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_and_an_unknown_one_is_none() {
        let log = "Checking if there are any migrations to run for direction \"up\"...\nError: Missing migration file: 1900000000000-later.js\n    at x";
        assert!(cause(log).unwrap().contains("does not know"));
        assert!(cause("Error: listen EADDRINUSE: address already in use :::5006").unwrap().contains("port"));
        assert!(cause("Error: Cannot find module '/srv/app/x.js'").unwrap().contains("program"));
        assert_eq!(cause("Listening on :::5006..."), None);
    }
}
