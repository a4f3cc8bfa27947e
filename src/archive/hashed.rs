//! A reader that hashes what passes through it: the digest of an archive in the same pass that decodes it.

use std::io::{self, Read};
use std::sync::Arc;

use crate::host::cancel::Cancel;
use crate::host::digest::{Hasher, Pieces};
use crate::ids::Sha256;

/// Hashes what is read through it.
#[derive(Debug)]
pub struct HashingReader<R> {
    input: R,
    hasher: Hasher,
}

impl<R: Read> HashingReader<R> {
    /// Wraps a reader.
    pub fn new(input: R) -> Self {
        Self { input, hasher: Hasher::default() }
    }

    /// The digest of what was read so far.
    pub fn digest(self) -> Sha256 {
        self.hasher.finish()
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
        self.hasher.update_beside(&buffer[..count]);
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
    all: Option<Pieces>,
}

impl Aside {
    /// Adds a piece.
    pub(super) fn push(&mut self, piece: Vec<u8>) {
        match (&mut self.all, self.first.take()) {
            (Some(all), _) => all.push(Arc::new(piece)),
            (None, None) => self.first = Some(piece),
            (None, Some(first)) => {
                let all = self.all.insert(Pieces::default());
                all.push(Arc::new(first));
                all.push(Arc::new(piece));
            }
        }
    }

    /// A piece that is done, where there is one, for its memory: to ask the system for it anew each time costs as
    /// much as the digest.
    pub(super) fn spare(&self) -> Vec<u8> {
        self.all.as_ref().and_then(Pieces::taken).and_then(Arc::into_inner).unwrap_or_default()
    }

    /// The digest of all of them.
    pub(super) fn finish(self) -> Sha256 {
        match self.all {
            Some(all) => all.finish(),
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
