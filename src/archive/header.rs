//! Tar framing, read side: blocks, GNU long names, PAX records, the end mark. Stricter than `tar`: what two
//! readers might understand differently is an error. Changes nothing.
//!
//! Knows nothing of what a name may be or where it may lie: that is [`super::name`].

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::decode::{DecodeFailure, Skip};
use super::hashed::fill;
use super::name::escape;
use super::{ArchiveError, EntryKind};

const BLOCK: usize = 512;
/// The most that one long name or one set of PAX records may take.
pub(super) const MAX_EXTENSION: u64 = 4 * 1024 * 1024;
/// The most zeros after the end mark: GNU tar fills up to a record, 10 KiB unless told otherwise.
const MAX_PADDING: u64 = 1024 * 1024;
/// The PAX key of an extended attribute; `%` and `=` in the attribute's name are escaped as in URLs.
pub(super) const XATTR_KEY: &str = "SCHILY.xattr.";

/// A member as its headers say, unchecked but for form.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) mtime_nanos: u32,
    pub(super) size: u64,
    pub(super) link: Vec<u8>,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

/// What headers before a member's own say about it.
#[derive(Debug, Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Vec<(String, Vec<u8>)>>,
}

/// Reads members one after the other; in between, [`Read`] gives the body of the latest.
#[derive(Debug)]
pub(super) struct TarReader<R> {
    input: R,
    remaining: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, remaining: 0, padding: 0 }
    }

    /// The next member; `None` after a complete end mark, with the input read to its end. The body of
    /// the member before must have been read.
    pub(super) fn next(&mut self) -> Result<Option<Raw>, ArchiveError> {
        self.skip_padding()?;
        let mut extensions = Extensions::default();
        loop {
            let block = self.block()?.ok_or(ArchiveError::Truncated)?;
            if block.iter().all(|byte| *byte == 0) {
                self.end()?;
                return if extensions.is_empty() { Ok(None) } else { Err(ArchiveError::Truncated) };
            }
            let header = tar::Header::from_byte_slice(&block);
            let name = header.path_bytes();
            check_sum(header, &block, &name)?;
            let size = header.entry_size().map_err(|error| malformed(&name, &error))?;
            let twice = match block[156] {
                b'L' => extensions.name.replace(without_nul(self.small(size, &name)?)).is_some(),
                b'K' => extensions.link.replace(without_nul(self.small(size, &name)?)).is_some(),
                b'x' => extensions.pax.replace(pax_records(&self.small(size, &name)?, &name)?).is_some(),
                _ => {
                    let raw = extensions.apply(header, size)?;
                    self.remaining = raw.size;
                    let whole = raw.size.checked_next_multiple_of(BLOCK as u64);
                    let whole = whole.ok_or_else(|| malformed(&name, &"a size that no file has"))?;
                    self.padding = whole - raw.size;
                    return Ok(Some(raw));
                }
            };
            if twice {
                return Err(malformed(&name, &"two extended headers of one kind"));
            }
        }
    }

    /// Whether nothing of the latest body is left.
    pub(super) fn is_body_over(&self) -> bool {
        self.remaining == 0
    }

    /// One block; `None` at a clean end of input.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let mut block = [0; BLOCK];
        match fill(&mut self.input, &mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(ArchiveError::Truncated),
        }
    }

    /// The second zero block, then zeros to the end of the input.
    fn end(&mut self) -> Result<(), ArchiveError> {
        let second = self.block()?.ok_or(ArchiveError::Truncated)?;
        if second.iter().any(|byte| *byte != 0) {
            return Err(ArchiveError::TrailingData);
        }
        let mut buffer = [0; 8 * 1024];
        let mut zeros = 0;
        loop {
            match self.input.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    zeros += length as u64;
                    if zeros > MAX_PADDING || buffer[..length].iter().any(|byte| *byte != 0) {
                        return Err(ArchiveError::TrailingData);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn skip_padding(&mut self) -> Result<(), ArchiveError> {
        debug_assert_eq!(self.remaining, 0, "the body before was read");
        let padding = std::mem::take(&mut self.padding);
        let skipped = io::copy(&mut (&mut self.input).take(padding), &mut io::sink())?;
        if skipped == padding { Ok(()) } else { Err(ArchiveError::Truncated) }
    }

    /// The body of an extended header.
    fn small(&mut self, size: u64, name: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_EXTENSION {
            return Err(malformed(name, &format!("an extended header of {size} bytes")));
        }
        let mut bytes = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(ArchiveError::Truncated);
        }
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        self.skip_padding()?;
        Ok(bytes)
    }
}

impl<R: Skip> TarReader<R> {
    /// Passes over what is left of the latest body.
    pub(super) fn leap(&mut self) -> Result<(), ArchiveError> {
        Ok(self.input.skip(std::mem::take(&mut self.remaining))?)
    }

    /// The next piece of the latest body, as [`Skip::piece`].
    pub(super) fn piece(&mut self, piece: &mut Vec<u8>, most: usize) -> io::Result<()> {
        let want = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(most);
        if want == 0 {
            piece.clear();
            return Ok(());
        }
        self.input.piece(piece, want)?;
        if piece.is_empty() {
            return Err(DecodeFailure::Truncated.into());
        }
        self.remaining -= piece.len() as u64;
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let length = self.input.read(&mut buffer[..want])?;
        if length == 0 {
            return Err(DecodeFailure::Truncated.into());
        }
        self.remaining -= length as u64;
        Ok(length)
    }
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.pax.is_none()
    }

    /// Joins a member's header with what stood before it; PAX records win over GNU's, as in GNU tar.
    fn apply(self, header: &tar::Header, size: u64) -> Result<Raw, ArchiveError> {
        let name = self.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let number = |field: io::Result<u64>| field.map_err(|error| malformed(&name, &error));
        let mut raw = Raw {
            kind: kind(header.as_bytes()[156], &name)?,
            mode: header.mode().map_err(|error| malformed(&name, &error))? & 0o7777,
            uid: owner(number(header.uid())?, &name)?,
            gid: owner(number(header.gid())?, &name)?,
            // Times before 1970 are two's complement in GNU's binary form.
            mtime: number(header.mtime())?.cast_signed(),
            mtime_nanos: 0,
            size,
            link: self.link.or_else(|| header.link_name_bytes().map(Vec::from)).unwrap_or_default(),
            xattrs: BTreeMap::new(),
            name: name.clone(),
        };
        for (key, value) in self.pax.unwrap_or_default() {
            raw.set(&key, value, &name)?;
        }
        if raw.kind != EntryKind::File && raw.size != 0 {
            return Err(malformed(&name, &"a body where there can be none"));
        }
        Ok(raw)
    }
}

impl Raw {
    fn set(&mut self, key: &str, value: Vec<u8>, name: &[u8]) -> Result<(), ArchiveError> {
        let text = || {
            std::str::from_utf8(&value)
                .map_err(|_| malformed(name, &format!("PAX record '{key}' is no text")))
        };
        let number = || {
            let text = text()?;
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>()
                .ok()
                .filter(|_| digits)
                .ok_or_else(|| malformed(name, &format!("PAX record '{key}' is no number")))
        };
        match key {
            "size" => self.size = number()?,
            "uid" => self.uid = owner(number()?, name)?,
            "gid" => self.gid = owner(number()?, name)?,
            "mtime" => {
                (self.mtime, self.mtime_nanos) =
                    time(text()?).ok_or_else(|| malformed(name, &"PAX record 'mtime' is no time"))?;
            }
            "path" => self.name = value,
            "linkpath" => self.link = value,
            _ if key.starts_with("GNU.sparse.") => return Err(ArchiveError::Sparse { member: escape(name) }),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_KEY).and_then(unescape_xattr) {
                    self.xattrs.insert(name, value);
                }
            }
        }
        Ok(())
    }
}

fn malformed(member: &[u8], why: &dyn std::fmt::Display) -> ArchiveError {
    ArchiveError::Malformed { member: escape(member), why: why.to_string() }
}

fn check_sum(header: &tar::Header, block: &[u8; BLOCK], name: &[u8]) -> Result<(), ArchiveError> {
    // The checksum's own field counts as eight spaces.
    let sum: u32 =
        block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    match header.cksum() {
        Ok(stated) if stated == sum => Ok(()),
        Ok(_) | Err(_) => Err(malformed(name, &"wrong header checksum")),
    }
}

fn kind(flag: u8, name: &[u8]) -> Result<EntryKind, ArchiveError> {
    let what = match flag {
        0 | b'0' => return Ok(EntryKind::File),
        b'1' => return Ok(EntryKind::Hardlink),
        b'2' => return Ok(EntryKind::Symlink),
        b'5' => return Ok(EntryKind::Directory),
        b'S' => return Err(ArchiveError::Sparse { member: escape(name) }),
        b'3' | b'4' => "a device node".to_owned(),
        b'6' => "a FIFO".to_owned(),
        other => format!("of the unknown type '{}'", escape(&[other])),
    };
    Err(ArchiveError::UnsupportedType { member: escape(name), what })
}

/// The largest value is the system's "leave it as it is" and no owner.
fn owner(id: u64, name: &[u8]) -> Result<u32, ArchiveError> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| malformed(name, &format!("the owner {id} is out of range")))
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

/// `<length> <key>=<value>\n`, again and again; the length is that of the whole record.
fn pax_records(mut bytes: &[u8], name: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
    let bad = || malformed(name, &"malformed PAX records");
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
        let digits = std::str::from_utf8(&bytes[..space]).map_err(|_| bad())?;
        let length: usize = digits.parse().map_err(|_| bad())?;
        let record = bytes.get(space + 1..length).ok_or_else(bad)?;
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        // A key that is no text is none that we know.
        records
            .push((String::from_utf8_lossy(&record[..equals]).into_owned(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

/// Seconds and nanoseconds of a decimal time; digits past nanoseconds are dropped.
fn time(text: &str) -> Option<(i64, u32)> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some(((-seconds).checked_sub(1)?, 1_000_000_000 - nanos)),
    }
}

/// The name of an extended attribute; `None` for one that a system would not take.
fn unescape_xattr(text: &str) -> Option<String> {
    let name = text.replace("%3D", "=").replace("%25", "%");
    (!name.is_empty() && name.len() <= 255 && !name.contains('\0')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_have_nanoseconds() {
        assert_eq!(time("1795487992"), Some((1_795_487_992, 0)));
        assert_eq!(time("12.5"), Some((12, 500_000_000)));
        assert_eq!(time("12.0000000019"), Some((12, 1)));
        assert_eq!(time("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time("-1"), Some((-1, 0)));
        for bad in ["", "-", ".5", "1.x", "1e5", "+1", "99999999999999999999"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn records_with_a_wrong_length_are_refused() {
        let good = pax_records(b"11 path=ab\n9 uid=12\n", b"m").unwrap();
        assert_eq!(good, [("path".into(), b"ab".to_vec()), ("uid".into(), b"12".to_vec())]);
        for bad in [
            &b"12 path=ab\n"[..],
            b"10 path=ab\n",
            b"x path=ab\n",
            b"0 ",
            b"99999 a=b\n",
            b"6 path\n",
            b"\xff",
        ] {
            assert!(matches!(pax_records(bad, b"m"), Err(ArchiveError::Malformed { .. })), "{bad:?}");
        }
    }
}
