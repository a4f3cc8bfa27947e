//! Unit and vhost in a plan: what comes from where, and to which place. Pure.
//!
//! They are in a plan exactly when `spec.assets` is `full`: without that, a restore shows how they differ and
//! leaves them alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::observed::{Observed, ServiceManagerKind};
use super::preview::Verdict;
use crate::ids::{AbsPath, Sha256};
use crate::state::asset_places::FoundBy;

/// Unit and vhost: those that come and those that are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedAssets {
    /// The unit; absent where none comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<ObservedAsset>,
    /// The vhost; absent where none comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<ObservedAsset>,
    /// The name under which nginx reads the vhost; absent where it was not enabled when the backup was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<ObservedLink>,
    /// The web server that tests the vhost and is told of it.
    pub proxy: ProxyKind,
}

/// A file outside of the instance directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedAsset {
    /// Where it is written.
    pub path: AbsPath,
    /// What says that it lies there.
    pub found_by: FoundBy,
    /// Its name in the archive, below the top directory; of a rollback, among the files that the run kept.
    #[schemars(length(max = 300))]
    pub member: String,
    /// Digest of what comes; absent in a rollback, where there was no file before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Digest of what is there; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Sha256>,
}

/// The symbolic link by which nginx reads a vhost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedLink {
    /// Its name.
    pub path: AbsPath,
    /// Whether it is to be there.
    pub wanted: bool,
    /// Whether it is there.
    pub now: bool,
}

/// Which web server is told of a vhost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyKind {
    /// None that this program knows here.
    None,
    /// nginx.
    Nginx,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AssetKind {
    /// The unit.
    Unit,
    /// The vhost.
    Site,
}

impl AssetKind {
    /// What a run calls the file that it keeps.
    pub fn kept_name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Site => "site",
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Site => "vhost",
        }
    }
}

impl ObservedAsset {
    /// Whether what comes is there already.
    pub fn is_there(&self) -> bool {
        self.now == self.sha256
    }
}

impl ObservedAssets {
    /// The files, the unit first.
    pub fn files(&self) -> impl Iterator<Item = (AssetKind, &ObservedAsset)> {
        let unit = self.unit.iter().map(|file| (AssetKind::Unit, file));
        unit.chain(self.site.iter().map(|file| (AssetKind::Site, file)))
    }

    /// Takes what is there from another look.
    pub fn take_present(&mut self, other: &Self) {
        for (own, other) in [(&mut self.unit, &other.unit), (&mut self.site, &other.site)] {
            if let (Some(own), Some(other)) = (own, other) {
                own.now = other.now;
            }
        }
        if let (Some(own), Some(other)) = (&mut self.enabled, &other.enabled) {
            own.now = other.now;
        }
        self.proxy = other.proxy;
    }

    /// Whether anything of them would be another one afterwards.
    pub fn changes(&self) -> bool {
        self.files().any(|(_, file)| !file.is_there())
            || self.enabled.as_ref().is_some_and(|link| link.wanted != link.now)
    }
}

/// What of unit and vhost will be done on the machine, and what not: id, verdict and reason of each check.
pub fn checks(observed: &Observed) -> Vec<(&'static str, Verdict, String)> {
    let Some(assets) = &observed.assets else { return Vec::new() };
    let mut checks = Vec::new();
    match &assets.unit {
        None => checks.push((
            "unit",
            Verdict::WillNot,
            "no unit comes: the one of the machine stays as it is".to_owned(),
        )),
        Some(file) => {
            let fate = fate(file);
            checks.push(match observed.service.manager {
                ServiceManagerKind::Systemd => {
                    ("unit", Verdict::Will, format!("{fate}; systemd reads it again"))
                }
                ServiceManagerKind::None => (
                    "unit",
                    Verdict::NotChecked,
                    format!("{fate}; no systemd is controlled here, so it is read at the next start of the machine or by systemctl daemon-reload"),
                ),
            });
        }
    }
    match &assets.site {
        None => checks.push((
            "vhost",
            Verdict::WillNot,
            "no vhost comes: the one of the machine stays as it is".to_owned(),
        )),
        Some(file) => {
            let mut fate = fate(file);
            match &assets.enabled {
                Some(link) if link.wanted && !link.now => fate += &format!(", {} leads to it", link.path),
                Some(link) if !link.wanted && link.now => fate += &format!(", {} is removed", link.path),
                Some(_) => fate += ", enabled as it is now",
                None => fate += ", whether it is enabled stays as it is",
            }
            checks.push(match assets.proxy {
                ProxyKind::Nginx => (
                    "vhost",
                    Verdict::Will,
                    format!("{fate}; nginx tests it before it is told to read it, and the old one is put back where it fails"),
                ),
                ProxyKind::None => (
                    "vhost",
                    Verdict::NotChecked,
                    format!("{fate}; there is no nginx here that could test it"),
                ),
            });
        }
    }
    checks
}

/// What becomes of a file, and why there.
fn fate(file: &ObservedAsset) -> String {
    let (path, by) = (&file.path, file.found_by);
    match (file.sha256, file.now) {
        (to, now) if to == now => format!("{path} (by {by}) is the same already"),
        (Some(_), Some(_)) => format!("{path} (by {by}) is replaced"),
        (Some(_), None) => format!("{path} (by {by}) is written, where no file is now"),
        (None, _) => format!("{path} (by {by}) is removed: there was none before the run"),
    }
}
