//! Killed at every call.

use crate::support::tools::skip_unless;
use crate::tracer;
use crate::worlds::{COMMANDS, Scene};

#[test]
fn counts() {
    if skip_unless("counts", tracer::works(), "ptrace is not permitted") {
        return;
    }
    for subject in COMMANDS {
        let scene = Scene::new(subject);
        let started = std::time::Instant::now();
        let traced = scene.watch();
        eprintln!("{}: {} mutating calls, {:?}", subject.name, traced.mutating(), started.elapsed());
        if std::env::var_os("SHOW").is_some() {
            traced.calls.iter().for_each(|call| eprintln!("{call}"));
        }
    }
}
