//! Hashes of which some fields expire.
//!
//! `listpackex` as in Redis 7.4: field, value and time in turn in one listpack ([`pack`]);
//! `hashtable`: the table of any large hash with the times beside it ([`table`]), so that the
//! first expiry of a huge hash copies nothing. A large one without any time left is an ordinary
//! hash again; a small one stays, as in Redis.

mod pack;
mod table;

use super::read::is_over;
use super::{Hash, Repr};
use crate::value::Limits;
pub(super) use pack::PackElements;
use pack::TimedPack;
use redrock_rdb::listpack::{ListPack, LpValue};
use redrock_rdb::object::{TtlField, encode, types};
pub(super) use table::TableElements;
use table::TimedTable;

/// See the module.
#[derive(Debug, Clone)]
pub(super) enum Timed {
    Pack(TimedPack),
    Table(TimedTable),
}

/// All fields with their values and times.
#[derive(Debug)]
pub enum Elements<'a> {
    /// Of a small hash, the earliest first.
    Pack(PackElements<'a>),
    /// Of a large one, in the order of its table.
    Table(TableElements<'a>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = (LpValue<'a>, LpValue<'a>, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Pack(elements) => elements.next(),
            Self::Table(elements) => elements.next(),
        }
    }
}

impl Timed {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Pack(pack) => pack.len(),
            Self::Table(table) => table.pairs().len(),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Pack(pack) => pack.capacity(),
            Self::Table(table) => table.memory_bytes(),
        }
    }

    pub(super) fn encoding(&self) -> &'static str {
        match self {
            Self::Pack(_) => "listpackex",
            Self::Table(_) => "hashtable",
        }
    }

    pub(super) fn earliest(&self) -> Option<i64> {
        match self {
            Self::Pack(pack) => pack.earliest(),
            Self::Table(table) => table.earliest(),
        }
    }

    pub(super) fn get(&self, field: &[u8]) -> Option<(LpValue<'_>, Option<i64>)> {
        match self {
            Self::Pack(pack) => pack.get(field),
            Self::Table(table) => {
                let value = table.pairs().get(field)?.value();
                Some((LpValue::Str(value), table.time(field)))
            }
        }
    }

    pub(super) fn elements(&self) -> Elements<'_> {
        match self {
            Self::Pack(pack) => Elements::Pack(pack.timed()),
            Self::Table(table) => Elements::Table(table.timed()),
        }
    }

    pub(super) fn over_len(&self, cutoff_ms: i64) -> usize {
        match self {
            Self::Pack(pack) => pack.over(cutoff_ms).count(),
            Self::Table(table) => table.over(cutoff_ms).count(),
        }
    }

    pub(super) fn over(&self, cutoff_ms: i64, max: usize) -> Vec<Vec<u8>> {
        match self {
            Self::Pack(pack) => pack.over(cutoff_ms).take(max).map(|f| f.to_vec()).collect(),
            Self::Table(table) => table.over(cutoff_ms).take(max).map(Vec::from).collect(),
        }
    }

    pub(super) fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        cutoff_ms: i64,
        mut visit: impl FnMut(LpValue<'a>, LpValue<'a>),
    ) -> u64 {
        match self {
            Self::Pack(pack) => {
                for (field, value, time) in pack.timed() {
                    if !is_over(time, cutoff_ms) {
                        visit(field, value);
                    }
                }
                0
            }
            Self::Table(table) => table.pairs().scan(cursor, count, |pair| {
                let (field, value) = pair.parts();
                if !is_over(table.time(field), cutoff_ms) {
                    visit(LpValue::Str(field), LpValue::Str(value));
                }
            }),
        }
    }

    pub(super) fn set(
        &mut self,
        field: &[u8],
        value: &[u8],
        keep_time: bool,
        limits: &Limits,
    ) -> bool {
        let longest = field.len().max(value.len());
        self.convert_if(|pack| {
            longest > limits.hash_listpack_value_bytes_max
                || !pack.safe_to_add(field.len() + value.len())
        });
        let created = match self {
            Self::Pack(pack) => pack.set(field, value, keep_time),
            Self::Table(table) => table.set(field, value, keep_time),
        };
        let entries_max = limits.hash_listpack_entries_max;
        self.convert_if(|pack| pack.len() / 3 > entries_max);
        created
    }

    fn set_time(&mut self, field: &[u8], time: Option<i64>) -> bool {
        // No time is zero in a file.
        let time = time.map(|ms| ms.max(1));
        match self {
            Self::Pack(pack) => pack.set_time(field, time),
            Self::Table(table) => table.set_time(field, time),
        }
    }

    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        match self {
            Self::Pack(pack) => pack.remove(field),
            Self::Table(table) => table.remove(field),
        }
    }

    /// Makes a small hash a large one if `wanted` says so.
    pub(super) fn convert_if(&mut self, wanted: impl FnOnce(&ListPack) -> bool) {
        if let Self::Pack(pack) = self
            && wanted(pack.listpack())
        {
            *self = Self::Table(TimedTable::from_elements(pack.timed()));
        }
    }

    /// Appends the payload and returns its RDB type.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Pack(pack) => {
                let earliest = pack.earliest().unwrap_or(0);
                out.extend_from_slice(&earliest.to_le_bytes());
                encode::blob(out, pack.listpack().as_bytes());
                types::HASH_LISTPACK_EX
            }
            Self::Table(table) => {
                let fields = table.timed().pairs();
                let fields = fields.map(|(pair, time)| {
                    let (field, value) = pair.parts();
                    (field, value, time.map(i64::cast_unsigned))
                });
                let earliest = table.earliest().map(i64::cast_unsigned);
                encode::hash_ttl(out, table.pairs().len(), earliest, fields);
                types::HASH_METADATA
            }
        }
    }
}

impl Hash {
    /// When a field expires; `None` if there is no such field.
    pub fn time_of(&self, field: &[u8]) -> Option<Option<i64>> {
        match &self.repr {
            Repr::Timed(timed) => timed.get(field).map(|(_, time)| time),
            _ => self.contains(field).then_some(None),
        }
    }

    /// Sets or ends a field's expiry; false if there is no such field.
    pub fn set_time(&mut self, field: &[u8], time: Option<i64>) -> bool {
        if let Repr::Timed(timed) = &mut self.repr {
            let found = timed.set_time(field, time);
            self.settle();
            return found;
        }
        if !self.contains(field) {
            return false;
        }
        if time.is_none() {
            return true;
        }
        let mut timed = match std::mem::replace(&mut self.repr, Repr::Pack(ListPack::new())) {
            Repr::Pack(pack) => Timed::Pack(TimedPack::from_pairs(&pack)),
            Repr::Table(table) => Timed::Table(TimedTable::new(table)),
            Repr::Timed(timed) => *timed,
        };
        timed.set_time(field, time);
        self.repr = Repr::Timed(Box::new(timed));
        true
    }

    /// A large hash without any time left is an ordinary one.
    pub(super) fn settle(&mut self) {
        if let Repr::Timed(timed) = &mut self.repr
            && let Timed::Table(table) = &mut **timed
            && table.earliest().is_none()
        {
            self.repr = Repr::Table(table.take_pairs());
        }
    }

    /// A hash as a file of Redis 7.4 has it: small if the options allow. `None` if there are no
    /// fields. The decoder has checked that none comes twice.
    pub fn from_timed_fields(fields: Vec<TtlField>, limits: &Limits) -> Option<Self> {
        let longest = |(field, value, _): &TtlField| field.len().max(value.len());
        let small = fields.len() <= limits.hash_listpack_entries_max
            && fields.iter().map(longest).max()? <= limits.hash_listpack_value_bytes_max;
        let timed = if small {
            Timed::Pack(TimedPack::from_fields(fields))
        } else {
            let elements = fields.iter().map(|(field, value, time)| {
                let time = time.and_then(|ms| i64::try_from(ms).ok());
                (LpValue::Str(field), LpValue::Str(value), time)
            });
            Timed::Table(TimedTable::from_elements(elements))
        };
        let mut hash = Self {
            repr: Repr::Timed(Box::new(timed)),
        };
        hash.settle();
        Some(hash)
    }
}

#[cfg(test)]
mod tests;
