//! Counts where values are, a few segments at a lock hold: for operators, not for each command.

use crate::keyspace::locks::give_way;
use crate::server::Server;

/// Keys by where they are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// All keys.
    pub keys: u64,
    /// With their value in memory.
    pub hot: u64,
    /// Of those: not in the tier.
    pub dirty: u64,
    /// With a stub in memory and their value on disk.
    pub stubs: u64,
}

/// Segments in one lock hold: at most some thousand entries.
const SEGMENTS_AT_ONCE: usize = 8;

/// Counts; keys that come, go or move meanwhile are counted or not.
pub fn take(server: &Server) -> Census {
    let mut census = Census::default();
    let databases = server.keyspace.lock().database_count();
    for index in 0..databases {
        let mut segment = 0;
        while let Some(next) = count(server, index, segment, &mut census) {
            segment = next;
            // Lets a client that waits for the lock in.
            std::thread::yield_now();
        }
    }
    census
}

/// Keys with their value in memory; the count stops at `enough`.
pub fn hot(server: &Server, enough: u64) -> u64 {
    let mut census = Census::default();
    let databases = server.keyspace.lock().database_count();
    for index in 0..databases {
        let mut segment = 0;
        while census.hot < enough
            && let Some(next) = count(server, index, segment, &mut census)
        {
            segment = next;
        }
    }
    census.hot.min(enough)
}

/// Bytes of the values in memory; the count stops at `enough`.
pub fn hot_bytes(server: &Server, enough: u64) -> u64 {
    let mut bytes = 0;
    let databases = server.keyspace.lock().database_count();
    for index in 0..databases {
        let mut from = 0;
        loop {
            let keyspace = server.keyspace.lock();
            let Some(database) = keyspace.database(index) else {
                break;
            };
            let end = (from + SEGMENTS_AT_ONCE).min(database.table.segment_count());
            let segments = (from..end).filter_map(|i| database.table.segment(i));
            let values = segments.flat_map(|segment| segment.values());
            bytes += values.map(|value| value.memory_bytes() as u64).sum::<u64>();
            if bytes >= enough {
                return enough;
            }
            if end == database.table.segment_count() {
                break;
            }
            from = end;
            give_way(keyspace);
        }
    }
    bytes
}

/// Counts some segments from `from` on; where to go on.
fn count(server: &Server, index: usize, from: usize, census: &mut Census) -> Option<usize> {
    let keyspace = server.keyspace.lock();
    let database = keyspace.database(index)?;
    if from == 0 {
        census.keys += database.keys;
    }
    let end = (from + SEGMENTS_AT_ONCE).min(database.table.segment_count());
    for segment in (from..end).filter_map(|i| database.table.segment(i)) {
        census.stubs += segment.stub_count() as u64;
        census.hot += segment.value_count() as u64;
        census.dirty += segment.values().filter(|entry| entry.is_dirty()).count() as u64;
    }
    (end < database.table.segment_count()).then_some(end)
}
