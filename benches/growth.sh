#!/usr/bin/env bash
# How seconds and memory of `backup create` and `backup restore ID --dest` grow with an instance, beside what a
# careful person types. Writes a table (docs/growth.tsv) and a picture of it (docs/growth.svg); never a test.
#
#   benches/growth.sh          measures, then draws
#   benches/growth.sh plot     only draws, from the table that is there
#
# Environment:
#   SIZES="10 100 1000 10000"          sizes of instances in MB: 4 SQLite ledgers, 8 incompressible blobs
#   COUNTS="100 1000 10000 200000"     numbers of small files of instances
#   RUNS=1           rounds; the shortest time and the most memory of them count
#   DIRECTORY        where the data lie (target/ by default): a file system of that disk is measured
#   PROGRAM          a program to measure instead of a fresh release build
#   TABLE=docs/growth.tsv              the picture lies beside it
#
# The person's lines are `tar --zstd -cf ARCHIVE; sha256sum ARCHIVE; sync -f` and `sha256sum ARCHIVE;
# tar --zstd -xf ARCHIVE; sync -f`. Each program ends with its data on the disk and finds what it reads in the page
# cache, as far as that goes. The largest of both kinds is measured with --threads 16 too: memory grows with the
# threads. Memory is that of the largest process of a line (GNU time).
#
# Needs three times the largest size on the disk, and looks whether it is there. On ext4, wait five minutes before a
# second go: see `away`. What it changes: target/, a directory of its own in DIRECTORY that goes away, TABLE and
# its picture; these last, so that an interruption leaves the old ones.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

table=${TABLE:-docs/growth.tsv}
picture=${table%.tsv}.svg
fail() { printf 'growth.sh: %s\n' "$*" >&2; exit 1; }

plot() {
    awk -f benches/growth.awk "$table" >"$picture.new"
    mv "$picture.new" "$picture"
    echo "$picture shows $table"
}

case ${1:-} in
    '') ;;
    plot) plot; exit ;;
    *) fail "'$1' is not known: plot, or nothing" ;;
esac

read -ra sizes <<<"${SIZES-10 100 1000 10000}"
read -ra counts <<<"${COUNTS-100 1000 10000 200000}"
mapfile -t sizes < <(printf '%s\n' "${sizes[@]}" | sort -nu)
mapfile -t counts < <(printf '%s\n' "${counts[@]}" | sort -nu)
[[ "${sizes[*]} ${counts[*]} ${RUNS:=1}" =~ ^[0-9\ ]+$ ]] || fail "SIZES, COUNTS and RUNS are whole numbers"
for tool in tar zstd sqlite3 sha256sum awk; do
    command -v "$tool" >/dev/null || fail "needs $tool"
done
[ -x /usr/bin/time ] || fail "needs /usr/bin/time (Debian package: time)"

program=${PROGRAM:-${CARGO_TARGET_DIR:-$PWD/target}/release/abssctl}
[ -n "${PROGRAM:-}" ] || cargo build --quiet --release --locked
where=${DIRECTORY:-$PWD/target}
mkdir -p "$where" && where=$(realpath "$where")

# Data, their archive and what is restored; small files stay to the end, each in a block of 4 KiB.
files=0
for n in "${counts[@]}"; do files=$((files + n * (1 + 2 * RUNS))); done
files=$((files + ${counts[-1]:-0}))
needed=$((3 * ${sizes[-1]:-0} + files * 4096 / 1000000 + 100))
there=$(df --output=avail -B1000000 "$where" | tail -n 1)
[ "$there" -ge "$needed" ] ||
    fail "needs $needed MB in $where, which has ${there// /} MB: set DIRECTORY to another disk, or SIZES to less"
inodes=$(df --output=iavail "$where" | tail -n 1)
# Some file systems make inodes as they need them, and say 0 or nothing.
[[ ! ${inodes// /} =~ ^[1-9][0-9]*$ ]] || [ "$inodes" -ge $((files + 1000)) ] ||
    fail "needs $files inodes in $where, which has ${inodes// /}: set DIRECTORY to another disk, or COUNTS to less"

work=$(mktemp -d "$where/growth.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir "$work/away"
moved=0
results=$work/results

# The real instance that the tests use, with so many MB or so many files more in it.
instance() {
    local root=$1 shape=$2 amount=$3 data n
    data=$root/srv/budget/data/user-files
    mkdir "$root"
    tar -xzf tests/fixtures/budget-root.tar.gz -C "$root"
    if [ "$shape" = size ]; then
        for n in 1 2 3 4; do
            # Texts as a ledger has them: they compress to a third. A row takes 140 bytes with its index.
            sqlite3 "$data/group-0000000$n-0000-4000-8000-000000000000.sqlite" "
                CREATE TABLE messages_binary (timestamp TEXT PRIMARY KEY, is_encrypted BOOLEAN, content bytea);
                CREATE TABLE messages_merkles (id INTEGER PRIMARY KEY, merkle TEXT);
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $amount * 1000000 / 12 / 140)
                INSERT INTO messages_binary SELECT printf('2026-%010d-%04x', i, $n), 0,
                    CAST('transactions/' || hex(randomblob(8)) || '/amount/N:' || abs(random() % 100000)
                        || '/notes/S:groceries at the shop' AS BLOB) FROM n;"
        done
        for n in 1 2 3 4 5 6 7 8; do
            head -c $((amount * 1000000 / 12)) /dev/urandom >"$data/file-0000000$n-0000-4000-8000-000000000000.blob"
        done
    else
        for ((n = 1; n <= amount; n++)); do
            printf -v name 'file-%08x-0000-4000-8000-000000000000.blob' "$n"
            printf 'a file of a budget, number %d' "$n" >"$data/$name"
        done
    fi
}

# What is not needed any more. ext4 looks for an inode that was not freed within the last minutes, one by one:
# with many files removed just before, each new one costs more than all the rest. So they are kept to the end.
away() {
    local path
    for path in "$@"; do
        if [ ! -e "$path" ]; then
            continue
        elif [ "$shape" = size ]; then
            rm -rf "$path"
        else
            mv "$path" "$work/away/$((++moved))"
        fi
    done
}

# operation, program, threads, command
measure() {
    local operation=$1 name=$2 threads=$3 line
    shift 3
    sync -f "$work"
    /usr/bin/time -f '%e %M' -o "$work/time" bash -c "set -e; $*" >"$work/output" 2>&1 || {
        tail -n 20 "$work/output" >&2
        fail "$name failed"
    }
    read -r seconds kib < <(tail -n 1 "$work/time")
    printf -v line '%s\t%s\t%s\t%s\t%s\t%s\t%s' "$shape" "$amount" "$operation" "$name" "$threads" "$seconds" "$kib"
    printf '%s\n' "$line" | tee -a "$results" | expand -t 10
}

# Each restore follows its own create, and only one archive is there at a time.
by_tar() {
    local archive=$work/by-tar.tar.zst out=$work/out
    measure create tar - "tar --zstd -cf $archive -C $from .; sha256sum $archive; sync -f $work"
    mkdir "$out"
    measure restore tar - "sha256sum $archive; tar --zstd -xf $archive -C $out; sync -f $out"
    away "$archive" "$out"
}

by_us() {
    local threads=$1 id
    cp "$root/srv/backups/backups.json" "$work/index"
    measure create abssctl "$threads" "$program --root $root --threads $threads backup create budget --yes --json"
    id=$(sed -n 's/^ *"id": "\(.*\)",$/\1/p' "$work/output")
    measure restore abssctl "$threads" \
        "$program --root $root --threads $threads backup restore $id --dest /srv/out --yes"
    away "$root/srv/out" "$root/srv/.abssctl" "$root/srv/backups/budget/$id".*
    cp "$work/index" "$root/srv/backups/backups.json"
}

cores=$(nproc)
all=$((cores < 16 ? cores : 16))
echo "what      amount    does      program   threads   seconds   KiB"
for each in "${sizes[@]/#/size }" "${counts[@]/#/files }"; do
    read -r shape amount <<<"$each"
    [ -n "$amount" ] || continue
    root=$work/$shape-$amount
    from=$root/srv/budget
    instance "$root" "$shape" "$amount"
    for ((round = 1; round <= RUNS; round++)); do
        by_tar
        by_us "$all"
    done
    # With 16 cores this was measured already.
    if [[ $each == "size ${sizes[-1]}" || $each == "files ${counts[-1]}" ]] && [ "$all" -ne 16 ]; then
        by_us 16
    fi
    away "$root"
done

{
    printf '# %s, %s, %s cores, %s GiB of memory, %s, fastest of %s\n' "$(date -u +%F)" "$("$program" --version)" \
        "$cores" "$(awk '/^MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)" \
        "$(df --output=fstype "$where" | tail -n 1)" "$RUNS"
    printf 'grows\tamount\tdoes\tprogram\tthreads\tseconds\tpeak_mib\n'
    awk -F '\t' -v OFS='\t' '
        { key = $1 OFS $2 OFS $3 OFS $4 OFS $5 }
        !(key in peak) { order[++count] = key; seconds[key] = $6 }
        $6 < seconds[key] { seconds[key] = $6 }
        $7 > peak[key] { peak[key] = $7 }
        END { for (n = 1; n <= count; n++) printf "%s\t%.2f\t%.1f\n", order[n], seconds[order[n]], peak[order[n]] / 1024 }
    ' "$results"
} >"$table.new"
mv "$table.new" "$table"
awk -F '\t' '$4 == "abssctl" && $7 > most[$5] { most[$5] = $7 }
    END { for (threads in most) printf "most memory with %s threads: %.0f MiB\n", threads, most[threads] }' "$table"
plot
