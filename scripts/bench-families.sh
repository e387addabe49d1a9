#!/usr/bin/env bash
# CPU time per request of redrock-server with its companions and of Redis, command by command: the
# same data, pipeline 16, one server after the other on the same machine. Prints Markdown tables
# with ratios and each family's median. Ratios matter, not the absolute figures.
# Usage: scripts/bench-families.sh [option of both servers...]
# REQUESTS: requests a command (60000); FAMILIES: only these, divided by blanks;
# OURS_OPTIONS: options of redrock-server alone, as one string.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/bench.sh
start_both "${PORT_OURS:-7103}" "${PORT_REDIS:-7104}" "$@"
requests=${REQUESTS:-60000}

# Scripts, by the words that stand for them: `@name` its text, `@@name` its digest.
declare -A script=(
    [one]='return 1'
    [table]='return {1, 2, 3, "four", {5, 6}}'
    [get]='return redis.call("GET", KEYS[1])'
    [set]='return redis.call("SET", KEYS[1], ARGV[1])'
    [ten]='for i = 1, 10 do redis.call("GET", KEYS[1]) end return 1'
    [sum]='local sum = 0 for i = 1, 100 do sum = sum + i end return sum'
    [json]='return cjson.encode(cjson.decode(ARGV[1]))'
)

# One line a command: family, share of the requests in percent, options of redis-benchmark up to
# `--` if there are some, the command. `__rand_int__` is a number of twelve digits below 10000, zeros
# first: no integer for commands that ask for one. Commands with ` ; ` between them are one request,
# sent by redis-cli, which does not wait for replies.
commands() {
    cat <<'LIST'
string 100 SET str:__rand_int__ value-of-some-length
string 100 GET str:__rand_int__
string 100 INCR counter:__rand_int__
string 100 INCRBYFLOAT float:__rand_int__ 1.5
string 100 APPEND appended:__rand_int__ x
string 100 GETRANGE str:__rand_int__ 2 8
string 100 SETRANGE ranged:__rand_int__ 4 abc
string 100 STRLEN str:__rand_int__
string 100 SETNX str:__rand_int__ other
string 100 GETSET str:__rand_int__ value-of-some-length
string 100 SETEX volatile:__rand_int__ 10000 value
string 50 MSET m1:__rand_int__ a m2:__rand_int__ b m3:__rand_int__ c m4:__rand_int__ d
string 50 MGET m1:__rand_int__ m2:__rand_int__ m3:__rand_int__ m4:__rand_int__
string 20 LCS str:000000000001 str:000000000002
bitmap 100 SETBIT bits 7000 1
bitmap 100 GETBIT bits 7000
bitmap 50 BITCOUNT bits
bitmap 50 BITPOS bits 0
bitmap 50 BITFIELD fields INCRBY u8 #3 1
bitmap 10 BITOP OR bits:to bits fields
key 100 EXISTS str:__rand_int__
key 100 TYPE str:__rand_int__
key 100 EXPIRE str:__rand_int__ 100000
key 100 TTL str:__rand_int__
key 100 PERSIST str:__rand_int__
key 100 TOUCH str:__rand_int__
key 100 OBJECT ENCODING str:__rand_int__
key 50 DUMP str:__rand_int__
key 50 COPY str:__rand_int__ copy:__rand_int__ REPLACE
key 50 RENAME renamed renamed
key 100 DEL copy:__rand_int__
key 20 SCAN __rand_int__
key 50 RANDOMKEY
key 20 SORT nums
key 20 SORT nums BY w:* GET #
hash 100 HSET hash:__rand_int__ field value
hash 100 HSET big field:__rand_int__ value
hash 100 HGET big field:__rand_int__
hash 100 HMGET hash:__rand_int__ field none
hash 100 HINCRBY counts field:__rand_int__ 1
hash 100 HEXISTS big field:__rand_int__
hash 100 HSTRLEN big field:__rand_int__
hash 100 HLEN big
hash 50 HGETALL h20
hash 50 HKEYS h20
hash 50 HRANDFIELD h20 3
hash 20 HSCAN big 0
hash 100 HDEL big field:__rand_int__
list 100 LPUSH list e:__rand_int__
list 100 RPUSH list e:__rand_int__
list 50 LRANGE list 0 9
list 20 LRANGE list 0 99
list 50 LINDEX list 100
list 50 LSET list 50 x
list 100 LLEN list
list 50 LINSERT l20 BEFORE none x
list 50 LPOS l20 e:9
list 50 LREM l20 1 none
list 50 LMOVE list list LEFT RIGHT
list 50 LTRIM list 0 100000
list 100 LPOP list
list 100 RPOP list
set 100 SADD set:__rand_int__ member
set 100 SADD set m:__rand_int__
set 100 SADD ints 1__rand_int__
set 100 SISMEMBER set m:__rand_int__
set 50 SMISMEMBER set m:__rand_int__ m:1 m:2
set 100 SCARD set
set 50 SRANDMEMBER set
set 20 SRANDMEMBER set 10
set 50 SMEMBERS s20
set 50 SINTER s20 s20b
set 50 SUNION s20 s20b
set 50 SDIFF s20 s20b
set 20 SINTERSTORE s20to s20 s20b
set 20 SSCAN set 0
set 50 SMOVE set set2 m:__rand_int__
set 100 SREM set m:__rand_int__
set 50 SPOP ints
zset 100 ZADD z __rand_int__ m:__rand_int__
zset 100 ZADD zset:__rand_int__ 1 member
zset 100 ZSCORE z m:__rand_int__
zset 100 ZINCRBY z 1 m:__rand_int__
zset 100 ZRANK z m:__rand_int__
zset 100 ZCARD z
zset 50 ZCOUNT z 100 __rand_int__
zset 50 ZRANGE z 0 9
zset 50 ZRANGE z 100 109 REV WITHSCORES
zset 50 ZRANGEBYSCORE z __rand_int__ +inf LIMIT 0 10
zset 50 ZRANGEBYLEX lex [m:000000000__rand_int__ + LIMIT 0 10
zset 50 ZMSCORE z m:__rand_int__ none
zset 20 ZRANDMEMBER z 5
zset 20 ZUNION 2 z20 z20b WITHSCORES
zset 20 ZINTERSTORE z20to 2 z20 z20b
zset 20 ZDIFF 2 z20 z20b
zset 20 ZSCAN z 0
zset 100 ZREM z m:__rand_int__
zset 50 ZPOPMIN z
zset 50 ZPOPMAX z
stream 100 XADD st * field value
stream 100 XADD capped MAXLEN ~ 1000 * field value other __rand_int__
stream 100 XLEN st
stream 50 XRANGE st - + COUNT 10
stream 20 XRANGE st - + COUNT 100
stream 50 XREVRANGE st + - COUNT 10
stream 50 XREAD COUNT 10 STREAMS st 0
stream 50 XREADGROUP GROUP g c COUNT 1 STREAMS st >
stream 50 XPENDING st g
stream 20 XPENDING st g - + 10
stream 50 XACK st g 1-1
stream 20 XAUTOCLAIM st g c 1000000 0 COUNT 10
stream 50 XINFO STREAM st
stream 20 XINFO GROUPS st
stream 50 XTRIM capped MAXLEN ~ 500
stream 50 XDEL st 1-1
hyperloglog 100 PFADD hll e:__rand_int__
hyperloglog 100 PFADD hll:__rand_int__ e
hyperloglog 50 PFCOUNT hll
hyperloglog 10 PFCOUNT hll hll2
hyperloglog 10 PFMERGE hll:to hll hll2
geo 100 GEOADD geo 13.36 38.11 m:__rand_int__
geo 50 GEOPOS geo m:__rand_int__
geo 50 GEOHASH geo m:__rand_int__
geo 50 GEODIST places a b
geo 20 GEOSEARCH places FROMLONLAT 15 37 BYRADIUS 200 km ASC COUNT 10
geo 20 GEORADIUS places 15 37 200 km WITHDIST
pubsub 100 PUBLISH channel message
pubsub 50 PUBSUB NUMSUB channel
pubsub 50 PUBSUB CHANNELS
connection 100 PING
connection 100 ECHO text
connection 50 SELECT 0
connection 50 CLIENT ID
connection 50 CLIENT GETNAME
connection 20 CLIENT INFO
connection 5 CLIENT LIST
server 50 COMMAND COUNT
server 20 COMMAND INFO get
server 50 COMMAND GETKEYS MSET a 1 b 2
server 50 DBSIZE
server 50 TIME
server 50 LASTSAVE
server 50 CONFIG GET maxmemory
server 20 CONFIG SET hz 11 ; CONFIG SET hz 12
server 50 SLOWLOG LEN
server 50 MEMORY USAGE h20
server 5 INFO server
script 50 EVAL @one 0
script 50 EVALSHA @@one 0
script 50 EVAL @table 0
script 50 EVAL @get 1 str:__rand_int__
script 50 EVALSHA @@get 1 str:__rand_int__
script 50 EVAL_RO @get 1 str:__rand_int__
script 50 EVAL @set 1 str:__rand_int__ value-of-some-length
script 20 EVAL @ten 1 str:__rand_int__
script 20 EVAL @sum 0
script 20 EVAL @json 0 {"a":[1,2,3],"b":"text"}
script 50 SCRIPT EXISTS @@one
script 50 FCALL one 0
script 50 FCALL get 1 str:__rand_int__
script 20 FUNCTION STATS
transaction 20 MULTI ; EXEC
transaction 20 MULTI ; SET str:__rand_int__ value ; GET str:__rand_int__ ; EXEC
transaction 5 MULTI ; INCR c1 ; INCR c2 ; INCR c3 ; INCR c4 ; LPUSH lt a ; RPOP lt ; HSET ht f v ; HGET ht f ; ZADD zt 1 m ; ZSCORE zt m ; EXEC
transaction 20 WATCH str:__rand_int__ ; MULTI ; SET str:__rand_int__ value ; EXEC
transaction 20 MULTI ; SET str:__rand_int__ value ; DISCARD
transaction 50 WATCH str:__rand_int__ ; UNWATCH
transaction 50 UNWATCH
acl 100 --user limited -a secret -- GET str:__rand_int__
acl 100 --user limited -a secret -- SET str:__rand_int__ value-of-some-length
acl 50 --user limited -a secret -- MGET str:__rand_int__ str:__rand_int__ str:__rand_int__
acl 100 --user limited -a secret -- HSET hash:__rand_int__ field value
acl 50 ACL WHOAMI
acl 10 ACL LIST
acl 10 ACL USERS
acl 10 ACL GETUSER limited
acl 20 ACL DRYRUN limited GET str:1
acl 10 ACL CAT
acl 10 ACL CAT string
tracking 100 -3 --enable-tracking -- GET str:__rand_int__
tracking 100 -3 --enable-tracking -- HGET big field:__rand_int__
tracking 50 -3 --enable-tracking -- MGET m1:__rand_int__ m2:__rand_int__ m3:__rand_int__ m4:__rand_int__
tracking 100 SET str:__rand_int__ value-of-some-length
LIST
}

# Fields that expire, which Redis 7.0 has not: share, command | command of ours beside it.
own_commands() {
    cat <<'LIST'
50 HEXPIRE big 100000 FIELDS 1 field:__rand_int__ | HSET big field:__rand_int__ value
50 HTTL big FIELDS 1 field:__rand_int__ | HGET big field:__rand_int__
50 HGET big field:__rand_int__ | HGET plain field:__rand_int__
50 HMGET big field:__rand_int__ field:1 | HMGET plain field:__rand_int__ field:1
50 HSET big field:__rand_int__ value | HSET plain field:__rand_int__ value
50 HSETEX big EX 100000 FIELDS 1 field:__rand_int__ value | HSET plain field:__rand_int__ value
50 HGETEX big EX 100000 FIELDS 1 field:__rand_int__ | HGET plain field:__rand_int__
50 HPERSIST big FIELDS 1 field:__rand_int__ | HGET plain field:__rand_int__
50 HEXPIRE h20 100000 FIELDS 1 f:7 | HSET h20b f:7 value-7
50 HGETALL h20 | HGETALL h20b
LIST
}

# Collections of twenty elements and the like; the same on both sides.
prepare() {
    local i
    for i in $(seq 20); do
        echo "HSET h20 f:$i value-$i"
        echo "HSET h20b f:$i value-$i"
        echo "RPUSH l20 e:$i"
        echo "SADD s20 m:$i"
        echo "SADD s20b m:$((i + 10))"
        echo "ZADD z20 $i m:$i"
        echo "ZADD z20b $i m:$((i + 10))"
        echo "RPUSH nums $(((i * 7) % 20))"
        echo "SET w:$i $(((i * 3) % 20))"
        echo "GEOADD places 1$((i % 5)).$i 37.$i p:$i"
        echo "PFADD hll2 x:$i"
    done
    for i in $(seq 1000 1999); do echo "ZADD lex 0 m:000000000$i"; done
    echo "GEOADD places 13.361389 38.115556 a 15.087269 37.502669 b"
    echo "SETRANGE bits 1300 x"
    echo "SET renamed value"
    echo "XADD st 1-1 field value"
    echo "XGROUP CREATE st g 0"
    echo "ACL SETUSER limited on >secret ~str:* ~hash:* +@all -@dangerous"
    echo "FUNCTION LOAD \"#!lua name=bench\\nredis.register_function('one', function() return 1 end)" \
        "redis.register_function('get', function(keys) return redis.call('GET', keys[1]) end)\""
    for i in "${!script[@]}"; do echo "SCRIPT LOAD '${script[$i]}'"; done
}

# Words of a command: scripts are put in.
expand() {
    local word parts
    read -r -a parts <<<"$1"
    words=()
    for word in "${parts[@]}"; do
        case $word in
            @@*) word=$(printf %s "${script[${word#@@}]}" | sha1sum | cut -d ' ' -f 1) ;;
            @*) word=${script[${word#@}]} ;;
        esac
        words+=("$word")
    done
}

# A command for the table: scripts in quotes.
shown() {
    local word words line=''
    expand "$1"
    for word in "${words[@]}"; do
        [[ $word != *' '* ]] || word="'$word'"
        line+=" $word"
    done
    printf '%s\n' "${line# }"
}

# Requests of several commands, COUNT times, as redis-cli --pipe sends them.
several() {
    awk -v line="$1" -v count="$2" '
        BEGIN {
            commands = split(line, command, / ; /)
            srand(1)
            for (n = 0; n < count; n++) {
                for (c = 1; c <= commands; c++) {
                    words = split(command[c], word, / /)
                    printf "*%d\r\n", words
                    for (w = 1; w <= words; w++) {
                        sub(/__rand_int__/, sprintf("%012d", rand() * 10000), word[w])
                        printf "$%d\r\n%s\r\n", length(word[w]), word[w]
                    }
                }
            }
        }'
}

# measure SIDE SHARE LINE: prints CPU microseconds a request.
measure() {
    local side=$1 count=$((requests * $2 / 100)) line=$3 before options=() words
    if [[ $line == *' ; '* ]]; then
        several "$line" "$count" >"$work/several"
        before=$(cpu_us "$side")
        redis-cli -p "${port[$side]}" --pipe <"$work/several" >"$work/errors" 2>&1 ||
            { echo "$side: $line: $(tail -1 "$work/errors")" >&2; return 1; }
    else
        if [[ $line == -* ]]; then
            read -r -a options <<<"${line%% -- *}"
            line=${line#* -- }
        fi
        expand "$line"
        before=$(cpu_us "$side")
        redis-benchmark -p "${port[$side]}" "${options[@]}" -n "$count" -c 10 -P 16 -r 10000 -q "${words[@]}" \
            >/dev/null 2>"$work/errors" </dev/null ||
            { echo "$side: $line: $(tail -1 "$work/errors")" >&2; return 1; }
    fi
    awk -v d=$(($(cpu_us "$side") - before)) -v n="$count" 'BEGIN { printf "%.3f\n", d / n }'
}

wanted() {
    [ -z "${FAMILIES:-}" ] || grep -qw "$1" <<<"$FAMILIES"
}

for side in ours redis; do
    prepare | redis-cli -p "${port[$side]}" >/dev/null
    while read -r family share line; do
        wanted "$family" || continue
        spent=$(measure "$side" "$share" "$line")
        printf '%s\t%s\t%s\n' "$family" "$(shown "$line")" "$spent"
    done < <(commands) >"$work/$side.tsv"
done
if wanted fields; then
    redis-cli -p "${port[ours]}" CONFIG SET rdb-version 12 >/dev/null
    redis-benchmark -p "${port[ours]}" -n 100000 -P 16 -r 10000 -q HSET big field:__rand_int__ value >/dev/null
    redis-benchmark -p "${port[ours]}" -n 100000 -P 16 -r 10000 -q HSET plain field:__rand_int__ value >/dev/null
    while read -r share line; do
        command=${line% | *} beside=${line#* | }
        plain=$(measure ours "$share" "$beside")
        spent=$(measure ours "$share" "$command")
        printf '%s\t%s\t%s\t%s\n' "$command" "$beside" "$spent" "$plain"
    done < <(own_commands) >"$work/own.tsv"
fi

paste "$work/ours.tsv" "$work/redis.tsv" | awk -F '\t' '
    { ratio = $6 > 0 ? $3 / $6 : 0
      if (!($1 in seen)) { seen[$1] = ++families; name[families] = $1 }
      count[$1]++; ratios[$1, count[$1]] = ratio
      rows[++lines] = sprintf("| %s | `%s` | %.2f | %.2f | %.2f |", $1, $2, $3, $6, ratio) }
    END {
      print "| family | command | RedRock us | Redis us | ratio |"
      print "|---|---|---|---|---|"
      for (i = 1; i <= lines; i++) print rows[i]
      print ""
      print "| family | commands | median ratio |"
      print "|---|---|---|"
      for (f = 1; f <= families; f++) {
        n = count[name[f]]
        for (i = 1; i <= n; i++) sorted[i] = ratios[name[f], i]
        for (i = 2; i <= n; i++) {
          x = sorted[i]
          for (j = i - 1; j >= 1 && sorted[j] > x; j--) sorted[j + 1] = sorted[j]
          sorted[j + 1] = x
        }
        median = n % 2 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2
        printf "| %s | %d | %.2f |\n", name[f], n, median
      }
    }'
[ ! -s "$work/own.tsv" ] || awk -F '\t' '
    BEGIN {
      print "\n| command of fields that expire | us | beside our own | us | ratio |"
      print "|---|---|---|---|---|"
    }
    { printf "| `%s` | %.2f | `%s` | %.2f | %.2f |\n", $1, $3, $2, $4, ($4 > 0 ? $3 / $4 : 0) }' "$work/own.tsv"
