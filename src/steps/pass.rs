//! One reading of one open archive for both `verify` and `extract`, so that what was decoded is what
//! was hashed: `verify` reads and hashes, and hands each block on through a bounded queue; `extract`
//! takes its end for the archive's only once `verify` said that the digest is the planned one.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::context::lock;
use crate::host::digest::Piece;

/// Blocks that wait for `extract`: with 256 KiB each, 2 MiB whatever the archive's size. As many may wait for their
/// digest.
const QUEUE: usize = 8;

/// Bytes of one block.
pub const BLOCK: usize = 256 << 10;

enum Block {
    Bytes(Piece),
    /// The archive is over and is the planned one.
    Proven,
}

/// Both ends of the queue, until the steps take them. Empty when the steps read on their own.
#[derive(Default)]
pub struct Pass {
    feed: Mutex<Option<Feed>>,
    source: Mutex<Option<Source>>,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").finish_non_exhaustive()
    }
}

impl Pass {
    /// Connects the two steps: called before either begins, when both will run in this process.
    pub fn connect(&self) {
        let (blocks, receiver) = sync_channel(QUEUE);
        *lock(&self.feed) = Some(Feed { blocks });
        *lock(&self.source) = Some(Source { receiver, block: Piece::default(), at: 0, proven: false });
    }

    /// Drops whatever end was not taken, so that no step waits for one that will not run.
    pub fn disconnect(&self) {
        *lock(&self.feed) = None;
        *lock(&self.source) = None;
    }

    /// The end that `verify` feeds; `None` when it reads alone.
    pub fn feed(&self) -> Option<Feed> {
        lock(&self.feed).take()
    }

    /// The end that `extract` reads from; `None` when it reads on its own.
    pub fn source(&self) -> Option<Source> {
        lock(&self.source).take()
    }
}

/// The end that `verify` feeds.
#[derive(Debug)]
pub struct Feed {
    blocks: SyncSender<Block>,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Block::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Block::Proven => write!(f, "Proven"),
        }
    }
}

impl Feed {
    /// Hands a block on; waits where the reader has enough. A reader that is gone does not stop the hashing.
    pub fn send(&self, block: Piece) {
        drop(self.blocks.send(Block::Bytes(block)));
    }

    /// Says that all blocks together have the planned digest.
    pub fn prove(self) {
        // A reader that is gone has failed by itself.
        drop(self.blocks.send(Block::Proven));
    }
}

/// The archive's bytes as `extract` reads them: ends only after the proof.
#[derive(Debug)]
pub struct Source {
    receiver: Receiver<Block>,
    block: Piece,
    at: usize,
    proven: bool,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.proven {
            match self.receiver.recv() {
                Ok(Block::Bytes(block)) => {
                    (self.block, self.at) = (block, 0);
                }
                Ok(Block::Proven) => self.proven = true,
                Err(_) => return Err(io::Error::other("the archive was not proven to be the planned one")),
            }
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(feed: &Feed, blocks: &[&str]) {
        for block in blocks {
            feed.send(Piece::new(block.as_bytes().to_vec()));
        }
    }

    #[test]
    fn the_reader_ends_only_after_the_proof() {
        let pass = Pass::default();
        pass.connect();
        let (feed, mut source) = (pass.feed().unwrap(), pass.source().unwrap());
        send(&feed, &["abc", "", "def"]);
        feed.prove();
        let mut text = String::new();
        source.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcdef");
    }

    #[test]
    fn without_a_proof_the_reader_fails() {
        let pass = Pass::default();
        pass.connect();
        let (feed, mut source) = (pass.feed().unwrap(), pass.source().unwrap());
        send(&feed, &["abc"]);
        drop(feed);
        assert!(source.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_reader_that_is_gone_does_not_block_the_hashing() {
        let pass = Pass::default();
        pass.connect();
        let feed = pass.feed().unwrap();
        pass.disconnect();
        send(&feed, &["abc"; 20]);
    }
}
