//! Which unpacked databases are sound, told by the files that they share their content with: those were just
//! compared and lie in memory, where their copies would have to come from the disk. Reads only.
//!
//! It opens files of the live tree, and closing one lets go of SQLite's locks on it: no step of this process that
//! holds such locks may run beside it. So it is a part of `extract`, beside which no pre-backup runs where there is
//! a tree to take files from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use crate::archive::{self, DATA, Extracted};
use crate::host::cancel::Cancel;
use crate::host::fs::IoContext as _;
use crate::host::pool::Batches;
use crate::host::sqlite;
use crate::host::stamp::Unchanged;

use super::error::StepError;

/// The databases that share their content with files of this tree, which stands for `data/`, and are sound. Of
/// another one nothing is known: its file was changed meanwhile, or cannot be read, or is damaged.
pub(super) fn by_originals(
    base: &Dir,
    extracted: &Extracted,
    stop: &Cancel,
) -> Result<HashSet<PathBuf>, StepError> {
    let base = base.try_clone().context("open", DATA)?;
    let all = extracted.database_bytes();
    let mut checks = Batches::new(stop, move |files: Vec<(PathBuf, _)>, stop| {
        let _stop = sqlite::stop_on(stop);
        let is_sound = |(path, stamp): &(PathBuf, _)| {
            let path = archive::below_data(path);
            let is_same = || Unchanged::open(&base, path, *stamp).is_some();
            is_same() && sqlite::quick_check_beside(&base, path, all).is_ok() && is_same()
        };
        files.into_iter().filter(is_sound).map(|(path, _)| path).collect::<Vec<_>>()
    });
    // By another name it may have a journal of its own, which SQLite worked in since.
    let named: HashSet<&Path> =
        extracted.entries.iter().filter_map(|entry| entry.target.as_deref()).collect();
    let mut sound = HashSet::new();
    for entry in extracted.entries.iter().filter(|entry| entry.is_sqlite && !named.contains(&*entry.path)) {
        if let Some(original) = entry.original {
            sound.extend(checks.push((entry.path.clone(), original), entry.size).unwrap_or_default());
        }
    }
    while let Some(more) = checks.pop() {
        sound.extend(more);
    }
    Ok(sound)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use cap_std::ambient_authority;

    use super::*;
    use crate::archive::{EntryKind, ExtractedEntry};
    use crate::host::stamp::{self, Stamp};

    fn entry(name: &str, original: Option<Stamp>) -> ExtractedEntry {
        ExtractedEntry {
            path: Path::new(DATA).join(name),
            kind: EntryKind::File,
            size: 1,
            sha256: None,
            target: None,
            stamp: None,
            is_sqlite: true,
            original,
        }
    }

    #[test]
    fn only_of_what_is_the_same_and_sound_it_is_told() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        for name in ["sound", "copied", "changed", "damaged", "text", "named"] {
            let made = rusqlite::Connection::open(at(name)).unwrap();
            made.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(20000));").unwrap();
        }
        let open = |name| File::options().write(true).open(at(name)).unwrap();
        open("damaged").write_all_at(&[0xff; 64], 4096).unwrap();
        open("text").write_all_at(b"no database", 0).unwrap();
        let stamp = |name: &str| Some(stamp::wait(&at(name)));
        let names = ["sound", "changed", "damaged", "text", "named"];
        let mut entries: Vec<_> = names.iter().map(|name| entry(name, stamp(name))).collect();
        // One of its own content, and one whose file is gone.
        entries.extend([entry("copied", None), entry("gone", stamp("sound"))]);
        let target = Some(Path::new(DATA).join("named"));
        entries.push(ExtractedEntry {
            kind: EntryKind::Hardlink,
            target,
            is_sqlite: false,
            ..entry("link", None)
        });
        open("changed").write_all_at(b"SQLite format 3\0", 0).unwrap();
        let extracted =
            Extracted { entries, manifest: None, bytes: 0, reused: 0, reused_bytes: 0, kept_bytes: 0 };
        let base = Dir::open_ambient_dir(top.path(), ambient_authority()).unwrap();
        let sound = |stop: &Cancel| by_originals(&base, &extracted, stop).unwrap();
        assert_eq!(sound(&Cancel::default()), HashSet::from([Path::new(DATA).join("sound")]));
    }
}
