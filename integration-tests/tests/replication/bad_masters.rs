//! Masters that send what can't be used: the data from before serve on, INFO says why, snapshots are
//! asked for with pauses, and the first good one is taken.

use crate::link::{companions_up, fill, info, link_is, same_data, start, until};
use redrock_integration_tests::fake_master::{Answer, FakeMaster};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, encode};
use redrock_integration_tests::small_disk::SmallDisk;
use std::path::Path;
use std::time::{Duration, Instant};

/// Keys of the snapshot: their number is one byte in the file.
const KEYS: u64 = 50;
const CHECKSUM_BYTES: usize = 8;

/// A snapshot of ours.
fn snapshot() -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let server = start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    fill(&mut client, "key", 0..KEYS, 100)?;
    client.ok("SAVE")?;
    Ok(std::fs::read(folder.path().join("dump.rdb"))?)
}

/// Without its checksum, which readers take for none.
fn unchecked(rdb: &[u8]) -> Vec<u8> {
    let body = rdb.len().saturating_sub(CHECKSUM_BYTES);
    [&rdb[..body], &[0; CHECKSUM_BYTES]].concat()
}

/// One that says it has a key more than it has.
fn with_another_count(rdb: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut rdb = unchecked(rdb);
    // SELECTDB 0, RESIZEDB with the numbers of keys and of those that expire.
    let head = [0xfe, 0, 0xfb, KEYS as u8, 0];
    let at = rdb.windows(head.len()).position(|bytes| bytes == head);
    let at = at.ok_or_else(|| anyhow::anyhow!("no number of keys in the snapshot"))?;
    rdb[at + 3] += 1;
    Ok(rdb)
}

fn whole(rdb: Vec<u8>) -> Answer {
    Answer {
        rdb,
        ..Answer::default()
    }
}

fn replica() -> anyhow::Result<(tempfile::TempDir, Server, Client)> {
    let folder = tempfile::tempdir()?;
    let server = start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    client.ok("SET old data")?;
    Ok((folder, server, client))
}

fn trouble_is(client: &mut Client, text: &str) -> anyhow::Result<()> {
    let mut seen = String::new();
    let told = until("the reason in INFO", || {
        seen = info(client, "replication", "master_link_last_error")?;
        Ok(seen.contains(text))
    });
    told.map_err(|error| error.context(format!("'{seen}' instead of '{text}'")))
}

fn trouble_is_over(client: &mut Client) -> anyhow::Result<()> {
    until("no trouble", || {
        Ok(info(client, "replication", "master_link_last_error")?.is_empty())
    })
}

#[test]
fn what_can_not_be_loaded_is_refused_with_its_reason_and_leaves_the_data() -> anyhow::Result<()> {
    let good = snapshot()?;
    let mut damaged = good.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let cut = Answer {
        rdb: good.clone(),
        cut_at: Some(good.len() / 2),
        ..Answer::default()
    };
    let cases = [
        (whole(damaged), "checksum"),
        (cut, "closed"),
        (
            whole(with_another_count(&good)?),
            "the snapshot says that it has 51 keys, but holds 50",
        ),
        (
            whole(b"REDIS0011 and so on".to_vec()),
            "unknown RDB type 32",
        ),
    ];
    let (_folder, _server, mut client) = replica()?;
    for (answer, reason) in cases {
        let began = Instant::now();
        let master = FakeMaster::start(answer)?;
        client.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
        trouble_is(&mut client, reason)?;
        until("more attempts", || Ok(master.full_syncs() >= 3))?;
        // A pause of one second and one of two at least.
        assert!(began.elapsed() >= Duration::from_secs(3), "{began:?}");
        assert_eq!(
            info(&mut client, "replication", "master_link_status")?,
            "down"
        );
        assert_eq!(client.ok("GET old")?.text(), "data");
        assert_eq!(client.ok("DBSIZE")?.int(), Some(1));
        // A good one ends it.
        if reason == "checksum" {
            continue;
        }
        master.answers(whole(good.clone()));
        link_is(&mut client, "up")?;
        assert_eq!(
            info(&mut client, "replication", "master_link_last_error")?,
            ""
        );
        assert_eq!(client.ok("DBSIZE")?.int(), Some(KEYS as i64));
        client.ok("REPLICAOF NO ONE")?;
        client.ok("FLUSHALL")?;
        client.ok("SET old data")?;
    }
    Ok(())
}

#[test]
fn a_stream_that_is_none_of_redis_breaks_the_link_and_not_the_data() -> anyhow::Result<()> {
    let good = snapshot()?;
    let (_folder, _server, mut client) = replica()?;
    let mut stream = Vec::new();
    encode(&mut stream, &["SET", "first", "1"]);
    stream.extend_from_slice(b"*1\r\n$-7\r\nnonsense\r\n");
    let master = FakeMaster::start(Answer {
        rdb: good,
        stream,
        ..Answer::default()
    })?;
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
    let began = Instant::now();
    until("several attempts", || Ok(master.full_syncs() >= 3))?;
    assert!(began.elapsed() >= Duration::from_secs(2), "{began:?}");
    trouble_is(&mut client, "invalid bulk length")?;
    // What is there is a whole data set, the one from before or the master's.
    let keys = client.ok("DBSIZE")?.int();
    assert!(keys == Some(1) || keys >= Some(KEYS as i64), "{keys:?}");
    Ok(())
}

/// 200 MB that can't be compressed.
fn fill_with_noise(client: &mut Client) -> anyhow::Result<()> {
    let mut state = 1_u64;
    for n in 0..20_000 {
        let mut value = Vec::with_capacity(10_000);
        while value.len() < 10_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            value.extend_from_slice(&state.to_le_bytes());
        }
        client.send(&[b"SET", format!("key:{n}").as_bytes(), &value])?;
        client.receive()?;
    }
    Ok(())
}

/// A replica that has room for a part of 200 MB only, in memory and on a disk for its tier.
fn small_replica(disk: &SmallDisk, folder: &Path, port: u16) -> anyhow::Result<Server> {
    let tier = disk.path().join("tier").display().to_string();
    let port = port.to_string();
    let memory = ["--maxmemory", "128mb", "--enable-rocksdb-feature", "yes"];
    let rest = [
        "--enable-debug-command",
        "yes",
        "--rockdbdir",
        &tier,
        "--replicaof",
        "127.0.0.1",
        &port,
    ];
    start(Kind::RedRock, folder, &[&memory[..], &rest].concat())
}

#[test]
fn a_stream_without_room_waits_for_it_and_says_so() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        return Ok(());
    };
    let source = tempfile::tempdir()?;
    let options = ["--appendonly", "yes", "--enable-debug-command", "yes"];
    let server = start(Kind::RedRock, source.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let folder = tempfile::tempdir()?;
    let follower = small_replica(&disk, folder.path(), server.port)?;
    let mut replica = follower.client()?;
    link_is(&mut replica, "up")?;
    fill_with_noise(&mut client)?;
    trouble_is(
        &mut replica,
        "apply the master's stream: the data does not fit",
    )?;
    link_is(&mut replica, "up")?;
    replica.ok("CONFIG SET maxmemory 512mb")?;
    trouble_is_over(&mut replica)?;
    same_data(&mut client, &mut replica)?;
    assert_eq!(info(&mut client, "stats", "sync_full")?, "1");
    Ok(())
}

#[test]
fn a_snapshot_without_room_waits_for_it_and_is_not_sent_twice() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        return Ok(());
    };
    let source = tempfile::tempdir()?;
    // All data are in the snapshot, none in the stream behind it.
    let options = ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"];
    let server = start(Kind::RedRock, source.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    fill_with_noise(&mut client)?;
    let folder = tempfile::tempdir()?;
    let follower = small_replica(&disk, folder.path(), server.port)?;
    let mut replica = follower.client()?;
    let mut told = String::new();
    until("that there is no room", || {
        told = info(&mut replica, "replication", "master_link_last_error")?;
        Ok(told.contains("does not fit") || told.contains("can't be written"))
    })?;
    assert_eq!(replica.ok("DBSIZE")?.int(), Some(0), "{told}");
    until("several attempts", || {
        let text = follower.log_text();
        Ok(text.matches("load of the master's snapshot failed").count() >= 2)
    })?;
    // It is the first one still.
    assert_eq!(info(&mut client, "stats", "sync_full")?, "1");
    Ok(())
}
