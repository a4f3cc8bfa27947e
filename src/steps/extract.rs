//! `extract`: unpacks the archive into this run's staging directory in one pass. It gets to the disk while
//! `inspect` reads it: `prepare` waits until it is there. Undo removes that directory. A crash leaves it half
//! full; the next apply removes it by its name, which the journal knows before the first file is written.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use super::context::{Done, Probe, StepContext, StepRunner, lock};
use super::error::StepError;
use super::{sound, staging, swap};
use crate::archive::{
    self, Algorithm, ArchiveError, Base, DATA, ExtractOptions, Extracted, HashingReader, Limits, Owners,
};
use crate::host::cancel::Cancel;
use crate::host::fs::{self, IoContext as _, Syncing};
use crate::host::sqlite;
use crate::ids::BackupId;
use crate::plan::spec::{BackupSource, Ownership, OwnershipSource};
use crate::plan::step::{Action, ExtractWith, Step};
use crate::run::fact::Fact;
use crate::store;
use crate::survey::{archive as survey_archive, observe, tree};

/// The code of `extract`.
#[derive(Debug)]
pub struct Extract;

impl StepRunner for Extract {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let archive = cx.archive(step.kind())?;
        let Action::Extract(with) = &step.action else {
            return Err(StepError::Unavailable { kind: step.kind() });
        };
        let source = cx.shared.pass.source();
        let directory = staging::staging(cx)?;
        cx.note(step, Fact::Staging { directory: directory.clone() })?;
        // What an earlier, cut-off try left is of no use: it may be torn.
        staging::remove(cx.host, &directory)?;
        let dir = staging::ensure(cx.host, &directory)?;
        let live = live_owners(cx)?;
        let resolve = |path: &Path| owner_of(&cx.plan.spec.ownership, &live, path);
        let owners = match cx.plan.spec.ownership.from {
            OwnershipSource::Archive | OwnershipSource::Kept => Owners::Archive,
            OwnershipSource::Live | OwnershipSource::Fixed => Owners::Resolve(&resolve),
        };
        let limits = Limits { bytes: with.max_bytes, entries: with.max_entries };
        let (base, proof) = (base(cx, with)?, cx.plan.spec.manifest_proof());
        let options = ExtractOptions {
            limits,
            owners,
            base: base.as_ref().map(|dir| Base { dir, known: &cx.host.known }),
            proof,
        };
        let (id, algorithm) = (&archive.backup_id, survey_archive::algorithm(archive.algorithm));
        let progress = |bytes: u64| (cx.progress)(&step.id, bytes);
        let extracted = if let Some(source) = source {
            unpack(source, algorithm, id, &dir, &options, &cx.stop, &progress)
        } else if proof.is_some() {
            let opened = store::open(&cx.host.root, &cx.host.config, &archive.path)?;
            let tar = archive::leaping_decoder(algorithm, opened.file)?;
            archive::extract(tar, id, &dir, &options, &cx.stop, &progress)
        } else {
            let opened = store::open(&cx.host.root, &cx.host.config, &archive.path)?;
            let mut hashed = HashingReader::new(opened.file);
            let extracted = unpack(&mut hashed, algorithm, id, &dir, &options, &cx.stop, &progress);
            // A wrong digest explains a damaged archive better than the decoder's words.
            prove(cx, archive, hashed)?;
            extracted
        };
        let mut extracted = match extracted {
            Ok(extracted) => extracted,
            Err(error) => {
                cx.check_cancelled()?;
                return Err(placed(error, &cx.host.root.host_path(&directory)).into());
            }
        };
        let settled = settle_databases(&dir, &mut extracted)?;
        if let Some(base) = &base {
            *lock(&cx.shared.sound) = sound::by_originals(base, &extracted, &cx.stop)?;
        }
        let mut detail = format!("{} entries, {} bytes", extracted.entries.len(), extracted.bytes);
        if let Some(from) = &with.reuse {
            let Extracted { reused, reused_bytes, kept_bytes, .. } = extracted;
            detail = format!("{detail}; {reused} files of them, {reused_bytes} bytes, as in {from}");
            if kept_bytes > 0 {
                detail = format!("{detail}, and {kept_bytes} bytes of others");
            }
        }
        if settled > 0 {
            detail = format!("{detail}; {settled} databases rolled back to their last commit");
        }
        *lock(&cx.shared.extracted) = Some(extracted);
        *lock(&cx.shared.unpacked) = Some(dir);
        Ok(Done::new(detail))
    }

    fn undo(&self, cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        // What lies there may be the old tree, where the journal lost the record of the swap.
        swap::refuse_lost(cx)?;
        // Whether it got to the disk does not matter any more.
        let _outcome = lock(&cx.shared.syncing).take().map(Syncing::wait);
        staging::remove(cx.host, &staging::staging(cx)?)
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        let directory = staging::staging(cx)?;
        // Whether it is whole is known to the process that unpacked it alone.
        Ok(if staging::existing(cx.host, &directory)?.is_some() { Probe::Half } else { Probe::NotBegun })
    }
}

/// The tree whose equal files are copied; one that is gone has none.
fn base(cx: &StepContext<'_>, with: &ExtractWith) -> Result<Option<Dir>, StepError> {
    let Some(directory) = &with.reuse else { return Ok(None) };
    let (_, target) = observe::open_target(cx.host, directory)?;
    // Opened anew: the handle may be one for look-ups alone.
    let path = cx.host.root.host_path(directory);
    Ok(target.map(|target| fs::open_dir(&target, ".")).transpose().context("open", path)?)
}

fn unpack(
    source: impl Read,
    algorithm: Algorithm,
    id: &BackupId,
    dir: &Dir,
    options: &ExtractOptions<'_>,
    stop: &Cancel,
    progress: &dyn Fn(u64),
) -> Result<Extracted, ArchiveError> {
    archive::extract(archive::decoder(algorithm, source)?, id, dir, options, stop, progress)
}

/// A member is named as in the archive; where its file cannot be written, the file is meant.
fn placed(mut error: ArchiveError, staging: &Path) -> ArchiveError {
    if let ArchiveError::Fs(place) = &mut error
        && place.path.is_relative()
    {
        place.path = staging.join(&place.path);
    }
    error
}

/// Owners of the live tree by path, where the plan takes them from there.
fn live_owners(cx: &StepContext<'_>) -> Result<BTreeMap<PathBuf, (u32, u32)>, StepError> {
    let mut owners = BTreeMap::new();
    if cx.plan.spec.ownership.from != OwnershipSource::Live {
        return Ok(owners);
    }
    let target = &cx.plan.spec.target.directory;
    if let (_, Some(dir)) = observe::open_target(cx.host, target)? {
        use cap_std::fs::MetadataExt as _;
        let path = cx.host.root.host_path(target);
        let own = dir.dir_metadata().context("look at", &path)?;
        owners.insert(PathBuf::new(), (own.uid(), own.gid()));
        let walked = tree::walk(&dir, &mut |entry, _| {
            owners.insert(entry.path.clone(), (entry.uid, entry.gid));
            Ok(())
        });
        walked.context("look at", path)?;
    }
    Ok(owners)
}

/// The owner of a member: its counterpart's in the live tree, else the plan's. Everything outside of the
/// instance directory (metadata) stays this process's own.
fn owner_of(ownership: &Ownership, live: &BTreeMap<PathBuf, (u32, u32)>, path: &Path) -> (u32, u32) {
    let fallback = (ownership.uid, ownership.gid);
    match path.strip_prefix(DATA) {
        Ok(below) if ownership.from == OwnershipSource::Live => live.get(below).copied().unwrap_or(fallback),
        Ok(_) => fallback,
        Err(_) => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    }
}

/// Lets SQLite roll back or finish what a database's companions hold, so that what is put in place is sound.
fn settle_databases(dir: &Dir, extracted: &mut Extracted) -> Result<usize, StepError> {
    // Of very many files few have a companion.
    let accompanied: HashSet<PathBuf> =
        extracted.entries.iter().filter_map(|entry| sqlite::accompanied(&entry.path)).collect();
    let has_one = |place: &usize| accompanied.contains(&extracted.entries[*place].path);
    let places = (0..extracted.entries.len()).filter(has_one);
    let mut settled = 0;
    for place in places.collect::<Vec<_>>() {
        let entry = &mut extracted.entries[place];
        if sqlite::settle(dir, &entry.path)? {
            settled += 1;
            // It is another file now than the one that was unpacked.
            let file = fs::open_regular(dir, &entry.path).context("open", &entry.path)?;
            let is_sqlite = sqlite::is_database(&file).context("read", &entry.path)?;
            (entry.stamp, entry.original, entry.is_sqlite) = (None, None, is_sqlite);
        }
    }
    Ok(settled)
}

/// Reads what the decoder left and compares the digest of it all.
fn prove(
    cx: &StepContext<'_>,
    source: &BackupSource,
    hashed: HashingReader<std::fs::File>,
) -> Result<(), StepError> {
    let found = hashed.finish().context("read", cx.host.root.host_path(&source.path))?;
    if found == source.sha256 {
        return Ok(());
    }
    Err(StepError::Checksum { path: source.path.clone(), found, planned: source.sha256 })
}
