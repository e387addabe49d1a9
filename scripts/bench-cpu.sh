#!/usr/bin/env bash
# CPU time per request of redrock-server (with its companions) and of Redis, one after the other
# on the same machine: redis-benchmark SET and GET, 50 clients, 64-byte values, pipeline 1 and 16.
# Ratios matter, not the absolute figures. Usage: scripts/bench-cpu.sh [option of both servers...]
# OURS_OPTIONS: options of redrock-server alone, as one string.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/bench.sh
start_both "${PORT_OURS:-7101}" "${PORT_REDIS:-7102}" "$@"

printf '%-8s %-4s %-9s %s\n' server test pipeline 'CPU us/request'
for pipeline in 1 16; do
    requests=200000
    [ "$pipeline" = 1 ] || requests=1500000
    for test in set get; do
        for side in ours redis; do
            before=$(cpu_us "$side")
            redis-benchmark -p "${port[$side]}" -n "$requests" -c 50 -P "$pipeline" -d 64 -r 100000 -t "$test" -q >/dev/null 2>&1
            after=$(cpu_us "$side")
            awk -v s="$side" -v t="$test" -v p="$pipeline" -v d=$((after - before)) -v n="$requests" \
                'BEGIN { printf "%-8s %-4s %-9s %.3f\n", s, t, p, d / n }'
        done
    done
done
