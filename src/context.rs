//! What every command that touches the machine needs: the root, the configuration, who asks, and the
//! switch that stops it.

use crate::host::cancel::Cancel;
use crate::host::fs::Root;
use crate::host::machine::Actor;
use crate::state::config::Config;

/// The machine as this process sees it.
#[derive(Debug, Clone)]
pub struct Context {
    /// The tree that all paths refer to.
    pub root: Root,
    /// Where things are.
    pub config: Config,
    /// Who runs this process.
    pub actor: Actor,
    /// Set by signals; long work looks at it.
    pub cancel: Cancel,
}
