//! Set values.
//!
//! Encodings as in Redis 7.2: `intset` (sorted integers) while all members are integers and at
//! most `set-max-intset-entries`, `listpack` while at most `set-max-listpack-entries` of at most
//! `set-max-listpack-value` bytes each, else `hashtable`. Additions only ever go down that line.

mod algebra;
mod random;

pub use algebra::{difference, intersect, intersection, union};

use super::Limits;
use super::table::{self, Table};
use super::thin::ThinBytes;
use redrock_rdb::intset::{self, IntSet};
use redrock_rdb::listpack::{self, ListPack, LpValue};
use redrock_rdb::number::{IntBuf, parse_i64, text_len_i64};
use redrock_rdb::object::{encode, types};

/// An intset's own limit, whatever the option says, as in Redis.
const INTSET_ENTRIES_MAX: usize = 1 << 30;

/// See the module.
#[derive(Debug, Clone)]
pub struct Set {
    repr: Repr,
}

#[derive(Debug, Clone)]
enum Repr {
    Ints(IntSet),
    /// Invariant: no member twice.
    Pack(ListPack),
    Table(Box<Table<ThinBytes>>),
}

impl Default for Set {
    fn default() -> Self {
        Self {
            repr: Repr::Ints(IntSet::new()),
        }
    }
}

fn intset_entries_max(limits: &Limits) -> usize {
    limits.set_intset_entries_max.min(INTSET_ENTRIES_MAX)
}

/// Looking.
impl Set {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of members.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty one never stays in the keyspace"
    )]
    #[inline]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Ints(ints) => ints.len(),
            Repr::Pack(pack) => pack.len(),
            Repr::Table(table) => table.len(),
        }
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        match &self.repr {
            Repr::Ints(ints) => ints.capacity(),
            Repr::Pack(pack) => pack.capacity(),
            Repr::Table(table) => size_of::<Table<ThinBytes>>() + table.memory_bytes(),
        }
    }

    /// The name that OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.repr {
            Repr::Ints(_) => "intset",
            Repr::Pack(_) => "listpack",
            Repr::Table(_) => "hashtable",
        }
    }

    /// Whether there is such a member.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.repr {
            Repr::Ints(ints) => parse_i64(member).is_some_and(|n| ints.contains(n)),
            Repr::Pack(pack) => pack.find_first(member, 0).is_some(),
            Repr::Table(table) => table.contains(member),
        }
    }

    /// Whether an element of another set is a member of this one.
    #[inline]
    pub fn contains_value(&self, member: LpValue<'_>) -> bool {
        match (&self.repr, member) {
            (Repr::Ints(ints), LpValue::Int(n)) => ints.contains(n),
            _ => self.contains(member.bytes(&mut IntBuf::default())),
        }
    }

    /// All members; the order is the same until the next change.
    pub fn iter(&self) -> Iter<'_> {
        match &self.repr {
            Repr::Ints(ints) => Iter::Ints(ints.iter()),
            Repr::Pack(pack) => Iter::Pack(pack.iter()),
            Repr::Table(table) => Iter::Table(table.iter()),
        }
    }

    /// One step of a scan, see [`Table::scan`]; a small set is visited whole, and the cursor
    /// returned is 0.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(LpValue<'a>),
    ) -> u64 {
        match &self.repr {
            Repr::Table(table) => table.scan(cursor, count, |member: &ThinBytes| {
                visit(LpValue::Str(member.as_bytes()));
            }),
            _ => {
                self.iter().for_each(visit);
                0
            }
        }
    }
}

/// Changing.
impl Set {
    /// Makes ready for members that [`Set::add`] gets next: an empty set takes the encoding that
    /// suits the first of them and their number, another is converted if they are too many.
    pub fn prepare(&mut self, members: &[&[u8]], limits: &Limits) {
        let count = members.len();
        if self.len() == 0 {
            let integer = members
                .first()
                .is_some_and(|member| parse_i64(member).is_some());
            self.repr = if integer && count <= limits.set_intset_entries_max {
                Repr::Ints(IntSet::new())
            } else if count <= limits.set_listpack_entries_max {
                Repr::Pack(ListPack::new())
            } else {
                Repr::Table(Box::default())
            };
            return;
        }
        let too_many = match &self.repr {
            Repr::Ints(_) => count > limits.set_intset_entries_max,
            Repr::Pack(_) => count > limits.set_listpack_entries_max,
            Repr::Table(_) => false,
        };
        if too_many {
            self.convert_to_table();
        }
    }

    /// Adds a member; false if it was there already.
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        match &mut self.repr {
            Repr::Table(table) => table.insert_with(member, || ThinBytes::new(member)),
            Repr::Pack(pack) => {
                if pack.find_first(member, 0).is_some() {
                    return false;
                }
                if pack.len() < limits.set_listpack_entries_max
                    && member.len() <= limits.set_listpack_value_bytes_max
                    && pack.safe_to_add(member.len())
                {
                    pack.push_back(member);
                    return true;
                }
                self.convert_to_table();
                self.add(member, limits)
            }
            Repr::Ints(_) => match parse_i64(member) {
                Some(n) => self.add_int(n, limits),
                None => {
                    self.convert_for_text(member, limits);
                    self.add(member, limits)
                }
            },
        }
    }

    /// Adds an element of another set; false if it was there already.
    pub fn add_value(&mut self, member: LpValue<'_>, limits: &Limits) -> bool {
        match (&self.repr, member) {
            (Repr::Ints(_), LpValue::Int(n)) => self.add_int(n, limits),
            _ => self.add(member.bytes(&mut IntBuf::default()), limits),
        }
    }

    fn add_int(&mut self, n: i64, limits: &Limits) -> bool {
        let Repr::Ints(ints) = &mut self.repr else {
            return false;
        };
        let added = ints.insert(n);
        if added && ints.len() > intset_entries_max(limits) {
            self.convert_to_table();
        }
        added
    }

    /// Removes a member; false if there is none.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Ints(ints) => parse_i64(member).is_some_and(|n| ints.remove(n)),
            Repr::Pack(pack) => match pack.find_first(member, 0) {
                Some(at) => {
                    pack.remove(at);
                    true
                }
                None => false,
            },
            Repr::Table(table) => table.remove(member).is_some(),
        }
    }

    /// Removes an element of another set; false if there is none.
    pub fn remove_value(&mut self, member: LpValue<'_>) -> bool {
        match (&mut self.repr, member) {
            (Repr::Ints(ints), LpValue::Int(n)) => ints.remove(n),
            _ => self.remove(member.bytes(&mut IntBuf::default())),
        }
    }

    /// Leaves the intset because of a member that is no integer.
    fn convert_for_text(&mut self, member: &[u8], limits: &Limits) {
        let Repr::Ints(ints) = &self.repr else { return };
        // The longest text is the lowest or the highest integer's.
        let ends = [
            ints.get(0),
            ints.len().checked_sub(1).and_then(|last| ints.get(last)),
        ];
        let longest = ends
            .into_iter()
            .flatten()
            .map(text_len_i64)
            .max()
            .unwrap_or(0);
        if ints.len() < limits.set_listpack_entries_max
            && member.len().max(longest) <= limits.set_listpack_value_bytes_max
        {
            let mut pack = ListPack::new();
            for n in ints.iter() {
                pack.push_back_int(n);
            }
            self.repr = Repr::Pack(pack);
        } else {
            self.convert_to_table();
        }
    }

    fn convert_to_table(&mut self) {
        let mut text = IntBuf::default();
        let mut table = Table::new();
        table.extend(
            self.iter()
                .map(|member| ThinBytes::new(member.bytes(&mut text))),
        );
        self.repr = Repr::Table(Box::new(table));
    }

    /// Goes back to an intset if all members are integers and not too many; only for the result
    /// of an intersection, as in Redis.
    fn convert_to_intset(&mut self, limits: &Limits) {
        if self.len() > intset_entries_max(limits) || self.encoding() == "intset" {
            return;
        }
        let mut ints = IntSet::new();
        for member in self.iter() {
            let Some(n) = member.as_int() else { return };
            ints.insert(n);
        }
        self.repr = Repr::Ints(ints);
    }
}

/// To and from RDB object encoding (I3).
impl Set {
    /// Appends the payload and returns its RDB type.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match &self.repr {
            Repr::Ints(ints) => {
                encode::blob(out, ints.as_bytes());
                types::SET_INTSET
            }
            Repr::Pack(pack) => {
                encode::blob(out, pack.as_bytes());
                types::SET_LISTPACK
            }
            Repr::Table(table) => {
                encode::set(out, table.len(), table.iter().map(ThinBytes::as_bytes));
                types::SET
            }
        }
    }

    /// Takes over an intset; converted if it has more members than the options allow, as Redis
    /// does at load. `None` if it is empty.
    pub fn from_intset(ints: IntSet, limits: &Limits) -> Option<Self> {
        let mut set = Self {
            repr: Repr::Ints(ints),
        };
        if set.len() > intset_entries_max(limits) {
            set.convert_to_table();
        }
        (set.len() > 0).then_some(set)
    }

    /// Takes over a listpack of members; as [`Set::from_intset`].
    pub fn from_listpack(pack: ListPack, limits: &Limits) -> Option<Self> {
        let mut set = Self {
            repr: Repr::Pack(pack),
        };
        if set.len() > limits.set_listpack_entries_max {
            set.convert_to_table();
        }
        (set.len() > 0).then_some(set)
    }

    /// A set of these members, in the encoding that the options ask for. `None` if there are
    /// none, or one comes twice, which Redis calls corrupt.
    pub fn from_members<T: AsRef<[u8]>>(
        members: impl ExactSizeIterator<Item = T>,
        limits: &Limits,
    ) -> Option<Self> {
        let mut set = Self::new();
        if members.len()
            > limits
                .set_intset_entries_max
                .max(limits.set_listpack_entries_max)
        {
            set.convert_to_table();
        }
        for member in members {
            if !set.add(member.as_ref(), limits) {
                return None;
            }
        }
        (set.len() > 0).then_some(set)
    }
}

/// See [`Set::iter`].
#[derive(Debug)]
pub enum Iter<'a> {
    /// Of an intset.
    Ints(intset::Iter<'a>),
    /// Of a listpack.
    Pack(listpack::Iter<'a>),
    /// Of a table.
    Table(table::Iter<'a, ThinBytes>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = LpValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<LpValue<'a>> {
        match self {
            Self::Ints(ints) => ints.next().map(LpValue::Int),
            Self::Pack(elements) => elements.next(),
            Self::Table(members) => members.next().map(|m| LpValue::Str(m.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests;
