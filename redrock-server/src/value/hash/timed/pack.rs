//! Small hashes with times: one listpack of fields, values and times, the very bytes of Redis 7.4.
//!
//! Invariants: the number of elements is a multiple of three; no field comes twice; times are
//! integers, 0 for none; the earliest comes first, and fields without a time are at the end.

use crate::value::hash::read::is_over;
use redrock_rdb::listpack::{self, ListPack, LpValue, Pos};
use redrock_rdb::object::TtlField;

/// Elements of one field.
const WIDTH: usize = 3;

/// See the module.
#[derive(Debug, Clone)]
pub(in crate::value::hash) struct TimedPack(ListPack);

/// All fields with their values and times.
#[derive(Debug)]
pub struct PackElements<'a>(listpack::Iter<'a>);

impl<'a> Iterator for PackElements<'a> {
    type Item = (LpValue<'a>, LpValue<'a>, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        let (field, value) = (self.0.next()?, self.0.next()?);
        Some((field, value, time_of(self.0.next()?)))
    }
}

fn time_of(element: LpValue<'_>) -> Option<i64> {
    element.as_int().filter(|ms| *ms != 0)
}

impl TimedPack {
    /// The fields of a hash without times.
    pub(super) fn from_pairs(pairs: &ListPack) -> Self {
        let mut pack = ListPack::with_capacity(pairs.byte_len() + pairs.len());
        let mut elements = pairs.iter();
        while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
            pack.push_back_value(field);
            pack.push_back_value(value);
            pack.push_back_int(0);
        }
        Self(pack)
    }

    /// Fields in any order.
    pub(super) fn from_fields(mut fields: Vec<TtlField>) -> Self {
        fields.sort_by_key(|(_, _, time)| time.unwrap_or(u64::MAX));
        let mut pack = ListPack::new();
        for (field, value, time) in &fields {
            pack.push_back(field);
            pack.push_back(value);
            pack.push_back_int(time.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(0));
        }
        pack.shrink_to_fit();
        Self(pack)
    }

    pub(super) fn listpack(&self) -> &ListPack {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() / WIDTH
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// All elements as they lie.
    pub(in crate::value::hash) fn elements(&self) -> listpack::Iter<'_> {
        self.0.iter()
    }

    pub(super) fn timed(&self) -> PackElements<'_> {
        PackElements(self.0.iter())
    }

    pub(super) fn earliest(&self) -> Option<i64> {
        time_of(self.0.value(self.0.seek(2)?))
    }

    /// Fields that are over.
    pub(super) fn over(&self, cutoff_ms: i64) -> impl Iterator<Item = LpValue<'_>> {
        self.timed()
            .take_while(move |(_, _, time)| is_over(*time, cutoff_ms))
            .map(|(field, _, _)| field)
    }

    /// Where a field is, its value, and its time.
    fn find(&self, field: &[u8]) -> Option<[Pos; WIDTH]> {
        let at = self.0.find_first(field, WIDTH - 1)?;
        let value = self.0.next(at)?;
        Some([at, value, self.0.next(value)?])
    }

    pub(super) fn get(&self, field: &[u8]) -> Option<(LpValue<'_>, Option<i64>)> {
        let [_, value, time] = self.find(field)?;
        Some((self.0.value(value), time_of(self.0.value(time))))
    }

    /// Sets a field; true if it is new.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8], keep_time: bool) -> bool {
        let Some([_, value_at, time_at]) = self.find(field) else {
            self.insert(field, value, None);
            return true;
        };
        let timed = time_of(self.0.value(time_at)).is_some();
        self.0.replace(value_at, value);
        if timed && !keep_time {
            self.set_time(field, None);
        }
        false
    }

    /// Sets or ends a field's expiry; false if there is no such field.
    pub(super) fn set_time(&mut self, field: &[u8], time: Option<i64>) -> bool {
        let Some([at, value_at, time_at]) = self.find(field) else {
            return false;
        };
        if time_of(self.0.value(time_at)) != time {
            // Its place follows from its time.
            let value = self.0.value(value_at).to_vec();
            self.0.remove_from(at, WIDTH);
            self.insert(field, &value, time);
        }
        true
    }

    /// Adds a field that is not there.
    fn insert(&mut self, field: &[u8], value: &[u8], time: Option<i64>) {
        let behind = time.and_then(|ms| {
            let mut at = self.0.first();
            while let Some(pos) = at {
                let time_at = self.0.next(self.0.next(pos)?)?;
                if time_of(self.0.value(time_at)).is_none_or(|other| other >= ms) {
                    return Some(pos);
                }
                at = self.0.next(time_at);
            }
            None
        });
        let field_at = match behind {
            Some(pos) => self.0.insert_before(pos, field),
            None => self.0.push_back(field),
        };
        let value_at = self.0.insert_after(field_at, value);
        self.0.insert_after_int(value_at, time.unwrap_or(0));
    }

    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        let found = self.find(field);
        if let Some([at, ..]) = found {
            self.0.remove_from(at, WIDTH);
        }
        found.is_some()
    }
}
