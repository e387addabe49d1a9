//! Snapshots: a cut of the server's data set becomes an RDB file.
//!
//! [`take`] asks the server for a cut (`Snapshot.Take`), writes the dirty stream straight into a
//! temporary file, then copies the checkpoint's cold records behind it, and syncs. The file has
//! no final name yet: the caller renames it and then calls [`Taken::release`].
//!
//! Two sides: this module's async code talks to the server; one thread of its own ([`build`])
//! writes. A short channel between them is the back-pressure that reaches the server, which
//! abandons a take that stands still.
//!
//! Invariants:
//! - nothing of a take is used unless every frame came in order, all counts agree and the file
//!   is synced;
//! - whatever fails, the server is told (abort, release) and the temporary file is removed;
//! - every wait is bounded.

mod build;
mod checkpoint_copy;
mod file_sink;
mod lease;
pub mod pace;
mod rdb_file;
pub mod schedule;

use std::path::{Path, PathBuf};
use std::time::Duration;

use redrock_proto::client::{ServerClient, next_within};
use redrock_proto::model::{Begin, Frame, FrameOrder, Purpose, RunRef, SharedPath};
use redrock_proto::{RpcError, v1};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::data_dir::DataDir;
use crate::error::Result;
use crate::progress::ActionProgress;
use build::Builder;
pub use checkpoint_copy::{open as open_checkpoint, read_options as checkpoint_read_options};
pub use rdb_file::{FileOptions, RdbSummary};

/// How long the server may take from the request to the cut.
const CUT_WAIT: Duration = Duration::from_secs(60);
/// How long it may be silent between frames. A checkpoint waits for the tier's queue.
const FRAME_WAIT: Duration = Duration::from_secs(120);
/// For the last words to a server that may be gone.
const FAREWELL_WAIT: Duration = Duration::from_secs(2);
/// Frames on their way to the writer.
const FRAMES_QUEUED: usize = 2;

/// What to take, and how to write it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub purpose: Purpose,
    /// Segment that the log switches to at the cut.
    pub rotate_to_segment: Option<u64>,
    /// Where the file is written, synced, and left for the caller.
    pub temporary: PathBuf,
    pub file: FileOptions,
    pub incremental_fsync: bool,
    pub rate: pace::Rate,
    /// A pause before each key.
    pub key_delay: Duration,
}

/// A file that is whole and synced under its temporary name.
#[derive(Debug)]
pub struct Taken {
    pub begin: Begin,
    pub summary: RdbSummary,
}

/// A take that failed.
#[derive(Debug)]
pub struct TakeError {
    pub error: RpcError,
    /// The cut, if it was made: the log may have switched segments.
    pub begin: Option<Begin>,
    /// The server itself said that it makes no cut; otherwise it may still make one.
    pub refused: bool,
}

/// Where the server is and what for we work.
#[derive(Debug, Clone)]
pub struct Source {
    pub server: ServerClient,
    pub run: RunRef,
    pub dir: DataDir,
}

/// Makes a snapshot file as `plan` says. Cancelling ends it with CANCELLED.
pub async fn take(
    source: &Source,
    plan: Plan,
    progress: &ActionProgress,
    cancel: &CancellationToken,
) -> std::result::Result<Taken, TakeError> {
    progress.enter(v1::Phase::Cut);
    let temporary = plan.temporary.clone();
    let (mut stream, begin) = tokio::select! {
        opened = open(source, &plan) => opened?,
        () = cancel.cancelled() => return Err(TakeError {
            error: RpcError::cancelled("the snapshot was aborted"),
            begin: None,
            refused: false,
        }),
    };
    if !progress.note_cut(begin.snapshot_id) {
        // FLUSHALL has emptied what it holds.
        cancel.cancel();
    }
    progress.enter(v1::Phase::Streaming);
    progress.expect_keys(begin.databases.iter().map(|database| database.keys).sum());
    let mut order = FrameOrder::new();
    let result = match order.check(&Frame::Begin(begin.clone())) {
        Ok(()) => receive(source, plan, &begin, order, &mut stream, progress, cancel).await,
        Err(error) => Err(error),
    };
    drop(stream);
    match result {
        Ok(summary) => Ok(Taken { begin, summary }),
        Err(error) => {
            farewell(source, begin.snapshot_id).await;
            source.dir.unlink_litter(&temporary);
            Err(TakeError {
                error,
                begin: Some(begin),
                refused: false,
            })
        }
    }
}

impl Taken {
    /// Tells the server that the checkpoint is no longer needed, and which file is in place, if
    /// any is. Best effort: a server that is gone has no checkpoint left either.
    pub async fn release(&self, source: &Source, file: Option<&Path>) {
        let placed = file.map(|path| (path, &self.summary));
        release(source, self.begin.snapshot_id, placed).await;
    }
}

type FrameStream = tonic::Streaming<v1::Frame>;

async fn open(
    source: &Source,
    plan: &Plan,
) -> std::result::Result<(FrameStream, Begin), TakeError> {
    let request = v1::TakeRequest {
        run: source.run.to_wire(),
        purpose: plan.purpose.to_wire().into(),
        rotate_to_segment: plan.rotate_to_segment,
        frame_bytes_max: 0,
    };
    let failed = |error: RpcError, refused| TakeError {
        error,
        begin: None,
        refused,
    };
    let mut client = source.server.snapshot();
    let mut stream = match tokio::time::timeout(CUT_WAIT, client.take(request)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            // Only a status that the server made itself carries details.
            let refused = !status.details().is_empty();
            return Err(failed(status.into(), refused));
        }
        Err(_) => {
            let text = format!("the server made no cut within {CUT_WAIT:?}");
            return Err(failed(RpcError::timeout(text), false));
        }
    };
    let mut waits = false;
    loop {
        let frame = match tokio::time::timeout(CUT_WAIT, stream.message()).await {
            Err(_) => {
                let text = format!("the server made no cut within {CUT_WAIT:?}");
                return Err(failed(RpcError::timeout(text), false));
            }
            Ok(Err(status)) => {
                let refused = !status.details().is_empty();
                return Err(failed(status.into(), refused));
            }
            Ok(Ok(None)) => {
                let error = RpcError::corrupt("the snapshot ended before it began");
                return Err(failed(error, false));
            }
            Ok(Ok(Some(frame))) => frame,
        };
        match Frame::try_from(frame) {
            Ok(Frame::Begin(begin)) => return Ok((stream, begin)),
            Ok(Frame::Waiting) if waits => {}
            Ok(Frame::Waiting) => {
                tracing::info!("a command that runs for long is waited for before the cut");
                waits = true;
            }
            Ok(Frame::Failed(error)) => return Err(failed(error, true)),
            Ok(_) => {
                let text = "the snapshot does not start with its cut";
                return Err(failed(RpcError::corrupt(text), false));
            }
            Err(error) => return Err(failed(error, false)),
        }
    }
}

async fn receive(
    source: &Source,
    plan: Plan,
    begin: &Begin,
    mut order: FrameOrder,
    stream: &mut FrameStream,
    progress: &ActionProgress,
    cancel: &CancellationToken,
) -> Result<RdbSummary> {
    let (sender, receiver) = mpsc::channel(FRAMES_QUEUED);
    let mut builder = Builder::spawn(source, plan, begin.clone(), receiver, progress.clone())?;
    let lease = lease::Keeper::new(source, begin.snapshot_id, progress);
    let forwarding = async {
        loop {
            let frame = next_within(stream, FRAME_WAIT)
                .await?
                .ok_or_else(|| RpcError::corrupt("the snapshot stream ended early"))?;
            let frame = Frame::try_from(frame)?;
            order.check(&frame)?;
            if let Frame::CheckpointReady(ready) = &frame {
                lease.start(ready.lease_ms);
            }
            let end = matches!(frame, Frame::End(_));
            let item = match frame {
                Frame::Waiting => continue,
                Frame::End(_) => build::Item::End {
                    cold_keys: order.cold_keys(),
                },
                frame => build::Item::Frame(frame),
            };
            // A writer that is gone has its own error to tell.
            if sender.send(item).await.is_err() || end {
                return Ok::<(), RpcError>(());
            }
        }
    };
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(RpcError::cancelled("the snapshot was aborted")),
        error = lease.lost() => Err(error),
        forwarded = forwarding => match forwarded {
            Err(error) => Err(error),
            Ok(()) => tokio::select! {
                built = builder.finished() => built,
                () = cancel.cancelled() => Err(RpcError::cancelled("the snapshot was aborted")),
                error = lease.lost() => Err(error),
            },
        },
    };
    drop(sender);
    if result.is_err() {
        builder.stop().await;
    }
    result
}

/// Ends a take that failed.
async fn farewell(source: &Source, snapshot_id: u64) {
    let request = v1::SnapshotRef {
        run: source.run.to_wire(),
        snapshot_id,
    };
    let mut client = source.server.snapshot();
    // NOT_FOUND is the usual answer: the server noticed by itself.
    let _ = tokio::time::timeout(FAREWELL_WAIT, client.abort(request)).await;
    release(source, snapshot_id, None).await;
}

/// `placed` is the file in place and what it holds; `None` if there is none.
async fn release(source: &Source, snapshot_id: u64, placed: Option<(&Path, &RdbSummary)>) {
    let mut request = v1::ReleaseRequest {
        run: source.run.to_wire(),
        snapshot_id,
        ..v1::ReleaseRequest::default()
    };
    if let Some((path, summary)) = placed {
        request.succeeded = true;
        request.file_bytes = summary.written.bytes;
        request.file_crc64 = summary.written.checksum;
        request.file_path = SharedPath::new(source.dir.root(), path).to_wire();
        (request.dirty_bytes, request.dirty_crc64) = summary.dirty;
    }
    let mut client = source.server.snapshot();
    match tokio::time::timeout(FAREWELL_WAIT, client.release(request)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "could not release the snapshot"),
        Err(_) => tracing::debug!("the server didn't answer the release of a snapshot"),
    }
}
