//! Notes in the journal what a whole tree of this run was: the one that is put in place before the swap,
//! the displaced one after it. Evidence for the receipt, so a tree that cannot be read is a warning here,
//! and never what a restore fails for. Reads only; after a crash the digest is computed again.

use super::context::{Done, StepContext};
use super::error::StepError;
use super::staging;
use crate::host::fs::IoContext as _;
use crate::host::stamp::Known;
use crate::ids::{AbsPath, Sha256};
use crate::plan::step::Step;
use crate::run::fact::{Fact, Side};
use crate::survey::listing;

/// Digests the tree in `directory`, but for files whose digest is known, and notes it; where that is not
/// possible, says so in `done`.
pub(super) fn note(
    cx: &StepContext<'_>,
    step: &Step,
    side: Side,
    directory: &AbsPath,
    known: &Known,
    done: &mut Done,
) -> Result<(), StepError> {
    let progress = |bytes: u64| (cx.progress)(&step.id, bytes);
    let digest = || -> Result<Sha256, StepError> {
        let dir = staging::tree(cx.host, directory)?
            .ok_or_else(|| StepError::Changed { what: format!("{directory} is gone") })?;
        let path = cx.host.root.host_path(directory);
        Ok(listing::digest(&dir, known, &cx.stop, &progress).context("read", path)?)
    };
    match digest() {
        Ok(sha256) => cx.note(step, Fact::Tree { side, sha256 }),
        Err(error) => {
            let which = match side {
                Side::Before => "displaced",
                Side::After => "new",
            };
            done.warnings.push(format!("the digest of the {which} tree is not known: {error}"));
            Ok(())
        }
    }
}

/// Digests the displaced tree, once it is displaced and as long as nothing was noted of it.
pub(super) fn note_displaced(cx: &StepContext<'_>, step: &Step, done: &mut Done) -> Result<(), StepError> {
    let displaced = cx.fact(|fact| fact.displaced().cloned());
    match displaced.filter(|_| cx.tree(Side::Before).is_none()) {
        // It lies where the target did, on the same file system.
        Some(displaced) => note(cx, step, Side::Before, &displaced, &cx.host.known, done),
        None => Ok(()),
    }
}
