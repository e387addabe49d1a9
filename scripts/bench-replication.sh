#!/usr/bin/env bash
# What replication costs: a master and a replica of ours, then of Redis, one pair after the other on the same machine.
# - a full sync of KEYS keys of 1000 bytes while CLIENTS clients write: seconds from REPLICAOF until the link is up,
#   and processor seconds of either side from then to then;
# - lag under the same load once in step (the replica's offset is asked for first and the master's after it: a master's
#   progress in between counts as lag), and how long WAIT 1 takes after a SET;
# - processor time: a SET on a master without and with a replica, and of the replica for each replicated byte.
# RedRock has data of several times `maxmemory`, Redis all in memory.
# KEYS (1000000), MAXMEMORY (bytes, 209715200), CLIENTS (8), REQUESTS (400000), SAMPLES (500), SEED (1).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/bench.sh
keys=${KEYS:-1000000} maxmemory=${MAXMEMORY:-209715200} clients=${CLIENTS:-8} requests=${REQUESTS:-400000}
samples=${SAMPLES:-500} seed=${SEED:-1}
bin="$CARGO_TARGET_DIR/release"
port=([master]=${PORT_MASTER:-7111} [replica]=${PORT_REPLICA:-7112})

# start NAME COMMAND...
start() {
    local name=$1
    shift
    mkdir "$work/$name"
    "$@" --port "${port[$name]}" --dir "$work/$name" --save '' >"$work/$name.log" 2>&1 &
    pid[$name]=$!
    wait_for_pong "$name"
}

# field NAME SECTION FIELD: of INFO.
field() {
    redis-cli -p "${port[$1]}" info "$2" | tr -d '\r' | awk -F: -v f="$3" '$1 == f { print $2 }'
}

# write_some REQUESTS
write_some() {
    redis-benchmark -p "${port[master]}" -t set -n "$1" -c "$clients" -d 1000 -r "$keys" -q >"$work/load" 2>&1
}

# begin_load: writes until `end_load`.
begin_load() {
    redis-benchmark -p "${port[master]}" -t set -n 100000000 -c "$clients" -d 1000 -r "$keys" -q >"$work/load" 2>&1 &
    load=$!
}

end_load() {
    kill "$load"
    wait "$load" 2>/dev/null || true
    in_step
}

# spent LABEL NAME CPU REQUESTS BYTES: a row of processor time since CPU.
spent() {
    awk -v l="$1" -v d=$(($(cpu_us "$2") - $3)) -v n="$4" -v b="$5" \
        'BEGIN { printf "| %s | %.2f | %s |\n", l, d / n, b ? sprintf("%.2f", d * 1e3 / b) : "" }'
}

in_step() {
    until [ "$(field replica replication slave_repl_offset)" = "$(field master replication master_repl_offset)" ]; do sleep 0.05; done
}

full_sync() {
    local began ended master replica
    begin_load
    master=$(cpu_us master) replica=$(cpu_us replica) began=$(date +%s.%N)
    redis-cli -p "${port[replica]}" replicaof 127.0.0.1 "${port[master]}" >/dev/null
    until [ "$(field replica replication master_link_status)" = up ]; do sleep 0.05; done
    ended=$(date +%s.%N)
    echo '| full sync | seconds | CPU s master | CPU s replica |'
    echo '|---|---|---|---|'
    awk -v b="$began" -v e="$ended" -v m=$(($(cpu_us master) - master)) -v r=$(($(cpu_us replica) - replica)) \
        'BEGIN { printf "| %s | %.1f | %.1f | %.1f |\n\n", "under writes", e - b, m / 1e6, r / 1e6 }'
    end_load
}

# lag: rows of lag and of WAIT, under load.
lag() {
    begin_load
    sleep 1
    "$bin/tier_bench" lag "${port[master]}" "${port[replica]}" "$samples"
    end_load
}

# pair LABEL COMMAND...
pair() {
    local label=$1 cpu other offset
    shift
    echo "## $label"
    start master "$@"
    start replica "$@"
    "$bin/tier_bench" fill "${port[master]}" "$keys" "$seed"
    write_some $((requests / 4))
    cpu=$(cpu_us master)
    write_some "$requests"
    spent 'master without a replica' master "$cpu" "$requests" 0 >"$work/alone"
    full_sync
    echo '| under writes | p50 | p99 | max |'
    echo '|---|---|---|---|'
    lag
    echo
    echo '| processor time | us a SET | ns a replicated byte |'
    echo '|---|---|---|'
    cat "$work/alone"
    cpu=$(cpu_us master) other=$(cpu_us replica) offset=$(field master replication master_repl_offset)
    write_some "$requests"
    in_step
    offset=$(($(field master replication master_repl_offset) - offset))
    spent 'master with one' master "$cpu" "$requests" 0
    spent 'replica' replica "$other" "$requests" "$offset"
    echo "full syncs: $(field master stats sync_full), partial: $(field master stats sync_partial_ok), keys: $(redis-cli -p "${port[master]}" dbsize) and $(redis-cli -p "${port[replica]}" dbsize)"
    stop_both
    rm -rf "$work/master" "$work/replica"
}

echo "commit $(git rev-parse --short HEAD), seed $seed, $keys keys of 1000 bytes, $clients clients, $(nproc) cores"
pair RedRock "$bin/redrock-server" --enable-rocksdb-feature yes --maxmemory "$maxmemory"
[ "${REDIS:-1}" = 0 ] || pair Redis redis-server --client-output-buffer-limit 'replica 0 0 0'
