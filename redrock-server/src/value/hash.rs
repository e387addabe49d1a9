//! Hash values.
//!
//! Encodings as in Redis 7.2: `listpack` (fields and values in turn, the very bytes of RDB) while
//! there are at most `hash-max-listpack-entries` fields and no field or value is longer than
//! `hash-max-listpack-value`, else `hashtable`. A hash never goes back to a listpack by itself.

use super::Limits;
use super::random::select;
use super::table::{self, Table};
use super::thin::Pair;
use rand::random_range;
use redrock_rdb::listpack::{self, ListPack, LpValue, Pos};
use redrock_rdb::object::encode;

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
        }
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        match &self.repr {
            Repr::Pack(pack) => pack.capacity(),
            Repr::Table(table) => size_of::<Table<Pair>>() + table.memory_bytes(),
        }
    }

    /// The name that OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.repr {
            Repr::Pack(_) => "listpack",
            Repr::Table(_) => "hashtable",
        }
    }

    /// The value of a field.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<LpValue<'_>> {
        match &self.repr {
            Repr::Pack(pack) => Some(pack.value(pack.next(find(pack, field)?)?)),
            Repr::Table(table) => Some(LpValue::Str(table.get(field)?.value())),
        }
    }

    /// Whether there is such a field.
    #[inline]
    pub fn contains(&self, field: &[u8]) -> bool {
        match &self.repr {
            Repr::Pack(pack) => find(pack, field).is_some(),
            Repr::Table(table) => table.contains(field),
        }
    }

    /// All fields with their values; the order is the same until the next change.
    pub fn iter(&self) -> Iter<'_> {
        match &self.repr {
            Repr::Pack(pack) => Iter::Pack(pack.iter()),
            Repr::Table(table) => Iter::Table(table.iter()),
        }
    }

    /// One step of a scan, see [`Table::scan`]; a small hash is visited whole, and the cursor
    /// returned is 0.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(LpValue<'a>, LpValue<'a>),
    ) -> u64 {
        match &self.repr {
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

/// Random choice.
impl Hash {
    /// A random field with its value, each with the same probability; `None` if empty.
    pub fn random(&self) -> Option<(LpValue<'_>, LpValue<'_>)> {
        match &self.repr {
            Repr::Pack(pack) => {
                let len = pack.len() / 2;
                if len == 0 {
                    return None;
                }
                let field = pack.seek(2 * random_range(0..len) as i64)?;
                Some((pack.value(field), pack.value(pack.next(field)?)))
            }
            Repr::Table(table) => {
                let (field, value) = table.random()?.parts();
                Some((LpValue::Str(field), LpValue::Str(value)))
            }
        }
    }

    /// Visits `count` random fields, the same one any number of times, until `visit` is false.
    pub fn random_repeating<'a>(
        &'a self,
        count: u64,
        mut visit: impl FnMut(LpValue<'a>, LpValue<'a>) -> bool,
    ) {
        // Seeking in a listpack is a walk: with more than one to find, walk it once.
        let small: Vec<_> = match &self.repr {
            Repr::Pack(_) if count > 1 => self.iter().collect(),
            _ => Vec::new(),
        };
        for _ in 0..count {
            let chosen = if small.is_empty() {
                self.random()
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
        mut visit: impl FnMut(LpValue<'a>, LpValue<'a>),
    ) {
        match &self.repr {
            Repr::Pack(_) => {
                select(self.iter(), self.len(), count, |(field, value)| {
                    visit(field, value)
                });
            }
            Repr::Table(table) => table.random_distinct(count, |pair: &Pair| {
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
        let Repr::Pack(pack) = &self.repr else { return };
        let total: usize = items.iter().map(|item| item.len()).sum();
        if items.len() / 2 > limits.hash_listpack_entries_max
            || items
                .iter()
                .any(|item| item.len() > limits.hash_listpack_value_bytes_max)
            || !pack.safe_to_add(total)
        {
            self.convert();
        }
    }

    /// Sets a field; true if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
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
                if let Some(at) = find(pack, field).and_then(|at| pack.next(at)) {
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
        }
    }

    /// Removes a field; false if there is none.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Pack(pack) => match find(pack, field) {
                Some(at) => {
                    pack.remove_from(at, 2);
                    true
                }
                None => false,
            },
            Repr::Table(table) => table.remove(field).is_some(),
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

/// Where a field is in a listpack.
#[inline]
fn find(pack: &ListPack, field: &[u8]) -> Option<Pos> {
    pack.find(pack.first()?, field, 1)
}

/// See [`Hash::iter`].
#[derive(Debug)]
pub enum Iter<'a> {
    /// Of a listpack.
    Pack(listpack::Iter<'a>),
    /// Of a table.
    Table(table::Iter<'a, Pair>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (LpValue<'a>, LpValue<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Pack(elements) => Some((elements.next()?, elements.next()?)),
            Self::Table(pairs) => {
                let (field, value) = pairs.next()?.parts();
                Some((LpValue::Str(field), LpValue::Str(value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn content(hash: &Hash) -> Model {
        hash.iter()
            .map(|(field, value)| (field.to_vec(), value.to_vec()))
            .collect()
    }

    fn small_limits() -> Limits {
        Limits {
            hash_listpack_entries_max: 8,
            hash_listpack_value_bytes_max: 12,
            ..Limits::default()
        }
    }

    #[test]
    fn encodings_change_at_the_thresholds_and_never_back() {
        let limits = Limits {
            hash_listpack_entries_max: 128,
            ..Limits::default()
        };
        let mut hash = Hash::new();
        for n in 0..128 {
            assert!(hash.set(format!("f{n}").as_bytes(), b"v", &limits));
        }
        assert_eq!(hash.encoding(), "listpack");
        assert!(!hash.set(b"f5", &[b'x'; 64], &limits));
        assert_eq!(hash.encoding(), "listpack");
        assert!(hash.set(b"f128", b"v", &limits));
        assert_eq!(hash.encoding(), "hashtable");
        for n in 0..128 {
            assert!(hash.remove(format!("f{n}").as_bytes()));
        }
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 1));

        let mut hash = Hash::new();
        assert!(hash.set(b"f", &[b'x'; 65], &limits));
        assert_eq!(hash.encoding(), "hashtable");
    }

    #[test]
    fn prepare_converts_for_many_or_long_items() {
        let limits = small_limits();
        let mut hash = Hash::new();
        hash.prepare(&[b"f", b"v"], &limits);
        assert_eq!(hash.encoding(), "listpack");
        let same: Vec<&[u8]> = vec![b"f"; 18];
        hash.prepare(&same, &limits);
        assert_eq!(hash.encoding(), "hashtable");
        let mut hash = Hash::new();
        hash.prepare(&[b"f", b"thirteen byte"], &limits);
        assert_eq!(hash.encoding(), "hashtable");
    }

    #[test]
    fn random_fields_come_with_their_values() {
        for len in [5_usize, 50] {
            let mut hash = Hash::new();
            for n in 0..len {
                hash.set(&[b'f', n as u8], &[b'v', n as u8], &small_limits());
            }
            let mut visited = 0;
            hash.random_repeating(200, |field, value| {
                assert_eq!(field.to_vec()[1..], value.to_vec()[1..]);
                visited += 1;
                visited < 150
            });
            assert_eq!(visited, 150);
            for count in [0, 1, 3, len - 1, len, len + 9] {
                let mut fields = Vec::new();
                hash.random_distinct(count, |field, _| fields.push(field.to_vec()));
                assert_eq!(fields.len(), count.min(len));
                fields.sort();
                fields.dedup();
                assert_eq!(fields.len(), count.min(len));
            }
        }
    }

    #[test]
    fn odd_empty_and_repeated_input_is_refused() {
        let limits = Limits::default();
        assert!(Hash::from_listpack(ListPack::new(), &limits).is_none());
        assert!(Hash::from_listpack(ListPack::from_iter(["a", "b", "c"]), &limits).is_none());
        assert!(Hash::from_pairs([("a", "1"), ("a", "2")], &limits).is_none());
        assert!(Hash::from_pairs::<&str, &str>([], &limits).is_none());
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(
            steps in prop::collection::vec(
                (0..5_u8, "[a-d]{0,2}|[0-9]{1,2}", "[a-z]{0,14}|-?[0-9]{1,6}"), 0..120),
        ) {
            let limits = small_limits();
            let mut hash = Hash::new();
            let mut model = Model::new();
            for (kind, field, value) in steps {
                let (field, value) = (field.into_bytes(), value.into_bytes());
                if kind == 0 {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                } else {
                    let new = model.insert(field.clone(), value.clone()).is_none();
                    prop_assert_eq!(hash.set(&field, &value, &limits), new);
                }
                prop_assert_eq!(hash.len(), model.len());
                let found = hash.get(&field).map(|value| value.to_vec());
                prop_assert_eq!(found.as_ref(), model.get(&field));
                prop_assert_eq!(hash.contains(&field), model.contains_key(&field));
            }
            prop_assert_eq!(content(&hash), model.clone());
            let mut scanned = Model::new();
            let mut cursor = 0;
            loop {
                cursor = hash.scan(cursor, 3, |field, value| {
                    scanned.insert(field.to_vec(), value.to_vec());
                });
                if cursor == 0 {
                    break;
                }
            }
            prop_assert_eq!(&scanned, &model);
            if let Some(built) = Hash::from_pairs(&model, &limits) {
                prop_assert_eq!(content(&built), model);
            }
        }
    }
}
