//! The digest of a whole tree as it lies on disk: SHA-256 over a canonical listing, for the record of
//! what a run replaced and what it put in place. Reads only; never holds more than one directory's names
//! a level and pieces of as many files as there are cores.
//!
//! The listing has one record an entry, ended by a NUL byte, its fields parted by one blank:
//!
//! ```text
//! TYPE MODE UID GID SIZE DIGEST PATH
//! ```
//!
//! `TYPE` is `d`, `f`, `l` or `s` (socket, FIFO, device); `MODE` the permission bits in octal; `SIZE` the
//! bytes of a file, else 0; `DIGEST` the SHA-256 of a file's content or of the text of a link, else `-`;
//! `PATH` the bytes of the path below the tree, `.` for the tree itself, which comes first. An entry
//! comes before what is in it, and the entries of a directory in the order of the bytes of their names.
//!
//! Times, extended attributes and the names that one file has besides are left out: times, since preparing
//! a database for the restore changes them. `.abssctl` at the top is no part of a tree.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, MetadataExt as _};
use sha2::Digest as _;

use super::tree::{self, Entry, Kind};
use crate::archive::HashingReader;
use crate::host::cancel::Cancel;
use crate::host::fs;
use crate::host::pool::Batches;
use crate::host::stamp::Known;
use crate::ids::Sha256;

/// Bytes of a file that are read at once.
const PIECE: usize = 128 << 10;

/// The digest of the tree below `dir`, whose files are read on all cores, but for those that are known already.
/// `progress` is told how many bytes of files were read so far.
///
/// # Errors
/// An entry cannot be read, with its path in the message; or somebody asked to stop.
pub fn digest(dir: &Dir, known: &Known, cancel: &Cancel, progress: &dyn Fn(u64)) -> io::Result<Sha256> {
    let mut listing = Listing {
        hasher: sha2::Sha256::new(),
        known,
        cancel,
        progress,
        bytes: 0,
        lines: Batches::new(cancel, read),
    };
    let own = dir.dir_metadata()?;
    let (mode, owner) = (own.mode() & 0o7777, (own.uid(), own.gid()));
    listing.push(Line { letter: 'd', mode, owner, size: 0, content: Content::None, path: ".".into() }, 0)?;
    tree::walk(dir, &mut |entry, parent| listing.add(entry, parent))?;
    while let Some(read) = listing.lines.pop() {
        listing.take(read)?;
    }
    Ok(Sha256::from_bytes(listing.hasher.finalize().into()))
}

struct Listing<'a> {
    hasher: sha2::Sha256,
    known: &'a Known,
    cancel: &'a Cancel,
    progress: &'a dyn Fn(u64),
    bytes: u64,
    lines: Batches<Line, io::Result<Records>>,
}

/// One record, but for what only the content of a file says.
struct Line {
    letter: char,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    content: Content,
    path: PathBuf,
}

enum Content {
    None,
    Known(Sha256),
    Of(File),
}

/// What came out of lines that follow one another.
struct Records {
    text: Vec<u8>,
    bytes: u64,
}

impl Listing<'_> {
    fn add(&mut self, entry: &Entry, parent: &Dir) -> io::Result<()> {
        self.cancel.check().map_err(io::Error::other)?;
        let name = Path::new(entry.path.file_name().unwrap_or_default());
        let (letter, content) = match entry.kind {
            Kind::Directory => ('d', Content::None),
            Kind::Special => ('s', Content::None),
            Kind::Symlink => {
                let text = parent.read_link_contents(name).map_err(|error| at(&entry.path, &error))?;
                ('l', Content::Known(Sha256::of(text.as_os_str().as_bytes())))
            }
            Kind::File => {
                if let Some(sha256) = self.known.get(entry.stamp) {
                    ('f', Content::Known(sha256))
                } else {
                    let file = fs::open_regular(parent, name).map_err(|error| at(&entry.path, &error))?;
                    ('f', Content::Of(file))
                }
            }
        };
        let bytes = if matches!(content, Content::Of(_)) { entry.size } else { 0 };
        let (owner, path) = ((entry.uid, entry.gid), entry.path.clone());
        self.push(Line { letter, mode: entry.mode, owner, size: entry.size, content, path }, bytes)
    }

    fn push(&mut self, line: Line, bytes: u64) -> io::Result<()> {
        match self.lines.push(line, bytes) {
            Some(read) => self.take(read),
            None => Ok(()),
        }
    }

    fn take(&mut self, read: io::Result<Records>) -> io::Result<()> {
        let read = read?;
        self.hasher.update(&read.text);
        if read.bytes > 0 {
            self.bytes += read.bytes;
            (self.progress)(self.bytes);
        }
        Ok(())
    }
}

fn read(lines: Vec<Line>, cancel: &Cancel) -> io::Result<Records> {
    let any = lines.iter().any(|line| matches!(line.content, Content::Of(_)));
    let mut buffer = vec![0; if any { PIECE } else { 0 }];
    let mut read = Records { text: Vec::new(), bytes: 0 };
    for Line { letter, mode, owner: (uid, gid), size, content, path } in lines {
        let content = match content {
            Content::None => None,
            Content::Known(sha256) => Some(sha256),
            Content::Of(file) => {
                let (sha256, bytes) = HashingReader::new(file)
                    .read_out(&mut buffer, cancel)
                    .map_err(|error| at(&path, &error))?;
                read.bytes += bytes;
                Some(sha256)
            }
        };
        write!(read.text, "{letter} {mode:o} {uid} {gid} {size} ")?;
        match content {
            Some(sha256) => write!(read.text, "{sha256} ")?,
            None => write!(read.text, "- ")?,
        }
        read.text.extend_from_slice(path.as_os_str().as_bytes());
        read.text.push(0);
    }
    Ok(read)
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    type Change = (&'static str, fn(&Path));

    fn open(path: &Path) -> Dir {
        Dir::open_ambient_dir(path, cap_std::ambient_authority()).unwrap()
    }

    fn write(base: &Path, name: &str, bytes: &[u8]) {
        open(base).write(name, bytes).unwrap();
    }

    fn of(path: &Path) -> Sha256 {
        digest(&open(path), &Known::default(), &Cancel::default(), &|_| {}).unwrap()
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_listing_is_what_the_page_says() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path();
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        std::fs::create_dir(base.join(fs::PRIVATE)).unwrap();
        write(base, "a.txt", b"text");
        symlink("b", base.join("a/link")).unwrap();
        for (name, bits) in [("", 0o700), ("a", 0o750), ("a/b", 0o755), ("a.txt", 0o640)] {
            mode(&base.join(name), bits);
        }
        let own = open(base).dir_metadata().unwrap();
        let owner = format!("{} {}", own.uid(), own.gid());
        let (text, link) = (Sha256::of(b"text"), Sha256::of(b"b"));
        // What is in `a` comes before `a.txt`, whatever the byte after the name is.
        let listing = format!(
            "d 700 {owner} 0 - .\0d 750 {owner} 0 - a\0d 755 {owner} 0 - a/b\0l 777 {owner} 0 {link} a/link\0f 640 {owner} 4 {text} a.txt\0"
        );
        assert_eq!(of(base), Sha256::of(listing.as_bytes()));
    }

    #[test]
    fn every_change_but_that_of_a_time_is_another_digest() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path();
        write(base, "file", b"text");
        symlink("file", base.join("link")).unwrap();
        let before = of(base);
        let file = std::fs::File::options().write(true).open(base.join("file")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(of(base), before);
        let changes: [Change; 5] = [
            ("content", |base| write(base, "file", b"texd")),
            ("mode", |base| mode(&base.join("file"), 0o600)),
            ("mode of the tree", |base| mode(base, 0o701)),
            ("a new name", |base| std::fs::create_dir(base.join("new")).unwrap()),
            ("a link", |base| {
                std::fs::remove_file(base.join("link")).unwrap();
                symlink("other", base.join("link")).unwrap();
            }),
        ];
        mode(&base.join("file"), 0o644);
        let mut seen = vec![of(base)];
        for (what, change) in changes {
            change(base);
            let now = of(base);
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        }
    }

    #[test]
    fn it_stops_when_asked_and_tells_how_far_it_is() {
        let temporary = tempfile::tempdir().unwrap();
        write(temporary.path(), "file", &vec![7; 3 * PIECE]);
        let told = std::sync::Mutex::new(Vec::new());
        let tell = |bytes| told.lock().unwrap().push(bytes);
        digest(&open(temporary.path()), &Known::default(), &Cancel::default(), &tell).unwrap();
        assert_eq!(told.lock().unwrap().last(), Some(&(3 * PIECE as u64)));
        let cancel = Cancel::default();
        cancel.request();
        let error = digest(&open(temporary.path()), &Known::default(), &cancel, &|_| {}).unwrap_err();
        assert_eq!(error.to_string(), "stopped on request");
        // In the middle of a file too.
        let file = fs::open_regular(&open(temporary.path()), "file").unwrap();
        let (content, path) = (Content::Of(file), PathBuf::from("file"));
        let line = Line { letter: 'f', mode: 0o644, owner: (0, 0), size: 0, content, path };
        let error = read(vec![line], &cancel).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "file: stopped on request");
    }
}
