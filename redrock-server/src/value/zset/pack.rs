//! The small form: a listpack of member, score, member, score... in ascending order.
//!
//! Scores are stored as Redis does: integers as integers, others as their shortest text.

use super::range::{LexRange, compare};
use crate::value::number::double_text;
use redrock_rdb::listpack::{ListPack, LpValue, Pos};
use redrock_rdb::number::parse_f64;
use std::cmp::Ordering;
use std::ops::Range;

/// Largest magnitude stored as an integer (Redis's `double2ll`).
const INT_SCORE_MAX: f64 = (i64::MAX / 2) as f64;

/// The score that a listpack element holds. Loading has checked that it is one.
pub(super) fn score_of(value: LpValue<'_>) -> f64 {
    match value {
        LpValue::Int(n) => n as f64,
        LpValue::Str(text) => parse_f64(text).unwrap_or(0.0),
    }
}

fn insert_pair(pack: &mut ListPack, before: Option<Pos>, member: LpValue<'_>, score: f64) {
    let is_int = score.fract() == 0.0 && score.abs() <= INT_SCORE_MAX;
    let at = match (before, member) {
        (Some(pos), LpValue::Str(member)) => pack.insert_before(pos, member),
        (Some(pos), LpValue::Int(member)) => pack.insert_before_int(pos, member),
        (None, member) => pack.push_back_value(member),
    };
    if is_int {
        pack.insert_after_int(at, score as i64);
    } else {
        pack.insert_after(at, double_text(score).as_bytes());
    }
}

/// Adds a member known to be absent at its place.
pub(super) fn insert(pack: &mut ListPack, score: f64, member: &[u8]) {
    let mut next = pack.first();
    while let Some(pos) = next {
        let Some(score_pos) = pack.next(pos) else {
            break;
        };
        let other = score_of(pack.value(score_pos));
        let is_after = other > score
            || (other == score && compare(pack.value(pos), member) == Ordering::Greater);
        if is_after {
            break;
        }
        next = pack.next(score_pos);
    }
    insert_pair(pack, next, LpValue::Str(member), score);
}

/// Adds a member at the end, where the caller knows that it belongs.
pub(super) fn push(pack: &mut ListPack, score: f64, member: LpValue<'_>) {
    insert_pair(pack, None, member, score);
}

/// Where a member is.
pub(super) fn find(pack: &ListPack, member: &[u8]) -> Option<Pos> {
    pack.find_first(member, 1)
}

/// The score of the member at `pos`.
pub(super) fn score_at(pack: &ListPack, pos: Pos) -> f64 {
    pack.next(pos)
        .map_or(0.0, |score_pos| score_of(pack.value(score_pos)))
}

/// Rank and score of a member.
pub(super) fn rank(pack: &ListPack, member: &[u8]) -> Option<(usize, f64)> {
    let at = find(pack, member)?;
    let (mut rank, mut pos) = (0, pack.first()?);
    while pos < at {
        pos = pack.next(pos).and_then(|score| pack.next(score))?;
        rank += 1;
    }
    Some((rank, score_at(pack, at)))
}

/// Number of leading elements whose score `before` accepts.
pub(super) fn partition(pack: &ListPack, before: impl Fn(f64) -> bool) -> usize {
    iter(pack, 0, false)
        .take_while(|&(_, score)| before(score))
        .count()
}

/// Ranks of the members in a range. Members of unequal scores have no order that a lex range
/// could use; the result is then what Redis's walk from the front gives.
pub(super) fn lex_ranks(pack: &ListPack, range: &LexRange<'_>) -> Range<usize> {
    let members = |from| iter(pack, from, false).map(|(member, _)| member);
    let last = iter(pack, (pack.len() / 2).saturating_sub(1), true).next();
    let outside = last.is_none_or(|(member, _)| range.is_before(member))
        || members(0)
            .next()
            .is_none_or(|member| !range.is_not_after(member));
    if outside {
        return 0..0;
    }
    let start = members(0)
        .take_while(|&member| range.is_before(member))
        .count();
    let count = members(start)
        .take_while(|&member| range.is_not_after(member))
        .count();
    start..start + count
}

/// Elements from a rank on, in either direction.
pub(super) fn iter(pack: &ListPack, rank: usize, reverse: bool) -> Iter<'_> {
    Iter {
        pack,
        next: pack.seek(2 * rank as i64),
        reverse,
    }
}

/// See [`iter`].
#[derive(Debug, Clone)]
pub(super) struct Iter<'a> {
    pack: &'a ListPack,
    next: Option<Pos>,
    reverse: bool,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (LpValue<'a>, f64);

    fn next(&mut self) -> Option<Self::Item> {
        let pos = self.next?;
        let score_pos = self.pack.next(pos)?;
        self.next = if self.reverse {
            self.pack.prev(pos).and_then(|score| self.pack.prev(score))
        } else {
            self.pack.next(score_pos)
        };
        Some((self.pack.value(pos), score_of(self.pack.value(score_pos))))
    }
}
