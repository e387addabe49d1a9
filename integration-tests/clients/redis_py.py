"""redis-py against a server on a port.

Its client-side cache asks for Redis 7.4; node_redis.mjs has one that does not.
"""

import threading

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from suite import PASSWORD, PORT, SCRIPTS, check, main, raises, until


def connect(protocol=2, **named):
    named.setdefault("password", PASSWORD)
    # Without retries: an error is an error.
    once = Retry(NoBackoff(), 0)
    return redis.Redis(port=PORT, protocol=protocol, socket_timeout=20, retry=once, **named)


BOTH = [connect(2), connect(3)]
ALL_BYTES = bytes(range(256))


@check
def connections_and_passwords():
    for r in BOTH:
        assert r.ping() is True
        assert r.echo(ALL_BYTES) == ALL_BYTES
    raises(redis.AuthenticationError, connect(password=None).ping)
    raises(redis.AuthenticationError, connect(3, password="wrong").ping)
    hello = BOTH[1].execute_command("HELLO", 3)
    assert hello[b"proto"] == 3 and hello[b"role"] == b"master", hello
    named = connect(3, client_name="suite", db=5)
    assert named.client_getname() in ("suite", b"suite")
    mine = [c for c in BOTH[0].client_list() if c["name"] == "suite"]
    assert mine[0]["db"] == "5" and mine[0]["lib-name" if "lib-name" in mine[0] else "name"], mine
    assert int(BOTH[0].info("clients")["connected_clients"]) >= 3
    assert BOTH[0].config_get("maxmemory*")["maxmemory-policy"]


@check
def pipelines():
    for r in BOTH:
        r.flushdb()
        pipe = r.pipeline(transaction=False)
        for i in range(2000):
            pipe.set(f"k{i}", i)
            pipe.incrby(f"k{i}", 5)
        answers = pipe.execute()
        assert answers[1::2] == list(range(5, 2005)) and all(answers[::2])
        pipe = r.pipeline(transaction=False)
        pipe.get("k1").lpush("k1", "x").get("k2")
        answers = pipe.execute(raise_on_error=False)
        assert answers[0] == b"6" and answers[2] == b"7"
        assert "WRONGTYPE" in str(answers[1]), answers


@check
def transactions_with_watch():
    for r in BOTH:
        r.set("balance", 10)
        with r.pipeline() as pipe:
            pipe.watch("balance")
            value = int(pipe.get("balance"))
            r.set("balance", 99)
            pipe.multi()
            pipe.set("balance", value + 1)
            raises(redis.WatchError, pipe.execute)
        assert r.get("balance") == b"99"

        def double(pipe):
            value = int(pipe.get("balance"))
            pipe.multi()
            pipe.set("balance", value * 2)
            pipe.get("balance")

        assert r.transaction(double, "balance") == [True, b"198"]
        pipe = r.pipeline().set("a", 1).execute_command("NOSUCH").set("b", 1)
        raises(redis.ResponseError, pipe.execute)
        assert r.exists("b") == 0


@check
def publish_and_subscribe():
    for r in BOTH:
        subscriber = r.pubsub()
        subscriber.subscribe("news", ALL_BYTES)
        subscriber.psubscribe("n?ws*")
        got = [subscriber.get_message(timeout=20) for _ in range(3)]
        assert [m["type"] for m in got] == ["subscribe", "subscribe", "psubscribe"], got
        assert r.publish("news", "hello") == 2
        got = [subscriber.get_message(timeout=20) for _ in range(2)]
        assert sorted(m["type"] for m in got) == ["message", "pmessage"], got
        assert r.publish(ALL_BYTES, ALL_BYTES) == 1
        assert subscriber.get_message(timeout=20)["data"] == ALL_BYTES
        assert r.pubsub_numsub("news") == [(b"news", 1)] and r.pubsub_numpat() == 1
        subscriber.ssubscribe("shard")
        assert subscriber.get_message(timeout=20)["type"] == "ssubscribe"
        assert r.spublish("shard", "x") == 1
        assert subscriber.get_message(timeout=20)["type"] == "smessage"
        subscriber.unsubscribe()
        subscriber.punsubscribe()
        subscriber.close()


@check
def blocking_calls():
    for r in BOTH:
        r.delete("queue", "other", "scores")
        assert r.blpop(["queue", "other"], timeout=0.05) is None
        taken = []
        waiter = threading.Thread(
            target=lambda: taken.append(r.blpop(["queue", "other"], timeout=20))
        )
        waiter.start()
        until(lambda: r.info("clients")["blocked_clients"] == 1, "BLPOP waits")
        r.rpush("other", "x", "y")
        waiter.join()
        assert tuple(taken[0]) == (b"other", b"x"), taken
        waiter = threading.Thread(
            target=lambda: taken.append(r.bzpopmin("scores", timeout=20))
        )
        waiter.start()
        until(lambda: r.info("clients")["blocked_clients"] == 1, "BZPOPMIN waits")
        r.zadd("scores", {"m": 1.5})
        waiter.join()
        assert tuple(taken[1]) == (b"scores", b"m", 1.5), taken
        assert r.blmove("other", "queue", 1, "LEFT", "RIGHT") == b"y"
        assert r.lmpop(1, "queue", direction="LEFT") == [b"queue", [b"y"]]


@check
def iterators():
    for r in BOTH:
        r.flushdb()
        pipe = r.pipeline(transaction=False)
        for i in range(3000):
            pipe.set(f"key:{i}", i)
            pipe.hset("hash", f"f{i}", i)
            pipe.sadd("set", i)
            pipe.zadd("zset", {f"m{i}": i})
        pipe.execute()
        assert len(set(r.scan_iter("key:*", count=100))) == 3000
        assert set(r.scan_iter(_type="zset")) == {b"zset"}
        assert dict(r.hscan_iter("hash", count=100)) == {b"f%d" % i: b"%d" % i for i in range(3000)}
        assert set(r.sscan_iter("set", count=100)) == {b"%d" % i for i in range(3000)}
        assert dict(r.zscan_iter("zset", count=100)) == {b"m%d" % i: float(i) for i in range(3000)}


@check
def streams_and_groups():
    for r in BOTH:
        r.delete("stream")
        ids = [r.xadd("stream", {"n": i, ALL_BYTES: ALL_BYTES}) for i in range(10)]
        assert r.xgroup_create("stream", "group", id="0") is True
        raises(redis.ResponseError, r.xgroup_create, "stream", "group")

        def read(consumer, count, since=">"):
            reply = r.xreadgroup("group", consumer, {"stream": since}, count=count)
            found = reply[b"stream"][0] if isinstance(reply, dict) else reply[0][1]
            return [entry for entry, _ in found]

        assert read("one", 4) == ids[:4]
        assert read("two", 3) == ids[4:7]
        assert r.xack("stream", "group", *ids[:2]) == 2
        assert r.xpending("stream", "group")["pending"] == 5
        pending = r.xpending_range("stream", "group", "-", "+", 10, consumername="one")
        assert [p["message_id"] for p in pending] == ids[2:4]
        claimed = r.xautoclaim("stream", "group", "three", 0, count=10)
        assert [entry for entry, _ in claimed[1]] == ids[2:7]
        assert read("three", 10, since="0") == ids[2:7]
        assert r.xinfo_stream("stream")["length"] == 10
        assert r.xinfo_groups("stream")[0]["lag"] == 3
        assert {c["name"] for c in r.xinfo_consumers("stream", "group")} == {b"one", b"two", b"three"}
        assert r.xtrim("stream", maxlen=3, approximate=False) == 7
        entry, fields = r.xrange("stream")[0]
        assert entry == ids[7] and fields[ALL_BYTES] == ALL_BYTES


@check
def typed_replies():
    for r in BOTH:
        r.delete("geo", "hll", "bits", "z", "s", "h")
        r.geoadd("geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"))
        assert abs(r.geodist("geo", "Palermo", "Catania", "km") - 166.2742) < 0.001
        found = r.geosearch("geo", longitude=15, latitude=37, radius=200, unit="km", sort="ASC")
        assert found == [b"Catania", b"Palermo"]
        r.pfadd("hll", *range(1000))
        assert 950 < r.pfcount("hll") < 1050
        r.setbit("bits", 100, 1)
        assert r.bitcount("bits") == 1 and r.bitpos("bits", 1) == 100
        assert r.bitfield("bits").incrby("u8", 0, 255).incrby("u8", 0, 1).execute() == [255, 0]
        r.zadd("z", {"a": 1, "b": float("inf")})
        scores = [tuple(pair) for pair in r.zrange("z", 0, -1, withscores=True)]
        assert scores == [(b"a", 1.0), (b"b", float("inf"))]
        assert r.zscore("z", "none") is None
        r.hset("h", mapping={"x": 1, "y": ""})
        assert r.hgetall("h") == {b"x": b"1", b"y": b""}
        r.sadd("s", "m")
        assert r.smembers("s") == {b"m"}
        assert r.type("h") == b"hash" and r.object("encoding", "h") in (b"listpack", b"ziplist")
        assert r.set("e", 1, px=100_000) is True and 90 < r.ttl("e") <= 100
        assert r.expire("e", 50, gt=True) in (0, False) and r.persist("e") is True
        r.rpush("l", 3, 1, 2)
        assert r.sort("l") == [b"1", b"2", b"3"]
        dump = r.dump("h")
        assert r.restore("copy", 0, dump, replace=True) and r.hgetall("copy") == r.hgetall("h")
        assert r.memory_usage("h") > 0 and r.command_count() > 200
        assert "get" in r.command() and r.lastsave()
        r.delete("l")


@check
def large_and_binary_values():
    big = ALL_BYTES * (64 * 1024)
    for r in BOTH:
        assert r.set("big", big) is True and r.strlen("big") == len(big)
        assert r.get("big") == big
        assert r.getrange("big", len(big) - 256, -1) == ALL_BYTES
        r.set(ALL_BYTES, ALL_BYTES)
        assert r.get(ALL_BYTES) == ALL_BYTES
        r.set("empty", b"")
        assert r.get("empty") == b"" and r.get("none") is None
        r.delete("list")
        r.rpush("list", big[:100_000], b"", ALL_BYTES)
        assert r.lrange("list", 0, -1) == [big[:100_000], b"", ALL_BYTES]
        r.delete("big", "list")


@check
def users():
    r = BOTH[0]
    r.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["open:*"], commands=["+get"])
    reader = connect(3, username="reader", password="pw")
    r.set("open:x", 1)
    assert reader.get("open:x") == b"1"
    raises(redis.exceptions.NoPermissionError, reader.get, "closed")
    raises(redis.exceptions.NoPermissionError, reader.set, "open:x", 2)
    assert "reader" in r.acl_users()
    assert r.acl_deluser("reader") == 1


@check
def scripts():
    if not SCRIPTS:
        return "the server has no scripts"
    for r in BOTH:
        script = r.register_script("redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])")
        r.script_flush()
        # EVALSHA fails, SCRIPT LOAD, EVALSHA.
        assert script(keys=["s"], args=[ALL_BYTES]) == ALL_BYTES
        assert r.script_exists(script.sha) == [True]
        assert r.eval("return {1, 'two', {3, false}}", 0) == [1, b"two", [3, None]]
        error = raises(redis.ResponseError, r.eval, "return redis.error_reply('MINE x')", 0)
        assert "x" in str(error)
        with r.lock("lock", timeout=10):
            assert r.exists("lock") == 1
            assert not r.lock("lock").acquire(blocking=False)
        assert r.exists("lock") == 0


main()
