//! zstd frames, read side: small independent ones, as this tool writes them, are decoded on all cores; all
//! else as one stream. Changes nothing.
//!
//! A frame goes to a thread of its own if its header says how much comes out, and that is little. With
//! the first one of which that is not known, everything from there on is one stream: foreign archives are
//! one frame mostly. Damage is told by the stream as well, so that there is one set of messages.

use std::cell::RefCell;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::ops::Range;

use zstd::bulk::Decompressor;

use super::ahead::{Ahead, Leap, Next, PIECE, Table, WINDOW_LOG_MAX};
use super::hashed::read_piece;
use crate::host::pool::{self, InOrder};

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
        let ahead = Ahead::new(input, leaps);
        let input = if parallel { Input::Frames(ahead) } else { stream(ahead)? };
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
            match ahead.next()? {
                Next::Frame { length, plain } => {
                    ahead.frame(length, plain);
                    let mut frame = self.spare.pop().unwrap_or_default();
                    let place = ahead.take(length, &mut frame.compressed);
                    self.in_flight.submit(move || decode(frame, place, plain));
                    return Ok(true);
                }
                Next::Skippable { length } => ahead.pass(length),
                Next::End => {
                    self.input = Input::Over;
                    return Ok(false);
                }
                Next::Other => {
                    if let Input::Frames(ahead) = std::mem::replace(&mut self.input, Input::Over) {
                        self.input = stream(ahead)?;
                    }
                    return Ok(false);
                }
            }
        }
    }
}

fn stream<R: Read>(ahead: Ahead<R>) -> io::Result<Input<R>> {
    let mut stream = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(PIECE, ahead.rest()))?;
    stream.window_log_max(WINDOW_LOG_MAX)?;
    Ok(Input::Stream(Box::new(stream)))
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
            match ahead.next()? {
                Next::Frame { length, plain } if plain as u64 <= left => {
                    left -= plain as u64;
                    ahead.frame(length, plain);
                    ahead.pass(length);
                }
                Next::Skippable { length } => ahead.pass(length),
                Next::Frame { .. } | Next::End | Next::Other => return Ok(bytes - left),
            }
        }
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

    use super::super::ahead::{MOST_PLAIN, next, seek_table};
    use super::super::encode::{SEEKABLE_MAGIC, SKIPPABLE_MAGIC};
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
        fn what_is_skipped_or_given_in_pieces_is_what_would_have_been_read(
            parts in prop::collection::vec(part(), 0..12),
            steps in prop::collection::vec((0..3, 0_usize..9000), 1..12),
            parallel in any::<bool>(),
            with_table in any::<bool>(),
        ) {
            let bytes = parts.concat();
            let (whole, end) = read(&bytes, false);
            prop_assume!(end.is_none());
            let leap: Leap<&[u8]> = |input, bytes| io::copy(&mut input.take(bytes), &mut io::sink()).map(drop);
            let table = parts.iter().map(|part| match next(part) {
                Some(Next::Frame { length, plain }) if length == part.len() => {
                    Some((u32::try_from(length).unwrap(), u32::try_from(plain).unwrap()))
                }
                Some(_) | None => None,
            });
            let table = table.collect::<Option<Vec<_>>>().filter(|_| with_table && parallel);
            let leaps = table.map(|table| (leap, table.into_iter()));
            let mut reader = FrameReader::with(&bytes[..], parallel, leaps).unwrap();
            let (mut at, mut piece) = (0, vec![7; 100]);
            for (step, length) in steps {
                let most = whole.len().min(at + length);
                match step {
                    0 => {
                        let skipped = usize::try_from(reader.skip_frames(length as u64).unwrap()).unwrap();
                        prop_assert!(skipped <= length);
                        at += skipped;
                    }
                    1 => {
                        let mut all = Vec::new();
                        reader.by_ref().take(length as u64).read_to_end(&mut all).unwrap();
                        prop_assert_eq!(&all[..], &whole[at..most]);
                        at += all.len();
                    }
                    _ => {
                        reader.piece(&mut piece, length).unwrap();
                        prop_assert_eq!(piece.is_empty(), at == most);
                        prop_assert_eq!(&piece[..], &whole[at..at + piece.len()]);
                        prop_assert!(at + piece.len() <= most);
                        at += piece.len();
                    }
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
        assert!(matches!(next(&bytes), Some(Next::Frame { plain: 100_000, .. })));
        // Not a single segment: then a window descriptor follows, here of 128 MiB.
        bytes[4] &= !0x20;
        bytes.insert(5, (27 - 10) << 3);
        assert!(matches!(next(&bytes), Some(Next::Frame { .. })));
        assert_eq!(read(&bytes, true), (vec![3; 100_000], None));
        assert_eq!(read(&bytes, false), (vec![3; 100_000], None));
        for larger in [(27 - 10) << 3 | 1, (31 - 10) << 3] {
            bytes[5] = larger;
            assert!(matches!(next(&bytes), Some(Next::Other)));
            assert_eq!(read(&bytes, true), read(&bytes, false));
            assert_eq!(read(&bytes, true).1, Some("damaged"));
        }
    }
}
