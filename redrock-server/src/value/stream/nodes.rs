//! A stream's nodes by master id, and how many nodes Redis's radix tree over those ids would have
//! (`radix-tree-nodes`).
//!
//! Such a tree has one node for each id's end, one for each place where ids part, and one for each
//! stretch of bytes between such places. An id parts from all others where it parts from a neighbour,
//! so what it adds is told by the ids around it: O(log n).
//!
//! Invariant: `radix_nodes` is that number, 0 without ids.

use super::StreamId;
use redrock_rdb::listpack::ListPack;
use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::ops::{Bound, Deref};

type Map = BTreeMap<StreamId, ListPack>;

/// Bytes of an id.
const ID_BYTES: u32 = 16;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Nodes {
    map: Map,
    radix_nodes: usize,
}

impl Deref for Nodes {
    type Target = Map;

    fn deref(&self) -> &Map {
        &self.map
    }
}

impl Nodes {
    /// Adds a node, or replaces the one of that id.
    pub(super) fn insert(&mut self, id: StreamId, node: ListPack) {
        if !self.map.contains_key(&id) {
            self.radix_nodes += radix_nodes_of(&self.map, id);
        }
        self.map.insert(id, node);
    }

    /// Removes a node.
    pub(super) fn remove(&mut self, id: &StreamId) {
        if self.map.remove(id).is_some() {
            self.radix_nodes -= radix_nodes_of(&self.map, *id);
        }
    }

    /// A node for editing.
    pub(super) fn get_mut(&mut self, id: &StreamId) -> Option<&mut ListPack> {
        self.map.get_mut(id)
    }

    /// The last node for editing.
    pub(super) fn last_entry(&mut self) -> Option<OccupiedEntry<'_, StreamId, ListPack>> {
        self.map.last_entry()
    }

    /// Nodes of Redis's radix tree; it has a root without ids too.
    pub(super) fn radix_node_count(&self) -> usize {
        self.radix_nodes.max(1)
    }
}

/// Leading bytes that two ids share.
fn shared(a: StreamId, b: StreamId) -> u32 {
    let bits = |id: StreamId| u128::from_be_bytes(id.to_bytes());
    (bits(a) ^ bits(b)).leading_zeros() / 8
}

/// A node for the bytes between the one at which the parent parts and `depth`, if there are any.
fn stretch(parent: Option<u32>, depth: u32) -> usize {
    let start = parent.map_or(0, |parent| parent + 1);
    usize::from(depth > start)
}

/// First and last id that begin with so many bytes of `id`, fewer than all.
fn range_of(id: StreamId, bytes: u32) -> (StreamId, StreamId) {
    let rest = u128::MAX >> (8 * bytes);
    let id = u128::from_be_bytes(id.to_bytes());
    let of = |bits: u128| StreamId::from_bytes(bits.to_be_bytes());
    (of(id & !rest), of(id | rest))
}

/// What an id that is not in the map adds to the tree over those in it.
fn radix_nodes_of(map: &Map, id: StreamId) -> usize {
    let before = |id: StreamId| map.range(..id).next_back().map(|(id, _)| *id);
    let after = |id: StreamId| {
        let above = (Bound::Excluded(id), Bound::Unbounded);
        map.range(above).next().map(|(id, _)| *id)
    };
    let neighbours = [before(id), after(id)];
    let depth = neighbours
        .iter()
        .flatten()
        .map(|other| shared(id, *other))
        .max();
    let end = 1 + stretch(depth, ID_BYTES);
    let Some(depth) = depth else {
        return end;
    };
    // All that begin alike up to where the id parts.
    let (low, high) = range_of(id, depth);
    let mut alike = map.range(low..=high).map(|(id, _)| *id);
    let Some(first) = alike.next() else {
        return end;
    };
    let last = alike.next_back().unwrap_or(first);
    let child = match first == last {
        true => ID_BYTES,
        false => shared(first, last),
    };
    if child == depth {
        // Others part there already.
        return end;
    }
    // The id divides what led from the place before to the next one.
    let outer = [
        before(first).map(|other| shared(other, first)),
        after(last).map(|other| shared(other, last)),
    ];
    let parent = outer.into_iter().flatten().max();
    end + 1 + stretch(parent, depth) + stretch(Some(depth), child) - stretch(parent, child)
}
