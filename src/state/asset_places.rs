//! Where the unit and the vhost of an instance lie on this machine, and what says so. Reads only.
//!
//! `nginxDirectory` of `restore.yml` decides for the vhost; else the registry, which the peer writes, else
//! the peer's own default. Where nothing has that name, and systemd's or nginx's usual directory holds a
//! file of it, that one is meant.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::fs::{self, Entry, FsError, IoContext as _, Root};
use crate::ids::AbsPath;
use crate::state::config::Config;
use crate::state::instances::InstanceEntry;

/// Where administrators put units.
const UNITS: &str = "/etc/systemd/system";

/// Where nginx looks on Debian and its kin.
const NGINX: &str = "/etc/nginx";

/// What says where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FoundBy {
    /// A setting, or its default.
    Configuration,
    /// The instance's entry in the registry.
    Registry,
    /// A file of that name lies in the usual directory, and none where registry or configuration say.
    Detection,
}

impl fmt::Display for FoundBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Configuration => "configuration",
            Self::Registry => "registry",
            Self::Detection => "detection",
        })
    }
}

/// A file and what says that it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: AbsPath,
    /// What says so.
    pub found_by: FoundBy,
}

/// The files of an instance outside of its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetPlaces {
    /// Its unit.
    pub unit: Place,
    /// Its vhost.
    pub site: Place,
    /// The name of the vhost that nginx reads.
    pub enabled: AbsPath,
}

/// Finds the places of an instance's unit and vhost, whether something is there or not.
///
/// # Errors
/// A directory on the way cannot be looked at.
pub fn of(root: &Root, config: &Config, entry: &InstanceEntry) -> Result<AssetPlaces, FsError> {
    let registered = |key: &str| {
        let path = entry.raw.get("paths").and_then(|paths| paths.get(key));
        if path.is_some_and(serde_json::Value::is_string) {
            FoundBy::Registry
        } else {
            FoundBy::Configuration
        }
    };
    let paths = &entry.paths;
    let unit = Place { path: paths.systemd_unit.clone(), found_by: registered("systemd_unit") };
    let name = paths.systemd_unit.file_name().unwrap_or_default();
    let unit = detected(root, &unit, &below(UNITS, name))?.unwrap_or(unit);
    if let Some(directory) = &config.restore.nginx_directory {
        let name = format!("abssctl-{}.conf", entry.name);
        let path = below(directory.as_str(), &format!("sites-available/{name}"));
        let enabled = below(directory.as_str(), &format!("sites-enabled/{name}"));
        return Ok(AssetPlaces { unit, site: Place { path, found_by: FoundBy::Configuration }, enabled });
    }
    let site = Place { path: paths.nginx_site.clone(), found_by: registered("nginx_site") };
    let name = paths.nginx_site.file_name().unwrap_or_default();
    let usual = below(NGINX, &format!("sites-available/{name}"));
    Ok(match detected(root, &site, &usual)? {
        Some(site) => AssetPlaces { unit, site, enabled: below(NGINX, &format!("sites-enabled/{name}")) },
        None => AssetPlaces { unit, site, enabled: paths.nginx_enabled.clone() },
    })
}

/// The usual place, where something is there and nothing is where it should be.
fn detected(root: &Root, given: &Place, usual: &AbsPath) -> Result<Option<Place>, FsError> {
    let there = entry(root, &given.path)? != Entry::Absent;
    let usually = || entry(root, usual).map(|entry| entry != Entry::Absent);
    Ok((!there && usually()?).then(|| Place { path: usual.clone(), found_by: FoundBy::Detection }))
}

/// What has this name; a link is not followed. [`Entry::Absent`] also where its directory is missing.
///
/// # Errors
/// It cannot be looked at.
pub fn entry(root: &Root, path: &AbsPath) -> Result<Entry, FsError> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return Ok(Entry::Directory { mount_point: true });
    };
    match root.dir_optional(&parent)? {
        Some(dir) => fs::entry(&dir, name).context("look at", root.host_path(path)),
        None => Ok(Entry::Absent),
    }
}

fn below(base: &str, rest: &str) -> AbsPath {
    // Names of one part that the registry or this file chose; a path that is too long is no file's.
    AbsPath::normalise(&std::path::Path::new(base).join(rest))
        .unwrap_or_else(|_| "/".parse().expect("the root is an absolute path"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::config::ConfigFlags;
    use crate::state::instances::Registry;

    struct World {
        directory: tempfile::TempDir,
    }

    impl World {
        fn new(registry: &str, restore: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let world = Self { directory };
            world.write("var/lib/abssctl/registry/instances.yml", registry);
            world.write("etc/abssctl/config.yml", "{}\n");
            world.write("etc/abssctl/restore.yml", restore);
            world
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
        }

        /// `unit by`, `site by`, `enabled`
        fn places(&self) -> [String; 3] {
            let root = Root::open(self.directory.path()).unwrap();
            let config = Config::load(&root, &ConfigFlags::default(), &std::collections::BTreeMap::new());
            let config = config.unwrap();
            let registry = Registry::load(&root, &config).unwrap();
            let places = of(&root, &config, registry.get(&"b".parse().unwrap()).unwrap()).unwrap();
            let text = |place: &Place| format!("{} {}", place.path, place.found_by);
            [text(&places.unit), text(&places.site), places.enabled.to_string()]
        }
    }

    const BARE: &str = "instances:\n- name: b\n";

    #[test]
    fn the_registry_goes_before_the_default_and_a_setting_before_both() {
        assert_eq!(
            World::new(BARE, "{}").places(),
            [
                "/run/abssctl/systemd/abssctl-b.service configuration",
                "/run/abssctl/nginx/sites-available/abssctl-b.conf configuration",
                "/run/abssctl/nginx/sites-enabled/abssctl-b.conf",
            ]
        );
        let registry = json!({ "instances": [{ "name": "b", "paths": {
            "systemd_unit": "/u/b.service", "nginx_site": "/n/a/b.conf", "nginx_enabled": "/n/e/b.conf"
        } }] });
        let world = World::new(&registry.to_string(), "{}");
        assert_eq!(world.places(), ["/u/b.service registry", "/n/a/b.conf registry", "/n/e/b.conf"]);
        let world = World::new(&registry.to_string(), "nginxDirectory: /opt/nginx");
        assert_eq!(
            world.places()[1..],
            [
                "/opt/nginx/sites-available/abssctl-b.conf configuration",
                "/opt/nginx/sites-enabled/abssctl-b.conf",
            ]
        );
    }

    #[test]
    fn what_lies_in_the_usual_place_alone_is_found() {
        let world = World::new(BARE, "{}");
        world.write("etc/nginx/sites-available/abssctl-b.conf", "server {}");
        world.write("etc/systemd/system/abssctl-b.service", "[Unit]");
        let usual = [
            "/etc/systemd/system/abssctl-b.service detection",
            "/etc/nginx/sites-available/abssctl-b.conf detection",
            "/etc/nginx/sites-enabled/abssctl-b.conf",
        ];
        assert_eq!(world.places(), usual);
        // Where both are, the one that was said counts.
        world.write("run/abssctl/nginx/sites-available/abssctl-b.conf", "server {}");
        assert_eq!(
            world.places()[1..],
            [
                "/run/abssctl/nginx/sites-available/abssctl-b.conf configuration",
                "/run/abssctl/nginx/sites-enabled/abssctl-b.conf",
            ]
        );
    }
}
