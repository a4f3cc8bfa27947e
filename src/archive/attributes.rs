//! What a file has beside its content: owner, extended attributes, mode, times, as a member's header says. Changes
//! the file that it is given, which is not synced.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use super::{ArchiveError, Member};
use crate::host::fs::IoContext as _;
use crate::host::stamp::Stamp;

/// The mode that a file is made with: its own at once where no right of anybody else's is in it before owner
/// and attributes are set.
pub(super) fn made(member: &Member, owner: (u32, u32)) -> u32 {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if owner == own && member.xattrs.is_empty() { file_mode(member) } else { 0o600 }
}

/// Privileges must not come out of an archive; data files need none.
pub(super) fn file_mode(member: &Member) -> u32 {
    member.mode & 0o777
}

/// Gives a file whose content is written everything else; by what it is known from then on.
pub(super) fn finish(
    file: &std::fs::File,
    member: &Member,
    owner: (u32, u32),
) -> Result<Stamp, ArchiveError> {
    let look = || file.metadata().context("inspect", &member.path);
    // Most are as they should be but for the time, and are looked at once.
    rustix::fs::futimens(file, &times(member)).context("set the time of", &member.path)?;
    let mut meta = look()?;
    let is = (meta.uid(), meta.gid());
    if is != owner || meta.mode() & 0o7777 != file_mode(member) || !member.xattrs.is_empty() {
        settle(file, member, file_mode(member), [is, owner])?;
        meta = look()?;
    }
    Ok(Stamp::of(&meta))
}

/// Owner, attributes, mode, time: in this order, as the first drops attributes and privileges, and the mode
/// may forbid attributes. The owners are who it belongs to and who it is to belong to.
pub(super) fn settle(
    file: impl AsFd,
    member: &Member,
    mode: u32,
    [is, wanted]: [(u32, u32); 2],
) -> Result<(), ArchiveError> {
    if is != wanted {
        let (uid, gid) = ids(wanted);
        rustix::fs::fchown(&file, uid, gid).context("set the owner of", &member.path)?;
    }
    for (name, value) in member.xattrs.iter().filter(|(name, _)| is_restorable(name)) {
        let set = rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty());
        // Which attributes a system takes depends on file system, user and kernel.
        if matches!(set, Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)) {
            set.context("set an attribute of", &member.path)?;
        }
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).context("set the mode of", &member.path)?;
    rustix::fs::futimens(&file, &times(member)).context("set the time of", &member.path)?;
    Ok(())
}

/// Whether an extended attribute may come out of an archive: capabilities, labels and marks of the kernel
/// give a file rights that its mode does not show.
fn is_restorable(name: &str) -> bool {
    name.starts_with("user.") || matches!(name, "system.posix_acl_access" | "system.posix_acl_default")
}

/// `u32::MAX` would mean "leave it"; a resolver that gives it gets just that.
pub(super) fn ids((uid, gid): (u32, u32)) -> (Option<Uid>, Option<Gid>) {
    let real = |id: u32| (id != u32::MAX).then_some(id);
    (real(uid).map(Uid::from_raw), real(gid).map(Gid::from_raw))
}

pub(super) fn times(member: &Member) -> Timestamps {
    let time = Timespec { tv_sec: member.mtime, tv_nsec: i64::from(member.mtime_nanos) };
    Timestamps { last_access: time, last_modification: time }
}
