//! Approvals: OpenSSH and this program agree on every signature, a signature covers the whole plan, and
//! `apply` goes by it. Real keys, the real `ssh-keygen` and `ssh-agent`, a real terminal.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]
#![expect(let_underscore_drop, reason = "what was proven is not needed any more")]
#![expect(clippy::let_underscore_must_use, reason = "what was proven is not needed any more")]
#![expect(clippy::disallowed_methods, reason = "tests make and break files as other programs do")]

mod agree;
mod attacks;
mod command;
mod covers;
mod keys;
mod policy;
mod rules;
#[path = "../it/support/mod.rs"]
#[expect(dead_code, reason = "shared with the other tests; not all of it is needed here")]
mod support;
