//! Adding, deleting and trimming entries.

use super::node::{DELETED, Entry, NodeView, SAME_FIELDS};
use super::{ID_MAX, ID_MIN, Stream, StreamId, next_id};
use redrock_rdb::listpack::{ListPack, Pos};

/// No entry and no node may have more bytes (Redis `STREAM_LISTPACK_MAX_SIZE`).
const NODE_BYTES_MAX: usize = 1 << 30;
/// Room that a new node gets at most (Redis `STREAM_LISTPACK_MAX_PRE_ALLOCATE`).
const NODE_PREALLOCATED_BYTES_MAX: usize = 4096;

/// When a node is full.
#[derive(Debug, Clone, Copy)]
pub struct NodeLimits {
    /// `stream-node-max-bytes`; 0: no limit.
    pub bytes_max: usize,
    /// `stream-node-max-entries`; 0: no limit.
    pub entries_max: usize,
}

/// The id that XADD asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewId {
    /// `*`: by the clock, unix ms.
    Auto(u64),
    /// `ms-*`: the next of that millisecond.
    NextOf(u64),
    /// This one.
    Exact(StreamId),
}

/// Why an entry can't be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddError {
    /// Its id would not be above all that there were.
    NotAbove,
    /// It has too many bytes.
    TooLarge,
}

/// What trimming keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrimBy {
    /// This many entries.
    MaxLen(u64),
    /// The entries from this id on.
    MinId(StreamId),
}

/// A trim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// What is kept.
    pub by: TrimBy,
    /// Only whole nodes are removed.
    pub approximate: bool,
    /// At most so many entries are removed; 0: no limit.
    pub limit: u64,
}

fn difference(id: u64, master: u64) -> i64 {
    id.wrapping_sub(master) as i64
}

/// A new node without entries.
fn new_node(pairs: &[&[u8]], limits: NodeLimits) -> ListPack {
    let room = match limits.bytes_max {
        0 => NODE_PREALLOCATED_BYTES_MAX,
        bytes => bytes.min(NODE_PREALLOCATED_BYTES_MAX),
    };
    let mut pack = ListPack::with_capacity(room);
    pack.push_back_int(0);
    pack.push_back_int(0);
    pack.push_back_int((pairs.len() / 2) as i64);
    for field in pairs.iter().step_by(2) {
        pack.push_back(field);
    }
    pack.push_back_int(0);
    pack
}

/// Whether the fields are those of the master entry.
fn has_master_fields(view: &NodeView<'_>, pairs: &[&[u8]]) -> bool {
    view.field_count == (pairs.len() / 2) as u64
        && view
            .fields
            .clone()
            .zip(pairs.iter().step_by(2))
            .all(|(master, field)| master.eq_bytes(field))
}

/// Writes the two counts of a node's master entry.
fn set_counts(pack: &mut ListPack, live: u64, deleted: u64) {
    let Some(first) = pack.first() else { return };
    let at = pack.replace_int(first, live as i64);
    if let Some(at) = pack.next(at) {
        pack.replace_int(at, deleted as i64);
    }
}

/// Makes entries tombstones: where their flags are, ascending, and what they were.
fn bury(pack: &mut ListPack, entries: &[(Pos, i64)]) {
    // From the end on: another size of a number does not move what is before it.
    for (at, flags) in entries.iter().rev() {
        pack.replace_int(*at, flags | DELETED);
    }
}

impl Stream {
    /// The id of an entry to be added.
    pub fn new_id(&self, wanted: NewId) -> Result<StreamId, AddError> {
        let last = self.meta.last_id;
        let id = match wanted {
            NewId::Exact(id) => Some(id),
            NewId::Auto(now_ms) if now_ms > last.ms => Some(StreamId { ms: now_ms, seq: 0 }),
            NewId::Auto(_) => next_id(last),
            NewId::NextOf(ms) if ms == last.ms => {
                last.seq.checked_add(1).map(|seq| StreamId { ms, seq })
            }
            NewId::NextOf(ms) => Some(StreamId { ms, seq: 0 }),
        };
        id.filter(|id| *id > last).ok_or(AddError::NotAbove)
    }

    /// Adds an entry of fields and values in turn. Its id comes from [`Stream::new_id`].
    pub fn add(
        &mut self,
        id: StreamId,
        pairs: &[&[u8]],
        limits: NodeLimits,
    ) -> Result<(), AddError> {
        let bytes = pairs.iter().map(|text| text.len()).sum::<usize>();
        if bytes > NODE_BYTES_MAX {
            return Err(AddError::TooLarge);
        }
        let room = match self.nodes.last_entry() {
            Some(mut last) if is_full(last.get(), bytes, limits) => {
                last.get_mut().shrink_to_fit();
                false
            }
            last => last.is_some(),
        };
        if !room {
            let pack = new_node(pairs, limits);
            self.node_bytes += pack.byte_len();
            self.nodes.insert(id, pack);
        }
        if let Some(mut last) = self.nodes.last_entry() {
            let master_id = *last.key();
            let pack = last.get_mut();
            let before = pack.byte_len();
            append(pack, master_id, id, pairs);
            self.node_bytes += pack.byte_len().saturating_sub(before);
        }
        self.meta.length = self.meta.length.saturating_add(1);
        self.meta.entries_added = self.meta.entries_added.saturating_add(1);
        self.meta.last_id = id;
        if self.meta.length == 1 {
            self.meta.first_id = id;
        }
        Ok(())
    }

    /// Deletes an entry; false if there is none. [`Stream::deleted`] is due after the last.
    fn delete(&mut self, id: StreamId) -> bool {
        let mut range = self.range(id, id);
        let Some(Entry {
            flags, flags_at, ..
        }) = range.next()
        else {
            return false;
        };
        let Some(node_id) = range.node_id() else {
            return false;
        };
        let Some(pack) = self.nodes.get_mut(&node_id) else {
            return false;
        };
        let (live, deleted) = counts(node_id, pack);
        let before = pack.byte_len();
        if live <= 1 {
            self.nodes.remove(&node_id);
            self.node_bytes = self.node_bytes.saturating_sub(before);
        } else {
            bury(pack, &[(flags_at, flags)]);
            set_counts(pack, live - 1, deleted.saturating_add(1));
            let after = pack.byte_len();
            self.node_bytes = (self.node_bytes + after).saturating_sub(before);
        }
        self.meta.length = self.meta.length.saturating_sub(1);
        true
    }

    /// Deletes entries by their ids; returns how many there were (XDEL).
    pub fn delete_all(&mut self, ids: &[StreamId]) -> u64 {
        let mut deleted = 0;
        let mut first_gone = false;
        for &id in ids {
            if self.delete(id) {
                deleted += 1;
                first_gone |= id == self.meta.first_id;
                self.meta.max_deleted_id = self.meta.max_deleted_id.max(id);
            }
        }
        if deleted > 0 {
            self.refresh_first_id(first_gone);
        }
        deleted
    }

    fn refresh_first_id(&mut self, first_gone: bool) {
        if self.meta.length == 0 {
            self.meta.first_id = ID_MIN;
        } else if first_gone {
            let first = self.range(ID_MIN, ID_MAX).next();
            self.meta.first_id = first.map_or(ID_MAX, |entry| entry.id);
        }
    }

    /// Removes the oldest entries; returns how many.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        let mut removed: u64 = 0;
        while let Some((&node_id, pack)) = self.nodes.first_key_value() {
            if matches!(trim.by, TrimBy::MaxLen(max) if self.meta.length <= max) {
                break;
            }
            let (live, _) = counts(node_id, pack);
            if trim.limit > 0 && removed.saturating_add(live) > trim.limit {
                break;
            }
            let whole = match trim.by {
                TrimBy::MaxLen(max) => self.meta.length.saturating_sub(live) >= max,
                TrimBy::MinId(min) => last_id(node_id, pack) < min,
            };
            if whole {
                self.node_bytes = self.node_bytes.saturating_sub(pack.byte_len());
                self.nodes.remove(&node_id);
                self.meta.length = self.meta.length.saturating_sub(live);
                removed = removed.saturating_add(live);
                continue;
            }
            if !trim.approximate {
                removed = removed.saturating_add(self.trim_node(node_id, trim.by));
            }
            break;
        }
        if self.meta.length == 0 || removed > 0 {
            self.refresh_first_id(removed > 0);
        }
        removed
    }

    /// Makes the first entries of a node tombstones.
    fn trim_node(&mut self, node_id: StreamId, by: TrimBy) -> u64 {
        let Some(pack) = self.nodes.get_mut(&node_id) else {
            return 0;
        };
        let Some(view) = NodeView::new(node_id, pack) else {
            return 0;
        };
        let (live, deleted) = (view.live, view.deleted);
        let mut iter = view.entries.clone();
        let mut buried = Vec::new();
        while let Some(entry) = view.entry(&mut iter) {
            let stays = match by {
                TrimBy::MaxLen(max) => self.meta.length.saturating_sub(buried.len() as u64) <= max,
                TrimBy::MinId(min) => entry.id >= min,
            };
            if stays {
                break;
            }
            if !entry.is_deleted() {
                buried.push((entry.flags_at, entry.flags));
            }
        }
        let count = buried.len() as u64;
        let before = pack.byte_len();
        bury(pack, &buried);
        set_counts(
            pack,
            live.saturating_sub(count),
            deleted.saturating_add(count),
        );
        self.node_bytes = (self.node_bytes + pack.byte_len()).saturating_sub(before);
        self.meta.length = self.meta.length.saturating_sub(count);
        count
    }
}

/// A node's live entries and tombstones, as it counts them.
fn counts(node_id: StreamId, pack: &ListPack) -> (u64, u64) {
    NodeView::new(node_id, pack).map_or((0, 0), |view| (view.live, view.deleted))
}

/// Id of a node's last entry, tombstone or not; zero without entries.
fn last_id(node_id: StreamId, pack: &ListPack) -> StreamId {
    let last =
        NodeView::new(node_id, pack).and_then(|view| Some(view.entry_before(view.end()?)?.0.id));
    last.unwrap_or(ID_MIN)
}

/// Whether an entry of `bytes` must go to a new node.
fn is_full(pack: &ListPack, bytes: usize, limits: NodeLimits) -> bool {
    let bytes_max = match limits.bytes_max {
        0 => NODE_BYTES_MAX,
        max => max.min(NODE_BYTES_MAX),
    };
    if pack.byte_len() + bytes >= bytes_max {
        return true;
    }
    if limits.entries_max == 0 {
        return false;
    }
    let mut counts = pack.iter().take(2).map(|count| count.as_int().unwrap_or(0));
    let entries = counts
        .next()
        .unwrap_or(0)
        .saturating_add(counts.next().unwrap_or(0));
    usize::try_from(entries).is_ok_and(|entries| entries >= limits.entries_max)
}

/// Appends an entry to a node and counts it.
fn append(pack: &mut ListPack, master_id: StreamId, id: StreamId, pairs: &[&[u8]]) {
    let Some(view) = NodeView::new(master_id, pack) else {
        return;
    };
    let same = has_master_fields(&view, pairs);
    let live = view.live;
    if let Some(first) = pack.first() {
        pack.replace_int(first, live.saturating_add(1) as i64);
    }
    let field_count = (pairs.len() / 2) as i64;
    pack.push_back_int(if same { SAME_FIELDS } else { 0 });
    pack.push_back_int(difference(id.ms, master_id.ms));
    pack.push_back_int(difference(id.seq, master_id.seq));
    if same {
        for value in pairs.iter().skip(1).step_by(2) {
            pack.push_back(value);
        }
        pack.push_back_int(field_count + 3);
    } else {
        pack.push_back_int(field_count);
        for text in pairs {
            pack.push_back(text);
        }
        pack.push_back_int(2 * field_count + 4);
    }
}
