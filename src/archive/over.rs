//! Writes a file over a copy of another one that is much like it: what stands there already is not written, so
//! that it stays shared with the original, and no disk has to take it. Changes the file that it is given.
//!
//! What is there is read from the copy, never taken for granted: whatever it was made of, the file ends up as
//! what was written.

use std::fs::File;
use std::io::{self, Write as _};

use super::hashed::read_piece;
use crate::host::fs::WriteBehind;

/// Bytes that are compared at once, from a multiple of it on: a smaller piece would leave a file in more parts on
/// its disk.
const BLOCK: u64 = 64 << 10;

/// The content of a file on its way there.
pub(super) struct Over<'f> {
    out: WriteBehind<'f>,
    /// The same file once more, where it is a copy.
    there: Option<File>,
    buffer: Vec<u8>,
    at: u64,
    kept: u64,
}

impl<'f> Over<'f> {
    /// A file that is empty.
    pub(super) fn new(file: &'f mut File) -> Self {
        Self { out: WriteBehind::new(file), there: None, buffer: Vec::new(), at: 0, kept: 0 }
    }

    /// A copy, opened twice, that is to have so many bytes.
    pub(super) fn copy(file: &'f mut File, there: File, size: u64) -> io::Result<Self> {
        if file.metadata()?.len() > size {
            file.set_len(size)?;
        }
        Ok(Self { there: Some(there), ..Self::new(file) })
    }

    /// Adds what comes next.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let Some(there) = &mut self.there else { return self.out.write_all(piece) };
        if read_piece(there, &mut self.buffer, piece.len()).is_err() {
            // What a disk does not give back is written anew.
            self.there = None;
            return self.out.write_all(piece);
        }
        let (mut new, mut old) = (piece, self.buffer.as_slice());
        while !new.is_empty() {
            let length = (BLOCK - self.at % BLOCK).min(new.len() as u64);
            let block = take(&mut new, length);
            // Shorter where the copy ends.
            if take(&mut old, length) == block {
                self.out.skip(length)?;
                self.kept += length;
            } else {
                self.out.write_all(block)?;
            }
            self.at += length;
        }
        Ok(())
    }

    /// How many bytes stood there already.
    pub(super) fn kept(&self) -> u64 {
        self.kept
    }
}

/// The first bytes, at most so many.
fn take<'b>(bytes: &mut &'b [u8], most: u64) -> &'b [u8] {
    let length = usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len()));
    let (first, rest) = bytes.split_at(length);
    *bytes = rest;
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const MOST: usize = 256 << 10;

    /// Content of up to a few blocks; the two have much in common.
    fn contents() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let length = 0..MOST;
        let changes = proptest::collection::vec((0..MOST, any::<u8>()), 0..4);
        (length.clone(), length, changes).prop_map(|(old, new, changes)| {
            let common: Vec<u8> = (0..=250).cycle().flat_map(|byte| [byte; 7]).take(MOST).collect();
            let (old, mut new) = (common[..old].to_vec(), common[..new].to_vec());
            for (at, byte) in changes {
                if let Some(place) = new.get_mut(at) {
                    *place = byte;
                }
            }
            (old, new)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_file_is_what_was_written_whatever_stood_there((old, new) in contents(), most in 1..MOST) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("copy");
            File::create(&path).unwrap().write_all_at(&old, 0).unwrap();
            let mut file = File::options().write(true).open(&path).unwrap();
            let mut over = Over::copy(&mut file, File::open(&path).unwrap(), new.len() as u64).unwrap();
            new.chunks(most).for_each(|piece| over.write(piece).unwrap());
            let kept = over.kept();
            let read = std::fs::read(&path).unwrap();
            prop_assert!(read == new, "{} of {} bytes, over {}", read.len(), new.len(), old.len());
            prop_assert!(kept <= old.len().min(new.len()) as u64);
            // Nothing is written where nothing differs.
            if old == new {
                prop_assert_eq!(kept, new.len() as u64);
            }
        }
    }
}
