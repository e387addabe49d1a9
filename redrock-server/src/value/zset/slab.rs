//! The elements of a big sorted set, each in a slot that its id names.
//!
//! Slots live in chunks, so that a growing set neither copies nor over-allocates. Which ids are
//! in use is known to the index and the tree only.

use super::member::Member;

/// Slots in a chunk.
const CHUNK: usize = 128;
/// End of the list of free slots.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Slot {
    /// The score; in a free slot the bits of the next free one's id.
    score: f64,
    member: Member,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Slab {
    chunks: Vec<Vec<Slot>>,
    free: u32,
    live: usize,
    /// Bytes of members outside their slots.
    heap_bytes: usize,
}

impl Slab {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: NONE,
            live: 0,
            heap_bytes: 0,
        }
    }

    fn slot(&self, id: u32) -> Option<&Slot> {
        self.chunks
            .get(id as usize / CHUNK)?
            .get(id as usize % CHUNK)
    }

    fn slot_mut(&mut self, id: u32) -> Option<&mut Slot> {
        self.chunks
            .get_mut(id as usize / CHUNK)?
            .get_mut(id as usize % CHUNK)
    }

    /// The bytes of element `id`.
    pub(super) fn member(&self, id: u32) -> &[u8] {
        self.slot(id).map_or(&[], |slot| slot.member.as_bytes())
    }

    /// The score of element `id`.
    pub(super) fn score(&self, id: u32) -> f64 {
        self.slot(id).map_or(0.0, |slot| slot.score)
    }

    pub(super) fn set_score(&mut self, id: u32, score: f64) {
        if let Some(slot) = self.slot_mut(id) {
            slot.score = score;
        }
    }

    /// Stores an element and returns its id.
    pub(super) fn insert(&mut self, score: f64, member: Member) -> u32 {
        self.live += 1;
        self.heap_bytes += member.heap_bytes();
        let slot = Slot { score, member };
        let id = self.free;
        if let Some(free) = self.slot_mut(id) {
            let next = free.score.to_bits() as u32;
            *free = slot;
            self.free = next;
            return id;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        // Ids fit: 2^32 slots are 96 GiB.
        let id = ((self.chunks.len() - 1) * CHUNK) as u32;
        match self.chunks.last_mut() {
            Some(chunk) => {
                chunk.push(slot);
                id + (chunk.len() - 1) as u32
            }
            None => id,
        }
    }

    /// Frees a slot and returns its member.
    pub(super) fn remove(&mut self, id: u32) -> Member {
        let next = self.free;
        let Some(slot) = self.slot_mut(id) else {
            return Member::EMPTY;
        };
        let member = std::mem::replace(&mut slot.member, Member::EMPTY);
        slot.score = f64::from_bits(u64::from(next));
        self.free = id;
        self.live -= 1;
        self.heap_bytes -= member.heap_bytes();
        member
    }

    /// Whether most of the slots are free, so that moving the rest pays.
    pub(super) fn is_sparse(&self) -> bool {
        self.chunks.len() > 8 && self.live * 4 < self.chunks.len() * CHUNK
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let chunk = CHUNK * size_of::<Slot>() + size_of::<Vec<Slot>>();
        self.chunks.len() * chunk + self.heap_bytes
    }
}
