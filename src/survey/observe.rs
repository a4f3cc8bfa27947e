//! Everything of `observed` but the archive's content: what both the planner and `check` look at.
//! Reads only.

use std::path::Path;

use cap_std::fs::Dir;

use super::assets::{self, Refusal};
use super::server;
use super::target::{self, TargetSurvey};
use crate::context::Context;
use crate::host::fs::{self, FsError, IoContext as _};
use crate::host::machine;
use crate::host::service::{Active, Load, ServiceError, is_unit_name};
use crate::ids::{AbsPath, InstanceName, UrlTemplate};
use crate::plan::assets::ObservedAssets;
use crate::plan::observed::{
    HealthFrom, Observed, ObservedBackup, ObservedDisplaced, ObservedFileSystem, ObservedInstance,
    ObservedServer, ObservedService, ObservedSpace, Presence, ServiceManagerKind, ServiceTrouble,
};
use crate::plan::preview::Verdict;
use crate::plan::spec::{PreBackupMode, Spec};
use crate::state::instances::{InstanceEntry, Registry, RegistryError, entry_digest};

/// The machine could not be looked at.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SurveyError {
    /// A file operation failed.
    #[error(transparent)]
    #[diagnostic(code(abssctl::survey::io), help("make it readable for this user, or run as root"))]
    Fs(#[from] FsError),
    /// The registry could not be read, or does not know the instance.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Registry(#[from] RegistryError),
    /// The service manager does not answer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Service(#[from] ServiceError),
    /// The address of the server makes no sense for the instance.
    #[error("health.url makes no address for instance {instance}: {why}")]
    #[diagnostic(
        code(abssctl::survey::health_url),
        help("mend health.url in restore.yml, or port and domain of the instance in instances.yml")
    )]
    HealthUrl {
        /// The instance.
        instance: InstanceName,
        /// What is wrong with it.
        why: String,
    },
    /// Unit or vhost cannot be written where they lie.
    #[error("unit and vhost cannot be restored: {}", .0.what)]
    #[diagnostic(code(abssctl::survey::assets), help("{}", .0.help))]
    Assets(Refusal),
    /// The target is something that cannot be replaced safely.
    #[error("the target {path} is {what}")]
    #[diagnostic(code(abssctl::survey::target_kind), help("{help}"))]
    TargetKind {
        /// The target.
        path: AbsPath,
        /// What it is.
        what: &'static str,
        /// What to do.
        help: String,
    },
    /// Another file system is mounted somewhere in the target: it would move away with the old tree, and
    /// come back over the new one at the next start of the machine.
    #[error("the target {directory} has another file system mounted in it, at {}", .inner.display())]
    #[diagnostic(
        code(abssctl::survey::mount_inside),
        help(
            "mount it where the whole instance lies instead, or unmount it and copy what it holds into the instance's directory"
        )
    )]
    MountInside {
        /// The target.
        directory: AbsPath,
        /// Where, below it.
        inner: std::path::PathBuf,
    },
    /// The directory that holds the target does not exist.
    #[error("the directory {path}, which is to hold the target, does not exist")]
    #[diagnostic(code(abssctl::survey::no_parent), help("create it, or choose another --dest"))]
    NoParent {
        /// The missing directory.
        path: AbsPath,
    },
    /// The instance's data lies outside of its directory.
    #[error("the data directory {data} of instance {instance} is not below its directory {root}")]
    #[diagnostic(
        code(abssctl::survey::data_outside),
        help(
            "mend 'paths' of the instance in instances.yml: a restore replaces the instance's directory as a whole"
        )
    )]
    DataOutside {
        /// The instance.
        instance: InstanceName,
        /// Its data directory.
        data: AbsPath,
        /// Its directory.
        root: AbsPath,
    },
}

impl From<Refusal> for SurveyError {
    fn from(refusal: Refusal) -> Self {
        Self::Assets(refusal)
    }
}

/// What was seen.
#[derive(Debug)]
pub struct Survey {
    /// What goes into a plan.
    pub observed: Observed,
    /// The target in detail.
    pub target: TargetSurvey,
    /// The instance's registry entry.
    pub entry: InstanceEntry,
    /// Bytes free beside the target.
    pub staging_free: u64,
    /// Bytes free among the backups.
    pub backup_free: u64,
    /// Whether the target's file system is mounted read-only.
    pub read_only: bool,
}

/// The instance's registry entry and what a plan says of it.
pub fn instance(cx: &Context, name: &InstanceName) -> Result<(InstanceEntry, ObservedInstance), SurveyError> {
    let registry = Registry::load(&cx.root, &cx.config)?;
    let entry = registry.get(name)?;
    let relative = Path::new(entry.paths.data.as_str()).strip_prefix(entry.paths.root.as_str());
    let relative = relative.ok().and_then(Path::to_str).filter(|text| !text.is_empty());
    let Some(data_directory) = relative.map(str::to_owned) else {
        let (data, root) = (entry.paths.data.clone(), entry.paths.root.clone());
        return Err(SurveyError::DataOutside { instance: name.clone(), data, root });
    };
    let observed = ObservedInstance {
        registry_entry: entry_digest(entry),
        data_directory,
        port: entry.port,
        version: entry.version.clone(),
    };
    Ok((entry.clone(), observed))
}

/// A target and the file system that it lies on.
#[derive(Debug)]
pub struct Place {
    /// The target, opened; `None` where it does not exist.
    pub dir: Option<Dir>,
    /// What stands there.
    pub target: TargetSurvey,
    /// What a plan says of the file system.
    pub file_system: ObservedFileSystem,
    /// Bytes free on it.
    pub free: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// Looks at a target; `data` is the server's data directory below it.
pub fn place(cx: &Context, directory: &AbsPath, data: &Path) -> Result<Place, SurveyError> {
    let (parent, dir) = open_target(cx, directory)?;
    let path = cx.root.host_path(directory);
    let mut target = target::look(dir.as_ref(), data).context("look at", &path)?;
    if let Some(inner) = target.entries.iter().find(|entry| entry.mount_point) {
        let (directory, inner) = (directory.clone(), inner.path.clone());
        return Err(SurveyError::MountInside { directory, inner });
    }
    target.observed.mount_point = is_mount_point(&parent, directory).context("look at", &path)?;
    let found =
        fs::file_system(dir.as_ref().unwrap_or(&parent)).context("look at the file system of", &path)?;
    let file_system = ObservedFileSystem {
        r#type: found.kind,
        atomic_exchange: match found.exchange {
            Some(true) => Verdict::Will,
            Some(false) => Verdict::WillNot,
            None => Verdict::NotChecked,
        },
    };
    Ok(Place { dir, target, file_system, free: found.free_bytes, read_only: found.read_only })
}

/// The unit that goes on with interrupted runs when the machine starts (`examples/systemd`). An instance
/// named `recover` has no unit of that name: a restore would stop the one that goes on with it.
pub const RECOVERY_UNIT: &str = "abssctl-recover.service";

/// The unit of an instance: the file that the registry names, or `abssctl-<name>.service`.
pub fn unit(entry: &InstanceEntry) -> &str {
    entry.paths.systemd_unit.file_name().unwrap_or_default()
}

/// The service of an instance. Where nothing controls services, a server that runs is found by the files
/// that it has open.
///
/// # Errors
/// The service manager does not answer.
pub fn service(cx: &Context, entry: &InstanceEntry) -> Result<ObservedService, SurveyError> {
    let services = cx.services();
    if services.absent().is_some() {
        let manager = ServiceManagerKind::None;
        return Ok(ObservedService { manager, unit: None, running: false, trouble: None });
    }
    let (manager, unit) = (ServiceManagerKind::Systemd, unit(entry));
    if !is_unit_name(unit) || unit == RECOVERY_UNIT {
        let trouble = Some(ServiceTrouble::NoName);
        return Ok(ObservedService { manager, unit: None, running: false, trouble });
    }
    let state = services.state(unit)?;
    let trouble = match (state.load, state.active) {
        (Load::NotFound, _) => Some(ServiceTrouble::NotFound),
        (Load::Bad, _) => Some(ServiceTrouble::NotLoaded),
        (Load::Masked, _) => Some(ServiceTrouble::Masked),
        (Load::Loaded, Active::Failed) => Some(ServiceTrouble::Failed),
        (Load::Loaded, _) => state.is_restarting().then_some(ServiceTrouble::Restarting),
    };
    Ok(ObservedService { manager, unit: Some(unit.to_owned()), running: state.is_up(), trouble })
}

/// Where the server of an instance is asked, as `restore.yml` says.
///
/// # Errors
/// The address of `restore.yml` makes none for this instance.
pub fn health(cx: &Context, entry: &InstanceEntry) -> Result<HealthFrom, SurveyError> {
    let source = &cx.config.restore.health;
    let fill = |url: &UrlTemplate| url.of(&entry.name, entry.port, entry.domain.as_deref());
    let url =
        source.url.as_ref().map(fill).transpose().map_err(|source| SurveyError::HealthUrl {
            instance: entry.name.clone(),
            why: source.to_string(),
        })?;
    Ok(HealthFrom { url, ca: source.ca.clone() })
}

/// Bytes that a backup of a target needs at most, where it is made: it is at most as large as what it
/// holds, and SQLite files are copied once on the way.
pub fn backup_bytes(mode: PreBackupMode, presence: Presence, bytes: u64) -> u64 {
    let makes_one = mode != PreBackupMode::None && presence == Presence::Content;
    if makes_one { bytes.saturating_mul(2) } else { 0 }
}

/// Looks at everything but what comes, whose description is given.
pub fn observe(cx: &Context, spec: &Spec, comes: Comes) -> Result<Survey, SurveyError> {
    let (entry, observed_instance) = instance(cx, &spec.instance)?;
    let place = place(cx, &spec.target.directory, Path::new(&observed_instance.data_directory))?;
    let backup_directory = cx.config.backups.root.clone();
    let backup_free = backup_free(cx)?;
    let target = place.target;
    let copied = if spec.is_single() { target.bytes } else { 0 };
    let unpacked = comes.backup.as_ref().map_or(0, |backup| backup.unpacked_bytes);
    let staging_bytes = unpacked.saturating_add(copied);
    let backup_bytes = backup_bytes(spec.pre_backup.mode, target.observed.presence, target.bytes);
    let fits = staging_bytes <= place.free && backup_bytes <= backup_free;
    let mut observed = Observed {
        machine: machine::machine_id(&cx.root)?,
        instance: observed_instance,
        backup: comes.backup,
        displaced: comes.displaced,
        server: ObservedServer::default(),
        target: target.observed.clone(),
        service: service(cx, &entry)?,
        assets: comes.assets.map(|planned| assets::again(cx, &entry, &planned)).transpose()?,
        file_system: place.file_system,
        space: ObservedSpace {
            staging_bytes,
            backup_bytes,
            backup_directory,
            verdict: if fits { Verdict::Will } else { Verdict::WillNot },
        },
    };
    observed.server = server::find(cx, &entry).judge(observed.migrations());
    Ok(Survey { observed, target, entry, staging_free: place.free, backup_free, read_only: place.read_only })
}

/// What comes into a target, as its plan describes it: one of the first two.
#[derive(Debug, Clone, Default)]
pub struct Comes {
    /// A backup.
    pub backup: Option<ObservedBackup>,
    /// The tree that a run displaced.
    pub displaced: Option<ObservedDisplaced>,
    /// Unit and vhost.
    pub assets: Option<ObservedAssets>,
}

/// Bytes free where backups go: in the directory, or in the nearest one above it that exists.
pub fn backup_free(cx: &Context) -> Result<u64, SurveyError> {
    let mut inside = cx.config.backups.root.clone();
    loop {
        if let Some(dir) = cx.root.dir_optional(&inside)? {
            let found =
                fs::file_system(&dir).context("look at the file system of", cx.root.host_path(&inside))?;
            return Ok(found.free_bytes);
        }
        match inside.parent() {
            Some(parent) => inside = parent,
            None => return Ok(0),
        }
    }
}

/// Whether a file system is mounted where a target is; `parent` is the directory that holds it.
pub fn is_mount_point(parent: &Dir, target: &AbsPath) -> std::io::Result<bool> {
    let entry = fs::entry(parent, target.file_name().unwrap_or_default())?;
    Ok(entry == fs::Entry::Directory { mount_point: true })
}

/// Opens the target's parent and the target, if it is there; refuses what cannot be replaced safely.
pub fn open_target(cx: &Context, target: &AbsPath) -> Result<(Dir, Option<Dir>), SurveyError> {
    let refuse =
        |what, help: &str| SurveyError::TargetKind { path: target.clone(), what, help: help.to_owned() };
    let Some(parent_path) = target.parent() else {
        return Err(refuse("the root directory", "choose a directory with --dest"));
    };
    let Some(parent) = cx.root.dir_optional(&parent_path)? else {
        return Err(SurveyError::NoParent { path: parent_path });
    };
    let name = target.file_name().unwrap_or_default();
    let path = cx.root.host_path(target);
    match fs::entry(&parent, name).context("look at", &path)? {
        fs::Entry::Absent => Ok((parent, None)),
        fs::Entry::Directory { .. } => {
            let dir = fs::open_dir(&parent, name).context("open directory", &path)?;
            Ok((parent, Some(dir)))
        }
        fs::Entry::Symlink => Err(refuse(
            "a symbolic link",
            "name the real directory: in 'paths' of instances.yml, or with --dest",
        )),
        fs::Entry::Other => Err(refuse("not a directory", "move it away, or choose another --dest")),
    }
}
