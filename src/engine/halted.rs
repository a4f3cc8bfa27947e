//! What stands where when a run halts on its way back, for its message: which tree the target has, and
//! whether anybody is served. Reads only; what cannot be told is not said.

use std::sync::Mutex;

use super::recover;
use crate::run::fact::Fact;
use crate::run::journal::Journal;
use crate::steps::StepContext;

/// In words that follow a semicolon.
pub(super) fn stands(cx: &StepContext<'_>, journal: &Mutex<Journal>) -> String {
    let target = &cx.plan.spec.target.directory;
    let tree = match recover::swapped(cx, journal) {
        Ok(false) => format!("{target} is as it was before the run"),
        Ok(true) if by_entries(cx) => {
            format!("{target} has all or some of the entries that this run put there")
        }
        Ok(true) => format!("{target} has the tree that this run put there"),
        Err(error) => format!("what stands in {target} cannot be told: {error}"),
    };
    let state = cx.plan.unit().and_then(|(unit, _)| Some((unit, cx.host.services().state(unit).ok()?)));
    match state {
        Some((unit, state)) if state.is_up() => format!("{tree}; {unit} is {state}"),
        Some((unit, state)) => format!("{tree}; {unit} is {state}: nobody is served"),
        None => tree,
    }
}

/// Whether a file system is mounted at the target, so that its entries change places one by one.
fn by_entries(cx: &StepContext<'_>) -> bool {
    let swap = |fact: &Fact| matches!(fact, Fact::Swap { entries, .. } if !entries.is_empty()).then_some(());
    cx.fact(swap).is_some()
}
