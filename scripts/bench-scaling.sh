#!/usr/bin/env bash
# How the CPU time per request grows with the size of what a command works on, ours and Redis's: the
# same collections of N and of FACTOR times N elements, pipeline 16. A command whose documented
# complexity does not grow with the collection stays about the same; O(log N) grows a little, and
# caches of the processor add some. Prints a Markdown table; `!` marks what grew more than 2.5 times
# and more than Redis's.
# Usage: scripts/bench-scaling.sh [option of both servers...]
# N: the smaller size (20000); FACTOR (10); REQUESTS: requests a command (20000); ONLY: a pattern
# of commands; OURS_OPTIONS: options of redrock-server alone, as one string.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/bench.sh
start_both "${PORT_OURS:-7105}" "${PORT_REDIS:-7106}" "$@"
small=${N:-20000}
factor=${FACTOR:-10}
requests=${REQUESTS:-20000}

# One line a command: share of the requests in percent, documented complexity, the command. `@n` is the
# size, `@mid` half of it, `@s` the suffix of the collections' names; `__rand_int__` is below the size.
commands() {
    cat <<'LIST'
100 O(1) GET key:__rand_int__
100 O(1) SET key:__rand_int__ value
100 O(1) EXISTS key:__rand_int__
100 O(1) EXPIRE key:__rand_int__ 100000
100 O(1) OBJECT ENCODING key:__rand_int__
100 O(1) OBJECT IDLETIME key:__rand_int__
100 O(1) RANDOMKEY
100 O(1) SCAN 0
100 O(1) SCAN 123456789
100 O(1) DBSIZE
100 O(1) MEMORY USAGE hash@s
100 O(N)_samples MEMORY USAGE hash@s SAMPLES 5
100 O(N)_samples MEMORY USAGE list@s SAMPLES 5
100 O(N)_samples MEMORY USAGE zset@s SAMPLES 5
100 O(N)_samples MEMORY USAGE stream@s SAMPLES 5
100 O(1) OBJECT ENCODING list@s
100 O(1) TOUCH hash@s
100 O(1) RENAME list@s list@s
100 O(1) STRLEN text@s
100 O(1) GETRANGE text@s @mid 5
100 O(N)_range GETRANGE text@s -10 -1
100 O(1) SETRANGE text@s 100 abc
100 O(1) APPEND text@s x
100 O(1) GETBIT text@s @mid
100 O(1) SETBIT text@s @mid 1
100 O(N)_range BITCOUNT text@s 100 110
100 O(N)_range BITPOS text@s 1 100 110
100 O(1)_field BITFIELD text@s GET u8 @mid
100 O(1)_field BITFIELD text@s SET u8 @mid 7
100 O(1) LLEN list@s
100 O(1) LPUSH list@s e
100 O(1) RPUSH list@s e
100 O(1) LPOP list@s
100 O(1) RPOP list@s
100 O(1)_end LINDEX list@s 5
100 O(1)_end LINDEX list@s -5
50 O(N) LINDEX list@s @mid
100 O(S+N) LRANGE list@s 0 9
100 O(S+N) LRANGE list@s -10 -1
50 O(S+N) LRANGE list@s @mid 5
100 O(1)_end LSET list@s 5 x
50 O(N) LSET list@s @mid x
100 O(N)_found LPOS list@s e
100 O(N)_found LINSERT list@s BEFORE e f
100 O(N)_removed LTRIM list@s 1 -1
100 O(1) LMOVE list@s list@s LEFT RIGHT
100 O(N)_popped LMPOP 1 list@s LEFT COUNT 1
100 O(1) HGET hash@s f:__rand_int__
100 O(1) HSET hash@s f:__rand_int__ v
100 O(1) HSET hash@s new:__rand_int__ v
100 O(1) HDEL hash@s new:__rand_int__
100 O(1) HEXISTS hash@s f:__rand_int__
100 O(1) HLEN hash@s
100 O(1) HSTRLEN hash@s f:__rand_int__
100 O(1) HINCRBY counts@s f:__rand_int__ 1
100 O(N)_returned HRANDFIELD hash@s
100 O(N)_returned HRANDFIELD hash@s 10
100 O(N)_returned HRANDFIELD hash@s -10 WITHVALUES
100 O(1)_call HSCAN hash@s 0
100 O(1) SADD set@s new:__rand_int__
100 O(1) SREM set@s new:__rand_int__
100 O(1) SISMEMBER set@s m:__rand_int__
100 O(1) SCARD set@s
100 O(1) SRANDMEMBER set@s
100 O(N)_count SRANDMEMBER set@s 10
100 O(N)_count SRANDMEMBER set@s -10
50 O(1) SPOP set@s
10 O(N)_count SPOP set@s 5
100 O(1) SADD set@s m:__rand_int__
100 O(1)_call SSCAN set@s 0
50 O(N*M)_smallest SINTER few set@s
50 O(N*M)_smallest SINTERCARD 2 few set@s
50 O(N*M)_limit SINTERCARD 2 set@s set@s LIMIT 10
50 O(N)_first SDIFF few set@s
100 O(1) SMOVE set@s other@s m:__rand_int__
100 O(1) SADD ints@s __rand_int__
100 O(1) SISMEMBER ints@s __rand_int__
100 O(log(N)) ZADD zset@s __rand_int__ m:__rand_int__
100 O(log(N)) ZADD zset@s 1 new:__rand_int__
100 O(log(N)) ZREM zset@s new:__rand_int__
100 O(log(N)) ZINCRBY zset@s 1 m:__rand_int__
100 O(1) ZSCORE zset@s m:__rand_int__
100 O(log(N)) ZRANK zset@s m:__rand_int__
100 O(log(N)) ZREVRANK zset@s m:__rand_int__
100 O(1) ZCARD zset@s
100 O(log(N)) ZCOUNT zset@s 100 @mid
100 O(log(N)+M) ZRANGE zset@s 0 9
100 O(log(N)+M) ZRANGE zset@s @mid 5
100 O(log(N)+M) ZRANGE zset@s 10 19 REV
100 O(log(N)+M) ZRANGEBYSCORE zset@s @mid +inf LIMIT 0 10
100 O(log(N)+M) ZREVRANGEBYSCORE zset@s @mid -inf LIMIT 0 10
100 O(log(N)+M) ZRANGEBYLEX same@s [m:@mid + LIMIT 0 10
100 O(log(N)+M) ZREVRANGEBYLEX same@s [m:@mid - LIMIT 0 10
100 O(log(N)) ZLEXCOUNT same@s [m:000000000100 [m:@mid
100 O(N)_returned ZRANDMEMBER zset@s
100 O(N)_returned ZRANDMEMBER zset@s 10
100 O(N)_returned ZRANDMEMBER zset@s -10
100 O(log(N)*M) ZPOPMIN zset@s
100 O(log(N)*M) ZPOPMAX zset@s
100 O(log(N)+M) ZREMRANGEBYRANK zset@s 5 5
100 O(log(N)+M) ZREMRANGEBYSCORE zset@s (100 (101
100 O(1)_call ZSCAN zset@s 0
50 O(N*K)_limit ZINTERCARD 2 zset@s zset@s LIMIT 10
100 O(log(N)) GEOADD geo@s 13.5 37.5 new
100 O(1) GEOPOS geo@s p:__rand_int__
100 O(1) GEODIST geo@s p:__rand_int__ p:__rand_int__
20 O(N+log(M)) GEOSEARCH geo@s FROMLONLAT 13.5 37.5 BYRADIUS 10 m ASC COUNT 10
100 O(1) XADD stream@s * field value
100 O(1) XLEN stream@s
100 O(N)_returned XRANGE stream@s 1-@mid + COUNT 10
100 O(N)_returned XREVRANGE stream@s 1-@mid - COUNT 10
100 O(N)_returned XREAD COUNT 10 STREAMS stream@s 1-@mid
100 O(M)_returned XREADGROUP GROUP g c COUNT 10 STREAMS stream@s 1-@mid
100 O(1) XACK stream@s g 1-__rand_int__
100 O(N) XPENDING stream@s g
100 O(N) XPENDING stream@s g 1-@mid + 10
100 O(N) XPENDING stream@s g - + 10 c
20 O(log(N)) XCLAIM stream@s g c 0 1-@mid
20 O(1)_count XAUTOCLAIM stream@s g c 1000000 1-@mid COUNT 10
100 O(1) XINFO STREAM stream@s
50 O(1) XINFO STREAM stream@s FULL COUNT 1
100 O(1) XINFO GROUPS stream@s
100 O(1) XINFO CONSUMERS stream@s g
100 O(1) XDEL stream@s 1-__rand_int__
100 O(N)_evicted XTRIM stream@s MAXLEN ~ 100000000
20 O(N)_evicted XADD capped@s MAXLEN @n * field value
50 O(1) XSETID stream@s 99999999999999-1
100 O(1) PUBLISH channel text
LIST
    # Sorted elements are copied first by both; what a pattern or LIMIT leaves is not sorted.
    echo "10 O(N+M*log(M)) SORT few BY nosort LIMIT 0 10"
}

# The collections of a size, as the protocol has it.
collections() {
    awk -v n="$1" -v s="$2" '
        function send(    i, text) {
            for (i = 1; i <= words; i++) text = text "$" length(word[i]) "\r\n" word[i] "\r\n"
            printf "*%d\r\n%s", words, text
        }
        function command(line) { words = split(line, word, / /); send() }
        BEGIN {
            srand(7)
            text = "0123456789abcdefghij0123456789abcdefghij0123456789abcdefghij01234567"
            for (i = 0; i < n; i++) {
                at = sprintf("%012d", i)
                command("SET key:" at " value")
                command("RPUSH list" s " e")
                command("HSET hash" s " f:" at " value")
                command("SADD set" s " m:" at)
                command("SADD ints" s " " i)
                command("ZADD zset" s " " i " m:" at)
                command("ZADD same" s " 0 m:" at)
                command("GEOADD geo" s " " (10 + 5 * rand()) " " (35 + 5 * rand()) " p:" at)
                command("XADD stream" s " 1-" (i + 1) " field value")
                command("XADD capped" s " * field value")
                command("APPEND text" s " " text)
            }
            for (i = 0; i < 10; i++) command("SADD few m:" sprintf("%012d", i))
            command("XGROUP CREATE stream" s " g 0")
            for (i = 0; i < n; i += 1000) command("XREADGROUP GROUP g c COUNT 1000 STREAMS stream" s " >")
        }'
}

for side in ours redis; do
    for size in "$small" $((small * factor)); do
        redis-cli -p "${port[$side]}" FLUSHALL >/dev/null
        collections "$size" ":$size" | redis-cli -p "${port[$side]}" --pipe >"$work/load" 2>&1 ||
            { tail -3 "$work/load" >&2; exit 1; }
        while read -r share complexity line; do
            [[ -z "${ONLY:-}" || $line =~ $ONLY ]] || continue
            count=$((requests * share / 100))
            mid=$(printf '%012d' $((size / 2)))
            [[ $line != *1-@mid* && $line != *' @mid'* ]] || mid=$((size / 2))
            text=${line//@s/:$size}
            # A range of ten from the middle on.
            text=${text//@mid 5/$mid $((size / 2 + 9))}
            text=${text//@mid/$mid}
            read -r -a words <<<"${text//@n/$size}"
            before=$(cpu_us "$side")
            redis-benchmark -p "${port[$side]}" -n "$count" -c 10 -P 16 -r "$size" -q "${words[@]}" >/dev/null 2>"$work/errors" </dev/null ||
                { echo "$side: $text: $(tail -1 "$work/errors")" >&2; exit 1; }
            awk -v d=$(($(cpu_us "$side") - before)) -v n="$count" -v c="$complexity" -v l="$line" \
                'BEGIN { printf "%s\t%s\t%.2f\n", l, c, d / n }'
        done < <(commands) >"$work/$side.$size"
    done
done

echo "| command | documented | RedRock us, $small | $((small * factor)) | Redis us, $small | $((small * factor)) | |"
echo '|---|---|---|---|---|---|---|'
paste "$work"/{ours,redis}."$small" "$work"/{ours,redis}.$((small * factor)) | awk -F '\t' '
    { ours = $9 / ($3 + 0.01); redis = $12 / ($6 + 0.01)
      mark = ours > 2.5 && ours > 1.3 * redis ? "!" : ""
      gsub(/_/, " of ", $2)
      printf "| `%s` | %s | %.2f | %.2f | %.2f | %.2f | %s |\n", $1, $2, $3, $9, $6, $12, mark }'
