#!/usr/bin/env bash
# All rows of cold GETs: data 3 and 10 times maxmemory in the page cache, 5 and 10 times with a page cache too
# small for them, so that the device is asked; 1, 32 and 128 clients, uniform over all keys; beside plain RocksDB
# with as many threads, and Redis with everything in memory. One case after the other, by bench-cold.sh. Needs
# to be root, for the memory cgroups of the cases with a device.
# CASES ("cached:3 cached:10 device:5 device:10"), MAXMEMORY (bytes, 134217728), READS (60000), CLIENTS
# ("1 32 128"), PAGE_CACHE (bytes beside what server and RocksDB need, 67108864), SEED (1).
set -euo pipefail
cd "$(dirname "$0")"
maxmemory=${MAXMEMORY:-134217728} clients=${CLIENTS:-1 32 128}
if [ "$(id -u)" != 0 ]; then
    echo 'bench-cold-all.sh: needs to be root, to limit the page cache' >&2
    exit 1
fi
# What a key takes, bytes: 16 of name and 1000 of value.
key_bytes=1016
# Redis does not depend on where our data is: once is enough.
redis=1
for case in ${CASES:-cached:3 cached:10 device:5 device:10}; do
    place=${case%:*} times=${case#*:}
    keys=$((maxmemory * times / key_bytes))
    case $place in
        cached) device=0 ;;
        device) device=1 ;;
        *)
            echo "bench-cold-all.sh: $case is neither cached:TIMES nor device:TIMES" >&2
            exit 1
            ;;
    esac
    echo "## $times times maxmemory, $([ "$device" = 1 ] && echo 'from the device' || echo 'in the page cache')"
    sync
    DEVICE=$device KEYS=$keys MAXMEMORY=$maxmemory READS=${READS:-60000} CLIENTS=$clients THREADS=$clients \
        REDIS=$redis ./bench-cold.sh
    [ "$device" = 1 ] || redis=0
done
