//! Worlds to break: the command, a world in which it has something to do, what it promises there, and cheap
//! copies of that world.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::promise::Promise;
use crate::support::TestRoot;
use crate::support::root::{LIVE, ZSTD};
use crate::tracer::{Traced, Tracer};

const SITE: &str = "run/abssctl/nginx/sites-available/abssctl-budget.conf";

/// Commands that change something, and the worlds in which they do. A new command is one line here.
pub(crate) const COMMANDS: &[Subject] = &[
    Subject { name: "apply", targets: &[LIVE], arguments: |root| apply(root, &[ZSTD]) },
    Subject {
        name: "apply-budget",
        targets: &[LIVE],
        arguments: |root| apply(root, &[ZSTD, "--budget", "Household"]),
    },
    Subject {
        name: "apply-dest",
        targets: &["srv/copy"],
        arguments: |root| apply(root, &[ZSTD, "--dest", "/srv/copy"]),
    },
    Subject {
        name: "apply-delta",
        targets: &[LIVE],
        arguments: |root| {
            let made = root.json(&["backup", "create", "budget"]).ok().json();
            root.write("srv/budget/data/config.json", "{}");
            apply(root, &[made["id"].as_str().unwrap(), "--transfer", "delta"])
        },
    },
    Subject {
        name: "apply-reset",
        targets: &[LIVE],
        arguments: |root| apply(root, &[ZSTD, "--clients", "reset", "--sessions", "revoke"]),
    },
    Subject {
        name: "apply-assets",
        targets: &[LIVE],
        arguments: |root| {
            for file in ["etc/systemd/system/abssctl-budget.service", SITE] {
                let text = std::fs::read_to_string(root.path(file)).unwrap();
                root.write(file, format!("# another\n{text}"));
            }
            apply(root, &[ZSTD, "--with-assets"])
        },
    },
    Subject { name: "backup-create", targets: &[], arguments: |_| words(&["backup", "create", "budget"]) },
    Subject { name: "backup-prune", targets: &[], arguments: |_| words(&["backup", "prune", "--keep", "2"]) },
    Subject {
        name: "run-rollback",
        targets: &[LIVE],
        arguments: |root| {
            let done = root.restore(&[ZSTD]);
            words(&["run", "rollback", done["run"].as_str().unwrap()])
        },
    },
    Subject {
        name: "run-prune",
        targets: &[],
        arguments: |root| {
            let _ = root.restore(&[ZSTD]);
            words(&["run", "prune", "--older-than", "0s"])
        },
    },
];

/// The command of a name.
pub(crate) fn subject(name: &str) -> &'static Subject {
    COMMANDS.iter().find(|subject| subject.name == name).unwrap_or_else(|| panic!("no command {name}"))
}

/// A command to break.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// The directories that it replaces.
    targets: &'static [&'static str],
    /// Prepares the world and gives the command's words.
    arguments: fn(&TestRoot) -> Vec<String>,
}

impl Subject {
    /// A command of one test alone, which replaces the live directory.
    pub(crate) fn live(name: &'static str, arguments: fn(&TestRoot) -> Vec<String>) -> Self {
        Self { name, targets: &[LIVE], arguments }
    }

    /// Restores the newest backup of the world.
    pub(crate) fn newest(name: &'static str) -> Self {
        Self { name, targets: &[LIVE], arguments: |root| apply(root, &["--instance", "budget", "--latest"]) }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The words that apply a plan.
pub(crate) fn apply(root: &TestRoot, plan: &[&str]) -> Vec<String> {
    let plan = root.plan(plan);
    words(&["apply", plan.to_str().unwrap()])
}

/// A command in its world, with what it promises.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) promise: Promise,
    /// Run again, it does the same once more.
    pub(crate) is_repeated: bool,
    template: TestRoot,
    arguments: Vec<String>,
    below: PathBuf,
    _own: tempfile::TempDir,
}

impl Scene {
    /// Makes the world in memory, where copies are cheap.
    pub(crate) fn new(subject: &Subject) -> Self {
        Self::below(subject, &quick())
    }

    /// Makes the world and its copies below a directory.
    pub(crate) fn below(subject: &Subject, below: &Path) -> Self {
        Self::with(subject, below, |_| {})
    }

    /// The same, with more in the world.
    pub(crate) fn with(subject: &Subject, below: &Path, fill: impl FnOnce(&TestRoot)) -> Self {
        let own = tempfile::TempDir::with_prefix_in("abssctl-world-", below).unwrap();
        let template = TestRoot::at(own.path());
        fill(&template);
        let mut arguments = (subject.arguments)(&template);
        arguments.extend(words(&["--yes", "--json", "--lock-timeout", "5"]));
        let copies = [(), ()].map(|()| template.copy_below(below));
        for copy in &copies {
            let _ = copy.run(&arguments).ok();
        }
        let promise = Promise::new(&template, [&copies[0], &copies[1]], subject.targets);
        let is_repeated = subject.name == "backup-create";
        Self {
            name: subject.name,
            promise,
            is_repeated,
            template,
            arguments,
            below: below.to_owned(),
            _own: own,
        }
    }

    /// A fresh copy of the world.
    pub(crate) fn world(&self) -> TestRoot {
        self.template.copy_below(&self.below)
    }

    /// The command in a copy.
    pub(crate) fn command(&self, root: &TestRoot) -> Command {
        root.command(&self.arguments)
    }

    /// The same, but it waits for nobody.
    pub(crate) fn impatient(&self, root: &TestRoot) -> Command {
        let mut arguments = self.arguments.clone();
        arguments.pop();
        arguments.push("0".to_owned());
        root.command(&arguments)
    }

    /// Runs it undisturbed under the tracer.
    pub(crate) fn watch(&self) -> Traced {
        let root = self.world();
        let traced = Tracer::new(&self.command(&root)).watch();
        assert_eq!(traced.ran.code, 0, "{}: {}{}", self.name, traced.ran.stdout, traced.ran.stderr);
        traced
    }
}

/// A file system in memory where there is one; `TMPDIR` names another.
pub(crate) fn quick() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// Whether everything is wanted, which takes hours, and not the sample that fits into a minute.
pub(crate) fn everything() -> bool {
    std::env::var_os("ABSSCTL_TEST_CRASH").is_some_and(|wanted| wanted == "all")
}
