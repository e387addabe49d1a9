#!/usr/bin/env bash
# All checks at small size, with a closing summary. Started by `make test`, which sets
# CARGO_TARGET_DIR; `scripts/test.sh lint` stops before the first build of programs.
#
# A failing check does not stop the next ones, but for the build: one run shows all that is red.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

: "${CARGO_TARGET_DIR:?set by the Makefile: run make test}"
cargo=${CARGO:-cargo}
logs=$CARGO_TARGET_DIR/logs
mkdir -p "$logs"
# What a test needs is installed below: one that finds it missing fails instead of skipping.
export RR_NO_SKIP=1
results=()
failed=0
started=$SECONDS

# check NAME COMMAND...: runs a command, shows its output, keeps its result and time.
check() {
    local name=$1 began=$SECONDS verdict=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" </dev/null 2>&1 | tee "$logs/$name.log"
    if [ "${PIPESTATUS[0]}" -ne 0 ]; then
        verdict=FAILED
        failed=1
    fi
    results+=("$(printf '%-12s %-7s %4d s' "$name" "$verdict" $((SECONDS - began)))")
    [ "$verdict" = ok ]
}

scripts_are_clean() {
    local files
    mapfile -t files < <(git ls-files 'scripts/*.sh' .ci/run 'deploy/*.sh' 'integration-tests/**/*.sh')
    local file
    for file in "${files[@]}"; do
        bash -n "$file" || return 1
    done
    shellcheck --severity=warning "${files[@]}"
}

formatting() {
    "$cargo" fmt --all -- --check
}

# Sums the result lines of the test programs.
counts() {
    awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { printf "%d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$1"
}

summary() {
    printf '\n== summary\n'
    printf '%s\n' "${results[@]}"
    [ ! -e "$logs/tests.log" ] || [ "${tests_ran:-no}" = no ] || printf 'tests: %s\n' "$(counts "$logs/tests.log")"
    printf 'whole run: %d s; logs in %s\n' $((SECONDS - started)) "$logs"
    if [ "$failed" -eq 0 ]; then printf 'all checks passed\n'; else printf 'SOME CHECKS FAILED\n'; fi
    exit "$failed"
}

check packages scripts/install-deps.sh test || summary
check scripts scripts_are_clean
check format formatting
if command -v cargo-deny >/dev/null; then
    check deny "$cargo" deny --all-features check
fi
check clippy "$cargo" clippy --release --workspace --all-targets -- -D warnings
[ "${1:-all}" = all ] || summary
check build "$cargo" build --release --workspace || summary
check compose scripts/test-compose.sh
tests_ran=yes
check tests "$cargo" test --release --workspace --no-fail-fast
summary
