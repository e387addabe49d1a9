//! Reading the entries of one node.
//!
//! ```text
//! live, deleted, field count, fields..., 0            the master entry
//! flags, ms, seq, values..., n                        an entry with the master's fields
//! flags, ms, seq, field count, (field, value)..., n   any other
//! ```
//!
//! `ms` and `seq` are relative to the node's id, `n` is the number of elements before it in the
//! entry: so that a node is read from its end too.

use super::StreamId;
use redrock_rdb::listpack::{Iter, ListPack, ListPackRef, LpValue, Pos};

/// The entry is a tombstone.
pub(super) const DELETED: i64 = 1;
/// The entry has the master entry's fields.
pub(super) const SAME_FIELDS: i64 = 2;

/// One entry, borrowed.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Its id.
    pub id: StreamId,
    /// Number of field-value pairs.
    pub field_count: u64,
    pub(super) flags: i64,
    pub(super) flags_at: Pos,
    /// The master's fields, where they are the entry's.
    names: Option<Iter<'a>>,
    values: Iter<'a>,
}

impl<'a> Entry<'a> {
    /// Whether it is a tombstone.
    pub fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    /// Its fields and values.
    pub fn pairs(&self) -> Pairs<'a> {
        Pairs {
            names: self.names.clone(),
            values: self.values.clone(),
            left: self.field_count,
        }
    }
}

/// Fields and values of an entry.
#[derive(Debug, Clone)]
pub struct Pairs<'a> {
    names: Option<Iter<'a>>,
    values: Iter<'a>,
    left: u64,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (LpValue<'a>, LpValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(names) => names.next()?,
            None => self.values.next()?,
        };
        Some((name, self.values.next()?))
    }
}

/// A node with its master entry read.
#[derive(Debug, Clone)]
pub(super) struct NodeView<'a> {
    pub(super) master_id: StreamId,
    /// Entries that are no tombstones, as the node counts them.
    pub(super) live: u64,
    /// Tombstones.
    pub(super) deleted: u64,
    pub(super) field_count: u64,
    /// From the first field on.
    pub(super) fields: Iter<'a>,
    /// From the first entry on.
    pub(super) entries: Iter<'a>,
    list: ListPackRef<'a>,
}

fn count(value: LpValue<'_>) -> Option<u64> {
    u64::try_from(value.as_int()?).ok()
}

impl<'a> NodeView<'a> {
    /// `None` if it has no master entry; the decoder refuses such a node.
    pub(super) fn new(master_id: StreamId, pack: &'a ListPack) -> Option<Self> {
        let mut iter = pack.iter();
        let live = count(iter.next()?)?;
        let deleted = count(iter.next()?)?;
        let field_count = count(iter.next()?)?;
        let fields = iter.clone();
        for _ in 0..=field_count {
            iter.next()?;
        }
        Some(Self {
            master_id,
            live,
            deleted,
            field_count,
            fields,
            entries: iter,
            list: pack.view(),
        })
    }

    /// Reads an entry up to its values, where `iter` stays.
    fn head(&self, iter: &mut Iter<'a>) -> Option<Entry<'a>> {
        let (flags_at, flags) = iter.next_entry()?;
        let flags = flags.as_int()?;
        let ms = iter.next()?.as_int()?;
        let seq = iter.next()?.as_int()?;
        let same = flags & SAME_FIELDS != 0;
        let field_count = if same {
            self.field_count
        } else {
            count(iter.next()?)?
        };
        // Added as unsigned numbers, wrapping: that is how they were subtracted.
        let id = StreamId {
            ms: self.master_id.ms.wrapping_add_signed(ms),
            seq: self.master_id.seq.wrapping_add_signed(seq),
        };
        Some(Entry {
            id,
            field_count,
            flags,
            flags_at,
            names: same.then(|| self.fields.clone()),
            values: iter.clone(),
        })
    }

    /// The entry at `iter`, which goes on to the next.
    pub(super) fn entry(&self, iter: &mut Iter<'a>) -> Option<Entry<'a>> {
        let entry = self.head(iter)?;
        let elements = match entry.names {
            Some(_) => entry.field_count,
            None => entry.field_count.saturating_mul(2),
        };
        for _ in 0..=elements {
            iter.next()?;
        }
        Some(entry)
    }

    /// Where the last entry ends.
    pub(super) fn end(&self) -> Option<Pos> {
        self.list.last()
    }

    /// The entry that ends at `end`, and where the one before it ends. `None` at the master
    /// entry.
    pub(super) fn entry_before(&self, end: Pos) -> Option<(Entry<'a>, Option<Pos>)> {
        let elements = count(self.list.value(end))?;
        if elements == 0 {
            return None;
        }
        let mut at = end;
        for _ in 0..elements {
            at = self.list.prev(at)?;
        }
        let entry = self.head(&mut self.list.iter_from(at))?;
        Some((entry, self.list.prev(at)))
    }
}
