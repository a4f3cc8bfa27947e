//! Facts: what a step notes in the journal before it acts, so that a later process can tell from the
//! disk how far it came. Pure.

use serde::{Deserialize, Serialize};

use jiff::Timestamp;

use crate::host::fs::Attributes;
use crate::ids::{AbsPath, BackupId, Sha256};
use crate::plan::assets::AssetKind;
use crate::state::instances::LastRestore;

/// Device and inode: which directory a name refers to, whatever its name. The device number is as it
/// was then; a reboot may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileId {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// One entry of a mount point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EntryIds {
    /// Its name.
    pub name: String,
    /// Inode of what has the name in the target before; absent where nothing has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<u64>,
    /// Inode of what was unpacked under the name; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<u64>,
}

/// A file outside of the instance directory that becomes another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssetChange {
    /// Which.
    pub kind: AssetKind,
    /// The file.
    pub path: AbsPath,
    /// Digest of what was there and is kept; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Sha256>,
    /// Digest of what is written; absent where the file is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Sha256>,
    /// Mode and owner of what was there; absent where nothing was, and in journals of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Attributes>,
}

/// A symbolic link that is made or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkChange {
    /// Its name.
    pub path: AbsPath,
    /// What it leads to.
    pub to: AbsPath,
    /// Whether it is made; it is removed otherwise.
    pub made: bool,
}

/// Which of the two trees of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// The one that it displaces.
    Before,
    /// The one that it puts in place.
    After,
}

/// One fact, noted before the act that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Fact {
    /// The private directory that this run unpacks into.
    #[serde(rename_all = "camelCase")]
    Staging {
        /// Inside the root.
        directory: AbsPath,
    },
    /// The directory that has the target's name before anything changes; absent where there is none.
    Target {
        /// Which one.
        id: FileId,
    },
    /// The id that the pre-backup will have.
    #[serde(rename_all = "camelCase")]
    PreBackup {
        /// Its id in the index.
        id: BackupId,
    },
    /// What the record step is about to write into the registry, and what stood there.
    #[serde(rename_all = "camelCase")]
    Record {
        /// The time that is written.
        at: Timestamp,
        /// The registry's former values; absent where the restore is not live.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        former: Option<LastRestore>,
    },
    /// What the swap is about to exchange.
    #[serde(rename_all = "camelCase")]
    Swap {
        /// The unpacked tree.
        staged: FileId,
        /// The tree in the target's place; absent where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        live: Option<FileId>,
        /// Where the unpacked tree lies before the swap.
        staged_at: AbsPath,
        /// Where the displaced tree is kept after it.
        displaced_at: AbsPath,
        /// What changes places one by one, in this order, where a file system is mounted at the target.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entries: Vec<EntryIds>,
        /// Where an earlier run keeps the tree that comes back; absent where it was unpacked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<AbsPath>,
    },
    /// What is about to be done with the service, or was seen of it.
    Service(ServiceFact),
    /// What of unit and vhost is about to be written; what was there is kept already.
    #[serde(rename_all = "camelCase")]
    Assets {
        /// Where what was there is kept.
        kept_in: AbsPath,
        /// Each file that will be another one, and the vhost in any case where its link is made or removed.
        files: Vec<AssetChange>,
        /// The link by which nginx reads the vhost, where it is made or removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<LinkChange>,
    },
    /// systemd and nginx are about to be told of them. Older programs noted it; nothing goes by it, since a
    /// boot tells them too.
    AssetsTold,
    /// What a whole tree was, for the receipt; no step acts on it.
    #[serde(rename_all = "camelCase")]
    Tree {
        /// Which tree.
        side: Side,
        /// SHA-256 over its listing.
        sha256: Sha256,
    },
}

impl Fact {
    /// Where a swap puts the displaced tree; `None` where there is nothing to displace.
    pub fn displaced(&self) -> Option<&AbsPath> {
        if let Self::Swap { live: Some(_), displaced_at, .. } = self { Some(displaced_at) } else { None }
    }

    /// The digest of one of the run's trees.
    pub fn tree(&self, wanted: Side) -> Option<Sha256> {
        if let Self::Tree { side, sha256 } = self { (*side == wanted).then_some(*sha256) } else { None }
    }
}

/// What is about to be done with the service, or was seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ServiceFact {
    /// It runs and is about to be stopped.
    #[serde(rename_all = "camelCase")]
    Stop {
        /// When it was last asked.
        at: Timestamp,
        /// Whether its server answered then.
        answered: bool,
    },
    /// It is about to be started.
    #[serde(rename_all = "camelCase")]
    Start {
        /// When.
        at: Timestamp,
    },
    /// Its server answers.
    #[serde(rename_all = "camelCase")]
    Answers {
        /// When it did so first.
        at: Timestamp,
    },
}
