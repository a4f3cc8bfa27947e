//! Power cuts on real file systems: a command runs on a disk that logs its writes and flushes; then the disk
//! is put together as it would be after a cut at some point, mounted, and judged.
//!
//! Three kinds of images: everything written up to a point; everything up to the last flush before it and
//! a random part of the writes since, in their order; the same with the last of them torn at a sector.
//! Everything lies in temporary directories.

use std::sync::Arc;

use crate::block_log::{Blocks, Disk, Entry};
use crate::disk::{BTRFS, EXT4, Kind, Mounted, XFS, scratch};
use crate::oracle::Promise;
use crate::random::{self, Random, sample};
use crate::say;
use crate::scenario::Scenario;
use crate::support::TestRoot;
use crate::support::tools::skipped;

/// The directory of the disk that is the root of the tests.
const WORLD: &str = "world";

/// How the disk came about.
struct Recorded {
    base: Blocks,
    log: Vec<Entry>,
    promise: Promise,
    /// Keeps the plan.
    _root: TestRoot,
}

/// Runs a scenario on a disk that remembers.
fn record(kind: Kind, scenario: Scenario) -> Recorded {
    let scratch = scratch();
    let empty = scratch.path().join("empty");
    kind.make(&empty);
    let disk = Disk::new(Blocks::of(&empty), kind.size);
    let mounted = Mounted::new(&disk.path(), kind, true).unwrap();
    // Below it there is room for other things that do not count.
    let world = mounted.path().join(WORLD);
    std::fs::create_dir(&world).unwrap();
    let root = TestRoot::at(&world);
    let prepared = scenario.prepare(&root);
    let command = prepared.command.clone();
    let mut base = Blocks::default();
    let promise = Promise::of(prepared, &root, &mounted.path(), || {
        rustix::fs::syncfs(std::fs::File::open(mounted.path()).unwrap()).unwrap();
        base = disk.base();
        let ran = root.json(&command);
        disk.mark();
        ran
    });
    let log = disk.log();
    drop(mounted);
    Recorded { base, log, promise, _root: root }
}

/// How an image is made.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// All writes up to this place in the log.
    Whole(usize),
    /// Up to the last flush before this place, then a part of the writes.
    Part(usize),
    /// The same, and the last write reached the platter by half.
    Torn(usize),
}

impl Cut {
    fn place(self) -> usize {
        match self {
            Self::Whole(place) | Self::Part(place) | Self::Torn(place) => place,
        }
    }
}

/// Around each flush one image at least, of each kind in turn.
fn cuts(log: &[Entry]) -> Vec<Cut> {
    let mut cuts = vec![Cut::Whole(0)];
    let mut before = 0;
    for (place, entry) in log.iter().enumerate() {
        let last = place + 1 == log.len();
        if !matches!(entry, Entry::Flush | Entry::Mark) && !last {
            continue;
        }
        let writes = place - before;
        cuts.push(match cuts.len() % 3 {
            _ if writes == 0 || matches!(entry, Entry::Mark) => Cut::Whole(place + 1),
            0 => Cut::Whole(place),
            1 => Cut::Part(place),
            _ => Cut::Torn(place),
        });
        if matches!(entry, Entry::Flush) {
            before = place + 1;
        }
    }
    cuts
}

/// The disk as the cut leaves it.
fn image(kind: Kind, recorded: &Recorded, cut: Cut, random: &mut Random) -> Blocks {
    let (log, place) = (&recorded.log, cut.place());
    let flushed = log[..place].iter().rposition(|entry| matches!(entry, Entry::Flush)).map_or(0, |at| at + 1);
    let mut writes: Vec<(u64, Arc<[u8]>)> = Vec::new();
    for (at, entry) in log[..place].iter().enumerate() {
        let lost = at >= flushed && !matches!(cut, Cut::Whole(_)) && random.coin();
        if let Entry::Write(offset, bytes) = entry
            && !lost
        {
            writes.push((*offset, Arc::clone(bytes)));
        }
    }
    if let (Cut::Torn(_), Some((_, bytes))) = (cut, writes.last_mut())
        && bytes.len() > kind.sector
        && place > flushed
    {
        let sectors = 1 + random.below((bytes.len() / kind.sector - 1).max(1));
        *bytes = bytes[..sectors * kind.sector].into();
    }
    let mut blocks = recorded.base.clone();
    for (offset, bytes) in writes {
        blocks.write(offset, &bytes);
    }
    blocks
}

/// Mounts and judges an image; what is broken, in words.
fn judge(kind: Kind, recorded: &Recorded, cut: Cut, blocks: &Blocks) -> Result<(), String> {
    let done = recorded.log[..cut.place()].iter().any(|entry| matches!(entry, Entry::Mark));
    let scratch = scratch();
    let path = scratch.path().join("disk");
    blocks.save(&path, kind.size);
    let mounted = Mounted::new(&path, kind, false)?;
    recorded.promise.judge(&TestRoot::at(&mounted.path().join(WORLD)), done)
}

/// All images of a scenario, or a sample; gives how many.
fn try_all(kind: Kind, scenario: Scenario, limit: usize) -> usize {
    let recorded = record(kind, scenario);
    let flushes = recorded.log.iter().filter(|entry| matches!(entry, Entry::Flush)).count();
    let writes = recorded.log.iter().filter(|entry| matches!(entry, Entry::Write(..))).count();
    assert!(flushes > 3, "{} {}: the log has {flushes} flushes", kind.name, scenario.name());
    let mut random = Random::new(&format!("{} {}", kind.name, scenario.name()));
    let mut chosen = cuts(&recorded.log);
    if !random::all() {
        // The last one is after the command returned: never left out.
        let last = chosen.pop();
        chosen = sample(chosen, limit - 1, &mut random);
        chosen.extend(last);
    }
    let (mut broken, count) = (Vec::new(), chosen.len());
    for cut in chosen {
        let blocks = image(kind, &recorded, cut, &mut random);
        if let Err(why) = judge(kind, &recorded, cut, &blocks) {
            broken.push(format!("{cut:?} of {}: {why}", recorded.log.len()));
        }
    }
    let what = format!("{} on {}", scenario.name(), kind.name);
    say(&format!(
        "{what}: {writes} writes, {flushes} flushes, {count} images, {} violations (seed {})",
        broken.len(),
        random::seed()
    ));
    assert!(broken.is_empty(), "{what}: {} of {count} images:\n{}", broken.len(), broken.join("\n"));
    count
}

/// All scenarios on a file system.
fn power_cuts(kind: Kind, test: &str) {
    if let Some(why) = kind.lacking() {
        return skipped(test, &why);
    }
    let mut count = 0;
    for scenario in Scenario::PLAIN {
        let few = [Scenario::Apply, Scenario::Create].contains(&scenario);
        if few || random::all() {
            count += try_all(kind, scenario, if scenario == Scenario::Apply { 9 } else { 4 });
        }
    }
    say(&format!("{}: {count} images", kind.name));
}

#[test]
fn a_power_cut_on_ext4_leaves_the_old_or_the_new() {
    power_cuts(EXT4, "power cuts on ext4");
}

#[test]
fn a_power_cut_on_xfs_leaves_the_old_or_the_new() {
    power_cuts(XFS, "power cuts on xfs");
}

#[test]
fn a_power_cut_on_btrfs_leaves_the_old_or_the_new() {
    power_cuts(BTRFS, "power cuts on btrfs");
}
