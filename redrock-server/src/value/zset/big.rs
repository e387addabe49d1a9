//! The big form: elements in a slab, found by member through an index and by order in a tree.
//!
//! An element costs its slot (24 bytes, members of up to 15 bytes included), about 12 bytes in
//! the index and 12 to 18 in the tree; Redis's skiplist and dictionary spend above 90.
//!
//! Invariant: slab, index and tree hold the same ids; the tree is in order of (score, member).

use super::index::Index;
use super::member::Member;
use super::range::LexRange;
use super::slab::Slab;
use super::tree::{self, Tree};
use redrock_rdb::listpack::LpValue;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::LazyLock;

/// Keeps clients from aiming at one segment of an index. One for the whole process, so that a
/// set has the same scan order when it comes back from disk.
static SECRET: LazyLock<(u64, u64)> = LazyLock::new(|| (rand::random(), rand::random()));

fn hash_of(member: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(SECRET.0, SECRET.1);
    hasher.write(member);
    hasher.finish() as u32
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Big {
    slab: Slab,
    index: Index,
    tree: Tree,
}

/// An element of the big form: names it until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

impl Big {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            index: Index::new(),
            tree: Tree::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    pub(super) fn find(&self, member: &[u8]) -> Option<Id> {
        self.index
            .find(hash_of(member), |id| self.slab.member(id) == member)
            .map(Id)
    }

    pub(super) fn score(&self, id: Id) -> f64 {
        self.slab.score(id.0)
    }

    /// Number of elements before (`score`, `member`).
    fn rank_of(&self, score: f64, member: &[u8]) -> usize {
        self.tree.partition(|other, id| {
            other < score || (other == score && self.slab.member(id) < member)
        })
    }

    pub(super) fn rank(&self, id: Id) -> usize {
        self.rank_of(self.slab.score(id.0), self.slab.member(id.0))
    }

    /// Adds a member known to be absent.
    pub(super) fn insert(&mut self, score: f64, member: &[u8]) {
        let rank = self.rank_of(score, member);
        self.insert_at(rank, score, Member::new(member));
    }

    /// Adds a member known to be absent and to come after all others.
    pub(super) fn push(&mut self, score: f64, member: &[u8]) {
        self.insert_at(self.tree.len(), score, Member::new(member));
    }

    fn insert_at(&mut self, rank: usize, score: f64, member: Member) {
        let hash = hash_of(member.as_bytes());
        let id = self.slab.insert(score, member);
        self.index.insert(hash, id);
        self.tree.insert(rank, score, id);
    }

    pub(super) fn set_score(&mut self, Id(id): Id, score: f64) {
        let old = self.rank(Id(id));
        let raised = score > self.slab.score(id);
        // The element itself is among those counted if its score goes up.
        let new = self.rank_of(score, self.slab.member(id)) - usize::from(raised);
        self.slab.set_score(id, score);
        if new == old {
            self.tree.set_score(old, score);
        } else {
            self.tree.remove(old);
            self.tree.insert(new, score, id);
        }
    }

    pub(super) fn remove(&mut self, id: Id) {
        let rank = self.rank(id);
        self.remove_ranks(rank..rank + 1);
    }

    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        for _ in ranks.clone() {
            let Some((_, id)) = self.tree.remove(ranks.start) else {
                break;
            };
            let member = self.slab.remove(id);
            self.index.remove(hash_of(member.as_bytes()), id);
        }
        if self.slab.is_sparse() {
            self.repack();
        }
    }

    /// Moves the elements into a slab without holes.
    fn repack(&mut self) {
        let mut fresh = Self::new();
        for (score, id) in self.tree.iter(0, false) {
            let member = self.slab.remove(id);
            fresh.insert_at(fresh.tree.len(), score, member);
        }
        *self = fresh;
    }

    /// Number of leading elements whose score `before` accepts.
    pub(super) fn partition(&self, before: impl Fn(f64) -> bool) -> usize {
        self.tree.partition(|score, _| before(score))
    }

    pub(super) fn lex_ranks(&self, range: &LexRange<'_>) -> Range<usize> {
        let member = |id| LpValue::Str(self.slab.member(id));
        let start = self.tree.partition(|_, id| range.is_before(member(id)));
        let end = self.tree.partition(|_, id| range.is_not_after(member(id)));
        start..end.max(start)
    }

    pub(super) fn iter(&self, rank: usize, reverse: bool) -> Iter<'_> {
        Iter {
            slab: &self.slab,
            entries: self.tree.iter(rank, reverse),
        }
    }

    /// See [`Index::scan`].
    pub(super) fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(&[u8], f64)) -> u64 {
        self.index.scan(cursor, count, |id| {
            visit(self.slab.member(id), self.slab.score(id))
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.slab.memory_bytes()
            + self.index.memory_bytes()
            + self.tree.memory_bytes()
    }
}

/// Elements from a rank on, in either direction.
#[derive(Debug, Clone)]
pub(super) struct Iter<'a> {
    slab: &'a Slab,
    entries: tree::Iter<'a>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    fn next(&mut self) -> Option<Self::Item> {
        let (score, id) = self.entries.next()?;
        Some((self.slab.member(id), score))
    }
}
