//! What a stream tells of itself beyond its content: how far a group is behind, and the size of the
//! radix tree that Redis would have.

use super::{ID_MIN, Stream, StreamId, StreamMeta};
use std::cmp::Ordering;

/// Whether there may be tombstones from `start` on.
pub(super) fn has_tombstones_from(meta: &StreamMeta, start: StreamId) -> bool {
    meta.length > 0
        && meta.max_deleted_id != ID_MIN
        && meta.first_id <= meta.max_deleted_id
        && start <= meta.max_deleted_id
}

/// How many entries were ever added up to `id`; `None` where that can't be told.
pub(super) fn entries_up_to(meta: &StreamMeta, id: StreamId) -> Option<u64> {
    if meta.entries_added == 0 {
        return Some(0);
    }
    if meta.length == 0 && id <= meta.last_id {
        return Some(meta.entries_added);
    }
    match id.cmp(&meta.last_id) {
        Ordering::Equal => return Some(meta.entries_added),
        Ordering::Greater => return None,
        Ordering::Less => {}
    }
    if meta.max_deleted_id != ID_MIN && meta.max_deleted_id >= meta.first_id {
        return None;
    }
    let before_first = meta.entries_added.wrapping_sub(meta.length);
    match id.cmp(&meta.first_id) {
        Ordering::Less => Some(before_first),
        Ordering::Equal => Some(before_first.wrapping_add(1)),
        Ordering::Greater => None,
    }
}

impl Stream {
    /// Number of entries that a group has still to read; `None` where that can't be told.
    pub fn lag(&self, last_id: StreamId, entries_read: Option<u64>) -> Option<i64> {
        let meta = &self.meta;
        let read = match entries_read {
            _ if meta.entries_added == 0 => return Some(0),
            Some(read) if !has_tombstones_from(meta, last_id) => read,
            _ => entries_up_to(meta, last_id)?,
        };
        Some(meta.entries_added.wrapping_sub(read) as i64)
    }

    /// Number of nodes of Redis's radix tree over the ids of our nodes (`radix-tree-nodes`).
    pub fn radix_node_count(&self) -> usize {
        self.nodes.radix_node_count()
    }
}
