//! The built program against an `Admin` service over a real Unix socket: what
//! it prints, where, and its exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use redrock_daemon::uds::{PrivateListener, base_routes, serve};
use redrock_proto::v1::admin_server::{Admin, AdminServer};
use redrock_proto::{RpcError, v1};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

type ProgressStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::Progress, Status>> + Send>>;
type Reply<T> = Result<Response<T>, Status>;

/// Answers with fixed figures; what it doesn't know fails as a server without
/// its persister would.
struct FixedAdmin;

fn no_persister() -> Status {
    RpcError::unavailable("the persister is down")
        .with_hint("it is being restarted")
        .into()
}

fn stream(messages: Vec<Result<v1::Progress, Status>>) -> Reply<ProgressStream> {
    Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
}

fn phase(phase: v1::Phase) -> v1::Progress {
    let mut progress = v1::Progress {
        bytes_done: 1,
        bytes_total: 4,
        ..Default::default()
    };
    progress.set_phase(phase);
    progress
}

#[tonic::async_trait]
impl Admin for FixedAdmin {
    type SnapshotStream = ProgressStream;
    type RewriteStream = ProgressStream;
    type FailoverStream = ProgressStream;
    type DrainStream = ProgressStream;
    type WatchConfigStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<v1::ConfigUpdate, Status>> + Send>>;

    async fn status(&self, _: Request<v1::AdminStatusRequest>) -> Reply<v1::AdminStatus> {
        let mut status = v1::AdminStatus {
            version: "9.9.9".into(),
            port: 7000,
            keys: 12,
            daemons: vec![v1::DaemonStatus {
                pid: 55,
                ..Default::default()
            }],
            warnings: vec!["the disk is nearly full".into()],
            ..Default::default()
        };
        status.set_role(v1::Role::Master);
        status.daemons[0].set_kind(v1::DaemonKind::Persist);
        Ok(Response::new(status))
    }

    async fn memory(&self, _: Request<v1::AdminMemoryRequest>) -> Reply<v1::AdminMemory> {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Err(no_persister())
    }

    async fn tier(&self, _: Request<v1::AdminTierRequest>) -> Reply<v1::AdminTier> {
        Ok(Response::new(v1::AdminTier::default()))
    }

    async fn snapshot(&self, request: Request<v1::AdminSnapshotRequest>) -> Reply<ProgressStream> {
        let mut done = phase(v1::Phase::Done);
        let path = format!("backup/{}.rdb", request.into_inner().backup_name);
        done.outcome = Some(v1::Outcome {
            path,
            keys: 12,
            ..Default::default()
        });
        stream(vec![Ok(phase(v1::Phase::Copying)), Ok(done)])
    }

    async fn rewrite(&self, _: Request<v1::AdminRewriteRequest>) -> Reply<ProgressStream> {
        stream(vec![Ok(phase(v1::Phase::Cut)), Err(no_persister())])
    }

    async fn backups(&self, _: Request<v1::AdminBackupsRequest>) -> Reply<v1::AdminBackups> {
        Err(no_persister())
    }

    async fn replication(
        &self,
        _: Request<v1::AdminReplicationRequest>,
    ) -> Reply<v1::AdminReplication> {
        Err(no_persister())
    }

    async fn failover(&self, _: Request<v1::AdminFailoverRequest>) -> Reply<ProgressStream> {
        stream(vec![Ok(phase(v1::Phase::Waiting))])
    }

    async fn config_get(
        &self,
        request: Request<v1::ConfigGetRequest>,
    ) -> Reply<v1::ConfigGetReply> {
        let named = |name: String| v1::Setting {
            name,
            value: "x y".into(),
        };
        let settings = request
            .into_inner()
            .patterns
            .into_iter()
            .map(named)
            .collect();
        Ok(Response::new(v1::ConfigGetReply { settings }))
    }

    async fn config_set(&self, request: Request<v1::ConfigSetRequest>) -> Reply<v1::Empty> {
        let settings = request.into_inner().settings;
        match settings.first() {
            Some(setting) if setting.name == "maxmemory" && setting.value == "1gb" => {
                Ok(Response::new(v1::Empty {}))
            }
            _ => Err(RpcError::invalid("Unknown option or number of arguments").into()),
        }
    }

    async fn watch_config(
        &self,
        _: Request<v1::WatchConfigRequest>,
    ) -> Reply<Self::WatchConfigStream> {
        Err(no_persister())
    }

    async fn log_level(&self, _: Request<v1::LogLevelRequest>) -> Reply<v1::Empty> {
        Ok(Response::new(v1::Empty {}))
    }

    async fn drain(&self, _: Request<v1::DrainRequest>) -> Reply<ProgressStream> {
        stream(vec![Ok(phase(v1::Phase::Done))])
    }

    async fn shutdown(&self, _: Request<v1::ShutdownRequest>) -> Reply<v1::Empty> {
        Ok(Response::new(v1::Empty {}))
    }
}

/// Runs the program against a fixed server until the test ends.
struct Fixture {
    dir: tempfile::TempDir,
    stop: CancellationToken,
}

impl Fixture {
    fn start() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let listener_path = dir.path().join("run/server.sock");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let token = stop.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = PrivateListener::bind(&listener_path).unwrap();
                let (_reporter, routes) = base_routes(&[]).unwrap();
                ready.send(()).unwrap();
                let routes = routes.add_service(AdminServer::new(FixedAdmin));
                serve(listener, routes, token).await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        Fixture { dir, stop }
    }

    fn run(&self, words: &[&str]) -> Run {
        run(self.dir.path(), words)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(dir: &Path, words: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redrockctl"));
    let Output {
        status,
        stdout,
        stderr,
    } = command.arg("--dir").arg(dir).args(words).output().unwrap();
    Run {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

#[test]
fn status_is_a_table_or_json() {
    let fixture = Fixture::start();
    let table = fixture.run(&["status"]);
    assert_eq!((table.code, table.err.as_str()), (Some(0), ""));
    for line in [
        "version    9.9.9",
        "role       master",
        "persist  down   55   -",
    ] {
        assert!(table.out.contains(line), "{line} in\n{}", table.out);
    }
    assert!(table.out.ends_with("! the disk is nearly full\n"));
    let json = fixture.run(&["--json", "status"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["keys"], 12);
    assert_eq!(json["daemons"][0]["daemon"], "persist");
    assert_eq!(json["log"], serde_json::Value::Null);
}

#[test]
fn long_actions_show_progress_and_end_with_their_outcome() {
    let fixture = Fixture::start();
    let text = fixture.run(&["snapshot", "--backup", "--name", "friday"]);
    assert_eq!(text.code, Some(0));
    assert!(
        text.err.contains("backup: copying, 0 ms, 25.0 % of 4 B"),
        "{}",
        text.err
    );
    assert!(text.out.contains("backup/friday.rdb"), "{}", text.out);
    let json = fixture.run(&["snapshot", "--json"]);
    let lines: Vec<serde_json::Value> = json
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["phase"], "done");
    assert_eq!(lines[1]["outcome"]["keys"], 12);
}

#[test]
fn failures_exit_with_1_and_tell_reason_and_hint() {
    let fixture = Fixture::start();
    for words in [&["backups"][..], &["rewrite"]] {
        let run = fixture.run(words);
        assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
        let message =
            "redrockctl: UNAVAILABLE: the persister is down\n  hint: it is being restarted\n";
        assert!(run.err.ends_with(message), "{}", run.err);
    }
    let json = fixture.run(&["--json", "backups"]);
    let error: serde_json::Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!(error["error"]["code"], "UNAVAILABLE");
    let cut = fixture.run(&["failover"]);
    assert_eq!(cut.code, Some(1));
    assert!(cut.err.contains("stopped telling"), "{}", cut.err);
}

#[test]
fn health_is_an_exit_code() {
    let fixture = Fixture::start();
    let serving = fixture.run(&["health"]);
    assert_eq!((serving.code, serving.out.as_str()), (Some(0), "serving\n"));
    let absent = tempfile::tempdir().unwrap();
    assert_eq!(run(absent.path(), &["health"]).code, Some(1));
}

#[test]
fn a_silent_server_is_given_up() {
    let run = Fixture::start().run(&["--timeout", "1", "memory"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("TIMEOUT"), "{}", run.err);
}

#[test]
fn an_absent_server_is_an_error_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), &["status"]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.err.contains("run/server.sock") && run.err.contains("hint: "),
        "{}",
        run.err
    );
}

#[test]
fn settings_are_read_and_changed() {
    let fixture = Fixture::start();
    assert_eq!(fixture.run(&["config", "get", "save"]).out, "save  x y\n");
    assert_eq!(
        fixture.run(&["config", "set", "maxmemory=1gb"]).out,
        "changed\n"
    );
    let refused = fixture.run(&["config", "set", "nonsense=1"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("INVALID: Unknown option"),
        "{}",
        refused.err
    );
    assert_eq!(
        fixture
            .run(&["log-level", "debug", "--daemon", "persist"])
            .code,
        Some(0)
    );
    assert_eq!(
        fixture.run(&["shutdown", "--nosave"]).out,
        "the server is stopping\n"
    );
    assert_eq!(fixture.run(&["drain"]).code, Some(0));
    assert_eq!(fixture.run(&["tier"]).out, "tier  off\n");
}

#[test]
fn wrong_usage_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["frobnicate"][..],
        &[],
        &["config", "set"],
        &["config", "set", "novalue"],
        &["log-level", "loud"],
        &["shutdown", "--save", "--nosave"],
        &["failover", "--force"],
        &["snapshot", "--name", "x"],
        &["failover", "--to", "nowhere"],
    ] {
        assert_eq!(run(dir.path(), words).code, Some(2), "{words:?}");
    }
}
