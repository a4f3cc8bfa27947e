//! What is done while the power may go: one command each, and what it promised when it returned.

use std::path::PathBuf;

use crate::support::TestRoot;
use crate::support::root::{DATA_ONLY, GZIP, ZSTD};

/// A command that changes the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A restore with a pre-backup, and the plan's changes in staging.
    Apply,
    /// A restore of one budget alone: the live tree is copied.
    ApplyOne,
    /// A restore to a place where nothing is.
    ApplyBeside,
    /// A backup.
    Create,
    /// A displaced tree goes.
    Prune,
}

/// What there is before the command.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) scenario: Scenario,
    pub(crate) command: Vec<String>,
    /// The plan, where one is applied.
    pub(crate) plan: Option<PathBuf>,
}

impl Scenario {
    pub(crate) const ALL: [Self; 5] =
        [Self::Apply, Self::ApplyOne, Self::ApplyBeside, Self::Create, Self::Prune];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::ApplyOne => "apply of one budget",
            Self::ApplyBeside => "apply beside",
            Self::Create => "backup create",
            Self::Prune => "run prune",
        }
    }

    /// Does what must be there before; the command itself is the caller's to run.
    pub(crate) fn prepare(self, root: &TestRoot) -> Prepared {
        let applies = |arguments: &[&str]| {
            let plan = root.plan(arguments);
            let command = ["apply", plan.to_str().unwrap(), "--yes"].map(str::to_owned).to_vec();
            Prepared { scenario: self, command, plan: Some(plan) }
        };
        let says = |words: &[&str]| Prepared {
            scenario: self,
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            plan: None,
        };
        match self {
            Self::Apply => applies(&[ZSTD, "--sessions", "revoke"]),
            Self::ApplyOne => applies(&[ZSTD, "--budget", "Household"]),
            Self::ApplyBeside => applies(&[GZIP, "--dest", "/srv/other"]),
            Self::Create => says(&["backup", "create", "budget", "--label", "power"]),
            Self::Prune => {
                let _ = root.restore(&[DATA_ONLY]);
                says(&["run", "prune", "--older-than", "0s", "--yes"])
            }
        }
    }
}
