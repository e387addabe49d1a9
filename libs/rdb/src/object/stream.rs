//! Streams: the decoded form, its encoder and its decoder.
//!
//! Invariants of a decoded stream: nodes ascend by master id and none is empty;
//! pending entries ascend by id; every pending entry of a group belongs to
//! exactly one consumer of that group.

mod decode;
mod node;

pub use decode::decode;
pub use node::{check_node, first_id_of_node};

use super::encode;
use crate::listpack::ListPack;

/// An entry id. Orders as streams do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Milliseconds since the epoch, usually.
    pub ms: u64,
    /// Distinguishes entries of one millisecond.
    pub seq: u64,
}

impl StreamId {
    /// Big endian, so that bytes order as ids do.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// Reads what [`StreamId::to_bytes`] gives.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let joined = u128::from_be_bytes(bytes);
        Self {
            ms: (joined >> 64) as u64,
            seq: joined as u64,
        }
    }
}

/// The counters of a stream, apart from its nodes and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamMeta {
    /// Number of entries.
    pub length: u64,
    /// The largest id ever added.
    pub last_id: StreamId,
    /// The smallest id that is there; zero if the stream is empty.
    pub first_id: StreamId,
    /// The largest id ever deleted by XDEL.
    pub max_deleted_id: StreamId,
    /// Number of entries ever added.
    pub entries_added: u64,
}

/// One listpack of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamNode {
    /// Entries' ids are relative to this one.
    pub master_id: StreamId,
    /// Header, master fields and entries, as Redis lays them out.
    pub entries: ListPack,
}

/// A stream, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamObject {
    /// The entries.
    pub nodes: Vec<StreamNode>,
    /// The counters.
    pub meta: StreamMeta,
    /// The consumer groups, in the order of their names.
    pub groups: Vec<StreamGroup>,
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamGroup {
    /// Its name.
    pub name: Vec<u8>,
    /// The last id delivered.
    pub last_id: StreamId,
    /// How many entries the group has read; `None` if unknown.
    pub entries_read: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: Vec<StreamPending>,
    /// Its consumers, in the order of their names.
    pub consumers: Vec<StreamConsumer>,
}

/// An entry delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPending {
    /// Which entry.
    pub id: StreamId,
    /// Last delivery, in milliseconds since the epoch.
    pub delivery_time_ms: i64,
    /// Number of deliveries.
    pub delivery_count: u64,
}

/// A consumer of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamConsumer {
    /// Its name.
    pub name: Vec<u8>,
    /// Its last attempt, in milliseconds since the epoch.
    pub seen_time_ms: i64,
    /// Its last successful one; -1 if there was none.
    pub active_time_ms: i64,
    /// The ids of its pending entries, ascending.
    pub pending: Vec<StreamId>,
}

/// Writes a `STREAM_LISTPACKS_3` piece by piece, straight from whatever holds
/// the stream.
///
/// Order of calls: the nodes announced to [`StreamWriter::new`], `meta`, then
/// for each group announced there `group`, its `pending` entries,
/// `consumer_count`, and for each consumer `consumer` and its
/// `consumer_pending` ids.
#[derive(Debug)]
pub struct StreamWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> StreamWriter<'o> {
    /// Starts a stream of `node_count` nodes.
    pub fn new(out: &'o mut Vec<u8>, node_count: usize) -> Self {
        encode::length(out, node_count as u64);
        Self { out }
    }

    /// One node.
    pub fn node(&mut self, master_id: StreamId, listpack: &[u8]) {
        encode::blob(self.out, &master_id.to_bytes());
        encode::blob(self.out, listpack);
    }

    /// The counters, and how many groups follow.
    pub fn meta(&mut self, meta: &StreamMeta, group_count: usize) {
        encode::length(self.out, meta.length);
        for id in [meta.last_id, meta.first_id, meta.max_deleted_id] {
            self.id(id);
        }
        encode::length(self.out, meta.entries_added);
        encode::length(self.out, group_count as u64);
    }

    /// A group, and how many pending entries follow.
    pub fn group(
        &mut self,
        name: &[u8],
        last_id: StreamId,
        entries_read: Option<u64>,
        pending_count: usize,
    ) {
        encode::string(self.out, name);
        self.id(last_id);
        // Redis keeps -1 for unknown and writes it as an unsigned number.
        encode::length(self.out, entries_read.unwrap_or(u64::MAX));
        encode::length(self.out, pending_count as u64);
    }

    /// A pending entry of the group.
    pub fn pending(&mut self, pending: &StreamPending) {
        self.out.extend_from_slice(&pending.id.to_bytes());
        self.out
            .extend_from_slice(&pending.delivery_time_ms.to_le_bytes());
        encode::length(self.out, pending.delivery_count);
    }

    /// How many consumers of the group follow.
    pub fn consumer_count(&mut self, count: usize) {
        encode::length(self.out, count as u64);
    }

    /// A consumer, and how many pending ids follow. Times are in milliseconds
    /// since the epoch.
    pub fn consumer(
        &mut self,
        name: &[u8],
        seen_time_ms: i64,
        active_time_ms: i64,
        pending_count: usize,
    ) {
        encode::string(self.out, name);
        self.out.extend_from_slice(&seen_time_ms.to_le_bytes());
        self.out.extend_from_slice(&active_time_ms.to_le_bytes());
        encode::length(self.out, pending_count as u64);
    }

    /// The id of a pending entry of the consumer.
    pub fn consumer_pending(&mut self, id: StreamId) {
        self.out.extend_from_slice(&id.to_bytes());
    }

    fn id(&mut self, id: StreamId) {
        encode::length(self.out, id.ms);
        encode::length(self.out, id.seq);
    }
}

impl StreamObject {
    /// Appends the payload of a `STREAM_LISTPACKS_3`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = StreamWriter::new(out, self.nodes.len());
        for node in &self.nodes {
            writer.node(node.master_id, node.entries.as_bytes());
        }
        writer.meta(&self.meta, self.groups.len());
        for group in &self.groups {
            writer.group(
                &group.name,
                group.last_id,
                group.entries_read,
                group.pending.len(),
            );
            for pending in &group.pending {
                writer.pending(pending);
            }
            writer.consumer_count(group.consumers.len());
            for consumer in &group.consumers {
                writer.consumer(
                    &consumer.name,
                    consumer.seen_time_ms,
                    consumer.active_time_ms,
                    consumer.pending.len(),
                );
                for &id in &consumer.pending {
                    writer.consumer_pending(id);
                }
            }
        }
    }
}
