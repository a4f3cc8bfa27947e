#!/usr/bin/env bash
# Long runs of the fuzz targets with libFuzzer, on stable Rust; needs a C++ compiler and the network once,
# for the crate libfuzzer-sys.
#
#   ABSSCTL_TEST_FUZZ_SECONDS=1800 tests/fuzz/long.sh [target…]     all targets one after the other
#
# What it changes: target/fuzz-coverage (the build), target/fuzz-corpus (inputs worth keeping, per target) and
# target/fuzz-findings (inputs that broke a promise). Running it again goes on with the corpus.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/../.."
seconds=${ABSSCTL_TEST_FUZZ_SECONDS:-60}
corpus=$PWD/target/fuzz-corpus
findings=$PWD/target/fuzz-findings
mkdir -p "$corpus" "$findings"

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
for target in "${@:-plan facts receipt archive manifest index registry rules log migrate journal signatures}"; do
    for target in $target; do
        printf '\n== fuzz %s, %s s\n' "$target" "$seconds"
        # 20 s and 1 GiB for one input at most: no promise is kept by being slow.
        ABSSCTL_TEST_FUZZ_TARGET=$target nice -n 19 "$program" "$corpus/$target" -max_total_time="$seconds" \
            -timeout=20 -rss_limit_mb=1024 -max_len=65536 -artifact_prefix="$findings/$target-" \
            -print_final_stats=1 || status=1
    done
done
exit "$status"
