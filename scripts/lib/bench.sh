# Sourced by benchmarks: starts redrock-server and Redis side by side and reads their CPU time.
# After `start_both OURS_PORT REDIS_PORT [option of both...]`: `pid` and `port` by side (ours, redis),
# and `work`, a directory that goes when the script ends.
# OURS_OPTIONS: options of redrock-server alone, as one string.
# shellcheck shell=bash

: "${CARGO_TARGET_DIR:=${REDROCK_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/redrock/target}}"
work=$(mktemp -d)
declare -A pid port
pid=() port=()
trap 'stop_both; rm -rf "$work"' EXIT

stop_both() {
    [ "${#pid[@]}" -eq 0 ] || kill "${pid[@]}" 2>/dev/null || true
    wait || true
    pid=()
}

wait_for_pong() {
    until redis-cli -p "${port[$1]}" ping 2>/dev/null | grep -q PONG; do
        kill -0 "${pid[$1]}" 2>/dev/null || { tail -5 "$work/$1.log" >&2; exit 1; }
        sleep 0.1
    done
}

# start_ours PORT [option...]: redrock-server alone.
start_ours() {
    port[ours]=$1
    shift
    local own
    read -r -a own <<<"${OURS_OPTIONS:-}"
    mkdir "$work/ours"
    "$CARGO_TARGET_DIR/release/redrock-server" --port "${port[ours]}" --dir "$work/ours" --save '' \
        "$@" "${own[@]}" >"$work/ours.log" 2>&1 &
    pid[ours]=$!
    wait_for_pong ours
}

start_both() {
    port[redis]=$2
    local ours=$1
    shift 2
    mkdir "$work/redis"
    redis-server --port "${port[redis]}" --dir "$work/redis" --save '' "$@" >"$work/redis.log" 2>&1 &
    pid[redis]=$!
    start_ours "$ours" "$@"
    wait_for_pong redis
}

# cpu_us SIDE: CPU time of a server and its children so far, microseconds. The kernel counts it in
# nanoseconds where it keeps statistics of its scheduler, else in ticks.
cpu_us() {
    local one
    for one in "${pid[$1]}" $(pgrep -P "${pid[$1]}" || true); do
        if [ -r /proc/self/schedstat ]; then
            cat /proc/"$one"/task/*/schedstat 2>/dev/null | awk '{ print $1 / 1e3 }'
        else
            awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz * 1e6 }' "/proc/$one/stat"
        fi
    done | awk '{ total += $1 } END { printf "%.0f\n", total }'
}
