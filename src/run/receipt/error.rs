//! Why there is no receipt, or why one is refused.

use crate::host::fs::FsError;
use crate::ids::{PlanDigest, PlanId, RunId};
use crate::plan::render::visible;
use crate::run::journal::JournalError;

/// There is no receipt, or one is refused.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ReceiptError {
    /// The run goes on, or waits for somebody to go on with it.
    #[error("run {run} has not ended, so that there is no receipt of it")]
    #[diagnostic(
        code(abssctl::receipt::not_ended),
        help("see how far it is: abssctl run show {run}; an interrupted one goes on with the same apply")
    )]
    NotEnded {
        /// The run.
        run: RunId,
    },
    /// What is kept of the plan is not what was applied.
    #[error("the plan that is kept with run {run} is not the one that it applied: {why}")]
    #[diagnostic(
        code(abssctl::receipt::kept_plan),
        help("somebody changed the run's directory; compare it with a copy: abssctl run show {run}")
    )]
    KeptPlan {
        /// The run.
        run: RunId,
        /// What is wrong with it.
        why: String,
    },
    /// What is kept of a signature is not what came with the plan.
    #[error("the signature {} that is kept with run {run} {why}", visible(.name))]
    #[diagnostic(
        code(abssctl::receipt::kept_signature),
        help("somebody changed the run's directory; compare it with a copy: abssctl run show {run}")
    )]
    KeptSignature {
        /// The run.
        run: RunId,
        /// Its file, or whose it is.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file is no receipt.
    #[error("{name} is no receipt: {why}")]
    #[diagnostic(
        code(abssctl::receipt::unreadable),
        help("where the run is known: abssctl run show RUN --receipt")
    )]
    Unreadable {
        /// The file.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The receipt is not what it was when it was written.
    #[error("{name} was changed after it was written: its {what} does not fit what it says")]
    #[diagnostic(
        code(abssctl::receipt::changed),
        help("take the one that was committed, or print it anew: abssctl run show RUN --receipt")
    )]
    Changed {
        /// The file.
        name: String,
        /// Which of its digests.
        what: &'static str,
    },
    /// It belongs to another plan.
    #[error("{name} is the receipt of plan {id}, {digest}")]
    #[diagnostic(
        code(abssctl::receipt::other_plan),
        help("name the plan that it belongs to, as it was when it was applied")
    )]
    OtherPlan {
        /// The file.
        name: String,
        /// The plan that it names.
        id: PlanId,
        /// Its digest.
        digest: PlanDigest,
    },
    /// It says something else than its plan.
    #[error("{name} says of {what} something else than the plan")]
    #[diagnostic(code(abssctl::receipt::contradicts_plan), help("the receipt is forged, or of another plan"))]
    ContradictsPlan {
        /// The file.
        name: String,
        /// The field.
        what: String,
    },
    /// It says something else than its run's directory.
    #[error("{name} says of {what} something else than the journal of run {run}")]
    #[diagnostic(
        code(abssctl::receipt::contradicts_run),
        help("one of the two was changed; see what the run says: abssctl run show {run} --receipt")
    )]
    ContradictsRun {
        /// The file.
        name: String,
        /// The run.
        run: RunId,
        /// The field.
        what: String,
    },
    /// The journal is damaged.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Journal(#[from] JournalError),
    /// A file of the run cannot be read.
    #[error(transparent)]
    #[diagnostic(code(abssctl::receipt::io), help("see whether the path exists and who may read it"))]
    Fs(#[from] FsError),
}
