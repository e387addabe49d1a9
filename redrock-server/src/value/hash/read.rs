//! Reading what is not over, and random choice.

use super::timed::{self, Timed};
use super::{Hash, Iter, Repr};
use crate::value::random::select;
use crate::value::thin::Pair;
use rand::random_range;
use redrock_rdb::listpack::LpValue;

/// Draws before a random choice among fields of which most are over takes the first that is not:
/// active expiry removes them soon.
const DRAWS_MAX: usize = 1000;

/// What a field is.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// There is none.
    Absent,
    /// It is there, and its time has passed.
    Over,
    /// Its value, and when it expires (unix ms).
    Live(LpValue<'a>, Option<i64>),
}

impl<'a> Found<'a> {
    /// The value, if it is not over.
    #[inline]
    pub fn value(self) -> Option<LpValue<'a>> {
        match self {
            Self::Live(value, _) => Some(value),
            Self::Absent | Self::Over => None,
        }
    }

    /// Whether it is there and over.
    #[inline]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }
}

/// See [`Hash::live`].
#[derive(Debug)]
pub enum Live<'a> {
    /// Nothing is over.
    All(Iter<'a>),
    /// Some fields are.
    Some(timed::Elements<'a>, i64),
}

impl<'a> Iterator for Live<'a> {
    type Item = (LpValue<'a>, LpValue<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::All(pairs) => pairs.next(),
            Self::Some(elements, cutoff_ms) => loop {
                let (field, value, time) = elements.next()?;
                if !is_over(time, *cutoff_ms) {
                    return Some((field, value));
                }
            },
        }
    }
}

/// Whether a field with this time is over.
#[inline]
pub(super) fn is_over(time: Option<i64>, cutoff_ms: i64) -> bool {
    time.is_some_and(|ms| ms < cutoff_ms)
}

/// Fields that expire.
impl Hash {
    /// Whether some field has an expiry, or a small hash had one: whoever changes such a hash
    /// tells the keyspace (`Db::fields_changed`).
    #[inline]
    pub fn is_timed(&self) -> bool {
        matches!(self.repr, Repr::Timed(_))
    }

    /// When the first field expires, unix ms.
    #[inline]
    pub fn earliest(&self) -> Option<i64> {
        match &self.repr {
            Repr::Pack(_) | Repr::Table(_) => None,
            Repr::Timed(timed) => timed.earliest(),
        }
    }

    /// Whether some field is over.
    #[inline]
    pub fn has_over(&self, cutoff_ms: i64) -> bool {
        is_over(self.earliest(), cutoff_ms)
    }

    /// A field, or that it is over.
    #[inline]
    pub fn lookup(&self, field: &[u8], cutoff_ms: i64) -> Found<'_> {
        match &self.repr {
            Repr::Timed(timed) => match timed.get(field) {
                None => Found::Absent,
                Some((_, time)) if is_over(time, cutoff_ms) => Found::Over,
                Some((value, time)) => Found::Live(value, time),
            },
            Repr::Pack(_) | Repr::Table(_) => self
                .get(field)
                .map_or(Found::Absent, |value| Found::Live(value, None)),
        }
    }

    /// Fields with their values, but those that are over.
    pub fn live(&self, cutoff_ms: i64) -> Live<'_> {
        match &self.repr {
            Repr::Timed(timed) if self.has_over(cutoff_ms) => {
                Live::Some(timed.elements(), cutoff_ms)
            }
            _ => Live::All(self.iter()),
        }
    }

    /// How many [`Hash::live`] gives. O(number of fields that are over).
    pub fn live_len(&self, cutoff_ms: i64) -> usize {
        match &self.repr {
            Repr::Timed(timed) => timed.len() - timed.over_len(cutoff_ms),
            _ => self.len(),
        }
    }

    /// Fields that are over, the earliest first, at most `max`.
    pub fn over(&self, cutoff_ms: i64, max: usize) -> Vec<Vec<u8>> {
        match &self.repr {
            Repr::Timed(timed) => timed.over(cutoff_ms, max),
            _ => Vec::new(),
        }
    }

    /// All fields with their values and times, over or not.
    pub fn timed_elements(&self) -> Option<timed::Elements<'_>> {
        match &self.repr {
            Repr::Timed(timed) => Some(timed.elements()),
            _ => None,
        }
    }
}

/// Random choice among fields that are not over.
impl Hash {
    /// A random field with its value, each with the same probability; `None` if there is none.
    pub fn random(&self, cutoff_ms: i64) -> Option<(LpValue<'_>, LpValue<'_>)> {
        match &self.repr {
            Repr::Pack(pack) => {
                let len = pack.len() / 2;
                if len == 0 {
                    return None;
                }
                let field = pack.seek(2 * random_range(0..len) as i64)?;
                Some((pack.value(field), pack.value(pack.next(field)?)))
            }
            Repr::Table(table) => Some(parts(table.random()?)),
            Repr::Timed(timed) => match &**timed {
                Timed::Pack(_) => {
                    let len = self.live_len(cutoff_ms);
                    let nth = (len > 0).then(|| random_range(0..len))?;
                    self.live(cutoff_ms).nth(nth)
                }
                Timed::Table(table) => {
                    for _ in 0..DRAWS_MAX {
                        let pair = table.pairs().random()?;
                        if !is_over(table.time(pair.field()), cutoff_ms) {
                            return Some(parts(pair));
                        }
                    }
                    self.live(cutoff_ms).next()
                }
            },
        }
    }

    /// Visits `count` random fields, the same one any number of times, until `visit` is false.
    pub fn random_repeating<'a>(
        &'a self,
        count: u64,
        cutoff_ms: i64,
        mut visit: impl FnMut(LpValue<'a>, LpValue<'a>) -> bool,
    ) {
        // Seeking in a listpack is a walk: with more than one to find, walk it once.
        let small: Vec<_> = match &self.repr {
            Repr::Table(_) => Vec::new(),
            Repr::Timed(timed) if matches!(**timed, Timed::Table(_)) => Vec::new(),
            _ if count > 1 => self.live(cutoff_ms).collect(),
            _ => Vec::new(),
        };
        for _ in 0..count {
            let chosen = if small.is_empty() {
                self.random(cutoff_ms)
            } else {
                small.get(random_range(0..small.len())).copied()
            };
            let Some((field, value)) = chosen else { return };
            if !visit(field, value) {
                return;
            }
        }
    }

    /// Visits `count` different random fields, or all if there are no more.
    pub fn random_distinct<'a>(
        &'a self,
        count: usize,
        cutoff_ms: i64,
        mut visit: impl FnMut(LpValue<'a>, LpValue<'a>),
    ) {
        let pairs = match &self.repr {
            Repr::Table(table) => table,
            Repr::Timed(timed) => match &**timed {
                Timed::Table(table) if !self.has_over(cutoff_ms) => table.pairs(),
                _ => return self.select_live(count, cutoff_ms, visit),
            },
            Repr::Pack(_) => return self.select_live(count, cutoff_ms, visit),
        };
        pairs.random_distinct(count, |pair: &Pair| {
            let (field, value) = parts(pair);
            visit(field, value);
        });
    }

    fn select_live<'a>(
        &'a self,
        count: usize,
        cutoff_ms: i64,
        mut visit: impl FnMut(LpValue<'a>, LpValue<'a>),
    ) {
        let len = self.live_len(cutoff_ms);
        select(self.live(cutoff_ms), len, count, |(field, value)| {
            visit(field, value);
        });
    }
}

fn parts(pair: &Pair) -> (LpValue<'_>, LpValue<'_>) {
    let (field, value) = pair.parts();
    (LpValue::Str(field), LpValue::Str(value))
}
