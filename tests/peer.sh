#!/usr/bin/env bash
# Runs the peer (the older Python tool) on a scratch root, as if ROOT were /.
#
#   tests/peer.sh ROOT ARGUMENTS...        e.g.  tests/peer.sh "$dir" backup verify --all --json
#
# The peer has no --root: each of its directories is named in the environment. It takes EVERY variable
# that starts with ABSSCTL_ for a setting and refuses those it does not know, hence the empty environment.
# The index holds absolute paths, so ROOT is put before them for the peer and taken away afterwards, also
# when the peer fails. A kill in between leaves ROOT in the index of that scratch root, nowhere else.
set -euo pipefail

if [ $# -lt 2 ] || [ ! -d "$1" ]; then
    echo "usage: tests/peer.sh ROOT ARGUMENTS..." >&2
    exit 64
fi
root=$(cd -- "$1" && pwd)
shift
peer=${ABSSCTL_TEST_PEER:-$(dirname -- "${BASH_SOURCE[0]}")/../target/peer-venv/bin/abssctl}
index=$root/srv/backups/backups.json

settings=(
    PATH="$PATH" HOME="$root" LANG=C.UTF-8 NO_COLOR=1 COLUMNS=200
    ABSSCTL_SKIP_NPM=1
    ABSSCTL_CONFIG_FILE="$root/etc/abssctl/config.yml"
    ABSSCTL_INSTALL_ROOT="$root/srv/app"
    ABSSCTL_INSTANCE_ROOT="$root/srv"
    ABSSCTL_STATE_DIR="$root/var/lib/abssctl"
    ABSSCTL_LOGS_DIR="$root/var/log/abssctl"
    ABSSCTL_RUNTIME_DIR="$root/run/abssctl"
    ABSSCTL_TEMPLATES_DIR="$root/etc/abssctl/templates"
)
if [ -n "${ABSSCTL_TEST_PEER_VERIFIES:-}" ] ||
    env -i PATH="$PATH" HOME="$root" "$peer" backup verify --help </dev/null >/dev/null 2>&1; then
    settings+=(
        ABSSCTL_BACKUPS__ROOT="$root/srv/backups"
        ABSSCTL_SYSTEMD__UNIT_DIR="$root/etc/systemd/system"
        ABSSCTL_SYSTEMD__SYSTEMCTL_BIN=true # never the machine's own services
        ABSSCTL_SYSTEMD__JOURNALCTL_BIN=true
    )
else
    # Versions before 0.1.4 know neither `systemd` nor `backups`, and refuse a file that has them.
    settings+=(ABSSCTL_CONFIG_FILE=/dev/null)
fi

literal=$(printf '%s' "$root" | sed 's/[][\.*^$|&]/\\&/g')
reroot() {
    [ ! -f "$index" ] || sed -i "$1" "$index"
}
reroot "s|\"path\": \"/|\"path\": \"$literal/|"
trap 'reroot "s|\"path\": \"$literal/|\"path\": \"/|"' EXIT
status=0
env -i "${settings[@]}" "$peer" "$@" </dev/null || status=$?
exit "$status"
