//! zstd frames, read side: small independent ones, as this tool writes them, are decoded on all cores; all
//! else as one stream. Changes nothing.
//!
//! A frame goes to a thread of its own if its header says how much comes out, and that is little. With
//! the first one of which that is not known, everything from there on is one stream: foreign archives are
//! one frame mostly. Damage is told by the stream as well, so that there is one set of messages.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use zstd::bulk::Decompressor;
use zstd::zstd_safe::{compress_bound, find_frame_compressed_size, get_frame_content_size};

use super::encode::{SEEKABLE_MAGIC, SKIPPABLE_MAGIC};
use super::hashed::read_piece;
use crate::host::pool::{self, InOrder};

/// The largest window a zstd frame may ask for: 128 MiB, the most that `zstd -d` takes unasked.
const WINDOW_LOG_MAX: u32 = 27;
/// What may come out of a frame that is decoded as a whole.
const MOST_PLAIN: usize = 2 << 20;
/// Bytes that are asked of the input at once.
const PIECE: usize = 256 << 10;
/// A frame's header has at most as many bytes (RFC 8878, section 3.1.1.1).
const HEADER: usize = 18;

type Stream<R> = zstd::stream::read::Decoder<'static, BufReader<Chain<Cursor<Vec<u8>>, R>>>;

/// What the frames of an input hold.
pub(super) struct FrameReader<R: Read> {
    input: Input<R>,
    /// Whoever wants the beginning alone wakes no cores for it.
    in_flight: InOrder<io::Result<Frame>>,
    current: Cursor<Vec<u8>>,
    spare: Vec<Frame>,
}

/// The memory of one frame, which is used again for another: what is given back to the system and asked for
/// anew costs as much as decoding.
#[derive(Default)]
struct Frame {
    compressed: Vec<u8>,
    plain: Vec<u8>,
}

enum Input<R: Read> {
    Frames(Ahead<R>),
    Stream(Box<Stream<R>>),
    Over,
    /// Nothing that follows damage is given, nor what cannot be read; why, until that was told.
    Broken(Option<io::Error>),
}

/// Compressed bytes that were read ahead.
struct Ahead<R> {
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
enum Next {
    Frame {
        length: usize,
        plain: usize,
    },
    Skippable {
        length: usize,
    },
    /// More bytes tell it.
    Unknown,
    /// Something for the stream.
    Other,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(input: R) -> io::Result<Self> {
        Self::with(input, pool::threads() > 1, None)
    }

    /// Of an input that can pass over frames unread. A table that is wrong leads to no frame, or to another
    /// one than was asked for: who uses it must prove what comes out.
    pub(super) fn with_table(input: R, leap: Leap<R>, table: Table) -> io::Result<Self> {
        Self::with(input, true, Some((leap, table)))
    }

    fn with(input: R, parallel: bool, leaps: Option<(Leap<R>, Table)>) -> io::Result<Self> {
        let ahead = Ahead { input, buffer: Vec::new(), at: 0, end: 0, ended: false, begun: false, leaps };
        let input = if parallel { Input::Frames(ahead) } else { ahead.stream()? };
        Ok(Self { input, in_flight: InOrder::growing(), current: Cursor::default(), spare: Vec::new() })
    }

    /// Gives the next frame to a thread; `false` where none follows that could be.
    fn submit(&mut self) -> bool {
        self.try_submit().unwrap_or_else(|error| {
            // Told once all is read that came before.
            self.input = Input::Broken(Some(error));
            false
        })
    }

    fn try_submit(&mut self) -> io::Result<bool> {
        let Input::Frames(ahead) = &mut self.input else { return Ok(false) };
        loop {
            let have = ahead.have();
            match next(have) {
                Next::Frame { length, plain } => {
                    ahead.frame(length, plain);
                    let mut frame = self.spare.pop().unwrap_or_default();
                    let place = ahead.take(length, &mut frame.compressed);
                    self.in_flight.submit(move || decode(frame, place, plain));
                    return Ok(true);
                }
                Next::Skippable { length } => ahead.pass(length),
                Next::Unknown if !ahead.ended && have.len() < compress_bound(MOST_PLAIN) => ahead.fill()?,
                Next::Unknown if have.is_empty() && ahead.begun => {
                    self.input = Input::Over;
                    return Ok(false);
                }
                Next::Unknown | Next::Other => {
                    if let Input::Frames(ahead) = std::mem::replace(&mut self.input, Input::Over) {
                        self.input = ahead.stream()?;
                    }
                    return Ok(false);
                }
            }
        }
    }
}

impl<R: Read> FrameReader<R> {
    /// Goes on to the oldest frame in flight; `false` where none is.
    fn advance(&mut self) -> io::Result<bool> {
        match self.in_flight.pop() {
            None => Ok(false),
            Some(Ok(Frame { compressed, plain })) => {
                let plain = std::mem::replace(&mut self.current, Cursor::new(plain)).into_inner();
                self.spare.push(Frame { compressed, plain });
                Ok(true)
            }
            Some(Err(error)) => {
                (self.input, self.in_flight) = (Input::Broken(None), InOrder::growing());
                Err(error)
            }
        }
    }

    /// Passes over at most so many bytes: over what is decoded already, and over frames that lie in them
    /// whole, which are not decoded. Gives how many it were; what follows is to be read.
    pub(super) fn skip_frames(&mut self, bytes: u64) -> io::Result<u64> {
        let mut left = bytes;
        loop {
            let here = self.current.get_ref().len() as u64 - self.current.position();
            let step = here.min(left);
            self.current.set_position(self.current.position() + step);
            left -= step;
            if left == 0 {
                return Ok(bytes);
            }
            if !self.advance()? {
                break;
            }
        }
        // Not so many are decoded ahead that the next body may not need.
        self.in_flight = InOrder::growing();
        let Input::Frames(ahead) = &mut self.input else { return Ok(bytes - left) };
        loop {
            if let Some(plain) = ahead.leap(left)? {
                left -= plain;
                continue;
            }
            let have = ahead.have();
            match next(have) {
                Next::Frame { length, plain } if plain as u64 <= left => {
                    left -= plain as u64;
                    ahead.frame(length, plain);
                    ahead.pass(length);
                }
                Next::Skippable { length } => ahead.pass(length),
                Next::Unknown if !ahead.ended && have.len() < compress_bound(MOST_PLAIN) => ahead.fill()?,
                Next::Frame { .. } | Next::Unknown | Next::Other => return Ok(bytes - left),
            }
        }
    }
}

impl<R: Read> Ahead<R> {
    /// Goes on behind a frame.
    fn pass(&mut self, length: usize) {
        self.at += length;
        self.begun = true;
    }

    /// Notes that a frame of this size, with so much in it, is passed; the table is no more of use where it
    /// says something else.
    fn frame(&mut self, length: usize, plain: usize) {
        if let Some((_, table)) = &mut self.leaps
            && table.next().is_none_or(|(packed, out)| (packed as usize, out as usize) != (length, plain))
        {
            self.leaps = None;
        }
    }

    /// Goes on behind the next frame without reading it, if not more than so much is in it: how much that is.
    fn leap(&mut self, most: u64) -> io::Result<Option<u64>> {
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
    fn take(&mut self, length: usize, frame: &mut Vec<u8>) -> Range<usize> {
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
        self.buffer.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
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

    /// What was read ahead and not passed.
    fn have(&self) -> &[u8] {
        &self.buffer[self.at..self.end]
    }

    fn stream(mut self) -> io::Result<Input<R>> {
        self.buffer.truncate(self.end);
        drop(self.buffer.drain(..self.at));
        let input = BufReader::with_capacity(PIECE, Cursor::new(self.buffer).chain(self.input));
        let mut stream = zstd::stream::read::Decoder::with_buffer(input)?;
        stream.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Input::Stream(Box::new(stream)))
    }
}

impl<R: Read> FrameReader<R> {
    /// What is left of the current frame, which is the next one where nothing was; nothing behind the last one, where
    /// a stream may follow.
    fn rest(&mut self) -> io::Result<usize> {
        loop {
            let rest = self.current.get_ref().len() as u64 - self.current.position();
            if rest > 0 {
                return usize::try_from(rest).map_err(io::Error::other);
            }
            while !self.in_flight.is_full() && self.submit() {}
            if self.advance()? {
                continue;
            }
            return match &mut self.input {
                Input::Broken(error) => {
                    let again = || io::Error::other("what comes before could not be read");
                    Err(error.take().unwrap_or_else(again))
                }
                // `submit` leaves frames only where one is in flight now.
                Input::Stream(_) | Input::Frames(_) | Input::Over => Ok(0),
            };
        }
    }

    /// As [`super::Skip::piece`]: a whole frame is not copied.
    pub(super) fn piece(&mut self, piece: &mut Vec<u8>, most: usize) -> io::Result<()> {
        let rest = self.rest()?;
        if let (0, Input::Stream(stream)) = (rest, &mut self.input) {
            return read_piece(stream, piece, most);
        }
        if rest <= most && self.current.position() == 0 {
            std::mem::swap(self.current.get_mut(), piece);
            self.current.get_mut().clear();
            return Ok(());
        }
        read_piece(&mut self.current, piece, rest.min(most))
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match (self.rest()?, &mut self.input) {
            (0, Input::Stream(stream)) => stream.read(buffer),
            _ => self.current.read(buffer),
        }
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

/// What the input begins with.
fn next(have: &[u8]) -> Next {
    if have.len() < HEADER {
        return Next::Unknown;
    }
    let plain = match get_frame_content_size(have).map(|plain| plain.map(usize::try_from)) {
        Ok(Some(Ok(plain))) if plain <= MOST_PLAIN && has_small_window(have) => plain,
        Ok(_) | Err(_) => return Next::Other,
    };
    match find_frame_compressed_size(have) {
        Ok(length) if is_skippable(have) => Next::Skippable { length },
        Ok(length) => Next::Frame { length, plain },
        Err(_) => Next::Unknown,
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

thread_local! {
    /// Each thread's own, since making one costs more than a small frame.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decodes the frame that lies at `place`, of so many bytes.
fn decode(mut frame: Frame, place: Range<usize>, plain: usize) -> io::Result<Frame> {
    frame.plain.clear();
    frame.plain.reserve(plain);
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            none @ None => none.insert(Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(&frame.compressed[place], &mut frame.plain)
    })?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// A frame that says how much is in it, as `encode` writes them.
    fn sized(plain: &[u8]) -> Vec<u8> {
        let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
        compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
        compressor.compress(plain).unwrap()
    }

    /// One that does not, as `tar --zstd` writes them.
    fn unsized_frame(plain: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.write_all(plain).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }

    fn skippable(size: u32) -> Vec<u8> {
        [&0x184D_2A5E_u32.to_le_bytes()[..], &size.to_le_bytes(), &vec![7; size as usize]].concat()
    }

    /// What comes out, and the end: `None` where it is one.
    fn read(bytes: &[u8], parallel: bool) -> (Vec<u8>, Option<&'static str>) {
        let mut out = Vec::new();
        let end = FrameReader::with(bytes, parallel, None).and_then(|mut reader| {
            let mut buffer = [0; 1000];
            loop {
                match reader.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => out.extend_from_slice(&buffer[..count]),
                }
            }
        });
        let class = |error: io::Error| {
            let is_no_frame = error.to_string().contains("Unknown frame descriptor");
            match (error.kind() == io::ErrorKind::UnexpectedEof, is_no_frame) {
                (true, _) => "cut off",
                (false, true) => "no frame",
                (false, false) => "damaged",
            }
        };
        (out, end.err().map(class))
    }

    fn part() -> impl Strategy<Value = Vec<u8>> {
        let text = || prop::collection::vec(0_u8..4, 0..4000);
        prop_oneof![
            8 => text().prop_map(|plain| sized(&plain)),
            2 => prop::collection::vec(any::<u8>(), 0..4000).prop_map(|plain| sized(&plain)),
            1 => text().prop_map(|plain| unsized_frame(&plain)),
            1 => (0_u32..40).prop_map(skippable),
            1 => prop::collection::vec(any::<u8>(), 1..30),
            1 => Just(sized(&vec![1; MOST_PLAIN + 1])),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn many_threads_give_what_one_stream_gives(
            parts in prop::collection::vec(part(), 0..12),
            cut in prop::option::of(any::<prop::sample::Index>()),
            flip in prop::option::of((any::<prop::sample::Index>(), 0_u8..8)),
        ) {
            let mut bytes = parts.concat();
            if let Some((at, bit)) = flip.filter(|_| !bytes.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            let (one, end_of_one) = read(&bytes, false);
            let (many, end_of_many) = read(&bytes, true);
            prop_assert_eq!(end_of_one, end_of_many);
            // Of a damaged frame one stream gives what comes before the damage.
            let agree = if end_of_one.is_some() { one.starts_with(&many) } else { one == many };
            prop_assert!(agree, "{} and {} bytes", one.len(), many.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_skipped_is_what_would_have_been_read(
            parts in prop::collection::vec(part(), 0..12),
            steps in prop::collection::vec((any::<bool>(), 0_usize..9000), 1..12),
            parallel in any::<bool>(),
            with_table in any::<bool>(),
        ) {
            let bytes = parts.concat();
            let (whole, end) = read(&bytes, false);
            prop_assume!(end.is_none());
            let leap: Leap<&[u8]> = |input, bytes| io::copy(&mut input.take(bytes), &mut io::sink()).map(drop);
            let table = parts.iter().map(|part| match next(part) {
                Next::Frame { length, plain } if length == part.len() => {
                    Some((u32::try_from(length).unwrap(), u32::try_from(plain).unwrap()))
                }
                Next::Frame { .. } | Next::Skippable { .. } | Next::Unknown | Next::Other => None,
            });
            let table = table.collect::<Option<Vec<_>>>().filter(|_| with_table && parallel);
            let leaps = table.map(|table| (leap, table.into_iter()));
            let mut reader = FrameReader::with(&bytes[..], parallel, leaps).unwrap();
            let mut at = 0;
            for (skips, length) in steps {
                if skips {
                    let skipped = usize::try_from(reader.skip_frames(length as u64).unwrap()).unwrap();
                    prop_assert!(skipped <= length);
                    at += skipped;
                } else {
                    let mut piece = Vec::new();
                    reader.by_ref().take(length as u64).read_to_end(&mut piece).unwrap();
                    prop_assert_eq!(&piece[..], &whole[at..whole.len().min(at + length)]);
                    at += piece.len();
                }
            }
        }
    }

    #[test]
    fn a_table_is_whole_or_none() {
        let mut file = tempfile::tempfile().unwrap();
        let table = |frames: u32, size: u32| {
            let head = [SKIPPABLE_MAGIC, size, 7, 9].map(u32::to_le_bytes).concat();
            [&head[..], &frames.to_le_bytes(), &[0], &SEEKABLE_MAGIC.to_le_bytes()].concat()
        };
        file.write_all(&table(1, 17)).unwrap();
        assert_eq!(seek_table(&file).unwrap().collect::<Vec<_>>(), [(7, 9)]);
        // More frames than the file has room for, and another size than theirs.
        for (frames, size) in [(u32::MAX, 17), (2, 25), (0, 17), (1, 16)] {
            file.write_all(&table(frames, size)).unwrap();
            assert!(seek_table(&file).is_none(), "{frames}");
        }
    }

    #[test]
    fn by_the_table_all_may_be_passed_over() {
        let parts = [sized(&[3; 5000]), sized(b"last")];
        let bytes = parts.concat();
        let leap: Leap<&[u8]> = |input, bytes| {
            *input = &input[usize::try_from(bytes).unwrap()..];
            Ok(())
        };
        let length = |part: &Vec<u8>| u32::try_from(part.len()).unwrap();
        let table = vec![(length(&parts[0]), 5000), (length(&parts[1]), 4)];
        for (skipped, left) in [(5000, "last"), (5004, ""), (5001, "ast")] {
            let leaps = Some((leap, table.clone().into_iter()));
            let mut reader = FrameReader::with(&bytes[..], true, leaps).unwrap();
            let whole = reader.skip_frames(skipped).unwrap();
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            assert_eq!(&rest[usize::try_from(skipped - whole).unwrap()..], left, "{skipped}");
        }
        // A table that lies leads to no frame.
        let leaps = Some((leap, vec![(length(&parts[0]) - 1, 5000)].into_iter()));
        let mut reader = FrameReader::with(&bytes[..], true, leaps).unwrap();
        assert_eq!(reader.skip_frames(5000).unwrap(), 5000);
        assert!(reader.read_to_string(&mut String::new()).is_err());
    }

    #[test]
    fn frames_that_are_skipped_are_not_decoded() {
        let mut damaged = sized(&[9; 1000]);
        *damaged.last_mut().unwrap() ^= 1;
        let bytes = [sized(b"first"), damaged.clone(), damaged, sized(b"last")].concat();
        let mut reader = FrameReader::with(&bytes[..], true, None).unwrap();
        assert_eq!(reader.skip_frames(5 + 2000).unwrap(), 5 + 2000);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "last");
    }

    #[test]
    fn what_was_read_before_an_error_comes_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(5))
            }
        }
        let frames: Vec<u8> = (0..40).flat_map(|_| sized(&[9; 100])).collect();
        for parallel in [false, true] {
            let mut reader = FrameReader::with(frames.chain(Broken), parallel, None).unwrap();
            let mut out = Vec::new();
            assert_eq!(reader.read_to_end(&mut out).unwrap_err().raw_os_error(), Some(5));
            assert_eq!(out, [9; 4000]);
            assert!(reader.read(&mut [0; 10]).is_err());
        }
    }

    #[test]
    fn nothing_follows_damage() {
        let mut damaged = sized(b"a frame that is damaged in its checksum");
        *damaged.last_mut().unwrap() ^= 1;
        let bytes = [sized(b"first"), damaged, sized(b"last")].concat();
        let mut reader = FrameReader::with(&bytes[..], true, None).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(reader.read(&mut buffer).unwrap(), 5);
        for _ in 0..3 {
            assert!(reader.read(&mut buffer).is_err());
        }
    }

    #[test]
    fn a_window_that_no_stream_would_allow_is_left_to_the_stream() {
        let mut bytes = sized(&vec![3; 100_000]);
        assert!(matches!(next(&bytes), Next::Frame { plain: 100_000, .. }));
        // Not a single segment: then a window descriptor follows, here of 128 MiB.
        bytes[4] &= !0x20;
        bytes.insert(5, (27 - 10) << 3);
        assert!(matches!(next(&bytes), Next::Frame { .. }));
        assert_eq!(read(&bytes, true), (vec![3; 100_000], None));
        assert_eq!(read(&bytes, false), (vec![3; 100_000], None));
        for larger in [(27 - 10) << 3 | 1, (31 - 10) << 3] {
            bytes[5] = larger;
            assert!(matches!(next(&bytes), Next::Other));
            assert_eq!(read(&bytes, true), read(&bytes, false));
            assert_eq!(read(&bytes, true).1, Some("damaged"));
        }
    }
}
