//! When something is to be done again and again: `every 6h`, `daily 03:30`.

use std::time::Duration;

const DAY_MS: u64 = 86_400_000;
/// The longest interval: a year.
const EVERY_MAX: Duration = Duration::from_secs(366 * 86_400);

/// A schedule; times of day are UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// So long after the last time.
    Every(Duration),
    /// Once a day at this minute of the day.
    Daily { minute: u64 },
}

impl Schedule {
    /// Reads a schedule; `None` if the text is none. An interval has a unit (`s`, `m`, `h`, `d`)
    /// and lies between a second and 366 days.
    pub fn parse(text: &str) -> Option<Schedule> {
        let text = text.trim().to_ascii_lowercase();
        let mut words = text.split_ascii_whitespace();
        let schedule = match (words.next()?, words.next()?) {
            ("every", interval) => Schedule::Every(parse_interval(interval)?),
            ("daily", time) => Schedule::Daily {
                minute: parse_time(time)?,
            },
            _ => return None,
        };
        words.next().is_none().then_some(schedule)
    }

    /// Whether it is due, if it was done last at `last_ms`; unix milliseconds.
    pub fn is_due(self, last_ms: u64, now_ms: u64) -> bool {
        match self {
            Schedule::Every(interval) => {
                let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
                last_ms.saturating_add(interval) <= now_ms
            }
            Schedule::Daily { minute } => {
                let of_day = minute * 60_000;
                let Some(since) = now_ms.checked_sub(of_day) else {
                    return false;
                };
                // The last moment of the schedule at or before now.
                let moment = since - since % DAY_MS + of_day;
                last_ms < moment
            }
        }
    }
}

fn parse_interval(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let interval = Duration::from_secs(digits(number)?.checked_mul(unit_s)?);
    (!interval.is_zero() && interval <= EVERY_MAX).then_some(interval)
}

fn parse_time(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (digits(hour)?, digits(minute)?);
    (hour <= 23 && minute <= 59).then_some(hour * 60 + minute)
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_and_times_of_day_are_read() {
        let every = |seconds| Some(Schedule::Every(Duration::from_secs(seconds)));
        assert_eq!(Schedule::parse("every 6h"), every(21_600));
        assert_eq!(Schedule::parse(" Every  90S "), every(90));
        assert_eq!(Schedule::parse("every 366d"), every(366 * 86_400));
        let daily = Some(Schedule::Daily { minute: 210 });
        assert_eq!(Schedule::parse("daily 03:30"), daily);
        for bad in [
            "",
            "6h",
            "every",
            "every 6",
            "every 0s",
            "every 367d",
            "every -1h",
            "every +1h",
            "every 6h now",
            "daily 24:00",
            "daily 3",
            "weekly 03:30",
            "every 6ß",
            "every ß",
            "every 99999999999999999999d",
        ] {
            assert_eq!(Schedule::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_interval_counts_from_the_last_time_and_a_day_from_its_minute() {
        let every = Schedule::parse("every 10s").unwrap();
        assert!(every.is_due(0, 10_000) && !every.is_due(1, 10_000));
        let daily = Schedule::parse("daily 03:30").unwrap();
        let at = 10 * DAY_MS + 210 * 60_000;
        assert!(!daily.is_due(at - DAY_MS, at - 1));
        assert!(daily.is_due(at - DAY_MS, at));
        assert!(daily.is_due(at - DAY_MS - 1, at - 1), "one was missed");
        assert!(!daily.is_due(at, at + DAY_MS - 1));
        assert!(!daily.is_due(0, 0));
    }
}
