//! `verify`: proves that the archive is the one that was planned: the size and SHA-256 of the plan, of
//! the index and of the sidecar agree with the bytes. Where the plan names the manifest's SHA-256, the manifest
//! is read alone, and proves the rest as it is unpacked. Changes nothing.

use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::Arc;

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::pass::BLOCK;
use crate::archive::{self, Limits};
use crate::host::digest::{Piece, Pieces};
use crate::host::fs::IoContext as _;
use crate::ids::Sha256;
use crate::plan::spec::BackupSource;
use crate::plan::step::Step;
use crate::store;
use crate::survey::archive as survey_archive;

/// The code of `verify`.
#[derive(Debug)]
pub struct Verify;

impl StepRunner for Verify {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let source = cx.archive(step.kind())?;
        // Dropped without a proof on any error, which fails `extract`.
        let feed = cx.shared.pass.feed();
        store::inspect(&cx.host.root, &cx.host.config, &source.path, source.size_bytes, source.sha256)?;
        let archive = store::open(&cx.host.root, &cx.host.config, &source.path)?;
        if let Some(planned) = cx.plan.spec.manifest_proof() {
            require_manifest(cx, source, planned, archive.file)?;
            return Ok(Done::new("its manifest is the planned one and proves what is unpacked"));
        }
        let (mut file, path) = (archive.file, cx.host.root.host_path(&source.path));
        let (mut digest, mut blocks) = (Pieces::default(), Blocks::default());
        let mut read = 0_u64;
        loop {
            cx.check_cancelled()?;
            let mut block = blocks.free(&digest);
            block.resize(BLOCK, 0);
            let count = file.read(&mut block).context("read", &path)?;
            if count == 0 {
                break;
            }
            block.truncate(count);
            let block = Arc::new(block);
            if let Some(feed) = &feed {
                feed.send(Arc::clone(&block));
            }
            digest.push(block);
            read += count as u64;
            (cx.progress)(&step.id, read);
        }
        let found = digest.finish();
        if found != source.sha256 {
            return Err(StepError::Checksum { path: source.path.clone(), found, planned: source.sha256 });
        }
        if let Some(feed) = feed {
            feed.prove();
        }
        Ok(Done::new(format!("{read} bytes, SHA-256 as planned")))
    }

    fn undo(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<(), StepError> {
        Ok(())
    }

    fn probe(&self, _cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        Ok(Probe::NotBegun)
    }
}

/// Blocks that are part of the digest, and wait for `extract` to be done with them.
#[derive(Default)]
struct Blocks(VecDeque<Piece>);

impl Blocks {
    /// The memory of one that nobody needs any more, or none.
    fn free(&mut self, digest: &Pieces) -> Vec<u8> {
        self.0.extend(std::iter::from_fn(|| digest.taken()));
        // They are read in their order.
        let is_free = self.0.front_mut().is_some_and(|block| Arc::get_mut(block).is_some());
        let free = if is_free { self.0.pop_front() } else { None };
        free.and_then(Arc::into_inner).unwrap_or_default()
    }
}

fn require_manifest(
    cx: &StepContext<'_>,
    source: &BackupSource,
    planned: Sha256,
    file: std::fs::File,
) -> Result<(), StepError> {
    let held = cx.plan.observed.backup.as_ref();
    let entries = held.map_or(archive::MAX_ENTRIES, |held| held.entries);
    let limits = Limits { bytes: held.map_or(u64::MAX, |held| held.unpacked_bytes), entries };
    let tar = archive::decoder(survey_archive::algorithm(source.algorithm), file)?;
    let proven = archive::require_manifest(tar, &source.backup_id, &limits, planned, &cx.stop);
    cx.check_cancelled()?;
    Ok(proven?)
}
