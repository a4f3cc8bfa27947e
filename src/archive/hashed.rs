//! A reader that hashes what passes through it: the digest of an archive in the same pass that decodes it.

use std::io::{self, Read};

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

/// A digest of pieces in their order, taken on another core where there is more than one piece.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// The first piece, as long as it is the only one.
    first: Option<Vec<u8>>,
    strand: Option<Strand<sha2::Sha256, Vec<u8>>>,
}

impl Aside {
    /// Adds a piece.
    pub(super) fn push(&mut self, piece: Vec<u8>) {
        if self.strand.is_none() && self.first.is_none() {
            self.first = Some(piece);
            return;
        }
        let begin = || Strand::new(sha2::Sha256::new(), |hasher, piece: Vec<u8>| hasher.update(piece));
        let strand = self.strand.get_or_insert_with(begin);
        self.first.take().into_iter().for_each(|first| strand.push(first));
        strand.push(piece);
    }

    /// The digest of all of them.
    pub(super) fn finish(self) -> Sha256 {
        match self.strand {
            Some(strand) => Sha256::from_bytes(strand.finish().finalize().into()),
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
