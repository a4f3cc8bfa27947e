//! Proof by kill: each command is killed at each of its calls that change something, runs again, is killed
//! in that too, and in the end all is as if nothing had happened.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use crate::calls::Kind;
use crate::chance::Chance;
use crate::promise::Violations;
use crate::support::TestRoot;
use crate::support::tools::{Mount, is_root, noise, skip_unless};
use crate::tracer::{self, Act, Tracer};
use crate::worlds::{self, COMMANDS, Scene, Subject, everything, subject};

/// How many places of each command the sample has beside those where a name changes.
const SAMPLE: usize = 4;

pub(crate) fn skip(test: &str) -> bool {
    skip_unless(test, tracer::works(), "ptrace is not permitted")
}

/// Says how far a test has come, also when it passes.
pub(crate) fn say(text: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr().lock(), "{text}").unwrap();
}

#[track_caller]
pub(crate) fn assert_kept(found: &Violations) {
    assert!(found.is_empty(), "{} promises are broken:\n{}", found.len(), found.join("\n"));
}

/// Runs the command to its good end and judges that.
fn ends_well(scene: &Scene, root: &TestRoot, attempts: usize) -> Violations {
    let ran = crate::support::Ran::of(&mut scene.command(root));
    if ran.code != 0 {
        return vec![format!("running it again fails with {}: {}{}", ran.code, ran.stdout, ran.stderr)];
    }
    scene.promise.after_rerun(root, attempts)
}

/// Kills it at one call after the other of as many runs; then it must end well.
fn killed(scene: &Scene, root: &TestRoot, numbers: &[usize]) -> Violations {
    let mut places = String::new();
    let mut found = Vec::new();
    let mut attempts = 0;
    for number in numbers {
        let traced = Tracer::new(&scene.command(root)).kill_at(*number);
        let Some(at) = &traced.at else {
            // It made fewer calls this time and came to its end.
            let ended =
                if traced.ran.code == 0 { scene.promise.after_rerun(root, attempts) } else { Vec::new() };
            if traced.ran.code != 0 {
                found.push(format!("it fails with {}: {}", traced.ran.code, traced.ran.stdout));
            }
            found.extend(ended);
            return named(scene, &places, found);
        };
        attempts += 1;
        places.push_str(&format!("{}killed at {at}", if places.is_empty() { "" } else { ", then " }));
        found.extend(scene.promise.after_crash(root));
    }
    if found.is_empty() {
        found.extend(ends_well(scene, root, attempts));
    }
    named(scene, &places, found)
}

fn named(scene: &Scene, places: &str, found: Violations) -> Violations {
    found.into_iter().map(|what| format!("{}: {places}: {what}", scene.name)).collect()
}

/// Kills the command at each of these calls, each in a world of its own.
fn kill_at_each(scene: &Scene, numbers: impl IntoIterator<Item = usize>) -> (usize, Violations) {
    let numbers: Vec<usize> = numbers.into_iter().collect();
    let cases: Vec<Vec<usize>> = numbers.iter().map(|number| vec![*number]).collect();
    (cases.len(), all(scene, &cases))
}

/// Runs cases on both cores that a small machine has.
fn all(scene: &Scene, cases: &[Vec<usize>]) -> Violations {
    let found = Mutex::new(Vec::new());
    let half = cases.len().div_ceil(2).max(1);
    std::thread::scope(|scope| {
        for cases in cases.chunks(half) {
            let found = &found;
            let _ = scope.spawn(move || {
                for case in cases {
                    let broken = killed(scene, &scene.world(), case);
                    if !broken.is_empty() {
                        say(&broken.join("\n"));
                    }
                    found.lock().unwrap().extend(broken);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

fn at_every_call(name: &str) {
    if skip(name) {
        return;
    }
    kill_everywhere(&Scene::new(subject(name)));
}

fn kill_everywhere(scene: &Scene) {
    let name = scene.name;
    let traced = scene.watch();
    let calls = traced.mutating();
    let numbers: BTreeSet<usize> = if everything() {
        (1..=calls).collect()
    } else {
        // Names that change hands are where things can go wrong: before each, and after the exchange.
        let renames = traced.calls.iter().filter(|call| call.kind == Kind::Rename);
        let after = |call: &crate::tracer::Call| usize::from(call.name == "renameat2");
        let around = renames.flat_map(|call| [call.number, call.number + after(call)]);
        around.chain(Chance::of(name).some_of(1..=calls, SAMPLE)).collect()
    };
    let (cases, found) = kill_at_each(scene, numbers);
    say(&format!(
        "{name}: {calls} calls change something, killed at {cases} of them, {} violations",
        found.len()
    ));
    assert_kept(&found);
}

#[test]
fn an_apply_killed_at_every_call() {
    at_every_call("apply");
}

#[test]
fn an_apply_of_one_budget_killed_at_every_call() {
    at_every_call("apply-budget");
}

#[test]
fn an_apply_to_a_new_directory_killed_at_every_call() {
    at_every_call("apply-dest");
}

#[test]
fn an_apply_of_what_differs_killed_at_every_call() {
    at_every_call("apply-delta");
}

/// A large file of another state is unpacked over a copy that shares its content.
#[test]
fn an_apply_that_shares_content_killed_at_every_call() {
    const LARGE: &str = "srv/budget/data/user-files/large";
    let name = "apply-shared";
    if skip(name) || skip_unless(name, is_root(), "needs root, to mount a file system") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = Mount::image("xfs", dir.path());
    let shared = Subject::live(name, |root| {
        root.write(LARGE, noise(1 << 20));
        let made = root.json(&["backup", "create", "budget"]).ok().json();
        let file = std::fs::File::options().write(true).open(root.path(LARGE)).unwrap();
        file.write_all_at(b"other", 500_000).unwrap();
        worlds::apply(root, &[made["id"].as_str().unwrap(), "--transfer", "delta"])
    });
    kill_everywhere(&Scene::below(&shared, mount.path()));
}

#[test]
fn an_apply_that_resets_clients_killed_at_every_call() {
    at_every_call("apply-reset");
}

#[test]
fn an_apply_with_unit_and_vhost_killed_at_every_call() {
    at_every_call("apply-assets");
}

#[test]
fn a_backup_killed_at_every_call() {
    at_every_call("backup-create");
}

#[test]
fn a_prune_of_backups_killed_at_every_call() {
    at_every_call("backup-prune");
}

#[test]
fn a_rollback_killed_at_every_call() {
    at_every_call("run-rollback");
}

#[test]
fn a_prune_of_runs_killed_at_every_call() {
    at_every_call("run-prune");
}

#[test]
fn every_command_has_its_test() {
    let source = include_str!("kill.rs");
    for subject in COMMANDS {
        assert!(source.contains(&format!("at_every_call(\"{}\")", subject.name)), "{}", subject.name);
    }
}

/// The places of a first kill that leave different journals: one call for each length of the journal.
fn distinct_places(scene: &Scene) -> Vec<usize> {
    let root = scene.world();
    let runs = root.path("var/lib/abssctl/runs");
    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    let _ = Tracer::new(&scene.command(&root)).run(|call| {
        if call.number > 0 && seen.insert(records(&runs)) {
            places.push(call.number);
        }
        Act::Go
    });
    places
}

/// How many records all journals have.
fn records(runs: &Path) -> usize {
    let Ok(runs) = std::fs::read_dir(runs) else { return 0 };
    let lines = |path: std::path::PathBuf| {
        std::fs::read_to_string(path.join("journal.jsonl")).map_or(0, |text| 1 + text.lines().count())
    };
    runs.flatten().map(|run| lines(run.path())).sum()
}

/// How many calls the command makes that follows a kill: until the killed run is finished or undone, and
/// all together. Where it is undone, the plan begins anew with the directory of another run.
fn recovery_of(scene: &Scene, first: usize) -> (usize, usize) {
    let root = scene.world();
    let _ = Tracer::new(&scene.command(&root)).kill_at(first);
    let traced = Tracer::new(&scene.command(&root)).watch();
    let runs = root.path("var/lib/abssctl/runs");
    let anew = traced.calls.iter().find(|call| {
        call.name.starts_with("mkdir") && call.paths.last().and_then(|path| path.parent()) == Some(&runs)
    });
    (anew.map_or_else(|| traced.mutating(), |call| call.number), traced.mutating())
}

#[test]
fn a_recovery_killed_at_every_call() {
    if skip("a_recovery_killed_at_every_call") {
        return;
    }
    let scene = Scene::new(&COMMANDS[0]);
    let places = distinct_places(&scene);
    assert!(places.len() > 20, "{places:?}");
    let mut chance = Chance::of("recovery");
    let firsts = if everything() { places.clone() } else { chance.some_of(places.iter().copied(), 5) };
    let mut cases = Vec::new();
    for (at, first) in firsts.into_iter().enumerate() {
        let (until, calls) = recovery_of(&scene, first);
        // What begins anew is an apply like any other: it is broken whole after one of the kills.
        let calls = if at == places.len() / 2 { calls } else { until };
        let seconds = if everything() { (1..=calls).collect() } else { chance.some_of(1..=calls, 2) };
        cases.extend(seconds.into_iter().map(|second| vec![first, second]));
    }
    let found = all(&scene, &cases);
    say(&format!(
        "recovery: {} distinct places of a first kill, {} cases of a second one, {} violations",
        places.len(),
        cases.len(),
        found.len()
    ));
    assert_kept(&found);
}

#[test]
fn a_recovery_killed_again_and_again() {
    if skip("a_recovery_killed_again_and_again") {
        return;
    }
    let scene = Scene::new(&COMMANDS[0]);
    let places = distinct_places(&scene);
    let wanted = if everything() { places.len() } else { 1 };
    let length = if everything() { 60 } else { 6 };
    // Its recovery is killed at its first call, the next one at its second, and so on.
    let chain = |first: usize| std::iter::once(first).chain(1..=length).collect();
    let cases: Vec<Vec<usize>> =
        Chance::of("chains").some_of(places, wanted).into_iter().map(chain).collect();
    let found = all(&scene, &cases);
    say(&format!("chains: {} of {length} kills each, {} violations", cases.len(), found.len()));
    assert_kept(&found);
}

#[test]
fn the_tree_is_whole_between_any_two_calls() {
    if skip("the_tree_is_whole_between_any_two_calls") {
        return;
    }
    for subject in COMMANDS.iter().filter(|subject| subject.name.starts_with("apply")) {
        if !everything() && subject.name != "apply" {
            continue;
        }
        let scene = Scene::new(subject);
        let root = scene.world();
        let mut found = Vec::new();
        let mut looks = 0;
        let traced = Tracer::new(&scene.command(&root)).run(|call| {
            looks += 1;
            let broken = scene.promise.trees_only(&root);
            found.extend(broken.into_iter().map(|what| format!("{} before {call}: {what}", scene.name)));
            Act::Go
        });
        assert_eq!(traced.ran.code, 0, "{}{}", traced.ran.stdout, traced.ran.stderr);
        say(&format!("{}: {looks} looks between two calls, {} violations", scene.name, found.len()));
        assert_kept(&found);
    }
}

#[test]
fn a_large_instance_killed_at_500_calls() {
    if skip("a_large_instance_killed_at_500_calls") || !everything() {
        return;
    }
    let fill = |root: &TestRoot| {
        for number in 0..5000_u32 {
            let path =
                format!("srv/budget/data/user-files/file-{number:08x}-0000-4000-8000-000000000000.blob");
            root.write(path, number.to_be_bytes());
        }
        // Of that very tree a backup is restored after some of it has changed.
        let _ = root.run(&["backup", "create", "budget", "--yes"]).ok();
        for number in 0..50_u32 {
            let path =
                format!("srv/budget/data/user-files/file-{number:08x}-0000-4000-8000-000000000000.blob");
            root.write(path, "changed");
        }
    };
    let newest = Subject::newest("apply-5000");
    let scene = Scene::with(&newest, &worlds::quick(), fill);
    let calls = scene.watch().mutating();
    let (cases, found) = kill_at_each(&scene, Chance::of("large").some_of(1..=calls, 500));
    say(&format!("5,000 files: {calls} calls, killed at {cases}, {} violations", found.len()));
    assert_kept(&found);
}
