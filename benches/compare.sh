#!/usr/bin/env bash
# How fast restores and backups are, beside what a careful person types and beside other programs, on the
# same data in one go. Prints a table of ratios; never a test.
#
#   benches/compare.sh [large] [small] [tiny] [create] [restore]     all but tiny by default
#
# Environment:
#   RUNS=3           rounds; each runs every program once, in turns
#   LARGE_MB=1400    size of the large instance: 4 SQLite ledgers, 8 incompressible blobs
#   SMALL_FILES=20000  files of 2, 4, 8 and 16 KiB, which do not compress, as the server's blobs; with "tiny" as
#                    many of 30 bytes of text
#   PEER=target/peer-venv/bin/abssctl  the peer's program
#   DIRECTORY        where the data lie (below target/ by default): a file system of that disk is measured
#
# 1.0 is `sha256sum ARCHIVE && tar --zstd -xf ARCHIVE && sync -f`, or `tar --zstd -cf && sha256sum && sync -f`,
# of the same run. What a program reads was read just before; each program ends with its data on the disk.
# "delta" is the apply of a plan with transfer: delta over a tree of which a few bytes are others; on a file system that
# shares content (XFS, Btrfs: DIRECTORY) it reads, and hardly writes.
# restic and borg are measured where they are installed, and the older Python tool (the peer) where PEER is one that
# restores: none that is published does, but the branch dev-beta1 of its repository. It restores our archive.
# What it changes: target/ and DIRECTORY alone.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

runs=${RUNS:-3}
work=${DIRECTORY:-$PWD/target/bench}
program=$PWD/target/release/abssctl
wanted=" ${*:-large small create restore} "
[[ $wanted == *" large "* || $wanted == *" small "* || $wanted == *" tiny "* ]] || wanted+="large small "
[[ $wanted == *" create "* || $wanted == *" restore "* ]] || wanted+="create restore "
have() { command -v "$1" >/dev/null 2>&1; }
for tool in tar zstd sqlite3 sha256sum; do
    have "$tool" || { echo "compare.sh needs $tool" >&2; exit 1; }
done
[ -x /usr/bin/time ] || { echo "compare.sh needs /usr/bin/time (Debian package: time)" >&2; exit 1; }
export ABSSCTL_TEST_PEER=${PEER:-$PWD/target/peer-venv/bin/abssctl} ABSSCTL_TEST_PEER_VERIFIES=1
peer=no
! env -i PATH="$PATH" HOME="$work" "$ABSSCTL_TEST_PEER" backup restore --help </dev/null >/dev/null 2>&1 || peer=yes
export RESTIC_PASSWORD=bench RESTIC_CACHE_DIR=$work/cache BORG_BASE_DIR=$work/borg-base
export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes

cargo build --quiet --release --locked
mkdir -p "$work/away"
moved=0
results=$work/results
: >"$results"

# The real instance that the tests use, with much more in it.
instance() {
    local root=$1 shape=$2 data n
    data=$root/srv/budget/data/user-files
    [ ! -e "$root/complete" ] || return 0
    rm -rf "$root"
    mkdir -p "$root"
    tar -xzf tests/fixtures/budget-root.tar.gz -C "$root"
    if [ "$shape" = large ]; then
        local part=$((${LARGE_MB:-1400} / 12))
        for n in 1 2 3 4; do
            # Texts as a ledger has them: they compress to a third.
            sqlite3 "$data/group-0000000$n-0000-4000-8000-000000000000.sqlite" "
                CREATE TABLE messages_binary (timestamp TEXT PRIMARY KEY, is_encrypted BOOLEAN, content bytea);
                CREATE TABLE messages_merkles (id INTEGER PRIMARY KEY, merkle TEXT);
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $part * 5600)
                INSERT INTO messages_binary SELECT printf('2026-%010d-%04x', i, $n), 0,
                    CAST('transactions/' || hex(randomblob(8)) || '/amount/N:' || abs(random() % 100000)
                        || '/notes/S:groceries at the shop' AS BLOB) FROM n;"
        done
        for n in 1 2 3 4 5 6 7 8; do
            head -c "${part}M" /dev/urandom >"$data/file-0000000$n-0000-4000-8000-000000000000.blob"
        done
    elif [ "$shape" = small ]; then
        # As the server has them: zipped or encrypted, so that they do not compress.
        for n in 2 4 8 16; do
            head -c "$((${SMALL_FILES:-20000} / 4 * n))K" /dev/urandom |
                split -b "${n}K" -d -a 8 --additional-suffix=-0000-4000-8000-000000000000.blob - "$data/file-$n-"
        done
    else
        for n in $(seq "${SMALL_FILES:-20000}"); do
            printf 'small of a budget, number %d' "$n" \
                >"$data/file-$(printf '%08x' "$n")-0000-4000-8000-000000000000.blob"
        done
    fi
    touch "$root/complete"
}

ours() { "$program" --root "$root" "$@"; }

# What an earlier round made. ext4 looks for an inode that was not freed within the last minutes, one by one:
# with many files removed just before, each new one costs more than all the rest. So they are kept to the end.
away() {
    local path
    for path in "$@"; do
        [ ! -e "$path" ] || mv "$path" "$work/away/$((++moved))"
    done
    [ "$shape" != large ] || rm -rf "$work"/away/*
}

# operation, program, command; `input` is what it reads
measure() {
    local operation=$1 name=$2
    shift 2
    sync -f "$work"
    find "$input" -type f -exec cat {} + >/dev/null
    /usr/bin/time -f '%e %M' -o "$work/time" bash -c "set -e; $*" >"$work/output" 2>&1 || {
        echo "$name failed:" >&2
        tail -n 20 "$work/output" >&2
        exit 1
    }
    printf '%s %s %s %s\n' "$shape" "$operation" "$name" "$(tail -n 1 "$work/time")" >>"$results"
}

for shape in large small tiny; do
    [[ $wanted == *" $shape "* ]] || continue
    root=$work/$shape
    instance "$root" "$shape"
    from=$root/srv/budget out=$work/out
    by_tar=$work/$shape.tar.zst
    tar --zstd -cf "$by_tar" -C "$from" .
    [ -s "$work/$shape.id" ] && ours backup verify "$(cat "$work/$shape.id")" >/dev/null 2>&1 ||
        ours backup create budget --yes --json | sed -n 's/^ *"id": "\(.*\)",$/\1/p' >"$work/$shape.id"
    id=$(cat "$work/$shape.id")
    mine=$(ours backup show "$id" --json | sed -n 's/^ *"size_bytes": \([0-9]*\),*$/\1/p' | head -n 1)
    printf '%s: %s MiB, the archive is %s of that of tar --zstd\n' "$shape" \
        "$(du -sm "$from" | cut -f 1)" "$(awk "BEGIN { printf \"%.3f\", $mine / $(stat -c %s "$by_tar") }")"
    for _ in $(seq "$runs"); do
        if [[ $wanted == *" create "* ]]; then
            input=$from
            away "$work/new.tar.zst"
            measure create tar "tar --zstd -cf $work/new.tar.zst -C $from .; sha256sum $work/new.tar.zst; sync -f $work"
            away "$work/new.tar.zst"
            cp "$root/srv/backups/backups.json" "$work/index"
            measure create abssctl "$program --root $root backup create budget --yes --json"
            new=$(sed -n 's/^ *"id": "\(.*\)",$/\1/p' "$work/output")
            away "$root/srv/backups/budget/$new".*
            cp "$work/index" "$root/srv/backups/backups.json"
            if [ $peer = yes ]; then
                measure create peer "tests/peer.sh $root backup create budget --json; sync -f $work"
                new=$(sed -n 's/^ *"id": "\(.*\)",$/\1/p' "$work/output" | head -n 1)
                away "$root/srv/backups/budget/$new".*
                cp "$work/index" "$root/srv/backups/backups.json"
            fi
            if have restic; then
                away "$work/restic"
                restic init -q -r "$work/restic"
                measure create restic "restic backup -q -r $work/restic $from; sync -f $work"
            fi
            if have borg; then
                away "$work/borg"
                borg init -e none "$work/borg"
                measure create borg "borg create $work/borg::a $from; sync -f $work"
            fi
        fi
        if [[ $wanted == *" restore "* ]]; then
            away "$out"
            mkdir "$out"
            input=$by_tar
            measure restore tar "sha256sum $by_tar; tar --zstd -xf $by_tar -C $out; sync -f $out"
            away "$root/srv/out" "$root/srv/.abssctl"
            input=$root/srv/backups/budget
            measure restore abssctl "$program --root $root backup restore $id --dest /srv/out --yes"
            if [ "$shape" = large ]; then
                # Of what was just restored a few bytes are others: only that file comes out of the archive. (One byte
                # would be the same in one of 256 instances.)
                printf 'other than before' |
                    dd of="$root/srv/out/data/user-files/file-00000003-0000-4000-8000-000000000000.blob" \
                        bs=1 seek=1000 conv=notrunc status=none
                # By then the restored files are older than the tick of a clock.
                sleep 3
                ours plan restore "$id" --dest /srv/out --transfer delta --no-pre-backup -o - >"$work/plan.yaml"
                input=$root/srv/out
                measure restore delta "$program --root $root apply $work/plan.yaml --yes"
            fi
            if [ $peer = yes ]; then
                away "$root/srv/out" "$work/registry"
                cp "$root/srv/backups/backups.json" "$work/index"
                cp -a "$root/var/lib/abssctl/registry" "$work/registry"
                input=$root/srv/backups/budget
                measure restore peer "tests/peer.sh $root backup restore $id --dest $root/srv/out --no-pre-backup --yes
                    sync -f $work"
                [ -d "$root/srv/out/data" ] || { echo "$ABSSCTL_TEST_PEER restored nothing" >&2; exit 1; }
                away "$root/var/lib/abssctl/registry"
                cp "$work/index" "$root/srv/backups/backups.json"
                cp -a "$work/registry" "$root/var/lib/abssctl/registry"
            fi
            if have restic; then
                [ -d "$work/restic" ] || { restic init -q -r "$work/restic"; restic backup -q -r "$work/restic" "$from"; }
                away "$out"
                input=$work/restic
                measure restore restic "restic restore -q -r $work/restic latest --target $out; sync -f $out"
            fi
            if have borg; then
                [ -d "$work/borg" ] || { borg init -e none "$work/borg"; borg create "$work/borg::a" "$from"; }
                away "$out"
                mkdir "$out"
                input=$work/borg
                measure restore borg "cd $out && borg extract $work/borg::a && sync -f $out"
            fi
        fi
    done
    away "$out" "$root/srv/out" "$root/srv/.abssctl" "$work/restic" "$work/borg" "$work/new.tar.zst"
done
rm -rf "$work/away"

# Ratios of the shortest times, and of the middle ones: a round in which the disk was busy with something else makes
# no program fast.
awk '
    function middle(key, to,    i, j, t, n, all) {
        n = rounds[key]
        for (i = 1; i <= n; i++) all[i] = seconds[key, i]
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++)
            if (all[j] < all[i]) { t = all[i]; all[i] = all[j]; all[j] = t }
        return to == "least" ? all[1] : all[int((n + 1) / 2)]
    }
    { key = $1 " " $2 " " $3; round = ++rounds[key]; seconds[key, round] = $4
      if ($5 > peak[key]) peak[key] = $5
      if (round == 1) order[++count] = key }
    END {
        printf "%-8s %-8s %-8s %8s %8s %10s %10s\n", "data", "does", "program", "minimum", "median", "seconds", "peak MiB"
        for (n = 1; n <= count; n++) {
            key = order[n]; split(key, part, " "); base = part[1] " " part[2] " tar"
            printf "%-8s %-8s %-8s %8.2f %8.2f %10.2f %10.0f\n", part[1], part[2], part[3],
                middle(key, "least") / middle(base, "least"), middle(key) / middle(base), middle(key, "least"),
                peak[key] / 1024
        }
    }' "$results"
