//! Compressed bytes that are read ahead, and which zstd frame comes next in them: what its header says, or the
//! seek table at the end of a file. Changes nothing.

use std::fs::File;
use std::io::{self, Chain, Cursor, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use zstd::zstd_safe::{compress_bound, find_frame_compressed_size, get_frame_content_size};

use super::encode::{SEEKABLE_MAGIC, SKIPPABLE_MAGIC};

/// The largest window a zstd frame may ask for: 128 MiB, the most that `zstd -d` takes unasked.
pub(super) const WINDOW_LOG_MAX: u32 = 27;
/// What may come out of a frame that is decoded as a whole.
pub(super) const MOST_PLAIN: usize = 2 << 20;
/// Bytes that are asked of the input at once.
pub(super) const PIECE: usize = 256 << 10;
/// A frame's header has at most as many bytes (RFC 8878, section 3.1.1.1).
const HEADER: usize = 18;

/// Compressed bytes that were read ahead.
pub(super) struct Ahead<R> {
    input: R,
    /// Memory, in which they lie from `at` to `end`.
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    ended: bool,
    /// Whether there was a frame.
    begun: bool,
    /// Where the input can pass over bytes unread: how, and the frames that follow, as the seek table says.
    leaps: Option<(Leap<R>, Table)>,
}

/// Passes over so many bytes of an input.
pub(super) type Leap<R> = fn(&mut R, u64) -> io::Result<()>;
/// Compressed and plain size of each frame.
pub(super) type Table = std::vec::IntoIter<(u32, u32)>;

/// What comes next.
pub(super) enum Next {
    Frame {
        length: usize,
        plain: usize,
    },
    Skippable {
        length: usize,
    },
    /// Nothing, behind a frame.
    End,
    /// Something for the stream.
    Other,
}

impl<R: Read> Ahead<R> {
    pub(super) fn new(input: R, leaps: Option<(Leap<R>, Table)>) -> Self {
        Self { input, buffer: Vec::new(), at: 0, end: 0, ended: false, begun: false, leaps }
    }

    /// What comes next; reads as much as tells it.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        loop {
            let have = &self.buffer[self.at..self.end];
            match next(have) {
                Some(next) => return Ok(next),
                None if !self.ended && have.len() < compress_bound(MOST_PLAIN) => self.fill()?,
                None if have.is_empty() && self.begun => return Ok(Next::End),
                None => return Ok(Next::Other),
            }
        }
    }

    /// Goes on behind a frame.
    pub(super) fn pass(&mut self, length: usize) {
        self.at += length;
        self.begun = true;
    }

    /// Notes that a frame of this size, with so much in it, is passed; the table is no more of use where it
    /// says something else.
    pub(super) fn frame(&mut self, length: usize, plain: usize) {
        if let Some((_, table)) = &mut self.leaps
            && table.next().is_none_or(|(packed, out)| (packed as usize, out as usize) != (length, plain))
        {
            self.leaps = None;
        }
    }

    /// Goes on behind the next frame without reading it, if not more than so much is in it: how much that is.
    pub(super) fn leap(&mut self, most: u64) -> io::Result<Option<u64>> {
        let Some((leap, table)) = &mut self.leaps else { return Ok(None) };
        let Some((packed, plain)) =
            table.as_slice().first().copied().filter(|next| u64::from(next.1) <= most)
        else {
            return Ok(None);
        };
        let _passed = table.next();
        let here = (packed as usize).min(self.end - self.at);
        let rest = packed as usize - here;
        if rest > 0 {
            leap(&mut self.input, rest as u64)?;
        }
        self.pass(here);
        Ok(Some(plain.into()))
    }

    /// Goes on behind a frame and gives it to `frame`; says where in there it lies.
    pub(super) fn take(&mut self, length: usize, frame: &mut Vec<u8>) -> Range<usize> {
        let (begin, rest) = (self.at, self.at + length..self.end);
        self.pass(length);
        // What is less is copied.
        if rest.len() > length {
            put(&self.buffer[begin..rest.start], frame);
            return 0..length;
        }
        put(&self.buffer[rest.clone()], frame);
        std::mem::swap(&mut self.buffer, frame);
        (self.at, self.end) = (0, rest.len());
        begin..rest.start
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.at > 0 {
            self.buffer.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, self.end - self.at);
        }
        let most = self.end + PIECE;
        if self.buffer.len() < most {
            self.buffer.resize(most, 0);
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.end..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end += read;
        self.ended = read == 0;
        Ok(())
    }

    /// All that follows, as one stream.
    pub(super) fn rest(mut self) -> Chain<Cursor<Vec<u8>>, R> {
        self.buffer.truncate(self.end);
        drop(self.buffer.drain(..self.at));
        Cursor::new(self.buffer).chain(self.input)
    }
}

/// The seek table at the end of a file ("zstd seekable format", version 0.1.0, without checksums); `None` where
/// there is none that is whole.
pub(super) fn seek_table(file: &File) -> Option<Table> {
    /// Number of frames, a byte of flags, the magic number.
    const FOOTER: usize = 9;
    let end = file.metadata().ok()?.len();
    let mut footer = [0; FOOTER];
    file.read_exact_at(&mut footer, end.checked_sub(FOOTER as u64)?).ok()?;
    let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).ok();
    let frames = number(&footer[..4])?;
    if footer[4] != 0 || number(&footer[5..])? != SEEKABLE_MAGIC {
        return None;
    }
    let content = u64::from(frames) * 8 + FOOTER as u64;
    // Before memory is asked for: who wrote the number may have lied.
    let begin = end.checked_sub(content + 8)?;
    let mut table = vec![0; usize::try_from(content + 8).ok()?];
    file.read_exact_at(&mut table, begin).ok()?;
    if number(&table[..4])? != SKIPPABLE_MAGIC || u64::from(number(&table[4..8])?) != content {
        return None;
    }
    let frames = table[8..].chunks_exact(8).take(frames as usize);
    Some(
        frames
            .filter_map(|frame| Some((number(&frame[..4])?, number(&frame[4..])?)))
            .collect::<Vec<_>>()
            .into_iter(),
    )
}

/// Puts bytes at the beginning of memory, of which as much as there was stays.
fn put(bytes: &[u8], memory: &mut Vec<u8>) {
    if memory.len() < bytes.len() {
        memory.resize(bytes.len(), 0);
    }
    memory[..bytes.len()].copy_from_slice(bytes);
}

/// What the input begins with, where so much of it tells.
pub(super) fn next(have: &[u8]) -> Option<Next> {
    if have.len() < HEADER {
        return None;
    }
    let plain = match get_frame_content_size(have).map(|plain| plain.map(usize::try_from)) {
        Ok(Some(Ok(plain))) if plain <= MOST_PLAIN && has_small_window(have) => plain,
        Ok(_) | Err(_) => return Some(Next::Other),
    };
    match find_frame_compressed_size(have) {
        Ok(length) if is_skippable(have) => Some(Next::Skippable { length }),
        Ok(length) => Some(Next::Frame { length, plain }),
        Err(_) => None,
    }
}

/// "Skippable frames", RFC 8878, section 3.1.2.
fn is_skippable(have: &[u8]) -> bool {
    matches!(have, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Whether a frame asks for no larger window than the stream would allow: frame header descriptor and window
/// descriptor, RFC 8878, section 3.1.1.1.
fn has_small_window(have: &[u8]) -> bool {
    let (single_segment, exponent, mantissa) = (have[4] & 0x20 != 0, have[5] >> 3, u64::from(have[5] & 7));
    let base = 1_u64 << (10 + exponent);
    is_skippable(have) || single_segment || base + base / 8 * mantissa <= 1 << WINDOW_LOG_MAX
}
