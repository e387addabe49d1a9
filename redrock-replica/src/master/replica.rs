//! One replica, from its PSYNC to the end of its connection.
//!
//! Listening to it, serving it and watching it run side by side as one task;
//! whichever ends first ends the rest. What it may use is fixed: one buffer
//! for a file, one for the stream.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use redrock_daemon::handoff::{Handoff, PeerRequest};
use redrock_proto::model::{Base, HexId, LogState, ReplicaState};
use redrock_proto::{RpcError, v1};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Master;
use super::base::{Pin, RENEW_INTERVAL};
use super::catalog;
use super::feed::Cursor;
use super::peer;
use super::registry::{Membership, Replica};
use super::sync_state::{self, Answer, View};
use crate::context::unix_ms;
use crate::socket::PeerIo;

/// Of a base, read at once.
const BASE_BUFFER_BYTES: usize = 256 * 1024;
const PIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
const NEWLINE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the log may take to show what a new base says.
const LOG_CATCH_UP_MAX: Duration = Duration::from_secs(10);
/// The persister may just be restarting.
const BASE_ATTEMPTS: u32 = 50;
const BASE_RETRY_PAUSE: Duration = Duration::from_millis(100);

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
    let mut server = Service {
        master: &master,
        handoff: &handoff,
        replica: &replica,
        pin: &pin,
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

struct Service<'a> {
    master: &'a Arc<Master>,
    handoff: &'a Handoff,
    replica: &'a Replica,
    pin: &'a Pin,
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
                self.replica.update(|figures| figures.is_old = !announced);
                self.full(writer, announced).await
            }
        }
    }

    /// The log's state; waits for the first one.
    async fn log(&self) -> anyhow::Result<LogState> {
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
        let reply = context.checked(context.server.load().promote(request).await)?;
        let promoted = HexId::parse(&reply.into_inner().replid);
        let mut log = context.log.clone();
        let seen = log.wait_for(|log| log.as_ref().map(|log| log.replid) == promoted);
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

    async fn full<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        announced: bool,
    ) -> anyhow::Result<std::convert::Infallible> {
        let found = tokio::select! {
            // Who says SYNC knows no offsets: it expects the data of this moment, and nothing of
            // what was before.
            found = self.usable_base(!announced) => found,
            error = send_newlines(writer) => return Err(error),
        };
        let (base, log) = match found {
            Ok(found) => found,
            Err(error) => {
                // A replica takes this for "later" and asks again.
                let line = match announced {
                    true => "-NOMASTERLINK Can't SYNC now: no snapshot can be made\r\n",
                    false => "-ERR Can't SYNC now: no snapshot can be made\r\n",
                };
                writer.write_all(line.as_bytes()).await?;
                return Err(error);
            }
        };
        let lag = log.written_offset.saturating_sub(base.offset);
        self.replica.touch();
        self.replica.update(|figures| {
            figures.state = ReplicaState::SendBase;
            figures.sent_offset = base.offset;
            figures.lag_at_start = lag;
        });
        if announced {
            // Our present id: the stream behind the base is ours.
            let line = format!("+FULLRESYNC {} {}\r\n", log.replid, base.offset);
            writer.write_all(line.as_bytes()).await.context("write")?;
        }
        tokio::select! {
            sent = self.send_base(writer, &base) => sent?,
            () = self.keep_base_pinned(&base) => {}
        }
        tracing::info!(
            client = self.handoff.client_id,
            address = self.replica.address,
            bytes = base.bytes,
            "the base was sent"
        );
        let told = log.replid;
        let log = self.log().await?;
        let cursor = Cursor::open(&self.master.context, &log, base.offset).await?;
        self.feed(writer, cursor, told).await
    }

    /// A base on our stream whose segments are all there, and the log's state
    /// that says so.
    async fn usable_base(&self, mut fresh: bool) -> anyhow::Result<(Base, LogState)> {
        let version = sync_state::rdb_version_max(&self.handoff.version);
        for attempt in 1..=BASE_ATTEMPTS {
            match self.pin.get_base(version, fresh).await {
                Ok(base) => {
                    if let Some(log) = self.covering(&base).await? {
                        return Ok((base, log));
                    }
                    tracing::warn!(offset = base.offset, replid = %base.replid,
                        "the base is not continued by the log, asking for a fresh one");
                    fresh = true;
                }
                Err(error) if error.code.is_retryable() && attempt < BASE_ATTEMPTS => {
                    tracing::info!(%error, "no base yet");
                    tokio::time::sleep(BASE_RETRY_PAUSE).await;
                }
                Err(error) => return Err(RpcError::into(error)),
            }
        }
        bail!("the persister's bases are not continued by the log")
    }

    /// The log's state in which the base can be continued; waits a little, for
    /// the log may have begun with the base.
    async fn covering(&self, base: &Base) -> anyhow::Result<Option<LogState>> {
        let deadline = tokio::time::Instant::now() + LOG_CATCH_UP_MAX;
        let mut states = self.master.context.log.clone();
        loop {
            let state = states.borrow_and_update().clone();
            if let Some(log) = state {
                let (master, seen, base) = (Arc::clone(self.master), log.clone(), base.clone());
                let looking = tokio::task::spawn_blocking(move || {
                    let (state, retained) = master.history(&seen);
                    sync_state::base_fits(&state, retained, base.replid.as_str(), base.offset)
                });
                if looking.await.context("look for the base's segments")? {
                    return Ok(Some(log));
                }
            }
            tokio::select! {
                changed = states.changed() => changed.context("the log's state is unknown")?,
                () = tokio::time::sleep_until(deadline) => return Ok(None),
            }
        }
    }

    async fn send_base<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        base: &Base,
    ) -> anyhow::Result<()> {
        let path = self.pin.path_of(base);
        let file = Arc::new(File::open(&path).context("open the base")?);
        let bytes = file.metadata().context("look at the base")?.len();
        if bytes != base.bytes {
            bail!(
                "base {} has {bytes} bytes, not {}",
                path.display(),
                base.bytes
            );
        }
        let head = format!("${bytes}\r\n");
        writer.write_all(head.as_bytes()).await.context("write")?;
        let mut buffer = Vec::with_capacity(BASE_BUFFER_BYTES);
        let mut position = 0;
        while position < bytes {
            let wanted = (bytes - position).min(BASE_BUFFER_BYTES as u64) as usize;
            let file = Arc::clone(&file);
            let reading = tokio::task::spawn_blocking(move || {
                buffer.resize(wanted, 0);
                let result = file.read_exact_at(&mut buffer, position);
                (buffer, result)
            });
            let (filled, result) = reading.await.context("read the base")?;
            result.context("read the base")?;
            buffer = filled;
            for part in buffer.chunks(BASE_BUFFER_BYTES / 4) {
                writer.write_all(part).await.context("write")?;
                self.replica.touch();
            }
            position += wanted as u64;
        }
        Ok(())
    }

    async fn keep_base_pinned(&self, base: &Base) {
        loop {
            tokio::time::sleep(RENEW_INTERVAL).await;
            self.pin.renew(Some(base), base.offset).await;
        }
    }

    /// Sends the stream as it grows. Ends when the id is no longer the one that
    /// the replica was told: it learns the new one by asking again, as in
    /// Redis.
    async fn feed<W: AsyncWrite + Unpin>(
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

/// Shows the peer that we live while it waits; ends with the connection.
async fn send_newlines<W: AsyncWrite + Unpin>(writer: &mut W) -> anyhow::Error {
    loop {
        tokio::time::sleep(NEWLINE_INTERVAL).await;
        if let Err(error) = writer.write_all(b"\n").await {
            return anyhow::Error::from(error).context("write");
        }
    }
}

/// The history and the retained range of the log, as files show them.
impl Master {
    fn history(
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
