//! Moments as people write them: RFC 3339, to the millisecond.

const DAY_MS: i64 = 86_400_000;

/// Reads a moment such as `2026-11-21T14:03:05Z`, `2026-11-21 15:03:05.25+01:00`; gives unix
/// milliseconds. What is finer than a millisecond is dropped. The error is a text for people.
pub fn parse(text: &str) -> Result<u64, String> {
    let refused = || {
        format!("{text:?} is no time such as 2026-11-21T14:03:05Z or 2026-11-21T15:03:05.250+01:00")
    };
    let (date, rest) = text.split_at_checked(10).ok_or_else(refused)?;
    let rest = rest.strip_prefix(['T', 't', ' ']).ok_or_else(refused)?;
    let (clock, rest) = rest.split_at_checked(8).ok_or_else(refused)?;
    let [year, month, day] = fields(date, '-', [4, 2, 2]).ok_or_else(refused)?;
    let [hour, minute, second] = fields(clock, ':', [2, 2, 2]).ok_or_else(refused)?;
    let (fraction_ms, zone) = fraction(rest).ok_or_else(refused)?;
    let zone_minutes = zone_minutes(zone).ok_or_else(refused)?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    if !valid {
        return Err(refused());
    }
    let minutes = hour * 60 + minute - zone_minutes;
    let unix_ms =
        days_from_civil(year, month, day) * DAY_MS + minutes * 60_000 + second * 1000 + fraction_ms;
    u64::try_from(unix_ms).map_err(|_| format!("{text:?} lies before 1970"))
}

/// Writes a moment in UTC, with milliseconds.
pub fn format(unix_ms: u64) -> String {
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let (year, month, day) = civil_from_days(unix_ms.div_euclid(DAY_MS));
    let of_day = unix_ms.rem_euclid(DAY_MS);
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Writes a moment in UTC so that it can be a file's name: `20261121T140305.250Z`.
pub fn file_name(unix_ms: u64) -> String {
    format(unix_ms).replace(['-', ':'], "")
}

/// Three numbers of so many digits each.
fn fields(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        *number = plain_number(part)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn plain_number(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Milliseconds of an optional fraction, and what follows it.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(text) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, rest) = text.split_at(end);
    let padded = format!("{digits:0<3}");
    let ms = plain_number(digits).and_then(|_| padded.get(..3)?.parse().ok())?;
    Some((ms, rest))
}

/// `Z` or an offset, in minutes east of UTC.
fn zone_minutes(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let valid = hours.len() == 2 && minutes.len() == 2;
    let (hours, minutes) = (plain_number(hours)?, plain_number(minutes)?);
    (valid && hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar: years are counted from March, so that the
/// leap day is the last one.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_with_and_without_fraction_and_offset_are_read() {
        let base = 1_795_269_785_000;
        for (text, ms) in [
            ("2026-11-21T14:03:05Z", 0),
            ("2026-11-21t14:03:05z", 0),
            ("2026-11-21 15:03:05+01:00", 0),
            ("2026-11-21T08:33:05.2-05:30", 200),
            ("2026-11-21T14:03:05.0019Z", 1),
            ("2026-11-21T14:03:05.999999999Z", 999),
        ] {
            assert_eq!(parse(text), Ok(base + ms), "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(parse("2000-02-29T23:59:60Z"), Ok(951_868_800_000));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T14:03:05",
            "2026-11-21T14:03Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T14:03:05.Z",
            "2026-11-21T14:03:05+1:00",
            "2026-11-21T14:03:05+01:00 ",
            "+026-11-21T14:03:05Z",
            "1969-12-31T23:59:59Z",
            "ßßßßßßßßßßßßßßßßßßßß",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for unix_ms in [0, 951_782_400_001, 1_795_269_785_250, 4_102_444_799_999] {
            assert_eq!(parse(&format(unix_ms)), Ok(unix_ms), "{}", format(unix_ms));
        }
        assert_eq!(format(1_795_269_785_250), "2026-11-21T14:03:05.250Z");
        assert_eq!(file_name(1_795_269_785_250), "20261121T140305.250Z");
        let days: Vec<i64> = (0..60_000).step_by(7).collect();
        for day in days {
            let (year, month, of_month) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, of_month), day);
        }
        let _ = format(u64::MAX);
    }
}
