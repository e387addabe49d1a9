//! Large hashes with times: the ordinary table of fields and values, and beside it the times of
//! those fields that have one, by field and in order.
//!
//! Invariants: [`TimedTable::times`] and [`TimedTable::order`] hold the same fields with the same
//! times, all of them fields of [`TimedTable::pairs`].

use crate::value::table::{self, Table};
use crate::value::thin::Pair;
use redrock_rdb::listpack::LpValue;
use std::collections::BTreeSet;

/// Heap bytes of one element of the order beside its field: its place in a node that is three
/// quarters full, and the allocator's rounding.
const ORDER_ELEMENT_BYTES: usize = 24 * 4 / 3 + 8;

/// See the module.
#[derive(Debug, Clone)]
pub(in crate::value::hash) struct TimedTable {
    pairs: Box<Table<Pair>>,
    /// Field to time, 8 bytes little endian.
    times: Table<Pair>,
    order: BTreeSet<(i64, Box<[u8]>)>,
    /// Bytes of the fields in `order`.
    order_bytes: usize,
}

/// All fields with their values and times.
#[derive(Debug)]
pub struct TableElements<'a> {
    pairs: table::Iter<'a, Pair>,
    times: &'a Table<Pair>,
}

impl<'a> TableElements<'a> {
    /// As the pairs that they are.
    pub(super) fn pairs(self) -> impl Iterator<Item = (&'a Pair, Option<i64>)> {
        let times = self.times;
        self.pairs.map(|pair| (pair, time_in(times, pair.field())))
    }
}

impl<'a> Iterator for TableElements<'a> {
    type Item = (LpValue<'a>, LpValue<'a>, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        let (field, value) = self.pairs.next()?.parts();
        let time = time_in(self.times, field);
        Some((LpValue::Str(field), LpValue::Str(value), time))
    }
}

fn time_in(times: &Table<Pair>, field: &[u8]) -> Option<i64> {
    let bytes = times.get(field)?.value();
    bytes.try_into().ok().map(i64::from_le_bytes)
}

impl TimedTable {
    /// No field has a time yet.
    pub(super) fn new(pairs: Box<Table<Pair>>) -> Self {
        Self {
            pairs,
            times: Table::new(),
            order: BTreeSet::new(),
            order_bytes: 0,
        }
    }

    pub(super) fn from_elements<'a>(
        elements: impl Iterator<Item = (LpValue<'a>, LpValue<'a>, Option<i64>)>,
    ) -> Self {
        let mut table = Self::new(Box::default());
        let (mut field_text, mut value_text) = Default::default();
        for (field, value, time) in elements {
            let field = field.bytes(&mut field_text);
            let value = value.bytes(&mut value_text);
            table.pairs.insert_with(field, || Pair::new(field, value));
            table.set_time(field, time);
        }
        table
    }

    pub(in crate::value::hash) fn pairs(&self) -> &Table<Pair> {
        &self.pairs
    }

    /// The pairs, to go on without times.
    pub(super) fn take_pairs(&mut self) -> Box<Table<Pair>> {
        std::mem::take(&mut self.pairs)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Table<Pair>>()
            + self.pairs.memory_bytes()
            + self.times.memory_bytes()
            + self.order.len() * ORDER_ELEMENT_BYTES
            + self.order_bytes
    }

    pub(super) fn earliest(&self) -> Option<i64> {
        self.order.first().map(|(time, _)| *time)
    }

    pub(in crate::value::hash) fn time(&self, field: &[u8]) -> Option<i64> {
        time_in(&self.times, field)
    }

    pub(super) fn timed(&self) -> TableElements<'_> {
        TableElements {
            pairs: self.pairs.iter(),
            times: &self.times,
        }
    }

    /// Fields that are over, the earliest first.
    pub(super) fn over(&self, cutoff_ms: i64) -> impl Iterator<Item = &[u8]> {
        self.order
            .iter()
            .take_while(move |(time, _)| *time < cutoff_ms)
            .map(|(_, field)| &**field)
    }

    /// Sets a field; true if it is new.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8], keep_time: bool) -> bool {
        if !keep_time {
            self.forget_time(field);
        }
        self.pairs.upsert(
            field,
            |pair| pair.set_value(value),
            || Pair::new(field, value),
        )
    }

    /// Sets or ends a field's expiry; false if there is no such field.
    pub(super) fn set_time(&mut self, field: &[u8], time: Option<i64>) -> bool {
        if !self.pairs.contains(field) {
            return false;
        }
        self.forget_time(field);
        if let Some(ms) = time {
            let bytes = ms.to_le_bytes();
            self.times.insert_with(field, || Pair::new(field, &bytes));
            self.order.insert((ms, field.into()));
            self.order_bytes += field.len();
        }
        true
    }

    fn forget_time(&mut self, field: &[u8]) {
        if let Some(time) = self.time(field) {
            self.times.remove(field);
            self.order.remove(&(time, Box::from(field)));
            self.order_bytes -= field.len();
        }
    }

    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        self.forget_time(field);
        self.pairs.remove(field).is_some()
    }
}
