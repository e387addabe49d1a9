//! Streams: entries by id in listpacks of many, consumer groups with what they have delivered.
//!
//! ```text
//! Stream ─ nodes   master id ──▶ listpack of entries (see `node`)
//!        ├ meta    length, ids and counters
//!        └ groups  name ──▶ last id, entries read, pending entries, consumers (see `group`)
//! ```
//!
//! A node is filled until `stream-node-max-bytes` or `stream-node-max-entries`; its bytes are those
//! that Redis writes for the same commands. A deleted entry stays as a tombstone until its node
//! has no other. A stream without entries stays.
//!
//! Invariant: `node_bytes` is the sum of the nodes' sizes. What a decoded stream claims of itself
//! (its length, a node's counts) may be wrong, as in Redis: nothing here panics for it.

mod edit;
mod estimate;
mod group;
mod node;
mod nodes;
mod range;
#[cfg(test)]
mod tests;

pub use edit::{AddError, NewId, NodeLimits, Trim, TrimBy};
pub use group::{Consumer, ConsumerId, Delivery, Group, Pending};
pub use node::{Entry, Pairs};
pub use range::{Range, ReverseRange};
pub use redrock_rdb::object::stream::{StreamId, StreamMeta};

use nodes::Nodes;
use redrock_rdb::object::stream::{StreamObject, StreamWriter};
use redrock_rdb::object::types;
use std::collections::BTreeMap;

/// The smallest id; no entry has it.
pub const ID_MIN: StreamId = StreamId { ms: 0, seq: 0 };
/// The largest id.
pub const ID_MAX: StreamId = StreamId {
    ms: u64::MAX,
    seq: u64::MAX,
};

/// Memory of a node beside its listpack, bytes.
const NODE_OVERHEAD_BYTES: usize = 64;

/// The id after `id`; `None` after the last.
pub fn next_id(id: StreamId) -> Option<StreamId> {
    match (id.seq.checked_add(1), id.ms.checked_add(1)) {
        (Some(seq), _) => Some(StreamId { ms: id.ms, seq }),
        (None, Some(ms)) => Some(StreamId { ms, seq: 0 }),
        (None, None) => None,
    }
}

/// The id before `id`; `None` before the first.
pub fn previous_id(id: StreamId) -> Option<StreamId> {
    match (id.seq.checked_sub(1), id.ms.checked_sub(1)) {
        (Some(seq), _) => Some(StreamId { ms: id.ms, seq }),
        (None, Some(ms)) => Some(StreamId { ms, seq: u64::MAX }),
        (None, None) => None,
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stream {
    nodes: Nodes,
    meta: StreamMeta,
    groups: BTreeMap<Box<[u8]>, Group>,
    node_bytes: usize,
}

impl Stream {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        usize::try_from(self.meta.length).unwrap_or(usize::MAX)
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.meta.length == 0
    }

    /// Length, ids and counters.
    pub fn meta(&self) -> &StreamMeta {
        &self.meta
    }

    /// Changes what XSETID changes. The caller has compared with the entries that are there.
    pub fn set_meta(
        &mut self,
        last_id: StreamId,
        entries_added: Option<u64>,
        max_deleted_id: Option<StreamId>,
    ) {
        self.meta.last_id = last_id;
        self.meta.entries_added = entries_added.unwrap_or(self.meta.entries_added);
        self.meta.max_deleted_id = max_deleted_id.unwrap_or(self.meta.max_deleted_id);
    }

    /// Number of nodes (`radix-tree-keys`).
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Allocations to free, roughly: nodes, and groups with what is pending in each, by the first
    /// one (Redis: `lazyfreeGetFreeEffort`).
    pub fn free_effort(&self) -> usize {
        let first = self.groups.values().next();
        let pending = first.map_or(0, Group::pending_count);
        self.nodes.len() + self.groups.len() * (1 + pending)
    }

    /// A group by its name.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    /// A group for editing.
    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    /// All groups in the order of their names.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }

    /// Creates a group; false if there is one of that name.
    pub fn create_group(
        &mut self,
        name: &[u8],
        last_id: StreamId,
        entries_read: Option<u64>,
    ) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        self.groups
            .insert(name.into(), Group::new(last_id, entries_read));
        true
    }

    /// Removes a group with all that it has delivered; false if there is none.
    pub fn remove_group(&mut self, name: &[u8]) -> bool {
        self.groups.remove(name).is_some()
    }

    /// Bytes on the heap, an estimate.
    pub fn memory_bytes(&self) -> usize {
        let groups: usize = self
            .groups
            .iter()
            .map(|(name, group)| name.len() + group.memory_bytes())
            .sum();
        self.node_bytes + self.nodes.len() * NODE_OVERHEAD_BYTES + groups
    }

    /// Appends the RDB payload and gives its type.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        out.reserve(self.node_bytes + self.nodes.len() * 24);
        let mut writer = StreamWriter::new(out, self.nodes.len());
        for (master_id, entries) in self.nodes.iter() {
            writer.node(*master_id, entries.as_bytes());
        }
        writer.meta(&self.meta, self.groups.len());
        for (name, group) in &self.groups {
            group.encode(name, &mut writer);
        }
        types::STREAM_LISTPACKS_3
    }

    /// Takes over what the decoder has checked.
    pub fn from_rdb(object: StreamObject) -> Self {
        let mut stream = Self {
            meta: object.meta,
            ..Self::default()
        };
        for mut node in object.nodes {
            node.entries.shrink_to_fit();
            stream.node_bytes += node.entries.byte_len();
            stream.nodes.insert(node.master_id, node.entries);
        }
        for group in object.groups {
            let name = group.name.clone().into_boxed_slice();
            stream.groups.insert(name, Group::from_rdb(group));
        }
        stream
    }
}
