#!/usr/bin/env bash
# Proves that the tests see what they are there for: applies each sabotage of
# integration-tests/mutations/list.txt to a copy of the sources, builds, and expects its test to
# fail. `scripts/mutations.sh NAME...` takes only those. Writes a table of the results.
#
# The copy and its build output lie in CARGO_TARGET_DIR (RocksDB is shared with it). Our own
# crates are compiled with few optimizations: it is the build that takes the time.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

: "${CARGO_TARGET_DIR:?set by the Makefile: run make mutations}"
cargo=${CARGO:-cargo}
list=$PWD/integration-tests/mutations/list.txt
tree=$CARGO_TARGET_DIR/mutations/tree
logs=$CARGO_TARGET_DIR/mutations/logs
table=$CARGO_TARGET_DIR/mutations/result.md
limit_s=${RR_MUTATION_LIMIT_S:-600}
options=()
for crate in redrock-rdb redrock-log redrock-daemon redrock-proto redrock-server \
    redrock-persist redrock-replica redrockctl redrock-integration-tests; do
    options+=(--config "profile.release.package.$crate.opt-level=1")
done

rm -rf "$tree" "$logs"
mkdir -p "$tree" "$logs"
# What is committed and what is not yet, without what git ignores; with its times, so that a second
# run builds only what has changed.
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do [ -f "$file" ] && printf '%s\0' "$file"; done |
    xargs -0 cp -p --parents -t "$tree" || exit 1

# part NAME PART: `why`, `file`, `run` (one a line), `old` or `new` of an entry.
part() {
    awk -v name="$1" -v part="$2" '
        /^== / { inside = ($2 == name); section = ""; next }
        !inside { next }
        /^-- / { section = $2; next }
        section == "" && index($0, part ":") == 1 { sub(/^[a-z]+: +/, ""); print }
        section == part { lines[++count] = $0 }
        END {
            while (count > 0 && lines[count] == "") count--
            for (i = 1; i <= count; i++) print lines[i]
        }' "$list"
}

# cargo_in_tree LOG ARGUMENTS...: runs cargo over the copy, with a time limit.
cargo_in_tree() {
    local log=$1 command=$2
    shift 2
    # The tests find the programs beside themselves, where cargo puts them.
    (cd "$tree" && timeout "$limit_s" "$cargo" "$command" "${options[@]}" "$@") >>"$log" 2>&1
}

# verdict NAME: builds the tree as it is and runs the entry's last command.
# 0: the test passed; 1: it failed; 2: something did not build.
verdict() {
    local name=$1 log=$logs/$1.log runs words i
    mapfile -t runs < <(part "$name" run)
    for ((i = 0; i < ${#runs[@]}; i++)); do
        read -ra words <<<"${runs[i]}"
        if ((i + 1 < ${#runs[@]})); then
            cargo_in_tree "$log" "${words[@]}" || return 2
            continue
        fi
        local build=("${words[@]}") at
        for ((at = 0; at < ${#build[@]}; at++)); do
            if [ "${build[at]}" = -- ]; then build=("${build[@]:0:at}"); fi
        done
        cargo_in_tree "$log" "${build[@]}" --no-run || return 2
        cargo_in_tree "$log" "${words[@]}" || return 1
    done
}

# Sabotaged programs must not be left where others start them; the next build puts them back.
trap 'rm -f "$CARGO_TARGET_DIR"/release/{redrock-server,redrock-persist,redrock-replica,redrockctl}' EXIT

mapfile -t names < <(awk '/^== / { print $2 }' "$list")
if [ $# -gt 0 ]; then names=("$@"); fi

failed=0
printf '| sabotage | what the code is there for | result | seconds |\n|---|---|---|---|\n' >"$table"
declare -A green
for name in "${names[@]}"; do
    began=$SECONDS
    file=$(part "$name" file)
    old=$(part "$name" old)
    new=$(part "$name" new)
    if [ -z "$file" ] || [ -z "$old" ]; then
        printf '%s: no such entry\n' "$name"
        exit 1
    fi
    run=$(part "$name" run)
    if [ -z "${green[$run]:-}" ]; then
        verdict "$name" || { printf '%s: its test fails without the sabotage\n' "$name"; exit 1; }
        # A filter that matches nothing passes too.
        grep -q '^test result: ok. [1-9]' "$logs/$name.log" || { printf '%s: no test ran\n' "$name"; exit 1; }
        green[$run]=yes
        began=$SECONDS
    fi
    content=$(cat "$file" && printf x)
    content=${content%x}
    mutated=${content/"$old"/"$new"}
    if [ "$mutated" = "$content" ]; then
        printf '%s: the old text is not in %s\n' "$name" "$file"
        exit 1
    fi
    printf '%s' "$mutated" >"$tree/$file"
    verdict "$name"
    case $? in
        1) result=red ;;
        0) result='**survived**' failed=1 ;;
        *) result='**does not build**' failed=1 ;;
    esac
    # A new time, so that cargo sees the change back.
    printf '%s' "$content" >"$tree/$file"
    printf '%-45s %-20s %4d s\n' "$name" "$result" $((SECONDS - began))
    printf '| %s | %s | %s | %d |\n' "$name" "$(part "$name" why)" "$result" $((SECONDS - began)) >>"$table"
done
printf 'table: %s; logs: %s\n' "$table" "$logs"
exit $failed
