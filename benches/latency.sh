#!/usr/bin/env bash
# How long a person waits for short commands, with the state of a new machine and with that of years: a
# large index of backups and a large operations log. Prints a table of milliseconds; never a test.
#
#   benches/latency.sh
#
# Environment:
#   RUNS=15          runs of each command, in turns
#   ENTRIES=10000    backups in the large index
#   LOG_MB=1024      size of the large operations log
#   DIRECTORY        where the data lie (below target/ by default)
#   PROGRAM          an abssctl that is built already; otherwise one is built with --release
#
# Every command is started in the same way, so that /bin/true shows what starting costs; `git --version`
# and `python3 -c pass` are there for scale, where they are installed. A ratio is one of medians, to that of
# /bin/true in the same run. What it changes: target/ and DIRECTORY alone.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

runs=${RUNS:-15} entries=${ENTRIES:-10000} log_mb=${LOG_MB:-1024}
work=${DIRECTORY:-$PWD/target/latency}
program=${PROGRAM:-$PWD/target/release/abssctl}
id=20261124-022632-budget-fc166c
[ -n "${PROGRAM:-}" ] || cargo build --quiet --release --locked
for tool in tar awk sort; do
    command -v "$tool" >/dev/null || { echo "latency.sh needs $tool" >&2; exit 1; }
done

rm -rf "$work"
mkdir -p "$work/small" "$work/large"
for root in "$work/small" "$work/large"; do
    tar -xzf tests/fixtures/budget-root.tar.gz -C "$root"
done

# The first backup many times over: each has an id and a time of its own, and all name the one archive.
index=$work/large/srv/backups/backups.json
awk -v count="$entries" -v id="$id" '
    /^    \{$/ { entry = "" }
    /^    \{$/, /^    \}/ { entry = entry $0 "\n" }
    /^    \}/ { sub(/,?\n$/, "", entry); own[++kept] = entry }
    END {
        print "{\n  \"backups\": ["
        for (n = 1; n <= count - kept; n++) {
            day = int(n / 86400) + 1; second = n % 86400
            clock = sprintf("%02d%02d%02d", second / 3600, second % 3600 / 60, second % 60)
            copy = own[1]
            sub("\"id\": \"" id, sprintf("\"id\": \"202501%02d-%s-budget-%06x", day, clock, n), copy)
            sub(/"created_at": "[^"]*/, sprintf("\"created_at\": \"2025-01-%02dT%s:%s:%sZ", day, substr(clock, 1, 2),
                substr(clock, 3, 2), substr(clock, 5, 2)), copy)
            print copy ","
        }
        for (n = 1; n <= kept; n++) print own[n] (n < kept ? "," : "")
        print "  ]\n}"
    }' "$work/small/srv/backups/backups.json" >"$index"

# Lines of real commands until it is large; the last one is whole.
log=$work/large/var/log/abssctl/operations.jsonl
lines=$(cat "$log")
{ yes "$lines" || true; } 2>/dev/null | head -c "${log_mb}M" | sed '$d' >"$log.new"
mv "$log.new" "$log"

printf 'index: %s backups, %s MiB; log: %s MiB\n' "$(grep -c '"created_at"' "$index")" \
    "$(du -m "$index" | cut -f 1)" "$(du -m "$log" | cut -f 1)"
for root in "$work/small" "$work/large"; do
    "$program" --root "$root" plan restore "$id" -o "$root/plan.yaml" >/dev/null 2>&1
done

# state, name, command: one run, in microseconds.
results=$work/results
: >"$results"
measure() {
    local state=$1 name=$2 began ended
    shift 2
    began=${EPOCHREALTIME/./}
    "$@" >"$work/output" 2>&1 </dev/null || {
        echo "$name failed:" >&2
        tail -n 20 "$work/output" >&2
        exit 1
    }
    ended=${EPOCHREALTIME/./}
    printf '%s\t%s\t%s\n' "$state" "$name" "$((ended - began))" >>"$results"
}

for _ in $(seq "$runs"); do
    measure - /bin/true /bin/true
    command -v git >/dev/null && measure - 'git --version' git --version
    command -v python3 >/dev/null && measure - 'python3 -c pass' python3 -c pass
    measure - 'abssctl --version' "$program" --version
    for state in small large; do
        root=$work/$state
        ours() { measure "$state" "$1" "$program" --root "$root" "${@:2}"; }
        ours 'plan validate' plan validate "$root/plan.yaml"
        ours 'plan show' plan show "$root/plan.yaml"
        ours 'plan show --all-files' plan show --all-files "$root/plan.yaml"
        ours 'plan restore ID' plan restore "$id" -o "$root/other.yaml"
        ours 'plan check' plan check "$root/plan.yaml"
        ours 'backup list' backup list
        ours 'backup show ID' backup show "$id"
        ours 'instance show' instance show budget
        ours 'doctor' doctor
        # These two change the index; what they made goes away again.
        cp "$root/srv/backups/backups.json" "$work/index"
        ours 'backup create' backup create budget --yes
        ours 'backup restore --dest' backup restore "$id" --dest /srv/out --yes
        cp "$work/index" "$root/srv/backups/backups.json"
        rm -rf "$root/srv/out" "$root/srv/.abssctl"
        find "$root/srv/backups/budget" -newer "$work/index" -type f -delete
    done
done

# One line a command in the order in which they ran, small and large state beside one another.
sort -t "$(printf '\t')" -k 3,3n "$results" | awk -F '\t' '
    FNR == NR { if (!($2 in seen)) { seen[$2]; order[++names] = $2 }; next }
    { key = $2 FS ($1 == "large" ? "large" : "small"); time[key, ++count[key]] = $3 / 1000 }
    function least(key) { return time[key, 1] }
    function middle(key) { return time[key, int((count[key] + 1) / 2)] }
    END {
        printf "%-24s %26s   %26s\n", "", "small state", "large state"
        printf "%-24s %8s %8s %8s   %8s %8s %8s\n", "command", "min ms", "median", "x true", "min ms", "median", "x true"
        for (n = 1; n <= names; n++) {
            printf "%-24s", order[n]
            for (size = 1; size <= 2; size++) {
                key = order[n] FS (size == 1 ? "small" : "large")
                if (key in count) printf " %8.1f %8.1f %8.1f  ", least(key), middle(key), middle(key) / middle("/bin/true" FS "small")
            }
            print ""
        }
    }' "$results" -
