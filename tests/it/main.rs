//! The promises of the program, tried on the program: the real binary, a real instance, real files in a
//! temporary root. One module a promise. What a machine cannot do (no root, no strace) is skipped aloud.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]
#![expect(let_underscore_drop, reason = "what was proven is not needed any more")]
#![expect(clippy::let_underscore_must_use, reason = "what was proven is not needed any more")]
#![expect(clippy::disallowed_methods, reason = "tests make and break files as other programs do")]

mod all_files;
mod assets;
mod backup;
mod backup_prune;
mod cli;
mod clients;
mod destinations;
mod doctor;
mod drift;
mod facts;
mod hostile;
mod incomplete;
mod large_state;
mod locks;
mod lost_journal;
mod messages;
mod mount_point;
mod one_budget;
mod plan_files;
mod policy;
mod preview_drift;
mod prompts;
mod readonly;
mod receipt;
mod redaction;
mod restore;
mod resume;
mod review;
mod rollback;
mod sarif;
mod service;
mod stake;
mod supply;
#[expect(dead_code, reason = "tests/crash uses the rest")]
mod support;
mod threads;
mod transfer;
mod versions;
