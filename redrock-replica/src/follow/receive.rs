//! Receiving from a master: the snapshot into a file, then the stream into the
//! spool, at the speed of the network or of the disk.
//!
//! Acknowledgements: each second, on GETACK once what precedes it is applied,
//! and at once when the snapshot is whole: a master with a diskless transfer
//! sends nothing before the first one. While the server loads they say 0, so
//! that nobody counts on data that are in a file only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use redrock_proto::model::LinkStatus;
use tokio::sync::watch;

use super::apply::Snapshot;
use super::connection::{Connection, READ_BYTES};
use super::eof_marker::{EofScanner, MARKER_BYTES};
use super::link::Link;
use super::partial::SnapshotFile;
use super::reply::{SnapshotHead, SnapshotLength};
use super::session::Session;
use crate::context::{Context, Position, unix_ms};

const ACK_INTERVAL: Duration = Duration::from_secs(1);
/// Pace of the first acknowledgements, until the stream flows: a master with a
/// diskless transfer ignores one that comes before it has reaped its child.
const FIRST_ACK_INTERVAL: Duration = Duration::from_millis(100);
const FIRST_ACKS_TIME: Duration = Duration::from_secs(2);

/// Receives a whole snapshot, or what `partial` lacks of it if the master goes on with that. What follows it
/// stays unread in the connection. If the link breaks, what came is in `partial`, provided that the
/// master may go on with it.
pub(super) async fn snapshot(
    context: &Arc<Context>,
    connection: &mut Connection,
    position: Position,
    link: &watch::Sender<Link>,
    partial: &mut Option<SnapshotFile>,
) -> anyhow::Result<Snapshot> {
    let alive = || link.send_modify(|link| link.state.last_io_unix_ms = unix_ms());
    let head = connection.snapshot_head(alive).await?;
    let total = match head.length {
        SnapshotLength::Bytes(bytes) => bytes,
        SnapshotLength::Marker(_) => 0,
    };
    let began = Instant::now();
    link.send_modify(|link| link.state.sync_bytes_total = total);
    let file = file_for(context, &head, position, partial)?;
    tracing::info!(
        bytes = total,
        from = file.bytes(),
        "receiving a snapshot from the master"
    );
    let received = match head.length {
        SnapshotLength::Bytes(total) => receive_bytes(connection, file, total, link).await,
        SnapshotLength::Marker(marker) => receive_marked(connection, file, marker, link).await,
    };
    if let Err(error) = received {
        // On a disk that takes nothing it would be in the way of what makes room.
        if !file.can_be_resumed() {
            *partial = None;
        }
        return Err(error);
    }
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(bytes = file.bytes(), elapsed_ms, "the snapshot is whole");
    let whole = partial.take().context("the snapshot's file is gone")?;
    Ok(whole.finish(position))
}

/// Where to write to: the file that the master goes on with, or a new one.
fn file_for<'a>(
    context: &Arc<Context>,
    head: &SnapshotHead,
    position: Position,
    partial: &'a mut Option<SnapshotFile>,
) -> anyhow::Result<&'a mut SnapshotFile> {
    let id = head.piece.map(|piece| piece.id);
    let from = head.piece.map_or(0, |piece| piece.bytes);
    let is_it = id.is_none_or(|id| {
        head.length == SnapshotLength::Bytes(id.bytes) && id.offset == position.offset
    });
    let goes_on = partial
        .as_ref()
        .is_some_and(|file| from > 0 && file.held() == head.piece);
    if !goes_on {
        // What was held is of no more use, whatever comes now.
        *partial = None;
    }
    if !is_it || (from > 0 && !goes_on) {
        bail!("the master goes on with a snapshot that we don't have");
    }
    match partial {
        Some(file) => {
            file.begin_link();
            Ok(file)
        }
        None => {
            let file = SnapshotFile::create(context, id).context("create the snapshot's file")?;
            Ok(partial.insert(file))
        }
    }
}

async fn receive_bytes(
    connection: &mut Connection,
    file: &mut SnapshotFile,
    total: u64,
    link: &watch::Sender<Link>,
) -> anyhow::Result<()> {
    while file.bytes() < total {
        fill_if_empty(connection).await?;
        let (buffer, at) = connection.take_buffer();
        let left = usize::try_from(total - file.bytes()).unwrap_or(usize::MAX);
        let to = at.saturating_add(left).min(buffer.len());
        let buffer = file.append(buffer, at, to).await?;
        connection.put_buffer(buffer, to);
        tell_progress(link, file.bytes());
    }
    Ok(())
}

async fn receive_marked(
    connection: &mut Connection,
    file: &mut SnapshotFile,
    marker: [u8; MARKER_BYTES],
    link: &watch::Sender<Link>,
) -> anyhow::Result<()> {
    let mut scanner = EofScanner::new(marker);
    let mut payload = Vec::with_capacity(READ_BYTES);
    loop {
        fill_if_empty(connection).await?;
        let (buffer, at) = connection.take_buffer();
        payload.clear();
        let end = scanner.push(buffer.get(at..).unwrap_or_default(), &mut payload);
        let taken = end.map_or(buffer.len(), |end| at + end);
        connection.put_buffer(buffer, taken);
        let length = payload.len();
        payload = file.append(payload, 0, length).await?;
        tell_progress(link, file.bytes());
        if end.is_some() {
            return Ok(());
        }
    }
}

async fn fill_if_empty(connection: &mut Connection) -> anyhow::Result<()> {
    match connection.unread().is_empty() {
        true => connection.fill_in_time().await,
        false => Ok(()),
    }
}

fn tell_progress(link: &watch::Sender<Link>, bytes: u64) {
    link.send_modify(|link| {
        link.state.sync_bytes_read = bytes;
        link.state.last_io_unix_ms = unix_ms();
    });
}

/// Receives the stream until the link or the session breaks; never ends well.
pub(super) async fn stream(
    context: &Arc<Context>,
    connection: &mut Connection,
    session: &mut Session,
    link: &watch::Sender<Link>,
) -> anyhow::Error {
    match stream_on(context, connection, session, link).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn stream_on(
    context: &Arc<Context>,
    connection: &mut Connection,
    session: &mut Session,
    link: &watch::Sender<Link>,
) -> anyhow::Result<std::convert::Infallible> {
    let mut ticks = tokio::time::interval(ACK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut progress = session.progress.clone();
    let mut getacks = Vec::new();
    let begin = Instant::now();
    let mut last_read = begin;
    loop {
        let awaits_stream = session.awaits_stream() && begin.elapsed() < FIRST_ACKS_TIME;
        if let Some(error) = session.failure().await {
            return Err(error);
        }
        show(link, session);
        if !connection.unread().is_empty() && session.has_room() {
            let (buffer, at) = connection.take_buffer();
            let (mut buffer, seen) = session.append(buffer, at).await?;
            buffer.clear();
            connection.put_buffer(buffer, 0);
            getacks.extend(seen);
            if answers_getack(session, &mut getacks) {
                acknowledge(connection, session).await?;
            }
            continue;
        }
        let has_room = session.has_room();
        if !has_room {
            // Not reading is our own choice, no silence of the master's.
            last_read = Instant::now();
        }
        tokio::select! {
            // The first tick comes at once: the acknowledgement that a
            // diskless master waits for.
            _ = ticks.tick() => {
                if last_read.elapsed() > context.settings().repl_timeout {
                    bail!("the master was silent for longer than repl-timeout");
                }
                session.refresh_limit();
                acknowledge(connection, session).await?;
            }
            () = tokio::time::sleep(FIRST_ACK_INTERVAL), if awaits_stream => {
                acknowledge(connection, session).await?;
            }
            read = connection.fill(), if has_room => {
                read?;
                last_read = Instant::now();
                link.send_modify(|link| link.state.last_io_unix_ms = unix_ms());
            }
            changed = progress.changed() => {
                if changed.is_err() {
                    // The applier has ended: the session's failure says why,
                    // once its task is finished.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                } else if answers_getack(session, &mut getacks) {
                    acknowledge(connection, session).await?;
                }
            }
        }
    }
}

/// Whether some GETACK's predecessors are all applied now; drops those from
/// the list.
fn answers_getack(session: &Session, getacks: &mut Vec<u64>) -> bool {
    let progress = *session.progress.borrow();
    let before = getacks.len();
    if !progress.loading {
        getacks.retain(|getack| *getack > progress.applied);
    }
    getacks.len() < before
}

fn show(link: &watch::Sender<Link>, session: &Session) {
    let status = match session.progress.borrow().loading {
        true => LinkStatus::Sync,
        false => LinkStatus::Connected,
    };
    link.send_if_modified(|link| {
        link.state.received_offset = session.received_offset();
        link.spool_bytes = session.spool_bytes();
        let changed = link.state.status != status;
        if changed {
            link.set_status(status);
        }
        changed
    });
}

async fn acknowledge(connection: &mut Connection, session: &Session) -> anyhow::Result<()> {
    let progress = *session.progress.borrow();
    let applied = match progress.loading {
        true => "0".to_owned(),
        false => progress.applied.to_string(),
    };
    if progress.durable == 0 {
        return connection
            .send(&[b"REPLCONF", b"ACK", applied.as_bytes()])
            .await;
    }
    let durable = progress.durable.to_string();
    let words: [&[u8]; 5] = [
        b"REPLCONF",
        b"ACK",
        applied.as_bytes(),
        b"FACK",
        durable.as_bytes(),
    ];
    connection.send(&words).await
}
