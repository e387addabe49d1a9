//! Hash values.
//!
//! Encodings as in Redis 7.2: `listpack` (fields and values in turn, the very bytes of RDB) while
//! there are at most `hash-max-listpack-entries` fields and no field or value is longer than
//! `hash-max-listpack-value`, else `hashtable`. A hash never goes back to a listpack by itself.
//!
//! Fields that expire, as in Redis 7.4, are in a form of their own ([`timed`]): a hash without
//! them pays nothing for it. Times are unix ms. A field whose time has passed stays until somebody
//! removes it; who reads says from when on fields are over (the **cutoff**: a field is over whose
//! time lies before it).

mod read;
mod timed;

pub use read::{Found, Live};

use super::Limits;
use super::table::{self, Table};
use super::thin::Pair;
use redrock_rdb::listpack::{self, ListPack, LpValue};
use redrock_rdb::object::encode;
use timed::Timed;

/// RDB type `HASH`: fields and values as strings.
const RDB_TYPE_HASH: u8 = 4;
/// RDB type `HASH_LISTPACK`.
const RDB_TYPE_HASH_LISTPACK: u8 = 16;

/// See the module.
#[derive(Debug, Clone)]
pub struct Hash {
    repr: Repr,
}

#[derive(Debug, Clone)]
enum Repr {
    /// Invariant: an even number of elements, no field twice.
    Pack(ListPack),
    Table(Box<Table<Pair>>),
    Timed(Box<Timed>),
}

impl Default for Hash {
    fn default() -> Self {
        Self {
            repr: Repr::Pack(ListPack::new()),
        }
    }
}

/// Looking.
impl Hash {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of fields.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty one never stays in the keyspace"
    )]
    #[inline]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Pack(pack) => pack.len() / 2,
            Repr::Table(table) => table.len(),
            Repr::Timed(timed) => timed.len(),
        }
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        match &self.repr {
            Repr::Pack(pack) => pack.capacity(),
            Repr::Table(table) => size_of::<Table<Pair>>() + table.memory_bytes(),
            Repr::Timed(timed) => size_of::<Timed>() + timed.memory_bytes(),
        }
    }

    /// The name that OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.repr {
            Repr::Pack(_) => "listpack",
            Repr::Table(_) => "hashtable",
            Repr::Timed(timed) => timed.encoding(),
        }
    }

    /// The value of a field, over or not.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<LpValue<'_>> {
        match &self.repr {
            Repr::Pack(pack) => Some(pack.value(pack.next(pack.find_first(field, 1)?)?)),
            Repr::Table(table) => Some(LpValue::Str(table.get(field)?.value())),
            Repr::Timed(timed) => timed.get(field).map(|(value, _)| value),
        }
    }

    /// Whether there is such a field, over or not.
    #[inline]
    pub fn contains(&self, field: &[u8]) -> bool {
        match &self.repr {
            Repr::Pack(pack) => pack.find_first(field, 1).is_some(),
            Repr::Table(table) => table.contains(field),
            Repr::Timed(timed) => timed.get(field).is_some(),
        }
    }

    /// All fields with their values, over or not; the order is the same until the next change.
    pub fn iter(&self) -> Iter<'_> {
        match &self.repr {
            Repr::Pack(pack) => Iter::Pack(pack.iter()),
            Repr::Table(table) => Iter::Table(table.iter()),
            Repr::Timed(timed) => match &**timed {
                Timed::Pack(pack) => Iter::TimedPack(pack.elements()),
                Timed::Table(table) => Iter::Table(table.pairs().iter()),
            },
        }
    }

    /// One step of a scan, see [`Table::scan`]; a small hash is visited whole, and the cursor
    /// returned is 0. Fields that are over are left out.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        cutoff_ms: i64,
        mut visit: impl FnMut(LpValue<'a>, LpValue<'a>),
    ) -> u64 {
        match &self.repr {
            Repr::Timed(timed) => timed.scan(cursor, count, cutoff_ms, visit),
            Repr::Pack(_) => {
                self.iter().for_each(|(field, value)| visit(field, value));
                0
            }
            Repr::Table(table) => table.scan(cursor, count, |pair: &Pair| {
                let (field, value) = pair.parts();
                visit(LpValue::Str(field), LpValue::Str(value));
            }),
        }
    }
}

/// Changing.
impl Hash {
    /// Makes ready for `items`, fields and values that [`Hash::set`] gets next: converts at once
    /// if they can't all stay in a listpack, as Redis does before HSET and HSETNX.
    pub fn prepare(&mut self, items: &[&[u8]], limits: &Limits) {
        let too_much = |pack: &ListPack| {
            let total: usize = items.iter().map(|item| item.len()).sum();
            items.len() / 2 > limits.hash_listpack_entries_max
                || items
                    .iter()
                    .any(|item| item.len() > limits.hash_listpack_value_bytes_max)
                || !pack.safe_to_add(total)
        };
        match &mut self.repr {
            Repr::Pack(pack) if too_much(pack) => self.convert(),
            Repr::Timed(timed) => timed.convert_if(too_much),
            _ => {}
        }
    }

    /// Sets a field, which does not expire from now on; true if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.store(field, value, false, limits)
    }

    /// Sets a field, which expires when it did; true if it is new.
    pub fn set_keeping_time(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.store(field, value, true, limits)
    }

    fn store(&mut self, field: &[u8], value: &[u8], keep_time: bool, limits: &Limits) -> bool {
        if let Repr::Pack(pack) = &self.repr {
            let longest = field.len().max(value.len());
            if longest > limits.hash_listpack_value_bytes_max
                || !pack.safe_to_add(field.len() + value.len())
            {
                self.convert();
            }
        }
        match &mut self.repr {
            Repr::Pack(pack) => {
                if let Some(at) = pack.find_first(field, 1).and_then(|at| pack.next(at)) {
                    pack.replace(at, value);
                    return false;
                }
                pack.push_back(field);
                pack.push_back(value);
                if pack.len() / 2 > limits.hash_listpack_entries_max {
                    self.convert();
                }
                true
            }
            Repr::Table(table) => table.upsert(
                field,
                |pair| pair.set_value(value),
                || Pair::new(field, value),
            ),
            Repr::Timed(timed) => {
                let created = timed.set(field, value, keep_time, limits);
                self.settle();
                created
            }
        }
    }

    /// Removes a field; false if there is none.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Pack(pack) => match pack.find_first(field, 1) {
                Some(at) => {
                    pack.remove_from(at, 2);
                    true
                }
                None => false,
            },
            Repr::Table(table) => table.remove(field).is_some(),
            Repr::Timed(timed) => {
                let removed = timed.remove(field);
                self.settle();
                removed
            }
        }
    }

    fn convert(&mut self) {
        if let Repr::Pack(_) = &self.repr {
            let mut field_text = Default::default();
            let mut value_text = Default::default();
            let mut table = Table::new();
            table.extend(self.iter().map(|(field, value)| {
                Pair::new(field.bytes(&mut field_text), value.bytes(&mut value_text))
            }));
            self.repr = Repr::Table(Box::new(table));
        }
    }
}

/// To and from RDB object encoding (I3).
impl Hash {
    /// Appends the payload and returns its RDB type.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match &self.repr {
            Repr::Pack(pack) => {
                encode::blob(out, pack.as_bytes());
                RDB_TYPE_HASH_LISTPACK
            }
            Repr::Table(table) => {
                encode::hash(out, table.len(), table.iter().map(Pair::parts));
                RDB_TYPE_HASH
            }
            Repr::Timed(timed) => timed.encode(out),
        }
    }

    /// Takes over a listpack of fields and values; converted if it has more fields than the
    /// options allow, as Redis does at load. `None` if it is empty or has an odd length.
    pub fn from_listpack(pack: ListPack, limits: &Limits) -> Option<Self> {
        if pack.is_empty() || !pack.len().is_multiple_of(2) {
            return None;
        }
        let mut hash = Self {
            repr: Repr::Pack(pack),
        };
        if hash.len() > limits.hash_listpack_entries_max {
            hash.convert();
        }
        Some(hash)
    }

    /// A hash of these pairs, in the encoding that the options ask for. `None` if there are
    /// none, or a field comes twice, which Redis calls corrupt.
    pub fn from_pairs<F: AsRef<[u8]>, V: AsRef<[u8]>>(
        pairs: impl IntoIterator<Item = (F, V)>,
        limits: &Limits,
    ) -> Option<Self> {
        let mut hash = Self::new();
        for (field, value) in pairs {
            if !hash.set(field.as_ref(), value.as_ref(), limits) {
                return None;
            }
        }
        (hash.len() > 0).then_some(hash)
    }
}

/// See [`Hash::iter`].
#[derive(Debug)]
pub enum Iter<'a> {
    /// Of a listpack.
    Pack(listpack::Iter<'a>),
    /// Of a table.
    Table(table::Iter<'a, Pair>),
    /// Of a listpack with times.
    TimedPack(listpack::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (LpValue<'a>, LpValue<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Pack(elements) => Some((elements.next()?, elements.next()?)),
            Self::TimedPack(elements) => {
                let pair = (elements.next()?, elements.next()?);
                elements.next();
                Some(pair)
            }
            Self::Table(pairs) => {
                let (field, value) = pairs.next()?.parts();
                Some((LpValue::Str(field), LpValue::Str(value)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
