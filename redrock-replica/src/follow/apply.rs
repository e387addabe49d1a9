//! Driving the server through a spool: the snapshot, then the stream.
//!
//! The server reads the files itself; the agent names them and hears how far
//! it got. A stream that breaks is taken up where the server says it stands,
//! as long as the spool holds what comes next. What can't be taken up is
//! reported, and the follower begins anew with what the server has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redrock_proto::client::next_within;
use redrock_proto::model::{Role, SharedPath};
use redrock_proto::{ErrorCode, RpcError, v1};
use tokio::sync::watch;
use tokio_stream::Stream;

use super::Target;
use super::link::Link;
use super::spool::{SpoolShared, remove_files};
use crate::context::{Context, Position};

/// The server sends progress each second while it loads.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Between attempts to load a snapshot that the server can't take at the moment.
const LOAD_PAUSE_MAX: Duration = Duration::from_secs(30);
/// In a row, without a byte applied between them.
const FAILURES_MAX: u32 = 10;

/// A snapshot that is whole.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// It came over several links.
    pub(super) is_pieced: bool,
    /// Where the stream goes on behind it.
    pub(super) position: Position,
}

/// How far the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// The snapshot isn't in yet.
    pub(super) loading: bool,
    /// Executed up to here; while loading: the snapshot's offset.
    pub(super) applied: u64,
    /// 0: the server keeps no log.
    pub(super) durable: u64,
}

/// Loads the snapshot, if there is one, and applies the stream until the spool
/// is closed. Dropping the future cancels whatever the server does.
pub(super) async fn run(
    context: &Context,
    master: &Target,
    snapshot: Option<Snapshot>,
    spool: Arc<SpoolShared>,
    progress: watch::Sender<Progress>,
    link: &watch::Sender<Link>,
) -> Result<(), RpcError> {
    if let Some(snapshot) = snapshot {
        load(context, master, &snapshot, link).await?;
        remove(context, vec![snapshot.path]).await;
        progress.send_modify(|progress| progress.loading = false);
    }
    let mut failures = 0;
    let mut trouble: Option<String> = None;
    while !spool.is_closed() {
        let before = progress.borrow().applied;
        let on_progress = || {
            if let Some(text) = trouble.take() {
                link.send_if_modified(|link: &mut Link| link.clear_error(&text));
            }
        };
        let result = apply(context, master, &spool, &progress, on_progress).await;
        let Err(error) = result else { continue };
        let moved = progress.borrow().applied > before;
        failures = match (moved, error.code.is_retryable()) {
            (true, _) => 1,
            // Nothing is wrong with the stream: the server has no room, or is about to end.
            (false, true) => failures,
            (false, false) => failures + 1,
        };
        if failures > FAILURES_MAX {
            return Err(error);
        }
        tracing::warn!(%error, "applying the master's stream was interrupted");
        trouble = tell(link, &error);
        tokio::time::sleep(RETRY_PAUSE).await;
        let applied = take_up(context, &spool, error).await?;
        progress.send_modify(|progress| progress.applied = applied);
    }
    Ok(())
}

/// Says in the link's state why the stream stands still, in these words.
fn tell(link: &watch::Sender<Link>, error: &RpcError) -> Option<String> {
    let error = anyhow::Error::from(error.clone()).context("apply the master's stream");
    link.send_modify(|link| link.set_error(&error));
    link.borrow().state.last_error.clone()
}

/// Loads the snapshot. Where the trouble is ours and not the snapshot's it is kept and tried again:
/// the master need not send another one.
async fn load(
    context: &Context,
    master: &Target,
    snapshot: &Snapshot,
    link: &watch::Sender<Link>,
) -> Result<(), RpcError> {
    let request = v1::LoadRdbRequest {
        run: context.run.to_wire(),
        path: SharedPath::new(&context.data_dir, &snapshot.path).to_wire(),
        bytes: snapshot.bytes,
        source: Some(v1::SourceInfo {
            replid: snapshot.position.replid.to_string(),
            offset: snapshot.position.offset,
            master_host: master.host.clone(),
            master_port: master.port.into(),
        }),
        verify_checksum: snapshot.is_pieced,
    };
    let mut pause = RETRY_PAUSE;
    loop {
        let Err(error) = load_once(context, request.clone()).await else {
            return Ok(());
        };
        // Another load is just being cancelled, the server is busy with its own start, or it has
        // no room.
        if !error.code.is_retryable() {
            return Err(error);
        }
        tracing::warn!(%error, "the snapshot can't be loaded yet, and is kept");
        let error = anyhow::Error::from(error).context("load the master's snapshot");
        link.send_modify(|link| link.set_error(&error));
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LOAD_PAUSE_MAX);
    }
}

async fn load_once(context: &Context, request: v1::LoadRdbRequest) -> Result<(), RpcError> {
    let answer = context.server.load().load_rdb(request).await;
    let mut steps = context.checked(answer)?.into_inner();
    while let Some(step) = next_within(&mut steps, SILENCE_MAX).await? {
        if step.outcome.is_some() {
            return Ok(());
        }
    }
    Err(RpcError::cancelled("the load ended without an outcome"))
}

/// One ApplyStream call; ends well when the id changes or the spool is closed. `on_progress`: the server has
/// executed more than it had.
async fn apply(
    context: &Context,
    master: &Target,
    spool: &Arc<SpoolShared>,
    progress: &watch::Sender<Progress>,
    mut on_progress: impl FnMut(),
) -> Result<(), RpcError> {
    let start_offset = progress.borrow().applied;
    let (replid, version) = spool.replid();
    let begin = v1::ApplyBegin {
        run: context.run.to_wire(),
        replid: replid.to_string(),
        start_offset,
        master_host: master.host.clone(),
        master_port: master.port.into(),
    };
    let requests = requests(begin, version, context.data_dir.clone(), Arc::clone(spool));
    let answer = context
        .server_for_streams
        .load()
        .apply_stream(requests)
        .await;
    let mut answers = context.checked(answer)?.into_inner();
    while let Some(applied) = context.checked(answers.message().await)? {
        progress.send_modify(|progress| {
            progress.applied = progress.applied.max(applied.applied_offset);
            progress.durable = progress.durable.max(applied.durable_offset);
        });
        if applied.applied_offset > start_offset {
            on_progress();
        }
        let done = spool.take_applied(applied.applied_offset);
        if !done.is_empty() {
            remove(context, done).await;
        }
    }
    if spool.is_closed() || spool.replid().1 != version {
        return Ok(());
    }
    Err(RpcError::cancelled("the server ended the stream"))
}

/// The requests: `begin`, then each state of the spool. They end when the id
/// changes, so that the next call can begin with the new one.
fn requests(
    begin: v1::ApplyBegin,
    version: u64,
    data_dir: PathBuf,
    spool: Arc<SpoolShared>,
) -> impl Stream<Item = v1::ApplyRequest> {
    let start_offset = begin.start_offset;
    let begin = v1::ApplyRequest {
        request: Some(v1::apply_request::Request::Begin(begin)),
    };
    let states = futures::stream::unfold((spool, start_offset), move |(spool, told)| {
        let data_dir = data_dir.clone();
        async move {
            let watched = Arc::clone(&spool);
            loop {
                let changed = watched.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                // The next call tells what is left: the stream of the new id
                // equals the former one's up to the change.
                if spool.is_closed() || spool.replid().1 != version {
                    return None;
                }
                if let Some(state) = spool.next_state(told, &data_dir) {
                    let told = state.readable_end_offset;
                    let request = v1::apply_request::Request::Spool(state.into());
                    let request = v1::ApplyRequest {
                        request: Some(request),
                    };
                    return Some((request, (spool, told)));
                }
                changed.await;
            }
        }
    });
    futures::StreamExt::chain(futures::stream::iter([begin]), states)
}

/// Where to go on after a failure: what the server says, if the spool has it.
async fn take_up(context: &Context, spool: &SpoolShared, cause: RpcError) -> Result<u64, RpcError> {
    let state = loop {
        match context.server_state().await {
            Ok(state) => break state,
            Err(error) if error.code.is_retryable() => tokio::time::sleep(RETRY_PAUSE).await,
            Err(error) => return Err(error),
        }
    };
    if state.role != Role::Replica || cause.code == ErrorCode::Corrupt {
        return Err(cause);
    }
    let applied = state.position.offset;
    match spool.range() {
        Some((start, end)) if (start..=end).contains(&applied) => Ok(applied),
        _ => Err(cause),
    }
}

async fn remove(context: &Context, paths: Vec<PathBuf>) {
    let guard = context.guard.clone();
    let removing = tokio::task::spawn_blocking(move || remove_files(&guard, &paths));
    if let Err(error) = removing.await {
        tracing::warn!(%error, "removing spool files panicked");
    }
}
