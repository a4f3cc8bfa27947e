//! Looks at the machine without changing it: instance, backup, archive and target. The planner writes
//! what it sees into a plan; the `check` step looks again.

pub mod approvals;
pub mod archive;
pub mod assets;
pub mod displaced;
pub mod forbidden;
pub mod listing;
pub mod observe;
pub mod policy;
pub mod preflight;
pub mod private;
pub mod server;
pub mod target;
pub mod tree;
