#!/usr/bin/env bash
# Long runs of the fuzz targets with libFuzzer, on stable Rust; needs a C++ compiler and the network once,
# for the crate libfuzzer-sys.
#
#   ABSSCTL_TEST_FUZZ_SECONDS=1800 tests/fuzz/long.sh [target…]     all targets one after the other
#
# The seconds are of CPU time, for each target. What it changes: target/fuzz-coverage (the build), target/fuzz-corpus (inputs worth keeping, per target) and
# target/fuzz-findings (inputs that broke a promise). Running it again goes on with the corpus.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/../.."
seconds=${ABSSCTL_TEST_FUZZ_SECONDS:-60}
corpus=$PWD/target/fuzz-corpus
findings=$PWD/target/fuzz-findings
log=$PWD/target/fuzz-coverage/long-$$.log
mkdir -p "$corpus" "$findings" "${log%/*}"

ABSSCTL_TEST_FUZZ_CORPUS=$corpus cargo test --quiet --locked --test fuzz seeds_for_long_runs
# What `cargo fuzz` passes, without a sanitizer: those need a nightly compiler. A target directory of its
# own, or every build would undo the other.
(
    cd tests/fuzz/coverage
    CARGO_TARGET_DIR=$OLDPWD/target/fuzz-coverage RUSTFLAGS="-Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing" \
        cargo build --locked --target x86_64-unknown-linux-gnu
)
program=target/fuzz-coverage/x86_64-unknown-linux-gnu/debug/abssctl-fuzz
status=0
for target in ${@:-plan facts receipt archive manifest index registry rules log migrate journal signatures}; do
    printf '\n== fuzz %s, %s s of CPU time\n' "$target" "$seconds"
    used=0
    # libFuzzer counts by the clock: pieces of five minutes at most, until the CPU time is used.
    while [ "$used" -lt "$seconds" ]; do
        left=$((seconds - used))
        # 20 s and 1 GiB for one input at most: no promise is kept by being slow.
        TIMEFORMAT='%U %S'
        { time ABSSCTL_TEST_FUZZ_TARGET=$target nice -n "${ABSSCTL_TEST_FUZZ_NICE:-19}" "$program" "$corpus/$target" \
            -max_total_time=$((left < 300 ? left : 300)) -timeout=20 -rss_limit_mb=1024 -max_len=65536 \
            -artifact_prefix="$findings/$target-" -print_final_stats=1 >"$log" 2>&1; } 2>"$log.time" || {
            tail -n 60 "$log"
            status=1
            break
        }
        piece=$(awk '{ print int($1 + $2) }' "$log.time")
        used=$((used + piece))
        executed=$(awk '/number_of_executed_units/ { print $2 }' "$log")
        all=$((${all:-0} + executed))
    done
    printf '%s: %s s of CPU time, %s inputs; %s\n' "$target" "$used" "${all:-0}" "$(grep -o 'cov: .*' "$log" | tail -n 1)"
    all=0
done
exit "$status"
