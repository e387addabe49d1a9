//! Sorted sets: members with scores, in order of (score, member bytes).
//!
//! Small ones are a listpack, as Redis 7.2 stores them; beyond the `zset-max-listpack-*` limits
//! they become the big form (OBJECT ENCODING `skiplist`), and stay it. Every operation of the big
//! form is O(log n) plus what it returns or removes; a member's score is one hash lookup.

mod big;
mod codec;
mod index;
mod member;
mod pack;
mod range;
mod slab;
#[cfg(test)]
mod tests;
mod tree;

pub use codec::{InvalidZSet, sort};
pub use range::{LexRange, ScoreRange};

use super::Limits;
use big::Big;
use redrock_rdb::listpack::{ListPack, LpValue};
use redrock_rdb::number::IntBuf;
use std::ops::Range;

/// See the module.
#[derive(Debug, Clone)]
pub struct ZSet(Repr);

#[derive(Debug, Clone)]
enum Repr {
    Pack(ListPack),
    Big(Box<Big>),
}

/// The conditions of ZADD.
#[derive(Debug, Clone, Copy, Default)]
pub struct AddRule {
    /// `INCR`: the score given is added to the present one.
    pub increment: bool,
    /// `NX`: only add new members.
    pub only_new: bool,
    /// `XX`: only update members that are there.
    pub only_present: bool,
    /// `GT`: update only to a greater score.
    pub only_greater: bool,
    /// `LT`: update only to a lesser score.
    pub only_less: bool,
}

/// What [`ZSet::add`] did; the score is the member's from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Added {
    /// The member is new.
    New(f64),
    /// Its score changed.
    Updated(f64),
    /// It had that score already.
    Same(f64),
    /// The rule forbade it.
    Refused,
    /// The increment would make the score NaN.
    NotANumber,
}

impl Default for ZSet {
    fn default() -> Self {
        Self::new()
    }
}

impl ZSet {
    /// An empty one.
    pub fn new() -> Self {
        Self(Repr::Pack(ListPack::new()))
    }

    /// A set of members that are already in order and distinct.
    pub fn from_sorted<'a>(
        elements: impl Iterator<Item = (LpValue<'a>, f64)> + Clone,
        limits: &Limits,
    ) -> Self {
        let (mut count, mut longest, mut total) = (0, 0, 0usize);
        for (member, _) in elements.clone() {
            count += 1;
            longest = longest.max(member.len());
            total = total.saturating_add(member.len());
        }
        let mut set = Self::new();
        set.prepare(count, longest, limits);
        if let Repr::Pack(pack) = &set.0
            && !pack.safe_to_add(total)
        {
            set.grow();
        }
        for (member, score) in elements {
            match &mut set.0 {
                Repr::Pack(pack) => pack::push(pack, score, member),
                Repr::Big(big) => big.push(score, member.bytes(&mut IntBuf::default())),
            }
        }
        set
    }

    /// Number of elements.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty one never stays in the keyspace"
    )]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Pack(pack) => pack.len() / 2,
            Repr::Big(big) => big.len(),
        }
    }

    /// Bytes on the heap, an estimate.
    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            Repr::Pack(pack) => pack.capacity(),
            Repr::Big(big) => big.memory_bytes(),
        }
    }

    /// OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Pack(_) => "listpack",
            Repr::Big(_) => "skiplist",
        }
    }

    /// Takes the big form if as many elements as `count`, or one of `member_bytes`, are about to
    /// be added (Redis's `zsetTypeCreate` and `zsetTypeMaybeConvert`).
    pub fn prepare(&mut self, count: usize, member_bytes: usize, limits: &Limits) {
        if count > limits.zset_listpack_entries_max
            || member_bytes > limits.zset_listpack_value_bytes_max
        {
            self.grow();
        }
    }

    fn grow(&mut self) {
        if let Repr::Pack(pack) = &self.0 {
            let mut big = Box::new(Big::new());
            for (member, score) in pack::iter(pack, 0, false) {
                big.push(score, member.bytes(&mut IntBuf::default()));
            }
            self.0 = Repr::Big(big);
        }
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Repr::Pack(pack) => Some(pack::score_at(pack, pack::find(pack, member)?)),
            Repr::Big(big) => Some(big.score(big.find(member)?)),
        }
    }

    /// The rank of a member from the lowest score, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.0 {
            Repr::Pack(pack) => pack::rank(pack, member),
            Repr::Big(big) => {
                let id = big.find(member)?;
                Some((big.rank(id), big.score(id)))
            }
        }
    }

    /// Adds a member or changes its score, as ZADD under `rule`. `score` must not be NaN.
    pub fn add(&mut self, score: f64, member: &[u8], rule: AddRule, limits: &Limits) -> Added {
        if score.is_nan() {
            return Added::NotANumber;
        }
        let Some(present) = self.score(member) else {
            if rule.only_present {
                return Added::Refused;
            }
            self.insert(score, member, limits);
            return Added::New(score);
        };
        if rule.only_new {
            return Added::Refused;
        }
        let score = if rule.increment {
            present + score
        } else {
            score
        };
        if score.is_nan() {
            return Added::NotANumber;
        }
        if (rule.only_less && score >= present) || (rule.only_greater && score <= present) {
            return Added::Refused;
        }
        if score == present {
            return Added::Same(score);
        }
        match &mut self.0 {
            Repr::Pack(pack) => {
                if let Some(pos) = pack::find(pack, member) {
                    pack.remove_from(pos, 2);
                }
                pack::insert(pack, score, member);
            }
            Repr::Big(big) => {
                if let Some(id) = big.find(member) {
                    big.set_score(id, score);
                }
            }
        }
        Added::Updated(score)
    }

    fn insert(&mut self, score: f64, member: &[u8], limits: &Limits) {
        self.prepare(self.len() + 1, member.len(), limits);
        if let Repr::Pack(pack) = &self.0
            && !pack.safe_to_add(member.len())
        {
            self.grow();
        }
        match &mut self.0 {
            Repr::Pack(pack) => pack::insert(pack, score, member),
            Repr::Big(big) => big.insert(score, member),
        }
    }

    /// Removes a member; false if it is not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Repr::Pack(pack) => match pack::find(pack, member) {
                Some(pos) => {
                    pack.remove_from(pos, 2);
                    true
                }
                None => false,
            },
            Repr::Big(big) => match big.find(member) {
                Some(id) => {
                    big.remove(id);
                    true
                }
                None => false,
            },
        }
    }

    /// Removes the elements of these ranks; ranks past the end are ignored.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        let ranks = ranks.start..ranks.end.min(self.len());
        if ranks.is_empty() {
            return;
        }
        match &mut self.0 {
            Repr::Pack(pack) => pack.remove_range(2 * ranks.start as i64, 2 * ranks.len()),
            Repr::Big(big) => big.remove_ranks(ranks),
        }
    }

    /// The ranks of the elements with scores in a range; empty ones are `n..n`.
    pub fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        let before = |score| range.is_before(score);
        let not_after = |score| range.is_not_after(score);
        let (start, end) = match &self.0 {
            Repr::Pack(pack) => (
                pack::partition(pack, before),
                pack::partition(pack, not_after),
            ),
            Repr::Big(big) => (big.partition(before), big.partition(not_after)),
        };
        start..end.max(start)
    }

    /// The ranks of the members in a range; meant for members of equal scores.
    pub fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        match &self.0 {
            Repr::Pack(pack) => pack::lex_ranks(pack, range),
            Repr::Big(big) => big.lex_ranks(range),
        }
    }

    /// The elements of these ranks in order, or in reverse from the last of them.
    pub fn range(&self, ranks: Range<usize>, reverse: bool) -> Elements<'_> {
        let ranks = ranks.start..ranks.end.min(self.len());
        let first = if reverse {
            ranks.end.saturating_sub(1)
        } else {
            ranks.start
        };
        let source = match &self.0 {
            Repr::Pack(pack) => Source::Pack(pack::iter(pack, first, reverse)),
            Repr::Big(big) => Source::Big(big.iter(first, reverse)),
        };
        Elements {
            source,
            left: ranks.len(),
        }
    }

    /// The element of a rank.
    pub fn at(&self, rank: usize) -> Option<(LpValue<'_>, f64)> {
        self.range(rank..rank.saturating_add(1), false).next()
    }

    /// All elements in order.
    pub fn iter(&self) -> Elements<'_> {
        self.range(0..self.len(), false)
    }

    /// Visits about `count` elements from a cursor of ZSCAN on and returns the next cursor, 0 at
    /// the end. The small form is visited whole. Each element that is there from the first call
    /// to the last is visited, whatever happens to others, to scores, and to the form meanwhile.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(LpValue<'_>, f64)) -> u64 {
        match &self.0 {
            Repr::Pack(pack) => {
                pack::iter(pack, 0, false).for_each(|(member, score)| visit(member, score));
                0
            }
            Repr::Big(big) => big.scan(cursor, count.max(1), |member, score| {
                visit(LpValue::Str(member), score);
            }),
        }
    }
}

/// Elements of a range. See [`ZSet::range`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    source: Source<'a>,
    left: usize,
}

#[derive(Debug, Clone)]
enum Source<'a> {
    Pack(pack::Iter<'a>),
    Big(big::Iter<'a>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = (LpValue<'a>, f64);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.source {
            Source::Pack(elements) => elements.next(),
            Source::Big(elements) => elements
                .next()
                .map(|(member, score)| (LpValue::Str(member), score)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Elements<'_> {}
