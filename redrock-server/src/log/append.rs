//! Appending to the stream, under the shards' locks; no IO but for the overflow of a transaction.

use super::{EffectLog, batch};
use crate::command::effect::{Effect, write_command};
use std::path::Path;
use std::sync::atomic::Ordering;

impl EffectLog {
    /// Appends what a command (or a transaction) changed and clears `effect`; of a replica's own
    /// clients it is only noted that there was something. Called with the shards held.
    pub fn append_effect(&self, effect: &mut Effect) {
        let is_ours = !self.following.load(Ordering::Relaxed);
        if effect.count() > 0 && !is_ours {
            self.set_own_changes(true);
        }
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
            if pending.db != first_db || !pending.is_selected {
                let mut digits = itoa::Buffer::new();
                let digits = digits.format(first_db).as_bytes();
                write_command(pending.batch.memory(), &[b"SELECT", digits]);
            }
            pending.select(last_db);
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
        if let Some(db) = db {
            pending.select(db);
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

#[cfg(test)]
mod tests {
    use super::super::state::LogKind;
    use super::*;
    use crate::log::rotation::SwitchTarget;
    use redrock_log::testing::PowerLossFs;
    use std::sync::Arc;

    fn set(log: &EffectLog, db: usize) {
        let mut effect = Effect::default();
        effect.replace(db, &[b"SET", b"k", b"v"]);
        log.append_effect(&mut effect);
    }

    fn switch_to(log: &EffectLog, name: &str, replid: Option<[u8; 40]>) -> usize {
        let cut = log.cut(Some(SwitchTarget {
            sequence: 1,
            path: Path::new("/d").join(name),
            kind: LogKind::AppendOnly,
            replid,
        }));
        log.wait_switched(cut.switched.unwrap()).unwrap();
        cut.database
    }

    /// Replicas skip a segment's prefix: what a switch knows of the selected database must be what
    /// they have, and an effect that was to select its own still does.
    #[test]
    fn the_streams_database_is_known_while_the_next_effect_is_to_select_its_own() {
        let fs = PowerLossFs::new("/d");
        let log = EffectLog::new(Arc::new(fs.clone()));
        switch_to(&log, "1", Some([b'a'; 40]));
        set(&log, 5);
        log.force_select();
        assert_eq!(log.stream_database(), 5);
        assert_eq!(switch_to(&log, "2", None), 5);
        assert_eq!(log.stream_database(), 5);
        set(&log, 5);
        set(&log, 0);
        log.flush();
        let text = String::from_utf8(fs.content(Path::new("/d/2")).unwrap()).unwrap();
        let selected: Vec<&str> = text.split("SELECT\r\n$1\r\n").skip(1).collect();
        let selected: Vec<&str> = selected.iter().map(|rest| &rest[..1]).collect();
        assert_eq!(selected, ["5", "5", "0"], "{text}");
    }
}
