#!/usr/bin/env bash
# How long a start takes over data many times maxmemory that a save has just written: going on with the tier
# (warm-restart yes), from the file alone, and Redis with everything in memory from the same file. Each is killed
# with -9 before. Seconds from exec to the first PONG, and the most memory the process took until then.
# KEYS (2000000, of 1000 bytes), MAXMEMORY (bytes, 134217728), SEED (1), REDIS (1; 0: without it: it needs memory for all).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/bench.sh
keys=${KEYS:-2000000} maxmemory=${MAXMEMORY:-134217728} seed=${SEED:-1}
bin="$CARGO_TARGET_DIR/release"

# start_again SIDE LABEL COMMAND...: starts it in its folder and prints a row.
start_again() {
    local side=$1 label=$2 began ended
    shift 2
    began=$(date +%s.%N)
    "$@" >"$work/$side.log" 2>&1 &
    pid[$side]=$!
    wait_for_pong "$side"
    ended=$(date +%s.%N)
    awk -v l="$label" -v b="$began" -v e="$ended" -v k="$(redis-cli -p "${port[$side]}" dbsize)" \
        -v m="$(awk '$1 == "VmHWM:" { print $2 }' "/proc/${pid[$side]}/status")" \
        'BEGIN { printf "| %s | %d | %.1f | %d |\n", l, k, e - b, m / 1024 }'
}

kill_9() {
    kill -9 "${pid[$1]}"
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
}

# start_ours_again LABEL [option...]
start_ours_again() {
    local label=$1
    shift
    start_again ours "$label" "$bin/redrock-server" --port "${port[ours]}" --dir "$work/ours" --save '' \
        --enable-rocksdb-feature yes --maxmemory "$maxmemory" "$@"
}

OURS_OPTIONS="--enable-rocksdb-feature yes --maxmemory $maxmemory"
start_ours "${PORT_OURS:-7107}"
"$bin/tier_bench" fill "${port[ours]}" "$keys" "$seed"
redis-cli -p "${port[ours]}" save
echo "commit $(git rev-parse --short HEAD), seed $seed, $keys keys of 1000 bytes, maxmemory $maxmemory, dump of $(stat -c %s "$work/ours/dump.rdb") bytes"
echo '| start | keys | seconds | MiB |'
echo '|---|---|---|---|'
kill_9 ours
start_ours_again 'with the tier of the save'
grep -o 'The tier goes on with [0-9]* keys' "$work/ours.log"
kill_9 ours
start_ours_again 'from the file alone' --warm-restart no
kill_9 ours
[ "${REDIS:-1}" = 1 ] || exit 0
port[redis]=${PORT_REDIS:-7108}
mkdir "$work/redis"
ln "$work/ours/dump.rdb" "$work/redis/dump.rdb"
start_again redis 'Redis, all in memory' redis-server --port "${port[redis]}" --dir "$work/redis" --save ''
