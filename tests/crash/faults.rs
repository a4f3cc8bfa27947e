//! Calls of the kernel that fail, one at a time: the command says so with a code and the place, everything
//! is as it was or as promised, and without the fault the same command works.

use std::path::Path;

use nix::errno::Errno;
use serde_json::Value;

use crate::calls::Kind;
use crate::chance::Chance;
use crate::kill::{assert_kept, say, skip};
use crate::promise::Violations;
use crate::support::TestRoot;
use crate::tracer::{Act, Call, Tracer};
use crate::worlds::{Scene, everything, subject};

/// How many calls of each kind of fault the sample has.
const SAMPLE: usize = 2;

/// A fault, and the calls that can have it.
struct Fault {
    errno: Errno,
    kinds: &'static [Kind],
}

const FAULTS: &[Fault] = &[
    Fault { errno: Errno::ENOSPC, kinds: &[Kind::Create, Kind::Write, Kind::Rename] },
    Fault { errno: Errno::EDQUOT, kinds: &[Kind::Create, Kind::Write] },
    Fault { errno: Errno::EIO, kinds: &[Kind::Write, Kind::Sync] },
    Fault { errno: Errno::EIO, kinds: &[Kind::Read] },
    Fault { errno: Errno::EACCES, kinds: &[Kind::Create, Kind::Rename, Kind::Remove, Kind::Meta] },
    Fault { errno: Errno::EROFS, kinds: &[Kind::Create, Kind::Rename, Kind::Remove] },
];

/// One call in the order of those below the root that can fail so.
fn fail_at(
    scene: &Scene,
    root: &TestRoot,
    fault: &Fault,
    number: usize,
) -> (Option<Call>, crate::support::Ran) {
    let base = root.path("/");
    let mut seen = 0;
    let traced = Tracer::new(&scene.command(root)).with_reads().run(|call| {
        seen += usize::from(concerns(fault, call, &base));
        if seen == number && concerns(fault, call, &base) { Act::Fail(fault.errno) } else { Act::Go }
    });
    (traced.at, traced.ran)
}

fn concerns(fault: &Fault, call: &Call, base: &Path) -> bool {
    fault.kinds.contains(&call.kind) && call.paths.iter().any(|path| path.starts_with(base))
}

/// How many calls can fail so.
fn count(scene: &Scene, fault: &Fault) -> usize {
    let root = scene.world();
    let base = root.path("/");
    let traced = Tracer::new(&scene.command(&root)).with_reads().watch();
    traced.calls.iter().filter(|call| concerns(fault, call, &base)).count()
}

/// Lets one call fail, judges what that leaves, and runs the command again without.
fn failed(scene: &Scene, fault: &Fault, number: usize) -> Violations {
    let root = scene.world();
    let (at, ran) = fail_at(scene, &root, fault, number);
    let Some(at) = at else { return Vec::new() };
    let mut found = scene.promise.after_crash(&root);
    let mut attempts = 0;
    match ran.code {
        // It can do without: a leftover that was not removed, room that was not reserved.
        0 => {}
        3 | 4 | 7 => {
            attempts = 1;
            found.extend(told(&ran.stdout, &at, &root));
            let undone = serde_json::from_str::<Value>(&ran.stdout)
                .is_ok_and(|error| error["result"]["outcome"] == "rolled_back");
            // What a backup could not remove the next one does.
            if undone || scene.is_repeated && at.kind != Kind::Remove {
                found.extend(scene.promise.after_failure(&root));
            }
        }
        code => found.push(format!("it ends with {code}: {}{}", ran.stdout, ran.stderr)),
    }
    if found.is_empty() {
        if ran.code == 0 && !scene.is_repeated {
            found.extend(scene.promise.after_rerun(&root, 0));
        }
        let again = crate::support::Ran::of(&mut scene.command(&root));
        if again.code == 0 {
            found.extend(scene.promise.after_rerun(&root, attempts + 1));
        } else {
            found.push(format!(
                "running it again fails with {}: {}{}",
                again.code, again.stdout, again.stderr
            ));
        }
    }
    if at.kind == Kind::Remove && !found.is_empty() {
        // What could not be removed stays, and the program says so when it is asked.
        let doctor = root.json(&["doctor"]).stdout;
        found.retain(|what| !named_by(&doctor, what));
    }
    let place = format!("{}: {} at {at} (exit {})", scene.name, fault.errno, ran.code);
    found.into_iter().map(|what| format!("{place}: {what}")).collect()
}

/// Whether a violation is a leftover that this text names, or lies in one.
fn named_by(text: &str, what: &str) -> bool {
    let Some((path, _)) = what.split_once(" is left, and nothing names it") else { return false };
    let near = Path::new(path).ancestors().filter(|near| near.components().count() >= 3);
    near.into_iter().any(|near| text.contains(&format!("/{} ", near.display())))
}

/// The error has a code and a help, and names the place.
fn told(stdout: &str, at: &Call, root: &TestRoot) -> Violations {
    let Ok(error) = serde_json::from_str::<Value>(stdout) else {
        return vec![format!("its error is no JSON: {stdout}")];
    };
    let mut found = Vec::new();
    for key in ["code", "message", "help"] {
        if error[key].as_str().is_none_or(str::is_empty) {
            found.push(format!("the error has no {key}: {error:#}"));
        }
    }
    let text = format!("{} {}", error["message"].as_str().unwrap_or_default(), error["problems"]);
    let base = root.path("/");
    let names = |path: &Path| {
        // The file, or the directory that it lies in; of what is private, the target that it is for.
        let near = path.ancestors().take(5).filter(|near| near.components().count() >= 2);
        near.map(|near| near.display().to_string()).any(|near| text.contains(&near))
            // Of a directory near the root: what was to be made in it.
            || text.contains(&base.join(path).display().to_string())
            || path.starts_with("srv/.abssctl") && text.contains("/srv/budget")
            // A copy of a database is read in the name of the database.
            || path.display().to_string().contains(".scratch/") && text.contains("/srv/budget/data/")
    };
    let named = at.paths.iter().filter_map(|path| path.strip_prefix(&base).ok()).any(names);
    if !named {
        found.push(format!("the message does not say where: {text}"));
    }
    found
}

fn faults(name: &str) {
    if skip(name) {
        return;
    }
    let scene = Scene::new(subject(name));
    let mut chance = Chance::of(&format!("faults {name}"));
    let mut found = Vec::new();
    let mut cases = 0;
    for fault in FAULTS {
        let all = count(&scene, fault);
        let reads = fault.kinds == [Kind::Read];
        let wanted = match (everything(), reads) {
            (false, _) => SAMPLE,
            (true, true) => 100,
            (true, false) => usize::MAX,
        };
        let numbers = chance.some_of(1..=all, wanted);
        say(&format!("{name}: {} at {} of {all} calls {:?}", fault.errno, numbers.len(), fault.kinds));
        cases += numbers.len();
        for number in numbers {
            let broken = failed(&scene, fault, number);
            if !broken.is_empty() {
                say(&broken.join("\n"));
            }
            found.extend(broken);
        }
    }
    say(&format!("{name}: {cases} faults, {} violations", found.len()));
    assert_kept(&found);
}

#[test]
fn an_apply_whose_calls_fail() {
    faults("apply");
}

#[test]
fn a_backup_whose_calls_fail() {
    faults("backup-create");
}
