//! The compressed form of an archive, read side: zstd, gzip or none, to the last byte of the input.
//! Changes nothing.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::str::FromStr;

use flate2::bufread::MultiGzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ahead::{self, Leap};
use super::frames::FrameReader;
use super::hashed::read_piece;

const BUFFER: usize = 64 * 1024;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// zstd, `.tar.zst`.
    Zstd,
    /// gzip, `.tar.gz`.
    Gzip,
    /// Not at all, `.tar`.
    None,
}

impl Algorithm {
    /// What follows the backup's id in the archive's file name: `tar.zst`, `tar.gz` or `tar`.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Zstd => "tar.zst",
            Self::Gzip => "tar.gz",
            Self::None => "tar",
        }
    }

    /// Its name in the backup index.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no compression: use zstd, gzip or none")]
pub struct UnknownAlgorithm(pub String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;
    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        [Self::Zstd, Self::Gzip, Self::None]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

/// Damage that a decoder found; travels inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeFailure {
    #[error("the input is cut off")]
    Truncated,
    #[error("there is data after the end")]
    TrailingData,
    #[error("{0}")]
    Corrupt(String),
}

impl From<DecodeFailure> for io::Error {
    fn from(failure: DecodeFailure) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, failure)
    }
}

/// A reader that can pass over what nobody wants, at less than it would cost to read it.
pub trait Skip: Read {
    /// Passes over so many bytes.
    ///
    /// # Errors
    /// As reading them; there are less.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;

    /// Gives the next bytes, at most so many, in place of what `piece` held; none at the end. Whoever has them in
    /// memory of their own gives that away, and keeps the memory of `piece` for later ones.
    ///
    /// # Errors
    /// As reading them.
    fn piece(&mut self, piece: &mut Vec<u8>, most: usize) -> io::Result<()> {
        read_piece(self, piece, most)
    }
}

impl Skip for &[u8] {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        read_over(self, bytes)
    }
}

/// Reads so many bytes that nobody wants.
fn read_over(input: &mut impl Read, bytes: u64) -> io::Result<()> {
    let read = io::copy(&mut input.take(bytes), &mut io::sink())?;
    if read == bytes { Ok(()) } else { Err(DecodeFailure::Truncated.into()) }
}

impl<R: Read> Skip for Decoder<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let whole = match &mut self.inner {
            Inner::Zstd(frames) => frames.skip_frames(bytes),
            Inner::None(input, leap) => leap.map_or(Ok(0), |leap| leap(input, bytes).map(|()| bytes)),
            Inner::Gzip(_) => Ok(0),
        };
        let left = bytes - whole.map_err(|error| self.failure(error))?;
        // A part of a frame is read.
        read_over(self, left)
    }

    fn piece(&mut self, piece: &mut Vec<u8>, most: usize) -> io::Result<()> {
        let Inner::Zstd(frames) = &mut self.inner else { return read_piece(self, piece, most) };
        frames.piece(piece, most).map_err(|error| self.failure(error))?;
        self.begun |= !piece.is_empty();
        Ok(())
    }
}

/// The tar inside an archive. Reads its input to the end: only then does it report the end itself.
pub struct Decoder<R: Read> {
    inner: Inner<R>,
    /// Whether anything came out yet: damage before that is no trailing data.
    begun: bool,
}

enum Inner<R: Read> {
    Zstd(Box<FrameReader<R>>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    /// With the way to pass over bytes unread, where there is one.
    None(R, Option<Leap<R>>),
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.inner {
            Inner::Zstd(_) => Algorithm::Zstd,
            Inner::Gzip(_) => Algorithm::Gzip,
            Inner::None(..) => Algorithm::None,
        };
        f.debug_struct("Decoder").field("algorithm", &algorithm).finish_non_exhaustive()
    }
}

/// Decompresses an archive: any number of frames or members one after the other, skippable frames too.
///
/// # Errors
/// When zstd has no memory for a context. Reading from it fails where the input is cut off, damaged, or
/// goes on after the last frame; as an [`super::ArchiveError`] these are told apart.
pub fn decoder<R: Read>(algorithm: Algorithm, input: R) -> Result<Decoder<R>, super::ArchiveError> {
    let inner = match algorithm {
        Algorithm::Zstd => Inner::Zstd(Box::new(FrameReader::new(input)?)),
        Algorithm::Gzip => {
            Inner::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, input))))
        }
        Algorithm::None => Inner::None(input, None),
    };
    Ok(Decoder { inner, begun: false })
}

/// The same of a file, of which what is skipped is not read either. No digest of the whole file comes of that,
/// and a damaged seek table leads anywhere: who uses it must prove what comes out.
///
/// # Errors
/// As [`decoder`].
pub fn leaping_decoder(algorithm: Algorithm, file: File) -> Result<Decoder<File>, super::ArchiveError> {
    let leap: Leap<File> = |file, bytes| {
        let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
        file.seek(SeekFrom::Current(bytes)).map(drop)
    };
    let inner = match (algorithm, ahead::seek_table(&file)) {
        (Algorithm::Zstd, Some(table)) => Inner::Zstd(Box::new(FrameReader::with_table(file, leap, table)?)),
        (Algorithm::None, _) => Inner::None(file, Some(leap)),
        (Algorithm::Zstd | Algorithm::Gzip, _) => return decoder(algorithm, file),
    };
    Ok(Decoder { inner, begun: false })
}

impl<R: Read> Decoder<R> {
    /// What an error of the decoder means.
    fn failure(&self, error: io::Error) -> io::Error {
        let no_frame = match &self.inner {
            Inner::Zstd(_) => "Unknown frame descriptor",
            Inner::Gzip(_) => "invalid gzip header",
            Inner::None(..) => return error,
        };
        // The system's errors have a number; the decoders' have none.
        if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
            error
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            DecodeFailure::Truncated.into()
        } else if self.begun && error.to_string().contains(no_frame) {
            DecodeFailure::TrailingData.into()
        } else {
            DecodeFailure::Corrupt(error.to_string()).into()
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = match &mut self.inner {
            Inner::Zstd(decoder) => decoder.read(buffer),
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::None(input, _) => input.read(buffer),
        };
        let length = length.map_err(|error| self.failure(error))?;
        self.begun |= length > 0;
        Ok(length)
    }
}
