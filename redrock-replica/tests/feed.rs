//! Replicas of ours: a real Redis behind a base file and log segments.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::redis::{Redis, command};
use common::server::{Fake, id};
use common::{Agent, Front, eventually, scale};
use redrock_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Writes for the stream, the same ones for the oracle.
fn writes(name: &str, count: usize) -> Vec<u8> {
    let mut bytes = command(&["SELECT", "0"]);
    for number in 0..count {
        let key = format!("{name}:{}", number % 97);
        bytes.extend(command(&["RPUSH", &key, &format!("value-{number}")]));
        if number % 10 == 0 {
            bytes.extend(command(&["MULTI"]));
            bytes.extend(command(&["INCR", &format!("{name}:counter")]));
            bytes.extend(command(&["SET", &format!("{name}:last"), &key]));
            bytes.extend(command(&["EXEC"]));
        }
    }
    bytes
}

fn getack() -> Vec<u8> {
    command(&["REPLCONF", "GETACK", "*"])
}

/// A log that continues a base made by a real Redis, and that Redis as oracle.
fn server_with_data(fake: &Fake, offset: u64) -> Redis {
    let mut oracle = Redis::start(&[]);
    oracle.apply(&writes("base", 2000 * scale()));
    assert_eq!(oracle.call("SAVE"), "OK");
    let base = fake.dir.join("appendonlydir/appendonly.aof.1.base.rdb");
    std::fs::copy(oracle.dir().join("dump.rdb"), &base).unwrap();
    fake.begin_segment(&id('a'), Some(offset));
    fake.set_base(&base, offset);
    oracle
}

async fn write(fake: &Fake, oracle: &mut Redis, name: &str, count: usize) {
    let bytes = writes(name, count);
    fake.append(&bytes);
    oracle.apply(&bytes);
}

async fn same_data(what: &str, oracle: &mut Redis, replica: &mut Redis) {
    let wanted = oracle.digest();
    eventually(what, || replica.digest() == wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_redis_replicates_from_files_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let mut oracle = server_with_data(&fake, 1000);
    write(&fake, &mut oracle, "before", 3000 * scale()).await;
    let mut agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;

    let mut replica = Redis::start(&[]);
    replica.call(&format!("REPLICAOF 127.0.0.1 {}", front.port));
    same_data("the base and the stream arrive", &mut oracle, &mut replica).await;
    assert_eq!(fake.pinned.lock().unwrap().len(), 1);

    // The next segment, under the eyes of the replica; it acknowledges all.
    write(&fake, &mut oracle, "first", 500).await;
    fake.begin_segment(&id('a'), None);
    write(&fake, &mut oracle, "second", 500).await;
    fake.append(&getack());
    same_data("the next segment arrives", &mut oracle, &mut replica).await;
    let written = fake.log.borrow().written_offset;
    eventually("the acknowledgement is told", || {
        let acks = fake.acks.borrow().clone();
        // A GETACK's answer does not count the GETACK itself.
        acks.iter().any(|ack| {
            ack.state == v1::ReplicaState::Online as i32
                && ack.acked_offset >= written - getack().len() as u64
                && ack.sent_offset == written
                && ack.listening_port == u32::from(replica.port)
        })
    })
    .await;
    assert_eq!(
        replica.info("slave_repl_offset"),
        written.to_string(),
        "the replica counts as we do"
    );

    // A cut link goes on where it was.
    replica.call("CLIENT KILL TYPE master");
    write(&fake, &mut oracle, "after the cut", 500).await;
    same_data("the resumed stream arrives", &mut oracle, &mut replica).await;
    let status = agent.status(&fake).await;
    assert_eq!((status.sync_full, status.sync_partial_ok), (1, 1));

    // So it does after the agent's death.
    agent.kill();
    write(&fake, &mut oracle, "without an agent", 500).await;
    let mut agent = Agent::start(&fake).await;
    same_data("a new agent feeds on", &mut oracle, &mut replica).await;
    let status = agent.status(&fake).await;
    assert_eq!((status.sync_full, status.sync_partial_ok), (0, 1));

    // A new id: the replica is made to learn it, and goes on.
    fake.begin_segment(&id('b'), None);
    write(&fake, &mut oracle, "new id", 500).await;
    same_data("the new id's stream arrives", &mut oracle, &mut replica).await;
    assert_eq!(replica.info("master_replid"), id('b'));
    let status = agent.status(&fake).await;
    assert_eq!((status.sync_full, status.sync_partial_ok), (0, 2));
    assert_eq!(status.sync_partial_err, 0);

    // What it needs is pinned, until it is gone and listed no longer. (A pin
    // of the agent that was killed waits for the end of its lease.)
    let last = || fake.acks.borrow().last().map(|ack| ack.client_id);
    let holder = format!("replica-{}", last().unwrap());
    let is_pinned = || fake.pinned.lock().unwrap().contains(&holder);
    eventually("its segments are pinned", is_pinned).await;
    replica.call("REPLICAOF NO ONE");
    eventually("the replica is gone", || fake.acks.borrow().is_empty()).await;
    eventually("its pin is taken back", || !is_pinned()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_a_known_history_gets_everything_and_a_kick_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let mut oracle = server_with_data(&fake, 0);
    let mut agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;
    let mut replica = Redis::start(&[]);
    replica.apply(&writes("foreign", 50));
    replica.call(&format!("REPLICAOF 127.0.0.1 {}", front.port));
    same_data("the base replaces all", &mut oracle, &mut replica).await;
    write(&fake, &mut oracle, "more", 100).await;
    same_data("the stream follows", &mut oracle, &mut replica).await;
    let run = fake.run.to_wire();
    let client_ids = vec![];
    let reply = agent.client.kick(v1::KickRequest { run, client_ids }).await;
    assert_eq!(reply.unwrap().into_inner().kicked, 1);
    write(&fake, &mut oracle, "again", 100).await;
    same_data("it comes back by itself", &mut oracle, &mut replica).await;
    assert_eq!(agent.status(&fake).await.sync_full, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_base_the_replica_is_told_to_come_later() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    fake.begin_segment(&id('a'), Some(0));
    let _agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;
    let mut peer = TcpStream::connect(("127.0.0.1", front.port)).await.unwrap();
    peer.write_all(&command(&["PSYNC", "?", "-1"]))
        .await
        .unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();
    let line = answer.trim_start_matches('\n');
    assert!(line.starts_with("-NOMASTERLINK"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_replica_costs_disk_and_is_dropped_at_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let fake: Arc<Fake> = Fake::start(dir.path());
    fake.settings.send_replace(vec![(
        "repl-backlog-disk-size".to_owned(),
        "8mb".to_owned(),
    )]);
    fake.begin_segment(&id('a'), Some(0));
    let agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;
    let mut peer = TcpStream::connect(("127.0.0.1", front.port)).await.unwrap();
    peer.write_all(&command(&["PSYNC", &id('a'), "1"]))
        .await
        .unwrap();
    let mut answer = [0; 11];
    peer.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+CONTINUE\r\n");
    let before = redrock_daemon::memory::read_resident(agent.pid()).unwrap();
    let large = command(&["SET", "key", &"x".repeat(1 << 20)]);
    for _ in 0..40 {
        fake.append(&large);
    }
    eventually("it is dropped", || {
        agent.log_text().contains("the slowest replica is dropped")
    })
    .await;
    let after = redrock_daemon::memory::read_resident(agent.pid()).unwrap();
    let grown = after.peak_rss_bytes.saturating_sub(before.rss_bytes);
    assert!(grown < 8 << 20, "40 MB of lag took {grown} bytes of memory");
    eventually("it is listed no longer", || fake.acks.borrow().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_sync_gets_newlines_the_file_and_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let mut oracle = server_with_data(&fake, 500);
    write(&fake, &mut oracle, "more", 10).await;
    let base = std::fs::read(dir.path().join("appendonlydir/appendonly.aof.1.base.rdb")).unwrap();
    let _agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;
    let mut peer = TcpStream::connect(("127.0.0.1", front.port)).await.unwrap();
    peer.write_all(&command(&["SYNC"])).await.unwrap();
    let mut wanted = b"\n".to_vec();
    wanted.extend(format!("${}\r\n", base.len()).into_bytes());
    wanted.extend(base);
    wanted.extend(writes("more", 10));
    let mut answer = vec![0; wanted.len()];
    peer.read_exact(&mut answer).await.unwrap();
    assert!(answer == wanted, "{} bytes differ", answer.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demotion_of_unknown_outcome_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let mut oracle = server_with_data(&fake, 100);
    let mut agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;
    let mut replica = Redis::start(&[]);
    replica.call(&format!("REPLICAOF 127.0.0.1 {}", front.port));
    same_data("the base arrives", &mut oracle, &mut replica).await;
    fake.demotion_hangs.store(true, Ordering::Relaxed);
    let request = v1::FailoverRequest {
        run: fake.run.to_wire(),
        timeout_ms: 20_000,
        ..v1::FailoverRequest::default()
    };
    let mut steps = agent.client.failover(request).await.unwrap().into_inner();
    let error = loop {
        match steps.message().await {
            Ok(step) => assert!(step.is_some(), "it does not end well"),
            Err(error) => break error,
        }
    };
    assert!(error.message().contains("still the master"), "{error}");
    assert_eq!(fake.log.borrow().role, v1::Role::Master as i32);
    assert!(fake.master.lock().unwrap().is_none());
    let status = agent.status(&fake).await;
    assert_eq!(status.link, v1::LinkStatus::None as i32);
    assert!(!status.failover);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_makes_the_replica_our_master() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let mut oracle = server_with_data(&fake, 1000);
    let mut agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;
    let mut replica = Redis::start(&[]);
    replica.call(&format!("REPLICAOF 127.0.0.1 {}", front.port));
    same_data("the base arrives", &mut oracle, &mut replica).await;
    write(&fake, &mut oracle, "last", 100).await;
    let request = v1::FailoverRequest {
        run: fake.run.to_wire(),
        timeout_ms: 20_000,
        ..v1::FailoverRequest::default()
    };
    let mut steps = agent.client.failover(request).await.unwrap().into_inner();
    let mut last = v1::Progress::default();
    while let Some(step) = steps.message().await.unwrap() {
        last = step;
    }
    assert_eq!(last.phase, v1::Phase::Done as i32);
    assert_eq!(replica.info("role"), "master");
    assert_eq!(replica.digest(), oracle.digest());
    replica.call("SET after failover");
    let mut caught_up = || {
        let applied = fake.loaded.borrow().applied;
        applied > 1000 && applied.to_string() == replica.info("master_repl_offset")
    };
    eventually("we follow it", &mut caught_up).await;
    assert_eq!(replica.info("sync_full"), "0");
    let stream = fake.loaded.borrow().stream.clone();
    let text = String::from_utf8_lossy(&stream);
    assert!(text.contains("failover"), "{text:?}");
    let status = agent.status(&fake).await;
    assert_eq!(status.link, v1::LinkStatus::Connected as i32);
    assert_eq!(status.replicas, 0);
}

/// What is answered to PSYNC, and `more` bytes behind the line.
async fn psync(front: &Front, id: &str, held: u64, more: usize) -> (String, Vec<u8>) {
    let mut peer = TcpStream::connect(("127.0.0.1", front.port)).await.unwrap();
    let next = (held + 1).to_string();
    peer.write_all(&command(&["REPLCONF", "capa", "psync2"]))
        .await
        .unwrap();
    peer.write_all(&command(&["PSYNC", id, &next]))
        .await
        .unwrap();
    let mut lines = vec![];
    while lines.iter().filter(|byte| **byte == b'\n').count() < 2 {
        lines.push(peer.read_u8().await.unwrap());
    }
    let mut stream = vec![0; more];
    peer.read_exact(&mut stream).await.unwrap();
    let lines = String::from_utf8(lines).unwrap();
    (lines.trim_start_matches("+OK\r\n").to_owned(), stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_changed_within_a_segment_is_continued_and_another_log_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    // A log that ended where ours begins, under the same id: another data set.
    fake.begin_segment(&id('a'), Some(500));
    fake.append(&writes("other", 10));
    let start = fake.log.borrow().written_offset;
    fake.begin_segment(&id('a'), None);
    fake.begin_log();
    fake.append(&writes("first", 10));
    let left_at = fake.log.borrow().written_offset;
    fake.change_id(&id('b'));
    fake.append(&writes("second", 10));
    // The segment that holds both ids is finished.
    fake.begin_segment(&id('b'), None);
    fake.append(&writes("third", 10));
    let _agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;

    let all = ["first", "second", "third"].map(|name| writes(name, 10));
    let all = all.concat();
    let (line, stream) = psync(&front, &id('a'), start, all.len()).await;
    assert_eq!(line, format!("+CONTINUE {}\r\n", id('b')));
    assert!(stream == all);
    let behind = (left_at - start) as usize;
    let (line, stream) = psync(&front, &id('a'), left_at, all.len() - behind).await;
    assert_eq!(line, format!("+CONTINUE {}\r\n", id('b')));
    assert!(stream == all[behind..]);
    // Beyond where our stream left the id, and before our log: nothing to go on from. There is
    // no base in this test.
    for held in [left_at + 1, start - 1, 500] {
        let (line, _) = psync(&front, &id('a'), held, 0).await;
        assert!(line.starts_with("-NOMASTERLINK"), "{held}: {line:?}");
    }
}
