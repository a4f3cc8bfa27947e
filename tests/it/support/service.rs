//! An instance whose unit is controlled by a stand-in for systemd: its server is a process of its own that
//! really starts, stops, has files open and answers.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::TestRoot;
use super::root::{LIVE, REGISTRY};
use super::tools::tool;

/// The unit of the fixture's instance.
pub(crate) const UNIT: &str = "abssctl-budget.service";

/// A root with a service.
#[derive(Debug)]
pub(crate) struct Serviced {
    pub(crate) root: TestRoot,
    pub(crate) port: u16,
    control: TempDir,
}

impl Serviced {
    /// The instance of the fixture, its server running.
    pub(crate) fn new() -> Self {
        let world = Self::stopped();
        world.systemctl("start");
        world.wait_until_up();
        world.forget_calls();
        world
    }

    /// The same, not started.
    pub(crate) fn stopped() -> Self {
        let (root, control) = (TestRoot::new(), TempDir::with_prefix("abssctl-service-").unwrap());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let registry = root.read(REGISTRY).replace("  port: 5007\n", &format!("  port: {port}\n"));
        root.write(REGISTRY, registry);
        let at = |name: &str| control.path().join(name);
        let program = |name: &str, text: &str| {
            std::fs::write(at(name), text).unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        program("systemctl", include_str!("systemctl.sh"));
        program("journalctl", include_str!("systemctl.sh"));
        program("server", include_str!("server.py"));
        let data = root.path(LIVE).join("data");
        std::fs::write(at("data"), data.to_str().unwrap()).unwrap();
        std::fs::write(at("port"), port.to_string()).unwrap();
        let config = root.read("etc/abssctl/config.yml").replace(
            "systemctl_bin: systemctl",
            &format!(
                "systemctl_bin: {}\n  journalctl_bin: {}",
                at("systemctl").display(),
                at("journalctl").display()
            ),
        );
        root.write("etc/abssctl/config.yml", config);
        let world = Self { root, port, control };
        world.settings("");
        world
    }

    /// Writes `restore.yml`: what every test here needs, and more.
    pub(crate) fn settings(&self, more: &str) {
        self.root.write("etc/abssctl/restore.yml", format!("serviceManager: systemd\n{more}\n"));
    }

    /// Makes the stand-in or its server behave oddly.
    pub(crate) fn odd(&self, name: &str, text: &str) {
        std::fs::write(self.control(name), text).unwrap();
    }

    pub(crate) fn even(&self, name: &str) {
        std::fs::remove_file(self.control(name)).unwrap();
    }

    pub(crate) fn control(&self, name: &str) -> PathBuf {
        self.control.path().join(name)
    }

    pub(crate) fn systemctl(&self, verb: &str) {
        let _ = tool(self.control("systemctl").to_str().unwrap(), &[verb, "--", UNIT]);
    }

    /// The orders that were given, in their order.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.control("calls")).unwrap_or_default();
        text.lines().map(|line| line.replace(&format!(" {UNIT}"), "")).collect()
    }

    pub(crate) fn forget_calls(&self) {
        let _ = std::fs::remove_file(self.control("calls"));
    }

    /// Whether the server's process is there.
    pub(crate) fn pid(&self) -> Option<u32> {
        let pid = std::fs::read_to_string(self.control("pid")).ok()?.trim().parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        (!stat.contains(") Z ")).then_some(pid)
    }

    /// Whether it answers.
    pub(crate) fn is_up(&self) -> bool {
        let url = format!("http://127.0.0.1:{}/health", self.port);
        let asked = Command::new("curl").args(["-sf", "-o", "/dev/null", &url]).status().unwrap();
        asked.success()
    }

    pub(crate) fn wait_until_up(&self) {
        super::tools::wait_for("the server", || self.is_up().then_some(()));
    }

    pub(crate) fn plan(&self, args: &[&str]) -> (PathBuf, Value) {
        let path = self.root.plan(args);
        let plan = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        (path, plan)
    }

    /// Proves that the old server runs on the old tree and that nothing of a run is left.
    #[track_caller]
    pub(crate) fn assert_old(&self) {
        self.root.assert_generation("gen-b.sha256");
        assert!(self.is_up(), "the old server answers");
        self.root.assert_no_private();
    }

    /// Proves that the server runs on the restored tree.
    #[track_caller]
    pub(crate) fn assert_new(&self) {
        self.root.assert_generation("gen-a.sha256");
        assert!(self.is_up(), "the server answers");
        let open = std::fs::read_link(format!("/proc/{}/fd/3", self.pid().unwrap())).unwrap();
        assert!(open.starts_with(self.root.path(LIVE)), "{}", open.display());
    }
}

impl Drop for Serviced {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            drop(Command::new("kill").args(["-KILL", &pid.to_string()]).status());
        }
    }
}

/// A private authority and a certificate for 127.0.0.1, both in `directory`: `ca.pem`, and `tls.pem` with
/// its key.
pub(crate) fn certificates(directory: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj '/CN=A private authority' &&
        openssl req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj '/CN=server' &&
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > ext &&
        openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out tls.crt -days 2 -extfile ext &&
        cat tls.crt tls.key > tls.pem";
    let _ = super::tools::tool_in(directory, "sh", &["-c", script]);
}
