//! `tls-session-caching`: sessions that clients may resume.
//!
//! As many as `tls-session-cache-size` says, for as long as `tls-session-cache-timeout` says, and
//! no more bytes than fit in [`BYTES_MAX`]: a session holds the client's certificates. The oldest
//! go first. A changed configuration begins with none, so that nobody resumes what the old one
//! allowed.

use parking_lot::Mutex;
use rustls::server::StoresServerSessions;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What all of them may take.
const BYTES_MAX: usize = 4 << 20;
/// What one takes beside its key and its secrets, roughly.
const ENTRY_BYTES: usize = 128;
/// Places in the order that may be left of sessions that are gone.
const STALE_MIN: usize = 1024;

#[derive(Debug)]
struct Session {
    value: Vec<u8>,
    since: Instant,
    number: u64,
}

#[derive(Debug, Default)]
struct Sessions {
    by_key: HashMap<Vec<u8>, Session>,
    /// Oldest first; with those that were taken meanwhile.
    order: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    numbers: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SessionCache {
    sessions: Mutex<Sessions>,
    sessions_max: usize,
    age_max: Duration,
}

impl Sessions {
    fn remove(&mut self, key: &[u8]) -> Option<Session> {
        let session = self.by_key.remove(key)?;
        self.bytes -= size(key, &session.value);
        Some(session)
    }

    /// Drops the oldest; false if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some((number, key)) = self.order.pop_front() else {
            return false;
        };
        if self.by_key.get(&key).is_some_and(|s| s.number == number) {
            self.remove(&key);
        }
        true
    }

    fn oldest(&self) -> Option<&Session> {
        let (number, key) = self.order.front()?;
        self.by_key.get(key).filter(|s| s.number == *number)
    }

    fn forget_stale(&mut self) {
        if self.order.len() > STALE_MIN && self.order.len() > 2 * self.by_key.len() {
            let by_key = &self.by_key;
            self.order
                .retain(|(number, key)| by_key.get(key).is_some_and(|s| s.number == *number));
        }
    }
}

fn size(key: &[u8], value: &[u8]) -> usize {
    // The key is in the order too.
    2 * key.len() + value.len() + ENTRY_BYTES
}

impl SessionCache {
    /// `sessions_max` 0: as many as the bound of bytes allows.
    pub(crate) fn new(sessions_max: usize, age_max: Duration) -> Self {
        Self {
            sessions: Mutex::default(),
            sessions_max: if sessions_max == 0 {
                usize::MAX
            } else {
                sessions_max
            },
            age_max,
        }
    }

    fn is_young(&self, session: &Session) -> bool {
        session.since.elapsed() < self.age_max
    }
}

impl StoresServerSessions for SessionCache {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let more = size(&key, &value);
        if more > BYTES_MAX {
            return false;
        }
        let mut sessions = self.sessions.lock();
        sessions.remove(&key);
        while sessions.by_key.len() >= self.sessions_max
            || sessions.bytes + more > BYTES_MAX
            || sessions
                .oldest()
                .is_some_and(|oldest| !self.is_young(oldest))
        {
            if !sessions.drop_oldest() {
                break;
            }
        }
        sessions.numbers += 1;
        let number = sessions.numbers;
        sessions.order.push_back((number, key.clone()));
        sessions.bytes += more;
        let since = Instant::now();
        let session = Session {
            value,
            since,
            number,
        };
        sessions.by_key.insert(key, session);
        sessions.forget_stale();
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let sessions = self.sessions.lock();
        let session = sessions.by_key.get(key)?;
        self.is_young(session).then(|| session.value.clone())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let session = self.sessions.lock().remove(key)?;
        self.is_young(&session).then_some(session.value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn the_oldest_sessions_go_first() {
        let cache = SessionCache::new(2, LONG);
        for key in [b"a", b"b", b"c"] {
            assert!(cache.put(key.to_vec(), vec![1]));
        }
        assert_eq!(cache.get(b"a"), None);
        assert_eq!(cache.take(b"b"), Some(vec![1]));
        assert_eq!(cache.take(b"b"), None);
        assert_eq!(cache.get(b"c"), Some(vec![1]));
        // Put again, it is the newest.
        cache.put(b"d".to_vec(), vec![2]);
        cache.put(b"c".to_vec(), vec![3]);
        cache.put(b"e".to_vec(), vec![4]);
        assert_eq!((cache.get(b"d"), cache.get(b"c")), (None, Some(vec![3])));
    }

    #[test]
    fn no_more_than_the_bound_of_bytes_is_kept() {
        let cache = SessionCache::new(0, LONG);
        for number in 0..10_000_u32 {
            cache.put(number.to_le_bytes().to_vec(), vec![0; 1000]);
        }
        let sessions = cache.sessions.lock();
        assert!(sessions.bytes <= BYTES_MAX && sessions.bytes > BYTES_MAX / 2);
        let counted: usize = sessions
            .by_key
            .iter()
            .map(|(key, session)| size(key, &session.value))
            .sum();
        assert_eq!(sessions.bytes, counted);
        drop(sessions);
        assert!(!cache.put(vec![1], vec![0; BYTES_MAX]));
        // Sessions that are used and made anew leave nothing behind.
        for number in 0..100_000_u32 {
            cache.put(b"x".to_vec(), number.to_le_bytes().to_vec());
            cache.take(b"x");
        }
        let sessions = cache.sessions.lock();
        assert!(sessions.order.len() <= 2 * sessions.by_key.len() + STALE_MIN + 1);
    }

    #[test]
    fn a_session_ends_with_its_time() {
        let cache = SessionCache::new(0, Duration::ZERO);
        cache.put(vec![1], vec![1]);
        assert_eq!(cache.get(&[1]), None);
        assert_eq!(cache.take(&[1]), None);
    }
}
