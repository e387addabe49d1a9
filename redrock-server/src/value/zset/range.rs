//! Ranges of scores and of members, as `ZRANGE ... BYSCORE` and `BYLEX` name them.

use crate::value::number::parse_double;
use redrock_rdb::listpack::LpValue;
use std::cmp::Ordering;

/// A range of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreRange {
    min: ScoreBound,
    max: ScoreBound,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct ScoreBound {
    value: f64,
    exclusive: bool,
}

impl ScoreBound {
    /// `1.5`, or `(1.5` to leave the score itself out. As in Redis, whose `strtod` reads it,
    /// leading space is skipped and no text at all is zero.
    fn parse(text: &[u8]) -> Option<Self> {
        let (exclusive, number) = match text.split_first() {
            Some((b'(', rest)) => (true, rest),
            _ => (false, text),
        };
        if number.is_empty() {
            return Some(Self {
                value: 0.0,
                exclusive,
            });
        }
        let number = number.trim_ascii_start();
        // What is out of a double's range is refused as a score, but bounds a range well.
        let value = parse_double(number).or_else(|| std::str::from_utf8(number).ok()?.parse().ok());
        value
            .filter(|value: &f64| !value.is_nan())
            .map(|value| Self { value, exclusive })
    }
}

impl ScoreRange {
    /// From `min` on, up to below `end`.
    pub fn half_open(min: f64, end: f64) -> Self {
        let bound = |value, exclusive| ScoreBound { value, exclusive };
        Self {
            min: bound(min, false),
            max: bound(end, true),
        }
    }

    /// Parses both ends; `None` is Redis's `min or max is not a float`.
    pub fn parse(min: &[u8], max: &[u8]) -> Option<Self> {
        Some(Self {
            min: ScoreBound::parse(min)?,
            max: ScoreBound::parse(max)?,
        })
    }

    /// Whether `score` comes before the range.
    pub(super) fn is_before(&self, score: f64) -> bool {
        if self.min.exclusive {
            score <= self.min.value
        } else {
            score < self.min.value
        }
    }

    /// Whether `score` is not past the range's end.
    pub(super) fn is_not_after(&self, score: f64) -> bool {
        if self.max.exclusive {
            score < self.max.value
        } else {
            score <= self.max.value
        }
    }
}

/// A range of members of equal score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LexRange<'a> {
    min: LexBound<'a>,
    max: LexBound<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LexBound<'a> {
    /// `-`
    First,
    /// `+`
    Last,
    /// `[member`
    Inclusive(&'a [u8]),
    /// `(member`
    Exclusive(&'a [u8]),
}

impl<'a> LexBound<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        match text {
            b"-" => Some(Self::First),
            b"+" => Some(Self::Last),
            [b'[', member @ ..] => Some(Self::Inclusive(member)),
            [b'(', member @ ..] => Some(Self::Exclusive(member)),
            _ => None,
        }
    }
}

impl<'a> LexRange<'a> {
    /// Parses both ends; `None` is Redis's `min or max not valid string range item`.
    pub fn parse(min: &'a [u8], max: &'a [u8]) -> Option<Self> {
        Some(Self {
            min: LexBound::parse(min)?,
            max: LexBound::parse(max)?,
        })
    }

    /// Whether `member` comes before the range.
    pub(super) fn is_before(&self, member: LpValue<'_>) -> bool {
        match self.min {
            LexBound::First => false,
            LexBound::Last => true,
            LexBound::Inclusive(bound) => compare(member, bound) == Ordering::Less,
            LexBound::Exclusive(bound) => compare(member, bound) != Ordering::Greater,
        }
    }

    /// Whether `member` is not past the range's end.
    pub(super) fn is_not_after(&self, member: LpValue<'_>) -> bool {
        match self.max {
            LexBound::First => false,
            LexBound::Last => true,
            LexBound::Inclusive(bound) => compare(member, bound) != Ordering::Greater,
            LexBound::Exclusive(bound) => compare(member, bound) == Ordering::Less,
        }
    }
}

/// Order of members of equal score: as bytes.
pub(super) fn compare(member: LpValue<'_>, other: &[u8]) -> Ordering {
    match member {
        LpValue::Str(bytes) => bytes.cmp(other),
        LpValue::Int(_) => member.cmp_bytes(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_ranges_parse_as_in_redis() {
        let range = ScoreRange::parse(b"(1.5", b"+inf").unwrap();
        assert!(range.is_before(1.5) && !range.is_before(1.6) && range.is_not_after(f64::INFINITY));
        let range = ScoreRange::parse(b"-inf", b"(7").unwrap();
        assert!(!range.is_before(f64::NEG_INFINITY) && !range.is_not_after(7.0));
        assert!(ScoreRange::parse(b"", b" 3").is_some());
        assert_eq!(
            ScoreRange::parse(b"(", b"1"),
            ScoreRange::parse(b"(0", b"1")
        );
        for bad in ["nan", "1x", "str", "((1", " ", "[1"] {
            assert_eq!(ScoreRange::parse(bad.as_bytes(), b"1"), None, "{bad}");
            assert_eq!(ScoreRange::parse(b"1", bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn lex_ranges_parse_as_in_redis() {
        let range = LexRange::parse(b"[b", b"(d").unwrap();
        assert!(range.is_before(LpValue::Str(b"a")) && !range.is_before(LpValue::Str(b"b")));
        assert!(range.is_not_after(LpValue::Str(b"cz")) && !range.is_not_after(LpValue::Str(b"d")));
        let range = LexRange::parse(b"(10", b"[2").unwrap();
        assert!(range.is_before(LpValue::Int(10)) && !range.is_before(LpValue::Int(100)));
        assert!(range.is_not_after(LpValue::Int(2)) && !range.is_not_after(LpValue::Int(20)));
        for bad in ["", "a", "-x", "+x", "1"] {
            assert_eq!(LexRange::parse(bad.as_bytes(), b"+"), None, "{bad}");
        }
    }
}
