//! Consumer groups: what was delivered to whom and not yet acknowledged.
//!
//! Invariant: an entry is pending in a group exactly if it is pending for one consumer of it.

use super::estimate::{entries_up_to, has_tombstones_from};
use super::range::Range;
use super::{Entry, ID_MAX, Stream, StreamId, next_id};
use redrock_rdb::object::stream::{StreamGroup, StreamPending, StreamWriter};
use std::collections::{BTreeMap, BTreeSet};

/// Memory of a pending entry, in the group and with its consumer, bytes.
const PENDING_BYTES: usize = 80;
/// Memory of a consumer beside its name and its entries, bytes.
const CONSUMER_BYTES: usize = 128;

/// A consumer of one group; void when it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerId(u32);

/// An entry delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Last delivery, unix ms.
    pub delivery_time_ms: i64,
    /// Number of deliveries.
    pub delivery_count: u64,
    /// To whom.
    pub consumer: ConsumerId,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    name: Box<[u8]>,
    /// Its last attempt, unix ms.
    pub seen_time_ms: i64,
    /// Its last successful one, unix ms; −1: none.
    pub active_time_ms: i64,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Number of its pending entries.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Ids of its pending entries from `start` on.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = StreamId> {
        self.pending.range(start..).copied()
    }
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// The last id delivered.
    pub last_id: StreamId,
    /// How many entries were read; `None`: unknown.
    pub entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    names: BTreeMap<Box<[u8]>, ConsumerId>,
    /// By [`ConsumerId`]; places of removed ones are used again.
    consumers: Vec<Option<Consumer>>,
}

impl Group {
    pub(super) fn new(last_id: StreamId, entries_read: Option<u64>) -> Self {
        Self {
            last_id,
            entries_read,
            ..Self::default()
        }
    }

    /// Number of pending entries.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Pending entries from `start` on.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = (StreamId, &Pending)> {
        self.pending.range(start..).map(|(id, entry)| (*id, entry))
    }

    /// A pending entry.
    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// Id of the last pending entry.
    pub fn last_pending(&self) -> Option<StreamId> {
        self.pending.last_key_value().map(|(id, _)| *id)
    }

    /// Number of consumers.
    pub fn consumer_count(&self) -> usize {
        self.names.len()
    }

    /// All consumers in the order of their names.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.names.values().filter_map(|id| self.consumer(*id))
    }

    /// A consumer by its name.
    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerId> {
        self.names.get(name).copied()
    }

    /// A consumer.
    pub fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        self.consumers.get(id.0 as usize)?.as_ref()
    }

    /// A consumer for editing its times.
    pub fn consumer_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.consumers.get_mut(id.0 as usize)?.as_mut()
    }

    /// Name of the consumer of a pending entry.
    pub fn name_of(&self, pending: &Pending) -> &[u8] {
        self.consumer(pending.consumer).map_or(b"", Consumer::name)
    }

    /// Adds a consumer, of whose name there must be none.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: i64) -> ConsumerId {
        let consumer = Consumer {
            name: name.into(),
            seen_time_ms: now_ms,
            active_time_ms: -1,
            pending: BTreeSet::new(),
        };
        self.insert_consumer(consumer)
    }

    fn insert_consumer(&mut self, consumer: Consumer) -> ConsumerId {
        let name = consumer.name.clone();
        let free = match self.names.len() < self.consumers.len() {
            true => self.consumers.iter().position(Option::is_none),
            false => None,
        };
        let at = free.unwrap_or_else(|| {
            self.consumers.push(None);
            self.consumers.len() - 1
        });
        let id = ConsumerId(at as u32);
        if let Some(place) = self.consumers.get_mut(at) {
            *place = Some(consumer);
        }
        self.names.insert(name, id);
        id
    }

    /// Removes a consumer with its pending entries; their number, if there was one.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let id = self.names.remove(name)?;
        let consumer = self.consumers.get_mut(id.0 as usize)?.take()?;
        for entry in &consumer.pending {
            self.pending.remove(entry);
        }
        Some(consumer.pending.len())
    }

    /// Makes an entry pending for a consumer, whoever had it before.
    pub fn assign(&mut self, id: StreamId, pending: Pending) {
        let before = self.pending.insert(id, pending);
        match before {
            Some(before) if before.consumer == pending.consumer => return,
            Some(before) => {
                if let Some(consumer) = self.consumer_mut(before.consumer) {
                    consumer.pending.remove(&id);
                }
            }
            None => {}
        }
        if let Some(consumer) = self.consumer_mut(pending.consumer) {
            consumer.pending.insert(id);
        }
    }

    /// An entry is pending no longer; what it was, if it was.
    pub fn acknowledge(&mut self, id: StreamId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        if let Some(consumer) = self.consumer_mut(pending.consumer) {
            consumer.pending.remove(&id);
        }
        Some(pending)
    }

    /// Counts one more delivery of a pending entry to the same consumer.
    pub fn redeliver(&mut self, id: StreamId, now_ms: i64) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.delivery_time_ms = now_ms;
            pending.delivery_count = pending.delivery_count.wrapping_add(1);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.pending.len() * PENDING_BYTES + self.names.len() * CONSUMER_BYTES
    }

    pub(super) fn encode(&self, name: &[u8], writer: &mut StreamWriter<'_>) {
        writer.group(name, self.last_id, self.entries_read, self.pending.len());
        for (id, pending) in &self.pending {
            writer.pending(&StreamPending {
                id: *id,
                delivery_time_ms: pending.delivery_time_ms,
                delivery_count: pending.delivery_count,
            });
        }
        writer.consumer_count(self.names.len());
        for consumer in self.consumers() {
            writer.consumer(
                &consumer.name,
                consumer.seen_time_ms,
                consumer.active_time_ms,
                consumer.pending.len(),
            );
            consumer
                .pending
                .iter()
                .for_each(|id| writer.consumer_pending(*id));
        }
    }

    pub(super) fn from_rdb(decoded: StreamGroup) -> Self {
        let mut group = Self::new(decoded.last_id, decoded.entries_read);
        let mut owners = BTreeMap::new();
        for consumer in decoded.consumers {
            let pending: BTreeSet<StreamId> = consumer.pending.into_iter().collect();
            let id = group.insert_consumer(Consumer {
                name: consumer.name.into(),
                seen_time_ms: consumer.seen_time_ms,
                active_time_ms: consumer.active_time_ms,
                pending: BTreeSet::new(),
            });
            owners.extend(pending.iter().map(|entry| (*entry, id)));
            if let Some(added) = group.consumer_mut(id) {
                added.pending = pending;
            }
        }
        for entry in decoded.pending {
            // The decoder has checked that each has an owner.
            if let Some(&consumer) = owners.get(&entry.id) {
                let pending = Pending {
                    delivery_time_ms: entry.delivery_time_ms,
                    delivery_count: entry.delivery_count,
                    consumer,
                };
                group.pending.insert(entry.id, pending);
            }
        }
        group
    }
}

/// How new entries are delivered to a consumer.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Name of the group.
    pub group: &'a [u8],
    /// One of its consumers.
    pub consumer: ConsumerId,
    /// At most so many entries; 0: all.
    pub count: usize,
    /// They don't become pending.
    pub no_ack: bool,
    /// Unix ms.
    pub now_ms: i64,
}

impl Stream {
    /// Delivers the entries after the group's last id, `visit` sees each with the group's last id
    /// then.
    pub fn deliver(&mut self, how: &Delivery<'_>, mut visit: impl FnMut(&Entry<'_>, StreamId)) {
        let Some(group) = self.groups.get_mut(how.group) else {
            return;
        };
        let Some(start) = next_id(group.last_id) else {
            return;
        };
        let entries = Range::new(&self.nodes, start, ID_MAX);
        let count = match how.count {
            0 => usize::MAX,
            count => count,
        };
        for entry in entries.take(count) {
            let id = entry.id;
            if id > group.last_id {
                match group.entries_read {
                    Some(read) if !has_tombstones_from(&self.meta, id) => {
                        group.entries_read = Some(read.saturating_add(1));
                    }
                    _ if self.meta.entries_added > 0 => {
                        group.entries_read = entries_up_to(&self.meta, id);
                    }
                    _ => {}
                }
                group.last_id = id;
            }
            if !how.no_ack {
                let pending = Pending {
                    delivery_time_ms: how.now_ms,
                    delivery_count: 1,
                    consumer: how.consumer,
                };
                group.assign(id, pending);
                if let Some(consumer) = group.consumer_mut(how.consumer) {
                    consumer.active_time_ms = how.now_ms;
                }
            }
            visit(&entry, group.last_id);
        }
    }
}
