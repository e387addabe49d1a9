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

    /// Number of nodes of Redis's radix tree over the ids of our nodes (`radix-tree-nodes`): one
    /// for each place where ids part, one for each stretch of bytes between such places, one for
    /// each id's end. O(nodes).
    pub fn radix_node_count(&self) -> usize {
        const ID_BYTES: u32 = 16;
        if self.nodes.is_empty() {
            return 1;
        }
        // A stretch between the byte at which a parent parts and `depth`.
        let stretch = |parent: Option<u32>, depth: u32| {
            let start = parent.map_or(0, |parent| parent + 1);
            usize::from(depth > start)
        };
        // Where ids part, from the outermost in, above the last id seen.
        let mut parts: Vec<u32> = Vec::new();
        let mut nodes = 0;
        let mut ids = self
            .nodes
            .keys()
            .map(|id| u128::from_be_bytes(id.to_bytes()));
        let mut last = ids.next();
        while let Some(id) = last {
            let next = ids.next();
            let shared = next.map(|next| (id ^ next).leading_zeros() / 8);
            let parent = parts.last().copied().max(shared);
            nodes += 1 + stretch(parent, ID_BYTES);
            while let Some(depth) = parts.pop_if(|depth| shared.is_none_or(|s| *depth > s)) {
                nodes += 1 + stretch(parts.last().copied().max(shared), depth);
            }
            if let Some(shared) = shared
                && parts.last() != Some(&shared)
            {
                parts.push(shared);
            }
            last = next;
        }
        nodes
    }
}
