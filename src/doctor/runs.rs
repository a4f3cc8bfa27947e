//! Runs: whether each came to an end, and which displaced directories have had their time.

use super::{Area, Finding, Notes, count};
use crate::context::Context;
use crate::ids::RunId;
use crate::run::journal;
use crate::run::list::{self, Run};
use crate::run::state::{Outcome, Phase};
use crate::steps::cleanup;

pub(super) fn look(cx: &Context) -> Vec<Finding> {
    let mut notes = Notes::new(Area::Runs);
    let runs = match list::all(cx) {
        Ok(runs) => runs,
        Err(error) => {
            notes.error("runs", &error);
            return notes.found;
        }
    };
    for run in &runs {
        one(cx, run, &mut notes);
    }
    match list::strangers(cx) {
        Ok(names) => names.iter().for_each(|name| stranger(cx, name, &mut notes)),
        Err(error) => notes.error("runs", &error),
    }
    match cleanup::due(cx, None) {
        Ok(due) => {
            for (run, path) in due {
                let message = format!("{path}, displaced by run {}, has been kept for its time", run.id);
                notes.warning("displaced-due", message, "the next apply removes it, or: abssctl run prune");
            }
        }
        Err(error) => notes.error("displaced", &error),
    }
    notes.finish("runs", count(runs.len(), "run of a plan is on record", "runs of plans are on record"))
}

/// What has the name of no run; one in small letters is a run that no command finds.
fn stranger(cx: &Context, name: &str, notes: &mut Notes) {
    let directory = cx.config.runs_dir();
    let shown = name.escape_debug();
    if let Ok(run) = name.to_ascii_uppercase().parse::<RunId>() {
        let message = format!("{directory}/{shown} is run {run} under another name: no command finds it");
        let help = format!("give it its name back: mv {directory}/{name} {directory}/{run}");
        notes.problem("not-a-run", message, help);
    } else {
        let message = format!("{directory}/{shown} lies among the runs, and has the name of none");
        let help = "where it is a run's directory, give it its name back, 26 capital letters and digits; else move it elsewhere";
        notes.warning("not-a-run", message, help);
    }
}

fn one(cx: &Context, run: &Run, notes: &mut Notes) {
    let id = &run.id;
    if let Some(damage) = &run.damage {
        return notes.error("run-damaged", damage);
    }
    if run.state.started.is_some() {
        plan(cx, run, notes);
    }
    match run.state.phase {
        Phase::Ended(Outcome::Applied | Outcome::RolledBack) => {}
        Phase::Fresh => {
            let message = format!("run {id} was stopped before it began; it changed nothing");
            let directory = journal::run_directory(&cx.config, id).map(|path| path.to_string());
            let help = format!("its directory may go: {}", directory.unwrap_or_default());
            notes.warning("run-not-begun", message, help);
        }
        Phase::Halted(_) | Phase::Ended(Outcome::Halted) => {
            let message = format!("run {id} halted, and a person must look");
            let help = format!(
                "see what stands where: abssctl run show {id}\ngo on: abssctl run resume {id}\nor undo it: abssctl run rollback {id}"
            );
            notes.problem("run-halted", message, help);
        }
        Phase::Forward | Phase::Back => match journal::is_in_progress(&cx.root, &cx.config, id) {
            Ok(true) => notes.warning("run-in-progress", format!("run {id} is at work now"), "wait for it"),
            Ok(false) => {
                let message = format!("run {id} was interrupted and is not finished");
                let help =
                    format!("go on with it: abssctl run resume {id}\nor undo it: abssctl run rollback {id}");
                notes.problem("run-interrupted", message, help);
            }
            Err(error) => notes.error("run", &error),
        },
    }
}

/// The plan that lies beside a journal: `run resume` and `run rollback` go by it.
fn plan(cx: &Context, run: &Run, notes: &mut Notes) {
    let id = &run.id;
    let file = match journal::plan_file(&cx.config, id) {
        Ok(file) => file,
        Err(error) => return notes.error("run-plan", &error),
    };
    let what = match cx.root.open_file(&file) {
        Ok(Some(_)) => return,
        Ok(None) => format!("{file}, the plan of run {id}, is gone"),
        Err(error) => format!("the plan of run {id} cannot be read: {error}"),
    };
    if run.state.is_unfinished() {
        notes.problem("run-plan", what, "put it back, or go on with your own copy of it: abssctl apply FILE");
    } else {
        notes.warning("run-plan", what, format!("the run is over; what it did: abssctl run show {id}"));
    }
}
