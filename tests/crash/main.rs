//! Pulls the plug: the program is killed, and fails, at each of its calls of the kernel that change
//! something; whatever happens, the live directory is old or new, nothing is lost, and the same command
//! ends well.
//!
//! A sample by a fixed seed runs here; all of it with `ABSSCTL_TEST_CRASH=all cargo test --test crash`.
//! It needs x86-64 and permission to trace its own processes; without, it says aloud that it is skipped.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
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

mod calls;
mod chance;
mod faults;
mod kill;
mod neighbours;
mod promise;
mod reader;
mod self_test;
mod tracer;
mod worlds;

#[path = "../it/support/mod.rs"]
#[expect(dead_code, reason = "another binary of tests uses the rest")]
mod support;
