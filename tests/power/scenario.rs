//! What is done while the power may go: one command each, and what it promised when it returned.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use crate::calls::Kind;
use crate::support::TestRoot;
use crate::support::root::{DATA_ONLY, GZIP, LIVE, LOG, ZSTD};
use crate::support::tools::Mount;
use crate::tracer::{Act, Call, Tracer};

/// A command that changes the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A restore with a pre-backup, and the plan's changes in staging.
    Apply,
    /// A restore of one budget alone: the live tree is copied.
    ApplyOne,
    /// A restore to a place where nothing is.
    ApplyBeside,
    /// A restore of what differs; the rest is copied from the live tree, or shared with it.
    ApplyDelta,
    /// A backup.
    Create,
    /// A displaced tree goes.
    Prune,
    /// Old backups go.
    PruneBackups,
    /// A finished restore is undone.
    Rollback,
    /// A restore that cannot be recorded, so that it is undone after the swap.
    Undo,
    /// A restore whose journal cannot be synced once, so that a record is taken back.
    Halfway,
    /// A plan is written to a file.
    Plan,
    /// A restore of an instance that is a mount point, entry by entry.
    Mounted,
    /// A restore that goes on after a cut which left a torn record.
    Resume,
    /// A restore that makes unit, vhost and its link, where none are.
    Assets,
    /// The way back from that, which removes them.
    AssetsBack,
}

/// Where the instance's unit and vhost lie, and the link by which nginx reads the vhost.
const ASSETS: [&str; 3] = [
    "etc/systemd/system/abssctl-budget.service",
    "run/abssctl/nginx/sites-available/abssctl-budget.conf",
    "run/abssctl/nginx/sites-enabled/abssctl-budget.conf",
];

/// What there is before the command.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) scenario: Scenario,
    pub(crate) command: Vec<String>,
    /// The plan, where one is applied.
    pub(crate) plan: Option<PathBuf>,
    /// What is mounted in the root.
    pub(crate) mount: Option<Mount>,
}

impl Scenario {
    /// Those that need no help of a tracer while they run.
    pub(crate) const PLAIN: [Self; 9] = [
        Self::Apply,
        Self::ApplyOne,
        Self::ApplyBeside,
        Self::ApplyDelta,
        Self::Create,
        Self::Prune,
        Self::PruneBackups,
        Self::Rollback,
        Self::Resume,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::ApplyOne => "apply of one budget",
            Self::ApplyBeside => "apply beside",
            Self::ApplyDelta => "apply of what differs",
            Self::Create => "backup create",
            Self::Prune => "run prune",
            Self::PruneBackups => "backup prune",
            Self::Rollback => "run rollback",
            Self::Undo => "apply undone",
            Self::Halfway => "apply with a record taken back",
            Self::Plan => "plan restore",
            Self::Mounted => "apply at a mount point",
            Self::Resume => "apply resumed",
            Self::Assets => "apply with unit and vhost",
            Self::AssetsBack => "run rollback with unit and vhost",
        }
    }

    /// Whether states are built of it and judged. A rollback's plan knows the old tree by inode, which a state
    /// that is built has not; the others are about files that no oracle reads.
    pub(crate) fn has_states(self) -> bool {
        !matches!(self, Self::Plan | Self::Mounted | Self::Rollback | Self::Assets | Self::AssetsBack)
    }

    /// Whether the command fails, having undone everything.
    pub(crate) fn fails(self) -> bool {
        matches!(self, Self::Undo | Self::Halfway)
    }

    /// What becomes of a call of the command: some fail as they do on a bad disk.
    pub(crate) fn act(self) -> impl Fn(&Call) -> Act + Sync {
        let (swapped, noted, failed) =
            (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        move |call: &Call| {
            let path = call.paths.last().map(|path| path.display().to_string()).unwrap_or_default();
            if call.name == "renameat2" && path.ends_with(LIVE) {
                swapped.store(true, Ordering::Relaxed);
            }
            if String::from_utf8_lossy(&call.data).contains("\"swap\":{\"staged\"") {
                noted.store(true, Ordering::Relaxed);
            }
            let index = path.contains(".backups.json.abssctl") && call.kind == Kind::Create;
            let fails = match self {
                Self::Undo => swapped.load(Ordering::Relaxed) && index,
                Self::Halfway => noted.load(Ordering::Relaxed) && call.name == "fdatasync",
                Self::Apply | Self::ApplyOne | Self::ApplyBeside | Self::ApplyDelta => false,
                Self::Create | Self::Prune => false,
                Self::PruneBackups | Self::Rollback | Self::Plan | Self::Mounted | Self::Resume => false,
                Self::Assets | Self::AssetsBack => false,
            };
            if fails && !failed.swap(true, Ordering::Relaxed) { Act::Fail(Errno::EIO) } else { Act::Go }
        }
    }

    /// Does what must be there before; the command itself is the caller's to run.
    pub(crate) fn prepare(self, root: &TestRoot) -> Prepared {
        let applies = |arguments: &[&str]| {
            let plan = root.plan(arguments);
            let command = ["apply", plan.to_str().unwrap(), "--yes"].map(str::to_owned).to_vec();
            Prepared { scenario: self, command, plan: Some(plan), mount: None }
        };
        let says = |words: &[&str]| Prepared {
            scenario: self,
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            plan: None,
            mount: None,
        };
        if matches!(self, Self::Assets | Self::AssetsBack) {
            for path in ASSETS {
                std::fs::remove_file(root.path(path)).unwrap();
            }
        }
        match self {
            Self::Assets => applies(&[ZSTD, "--with-assets", "--no-pre-backup"]),
            Self::AssetsBack => {
                let run = root.restore(&[ZSTD, "--with-assets"])["run"].as_str().unwrap().to_owned();
                says(&["run", "rollback", &run, "--no-pre-backup", "--yes"])
            }
            Self::Apply => applies(&[ZSTD, "--sessions", "revoke"]),
            Self::ApplyOne => applies(&[ZSTD, "--budget", "Household"]),
            Self::ApplyDelta => {
                let made = root.json(&["backup", "create", "budget"]).ok().json();
                root.write("srv/budget/data/config.json", "{}");
                applies(&[made["id"].as_str().unwrap(), "--transfer", "delta"])
            }
            Self::ApplyBeside => applies(&[GZIP, "--dest", "/srv/other"]),
            Self::Create => {
                // The first command of a machine begins the log.
                std::fs::remove_file(root.path(LOG)).unwrap();
                says(&["backup", "create", "budget", "--label", "power"])
            }
            Self::Plan => {
                let file = root.path("srv/plan.json");
                says(&["plan", "restore", ZSTD, "-o", file.to_str().unwrap()])
            }
            Self::Mounted => {
                let mount = root.mount_live();
                Prepared { mount: Some(mount), ..applies(&[ZSTD, "--no-pre-backup"]) }
            }
            Self::Undo | Self::Halfway | Self::Resume => applies(&[ZSTD, "--no-pre-backup"]),
            Self::PruneBackups => says(&["backup", "prune", "--keep", "2", "--yes"]),
            Self::Rollback => {
                let run = root.restore(&[ZSTD])["run"].as_str().unwrap().to_owned();
                says(&["run", "rollback", &run, "--no-pre-backup", "--yes"])
            }
            Self::Prune => {
                let _ = root.restore(&[DATA_ONLY]);
                says(&["run", "prune", "--older-than", "0s", "--yes"])
            }
        }
    }
}

impl Prepared {
    /// What happens to the root right before the command.
    pub(crate) fn begin(&self, root: &TestRoot) {
        if self.scenario == Scenario::Resume {
            interrupt(root, &self.command);
        }
    }
}

/// Applies up to the swap, then the power goes: of the next record, the first sector did not arrive.
fn interrupt(root: &TestRoot, command: &[String]) {
    let swapped = AtomicBool::new(false);
    let traced = Tracer::new(&root.command(command)).run(|call| {
        let live = call.paths.last().is_some_and(|path| path.ends_with(LIVE));
        if swapped.load(Ordering::Relaxed) && call.name == "write" {
            return Act::Kill;
        }
        if call.name == "renameat2" && live {
            swapped.store(true, Ordering::Relaxed);
        }
        Act::Go
    });
    assert!(traced.at.is_some(), "it was not interrupted: {}", traced.ran.stderr);
    let runs = std::fs::read_dir(root.path("var/lib/abssctl/runs")).unwrap();
    let [run] = runs.map(|run| run.unwrap().path()).collect::<Vec<_>>().try_into().unwrap();
    let mut journal = std::fs::OpenOptions::new().append(true).open(run.join("journal.jsonl")).unwrap();
    let torn = [vec![0; 200], vec![b'x'; 1800], vec![b'\n']].concat();
    std::io::Write::write_all(&mut journal, &torn).unwrap();
}
