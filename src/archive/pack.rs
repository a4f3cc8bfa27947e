//! Tar framing, write side: a member's header blocks, with PAX records for what the old form cannot say
//! (nanoseconds, long names, large owners, extended attributes). Pure.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::header::XATTR_KEY;
use super::{Entry, EntryKind};
use crate::ids::BackupId;

pub(super) const BLOCK: usize = 512;
/// The largest owner in seven octal digits.
const MAX_OWNER: u32 = 0o777_7777;
/// The largest size or time in eleven octal digits.
const MAX_NUMBER: u64 = 0o777_7777_7777;
/// Bytes of the name and link fields.
const FIELD: usize = 100;

/// Bytes between the end of a body of so many and the next block.
pub(super) fn padding(size: u64) -> usize {
    usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or(0)
}

/// The blocks that stand before a member's body.
pub(super) fn header(id: &BackupId, entry: &Entry) -> Vec<u8> {
    let name = member_name(id, &entry.path, entry.kind == EntryKind::Directory);
    let link = match (&entry.target, entry.kind) {
        (Some(target), EntryKind::Hardlink) => member_name(id, target, false),
        (Some(target), _) => target.as_os_str().as_bytes().to_vec(),
        (None, _) => Vec::new(),
    };
    let records = records(entry, &name, &link);
    let mut blocks = Vec::with_capacity(2 * BLOCK + records.len().next_multiple_of(BLOCK));
    if !records.is_empty() {
        let mut header = blank(b'x', b"PaxHeaders/entry", b"");
        header.set_size(records.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        blocks.extend_from_slice(header.as_bytes());
        blocks.extend_from_slice(&records);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    }
    let flag = match entry.kind {
        EntryKind::File => b'0',
        EntryKind::Hardlink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::Directory => b'5',
    };
    let mut header = blank(flag, &name, &link);
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(u64::from(if entry.uid > MAX_OWNER { 0 } else { entry.uid }));
    header.set_gid(u64::from(if entry.gid > MAX_OWNER { 0 } else { entry.gid }));
    header.set_size(entry.size);
    header.set_mtime(u64::try_from(entry.mtime).unwrap_or(0).min(MAX_NUMBER));
    header.set_cksum();
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

/// `<id>/<path>`, with a slash at the end of directories.
fn member_name(id: &BackupId, path: &Path, is_dir: bool) -> Vec<u8> {
    let mut name = id.as_str().as_bytes().to_vec();
    if !path.as_os_str().is_empty() {
        name.push(b'/');
        name.extend_from_slice(path.as_os_str().as_bytes());
    }
    if is_dir {
        name.push(b'/');
    }
    name
}

/// A header of zeros with type and as much of the names as fits.
fn blank(flag: u8, name: &[u8], link: &[u8]) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let bytes = header.as_mut_bytes();
    let length = name.len().min(FIELD);
    bytes[..length].copy_from_slice(&name[..length]);
    let length = link.len().min(FIELD);
    bytes[157..157 + length].copy_from_slice(&link[..length]);
    bytes[156] = flag;
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn records(entry: &Entry, name: &[u8], link: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if name.len() > FIELD {
        record(&mut out, "path", name);
    }
    if link.len() > FIELD {
        record(&mut out, "linkpath", link);
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id > MAX_OWNER {
            record(&mut out, key, id.to_string().as_bytes());
        }
    }
    if entry.size > MAX_NUMBER {
        record(&mut out, "size", entry.size.to_string().as_bytes());
    }
    if entry.mtime_nanos != 0 || u64::try_from(entry.mtime).map_or(true, |mtime| mtime > MAX_NUMBER) {
        record(&mut out, "mtime", time(entry.mtime, entry.mtime_nanos).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        let key = format!("{XATTR_KEY}{}", name.replace('%', "%25").replace('=', "%3D"));
        // The walk made the hexadecimal text, so it always has a value.
        record(&mut out, &key, &base16ct::mixed::decode_vec(value).unwrap_or_default());
    }
    out
}

/// `<length> <key>=<value>\n`, where the length counts its own digits too.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Decimal seconds; a time before 1970 is negative as a whole, so -1.5 is half a second after -2.
fn time(seconds: i64, nanos: u32) -> String {
    match (seconds, nanos) {
        (_, 0) => seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanos:09}"),
        (_, _) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for length in 0..1100 {
            let mut out = Vec::new();
            record(&mut out, "k", &vec![b'v'; length]);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn times_before_1970_are_written_as_gnu_tar_does() {
        assert_eq!(time(-2, 500_000_000), "-1.500000000");
        assert_eq!(time(-1, 500_000_000), "-0.500000000");
        assert_eq!(time(12, 5), "12.000000005");
        assert_eq!(time(-7, 0), "-7");
        assert_eq!(time(i64::MIN, 1), "-9223372036854775807.999999999");
    }
}
