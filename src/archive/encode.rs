//! The compressed form of an archive, write side. Writes to the given output only; a crash leaves a
//! partial archive that no reader accepts.
//!
//! zstd: independent frames of 1 MiB of tar each, with content size and checksum, and at the end a seek
//! table in a skippable frame ("zstd seekable format", version 0.1.0): `tar --zstd` and `zstd -t` read it,
//! and a reader that knows the table decodes frames in parallel or only those it needs.

use std::cell::RefCell;
use std::io::{self, Write};

use flate2::write::GzEncoder;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

use super::{Algorithm, ArchiveError};
use crate::host::pool::InOrder;

/// Payload of one zstd frame.
const FRAME: usize = 1024 * 1024;
/// The skippable frame that holds the seek table.
pub(super) const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
/// The last bytes of a file with a seek table.
pub(super) const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// Where compressed bytes go.
pub(super) trait Output: Write {
    /// As `write_all`, of bytes that nobody else needs.
    fn put(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.write_all(&bytes)
    }

    /// An empty buffer, with the memory of one that was put where there is one.
    fn spare(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

#[cfg(test)]
impl Output for Vec<u8> {}

/// Compresses what is written to it.
pub(super) enum Encoder<W: Output> {
    Zstd(Box<Frames<W>>),
    Gzip(GzEncoder<W>),
    None(W),
}

impl<W: Output> Encoder<W> {
    /// `level`: zstd 1 to 22 (default 2), gzip 1 to 9 (default 6).
    pub(super) fn new(algorithm: Algorithm, level: Option<i32>, out: W) -> Result<Self, ArchiveError> {
        let level = checked_level(algorithm, level)?;
        Ok(match algorithm {
            Algorithm::Zstd => Self::Zstd(Box::new(Frames::new(level, out))),
            Algorithm::Gzip => {
                Self::Gzip(GzEncoder::new(out, flate2::Compression::new(level.unsigned_abs())))
            }
            Algorithm::None => Self::None(out),
        })
    }

    /// Writes what is still held back, and the seek table. A tar has two blocks at least: there is a frame.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Zstd(frames) => frames.finish(),
            Self::Gzip(encoder) => encoder.finish(),
            Self::None(out) => Ok(out),
        }
    }
}

fn checked_level(algorithm: Algorithm, level: Option<i32>) -> Result<i32, ArchiveError> {
    let (default, allowed, range) = match algorithm {
        // Of the levels that are fast enough, the one that makes ledgers smallest in frames of this size: as
        // small as with 3, in two thirds of the time (docs/performance.md).
        Algorithm::Zstd => (2, 1..=22, "1 to 22"),
        Algorithm::Gzip => (6, 1..=9, "1 to 9"),
        // The peer takes and ignores a level without compression.
        Algorithm::None => (1, i32::MIN..=i32::MAX, "any"),
    };
    let level = level.unwrap_or(default);
    if allowed.contains(&level) { Ok(level) } else { Err(ArchiveError::BadLevel { algorithm, level, range }) }
}

impl<W: Output> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(frames) => frames.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::None(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            // A frame ends when it is full: flushing early would make the frames depend on the caller.
            Self::Zstd(_) => Ok(()),
            Self::Gzip(encoder) => encoder.flush(),
            Self::None(out) => out.flush(),
        }
    }
}

/// Writes independent zstd frames, which are compressed on all cores, and remembers their sizes.
pub(super) struct Frames<W: Output> {
    out: W,
    level: i32,
    plain: Vec<u8>,
    /// Memory of frames that are done.
    spare: Vec<Vec<u8>>,
    in_flight: InOrder<io::Result<Frame>>,
    /// Compressed and plain size of each frame.
    table: Vec<(u32, u32)>,
}

/// A compressed frame.
struct Frame {
    bytes: Vec<u8>,
    plain: Vec<u8>,
}

thread_local! {
    /// Each thread's own, since making one costs more than a small frame; with its level.
    static COMPRESSOR: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
}

fn compress(level: i32, plain: Vec<u8>, mut bytes: Vec<u8>) -> io::Result<Frame> {
    bytes.reserve(compress_bound(plain.len()));
    COMPRESSOR.with_borrow_mut(|kept| {
        let (_, compressor) = match kept {
            Some(same) if same.0 == level => same,
            other => other.insert((level, compressor(level)?)),
        };
        compressor.compress_to_buffer(&plain, &mut bytes)?;
        Ok(Frame { bytes, plain })
    })
}

fn compressor(level: i32) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
    Ok(compressor)
}

impl<W: Output> Frames<W> {
    fn new(level: i32, out: W) -> Self {
        let (plain, in_flight) = (Vec::with_capacity(FRAME), InOrder::new());
        Self { out, level, plain, spare: Vec::new(), in_flight, table: Vec::new() }
    }

    fn end_frame(&mut self) -> io::Result<()> {
        if self.in_flight.is_full() {
            self.put_oldest()?;
        }
        let next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(FRAME));
        let plain = std::mem::replace(&mut self.plain, next);
        let (level, bytes) = (self.level, self.out.spare());
        self.in_flight.submit(move || compress(level, plain, bytes));
        Ok(())
    }

    /// Writes the oldest frame in flight; `false` where none is.
    fn put_oldest(&mut self) -> io::Result<bool> {
        let Some(Frame { bytes, mut plain }) = self.in_flight.pop().transpose()? else { return Ok(false) };
        self.table.push((fits(bytes.len())?, fits(plain.len())?));
        self.out.put(bytes)?;
        plain.clear();
        self.spare.push(plain);
        Ok(true)
    }

    fn finish(mut self) -> io::Result<W> {
        if !self.plain.is_empty() {
            self.end_frame()?;
        }
        while self.put_oldest()? {}
        let mut table = Vec::with_capacity(17 + 8 * self.table.len());
        table.extend(SKIPPABLE_MAGIC.to_le_bytes());
        table.extend(fits(8 * self.table.len() + 9)?.to_le_bytes());
        for (compressed, plain) in &self.table {
            table.extend(compressed.to_le_bytes());
            table.extend(plain.to_le_bytes());
        }
        table.extend(fits(self.table.len())?.to_le_bytes());
        // No checksums in the table: the frames have their own.
        table.push(0);
        table.extend(SEEKABLE_MAGIC.to_le_bytes());
        self.out.write_all(&table)?;
        Ok(self.out)
    }
}

fn fits(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "too many zstd frames"))
}

impl<W: Output> Write for Frames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(FRAME - self.plain.len());
        self.plain.extend_from_slice(&bytes[..take]);
        if self.plain.len() == FRAME {
            self.end_frame()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
