//! `redrock.v1.Persist`: requests in, jobs started, progress out.
//!
//! Nothing is decided here; each call checks the run, then hands on.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use parking_lot::RwLock;
use redrock_proto::client::MESSAGE_BYTES_MAX;
use redrock_proto::model::LogKind;
use redrock_proto::v1::persist_server::{Persist, PersistServer};
use redrock_proto::{ErrorCode, RpcError, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::base;
use crate::check;
use crate::error::Result;
use crate::files;
use crate::jobs::{Activity, Job, Queueing};
use crate::progress::ActionProgress;
use crate::session::Session;

/// Long enough between two messages that nobody is flooded, short enough for "one a second".
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
const MESSAGES_QUEUED: usize = 4;
const LEASE_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;
/// For an aborted job to end before the answer.
const ABORT_WAIT: Duration = Duration::from_secs(15);

/// The session that requests work on, if there is one. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Current(Arc<RwLock<Option<Arc<Session>>>>);

impl Current {
    pub fn set(&self, session: Option<Arc<Session>>) {
        *self.0.write() = session;
    }

    fn session(&self, run: Option<v1::RunRef>) -> Result<Arc<Session>> {
        let session = self.0.read().clone().ok_or_else(|| {
            RpcError::unavailable("the persister works for no server at the moment")
                .with_hint("it waits for a server that is alive on its data directory")
        })?;
        session.run.check(run)?;
        Ok(session)
    }
}

/// The service.
#[derive(Debug)]
pub struct PersistService {
    current: Current,
}

impl PersistService {
    pub fn new(current: Current) -> PersistService {
        PersistService { current }
    }

    pub fn into_server(self) -> PersistServer<PersistService> {
        PersistServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

pub(crate) type MessageStream<T> =
    Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;
/// Where a stream's messages go.
pub(crate) type Sender<T> = mpsc::Sender<std::result::Result<T, Status>>;
type Reply<T> = std::result::Result<Response<T>, Status>;

/// A stream fed by a task that ends with its receiver.
fn streamed<T, F, W>(work: W) -> MessageStream<T>
where
    T: Send + 'static,
    W: FnOnce(Sender<T>) -> F,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MESSAGES_QUEUED);
    let work = work(sender.clone());
    // Ends with the job that it watches, or when the caller leaves.
    let _detached = tokio::spawn(async move {
        tokio::select! {
            result = work => {
                if let Err(error) = result {
                    let _ = sender.send(Err(error.into())).await;
                }
            }
            () = sender.closed() => {}
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Sends progress, as `wrap` makes it a message, until `ended`; gives its result. A receiver that
/// has gone doesn't matter.
pub(crate) async fn watch_progress<T, M>(
    progress: &ActionProgress,
    ended: impl Future<Output = T>,
    sender: &Sender<M>,
    wrap: fn(v1::Progress) -> M,
) -> T {
    let mut phase = progress.subscribe();
    let mut ended = std::pin::pin!(ended);
    loop {
        let _ = sender.send(Ok(wrap(progress.message()))).await;
        tokio::select! {
            result = &mut ended => return result,
            _ = phase.changed() => {}
            () = tokio::time::sleep(PROGRESS_INTERVAL) => {}
        }
    }
}

fn job_stream(job: Job) -> MessageStream<v1::Progress> {
    streamed(|sender| async move {
        let finished = job.finished();
        let outcome = watch_progress(&job.progress, finished, &sender, |message| message).await?;
        let _ = sender.send(Ok(done(&job.progress, outcome))).await;
        Ok(())
    })
}

fn done(progress: &ActionProgress, outcome: v1::Outcome) -> v1::Progress {
    v1::Progress {
        phase: v1::Phase::Done.into(),
        outcome: Some(outcome),
        ..progress.message()
    }
}

#[tonic::async_trait]
impl Persist for PersistService {
    type SaveStream = MessageStream<v1::Progress>;
    type RewriteStream = MessageStream<v1::Progress>;
    type EnableAppendOnlyStream = MessageStream<v1::Progress>;
    type GetBaseStream = MessageStream<v1::GetBaseReply>;
    type VerifyStream = MessageStream<v1::Progress>;
    type BackupStream = MessageStream<v1::Progress>;

    async fn save(&self, request: Request<v1::SaveRequest>) -> Reply<Self::SaveStream> {
        let request = request.into_inner();
        let session = self.current.session(request.run.clone())?;
        let foreground = match request.kind() {
            v1::SaveKind::Foreground => true,
            v1::SaveKind::Background => false,
            v1::SaveKind::Unspecified => return Err(RpcError::invalid("kind is unknown").into()),
        };
        // SAVE is not excluded by a rewrite in Redis; here it waits for its end.
        let queueing = if foreground || request.schedule {
            Queueing::Wait
        } else {
            Queueing::Refuse
        };
        let job = session.save_newer(foreground, queueing, request.newer_than_snapshot)?;
        Ok(Response::new(job_stream(job)))
    }

    async fn rewrite(&self, request: Request<v1::RewriteRequest>) -> Reply<Self::RewriteStream> {
        let request = request.into_inner();
        let session = self.current.session(request.run)?;
        if request.automatic {
            let until = session.rewrite_failures().retry_unix_ms();
            if until > crate::progress::unix_ms() {
                return Err(RpcError::busy("rewrites have failed; the next one waits")
                    .with_hint("see the log for why they failed; BGREWRITEAOF doesn't wait")
                    .into());
            }
        }
        Ok(Response::new(job_stream(session.rewrite(false)?)))
    }

    async fn abort(&self, request: Request<v1::AbortRequest>) -> Reply<v1::AbortReply> {
        let request = request.into_inner();
        let session = self.current.session(request.run.clone())?;
        let jobs = match (request.activity, request.activity()) {
            (0, _) => session.jobs.abort_cuts(None, request.up_to_snapshot),
            (_, wanted) => match Activity::from_wire(wanted) {
                Some(activity) => {
                    let up_to = request.up_to_snapshot;
                    session.jobs.abort_cuts(Some(activity), up_to)
                }
                None => return Err(RpcError::invalid("activity is unknown").into()),
            },
        };
        for job in &jobs {
            let _ = tokio::time::timeout(ABORT_WAIT, job.finished()).await;
        }
        Ok(Response::new(v1::AbortReply {
            aborted: !jobs.is_empty(),
        }))
    }

    async fn status(&self, request: Request<v1::PersistStatusRequest>) -> Reply<v1::PersistStatus> {
        let session = self.current.session(request.into_inner().run)?;
        Ok(Response::new(files::status(&session)))
    }

    async fn enable_append_only(
        &self,
        request: Request<v1::EnableAppendOnlyRequest>,
    ) -> Reply<Self::EnableAppendOnlyStream> {
        let session = self.current.session(request.into_inner().run)?;
        if session.log().await?.kind == LogKind::AppendOnly {
            let stream = streamed(|sender| async move {
                let outcome = v1::Outcome::default();
                let message = done(&ActionProgress::new(), outcome);
                let _ = sender.send(Ok(message)).await;
                Ok(())
            });
            return Ok(Response::new(stream));
        }
        Ok(Response::new(job_stream(session.rewrite(true)?)))
    }

    async fn disable_append_only(
        &self,
        request: Request<v1::DisableAppendOnlyRequest>,
    ) -> Reply<v1::Empty> {
        let request = request.into_inner();
        let session = self.current.session(request.run)?;
        for job in session.jobs.abort(Some(Activity::Rewrite)) {
            let _ = tokio::time::timeout(ABORT_WAIT, job.finished()).await;
        }
        if request.keep_stream
            && let Err(error) = crate::replicas::base::offered_segment(&session).await
        {
            tracing::warn!(%error, "no file for the replicas' stream: they will synchronize again");
        }
        Ok(Response::new(v1::Empty {}))
    }

    async fn get_base(&self, request: Request<v1::GetBaseRequest>) -> Reply<Self::GetBaseStream> {
        let request = request.into_inner();
        let session = self.current.session(request.run.clone())?;
        let wanted = base::Wanted::try_from(&request)?;
        let stream = streamed(|sender| async move {
            let base = base::get(&session, wanted, &sender).await?;
            let reply = v1::get_base_reply::Reply::Base(base.into());
            let _ = sender
                .send(Ok(v1::GetBaseReply { reply: Some(reply) }))
                .await;
            Ok(())
        });
        Ok(Response::new(stream))
    }

    async fn pin(&self, request: Request<v1::PinRequest>) -> Reply<v1::PinReply> {
        let request = request.into_inner();
        let session = self.current.session(request.run.clone())?;
        let lease = lease(request.lease_ms)?;
        let mut paths = BTreeSet::new();
        for path in &request.paths {
            paths.insert(files::shared_path(path)?);
        }
        // Pinned first: what is there behind the pin stays there.
        let (holder, offset) = (request.holder.as_str(), request.from_offset);
        let pinned = session
            .pins
            .lock()
            .pin(holder, paths.clone(), offset, lease, Instant::now());
        let missing = match pinned {
            Ok(()) => files::missing(&session, &paths)?,
            Err(error) if error.code == ErrorCode::NotFound => paths.into_iter().collect(),
            Err(error) => return Err(error.into()),
        };
        if !missing.is_empty() {
            session.pins.lock().unpin(holder);
        }
        Ok(Response::new(v1::PinReply {
            missing: missing.iter().map(|path| text(path)).collect(),
        }))
    }

    async fn unpin(&self, request: Request<v1::UnpinRequest>) -> Reply<v1::Empty> {
        let request = request.into_inner();
        let session = self.current.session(request.run)?;
        let unpinned = session.pins.lock().unpin(&request.holder);
        if unpinned && let Some(keeper) = session.keeper_now() {
            let settings = session.settings.borrow().clone().unwrap_or_default();
            session.unpinned(&keeper, &settings).await;
        }
        Ok(Response::new(v1::Empty {}))
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Reply<Self::VerifyStream> {
        let request = request.into_inner();
        let session = self.current.session(request.run)?;
        let path = match request.path.as_str() {
            "" => session.keeper().await?.directory().to_owned(),
            path => session.source.dir.root().join(files::shared_path(path)?),
        };
        let stream = streamed(|sender| async move {
            let progress = ActionProgress::new();
            progress.enter(v1::Phase::Verifying);
            let checking = check::verify(path, progress.clone());
            let outcome = watch_progress(&progress, checking, &sender, |message| message).await?;
            let _ = sender.send(Ok(done(&progress, outcome))).await;
            Ok(())
        });
        Ok(Response::new(stream))
    }

    async fn list(&self, request: Request<v1::ListFilesRequest>) -> Reply<v1::ListFilesReply> {
        let request = request.into_inner();
        let session = self.current.session(request.run.clone())?;
        let kind = request.kind();
        let reply = crate::aof::rewrite::blocking(move || files::list(&session, kind)).await?;
        Ok(Response::new(reply))
    }

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Reply<Self::BackupStream> {
        let request = request.into_inner();
        let session = self.current.session(request.run)?;
        Ok(Response::new(job_stream(session.backup(&request.name)?)))
    }
}

fn lease(lease_ms: u64) -> Result<Duration> {
    if LEASE_MS.contains(&lease_ms) {
        Ok(Duration::from_millis(lease_ms))
    } else {
        Err(RpcError::invalid("lease_ms must be 1000 to 600000"))
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
