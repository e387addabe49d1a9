//! Why the log refuses writes, and how it comes back (DESIGN 5).
//!
//! | state | what happened | writes | replies at hand | ends |
//! |---|---|---|---|---|
//! | no space | a write found the disk full | refused | go, thanks to the ballast | the ballast can be made again |
//! | write | a write failed otherwise | refused | wait | a probe writes what is at hand |
//! | sync | an fsync failed | refused; under `always` the server stops | go | a fresh base has landed |

use super::EffectLog;
use super::batch::Batch;
use super::sync::FsyncPolicy;
use std::sync::atomic::Ordering;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// All is well.
    #[default]
    Good,
    /// No space left.
    NoSpace,
    /// A write failed with this text.
    Write(String),
    /// An fsync failed with this text: sticky.
    Sync(String),
}

impl Health {
    /// The system's text for what is wrong.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Good => None,
            Self::NoSpace => Some("No space left on device"),
            Self::Write(text) | Self::Sync(text) => Some(text),
        }
    }
}

impl EffectLog {
    /// Whether writes must be refused; cheap, for every command.
    pub fn refuses_writes(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// The error line for a refused write, Redis's.
    pub fn refusal_text(&self) -> Option<String> {
        let health = self.health.lock();
        health
            .text()
            .map(|why| format!("MISCONF Errors writing to the AOF file: {why}"))
    }

    /// The state.
    pub fn health(&self) -> Health {
        self.health.lock().clone()
    }

    /// Enters a failing state; a failed fsync stays whatever comes later.
    pub(super) fn fails(&self, new: Health) {
        let mut health = self.health.lock();
        if matches!(*health, Health::Sync(_)) || *health == new {
            return;
        }
        if let Some(why) = new.text() {
            tracing::error!(
                why,
                "the append only file can't be written, refusing writes"
            );
        }
        *health = new;
        self.failing.store(true, Ordering::Release);
        drop(health);
        self.publish();
    }

    /// An fsync has failed: under `always` nothing may be acknowledged any more.
    pub(super) fn sync_failed(&self, why: String) {
        self.fails(Health::Sync(why.clone()));
        let always = self.configured_policy() == FsyncPolicy::Always;
        if always && !self.is_for_replicas() {
            self.fatal(&format!(
                "can't persist AOF for fsync error when the AOF fsync policy is 'always': {why}"
            ));
        }
    }

    fn recovers(&self) {
        *self.health.lock() = Health::Good;
        self.failing.store(false, Ordering::Release);
        tracing::warn!("AOF write error looks solved. The server can write again.");
        self.publish();
        self.advanced();
    }

    /// What failed has no say any more: the append-only file is off.
    pub(super) fn forget_failure(&self) {
        let mut health = self.health.lock();
        if *health != Health::Good {
            *health = Health::Good;
            self.failing.store(false, Ordering::Release);
            drop(health);
            self.advanced();
        }
    }

    /// Leaves a log that can't be written where it ends: what is at hand is dropped and nobody
    /// waits for it. For a stream that others have too. Called with all shards held; waits for a
    /// write under way.
    pub fn abandon(&self) {
        let mut writer = self.writer.lock();
        let mut pending = self.pending.lock();
        self.enabled.store(false, Ordering::Release);
        self.open.store(false, Ordering::Release);
        let switches = [writer.switch.take(), pending.switch.take()];
        for switch in switches.into_iter().flatten() {
            switch.refuse("the log is left");
        }
        writer.batch = Batch::default();
        pending.batch = Batch::default();
        writer.segment = None;
        *self.syncer.lock() = None;
        let appended = self.appended.load(Ordering::Acquire);
        self.written.store(appended, Ordering::Release);
        drop(pending);
        drop(writer);
        self.leave_stream();
    }

    /// Tries to come back from a failing state. Called by the sync thread.
    pub(super) fn probe(&self) {
        match self.health() {
            Health::Good | Health::Sync(_) => return,
            Health::NoSpace | Health::Write(_) => {}
        }
        let appended = self.appended.load(Ordering::Acquire);
        if !self.write_out(appended) {
            return;
        }
        // What waits to be sent may go even if there is no room for more.
        self.advanced();
        let writer = self.writer.lock();
        // Without the reserve the next full disk would leave replies hanging.
        let filled = writer
            .ballast
            .as_ref()
            .is_none_or(|ballast| ballast.fill().is_ok());
        drop(writer);
        if filled {
            self.recovers();
        }
    }

    /// A base made from a cut in the present segment has landed: what a failed fsync may have
    /// lost is in it.
    pub fn base_landed(&self) {
        let healthy = self
            .syncer
            .lock()
            .as_ref()
            .is_none_or(|syncer| !syncer.has_failed());
        if healthy && matches!(self.health(), Health::Sync(_)) {
            self.recovers();
        }
    }
}
