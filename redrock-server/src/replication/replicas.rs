//! What the attached replicas have acknowledged: for WAIT, WAITAOF, INFO, ROLE and
//! `min-replicas-to-write`.
//!
//! The agent states the whole list each time; when its stream ends all replicas count as gone.

use redrock_proto::model::{ReplicaAck, ReplicaState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// See the module.
#[derive(Debug, Default)]
pub struct ReplicaTable {
    list: watch::Sender<Arc<Vec<ReplicaAck>>>,
    /// Number of the stream that may change the table.
    stream: AtomicU64,
}

impl ReplicaTable {
    /// A new stream of the agent begins; it takes the table from the one before.
    pub fn begin(&self) -> u64 {
        self.stream.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Replaces the table, unless a newer stream has it. False then.
    pub fn replace(&self, stream: u64, replicas: Vec<ReplicaAck>) -> bool {
        if self.stream.load(Ordering::Acquire) != stream {
            return false;
        }
        self.list.send_replace(Arc::new(replicas));
        true
    }

    /// The table now.
    pub fn list(&self) -> Arc<Vec<ReplicaAck>> {
        self.list.borrow().clone()
    }

    /// The table and its changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Vec<ReplicaAck>>> {
        self.list.subscribe()
    }

    /// Replicas that follow the stream and were heard of within `lag_s_max` seconds.
    pub fn good(&self, lag_s_max: u64, now_ms: i64) -> usize {
        let oldest_ms = (now_ms.max(0) as u64).saturating_sub(lag_s_max.saturating_mul(1000));
        let list = self.list.borrow();
        list.iter()
            .filter(|r| r.state == ReplicaState::Online && r.acked_unix_ms >= oldest_ms.max(1))
            .count()
    }
}

/// Replicas that acknowledged at least `offset`.
pub fn reached(list: &[ReplicaAck], offset: u64) -> usize {
    let online = list.iter().filter(|r| r.state == ReplicaState::Online);
    online.filter(|r| r.acked_offset >= offset).count()
}

/// Replicas that have at least `offset` on their disk.
pub fn reached_disk(list: &[ReplicaAck], offset: u64) -> usize {
    let online = list.iter().filter(|r| r.state == ReplicaState::Online);
    online
        .filter(|r| r.fsynced_offset >= offset && r.fsynced_offset > 0)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(offset: u64, fsynced: u64, at_ms: u64, state: ReplicaState) -> ReplicaAck {
        ReplicaAck {
            client_id: 1,
            state,
            acked_offset: offset,
            fsynced_offset: fsynced,
            sent_offset: offset,
            acked_unix_ms: at_ms,
            address: String::new(),
            listening_port: 0,
            announced_ip: String::new(),
        }
    }

    #[test]
    fn only_replicas_that_follow_and_were_heard_of_lately_count() {
        let table = ReplicaTable::default();
        let stream = table.begin();
        let list = vec![
            ack(10, 0, 99_000, ReplicaState::Online),
            ack(20, 20, 80_000, ReplicaState::Online),
            ack(30, 30, 99_000, ReplicaState::SendBase),
            ack(5, 0, 0, ReplicaState::Online),
        ];
        assert_eq!((reached(&list, 10), reached(&list, 11)), (2, 1));
        assert_eq!((reached_disk(&list, 10), reached_disk(&list, 0)), (1, 1));
        assert!(table.replace(stream, list));
        assert_eq!(table.good(10, 100_000), 1);
        assert_eq!(table.good(60, 100_000), 2);
        assert_eq!(table.good(u64::MAX, 100_000), 2, "one was never heard of");
    }

    #[test]
    fn the_newest_stream_has_the_table() {
        let table = ReplicaTable::default();
        let old = table.begin();
        let new = table.begin();
        assert!(table.replace(new, vec![ack(1, 0, 1, ReplicaState::Online)]));
        assert!(!table.replace(old, Vec::new()));
        assert_eq!(table.list().len(), 1);
    }
}
