//! How often news that come at any rate are passed on: at once while they are seldom, and once in an
//! interval when they are many.

use std::time::{Duration, Instant};

/// So many may go at once after a quiet time.
const BURST: u32 = 8;

/// Turns to pass something on. Unused time is saved, up to a burst of turns.
#[derive(Debug)]
pub struct Turns {
    saved: Duration,
    seen: Instant,
}

impl Turns {
    /// With a whole burst saved.
    pub fn new(interval: Duration, now: Instant) -> Turns {
        Turns {
            saved: interval * BURST,
            seen: now,
        }
    }

    /// How long it is until the next turn, at one in `interval`; zero: it is now, and is taken.
    pub fn take(&mut self, interval: Duration, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.seen);
        self.saved = self.saved.saturating_add(passed).min(interval * BURST);
        self.seen = now;
        match self.saved.checked_sub(interval) {
            Some(left) => {
                self.saved = left;
                Duration::ZERO
            }
            None => interval - self.saved,
        }
    }

    /// Waits for the next turn and takes it.
    pub async fn wait(&mut self, interval: Duration) {
        loop {
            let pause = self.take(interval, Instant::now());
            if pause.is_zero() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(10);

    #[test]
    fn a_few_go_at_once_and_many_one_in_an_interval() {
        let mut now = Instant::now();
        let mut turns = Turns::new(INTERVAL, now);
        for _ in 0..BURST {
            assert_eq!(turns.take(INTERVAL, now), Duration::ZERO);
        }
        assert_eq!(turns.take(INTERVAL, now), INTERVAL);
        now += INTERVAL / 2;
        assert_eq!(turns.take(INTERVAL, now), INTERVAL / 2);
        let (mut taken, end) = (0, now + 100 * INTERVAL);
        while now < end {
            let pause = turns.take(INTERVAL, now);
            taken += u32::from(pause.is_zero());
            now += pause.max(Duration::from_micros(100));
        }
        assert!((100..=101).contains(&taken), "{taken}");
    }

    #[test]
    fn a_long_quiet_time_saves_no_more_than_a_burst() {
        let now = Instant::now();
        let mut turns = Turns::new(INTERVAL, now);
        let later = now + 1000 * INTERVAL;
        let taken = (0..100).filter(|_| turns.take(INTERVAL, later).is_zero());
        assert_eq!(taken.count(), BURST as usize);
    }
}
