//! One fuzz target under libFuzzer: `ABSSCTL_TEST_FUZZ_TARGET` names it. Built and run by
//! `tests/fuzz/long.sh`. Reads and writes the corpus directory that it is given, and below `/dev/shm`.
#![no_main]

#[path = "../../targets/mod.rs"]
mod targets;

use std::sync::OnceLock;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fn target() -> targets::Target {
    let wanted = std::env::var("ABSSCTL_TEST_FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|(name, _)| *name == wanted);
    let names = || targets::ALL.map(|(name, _)| name).join(" ");
    found.unwrap_or_else(|| panic!("ABSSCTL_TEST_FUZZ_TARGET must be one of: {}", names())).1
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    TARGET.get_or_init(target)(bytes);
    drop(targets::noted());
});
