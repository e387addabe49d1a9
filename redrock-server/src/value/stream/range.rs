//! Entries of a range of ids, in either direction.

use super::node::NodeView;
use super::{Entry, ID_MAX, ID_MIN, Stream, StreamId};
use redrock_rdb::listpack::{Iter, ListPack, Pos};
use std::collections::{BTreeMap, btree_map};

type Nodes<'a> = btree_map::Range<'a, StreamId, ListPack>;

/// Entries of a range, first to last.
#[derive(Debug, Clone)]
pub struct Range<'a> {
    nodes: Nodes<'a>,
    node: Option<(NodeView<'a>, Iter<'a>)>,
    start: StreamId,
    end: StreamId,
    tombstones: bool,
}

impl<'a> Range<'a> {
    pub(super) fn new(
        nodes: &'a BTreeMap<StreamId, ListPack>,
        start: StreamId,
        end: StreamId,
    ) -> Self {
        // The first entry may be in the node whose id is the last not above it.
        let first = nodes.range(..=start).next_back();
        let first = first.map_or(start, |(master_id, _)| *master_id);
        Self {
            nodes: nodes.range(first..),
            node: None,
            start,
            end,
            tombstones: false,
        }
    }

    /// Tombstones too.
    pub(super) fn with_tombstones(mut self) -> Self {
        self.tombstones = true;
        self
    }

    /// Id of the node that holds the entry last given out.
    pub(super) fn node_id(&self) -> Option<StreamId> {
        self.node.as_ref().map(|(view, _)| view.master_id)
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let Some((view, iter)) = &mut self.node else {
                let (master_id, pack) = self.nodes.next()?;
                self.node = NodeView::new(*master_id, pack).map(|view| {
                    let iter = view.entries.clone();
                    (view, iter)
                });
                continue;
            };
            let Some(entry) = view.entry(iter) else {
                self.node = None;
                continue;
            };
            if entry.id < self.start || (entry.is_deleted() && !self.tombstones) {
                continue;
            }
            return (entry.id <= self.end).then_some(entry);
        }
    }
}

/// Entries of a range, last to first.
#[derive(Debug, Clone)]
pub struct ReverseRange<'a> {
    nodes: Nodes<'a>,
    node: Option<(NodeView<'a>, Option<Pos>)>,
    start: StreamId,
    end: StreamId,
    tombstones: bool,
}

impl<'a> Iterator for ReverseRange<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let Some((view, at)) = &mut self.node else {
                let (master_id, pack) = self.nodes.next_back()?;
                self.node = NodeView::new(*master_id, pack).map(|view| {
                    let end = view.end();
                    (view, end)
                });
                continue;
            };
            let Some((entry, before)) = at.and_then(|at| view.entry_before(at)) else {
                self.node = None;
                continue;
            };
            *at = before;
            if entry.id > self.end || (entry.is_deleted() && !self.tombstones) {
                continue;
            }
            return (entry.id >= self.start).then_some(entry);
        }
    }
}

impl Stream {
    /// The entries from `start` to `end`, both included.
    pub fn range(&self, start: StreamId, end: StreamId) -> Range<'_> {
        Range::new(&self.nodes, start, end)
    }

    /// The entries from `end` down to `start`, both included.
    pub fn range_reversed(&self, start: StreamId, end: StreamId) -> ReverseRange<'_> {
        ReverseRange {
            nodes: self.nodes.range(..=end),
            node: None,
            start,
            end,
            tombstones: false,
        }
    }

    /// The entry with this id.
    pub fn entry(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    /// Id of the last entry; zero if there is none.
    pub fn last_entry_id(&self) -> StreamId {
        let last = self.range_reversed(ID_MIN, ID_MAX).next();
        last.map_or(ID_MIN, |entry| entry.id)
    }

    /// Id of the first entry or tombstone; the largest id if there is none.
    pub fn first_id_with_tombstones(&self) -> StreamId {
        let first = self.range(ID_MIN, ID_MAX).with_tombstones().next();
        first.map_or(ID_MAX, |entry| entry.id)
    }
}
