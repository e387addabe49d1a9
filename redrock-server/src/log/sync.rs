//! The thread that makes the log durable, and how writers wait for it.
//!
//! - `everysec`: one fdatasync a second if something was written, begun early by twice what those
//!   before it took: what is older than a second is durable, and a power loss takes no more. When
//!   one takes much longer, writers wait as soon as what is not durable spans two seconds.
//! - `always`: group commit. Workers hold their replies and ask for a sync; one sync covers all
//!   that was written before it began, then every worker is told.
//! - `no`: never, but at the end of a segment. So it is under the others while syncs are held back
//!   ([`super::hold`]).

use super::EffectLog;
use super::health::Health;
use crate::server::Server;
use redrock_log::writer::SyncError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// `appendfsync`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FsyncPolicy {
    /// Once a second.
    EverySecond = 0,
    /// Before each reply.
    Always = 1,
    /// When the kernel likes.
    No = 2,
}

/// What workers ask of the sync thread.
#[derive(Debug, Default)]
pub(super) struct SyncSignal {
    pub(super) wanted: bool,
    stop: bool,
}

/// Age of not durable bytes past which writers wait under `everysec`.
const STALL_MS_MAX: u64 = 2000;
/// Age that bytes reach at most under `everysec` before they are durable.
const TICK: Duration = Duration::from_secs(1);
/// How much before its second a sync begins, at least and at most.
const LEAD_MIN: Duration = Duration::from_millis(20);
const LEAD_MAX: Duration = Duration::from_millis(500);
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

impl EffectLog {
    /// The policy in force: nobody waits for what only replicas need, nor while syncs are held back.
    pub fn policy(&self) -> FsyncPolicy {
        if self.is_for_replicas() || self.is_sync_held() {
            return FsyncPolicy::No;
        }
        self.configured_policy()
    }

    /// `appendfsync`
    pub(super) fn configured_policy(&self) -> FsyncPolicy {
        match self.policy.load(Ordering::Relaxed) {
            1 => FsyncPolicy::Always,
            2 => FsyncPolicy::No,
            _ => FsyncPolicy::EverySecond,
        }
    }

    /// Changes the policy; replies held under the old one are looked at again.
    pub fn set_policy(&self, policy: FsyncPolicy) {
        self.policy.store(policy as u8, Ordering::Relaxed);
        self.covered_ms.store(self.elapsed_ms(), Ordering::Release);
        self.request_sync();
        self.advanced();
    }

    /// How often writers waited for a stalled sync (`aof_delayed_fsync`).
    pub fn delayed_syncs(&self) -> u64 {
        self.delayed_syncs.load(Ordering::Relaxed)
    }

    pub(super) fn request_sync(&self) {
        let mut signal = self.signal.lock();
        if !signal.wanted {
            signal.wanted = true;
            self.signalled.notify_one();
        }
    }

    /// `everysec`: slows a writer down while what is not durable is too old.
    pub(super) fn wait_for_stalled_sync(&self) {
        if self.policy() != FsyncPolicy::EverySecond || !self.is_stalled() {
            return;
        }
        self.delayed_syncs.fetch_add(1, Ordering::Relaxed);
        let mut signal = self.signal.lock();
        while self.is_stalled() && !self.failing.load(Ordering::Acquire) && !signal.stop {
            // The time limit covers a notification between the look and the wait.
            self.synced.wait_for(&mut signal, Duration::from_millis(50));
        }
    }

    fn is_stalled(&self) -> bool {
        let covered = self.covered_ms.load(Ordering::Acquire);
        self.open.load(Ordering::Relaxed) && self.elapsed_ms() > covered + STALL_MS_MAX
    }

    /// Makes durable what is written; true if it is.
    pub fn sync_now(&self) -> bool {
        let began = self.elapsed_ms();
        let Some(syncer) = self.syncer.lock().clone() else {
            self.covered_ms.store(began, Ordering::Release);
            return true;
        };
        let result = if syncer.is_dirty() {
            syncer.sync(crate::clock::unix_ms() as u64)
        } else {
            Ok(syncer.durable_offset())
        };
        match result {
            Ok(offset) => {
                // The segment may have been replaced by one of another stream meanwhile, whose
                // offsets mean something else.
                let present = self.syncer.lock();
                let same = present
                    .as_ref()
                    .is_some_and(|present| present.is_same(&syncer));
                let advanced = same && self.durable.fetch_max(offset, Ordering::AcqRel) < offset;
                drop(present);
                self.covered_ms.store(began, Ordering::Release);
                self.synced.notify_all();
                if advanced {
                    self.publish();
                    if self.policy() == FsyncPolicy::Always {
                        self.advanced();
                        if let Some(observer) = self.observer.get() {
                            observer.synced(self.elapsed_ms().saturating_sub(began));
                        }
                    }
                }
                true
            }
            Err(SyncError::Failed(error)) => {
                self.sync_failed(crate::config::os_error_text(&error));
                self.synced.notify_all();
                false
            }
            Err(SyncError::FailedBefore) => false,
        }
    }

    /// The sync thread's work until [`EffectLog::stop_syncing`].
    pub fn run_sync(&self) {
        // How long syncs take is not known yet.
        let mut lead = LEAD_MAX;
        let mut next = Instant::now() + TICK - lead;
        loop {
            let asked = {
                let mut signal = self.signal.lock();
                if !signal.wanted && !signal.stop {
                    let until = match self.health() {
                        Health::Good => next,
                        _ => next.min(Instant::now() + PROBE_INTERVAL),
                    };
                    self.signalled.wait_until(&mut signal, until);
                }
                if signal.stop {
                    return;
                }
                std::mem::take(&mut signal.wanted)
            };
            if self.failing.load(Ordering::Acquire) {
                self.probe();
            }
            let now = Instant::now();
            let ticked = now >= next;
            if ticked {
                // What was appended with no client waiting for it: expiry.
                if self.has_unwritten() && !self.failing.load(Ordering::Acquire) {
                    self.write_out(self.appended_offset());
                }
            }
            self.sync_if_due(asked, ticked);
            if ticked {
                lead = next_lead(lead, now.elapsed());
                next = now + TICK - lead;
            }
        }
    }

    /// Syncs if the policy wants it: somebody has `asked` for it, or another second has `ticked`.
    pub(super) fn sync_if_due(&self, asked: bool, ticked: bool) {
        match self.policy() {
            FsyncPolicy::EverySecond if ticked => _ = self.sync_now(),
            FsyncPolicy::Always if asked || ticked => _ = self.sync_now(),
            _ => {}
        }
    }

    /// Ends the sync thread and wakes who waits for it.
    pub fn stop_syncing(&self) {
        self.signal.lock().stop = true;
        self.signalled.notify_all();
        self.synced.notify_all();
    }
}

/// How much before its second the next sync begins, after one that took `took`: bytes written
/// just behind its beginning wait for the next one to end.
fn next_lead(former: Duration, took: Duration) -> Duration {
    // One that was quick says little of the next.
    let slowly_less = former * 7 / 8;
    (took * 2).max(slowly_less).clamp(LEAD_MIN, LEAD_MAX)
}

/// Starts the sync thread.
pub fn spawn(server: Arc<Server>) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("log-sync".into())
        .spawn(move || {
            let _watch = server.fate.watch("log-sync");
            server.log.run_sync();
        })
}
