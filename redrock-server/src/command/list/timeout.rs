//! The timeout argument of blocking commands.

use crate::command::{CommandError, CommandResult};
use crate::value::number::parse_double;

/// Beyond this a number of milliseconds is no `i64` (2^63; the next lower double is one).
const MS_BOUND: f64 = 9_223_372_036_854_775_808.0;

/// Parses a timeout in seconds, fractions allowed and rounded up to milliseconds, into the unix
/// time in ms at which it ends; `None` is never. Errors are those of Redis's
/// `getTimeoutFromObjectOrReply`.
pub fn parse_deadline(arg: &[u8], now_ms: i64) -> CommandResult<Option<i64>> {
    const OUT_OF_RANGE: CommandError = CommandError::fixed("ERR timeout is out of range");
    let seconds = parse_double(arg).ok_or(CommandError::fixed(
        "ERR timeout is not a float or out of range",
    ))?;
    let ms = (seconds * 1000.0).ceil();
    if ms >= MS_BOUND {
        return Err(OUT_OF_RANGE);
    }
    if ms < 0.0 {
        return Err(CommandError::fixed("ERR timeout is negative"));
    }
    match ms as i64 {
        0 => Ok(None),
        ms => now_ms.checked_add(ms).map(Some).ok_or(OUT_OF_RANGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(arg: &str) -> String {
        let error = parse_deadline(arg.as_bytes(), 1_000).expect_err(arg);
        String::from_utf8_lossy(&error.resp()).into_owned()
    }

    #[test]
    fn seconds_become_a_deadline_rounded_up() {
        assert_eq!(parse_deadline(b"0", 1_000), Ok(None));
        assert_eq!(parse_deadline(b"-0", 1_000), Ok(None));
        assert_eq!(parse_deadline(b"1", 1_000), Ok(Some(2_000)));
        assert_eq!(parse_deadline(b"0.0001", 1_000), Ok(Some(1_001)));
        assert_eq!(parse_deadline(b"1.5", 1_000), Ok(Some(2_500)));
        assert_eq!(parse_deadline(b"0x10", 1_000), Ok(Some(17_000)));
    }

    #[test]
    fn errors_are_those_of_redis() {
        for arg in ["", "x", "1 ", " 1", "nan", "0x", "0xg"] {
            assert_eq!(
                error(arg),
                "ERR timeout is not a float or out of range",
                "{arg:?}"
            );
        }
        for arg in ["-1", "-0.5", "-inf", "-0x1"] {
            assert_eq!(error(arg), "ERR timeout is negative", "{arg:?}");
        }
        for arg in ["inf", "1e300", "9223372036854775807", "0x7FFFFFFFFFFFFF"] {
            assert_eq!(error(arg), "ERR timeout is out of range", "{arg:?}");
        }
    }
}
