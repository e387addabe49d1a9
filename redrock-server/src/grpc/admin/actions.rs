//! Actions of operators: most are the persister's, with its progress passed on.

use super::{Messages, Reply};
use crate::grpc::Shared;
use crate::replication::failover::{self, Wanted};
use crate::state::ShutdownRequest;
use redrock_proto::v1::{self, FileKind, Phase, ShutdownSave};
use redrock_proto::{ErrorCode, RpcError};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

const DRAIN_MS_MAX: u64 = 3_600_000;
const DRAIN_LOOK: Duration = Duration::from_millis(50);
const DRAIN_REPORT: Duration = Duration::from_millis(500);
/// For a shutdown to be under way, or to be refused.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(60);

fn pass_on(stream: Streaming<v1::Progress>) -> Reply<Messages<v1::Progress>> {
    Ok(Response::new(Box::pin(stream)))
}

/// Errors of the persister keep their code and hint on the way through.
fn from_persister(status: Status) -> Status {
    let mut error = RpcError::from(status);
    if error.code == ErrorCode::Unavailable {
        error.message = format!("persister is not available: {}", error.message);
    }
    error.into()
}

pub(super) async fn snapshot(
    shared: &Shared,
    wire: v1::AdminSnapshotRequest,
) -> Reply<Messages<v1::Progress>> {
    let services = shared.services()?;
    let run = services.run.to_wire();
    if wire.backup && !wire.backup_name.is_empty() {
        return Err(RpcError::invalid("backup and backup_name exclude each other").into());
    }
    let mut persist = services.persist();
    services.look_now.notify_one();
    let stream = if wire.backup || !wire.backup_name.is_empty() {
        persist
            .backup(v1::BackupRequest {
                run,
                name: wire.backup_name,
            })
            .await
    } else {
        let kind = v1::SaveKind::Background.into();
        persist
            .save(v1::SaveRequest {
                run,
                kind,
                schedule: false,
                newer_than_snapshot: None,
            })
            .await
    };
    pass_on(stream.map_err(from_persister)?.into_inner())
}

pub(super) async fn rewrite(shared: &Shared) -> Reply<Messages<v1::Progress>> {
    let services = shared.services()?;
    let request = v1::RewriteRequest {
        run: services.run.to_wire(),
        automatic: false,
    };
    let stream = services
        .persist()
        .rewrite(request)
        .await
        .map_err(from_persister)?;
    services.look_now.notify_one();
    pass_on(stream.into_inner())
}

pub(super) async fn backups(shared: &Shared) -> Reply<v1::AdminBackups> {
    let services = shared.services()?;
    let request = v1::ListFilesRequest {
        run: services.run.to_wire(),
        kind: FileKind::Unspecified.into(),
    };
    let reply = services
        .persist()
        .list(request)
        .await
        .map_err(from_persister)?
        .into_inner();
    let wanted = [FileKind::Backup, FileKind::Dump];
    let mut files: Vec<v1::FileInfo> = reply
        .files
        .into_iter()
        .filter(|file| wanted.contains(&file.kind()))
        .collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.created_unix_ms));
    Ok(Response::new(v1::AdminBackups { files }))
}

/// As the FAILOVER command, its steps passed on.
pub(super) async fn failover(
    shared: &Shared,
    wire: v1::AdminFailoverRequest,
) -> Reply<Messages<v1::Progress>> {
    let services = shared.services()?;
    if wire.abort {
        if !failover::abort(services, &shared.server).await? {
            return Err(RpcError::not_found("no failover is under way").into());
        }
        let done = v1::Progress {
            phase: Phase::Done.into(),
            ..v1::Progress::default()
        };
        return Ok(Response::new(Box::pin(tokio_stream::once(Ok(done)))));
    }
    let port = u16::try_from(wire.port).map_err(|_| RpcError::invalid("port"))?;
    let wanted = Wanted {
        to: (!wire.host.is_empty()).then_some((wire.host, port)),
        timeout_ms: wire.timeout_ms,
        force: wire.force,
    };
    let steps = failover::start_for_operator(services, &shared.server, wanted).await?;
    let steps = ReceiverStream::new(steps).map(|step| step.map_err(Status::from));
    Ok(Response::new(Box::pin(steps)))
}

/// Takes no new clients and waits for those there to leave; what is left at the end is closed.
pub(super) fn drain(shared: &Shared, timeout_ms: u64) -> Reply<Messages<v1::Progress>> {
    if timeout_ms > DRAIN_MS_MAX {
        return Err(RpcError::invalid("timeout_ms must be at most 3600000").into());
    }
    shared.server.draining.store(true, Ordering::Release);
    tracing::warn!(timeout_ms, "draining: no new clients are taken");
    let (sender, receiver) = mpsc::channel(1);
    let shared = shared.clone();
    tokio::spawn(async move {
        let (began, limit) = (Instant::now(), Duration::from_millis(timeout_ms));
        let mut reported: Option<Instant> = None;
        loop {
            let left = shared.server.clients.read().len();
            if left > 0 && began.elapsed() >= limit {
                close_clients(&shared);
            }
            let done = left == 0;
            if done || reported.is_none_or(|at| at.elapsed() >= DRAIN_REPORT) {
                reported = Some(Instant::now());
                let message = drain_progress(left, done, began);
                if sender.send(Ok(message)).await.is_err() || done {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(DRAIN_LOOK) => {}
                () = shared.stop.cancelled() => return,
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

fn drain_progress(left: usize, done: bool, began: Instant) -> v1::Progress {
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    v1::Progress {
        phase: if done { Phase::Done } else { Phase::Waiting }.into(),
        elapsed_ms,
        note: format!("{left} clients"),
        outcome: done.then(|| v1::Outcome {
            elapsed_ms,
            ..v1::Outcome::default()
        }),
        ..v1::Progress::default()
    }
}

fn close_clients(shared: &Shared) {
    let clients: Vec<_> = shared.server.clients.read().values().cloned().collect();
    for client in clients {
        client.kill.store(true, Ordering::Relaxed);
        shared.server.poke(&client);
    }
}

/// As SHUTDOWN. The answer comes when the last save is done and nothing keeps the server.
pub(super) async fn shutdown(shared: &Shared, wire: &v1::ShutdownRequest) -> Reply<v1::Empty> {
    let (save, nosave) = match ShutdownSave::try_from(wire.save) {
        Ok(ShutdownSave::Unspecified) => (false, false),
        Ok(ShutdownSave::Save) => (true, false),
        Ok(ShutdownSave::Nosave) => (false, true),
        Err(_) => return Err(RpcError::invalid("save is unknown").into()),
    };
    let wish = &shared.server.state.shutdown;
    let mut seen = wish.subscribe();
    let request = ShutdownRequest {
        save,
        nosave,
        now: wire.now,
        force: wire.force,
    };
    wish.request(request);
    // Taken back: it was refused. The token: it is under way.
    let refused = async { while seen.wait_for(Option::is_none).await.is_err() {} };
    tokio::select! {
        () = refused => {
            Err(RpcError::internal("the server stays: saving failed, see its log")
                .with_hint("force goes without, save NOSAVE doesn't try")
                .into())
        }
        () = shared.stop.cancelled() => Ok(Response::new(v1::Empty {})),
        () = tokio::time::sleep(SHUTDOWN_WAIT) => {
            Err(RpcError::timeout("the shutdown takes long; it goes on").into())
        }
    }
}
