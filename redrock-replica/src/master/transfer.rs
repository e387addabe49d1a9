//! Full syncs: a base, whole or from where a former link broke, then the stream behind it.
//!
//! What a replica of ours comes back with is not believed: the base that it names is looked for on
//! the disk and must say the same of itself, and the log must continue it. Otherwise it gets a full
//! sync like anybody else.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use redrock_proto::RpcError;
use redrock_proto::model::{Base, LogState, ReplicaState};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Master;
use super::base::RENEW_INTERVAL;
use super::feed::Cursor;
use super::lookup;
use super::registry::Replica;
use super::replica::{LOG_CATCH_UP_MAX, Service};
use super::sync_state;
use crate::snapshot_id::{self, SnapshotId};

/// Of a base, read at once.
const BASE_BUFFER_BYTES: usize = 256 * 1024;
const NEWLINE_INTERVAL: Duration = Duration::from_secs(1);
/// The persister may just be restarting.
const BASE_ATTEMPTS: u32 = 50;
const BASE_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A base to be sent.
#[derive(Debug)]
pub(super) struct Transfer {
    base: Base,
    file: Arc<File>,
    /// For a replica that understands it.
    id: Option<SnapshotId>,
    /// What it has of the base.
    from: u64,
}

/// The base that a replica was sent which may come back for the rest.
#[derive(Debug, Default)]
pub(super) struct Sending(Mutex<Option<(Base, SnapshotId)>>);

impl Sending {
    /// At the end of the link: keeps the base if the replica may not have all of it. One that has
    /// says so at once.
    pub(super) async fn hold(self, master: &Master, replica: &Replica) {
        let is_unheard = replica.figures().acked_unix_ms == 0;
        if let Some((base, id)) = self.0.into_inner().filter(|_| is_unheard) {
            master.holds.hold(&master.context, base, id).await;
        }
    }
}

impl Service<'_> {
    pub(super) async fn full<W: AsyncWrite + Unpin>(
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
        let whole = self.open(base)?;
        self.transfer(writer, whole, log, announced).await
    }

    /// Sends a base, or the rest of one, and then the stream.
    pub(super) async fn transfer<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        transfer: Transfer,
        log: LogState,
        announced: bool,
    ) -> anyhow::Result<std::convert::Infallible> {
        let base = &transfer.base;
        let lag = log.written_offset.saturating_sub(base.offset);
        self.replica.touch();
        self.replica.update(|figures| {
            figures.state = ReplicaState::SendBase;
            figures.sent_offset = base.offset;
            figures.lag_at_start = lag;
        });
        if let Some(id) = transfer.id {
            *self.sending.0.lock() = Some((base.clone(), id));
        }
        if announced {
            // Our present id: the stream behind the base is ours.
            let line = format!("+FULLRESYNC {} {}\r\n", log.replid, base.offset);
            writer.write_all(line.as_bytes()).await.context("write")?;
        }
        tokio::select! {
            sent = self.send_base(writer, &transfer) => sent?,
            () = self.keep_base_pinned(base) => {}
        }
        tracing::info!(
            client = self.handoff.client_id,
            address = self.replica.address,
            bytes = base.bytes,
            from = transfer.from,
            "the base was sent"
        );
        let told = log.replid;
        let log = self.log().await?;
        let cursor = Cursor::open(&self.master.context, &log, base.offset).await?;
        self.feed(writer, cursor, told).await
    }

    /// What a replica lacks of the snapshot that it says it has the beginning of; `None` if that
    /// can't be gone on with.
    pub(super) async fn rest_of_transfer(
        &self,
        log: &LogState,
    ) -> anyhow::Result<Option<Transfer>> {
        let Some(held) = snapshot_id::understood(&self.handoff.capabilities).flatten() else {
            return Ok(None);
        };
        let version_max = sync_state::rdb_version_max(&self.handoff.version);
        let (master, seen) = (Arc::clone(self.master), log.clone());
        let looking = tokio::task::spawn_blocking(move || {
            let context = &master.context;
            let appenddirname = context.settings().appenddirname;
            let found = lookup::find(&context.data_dir, &appenddirname, held.id, version_max)?;
            let (state, retained) = master.history(&seen);
            let (replid, offset) = (found.0.replid, found.0.offset);
            sync_state::base_fits(&state, retained, replid.as_str(), offset).then_some(found)
        });
        let found = looking.await.context("look for a replica's snapshot")?;
        let client = self.handoff.client_id;
        let Some((base, file)) = found else {
            tracing::info!(client, snapshot = %held.id, "the snapshot that a replica has a part of is gone");
            return Ok(None);
        };
        if !self.pin.take(&base).await {
            return Ok(None);
        }
        tracing::info!(client, address = self.replica.address, snapshot = %held.id, from = held.bytes,
            "the full resynchronization goes on where its link broke");
        Ok(Some(Transfer {
            base,
            file: Arc::new(file),
            id: Some(held.id),
            from: held.bytes,
        }))
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

    fn open(&self, base: Base) -> anyhow::Result<Transfer> {
        let path = self.pin.path_of(&base);
        let file = File::open(&path).context("open the base")?;
        let bytes = file.metadata().context("look at the base")?.len();
        if bytes != base.bytes {
            bail!(
                "base {} has {bytes} bytes, not {}",
                path.display(),
                base.bytes
            );
        }
        let id = match snapshot_id::understood(&self.handoff.capabilities) {
            Some(_) => SnapshotId::of(&file, bytes, base.offset).context("read the base's end")?,
            None => None,
        };
        Ok(Transfer {
            base,
            file: Arc::new(file),
            id,
            from: 0,
        })
    }

    async fn send_base<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        transfer: &Transfer,
    ) -> anyhow::Result<()> {
        let bytes = transfer.base.bytes;
        let head = match transfer.id {
            Some(id) => format!("${bytes} {id} {}\r\n", transfer.from),
            None => format!("${bytes}\r\n"),
        };
        writer.write_all(head.as_bytes()).await.context("write")?;
        let mut buffer = Vec::with_capacity(BASE_BUFFER_BYTES);
        let mut position = transfer.from;
        while position < bytes {
            let wanted = (bytes - position).min(BASE_BUFFER_BYTES as u64) as usize;
            let file = Arc::clone(&transfer.file);
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
