//! One history being received: the spool's writer and the task that drives the
//! server through it. It outlives links: a link that breaks is resumed at the
//! session's position. When the applying fails the session is over.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use redrock_log::fs::is_no_space;
use redrock_proto::RpcError;
use redrock_proto::model::HexId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Target;
use super::apply::{self, Progress, Snapshot};
use super::link::Link;
use super::spool::{GetAck, SpoolShared, SpoolWriter, remove_files};
use crate::context::{Context, Position};

/// A stream being received and applied.
#[derive(Debug)]
pub(super) struct Session {
    context: Arc<Context>,
    /// `None` only while a blocking task has it, or after such a task died.
    writer: Option<SpoolWriter>,
    spool: Arc<SpoolShared>,
    snapshot: Option<PathBuf>,
    pub(super) progress: watch::Receiver<Progress>,
    applier: JoinHandle<Result<(), RpcError>>,
    start_offset: u64,
    limit_bytes: u64,
}

impl Session {
    /// A stream of `master` that begins at `position`, behind `snapshot` if there is one.
    pub(super) async fn start(
        context: &Arc<Context>,
        master: &Target,
        position: Position,
        snapshot: Option<Snapshot>,
        link: &watch::Sender<Link>,
    ) -> anyhow::Result<Session> {
        let data_dir = context.data_dir.clone();
        let limit_bytes = context.settings().spool_bytes(&data_dir);
        let creating = tokio::task::spawn_blocking(move || {
            SpoolWriter::create(&data_dir, position, limit_bytes)
        });
        let path = snapshot.as_ref().map(|snapshot| snapshot.path.clone());
        let writer = match creating.await?.context("create the spool") {
            Ok(writer) => writer,
            Err(error) => {
                remove_files(&context.guard, path.as_slice());
                return Err(error);
            }
        };
        let (sender, progress) = watch::channel(Progress {
            loading: snapshot.is_some(),
            applied: position.offset,
            durable: 0,
        });
        let spool = Arc::clone(writer.shared());
        let (shared, task_context) = (Arc::clone(&spool), Arc::clone(context));
        let (master, link) = (master.clone(), link.clone());
        let applier = context.tasks.spawn("apply", async move {
            apply::run(&task_context, &master, snapshot, shared, sender, &link).await
        });
        Ok(Session {
            context: Arc::clone(context),
            writer: Some(writer),
            spool,
            snapshot: path,
            progress,
            applier,
            start_offset: position.offset,
            limit_bytes,
        })
    }

    /// Why the session is over, if it is.
    pub(super) async fn failure(&mut self) -> Option<anyhow::Error> {
        if self.writer.is_none() {
            return Some(anyhow::anyhow!("writing to the spool was torn down"));
        }
        if !self.applier.is_finished() {
            return None;
        }
        Some(match (&mut self.applier).await {
            Ok(Ok(())) => anyhow::anyhow!("the applying ended"),
            Ok(Err(error)) => anyhow::Error::from(error).context("apply"),
            Err(error) => anyhow::Error::from(error).context("apply"),
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.writer.is_none() || self.applier.is_finished()
    }

    /// It ended before the snapshot was in: the next link would bring another one.
    pub(super) fn failed_to_load(&self) -> bool {
        self.is_over() && self.progress.borrow().loading
    }

    /// Where a link would be resumed.
    pub(super) fn position(&self) -> Option<Position> {
        self.writer.as_ref().map(SpoolWriter::position)
    }

    pub(super) fn received_offset(&self) -> u64 {
        self.writer
            .as_ref()
            .map_or(self.start_offset, SpoolWriter::received_offset)
    }

    /// No byte of the stream has come yet.
    pub(super) fn awaits_stream(&self) -> bool {
        self.received_offset() == self.start_offset
    }

    pub(super) fn spool_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, SpoolWriter::bytes)
    }

    /// Takes a changed `repl-spool-disk-size`.
    pub(super) fn refresh_limit(&mut self) {
        self.limit_bytes = self.context.settings().spool_bytes(&self.context.data_dir);
    }

    /// Whether more may be read. When the server has applied all whole
    /// commands, the limit yields: else a single large one would stop us.
    pub(super) fn has_room(&self) -> bool {
        let progress = *self.progress.borrow();
        let waits_for_more = self
            .position()
            .is_some_and(|position| !progress.loading && progress.applied >= position.offset);
        self.spool_bytes() < self.limit_bytes || waits_for_more
    }

    /// The link is up again.
    pub(super) async fn resume(&mut self, replid: Option<HexId>) -> anyhow::Result<()> {
        self.with_writer(move |writer| writer.resume(replid).context("cut the spool"))
            .await
    }

    /// Appends `buffer[at..]`, giving the buffer back and the GETACKs in it.
    pub(super) async fn append(
        &mut self,
        buffer: Vec<u8>,
        at: usize,
    ) -> anyhow::Result<(Vec<u8>, Vec<GetAck>)> {
        self.with_writer(move |writer| {
            writer.append(buffer.get(at..).unwrap_or_default())?;
            Ok((buffer, writer.take_getacks()))
        })
        .await
    }

    /// Runs blocking work on the writer. If it fails but for a full disk, or
    /// the future is dropped meanwhile, the session is over.
    async fn with_writer<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut SpoolWriter) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let mut writer = self.writer.take().context("the spool is gone")?;
        let working = tokio::task::spawn_blocking(move || {
            let result = work(&mut writer);
            (writer, result)
        });
        let (writer, result) = working.await.context("write to the spool")?;
        match result {
            Ok(value) => {
                self.writer = Some(writer);
                Ok(value)
            }
            Err(error) => {
                // A full disk empties as the server applies: the link breaks,
                // and the next one resumes at the last whole command.
                let is_full = error.downcast_ref().is_some_and(is_no_space);
                self.writer = is_full.then_some(writer);
                Err(error)
            }
        }
    }

    /// Stops applying and removes all files; a snapshot that is not loaded yet is left to the next
    /// process where this one ends.
    pub(super) async fn close(mut self) {
        self.applier.abort();
        // One that failed has been awaited for its reason, and can't be a second time.
        if !self.applier.is_finished() {
            let _ended = (&mut self.applier).await;
        }
        let is_left = self.context.tasks.token().is_cancelled() && self.progress.borrow().loading;
        let snapshot = self.snapshot.take().filter(|_| !is_left);
        let spool = Arc::clone(&self.spool);
        let guard = self.context.guard.clone();
        let removing = tokio::task::spawn_blocking(move || {
            remove_files(&guard, &spool.close());
            remove_files(&guard, snapshot.as_slice());
        });
        if let Err(error) = removing.await {
            tracing::warn!(%error, "removing the spool panicked");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closing is the orderly way; this only keeps a dropped session from
        // applying on.
        self.applier.abort();
    }
}
