//! When the log rewrites itself: a pure decision, Redis's (`serverCron`, `aofRewriteLimited`).

/// Failures in a row from which on pauses grow (Redis's `AOF_REWRITE_LIMITE_THRESHOLD`).
const FAILURES_FREE: u32 = 3;
const PAUSE_MINUTES_MAX: u64 = 60;
/// Between the first failures. Redis tries again at once; a cut costs too much for that.
const PAUSE_FIRST_MS: u64 = 5_000;

/// What the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct RewriteFacts {
    /// `auto-aof-rewrite-percentage`; 0 turns it off.
    pub percentage: u64,
    /// `auto-aof-rewrite-min-size`.
    pub min_bytes: u64,
    /// Base and segments now.
    pub current_bytes: u64,
    /// The same right after the last rewrite, or at the start.
    pub base_bytes: u64,
    pub append_only: bool,
    /// A save or a rewrite is under way or waits for its turn.
    pub busy: bool,
    pub now_unix_ms: u64,
    pub failures: Failures,
}

/// Failed rewrites since the last one that succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    pub count: u32,
    /// When the last one ended, unix milliseconds.
    pub last_unix_ms: u64,
}

impl Failures {
    /// Until when automatic rewrites wait, unix milliseconds; 0 if they don't.
    pub fn retry_unix_ms(&self) -> u64 {
        let pause_ms = match self.count {
            0 => return 0,
            count if count < FAILURES_FREE => PAUSE_FIRST_MS,
            count => {
                let doublings = (count - FAILURES_FREE).min(16);
                (1_u64 << doublings).min(PAUSE_MINUTES_MAX) * 60_000
            }
        };
        self.last_unix_ms.saturating_add(pause_ms)
    }
}

/// Whether a rewrite is due because the log has grown; gives the growth in percent.
pub fn due_rewrite(facts: &RewriteFacts) -> Option<u64> {
    let waits = facts.now_unix_ms < facts.failures.retry_unix_ms();
    if !facts.append_only || facts.busy || facts.percentage == 0 || waits {
        return None;
    }
    if facts.current_bytes <= facts.min_bytes {
        return None;
    }
    let base = u128::from(facts.base_bytes.max(1));
    let percent = u128::from(facts.current_bytes) * 100 / base;
    let growth = u64::try_from(percent.saturating_sub(100)).unwrap_or(u64::MAX);
    (growth >= facts.percentage).then_some(growth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> RewriteFacts {
        RewriteFacts {
            percentage: 100,
            min_bytes: 1000,
            current_bytes: 4000,
            base_bytes: 2000,
            append_only: true,
            busy: false,
            now_unix_ms: 1_000_000,
            failures: Failures::default(),
        }
    }

    #[test]
    fn growth_by_the_percentage_above_the_least_size_is_due() {
        assert_eq!(due_rewrite(&facts()), Some(100));
        let cases: [fn(&mut RewriteFacts); 5] = [
            |facts| facts.current_bytes = 3999,
            |facts| facts.min_bytes = 4000,
            |facts| facts.percentage = 0,
            |facts| facts.append_only = false,
            |facts| facts.busy = true,
        ];
        for case in cases {
            let mut facts = facts();
            case(&mut facts);
            assert_eq!(due_rewrite(&facts), None, "{facts:?}");
        }
        let from_nothing = RewriteFacts {
            base_bytes: 0,
            ..facts()
        };
        assert!(due_rewrite(&from_nothing).is_some());
    }

    #[test]
    fn pauses_after_failures_double_from_a_minute_to_an_hour() {
        let pause = |count| {
            Failures {
                count,
                last_unix_ms: 1000,
            }
            .retry_unix_ms()
            .saturating_sub(1000)
        };
        let seconds: Vec<u64> = (1..=10).map(|count| pause(count) / 1000).collect();
        assert_eq!(seconds, [5, 5, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(pause(u32::MAX), 3_600_000);
        assert_eq!(Failures::default().retry_unix_ms(), 0);
        let mut waiting = facts();
        waiting.failures = Failures {
            count: 3,
            last_unix_ms: 1_000_000 - 59_999,
        };
        assert_eq!(due_rewrite(&waiting), None);
        waiting.now_unix_ms += 1;
        assert!(due_rewrite(&waiting).is_some());
    }
}
