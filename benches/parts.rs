//! How fast the parts are that decide how long a backup, a restore or a plan takes: `cargo bench --bench parts`,
//! about two minutes; `-- unpack` measures those alone whose name has that in it, `-- --test` runs each once.
//!
//! `ABSSCTL_THREADS` says how many threads work, as it does for the program; by default as many as there are
//! cores. The number is part of each name, so that every one is compared with its own last measurement. Data are made
//! here, the same each time, in a directory for temporary files of its own (`TMPDIR=/dev/shm` leaves the disk out).

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on ends here")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use abssctl::archive::{
    Algorithm, Entry, EntryKind, ExtractOptions, Limits, Manifest, Owners, Payload, Scope, Written, decoder,
    extract, scan, write,
};
use abssctl::host::cancel::Cancel;
use abssctl::host::fs::{self, Root};
use abssctl::host::machine::{Actor, ActorKind};
use abssctl::host::pool;
use abssctl::host::stamp::Known;
use abssctl::ids::{BackupId, InstanceName, Sha256};
use abssctl::plan::{emit, load, testing};
use abssctl::state::backup_index::{BackupIndex, NewBackup};
use abssctl::state::config::{Config, ConfigFlags};
use abssctl::state::operations_log::{self, Operation, OperationResult, Status};
use abssctl::survey::listing;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use jiff::Timestamp;
use serde_json::{Map, json};
use tempfile::TempDir;

/// Small files of a tree, and the bytes of each.
const FILES: usize = 1000;
const FILE_BYTES: usize = 2000;
/// Bytes of the one file of the other trees.
const LARGE: usize = 32 << 20;
const ENTRIES: u64 = 20_000;
const BACKUPS: u64 = 10_000;
const LOG_LINES: usize = 10_000;

const LIMITS: Limits = Limits { bytes: 1 << 32, entries: 1 << 20 };

fn main() {
    if let Some(threads) = std::env::var("ABSSCTL_THREADS").ok().and_then(|text| text.parse().ok()) {
        pool::set_threads(threads);
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    archives(&mut criterion);
    documents(&mut criterion);
    backup_index(&mut criterion);
    operations(&mut criterion);
    criterion.final_summary();
}

/// A tree and its archive.
struct Data {
    name: &'static str,
    temp: TempDir,
    bytes: u64,
    archive: Vec<u8>,
}

impl Data {
    fn new(name: &'static str, fill: impl FnOnce(&Path)) -> Self {
        let mut data = Self { name, temp: tempfile::tempdir().unwrap(), bytes: 0, archive: Vec::new() };
        for directory in ["live", "scratch", "out"] {
            std::fs::create_dir(data.temp.path().join(directory)).unwrap();
        }
        fill(&data.temp.path().join("live"));
        let mut archive = Vec::new();
        data.bytes = data.pack(&mut archive).payload_bytes;
        data.archive = archive;
        data
    }

    fn all() -> [Self; 3] {
        [
            Self::new("small files", |live| {
                for number in 0..FILES {
                    create(&live.join(format!("file-{number:08}.blob")), &text(FILE_BYTES, number as u64));
                }
            }),
            Self::new("compressible", |live| create(&live.join("ledger"), &text(LARGE, 1))),
            Self::new("incompressible", |live| create(&live.join("blob"), &noise(LARGE, 1))),
        ]
    }

    fn dir(&self, name: &str) -> Dir {
        Dir::open_ambient_dir(self.temp.path().join(name), ambient_authority()).unwrap()
    }

    fn pack(&self, out: &mut impl io::Write) -> Written {
        let (data, scratch) = (self.dir("live"), self.dir("scratch"));
        let payload = Payload {
            id: &id(0),
            instance: &instance(),
            created_at: time(0),
            scope: Scope::Data,
            data: &data,
            extra: Vec::new(),
            scratch: &scratch,
            exclude: &[],
        };
        write(&payload, Algorithm::Zstd, None, out, &Cancel::default(), &|_| ()).unwrap()
    }

    /// Unpacks into a new directory; how long that took. Many small files stay until the end: ext4 passes by
    /// each inode that was freed within the last minutes, and that would be measured instead.
    fn unpack(&self, number: usize) -> Duration {
        let (out, name) = (self.dir("out"), number.to_string());
        out.create_dir(&name).unwrap();
        let staging = out.open_dir(&name).unwrap();
        let options = ExtractOptions { limits: LIMITS, owners: Owners::Archive, base: None, proof: None };
        let began = Instant::now();
        let tar = decoder(Algorithm::Zstd, &self.archive[..]).unwrap();
        let unpacked = extract(tar, &id(0), &staging, &options, &Cancel::default(), &|_| ()).unwrap();
        let took = began.elapsed();
        if unpacked.entries.len() < FILES {
            let _removed = fs::remove_tree(&out, &name).unwrap();
        }
        took
    }
}

fn archives(criterion: &mut Criterion) {
    let all = Data::all();
    for (part, measure) in [("pack", pack as Measure), ("unpack", unpack), ("scan", look), ("digest", digest)]
    {
        let mut group = group(criterion, part);
        for data in &all {
            let _ = group.throughput(Throughput::Bytes(data.bytes));
            measure(&mut group, data);
        }
        group.finish();
    }
}

type Measure = fn(&mut BenchmarkGroup<'_, WallTime>, &Data);

fn pack(group: &mut BenchmarkGroup<'_, WallTime>, data: &Data) {
    let _ = group.bench_function(name(data.name), |bencher| bencher.iter(|| data.pack(&mut io::sink())));
}

/// Without the sync of the whole tree, which is the disk's work.
fn unpack(group: &mut BenchmarkGroup<'_, WallTime>, data: &Data) {
    let mut number = 0;
    let _ = group.bench_function(name(data.name), |bencher| {
        bencher.iter_custom(|count| {
            let once = |_| {
                number += 1;
                data.unpack(number)
            };
            (0..count).map(once).sum()
        });
    });
}

fn look(group: &mut BenchmarkGroup<'_, WallTime>, data: &Data) {
    let _ = group.bench_function(name(data.name), |bencher| {
        bencher.iter(|| {
            let tar = decoder(Algorithm::Zstd, &data.archive[..]).unwrap();
            scan(tar, &id(0), &LIMITS, &Cancel::default(), &mut |_, _| Ok(())).unwrap()
        });
    });
}

fn digest(group: &mut BenchmarkGroup<'_, WallTime>, data: &Data) {
    let live = data.dir("live");
    let _ = group.bench_function(name(data.name), |bencher| {
        let known = Known::default();
        bencher.iter(|| listing::digest(&live, &known, &Cancel::default(), &|_| ()).unwrap());
    });
}

fn documents(criterion: &mut Criterion) {
    let file = |number| Entry {
        path: PathBuf::from(format!(
            "data/data/user-files/file-{number:08x}-0000-4000-8000-000000000000.blob"
        )),
        kind: EntryKind::File,
        mode: 0o640,
        uid: 1000,
        gid: 1000,
        mtime: 1_795_487_992,
        mtime_nanos: 123_456_789,
        size: number,
        sha256: Some(Sha256::of(&number.to_le_bytes())),
        target: None,
        xattrs: BTreeMap::new(),
        sqlite: None,
    };
    let manifest = Manifest {
        format_version: 1,
        id: id(0),
        instance: instance(),
        created_at: time(0),
        generator: "abssctl".to_owned(),
        scope: Scope::Full,
        payload_bytes: (0..ENTRIES).sum(),
        entries: (0..ENTRIES).map(file).collect(),
    };
    let bytes = manifest.to_json().unwrap();
    let mut group = group(criterion, "manifest");
    let _ = group.throughput(Throughput::Elements(ENTRIES));
    let _ = group
        .bench_function(name("parse"), |bencher| bencher.iter(|| Manifest::parse(&bytes, &id(0)).unwrap()));
    group.finish();

    let plan = emit::to_yaml(&testing::sample_with_service()).unwrap();
    let mut group = self::group(criterion, "plan");
    let _ = group.throughput(Throughput::Bytes(plan.len() as u64));
    let _ = group.bench_function(name("validate"), |bencher| {
        bencher.iter(|| load::load("plan.yaml", plan.as_bytes()).unwrap());
    });
    group.finish();
}

fn backup_index(criterion: &mut Criterion) {
    let (_temp, root, config) = empty_root();
    let mut index = BackupIndex::load(&root, &config).unwrap();
    for number in 0..BACKUPS {
        index.add(backup(number)).unwrap();
    }
    index.save(&root).unwrap();
    let mut group = group(criterion, "index");
    let _ = group.throughput(Throughput::Elements(BACKUPS));
    let _ = group.bench_function(name("read"), |bencher| {
        bencher.iter(|| BackupIndex::load(&root, &config).unwrap());
    });
    // To the disk, synced.
    let _ = group.bench_function(name("write"), |bencher| bencher.iter(|| index.save(&root).unwrap()));
    group.finish();
}

fn operations(criterion: &mut Criterion) {
    let (_temp, root, config) = empty_root();
    let result = OperationResult::new(Status::Success, "Backup created.");
    let operation = |id: String| {
        let args = Map::from_iter([("name".to_owned(), json!("budget"))]);
        Operation::begin("backup create", args, actor()).with_id(id)
    };
    let lines = (0..LOG_LINES).map(|number| operation(format!("{number:026}")).line(0, &result));
    let _dir = root.ensure_dir(&config.logs_dir, 0o750).unwrap();
    create(&root.host_path(&config.operations_log()), lines.collect::<String>().as_bytes());
    let last = format!("{:026}", LOG_LINES - 1);
    let mut group = group(criterion, "operations log");
    let _ = group.bench_function(name("last line"), |bencher| {
        bencher.iter(|| operations_log::ends_torn(&root, &config).unwrap());
    });
    let _ = group.bench_function(name("find the last"), |bencher| {
        bencher.iter(|| assert!(operations_log::contains(&root, &config, &last).unwrap()));
    });
    // To the disk, synced.
    let _ = group.bench_function(name("append"), |bencher| {
        bencher.iter(|| operation(last.clone()).finish(&root, &config, 0, &result).unwrap());
    });
    group.finish();
}

fn group<'c>(criterion: &'c mut Criterion, part: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(part);
    let _ = group.sampling_mode(SamplingMode::Flat);
    group
}

/// What is measured, with the number of threads.
fn name(what: &str) -> String {
    match pool::threads() {
        1 => format!("{what}, 1 thread"),
        threads => format!("{what}, {threads} threads"),
    }
}

fn empty_root() -> (TempDir, Root, Config) {
    let temp = tempfile::tempdir().unwrap();
    let root = Root::open(temp.path()).unwrap();
    let config = Config::load(&root, &ConfigFlags::default(), &BTreeMap::new()).unwrap();
    (temp, root, config)
}

fn id(number: u64) -> BackupId {
    format!("20261124-022632-budget-{number:06x}").parse().unwrap()
}

fn instance() -> InstanceName {
    "budget".parse().unwrap()
}

fn time(hours: u64) -> Timestamp {
    Timestamp::from_second(1_795_487_992 + 3600 * i64::try_from(hours).unwrap()).unwrap()
}

fn actor() -> Actor {
    Actor { kind: ActorKind::User, name: "root".to_owned(), session: None }
}

fn backup(number: u64) -> NewBackup {
    let id = id(number);
    NewBackup {
        manifest: Sha256::of(b"manifest"),
        path: format!("/srv/backups/budget/{id}.tar.zst").parse().unwrap(),
        id,
        instance: instance(),
        created_at: time(number),
        algorithm: "zstd".to_owned(),
        size_bytes: 1_000_000 + number,
        sha256: Sha256::of(&number.to_le_bytes()),
        data_only: false,
        labels: vec!["nightly".to_owned()],
        compression_level: None,
        message: Some("before the upgrade".to_owned()),
        created_by: actor(),
    }
}

fn create(path: &Path, bytes: &[u8]) {
    File::create_new(path).unwrap().write_all(bytes).unwrap();
}

/// Numbers that look random, the same each time.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut next = random(seed);
    let mut bytes: Vec<u8> = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Text as a ledger has it: it compresses to a third.
fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut next = random(seed);
    let mut bytes = Vec::with_capacity(length + 100);
    let mut number = 0;
    while bytes.len() < length {
        let (key, amount) = (next(), next() % 100_000);
        number += 1;
        writeln!(
            bytes,
            "2026-{number:010} transactions/{key:016x}/amount/N:{amount}/notes/S:groceries at the shop"
        )
        .unwrap();
    }
    bytes.truncate(length);
    bytes
}
