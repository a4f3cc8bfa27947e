//! `verify`: proves that the archive is the one that was planned: the size and SHA-256 of the plan, of
//! the index and of the sidecar agree with the bytes. Changes nothing.

use std::io::Read as _;

use sha2::Digest as _;

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::pass::BLOCK;
use crate::host::fs::IoContext as _;
use crate::ids::Sha256;
use crate::plan::step::Step;
use crate::store;

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
        let (mut file, path) = (archive.file, cx.host.root.host_path(&source.path));
        let mut hasher = sha2::Sha256::new();
        let mut buffer = Vec::new();
        let mut read = 0_u64;
        loop {
            cx.check_cancelled()?;
            buffer.resize(BLOCK, 0);
            let count = file.read(&mut buffer).context("read", &path)?;
            if count == 0 {
                break;
            }
            buffer.truncate(count);
            hasher.update(&buffer);
            if let Some(feed) = &feed {
                buffer = feed.send(buffer);
            }
            read += count as u64;
            (cx.progress)(&step.id, read);
        }
        let found = Sha256::from_bytes(hasher.finalize().into());
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
