//! Starts and ends: whose companion the agent is, and for how long.

mod common;

use std::process::{Child, Command, Stdio};

use common::eventually;
use common::server::{Fake, id};
use redrock_daemon::role_lock::{Role, RoleLock, is_held};
use redrock_log::epoch::begin_run;
use redrock_log::fs::RealFs;

fn spawn(fake: &Fake) -> Child {
    Command::new(env!("CARGO_BIN_EXE_redrock-replica"))
        .arg("--dir")
        .arg(&fake.dir)
        .arg("--socket-dir")
        .arg(&fake.socket_dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_the_server_excludes_others_and_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    std::fs::create_dir(dir.path().join("spool")).unwrap();
    let left_over = dir.path().join("spool/stream-1-5.spool");
    std::fs::write(&left_over, "x").unwrap();
    let mut agent = spawn(&fake);
    eventually("it holds its lock", || {
        is_held(dir.path(), Role::Replica).unwrap()
    })
    .await;
    let socket = fake.socket_dir.join("replica.sock");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!socket.exists(), "no server, nothing to serve");
    assert!(left_over.exists(), "and nothing to touch");

    let server = RoleLock::acquire(dir.path(), Role::Server).unwrap();
    eventually("it serves", || socket.exists()).await;
    assert!(!left_over.exists());
    let mut second = spawn(&fake);
    assert!(!second.wait().unwrap().success());
    assert!(agent.try_wait().unwrap().is_none());

    drop(server);
    let mut end = None;
    eventually("it ends with the server", || {
        end = agent.try_wait().unwrap();
        end.is_some()
    })
    .await;
    assert!(end.unwrap().success());
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_of_a_former_run_stops() {
    let dir = tempfile::tempdir().unwrap();
    // The server that answers is of epoch 1, the directory's epoch is 2: what
    // an agent meets that was started between two runs.
    let fake = Fake::start(dir.path());
    begin_run(&RealFs, dir.path(), id('9').as_bytes().try_into().unwrap()).unwrap();
    let _server = RoleLock::acquire(dir.path(), Role::Server).unwrap();
    let mut agent = spawn(&fake);
    let mut end = None;
    eventually("it ends", || {
        end = agent.try_wait().unwrap();
        end.is_some()
    })
    .await;
    assert!(!end.unwrap().success());
}
