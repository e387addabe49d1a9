//! The real daemon: killed at every step of a rewrite, started again, checked with Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::redis::Redis;
use common::server::{FakeServer, Fault, eventually, run_ref};
use redrock_daemon::role_lock::{Role, RoleLock};
use redrock_log::epoch::begin_run;
use redrock_log::fs::RealFs;
use redrock_log::manifest::{self, Manifest, Names};
use redrock_persist::check::{Verdict, check_path};
use redrock_persist::progress::ActionProgress;
use redrock_proto::client::{Timeouts, persist_client};
use redrock_proto::model::RunRef;
use redrock_proto::{RpcError, v1};
use tokio_util::sync::CancellationToken;

const DIR: &str = "appendonlydir";

/// Every point that a rewrite passes, in order.
const POINTS: &str = include_str!("rewrite_points.txt");

struct Daemon(Child);

impl Daemon {
    fn start(folder: &Path, failpoints: &str) -> Daemon {
        let child = Command::new(env!("CARGO_BIN_EXE_redrock-persist"))
            .arg("--dir")
            .arg(folder)
            .args(["--allow-failpoints", "--log-level", "warning"])
            .env("REDROCK_FAILPOINTS", failpoints)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Daemon(child)
    }

    fn is_gone(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Setting {
    folder: tempfile::TempDir,
    fake: FakeServer,
    run: RunRef,
    lock: Option<RoleLock>,
    stop: CancellationToken,
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn setting() -> Setting {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let lock = RoleLock::acquire(path, Role::Server).unwrap();
    let mut run_id = [0; 40];
    run_id.copy_from_slice(run_ref(1).run_id.as_str().as_bytes());
    let epoch = begin_run(&RealFs, path, run_id).unwrap();
    let run = run_ref(epoch.number);
    let fake = FakeServer::new(Arc::new(RealFs), path, run);
    let directory = path.join(DIR);
    std::fs::create_dir(&directory).unwrap();
    let names = Names::default();
    assert!(fake.begin_log(1, &directory.join(names.incr(1))));
    let manifest = Manifest::default().with_incr(&names, 1, None).unwrap();
    manifest::store(&RealFs, &directory, &names, &manifest).unwrap();
    for index in 0..5 {
        assert!(fake.append_set(&format!("k{index}")));
    }
    let stop = CancellationToken::new();
    fake.serve(&path.join("run"), stop.clone());
    Setting {
        folder,
        fake,
        run,
        lock: Some(lock),
        stop,
    }
}

impl Setting {
    /// Asks for a rewrite until the daemon takes the request; gives how it ended.
    async fn rewrite(&self) -> Result<v1::Outcome, RpcError> {
        let socket_dir = self.folder.path().join("run");
        let mut client = persist_client(&socket_dir, Timeouts::default());
        for _ in 0..1000 {
            let request = v1::RewriteRequest {
                run: self.run.to_wire(),
                automatic: false,
            };
            match client.rewrite(request).await.map_err(RpcError::from) {
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    while let Some(progress) = stream.message().await? {
                        if let Some(outcome) = progress.outcome {
                            return Ok(outcome);
                        }
                    }
                    return Err(RpcError::internal("it ended without an outcome"));
                }
                Err(error) if error.code.is_retryable() => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(RpcError::timeout("the daemon never took the request"))
    }

    fn assert_sound(&self, what: &str) {
        for report in check_path(&RealFs, self.folder.path(), &ActionProgress::new()) {
            let path = report.path.display();
            assert_eq!(report.verdict, Verdict::Sound, "{what}: {path}");
        }
    }

    /// What Redis finds in a copy of the folder.
    fn keys_in_redis(&self) -> Option<BTreeSet<String>> {
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join(DIR)).unwrap();
        for entry in std::fs::read_dir(self.folder.path().join(DIR)).unwrap() {
            let entry = entry.unwrap();
            let target = copy.path().join(DIR).join(entry.file_name());
            std::fs::copy(entry.path(), target).unwrap();
        }
        let mut redis = Redis::start(copy.path(), &["--appendonly", "yes"])?;
        let keys = redis.line("KEYS *");
        Some(keys.split_whitespace().map(str::to_owned).collect())
    }

    fn acknowledged(&self) -> BTreeSet<String> {
        self.fake
            .state
            .lock()
            .acknowledged
            .iter()
            .cloned()
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_of_a_rewrite_the_files_hold_everything_and_the_next_one_succeeds() {
    for point in POINTS.lines() {
        let setting = setting();
        let mut daemon = Daemon::start(setting.folder.path(), &format!("{point}:kill"));
        setting.rewrite().await.unwrap_err();
        eventually(&format!("{point} kills"), || daemon.is_gone()).await;
        setting.fake.append_set("while-it-was-gone");
        setting.assert_sound(point);
        if let Some(keys) = setting.keys_in_redis() {
            assert_eq!(keys, setting.acknowledged(), "{point}");
        }
        let _again = Daemon::start(setting.folder.path(), "");
        setting
            .rewrite()
            .await
            .unwrap_or_else(|error| panic!("{point}: {error}"));
        let directory = setting.folder.path().join(DIR);
        let manifest = manifest::load(&RealFs, &directory, &Names::default())
            .unwrap()
            .unwrap();
        assert!(
            manifest.base.is_some() && manifest.incr.len() == 1,
            "{point}"
        );
        let left: Vec<String> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        // Base, segment, its sidecar, manifest, and the room held for the next one.
        assert_eq!(left.len(), 5, "{point}: {left:?}");
        if let Some(keys) = setting.keys_in_redis() {
            assert_eq!(keys, setting.acknowledged(), "{point}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_step_fails_the_rewrite_and_the_daemon_goes_on() {
    for point in POINTS.lines() {
        let setting = setting();
        let mut daemon = Daemon::start(setting.folder.path(), &format!("{point}:error"));
        let first = setting.rewrite().await;
        // Removing history is tried again by itself; it does not fail a rewrite.
        assert_eq!(first.is_ok(), point.starts_with("history"), "{point}");
        setting.assert_sound(point);
        setting
            .rewrite()
            .await
            .unwrap_or_else(|error| panic!("{point}: {error}"));
        assert!(!daemon.is_gone());
        let directory = setting.folder.path().join(DIR);
        let manifest = manifest::load(&RealFs, &directory, &Names::default())
            .unwrap()
            .unwrap();
        assert!(manifest.history.is_empty(), "{point}");
        assert_eq!(manifest.incr.len(), 1, "{point}");
        let litter = std::fs::read_dir(setting.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .find(|name| name.starts_with("temp-"));
        assert_eq!(litter, None, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_waits_for_its_server_serves_its_next_run_and_only_one_may_be_there() {
    let mut setting = setting();
    let mut daemon = Daemon::start(setting.folder.path(), "");
    setting.rewrite().await.unwrap();
    let mut second = Daemon::start(setting.folder.path(), "");
    eventually("a second daemon refuses to start", || second.is_gone()).await;

    // The server goes; requests are refused and nothing ends.
    let former = setting.run;
    setting.stop.cancel();
    drop(setting.lock.take());
    let socket_dir = setting.folder.path().join("run");
    let mut client = persist_client(&socket_dir, Timeouts::default());
    let mut refused = None;
    for _ in 0..500 {
        let request = v1::PersistStatusRequest {
            run: former.to_wire(),
        };
        match client.status(request).await.map_err(RpcError::from) {
            Err(error) => {
                refused = Some(error);
                break;
            }
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    let error = refused.expect("requests are refused without a server");
    assert_eq!(error.code, redrock_proto::ErrorCode::Unavailable, "{error}");
    assert!(!daemon.is_gone());

    // It comes back as another run.
    setting.lock = Some(RoleLock::acquire(setting.folder.path(), Role::Server).unwrap());
    let mut run_id = [0; 40];
    run_id.copy_from_slice(former.run_id.as_str().as_bytes());
    let epoch = begin_run(&RealFs, setting.folder.path(), run_id).unwrap();
    assert!(epoch.number > former.epoch);
    setting.run = run_ref(epoch.number);
    setting.fake.run = setting.run;
    setting.stop = CancellationToken::new();
    let _ = std::fs::remove_file(socket_dir.join("server.sock"));
    setting.fake.serve(&socket_dir, setting.stop.clone());
    let mut result = setting.rewrite().await;
    for _ in 0..500 {
        match &result {
            // The daemon may not have noticed the new run yet.
            Err(error) if error.code == redrock_proto::ErrorCode::StaleEpoch => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                result = setting.rewrite().await;
            }
            _ => break,
        }
    }
    result.unwrap();
    let request = v1::PersistStatusRequest {
        run: former.to_wire(),
    };
    let error = RpcError::from(client.status(request).await.unwrap_err());
    assert_eq!(error.code, redrock_proto::ErrorCode::StaleEpoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_killed_while_the_server_hangs_leaves_the_log_as_it_was() {
    let setting = setting();
    setting
        .fake
        .change(|state| state.fault = Fault::HangAfterCut);
    let mut daemon = Daemon::start(setting.folder.path(), "");
    let rewriting = setting.rewrite();
    let killing = async {
        let fake = setting.fake.clone();
        eventually("the cut", || fake.state.lock().takes > 0).await;
        daemon.0.kill().unwrap();
        daemon.0.wait().unwrap();
    };
    let (rewritten, ()) = tokio::join!(rewriting, killing);
    rewritten.unwrap_err();
    assert!(setting.fake.append_set("behind"));
    setting.assert_sound("killed behind the cut");
    if let Some(keys) = setting.keys_in_redis() {
        assert_eq!(keys, setting.acknowledged());
    }
}

#[test]
fn the_check_command_tells_sound_from_damaged_files() {
    let folder = tempfile::tempdir().unwrap();
    // With `everysec` Redis answers before it writes while a sync is under way, and the kill would
    // take what was answered.
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut redis) = Redis::start(folder.path(), &options) else {
        return;
    };
    for index in 0..50 {
        redis.line(&format!("RPUSH list{index} a b c"));
    }
    redis.line("SAVE");
    drop(redis);
    let check = |expected: i32| {
        let output = Command::new(env!("CARGO_BIN_EXE_redrock-persist"))
            .arg("check")
            .arg(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(expected), "{text}");
        text
    };
    let sound = check(0);
    assert_eq!(sound.lines().count(), 4, "{sound}");
    assert!(
        sound.contains("50 keys") && sound.contains("51 commands"),
        "{sound}"
    );

    let dump = folder.path().join("dump.rdb");
    let mut bytes = std::fs::read(&dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&dump, &bytes).unwrap();
    let incr = folder.path().join(DIR).join("appendonly.aof.1.incr.aof");
    let mut log = std::fs::read(&incr).unwrap();
    log.extend_from_slice(b"*2\r\n$3\r\nDEL\r\n");
    std::fs::write(&incr, &log).unwrap();
    let damaged = check(1);
    assert!(
        damaged.contains("DAMAGED") && damaged.contains("dump.rdb"),
        "{damaged}"
    );
    assert!(
        damaged.contains("remark") && damaged.contains("incomplete"),
        "{damaged}"
    );

    // The `$` of the first argument's length.
    log[4] = b'!';
    std::fs::write(&incr, &log).unwrap();
    let damaged = check(1);
    assert!(
        damaged.contains("redrock-persist check --repair"),
        "{damaged}"
    );
    assert!(damaged.contains("offset"), "{damaged}");
}
