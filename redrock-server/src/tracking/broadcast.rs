//! Broadcast mode: prefixes, the clients that want all keys with them, and the keys that have
//! changed since they were last told.

use crate::net::client::ClientShared;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys with the client that changed each last; 0: none did.
pub(super) type Changes = BTreeMap<Vec<u8>, u64>;

#[derive(Debug, Default)]
struct Prefix {
    clients: BTreeMap<u64, Arc<ClientShared>>,
    changes: Changes,
}

/// Two prefixes that one key can have both.
#[derive(Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The one that is asked for.
    pub prefix: Vec<u8>,
    /// The one that it meets.
    pub other: Vec<u8>,
    /// Whether the client has the other already.
    pub existing: bool,
}

fn overlaps(a: &[u8], b: &[u8]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// See the module.
#[derive(Debug, Default)]
pub struct Broadcasts {
    prefixes: BTreeMap<Vec<u8>, Prefix>,
    /// Whether any prefix has changes.
    news: bool,
}

impl Broadcasts {
    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Whether anybody is to be told of something.
    pub fn has_news(&self) -> bool {
        self.news
    }

    /// False if the client has the prefix already.
    pub(super) fn add(&mut self, prefix: &[u8], client: &Arc<ClientShared>) -> bool {
        let state = self.prefixes.entry(prefix.to_vec()).or_default();
        state.clients.insert(client.id, client.clone()).is_none()
    }

    pub(super) fn remove(&mut self, client: u64) {
        self.prefixes.retain(|_, state| {
            state.clients.remove(&client);
            !state.clients.is_empty()
        });
    }

    pub(super) fn of(&self, client: u64) -> impl Iterator<Item = &[u8]> {
        let theirs = move |(_, state): &(&Vec<u8>, &Prefix)| state.clients.contains_key(&client);
        let prefixes = self.prefixes.iter().filter(theirs);
        prefixes.map(|(prefix, _)| prefix.as_slice())
    }

    /// The first of the `wanted` prefixes of a client that overlaps with one that it has, or
    /// with another of them.
    pub(super) fn overlap(&self, client: u64, wanted: &[&[u8]]) -> Option<Overlap> {
        let found = |prefix: &[u8], other: &[u8], existing| Overlap {
            prefix: prefix.to_vec(),
            other: other.to_vec(),
            existing,
        };
        wanted.iter().enumerate().find_map(|(at, prefix)| {
            let has = self.of(client).find(|other| overlaps(prefix, other));
            let meets = || {
                let mut behind = wanted.iter().skip(at + 1);
                let other = behind.find(|other| overlaps(prefix, other));
                other.map(|other| found(prefix, other, false))
            };
            has.map(|other| found(prefix, other, true)).or_else(meets)
        })
    }

    pub(super) fn changed(&mut self, key: &[u8], changer: u64) {
        if self.prefixes.is_empty() {
            return;
        }
        for (prefix, state) in &mut self.prefixes {
            if key.starts_with(prefix) {
                state.changes.insert(key.to_vec(), changer);
                self.news = true;
            }
        }
    }

    /// What has changed, each time with those who want to know.
    pub(super) fn take(&mut self) -> Vec<(Changes, Vec<Arc<ClientShared>>)> {
        if !std::mem::take(&mut self.news) {
            return Vec::new();
        }
        let with_changes = |state: &mut Prefix| {
            let changes = std::mem::take(&mut state.changes);
            let clients = || state.clients.values().cloned().collect();
            (!changes.is_empty()).then(|| (changes, clients()))
        };
        self.prefixes
            .values_mut()
            .filter_map(with_changes)
            .collect()
    }
}
