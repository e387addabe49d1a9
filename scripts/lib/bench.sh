# Sourced by benchmarks: starts redrock-server and Redis side by side and reads their CPU time.
# After `start_both OURS_PORT REDIS_PORT [option of both...]`: `pid` and `port` by side (ours, redis),
# and `work`, a directory that goes when the script ends.
# OURS_OPTIONS: options of redrock-server alone, as one string.
# `make_group SIDE BYTES` before: what SIDE starts runs in a memory cgroup of so many bytes, page cache included.
# shellcheck shell=bash

: "${CARGO_TARGET_DIR:=${REDROCK_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/redrock/target}}"
work=$(mktemp -d)
declare -A pid port group io_group
pid=() port=() group=() io_group=()
trap 'stop_both; remove_groups; rm -rf "$work"' EXIT

make_group() {
    local root=/sys/fs/cgroup limit=memory.max swap=memory.swap.max
    [ -f "$root/cgroup.controllers" ] || { root=/sys/fs/cgroup/memory limit=memory.limit_in_bytes swap=memory.swappiness; }
    group[$1]=$root/redrock-bench-$$-$1
    mkdir "${group[$1]}"
    echo "$2" >"${group[$1]}/$limit"
    echo 0 >"${group[$1]}/$swap"
}

# limit_reads SIDE N: after make_group: N reads a second from the device at most.
limit_reads() {
    local device one
    device=$(findmnt -n -o MAJ:MIN -T "$work" | tr -d ' ')
    if [ -f "${group[$1]}/io.max" ]; then
        echo "$device riops=$2" >"${group[$1]}/io.max"
        return
    fi
    io_group[$1]=/sys/fs/cgroup/blkio/$(basename "${group[$1]}")
    mkdir "${io_group[$1]}"
    echo "$device $2" >"${io_group[$1]}/blkio.throttle.read_iops_device"
    while read -r one; do echo "$one" >"${io_group[$1]}/cgroup.procs"; done <"${group[$1]}/cgroup.procs"
}

remove_groups() {
    local one
    for one in "${group[@]}" "${io_group[@]}"; do
        until rmdir "$one" 2>/dev/null || [ ! -d "$one" ]; do sleep 0.1; done
    done
    group=() io_group=()
}

# in_group SIDE COMMAND...: runs it instead of this shell, in the groups of SIDE if there are some.
in_group() {
    [ -z "${group[$1]:-}" ] || echo "$BASHPID" >"${group[$1]}/cgroup.procs"
    [ -z "${io_group[$1]:-}" ] || echo "$BASHPID" >"${io_group[$1]}/cgroup.procs"
    shift
    exec "$@"
}

# page_cache SIDE: bytes of page cache in its group.
page_cache() {
    awk '$1 == "cache" || $1 == "file" { print $2 }' "${group[$1]}/memory.stat"
}

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
    in_group ours "$CARGO_TARGET_DIR/release/redrock-server" --port "${port[ours]}" --dir "$work/ours" --save '' \
        "$@" "${own[@]}" >"$work/ours.log" 2>&1 &
    pid[ours]=$!
    wait_for_pong ours
}

# start_redis PORT [option...]: Redis alone.
start_redis() {
    port[redis]=$1
    shift
    mkdir "$work/redis"
    redis-server --port "${port[redis]}" --dir "$work/redis" --save '' "$@" >"$work/redis.log" 2>&1 &
    pid[redis]=$!
    wait_for_pong redis
}

start_both() {
    local ours=$1 redis=$2
    shift 2
    start_redis "$redis" "$@"
    start_ours "$ours" "$@"
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
