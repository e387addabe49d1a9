//! Appending to the stream, under the shards' locks; no IO but for the overflow of a transaction.

use super::{EffectLog, batch};
use crate::command::effect::{Effect, write_command};
use std::path::Path;
use std::sync::atomic::Ordering;

impl EffectLog {
    /// Appends what a command (or a transaction) changed and clears `effect`. Called with the
    /// shards held.
    pub fn append_effect(&self, effect: &mut Effect) {
        let is_ours = !self.following.load(Ordering::Relaxed);
        if effect.count() > 0 && is_ours && self.enabled.load(Ordering::Relaxed) {
            let (first_db, last_db) = effect.databases();
            let mut pending = self.pending.lock();
            if !self.enabled.load(Ordering::Relaxed) {
                // Turned off meanwhile.
                drop(pending);
                return effect.clear();
            }
            let before = pending.batch.end();
            let bytes = pending.batch.memory();
            // In Redis's order: the SELECT stands inside the transaction.
            if effect.is_transaction() {
                write_command(bytes, &[b"MULTI"]);
            }
            if pending.db != Some(first_db) {
                let mut digits = itoa::Buffer::new();
                let digits = digits.format(first_db).as_bytes();
                write_command(pending.batch.memory(), &[b"SELECT", digits]);
            }
            pending.db = Some(last_db);
            let mut added = 0;
            if let Some(overflow) = effect.take_overflow() {
                added += overflow.bytes();
                pending.batch.push_file(overflow);
            }
            let bytes = pending.batch.memory();
            bytes.extend_from_slice(effect.commands());
            if effect.is_transaction() {
                write_command(bytes, &[b"EXEC"]);
            }
            added += (pending.batch.end() - before) as u64;
            self.appended.fetch_add(added, Ordering::Release);
        }
        effect.clear();
    }

    /// Appends bytes of the stream as they are: what a replica gets from its master, or PING
    /// and GETACK to replicas. `db` is what they leave selected. Called with the shards held.
    pub fn append_raw(&self, bytes: &[u8], db: Option<usize>) {
        if bytes.is_empty() || !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        let mut pending = self.pending.lock();
        if !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        pending.batch.memory().extend_from_slice(bytes);
        if db.is_some() {
            pending.db = db;
        }
        self.appended
            .fetch_add(bytes.len() as u64, Ordering::Release);
    }

    /// As [`Self::append_raw`], for a transaction of which the first part is in a file.
    pub fn append_overflow(&self, overflow: batch::Overflow, rest: &[u8]) {
        if rest.is_empty() || !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        let mut pending = self.pending.lock();
        if !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        let added = overflow.bytes() + rest.len() as u64;
        pending.batch.push_file(overflow);
        pending.batch.memory().extend_from_slice(rest);
        self.appended.fetch_add(added, Ordering::Release);
    }

    /// A transaction that goes on has much in memory: its effects go to a file in `folder`, or
    /// nowhere if nobody needs the stream. Where no file can be written they stay.
    pub fn relieve_effect(&self, effect: &mut Effect, folder: &Path) {
        if effect.commands().len() < batch::MEMORY_BYTES_MAX || !effect.is_transaction() {
            return;
        }
        let is_ours = !self.following.load(Ordering::Relaxed);
        if is_ours && self.enabled.load(Ordering::Relaxed) {
            if let Err(error) = effect.overflow(folder) {
                tracing::warn!(%error, "effects of a large transaction stay in memory");
            }
        } else {
            effect.forget_commands();
        }
    }
}
