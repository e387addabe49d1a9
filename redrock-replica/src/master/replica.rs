//! One replica, from its PSYNC to the end of its connection.
//!
//! Listening to it, serving it and watching it run side by side as one task;
//! whichever ends first ends the rest. What it may use is fixed: one buffer
//! for a file, one for the stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use redrock_daemon::handoff::{Handoff, PeerRequest};
use redrock_proto::model::{HexId, LogState, ReplicaState};
use redrock_proto::v1;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Master;
use super::base::{Pin, RENEW_INTERVAL};
use super::catalog;
use super::feed::Cursor;
use super::peer;
use super::registry::{Membership, Replica};
use super::sync_state::{self, Answer, View};
use super::transfer::Sending;
use crate::context::unix_ms;
use crate::socket::PeerIo;

const PIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long the log may take to show what a new base says.
pub(super) const LOG_CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// Serves a replica until its connection ends.
pub(super) async fn run(
    master: Arc<Master>,
    handoff: Handoff,
    socket: Box<dyn PeerIo>,
    membership: Membership,
) {
    let replica = Arc::clone(&membership.replica);
    let (reader, mut writer) = tokio::io::split(socket);
    let pin = Pin::new(Arc::clone(&master.context), handoff.client_id);
    let sending = Sending::default();
    let mut server = Service {
        master: &master,
        handoff: &handoff,
        replica: &replica,
        pin: &pin,
        sending: &sending,
    };
    let end = tokio::select! {
        end = peer::listen(reader, &handoff.unread, &replica) => end,
        end = server.serve(&mut writer) => match end {
            Ok(never) => match never {},
            Err(error) => error,
        },
        end = watch(&master, &replica) => end,
        () = replica.kick.cancelled() => anyhow::anyhow!("closed on request"),
        () = keep_pinned(&replica, &pin) => anyhow::anyhow!("the pin ended"),
    };
    tracing::info!(client = handoff.client_id, address = replica.address, port = replica.listening_port,
        reason = %format!("{end:#}"), "connection with a replica ended");
    // What was said last (a refusal) still goes out; the rest is cut.
    let _shut = tokio::time::timeout(Duration::from_secs(1), writer.shutdown()).await;
    drop(membership);
    // One that had to go may not cost the disk any more.
    if !replica.kick.is_cancelled() {
        sending.hold(&master, &replica).await;
    }
    pin.release().await;
}

/// Ends when the replica is silent or stuck for longer than `repl-timeout`.
async fn watch(master: &Master, replica: &Replica) -> anyhow::Error {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let figures = replica.figures();
        let limit = master.context.settings().repl_timeout.as_millis();
        let (since, what) = match figures.state {
            ReplicaState::Online if !figures.is_old => {
                let heard = figures.acked_unix_ms.max(figures.online_unix_ms);
                (
                    heard,
                    "it acknowledged nothing for longer than repl-timeout",
                )
            }
            ReplicaState::SendBase => {
                let moved = replica.progress_unix_ms.load(Ordering::Relaxed);
                (moved, "it took no byte for longer than repl-timeout")
            }
            _ => continue,
        };
        if u128::from(unix_ms().saturating_sub(since)) > limit {
            return anyhow::anyhow!(what);
        }
    }
}

/// Pins the segments that the replica still needs, from the moment that it is
/// fed, and renews the pin.
async fn keep_pinned(replica: &Replica, pin: &Pin) {
    loop {
        let figures = replica.figures();
        // While a base is sent its own pin is renewed by the sender.
        if figures.state == ReplicaState::Online {
            pin.renew(None, figures.sent_offset).await;
            tokio::time::sleep(RENEW_INTERVAL).await;
        } else {
            tokio::time::sleep(PIN_POLL_INTERVAL).await;
        }
    }
}

pub(super) struct Service<'a> {
    pub(super) master: &'a Arc<Master>,
    pub(super) handoff: &'a Handoff,
    pub(super) replica: &'a Replica,
    pub(super) pin: &'a Pin,
    pub(super) sending: &'a Sending,
}

impl Service<'_> {
    async fn serve<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
    ) -> anyhow::Result<std::convert::Infallible> {
        let log = self.log().await?;
        if let Some(refusal) = self.promote_if_asked(&log).await? {
            writer.write_all(refusal.as_bytes()).await?;
            bail!("it asked for a failover with another id");
        }
        let log = self.log().await?;
        let answer = self.decide(&log).await?;
        let counters = &self.master.registry;
        match answer {
            Answer::Refuse(line) => {
                writer.write_all(line.as_bytes()).await?;
                bail!("refused: {}", line.trim_end());
            }
            Answer::Continue { from_offset, line } => {
                // Opened before it is promised.
                let cursor = Cursor::open(&self.master.context, &log, from_offset).await?;
                counters.sync_partial_ok.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    client = self.handoff.client_id,
                    address = self.replica.address,
                    offset = from_offset,
                    "partial resynchronization accepted"
                );
                writer.write_all(line.as_bytes()).await.context("write")?;
                let lag = log.written_offset.saturating_sub(from_offset);
                self.replica.update(|figures| figures.lag_at_start = lag);
                self.feed(writer, cursor, log.replid).await
            }
            Answer::Full { announced, reason } => {
                self.replica.update(|figures| figures.is_old = !announced);
                if announced && let Some(rest) = self.rest_of_transfer(&log).await? {
                    counters.sync_resumed.fetch_add(1, Ordering::Relaxed);
                    return self.transfer(writer, rest, log, announced).await;
                }
                let is_refused_partial =
                    announced && reason != redrock_log::history::FullResyncReason::Asked;
                if is_refused_partial {
                    counters.sync_partial_err.fetch_add(1, Ordering::Relaxed);
                }
                counters.sync_full.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    client = self.handoff.client_id,
                    address = self.replica.address,
                    ?reason,
                    "full resynchronization"
                );
                self.full(writer, announced).await
            }
        }
    }

    /// The log's state; waits for the first one.
    pub(super) async fn log(&self) -> anyhow::Result<LogState> {
        let mut log = self.master.context.log.clone();
        let waiting = log.wait_for(Option::is_some);
        let state = tokio::time::timeout(LOG_CATCH_UP_MAX, waiting).await;
        let state = state.context("the log's state is unknown")?;
        let state = state.context("the log's state is unknown")?.clone();
        state.context("the log's state is unknown")
    }

    /// `PSYNC ... FAILOVER`: our master makes us the master. Returns a line
    /// that refuses it.
    async fn promote_if_asked(&self, log: &LogState) -> anyhow::Result<Option<&'static str>> {
        let PeerRequest::Psync {
            replid,
            failover: true,
            ..
        } = &self.handoff.request
        else {
            return Ok(None);
        };
        if !replid.eq_ignore_ascii_case(log.replid.as_str()) {
            return Ok(Some("-ERR PSYNC FAILOVER replid must match my replid.\r\n"));
        }
        tracing::info!(address = self.replica.address, "promoted by PSYNC FAILOVER");
        let context = &self.master.context;
        self.master.follower.unfollow().await;
        let request = v1::PromoteRequest {
            run: context.run.to_wire(),
            wait_offset: None,
            timeout_ms: 0,
            failover: None,
        };
        context.checked(context.server.load().promote(request).await)?;
        let former = log.replid;
        let mut log = context.log.clone();
        // Not the one that was answered: where a log begins anew the next one may be there already.
        let seen = log.wait_for(|log| log.as_ref().is_some_and(|log| log.replid != former));
        let waited = tokio::time::timeout(LOG_CATCH_UP_MAX, seen).await;
        waited.context("wait for the new replication id")??;
        Ok(None)
    }

    async fn decide(&self, log: &LogState) -> anyhow::Result<Answer> {
        let (master, log) = (Arc::clone(self.master), log.clone());
        let (request, capabilities) = (
            self.handoff.request.clone(),
            self.handoff.capabilities.clone(),
        );
        let link_is_up = self.master.link_is_up();
        let deciding = tokio::task::spawn_blocking(move || {
            let (state, retained) = master.history(&log);
            let view = View {
                role: log.role,
                link_is_up,
                state: &state,
                retained,
            };
            sync_state::decide(view, &request, &capabilities)
        });
        deciding.await.context("decide")
    }

    /// Sends the stream as it grows. Ends when the id is no longer the one that
    /// the replica was told: it learns the new one by asking again, as in
    /// Redis.
    pub(super) async fn feed<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        mut cursor: Cursor,
        replid: HexId,
    ) -> anyhow::Result<std::convert::Infallible> {
        self.replica.update(|figures| {
            figures.state = ReplicaState::Online;
            figures.sent_offset = cursor.offset;
            figures.online_unix_ms = unix_ms();
        });
        let mut states = self.master.context.log.clone();
        loop {
            let state = states.borrow_and_update().clone();
            let log = state.context("the log's state is unknown")?;
            if log.replid != replid {
                bail!("the replication id has changed");
            }
            if log.written_offset < cursor.offset {
                bail!("the log went back behind what the replica has");
            }
            let bytes = cursor.read(&log).await?;
            if bytes.is_empty() {
                states
                    .changed()
                    .await
                    .context("the log's state is unknown")?;
                continue;
            }
            writer.write_all(bytes).await.context("write")?;
            let count = bytes.len() as u64;
            cursor.advance(count);
            self.replica
                .update(|figures| figures.sent_offset = cursor.offset);
        }
    }
}

/// The history and the retained range of the log, as files show them.
impl Master {
    pub(super) fn history(
        &self,
        log: &LogState,
    ) -> (
        redrock_log::history::ReplicationState,
        Option<redrock_log::history::RetainedRange>,
    ) {
        let data_dir = &self.context.data_dir;
        let state = catalog::replication_state(data_dir, log);
        let appenddirname = self.context.settings().appenddirname;
        let found = catalog::scan(data_dir, &appenddirname, log);
        let chain = catalog::chain(found, log, data_dir, &state);
        (state, catalog::retained(&chain))
    }
}
