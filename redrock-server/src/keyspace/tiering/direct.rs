//! Whether the thread of a command that needs a cold value may read it itself.
//!
//! While the page cache has what is asked for, a read takes some microseconds; handing it to the pool
//! costs several times that, for the pool's thread to wake up and for the command's to wake up again.
//! But a thread that serves clients must not wait for a disk. So it reads only as long as nearly all that
//! was read lately, by whomever, was there: the system tells how many blocks a thread has fetched
//! from a device. What is compared is the mean wait of a read with what it costs to hand one over; so where
//! waits are short and few (a fast disk, or a system that takes pages back that it holds idle) commands go on
//! reading. After a longer wait only the pool reads for a hundred times as long, and after a long one, and
//! beside large values, for a second, and for longer each time that this happens again soon.
//!
//! A thread that has one client only makes nobody wait but that one, which waits for less without a
//! hand-over: it reads as long as waits are short, however many they are ([`company`]).

pub mod company;
mod read;
pub mod together;

pub use read::DirectRead;

use crate::clock;
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Keys that are read at once at most; more are the pool's, which other clients don't wait for.
const KEYS_MAX: usize = 4;
/// So long a read may wait on the average, ns, for commands' threads to make it: to hand one over costs
/// several times that in processor time, and a thread that reads as fast as it can then waits for a tenth of
/// its time at most.
const MEAN_WAIT_MAX_NS: u64 = 2_000;
/// The mean is that of about so many reads.
const MEAN_READS: u64 = 256;
/// The same for a thread that has one client only: the wait of a fast disk. It is what another client that comes
/// may have to wait.
const MEAN_WAIT_ALONE_MAX_NS: u64 = SHORT_WAIT_MAX.as_nanos() as u64;
/// The mean at the start: a few hundred reads must have been quick before a command's thread makes one.
const MEAN_WAIT_FIRST_NS: u64 = 3 * MEAN_WAIT_ALONE_MAX_NS;
/// A value of more bytes takes too long to copy, wherever it comes from.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// How long the pool has all reads after one that waited for long: at first, and at most.
const PAUSE_MIN_MS: i64 = 1_000;
const PAUSE_MAX_MS: i64 = 64_000;
/// A wait that is shorter counts for the mean only.
const SHORT_WAIT_MAX: Duration = Duration::from_micros(500);
/// One that is shorter than this is followed by a pause of so many times its length: a fast disk, and a thread
/// that got its processor late.
const MIDDLE_WAIT_MAX: Duration = Duration::from_millis(5);
const PAUSE_PER_WAIT: u32 = 100;
/// Reads in succession after which it is as at first.
const READS_FORGIVEN: u64 = 1 << 18;
/// What a read takes that does not wait, about.
const QUICK_READ: Duration = Duration::from_micros(8);
/// No device answers in less.
const DEVICE_MIN: Duration = Duration::from_micros(30);
/// What takes longer has waited for something: a processor, or a device that the system does not count.
const UNCOUNTED_MIN: Duration = Duration::from_micros(500);
/// Reads that are looked at closely after such a one.
const SUSPECTED_READS: u32 = 1000;
/// Sleeps in them that mean such a device.
const SLEEPS_MIN: u32 = 3;

/// See the module.
#[derive(Debug)]
pub struct Direct {
    /// How long reads waited for a device on the average, those that did not wait included.
    mean_wait_ns: AtomicU64,
    /// Only the pool reads until then, unix ms; 0: no read had to wait for long yet.
    closed_until_ms: AtomicI64,
    pause_ms: AtomicI64,
    /// Reads by commands' threads since one had to wait.
    made: AtomicU64,
}

impl Default for Direct {
    fn default() -> Self {
        Self {
            mean_wait_ns: AtomicU64::new(MEAN_WAIT_FIRST_NS),
            closed_until_ms: AtomicI64::new(0),
            pause_ms: AtomicI64::new(PAUSE_MIN_MS),
            made: AtomicU64::new(0),
        }
    }
}

impl Direct {
    /// Whether a command's thread may read so many keys now.
    pub fn is_open(&self, keys: usize) -> bool {
        let until_ms = self.closed_until_ms.load(Ordering::Relaxed);
        let mean_ns = self.mean_wait_ns.load(Ordering::Relaxed);
        let is_quick = mean_ns <= MEAN_WAIT_MAX_NS
            || (mean_ns <= MEAN_WAIT_ALONE_MAX_NS && company::is_alone());
        keys <= KEYS_MAX && is_quick && (until_ms == 0 || clock::unix_ms() >= until_ms)
    }

    /// The pool has read so many keys; how long that took if it had to wait.
    pub fn note_pool(&self, keys: usize, waited: Option<Duration>) {
        self.note(keys, wait_in(keys, waited));
    }

    /// A command's thread has read so many values, the largest of so many bytes; how long it took if it had
    /// to wait.
    pub fn note_own(&self, keys: usize, waited: Option<Duration>, bytes: usize) {
        let wait = wait_in(keys, waited);
        self.note(keys, wait);
        let pause_ms = if wait >= MIDDLE_WAIT_MAX || bytes > VALUE_BYTES_MAX {
            self.next_pause_ms()
        } else if wait >= SHORT_WAIT_MAX {
            (wait * PAUSE_PER_WAIT).as_millis() as i64
        } else {
            let before = self.made.fetch_add(keys as u64, Ordering::Relaxed);
            if before < READS_FORGIVEN && before + keys as u64 >= READS_FORGIVEN {
                self.pause_ms.store(PAUSE_MIN_MS, Ordering::Relaxed);
            }
            return;
        };
        let until_ms = clock::unix_ms() + pause_ms;
        self.closed_until_ms.fetch_max(until_ms, Ordering::Relaxed);
    }

    /// Takes reads into the mean. One of several threads that do so at once may go uncounted.
    fn note(&self, keys: usize, wait: Duration) {
        let mean_ns = self.mean_wait_ns.load(Ordering::Relaxed);
        let wait_ns = wait.as_nanos() as u64;
        let next_ns = (mean_ns * MEAN_READS + wait_ns) / (MEAN_READS + keys as u64);
        if next_ns != mean_ns {
            self.mean_wait_ns.store(next_ns, Ordering::Relaxed);
        }
    }

    /// The pause after a long wait, and the next one will be longer.
    fn next_pause_ms(&self) -> i64 {
        self.made.store(0, Ordering::Relaxed);
        let pause_ms = self.pause_ms.load(Ordering::Relaxed);
        let next_ms = (2 * pause_ms).min(PAUSE_MAX_MS);
        self.pause_ms.store(next_ms, Ordering::Relaxed);
        pause_ms
    }
}

/// How long it was waited for the device in a batch of reads that took so long if it had to: those that did not
/// wait took their time as well.
fn wait_in(keys: usize, took: Option<Duration>) -> Duration {
    let others = u32::try_from(keys).unwrap_or(u32::MAX).saturating_sub(1);
    took.unwrap_or_default()
        .saturating_sub(QUICK_READ.saturating_mul(others))
}

/// How long the calling thread reads, and whether it waited for a device.
#[derive(Debug)]
pub struct Watch {
    begun: Instant,
    /// How often the thread had slept, if it looks at that.
    sleeps: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Usage {
    /// Blocks that were fetched from devices for the thread.
    blocks: i64,
    /// How often it slept; that another thread got its processor does not count.
    sleeps: i64,
}

impl Usage {
    fn of_thread() -> Self {
        // SAFETY: all bytes zero are a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the call fills what it is given; if it can't there are zeros.
        unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
        Self {
            blocks: usage.ru_inblock,
            sleeps: usage.ru_nvcsw,
        }
    }
}

thread_local! {
    /// Blocks that were fetched for the thread when it last looked.
    static BLOCKS: Cell<i64> = Cell::new(Usage::of_thread().blocks);
    /// So many reads are looked at closely, because one has taken long, for whatever reason; and in so many
    /// of them the thread slept.
    static SUSPECT: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

impl Watch {
    /// Begins now.
    pub fn begin() -> Self {
        BLOCKS.with(|_| ());
        let (left, slept) = SUSPECT.get();
        if left > 0 {
            SUSPECT.set((left - 1, if left > 1 { slept } else { 0 }));
        }
        Self {
            begun: Instant::now(),
            sleeps: (left > 0).then(|| Usage::of_thread().sleeps),
        }
    }

    /// How long ago it began.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long ago it began, if the thread has waited for a device since.
    pub fn waited(&self) -> Option<Duration> {
        let took = self.elapsed();
        self.has_waited().then_some(took)
    }

    /// Whether the thread has waited for a device since.
    pub fn has_waited(&self) -> bool {
        let took = self.elapsed();
        if took < DEVICE_MIN {
            return false;
        }
        let usage = Usage::of_thread();
        let fetched = BLOCKS.replace(usage.blocks) < usage.blocks;
        if fetched || took < UNCOUNTED_MIN {
            return fetched;
        }
        // Not all file systems count what they fetch. But the thread may have slept for something else.
        let sleeps = self.sleeps.is_some_and(|sleeps| sleeps < usage.sleeps);
        let (left, slept) = SUSPECT.get();
        let slept = slept + u32::from(sleeps);
        SUSPECT.set((left.max(SUSPECTED_READS), slept));
        sleeps && slept >= SLEEPS_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many quick reads of the pool's as let commands read that may.
    fn calm(direct: &Direct) {
        for _ in 0..8 * MEAN_READS {
            direct.note_pool(1, None);
        }
    }

    #[test]
    fn commands_read_themselves_only_after_many_quick_reads_and_few_keys() {
        let direct = Direct::default();
        direct.note_pool(MEAN_READS as usize, None);
        assert!(!direct.is_open(1));
        calm(&direct);
        assert!(direct.is_open(1) && direct.is_open(KEYS_MAX));
        assert!(!direct.is_open(KEYS_MAX + 1));
    }

    #[test]
    fn a_thread_with_one_client_reads_from_a_fast_disk_until_another_client_comes() {
        let send = |client| (0..100).for_each(|_| company::note_input(client));
        let direct = Direct::default();
        send(1);
        assert!(!direct.is_open(1), "nothing is known of the disk yet");
        for _ in 0..8 * MEAN_READS {
            direct.note_pool(1, Some(Duration::from_micros(200)));
        }
        assert!(direct.is_open(1));
        company::note_input(2);
        assert!(!direct.is_open(1));
        send(2);
        assert!(direct.is_open(1));
        for _ in 0..8 * MEAN_READS {
            direct.note_pool(1, Some(2 * SHORT_WAIT_MAX));
        }
        assert!(!direct.is_open(1), "a slow disk");
    }

    #[test]
    fn commands_go_on_reading_while_a_read_waits_little_on_the_average() {
        let wait = |every: u64, wait_us: u64| {
            let direct = Direct::default();
            calm(&direct);
            for read in 1..=8 * MEAN_READS {
                let waited = read.is_multiple_of(every);
                direct.note_own(1, waited.then(|| Duration::from_micros(wait_us)), 1);
            }
            direct.is_open(1)
        };
        assert!(wait(128, 100), "0.8 us on the average");
        assert!(wait(512, 300), "0.6 us");
        assert!(!wait(32, 100), "3 us");
        assert!(!wait(1, 10), "10 us");
    }

    /// A batch takes many times as long as a read, and most of it is no wait.
    #[test]
    fn of_a_batch_only_what_it_waited_counts() {
        const KEYS: u32 = 16;
        let wait = Duration::from_micros(100);
        for note in [
            |direct: &Direct, took| direct.note_pool(KEYS as usize, took),
            |direct: &Direct, took| direct.note_own(KEYS as usize, took, 1),
        ] {
            let is_open = |every: u32| {
                let direct = Direct::default();
                calm(&direct);
                for batch in 1..=512 {
                    let waited = batch % every == 0;
                    note(&direct, waited.then_some(wait + QUICK_READ * KEYS));
                }
                direct.is_open(1)
            };
            assert!(is_open(4), "1.6 us a read");
            assert!(!is_open(2), "3.2 us");
        }
    }

    #[test]
    fn who_reads_from_a_device_gives_up_at_once_and_the_pool_says_when_it_is_over() {
        let direct = Direct::default();
        calm(&direct);
        let wait = Some(Duration::from_micros(100));
        let own = (0..)
            .take_while(|_| direct.is_open(1))
            .map(|_| direct.note_own(1, wait, 1));
        let own = own.count();
        assert!((2..=8).contains(&own), "{own}");
        direct.note_pool(16, wait);
        assert!(!direct.is_open(1));
        calm(&direct);
        assert!(direct.is_open(1));
        assert_eq!(direct.pause_ms.load(Ordering::Relaxed), PAUSE_MIN_MS);
    }

    #[test]
    fn a_long_wait_or_a_large_value_gives_all_reads_to_the_pool_for_ever_longer() {
        let direct = Direct::default();
        let long = Some(MIDDLE_WAIT_MAX);
        let mut last_ms = 0;
        for (waited, bytes) in [(long, 1), (None, VALUE_BYTES_MAX + 1), (long, 1)] {
            calm(&direct);
            direct.closed_until_ms.store(0, Ordering::Relaxed);
            assert!(direct.is_open(1));
            direct.note_own(1, None, VALUE_BYTES_MAX);
            assert!(direct.is_open(1));
            direct.note_own(1, waited, bytes);
            calm(&direct);
            assert!(!direct.is_open(1));
            let pause_ms = direct.pause_ms.load(Ordering::Relaxed);
            assert!(pause_ms > last_ms && pause_ms <= PAUSE_MAX_MS);
            last_ms = pause_ms;
        }
        for _ in 0..READS_FORGIVEN {
            direct.note_own(1, None, 1);
        }
        assert_eq!(direct.pause_ms.load(Ordering::Relaxed), PAUSE_MIN_MS);
    }

    #[test]
    fn a_wait_that_is_neither_short_nor_long_gives_them_to_the_pool_for_as_long_as_it_was_worth() {
        let direct = Direct::default();
        for wait_us in [500, 1200, 4999] {
            let before_ms = clock::unix_ms();
            direct.note_own(1, Some(Duration::from_micros(wait_us)), 1);
            let after_ms = clock::unix_ms();
            let until_ms = direct.closed_until_ms.load(Ordering::Relaxed);
            let pause_ms = wait_us as i64 / 10;
            assert!((before_ms + pause_ms..=after_ms + pause_ms).contains(&until_ms));
        }
        assert_eq!(direct.pause_ms.load(Ordering::Relaxed), PAUSE_MIN_MS);
    }

    #[test]
    fn a_thread_has_waited_if_it_slept_in_several_long_reads() {
        let read = || {
            let watch = Watch::begin();
            std::thread::sleep(UNCOUNTED_MIN * 2);
            watch.has_waited()
        };
        for waited in [false, false, false, true, true] {
            assert_eq!(read(), waited);
        }
        SUSPECT.set((0, 0));
        let watch = Watch::begin();
        while watch.elapsed() < DEVICE_MIN {}
        assert!(!watch.has_waited());
    }
}
