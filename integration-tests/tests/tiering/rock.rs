//! The commands of the tier: what they do and reply, and that nobody waits for them.

use super::{ALONE, MB, check, fill, report, start, statistic};
use redrock_integration_tests::daemons::until;
use redrock_integration_tests::resp::{Client, Reply};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

fn words(reply: Reply) -> Vec<String> {
    reply.elements().iter().map(Reply::text).collect()
}

/// A key of each type.
const OF_EACH_TYPE: [&str; 6] = [
    "SET string text",
    "RPUSH list a b c",
    "SADD set 1 2 3",
    "ZADD zset 1 a 2 b",
    "HSET hash f1 v1 f2 v2",
    "XADD stream 1-1 field value",
];

#[test]
fn rockevict_tells_what_became_of_each_key_and_any_type_goes_and_comes_back() -> anyhow::Result<()>
{
    let folder = tempfile::tempdir()?;
    let server = start(
        folder.path(),
        "128mb",
        &[&ALONE[..], &["--enable-debug-command", "yes"]].concat(),
    )?;
    let mut client = server.client()?;
    OF_EACH_TYPE
        .iter()
        .try_for_each(|line| client.ok(line).map(|_| ()))?;
    client.ok("EXPIRE list 10000")?;
    let before = client.ok("DEBUG DIGEST")?;
    let line = "ROCKEVICT string list missing set zset hash stream";
    let fates = words(client.ok(line)?);
    let gone = "EVICTED";
    assert_eq!(fates, [gone, gone, "NOT_FOUND", gone, gone, gone, gone]);
    assert_eq!(report(&mut client)?, [6, 0, 0, 6]);
    let there = "ON_DISK";
    let fates = words(client.ok(line)?);
    assert_eq!(
        fates,
        [there, there, "NOT_FOUND", there, there, there, there]
    );
    // What a stub tells brings nothing back.
    let types = ["string", "list", "set", "zset", "hash", "stream"];
    for name in types {
        assert_eq!(client.ok(&format!("TYPE {name}"))?.text(), name);
    }
    anyhow::ensure!(client.ok("TTL list")?.int().is_some_and(|s| s > 9000));
    assert_eq!(report(&mut client)?[1], 0);
    assert_eq!(client.ok("DEBUG DIGEST")?, before);
    assert_eq!(words(client.ok("LRANGE list 0 -1")?), ["a", "b", "c"]);
    assert_eq!(client.ok("XLEN stream")?.int(), Some(1));
    assert!(client.ok("INCRBYFLOAT string 1").is_err());
    // A key named twice goes once, and both are told.
    client.ok("SET twice 1")?;
    let fates = words(client.ok("ROCKEVICT twice twice")?);
    assert_eq!(fates, [gone, gone]);
    Ok(())
}

#[test]
fn rockevicthash_tells_of_each_field_and_takes_the_whole_hash() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    let mut client = server.client()?;
    client.ok("HSET h a 1 b 2 c 3")?;
    let fates = words(client.ok("ROCKEVICTHASH h a x c")?);
    assert_eq!(fates, ["EVICTED", "NOT_FOUND", "EVICTED"]);
    assert_eq!(report(&mut client)?, [1, 0, 0, 1]);
    // To know the fields the hash comes back, and goes again.
    let fates = words(client.ok("ROCKEVICTHASH h b x")?);
    assert_eq!(fates, ["EVICTED", "NOT_FOUND"]);
    assert_eq!(
        words(client.ok("ROCKEVICTHASH missing a b")?),
        ["NOT_FOUND"; 2]
    );
    assert_eq!(words(client.ok("HMGET h a b c")?), ["1", "2", "3"]);
    Ok(())
}

#[test]
fn rockall_rockmem_and_purgerocksdb_do_and_tell_what_they_say() -> anyhow::Result<()> {
    const COUNT: usize = 2000;
    const VALUE_BYTES: usize = 10_000;
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    let mut client = server.client()?;
    fill(&mut client, "key", 0..COUNT, VALUE_BYTES)?;
    let freed = client.ok("ROCKMEM 2mb")?.int().unwrap_or(0) as u64;
    anyhow::ensure!((2 * MB..4 * MB).contains(&freed), "{freed}");
    let [keys, in_memory, dirty, on_disk] = report(&mut client)?;
    assert_eq!((keys, in_memory + on_disk), (2000, 2000));
    let least = (2 * MB) as i64 / (VALUE_BYTES as i64 + 200);
    anyhow::ensure!(
        (least..500).contains(&on_disk) && dirty <= in_memory,
        "{on_disk}"
    );
    assert_eq!(client.ok("ROCKALL")?.int(), Some(in_memory));
    assert_eq!(report(&mut client)?, [2000, 0, 0, 2000]);
    // Nothing is left to do.
    assert_eq!(client.ok("ROCKALL")?.int(), Some(0));
    assert_eq!(client.ok("ROCKMEM 1gb 1")?.int(), Some(0));
    for name in ["spilled_values", "dropped_values"] {
        anyhow::ensure!(statistic(&mut client, name)? >= 2000, "{name}");
    }
    for name in [
        "dropped_stubs",
        "loaded_values",
        "lent_values",
        "waiting_commands",
        "blocking_reads",
        "slowed_writes",
        "queue_bytes",
        "state_since",
        "probes",
        "state_changes",
        "read_errors",
    ] {
        assert_eq!(statistic(&mut client, name)?, 0, "{name}");
    }
    anyhow::ensure!(statistic(&mut client, "disk_free_bytes")? > 0);
    check(&mut client, "key", 0..20, VALUE_BYTES)?;
    assert_eq!(statistic(&mut client, "loaded_values")?, 20);

    assert_eq!(client.ok("PURGEROCKSDB")?.text(), "OK");
    until("files", || {
        Ok(statistic(&mut client, "disk_bytes")? > 15 * MB)
    })?;
    for n in 0..COUNT {
        client.ok(&format!("DEL key:{n}"))?;
    }
    until("deletes on disk", || {
        Ok(statistic(&mut client, "queue_bytes")? == 0)
    })?;
    // Blob files go when their values are gone from all tables.
    until("smaller files", || {
        client.ok("PURGEROCKSDB")?;
        Ok(statistic(&mut client, "disk_bytes")? < MB)
    })?;
    Ok(())
}

#[test]
fn rock_report_is_a_map_with_shares() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    let mut client = server.client()?;
    let empty = client.ok("ROCK REPORT")?.elements();
    assert_eq!(empty.last().map(Reply::text).as_deref(), Some("0.00"));
    for n in 0..8 {
        client.ok(&format!("SET key:{n} value"))?;
    }
    client.ok("ROCKEVICT key:0 key:1 key:2")?;
    client.ok("GET key:2")?;
    let found = words(client.ok("ROCK REPORT")?);
    let names = [
        "keys",
        "in_memory",
        "not_on_disk",
        "on_disk",
        "on_disk_percent",
    ];
    assert_eq!(found.iter().step_by(2).collect::<Vec<_>>(), names);
    assert_eq!(report(&mut client)?, [8, 6, 5, 2]);
    assert_eq!(found.last().map(String::as_str), Some("25.00"));
    // In RESP3 a map.
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    stream.set_read_timeout(Some(redrock_integration_tests::scale::PATIENCE))?;
    stream.write_all(b"HELLO 3\r\nROCK REPORT\r\n")?;
    let (mut text, mut buffer) = (String::new(), [0; 1000]);
    while !text.contains("25.00") {
        let length = stream.read(&mut buffer)?;
        anyhow::ensure!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    anyhow::ensure!(text.contains("%5\r\n$4\r\nkeys\r\n:8\r\n"), "{text}");
    Ok(())
}

#[test]
fn keys_swapdb_and_streams_work_on_what_is_on_disk() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    let mut client = server.client()?;
    fill(&mut client, "key", 0..500, 100)?;
    client.ok("XADD stream 1-1 field value")?;
    client.ok("ROCKALL")?;
    assert_eq!(client.ok("KEYS *")?.elements().len(), 501);
    client.ok("SWAPDB 0 1")?;
    assert_eq!(client.ok("DBSIZE")?.int(), Some(0));
    assert_eq!(client.ok("GET key:1")?, Reply::Nil);
    client.ok("SELECT 1")?;
    check(&mut client, "key", 0..500, 100)?;
    client.ok("XADD stream 2-1 field value")?;
    assert_eq!(client.ok("XLEN stream")?.int(), Some(2));
    Ok(())
}

/// Commands of another client that end while `line` is under way.
fn served_during(client: &mut Client, other: &mut Client, line: &str) -> anyhow::Result<usize> {
    let words: Vec<&str> = line.split(' ').collect();
    client.send(&words)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let reply = client.receive();
            is_over.store(true, Ordering::Release);
            reply
        });
        let mut served = 0;
        while !is_over.load(Ordering::Acquire) {
            other.ok(&format!("SET other {served}"))?;
            anyhow::ensure!(other.ok("GET other")?.text() == served.to_string());
            served += 1;
        }
        let reply = waits
            .join()
            .map_err(|_| anyhow::anyhow!("{line} panicked"))??;
        anyhow::ensure!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
        Ok(served)
    })
}

#[test]
fn other_clients_go_on_while_values_are_moved() -> anyhow::Result<()> {
    const COUNT: usize = 15_000;
    const VALUE_BYTES: usize = 4000;
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "300mb", &ALONE)?;
    let (mut client, mut other) = (server.client()?, server.client()?);
    fill(&mut client, "key", 0..COUNT, VALUE_BYTES)?;
    let served = served_during(&mut client, &mut other, "ROCKMEM 20mb 20")?;
    anyhow::ensure!(served > 10, "ROCKMEM: {served}");
    let served = served_during(&mut client, &mut other, "ROCKALL")?;
    anyhow::ensure!(served > 20, "ROCKALL: {served}");
    let served = served_during(&mut client, &mut other, "PURGEROCKSDB")?;
    anyhow::ensure!(served > 10, "PURGEROCKSDB: {served}");
    check(&mut client, "key", (0..COUNT).step_by(3), VALUE_BYTES)?;
    fill(&mut client, "key", 0..COUNT, VALUE_BYTES)?;
    let mut line = String::from("ROCKEVICT");
    (0..COUNT).for_each(|n| line.push_str(&format!(" key:{n}")));
    let served = served_during(&mut client, &mut other, &line)?;
    anyhow::ensure!(served > 5, "ROCKEVICT: {served}");
    check(&mut client, "key", (0..COUNT).step_by(97), VALUE_BYTES)
}
