//! Encoding `quicklist`: a deque of nodes.
//!
//! Ends are O(1). Seeking walks the nodes' counts, which lie side by side, from the nearer end; a
//! node put into or taken out of the middle moves the records (not the elements) on its shorter
//! side, so both stay within the O(n) that Redis documents. Operations that may empty many nodes
//! drop them in one pass. Where elements go, when nodes split and merge follows Redis 7.2, because
//! whether one node is left decides what OBJECT ENCODING answers.
//!
//! Invariants: no node is empty; `len` and `bytes` are the sums over the nodes.

use super::End;
use super::fill::Fill;
use super::node::{Body, Needle, Node};
use redrock_rdb::listpack::{ListPack, LpValue};
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct QuickList {
    nodes: VecDeque<Node>,
    len: usize,
    bytes: usize,
}

impl QuickList {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes + self.nodes.capacity() * size_of::<Node>()
    }

    /// The nodes, in order.
    pub(super) fn nodes(&self) -> &VecDeque<Node> {
        &self.nodes
    }

    /// Adds a listpack as the last node; an empty one is skipped.
    pub(super) fn push_pack(&mut self, pack: ListPack) {
        if !pack.is_empty() {
            self.insert_node(self.nodes.len(), Node::pack(pack));
        }
    }

    /// Adds a huge element as the last node.
    pub(super) fn push_plain(&mut self, value: Box<[u8]>) {
        self.insert_node(self.nodes.len(), Node::plain(value));
    }

    /// Gives up the only node's listpack if the list may be encoded as one.
    pub(super) fn take_pack(&mut self, fill: Fill, shrinking: bool) -> Option<ListPack> {
        if self.nodes.len() != 1 {
            return None;
        }
        let fits = match self.nodes.front()?.body() {
            Body::Pack(pack) => fill.fits_listpack(pack.byte_len(), self.len, shrinking),
            Body::Plain(_) => false,
        };
        if !fits {
            return None;
        }
        match self.remove_node(0)?.into_body() {
            Body::Pack(pack) => Some(pack),
            Body::Plain(_) => None,
        }
    }

    /// Adds an element at an end.
    pub(super) fn push(&mut self, end: End, value: &[u8], fill: Fill) {
        let last = self.nodes.len().saturating_sub(1);
        let at = if end == End::Head { 0 } else { last };
        if self.allows(Some(at), value.len(), fill) {
            self.edit(at, |node| node.push(end, value));
        } else {
            let at = if end == End::Head {
                0
            } else {
                self.nodes.len()
            };
            self.insert_node(at, Node::of(value, fill));
        }
    }

    /// The element at an end.
    pub(super) fn end(&self, end: End) -> Option<LpValue<'_>> {
        let node = if end == End::Head {
            self.nodes.front()
        } else {
            self.nodes.back()
        };
        node?.end(end)
    }

    /// Removes the element at an end.
    pub(super) fn remove_end(&mut self, end: End) {
        let at = if end == End::Head {
            0
        } else {
            self.nodes.len().saturating_sub(1)
        };
        self.edit(at, |node| node.remove_end(end));
        self.drop_if_empty(at);
    }

    /// Node and offset of the element at `index`.
    pub(super) fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index <= self.len / 2 {
            let mut before = 0;
            for (at, node) in self.nodes.iter().enumerate() {
                if index < before + node.len() {
                    return Some((at, index - before));
                }
                before += node.len();
            }
        } else {
            let mut start = self.len;
            for (at, node) in self.nodes.iter().enumerate().rev() {
                start -= node.len();
                if index >= start {
                    return Some((at, index - start));
                }
            }
        }
        None
    }

    /// The element at `index`.
    pub(super) fn get(&self, index: usize) -> Option<LpValue<'_>> {
        let (at, offset) = self.locate(index)?;
        self.nodes.get(at)?.get(offset)
    }

    /// Node and offset of the first element that is the needle.
    pub(super) fn find(&self, needle: &Needle<'_>) -> Option<(usize, usize)> {
        self.nodes
            .iter()
            .enumerate()
            .find_map(|(at, node)| node.find(needle).map(|offset| (at, offset)))
    }

    /// Inserts beside an element.
    pub(super) fn insert(
        &mut self,
        (at, offset): (usize, usize),
        after: bool,
        value: &[u8],
        fill: Fill,
    ) {
        let Some(node) = self.nodes.get(at) else {
            return;
        };
        if node.allows(value.len(), fill) {
            self.edit(at, |node| node.insert(offset, after, value));
            return;
        }
        let at_edge = if after {
            offset + 1 >= node.len()
        } else {
            offset == 0
        };
        let plain = fill.is_plain(value.len());
        if at_edge {
            let neighbour = if after {
                Some(at + 1)
            } else {
                at.checked_sub(1)
            };
            match neighbour {
                Some(next) if !plain && self.allows(neighbour, value.len(), fill) => {
                    let end = if after { End::Head } else { End::Tail };
                    self.edit(next, |node| node.push(end, value));
                }
                _ => self.insert_node(at + usize::from(after), Node::of(value, fill)),
            }
            return;
        }
        // In the middle of a full node: split it. The part that did not hold the neighbour gets
        // the element, unless it becomes a node of its own.
        self.split(at, offset + usize::from(after));
        if plain {
            self.insert_node(at + 1, Node::of(value, fill));
            return;
        }
        let (part, end, center) = if after {
            (at + 1, End::Head, at)
        } else {
            (at, End::Tail, at + 1)
        };
        self.edit(part, |node| node.push(end, value));
        self.merge_around(center, fill);
    }

    /// Replaces an element.
    pub(super) fn replace(&mut self, (at, offset): (usize, usize), value: &[u8], fill: Fill) {
        if self.edit(at, |node| node.replace(offset, value, fill)) != Some(false) {
            return;
        }
        let Some(node) = self.nodes.get(at) else {
            return;
        };
        if node.is_plain() {
            self.insert((at, 0), true, value, fill);
            self.remove_node(at);
            return;
        }
        if offset + 1 < node.len() {
            self.split(at, offset + 1);
        }
        self.insert_node(at + 1, Node::of(value, fill));
        // What is replaced is the last element of its node now.
        self.edit(at, |node| node.remove_end(End::Tail));
        if !self.drop_if_empty(at) {
            self.merge_around(at + 1, fill);
        }
    }

    /// Removes `count` elements from `start` on.
    pub(super) fn remove_range(&mut self, start: usize, count: usize) {
        let mut left = count.min(self.len.saturating_sub(start));
        if left == 0 {
            return;
        }
        let Some((mut at, offset)) = self.locate(start) else {
            return;
        };
        if offset > 0 {
            let here = self.node_len(at).saturating_sub(offset).min(left);
            self.edit(at, |node| node.remove_range(offset, here));
            left -= here;
            at += 1;
        }
        // Whole nodes go together, so that a long range moves the others once.
        let first = at;
        while left > 0 && self.node_len(at) <= left && at < self.nodes.len() {
            left -= self.node_len(at);
            at += 1;
        }
        for node in self.nodes.drain(first..at) {
            self.len -= node.len();
            self.bytes -= node.memory_bytes();
        }
        if left > 0 {
            self.edit(first, |node| node.remove_range(0, left));
        }
        self.release_excess();
    }

    /// Removes up to `max` elements that are the needle, beginning at an end; returns how many.
    pub(super) fn remove_matching(&mut self, needle: &Needle<'_>, from: End, max: usize) -> usize {
        let nodes = self.nodes.len();
        let mut removed = 0;
        let mut emptied = false;
        for step in 0..nodes {
            if removed == max {
                break;
            }
            let at = if from == End::Head {
                step
            } else {
                nodes - 1 - step
            };
            let before = self.nodes.get(at).map_or(0, Node::memory_bytes);
            let Some(node) = self.nodes.get_mut(at) else {
                break;
            };
            let here = node.remove_matching(needle, from, max - removed);
            if here == 0 {
                continue;
            }
            removed += here;
            emptied |= node.len() == 0;
            self.len -= here;
            self.bytes = self.bytes + node.memory_bytes() - before;
        }
        if emptied {
            let bytes = &mut self.bytes;
            self.nodes.retain(|node| {
                let keep = node.len() > 0;
                if !keep {
                    *bytes -= node.memory_bytes();
                }
                keep
            });
            self.release_excess();
        }
        removed
    }

    // ----- nodes -------------------------------------------------------------------------------

    fn node_len(&self, at: usize) -> usize {
        self.nodes.get(at).map_or(0, Node::len)
    }

    fn allows(&self, at: Option<usize>, bytes: usize, fill: Fill) -> bool {
        at.and_then(|at| self.nodes.get(at))
            .is_some_and(|node| node.allows(bytes, fill))
    }

    /// Changes one node and keeps the sums.
    fn edit<R>(&mut self, at: usize, change: impl FnOnce(&mut Node) -> R) -> Option<R> {
        let node = self.nodes.get_mut(at)?;
        let (len, bytes) = (node.len(), node.memory_bytes());
        let result = change(node);
        self.len = self.len - len + node.len();
        self.bytes = self.bytes - bytes + node.memory_bytes();
        Some(result)
    }

    fn insert_node(&mut self, at: usize, node: Node) {
        self.len += node.len();
        self.bytes += node.memory_bytes();
        self.nodes.insert(at.min(self.nodes.len()), node);
    }

    fn remove_node(&mut self, at: usize) -> Option<Node> {
        let node = self.nodes.remove(at)?;
        self.len -= node.len();
        self.bytes -= node.memory_bytes();
        self.release_excess();
        Some(node)
    }

    /// Gives room for nodes back once three quarters of it are unused.
    fn release_excess(&mut self) {
        if self.nodes.capacity() > 32 && self.nodes.capacity() / 4 > self.nodes.len() {
            self.nodes.shrink_to(self.nodes.len() * 2);
        }
    }

    fn drop_if_empty(&mut self, at: usize) -> bool {
        let empty = self.nodes.get(at).is_some_and(|node| node.len() == 0);
        if empty {
            self.remove_node(at);
        }
        empty
    }

    /// Splits a node before `offset`, which lies inside it.
    fn split(&mut self, at: usize, offset: usize) {
        if let Some(Some(tail)) = self.edit(at, |node| node.split_off(offset)) {
            self.insert_node(at + 1, tail);
        }
    }

    /// Merges two neighbours if they fit into one node.
    fn try_merge(&mut self, left: Option<usize>, fill: Fill) -> bool {
        let Some(left) = left else { return false };
        let (Some(a), Some(b)) = (self.nodes.get(left), self.nodes.get(left + 1)) else {
            return false;
        };
        if !a.allows_merge(b, fill) {
            return false;
        }
        if let (Some(b), Some(a)) = (self.remove_node(left + 1), self.remove_node(left)) {
            self.insert_node(left, a.merge(b));
        }
        true
    }

    /// Merges nodes around `center` in Redis's order (`_quicklistMergeNodes`).
    fn merge_around(&mut self, mut center: usize, fill: Fill) {
        if self.try_merge(center.checked_sub(2), fill) {
            center -= 1;
        }
        self.try_merge(Some(center + 1), fill);
        if self.try_merge(center.checked_sub(1), fill) {
            center -= 1;
        }
        self.try_merge(Some(center), fill);
    }

    /// Checks the invariants.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(
            self.nodes.iter().all(|node| node.len() > 0),
            "an empty node"
        );
        assert_eq!(self.len, self.nodes.iter().map(Node::len).sum::<usize>());
        assert_eq!(
            self.bytes,
            self.nodes.iter().map(Node::memory_bytes).sum::<usize>()
        );
        for node in &self.nodes {
            if let Body::Pack(pack) = node.body() {
                assert_eq!(pack.len(), node.len());
            }
        }
    }
}
