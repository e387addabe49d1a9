//! List values.
//!
//! Encoding `listpack` while everything fits one node, else `quicklist`. As in Redis 7.2 a list
//! is converted before elements are added that would not fit, and back, at half the limit, after
//! elements were removed ([`List::shrink`], which the caller calls once per command).

mod encode;
mod fill;
mod node;
mod quick;
#[cfg(test)]
mod tests;

pub use fill::set_plain_bytes_min;

use crate::value::Limits;
use fill::Fill;
use node::{Body, Needle, Node, Segment, pack_segment, pack_segment_back, remove_matching};
use quick::QuickList;
use redrock_rdb::listpack::{ListPack, LpValue};
use std::collections::vec_deque;

/// One end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Left, index 0.
    Head,
    /// Right, index −1.
    Tail,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct List {
    repr: Repr,
}

#[derive(Debug, Clone)]
enum Repr {
    Pack(ListPack),
    // Boxed: lists of one listpack are the many.
    Quick(Box<QuickList>),
}

impl Default for List {
    fn default() -> Self {
        Self {
            repr: Repr::Pack(ListPack::new()),
        }
    }
}

/// Looking.
impl List {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of elements.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty one never stays in the keyspace"
    )]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Pack(pack) => pack.len(),
            Repr::Quick(quick) => quick.len(),
        }
    }

    /// Bytes on the heap. O(1).
    pub fn memory_bytes(&self) -> usize {
        match &self.repr {
            Repr::Pack(pack) => pack.capacity(),
            Repr::Quick(quick) => size_of::<QuickList>() + quick.memory_bytes(),
        }
    }

    /// Bytes of all nodes' elements as they are packed (DEBUG OBJECT's `ql_uncompressed_size`).
    pub fn content_bytes(&self) -> usize {
        match &self.repr {
            Repr::Pack(pack) => pack.as_bytes().len(),
            Repr::Quick(quick) => quick.nodes().iter().map(Node::content_bytes).sum(),
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.repr {
            Repr::Pack(_) => "listpack",
            Repr::Quick(_) => "quicklist",
        }
    }

    /// Number of nodes (DEBUG OBJECT's `ql_nodes`); `None` for a listpack.
    pub fn node_count(&self) -> Option<usize> {
        match &self.repr {
            Repr::Pack(_) => None,
            Repr::Quick(quick) => Some(quick.nodes().len()),
        }
    }

    /// The index from the head that a client's `index` means, negative from the tail.
    fn index(&self, index: i64) -> Option<usize> {
        let len = self.len();
        let index = if index < 0 {
            index.checked_add(len as i64)?
        } else {
            index
        };
        usize::try_from(index).ok().filter(|index| *index < len)
    }

    /// The element at `index`, from the tail if negative.
    pub fn get(&self, index: i64) -> Option<LpValue<'_>> {
        match &self.repr {
            Repr::Pack(pack) => pack.seek(index).map(|pos| pack.value(pos)),
            Repr::Quick(quick) => quick.get(self.index(index)?),
        }
    }

    /// The element at an end.
    pub fn end(&self, end: End) -> Option<LpValue<'_>> {
        match &self.repr {
            Repr::Pack(pack) => {
                let pos = if end == End::Head {
                    pack.first()
                } else {
                    pack.last()
                }?;
                Some(pack.value(pos))
            }
            Repr::Quick(quick) => quick.end(end),
        }
    }

    /// All elements from the head on.
    pub fn iter(&self) -> Items<'_> {
        self.items(End::Head, 0)
    }

    /// The elements beginning with the `skip`-th from an end and going to the other.
    pub fn items(&self, from: End, skip: usize) -> Items<'_> {
        match (&self.repr, from) {
            (Repr::Pack(pack), End::Head) => Items {
                segment: pack_segment(pack, i64::try_from(skip).unwrap_or(i64::MAX)),
                rest: None,
                from,
            },
            (Repr::Pack(pack), End::Tail) => Items {
                segment: pack_segment_back(pack, skip),
                rest: None,
                from,
            },
            (Repr::Quick(quick), _) => quick_items(quick, from, skip),
        }
    }

    /// Whether any element's text is `needle`.
    pub fn contains(&self, needle: &[u8]) -> bool {
        let needle = Needle::new(needle);
        self.iter().any(|value| needle.is(value))
    }

    /// Distances from an end of the elements whose text is `needle`, among the first `max_scan`.
    pub fn positions<'a>(
        &'a self,
        needle: &'a [u8],
        from: End,
        max_scan: usize,
    ) -> impl Iterator<Item = usize> + 'a {
        let needle = Needle::new(needle);
        self.items(from, 0)
            .take(max_scan)
            .enumerate()
            .filter_map(move |(at, value)| needle.is(value).then_some(at))
    }
}

/// Changing.
impl List {
    /// Becomes a quicklist if this many more elements and bytes would not fit a listpack. Redis
    /// does it before it adds, whether it then adds or not (LINSERT without its pivot).
    pub fn grow(&mut self, added_bytes: usize, added: usize, limits: &Limits) {
        self.grow_within(added_bytes, added, Fill::new(limits));
    }

    fn grow_within(&mut self, added_bytes: usize, added: usize, fill: Fill) {
        let Repr::Pack(pack) = &mut self.repr else {
            return;
        };
        let bytes = pack.byte_len().saturating_add(added_bytes);
        if fill.exceeded(bytes, pack.len().saturating_add(added)) {
            let mut quick = QuickList::default();
            quick.push_pack(std::mem::take(pack));
            self.repr = Repr::Quick(Box::new(quick));
        }
    }

    /// Becomes a listpack if little is left, after elements were removed.
    pub fn shrink(&mut self, limits: &Limits) {
        self.settle(Fill::new(limits), true);
    }

    fn settle(&mut self, fill: Fill, shrinking: bool) {
        if let Repr::Quick(quick) = &mut self.repr
            && let Some(pack) = quick.take_pack(fill, shrinking)
        {
            self.repr = Repr::Pack(pack);
        }
    }

    /// Adds elements at an end, one after the other.
    pub fn push(&mut self, end: End, values: &[&[u8]], limits: &Limits) {
        self.push_within(end, values, Fill::new(limits));
    }

    fn push_within(&mut self, end: End, values: &[&[u8]], fill: Fill) {
        self.grow_within(
            values.iter().map(|value| value.len()).sum(),
            values.len(),
            fill,
        );
        for value in values {
            match (&mut self.repr, end) {
                (Repr::Pack(pack), End::Head) => {
                    pack.push_front(value);
                }
                (Repr::Pack(pack), End::Tail) => {
                    pack.push_back(value);
                }
                (Repr::Quick(quick), _) => quick.push(end, value, fill),
            }
        }
    }

    /// Removes the element at an end; look at it before with [`List::end`].
    pub fn remove_end(&mut self, end: End) {
        match &mut self.repr {
            Repr::Pack(pack) => {
                if let Some(pos) = if end == End::Head {
                    pack.first()
                } else {
                    pack.last()
                } {
                    pack.remove(pos);
                }
            }
            Repr::Quick(quick) => quick.remove_end(end),
        }
    }

    /// Removes `count` elements from the `skip`-th from the head on.
    pub fn remove_range(&mut self, skip: usize, count: usize) {
        match &mut self.repr {
            Repr::Pack(pack) => {
                if let Ok(index) = i64::try_from(skip) {
                    pack.remove_range(index, count);
                }
            }
            Repr::Quick(quick) => quick.remove_range(skip, count),
        }
    }

    /// Removes up to `max` elements whose text is `needle`, beginning at an end; returns how
    /// many.
    pub fn remove_matching(&mut self, needle: &[u8], from: End, max: usize) -> usize {
        let needle = Needle::new(needle);
        match &mut self.repr {
            Repr::Pack(pack) => remove_matching(pack, &needle, from, max),
            Repr::Quick(quick) => quick.remove_matching(&needle, from, max),
        }
    }

    /// Replaces the element at `index`, from the tail if negative; false if there is none. The
    /// list may be converted before either way, as in Redis.
    pub fn set(&mut self, index: i64, value: &[u8], limits: &Limits) -> bool {
        self.set_within(index, value, Fill::new(limits))
    }

    fn set_within(&mut self, index: i64, value: &[u8], fill: Fill) -> bool {
        self.grow_within(value.len(), 1, fill);
        let Some(index) = self.index(index) else {
            return false;
        };
        match &mut self.repr {
            Repr::Pack(pack) => {
                let Some(pos) = pack.seek(index as i64) else {
                    return false;
                };
                pack.replace(pos, value);
            }
            Repr::Quick(quick) => {
                let Some(place) = quick.locate(index) else {
                    return false;
                };
                quick.replace(place, value, fill);
            }
        }
        self.settle(fill, true);
        true
    }

    /// Inserts beside the first element whose text is `pivot`; false if there is none.
    pub fn insert(&mut self, pivot: &[u8], after: bool, value: &[u8], limits: &Limits) -> bool {
        self.insert_within(pivot, after, value, Fill::new(limits))
    }

    fn insert_within(&mut self, pivot: &[u8], after: bool, value: &[u8], fill: Fill) -> bool {
        self.grow_within(value.len(), 1, fill);
        match &mut self.repr {
            Repr::Pack(pack) => {
                let Some(first) = pack.first() else {
                    return false;
                };
                let Some(pos) = pack.find(first, pivot, 0) else {
                    return false;
                };
                if after {
                    pack.insert_after(pos, value);
                } else {
                    pack.insert_before(pos, value);
                }
            }
            Repr::Quick(quick) => {
                let Some(place) = quick.find(&Needle::new(pivot)) else {
                    return false;
                };
                quick.insert(place, after, value, fill);
            }
        }
        true
    }
}

fn quick_items(quick: &QuickList, from: End, skip: usize) -> Items<'_> {
    let none = Items {
        segment: Segment::Plain(None),
        rest: None,
        from,
    };
    let index = match from {
        End::Head => Some(skip),
        End::Tail => quick.len().checked_sub(skip.saturating_add(1)),
    };
    let Some((at, offset)) = index.and_then(|index| quick.locate(index)) else {
        return none;
    };
    let Some(node) = quick.nodes().get(at) else {
        return none;
    };
    match from {
        End::Head => Items {
            segment: node.segment(offset),
            rest: Some(quick.nodes().range(at + 1..)),
            from,
        },
        End::Tail => Items {
            segment: node.segment_back(offset),
            rest: Some(quick.nodes().range(..at)),
            from,
        },
    }
}

/// Elements from somewhere to an end of a list.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    segment: Segment<'a>,
    rest: Option<vec_deque::Iter<'a, Node>>,
    from: End,
}

impl<'a> Iterator for Items<'a> {
    type Item = LpValue<'a>;

    fn next(&mut self) -> Option<LpValue<'a>> {
        loop {
            let value = match self.from {
                End::Head => self.segment.next(),
                End::Tail => self.segment.next_back(),
            };
            if value.is_some() {
                return value;
            }
            let rest = self.rest.as_mut()?;
            self.segment = match self.from {
                End::Head => rest.next()?.segment(0),
                End::Tail => {
                    let node = rest.next_back()?;
                    node.segment_back(node.len().saturating_sub(1))
                }
            };
        }
    }
}
