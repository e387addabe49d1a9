//! How fast a long action goes and how long it still takes, for those who wait for it.

use std::time::Duration;

use crate::v1;

/// Shorter than this nothing can be said of an action's pace.
const SHORTEST: Duration = Duration::from_millis(1);

impl v1::Progress {
    /// Fills in `bytes_per_second`, `percent` and `left_ms`, and `note` with the same for people, from what was done
    /// within `working`: the time since the work itself began. Keys decide if their number is
    /// known, else bytes.
    #[must_use]
    pub fn with_pace(mut self, working: Duration) -> v1::Progress {
        let seconds = working.as_secs_f64();
        if working < SHORTEST || (self.bytes_done == 0 && self.keys_done == 0) {
            return self;
        }
        let rate = self.bytes_done as f64 / seconds;
        self.bytes_per_second = rate as u64;
        let (done, total, of) = match (self.keys_total, self.bytes_total) {
            (0, 0) => {
                self.note = format!("{:.1} MB/s", rate / 1e6);
                return self;
            }
            (0, bytes) => (self.bytes_done, bytes, format!("{bytes} bytes")),
            (keys, _) => (self.keys_done, keys, format!("{keys} keys")),
        };
        let part = (done as f64 / total as f64).min(1.0);
        self.percent = Some(part * 100.0);
        self.note = format!("{:.1} % of {of}, {:.1} MB/s", part * 100.0, rate / 1e6);
        if part > 0.0 {
            let left = Duration::from_secs_f64((seconds / part - seconds).min(YEAR_S));
            self.left_ms = Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            self.note
                .push_str(&format!(", {} s left", left.as_secs_f64().round()));
        }
        self
    }
}

/// The longest time that is told, seconds.
const YEAR_S: f64 = 365.0 * 24.0 * 3600.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(keys: (u64, u64), bytes: (u64, u64)) -> v1::Progress {
        let progress = v1::Progress {
            keys_done: keys.0,
            keys_total: keys.1,
            bytes_done: bytes.0,
            bytes_total: bytes.1,
            ..v1::Progress::default()
        };
        progress.with_pace(Duration::from_secs(10))
    }

    #[test]
    fn percent_rate_and_time_left_are_told_as_far_as_the_end_is_known() {
        let told = progress((50, 200), (10_000_000, 0));
        assert_eq!(told.note, "25.0 % of 200 keys, 1.0 MB/s, 30 s left");
        assert_eq!(told.bytes_per_second, 1_000_000);
        assert_eq!((told.percent, told.left_ms), (Some(25.0), Some(30_000)));
        let told = progress((0, 0), (4_000_000, 8_000_000));
        assert_eq!(told.note, "50.0 % of 8000000 bytes, 0.4 MB/s, 10 s left");
        let told = progress((7, 0), (4_000_000, 0));
        assert_eq!(told.note, "0.4 MB/s");
        assert_eq!((told.percent, told.left_ms), (None, None));
    }

    #[test]
    fn nothing_is_made_up() {
        assert_eq!(progress((0, 200), (0, 0)).note, "");
        let early = v1::Progress {
            keys_done: 1,
            keys_total: 2,
            ..v1::Progress::default()
        };
        assert_eq!(early.with_pace(Duration::ZERO).percent, None);
        // More than was counted at the cut, and a beginning that seems to have no end.
        assert_eq!(progress((9, 3), (1, 0)).left_ms, Some(0));
        assert!(progress((1, u64::MAX), (1, 0)).left_ms.is_some());
    }
}
