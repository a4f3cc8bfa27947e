//! What a power cut leaves, tried: the real binary on real file systems over a disk that logs each write
//! and flush (`cut`), and in a strict model of a file system that gives only what was synced (`model`).
//! Needs root, `/dev/fuse` and loop devices; what a machine cannot do is skipped aloud.
//!
//! A sample by a fixed seed, or all of it: `ABSSCTL_TEST_CRASH=all cargo test --test power -- --nocapture`;
//! another sample with `ABSSCTL_TEST_SEED=N`. Nothing outside temporary directories is changed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]
#![expect(let_underscore_drop, reason = "what was proven is not needed any more")]
#![expect(clippy::let_underscore_must_use, reason = "what was proven is not needed any more")]
#![expect(clippy::disallowed_methods, reason = "tests make and break files as other programs do")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the kernel's arguments are numbers of 64 bits that mean smaller ones"
)]

mod block_log;
#[path = "../crash/calls.rs"]
mod calls;
mod cut;
mod disk;
mod model;
mod oracle;
#[path = "../crash/promise.rs"]
#[expect(dead_code, reason = "shared with the tests that kill")]
mod promise;
mod random;
mod scenario;
mod states;
mod strict;
#[path = "../it/support/mod.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod support;
#[path = "../crash/tracer.rs"]
#[expect(dead_code, reason = "shared with the tests that kill")]
mod tracer;
mod watch;

/// Says how far a test has come, also when it passes.
fn say(text: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr().lock(), "{text}").unwrap();
}
