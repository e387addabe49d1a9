//! What was denied, as ACL LOG shows it.

use std::collections::VecDeque;

/// Entries within this time of each other may be one, ms.
const SAME_WITHIN_MS: i64 = 60_000;
/// How many of the newest entries are looked through for one to join.
const JOIN_AMONG: usize = 10;

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
    /// A login.
    Auth,
}

impl Reason {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Key => "key",
            Self::Channel => "channel",
            Self::Auth => "auth",
        }
    }
}

/// Where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A command by itself.
    TopLevel,
    /// Within MULTI or EXEC.
    Multi,
    /// A script.
    Lua,
}

impl Context {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::TopLevel => "toplevel",
            Self::Multi => "multi",
            Self::Lua => "lua",
        }
    }
}

/// One thing that was denied, once or repeatedly.
#[derive(Debug, Clone)]
pub struct Entry {
    /// How often.
    pub count: u64,
    /// Why.
    pub reason: Reason,
    /// Where.
    pub context: Context,
    /// Command, key, channel.
    pub object: Vec<u8>,
    /// The user.
    pub user: Vec<u8>,
    /// The client that was last denied it, as CLIENT LIST shows it.
    pub client: Vec<u8>,
    /// Its number, from 0.
    pub id: u64,
    /// When it was first denied, unix ms.
    pub created_ms: i64,
    /// When it was last denied, unix ms.
    pub updated_ms: i64,
}

/// See the module; bounded by `acllog-max-len`.
#[derive(Debug, Default)]
pub struct AclLog {
    /// Newest first.
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl AclLog {
    /// Adds what was denied, or counts it with what it repeats.
    pub fn add(
        &mut self,
        (reason, context): (Reason, Context),
        object: &[u8],
        user: &[u8],
        client: Vec<u8>,
        now_ms: i64,
        entries_max: usize,
    ) {
        let known = self.entries.iter().take(JOIN_AMONG).position(|entry| {
            entry.reason == reason
                && entry.context == context
                && now_ms.abs_diff(entry.updated_ms) <= SAME_WITHIN_MS as u64
                && entry.object == object
                && entry.user == user
        });
        if let Some(mut entry) = known.and_then(|at| self.entries.remove(at)) {
            entry.count += 1;
            entry.client = client;
            entry.updated_ms = now_ms;
            self.entries.push_front(entry);
            return;
        }
        self.entries.push_front(Entry {
            count: 1,
            reason,
            context,
            object: object.to_vec(),
            user: user.to_vec(),
            client,
            id: self.next_id,
            created_ms: now_ms,
            updated_ms: now_ms,
        });
        self.next_id += 1;
        self.entries.truncate(entries_max);
    }

    /// The newest entries, newest first.
    pub fn newest(&self, count: usize) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter().take(count)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
