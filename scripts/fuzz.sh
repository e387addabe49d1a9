#!/usr/bin/env bash
# Fuzzes one decoder: `scripts/fuzz.sh TARGET [SECONDS]`; without a target all, a minute each.
# Targets are in fuzz/fuzz_targets. Works with the usual toolchain: coverage comes from compiler
# flags, checks from debug assertions. What was found and what was learnt stays in
# CARGO_TARGET_DIR/fuzz-data.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${CARGO_TARGET_DIR:?set it to a folder for the build output, or run make fuzz}"
cargo=${CARGO:-cargo}
seconds=${2:-60}
data=$CARGO_TARGET_DIR/fuzz-data
if [ -n "${1:-}" ]; then
    targets=("$1")
else
    mapfile -t targets < <(basename -s .rs -a fuzz/fuzz_targets/*.rs)
fi

# The target is named, so that build scripts and the fuzzer itself are not instrumented.
host=$(rustc -vV | awk '/^host:/ { print $2 }')
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
CARGO_TARGET_DIR=$CARGO_TARGET_DIR/fuzz RUSTFLAGS=$flags \
    "$cargo" build --release --manifest-path fuzz/Cargo.toml --target "$host"

for target in "${targets[@]}"; do
    printf '\n== %s\n' "$target"
    mkdir -p "$data/$target" "$data/found"
    seeds=()
    if [ "$target" = rdb_file ]; then seeds=(integration-tests/fixtures/rdb); fi
    "$CARGO_TARGET_DIR/fuzz/$host/release/$target" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -artifact_prefix="$data/found/$target-" -print_final_stats=1 \
        "$data/$target" "${seeds[@]}"
done
