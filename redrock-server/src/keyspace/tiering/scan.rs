//! Walking over all keys of a database, in memory and on disk, in the order of positions (I4).
//!
//! One step is one instant: entries and tombstones in memory are listed and the tier's snapshot
//! is taken under one lock hold; the tier is then read without the lock. What is in memory hides
//! what the tier has for the same key, so a key on its way between them is seen exactly once.

use crate::keyspace::cold::{ColdError, ColdSnapshot, ColdStore, ScannedRecord};
use crate::keyspace::expire::has_passed;
use crate::keyspace::hot::found::Found;
use crate::keyspace::locks::KeyspaceLock;
use crate::keyspace::position::POSITION_END;
use crate::keyspace::{ExpireMode, Keyspace};
use crate::value::{ObjectType, codec};
use hashbrown::{HashMap, HashSet};

/// Hot keys listed in one lock hold at most, but for those that share the last one's position.
const HOT_KEYS_MAX: usize = 4096;

/// A key that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedKey {
    /// Its position.
    pub position: u64,
    /// Its name.
    pub key: Vec<u8>,
    /// Its type.
    pub object_type: ObjectType,
    /// Its expiry, unix ms.
    pub expire: Option<i64>,
    /// RDB type byte and payload, if asked for; `None` for a stub, whose record follows from the
    /// tier's part of the same step.
    pub record: Option<Vec<u8>>,
}

/// What a step is to bring.
#[derive(Debug, Clone, Copy)]
pub struct ScanRequest {
    /// Database.
    pub index: usize,
    /// First position.
    pub from: u64,
    /// About how many keys.
    pub count: usize,
    /// Values too; the step ends after so many bytes of them in either tier. `None`: names only.
    pub record_bytes_max: Option<usize>,
    /// Keys past this time are left out, if the server hides them.
    pub now_ms: i64,
}

impl ScanRequest {
    /// Whether so many bytes of values are enough for a step, which always has some.
    fn is_full(&self, bytes: usize) -> bool {
        self.record_bytes_max.is_some_and(|max| bytes >= max.max(1))
    }
}

struct HotPart {
    generation: u32,
    keys: Vec<ScannedKey>,
    /// Names that the tier may still have but the keyspace has not, or has in memory.
    hidden: HashSet<Vec<u8>>,
    next: u64,
    mode: ExpireMode,
}

/// The instant of a step: what was in memory, and the tier as it was then.
pub struct ScanInstant<'a> {
    hot: HotPart,
    snapshot: ColdSnapshot<'a>,
}

/// One step; the position to go on from is [`POSITION_END`] at the end.
pub fn scan(
    keyspace: &KeyspaceLock,
    store: &ColdStore,
    request: ScanRequest,
) -> Result<(Vec<ScannedKey>, u64), ColdError> {
    let instant = keyspace.lock().begin_scan(store, &request);
    match instant {
        Some(instant) => instant.finish(&request),
        None => Ok((Vec::new(), POSITION_END)),
    }
}

impl ScanInstant<'_> {
    /// Reads the tier's part, without the lock, and puts both together.
    pub fn finish(self, request: &ScanRequest) -> Result<(Vec<ScannedKey>, u64), ColdError> {
        let Self { hot, snapshot } = self;
        let mut next = hot.next;
        let mut keys = hot.keys;
        let stubs: HashMap<Vec<u8>, usize> = keys
            .iter()
            .enumerate()
            .filter(|(_, key)| request.record_bytes_max.is_some() && key.record.is_none())
            .map(|(at, key)| (key.key.clone(), at))
            .collect();
        let mut cold: Vec<ScannedKey> = Vec::new();
        let (mut bytes, mut last) = (0, None);
        snapshot.scan(hot.generation, request.from, next, |found| {
            let ScannedRecord {
                position,
                key,
                record,
                expire,
            } = found;
            // Enough, but never part of a position.
            let enough = cold.len() >= request.count || request.is_full(bytes);
            if enough && last.is_some_and(|last| last < position) {
                next = position;
                return false;
            }
            last = Some(position);
            if let Some(at) = stubs.get(key) {
                bytes += record.len();
                keys[*at].record = Some(record.to_vec());
            } else if !hot.hidden.contains(key) && !is_over(expire, request, hot.mode) {
                let wanted = request.record_bytes_max.is_some();
                bytes += if wanted { record.len() } else { 0 };
                cold.push(ScannedKey {
                    position,
                    key: key.to_vec(),
                    object_type: codec::object_type(record),
                    expire,
                    record: wanted.then(|| record.to_vec()),
                });
            }
            true
        })?;
        keys.retain(|key| key.position < next);
        keys.append(&mut cold);
        keys.sort_unstable_by(|a, b| (a.position, &a.key).cmp(&(b.position, &b.key)));
        Ok((keys, next))
    }
}

/// Lists a key; whether that is enough for a step.
fn list(
    part: &mut HotPart,
    position: u64,
    found: Found<'_>,
    request: &ScanRequest,
    bytes: &mut usize,
) -> bool {
    part.hidden.insert(found.key().to_vec());
    if !is_over(found.expire(), request, part.mode) {
        let record = match found.value() {
            Some(value) if request.record_bytes_max.is_some() => {
                let mut record = Vec::new();
                codec::encode(value, &mut record);
                *bytes += record.len();
                Some(record)
            }
            _ => None,
        };
        part.keys.push(ScannedKey {
            position,
            key: found.key().to_vec(),
            object_type: found.object_type(),
            expire: found.expire(),
            record,
        });
    }
    part.keys.len() >= request.count.min(HOT_KEYS_MAX) || request.is_full(*bytes)
}

fn is_over(expire: Option<i64>, request: &ScanRequest, mode: ExpireMode) -> bool {
    mode != ExpireMode::Ignore && has_passed(expire, request.now_ms)
}

impl Keyspace {
    /// Fixes the instant of a step. `None` if there is no such database.
    pub fn begin_scan<'a>(
        &mut self,
        store: &'a ColdStore,
        request: &ScanRequest,
    ) -> Option<ScanInstant<'a>> {
        Some(ScanInstant {
            hot: self.scan_hot(request)?,
            snapshot: store.snapshot(),
        })
    }

    /// The part in memory, up to as many keys as are wanted.
    fn scan_hot(&mut self, request: &ScanRequest) -> Option<HotPart> {
        let database = self.databases.get(request.index)?;
        let mut part = HotPart {
            generation: database.generation,
            keys: Vec::new(),
            hidden: HashSet::new(),
            next: request.from,
            mode: self.expire_mode,
        };
        let mut bytes = 0;
        part.next = self.visit_from(request.index, request.from, |position, found| {
            list(&mut part, position, found, request, &mut bytes)
        });
        if let Some(tiering) = &self.tiering {
            let range = request.from..part.next;
            let queued = tiering.pending.keys().filter(|key| {
                key.generation() == part.generation && range.contains(&key.position())
            });
            part.hidden.extend(queued.map(|key| key.key().to_vec()));
        }
        Some(part)
    }

    /// Whether some keys of a database have no entry in memory.
    pub fn has_keys_on_disk_only(&self, index: usize) -> bool {
        self.databases
            .get(index)
            .is_some_and(|d| d.keys > d.table.len() as u64)
    }
}
