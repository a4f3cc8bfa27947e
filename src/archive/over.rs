//! Writes a file over a copy of another one that is much like it: what stands there already is not written, so
//! that it stays shared with the original, and no disk has to take it. Changes the file that it is given.
//!
//! What is there is read, never taken for granted: whatever the copy was made of, the file ends up as what was
//! written. Where the original was read before, and as long as it is known to be what it was, it is read instead:
//! the system has it in memory, and the copy on the disk alone.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};

use super::hashed::read_piece;
use crate::host::fs::WriteBehind;
use crate::host::stamp::Unchanged;

/// Bytes that are compared at once, from a multiple of it on: a smaller piece would leave a file in more parts on
/// its disk.
const BLOCK: u64 = 64 << 10;

/// The content of a file on its way there.
pub(super) struct Over<'f> {
    out: WriteBehind<'f>,
    /// The same file once more, where it is a copy.
    copy: Option<File>,
    /// What it is a copy of, as long as that is the same.
    original: Option<Unchanged>,
    buffer: Vec<u8>,
    at: u64,
    kept: u64,
}

impl<'f> Over<'f> {
    /// A file that is empty.
    pub(super) fn new(file: &'f mut File) -> Self {
        let out = WriteBehind::new(file);
        Self { out, copy: None, original: None, buffer: Vec::new(), at: 0, kept: 0 }
    }

    /// A copy, opened twice, that is to have so many bytes, and what it is a copy of, where that is known.
    pub(super) fn copy(
        file: &'f mut File,
        copy: File,
        original: Option<Unchanged>,
        size: u64,
    ) -> io::Result<Self> {
        if file.metadata()?.len() > size {
            file.set_len(size)?;
        }
        Ok(Self { copy: Some(copy), original, ..Self::new(file) })
    }

    /// Adds what comes next.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if !self.read(piece.len()) {
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

    /// Reads what stands where so many bytes come next; `false` where nothing does, or no disk gives it back.
    fn read(&mut self, length: usize) -> bool {
        if let Some(original) = &mut self.original {
            // Asked afterwards: what was read is what the copy has.
            if read_piece(&mut original.file, &mut self.buffer, length).is_ok() && original.is_still() {
                return true;
            }
            self.original = None;
        }
        let Some(copy) = &mut self.copy else { return false };
        let begin = copy.seek(SeekFrom::Start(self.at));
        let is_read = begin.and_then(|_| read_piece(copy, &mut self.buffer, length)).is_ok();
        if !is_read {
            self.copy = None;
        }
        is_read
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
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use cap_std::ambient_authority;
    use cap_std::fs::Dir;
    use proptest::prelude::*;

    use super::*;
    use crate::host::stamp;

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

    #[test]
    fn the_original_is_read_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let block = usize::try_from(BLOCK).unwrap();
        let (old, new) = (vec![1; 4 * block], vec![2; 4 * block]);
        // As if it shared its content; what no copy holds shows what was read.
        File::create(at("original")).unwrap().write_all_at(&old, 0).unwrap();
        let stamp = stamp::wait(&at("original"));
        let top = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
        let original = Unchanged::open(&top, Path::new("original"), stamp).unwrap();
        File::create(at("copy")).unwrap().write_all_at(&new, 0).unwrap();
        let mut file = File::options().write(true).open(at("copy")).unwrap();
        let there = File::open(at("copy")).unwrap();
        let mut over = Over::copy(&mut file, there, Some(original), 4 * BLOCK).unwrap();
        over.write(&new[..block]).unwrap();
        assert_eq!(over.kept(), 0);
        // It has what is written from now on, and the copy has not.
        File::create(at("original")).unwrap().write_all_at(&old, 0).unwrap();
        over.write(&old[..2 * block]).unwrap();
        assert_eq!(over.kept(), 0);
        over.write(&new[..block]).unwrap();
        assert_eq!(over.kept(), BLOCK);
        let (ones, twos) = (&old[..2 * block], &new[..block]);
        assert!(std::fs::read(at("copy")).unwrap() == [twos, ones, twos].concat());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_file_is_what_was_written_whatever_stood_there((old, new) in contents(), most in 1..MOST) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("copy");
            File::create(&path).unwrap().write_all_at(&old, 0).unwrap();
            let mut file = File::options().write(true).open(&path).unwrap();
            let mut over = Over::copy(&mut file, File::open(&path).unwrap(), None, new.len() as u64).unwrap();
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
