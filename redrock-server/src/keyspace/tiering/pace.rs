//! Back-pressure in proportion: between the line where memory begins to be short and the line where
//! writers wait, commands that grow memory are slowed down to what the tier takes.
//!
//! One clock for all: each command moves it on by what its bytes cost at the present rate, and a
//! client waits until the clock is no longer ahead. So the rate is that of all writers together,
//! and who writes more waits more.

use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// No tier is slower than this, bytes per second: what has not been measured must not stop writers.
const RATE_MIN: u64 = 2 << 20;
/// The rate that counts is one of about so much time.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// No command waits longer than this at a time: what stands still is for the governor to hold.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// Shorter waits are left for the next command.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    /// 0: nobody is slowed down; 1000: writers are about to wait.
    overrun_permille: AtomicU64,
    /// What the tier takes, bytes per second.
    taken_per_second: AtomicU64,
    /// Up to which moment the commands of the past have used up the rate, in ns since `began`.
    used_up_ns: AtomicU64,
    measured: Mutex<Option<(Instant, u64)>>,
    /// How often a command was slowed down.
    slowed: AtomicU64,
}

fn since_began_ns() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Pace {
    /// Sets how near the writers' line is.
    pub fn set_overrun(&self, permille: u64) {
        self.overrun_permille.store(permille, Ordering::Relaxed);
    }

    /// Learns how much the tier has taken in all.
    pub fn note_taken(&self, bytes: u64) {
        let mut measured = self.measured.lock();
        let now = Instant::now();
        let (since, before) = *measured.get_or_insert((now, bytes));
        let elapsed = now - since;
        if elapsed >= RATE_WINDOW {
            let rate = bytes.saturating_sub(before) as f64 / elapsed.as_secs_f64();
            self.taken_per_second.store(rate as u64, Ordering::Relaxed);
            *measured = Some((now, bytes));
        }
    }

    /// How often a command was slowed down.
    pub fn slowed(&self) -> u64 {
        self.slowed.load(Ordering::Relaxed)
    }

    /// Counts what a command is about to allocate; how long it must wait before, if at all.
    pub fn wait(&self, bytes: u64) -> Option<Duration> {
        let overrun = self.overrun_permille.load(Ordering::Relaxed);
        if overrun == 0 {
            return None;
        }
        let taken = self.taken_per_second.load(Ordering::Relaxed);
        let wait = self.wait_at(bytes, rate(overrun, taken), since_began_ns());
        self.slowed
            .fetch_add(u64::from(wait.is_some()), Ordering::Relaxed);
        wait
    }

    fn wait_at(&self, bytes: u64, rate: u64, now_ns: u64) -> Option<Duration> {
        let cost_ns = bytes.saturating_mul(1_000_000_000) / rate;
        let ahead_max_ns = WAIT_MAX.as_nanos() as u64;
        let advance = |used_up_ns: u64| {
            let start_ns = used_up_ns.max(now_ns);
            Some(start_ns.saturating_add(cost_ns).min(now_ns + ahead_max_ns))
        };
        let before_ns = self
            .used_up_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance)
            .unwrap_or_default();
        let wait = Duration::from_nanos(before_ns.saturating_sub(now_ns));
        (wait >= WAIT_MIN).then_some(wait)
    }
}

/// What may be written: at the first line twice what the tier takes, at the second half of it.
fn rate(overrun_permille: u64, taken_per_second: u64) -> u64 {
    let permille = 2000 - overrun_permille.min(1000) * 3 / 2;
    (taken_per_second / 1000 * permille).max(RATE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_the_line_the_lower_the_rate() {
        let rates = [1, 250, 500, 1000].map(|overrun| rate(overrun, 100 << 20));
        assert!(rates.is_sorted_by(|a, b| a > b), "{rates:?}");
        assert!(rates[0] > 190 << 20 && rates[3] < 51 << 20);
        assert_eq!(rate(1000, 0), RATE_MIN);
    }

    #[test]
    fn all_writers_together_keep_to_the_rate() {
        let pace = Pace::default();
        let (mut now_ns, mut written) = (0, 0);
        while now_ns < 1_000_000_000 {
            written += 10_000;
            match pace.wait_at(10_000, 10_000_000, now_ns) {
                Some(wait) => now_ns += wait.as_nanos() as u64,
                None => now_ns += 10_000,
            }
        }
        assert!((9_500_000..10_600_000).contains(&written), "{written}");
    }

    #[test]
    fn nobody_is_slowed_down_without_need_and_nobody_for_ever() {
        let pace = Pace::default();
        assert_eq!(pace.wait(1 << 30), None);
        pace.set_overrun(1000);
        assert_eq!(pace.wait(u64::MAX), None);
        let wait = pace.wait(1).expect("the rate is used up");
        assert!(wait <= WAIT_MAX, "{wait:?}");
        assert_eq!(pace.slowed(), 1);
    }
}
