//! Walking through a tree from a rank on, either way.

use super::{Child, Leaf, Node, child_at};

/// Elements in order, from a rank on. See [`Tree::iter`].
#[derive(Debug, Clone)]
pub(in super::super) struct Iter<'a> {
    pub(super) path: Vec<(&'a [Child], usize)>,
    pub(super) leaf: Option<&'a Leaf>,
    pub(super) at: usize,
    pub(super) reverse: bool,
}

impl<'a> Iter<'a> {
    pub(super) fn descend(&mut self, mut node: &'a Node, mut rank: usize) {
        loop {
            match node {
                Node::Leaf(leaf) => {
                    self.leaf = Some(leaf);
                    self.at = rank;
                    return;
                }
                Node::Inner(children) => {
                    let (i, within) = child_at(children, rank, false);
                    let Some(child) = children.get(i) else { return };
                    self.path.push((children, i));
                    node = &child.node;
                    rank = within;
                }
            }
        }
    }

    /// Goes to the next leaf, or the one before.
    fn turn(&mut self) {
        self.leaf = None;
        while let Some((children, i)) = self.path.pop() {
            let next = if self.reverse {
                i.checked_sub(1)
            } else {
                Some(i + 1)
            };
            if let Some((next, child)) = next.and_then(|n| Some((n, children.get(n)?))) {
                self.path.push((children, next));
                let rank = if self.reverse {
                    child.count as usize - 1
                } else {
                    0
                };
                self.descend(&child.node, rank);
                return;
            }
        }
    }
}

impl Iterator for Iter<'_> {
    type Item = (f64, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let leaf = self.leaf?;
        let item = (*leaf.scores.get(self.at)?, *leaf.ids.get(self.at)?);
        if self.reverse {
            match self.at.checked_sub(1) {
                Some(at) => self.at = at,
                None => self.turn(),
            }
        } else {
            self.at += 1;
            if self.at >= leaf.len() {
                self.turn();
            }
        }
        Some(item)
    }
}
