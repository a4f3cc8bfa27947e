//! The version gate: whether the installed server opens the data of a backup, by the migrations that it
//! knows and those that the data has been through. Follows from `spec` and `observed`. Pure.

use super::observed::{MigrationRecord, Observed, ServerSource};
use super::preview::Verdict;
use super::spec::{Spec, Words};

/// Titles that one line names.
const SHOWN: usize = 5;

/// What the installed server makes of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate<'o> {
    /// It knows exactly what the backup has been through.
    Opens,
    /// The backup has no data of a server yet.
    Fresh,
    /// The backup is older: the server adds these migrations by itself.
    Migrates(&'o [String]),
    /// The backup is newer: the server does not know these and refuses to start.
    Newer(&'o [String]),
    /// The record is missing beside a database: the server would migrate it once more, and fail.
    Missing,
    /// The record is nothing that a server reads.
    Unreadable(Option<&'o str>),
    /// The server's migrations are not known.
    UnknownServer(&'o str),
    /// What the backup has been through was not seen.
    Unseen,
    /// Single budgets go into the live tree, whose record stays as it is.
    Kept,
}

impl<'o> Gate<'o> {
    /// The gate of a wish and what was observed.
    pub fn of(spec: &Spec, observed: &'o Observed) -> Self {
        if spec.is_single() {
            return Gate::Kept;
        }
        let server = &observed.server;
        let Some(backup) = observed.migrations() else { return Gate::Unseen };
        match backup.record {
            MigrationRecord::Fresh => Gate::Fresh,
            MigrationRecord::Missing => Gate::Missing,
            MigrationRecord::Unreadable => Gate::Unreadable(backup.why.as_deref()),
            MigrationRecord::Read => match &server.unknown {
                Some(why) => Gate::UnknownServer(why),
                None if !server.lacks.is_empty() => Gate::Newer(&server.lacks),
                None if !server.adds.is_empty() => Gate::Migrates(&server.adds),
                None => Gate::Opens,
            },
        }
    }

    /// Whether the server starts on it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Gate::Opens | Gate::Fresh | Gate::Migrates(_) | Gate::Kept => Verdict::Will,
            Gate::Newer(_) | Gate::Missing | Gate::Unreadable(_) => Verdict::WillNot,
            Gate::UnknownServer(_) | Gate::Unseen => Verdict::NotChecked,
        }
    }

    /// Why, in one line; `observed` is what the gate is of.
    pub fn why(&self, observed: &Observed) -> String {
        let words = if observed.displaced.is_some() { Words::ROLLBACK } else { Words::RESTORE };
        let held = words.held;
        match self {
            Gate::Opens => format!("{} knows exactly {held}'s migrations", server(observed)),
            Gate::Fresh => format!("{held} holds no data of a server yet"),
            Gate::Kept => "the live server's own state stays; only budgets come from the backup".to_owned(),
            Gate::Migrates(titles) => format!(
                "{} adds {} by itself at its first start: {}; an older server cannot read the data any more then",
                server(observed),
                counted(titles),
                named(titles)
            ),
            Gate::Newer(titles) => format!(
                "{held} is of a newer server; {} does not know {} and refuses to start: {}",
                server(observed),
                counted(titles),
                named(titles)
            ),
            Gate::Missing => {
                format!(".migrate is missing in {held}: a server would migrate its data once more, and fail")
            }
            Gate::Unreadable(why) => {
                let why = why.unwrap_or("no server wrote it");
                format!(".migrate of {held} cannot be read ({why}): a server refuses to start")
            }
            Gate::UnknownServer(why) => {
                let this = if observed.displaced.is_some() { held } else { "this backup" };
                format!("whether the installed server can open {this} is not known: {why}")
            }
            Gate::Unseen => {
                format!("which migrations {held} has been through was not seen; apply looks")
            }
        }
    }

    /// What a person can do where the server would not start.
    pub fn way_out(&self) -> &'static str {
        match self {
            Gate::Newer(_) => {
                "install the server that made the backup (metadata/instance.json in its archive says which), or choose another one: abssctl backup list"
            }
            Gate::Opens
            | Gate::Fresh
            | Gate::Kept
            | Gate::Migrates(_)
            | Gate::Missing
            | Gate::Unreadable(_)
            | Gate::UnknownServer(_)
            | Gate::Unseen => "choose another backup: abssctl backup list",
        }
    }
}

/// The installed server, with what led to it.
fn server(observed: &Observed) -> String {
    let server = &observed.server;
    let version = server.version.as_deref().unwrap_or("of unknown version");
    let by = server.found_by.map(|source| match source {
        ServerSource::Registry => " (by the registry)",
        ServerSource::Versions => " (by versions.yml)",
        ServerSource::Unit => " (by the unit)",
        ServerSource::Current => " (by the link 'current')",
    });
    format!("the installed server {version}{}", by.unwrap_or_default())
}

fn counted(titles: &[String]) -> String {
    match titles.len() {
        1 => "1 migration".to_owned(),
        count => format!("{count} migrations"),
    }
}

fn named(titles: &[String]) -> String {
    match titles.len().checked_sub(SHOWN) {
        None | Some(0) => titles.join(", "),
        Some(more) => format!("{}, and {more} more", titles[..SHOWN].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::observed::{BackupMigrations, InstalledServer};
    use super::super::testing::sample;
    use super::*;

    /// What a server that knows these titles makes of a record.
    fn judged(known: Option<&[&str]>, record: Option<&[u8]>) -> Observed {
        let mut observed = sample().observed;
        let installed = InstalledServer {
            version: Some("25.6.0".into()),
            migrations: known.unwrap_or_default().iter().map(|title| (*title).to_owned()).collect(),
            unknown: known.is_none().then(|| "nothing is there".to_owned()),
            ..InstalledServer::default()
        };
        let backup = BackupMigrations::of(record, true);
        observed.server = installed.judge(Some(&backup));
        observed.backup.as_mut().unwrap().migrations = Some(backup);
        observed
    }

    #[test]
    fn what_a_server_makes_of_a_backup() {
        let (a, b, c) = ("1694360000000-a.js", "1694360000001-b.js", "1694360000002-c.js");
        let record = |titles: &[&str]| {
            let run = titles.iter().map(|title| format!(r#"{{"title":"{title}","timestamp":1}}"#));
            format!(r#"{{"lastRun":null,"migrations":[{}]}}"#, run.collect::<Vec<_>>().join(","))
        };
        let (ab, none) = (record(&[a, b]), record(&[]));
        for (known, record, verdict, words) in [
            (Some(&[a, b][..]), Some(ab.as_str()), Verdict::Will, "exactly"),
            (
                Some(&[a, b, c]),
                Some(&ab),
                Verdict::Will,
                "adds 1 migration by itself at its first start: 1694360000002-c.js",
            ),
            (Some(&[a, b]), Some(&none), Verdict::Will, "adds 2 migrations"),
            (
                Some(&[a]),
                Some(&ab),
                Verdict::WillNot,
                "does not know 1 migration and refuses to start: 1694360000001-b.js",
            ),
            // Neither of two branches can open the other's data, whatever else it would add.
            (Some(&[a, c]), Some(&ab), Verdict::WillNot, "b.js"),
            (Some(&[a, b]), None, Verdict::WillNot, ".migrate is missing"),
            (Some(&[a, b]), Some(""), Verdict::WillNot, ".migrate is missing"),
            (Some(&[a, b]), Some("x"), Verdict::WillNot, "(it is not JSON)"),
            (None, Some(&ab), Verdict::NotChecked, "nothing is there"),
            // No server opens these.
            (None, None, Verdict::WillNot, ".migrate is missing"),
            (None, Some("{}"), Verdict::WillNot, "'lastRun'"),
        ] {
            let observed = judged(known, record.map(str::as_bytes));
            let gate = Gate::of(&sample().spec, &observed);
            assert_eq!(gate.verdict(), verdict, "{known:?} {record:?}: {gate:?}");
            assert!(gate.why(&observed).contains(words), "{}", gate.why(&observed));
        }
    }

    #[test]
    fn what_was_not_seen_and_what_is_fresh() {
        let mut observed = judged(Some(&["1694360000000-a.js"]), None);
        observed.backup.as_mut().unwrap().migrations = Some(BackupMigrations::of(None, false));
        assert_eq!(Gate::of(&sample().spec, &observed), Gate::Fresh);
        observed.backup.as_mut().unwrap().migrations = None;
        assert_eq!(Gate::of(&sample().spec, &observed).verdict(), Verdict::NotChecked);
    }
}
