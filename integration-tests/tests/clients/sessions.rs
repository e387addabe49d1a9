//! What clients do to each other besides caching: names, kills, pauses, messages, MONITOR.

use super::scripts::{Script, script};

/// See the module.
pub(crate) const SESSIONS: &[Script] = &[
    script(
        "names and sessions",
        "
        1 CLIENT GETNAME
        1 CLIENT SETNAME a
        1 CLIENT GETNAME
        1 CLIENT SETNAME a\tb
        1 CLIENT SETNAME
        1 HELLO 3 SETNAME b
        1 CLIENT GETNAME
        1 HELLO
        1 HELLO 2
        1 HELLO 4
        1 HELLO x
        1 HELLO 3 SETNAME
        1 HELLO 3 AUTH a
        1 HELLO 3 AUTH default wrong
        1 HELLO 2 nope
        1 CLIENT NO-EVICT ON
        1 CLIENT NO-EVICT OFF
        1 CLIENT NO-EVICT x
        1 CLIENT NO-EVICT
        1 CLIENT ID
        1 CLIENT ID x
        1 CLIENT INFO x
        1 CLIENT LIST x
        1 CLIENT LIST TYPE
        1 CLIENT LIST TYPE nope
        1 CLIENT LIST TYPE replica
        1 CLIENT LIST TYPE slave
        1 CLIENT LIST TYPE master
        1 CLIENT LIST TYPE pubsub
        1 CLIENT LIST ID
        1 CLIENT LIST ID x
        1 CLIENT LIST ID 0
        1 CLIENT LIST ID 99999999 99999998
        1 CLIENT LIST ID @2 x
        1 CLIENT nope
        1 CLIENT
        1 CLIENT GETREDIR x
        1 SELECT 3
        1! MULTI
        1! SET a 1
        1! RESET
        1! EXEC
        1 CLIENT GETNAME
        1 DBSIZE
        2 WATCH w
        2! MULTI
        3 SET w 1
        2! EXEC
        2 WATCH w
        2! RESET
        3 SET w 2
        2! MULTI
        2! PING
        2! EXEC
        ",
    ),
    script(
        "killing",
        "
        1 CLIENT KILL
        1 CLIENT KILL nope
        1 CLIENT KILL ID
        1 CLIENT KILL ID x
        1 CLIENT KILL ID 0
        1 CLIENT KILL ID -1
        1 CLIENT KILL ID 99999999
        1 CLIENT KILL ID @2 nope
        1 CLIENT KILL ID @2 TYPE
        1 CLIENT KILL TYPE nope
        1 CLIENT KILL TYPE pubsub
        1 CLIENT KILL USER nobody
        1 CLIENT KILL USER default ID 99999999
        1 CLIENT KILL SKIPME maybe
        1 CLIENT KILL ADDR 1.2.3.4:5
        1 CLIENT KILL LADDR 1.2.3.4:5
        1 CLIENT KILL ID @1
        1 CLIENT KILL ID @1 SKIPME YES
        2 SUBSCRIBE c
        1 CLIENT KILL TYPE pubsub
        1 PUBSUB NUMSUB c
        1 CLIENT KILL ID @3
        1 CLIENT LIST ID @3
        1! CLIENT KILL ID @1 SKIPME NO
        4 CLIENT LIST ID @1 @2 @3
        ",
    ),
    script(
        "unblocking",
        "
        1 CLIENT UNBLOCK
        1 CLIENT UNBLOCK x
        1 CLIENT UNBLOCK @2
        1 CLIENT UNBLOCK 99999999
        1 CLIENT UNBLOCK @2 nope
        1 CLIENT UNBLOCK @2 TIMEOUT x
        2> BLPOP a 0
        ~ blocked 1
        1 CLIENT UNBLOCK @2
        2<
        2> BLMOVE a b LEFT LEFT 0
        ~ blocked 1
        1 CLIENT UNBLOCK @2 TIMEOUT
        2<
        2> BZMPOP 0 1 z MIN
        ~ blocked 1
        1 CLIENT UNBLOCK @2 ERROR
        2<
        2> XREAD BLOCK 0 STREAMS s $
        ~ blocked 1
        1 CLIENT UNBLOCK @2
        2<
        2 HELLO 3
        2> BLPOP a 0
        ~ blocked 1
        1 CLIENT UNBLOCK @2
        2<
        2> WAIT 1 0
        ~ blocked 1
        1 CLIENT UNBLOCK @2
        2<
        2> WAIT 1 0
        ~ blocked 1
        1 CLIENT UNBLOCK @2 error
        2<
        ",
    ),
    script(
        "pausing",
        "
        1 CLIENT PAUSE
        1 CLIENT PAUSE x
        1 CLIENT PAUSE -1
        1 CLIENT PAUSE 1 nope
        1 CLIENT PAUSE 1 WRITE x
        1 CLIENT UNPAUSE x
        1 CLIENT UNPAUSE
        1! MULTI
        1! SET gone 1 PX 1
        1! SET b 1
        1! CLIENT PAUSE 100000 WRITE
        1! SET a 1
        1! EXEC
        1 GET a
        2> SET a 2
        ~ blocked 1
        1 GET a
        3! MULTI
        3! GET a
        3 EXEC
        3! MULTI
        3> INCR b
        ~ blocked 2
        1 CLIENT UNPAUSE
        2<
        3<
        1! CLIENT PAUSE 200 ALL
        4! GET b
        ",
    ),
    script(
        "pausing for a while",
        "
        1 SET a 1
        1 CLIENT PAUSE 200 WRITE
        2> PUBLISH c x
        3> PFCOUNT h
        4> SET a 2
        ~ blocked 3
        2<
        3<
        4<
        1 GET a
        1 CLIENT PAUSE 100000 WRITE
        2> SET a 3
        ~ blocked 1
        1 CLIENT UNPAUSE
        2<
        ",
    ),
    script(
        "messages in any reply mode",
        "
        1 HELLO 3
        1> CLIENT REPLY OFF
        1> SUBSCRIBE a
        1<
        1> PSUBSCRIBE a* b*
        1<
        1<
        2 PUBLISH a hi
        1<
        1<
        1> SSUBSCRIBE s
        1<
        2 SPUBLISH s hi
        1<
        1> SUNSUBSCRIBE s
        1<
        1> UNSUBSCRIBE a
        1<
        1> GET x
        1! CLIENT REPLY ON
        1 CLIENT REPLY nope
        1> CLIENT REPLY SKIP
        1> GET x
        1 GET y
        ",
    ),
    script(
        "shard channels",
        "
        1 SSUBSCRIBE a b
        2 SPUBLISH a hi
        1
        2 PUBLISH a hi
        1
        2 PUBSUB SHARDCHANNELS a*
        2 PUBSUB SHARDNUMSUB a b c
        2 PUBSUB SHARDNUMSUB
        2 PUBSUB CHANNELS
        2 PUBSUB NUMSUB a
        2 PUBSUB NUMPAT
        2 PUBSUB nope
        2 PUBSUB
        1 GET a
        1 SUBSCRIBE c
        1 SUNSUBSCRIBE a
        2 SPUBLISH a hi
        1
        1 SUNSUBSCRIBE
        1 SUNSUBSCRIBE
        1 UNSUBSCRIBE
        1 UNSUBSCRIBE
        1 GET a
        1! MULTI
        1! SPUBLISH a x
        1! EXEC
        3 HELLO 3
        3 SSUBSCRIBE a
        3 GET x
        3 SPUBLISH
        3 SSUBSCRIBE
        ",
    ),
    script(
        "events of keys",
        "
        2 HELLO 3
        2 PSUBSCRIBE __key*
        1 CONFIG SET notify-keyspace-events KEAmn
        1 GET none
        1 MGET none x
        1 EXISTS none
        1 SET a 1
        1 SET a 2 EX 100
        1 INCR a
        1 EXPIRE a 50
        1 PERSIST a
        1 RENAME a b
        1 COPY b c
        1 RPUSH l x y
        1 LMOVE l m LEFT RIGHT
        1 LPOP l
        1 SADD s a b
        1 SMOVE s t a
        1 SINTERSTORE u s s
        1 HSET h f 1
        1 HINCRBY h f 2
        1 HDEL h f
        1 ZADD z 1 m
        1 ZINCRBY z 1 m
        1 ZRANGESTORE y z 0 -1
        1 ZREM z m
        1 XADD x 1-1 f v
        1 XTRIM x MAXLEN 0
        1 XGROUP CREATE x g $
        1 SETRANGE r 2 x
        1 APPEND r x
        1 SETBIT bits 9 1
        1 BITOP NOT not bits
        1 PFADD hll a
        1 MOVE b 1
        1 DEL c m t u
        1 UNLINK y
        1 GETDEL r
        1 FLUSHALL
        2
        1 CONFIG SET notify-keyspace-events Kgd
        1 CONFIG GET notify-keyspace-events
        1 SET a 1
        1 DEL a
        2
        1 CONFIG SET notify-keyspace-events KEq
        1 CONFIG SET notify-keyspace-events AKE
        1 CONFIG GET notify-keyspace-events
        1 GET none
        2
        1 SET e 1 PX 20
        2
        2<
        2<
        ",
    ),
    script(
        "monitor",
        "
        1 MONITOR
        2 SET a \u{1}\"\u{ff}\\
        1
        2! MULTI
        2! INCR n
        2! GET a
        2! EXEC
        1
        2! MULTI
        2! nosuch
        2! SET
        2! EXEC
        1
        2 AUTH secret
        2 AUTH a b
        2 HELLO 3 AUTH default secret
        2 CONFIG GET nothing
        2 CLIENT SETNAME x
        2 SELECT 2
        2 GET a
        3 SELECT 2
        2> BLPOP list 0
        3 RPUSH list x
        2<
        1
        1 MONITOR
        1! RESET
        2 GET a
        1
        ",
    ),
];
