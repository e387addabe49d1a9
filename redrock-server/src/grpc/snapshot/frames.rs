//! The frames of a snapshot: what lies in the ring, as the persister gets it.

use super::keep::LastCut;
use super::{LEASE, STALL, STALL_LOOK, STALL_OF_WRITERS, WAITING_PERIOD};
use crate::keyspace::snapshot::large::LargeValue;
use crate::keyspace::snapshot::ring::{Item, Ring};
use crate::keyspace::snapshot::spool::{Content, Spooled};
use crate::server::Server;
use bytes::Bytes;
use parking_lot::Mutex;
use redrock_proto::error::RpcError;
use redrock_proto::model::{CheckpointReady, DirtyEnd, End, Frame, SharedPath, ValueChunk};
use redrock_proto::v1;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc;
use tonic::Status;

/// Bytes of a large value in one frame.
const CHUNK_BYTES: usize = 512 << 10;

pub(super) type FrameResult = Result<v1::Frame, Status>;

/// Turns ring items into frames until the take is over. The order is free but for the end:
/// `End` follows when both the dirty part and the checkpoint (if the tier has one) were sent.
pub(super) struct Sender {
    pub(super) ring: Arc<Ring>,
    pub(super) frames: mpsc::Sender<FrameResult>,
    pub(super) server: Arc<Server>,
    pub(super) data_dir: PathBuf,
    pub(super) started: Instant,
    pub(super) expects_checkpoint: bool,
    pub(super) last_cut: Arc<Mutex<Option<LastCut>>>,
}

impl Sender {
    pub(super) async fn run(mut self) {
        let mut dirty_window = None;
        while dirty_window.is_none() || self.expects_checkpoint {
            let Some(item) = self.next_item().await else {
                return;
            };
            let sent = match item {
                Item::Records(packed, count) => {
                    self.send(Frame::Records {
                        packed: Bytes::from(packed),
                        count,
                    })
                    .await
                }
                Item::Value(value) => self.send_large(value).await,
                Item::Spooled(piece) => self.send_spooled(piece).await,
                Item::Checkpoint(path) => {
                    self.expects_checkpoint = false;
                    self.send(self.checkpoint_frame(&path)).await
                }
                Item::DirtyEnd(by_database) => {
                    dirty_window = Some(self.started.elapsed());
                    let records = by_database.iter().sum();
                    if let Some(cut) = &mut *self.last_cut.lock() {
                        cut.sent.clone_from(&by_database);
                    }
                    let end = DirtyEnd {
                        records,
                        records_by_database: by_database,
                    };
                    self.send(Frame::DirtyEnd(end)).await
                }
                Item::Failed(reason) => {
                    self.fail(RpcError::internal(reason)).await;
                    return;
                }
            };
            if !sent {
                return;
            }
        }
        let end = End {
            copy_window_ms: dirty_window.unwrap_or_default().as_millis() as u64,
            pre_images: self.ring.pre_images.load(Ordering::Relaxed) as u64,
            pre_image_bytes: self.ring.pre_image_bytes.load(Ordering::Relaxed) as u64,
        };
        self.send(Frame::End(end)).await;
    }

    /// What comes next; `None` if nothing does although nobody holds the keyspace, or if the
    /// persister is gone.
    async fn next_item(&self) -> Option<Item> {
        let mut idle_since = Instant::now();
        loop {
            let item = tokio::select! {
                item = tokio::time::timeout(WAITING_PERIOD, self.ring.take()) => item,
                () = self.frames.closed() => return None,
            };
            if let Ok(item) = item {
                return Some(item);
            }
            if self.server.keyspace_soon().is_none() {
                // A long command is no fault of the snapshot's.
                idle_since = Instant::now();
                if !self.send(Frame::Waiting).await {
                    return None;
                }
            } else if idle_since.elapsed() > STALL {
                self.fail(RpcError::timeout("the snapshot made no progress"))
                    .await;
                return None;
            }
        }
    }

    fn checkpoint_frame(&self, path: &Path) -> Frame {
        let (mut files, mut bytes) = (0, 0);
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            files += 1;
            bytes += entry.metadata().map_or(0, |m| m.len());
        }
        Frame::CheckpointReady(CheckpointReady {
            path: SharedPath::new(&self.data_dir, path),
            files,
            bytes,
            lease_ms: LEASE.as_millis() as u64,
        })
    }

    /// False when the persister is gone, or takes nothing any more: the snapshot is then given up
    /// (I2), sooner when clients wait for it.
    async fn send(&self, frame: Frame) -> bool {
        let send = self.frames.send(Ok(frame.into()));
        tokio::pin!(send);
        loop {
            match tokio::time::timeout(STALL_LOOK, &mut send).await {
                Ok(sent) => {
                    self.ring.note_progress();
                    return sent.is_ok();
                }
                Err(_) if self.ring.is_stalled(STALL, STALL_OF_WRITERS) => {
                    tracing::warn!("the persister takes nothing of the snapshot: it is given up");
                    return false;
                }
                Err(_) => {}
            }
        }
    }

    async fn fail(&self, error: RpcError) {
        self.send(Frame::Failed(error)).await;
    }

    /// Sends a value in pieces. A large string is sent straight from the keyspace's own bytes.
    async fn send_large(&self, value: LargeValue) -> bool {
        let encoded = value.encode();
        let total = encoded.head.len() + encoded.tail.len();
        let mut position = 0;
        let (head, tail) = (
            encoded.head.chunks(CHUNK_BYTES),
            encoded.tail.chunks(CHUNK_BYTES),
        );
        for piece in head.chain(tail) {
            let payload = Bytes::copy_from_slice(piece);
            let chunk = chunk(&encoded.header, position, payload, total);
            position += piece.len();
            if !self.send(Frame::ValueChunk(chunk)).await {
                return false;
            }
        }
        true
    }

    /// Sends what found no room in the ring.
    async fn send_spooled(&self, piece: Spooled) -> bool {
        let total = usize::try_from(piece.bytes).unwrap_or(usize::MAX);
        let mut position = 0;
        while position < total {
            let length = match piece.content {
                Content::Records(_) => total,
                Content::Value(_) => (total - position).min(CHUNK_BYTES),
            };
            let payload = match piece.read(position as u64, length) {
                Ok(payload) => Bytes::from(payload),
                Err(error) => {
                    let reason = format!("read the file for old values: {error}");
                    self.fail(RpcError::internal(reason)).await;
                    return false;
                }
            };
            let frame = match &piece.content {
                Content::Records(count) => Frame::Records {
                    packed: payload,
                    count: *count,
                },
                Content::Value(header) => {
                    Frame::ValueChunk(chunk(header, position, payload, total))
                }
            };
            position += length;
            if !self.send(frame).await {
                return false;
            }
        }
        true
    }
}

/// A part of a large value; the first one has the record's header.
fn chunk(header: &[u8], position: usize, payload: Bytes, total: usize) -> ValueChunk {
    let header = match position {
        0 => Bytes::copy_from_slice(header),
        _ => Bytes::new(),
    };
    ValueChunk {
        header,
        payload_position: position as u64,
        last: position + payload.len() == total,
        payload,
    }
}
