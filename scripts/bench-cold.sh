#!/usr/bin/env bash
# Cold GETs of data ten times maxmemory (uniform over all keys of 1 KB), beside plain RocksDB with the
# same options and data, and Redis with everything in memory: rate, p50, p99 and CPU time a request,
# one after the other on the same machine. Ratios matter, not the absolute figures.
# KEYS (2000000), MAXMEMORY (bytes, 209715200), READS (100000), SEED (1).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/bench.sh
keys=${KEYS:-2000000} maxmemory=${MAXMEMORY:-209715200} reads=${READS:-100000} seed=${SEED:-1}
bin="$CARGO_TARGET_DIR/release"
[ -x "$bin/examples/plain_reads" ] || cargo build --release --workspace --example plain_reads
commit=$(git rev-parse --short HEAD)

# fill SIDE
fill() {
    local before after
    before=$(cpu_us "$1")
    "$bin/tier_bench" fill "${port[$1]}" "$keys" "$seed"
    after=$(cpu_us "$1")
    awk -v s="$1" -v d=$((after - before)) -v n="$keys" 'BEGIN { printf "%s: %.1f us of CPU a SET\n", s, d / n }'
}

# read_all SIDE
read_all() {
    local clients before after line
    for clients in 1 32 128; do
        before=$(cpu_us "$1")
        line=$(redis-benchmark -p "${port[$1]}" -c "$clients" -n "$reads" -r "$keys" --csv GET key:__rand_int__ | tail -1 | tr -d '"')
        after=$(cpu_us "$1")
        awk -F, -v s="$1" -v c="$clients" -v d=$((after - before)) -v n="$reads" \
            'BEGIN { OFS = " | " } { printf "| %s, %s clients | %.0f | %s | %s | %.1f |\n", s, c, $2, $5, $7, d / n }' <<<"$line"
    done
}

OURS_OPTIONS="--enable-rocksdb-feature yes --maxmemory $maxmemory ${OURS_OPTIONS:-}"
start_both "${PORT_OURS:-7105}" "${PORT_REDIS:-7106}"
echo "commit $commit, seed $seed, $keys keys of 1000 bytes, maxmemory $maxmemory, $reads reads"
fill ours
# What is written settles first, on both sides.
redis-cli -p "${port[ours]}" purgerocksdb >/dev/null
echo '| GET | a second | p50 ms | p99 ms | CPU us |'
echo '|---|---|---|---|---|'
before=$(redis-cli -p "${port[ours]}" rockstat | tr -d '\r' | awk -F: '/^waiting_commands/ { print $2 }')
read_all ours
after=$(redis-cli -p "${port[ours]}" rockstat | tr -d '\r' | awk -F: '/^waiting_commands/ { print $2 }')
echo "of $((3 * reads)) GETs $((after - before)) waited for the tier"
kill "${pid[ours]}" && wait "${pid[ours]}" 2>/dev/null || true
unset 'pid[ours]'
rm -rf "$work/ours"
mkdir "$work/plain"
"$bin/examples/plain_reads" "$work/plain" "$keys" "$maxmemory" "$reads" "$seed" 1 4 32
rm -rf "$work/plain"
fill redis
read_all redis
