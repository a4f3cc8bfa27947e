#!/usr/bin/env bash
# Makes the Debian that tests/appliance boots: systemd, nginx and openssl, nothing else. About two minutes, once.
#
#   tests/appliance/make-root.sh DIRECTORY
#
# What it changes: DIRECTORY alone. `root` there is the system, `complete` says by which recipe it was made and
# is written last: what an interruption left, or another recipe, is made again. Needs root and debootstrap.
# Release and mirror are those of this machine, so that what was compiled here runs there.
set -euo pipefail
directory=$1
script=${BASH_SOURCE[0]}

release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:?/etc/os-release names no release}")
mirror=$(apt-get indextargets --format '$(CREATED_BY) $(CODENAME) $(COMPONENT) $(REPO_URI)' |
    sed -n "s/^Packages $release main //p" | head -n 1)
: "${mirror:?apt knows no repository of $release}"
recipe=$(sha256sum <"$script")$release
[ "$(cat "$directory/complete" 2>/dev/null)" != "$recipe" ] || exit 0

eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy

rm -f "$directory/complete"
rm -rf --one-file-system "${directory:?}/root"
mkdir -p "$directory"
root=$(cd "$directory" && pwd)/root
# What debootstrap mounts must not outlive it.
unshare --mount debootstrap --variant=minbase --components=main \
    --include=systemd-sysv,dbus,nginx-light,openssl "$release" "$root" "$mirror" >"$directory/log" 2>&1 || {
    tail -n 20 "$directory/log" >&2
    exit 1
}

# The server's user has the same number everywhere, which the tests need from outside.
chroot "$root" useradd --system --uid 991 --user-group --home-dir /srv/actual --no-create-home \
    --shell /usr/sbin/nologin actual-sync
chroot "$root" openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=budget.example \
    -addext subjectAltName=DNS:budget.example \
    -keyout /etc/ssl/private/cert.key -out /etc/ssl/private/cert.pem 2>>"$directory/log"
rm "$root/etc/nginx/sites-enabled/default"
# Nothing begins by itself in the middle of a test.
for timer in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$timer"
done
# Messages of a machine that died must be there to read after its next start.
mkdir -p "$root/var/log/journal"
: >"$root/etc/machine-id"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
printf '%s\n' "$recipe" >"$directory/complete"
