//! Whether the tier can do its work: a state machine with watermarks, and the probe that leads
//! back (DESIGN 7; for operators: `docs/tiering.md`).
//!
//! | state | what goes on | what does not | way back |
//! |---|---|---|---|
//! | healthy | all | | |
//! | damaged | reads, writes | reads of some values; compaction where a file's bytes are wrong | what could not be read can be, or is gone; PURGEROCKSDB, a restart |
//! | low space | reads, deletes, what is queued | moving more values there | free space 1.5 times the line; a compaction that finds room |
//! | failing | reads | all writes | a probe and a flush that succeed |
//!
//! In the last two values stay in memory: commands that need room wait, and are refused in the
//! end with what is the matter. No operation is dropped: what is queued stays queued. Each change
//! of state is logged once. [`next`] is a pure function of what was seen.

mod watch;

pub use watch::{Watch, spawn};

use crate::clock::unix_ms;
use crate::keyspace::cold::key::TierKey;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum State {
    /// All is well.
    #[default]
    Healthy,
    /// Something on the disk can't be read, or is not what was written.
    Damaged,
    /// Little room on the disk, or too little for a compaction.
    LowSpace,
    /// Writes fail.
    Failing,
}

impl State {
    /// Its name in INFO and in logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Damaged => "damaged",
            Self::LowSpace => "low_space",
            Self::Failing => "failing",
        }
    }

    /// For figures: 0 is healthy, more is worse.
    pub fn number(self) -> u64 {
        self as u64
    }
}

/// What the state follows from.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Free bytes of the tier's disk, if that can be told.
    pub free_bytes: Option<u64>,
    /// Less than this is little.
    pub low_bytes: u64,
    /// A write, or a flush, has failed and none has succeeded since.
    pub write_fails: bool,
    /// A compaction found no room, and none has since.
    pub no_room: bool,
    /// A file can't be compacted, or a value can't be read.
    pub damaged: bool,
}

/// The state after `now`.
pub fn next(now: State, seen: &Seen) -> State {
    if seen.write_fails {
        return State::Failing;
    }
    // Up to half as much again: what is freed is not filled at once.
    let line = match now {
        State::LowSpace | State::Failing => seen.low_bytes + seen.low_bytes / 2,
        State::Healthy | State::Damaged => seen.low_bytes,
    };
    if seen.no_room || seen.free_bytes.is_some_and(|free| free < line) {
        State::LowSpace
    } else if seen.damaged {
        State::Damaged
    } else {
        State::Healthy
    }
}

/// Free space below which no more values go to the disk: room for what is queued, for the
/// memtables and for a compaction's file; 2 % of a large disk, at most 1 GB.
pub fn low_bytes(total_bytes: u64, memtable_bytes: u64) -> u64 {
    const LARGE_MAX: u64 = 1 << 30;
    (total_bytes / 50)
        .min(LARGE_MAX)
        .max(2 * memtable_bytes)
        // A disk hardly larger than that would never be used at all.
        .min(total_bytes / 4)
}

/// What is told of the tier's health.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The state.
    pub state: State,
    /// Since when, unix ms; 0: since the start.
    pub since_ms: i64,
    /// Why the tier is not healthy; else empty.
    pub reason: String,
}

/// The state and what it is made of; see the module.
#[derive(Debug, Default)]
pub struct Health {
    report: Mutex<Report>,
    /// What the applier's last write failed with.
    write_error: Mutex<Option<String>>,
    /// The last read that failed, and when that was logged.
    read_error: Mutex<(String, Option<Instant>)>,
    /// Keys that the disk gave no good value for, with the words on it: the first of them.
    unreadable: Mutex<Vec<(TierKey, String)>>,
    refuses_spills: AtomicBool,
    free_bytes: AtomicU64,
    low_bytes: AtomicU64,
    probes: AtomicU64,
    changes: AtomicU64,
    read_errors: AtomicU64,
}

/// Failed reads are logged at most so often; all are counted.
const READ_LOG_PAUSE: Duration = Duration::from_secs(1);
/// So many keys that can't be read are looked at again.
const UNREADABLE_MAX: usize = 16;

impl Health {
    /// The state, since when and why.
    pub fn report(&self) -> Report {
        self.report.lock().clone()
    }

    /// Whether values should stay in memory for now.
    pub fn refuses_spills(&self) -> bool {
        self.refuses_spills.load(Ordering::Relaxed)
    }

    /// Why the tier can't be written.
    pub fn failure(&self) -> Option<String> {
        if let Some(error) = self.write_error.lock().clone() {
            return Some(error);
        }
        let report = self.report.lock();
        (report.state == State::Failing).then(|| report.reason.clone())
    }

    /// Figures for INFO and metrics: free bytes, the line, probes, changes of state, reads that
    /// failed.
    pub fn figures(&self) -> [(&'static str, u64); 5] {
        let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        [
            ("disk_free_bytes", load(&self.free_bytes)),
            ("disk_low_bytes", load(&self.low_bytes)),
            ("probes", load(&self.probes)),
            ("state_changes", load(&self.changes)),
            ("read_errors", load(&self.read_errors)),
        ]
    }

    /// The last read that failed; empty without one.
    pub fn last_read_error(&self) -> String {
        self.read_error.lock().0.clone()
    }

    /// The applier could not write.
    pub fn write_failed(&self, error: String) {
        *self.write_error.lock() = Some(error);
    }

    /// The applier has written.
    pub fn write_succeeded(&self) {
        let mut error = self.write_error.lock();
        if error.is_some() {
            *error = None;
        }
    }

    /// A value could not be read, or is not what it must be. `text` names its key, and so does `key` if
    /// the disk is to blame, which may be better later.
    pub fn read_failed(&self, text: &str, key: Option<&TierKey>) {
        self.read_errors.fetch_add(1, Ordering::Relaxed);
        if let Some(key) = key {
            let mut unreadable = self.unreadable.lock();
            if unreadable.len() < UNREADABLE_MAX && unreadable.iter().all(|(noted, _)| noted != key)
            {
                unreadable.push((key.clone(), text.to_owned()));
            }
        }
        let mut last = self.read_error.lock();
        last.0.clear();
        last.0.push_str(text);
        if last.1.is_none_or(|at| at.elapsed() >= READ_LOG_PAUSE) {
            last.1 = Some(Instant::now());
            tracing::error!(error = text, "tier read failed");
        }
    }

    /// What a command is refused with that found no room, if it is the tier's fault.
    pub fn refusal(&self) -> Option<String> {
        let report = self.report.lock();
        match report.state {
            State::Healthy | State::Damaged => None,
            State::LowSpace => Some(format!("OOM {}", report.reason)),
            State::Failing => Some(format!("OOM the tier can't be written: {}", report.reason)),
        }
    }

    /// How long the tier has not taken values.
    pub fn closed_for(&self) -> Duration {
        let report = self.report.lock();
        let since_ms = match report.state {
            State::Healthy | State::Damaged => return Duration::ZERO,
            State::LowSpace | State::Failing => report.since_ms,
        };
        Duration::from_millis(u64::try_from(unix_ms() - since_ms).unwrap_or(0))
    }

    /// Goes over to the state that follows from what was seen; whether it is another one.
    fn enter(&self, seen: &Seen, reason: impl FnOnce(State) -> String) -> bool {
        self.free_bytes
            .store(seen.free_bytes.unwrap_or(0), Ordering::Relaxed);
        self.low_bytes.store(seen.low_bytes, Ordering::Relaxed);
        let mut report = self.report.lock();
        let state = next(report.state, seen);
        let text = reason(state);
        if state == report.state {
            report.reason = text;
            return false;
        }
        let from = report.state.word();
        *report = Report {
            state,
            since_ms: unix_ms(),
            reason: text,
        };
        self.changes.fetch_add(1, Ordering::Relaxed);
        let closed = matches!(state, State::LowSpace | State::Failing);
        self.refuses_spills.store(closed, Ordering::Relaxed);
        let (to, reason) = (state.word(), &report.reason);
        match state {
            State::Healthy => tracing::warn!(from, "the tier is healthy again"),
            State::LowSpace => tracing::warn!(from, to, %reason, "the tier takes no more values"),
            State::Damaged => tracing::error!(from, to, %reason, "the tier is not compacted"),
            State::Failing => tracing::error!(from, to, %reason, "the tier can't be written"),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: u64 = 100;

    fn seen(free: u64, write_fails: bool, damaged: bool) -> Seen {
        Seen {
            free_bytes: Some(free),
            low_bytes: LOW,
            write_fails,
            no_room: false,
            damaged,
        }
    }

    #[test]
    fn little_room_closes_the_tier_until_there_is_half_as_much_again() {
        let full = next(State::Healthy, &seen(LOW - 1, false, false));
        assert_eq!(full, State::LowSpace);
        assert_eq!(next(full, &seen(LOW + 1, false, false)), State::LowSpace);
        assert_eq!(next(full, &seen(LOW * 3 / 2, false, false)), State::Healthy);
        assert_eq!(
            next(State::Healthy, &seen(LOW, false, false)),
            State::Healthy
        );
    }

    #[test]
    fn a_compaction_without_room_closes_the_tier_however_much_is_free() {
        let no_room = Seen {
            no_room: true,
            ..seen(100 * LOW, false, true)
        };
        assert_eq!(next(State::Healthy, &no_room), State::LowSpace);
        let found = seen(100 * LOW, false, false);
        assert_eq!(next(State::LowSpace, &found), State::Healthy);
    }

    #[test]
    fn a_failed_write_is_worst_and_damage_is_told_where_nothing_is_worse() {
        assert_eq!(next(State::LowSpace, &seen(0, true, true)), State::Failing);
        assert_eq!(
            next(State::Failing, &seen(LOW, false, true)),
            State::LowSpace
        );
        assert_eq!(
            next(State::Failing, &seen(2 * LOW, false, true)),
            State::Damaged
        );
        assert_eq!(
            next(State::Damaged, &seen(2 * LOW, false, false)),
            State::Healthy
        );
        let unknown = Seen {
            free_bytes: None,
            ..seen(0, false, false)
        };
        assert_eq!(next(State::Healthy, &unknown), State::Healthy);
    }

    #[test]
    fn the_line_leaves_room_for_memtables_and_small_disks_usable() {
        const MB: u64 = 1 << 20;
        assert_eq!(low_bytes(24 * MB, 8 * MB), 6 * MB);
        assert_eq!(low_bytes(1 << 30, 8 * MB), (1 << 30) / 50);
        assert_eq!(low_bytes(400 << 30, 8 * MB), 1 << 30);
        assert_eq!(low_bytes(400 * MB, 8 * MB), 16 * MB);
    }

    #[test]
    fn changes_are_counted_and_refusals_say_what_is_the_matter() {
        let health = Health::default();
        assert!(!health.enter(&seen(LOW, false, false), |_| String::new()));
        assert_eq!(health.refusal(), None);
        assert!(health.enter(&seen(1, false, false), |_| "the disk is full".into()));
        assert!(health.refuses_spills());
        assert_eq!(health.refusal().as_deref(), Some("OOM the disk is full"));
        assert!(health.enter(&seen(1, true, false), |_| "no such file".into()));
        assert_eq!(health.failure().as_deref(), Some("no such file"));
        assert!(health.enter(&seen(LOW * 2, false, false), |_| String::new()));
        assert_eq!((health.failure(), health.refuses_spills()), (None, false));
        assert_eq!(health.changes.load(Ordering::Relaxed), 3);
    }
}
