//! How far a long action is: counted by the threads that do it, read by those who watch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
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
    bytes_total: AtomicU64,
    /// Bytes and keys of the parts that are done.
    parts: (AtomicU64, AtomicU64),
    keys_done: AtomicU64,
    keys_total: AtomicU64,
    cold_records: AtomicU64,
    cold_bytes: AtomicU64,
    accepted: Instant,
    /// When it went on from waiting.
    began: OnceLock<Instant>,
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
                bytes_total: AtomicU64::new(0),
                parts: Default::default(),
                keys_done: AtomicU64::new(0),
                keys_total: AtomicU64::new(0),
                cold_records: AtomicU64::new(0),
                cold_bytes: AtomicU64::new(0),
                accepted: Instant::now(),
                began: OnceLock::new(),
                cut: Mutex::default(),
            }),
        }
    }

    /// Enters a phase; phases never go back.
    pub fn enter(&self, phase: v1::Phase) {
        if phase > v1::Phase::Waiting {
            self.inner.began.get_or_init(Instant::now);
        }
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

    /// So many bytes more are to be handled.
    pub fn expect_bytes(&self, bytes: u64) {
        self.inner.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// States how much has been written in all, or of the present part.
    pub fn written(&self, bytes: u64, keys: u64) {
        let (bytes_before, keys_before) = &self.inner.parts;
        let bytes = bytes_before.load(Ordering::Relaxed) + bytes;
        let keys = keys_before.load(Ordering::Relaxed) + keys;
        self.inner.bytes_done.store(bytes, Ordering::Relaxed);
        self.inner.keys_done.store(keys, Ordering::Relaxed);
    }

    /// A part of so many bytes is done, and what is stated from now on is of the next one.
    pub fn end_part(&self, bytes: u64) {
        let (bytes_before, keys_before) = &self.inner.parts;
        let bytes = bytes + bytes_before.fetch_add(bytes, Ordering::Relaxed);
        self.inner.bytes_done.store(bytes, Ordering::Relaxed);
        let keys = self.inner.keys_done.load(Ordering::Relaxed);
        keys_before.store(keys, Ordering::Relaxed);
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
        let progress = v1::Progress {
            phase: self.phase().into(),
            bytes_done: self.inner.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.inner.bytes_total.load(Ordering::Relaxed),
            keys_done: self.inner.keys_done.load(Ordering::Relaxed),
            keys_total: self.inner.keys_total.load(Ordering::Relaxed),
            elapsed_ms: millis(self.elapsed()),
            ..v1::Progress::default()
        };
        let began = self.inner.began.get().unwrap_or(&self.inner.accepted);
        progress.with_pace(began.elapsed())
    }
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
    fn a_message_tells_the_pace_since_the_work_began() {
        let progress = ActionProgress::new();
        progress.expect_keys(200);
        assert_eq!(progress.message().percent, None);
        std::thread::sleep(Duration::from_millis(40));
        progress.enter(v1::Phase::Streaming);
        std::thread::sleep(Duration::from_millis(10));
        progress.written(10_000_000, 100);
        let message = progress.message();
        assert_eq!(message.percent, Some(50.0));
        let left_ms = message.left_ms.unwrap();
        let waited_ms = message.elapsed_ms;
        assert!(left_ms + 35 <= waited_ms, "{left_ms} of {waited_ms}");
        assert!(message.note.starts_with("50.0 % of 200 keys, "));
    }

    #[test]
    fn parts_add_up() {
        let progress = ActionProgress::new();
        progress.expect_bytes(100);
        progress.expect_bytes(50);
        progress.written(60, 3);
        progress.end_part(100);
        progress.written(10, 1);
        let message = progress.message();
        assert_eq!((message.bytes_done, message.bytes_total), (110, 150));
        assert_eq!(message.keys_done, 4);
    }
}
