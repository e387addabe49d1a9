//! The order of a big sorted set: a B+ tree of (score, id) with element counts.
//!
//! Changes go by rank and never compare anything; where an element belongs is found beforehand
//! by [`Tree::partition`]. The tree does not know members: it stores what its user's order is.
//!
//! Invariants: all leaves are equally deep; no node but the root is empty; a child's `count`,
//! `score` and `id` are the number of elements below it and the first of them.

mod iter;
#[cfg(test)]
mod tests;

pub(super) use iter::Iter;

/// Entries of a leaf; a leaf is 760 bytes, just below one of jemalloc's size classes.
const LEAF_MAX: usize = 63;
/// Children of an inner node.
const INNER_MAX: usize = 32;

#[derive(Debug, Clone)]
struct Leaf {
    scores: [f64; LEAF_MAX],
    ids: [u32; LEAF_MAX],
    len: u16,
}

impl Leaf {
    fn new() -> Box<Self> {
        Box::new(Self {
            scores: [0.0; LEAF_MAX],
            ids: [0; LEAF_MAX],
            len: 0,
        })
    }

    fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn insert(&mut self, at: usize, score: f64, id: u32) {
        let len = self.len();
        self.scores.copy_within(at..len, at + 1);
        self.ids.copy_within(at..len, at + 1);
        self.scores[at] = score;
        self.ids[at] = id;
        self.len += 1;
    }

    fn remove(&mut self, at: usize) -> (f64, u32) {
        let len = self.len();
        let removed = (self.scores[at], self.ids[at]);
        self.scores.copy_within(at + 1..len, at);
        self.ids.copy_within(at + 1..len, at);
        self.len -= 1;
        removed
    }

    /// Moves `count` entries from the front of `right` to the end of `self`.
    fn take_front_of(&mut self, right: &mut Self, count: usize) {
        let (len, right_len) = (self.len(), right.len());
        self.scores[len..len + count].copy_from_slice(&right.scores[..count]);
        self.ids[len..len + count].copy_from_slice(&right.ids[..count]);
        right.scores.copy_within(count..right_len, 0);
        right.ids.copy_within(count..right_len, 0);
        self.len += count as u16;
        right.len -= count as u16;
    }

    /// Moves the last `count` entries of `self` to the front of `right`.
    fn give_back_to(&mut self, right: &mut Self, count: usize) {
        let (len, right_len) = (self.len(), right.len());
        right.scores.copy_within(0..right_len, count);
        right.ids.copy_within(0..right_len, count);
        right.scores[..count].copy_from_slice(&self.scores[len - count..len]);
        right.ids[..count].copy_from_slice(&self.ids[len - count..len]);
        self.len -= count as u16;
        right.len += count as u16;
    }

    fn partition(&self, before: &impl Fn(f64, u32) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if before(self.scores[middle], self.ids[middle]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[derive(Debug, Clone)]
enum Node {
    Leaf(Box<Leaf>),
    Inner(Vec<Child>),
}

#[derive(Debug, Clone)]
struct Child {
    score: f64,
    id: u32,
    count: u32,
    node: Node,
}

impl Child {
    fn of(node: Node) -> Self {
        let mut child = Self {
            score: 0.0,
            id: 0,
            count: 0,
            node,
        };
        child.refresh();
        child
    }

    /// Recomputes what is known of the node.
    fn refresh(&mut self) {
        match &self.node {
            Node::Leaf(leaf) => {
                (self.score, self.id) = (leaf.scores[0], leaf.ids[0]);
                self.count = u32::from(leaf.len);
            }
            Node::Inner(children) => {
                if let Some(first) = children.first() {
                    (self.score, self.id) = (first.score, first.id);
                }
                self.count = children.iter().map(|child| child.count).sum();
            }
        }
    }

    fn is_underfull(&self) -> bool {
        match &self.node {
            Node::Leaf(leaf) => leaf.len() < LEAF_MAX / 3,
            Node::Inner(children) => children.len() < INNER_MAX / 3,
        }
    }
}

/// The child that holds rank `rank`, and the rank within it. With `end_belongs` the rank just
/// after a child's last element belongs to that child (for insertion), else to the next.
fn child_at(children: &[Child], mut rank: usize, end_belongs: bool) -> (usize, usize) {
    for (i, child) in children.iter().enumerate() {
        let count = child.count as usize;
        if rank < count || (end_belongs && rank == count) {
            return (i, rank);
        }
        rank -= count;
    }
    (children.len(), rank)
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    root: Node,
    len: usize,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            root: Node::Leaf(Leaf::new()),
            len: 0,
        }
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of leading elements for which `before` holds; it must hold for a prefix only.
    pub(super) fn partition(&self, before: impl Fn(f64, u32) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(leaf) => return rank + leaf.partition(&before),
                Node::Inner(children) => {
                    let after = children.partition_point(|child| before(child.score, child.id));
                    let chosen = after.saturating_sub(1);
                    rank += children[..chosen]
                        .iter()
                        .map(|c| c.count as usize)
                        .sum::<usize>();
                    node = &children[chosen].node;
                }
            }
        }
    }

    /// Inserts an element before the one of rank `rank` (at most `len`).
    pub(super) fn insert(&mut self, rank: usize, score: f64, id: u32) {
        self.len += 1;
        if let Some(right) = insert(&mut self.root, rank, score, id, true) {
            let left = std::mem::replace(&mut self.root, Node::Inner(Vec::with_capacity(4)));
            if let Node::Inner(children) = &mut self.root {
                children.push(Child::of(left));
                children.push(right);
            }
        }
    }

    /// Removes the element of rank `rank` (below `len`).
    pub(super) fn remove(&mut self, rank: usize) -> Option<(f64, u32)> {
        if rank >= self.len {
            return None;
        }
        self.len -= 1;
        let removed = remove(&mut self.root, rank);
        while let Node::Inner(children) = &mut self.root
            && children.len() == 1
            && let Some(only) = children.pop()
        {
            self.root = only.node;
        }
        Some(removed)
    }

    /// Changes the score of the element of rank `rank`, which keeps its place.
    pub(super) fn set_score(&mut self, rank: usize, score: f64) {
        fn set(node: &mut Node, rank: usize, score: f64) {
            match node {
                Node::Leaf(leaf) => {
                    if let Some(slot) = leaf.scores.get_mut(rank) {
                        *slot = score;
                    }
                }
                Node::Inner(children) => {
                    let (i, rank) = child_at(children, rank, false);
                    if let Some(child) = children.get_mut(i) {
                        set(&mut child.node, rank, score);
                        if rank == 0 {
                            child.score = score;
                        }
                    }
                }
            }
        }
        set(&mut self.root, rank, score);
    }

    /// The elements from rank `rank` on, or from it backwards.
    pub(super) fn iter(&self, rank: usize, reverse: bool) -> Iter<'_> {
        let mut iter = Iter {
            path: Vec::new(),
            leaf: None,
            at: 0,
            reverse,
        };
        if rank < self.len {
            iter.descend(&self.root, rank);
        }
        iter
    }

    /// Bytes on the heap, from the number of elements at the usual fill.
    pub(super) fn memory_bytes(&self) -> usize {
        (self.len / 48 + 1) * (size_of::<Leaf>() + size_of::<Child>())
    }
}

/// Inserts below `node`; a node that had to be split returns its new right half. `last`: nothing
/// follows the node, so a set that grows at its end (scores that are times) keeps full nodes.
fn insert(node: &mut Node, rank: usize, score: f64, id: u32, last: bool) -> Option<Child> {
    match node {
        Node::Leaf(leaf) => {
            if leaf.len() < LEAF_MAX {
                leaf.insert(rank, score, id);
                return None;
            }
            let mut right = Leaf::new();
            if last && rank == LEAF_MAX {
                right.insert(0, score, id);
            } else {
                leaf.give_back_to(&mut right, LEAF_MAX / 2);
                match rank.checked_sub(leaf.len()) {
                    Some(rank) if rank > 0 => right.insert(rank, score, id),
                    _ => leaf.insert(rank, score, id),
                }
            }
            Some(Child::of(Node::Leaf(right)))
        }
        Node::Inner(children) => {
            let (at, rank) = child_at(children, rank, true);
            let last = last && at + 1 == children.len();
            let child = children.get_mut(at)?;
            let split = insert(&mut child.node, rank, score, id, last);
            child.refresh();
            children.insert(at + 1, split?);
            if children.len() <= INNER_MAX {
                return None;
            }
            let at = if last { INNER_MAX } else { INNER_MAX / 2 };
            let mut right = Vec::with_capacity(INNER_MAX);
            right.extend(children.drain(at..));
            Some(Child::of(Node::Inner(right)))
        }
    }
}

fn remove(node: &mut Node, rank: usize) -> (f64, u32) {
    match node {
        Node::Leaf(leaf) => leaf.remove(rank),
        Node::Inner(children) => {
            let (at, rank) = child_at(children, rank, false);
            let child = &mut children[at];
            let removed = remove(&mut child.node, rank);
            child.refresh();
            if child.is_underfull() {
                rebalance(children, at);
            }
            removed
        }
    }
}

/// Merges an underfull child with a neighbour, or shares the neighbour's elements.
fn rebalance(children: &mut Vec<Child>, at: usize) {
    let left_at = at.saturating_sub(1);
    let Some([left, right]) = children.get_mut(left_at..left_at + 2) else {
        return;
    };
    let merged = match (&mut left.node, &mut right.node) {
        (Node::Leaf(a), Node::Leaf(b)) => {
            let total = a.len() + b.len();
            let wanted = if total <= LEAF_MAX { total } else { total / 2 };
            if a.len() < wanted {
                let count = wanted - a.len();
                a.take_front_of(b, count);
            } else {
                let count = a.len() - wanted;
                a.give_back_to(b, count);
            }
            b.len() == 0
        }
        (Node::Inner(a), Node::Inner(b)) => {
            let total = a.len() + b.len();
            let wanted = if total <= INNER_MAX { total } else { total / 2 };
            if a.len() < wanted {
                let count = wanted - a.len();
                a.extend(b.drain(..count));
            } else {
                b.splice(0..0, a.drain(wanted..));
            }
            b.is_empty()
        }
        _ => false,
    };
    left.refresh();
    if merged {
        children.remove(left_at + 1);
    } else {
        right.refresh();
    }
}
