//! The server that is installed for an instance: its folder, its version, the migrations that it knows.
//! Nothing of it is run. Where it cannot be told for sure, the reason is given instead. Reads only, and
//! no more than a server can have: links inside its folder are not followed.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cap_std::fs::Dir;
use serde_json::Value;

use crate::actual::migrations;
use crate::context::Context;
use crate::host::fs;
use crate::ids::AbsPath;
use crate::plan::observed::{InstalledServer, ServerSource};
use crate::state::instances::InstanceEntry;
use crate::state::yaml;

/// Real ones have some 130 files, 24 folders and 1 MiB.
const MAX_ENTRIES: usize = 20_000;
const MAX_DEPTH: usize = 16;
const MAX_FILE: u64 = 16 << 20;
const MAX_BYTES: u64 = 128 << 20;
/// Where systemd looks for drop-ins, beside the folder of the unit.
const UNIT_FOLDERS: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];
/// What a drop-in may set that changes which server runs, or what that finds in its place.
const STARTS_OTHER: [&str; 15] = [
    "ExecStart",
    "ExecStartPre",
    "ExecSearchPath",
    "RootDirectory",
    "RootImage",
    "BindPaths",
    "BindReadOnlyPaths",
    "Environment",
    "EnvironmentFile",
    "PassEnvironment",
    "WorkingDirectory",
    "MountImages",
    "ExtensionImages",
    "ExtensionDirectories",
    "TemporaryFileSystem",
];
/// Of versions.yml, units and the like.
const MAX_TEXT: u64 = 1 << 20;

/// Finds the server of an instance. The first of these that leads to a package counts: the version in
/// the registry, its path in `versions.yml`, the unit, the link `current`.
pub fn find(cx: &Context, entry: &InstanceEntry) -> InstalledServer {
    let unit = by_unit(cx, entry);
    let candidates = [
        (ServerSource::Registry, by_version(cx, entry)),
        (ServerSource::Versions, by_list(cx, entry)),
        (ServerSource::Unit, unit.clone()),
        (ServerSource::Current, below(cx, cx.config.install_root.as_str(), "current")),
    ];
    for (source, path) in candidates {
        let Some(path) = path else { continue };
        match cx.root.dir_optional(&path) {
            Ok(None) => {}
            Ok(Some(dir)) => return look(cx, entry, source, path, &dir, unit),
            Err(error) => return unknown(error.to_string()),
        }
    }
    let version = entry.version.as_deref().filter(|version| is_version(version));
    let version = version.map(|version| format!("version {version}, ")).unwrap_or_default();
    let root = &cx.config.install_root;
    unknown(format!("no server was found: {version}below {root}, or where the unit says"))
}

/// Looks at the package that was found.
fn look(
    cx: &Context,
    entry: &InstanceEntry,
    source: ServerSource,
    path: AbsPath,
    dir: &Dir,
    unit: Option<AbsPath>,
) -> InstalledServer {
    let (version, drop_in) = (version_of(dir), drop_in(cx, entry));
    // What the unit starts is what will run, and `current` is the version of new instances.
    let started = unit.filter(|unit| *unit != path && cx.root.dir(unit).is_ok() && !is_same(cx, unit, dir));
    let other =
        entry.version.as_ref().filter(|_| source == ServerSource::Current && version != entry.version);
    let judged = match (started, other) {
        _ if drop_in.is_some() => {
            let path = drop_in.map(|path| path.to_string()).unwrap_or_default();
            Err(format!("it is not known which runs: the drop-in {path} of the unit may start another"))
        }
        (Some(started), _) => Err(format!("it is not known which runs: {path}, or {started} of the unit")),
        (None, Some(registered)) => {
            Err(format!("version {} of the registry was not found", registered.escape_debug()))
        }
        (None, None) => match titles(dir) {
            Ok(titles) if titles.is_empty() => Err(format!("{path} holds no migrations")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("{path} holds no migrations"))
            }
            Ok(titles) => Ok(titles.into_iter().collect()),
            Err(error) => Err(format!("the migrations of {path} could not be read: {error}")),
        },
    };
    let (migrations, unknown) = judged.map_or_else(|why| (Vec::new(), Some(why)), |titles| (titles, None));
    InstalledServer { version, directory: Some(path), found_by: Some(source), migrations, unknown }
}

fn unknown(why: String) -> InstalledServer {
    InstalledServer { unknown: Some(why), ..InstalledServer::default() }
}

/// The package below a folder that a version was installed in.
fn below(cx: &Context, base: &str, folder: &str) -> Option<AbsPath> {
    let package = &cx.config.npm_package_name;
    AbsPath::normalise(&Path::new(base).join(folder).join("node_modules").join(package)).ok()
}

fn is_version(text: &str) -> bool {
    text.len() <= 100
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'))
}

fn by_version(cx: &Context, entry: &InstanceEntry) -> Option<AbsPath> {
    let version = entry.version.as_deref().filter(|version| is_version(version))?;
    below(cx, cx.config.install_root.as_str(), &format!("v{version}"))
}

/// `versions.yml` beside the registry: `versions: [{version, path}]`.
fn by_list(cx: &Context, entry: &InstanceEntry) -> Option<AbsPath> {
    let version = entry.version.as_deref()?;
    let path = cx.config.instances_file().parent()?.join("versions.yml").ok()?;
    let bytes = cx.root.read(&path, MAX_TEXT).ok()??;
    let list = yaml::parse_value(std::str::from_utf8(&bytes).ok()?).ok()?;
    let mut versions = list.get("versions")?.as_array()?.iter();
    let known = versions.find(|known| known.get("version").is_some_and(|known| says(known, version)))?;
    below(cx, known.get("path")?.as_str()?, "")
}

fn says(value: &Value, text: &str) -> bool {
    match value {
        Value::String(value) => value == text,
        Value::Number(value) => value.to_string() == text,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The program that the unit starts: a file in the package, or a `server.js` beside `node_modules`.
fn by_unit(cx: &Context, entry: &InstanceEntry) -> Option<AbsPath> {
    let bytes = cx.root.read(&entry.paths.systemd_unit, MAX_TEXT).ok()??;
    // A backslash continues a line, and blanks around the sign do not count.
    let text = String::from_utf8_lossy(&bytes).replace("\\\n", " ");
    let mut starts = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "ExecStart").then_some(value)
    });
    // An empty one takes back those before it.
    let words = starts.next_back()?.split_whitespace();
    let within = format!("/node_modules/{}/", cx.config.npm_package_name);
    words.filter_map(|word| AbsPath::normalise(Path::new(word.trim_matches(['"', '\'']))).ok()).find_map(
        |path| {
            let text = path.as_str();
            if let Some(at) = text.find(&within) {
                return AbsPath::try_from(text[..at + within.len() - 1].to_owned()).ok();
            }
            let is_script = Path::new(text).extension().is_some_and(|end| end == "js");
            below(cx, path.parent().filter(|_| is_script)?.as_str(), "")
        },
    )
}

/// A drop-in of the unit that may start something else than the unit says.
fn drop_in(cx: &Context, entry: &InstanceEntry) -> Option<AbsPath> {
    let unit = &entry.paths.systemd_unit;
    let own = unit.parent().map(|parent| parent.to_string());
    let bases: Vec<&str> = own.iter().map(String::as_str).chain(UNIT_FOLDERS).collect();
    let all = folders(unit.file_name()?).into_iter().flat_map(|folder| {
        let at = |base: &&str| AbsPath::normalise(&Path::new(base).join(&folder)).ok();
        bases.iter().filter_map(at).collect::<Vec<_>>()
    });
    all.into_iter().find_map(|folder| match cx.root.dir_optional(&folder) {
        Ok(None) => None,
        Ok(Some(dir)) => changes(cx, &folder, &dir),
        // One that cannot be looked at may say anything.
        Err(_) => Some(folder),
    })
}

/// The names of the folders with drop-ins of a unit: its own, of its template, of each beginning of its name
/// that ends in a dash, and of all services.
fn folders(unit: &str) -> Vec<String> {
    let mut folders = vec![format!("{unit}.d"), "service.d".to_owned()];
    let Some(stem) = unit.strip_suffix(".service") else { return folders };
    let name = stem.split_once('@').map_or(stem, |(name, _)| {
        folders.push(format!("{name}@.service.d"));
        name
    });
    let dashes = name.match_indices('-').map(|(at, _)| &name[..=at]);
    folders.extend(dashes.map(|start| format!("{start}.service.d")));
    folders
}

/// The first drop-in in a folder that may start something else, or cannot be read.
fn changes(cx: &Context, folder: &AbsPath, dir: &Dir) -> Option<AbsPath> {
    let Ok(entries) = dir.entries() else { return Some(folder.clone()) };
    let mut names = Vec::new();
    for entry in entries {
        let Ok(Ok(name)) = entry.map(|entry| entry.file_name().into_string()) else {
            return Some(folder.clone());
        };
        if Path::new(&name).extension().is_some_and(|end| end == "conf") {
            names.push(name);
        }
    }
    names.sort();
    names.iter().find_map(|name| {
        let Ok(path) = folder.join(name) else { return Some(folder.clone()) };
        let text = cx.root.read(&path, MAX_TEXT);
        let harmless = matches!(&text, Ok(Some(bytes)) if is_harmless(&String::from_utf8_lossy(bytes)));
        (!harmless).then_some(path)
    })
}

/// Whether a drop-in changes nothing of what runs. Each line counts for itself: one that continues another
/// is taken for a setting too, and no comment hides the line after it.
fn is_harmless(text: &str) -> bool {
    let keys = text.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim());
    !keys.into_iter().any(|key| STARTS_OTHER.contains(&key))
}

/// Whether a path leads to this directory, by way of links or not.
fn is_same(cx: &Context, path: &AbsPath, dir: &Dir) -> bool {
    let id = |dir: &Dir| {
        let meta = dir.try_clone()?.into_std_file().metadata()?;
        Ok::<_, io::Error>((meta.dev(), meta.ino()))
    };
    cx.root.dir(path).is_ok_and(|other| matches!((id(&other), id(dir)), (Ok(a), Ok(b)) if a == b))
}

/// The version in a `package.json`.
fn version_of(dir: &Dir) -> Option<String> {
    let bytes = fs::read_optional(dir, Path::new("package.json"), MAX_TEXT).ok()??;
    let package: Value = serde_json::from_slice(&bytes).ok()?;
    Some(package.get("version")?.as_str().filter(|version| is_version(version))?.to_owned())
}

/// The migrations of a package: names of files in `build/migrations` (25.6.0), or the names that a
/// bundle below `build` has (26.9.0).
fn titles(package: &Dir) -> io::Result<BTreeSet<String>> {
    let build = fs::open_dir(package, "build")?;
    match fs::open_dir(&build, "migrations") {
        Ok(folder) => {
            let titles = files_of(&folder)?;
            if !titles.is_empty() {
                return Ok(titles);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bundle = Bundle::default();
    bundle.folder(&build, 0)?;
    Ok(bundle.titles)
}

fn files_of(folder: &Dir) -> io::Result<BTreeSet<String>> {
    let mut titles = BTreeSet::new();
    for (at, entry) in folder.entries()?.enumerate() {
        let entry = entry?;
        if at >= MAX_ENTRIES {
            return Err(too_much("files"));
        }
        let name = entry.file_name().into_string().unwrap_or_default();
        if entry.file_type()?.is_file() && migrations::is_title(&name) {
            titles.insert(name);
        }
    }
    if titles.len() > migrations::MAX_TITLES { Err(too_much("migrations")) } else { Ok(titles) }
}

fn too_much(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it has more {what} than any server"))
}

/// Titles in the program texts of a folder and those below it. What it cannot read as a whole is an
/// error: a title that was missed would be one that the server is said to lack.
#[derive(Default)]
struct Bundle {
    entries: usize,
    bytes: u64,
    titles: BTreeSet<String>,
}

impl Bundle {
    fn folder(&mut self, folder: &Dir, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(too_much("folders in folders"));
        }
        for entry in folder.entries()? {
            let entry = entry?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(too_much("files"));
            }
            let (kind, name) = (entry.file_type()?, entry.file_name());
            let ends = |ending: &str| Path::new(&name).extension().is_some_and(|end| end == ending);
            if kind.is_dir() {
                self.folder(&fs::open_dir(folder, &name)?, depth + 1)?;
            } else if kind.is_file() && ["js", "mjs", "cjs"].into_iter().any(ends) {
                let file = fs::open_regular(folder, Path::new(&name))?;
                let bytes = fs::read_limited(file, MAX_FILE)?;
                self.bytes += bytes.len() as u64;
                if self.bytes > MAX_BYTES {
                    return Err(too_much("bytes"));
                }
                self.titles.append(&mut migrations::bundled(&String::from_utf8_lossy(&bytes)));
                if self.titles.len() > migrations::MAX_TITLES {
                    return Err(too_much("migrations"));
                }
            }
        }
        Ok(())
    }
}
