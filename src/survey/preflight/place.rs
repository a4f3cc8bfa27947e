//! What the target and its file system allow: who uses it, who may write there, and how much room there is. Reads
//! only, but for a file without a name that is made to see whether one can be.

use std::path::Path;

use super::super::observe::Survey;
use super::super::private;
use super::super::target::{self, TargetSurvey};
use super::{Ask, Class, Preflight};
use crate::actual::layout;
use crate::context::Context;
use crate::host::lock::{self, LockName};
use crate::host::{fs, machine, processes};
use crate::ids::AbsPath;
use crate::plan::model::Plan;
use crate::plan::observed::Presence;
use crate::plan::preview::Verdict;
use crate::plan::spec::{OwnershipSource, PreBackupMode};
use crate::plan::step::{Action, Step};

impl Preflight {
    pub(super) fn target(&mut self, cx: &Context, plan: &Plan, survey: &Survey, ask: Ask<'_>) {
        if survey.target.observed.presence != Presence::Absent {
            self.users(cx, plan, ask);
        }
        self.file_system(cx, plan, survey);
        self.owners(plan, survey);
    }

    /// Nobody else may have files of the target open.
    fn users(&mut self, cx: &Context, plan: &Plan, ask: Ask<'_>) {
        let path = cx.root.host_path(&plan.spec.target.directory);
        let mut users = processes::users_of(&path);
        // The plan stops its unit; whoever else has files open would still have them then.
        let stopped = |step: &Step| {
            if let Action::Stop(with) = &step.action { Some(with.unit.clone()) } else { None }
        };
        if let Some(unit) = plan.steps.iter().find_map(stopped)
            && let Ok(state) = cx.services().state(&unit)
        {
            users.files.retain(|user| !state.owns(user.pid));
        }
        // Whoever holds a lock, as a backup does, is waited for with the locks; under them all is
        // looked at again.
        if ask.own_run.is_none() {
            let locks = [LockName::Global, LockName::Instance(plan.spec.instance.clone())];
            users.leave_out(|| lock::holders(&cx.root, &cx.config.runtime_dir, &locks));
        }
        if let Some(first) = users.files.first() {
            let others = users.files.iter().filter(|user| user.pid != first.pid).count();
            let more = if others > 0 { format!(" and {others} more") } else { String::new() };
            let message =
                format!("process {} ({}) has {} open{more}", first.pid, first.command, first.path.display());
            self.problem(
                Class::Environment,
                "target-in-use",
                message,
                "stop the server of this instance, then apply again",
            );
        } else if !users.complete {
            self.not_checked.push(format!("open files: {}", processes::INCOMPLETE));
        }
    }

    fn file_system(&mut self, cx: &Context, plan: &Plan, survey: &Survey) {
        let target = &plan.spec.target.directory;
        let mount_point = survey.target.observed.mount_point;
        if let Some(why) = mount_point.then(|| target::unmovable(&survey.target.entries)).flatten() {
            let message =
                format!("{target} is a mount point, where entries change places by name, and {why}");
            self.problem(
                Class::Environment,
                "mount-point-entries",
                message,
                "rename or remove what is odd in it",
            );
        }
        let holder = private::holder(target, mount_point);
        if survey.read_only {
            let message = format!("the file system of {target} is mounted read-only");
            self.problem(Class::Environment, "read-only", message, "mount it read-write");
        } else if let Err(error) = writable(cx, &holder) {
            let message = format!("no file can be made in {holder}: {error}");
            self.problem(
                Class::Environment,
                "permission",
                message,
                "run as root, or as the user who owns the directory that holds the target",
            );
        }
        if let Some(message) = private::flaw(cx, &holder) {
            self.problem(Class::Environment, "private-directory", message, private::HELP);
        }
        if survey.observed.file_system.atomic_exchange == Verdict::WillNot {
            let message = format!(
                "the file system of {target} ({}) cannot exchange two directories in one step",
                survey.observed.file_system.r#type
            );
            self.problem(
                Class::Environment,
                "no-exchange",
                message,
                "move the instance to ext4, xfs, btrfs or another local file system",
            );
        }
    }

    fn owners(&mut self, plan: &Plan, survey: &Survey) {
        let ownership = &plan.spec.ownership;
        let takes_owners = match ownership.from {
            OwnershipSource::Archive => plan.spec.is_single(),
            OwnershipSource::Live | OwnershipSource::Fixed => true,
            OwnershipSource::Kept => false,
        };
        if takes_owners && !machine::is_root() && foreign(survey) {
            let message =
                "files of the target belong to another user, and only root can give files to others"
                    .to_owned();
            self.problem(Class::Environment, "ownership", message, "run as root");
        }
    }

    pub(super) fn space(&mut self, plan: &Plan, survey: &Survey) {
        let needed = plan.observed.space.staging_bytes;
        if needed > survey.staging_free {
            let message = format!(
                "{needed} bytes are needed beside {}, {} are free",
                plan.spec.target.directory, survey.staging_free
            );
            self.problem(Class::Environment, "space", message, "free some space on that file system");
        }
        let needed = survey.observed.space.backup_bytes;
        if plan.spec.pre_backup.mode != PreBackupMode::None && needed > survey.backup_free {
            let directory = &survey.observed.space.backup_directory;
            let message = format!(
                "up to {needed} bytes are needed for the pre-backup in {directory}, {} are free",
                survey.backup_free
            );
            self.problem(
                Class::Environment,
                "space-backup",
                message,
                "free some space on that file system, or plan with --no-pre-backup",
            );
        }
    }
}

fn foreign(survey: &Survey) -> bool {
    let me = rustix::process::geteuid().as_raw();
    survey.target.entries.iter().any(|entry| entry.uid != me)
}

fn writable(cx: &Context, directory: &AbsPath) -> std::io::Result<()> {
    fs::check_writable(&cx.root.dir(directory).map_err(|error| error.source)?)
}

/// Why what is in a target that is not live must not be replaced: it is no Actual instance. `data` is
/// the server's data directory below it.
pub fn foreign_content(live: bool, data: &Path, target: &TargetSurvey) -> Option<String> {
    if live || target.observed.presence != Presence::Content {
        return None;
    }
    let account = data.join(layout::ACCOUNT);
    let known = target.entries.iter().any(|entry| entry.path == account);
    (!known).then(|| format!("it has content that is no Actual instance ({} is missing)", account.display()))
}
