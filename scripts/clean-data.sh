#!/usr/bin/env bash
# Removes a data directory of RedRock, unless a daemon uses it or it isn't one.
set -euo pipefail

directory=${1:?usage: clean-data.sh DIRECTORY}
[ -d "$directory" ] || exit 0
cd -- "$directory"
if [ -n "$(ls -A)" ] && [ ! -e redrock-server.lock ]; then
    printf 'clean-data: %s has no redrock-server.lock: not a data directory of RedRock\n' "$directory" >&2
    exit 1
fi
for lock in redrock-*.lock; do
    [ -e "$lock" ] || continue
    if ! flock --nonblock "$lock" true; then
        printf 'clean-data: %s is in use (%s)\n' "$directory" "$lock" >&2
        exit 1
    fi
done
cd /
rm -rf -- "$directory"
