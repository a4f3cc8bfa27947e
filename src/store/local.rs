//! Archives in directories: `<backups root>/<instance>/<id>.tar.zst | .tar.gz | .tar`, each with a sidecar
//! `<archive>.sha256` that `sha256sum -c` reads.
//!
//! An archive appears whole: it is written under `.<id>.partial`, synced, and renamed to its name,
//! which must be free; then the sidecar is written. A crash leaves a `.partial`, which the next backup of
//! the instance removes, or an archive that no index names, with or without its sidecar: neither counts
//! as a backup, and the older tool's `backup reconcile` lists it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use rustix::fs::Mode;

use crate::host::fs::{self, FsError, IoContext as _, Root, WriteBehind};
use crate::ids::{AbsPath, BackupId, InstanceName, InvalidId, Sha256};
use crate::state::config::Config;

/// The suffix of a sidecar.
pub const SIDECAR: &str = ".sha256";

/// A sidecar is one short line.
const SIDECAR_LIMIT: u64 = 4096;

/// An archive cannot be opened or stored.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StoreError {
    /// The archive is gone.
    #[error("archive {} does not exist", .path.display())]
    #[diagnostic(
        code(abssctl::store::missing),
        help(
            "bring the file back, or choose another backup: 'abssctl backup list'; 'abssctl backup verify --all' marks those that are gone"
        )
    )]
    Missing {
        /// The archive.
        path: PathBuf,
    },
    /// Something else has the archive's name.
    #[error("archive {} is not a regular file", .path.display())]
    #[diagnostic(
        code(abssctl::store::not_a_file),
        help("look at what it is; 'abssctl backup list' shows other backups")
    )]
    NotAFile {
        /// The archive.
        path: PathBuf,
    },
    /// A path leads elsewhere.
    #[error("archive {path} is not below the directory of backups, {base}")]
    #[diagnostic(
        code(abssctl::store::outside),
        help("correct 'path' in the index, or 'backups.root': 'abssctl config show'")
    )]
    Outside {
        /// The archive.
        path: AbsPath,
        /// The directory of backups.
        base: AbsPath,
    },
    /// A compression that there is no name for.
    #[error("archives cannot be compressed with '{algorithm}'")]
    #[diagnostic(code(abssctl::store::algorithm), help("use zstd, gzip or none"))]
    Algorithm {
        /// The name given.
        algorithm: String,
    },
    /// The sidecar says nothing, or speaks of another file.
    #[error("{} {why}", .path.display())]
    #[diagnostic(
        code(abssctl::store::sidecar),
        help(
            "it must be one line as sha256sum writes it; compare the archive with the index by 'abssctl backup verify ID'"
        )
    )]
    Sidecar {
        /// The sidecar.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The archive has another size than its index entry says.
    #[error("archive {} has {found} bytes, expected are {recorded}", .path.display())]
    #[diagnostic(
        code(abssctl::store::size),
        help("the file is cut off or was replaced; choose another backup: abssctl backup list")
    )]
    Size {
        /// The archive.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes that the index or the plan says.
        recorded: u64,
    },
    /// Sidecar and index name different digests.
    #[error("the sidecar of {} says SHA-256 {sidecar}, expected is {recorded}", .path.display())]
    #[diagnostic(
        code(abssctl::store::sidecar_differs),
        help(
            "run sha256sum on the archive: whichever of the two agrees with it is right; choose another backup otherwise: abssctl backup list"
        )
    )]
    SidecarDiffers {
        /// The archive.
        path: PathBuf,
        /// The digest in the sidecar.
        sidecar: Sha256,
        /// The digest that the index or the plan says.
        recorded: Sha256,
    },
    /// The name is taken.
    #[error("archive {} already exists", .path.display())]
    #[diagnostic(code(abssctl::store::exists), help("run the command again: a new backup gets a new id"))]
    Exists {
        /// The archive.
        path: PathBuf,
    },
    /// A name too long to be a path.
    #[error(transparent)]
    #[diagnostic(code(abssctl::store::path), help("choose a shorter 'backups.root'"))]
    Path(#[from] InvalidId),
    /// A file or directory cannot be read or written.
    #[error(transparent)]
    #[diagnostic(
        code(abssctl::store::io),
        help("see whether the disk is full and who may read and write there")
    )]
    Fs(#[from] FsError),
}

/// The suffix of an archive's name for a compression: `tar.zst`, `tar.gz`, `tar`.
pub fn extension(algorithm: &str) -> Result<&'static str, StoreError> {
    match algorithm {
        "zstd" => Ok("tar.zst"),
        "gzip" => Ok("tar.gz"),
        "none" => Ok("tar"),
        other => Err(StoreError::Algorithm { algorithm: other.to_owned() }),
    }
}

/// Where the archive of a backup belongs.
pub fn archive_path(
    config: &Config,
    instance: &InstanceName,
    id: &BackupId,
    algorithm: &str,
) -> Result<AbsPath, StoreError> {
    let name = format!("{id}.{}", extension(algorithm)?);
    Ok(config.backups.root.join(instance.as_str())?.join(&name)?)
}

/// Refuses a path that is not below the directory of backups.
pub fn check_within(config: &Config, archive: &AbsPath) -> Result<(), StoreError> {
    let base = &config.backups.root;
    if archive.is_within(base) && archive != base {
        return Ok(());
    }
    Err(StoreError::Outside { path: archive.clone(), base: base.clone() })
}

/// An archive, opened for reading.
#[derive(Debug)]
pub struct Archive {
    /// The open file: what is read from it cannot be exchanged any more.
    pub file: File,
    /// Its size in bytes when it was opened.
    pub size: u64,
}

/// Opens an archive; a regular file only.
pub fn open(root: &Root, config: &Config, archive: &AbsPath) -> Result<Archive, StoreError> {
    check_within(config, archive)?;
    let path = root.host_path(archive);
    let file = match root.open_file(archive) {
        Ok(Some(file)) => file,
        Ok(None) => return Err(StoreError::Missing { path }),
        Err(error) if is_no_file(&error.source) => return Err(StoreError::NotAFile { path }),
        Err(error) => return Err(error.into()),
    };
    let meta = file.metadata().context("inspect", &path)?;
    Ok(Archive { size: meta.len(), file })
}

/// Not a regular file, or a socket, which cannot even be opened.
fn is_no_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

/// Reads the sidecar of an archive; `None` where there is none.
///
/// # Errors
/// Anything but `<64 hex digits>␠␠<the archive's file name>` and a line break at most: a sidecar that
/// speaks of another file must not pass for a proof.
pub fn read_sidecar(root: &Root, config: &Config, archive: &AbsPath) -> Result<Option<Sha256>, StoreError> {
    check_within(config, archive)?;
    let sidecar = AbsPath::try_from(format!("{archive}{SIDECAR}"))?;
    let path = root.host_path(&sidecar);
    let wrong = |why: &str| StoreError::Sidecar { path: path.clone(), why: why.to_owned() };
    let bytes = match root.read(&sidecar, SIDECAR_LIMIT) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if is_no_file(&error.source) => return Err(wrong("is not a regular file")),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not a text"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let (digest, name) = line.split_once("  ").ok_or_else(|| wrong("is not '<sha256>  <file name>'"))?;
    let digest = digest.parse().map_err(|_| wrong("does not begin with a SHA-256 digest"))?;
    if Some(name) != archive.file_name() {
        return Err(wrong(&format!("speaks of '{}', not of its archive", name.escape_debug())));
    }
    Ok(Some(digest))
}

/// Proves what can be proven without reading an archive: it is there, its size is right, and its
/// sidecar (where there is one) names the same digest as the index.
pub fn inspect(
    root: &Root,
    config: &Config,
    archive: &AbsPath,
    size_bytes: u64,
    sha256: Sha256,
) -> Result<(), StoreError> {
    let path = root.host_path(archive);
    let found = open(root, config, archive)?.size;
    if found != size_bytes {
        return Err(StoreError::Size { path, found, recorded: size_bytes });
    }
    match read_sidecar(root, config, archive)? {
        Some(sidecar) if sidecar != sha256 => {
            Err(StoreError::SidecarDiffers { path, sidecar, recorded: sha256 })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether something has the name of an archive or of its sidecar.
pub fn is_there(root: &Root, config: &Config, archive: &AbsPath) -> bool {
    if check_within(config, archive).is_err() {
        return false;
    }
    let Ok((dir, name)) = root.parent_of(archive) else { return false };
    [name.to_owned(), format!("{name}{SIDECAR}")].iter().any(|name| dir.symlink_metadata(name).is_ok())
}

/// Removes an archive and its sidecar, durably; what is not there is as good as removed. Anything that is
/// no file is refused.
///
/// # Atomicity
/// The archive goes first: a crash leaves both, or the sidecar alone.
pub fn remove(root: &Root, config: &Config, archive: &AbsPath) -> Result<(), StoreError> {
    check_within(config, archive)?;
    let Some(parent) = archive.parent() else { return Ok(()) };
    let Some(dir) = root.dir_optional(&parent)? else { return Ok(()) };
    let name = archive.file_name().unwrap_or_default();
    for name in [name.to_owned(), format!("{name}{SIDECAR}")] {
        let path = root.host_path(&parent).join(&name);
        match fs::entry(&dir, &name).context("look at", &path)? {
            fs::Entry::Absent => continue,
            fs::Entry::Other | fs::Entry::Symlink => {}
            fs::Entry::Directory { .. } => return Err(StoreError::NotAFile { path }),
        }
        dir.remove_file(&name).context("remove", path)?;
    }
    fs::sync_dir(&dir).context("sync", root.host_path(&parent))?;
    Ok(())
}

/// An archive that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The archive.
    pub path: AbsPath,
    /// Its sidecar.
    pub sidecar: AbsPath,
    /// Its size in bytes.
    pub size: u64,
}

/// An archive that is being written; dropped without [`Publish::publish`], it leaves nothing.
#[derive(Debug)]
pub struct Publish {
    root: Root,
    dir: Dir,
    path: AbsPath,
    partial: String,
    file: File,
    done: bool,
}

impl Publish {
    /// Creates the instance's directory of backups (0750) where it is missing, and an empty file (0640)
    /// under a temporary name in it.
    pub fn begin(
        root: &Root,
        config: &Config,
        instance: &InstanceName,
        id: &BackupId,
        algorithm: &str,
    ) -> Result<Self, StoreError> {
        let path = archive_path(config, instance, id, algorithm)?;
        check_within(config, &path)?;
        let parent = config.backups.root.join(instance.as_str())?;
        let dir = root.ensure_dir(&parent, 0o750)?;
        let partial = format!(".{id}.partial");
        let shown = root.host_path(&parent).join(&partial);
        // Of a run that was killed; ids are not shared by living ones, which hold the instance's lock.
        fs::remove_tree(&dir, &partial).context("remove", &shown)?;
        let file = fs::create_file(&dir, &partial, 0o640).context("create", &shown)?;
        let publish = Self { root: root.clone(), dir, path, partial, file, done: false };
        rustix::fs::fchmod(&publish.file, Mode::from_raw_mode(0o640)).context("set the mode of", &shown)?;
        Ok(publish)
    }

    /// Where to write the archive to, from its beginning.
    pub fn file(&mut self) -> WriteBehind<'_> {
        WriteBehind::new(&mut self.file)
    }

    /// The directory that the archive will lie in.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Where that directory lies on this machine, for messages.
    pub fn directory(&self) -> PathBuf {
        let path = self.root.host_path(&self.path);
        path.parent().map(Path::to_path_buf).unwrap_or_default()
    }

    /// Where the file lies as long as it is written, for messages.
    pub fn partial(&self) -> PathBuf {
        self.directory().join(&self.partial)
    }

    /// Gives the archive its name and writes its sidecar.
    ///
    /// # Atomicity
    /// The archive is synced before it has its name, and the name is never taken from another file.
    /// A crash leaves the partial file, or the archive, or the archive and its sidecar; after `Ok` both
    /// stay. Where the sidecar cannot be written, the archive is taken away again.
    pub fn publish(mut self, digest: &Sha256) -> Result<Published, StoreError> {
        let shown = self.root.host_path(&self.path);
        let name = self.path.file_name().unwrap_or_default().to_owned();
        let sidecar = AbsPath::try_from(format!("{}{SIDECAR}", self.path))?;
        self.file.sync_all().context("write", &shown)?;
        let size = self.file.metadata().context("inspect", &shown)?.len();
        match fs::rename_noreplace(&self.dir, &self.partial, &self.dir, &name) {
            Ok(()) => self.done = true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists { path: shown });
            }
            Err(error) => {
                // The name may be there although it is not durable; the partial one is gone then.
                if self.dir.try_exists(&self.partial).is_ok_and(|there| !there) {
                    drop(self.dir.remove_file(&name));
                }
                return Err(error).context("create", &shown).map_err(StoreError::from);
            }
        }
        let line = format!("{digest}  {name}\n");
        let beside = format!("{name}{SIDECAR}");
        if let Err(error) = fs::replace(&self.dir, &beside, line.as_bytes(), 0o640) {
            // Without its sidecar and index entry it would be a file that nothing lists; the sidecar may be
            // there although it is not durable.
            drop(self.dir.remove_file(&beside));
            drop(self.dir.remove_file(&name));
            return Err(error).context("write", self.root.host_path(&sidecar)).map_err(StoreError::from);
        }
        Ok(Published { path: self.path.clone(), sidecar, size })
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is replaced by the next archive of this id.
            drop(self.dir.remove_file(&self.partial));
        }
    }
}

#[cfg(test)]
mod tests;
