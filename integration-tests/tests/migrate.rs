//! MIGRATE between us and a real Redis, both ways; what happens to the keys meanwhile.

use redrock_integration_tests::daemons::until;
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];
const KEYS: &str = "int short long list quick set intset plain hash zset stream volatile hll";

fn start(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<(Server, Client)> {
    let server = Server::start(kind, folder, &[&DEBUG[..], options].concat())?;
    let client = server.client()?;
    Ok((server, client))
}

/// A key of every type and encoding.
fn fill(client: &mut Client) -> anyhow::Result<()> {
    let long = "long".repeat(50_000);
    for line in [
        "SET int 12",
        "SET short a",
        &format!("SET long {long}"),
        "RPUSH list a b 3",
        "SADD set a b",
        "SADD intset 1 2 70000",
        "HSET hash a 1 b 2",
        "ZADD zset 1 a 2.5 b",
        "XADD stream 1-1 f v",
        "XGROUP CREATE stream g 0",
        "XREADGROUP GROUP g me STREAMS stream >",
        "SET volatile v PX 100000000",
        "PFADD hll a b c",
    ] {
        client.ok(line)?;
    }
    for n in 0..2000 {
        client.ok(&format!("RPUSH quick element-number-{n}"))?;
        client.ok(&format!("SADD plain member-number-{n}"))?;
    }
    Ok(())
}

fn run(client: &mut Client, line: &str) -> anyhow::Result<Reply> {
    client.run(&line.split(' ').collect::<Vec<_>>())
}

/// What holds of each key there: DEBUG DIGEST-VALUE has no part of the expiry.
fn contents(client: &mut Client) -> anyhow::Result<Reply> {
    client.ok(&format!("DEBUG DIGEST-VALUE {KEYS}"))
}

#[test]
fn keys_of_all_types_move_and_are_gone_also_after_a_restart() -> anyhow::Result<()> {
    let (us, redis) = (Kind::RedRock, Kind::Redis);
    let ways = [(us, redis), (redis, us), (us, us)];
    for (from, to) in ways.into_iter().take(if has_redis() { 3 } else { 0 }) {
        let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let aof = ["--appendonly", "yes"];
        let (server, mut source) = start(from, here.path(), &aof)?;
        let (target, mut other) = start(to, there.path(), &[])?;
        fill(&mut source)?;
        source.ok("SET stays 1")?;
        let before = contents(&mut source)?;
        let line = format!(
            "MIGRATE 127.0.0.1 {} _ 3 5000 COPY KEYS {KEYS}",
            target.port
        );
        let words: Vec<&str> = line
            .split(' ')
            .map(|w| if w == "_" { "" } else { w })
            .collect();
        assert_eq!(source.run(&words)?, Reply::Status("OK".into()));
        other.ok("SELECT 3")?;
        assert_eq!(contents(&mut other)?, before, "{from:?} to {to:?}");
        let ttl = other.ok("PTTL volatile")?.int();
        assert!(ttl > Some(90_000_000), "{ttl:?}");
        assert_eq!(other.ok("PTTL int")?.int(), Some(-1));
        assert_eq!(contents(&mut source)?, before, "a copy leaves them");
        let words: Vec<&str> = words
            .into_iter()
            .map(|w| if w == "COPY" { "REPLACE" } else { w })
            .collect();
        assert_eq!(source.run(&words)?, Reply::Status("OK".into()));
        assert_eq!(source.run(&words)?, Reply::Status("NOKEY".into()));
        assert_eq!(contents(&mut other)?, before);
        assert_eq!(source.ok("DBSIZE")?.int(), Some(1));
        server.kill()?;
        let (_server, mut source) = start(from, here.path(), &aof)?;
        assert_eq!(source.ok("DBSIZE")?.int(), Some(1));
        assert_eq!(source.ok("GET stays")?.text(), "1");
    }
    Ok(())
}

/// What a server answers to commands that mostly fail, with a real Redis as target.
fn replies(kind: Kind) -> anyhow::Result<Vec<(String, Reply)>> {
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (_server, mut source) = start(kind, here.path(), &[])?;
    let (target, mut other) = start(Kind::Redis, there.path(), &[])?;
    other.ok("SET there 1")?;
    other.ok("ACL SETUSER mover on >secret +@all ~*")?;
    source.ok("SET there 2")?;
    source.ok("SET gone 2 PX 1")?;
    until("the expiry", || {
        Ok(source.ok("EXISTS gone")?.int() == Some(0))
    })?;
    let to = format!("127.0.0.1 {}", target.port);
    let mut said = Vec::new();
    for line in [
        "MIGRATE @ there 0",
        "MIGRATE @ none 0 100",
        "MIGRATE @ gone 0 100",
        "MIGRATE @ there 0 1000",
        "MIGRATE @ there 99 1000",
        "MIGRATE @ there 0 1000 COPY",
        "MIGRATE @ there 0 1000 BAD",
        "MIGRATE @ there 0 1000 AUTH",
        "MIGRATE @ there 0 1000 AUTH2 mover",
        "MIGRATE @ there 0 1000 AUTH wrong",
        "MIGRATE @ there 0 1000 AUTH2 mover wrong",
        "MIGRATE @ there x 1000",
        "MIGRATE @ there 0 x",
        "MIGRATE @ there 0 1000 KEYS a b",
        "MIGRATE @ _ 0 1000 KEYS none nothing",
        "MIGRATE @ _ 0 1000 KEYS",
        "MIGRATE @ _ 0 1000 KEYS none there",
        "MIGRATE 127.0.0.1 1 there 0 1000",
        "MIGRATE 127.0.0.1 port there 0 1000",
        "EXISTS there",
        "MIGRATE @ there 0 0 AUTH2 mover secret REPLACE",
        "EXISTS there",
        "MIGRATE @ _ 1 1000 KEYS there there",
        "SET k 1",
        "MIGRATE @ _ 1 1000 KEYS k k",
        "EXISTS k",
    ] {
        let line = line.replace('@', &to);
        let words: Vec<&str> = line
            .split(' ')
            .map(|w| if w == "_" { "" } else { w })
            .collect();
        let reply = source.run(&words)?;
        said.push((line.replace(&to, "@"), reply));
    }
    assert_eq!(other.ok("GET there")?.text(), "2");
    Ok(said)
}

#[test]
fn errors_are_those_of_a_real_redis() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (theirs, ours) = (replies(Kind::Redis)?, replies(Kind::RedRock)?);
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs, ours);
    }
    Ok(())
}

/// A target that says what it is told to.
struct Puppet {
    listener: TcpListener,
}

impl Puppet {
    fn new() -> anyhow::Result<(Self, u16)> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        Ok((Self { listener }, port))
    }

    /// Takes a connection up to SELECT, and the RESTORE behind it.
    fn takes_restore(&self) -> anyhow::Result<TcpStream> {
        let (mut stream, _) = self.listener.accept()?;
        stream.set_read_timeout(Some(redrock_integration_tests::scale::PATIENCE))?;
        let mut seen = Vec::new();
        for (word, answer) in [("SELECT", "+OK\r\n"), ("RESTORE", "")] {
            while !String::from_utf8_lossy(&seen).contains(word) {
                let mut chunk = [0; 4096];
                let count = stream.read(&mut chunk)?;
                anyhow::ensure!(count > 0, "the connection ended before {word}");
                seen.extend_from_slice(&chunk[..count]);
            }
            stream.write_all(answer.as_bytes())?;
        }
        Ok(stream)
    }
}

#[test]
fn who_changes_a_key_on_its_way_waits_and_everybody_else_goes_on() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(Kind::RedRock, folder.path(), &[])?;
    let (puppet, port) = Puppet::new()?;
    let line = format!("MIGRATE 127.0.0.1 {port} k 0 20000");
    let words: Vec<&str> = line.split(' ').collect();
    for (answer, left) in [("-BUSYKEY no\r\n", 6), ("+OK\r\n", 1)] {
        client.ok("SET k 5")?;
        let mut mover = server.client()?;
        mover.send(&words)?;
        let mut target = puppet.takes_restore()?;
        // All these wait.
        let mut writer = server.client()?;
        writer.send(&["INCR", "k"])?;
        let mut queued = server.client()?;
        for line in ["MULTI", "GET k", "APPEND k x"] {
            queued.ok(line)?;
        }
        queued.send(&["EXEC"])?;
        let mut flusher = server.client()?;
        flusher.send(&["SWAPDB", "5", "6"])?;
        // These do not.
        assert_eq!(client.ok("GET k")?.text(), "5");
        assert_eq!(client.ok("INCR other")?.int().map(|n| n > 0), Some(true));
        client.ok("OBJECT ENCODING k")?;
        for waiting in [&mut mover, &mut writer, &mut queued, &mut flusher] {
            waiting.set_reply_wait(Duration::from_millis(50))?;
            assert!(waiting.receive().is_err(), "it must wait");
            waiting.set_reply_wait(Duration::from_secs(20))?;
        }
        target.write_all(answer.as_bytes())?;
        let result = mover.receive()?;
        match left {
            1 => assert_eq!(result, Reply::Status("OK".into())),
            _ => assert_eq!(
                result,
                Reply::Error("ERR Target instance replied with error: BUSYKEY no".into())
            ),
        }
        // In some order; the number tells whether the key was there.
        let first = writer.receive()?;
        let number = first.int().unwrap_or(-1);
        let appended = queued.receive()?.elements();
        assert_eq!(appended.len(), 2, "{appended:?}");
        let moved_on = number == left || matches!(&first, Reply::Error(_));
        assert!(moved_on, "{first:?} {appended:?}");
        assert_eq!(flusher.receive()?, Reply::Status("OK".into()));
    }
    Ok(())
}

#[test]
fn silence_ends_after_the_timeout_and_leaves_the_key() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(Kind::RedRock, folder.path(), &[])?;
    let (puppet, port) = Puppet::new()?;
    client.ok("SET k v")?;
    client.send(&["MIGRATE", "127.0.0.1", &port.to_string(), "k", "0", "200"])?;
    let target = puppet.takes_restore()?;
    let text = "IOERR error or timeout reading to target instance";
    assert_eq!(client.receive()?, Reply::Error(text.into()));
    assert_eq!(client.ok("APPEND k w")?.int(), Some(2));
    drop(target);
    // A client that leaves does not stop what it began.
    let mut leaver = server.client()?;
    leaver.send(&["MIGRATE", "127.0.0.1", &port.to_string(), "k", "0", "20000"])?;
    let mut target = puppet.takes_restore()?;
    drop(leaver);
    target.write_all(b"+OK\r\n")?;
    until("the deletion", || {
        Ok(client.ok("EXISTS k")?.int() == Some(0))
    })
}

#[test]
fn what_serves_a_blocked_client_may_not_change_a_key_on_its_way() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(Kind::RedRock, folder.path(), &[])?;
    let (puppet, port) = Puppet::new()?;
    client.ok("RPUSH to a")?;
    let mut blocked = server.client()?;
    blocked.send(&["BLMOVE", "from", "to", "LEFT", "RIGHT", "0"])?;
    until("a blocked client", || {
        let text = client.ok("INFO clients")?.text();
        Ok(text.contains("blocked_clients:1\r\n"))
    })?;
    let mut mover = server.client()?;
    mover.send(&[
        "MIGRATE",
        "127.0.0.1",
        &port.to_string(),
        "to",
        "0",
        "20000",
    ])?;
    let mut target = puppet.takes_restore()?;
    client.ok("RPUSH from b")?;
    assert_eq!(client.ok("LRANGE to 0 -1")?.elements().len(), 1);
    target.write_all(b"+OK\r\n")?;
    assert_eq!(mover.receive()?, Reply::Status("OK".into()));
    assert_eq!(blocked.receive()?.text(), "b");
    // The element went to a new list.
    let list = client.ok("LRANGE to 0 -1")?.elements();
    assert_eq!(list.iter().map(Reply::text).collect::<Vec<_>>(), ["b"]);
    Ok(())
}

#[test]
fn cold_keys_and_a_large_one_move() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let tier = ["--maxmemory", "256mb", "--enable-rocksdb-feature", "yes"];
    let (server, mut source) = start(Kind::RedRock, here.path(), &tier)?;
    let (target, mut other) = start(Kind::Redis, there.path(), &[])?;
    fill(&mut source)?;
    let element = "e".repeat(1000);
    for _ in 0..160 {
        for _ in 0..100 {
            source.send(&["RPUSH", "huge", &element])?;
        }
        for _ in 0..100 {
            source.receive()?;
        }
    }
    let keys = format!("{KEYS} huge");
    let before = source.ok(&format!("DEBUG DIGEST-VALUE {keys}"))?;
    for key in keys.split(' ') {
        run(&mut source, &format!("ROCKEVICT {key}"))?;
    }
    let report = source.ok("ROCKSTAT")?;
    let head = format!("MIGRATE 127.0.0.1 {} _ 0 20000 KEYS {keys}", target.port);
    let words: Vec<&str> = head
        .split(' ')
        .map(|w| if w == "_" { "" } else { w })
        .collect();
    let mut mover = server.client()?;
    mover.send(&words)?;
    // Others are served meanwhile.
    for n in 0..200 {
        source.ok(&format!("SET other:{n} v"))?;
    }
    assert_eq!(mover.receive()?, Reply::Status("OK".into()), "{report:?}");
    assert_eq!(other.ok(&format!("DEBUG DIGEST-VALUE {keys}"))?, before);
    assert_eq!(source.ok("DBSIZE")?.int(), Some(200));
    assert_eq!(source.ok(&format!("EXISTS {keys}"))?.int(), Some(0));
    Ok(())
}
