#!/usr/bin/env bash
# CPU time per request of redrock-server (with its companions) and of Redis, one after the other
# on the same machine: redis-benchmark SET and GET, 50 clients, 64-byte values, pipeline 1 and 16.
# Ratios matter, not the absolute figures. Usage: scripts/bench-cpu.sh [option of both servers...]
# OURS_OPTIONS: options of redrock-server alone, as one string.
set -euo pipefail
: "${CARGO_TARGET_DIR:=${REDROCK_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/redrock/target}}"
server=$CARGO_TARGET_DIR/release/redrock-server
port_ours=${PORT_OURS:-7101}
port_redis=${PORT_REDIS:-7102}
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait || true; rm -rf "$work"' EXIT
mkdir "$work/ours" "$work/redis"
# shellcheck disable=SC2086
"$server" --port "$port_ours" --dir "$work/ours" --save '' "$@" ${OURS_OPTIONS:-} >"$work/ours.log" 2>&1 &
# shellcheck disable=SC2034
ours=$!
redis-server --port "$port_redis" --dir "$work/redis" --save '' "$@" >"$work/redis.log" 2>&1 &
# shellcheck disable=SC2034
redis=$!
for port in "$port_ours" "$port_redis"; do
    until redis-cli -p "$port" ping 2>/dev/null | grep -q PONG; do sleep 0.1; done
done

# ticks PID: CPU ticks of a process and its children.
ticks() {
    local total=0 pid value
    for pid in "$1" $(pgrep -P "$1" || true); do
        value=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
        total=$((total + value))
    done
    echo "$total"
}

printf '%-8s %-4s %-9s %s\n' server test pipeline 'CPU us/request'
for pipeline in 1 16; do
    requests=200000
    [ "$pipeline" = 1 ] || requests=1500000
    for test in set get; do
        for side in ours redis; do
            pid=${!side}
            port_name=port_$side
            before=$(ticks "$pid")
            redis-benchmark -p "${!port_name}" -n "$requests" -c 50 -P "$pipeline" -d 64 -r 100000 -t "$test" -q >/dev/null 2>&1
            after=$(ticks "$pid")
            awk -v s="$side" -v t="$test" -v p="$pipeline" -v d=$((after - before)) -v n="$requests" \
                -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%-8s %-4s %-9s %.3f\n", s, t, p, d / hz * 1e6 / n }'
        done
    done
done
