//! Starts and ends: whose companion the agent is, and for how long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Child, Command, Stdio};

use common::eventually;
use common::server::{Fake, id};
use redrock_daemon::role_lock::{Role, RoleLock, is_held};
use redrock_log::epoch::begin_run;
use redrock_log::fs::RealFs;

fn spawn(fake: &Fake, options: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_redrock-replica"))
        .arg("--dir")
        .arg(&fake.dir)
        .arg("--socket-dir")
        .arg(&fake.socket_dir)
        .args(options)
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
    let mut agent = spawn(&fake, &[]);
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
    let mut second = spawn(&fake, &[]);
    assert!(!second.wait().unwrap().success());
    assert!(agent.try_wait().unwrap().is_none());

    // Nobody's child, it waits for the server's next run and serves that.
    drop(server);
    eventually("it serves no longer", || !socket.exists()).await;
    assert!(agent.try_wait().unwrap().is_none());
    // The stand-in would still answer for the former one.
    std::fs::remove_file(fake.socket_dir.join("server.sock")).unwrap();
    begin_run(&RealFs, dir.path(), [b'9'; 40]).unwrap();
    let server = RoleLock::acquire(dir.path(), Role::Server).unwrap();
    eventually("it serves again", || socket.exists()).await;

    drop(server);
    eventually("it serves no longer", || !socket.exists()).await;
    let pid = i32::try_from(agent.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut end = None;
    eventually("it ends when asked to", || {
        end = agent.try_wait().unwrap();
        end.is_some()
    })
    .await;
    assert!(end.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_ends_with_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    // Started for a parent that has already gone.
    let mut parent = Command::new("true").spawn().unwrap();
    parent.wait().unwrap();
    let gone = parent.id().to_string();
    let mut agent = spawn(&fake, &["--server-pid", &gone]);
    let mut end = None;
    eventually("it ends", || {
        end = agent.try_wait().unwrap();
        end.is_some()
    })
    .await;
    assert!(end.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_of_a_former_run_stops() {
    let dir = tempfile::tempdir().unwrap();
    // The server that answers is of epoch 1, the directory's epoch is 2: what
    // an agent meets that was started between two runs.
    let fake = Fake::start(dir.path());
    begin_run(&RealFs, dir.path(), id('9').as_bytes().try_into().unwrap()).unwrap();
    let _server = RoleLock::acquire(dir.path(), Role::Server).unwrap();
    let run_id = id('9');
    let wanted = ["--run-id", &run_id, "--epoch", "1"];
    let mut other = spawn(&fake, &wanted);
    assert!(!other.wait().unwrap().success(), "that run is over");
    let mut agent = spawn(&fake, &[]);
    let mut end = None;
    eventually("it ends", || {
        end = agent.try_wait().unwrap();
        end.is_some()
    })
    .await;
    assert!(!end.unwrap().success());
}
