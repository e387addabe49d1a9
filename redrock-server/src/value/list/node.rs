//! One node of a quicklist: a listpack, or one huge element.
//!
//! The number of elements is kept beside the listpack: its header can't tell beyond 65534, and
//! seeking over many nodes must not touch each one's bytes.

use super::End;
use super::fill::Fill;
use redrock_rdb::listpack::{self, ListPack, LpValue};
use redrock_rdb::number::parse_i64;

/// What is searched for, its integer form parsed once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needle<'a> {
    bytes: &'a [u8],
    int: Option<i64>,
}

impl<'a> Needle<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            int: parse_i64(bytes),
        }
    }

    /// Whether an element's text is the needle.
    pub(super) fn is(&self, value: LpValue<'_>) -> bool {
        match value {
            LpValue::Int(n) => self.int == Some(n),
            LpValue::Str(bytes) => bytes == self.bytes,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Node {
    body: Body,
    len: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Pack(ListPack),
    Plain(Box<[u8]>),
}

impl Node {
    /// A node of one element.
    pub(super) fn of(value: &[u8], fill: Fill) -> Self {
        if fill.is_plain(value.len()) {
            return Self::plain(value.into());
        }
        let mut pack = ListPack::new();
        pack.push_back(value);
        Self {
            body: Body::Pack(pack),
            len: 1,
        }
    }

    /// A node around a listpack.
    pub(super) fn pack(pack: ListPack) -> Self {
        let len = pack.len();
        Self {
            body: Body::Pack(pack),
            len,
        }
    }

    /// A node of one huge element.
    pub(super) fn plain(value: Box<[u8]>) -> Self {
        Self {
            body: Body::Plain(value),
            len: 1,
        }
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    pub(super) fn into_body(self) -> Body {
        self.body
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self.body, Body::Plain(_))
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.body {
            Body::Pack(pack) => pack.capacity(),
            Body::Plain(bytes) => bytes.len(),
        }
    }

    /// Bytes of the listpack or of the element.
    pub(super) fn content_bytes(&self) -> usize {
        match &self.body {
            Body::Pack(pack) => pack.as_bytes().len(),
            Body::Plain(bytes) => bytes.len(),
        }
    }

    /// Whether one more element of `bytes` fits.
    pub(super) fn allows(&self, bytes: usize, fill: Fill) -> bool {
        match &self.body {
            Body::Pack(pack) => !fill.full_for(pack.byte_len(), self.len, bytes),
            Body::Plain(_) => false,
        }
    }

    /// Whether two neighbours may become one node.
    pub(super) fn allows_merge(&self, other: &Self, fill: Fill) -> bool {
        match (&self.body, &other.body) {
            (Body::Pack(a), Body::Pack(b)) => {
                // One header and one end mark go.
                let bytes = a.byte_len() + b.byte_len() - 7;
                !fill.exceeded(bytes, self.len + other.len)
            }
            _ => false,
        }
    }

    /// Both nodes' elements in one. Callers asked [`Node::allows_merge`] first.
    pub(super) fn merge(self, other: Self) -> Self {
        let len = self.len + other.len;
        match (self.body, other.body) {
            (Body::Pack(a), Body::Pack(b)) => Self {
                body: Body::Pack(ListPack::merge(a, b)),
                len,
            },
            (body, _) => Self {
                body,
                len: self.len,
            },
        }
    }

    /// Adds an element at an end. Callers asked [`Node::allows`] first.
    pub(super) fn push(&mut self, end: End, value: &[u8]) {
        let Body::Pack(pack) = &mut self.body else {
            return;
        };
        match end {
            End::Head => pack.push_front(value),
            End::Tail => pack.push_back(value),
        };
        self.len += 1;
    }

    /// The element at an end.
    pub(super) fn end(&self, end: End) -> Option<LpValue<'_>> {
        match &self.body {
            Body::Plain(bytes) => Some(LpValue::Str(bytes)),
            Body::Pack(pack) => {
                let pos = if end == End::Head {
                    pack.first()
                } else {
                    pack.last()
                }?;
                Some(pack.value(pos))
            }
        }
    }

    /// Removes the element at an end. A plain node only counts down: it must then be dropped.
    pub(super) fn remove_end(&mut self, end: End) {
        if let Body::Pack(pack) = &mut self.body {
            let Some(pos) = (if end == End::Head {
                pack.first()
            } else {
                pack.last()
            }) else {
                return;
            };
            pack.remove(pos);
        }
        self.len = self.len.saturating_sub(1);
    }

    /// The element at `offset`.
    pub(super) fn get(&self, offset: usize) -> Option<LpValue<'_>> {
        match &self.body {
            Body::Plain(bytes) => (offset == 0).then_some(LpValue::Str(bytes)),
            Body::Pack(pack) => pack.seek(self.nearest(offset)).map(|pos| pack.value(pos)),
        }
    }

    /// `offset` as the listpack's index from the nearer end.
    fn nearest(&self, offset: usize) -> i64 {
        if offset < self.len && offset > self.len / 2 {
            offset as i64 - self.len as i64
        } else {
            offset as i64
        }
    }

    /// Inserts beside the element at `offset`. Callers asked [`Node::allows`] first.
    pub(super) fn insert(&mut self, offset: usize, after: bool, value: &[u8]) {
        let index = self.nearest(offset);
        let Body::Pack(pack) = &mut self.body else {
            return;
        };
        let Some(pos) = pack.seek(index) else { return };
        if after {
            pack.insert_after(pos, value);
        } else {
            pack.insert_before(pos, value);
        }
        self.len += 1;
    }

    /// Replaces the element at `offset` in place; false if only a change of nodes can do it.
    pub(super) fn replace(&mut self, offset: usize, value: &[u8], fill: Fill) -> bool {
        let index = self.nearest(offset);
        match &mut self.body {
            Body::Plain(bytes) if fill.is_plain(value.len()) => {
                *bytes = value.into();
                true
            }
            Body::Pack(pack)
                if !fill.is_plain(value.len()) && pack.safe_to_add(value.len() + 16) =>
            {
                let Some(pos) = pack.seek(index) else {
                    return false;
                };
                pack.replace(pos, value);
                true
            }
            _ => false,
        }
    }

    /// Removes `count` elements from `offset` on. A plain node only counts down.
    pub(super) fn remove_range(&mut self, offset: usize, count: usize) {
        let count = count.min(self.len.saturating_sub(offset));
        let index = self.nearest(offset);
        if let Body::Pack(pack) = &mut self.body {
            pack.remove_range(index, count);
        }
        self.len -= count;
    }

    /// Takes the elements from `offset` on into a node of their own.
    pub(super) fn split_off(&mut self, offset: usize) -> Option<Self> {
        let index = self.nearest(offset);
        let Body::Pack(pack) = &mut self.body else {
            return None;
        };
        let pos = pack.seek(index)?;
        let tail = pack.split_off(pos);
        let len = self.len.saturating_sub(offset);
        self.len -= len;
        Some(Self {
            body: Body::Pack(tail),
            len,
        })
    }

    /// Offset of the first element that is the needle.
    pub(super) fn find(&self, needle: &Needle<'_>) -> Option<usize> {
        self.segment(0).position(|value| needle.is(value))
    }

    /// Removes up to `max` elements that are the needle, beginning at an end; returns how many.
    /// A plain node only counts down.
    pub(super) fn remove_matching(&mut self, needle: &Needle<'_>, from: End, max: usize) -> usize {
        let removed = match &mut self.body {
            Body::Plain(bytes) => usize::from(max > 0 && needle.is(LpValue::Str(bytes))),
            Body::Pack(pack) => remove_matching(pack, needle, from, max),
        };
        self.len = self.len.saturating_sub(removed);
        removed
    }

    /// The elements from `offset` on.
    pub(super) fn segment(&self, offset: usize) -> Segment<'_> {
        match &self.body {
            Body::Plain(bytes) => Segment::Plain((offset == 0).then_some(bytes)),
            Body::Pack(pack) => pack_segment(pack, self.nearest(offset)),
        }
    }

    /// The elements before and at `offset`, to be taken from the back.
    pub(super) fn segment_back(&self, offset: usize) -> Segment<'_> {
        match &self.body {
            Body::Plain(bytes) => Segment::Plain(Some(bytes)),
            Body::Pack(pack) => pack_segment_back(pack, self.len.saturating_sub(offset + 1)),
        }
    }
}

/// The elements of a listpack from `index` on.
pub(super) fn pack_segment(pack: &ListPack, index: i64) -> Segment<'_> {
    match pack.seek(index) {
        Some(pos) => Segment::Pack(pack.iter_from(pos)),
        None => Segment::Plain(None),
    }
}

/// The elements of a listpack without the last `skip`, to be taken from the back.
pub(super) fn pack_segment_back(pack: &ListPack, skip: usize) -> Segment<'_> {
    let mut iter = pack.iter();
    for _ in 0..skip {
        if iter.next_back().is_none() {
            break;
        }
    }
    Segment::Pack(iter)
}

/// Removes up to `max` elements that are the needle, beginning at an end; returns how many.
pub(super) fn remove_matching(
    pack: &mut ListPack,
    needle: &Needle<'_>,
    from: End,
    max: usize,
) -> usize {
    let mut removed = 0;
    let mut at = if from == End::Head {
        pack.first()
    } else {
        pack.last()
    };
    while let Some(pos) = at
        && removed < max
    {
        let matches = needle.is(pack.value(pos));
        at = match (from, matches) {
            (End::Head, true) => pack.remove(pos),
            (End::Head, false) => pack.next(pos),
            (End::Tail, _) => {
                // Removing moves only what follows: the position before stays right.
                let before = pack.prev(pos);
                if matches {
                    pack.remove(pos);
                }
                before
            }
        };
        removed += usize::from(matches);
    }
    removed
}

/// A run of elements, from either end.
#[derive(Debug, Clone)]
pub(super) enum Segment<'a> {
    Pack(listpack::Iter<'a>),
    Plain(Option<&'a [u8]>),
}

impl<'a> Iterator for Segment<'a> {
    type Item = LpValue<'a>;

    fn next(&mut self) -> Option<LpValue<'a>> {
        match self {
            Self::Pack(iter) => iter.next(),
            Self::Plain(bytes) => bytes.take().map(LpValue::Str),
        }
    }
}

impl DoubleEndedIterator for Segment<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::Pack(iter) => iter.next_back(),
            Self::Plain(bytes) => bytes.take().map(LpValue::Str),
        }
    }
}
