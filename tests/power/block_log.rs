//! A disk that remembers the order of everything: a FUSE file system of one file in memory, which logs each
//! write and each flush. A loop device with direct I/O lies over it, so that what reaches the log is what
//! a file system sends to its disk. Nothing here ever touches the mounted file system: that would wait for
//! itself. It ends with its process; a crash leaves a dead mount in a temporary directory at most.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    Request, WriteFlags,
};
use tempfile::TempDir;

/// Bytes of a block, the unit in which contents are kept.
const BLOCK: usize = 4096;
/// The one file.
const NAME: &str = "disk";

/// The contents of a disk; what is not there is zeros. Cheap to copy: blocks are shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks(HashMap<u64, Arc<[u8; BLOCK]>>);

impl Blocks {
    /// What a file holds.
    pub(crate) fn of(path: &Path) -> Self {
        let mut file = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(path).unwrap());
        let mut blocks = Self::default();
        let mut block = [0; BLOCK];
        let mut at = 0;
        while file.read_exact(&mut block).is_ok() {
            blocks.put(at, &block);
            at += 1;
        }
        blocks
    }

    fn put(&mut self, at: u64, block: &[u8; BLOCK]) {
        if block.iter().all(|byte| *byte == 0) {
            self.0.remove(&at);
        } else {
            self.0.insert(at, Arc::new(*block));
        }
    }

    /// Puts bytes at a place.
    pub(crate) fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let mut offset = offset;
        while !bytes.is_empty() {
            let (at, inner) = (offset / BLOCK as u64, usize::try_from(offset).unwrap() % BLOCK);
            let length = bytes.len().min(BLOCK - inner);
            let mut block = self.0.get(&at).map_or([0; BLOCK], |block| **block);
            block[inner..inner + length].copy_from_slice(&bytes[..length]);
            self.put(at, &block);
            bytes = &bytes[length..];
            offset += length as u64;
        }
    }

    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let place = offset + bytes.len() as u64;
            let (at, inner) = (place / BLOCK as u64, usize::try_from(place).unwrap() % BLOCK);
            let end = BLOCK.min(inner + length - bytes.len());
            match self.0.get(&at) {
                Some(block) => bytes.extend_from_slice(&block[inner..end]),
                None => bytes.resize(bytes.len() + end - inner, 0),
            }
        }
        bytes
    }

    /// Writes them as a sparse file of this size.
    pub(crate) fn save(&self, path: &Path, size: u64) {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::create(path).unwrap();
        file.set_len(size).unwrap();
        for (at, block) in &self.0 {
            file.write_all_at(&block[..], at * BLOCK as u64).unwrap();
        }
    }
}

/// One thing that happened to the disk.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// Bytes were written.
    Write(u64, Arc<[u8]>),
    /// Everything written before is on the platter.
    Flush,
    /// What the test knew at this point: a command had returned.
    Mark,
}

/// Contents now, and how they came about.
#[derive(Debug, Default)]
struct Content {
    blocks: Blocks,
    log: Vec<Entry>,
}

/// The disk; unmounted when it goes out of use.
#[derive(Debug)]
pub(crate) struct Disk {
    content: Arc<Mutex<Content>>,
    session: Option<BackgroundSession>,
    directory: TempDir,
}

impl Disk {
    /// Offers contents as a disk.
    pub(crate) fn new(blocks: Blocks, size: u64) -> Self {
        let content = Arc::new(Mutex::new(Content { blocks, log: Vec::new() }));
        let directory = TempDir::with_prefix("abssctl-disk-").unwrap();
        let one = OneFile { content: Arc::clone(&content), size };
        let session = fuser::spawn_mount(one, directory.path(), &Config::default()).unwrap();
        Self { content, session: Some(session), directory }
    }

    /// The file to put a loop device over.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join(NAME)
    }

    /// Notes in the log what has happened by now.
    pub(crate) fn mark(&self) {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).log.push(Entry::Mark);
    }

    /// The contents, from which on the log begins anew.
    pub(crate) fn base(&self) -> Blocks {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.log.clear();
        content.blocks.clone()
    }

    /// What happened since.
    pub(crate) fn log(&self) -> Vec<Entry> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).log.clone()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            drop(session.umount_and_join());
        }
    }
}

struct OneFile {
    content: Arc<Mutex<Content>>,
    size: u64,
}

impl OneFile {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let top = inode == INodeNo::ROOT;
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: inode,
            size: if top { 0 } else { self.size },
            blocks: self.size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if top { FileType::Directory } else { FileType::RegularFile },
            perm: if top { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: u32::try_from(BLOCK).unwrap_or_default(),
            flags: 0,
        }
    }
}

const FOREVER: Duration = Duration::from_secs(3600);

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&FOREVER, &self.attributes(INodeNo(2)), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: else writes would come when the kernel likes.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = u64::from(size).min(self.size.saturating_sub(offset));
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        reply.data(&content.blocks.read(offset, usize::try_from(length).unwrap_or_default()));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.blocks.write(offset, data);
        content.log.push(Entry::Write(offset, data.into()));
        reply.written(u32::try_from(data.len()).unwrap_or_default());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).log.push(Entry::Flush);
        reply.ok();
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        // A disk that cannot discard: nothing vanishes but by writes.
        reply.error(Errno::EOPNOTSUPP);
    }
}
