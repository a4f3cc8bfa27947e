//! Which file runs which step kind.

use super::context::StepRunner;
use super::{
    assets, check, cleanup, extract, health, inspect, lock, overlay, pre_backup, prepare, record, start,
    stop, swap, verify,
};
use crate::plan::step::StepKind;

/// The code of a step kind; `None` for `assets`, which this program does not restore yet. The preflight
/// refuses plans that hold such a step.
pub fn runner(kind: StepKind) -> Option<&'static dyn StepRunner> {
    match kind {
        StepKind::Lock => Some(&lock::Lock),
        StepKind::Check => Some(&check::Check),
        StepKind::Verify => Some(&verify::Verify),
        StepKind::Extract => Some(&extract::Extract),
        StepKind::Inspect => Some(&inspect::Inspect),
        StepKind::Prepare => Some(&prepare::Prepare),
        StepKind::PreBackup => Some(&pre_backup::PreBackup),
        StepKind::Overlay => Some(&overlay::Overlay),
        StepKind::Swap => Some(&swap::Swap),
        StepKind::Record => Some(&record::Record),
        StepKind::Cleanup => Some(&cleanup::Cleanup),
        StepKind::Stop => Some(&stop::Stop),
        StepKind::Start => Some(&start::Start),
        StepKind::Health => Some(&health::Health),
        StepKind::Assets => Some(&assets::Assets),
    }
}
