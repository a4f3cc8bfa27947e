//! A whole machine as operators have it: systemd, nginx, the real Actual server as a unit under its own user,
//! booted with systemd-nspawn from the Debian that `make-root.sh` makes. While the real binary restores in it,
//! a client asks nginx without end and says which state each answer belongs to.
//! Needs root, systemd-nspawn, that Debian and the real server; what a machine lacks is skipped aloud.
//!
//! A few restores are timed, or twenty: `ABSSCTL_TEST_APPLIANCE=all cargo test --test appliance -- --nocapture`.
//! Changed are temporary directories below target/ and, while a machine runs, control groups of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]
#![expect(let_underscore_drop, reason = "what was proven is not needed any more")]
#![expect(clippy::let_underscore_must_use, reason = "what was proven is not needed any more")]
#![expect(clippy::disallowed_methods, reason = "tests make and break files as other programs do")]

mod assets;
mod cgroup;
mod http;
mod instance;
mod kill;
mod machine;
mod odd;
mod power;
mod restore;
mod serving;
mod state;
#[path = "../it/support/mod.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod support;
mod times;
mod watch;

/// Whether everything is wanted, and not only what takes a minute.
fn is_all() -> bool {
    std::env::var("ABSSCTL_TEST_APPLIANCE").is_ok_and(|how| how == "all")
}

/// Says how far a test has come, also when it passes.
fn say(text: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr().lock(), "{text}").unwrap();
}
