//! Faults around every step, in one process and generic over the registry of step kinds, so that a new
//! kind cannot be left out: each step run twice, a failure injected before and after each, each undo run
//! twice, a panic in each. The world before and after is compared byte for byte.

#![expect(clippy::disallowed_methods, reason = "tests damage files and fail on purpose")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use abssctl::context::Context;
use abssctl::engine::apply::{ApplyError, Options, apply};
use abssctl::engine::report::{Outcome, Report};
use abssctl::host::cancel::Cancel;
use abssctl::host::fs::Root;
use abssctl::host::machine::{Actor, ActorKind};
use abssctl::host::stamp::Known;
use abssctl::ids::RunId;
use abssctl::plan::model::Plan;
use abssctl::plan::spec::{PreBackupMode, RestartPolicy};
use abssctl::plan::step::{Step, StepKind};
use abssctl::planner::{self, ClientsWish, RollbackWish, Selector, Wish};
use abssctl::run::fact::{Fact, Side};
use abssctl::run::{list, state};
use abssctl::state::config::{Config, ConfigFlags};
use abssctl::steps::context::{Hook, Moment};
use abssctl::steps::{Probe, StepContext, StepError, runner};
use abssctl::survey::approvals::Evidence;

const UNIT: &str = "etc/systemd/system/abssctl-budget.service";

/// What the unit of the machine says, and not that of the backup.
const CHANGED: &str = "Restart=always";

const BACKUP: &str = "20261124-022632-budget-fc166c";

/// Programs are started while no test applies a plan: until it is another program, a child has all files of
/// this one open, and the look for processes that work in a target rightly finds it.
static STARTS: RwLock<()> = RwLock::new(());

fn started(command: &mut Command) -> std::process::Output {
    let _alone = STARTS.write().unwrap_or_else(PoisonError::into_inner);
    command.output().unwrap()
}

struct World {
    dir: tempfile::TempDir,
    cx: Context,
    /// The run that can be rolled back.
    first: Option<RunId>,
    /// Restores that the index knew then.
    restores: usize,
    /// The stand-in for systemd and its server, where there is one.
    service: Option<tempfile::TempDir>,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(pid) = self.server() {
            drop(started(Command::new("kill").args(["-KILL", &pid.to_string()])));
        }
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/budget-root.tar.gz");
        let unpacked = started(Command::new("tar").args(["-xpf", fixture, "-C"]).arg(dir.path()));
        assert!(unpacked.status.success());
        // Another unit than that of the backup.
        let unit = dir.path().join(UNIT);
        let text = std::fs::read_to_string(&unit).unwrap();
        std::fs::write(unit, text.replace("Restart=on-failure", CHANGED)).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let config = Config::load(&root, &ConfigFlags::default(), &BTreeMap::new()).unwrap();
        let actor = Actor { kind: ActorKind::User, name: "tester".into(), session: None };
        let cx = Context {
            root,
            config,
            actor,
            cancel: Cancel::default(),
            known: Known::default(),
            before_units: false,
        };
        Self { dir, cx, first: None, restores: 0, service: None }
    }

    /// Lets a server run, controlled by a stand-in for systemd.
    fn serve(&mut self) {
        use std::os::unix::fs::PermissionsExt as _;
        let control = tempfile::tempdir().unwrap();
        let at = |name: &str| control.path().join(name);
        for (name, text) in [
            ("systemctl", include_str!("it/support/systemctl.sh")),
            ("journalctl", include_str!("it/support/systemctl.sh")),
            ("server", include_str!("it/support/server.py")),
        ] {
            std::fs::write(at(name), text).unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let inside = |path: &str| self.dir.path().join(path);
        let registry = inside("var/lib/abssctl/registry/instances.yml");
        let text = std::fs::read_to_string(&registry).unwrap();
        std::fs::write(&registry, text.replace("  port: 5007\n", &format!("  port: {port}\n"))).unwrap();
        std::fs::write(at("port"), port.to_string()).unwrap();
        std::fs::write(at("data"), inside("srv/budget/data").to_str().unwrap()).unwrap();
        let (systemctl, journalctl) = (at("systemctl"), at("journalctl"));
        let programs = format!(
            "systemd:\n  unit_dir: /etc/systemd/system\n  systemctl_bin: {}\n  journalctl_bin: {}\n",
            systemctl.display(),
            journalctl.display()
        );
        std::fs::write(inside("etc/abssctl/config.yml"), programs).unwrap();
        std::fs::write(inside("etc/abssctl/restore.yml"), "serviceManager: systemd\n").unwrap();
        assert!(started(Command::new(systemctl).args(["start", "abssctl-budget.service"])).status.success());
        let url = format!("http://127.0.0.1:{port}");
        let up = || abssctl::host::health::Asker::new(&url.parse().unwrap(), None).unwrap().health().is_ok();
        let begun = std::time::Instant::now();
        while !up() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the server does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.cx.config = Config::load(&self.cx.root, &ConfigFlags::default(), &BTreeMap::new()).unwrap();
        self.service = Some(control);
    }

    /// The server's process, where it runs.
    fn server(&self) -> Option<u32> {
        let pid = std::fs::read_to_string(self.service.as_ref()?.path().join("pid")).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()?;
        pid.trim().parse().ok().filter(|_| !stat.contains(") Z "))
    }

    /// Whether what ran before runs.
    fn serves(&self) -> bool {
        self.service.is_none() || self.server().is_some()
    }

    /// Held while plans are made and applied. With a service these start programs themselves.
    fn alone(&self) -> (Option<RwLockWriteGuard<'static, ()>>, Option<RwLockReadGuard<'static, ()>>) {
        if self.service.is_some() {
            (Some(STARTS.write().unwrap_or_else(PoisonError::into_inner)), None)
        } else {
            (None, Some(STARTS.read().unwrap_or_else(PoisonError::into_inner)))
        }
    }

    /// A plan for the whole backup.
    fn plan(&self, pre_backup: PreBackupMode) -> Plan {
        self.plan_for(pre_backup, &[])
    }

    /// A plan for the whole backup, or for single budgets of it.
    fn plan_for(&self, pre_backup: PreBackupMode, budgets: &[&str]) -> Plan {
        let wish = Wish {
            selector: Selector::Id(BACKUP.parse().unwrap()),
            instance: None,
            dest: None,
            budgets: budgets.iter().map(|name| (*name).to_owned()).collect(),
            as_copy: false,
            copy_name: None,
            with_assets: budgets.is_empty(),
            pre_backup: Some(pre_backup),
            backup_message: None,
            clients: ClientsWish::default(),
            sessions: None,
            restart: RestartPolicy::Auto,
            reason: None,
            expires: None,
            on_failure: None,
            drift: None,
            replay: None,
            retain: None,
            allow_incomplete: false,
            transfer: None,
        };
        let _no_start = self.alone();
        planner::plan(&self.cx, &wish).unwrap()
    }

    fn apply(&self, plan: &Plan, hook: Option<&Hook<'_>>) -> Result<Report, ApplyError> {
        let options = Options {
            replay: false,
            evidence: &Evidence::default(),
            lock_timeout: Duration::from_secs(5),
            command: "plan apply",
            exit_code: &|_| 4,
            hook,
        };
        let _no_start = self.alone();
        apply(&self.cx, plan, b"plan bytes", &options, &|_| {})
    }

    /// Everything below a directory: type, mode and content by path.
    fn tree(&self, below: &str) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        walk(&self.dir.path().join(below), &mut found);
        found
    }

    /// All but what a run leaves on purpose: its journal, the log, lock files, its pre-backup.
    fn lasting(&self) -> BTreeMap<PathBuf, String> {
        let mut all = self.tree("");
        let left =
            ["var/lib/abssctl/runs", "var/log/abssctl/operations.jsonl", "run/abssctl/", "srv/backups"];
        let base = self.dir.path().to_path_buf();
        all.retain(|path, _| {
            let below = path.strip_prefix(&base).unwrap().to_string_lossy().into_owned();
            !left.iter().any(|prefix| below.starts_with(prefix))
        });
        all
    }

    fn matches(&self, list: &str) -> bool {
        let list = format!("{}/tests/fixtures/{list}", env!("CARGO_MANIFEST_DIR"));
        let live = self.dir.path().join("srv/budget");
        let checked = started(Command::new("sha256sum").args(["-c", "--quiet", &list]).current_dir(live));
        checked.status.success()
    }

    /// Whether the live directory holds what the backup has of these budgets (all where none is named),
    /// and else what it held before.
    fn is_restored(&self, budgets: &[&str]) -> bool {
        if budgets.is_empty() {
            return self.matches("gen-a.sha256");
        }
        let list = |name: &str| {
            let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        let (old, new) = (list("gen-b.sha256"), list("gen-a.sha256"));
        let is_new = |line: &&str| ["2a84e2f7", "9c8a10f0"].iter().any(|id| line.contains(id));
        // The server's own database has rows of both.
        let lines = old.lines().filter(|line| !is_new(line)).chain(new.lines().filter(is_new));
        let lines: Vec<&str> = lines.filter(|line| !line.contains("account.sqlite")).collect();
        assert!(lines.len() > 5, "{lines:?}");
        let sums = self.dir.path().join("sums");
        std::fs::write(&sums, lines.join("\n") + "\n").unwrap();
        let live = self.dir.path().join("srv/budget");
        let checked = started(Command::new("sha256sum").args(["-c", "--quiet"]).arg(&sums).current_dir(live));
        std::fs::remove_file(sums).unwrap();
        checked.status.success()
    }

    fn restores(&self) -> usize {
        let text = std::fs::read_to_string(self.dir.path().join("srv/backups/backups.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&text).unwrap();
        let entry = index["backups"].as_array().unwrap().iter().find(|entry| entry["id"] == BACKUP).unwrap();
        entry["restores"].as_array().map_or(0, Vec::len)
    }
}

fn walk(path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::symlink_metadata(path).unwrap();
    let content = if meta.is_file() {
        abssctl::ids::Sha256::of(&std::fs::read(path).unwrap()).to_string()
    } else {
        String::new()
    };
    found.insert(path.to_path_buf(), format!("{:o} {}:{} {content}", meta.mode(), meta.uid(), meta.gid()));
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), found);
        }
    }
}

/// What the generic tests do: restore all of the backup, restore one budget of it, roll a restore back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Whole,
    Single,
    Rollback,
    /// As the first, with a service that runs.
    Service,
}

const CASES: [Case; 4] = [Case::Whole, Case::Single, Case::Rollback, Case::Service];

impl World {
    /// A world in which that can be done.
    fn of(case: Case) -> Self {
        let mut world = Self::new();
        if case == Case::Service {
            world.serve();
        }
        if case == Case::Rollback {
            world.first = world.apply(&world.plan(PreBackupMode::None), None).unwrap().run;
            world.restores = world.restores();
        }
        world
    }

    /// The plan to do it.
    fn plan_of(&self, mode: PreBackupMode, case: Case) -> Plan {
        match case {
            Case::Whole | Case::Service => self.plan(mode),
            Case::Single => self.plan_for(mode, &["Household"]),
            Case::Rollback => {
                let wish = RollbackWish {
                    run: self.first.clone().unwrap(),
                    data_only: false,
                    pre_backup: Some(mode),
                    backup_message: None,
                    reason: None,
                    expires: None,
                    on_failure: None,
                    drift: None,
                    retain: None,
                };
                planner::rollback::plan(&self.cx, &wish).unwrap()
            }
        }
    }

    /// Whether the live directory is as it was.
    fn is_before(&self, case: Case) -> bool {
        self.serves() && self.matches(if case == Case::Rollback { "gen-a.sha256" } else { "gen-b.sha256" })
    }

    /// Whether it was done.
    fn is_done(&self, case: Case) -> bool {
        let unit = std::fs::read_to_string(self.dir.path().join(UNIT)).unwrap();
        match case {
            Case::Whole => self.is_restored(&[]) && !unit.contains(CHANGED),
            Case::Service => self.serves() && self.is_restored(&[]),
            Case::Single => self.is_restored(&["Household"]) && unit.contains(CHANGED),
            Case::Rollback => self.matches("gen-b.sha256") && unit.contains(CHANGED),
        }
    }

    /// Records in the index that were not there before.
    fn recorded(&self) -> usize {
        self.restores() - self.restores
    }
}

/// The steps of a plan that this program runs here.
fn kinds(plan: &Plan) -> Vec<StepKind> {
    plan.steps.iter().map(Step::kind).collect()
}

#[test]
fn every_kind_has_its_code_or_is_not_built_yet() {
    let without: Vec<StepKind> =
        StepKind::ALL.iter().copied().filter(|kind| runner(*kind).is_none()).collect();
    assert_eq!(without, []);
    // The other tests here loop over the steps of these plans: all kinds that have code are in them.
    let mut tried = Vec::new();
    for case in [Case::Whole, Case::Single, Case::Service] {
        tried.extend(kinds(&World::of(case).plan_of(PreBackupMode::Quiesced, case)));
    }
    for kind in StepKind::ALL.iter().filter(|kind| runner(**kind).is_some()) {
        assert!(tried.contains(kind), "{kind} is in no test");
    }
}

#[test]
fn every_step_run_twice_gives_the_same() {
    for case in CASES {
        let world = World::of(case);
        let plan = world.plan_of(PreBackupMode::Quiesced, case);
        let backups = world.tree("srv/backups/budget").len();
        let twice = |cx: &StepContext<'_>, step: &Step, moment: Moment| {
            if moment == Moment::AfterRun {
                runner(step.kind()).unwrap().run(cx, step).map(|_| ())
            } else {
                Ok(())
            }
        };
        let report = world.apply(&plan, Some(&twice)).unwrap();
        assert_eq!(report.outcome, Outcome::Applied);
        assert!(world.is_done(case));
        assert_eq!(world.recorded(), 1);
        assert_eq!(world.tree("srv/backups/budget").len(), backups + 2, "one pre-backup and its sidecar");
        assert!(!world.dir.path().join("srv/.abssctl/staging").exists());
    }
}

#[test]
fn a_failure_before_or_after_any_step_leaves_the_world_as_it_was() {
    for case in CASES {
        for mode in [PreBackupMode::Quiesced, PreBackupMode::Online] {
            if case == Case::Service && mode == PreBackupMode::Online {
                // A start of the server takes its time; what is another way then is tried without one.
                continue;
            }
            for at in [Moment::BeforeRun, Moment::AfterRun] {
                let world = World::of(case);
                let before = world.lasting();
                for kind in kinds(&world.plan_of(mode, case)) {
                    let plan = world.plan_of(mode, case);
                    let fail = |_: &StepContext<'_>, step: &Step, moment: Moment| {
                        if step.kind() == kind && moment == at { Err(StepError::Injected) } else { Ok(()) }
                    };
                    let error = world.apply(&plan, Some(&fail)).unwrap_err();
                    let ApplyError::RolledBack { step, report, .. } = &error else {
                        panic!("{kind} {at:?}: {error:?}")
                    };
                    assert_eq!(step.as_ref().map(ToString::to_string).as_deref(), Some(kind.name()));
                    assert_eq!(report.outcome, Outcome::RolledBack);
                    assert_eq!(world.lasting(), before, "{mode:?} {kind} {at:?}");
                    assert!(world.is_before(case));
                    assert_eq!(world.recorded(), 0, "{kind} {at:?}");
                    let unfinished = list::unfinished(&world.cx, &plan.spec.instance).unwrap();
                    assert!(unfinished.is_none(), "{kind} {at:?}");
                }
            }
        }
    }
}

#[test]
fn every_undo_run_twice_is_harmless() {
    for case in CASES {
        let world = World::of(case);
        let before = world.lasting();
        let plan = world.plan_of(PreBackupMode::Quiesced, case);
        let hook = |cx: &StepContext<'_>, step: &Step, moment: Moment| match moment {
            Moment::AfterUndo => runner(step.kind()).unwrap().undo(cx, step),
            Moment::AfterRun if step.kind() == StepKind::Record => Err(StepError::Injected),
            Moment::BeforeRun | Moment::AfterRun | Moment::BeforeUndo => Ok(()),
        };
        let error = world.apply(&plan, Some(&hook)).unwrap_err();
        assert!(matches!(error, ApplyError::RolledBack { .. }), "{error:?}");
        assert_eq!(world.lasting(), before);
    }
}

#[test]
fn an_undo_of_a_step_that_did_nothing_is_harmless() {
    for case in CASES {
        let world = World::of(case);
        let before = world.lasting();
        let plan = world.plan_of(PreBackupMode::Quiesced, case);
        // Undone before they ran: announced in the journal alone, as after a crash.
        let hook = |cx: &StepContext<'_>, step: &Step, moment: Moment| {
            if moment == Moment::BeforeRun && step.kind() != StepKind::Lock {
                runner(step.kind()).unwrap().undo(cx, step)?;
            }
            Ok(())
        };
        // Undoing `extract` before the swap is harmless; the run goes on as if nothing had happened.
        assert_eq!(world.apply(&plan, Some(&hook)).unwrap().outcome, Outcome::Applied);
        assert!(world.is_done(case));
        assert_ne!(world.lasting(), before);
    }
}

#[test]
fn a_panic_in_any_step_is_an_error_and_everything_is_undone() {
    for case in CASES {
        let world = World::of(case);
        let before = world.lasting();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        for kind in kinds(&world.plan_of(PreBackupMode::Quiesced, case)) {
            let plan = world.plan_of(PreBackupMode::Quiesced, case);
            let fail = |_: &StepContext<'_>, step: &Step, moment: Moment| {
                assert!(step.kind() != kind || moment != Moment::AfterRun, "a defect");
                Ok(())
            };
            let error = world.apply(&plan, Some(&fail)).unwrap_err();
            assert!(error.to_string().contains("a defect"), "{kind}: {error}");
            assert_eq!(world.lasting(), before, "{kind}");
        }
        std::panic::set_hook(hook);
    }
}

#[test]
fn probes_say_how_far_a_step_came() {
    for case in CASES {
        let world = World::of(case);
        let plan = world.plan_of(PreBackupMode::Quiesced, case);
        let hook = |cx: &StepContext<'_>, step: &Step, moment: Moment| {
            let probe = runner(step.kind()).unwrap().probe(cx, step)?;
            match (moment, step.kind()) {
                (Moment::BeforeRun, StepKind::Cleanup) => {}
                (Moment::BeforeRun, kind) => assert_eq!(probe, Probe::NotBegun, "{kind}"),
                (
                    Moment::AfterRun,
                    kind @ (StepKind::Lock
                    | StepKind::Stop
                    | StepKind::PreBackup
                    | StepKind::Swap
                    | StepKind::Start
                    | StepKind::Cleanup),
                ) => {
                    assert_eq!(probe, Probe::Done, "{kind}");
                }
                (Moment::AfterRun | Moment::BeforeUndo | Moment::AfterUndo, _) => {}
            }
            Ok(())
        };
        assert_eq!(world.apply(&plan, Some(&hook)).unwrap().outcome, Outcome::Applied);
    }
}

#[test]
fn a_record_needs_the_swap_to_have_happened() {
    for case in CASES {
        let world = World::of(case);
        let plan = world.plan_of(PreBackupMode::Quiesced, case);
        // Somebody undoes the swap behind the run's back: then nothing may be recorded as restored.
        let hook = |cx: &StepContext<'_>, step: &Step, moment: Moment| {
            if step.kind() == StepKind::Swap && moment == Moment::AfterRun {
                runner(StepKind::Swap).unwrap().undo(cx, step)
            } else {
                Ok(())
            }
        };
        let error = world.apply(&plan, Some(&hook)).unwrap_err();
        assert!(error.to_string().contains("is not the tree"), "{error}");
        assert_eq!(world.recorded(), 0);
        assert!(world.is_before(case));
    }
}

#[test]
fn the_journal_cut_after_every_line_reads_as_a_legal_beginning() {
    let world = World::new();
    let plan = world.plan(PreBackupMode::Quiesced);
    let run = world.apply(&plan, None).unwrap().run.unwrap();
    let path = world.dir.path().join(format!("var/lib/abssctl/runs/{run}/journal.jsonl"));
    let whole = std::fs::read(&path).unwrap();
    let ends: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    assert!(ends.len() > 20, "{}", ends.len());
    for end in &ends {
        // Also torn in the middle of the next record.
        for cut in [*end, (*end + 17).min(whole.len())] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (read, damage) = abssctl::run::journal::read(&world.cx.root, &world.cx.config, &run).unwrap();
            assert!(damage.is_none(), "cut at {cut}: {damage:?}");
            let over = read.phase == state::Phase::Ended(state::Outcome::Applied);
            assert_eq!(over, cut == whole.len(), "cut at {cut}");
        }
    }
    // Any other damage is an error: a line that is gone, a byte that is another one.
    let mut gone = whole[..ends[3]].to_vec();
    gone.extend_from_slice(&whole[ends[4]..]);
    std::fs::write(&path, &gone).unwrap();
    assert!(abssctl::run::journal::read(&world.cx.root, &world.cx.config, &run).unwrap().1.is_some());
    let mut other = whole.clone();
    let at = ends[2] + other[ends[2]..].iter().position(|byte| *byte == b'k').unwrap();
    other[at] = b'K';
    std::fs::write(&path, &other).unwrap();
    assert!(abssctl::run::journal::read(&world.cx.root, &world.cx.config, &run).unwrap().1.is_some());
}

#[test]
fn a_damaged_journal_is_listed_and_blocks_its_own_instance_alone() {
    let world = World::new();
    let plan = world.plan(PreBackupMode::Quiesced);
    let run = world.apply(&plan, None).unwrap().run.unwrap();
    let path = world.dir.path().join(format!("var/lib/abssctl/runs/{run}/journal.jsonl"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let listed = list::all(&world.cx).unwrap();
    assert!(listed[0].damage.is_some());
    assert!(list::unfinished(&world.cx, &plan.spec.instance).is_err(), "whether it ended is not known");
    assert!(list::unfinished(&world.cx, &"other".parse().unwrap()).unwrap().is_none());
    // Out of the way, as the message says, and everything works again.
    std::fs::rename(path.parent().unwrap(), world.dir.path().join("moved")).unwrap();
    assert!(list::unfinished(&world.cx, &plan.spec.instance).unwrap().is_none());
}

#[test]
fn a_registry_that_cannot_be_written_does_not_keep_the_old_tree_from_coming_back() {
    let world = World::new();
    let before = world.lasting();
    let plan = world.plan(PreBackupMode::Quiesced);
    // The registry is replaced by something that cannot be, between the swap and the record.
    let registry = world.dir.path().join("var/lib/abssctl/registry/instances.yml");
    let kept = std::fs::read(&registry).unwrap();
    let hook = |_: &StepContext<'_>, step: &Step, moment: Moment| {
        if step.kind() == StepKind::Swap && moment == Moment::AfterRun {
            std::fs::remove_file(&registry).unwrap();
            std::fs::create_dir(&registry).unwrap();
        }
        Ok(())
    };
    let error = world.apply(&plan, Some(&hook)).unwrap_err();
    assert!(matches!(error, ApplyError::RolledBack { .. } | ApplyError::Halted { .. }), "{error:?}");
    assert!(world.matches("gen-b.sha256"), "the old tree is back");
    assert_eq!(world.restores(), 0);
    std::fs::remove_dir(&registry).unwrap();
    std::fs::write(&registry, kept).unwrap();
    let same = |tree: &BTreeMap<PathBuf, String>| {
        let mut tree = tree.clone();
        tree.retain(|path, _| !path.ends_with("instances.yml"));
        tree
    };
    assert_eq!(same(&world.lasting()), same(&before));
}

#[test]
fn a_pre_backup_that_is_stopped_leaves_nothing() {
    let world = World::new();
    let entries = || std::fs::read_to_string(world.dir.path().join("srv/backups/backups.json")).unwrap();
    let (before, files) = (entries(), world.tree("srv/backups/budget"));
    let plan = world.plan(PreBackupMode::Quiesced);
    // Cancelling while it is read back has the same way out as a proof that fails.
    let hook = |cx: &StepContext<'_>, step: &Step, moment: Moment| {
        if step.kind() == StepKind::PreBackup && moment == Moment::BeforeRun {
            cx.host.cancel.request();
        }
        Ok(())
    };
    assert!(world.apply(&plan, Some(&hook)).is_err());
    assert_eq!(entries(), before);
    assert_eq!(world.tree("srv/backups/budget"), files);
}

#[test]
fn a_signal_while_trees_are_digested_stops_a_restore_before_the_swap_and_none_after_it() {
    for (kind, applied) in [(StepKind::Prepare, false), (StepKind::Cleanup, true)] {
        let world = World::new();
        let before = world.lasting();
        let plan = world.plan(PreBackupMode::Quiesced);
        let hook = |cx: &StepContext<'_>, step: &Step, moment: Moment| {
            if step.kind() == kind && moment == Moment::BeforeRun {
                cx.host.cancel.request();
            }
            Ok(())
        };
        let ended = world.apply(&plan, Some(&hook));
        let run = list::all(&world.cx).unwrap().remove(0);
        assert_eq!(run.state.tree(Side::After).is_some(), applied);
        assert_eq!(run.state.tree(Side::Before), None);
        if applied {
            let warnings = ended.unwrap().warnings;
            assert!(warnings[0].starts_with("the digest of the displaced tree is not known"), "{warnings:?}");
            assert!(!world.dir.path().join("srv/.abssctl/staging").exists(), "it is tidied all the same");
        } else {
            let error = ended.unwrap_err();
            assert!(error.to_string().contains("stopped by a signal"), "{error}");
            assert_eq!(world.lasting(), before);
        }
    }
}

#[test]
fn a_tree_that_cannot_be_digested_is_a_warning_and_no_failure() {
    let world = World::new();
    let plan = world.plan(PreBackupMode::Quiesced);
    let hook = |cx: &StepContext<'_>, step: &Step, moment: Moment| {
        let tree = cx.fact(|fact| match fact {
            Fact::Staging { directory } => Some(world.dir.path().join(directory.relative()).join("data")),
            Fact::Target { .. }
            | Fact::PreBackup { .. }
            | Fact::Record { .. }
            | Fact::Swap { .. }
            | Fact::Service(_)
            | Fact::Assets { .. }
            | Fact::AssetsTold
            | Fact::Tree { .. } => None,
        });
        // Deeper than the walker goes: in the unpacked tree, which is displaced by nobody.
        if step.kind() == StepKind::Prepare && moment == Moment::BeforeRun {
            std::fs::create_dir_all(tree.unwrap().join(["d"; 200].join("/"))).unwrap();
        }
        Ok(())
    };
    let report = world.apply(&plan, Some(&hook)).unwrap();
    assert_eq!(report.outcome, Outcome::Applied);
    assert!(report.warnings[0].contains("the digest of the new tree is not known"), "{:?}", report.warnings);
    let run = list::all(&world.cx).unwrap().remove(0);
    assert_eq!(run.state.tree(Side::After), None);
    assert!(run.state.tree(Side::Before).is_some());
}
