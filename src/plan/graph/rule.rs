//! The rules by name, and [`check`], which applies all of them. Pure.

use std::fmt;

use super::super::model::Plan;
use super::{content, preview, structure};

/// Declares the rules: number in the design, stable code, what mends a breach.
macro_rules! rules {
    ($(#[doc = $what:literal] $rule:ident = $number:literal, $code:literal, $help:expr;)+) => {
        /// A rule that every plan obeys.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule { $(#[doc = $what] $rule),+ }

        impl Rule {
            /// All rules.
            pub const ALL: &'static [Rule] = &[$(Rule::$rule),+];

            /// Its number in the design: 1 to 7 for the graph, 8 for parameters, 9 for the document, 10 for the preview.
            pub fn number(self) -> u8 {
                match self { $(Rule::$rule => $number),+ }
            }

            /// Its stable code, the last part of `abssctl::plan::graph::…`.
            pub fn code(self) -> &'static str {
                match self { $(Rule::$rule => $code),+ }
            }

            /// What it asks for, in a sentence.
            pub fn what(self) -> &'static str {
                match self { $(Rule::$rule => $what.trim_ascii()),+ }
            }

            /// What to do about a breach, in general.
            pub fn help(self) -> &'static str {
                match self { $(Rule::$rule => $help),+ }
            }
        }
    };
}

const REFRESH: &str =
    "`abssctl plan refresh FILE` derives the steps again from spec and a new look at the machine";
const NEEDS: &str =
    "add the step that must come first to `needs`, or let `abssctl plan refresh FILE` derive the steps again";
const PREVIEW: &str = "type: abssctl plan refresh FILE; it looks again and writes what a reviewer must see";
const PLAN_AGAIN: &str = "edit `spec` and run `abssctl plan refresh FILE`";

rules! {
    /// A plan has steps.
    NotEmpty = 1, "not_empty", REFRESH;
    /// No two steps have the same id.
    UniqueIds = 1, "unique_ids", "give each step an id of its own";
    /// Every need names a step of the plan.
    KnownNeeds = 1, "known_needs", "write the id of a step of this plan, or take the entry out";
    /// No step needs itself.
    NoSelfNeed = 1, "no_self_need", "take the entry out of `needs`";
    /// No step names a need twice.
    DistinctNeeds = 1, "distinct_needs", "take one of the two out of `needs`";
    /// The steps can be put into an order.
    Acyclic = 1, "acyclic", "take one of the entries out of `needs`, so that one of these steps can begin";
    /// Each of the kinds that every plan of its kind has is there, and no other than those that it may have.
    RequiredKinds = 2, "required_kinds", REFRESH;
    /// No kind is there twice.
    SingleKinds = 2, "single_kinds", "take one of the steps out; a plan has at most one of each kind";
    /// `lock` comes before all others.
    LockFirst = 3, "lock_first", NEEDS;
    /// `cleanup` comes after all others.
    CleanupLast = 3, "cleanup_last", NEEDS;
    /// What comes is checked, verified, unpacked, inspected, prepared, put in place and recorded in this order.
    ArchiveOrder = 4, "archive_order", NEEDS;
    /// `pre-backup` is there exactly when it belongs there.
    PreBackupPresence = 5, "pre_backup_presence", REFRESH;
    /// `pre-backup` lies between `check` and `swap`, after `stop` where it is quiesced, and after `extract` where that reads the target too.
    PreBackupOrder = 5, "pre_backup_order", NEEDS;
    /// `stop`, `assets`, `start` and `health` are there exactly when they belong there.
    ServicePresence = 6, "service_presence", REFRESH;
    /// The service is stopped, started and asked around the swap.
    ServiceOrder = 6, "service_order", NEEDS;
    /// `overlay` is there exactly when `spec.budgets` names single budgets.
    OverlayPresence = 6, "overlay_presence", REFRESH;
    /// `overlay` lies between `prepare`, `stop` and `swap`.
    OverlayOrder = 6, "overlay_order", NEEDS;
    /// Nothing that changes the machine runs beside another such step.
    Serial = 7, "serial", NEEDS;
    /// A step's parameters are what `spec` and `observed` say.
    Parameters = 8, "parameters", REFRESH;
    /// A step's summary says what its parameters say.
    Summary = 8, "summary", REFRESH;
    /// Budgets that `spec.clients` names are in the backup and have a sync group.
    Clients = 9, "clients", "take the budget out of `spec.clients` and run `abssctl plan refresh FILE`";
    /// A restore is of a backup, a rollback of the tree that a run displaced, and of nothing else.
    Kind = 9, "kind", "make a new plan: `abssctl plan restore` for a backup, `abssctl plan rollback` for a run";
    /// A rollback brings the tree back as it was: nothing in it can be chosen.
    AsItWas = 9, "as_it_was", "write the value that the message names and run `abssctl plan refresh FILE`";
    /// The plan expires after it was made.
    Expiry = 9, "expiry", "run `abssctl plan refresh FILE`, which sets both times";
    /// Unit and vhost are restored only where the backup has them, into the live instance, and were seen.
    Assets = 9, "assets", "set `spec.assets` to `data` and run `abssctl plan refresh FILE`";
    /// A service is stopped or started only by a service manager that knows its unit.
    ServiceManager = 9, "service_manager", PLAN_AGAIN;
    /// The target is a directory apart from the archive and is not the root.
    TargetDirectory = 9, "target_directory", PLAN_AGAIN;
    /// Single budgets are in the backup, and what the plan says besides makes sense for them.
    Budgets = 9, "budgets", PLAN_AGAIN;
    /// The data directory lies inside the instance directory.
    DataDirectory = 9, "data_directory", REFRESH;
    /// Fingerprints are there exactly when the target has content.
    Fingerprints = 9, "fingerprints", REFRESH;
    /// Lists of what was observed are sorted and name nothing twice.
    Sorted = 9, "sorted", REFRESH;
    /// Numbers are exact for every reader.
    Integers = 9, "integers", "write an integer from 0 to 9007199254740991";
    /// The fingerprint of the target is the one of the files and budgets that are listed.
    Structure = 9, "structure", PREVIEW;
    /// The warnings are those that follow from the rest of the plan.
    Warnings = 10, "warnings", PREVIEW;
    /// The checks are all there, and say what follows from what was observed.
    Checks = 10, "checks", PREVIEW;
    /// Budgets, rows, files and differences of the preview agree with what was observed.
    Preview = 10, "preview", PREVIEW;
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// One place where a plan breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What is wrong and what would mend it.
    pub message: String,
    /// JSON pointer of the place: `/steps/3/needs/0`.
    pub pointer: String,
}

impl Violation {
    pub(super) fn new(rule: Rule, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { rule, message: message.into(), pointer: pointer.into() }
    }
}

/// Everything in which a plan breaks the rules; empty for a plan that may run.
///
/// The rules on order (3 to 7) are looked at only where rule 1 holds: with a cycle or an unknown need
/// their results would mean nothing.
pub fn check(plan: &Plan) -> Vec<Violation> {
    let mut found = structure::check(plan);
    found.extend(content::check(plan));
    found.extend(preview::check(plan));
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_words() {
        let codes: HashSet<&str> = Rule::ALL.iter().map(|rule| rule.code()).collect();
        assert_eq!(codes.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert!(rule.code().chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{rule}");
            assert!((1..=10).contains(&rule.number()) && !rule.help().is_empty(), "{rule}");
        }
    }
}
