#!/usr/bin/env bash
# Hit ratios with data ten times maxmemory, for the default policy, LRU and LFU: zipf 0.99 alone, and with
# a full scan and a load of new keys beside it; and the latency of hot keys during a bulk load, beside that
# of Redis with everything in memory.
# KEYS (2000000), MAXMEMORY (bytes, 209715200), OPERATIONS (3000000), SECONDS_EACH (10), SEED (1),
# POLICIES ("noeviction allkeys-lru allkeys-lfu"), OPERATIONS=0 for the latencies alone.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/bench.sh
keys=${KEYS:-2000000} maxmemory=${MAXMEMORY:-209715200} seed=${SEED:-1}
bench="$CARGO_TARGET_DIR/release/tier_bench"
echo "commit $(git rev-parse --short HEAD)"
for policy in ${POLICIES:-noeviction allkeys-lru allkeys-lfu}; do
    OURS_OPTIONS="--enable-rocksdb-feature yes --maxmemory $maxmemory --maxmemory-policy $policy"
    start_ours "${PORT_OURS:-7107}"
    echo "## $policy"
    "$bench" fill "${port[ours]}" "$keys" "$seed"
    [ "${OPERATIONS:-1}" = 0 ] || "$bench" hits "${port[ours]}" "$keys" "${OPERATIONS:-3000000}" "$seed"
    "$bench" latency "${port[ours]}" "$keys" "${SECONDS_EACH:-10}" "$seed"
    stop_both
    rm -rf "$work/ours"
done
echo '## Redis'
start_redis "${PORT_REDIS:-7108}"
"$bench" fill "${port[redis]}" "$keys" "$seed"
"$bench" latency "${port[redis]}" "$keys" "${SECONDS_EACH:-10}" "$seed"
