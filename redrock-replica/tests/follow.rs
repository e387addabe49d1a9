//! Our master: a real Redis, whose snapshot and stream are spooled and applied.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::redis::{Redis, command, free_port};
use common::server::{Fake, LOAD_FAILS_AFTER, id};
use common::{Agent, Front, LONG, eventually, scale};
use redrock_proto::{RpcError, v1};

fn fill(redis: &mut Redis, name: &str, count: usize) {
    let mut bytes = vec![];
    for number in 0..count {
        let key = format!("{name}:{number}");
        bytes.extend(command(&["SET", &key, &"v".repeat(100)]));
        if number % 20 == 0 {
            bytes.extend(command(&["MULTI"]));
            bytes.extend(command(&["INCR", "counter"]));
            bytes.extend(command(&["SADD", "members", &key]));
            bytes.extend(command(&["EXEC"]));
        }
    }
    redis.apply(&bytes);
}

fn follow(fake: &Fake, port: u16) -> v1::FollowRequest {
    *fake.master.lock().unwrap() = Some(("127.0.0.1".to_owned(), port.into()));
    v1::FollowRequest {
        run: fake.run.to_wire(),
        host: "127.0.0.1".into(),
        port: port.into(),
        listening_port: 7777,
        ..v1::FollowRequest::default()
    }
}

async fn connected(fake: &Fake) {
    eventually("the link is up", || {
        fake.link.borrow().status == v1::LinkStatus::Connected as i32
    })
    .await;
}

/// Waits until all that the master has is applied, then loads what the server
/// was given into another Redis: both hold the same.
async fn same_data(fake: &Fake, master: &mut Redis) {
    eventually("all is applied", || {
        fake.loaded.borrow().applied.to_string() == master.info("master_repl_offset")
    })
    .await;
    let loaded = fake.loaded.borrow().clone();
    let mut copy = Redis::start_with(&[], loaded.snapshots.last().map(|path| path.as_path()));
    copy.apply(&loaded.stream);
    assert_eq!(copy.digest(), master.digest());
}

async fn follows_a_master(diskless: &str) {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let mut master = Redis::start(&["--repl-diskless-sync", diskless]);
    fill(&mut master, "before", 20_000 * scale());
    let mut agent = Agent::start(&fake).await;
    let request = follow(&fake, master.port);
    agent.client.follow(request.clone()).await.unwrap();
    connected(&fake).await;
    fill(&mut master, "stream", 2000 * scale());
    same_data(&fake, &mut master).await;
    let memory = redrock_daemon::memory::read_resident(agent.pid()).unwrap();
    let peak_bytes = memory.peak_rss_bytes;
    assert!(
        peak_bytes < 40 << 20,
        "it took {peak_bytes} bytes of memory"
    );
    assert!(master.info("slave0").contains("port=7777"));
    // Following the same one again changes nothing.
    agent.client.follow(request).await.unwrap();

    // GETACK is answered at once: WAIT does not wait for the next second.
    master.call("SET waited 1");
    let began = Instant::now();
    assert_eq!(master.call("WAIT 1 5000"), "1");
    assert!(began.elapsed() < Duration::from_millis(900), "{began:?}");

    // The link breaks: it goes on where it was.
    fill(&mut master, "more", 500);
    master.call("CLIENT KILL TYPE replica");
    fill(&mut master, "while down", 500);
    same_data(&fake, &mut master).await;
    assert_eq!(master.info("sync_full"), "1");
    assert_eq!(master.info("sync_partial_ok"), "1");

    // So it does after the agent's death: a new one asks the server.
    agent.kill();
    fill(&mut master, "without an agent", 500);
    let mut agent = Agent::start(&fake).await;
    same_data(&fake, &mut master).await;
    assert_eq!(master.info("sync_full"), "1");
    assert_eq!(master.info("sync_partial_ok"), "2");

    let run = fake.run.to_wire();
    *fake.master.lock().unwrap() = None;
    agent
        .client
        .unfollow(v1::UnfollowRequest { run })
        .await
        .unwrap();
    eventually("the link is gone", || {
        fake.link.borrow().status == v1::LinkStatus::None as i32
    })
    .await;
    let left = std::fs::read_dir(dir.path().join("spool")).unwrap().count();
    assert_eq!(left, 0, "the spool is empty");
    eventually("the master sees nobody", || {
        master.info("connected_slaves") == "0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diskless_master_is_followed_and_resumed() {
    follows_a_master("yes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_sends_a_length_is_followed_and_resumed() {
    follows_a_master("no").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_snapshot_loads_the_stream_is_spooled_and_the_master_kept() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    // A real replica would be cut off: its backlog in the master is tiny.
    let mut master = Redis::start(&[
        "--client-output-buffer-limit",
        "replica 4mb 4mb 0",
        "--repl-timeout",
        "3",
    ]);
    fill(&mut master, "before", 1000);
    let mut agent = Agent::start(&fake).await;
    fake.stalled.send_replace(true);
    agent
        .client
        .follow(follow(&fake, master.port))
        .await
        .unwrap();
    eventually("the snapshot is whole", || {
        !master.info("slave0").is_empty() && master.info("slave0").contains("state=online")
    })
    .await;
    for round in 0..5 {
        fill(&mut master, &format!("round {round}"), 10_000);
    }
    // Longer than the timeout: the acknowledgements keep the link.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let status = agent.status(&fake).await;
    assert_eq!(status.link, v1::LinkStatus::Sync as i32);
    // It has acknowledged that it is there, and none of the data.
    let slave = master.info("slave0");
    assert!(slave.contains("offset=0,"), "{slave}");
    assert_eq!(master.call("WAIT 1 100"), "0");
    assert!(status.spool_bytes > 5 << 20, "{}", status.spool_bytes);
    let memory = redrock_daemon::memory::read_resident(agent.pid()).unwrap();
    let peak_bytes = memory.peak_rss_bytes;
    assert!(
        peak_bytes < 40 << 20,
        "it took {peak_bytes} bytes of memory"
    );
    fake.stalled.send_replace(false);
    connected(&fake).await;
    same_data(&fake, &mut master).await;
    assert_eq!(master.info("sync_full"), "1");
    eventually("what is applied is removed", || {
        let files = std::fs::read_dir(dir.path().join("spool")).unwrap();
        files.flatten().all(|file| {
            let name = file.file_name().into_string().unwrap();
            name.starts_with("stream-")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_spools_limit_reading_stops_and_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let fake: Arc<Fake> = Fake::start(dir.path());
    fake.settings
        .send_replace(vec![("repl-spool-disk-size".to_owned(), "1mb".to_owned())]);
    let mut master = Redis::start(&[]);
    fill(&mut master, "before", 10);
    let mut agent = Agent::start(&fake).await;
    agent
        .client
        .follow(follow(&fake, master.port))
        .await
        .unwrap();
    connected(&fake).await;
    fake.stalled.send_replace(true);
    for round in 0..10 {
        fill(&mut master, &format!("round {round}"), 10_000);
    }
    let began = Instant::now();
    while agent.status(&fake).await.spool_bytes < 1 << 20 {
        assert!(began.elapsed() < LONG, "the spool never fills");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let spool_bytes = agent.status(&fake).await.spool_bytes;
    let limit = (1 << 20) + (512 << 10);
    assert!(spool_bytes < limit, "{spool_bytes} bytes are spooled");
    fake.stalled.send_replace(false);
    same_data(&fake, &mut master).await;
    assert_eq!(master.info("sync_full"), "1");
    // One command larger than the whole spool passes as well.
    master.apply(&command(&["SET", "large", &"x".repeat(3 << 20)]));
    same_data(&fake, &mut master).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_or_an_absent_master_leaves_all_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let mut agent = Agent::start(&fake).await;
    let nobody = follow(&fake, free_port());
    agent.client.follow(nobody).await.unwrap();
    let told = |fake: &Fake, text: &str| {
        let link = fake.link.borrow();
        link.status == v1::LinkStatus::Connect as i32 && link.last_error.contains(text)
    };
    eventually("a refused connection is told", || told(&fake, "connect")).await;

    let mut master = Redis::start(&[]);
    assert_eq!(master.call("CONFIG SET requirepass secret"), "OK");
    let mut request = follow(&fake, master.port);
    request.password = "wrong".into();
    agent.client.follow(request.clone()).await.unwrap();
    eventually("a wrong password is told", || {
        told(&fake, "Unable to AUTH to MASTER")
    })
    .await;
    assert!(fake.loaded.borrow().snapshots.is_empty());
    assert_eq!(fake.loaded.borrow().begins, 0);
    assert!(!agent.log_text().contains("secret"));

    // The right one, and a history that the master doesn't know: full sync.
    request.password = "secret".into();
    request.user = "default".into();
    request.replid = id('f');
    request.offset = 77;
    agent.client.follow(request).await.unwrap();
    connected(&fake).await;
    eventually("all is applied", || {
        fake.loaded.borrow().applied.to_string() == master.info("master_repl_offset")
    })
    .await;
    assert_eq!(fake.loaded.borrow().snapshots.len(), 1);
    assert_eq!(fake.loaded.borrow().replid, master.info("master_replid"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_can_not_be_loaded_is_asked_for_again_after_pauses_that_grow() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let failures = vec![RpcError::corrupt("a value is damaged"); 3];
    *fake.failing_loads.lock().unwrap() = failures.into();
    let mut master = Redis::start(&["--repl-diskless-sync-delay", "0"]);
    fill(&mut master, "before", 100);
    let mut agent = Agent::start(&fake).await;
    let began = Instant::now();
    agent
        .client
        .follow(follow(&fake, master.port))
        .await
        .unwrap();
    eventually("it is told why", || {
        fake.link.borrow().last_error.contains("a value is damaged")
    })
    .await;
    connected(&fake).await;
    // Three loads, and 1, 2 and 4 seconds behind them.
    let least = LOAD_FAILS_AFTER * 3 + Duration::from_secs(1 + 2 + 4);
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    assert_eq!(master.info("sync_full"), "4");
    assert_eq!(fake.link.borrow().last_error, "");
    same_data(&fake, &mut master).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_for_which_the_server_has_no_room_is_kept_until_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let failures = vec![RpcError::unavailable("the data does not fit"); 3];
    *fake.failing_loads.lock().unwrap() = failures.into();
    let mut master = Redis::start(&["--repl-diskless-sync-delay", "0"]);
    fill(&mut master, "before", 100);
    let mut agent = Agent::start(&fake).await;
    agent
        .client
        .follow(follow(&fake, master.port))
        .await
        .unwrap();
    eventually("it is told why", || {
        let link = fake.link.borrow();
        link.status == v1::LinkStatus::Sync as i32
            && link.last_error.contains("the data does not fit")
    })
    .await;
    // What comes meanwhile is spooled, across a link that breaks.
    fill(&mut master, "meanwhile", 100);
    master.call("CLIENT KILL TYPE replica");
    fill(&mut master, "while down", 100);
    connected(&fake).await;
    same_data(&fake, &mut master).await;
    assert!(fake.failing_loads.lock().unwrap().is_empty());
    assert_eq!(master.info("sync_full"), "1");
    assert_eq!(master.info("sync_partial_ok"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_sibling_continues_our_stream_under_its_new_id() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let mut first = Redis::start(&[]);
    fill(&mut first, "before", 100);
    let mut sibling = Redis::start(&[]);
    sibling.call(&format!("REPLICAOF 127.0.0.1 {}", first.port));
    let mut agent = Agent::start(&fake).await;
    agent
        .client
        .follow(follow(&fake, first.port))
        .await
        .unwrap();
    connected(&fake).await;
    fill(&mut first, "stream", 100);
    same_data(&fake, &mut first).await;
    let digest = first.digest();
    eventually("the sibling has all", || sibling.digest() == digest).await;
    assert_eq!(first.call("WAIT 2 5000"), "2");
    let replid = fake.loaded.borrow().replid.clone();
    drop(first);
    sibling.call("REPLICAOF NO ONE");
    fill(&mut sibling, "as master", 100);
    let mut request = follow(&fake, sibling.port);
    request.replid = replid.clone();
    request.offset = fake.loaded.borrow().applied;
    agent.client.follow(request).await.unwrap();
    same_data(&fake, &mut sibling).await;
    assert_eq!(sibling.info("sync_full"), "0");
    let now = fake.loaded.borrow().replid.clone();
    assert_eq!(now, sibling.info("master_replid"));
    assert_ne!(now, replid);
    assert_eq!(fake.loaded.borrow().snapshots.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_fails_over_to_us_becomes_our_replica() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let mut master = Redis::start(&[]);
    fill(&mut master, "before", 100);
    let mut agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;
    let mut request = follow(&fake, master.port);
    request.listening_port = front.port.into();
    agent.client.follow(request).await.unwrap();
    connected(&fake).await;
    same_data(&fake, &mut master).await;
    assert_eq!(master.call("FAILOVER TIMEOUT 10000"), "OK");
    eventually("it follows us", || {
        master.info("role") == "slave" && master.info("master_link_status") == "up"
    })
    .await;
    assert_eq!(master.info("master_replid"), id('d'));
    let offset = fake.log.borrow().written_offset;
    fake.append(&command(&["SELECT", "0"]));
    fake.append(&command(&["SET", "from", "us"]));
    eventually("our stream arrives", || master.call("GET from") == "us").await;
    assert!(fake.log.borrow().written_offset > offset);
    let status = agent.status(&fake).await;
    assert_eq!(status.link, v1::LinkStatus::None as i32);
    assert_eq!((status.sync_full, status.sync_partial_ok), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_ours_gets_our_masters_history() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    fake.keeps_log.store(true, Ordering::Relaxed);
    let mut master = Redis::start(&[]);
    fill(&mut master, "before", 1000);
    let mut agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;
    agent
        .client
        .follow(follow(&fake, master.port))
        .await
        .unwrap();
    connected(&fake).await;
    let mut last = Redis::start(&[]);
    last.call(&format!("REPLICAOF 127.0.0.1 {}", front.port));
    fill(&mut master, "stream", 1000);
    eventually("the stream passes through", || {
        last.digest() == master.digest() && last.info("master_link_status") == "up"
    })
    .await;
    assert_eq!(last.info("master_replid"), master.info("master_replid"));
    let offset = master.info("master_repl_offset");
    eventually("offsets are the master's", || {
        last.info("slave_repl_offset") == offset
    })
    .await;

    // While our master is gone nobody new is served; who is there stays.
    drop(master);
    eventually("our link is down", || {
        fake.link.borrow().status != v1::LinkStatus::Connected as i32
    })
    .await;
    let mut peer = TcpStream::connect(("127.0.0.1", front.port)).unwrap();
    peer.write_all(&command(&["PSYNC", "?", "-1"])).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("-NOMASTERLINK"), "{answer:?}");
    assert_eq!(last.info("master_link_status"), "up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_told_nothing_sees_for_itself_whom_the_server_follows() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let (mut first, mut second) = (Redis::start(&[]), Redis::start(&[]));
    let mut agent = Agent::start(&fake).await;
    let role = |role: v1::Role| fake.log.send_modify(|log| log.role = role.into());
    role(v1::Role::Replica);
    fake.loaded.send_modify(|loaded| loaded.replid = id('a'));
    for master in [&mut first, &mut second] {
        follow(&fake, master.port);
        eventually("it is followed", || master.info("connected_slaves") == "1").await;
        fill(master, "stream", 100);
        same_data(&fake, master).await;
    }
    assert_eq!(first.info("connected_slaves"), "0");
    *fake.master.lock().unwrap() = None;
    role(v1::Role::Master);
    eventually("the link is gone", || {
        fake.link.borrow().status == v1::LinkStatus::None as i32
    })
    .await;
    let status = agent.status(&fake).await;
    assert_eq!((status.master_port, status.spool_bytes), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_follows_itself_keeps_its_data_and_goes_on_trying() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    fake.begin_segment(&id('a'), Some(0));
    fake.log
        .send_modify(|log| log.role = v1::Role::Replica.into());
    let mut agent = Agent::start(&fake).await;
    let front = Front::start(&fake).await;
    agent
        .client
        .follow(follow(&fake, front.port))
        .await
        .unwrap();
    eventually("it is told why", || {
        fake.link.borrow().last_error.contains("NOMASTERLINK")
    })
    .await;
    assert!(fake.loaded.borrow().snapshots.is_empty());
    assert_eq!(fake.loaded.borrow().begins, 0);
}
