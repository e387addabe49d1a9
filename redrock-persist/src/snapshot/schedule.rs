//! When a save point is due: a pure decision, Redis's (`serverCron`).

/// `save <seconds> <changes>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

/// After a failed attempt the next one waits so long (Redis's `CONFIG_BGSAVE_RETRY_DELAY`).
pub const RETRY_DELAY_MS: u64 = 5_000;

/// What the decision rests on. Times are unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct SaveFacts {
    pub now_unix_ms: u64,
    /// Changes since the last successful save.
    pub changes: u64,
    /// End of the last successful save, or the start of the server's run.
    pub last_save_unix_ms: u64,
    /// Begin of the last attempt; 0 if there was none.
    pub last_attempt_unix_ms: u64,
    pub last_attempt_succeeded: bool,
    /// A save or a rewrite is under way or waits for its turn.
    pub busy: bool,
}

/// The save point that asks for a save now, if any.
pub fn due_save_point(points: &[SavePoint], facts: &SaveFacts) -> Option<SavePoint> {
    if facts.busy {
        return None;
    }
    let since_attempt = facts.now_unix_ms.saturating_sub(facts.last_attempt_unix_ms);
    if !facts.last_attempt_succeeded && since_attempt <= RETRY_DELAY_MS {
        return None;
    }
    let since_save_ms = facts.now_unix_ms.saturating_sub(facts.last_save_unix_ms);
    points.iter().copied().find(|point| {
        facts.changes >= point.changes && since_save_ms > point.seconds.saturating_mul(1000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [SavePoint; 2] = [
        SavePoint {
            seconds: 900,
            changes: 1,
        },
        SavePoint {
            seconds: 60,
            changes: 1000,
        },
    ];

    fn facts() -> SaveFacts {
        SaveFacts {
            now_unix_ms: 10_000_000,
            changes: 1000,
            last_save_unix_ms: 10_000_000 - 61_000,
            last_attempt_unix_ms: 0,
            last_attempt_succeeded: true,
            busy: false,
        }
    }

    #[test]
    fn a_point_is_due_when_both_time_and_changes_are_reached() {
        assert_eq!(due_save_point(&POINTS, &facts()), Some(POINTS[1]));
        let few = SaveFacts {
            changes: 999,
            ..facts()
        };
        assert_eq!(due_save_point(&POINTS, &few), None);
        let early = SaveFacts {
            last_save_unix_ms: 10_000_000 - 60_000,
            ..facts()
        };
        assert_eq!(due_save_point(&POINTS, &early), None);
        let old = SaveFacts {
            changes: 1,
            last_save_unix_ms: 10_000_000 - 900_001,
            ..facts()
        };
        assert_eq!(due_save_point(&POINTS, &old), Some(POINTS[0]));
        assert_eq!(due_save_point(&[], &facts()), None);
    }

    #[test]
    fn a_failed_attempt_is_repeated_after_five_seconds() {
        let mut failed = SaveFacts {
            last_attempt_succeeded: false,
            last_attempt_unix_ms: 10_000_000 - 5_000,
            ..facts()
        };
        assert_eq!(due_save_point(&POINTS, &failed), None);
        failed.last_attempt_unix_ms -= 1;
        assert!(due_save_point(&POINTS, &failed).is_some());
    }

    #[test]
    fn nothing_is_due_while_something_runs() {
        let busy = SaveFacts {
            busy: true,
            ..facts()
        };
        assert_eq!(due_save_point(&POINTS, &busy), None);
    }
}
