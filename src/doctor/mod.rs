//! Is everything of this program in order on this machine? One look at configuration, instances, backups,
//! runs and what killed processes may have left: all that no other command lists is named here, with the
//! command to type. Reads only; a lock file or a journal is locked for an instant to see whether
//! somebody holds it.

mod backups;
mod instances;
mod leftovers;
mod machine;
mod runs;

use crate::context::Context;
use crate::ids::AbsPath;
use crate::state::config::ConfigError;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it should be.
    Good,
    /// Nothing is in danger, but a person should know.
    Warning,
    /// A restore would be refused, or a backup is not what it should be.
    Problem,
}

impl Health {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Configuration, directories, locks, operations log.
    Machine,
    /// Instances and the servers installed for them.
    Instances,
    /// Index, archives, sidecars.
    Backups,
    /// Journals and displaced directories.
    Runs,
    /// What killed processes left, and nothing else lists.
    Leftovers,
}

impl Area {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Instances => "instances",
            Self::Backups => "backups",
            Self::Runs => "runs",
            Self::Leftovers => "leftovers",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// How it is.
    pub health: Health,
    /// Stable name.
    pub code: &'static str,
    /// What was found, in one sentence.
    pub message: String,
    /// What to do; empty where there is nothing to do.
    pub help: String,
}

/// Findings of one area, being collected.
struct Notes {
    area: Area,
    found: Vec<Finding>,
}

impl Notes {
    fn new(area: Area) -> Self {
        Self { area, found: Vec::new() }
    }

    fn add(&mut self, health: Health, code: &'static str, message: String, help: impl Into<String>) {
        self.found.push(Finding { area: self.area, health, code, message, help: help.into() });
    }

    fn warning(&mut self, code: &'static str, message: String, help: impl Into<String>) {
        self.add(Health::Warning, code, message, help);
    }

    fn problem(&mut self, code: &'static str, message: String, help: impl Into<String>) {
        self.add(Health::Problem, code, message, help);
    }

    /// An error of a layer below, with its own help.
    fn error(&mut self, code: &'static str, error: &dyn miette::Diagnostic) {
        let source = error.diagnostic_source().and_then(miette::Diagnostic::help);
        let help = error.help().or(source).map(|help| help.to_string()).unwrap_or_default();
        self.problem(code, error.to_string(), help);
    }

    /// The findings, after one line that says what was looked at.
    fn finish(mut self, code: &'static str, summary: String) -> Vec<Finding> {
        let good =
            Finding { area: self.area, health: Health::Good, code, message: summary, help: String::new() };
        self.found.insert(0, good);
        self.found
    }
}

/// Looks at everything. What cannot be read is a finding too.
pub fn examine(cx: &Context) -> Vec<Finding> {
    if let Some(barred) = machine::barred(cx) {
        return vec![barred];
    }
    let mut found = machine::look(cx);
    found.extend(instances::look(cx));
    found.extend(backups::look(cx));
    found.extend(runs::look(cx));
    found.extend(leftovers::look(cx));
    found
}

/// The one finding where the configuration cannot be used: nobody knows then where anything is.
pub fn unconfigured(error: &ConfigError) -> Finding {
    let mut notes = Notes::new(Area::Machine);
    notes.error("configuration", error);
    notes.found.remove(0)
}

/// The names in a directory, sorted; none where it cannot be listed.
fn names(cx: &Context, directory: &AbsPath) -> Vec<String> {
    let Ok(Some(dir)) = cx.root.dir_optional(directory) else { return Vec::new() };
    let Ok(entries) = dir.entries() else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// So many things, in words.
fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}
