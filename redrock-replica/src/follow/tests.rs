//! Changes of whom to follow.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redrock_daemon::tasks::Tasks;
use redrock_log::epoch::{EpochGuard, begin_run};
use redrock_log::fs::RealFs;
use redrock_proto::model::{HexId, LinkStatus, RunRef};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{FirstAsk, Follower, Running, Target};
use crate::context::Context;

const LONG: Duration = Duration::from_secs(30);

fn target(port: u16) -> Target {
    Target {
        host: "127.0.0.1".to_owned(),
        port,
        user: String::new(),
        password: Vec::new(),
        listening_port: 1,
        announced_ip: String::new(),
        tls: false,
    }
}

/// A follower without a server whose present link does not end before it is let go.
async fn following(dir: &Path, tasks: &Tasks) -> (Arc<Follower>, oneshot::Sender<()>) {
    let epoch = begin_run(&RealFs, dir, [b'e'; 40]).unwrap();
    let guard = EpochGuard::new(Arc::new(RealFs), dir, epoch);
    let run = RunRef {
        run_id: HexId::parse(&"e".repeat(40)).unwrap(),
        epoch: epoch.number,
    };
    let (context, _) = Context::new(dir, dir, run, guard, tasks.clone());
    let follower = Arc::new(Follower::new(context));
    let (let_go, held) = oneshot::channel();
    let task = tasks.spawn("former", async move { held.await.unwrap_or(()) });
    follower.wanted.lock().await.running = Some(Running {
        target: target(1),
        stop: CancellationToken::new(),
        task,
    });
    (follower, let_go)
}

/// As the server does that waits no longer.
async fn give_up(call: impl Future<Output = ()>) {
    let short = Duration::from_millis(50);
    let ended = tokio::time::timeout(short, call).await;
    assert!(ended.is_err(), "the former link has not ended");
}

#[tokio::test]
async fn a_master_is_followed_though_the_caller_gave_up_while_the_former_link_ended() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let (follower, let_go) = following(dir.path(), &tasks).await;
    give_up(follower.follow(target(2), FirstAsk::FullSync, false)).await;
    let_go.send(()).unwrap();
    let mut link = follower.link();
    let told = link.wait_for(|link| link.port == 2);
    tokio::time::timeout(LONG, told).await.unwrap().unwrap();
    let wanted = follower.wanted.lock().await;
    assert!(matches!(&wanted.running, Some(running) if running.target == target(2)));
    tasks.drain(LONG).await.unwrap();
}

#[tokio::test]
async fn nobody_is_followed_though_the_caller_gave_up_while_the_former_link_ended() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let (follower, let_go) = following(dir.path(), &tasks).await;
    follower
        .link
        .send_modify(|link| link.set_status(LinkStatus::Sync));
    give_up(follower.unfollow()).await;
    let_go.send(()).unwrap();
    let mut link = follower.link();
    let told = link.wait_for(|link| link.state.status == LinkStatus::None);
    tokio::time::timeout(LONG, told).await.unwrap().unwrap();
    assert!(follower.wanted.lock().await.running.is_none());
    tasks.drain(LONG).await.unwrap();
}
