//! Fuzzing on stable: every target of `targets/` is fed its kept cases, then a fixed number of mutated
//! seeds, the same each time. An input that reaches something new (see [`targets::note`]) is kept and
//! mutated further. `ABSSCTL_TEST_FUZZ_SECONDS=1800` lets each target go on for so much CPU time,
//! `ABSSCTL_TEST_FUZZ_SEED=N` begins elsewhere. Long runs with libFuzzer: `tests/fuzz/long.sh`.
//!
//! A finding is written below `target/fuzz-findings/`; mended, it becomes a file in `cases/<target>/`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]
#![expect(clippy::disallowed_methods, reason = "tests make and break files as other programs do")]
#![expect(unreachable_pub, reason = "the targets are used by another crate too")]

mod mutate;
mod seeds;
mod targets;

use std::collections::HashSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mutate::Mutator;
use targets::Target;

/// CPU time that one input may take: far more than the slowest needs, on a slow machine, unoptimized.
const PER_INPUT: Duration = Duration::from_secs(20);
/// Memory that this process may have used at its end, all targets together.
const MEMORY_KIB: u64 = 1 << 20;
/// Inputs that are kept to be mutated, besides the seeds.
const KEPT: usize = 4000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not '{text}'")))
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// Straight to standard error, since the harness shows what a passing test prints to nobody.
fn say(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").unwrap();
}

/// Cases that were findings once, with their files.
fn cases(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/cases").join(name);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// One input; a finding is written to a file and fails the test. Gives what it reached.
fn feed(name: &str, target: Target, input: &[u8]) -> HashSet<u64> {
    let before = cpu();
    let ended = catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = cpu().saturating_sub(before);
    if ended.is_err() || took > PER_INPUT {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../fuzz-findings");
        std::fs::create_dir_all(&directory).unwrap();
        let digest = abssctl::ids::Sha256::of(input).to_string();
        let path = directory.join(format!("{name}-{}", &digest[..16]));
        std::fs::write(&path, input).unwrap();
        panic!("target {name}: {} ({took:?} of CPU time)", path.display());
    }
    targets::noted()
}

/// Runs a target: its cases, its seeds, then `rounds` inputs made from them.
fn fuzz(name: &str, rounds: u64) {
    let target = targets::ALL.iter().find(|(known, _)| *known == name).unwrap().1;
    let mut seen = HashSet::new();
    for (path, input) in cases(name) {
        // The name of a case that fails again is what a person wants to know first.
        let ended = catch_unwind(|| feed(name, target, &input));
        seen.extend(ended.unwrap_or_else(|_| panic!("the case {} fails again", path.display())));
    }
    let mut corpus = seeds::of(name);
    assert!(!corpus.is_empty(), "{name} has seeds");
    for seed in &corpus {
        seen.extend(feed(name, target, seed));
    }
    let from_seeds = seen.len();
    let start = number("ABSSCTL_TEST_FUZZ_SEED").unwrap_or(20_261_124);
    let limit = number("ABSSCTL_TEST_FUZZ_SECONDS").map(Duration::from_secs);
    let (mut mutator, begun, mut fed) = (Mutator::new(start ^ name.len() as u64, &corpus), cpu(), 0);
    while limit.map_or(fed < rounds, |limit| cpu().saturating_sub(begun) < limit) {
        let input = mutator.input(&corpus);
        let new: Vec<u64> = feed(name, target, &input).difference(&seen).copied().collect();
        if !new.is_empty() && corpus.len() < KEPT {
            corpus.push(input);
        }
        seen.extend(new);
        fed += 1;
    }
    say(&format!(
        "fuzz {name}: {fed} inputs from seed {start}, {} kept, {} things reached ({from_seeds} by the seeds), {:.1} s of CPU time",
        corpus.len(),
        seen.len(),
        cpu().saturating_sub(begun).as_secs_f64(),
    ));
    assert!(seen.len() > from_seeds, "mutation reaches nothing new: it does not do its work");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY_KIB, "{peak} KiB of memory");
}

macro_rules! targets {
    ($($test:ident: $name:literal, $rounds:literal;)*) => {
        $(#[test]
        fn $test() {
            fuzz($name, $rounds);
        })*

        #[test]
        fn every_target_is_run() {
            let run = [$($name),*];
            assert!(targets::ALL.iter().all(|(name, _)| run.contains(name)), "{run:?}");
        }
    };
}

targets! {
    plans: "plan", 1200;
    facts_documents: "facts", 6000;
    receipts: "receipt", 8000;
    archives: "archive", 10000;
    manifests: "manifest", 30000;
    indexes: "index", 10000;
    registries: "registry", 8000;
    rules_of_restore_yml: "rules", 8000;
    operation_logs: "log", 4000;
    records_of_migrations: "migrate", 40000;
    journals: "journal", 2500;
    lists_and_signatures: "signatures", 8000;
}

/// Writes the seeds of every target below the directory that the environment names: the corpus that
/// `tests/fuzz/long.sh` begins with.
#[test]
fn seeds_for_long_runs() {
    let Some(directory) = std::env::var_os("ABSSCTL_TEST_FUZZ_CORPUS") else { return };
    for (name, _) in targets::ALL {
        let directory = Path::new(&directory).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let all = seeds::of(name).into_iter().chain(cases(name).into_iter().map(|(_, case)| case));
        for seed in all {
            let digest = abssctl::ids::Sha256::of(&seed).to_string();
            std::fs::write(directory.join(&digest[..16]), seed).unwrap();
        }
    }
}
