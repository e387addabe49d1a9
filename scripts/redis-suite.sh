#!/usr/bin/env bash
# Runs units of Redis's public Tcl suite against redrock-server and prints a table of them.
#
# The suite is no part of this repository. It needs a checkout of Redis 7.2.6's tests/ and runtest
# (--suite, or REDIS_SUITE), tclsh, and redis-cli and its like from the system. Each unit runs in a
# scratch copy of its own, which is removed afterwards; what a unit left running is stopped by its
# process id and reported. Tests that can't pass by what RedRock is (--known) are counted apart; the
# exit status is 0 if no other fails.
#
# Usage: scripts/redis-suite.sh [option...] [unit...]    (a unit is e.g. unit/type/string)
#   --suite DIR       checkout of the suite
#   --bin DIR         folder of redrock-server, redrock-persist and redrock-replica
#   --mode MODE       replaced: our binary in place of its redis-server (default)
#                     external: the suite talks to one running server per unit
#   --feature on|off  tiering of cold values (default off)
#   --logs DIR        where logs go (default: a new temporary folder)
#   --known FILE      named differences (default integration-tests/fixtures/redis-suite-known.tsv)
#   --jobs N          units at the same time (default 1)
#   --timeout SEC     without progress, a unit is given up after this (default 120)
#   --keep            keep the scratch copies, with the servers' folders
#   --                the rest goes to runtest (e.g. -- --only '/SORT')
# Without units: all of unit/ but modules and cluster.
set -euo pipefail
: "${CARGO_TARGET_DIR:=${REDROCK_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/redrock/target}}"
suite=${REDIS_SUITE:-} bin=$CARGO_TARGET_DIR/release mode=replaced feature=off
known=$(dirname "$(realpath "$0")")/../integration-tests/fixtures/redis-suite-known.tsv
logs='' jobs=1 timeout=120 keep='' units=() extra=()
# What turns tiering on, for a server that otherwise has the same options.
feature_on=(enable-rocksdb-feature yes maxmemory "${SUITE_MAXMEMORY:-1gb}")

usage() { sed -n '2,22p' "$0" | sed 's/^# \{0,1\}//'; exit "$1"; }
while [ $# -gt 0 ]; do
    case $1 in
    --suite) suite=$2; shift ;;
    --bin) bin=$2; shift ;;
    --mode) mode=$2; shift ;;
    --feature) feature=$2; shift ;;
    --logs) logs=$2; shift ;;
    --known) known=$2; shift ;;
    --jobs) jobs=$2; shift ;;
    --timeout) timeout=$2; shift ;;
    --keep) keep=yes ;;
    --) shift; extra=("$@"); break ;;
    --help | -h) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) units+=("$1") ;;
    esac
    shift
done
[ -f "$suite/tests/test_helper.tcl" ] || { echo "--suite: no checkout of the suite: '$suite'" >&2; exit 2; }
[ -x "$bin/redrock-server" ] || { echo "--bin: no redrock-server in '$bin'" >&2; exit 2; }
[ -f "$known" ] || { echo "--known: no such file: '$known'" >&2; exit 2; }
suite=$(realpath "$suite") known=$(realpath "$known") bin=$(realpath "$bin")
if [ ${#units[@]} = 0 ]; then
    mapfile -t units < <(cd "$suite/tests" && find unit -maxdepth 2 -name '*.tcl' \
        ! -path '*/moduleapi/*' ! -path '*/cluster/*' ! -name list-common.tcl | sed 's/\.tcl$//' | LC_ALL=C sort)
fi
logs=${logs:-$(mktemp -d "${TMPDIR:-/tmp}/redis-suite.XXXXXX")}
mkdir -p "$logs"
scratch_root=$(mktemp -d "${TMPDIR:-/tmp}/redis-suite-scratch.XXXXXX")

# left DIR: process ids of what runs in the scratch copy DIR or from it.
left() {
    local proc
    for proc in /proc/[0-9]*; do
        if [ "$(tr '\0' '\n' <"$proc/environ" 2>/dev/null | sed -n 's/^REDIS_SUITE_SCRATCH=//p')" = "$1" ] ||
            [[ "$(readlink "$proc/cwd" 2>/dev/null)/" == "$1"/* ]]; then
            [ "${proc#/proc/}" = $$ ] || echo "${proc#/proc/}"
        fi
    done 2>/dev/null
}

# stop_left DIR: stops those, and says how many there were.
stop_left() {
    local pids pid
    pids=$(left "$1")
    for pid in $pids; do kill -CONT "$pid" 2>/dev/null || true; kill "$pid" 2>/dev/null || true; done
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -n "$(left "$1")" ] || break
        sleep 0.2
    done
    for pid in $(left "$1"); do kill -KILL "$pid" 2>/dev/null || true; done
    echo "$pids" | grep -c . || true
}

# known_tests UNIT HOW: the tests (or tags, or lines) of a unit that are known in this way here.
known_tests() {
    awk -F '\t' -v unit="$1" -v how="$2" -v mode="$mode" -v feature="$feature" \
        '!/^#/ && $4 == unit && $3 == how && ($2 == "any" || $2 == mode || $2 == feature) { print $5 }' "$known"
}

# free_base: first of 200 ports that nobody listens on.
free_base() {
    local base port busy
    while :; do
        base=$((12000 + RANDOM % 90 * 200))
        busy=$(awk 'NR > 1 && $4 == "0A" { split($2, a, ":"); print strtonum("0x" a[2]) }' /proc/net/tcp 2>/dev/null)
        for port in $busy; do
            [ "$port" -lt $((base - 40)) ] || [ "$port" -gt $((base + 200)) ] || continue 2
        done
        echo "$base"
        return
    done
}

# start_server: the server of external mode, in the scratch copy; sets `server`, and `base` to its port.
start_server() {
    local options=() attempt
    [ "$feature" = off ] || options=("--${feature_on[0]}" "${feature_on[1]}" "--${feature_on[2]}" "${feature_on[3]}")
    mkdir data
    for attempt in 1 2 3; do
        [ "$attempt" = 1 ] || base=$(free_base) # Somebody else was faster.
        setsid "$bin/redrock-server" --port "$base" --dir "$scratch/data" --save '' \
            --enable-protected-configs yes --enable-debug-command yes --enable-module-command yes \
            "${options[@]}" >"$logs/$name.server.log" 2>&1 &
        server=$!
        for _ in $(seq 200); do
            kill -0 "$server" 2>/dev/null || break
            redis-cli -p "$base" info server 2>/dev/null | grep -q "^process_id:$server\b" && return
            sleep 0.1
        done
    done
}

# stop_server: stops it; one whose periodic work a test has stopped doesn't heed signals.
stop_server() {
    kill -0 "$server" 2>/dev/null || echo '[err]: the server died' >>"$log"
    kill "$server" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
}

# leave_out: what is known to end the unit, or to hang.
leave_out() {
    local line tag
    known_tests "$unit" skip >skipped
    while IFS= read -r line; do
        awk -v line="$line" '$0 != line' "tests/$unit.tcl" >edited && mv edited "tests/$unit.tcl"
    done < <(known_tests "$unit" line)
    for tag in $(known_tests "$unit" tag); do options+=(--tags "-$tag"); done
    [ ! -s skipped ] || options+=(--skipfile "$PWD/skipped")
}

# run_unit UNIT: its log is LOGS/UNIT.log with slashes as dashes.
run_unit() {
    local unit=$1 name scratch log base server='' status=0 options=()
    name=${unit//\//-}
    scratch=$scratch_root/$name log=$logs/$name.log
    if [ -n "$(known_tests "$unit" unit)" ]; then
        echo 'The End, before it began: known' >"$log"
        echo 0 >"$logs/$name.left"
        return
    fi
    mkdir -p "$scratch/src"
    cp -r "$suite/tests" "$suite/runtest" "$scratch/"
    cp "$suite"/*.conf "$scratch/" 2>/dev/null || true
    [ ! -d "$suite/utils" ] || cp -r "$suite/utils" "$scratch/"
    mkdir -p "$scratch/tests/tmp"
    for program in redis-cli redis-benchmark redis-check-aof redis-check-rdb; do
        ln -s "$(command -v $program)" "$scratch/src/$program"
    done
    ln -s "$bin/redrock-server" "$scratch/src/redis-server"
    base=$(free_base)
    export REDIS_SUITE_SCRATCH=$scratch
    cd "$scratch"
    if [ "$mode" = external ]; then
        start_server
        options=(--host 127.0.0.1 --port "$base" --baseport $((base + 40)))
    else
        [ "$feature" = off ] || options=(--config "${feature_on[0]}" "${feature_on[1]}" --config "${feature_on[2]}" "${feature_on[3]}")
        options+=(--baseport "$base" --portcount 160)
    fi
    leave_out
    # The outer limit is for a runner that hangs itself.
    setsid timeout -k 10 $((timeout * 15)) ./runtest --single "$unit" --durable --clients 1 --dont-clean \
        --timeout "$timeout" "${options[@]}" "${extra[@]}" </dev/null 2>&1 |
        sed -u 's/\x1b\[[0-9;]*m//g' >"$log" || status=$?
    [ -z "$server" ] || stop_server
    cd / # This shell itself is not to be stopped.
    stop_left "$scratch" >"$logs/$name.left"
    if [ -n "$keep" ]; then echo "$scratch" >"$logs/$name.scratch"; else rm -rf "$scratch"; fi
    printf '%s %s\n' "$unit" "$status" >>"$logs/done"
}

count() { grep -c "$1" "$2" 2>/dev/null || true; }

# outcomes UNIT: a line for each test that failed or is known: `failed` or `known` or `passes`, a tab, and what
# the log says of it.
outcomes() {
    awk -v unit="$1" -v fails="$(known_tests "$1" fails)" -v skips="$(known_tests "$1" skip)" '
        BEGIN {
            count = split(fails, names, "\n"); for (i = 1; i <= count; i++) may_fail[names[i]] = 1
            count = split(skips, names, "\n"); for (i = 1; i <= count; i++) is_left_out[names[i]] = 1
            file = " in tests/" unit ".tcl"
        }
        /^\[err\]: / {
            name = substr($0, 8)
            if (substr(name, length(name) - length(file) + 1) == file) name = substr(name, 1, length(name) - length(file))
            print (name in may_fail ? "known" : "failed") "\t" $0
        }
        /^\[exception\]|^\[TIMEOUT\]/ { print "failed\t" $0 }
        /^\[skip\]: / { if (substr($0, 9) in is_left_out) print "known\t" $0 }
        /^\[ok\]: / { name = substr($0, 7); sub(/ \([0-9]+ ms\)$/, "", name); if (name in may_fail) print "passes\t" $0 }
    ' "$logs/${1//\//-}.log"
}

# report UNIT: its row.
report() {
    local name=${1//\//-} log passed failed skipped known_count left_out note=''
    log=$logs/$name.log
    outcomes "$1" >"$logs/$name.outcomes"
    passed=$(count '^\[ok\]' "$log")
    failed=$(count '^failed' "$logs/$name.outcomes")
    known_count=$(count '^known' "$logs/$name.outcomes")
    left_out=$(count "^known	\[skip\]" "$logs/$name.outcomes")
    skipped=$(($(count '^\[skip\]\|^\[ignore\]' "$log") - left_out))
    grep -q 'The End' "$log" || { note=' not finished'; [ "$failed" != 0 ] || failed=1; }
    [ -z "$(known_tests "$1" unit)" ] || note=' not run: known'
    [ "$(cat "$logs/$name.left")" = 0 ] || note="$note; left running: $(cat "$logs/$name.left")"
    printf '%-28s %6s %6s %6s %7s%s\n' "$1" "$passed" "$failed" "$known_count" "$skipped" "$note"
    passed_all=$((passed_all + passed)) failed_all=$((failed_all + failed))
    known_all=$((known_all + known_count)) skipped_all=$((skipped_all + skipped))
}

finish() {
    local pid
    for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
    for dir in "$scratch_root"/*; do [ ! -d "$dir" ] || stop_left "$dir" >/dev/null; done
    [ -n "$keep" ] || rm -rf "$scratch_root"
}
trap finish EXIT
trap 'exit 130' INT TERM

passed_all=0 failed_all=0 known_all=0 skipped_all=0
printf '%-28s %6s %6s %6s %7s   (mode %s, feature %s)\n' unit passed failed known skipped "$mode" "$feature"
if [ "$jobs" = 1 ]; then
    for unit in "${units[@]}"; do
        (run_unit "$unit")
        report "$unit"
    done
else
    for unit in "${units[@]}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
        (run_unit "$unit") &
    done
    wait
    for unit in "${units[@]}"; do report "$unit"; done
fi
printf '%-28s %6s %6s %6s %7s\n' all "$passed_all" "$failed_all" "$known_all" "$skipped_all"
echo
for unit in "${units[@]}"; do
    sed -n "s|^failed\t|${unit//\//-} |p" "$logs/${unit//\//-}.outcomes"
done
for unit in "${units[@]}"; do
    sed -n "s|^passes\t|known to fail, and passes: ${unit//\//-} |p" "$logs/${unit//\//-}.outcomes"
done
echo "logs: $logs"
[ "$failed_all" = 0 ]
