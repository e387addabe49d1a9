//! redis-rs, in both protocols.

use crate::{KINDS, PASSWORD, Target, has_redis};
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{Commands as _, Connection, ErrorKind, RedisError, RedisResult, ServerErrorKind};
use std::collections::{HashMap, HashSet};

fn connect(target: &Target, protocol: &str) -> Connection {
    let port = target.server.port;
    let address = format!("redis://:{PASSWORD}@127.0.0.1:{port}/?protocol={protocol}");
    redis::Client::open(address)
        .unwrap()
        .get_connection()
        .unwrap()
}

fn all_bytes() -> Vec<u8> {
    (0..=255).collect()
}

fn connections_and_passwords(target: &Target, connection: &mut Connection) {
    let answer: String = redis::cmd("PING").query(connection).unwrap();
    assert_eq!(answer, "PONG");
    let wrong = format!("redis://:wrong@127.0.0.1:{}/", target.server.port);
    let refused = redis::Client::open(wrong).unwrap().get_connection();
    let kind = refused.map(|_| ()).map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::AuthenticationFailed));
}

fn pipelines(connection: &mut Connection) {
    let mut pipe = redis::pipe();
    for i in 0..1000 {
        pipe.set(format!("k{i}"), i)
            .ignore()
            .incr(format!("k{i}"), 5);
    }
    let answers: Vec<i64> = pipe.query(connection).unwrap();
    assert_eq!(answers, (5..1005).collect::<Vec<_>>());
    let wrong: RedisResult<()> = connection.lpush("k1", "x");
    let text = wrong.map_err(|error: RedisError| error.code().map(str::to_owned));
    assert_eq!(text, Err(Some("WRONGTYPE".into())));
}

fn transactions(target: &Target, connection: &mut Connection) {
    let () = connection.set("balance", 10).unwrap();
    let mut other = connect(target, "resp2");
    let mut rounds = 0;
    // The first round is disturbed by another client.
    let (value,): (i64,) = redis::transaction(connection, &["balance"], |connection, pipe| {
        let value: i64 = connection.get("balance")?;
        if rounds == 0 {
            let () = other.set("balance", 99)?;
        }
        rounds += 1;
        pipe.set("balance", value + 1)
            .ignore()
            .get("balance")
            .query(connection)
    })
    .unwrap();
    assert_eq!((value, rounds), (100, 2));
    let kind = redis::pipe()
        .atomic()
        .cmd("NOSUCH")
        .query::<()>(connection)
        .map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::Server(ServerErrorKind::ExecAbort)));
}

fn publish_and_subscribe(target: &Target, connection: &mut Connection) {
    let mut other = connect(target, "resp2");
    let mut subscriber = other.as_pubsub();
    subscriber.subscribe("news").unwrap();
    subscriber.psubscribe("b*").unwrap();
    let heard: i64 = connection.publish("news", "hello").unwrap();
    assert_eq!(heard, 1);
    let message = subscriber.get_message().unwrap();
    assert_eq!(message.get_payload::<String>().unwrap(), "hello");
    let _: i64 = connection.publish("binary", all_bytes()).unwrap();
    let message = subscriber.get_message().unwrap();
    assert_eq!(message.get_payload_bytes(), all_bytes());
    assert_eq!(message.get_pattern::<String>().unwrap(), "b*");
}

fn blocking_calls(target: &Target, connection: &mut Connection) {
    let mut waiter = connect(target, "resp2");
    let waiting =
        std::thread::spawn(move || -> (String, String) { waiter.blpop("queue", 20.0).unwrap() });
    let _: i64 = connection.rpush("queue", &["x", "y"]).unwrap();
    assert_eq!(waiting.join().unwrap(), ("queue".into(), "x".into()));
    let nothing: Option<(String, String)> = connection.blpop("none", 0.05).unwrap();
    assert_eq!(nothing, None);
}

fn iterators(connection: &mut Connection) {
    let mut pipe = redis::pipe();
    for i in 0..3000 {
        pipe.set(format!("key:{i}"), i).ignore();
        pipe.hset("hash", i, i).ignore();
    }
    let () = pipe.query(connection).unwrap();
    let keys: RedisResult<HashSet<String>> = connection.scan_match("key:*").unwrap().collect();
    assert_eq!(keys.unwrap().len(), 3000);
    let fields: RedisResult<HashMap<u32, u32>> = connection.hscan("hash").unwrap().collect();
    assert_eq!(fields.unwrap().len(), 3000);
}

fn streams(connection: &mut Connection) {
    let () = connection.del("stream").unwrap();
    for i in 0..10 {
        let _: String = connection.xadd("stream", "*", &[("n", i)]).unwrap();
    }
    let () = connection.xgroup_create("stream", "group", "0").unwrap();
    let options = StreamReadOptions::default().group("group", "one").count(4);
    let read: StreamReadReply = connection
        .xread_options(&["stream"], &[">"], &options)
        .unwrap();
    let ids: Vec<&str> = read.keys[0]
        .ids
        .iter()
        .map(|entry| entry.id.as_str())
        .collect();
    assert_eq!(ids.len(), 4);
    let done: i64 = connection.xack("stream", "group", &ids[..2]).unwrap();
    assert_eq!(done, 2);
    let length: i64 = connection.xlen("stream").unwrap();
    assert_eq!(length, 10);
}

fn values(connection: &mut Connection) {
    let big = all_bytes().repeat(64 << 10);
    let () = connection.set("big", &big).unwrap();
    assert!(connection.get::<_, Vec<u8>>("big").unwrap() == big);
    let () = connection.set(all_bytes(), all_bytes()).unwrap();
    assert_eq!(
        connection.get::<_, Vec<u8>>(all_bytes()).unwrap(),
        all_bytes()
    );
    assert_eq!(connection.get::<_, Option<String>>("none").unwrap(), None);
    let () = connection.zadd("zset", "m", 1.5).unwrap();
    assert_eq!(connection.zscore::<_, _, f64>("zset", "m").unwrap(), 1.5);
    let () = connection.del("big").unwrap();
}

fn scripts(connection: &mut Connection) {
    let script = redis::Script::new("return {KEYS[1], ARGV[1], 3}");
    // EVALSHA fails, SCRIPT LOAD, EVALSHA.
    let answer: (String, Vec<u8>, i64) =
        script.key("k").arg(all_bytes()).invoke(connection).unwrap();
    assert_eq!(answer, ("k".into(), all_bytes(), 3));
}

#[test]
fn redis_rs_is_served() {
    if !has_redis() {
        return;
    }
    for kind in KINDS {
        let target = Target::start(kind);
        for protocol in ["resp2", "resp3"] {
            let connection = &mut connect(&target, protocol);
            let () = redis::cmd("FLUSHALL").query(connection).unwrap();
            connections_and_passwords(&target, connection);
            pipelines(connection);
            transactions(&target, connection);
            publish_and_subscribe(&target, connection);
            blocking_calls(&target, connection);
            iterators(connection);
            streams(connection);
            values(connection);
            if target.scripts {
                scripts(connection);
            }
        }
    }
}
