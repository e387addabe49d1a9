#!/usr/bin/env bash
# Cold GETs of data ten times maxmemory (uniform over all keys of 1 KB), beside plain RocksDB with the
# same options and data, the least server that can be made of it (`plain`: a socket, the read, nothing else),
# and Redis with everything in memory: rate, p50, p99 and CPU time a request, one after the other on the same machine. Ratios matter, not the absolute figures.
# KEYS (2000000), MAXMEMORY (bytes, 209715200), READS (100000), SEED (1), CLIENTS ("1 32 128"), THREADS of plain
# RocksDB ("1 4 32"), REDIS (1; 0: without it).
# DEVICE=1: the device is to be the limit. The server and plain RocksDB run in memory cgroups that leave
# the page cache little (PAGE_CACHE bytes beside what each needs, 67108864); plain RocksDB has as many threads
# as there are clients. Without Redis, and needs to be root.
# IOPS=N with it: a device that answers N reads a second and no more, for both.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/bench.sh
read -r -a clients_of_rows <<<"${CLIENTS:-1 32 128}"
read -r -a threads_of_rows <<<"${THREADS:-1 4 32}"
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
    for clients in "${clients_of_rows[@]}"; do
        before=$(cpu_us "$1")
        line=$(redis-benchmark -p "${port[$1]}" -c "$clients" -n "$reads" -r "$keys" --csv GET key:__rand_int__ | tail -1 | tr -d '"')
        after=$(cpu_us "$1")
        awk -F, -v s="$1" -v c="$clients" -v d=$((after - before)) -v n="$reads" \
            'BEGIN { OFS = " | " } { printf "| %s, %s clients | %.0f | %s | %s | %.1f |\n", s, c, $2, $5, $7, d / n }' <<<"$line"
    done
}

# plain_reads THREADS...: plain RocksDB by so many threads.
plain_reads() {
    mkdir "$work/plain"
    (in_group plain "$bin/examples/plain_reads" "$work/plain" "$keys" "$maxmemory" "$reads" "$seed" "$@")
    [ -z "${group[plain]:-}" ] || echo "page cache of plain RocksDB: $(page_cache plain) bytes"
    rm -rf "$work/plain"
}

# plain_reads_and_server THREADS...: plain RocksDB by so many threads, and then by a server that does nothing else.
plain_reads_and_server() {
    mkdir "$work/plain"
    port[plain]=${PORT_PLAIN:-7107}
    "$bin/examples/plain_reads" "$work/plain" "$keys" "$maxmemory" "$reads" "$seed" "$@" serve "${port[plain]}" 2 >"$work/plain.log" 2>&1 &
    pid[plain]=$!
    until redis-cli -p "${port[plain]}" GET key:000000000000 2>/dev/null | grep -q .; do
        kill -0 "${pid[plain]}" || { cat "$work/plain.log" >&2; exit 1; }
        sleep 0.2
    done
    cat "$work/plain.log"
    read_all plain
    kill "${pid[plain]}"
    wait "${pid[plain]}" 2>/dev/null || true
    unset 'pid[plain]'
    rm -rf "$work/plain"
}

# waits: commands that waited for the tier so far.
waits() {
    redis-cli -p "${port[ours]}" rockstat | tr -d '\r' | awk -F: '/^waiting_commands/ { print $2 }'
}

OURS_OPTIONS="--enable-rocksdb-feature yes --maxmemory $maxmemory ${OURS_OPTIONS:-}"
if [ "${DEVICE:-0}" = 1 ]; then
    # The server may take 64 MB beyond maxmemory, and what it does not take is page cache; so plain RocksDB,
    # which takes less, gets as much as comes to about the same page cache. Both are shown.
    page_cache_bytes=${PAGE_CACHE:-67108864}
    make_group ours $((maxmemory + page_cache_bytes + (64 << 20)))
    make_group plain $((page_cache_bytes + (${PLAIN_EXTRA:-128} << 20)))
    [ -z "${IOPS:-}" ] || limit_reads plain "$IOPS"
    start_ours "${PORT_OURS:-7105}"
else
    start_ours "${PORT_OURS:-7105}"
    [ "${REDIS:-1}" = 0 ] || start_redis "${PORT_REDIS:-7106}"
fi
echo "commit $commit, seed $seed, $keys keys of 1000 bytes, maxmemory $maxmemory, $reads reads"
fill ours
# What is written settles first, on both sides.
redis-cli -p "${port[ours]}" purgerocksdb >/dev/null
[ -z "${IOPS:-}" ] || limit_reads ours "$IOPS"
echo '| GET | a second | p50 ms | p99 ms | CPU us |'
echo '|---|---|---|---|---|'
before=$(waits)
read_all ours
echo "of $((${#clients_of_rows[@]} * reads)) GETs $(($(waits) - before)) waited for the tier"
[ -z "${group[ours]:-}" ] || echo "page cache of the server: $(page_cache ours) bytes"
kill "${pid[ours]}"
wait "${pid[ours]}" 2>/dev/null || true
unset 'pid[ours]'
rm -rf "$work/ours"
if [ "${DEVICE:-0}" = 1 ]; then
    plain_reads "${clients_of_rows[@]}"
    exit
fi
plain_reads_and_server "${threads_of_rows[@]}"
[ "${REDIS:-1}" = 1 ] || exit 0
fill redis
read_all redis
