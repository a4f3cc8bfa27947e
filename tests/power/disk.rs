//! File systems on disks that are files: made, mounted through a loop device, unmounted when they go out of
//! use. Only root can; what a killed test leaves are mounts below the temporary directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::tools::{have, is_root, tool};

/// A file system to lose power on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The least that its tools make one of, in bytes.
    pub(crate) size: u64,
    /// What it takes for granted to be written whole: a disk under btrfs writes its 4 KiB at once.
    pub(crate) sector: usize,
    make: &'static [&'static str],
}

pub(crate) const EXT4: Kind = Kind { name: "ext4", size: 32 << 20, sector: 512, make: &["-q", "-F"] };
pub(crate) const XFS: Kind = Kind { name: "xfs", size: 300 << 20, sector: 512, make: &["-q", "-f"] };
pub(crate) const BTRFS: Kind = Kind { name: "btrfs", size: 128 << 20, sector: 4096, make: &["-q", "-f"] };

impl Kind {
    /// Why this machine cannot try it; `None` where it can.
    pub(crate) fn lacking(self) -> Option<String> {
        let program = format!("mkfs.{}", self.name);
        if !is_root() {
            Some("only root can mount a disk".to_owned())
        } else if !Path::new("/dev/fuse").exists() {
            Some("there is no /dev/fuse, which the disk that remembers is made of".to_owned())
        } else if !Path::new("/dev/loop-control").exists() || !have("losetup") {
            Some("there are no loop devices".to_owned())
        } else if !have(&program) {
            Some(format!("{program} is missing"))
        } else {
            None
        }
    }

    /// Makes an empty file system in a file.
    pub(crate) fn make(self, path: &Path) {
        std::fs::File::create(path).unwrap().set_len(self.size).unwrap();
        let mut arguments = self.make.to_vec();
        arguments.push(path.to_str().unwrap());
        let _ = tool(&format!("mkfs.{}", self.name), &arguments);
    }
}

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Mounted {
    device: String,
    directory: TempDir,
    there: bool,
}

impl Mounted {
    /// Mounts what is in a file, with the options that everybody has. `Err`: what `mount` said.
    pub(crate) fn new(disk: &Path, kind: Kind, direct: bool) -> Result<Self, String> {
        let direct = if direct { "--direct-io=on" } else { "--direct-io=off" };
        let device = tool("losetup", &["--find", "--show", direct, disk.to_str().unwrap()]);
        let device = device.stdout.trim().to_owned();
        let directory = TempDir::with_prefix("abssctl-power-").unwrap();
        let mut mounted = Self { device, directory, there: false };
        let out = Command::new("mount")
            .args(["-t", kind.name, &mounted.device])
            .arg(mounted.directory.path())
            .output()
            .unwrap();
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).into_owned());
        }
        mounted.there = true;
        Ok(mounted)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.there {
            let plain = Command::new("umount").arg(self.directory.path()).output();
            if !plain.is_ok_and(|out| out.status.success()) {
                drop(Command::new("umount").arg("-l").arg(self.directory.path()).output());
            }
        }
        drop(Command::new("losetup").args(["-d", &self.device]).output());
    }
}

/// A directory in memory, where there is one: images come and go fast.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = TempDir::with_prefix_in("abssctl-power-", memory);
    made.unwrap_or_else(|_| TempDir::with_prefix("abssctl-power-").unwrap())
}
