//! Scripts about client-side caching; see the crate for their notation.

/// A script.
pub(crate) struct Script {
    /// What it is about, in reports.
    pub(crate) name: &'static str,
    /// Its lines.
    pub(crate) steps: &'static str,
}

pub(crate) const fn script(name: &'static str, steps: &'static str) -> Script {
    Script { name, steps }
}

/// Client-side caching.
pub(crate) const TRACKING: &[Script] = &[
    script(
        "default mode",
        "
        1 HELLO 3 SETNAME a
        1 CLIENT TRACKING ON
        1 CLIENT TRACKINGINFO
        1 CLIENT GETREDIR
        2 MSET a 1 b 1 c 1
        1 MGET a b none
        2 SET a 2
        1
        2 SET a 3
        1
        2 RPUSH none x
        1
        1 STRLEN b
        1 EXISTS c
        2 SELECT 1
        2 SET b 9
        1
        2 SELECT 0
        1 GET a
        1 INCR a
        1 INCR a
        1 GET c
        1 DEL c a
        1 TYPE b
        1 RENAME b d
        1 LRANGE none 0 -1
        2 EXPIRE none 100
        1
        1 LRANGE none 0 -1
        2 PERSIST none
        1
        1 TTL none
        1 OBJECT REFCOUNT none
        2 LPOP none
        1
        1 CLIENT TRACKING OFF
        1 GET d
        2 SET d 1
        1
        1 CLIENT TRACKINGINFO
        1 CLIENT GETREDIR
        ",
    ),
    script(
        "own changes",
        "
        1 HELLO 3
        1 CLIENT TRACKING ON
        1 SET a 1
        1 GET a
        1 SET a 2
        1 MGET a b c
        1 MSET a 1 b 2
        1 HSET h f 1
        1 HGET h f
        1 HDEL h f
        1! MULTI
        1! SET a 5
        1! GET a
        1! INCR a
        1! GET c
        1 EXEC
        1 CLIENT TRACKING ON NOLOOP
        1 GET a
        1 SET a 1
        2 SET a 2
        1
        1 GET a
        2 SET a 3
        1
        1 CLIENT TRACKINGINFO
        ",
    ),
    script(
        "redirect to a subscriber",
        "
        2 SUBSCRIBE __redis__:invalidate
        1 CLIENT TRACKING ON REDIRECT @2
        1 CLIENT GETREDIR
        1 CLIENT TRACKINGINFO
        1 GET a
        3 SET a 1
        2
        1 GET a
        1 INCR a
        2
        1 MGET a b
        3 MSET a 1 b 1
        2
        1 GET a
        3 FLUSHALL
        2
        1 GET a
        1 FLUSHDB
        2
        4 HELLO 3
        1 CLIENT TRACKING ON REDIRECT @4
        1 GET a
        3 SET a 1
        2
        4
        4 CLIENT TRACKING ON
        4 GET a
        1 GET a
        3 SET a 3
        4
        1 CLIENT TRACKING ON REDIRECT @3
        1 GET a
        3 SET a 3
        3
        1 CLIENT TRACKING ON REDIRECT 123456
        1 CLIENT TRACKING ON REDIRECT 0
        1 CLIENT TRACKING ON REDIRECT -1
        1 CLIENT TRACKING ON REDIRECT x
        1 CLIENT TRACKING ON REDIRECT
        1 CLIENT TRACKING ON REDIRECT @2 REDIRECT @3
        1 CLIENT GETREDIR
        ",
    ),
    script(
        "a broken redirect",
        "
        1 HELLO 3
        2 SUBSCRIBE __redis__:invalidate
        1 CLIENT TRACKING ON REDIRECT @2
        1 GET a
        3 CLIENT KILL ID @2 SKIPME NO
        3 SET a 1
        1
        1 CLIENT TRACKINGINFO
        1 GET a
        3 FLUSHALL
        1
        1 GET a
        1 SET a 2
        1 CLIENT TRACKING ON
        1 CLIENT TRACKINGINFO
        1 GET a
        3 SET a 1
        1
        ",
    ),
    script(
        "broadcast mode",
        "
        1 HELLO 3
        2 HELLO 3
        1 CLIENT TRACKING ON BCAST PREFIX foo: PREFIX bar:
        1 CLIENT TRACKINGINFO
        2 CLIENT TRACKING ON BCAST NOLOOP
        2 CLIENT TRACKINGINFO
        3 SET foo:1 1
        1
        2
        3 MSET foo:1 1 bar:2 2 other 3
        1
        2
        2 MSET foo:1 1 bar:2 2 other 3
        1
        2
        1! SET foo:2 x
        1
        2
        3! MULTI
        3! SET foo:3 1
        3! INCR foo:3
        3! SET foo:1 1
        3! SET none 1
        3 EXEC
        1
        2
        1 GET foo:1
        3 SET foo:1 2
        1
        3 FLUSHALL
        1
        2
        1 CLIENT TRACKING ON BCAST PREFIX fo
        1 CLIENT TRACKING ON BCAST PREFIX foo:bar
        1 CLIENT TRACKING ON BCAST PREFIX baz PREFIX ba
        1 CLIENT TRACKING ON BCAST PREFIX baz
        1 CLIENT TRACKINGINFO
        3 SET baz 1
        1
        1 CLIENT TRACKING ON
        1 CLIENT TRACKING OFF
        3 SET foo:1 1
        1
        2 CLIENT TRACKING OFF
        2 CLIENT TRACKING ON PREFIX a
        2 CLIENT TRACKING ON BCAST OPTIN
        2 CLIENT TRACKING ON BCAST OPTOUT
        4 SUBSCRIBE other
        3 CLIENT TRACKING ON BCAST REDIRECT @4
        3 MSET x 1 y 2
        4
        2 SET z 1
        4
        ",
    ),
    script(
        "opting in and out",
        "
        1 HELLO 3
        1 CLIENT CACHING YES
        1 CLIENT TRACKING ON OPTIN OPTOUT
        1 CLIENT TRACKING ON OPTIN
        1 CLIENT TRACKING ON OPTOUT
        1 CLIENT CACHING NO
        1 CLIENT CACHING x
        1 GET a
        2 SET a 1
        1
        1! CLIENT CACHING YES
        1! CLIENT TRACKINGINFO
        1! GET a
        1! GET b
        2 MSET a 1 b 1
        1
        1! CLIENT CACHING YES
        1! MULTI
        1! GET a
        1! GET b
        1! EXEC
        1! GET c
        2 MSET a 1 b 1 c 1
        1
        1! CLIENT CACHING YES
        1! nosuchcommand
        1! GET a
        2 SET a 1
        1
        1 CLIENT TRACKING OFF
        1 CLIENT TRACKING ON OPTOUT
        1 CLIENT TRACKING ON OPTIN
        1! CLIENT CACHING NO
        1! CLIENT TRACKINGINFO
        1! GET a
        1! GET b
        2 MSET a 2 b 2
        1
        1 CLIENT CACHING YES
        1 CLIENT CACHING
        1 CLIENT TRACKING
        1 CLIENT TRACKING x
        1 CLIENT TRACKING ON x
        ",
    ),
    script(
        "expiry",
        "
        1 HELLO 3
        1 CLIENT TRACKING ON NOLOOP
        1 CLIENT TRACKINGINFO
        2 SET a 1 PX 400
        1 GET a
        1<
        1 CLIENT TRACKING ON
        1 CLIENT TRACKING OFF
        1 CLIENT TRACKING ON BCAST NOLOOP
        1 SET b 1 PX 400
        1<
        ",
    ),
    script(
        "blocked clients",
        "
        1 HELLO 3
        1 CLIENT TRACKING ON
        2 RPUSH to a
        1 LRANGE to 0 -1
        1> BLMOVE from to LEFT LEFT 0
        ~ blocked 1
        2 RPUSH from x
        1<
        1<
        1 LRANGE to 0 -1
        1> BLPOP none 0
        ~ blocked 1
        2 DEL to
        1<
        2 RPUSH none x
        1<
        1> XREAD BLOCK 0 STREAMS s $
        ~ blocked 1
        2 XADD s 1-1 f v
        1<
        1<
        ",
    ),
    script(
        "reset and replies",
        "
        1 HELLO 3
        1 CLIENT TRACKING ON BCAST PREFIX a
        1! RESET
        1 CLIENT TRACKINGINFO
        1 HELLO 3
        2 SET a 1
        1
        1 CLIENT TRACKING ON
        1 GET a
        1> CLIENT REPLY OFF
        2 SET a 1
        1<
        1> GET a
        1> SET a 2
        1<
        1! CLIENT REPLY ON
        1> CLIENT REPLY SKIP
        1> GET b
        1 GET c
        2 MSET b 1 c 1
        1
        ",
    ),
];
