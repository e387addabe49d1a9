//! The replicas attached: what each has got and acknowledged, who must go.
//!
//! A replica's task writes its own entry; the acknowledgement stream, the
//! service and the watchdog read them. All is counters: nothing here grows
//! with what a replica lags.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use redrock_daemon::handoff::Handoff;
use redrock_proto::model::{ReplicaAck, ReplicaState};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::context::unix_ms;

/// As many as an acknowledgement message may list.
pub(crate) const REPLICAS_MAX: usize = 1024;

/// One replica's figures.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) client_id: u64,
    pub(crate) address: String,
    pub(crate) listening_port: u16,
    pub(crate) announced_ip: String,
    /// Cancelled: its connection is to be closed.
    pub(crate) kick: CancellationToken,
    figures: Mutex<Figures>,
    /// Bytes written to it, for the watchdog of stuck connections.
    pub(crate) progress_unix_ms: AtomicU64,
    changed: Arc<Notify>,
}

/// What changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) state: ReplicaState,
    /// It said SYNC: it acknowledges nothing.
    pub(crate) is_old: bool,
    pub(crate) acked_offset: u64,
    pub(crate) fsynced_offset: u64,
    pub(crate) sent_offset: u64,
    /// 0: nothing came yet.
    pub(crate) acked_unix_ms: u64,
    /// When it came online; the time until the first acknowledgement counts
    /// from here.
    pub(crate) online_unix_ms: u64,
    /// Bytes that it lacked when its sync began.
    pub(crate) lag_at_start: u64,
}

impl Replica {
    pub(crate) fn figures(&self) -> Figures {
        *self.figures.lock()
    }

    /// Changes the figures and lets the server know.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures.lock());
        self.changed.notify_one();
    }

    /// Bytes were written to its socket.
    pub(crate) fn touch(&self) {
        self.progress_unix_ms.store(unix_ms(), Ordering::Relaxed);
    }

    pub(crate) fn ack(&self) -> ReplicaAck {
        let figures = self.figures();
        ReplicaAck {
            client_id: self.client_id,
            state: figures.state,
            acked_offset: figures.acked_offset,
            fsynced_offset: figures.fsynced_offset,
            sent_offset: figures.sent_offset,
            acked_unix_ms: figures.acked_unix_ms,
            address: self.address.clone(),
            listening_port: self.listening_port,
            announced_ip: self.announced_ip.clone(),
        }
    }
}

/// Why a peer isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("{REPLICAS_MAX} replicas are attached already")]
    Full,
    #[error("a replica with this client id is attached already")]
    Twice,
}

/// All replicas attached, and counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    replicas: Mutex<BTreeMap<u64, Arc<Replica>>>,
    /// Rung at every change; one listener.
    pub(crate) changed: Arc<Notify>,
    pub(crate) sync_full: AtomicU64,
    pub(crate) sync_partial_ok: AtomicU64,
    pub(crate) sync_partial_err: AtomicU64,
    /// Full syncs that went on where a link had broken; they count as none of the others.
    pub(crate) sync_resumed: AtomicU64,
}

impl Registry {
    /// Takes a replica in; the guard's drop takes it out.
    pub(crate) fn admit(
        self: &Arc<Registry>,
        handoff: &Handoff,
        kick: CancellationToken,
    ) -> Result<Membership, AdmitError> {
        let replica = Arc::new(Replica {
            client_id: handoff.client_id,
            address: handoff.address.chars().take(200).collect(),
            listening_port: handoff.listening_port,
            announced_ip: handoff.announced_ip.chars().take(60).collect(),
            kick,
            figures: Mutex::new(Figures {
                state: ReplicaState::WaitBase,
                is_old: false,
                acked_offset: 0,
                fsynced_offset: 0,
                sent_offset: 0,
                acked_unix_ms: 0,
                online_unix_ms: 0,
                lag_at_start: 0,
            }),
            progress_unix_ms: AtomicU64::new(unix_ms()),
            changed: Arc::clone(&self.changed),
        });
        let mut replicas = self.replicas.lock();
        if replicas.len() >= REPLICAS_MAX {
            return Err(AdmitError::Full);
        }
        if replicas.contains_key(&handoff.client_id) {
            return Err(AdmitError::Twice);
        }
        replicas.insert(handoff.client_id, Arc::clone(&replica));
        drop(replicas);
        self.changed.notify_one();
        Ok(Membership {
            registry: Arc::clone(self),
            replica,
        })
    }

    /// Ascending by client id.
    pub(crate) fn all(&self) -> Vec<Arc<Replica>> {
        self.replicas.lock().values().cloned().collect()
    }

    pub(crate) fn acks(&self) -> Vec<ReplicaAck> {
        self.all().iter().map(|replica| replica.ack()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.replicas.lock().len()
    }

    /// Closes connections: those named, or all if none is. How many.
    pub(crate) fn kick(&self, client_ids: &[u64]) -> u32 {
        let replicas = self.replicas.lock();
        let mut kicked = 0;
        for replica in replicas.values() {
            let is_meant = client_ids.is_empty() || client_ids.contains(&replica.client_id);
            if is_meant && !replica.kick.is_cancelled() {
                replica.kick.cancel();
                kicked += 1;
            }
        }
        kicked
    }
}

/// A replica's place in the registry.
#[derive(Debug)]
pub(crate) struct Membership {
    registry: Arc<Registry>,
    pub(crate) replica: Arc<Replica>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.registry
            .replicas
            .lock()
            .remove(&self.replica.client_id);
        self.registry.changed.notify_one();
    }
}

/// Which replica, if any, lags so far that it must go: the slowest of those
/// beyond their limit. `lags` holds, for each, its lag and its limit.
pub(crate) fn slowest_beyond(lags: &[(u64, u64)]) -> Option<usize> {
    lags.iter()
        .enumerate()
        .filter(|(_, (lag, limit))| lag > limit)
        .max_by_key(|(_, (lag, _))| *lag)
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use redrock_daemon::handoff::PeerRequest;

    use super::*;

    pub(crate) fn handoff(client_id: u64) -> Handoff {
        Handoff {
            run_id: "a".repeat(40),
            epoch: 1,
            client_id,
            tls_proxied: false,
            address: "127.0.0.1:5".into(),
            local_address: "127.0.0.1:6379".into(),
            user: "default".into(),
            listening_port: 6380,
            announced_ip: String::new(),
            version: String::new(),
            capabilities: vec![],
            request: PeerRequest::Sync,
            unread: vec![],
        }
    }

    #[test]
    fn members_are_listed_until_they_leave_and_can_be_kicked() {
        let registry = Arc::new(Registry::default());
        let admit = |id| registry.admit(&handoff(id), CancellationToken::new());
        let (two, one) = (admit(2).unwrap(), admit(1).unwrap());
        assert_eq!(admit(2).unwrap_err(), AdmitError::Twice);
        let ids: Vec<_> = registry.acks().iter().map(|ack| ack.client_id).collect();
        assert_eq!(ids, [1, 2]);
        assert_eq!(registry.kick(&[2, 7]), 1);
        assert!(two.replica.kick.is_cancelled() && !one.replica.kick.is_cancelled());
        drop(two);
        assert_eq!(registry.kick(&[]), 1);
        drop(one);
        assert_eq!(registry.len(), 0);
    }

    #[test]
    fn only_the_slowest_beyond_its_limit_goes() {
        assert_eq!(slowest_beyond(&[(10, 20), (15, 15)]), None);
        assert_eq!(slowest_beyond(&[(10, 5), (90, 100), (12, 5)]), Some(2));
        assert_eq!(slowest_beyond(&[]), None);
    }
}
