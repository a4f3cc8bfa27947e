//! Unit and vhost: what a backup holds of them, and what this machine has. Used by the planner and by `check`.
//! Reads only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::archive::{ArchiveSurvey, ENABLED_FOLDER, SITE_FOLDER, UNIT_FOLDER};
use super::preflight::{Class, Problem};
use crate::context::Context;
use crate::host::fs::{self, Entry, FsError, IoContext as _};
use crate::host::proxy::Nginx;
use crate::ids::{AbsPath, Sha256};
use crate::plan::assets::{AssetKind, ObservedAsset, ObservedAssets, ObservedLink, ProxyKind};
use crate::run::fact::{AssetChange, Fact, LinkChange};
use crate::run::state::RunState;
use crate::state::asset_places::{self, AssetPlaces, Place};
use crate::state::instances::InstanceEntry;

/// No unit or vhost is larger.
pub const MAX_ASSET: u64 = 1 << 20;

/// Unit and vhost cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, in one sentence.
    pub what: String,
    /// What to do instead.
    pub help: String,
}

impl Refusal {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }

    /// With the way out that leaves unit and vhost alone.
    pub fn without(what: impl Into<String>) -> Self {
        Self::new(
            what,
            "leave out --with-assets (spec.assets: data), and put unit and vhost in place yourself",
        )
    }
}

impl From<FsError> for Refusal {
    fn from(error: FsError) -> Self {
        Self::new(error.to_string(), "make it readable for this user, or run as root")
    }
}

/// What a run kept of unit and vhost.
#[derive(Debug)]
pub struct Kept {
    /// What comes, and what is there.
    pub assets: ObservedAssets,
    /// The texts that come, each with its place in an archive.
    pub texts: BTreeMap<PathBuf, Vec<u8>>,
}

/// What comes of one of the two.
struct Comes {
    member: String,
    sha256: Option<Sha256>,
}

/// Looks at unit and vhost of a backup and at those of the machine.
///
/// # Errors
/// The backup holds neither, or what is not to be written: other names than the instance's, what is no plain
/// text; or the machine has something else in their places than plain files.
pub fn look(cx: &Context, entry: &InstanceEntry, held: &ArchiveSurvey) -> Result<ObservedAssets, Refusal> {
    let places = asset_places::of(&cx.root, &cx.config, entry)?;
    let own = |path: &AbsPath, end: &str| {
        [path.file_name().unwrap_or_default().to_owned(), format!("abssctl-{}.{end}", entry.name)]
    };
    let unit = member(held, UNIT_FOLDER, &own(&places.unit.path, "service"))?;
    let site = member(held, SITE_FOLDER, &own(&places.site.path, "conf"))?;
    let enabled = member(held, ENABLED_FOLDER, &own(&places.site.path, "conf"))?;
    if unit.is_none() && site.is_none() {
        return Err(Refusal::without("the backup holds neither unit nor vhost"));
    }
    if let (Some(site), Some(enabled)) = (&site, &enabled)
        && site.1 != enabled.1
    {
        return Err(Refusal::without(
            "nginx read another vhost than the one in sites-available when the backup was made, and the backup holds both",
        ));
    }
    let comes = |found: Option<(String, Sha256)>| {
        found.map(|(member, sha256)| Comes { member, sha256: Some(sha256) })
    };
    let link = (site.is_some() && enabled.is_some()).then_some(true);
    now(cx, &places, comes(unit), comes(site), link)
}

/// Looks at what a run kept of unit and vhost when it replaced them, and at those of the machine. `None` where
/// it replaced neither. The texts of what it kept come too, each with its place in an archive.
///
/// # Errors
/// What it kept is gone or another, or they lie elsewhere by now; else as [`look`], of the machine.
pub fn kept(cx: &Context, entry: &InstanceEntry, state: &RunState) -> Result<Option<Kept>, Refusal> {
    let Some((kept_in, files, link)) = written(state) else { return Ok(None) };
    let lost =
        |path: &AbsPath| Refusal::without(format!("what the run kept of {path} is gone from {kept_in}"));
    let places = asset_places::of(&cx.root, &cx.config, entry)?;
    let (mut unit, mut site, mut texts) = (None, None, BTreeMap::new());
    for file in files {
        let (place, comes, folder) = match file.kind {
            AssetKind::Unit => (&places.unit, &mut unit, UNIT_FOLDER),
            AssetKind::Site => (&places.site, &mut site, SITE_FOLDER),
        };
        if place.path != file.path {
            let what = format!("the run replaced {}, and it is {} by now", file.path, place.path);
            return Err(Refusal::without(what));
        }
        let name = file.kind.kept_name();
        let mut bytes = Vec::new();
        if let Some(old) = file.old {
            bytes = read_kept(cx, kept_in, file.kind, old)?.ok_or_else(|| lost(&file.path))?;
        }
        *comes = Some(Comes { member: name.to_owned(), sha256: file.old });
        texts.insert(Path::new(folder).join(name), bytes);
    }
    // The vhost of a link is always among the files.
    let enabled = link.filter(|_| site.is_some()).map(|link| !link.made);
    now(cx, &places, unit, site, enabled).map(|assets| Some(Kept { assets, texts }))
}

/// What a run kept of a file; `None` where that is gone or another.
pub fn read_kept(
    cx: &Context,
    kept_in: &AbsPath,
    kind: AssetKind,
    old: Sha256,
) -> Result<Option<Vec<u8>>, FsError> {
    let Some(dir) = cx.root.dir_optional(kept_in)? else { return Ok(None) };
    let name = kind.kept_name();
    let bytes = fs::read_optional(&dir, name, MAX_ASSET);
    let bytes = bytes.context("read", cx.root.host_path(kept_in).join(name))?;
    Ok(bytes.filter(|bytes| Sha256::of(bytes) == old))
}

/// Whether a run replaced unit or vhost, and still has what was there.
pub fn is_kept(cx: &Context, state: &RunState) -> bool {
    written(state).is_some_and(|(kept_in, files, _)| {
        let kept = |file: &AssetChange| {
            file.old.is_none_or(|old| matches!(read_kept(cx, kept_in, file.kind, old), Ok(Some(_))))
        };
        files.iter().all(kept)
    })
}

/// What a run replaced of unit and vhost, where it did.
pub fn written(state: &RunState) -> Option<(&AbsPath, &[AssetChange], Option<&LinkChange>)> {
    let written = state.facts().filter_map(|fact| {
        let Fact::Assets { kept_in, files, link } = fact else { return None };
        Some((kept_in, files.as_slice(), link.as_ref()))
    });
    written.last().filter(|(_, files, link)| !files.is_empty() || link.is_some())
}

/// Looks again at what the machine has in the place of the files of a plan.
///
/// # Errors
/// As [`look`], of the machine.
pub fn again(
    cx: &Context,
    entry: &InstanceEntry,
    planned: &ObservedAssets,
) -> Result<ObservedAssets, Refusal> {
    let places = asset_places::of(&cx.root, &cx.config, entry)?;
    let comes = |file: &ObservedAsset| Comes { member: file.member.clone(), sha256: file.sha256 };
    let (unit, site) = (planned.unit.as_ref().map(comes), planned.site.as_ref().map(comes));
    now(cx, &places, unit, site, planned.enabled.as_ref().map(|link| link.wanted))
}

fn now(
    cx: &Context,
    places: &AssetPlaces,
    unit: Option<Comes>,
    site: Option<Comes>,
    enabled: Option<bool>,
) -> Result<ObservedAssets, Refusal> {
    let file = |comes: Comes, place: &Place| -> Result<ObservedAsset, Refusal> {
        Ok(ObservedAsset {
            now: read(cx, &place.path)?.map(|bytes| Sha256::of(&bytes)),
            path: place.path.clone(),
            found_by: place.found_by,
            member: comes.member,
            sha256: comes.sha256,
        })
    };
    let enabled = enabled.map(|wanted| -> Result<ObservedLink, Refusal> {
        let path = places.enabled.clone();
        Ok(ObservedLink { now: is_linked(cx, &path, &places.site.path)?, path, wanted })
    });
    Ok(ObservedAssets {
        unit: unit.map(|comes| file(comes, &places.unit)).transpose()?,
        site: site.map(|comes| file(comes, &places.site)).transpose()?,
        enabled: enabled.transpose()?,
        proxy: if nginx(cx).is_some() { ProxyKind::Nginx } else { ProxyKind::None },
    })
}

/// What keeps unit or vhost from being written: seen before anything is stopped for them.
pub fn unwritable(cx: &Context, seen: &ObservedAssets) -> Option<Problem> {
    let files = seen.files().filter(|(_, file)| !file.is_there()).map(|(_, file)| &file.path);
    let link = seen.enabled.iter().filter(|link| link.wanted != link.now).map(|link| &link.path);
    files.chain(link).find_map(|path| {
        let (dir, _) = parent(cx, path).ok()?;
        let error = fs::check_writable(&dir).err()?;
        Some(Problem {
            code: "assets-unwritable",
            class: Class::Environment,
            message: format!("{path} cannot be written: {error}"),
            help: "make its directory writable for this program (mount it read-write; in a unit of its own: ReadWritePaths=), or plan without unit and vhost (spec.assets: data)".to_owned(),
        })
    })
}

/// nginx of this machine, where it stands in front of the instances.
pub fn nginx(cx: &Context) -> Option<Nginx> {
    let meant = cx.config.reverse_proxy == "nginx";
    meant.then(|| Nginx::find(&cx.root, &cx.config.restore.nginx_bin)).flatten()
}

/// The one file of a folder of the archive, which has one of these names.
fn member(
    held: &ArchiveSurvey,
    folder: &str,
    names: &[String; 2],
) -> Result<Option<(String, Sha256)>, Refusal> {
    let mut found = None;
    for path in held.assets.iter().filter(|path| path.starts_with(folder)) {
        let shown = super::target::visible(path);
        if !names.iter().any(|name| *path == PathBuf::from(folder).join(name)) || found.is_some() {
            return Err(Refusal::without(format!(
                "the backup holds {shown}, which is not the file of this instance"
            )));
        }
        let text = held.texts.get(path).filter(|bytes| std::str::from_utf8(bytes).is_ok());
        let Some(bytes) = text.filter(|bytes| bytes.len() as u64 <= MAX_ASSET) else {
            return Err(Refusal::without(format!(
                "{shown} of the backup is no plain text file of at most {MAX_ASSET} bytes"
            )));
        };
        found = Some((path.to_string_lossy().into_owned(), Sha256::of(bytes)));
    }
    Ok(found)
}

/// Reads a unit or vhost of this machine; `None` where none is.
///
/// # Errors
/// Something else than a plain file is there, or its directory is missing: no file is written through a link.
pub fn read(cx: &Context, path: &AbsPath) -> Result<Option<Vec<u8>>, Refusal> {
    let (dir, name) = parent(cx, path)?;
    match fs::entry(&dir, name).context("look at", cx.root.host_path(path))? {
        Entry::Absent => Ok(None),
        Entry::Other => {
            let bytes = fs::read_optional(&dir, name, MAX_ASSET);
            Ok(bytes.context("read", cx.root.host_path(path))?)
        }
        Entry::Symlink => Err(Refusal::new(
            format!("{path} is a symbolic link, and no file is written through one"),
            "put a plain file in its place, or leave out --with-assets (spec.assets: data)",
        )),
        Entry::Directory { .. } => Err(Refusal::new(
            format!("{path} is a directory"),
            "move it away, or leave out --with-assets (spec.assets: data)",
        )),
    }
}

/// Whether the name that nginx reads leads to the vhost; `false` where nothing has the name.
///
/// # Errors
/// Something else has it.
pub fn is_linked(cx: &Context, path: &AbsPath, site: &AbsPath) -> Result<bool, Refusal> {
    let (dir, name) = parent(cx, path)?;
    let other = |what: &str| {
        Refusal::new(
            format!("{path} is {what}, not a link to {site}"),
            "make it one with ln -s, or leave out --with-assets (spec.assets: data)",
        )
    };
    match fs::entry(&dir, name).context("look at", cx.root.host_path(path))? {
        Entry::Absent => Ok(false),
        Entry::Symlink => {
            let target = dir.read_link_contents(name).context("read the link", cx.root.host_path(path))?;
            if leads_to(path, &target, site) { Ok(true) } else { Err(other("a link to something else")) }
        }
        Entry::Other => Err(other("a file of its own")),
        Entry::Directory { .. } => Err(other("a directory")),
    }
}

/// Whether a link of this name and content leads to a path, by their text.
fn leads_to(link: &AbsPath, content: &Path, to: &AbsPath) -> bool {
    let base = link.parent().map(|parent| parent.as_path().to_path_buf()).unwrap_or_default();
    let mut whole = PathBuf::new();
    for part in base.join(content).components() {
        match part {
            std::path::Component::ParentDir => {
                whole.pop();
            }
            std::path::Component::CurDir => {}
            part @ (std::path::Component::RootDir
            | std::path::Component::Prefix(_)
            | std::path::Component::Normal(_)) => whole.push(part),
        }
    }
    whole == to.as_path()
}

fn parent<'p>(cx: &Context, path: &'p AbsPath) -> Result<(cap_std::fs::Dir, &'p str), Refusal> {
    let missing = || {
        Refusal::new(
            format!("the directory that is to hold {path} does not exist"),
            "create it, or say in restore.yml (nginxDirectory) or instances.yml where it is",
        )
    };
    let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(missing)?;
    Ok((cx.root.dir_optional(&parent)?.ok_or_else(missing)?, name))
}

/// Which of the two a member of an archive is.
pub fn kind_of(member: &Path) -> Option<AssetKind> {
    if member.starts_with(UNIT_FOLDER) {
        Some(AssetKind::Unit)
    } else if member.starts_with(SITE_FOLDER) {
        Some(AssetKind::Site)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_judged_by_where_they_lead() {
        let site: AbsPath = "/etc/nginx/sites-available/x.conf".parse().unwrap();
        let link: AbsPath = "/etc/nginx/sites-enabled/x.conf".parse().unwrap();
        for good in [
            "/etc/nginx/sites-available/x.conf",
            "../sites-available/x.conf",
            "./../sites-available/./x.conf",
        ] {
            assert!(leads_to(&link, Path::new(good), &site), "{good}");
        }
        for bad in ["x.conf", "/etc/nginx/x.conf", "../../sites-available/x.conf", "", "../sites-available"] {
            assert!(!leads_to(&link, Path::new(bad), &site), "{bad}");
        }
    }

    #[test]
    fn one_file_of_the_instances_name_is_taken_from_a_folder() {
        let names = ["own.service".to_owned(), "abssctl-b.service".to_owned()];
        let held = |files: &[(&str, &[u8])]| {
            let mut held = ArchiveSurvey::default();
            for (path, bytes) in files {
                held.assets.insert(path.into());
                if !bytes.is_empty() {
                    held.texts.insert(path.into(), bytes.to_vec());
                }
            }
            held
        };
        let taken = |files: &[(&str, &[u8])]| member(&held(files), "systemd", &names);
        assert_eq!(taken(&[]).unwrap(), None);
        assert_eq!(taken(&[("nginx/x", b"a")]).unwrap(), None);
        let found = taken(&[("systemd/own.service", b"a")]).unwrap();
        assert_eq!(found, Some(("systemd/own.service".into(), Sha256::of(b"a"))));
        assert!(taken(&[("systemd/abssctl-b.service", b"a")]).unwrap().is_some());
        let refused = |files: &[(&str, &[u8])], says: &str| {
            let refusal = taken(files).unwrap_err();
            assert!(refusal.what.contains(says), "{}", refusal.what);
        };
        refused(&[("systemd/ssh.service", b"a")], "not the file of this instance");
        refused(&[("systemd/own.service.d/x.conf", b"a")], "not the file of this instance");
        let both: [(&str, &[u8]); 2] = [("systemd/own.service", b"a"), ("systemd/abssctl-b.service", b"a")];
        refused(&both, "not the file of this instance");
        refused(&[("systemd/own.service", b"\xff")], "no plain text");
        // In the archive, and not read as a text: too large, or a link.
        refused(&[("systemd/own.service", b"")], "no plain text");
    }
}
