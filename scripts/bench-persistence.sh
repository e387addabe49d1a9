#!/usr/bin/env bash
# What saves, rewrites and restores cost over data of which most is on disk (tier), beside plain programs that do the
# part that can't be avoided:
# - BGSAVE and BGREWRITEAOF with `snapshot-rate 0`, beside a program that reads the same checkpoint with the same options,
#   writes its bytes to a file and syncs it (goal: at most 1.3 times its time, at most one core);
# - SETs at a steady pace, alone and beside a save and a rewrite at the default pace (goals: p99 at most twice, no
#   stall of 5 ms);
# - a start from the file alone, beside plain RocksDB loading the same records (goal: at most 1.5 times its time).
# Times are wall clock in seconds, CPU is that of the server and its companions in seconds.
# KEYS (1000000, of 1000 bytes), MAXMEMORY (bytes, 134217728), SEED (1), ROUNDS (3), SECONDS_QUIET (10).
# A tiny run to see that it works: KEYS=100000 ROUNDS=1 SECONDS_QUIET=2.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/bench.sh
keys=${KEYS:-1000000} maxmemory=${MAXMEMORY:-134217728} seed=${SEED:-1} rounds=${ROUNDS:-3} quiet=${SECONDS_QUIET:-10}
bin="$CARGO_TARGET_DIR/release"
for example in plain_reads plain_copy; do
    [ -x "$bin/examples/$example" ] || cargo build --release --workspace --example "$example"
done

ours() {
    redis-cli -p "${port[ours]}" "$@"
}

figure() {
    ours info persistence | tr -d '\r' | awk -F: -v name="$1" '$1 == name { print $2 }'
}

# cpu_us_whole: CPU time of the server and its companions so far, microseconds, of threads that have ended too.
cpu_us_whole() {
    local one
    for one in "${pid[ours]}" $(pgrep -P "${pid[ours]}" || true); do
        sed 's/.*) //' "/proc/$one/stat"
    done | awk -v hz="$(getconf CLK_TCK)" '{ total += $12 + $13 } END { printf "%.0f\n", total / hz * 1e6 }'
}

# measured LABEL COUNTER COMMAND...: runs it until COUNTER has moved, and prints a row.
measured() {
    local label=$1 counter=$2 before cpu began ended
    shift 2
    before=$(figure "$counter")
    cpu=$(cpu_us_whole)
    began=$(date +%s.%N)
    ours "$@" >/dev/null
    while [ "$(figure "$counter")" = "$before" ]; do sleep 0.02; done
    ended=$(date +%s.%N)
    awk -v l="$label" -v b="$began" -v e="$ended" -v c="$(($(cpu_us_whole) - cpu))" \
        'BEGIN { printf "| %s | | | %.2f | %.2f |\n", l, e - b, c / 1e6 }'
}

# plain: reads a second name of the kept checkpoint, which is that of the last save or rewrite.
plain() {
    rm -rf "$work/checkpoint" "$work/plain.out"
    cp -al "$work/ours/tier/warm" "$work/checkpoint"
    "$bin/examples/plain_copy" "$work/checkpoint" "$work/plain.out"
    rm -rf "$work/checkpoint" "$work/plain.out"
}

OURS_OPTIONS="--enable-rocksdb-feature yes --maxmemory $maxmemory"
start_ours "${PORT_OURS:-7109}"
"$bin/tier_bench" fill "${port[ours]}" "$keys" "$seed"
echo "commit $(git rev-parse --short HEAD), seed $seed, $keys keys of 1000 bytes, maxmemory $maxmemory, $(nproc) cores"
ours info tiering | tr -d '\r' | grep -E '^tiering_(keys|stubs|keys_with_entry):'
ours config set snapshot-rate 0 >/dev/null
echo
echo '| | records | bytes | seconds | CPU seconds |'
echo '|---|---|---|---|---|'
for ((round = 0; round < rounds; round++)); do
    measured 'BGSAVE' rdb_saves bgsave
    plain
done
measured 'appendonly yes' aof_rewrites config set appendonly yes
for ((round = 0; round < rounds; round++)); do
    measured 'BGREWRITEAOF' aof_rewrites bgrewriteaof
    plain
done

echo
ours config set snapshot-rate auto >/dev/null
"$bin/tier_bench" writes "${port[ours]}" "$keys" "$quiet" "$seed"

echo
echo '| start | keys | seconds | CPU seconds |'
echo '|---|---|---|---|'
ours config set snapshot-rate 0 >/dev/null
measured 'the rewrite before' aof_rewrites bgrewriteaof >/dev/null
kill -9 "${pid[ours]}"
wait "${pid[ours]}" 2>/dev/null || true
unset 'pid[ours]'
began=$(date +%s.%N)
"$bin/redrock-server" --port "${port[ours]}" --dir "$work/ours" --save '' --enable-rocksdb-feature yes \
    --maxmemory "$maxmemory" --appendonly yes --warm-restart no >"$work/ours.log" 2>&1 &
pid[ours]=$!
wait_for_pong ours
ended=$(date +%s.%N)
awk -v b="$began" -v e="$ended" -v k="$(ours dbsize)" -v c="$(cpu_us_whole)" \
    'BEGIN { printf "| from base and log | %d | %.2f | %.2f |\n", k, e - b, c / 1e6 }'
stop_both
rm -rf "$work/ours"
mkdir "$work/plain"
"$bin/examples/plain_reads" "$work/plain" "$keys" "$maxmemory" 0 "$seed" |
    awk -v k="$keys" '$2 == "RocksDB:" { printf "| plain RocksDB | %d | %.2f | %.2f |\n", k, k / $5, k * $7 / 1e6 }'
