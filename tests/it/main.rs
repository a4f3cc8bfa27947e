//! The promises of the program, tried on the program: the real binary, a real instance, real files in a
//! temporary root. One module a promise. What a machine cannot do (no root, no strace) is skipped aloud.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]
#![expect(clippy::disallowed_methods, reason = "tests make and break files as other programs do")]

mod restore;
mod support;
