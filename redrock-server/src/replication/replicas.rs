//! What the attached replicas have acknowledged: for WAIT, WAITAOF, INFO, ROLE and
//! `min-replicas-to-write`.
//!
//! The agent states the whole list each time; when its stream ends all replicas count as gone. Only
//! `min-replicas-to-write` goes on by what they said last, for `min-replicas-max-lag`: the agent's
//! death is no replica's silence, and they come back to the next one.

use crate::log::state::LogKind;
use parking_lot::Mutex;
use redrock_proto::model::{ReplicaAck, ReplicaState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// As many as an agent takes.
const FORMER_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct ReplicaTable {
    list: watch::Sender<Arc<Vec<ReplicaAck>>>,
    /// What an agent that is gone said last.
    former: Mutex<Arc<Vec<ReplicaAck>>>,
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

    /// The stream of the agent has ended. False if a newer one has the table.
    pub fn leave(&self, stream: u64) -> bool {
        let last = self.list();
        let is_newest = self.replace(stream, Vec::new());
        if is_newest && !last.is_empty() {
            let mut former = self.former.lock();
            *former = Arc::new(merged(&former, &last));
        }
        is_newest
    }

    /// The table now.
    pub fn list(&self) -> Arc<Vec<ReplicaAck>> {
        self.list.borrow().clone()
    }

    /// Until so many replicas count as `count` does it, or for `timeout`; how many do then.
    pub async fn wait(
        &self,
        wanted: usize,
        timeout: Option<Duration>,
        count: impl Fn(&[ReplicaAck]) -> usize,
    ) -> usize {
        let mut list = self.list.subscribe();
        // However it ended: the count tells what is. What was seen is borrowed and must be given back first:
        // the next list waits for that, and who looks at the table waits for the next list.
        let _ = within(timeout, list.wait_for(|list| count(list) >= wanted)).await;
        count(&self.list())
    }

    /// The table and its changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Vec<ReplicaAck>>> {
        self.list.subscribe()
    }

    /// Replicas that follow the stream and were heard of within `lag_s_max` seconds, be it by an
    /// agent that is gone.
    pub fn good(&self, lag_s_max: u64, now_ms: i64) -> usize {
        let oldest_ms = (now_ms.max(0) as u64).saturating_sub(lag_s_max.saturating_mul(1000));
        let good = |list: &[ReplicaAck]| {
            let online = list.iter().filter(|r| r.state == ReplicaState::Online);
            online
                .filter(|r| r.acked_unix_ms >= oldest_ms.max(1))
                .count()
        };
        // The same ones may be in both.
        good(&self.list.borrow()).max(good(&self.former.lock()))
    }
}

/// The work's result, unless the time ends first.
pub(super) async fn within<T>(
    timeout: Option<Duration>,
    work: impl Future<Output = T>,
) -> Option<T> {
    match timeout.map(|timeout| Instant::now().checked_add(timeout)) {
        Some(Some(deadline)) => tokio::time::timeout_at(deadline, work).await.ok(),
        // No timeout, or one beyond all clocks.
        Some(None) | None => Some(work.await),
    }
}

/// What two agents in a row have said: of a replica that the later one had not heard of yet, what the
/// earlier one had.
fn merged(earlier: &[ReplicaAck], later: &[ReplicaAck]) -> Vec<ReplicaAck> {
    // Its own port is another on each link.
    let place = |ack: &ReplicaAck| {
        let host = ack
            .address
            .rsplit_once(':')
            .map(|(host, _)| host.to_owned());
        (host, ack.listening_port)
    };
    let mut both = later.to_vec();
    for ack in earlier {
        let found = both.iter().position(|known| place(known) == place(ack));
        if let Some(known) = found.and_then(|at| both.get_mut(at)) {
            known.acked_unix_ms = known.acked_unix_ms.max(ack.acked_unix_ms);
        } else if both.len() < FORMER_MAX {
            both.push(ack.clone());
        }
    }
    both
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

/// How many of those that have reached an offset may be told of. While no log is kept nothing is
/// counted that is written: that they have reached where the stream stands says nothing of it.
pub fn told(kind: LogKind, reached: usize) -> usize {
    match kind {
        LogKind::None => 0,
        LogKind::AppendOnly | LogKind::Replication => reached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

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

    /// A list that is still borrowed when the next one comes would keep both from going on.
    #[test]
    fn who_waits_and_who_tells_do_not_wait_for_each_other() {
        let table = Arc::new(ReplicaTable::default());
        let stream = table.begin();
        let list = |offset| vec![ack(offset, 0, 1, ReplicaState::Online)];
        assert!(table.replace(stream, list(0)));
        let looks = Cell::new(0);
        // Who waits looks once for what it waits for, then once more for what there is: by then the
        // table takes a new list.
        let count = |seen: &[ReplicaAck]| {
            looks.set(looks.get() + 1);
            if looks.get() == 2 {
                let (done, ended) = std::sync::mpsc::channel();
                let table = table.clone();
                let new = list(1);
                std::thread::spawn(move || done.send(table.replace(stream, new)));
                let told = ended.recv_timeout(Duration::from_secs(20));
                assert_eq!(told, Ok(true), "they wait for each other");
            }
            reached(seen, 0)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        for timeout in [None, Some(Duration::from_secs(60))] {
            looks.set(0);
            assert_eq!(runtime.block_on(table.wait(1, timeout, count)), 1);
            assert_eq!(looks.get(), 2);
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
        let kinds = [LogKind::AppendOnly, LogKind::Replication, LogKind::None];
        assert_eq!(kinds.map(|kind| told(kind, 2)), [2, 2, 0]);
        assert!(table.replace(stream, list));
        assert_eq!(table.good(10, 100_000), 1);
        assert_eq!(table.good(60, 100_000), 2);
        assert_eq!(table.good(u64::MAX, 100_000), 2, "one was never heard of");
    }

    #[test]
    fn what_an_agent_said_last_counts_until_it_is_too_old() {
        let table = ReplicaTable::default();
        let first = table.begin();
        let online = |at_ms| ack(10, 0, at_ms, ReplicaState::Online);
        assert!(table.replace(first, vec![online(99_000), online(95_000)]));
        assert!(table.leave(first));
        assert!(table.list().is_empty(), "WAIT and INFO see nobody");
        assert_eq!(table.good(10, 100_000), 2);
        assert_eq!(table.good(10, 106_000), 1);
        // One of the two is back, and counts once.
        let second = table.begin();
        assert!(table.replace(second, vec![online(106_000)]));
        assert_eq!(table.good(10, 106_000), 1);
        assert_eq!(table.good(10, 104_000), 2);
        assert!(!table.leave(first) && table.good(10, 110_000) == 1);
        // The next one dies before it has heard of anybody.
        let silent = vec![ack(10, 0, 0, ReplicaState::Online)];
        assert!(table.replace(second, silent) && table.leave(second));
        assert_eq!(table.good(10, 104_000), 1);
        let second = table.begin();
        // One that left while the agent was there is gone at once.
        assert!(table.replace(second, Vec::new()));
        assert_eq!(table.good(10, 110_000), 0);
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
