//! How far a long action is: counted by the threads that do it, read by those who watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redrock_proto::v1;
use tokio::sync::watch;

/// Counters of one action. Clones are the same.
#[derive(Debug, Clone)]
pub struct ActionProgress {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: watch::Sender<v1::Phase>,
    bytes_done: AtomicU64,
    keys_done: AtomicU64,
    keys_total: AtomicU64,
    cold_records: AtomicU64,
    cold_bytes: AtomicU64,
    accepted: Instant,
    cut: Mutex<Cut>,
}

/// Which cut the action works from.
#[derive(Debug, Default)]
struct Cut {
    /// Its number, once it was made.
    number: Option<u64>,
    /// A cut with at most this number is not wanted any more; 0: any is.
    refused_up_to: u64,
}

impl Default for ActionProgress {
    fn default() -> ActionProgress {
        ActionProgress::new()
    }
}

impl ActionProgress {
    /// In phase WAITING, accepted now.
    pub fn new() -> ActionProgress {
        ActionProgress {
            inner: Arc::new(Inner {
                phase: watch::Sender::new(v1::Phase::Waiting),
                bytes_done: AtomicU64::new(0),
                keys_done: AtomicU64::new(0),
                keys_total: AtomicU64::new(0),
                cold_records: AtomicU64::new(0),
                cold_bytes: AtomicU64::new(0),
                accepted: Instant::now(),
                cut: Mutex::default(),
            }),
        }
    }

    /// Enters a phase; phases never go back.
    pub fn enter(&self, phase: v1::Phase) {
        self.inner.phase.send_if_modified(|present| {
            let forward = phase > *present;
            if forward {
                *present = phase;
            }
            forward
        });
    }

    pub fn phase(&self) -> v1::Phase {
        *self.inner.phase.borrow()
    }

    /// True while a request of the same kind may still share the action.
    pub fn is_before_cut(&self) -> bool {
        self.phase() <= v1::Phase::Cut
    }

    /// The cut has been made; false if one with that number is not wanted any more.
    pub fn note_cut(&self, number: u64) -> bool {
        let mut cut = self.inner.cut.lock();
        cut.number = Some(number);
        number > cut.refused_up_to
    }

    /// Whether the cut was made and has at most this number. One that is still to be made is
    /// refused if it has.
    pub fn refuse_cut(&self, up_to: u64) -> bool {
        let mut cut = self.inner.cut.lock();
        cut.refused_up_to = cut.refused_up_to.max(up_to);
        cut.number.is_some_and(|number| number <= up_to)
    }

    /// Whether the cut was made and has a number above this.
    pub fn is_newer_than(&self, number: u64) -> bool {
        self.inner.cut.lock().number.is_some_and(|cut| cut > number)
    }

    pub fn expect_keys(&self, keys: u64) {
        self.inner.keys_total.store(keys, Ordering::Relaxed);
    }

    /// States how much has been written in all.
    pub fn written(&self, bytes: u64, keys: u64) {
        self.inner.bytes_done.store(bytes, Ordering::Relaxed);
        self.inner.keys_done.store(keys, Ordering::Relaxed);
    }

    /// Counts a cold record.
    pub fn copied(&self, bytes: u64) {
        self.inner.cold_records.fetch_add(1, Ordering::Relaxed);
        self.inner.cold_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Cold records and their bytes so far.
    pub fn cold(&self) -> (u64, u64) {
        (
            self.inner.cold_records.load(Ordering::Relaxed),
            self.inner.cold_bytes.load(Ordering::Relaxed),
        )
    }

    pub fn elapsed(&self) -> Duration {
        self.inner.accepted.elapsed()
    }

    /// Told at every change of phase.
    pub fn subscribe(&self) -> watch::Receiver<v1::Phase> {
        self.inner.phase.subscribe()
    }

    /// As a message, without outcome.
    pub fn message(&self) -> v1::Progress {
        let elapsed = self.elapsed();
        let bytes_done = self.inner.bytes_done.load(Ordering::Relaxed);
        let keys_done = self.inner.keys_done.load(Ordering::Relaxed);
        let keys_total = self.inner.keys_total.load(Ordering::Relaxed);
        v1::Progress {
            phase: self.phase().into(),
            bytes_done,
            bytes_total: 0,
            keys_done,
            keys_total,
            elapsed_ms: millis(elapsed),
            note: note(bytes_done, keys_done, keys_total, elapsed),
            outcome: None,
        }
    }
}

/// Percent, rate and the time that is left, for people.
fn note(bytes: u64, keys: u64, keys_total: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if keys == 0 || keys_total == 0 || seconds < 0.001 {
        return String::new();
    }
    let part = keys as f64 / keys_total as f64;
    let left = seconds / part - seconds;
    format!(
        "{:.1} % of {keys_total} keys, {:.1} MB/s, {:.0} s left",
        part * 100.0,
        bytes as f64 / seconds / 1e6,
        left.max(0.0)
    )
}

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Now, in unix milliseconds.
pub fn unix_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_never_go_back() {
        let progress = ActionProgress::new();
        assert!(progress.is_before_cut());
        progress.enter(v1::Phase::Streaming);
        progress.enter(v1::Phase::Cut);
        assert_eq!(progress.phase(), v1::Phase::Streaming);
        assert!(!progress.is_before_cut());
    }

    #[test]
    fn a_cut_that_was_refused_before_it_was_known_is_not_wanted() {
        let progress = ActionProgress::new();
        assert!(!progress.refuse_cut(3), "it has none yet");
        assert!(!progress.refuse_cut(2));
        assert!(!progress.note_cut(3));
        assert!(progress.refuse_cut(3) && !progress.refuse_cut(2));
        let later = ActionProgress::new();
        later.refuse_cut(3);
        assert!(!later.is_newer_than(3) && later.note_cut(4));
        assert!(later.is_newer_than(3) && !later.is_newer_than(4));
    }

    #[test]
    fn a_message_tells_percent_and_time_left() {
        let text = note(10_000_000, 50, 200, Duration::from_secs(10));
        assert_eq!(text, "25.0 % of 200 keys, 1.0 MB/s, 30 s left");
        assert!(note(0, 0, 200, Duration::from_secs(1)).is_empty());
    }
}
