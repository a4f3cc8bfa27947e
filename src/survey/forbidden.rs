//! Directories that no plan may replace: what this program and other instances need. Compared by the
//! text of the paths and by where they really lie, so that no symbolic link leads around it. Reads only.

use super::observe::SurveyError;
use crate::context::Context;
use crate::host::place::Place;
use crate::ids::{AbsPath, InstanceName};
use crate::plan::spec::Target;
use crate::state::instances::Registry;

const OTHER: &str = "choose another directory with --dest";
const MOVE: &str = "move one of the two, or correct its path in the configuration or in instances.yml";

/// Why a directory must not be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The reason, to follow "it cannot be a target: ".
    pub why: String,
    /// What to do.
    pub help: String,
}

/// Why a target must not be replaced; `None` where it may be.
///
/// Nobody else's lock is held while a plan runs, so another instance is as forbidden as the backups.
pub fn target(
    cx: &Context,
    instance: &InstanceName,
    target: &Target,
) -> Result<Option<Forbidden>, SurveyError> {
    let look = Look { cx, directory: &target.directory, place: Place::of(&cx.root, &target.directory)? };
    let help = if target.live { MOVE } else { OTHER };
    let forbid = |why: String| Ok(Some(Forbidden { why, help: help.to_owned() }));
    let config = &cx.config;
    let ours = [
        (&config.backups.root, "the backups"),
        (&config.state_dir, "the state directory"),
        (&config.runtime_dir, "the runtime directory"),
        (&config.logs_dir, "the logs"),
        (&config.install_root, "the installed servers"),
    ];
    for (directory, what) in ours {
        if look.overlaps(directory)? {
            return forbid(format!("{what} lie in {directory}"));
        }
    }
    for entry in Registry::load(&cx.root, config)?.entries() {
        let root = &entry.paths.root;
        let own = entry.name == *instance;
        if own && !target.live && look.is(root)? {
            return Ok(Some(own_directory()));
        }
        if !(own && target.live) && look.overlaps(root)? {
            let whose = if own { "the instance".to_owned() } else { format!("instance {}", entry.name) };
            return forbid(format!("{whose} lives in {root}"));
        }
    }
    if look.contains(&config.instance_root)? {
        return forbid(format!("all instances lie in {}", config.instance_root));
    }
    Ok(None)
}

/// A restore beside an instance cannot go to its own directory.
pub fn own_directory() -> Forbidden {
    Forbidden {
        why: "it is the instance's own directory".to_owned(),
        help: "leave out --dest (in a plan: spec.target.live: true)".to_owned(),
    }
}

struct Look<'a> {
    cx: &'a Context,
    directory: &'a AbsPath,
    place: Place,
}

impl Look<'_> {
    fn contains(&self, other: &AbsPath) -> Result<bool, SurveyError> {
        Ok(other.is_within(self.directory) || self.place.holds(&Place::of(&self.cx.root, other)?))
    }

    fn overlaps(&self, other: &AbsPath) -> Result<bool, SurveyError> {
        if self.directory.is_within(other) || other.is_within(self.directory) {
            return Ok(true);
        }
        let place = Place::of(&self.cx.root, other)?;
        Ok(self.place.holds(&place) || place.holds(&self.place))
    }

    fn is(&self, other: &AbsPath) -> Result<bool, SurveyError> {
        Ok(self.directory == other || self.place == Place::of(&self.cx.root, other)?)
    }
}
