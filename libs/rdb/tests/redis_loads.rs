//! A real Redis loads what we write, and finds in it what it saved itself.
//!
//! The digests are Redis's own (`DEBUG DIGEST`), over all keys and values. The
//! tests skip, saying so, where `redis-server` is not installed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::redis::{Redis, Reply};
use common::{corpus, entries_of, read_items, rewrite};
use redrock_rdb::dump;
use redrock_rdb::file::{Item, ReaderOptions};
use redrock_rdb::object::{Object, Target, decode, normalize, transcode, types};

const ZERO_DIGEST: &str = "0000000000000000000000000000000000000000";

#[test]
fn redis_finds_the_corpus_in_what_we_write() {
    let Some(cases) = corpus() else { return };
    let Some(mut redis) = Redis::start("corpus") else {
        return;
    };
    for case in &cases {
        let items = read_items(&case.rdb, ReaderOptions::default()).unwrap();
        let has_field_expiry = items.iter().any(
            |item| matches!(item, Item::Entry(entry) if entry.object_type == types::HASH_METADATA),
        );
        if has_field_expiry {
            let kept =
                read_items(&rewrite(&items, 10, true, true), ReaderOptions::default()).unwrap();
            assert!(entries_of(kept).is_empty(), "{}", case.name);
            continue;
        }
        redis.load(&case.rdb);
        let digest = redis.digest();
        for (compress, checksum) in [(true, true), (false, true), (true, false)] {
            redis.line("FLUSHALL");
            redis.load(&rewrite(&items, 10, compress, checksum));
            assert_eq!(redis.digest(), digest, "{} compress {compress}", case.name);
        }
        redis.line("DEBUG RELOAD");
        assert_eq!(redis.digest(), digest, "{} reloaded", case.name);
    }
}

/// Fills a server with every type in every encoding of Redis 7.0.
fn fill(redis: &mut Redis) {
    redis.line("CONFIG SET maxmemory-policy allkeys-lfu");
    for (key, value) in [
        ("int", "-5"),
        ("int16", "300"),
        ("int32", "70000"),
        ("raw", "hello"),
    ] {
        redis.call(&["SET", key, value]);
    }
    redis.line("SET int64 12345678901234567");
    redis.call(&["SET", "long", &"compress me ".repeat(1000)]);
    redis.call(&[
        b"SET".as_slice(),
        b"binary \x00\xff",
        &[0, 0xff, b'\r', b'\n'],
    ]);
    redis.line("SET empty x");
    redis.call(&["SET", "empty", ""]);
    redis.line("SET expires v PXAT 4102444800123");
    redis.line("RPUSH list:small a 1 -70000 b");
    redis.line("HSET hash:small f v n 12 big 12345678901");
    redis.line("SADD set:int 1 2 -3");
    redis.line("SADD set:int32 1 70000");
    redis.line("SADD set:int64 1 5000000000");
    redis.line("SADD set:small a 1 c");
    redis.line("ZADD zset:small 1.5 a -inf b inf c 3 d 0.1 e");
    for index in 0..600 {
        let text = format!("element:{index:0>40}");
        redis.call(&["RPUSH", "list:large", &text]);
        redis.call(&["SADD", "set:large", &text]);
        redis.call(&["SADD", "set:large:int", &(index * 1000).to_string()]);
        redis.call(&["HSET", "hash:large", &text, &index.to_string()]);
        redis.call(&[
            "ZADD",
            "zset:large",
            &format!("{}", f64::from(index) / 7.0),
            &text,
        ]);
    }
    redis.call(&["RPUSH", "list:huge", &"x".repeat(100_000), "y"]);
    redis.line("DEBUG QUICKLIST-PACKED-THRESHOLD 100b");
    redis.call(&["RPUSH", "list:plain", &"z".repeat(5000), "small", "17"]);
    redis.line("DEBUG QUICKLIST-PACKED-THRESHOLD 0");
    fill_streams(redis);
    redis.line("SELECT 5");
    redis.line("SET other:database 1");
    redis.line("PEXPIREAT other:database 4102444800999");
    redis.line("SELECT 0");
    let code = "#!lua name=mylib\nredis.register_function('f', function() return 7 end)";
    redis.call(&["FUNCTION", "LOAD", code]);
}

fn fill_streams(redis: &mut Redis) {
    for index in 1..=250 {
        let id = format!("{index}-1");
        redis.call(&[
            "XADD",
            "stream",
            &id,
            "field",
            &format!("value {index}"),
            "n",
            "5",
        ]);
    }
    redis.line("XADD stream 251-1 other x more y");
    redis.line("XDEL stream 3-1 4-1 251-1");
    redis.line("XGROUP CREATE stream readers 0 ENTRIESREAD 3");
    redis.line("XGROUP CREATE stream idle $");
    redis.line("XREADGROUP GROUP readers alice COUNT 5 STREAMS stream >");
    redis.line("XREADGROUP GROUP readers bob COUNT 3 STREAMS stream >");
    redis.line("XGROUP CREATECONSUMER stream readers carol");
    redis.line("XACK stream readers 2-1");
    redis.line("XADD stream:empty 1-1 a b");
    redis.line("XDEL stream:empty 1-1");
}

/// What `DEBUG DIGEST` does not look at.
fn state_beside_digest(redis: &mut Redis) -> Vec<Reply> {
    let commands = [
        "XINFO STREAM stream FULL COUNT 0",
        "XINFO STREAM stream:empty FULL",
        "PEXPIRETIME expires",
        "FUNCTION LIST WITHCODE",
        "OBJECT ENCODING set:int64",
        "OBJECT ENCODING hash:small",
        "OBJECT ENCODING zset:large",
        "LRANGE list:plain 0 -1",
        "DBSIZE",
    ];
    commands.iter().map(|command| redis.line(command)).collect()
}

#[test]
fn redis_finds_its_own_data_set_in_what_we_write() {
    let Some(mut redis) = Redis::start("own") else {
        return;
    };
    fill(&mut redis);
    redis.line("SAVE");
    let saved = std::fs::read(redis.dump_path()).unwrap();
    redis.load(&saved);
    let digest = redis.digest();
    assert_ne!(digest, ZERO_DIGEST);
    let state = state_beside_digest(&mut redis);

    let mut found: Vec<u8> = Vec::new();
    for normalize in [true, false] {
        let options = ReaderOptions {
            normalize,
            ..ReaderOptions::default()
        };
        let items = read_items(&saved, options).unwrap();
        for (_, entry) in entries_of(items.clone()) {
            assert!(entry.frequency.is_some(), "LFU counters are saved");
            found.push(entry.object_type);
        }
        for compress in [true, false] {
            redis.line("FLUSHALL");
            redis.line("FUNCTION FLUSH");
            redis.load(&rewrite(&items, 10, compress, true));
            assert_eq!(
                redis.digest(),
                digest,
                "normalize {normalize} compress {compress}"
            );
            assert_eq!(state_beside_digest(&mut redis), state);
        }
    }
    for object_type in [0, 2, 4, 5, 11, 16, 17, 18, 19] {
        assert!(
            found.contains(&object_type),
            "Redis wrote no type {object_type}"
        );
    }
    redis.line("DEBUG RELOAD");
    assert_eq!(redis.digest(), digest);
}

#[test]
fn an_uncompressed_file_is_redis_s_own_byte_for_byte() {
    let Some(mut redis) = Redis::start("bytes") else {
        return;
    };
    fill(&mut redis);
    redis.line("CONFIG SET rdbcompression no");
    redis.line("SAVE");
    let saved = std::fs::read(redis.dump_path()).unwrap();
    // Not normalized, a stream of Redis 7.0 need not gain and lose a time.
    let options = ReaderOptions {
        normalize: false,
        ..ReaderOptions::default()
    };
    let items = read_items(&saved, options).unwrap();
    assert_eq!(rewrite(&items, 10, false, true), saved);
    // Through the superset form, too.
    let items = read_items(&saved, ReaderOptions::default()).unwrap();
    assert_eq!(rewrite(&items, 10, false, true), saved);
    // And through decoded objects, but for lists, whose nodes we do not split.
    for (_, entry) in entries_of(items) {
        let object = decode(entry.object_type, &entry.payload).unwrap();
        let mut again = Vec::new();
        object.encode(&mut again);
        assert_eq!(again, entry.payload, "{}", entry.key.escape_ascii());
    }
}

#[test]
fn dump_and_restore_work_both_ways() {
    let Some(mut redis) = Redis::start("dump") else {
        return;
    };
    fill(&mut redis);
    // The digest of a value tells an expiry, which is no part of the payload.
    redis.line("PERSIST expires");
    let Reply::Array(keys) = redis.line("KEYS *") else {
        panic!("no keys")
    };
    assert!(keys.len() > 20);
    for key in keys {
        let key = key.bulk();
        let payload = redis.call(&[b"DUMP".as_slice(), &key]).bulk();
        let (object_type, body) = dump::verify(&payload).unwrap();
        let normal = normalize(object_type, body).unwrap();
        let object = decode(normal.object_type, &normal.payload).unwrap();
        let mut encoded = Vec::new();
        object.encode(&mut encoded);
        let mut body = Vec::new();
        let target = Target {
            version: 10,
            compress: true,
        };
        let transcoded = transcode(object.object_type(), &encoded, target, &mut body).unwrap();
        let mut ours = Vec::new();
        dump::write(&mut ours, transcoded.object_type, &body, 10);
        redis.call(&[b"RESTORE".as_slice(), b"copy", b"0", &ours, b"REPLACE"]);
        let digests = redis.call(&[b"DEBUG".as_slice(), b"DIGEST-VALUE", &key, b"copy"]);
        let Reply::Array(digests) = digests else {
            panic!("no digests")
        };
        assert_eq!(digests[0], digests[1], "{}", key.escape_ascii());
        // A damaged one is refused by both, with the same words.
        let last = ours.len() - 1;
        ours[last] ^= 1;
        let Reply::Error(theirs) = redis.try_call(&[b"RESTORE".as_slice(), b"bad", b"0", &ours])
        else {
            panic!("accepted")
        };
        assert_eq!(theirs, format!("ERR {}", dump::verify(&ours).unwrap_err()));
    }
}

#[test]
fn types_of_later_versions_reach_redis_7_0_in_its_own() {
    let Some(mut redis) = Redis::start("later") else {
        return;
    };
    let members = [
        "a",
        "17",
        "a member that is long enough for a compressor aaaaaaaaaaaaaaaa",
    ];
    let small_set = Object::SetListpack(members.iter().collect());
    let mut payload = Vec::new();
    small_set.encode(&mut payload);
    for compress in [true, false] {
        let mut body = Vec::new();
        let target = Target {
            version: 10,
            compress,
        };
        let transcoded = transcode(types::SET_LISTPACK, &payload, target, &mut body).unwrap();
        assert_eq!(
            (transcoded.object_type, transcoded.copied),
            (types::SET, false)
        );
        let mut ours = Vec::new();
        dump::write(&mut ours, transcoded.object_type, &body, 10);
        redis.call(&[b"RESTORE".as_slice(), b"set", b"0", &ours, b"REPLACE"]);
        for member in members {
            assert_eq!(redis.call(&["SISMEMBER", "set", member]), Reply::Int(1));
        }
        assert_eq!(redis.line("SCARD set"), Reply::Int(3));
    }
}
