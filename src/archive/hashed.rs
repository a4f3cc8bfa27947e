//! A reader that hashes what passes through it: the digest of an archive in the same pass that decodes it.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};

use sha2::Digest as _;

use crate::host::cancel::Cancel;
use crate::host::pool::Strand;
use crate::ids::Sha256;

/// Hashes what is read through it.
#[derive(Debug)]
pub struct HashingReader<R> {
    input: R,
    hasher: sha2::Sha256,
}

impl<R: Read> HashingReader<R> {
    /// Wraps a reader.
    pub fn new(input: R) -> Self {
        Self { input, hasher: sha2::Sha256::new() }
    }

    /// The digest of what was read so far.
    pub fn digest(self) -> Sha256 {
        Sha256::from_bytes(self.hasher.finalize().into())
    }

    /// Reads what a decoder left and gives the digest of all of it.
    pub fn finish(self) -> io::Result<Sha256> {
        // Much may be left, so that the pieces are larger than those of `io::copy`.
        Ok(self.read_out(&mut vec![0; 128 << 10], &Cancel::default())?.0)
    }

    /// Reads to the end; gives the digest, and how many bytes these were.
    ///
    /// # Errors
    /// Reading fails, or somebody asked to stop.
    pub fn read_out(mut self, buffer: &mut [u8], cancel: &Cancel) -> io::Result<(Sha256, u64)> {
        let mut bytes = 0;
        loop {
            cancel.check().map_err(io::Error::other)?;
            match self.read(buffer) {
                Ok(0) => return Ok((self.digest(), bytes)),
                Ok(count) => bytes += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Reads at most so many bytes into `piece`, in place of what it held; less at the end, and none behind it.
pub(super) fn read_piece(
    source: &mut (impl Read + ?Sized),
    piece: &mut Vec<u8>,
    most: usize,
) -> io::Result<()> {
    // Memory that was used before is not filled with zeros again, as `read_to_end` would.
    piece.resize(most, 0);
    let filled = fill(source, piece)?;
    piece.truncate(filled);
    Ok(())
}

/// Reads until the buffer is full, or to the end; how much that is.
pub(super) fn fill(source: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A digest of pieces in their order, taken on another core where there is more than one piece.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// The first piece, as long as it is the only one.
    first: Option<Vec<u8>>,
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    strand: Strand<Hashing, Vec<u8>>,
    /// Pieces that are part of the digest.
    used: Receiver<Vec<u8>>,
}

#[derive(Debug)]
struct Hashing {
    hasher: sha2::Sha256,
    used: Sender<Vec<u8>>,
}

impl Hashing {
    fn take(&mut self, piece: Vec<u8>) {
        self.hasher.update(&piece);
        // Nobody may want it any more.
        drop(self.used.send(piece));
    }
}

impl Rest {
    fn begin(first: Vec<u8>) -> Self {
        let (sender, used) = channel();
        let mut strand = Strand::new(Hashing { hasher: sha2::Sha256::new(), used: sender }, Hashing::take);
        strand.push(first);
        Self { strand, used }
    }
}

impl Aside {
    /// Adds a piece.
    pub(super) fn push(&mut self, piece: Vec<u8>) {
        match (&mut self.rest, self.first.take()) {
            (Some(rest), _) => rest.strand.push(piece),
            (None, None) => self.first = Some(piece),
            (None, Some(first)) => self.rest.insert(Rest::begin(first)).strand.push(piece),
        }
    }

    /// A piece that is done, where there is one, for its memory: to ask the system for it anew each time costs as
    /// much as the digest.
    pub(super) fn spare(&self) -> Vec<u8> {
        self.rest.as_ref().and_then(|rest| rest.used.try_recv().ok()).unwrap_or_default()
    }

    /// The digest of all of them.
    pub(super) fn finish(self) -> Sha256 {
        match self.rest {
            Some(rest) => Sha256::from_bytes(rest.strand.finish().hasher.finalize().into()),
            None => Sha256::of(&self.first.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_covers_what_nobody_read_too() {
        let mut reader = HashingReader::new(&b"abcdef"[..]);
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(reader.finish().unwrap(), Sha256::of(b"abcdef"));
    }

    #[test]
    fn what_is_digested_aside_is_the_same() {
        for count in [0, 1, 2, 100] {
            let mut aside = Aside::default();
            let all: Vec<u8> = (0..count).flat_map(|number| vec![number; 1000]).collect();
            all.chunks(1000).for_each(|piece| aside.push(piece.to_vec()));
            assert_eq!(aside.finish(), Sha256::of(&all), "{count}");
        }
    }

    #[test]
    fn it_tells_how_much_it_read_and_stops_when_asked() {
        let cancel = Cancel::default();
        let read = || HashingReader::new(&b"abcdef"[..]).read_out(&mut [0; 4], &cancel);
        assert_eq!(read().unwrap(), (Sha256::of(b"abcdef"), 6));
        cancel.request();
        assert_eq!(read().unwrap_err().to_string(), "stopped on request");
    }
}
