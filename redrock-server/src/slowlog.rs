//! The slow log: the commands that took longest, newest first, trimmed as Redis trims them.

use parking_lot::Mutex;
use std::collections::VecDeque;

/// Arguments kept of one command; the last place tells how many more there were.
const ARGUMENTS_MAX: usize = 32;
/// Bytes kept of one argument.
const ARGUMENT_BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowEntry {
    /// Counts up from 0 since the server's start.
    pub id: u64,
    /// When it ended, unix seconds.
    pub time_s: i64,
    /// How long it ran, microseconds.
    pub duration_us: u64,
    /// Its arguments, trimmed.
    pub arguments: Vec<Vec<u8>>,
    /// The client's address.
    pub addr: String,
    /// The client's name.
    pub name: Vec<u8>,
}

#[derive(Debug, Default)]
struct Entries {
    list: VecDeque<SlowEntry>,
    next_id: u64,
}

/// See the module. Bounded by `slowlog-max-len`.
#[derive(Debug, Default)]
pub struct SlowLog {
    entries: Mutex<Entries>,
}

fn trim(arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let shown = if arguments.len() > ARGUMENTS_MAX {
        ARGUMENTS_MAX - 1
    } else {
        arguments.len()
    };
    let mut kept: Vec<Vec<u8>> = arguments
        .iter()
        .take(shown)
        .map(
            |argument| match argument.split_at_checked(ARGUMENT_BYTES_MAX) {
                Some((head, tail)) if !tail.is_empty() => {
                    [head, format!("... ({} more bytes)", tail.len()).as_bytes()].concat()
                }
                _ => argument.to_vec(),
            },
        )
        .collect();
    if shown < arguments.len() {
        kept.push(format!("... ({} more arguments)", arguments.len() - shown).into_bytes());
    }
    kept
}

impl SlowLog {
    /// Adds a command and drops what exceeds `entries_max`.
    pub fn push(
        &self,
        arguments: &[&[u8]],
        duration_us: u64,
        client: (&str, &[u8]),
        entries_max: usize,
    ) {
        let mut entries = self.entries.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.list.push_front(SlowEntry {
            id,
            time_s: crate::clock::unix_ms() / 1000,
            duration_us,
            arguments: trim(arguments),
            addr: client.0.to_owned(),
            name: client.1.to_vec(),
        });
        entries.list.truncate(entries_max);
    }

    /// The newest entries.
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.entries
            .lock()
            .list
            .iter()
            .take(count)
            .cloned()
            .collect()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.lock().list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries; ids go on.
    pub fn reset(&self) {
        self.entries.lock().list.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_arguments_and_entries_as_redis_does() {
        let log = SlowLog::default();
        let long = vec![b'x'; 200];
        let many: Vec<&[u8]> = std::iter::repeat_n(&b"a"[..], 33).collect();
        let exact: Vec<&[u8]> = std::iter::repeat_n(&b"a"[..], 32).collect();
        log.push(&[b"set", &long], 5, ("addr", b"name"), 10);
        log.push(&many, 6, ("addr", b""), 10);
        log.push(&exact, 7, ("addr", b""), 2);
        let entries = log.newest(10);
        assert_eq!(entries.iter().map(|e| e.id).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(entries[0].arguments.len(), 32);
        assert_eq!(entries[1].arguments.len(), 32);
        assert_eq!(entries[1].arguments[31], b"... (2 more arguments)");
        log.reset();
        log.push(&[b"set", &long], 5, ("addr", b"name"), 10);
        let entry = &log.newest(1)[0];
        assert_eq!(entry.id, 3);
        assert_eq!(entry.arguments[1].len(), 128 + "... (72 more bytes)".len());
        assert!(entry.arguments[1].ends_with(b"... (72 more bytes)"));
    }
}
