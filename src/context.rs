//! What every command that touches the machine needs: the root, the configuration, who asks, and the
//! switch that stops it.

use crate::host::cancel::Cancel;
use crate::host::fs::Root;
use crate::host::machine::Actor;
use crate::host::service::{NoManager, ServiceManager, Systemd};
use crate::host::stamp::Known;
use crate::state::config::Config;
use crate::state::restore_config::ServiceManagerChoice;

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
    /// Digests of files in the target that this process took: what a plan was compared with, and what was copied,
    /// need not be read again.
    pub known: Known,
    /// Whether this process runs while the machine comes up, and units of servers wait for its end.
    pub before_units: bool,
}

impl Context {
    /// What starts and stops servers. Below a root that is not the machine's own that is nothing, unless
    /// `restore.yml` in that root says `serviceManager: systemd`: its units would be looked for among the
    /// machine's.
    pub fn services(&self) -> Box<dyn ServiceManager> {
        let programs = &self.config.systemd;
        let systemd = || {
            let systemd = Systemd::new(&programs.systemctl_bin, &programs.journalctl_bin);
            Box::new(if self.before_units { systemd.out_of_order() } else { systemd })
        };
        match self.config.restore.service_manager {
            ServiceManagerChoice::None => Box::new(NoManager::new("restore.yml says 'serviceManager: none'")),
            ServiceManagerChoice::Systemd => systemd(),
            ServiceManagerChoice::Auto if !self.root.is_host() => {
                Box::new(NoManager::new("the root is not this machine's own"))
            }
            ServiceManagerChoice::Auto if Systemd::is_booted() => systemd(),
            ServiceManagerChoice::Auto => {
                Box::new(NoManager::new("systemd does not run here (a container, or another init)"))
            }
        }
    }
}
