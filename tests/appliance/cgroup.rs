//! Control groups of a machine's own. systemd-nspawn takes the group that it is started in for its own, so
//! each machine begins in a new one; else two would share one and end each other's processes.

use std::path::{Path, PathBuf};

/// The groups of one machine, one in each hierarchy that systemd uses; removed when they go out of use.
#[derive(Debug)]
pub(crate) struct Groups(Vec<PathBuf>);

impl Groups {
    /// Makes them below the groups of this process.
    pub(crate) fn new(name: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let groups: Vec<PathBuf> = mounts.lines().filter_map(|line| below(line, &own, name)).collect();
        assert!(!groups.is_empty(), "systemd needs a hierarchy of control groups and finds none:\n{mounts}");
        for group in &groups {
            std::fs::create_dir(group).unwrap();
        }
        Self(groups)
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }
}

/// Where the new group lies in a mounted hierarchy: the unified one, or the one of version 1 that is only
/// systemd's. `None` for all other mounts.
fn below(mount: &str, own: &str, name: &str) -> Option<PathBuf> {
    let (mount, source) = mount.split_once(" - ")?;
    let at = mount.split(' ').nth(4)?;
    let group = if source.starts_with("cgroup2 ") {
        own.lines().find_map(|line| line.strip_prefix("0::"))
    } else if source.starts_with("cgroup ") && source.ends_with(",name=systemd") {
        own.lines().find_map(|line| line.split_once(":name=systemd:")).map(|(_, group)| group)
    } else {
        None
    }?;
    Some(Path::new(at).join(group.trim_start_matches('/')).join(name))
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in &self.0 {
            remove(group);
        }
    }
}

/// Removes a group and those below it, which are all empty once the machine is off.
fn remove(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    drop(std::fs::remove_dir(group));
}
