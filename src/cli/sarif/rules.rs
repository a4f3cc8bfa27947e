//! Every stable code that a check of a plan can tell, in words, and the value of the plan that it is about.
//! Pure.

use serde_json::{Value, json};

use super::log::text;
use crate::plan::load;

/// What codes of `plan check` begin with here; `--json` tells the part after it.
pub(super) const CHECK: &str = "abssctl::plan::check::";

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The plan is invalid or would not apply.
    Error,
    /// It would, and a person should know this.
    Warning,
    /// Nobody could look.
    Note,
}

impl Level {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

const REFRESH: &str = "look at the machine again: abssctl plan refresh FILE; then review what differs";
const MACHINE: &str = "mend it on the machine, then look again: abssctl plan check FILE";
const SIGN: &str = "see whose approvals count: abssctl plan verify FILE";
const POLICY: &str = "change it in spec: abssctl plan refresh FILE; see the policy: abssctl config show";
const ROLLBACK: &str = "plan again: abssctl plan rollback RUN -o FILE; then review what differs";
const OTHER_TARGET: &str = "choose another target: abssctl plan restore BACKUP_ID --dest DIR";

/// The code, the value of the plan that it is about (a JSON pointer), what is wrong, what to do.
const CHECKS: &[(&str, &str, &str, &str)] = &[
    ("no-service-manager", "/observed/service", "no service manager is controlled here", MACHINE),
    ("expired", "/metadata/expiresAt", "the plan's time is over", REFRESH),
    ("clock", "/metadata/createdAt", "the plan was made in the future", "set the clock of the machine"),
    ("approvals", "/approvals", "too few people approved the plan", SIGN),
    ("no-allowed-signers", "/approvals", "nobody can say whose approvals count", SIGN),
    ("policy-clients", "/spec/clients", "the policy does not allow this setting", POLICY),
    ("policy-sessions", "/spec/sessions", "the policy does not allow this setting", POLICY),
    ("policy-pre-backup", "/spec/preBackup/mode", "the policy does not allow this setting", POLICY),
    ("policy-drift", "/spec/drift", "the policy does not allow this setting", POLICY),
    ("policy-replay", "/spec/replay", "the policy does not allow this setting", POLICY),
    ("policy-assets", "/spec/assets", "the policy does not allow this setting", POLICY),
    ("policy-on-failure", "/spec/onFailure", "the policy does not allow this setting", POLICY),
    ("policy-plan-age", "/metadata/createdAt", "the policy allows no plan of this age", REFRESH),
    ("policy-freeze", "/spec/instance", "the policy allows no restore at this time", "wait, then apply it"),
    ("run-in-progress", "/spec/instance", "another run works on the instance", MACHINE),
    ("run-interrupted", "/metadata/id", "a run of the plan was interrupted", "go on: abssctl run resume RUN"),
    (
        "run-unfinished",
        "/spec/instance",
        "another run of the instance is not finished",
        "see: abssctl run list",
    ),
    ("run-unknown", "/spec/source", "the run that is undone is not on the machine", "see: abssctl run list"),
    (
        "run-not-applied",
        "/spec/source",
        "the run that is undone never came to its end",
        "see: abssctl run list",
    ),
    ("run-differs", "/spec/source", "the run displaced something else", ROLLBACK),
    ("nothing-displaced", "/spec/source", "the run displaced nothing", "see: abssctl run list"),
    ("already-rolled-back", "/spec/source", "the run was rolled back already", "see: abssctl run list"),
    ("replaced-since", "/spec/source", "a later run replaced the target", "roll that one back first"),
    ("mount-inside", "/spec/source", "a file system is mounted in the old tree", "unmount it"),
    (
        "instance-moved",
        "/spec/source",
        "the instance lies elsewhere by now",
        "restore the backup of the state before",
    ),
    ("by-entry", "/spec/source", "the target is a mount point", "restore the backup of the state before"),
    ("displaced-gone", "/spec/source", "the old tree is gone", "restore the backup of the state before"),
    ("displaced-moved", "/spec/source", "another run keeps the old tree now", "roll that one back"),
    ("displaced-tree", "/spec/source", "the old tree is not as it was", ROLLBACK),
    ("target-replaced", "/spec/target/directory", "something else replaced the target", ROLLBACK),
    ("already-applied", "/metadata/id", "the plan was applied before", REFRESH),
    ("backup-unknown", "/spec/source/backupId", "the index has no such backup", "see: abssctl backup list"),
    ("backup-differs", "/spec/source", "the index describes the backup otherwise", REFRESH),
    ("backup-unusable", "/spec/source/backupId", "the backup is known to be bad", "see: abssctl backup list"),
    (
        "backup-incomplete",
        "/spec/source/backupId",
        "the backup lacks parts of budgets",
        "choose another, or plan with --allow-incomplete",
    ),
    (
        "server-cannot-open",
        "/spec/source/backupId",
        "the installed server cannot open the backup",
        "choose another, or install the server that made it",
    ),
    ("archive", "/spec/source/path", "the archive is not what the plan says", "see: abssctl backup verify"),
    ("target-not-live", "/spec/target/directory", "the instance lives elsewhere", REFRESH),
    ("target-forbidden", "/spec/target/directory", "the target belongs to something else", OTHER_TARGET),
    ("target-not-instance", "/spec/target/directory", "the target holds something else", OTHER_TARGET),
    ("target-in-use", "/spec/target/directory", "a process has files of the target open", MACHINE),
    ("read-only", "/spec/target/directory", "the target's file system cannot be written to", MACHINE),
    ("permission", "/spec/target/directory", "nothing can be made beside the target", MACHINE),
    ("private-directory", "/spec/target/directory", "the private directory is not safe", MACHINE),
    (
        "target-unread",
        "/observed/target",
        "a database of the target cannot be read",
        "look at the disk, then check again",
    ),
    (
        "mount-point-entries",
        "/spec/target/directory",
        "entries of the mount point cannot change places by name",
        OTHER_TARGET,
    ),
    ("no-exchange", "/spec/target/directory", "the file system cannot exchange directories", OTHER_TARGET),
    ("ownership", "/spec/ownership", "files could not get their owner", MACHINE),
    ("space", "/observed/space/stagingBytes", "there is too little space beside the target", MACHINE),
    ("space-backup", "/observed/space/backupBytes", "there is too little space for the pre-backup", MACHINE),
    ("machine", "/observed/machine", "this is another machine", "plan on this machine"),
    ("registry-entry", "/observed/instance/registryEntry", "the instance is registered otherwise", REFRESH),
    ("data-directory", "/observed/instance/dataDirectory", "the data directory is another one", REFRESH),
    ("assets", "/spec/assets", "the unit or the vhost of the machine is another one", REFRESH),
    ("assets-unwritable", "/spec/assets", "unit or vhost cannot be written", MACHINE),
    ("proxy", "/spec/assets", "nginx came or went", REFRESH),
    ("backup-entry", "/observed/backup/indexEntry", "the backup's index entry has changed", REFRESH),
    ("server", "/observed/server", "the installed server makes something else of the backup", REFRESH),
    ("server-other", "/observed/server", "the installed server is another one", REFRESH),
    ("target", "/observed/target/presence", "there is more or less than there was", REFRESH),
    ("service-unit", "/observed/service", "the unit cannot be started", MACHINE),
    ("health-address", "/spec/health", "this machine asks its server elsewhere", REFRESH),
    ("service", "/observed/service", "the service is in another state", REFRESH),
    ("file-system", "/observed/fileSystem", "the file system is another one", REFRESH),
    ("target-structure", "/observed/target/structure", "fixed files of the target differ", REFRESH),
    ("target-content", "/observed/target/content", "the data of the target has changed", REFRESH),
    (
        "target-counts",
        "/observed/target/budgets",
        "the plan counts changes otherwise than the machine",
        REFRESH,
    ),
    ("preview-untrue", "/preview", "the preview is not what would happen", "find out who edited the plan"),
    ("budgets-readable", "/observed/target/budgets", "the list of budgets was or is unreadable", REFRESH),
    ("budget-gone", "/observed/target/budgets", "a budget is gone", REFRESH),
    ("budget-group", "/observed/target/budgets", "a budget's sync was reset", REFRESH),
    ("budget-deleted", "/observed/target/budgets", "a budget was deleted or undeleted", REFRESH),
    ("budget-new", "/observed/target/budgets", "a budget is new", REFRESH),
    ("file-gone", "/observed/target/files", "a fixed file is gone", REFRESH),
    ("file-changed", "/observed/target/files", "a fixed file has changed", REFRESH),
    ("file-new", "/observed/target/files", "a fixed file is new", REFRESH),
];

/// Findings that have no code of their own.
pub(super) const WARNING: &str = "warning";
pub(super) const NOT_CHECKED: &str = "not-checked";

/// The codes of problems that a check of a plan can tell, as `plan check --json` writes them.
pub fn check_codes() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(code, ..)| *code)
}

/// The value of a plan that a code is about, as a JSON pointer.
pub(super) fn pointer(code: &str) -> &'static str {
    CHECKS.iter().find(|(known, ..)| *known == code).map_or("", |(_, pointer, ..)| pointer)
}

/// One code as SARIF describes it.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: String,
    what: String,
    help: String,
    level: Level,
}

impl Rule {
    /// A code that is not described here: what was said of it the first time.
    pub(super) fn told(id: &str, what: &str, help: &str, level: Level) -> Self {
        let help = if help.is_empty() { what } else { help };
        Self { id: id.to_owned(), what: what.to_owned(), help: help.to_owned(), level }
    }

    /// Forges show the short text in lists, the full text and the help with one finding.
    pub(super) fn descriptor(&self) -> Value {
        json!({
            "id": self.id,
            "shortDescription": text(&self.what),
            "fullDescription": text(&self.what),
            "help": text(&self.help),
            "defaultConfiguration": { "level": self.level.word() },
        })
    }
}

/// Every code, in one order.
pub(super) fn all() -> Vec<Rule> {
    let document =
        load::codes().into_iter().map(|code| Rule::told(&code.id, code.what, code.help, Level::Error));
    let check = |code: &str, what, help, level| Rule::told(&format!("{CHECK}{code}"), what, help, level);
    let machine = CHECKS.iter().map(|(code, _, what, help)| check(code, what, help, Level::Error));
    let rest = [
        check(WARNING, "a person should know this before the plan is applied", "read it", Level::Warning),
        check(NOT_CHECKED, "this could not be looked at", "look at it yourself", Level::Note),
    ];
    document.chain(machine).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::plan::emit::to_yaml;
    use crate::plan::source::Source;
    use crate::plan::testing::sample;

    #[test]
    fn codes_are_described_once_and_are_about_something_in_a_plan() {
        let rules = all();
        let ids: HashSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids.len(), rules.len());
        let text = to_yaml(&sample()).unwrap();
        let source = Source::read(&text).unwrap();
        for code in check_codes().filter(|code| pointer(code) != "/approvals") {
            assert!(source.value_span(pointer(code)).is_some(), "{code}: {} is nowhere", pointer(code));
        }
    }

    /// Whoever adds a code to the checks describes it here too.
    #[test]
    fn every_code_of_the_sources_is_described() {
        let known: HashSet<&str> = check_codes().collect();
        let mut seen = HashSet::new();
        for source in [
            include_str!("../../survey/preflight.rs"),
            include_str!("../../survey/preflight/place.rs"),
            include_str!("../../survey/approvals.rs"),
            include_str!("../../plan/drift.rs"),
            include_str!("../../survey/displaced.rs"),
        ] {
            let source = source.split("#[cfg(test)]").next().unwrap();
            for before in [
                "Refusal::new(",
                "Environment,",
                "Refused,",
                "Approval,",
                "Stale,",
                "Some((",
                "Identity,",
                "Structure,",
                "Content,",
            ] {
                let after =
                    source.split(before).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
                seen.extend(after.filter_map(|rest| rest.split('"').next()));
            }
        }
        let policy = include_str!("../../plan/policy/verdict.rs").split("FindingCode::").skip(1);
        seen.extend(policy.filter_map(|rest| rest.split_once(" => \"")?.1.split('"').next()));
        let again = include_str!("../../planner/again.rs").split("code: \"").skip(1);
        seen.extend(again.filter_map(|rest| rest.split('"').next()));
        assert!(seen.len() > 40, "the search finds nothing any more: {seen:?}");
        let mut missing: Vec<&&str> = seen.difference(&known).collect();
        missing.sort();
        assert!(missing.is_empty(), "describe these codes in CHECKS: {missing:?}");
    }
}
