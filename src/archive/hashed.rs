//! A reader that hashes what passes through it: the digest of an archive in the same pass that decodes it.

use std::io::{self, Read};

use sha2::Digest as _;

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
    pub fn finish(mut self) -> io::Result<Sha256> {
        // Much may be left, so that the pieces are larger than those of `io::copy`.
        let mut buffer = vec![0; 128 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok(self.digest())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
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
}
