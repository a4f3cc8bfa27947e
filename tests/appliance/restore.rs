//! A restore as an operator does it on the machine: plan, apply. Stopping and starting the unit is the
//! program's own affair.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::machine::{Machine, children, kill, wait};
use crate::support::Ran;
use crate::watch::login;

/// The plan that a test is about.
const PLAN: &str = "/root/plan.json";

impl Machine {
    /// Writes a plan.
    pub(crate) fn plan(&self, args: &[&str]) -> Ran {
        let _ = self.run("rm", &["-f", PLAN]);
        self.run("abssctl", &[&["plan", "restore"], args, &["-o", PLAN]].concat())
    }

    /// Applies it.
    pub(crate) fn apply(&self) -> Ran {
        self.run("abssctl", &["apply", PLAN, "--yes", "--json"])
    }

    /// Writes a plan and applies it; a person can log in as soon as that is done.
    #[track_caller]
    pub(crate) fn restore(&self, args: &[&str]) -> Value {
        let _ = self.plan(args).ok();
        let result = self.apply().ok().json();
        assert_eq!(result["outcome"], "applied", "{result:#}");
        login(self.network()).unwrap();
        result
    }

    /// Backs the live state up; the new backup's id.
    pub(crate) fn back_up(&self) -> String {
        self.abssctl(&["backup", "create", "budget"])["id"].as_str().unwrap().to_owned()
    }

    /// Begins to apply the plan, as somebody does who is logged in: in a scope of its own.
    pub(crate) fn begin(&self) -> Applying<'_> {
        let before = self.runs();
        let args = ["--quiet", "--scope", "abssctl", "apply", PLAN, "--yes"];
        let mut command = self.command("systemd-run", &args);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Applying { machine: self, before, child }
    }

    /// The ids of all runs there ever were.
    fn runs(&self) -> BTreeSet<String> {
        let runs = std::fs::read_dir(self.disk("var/lib/abssctl/runs")).into_iter().flatten().flatten();
        runs.map(|run| run.file_name().into_string().unwrap()).collect()
    }

    /// The records of a run's journal.
    pub(crate) fn journal(&self, run: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.journal_of(run)).unwrap_or_default();
        // A last line that is being written is none yet.
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(ToOwned::to_owned).collect()
    }

    fn journal_of(&self, run: &str) -> PathBuf {
        self.disk("var/lib/abssctl/runs").join(run).join("journal.jsonl")
    }
}

/// The run that began last.
pub(crate) fn newest(machine: &Machine) -> String {
    let list = machine.run("abssctl", &["run", "list", "--json"]).ok().json();
    list["runs"][0]["run"].as_str().unwrap().to_owned()
}

/// An apply at work.
#[derive(Debug)]
pub(crate) struct Applying<'m> {
    machine: &'m Machine,
    before: BTreeSet<String>,
    /// What entered the machine and waits for the program there.
    child: Child,
}

impl Applying<'_> {
    /// Waits until its journal has so many records; gives the run and the last of them.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, records: usize) -> (String, String) {
        loop {
            let ended = self.child.try_wait().unwrap();
            if let Some(run) = self.machine.runs().difference(&self.before).next() {
                let journal = self.machine.journal(run);
                if journal.len() >= records {
                    return (run.clone(), journal.last().unwrap().clone());
                }
            }
            assert!(ended.is_none(), "it ended before record {records}: {ended:?}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Kills the program, and no other one.
    pub(crate) fn kill(mut self) {
        children(self.child.id()).into_iter().for_each(kill);
        let code = self.child.wait().unwrap();
        assert!(!code.success(), "it had ended before it was killed");
        let machine = self.machine;
        wait("the end of all its orders to systemd", || {
            let jobs = machine.run("systemctl", &["list-jobs", "--no-legend"]).stdout;
            if jobs.trim().is_empty() || jobs.contains("No jobs") { Ok(()) } else { Err(jobs) }
        });
    }

    /// Its exit code, when it has ended.
    pub(crate) fn end(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }

    /// It ends with its machine.
    pub(crate) fn forget(self) -> Child {
        self.child
    }
}
