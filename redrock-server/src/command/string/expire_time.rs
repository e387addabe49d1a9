//! Expiry arguments, for strings (`EX`, `PX`, `EXAT`, `PXAT`) and for the EXPIRE commands.

use crate::command::error::{CommandError, CommandResult};
use crate::keyspace::ExpireMode;
use crate::keyspace::db::Db;
use redrock_rdb::number::parse_i64;

/// What an expiry argument counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What an expiry argument counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// From the command's time.
    Now,
    /// From the unix epoch.
    Epoch,
}

/// `-ERR invalid expire time in 'x' command`; `command` in lower case.
pub fn invalid(command: &str) -> CommandError {
    CommandError::text(format!("ERR invalid expire time in '{command}' command"))
}

/// Reads an expiry that may lie in the past (the EXPIRE commands); unix ms.
///
/// A text that is no integer is `-ERR value is not an integer or out of range`; what overflows is
/// [`invalid`].
pub fn parse(arg: &[u8], unit: Unit, base: Base, now_ms: i64, command: &str) -> CommandResult<i64> {
    let count = parse_i64(arg).ok_or(CommandError::NotInteger)?;
    let ms = match unit {
        Unit::Seconds => count.checked_mul(1000),
        Unit::Milliseconds => Some(count),
    };
    let at = match base {
        Base::Now => ms.and_then(|ms| ms.checked_add(now_ms)),
        Base::Epoch => ms,
    };
    at.ok_or_else(|| invalid(command))
}

/// As [`parse`], for commands that refuse an argument of zero or less (`SET`, `GETEX`, ...).
pub fn parse_positive(
    arg: &[u8],
    unit: Unit,
    base: Base,
    now_ms: i64,
    command: &str,
) -> CommandResult<i64> {
    if parse_i64(arg).is_some_and(|count| count <= 0) {
        return Err(invalid(command));
    }
    parse(arg, unit, base, now_ms, command)
}

/// Whether a key given this expiry is to be deleted at once. Not while loading nor on a replica:
/// there only the log or the master deletes.
pub fn is_past(db: &mut Db<'_>, expire_ms: i64) -> bool {
    expire_ms <= db.now_ms() && db.keyspace().expire_mode == ExpireMode::Delete
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn times_are_absolute_milliseconds() {
        let parse = |arg: &[u8], unit, base| parse(arg, unit, base, NOW, "expire");
        assert_eq!(parse(b"10", Unit::Seconds, Base::Now), Ok(NOW + 10_000));
        assert_eq!(parse(b"10", Unit::Milliseconds, Base::Now), Ok(NOW + 10));
        assert_eq!(parse(b"10", Unit::Seconds, Base::Epoch), Ok(10_000));
        assert_eq!(parse(b"-10", Unit::Seconds, Base::Now), Ok(NOW - 10_000));
        assert_eq!(
            parse(b"x", Unit::Seconds, Base::Now),
            Err(CommandError::NotInteger)
        );
    }

    #[test]
    fn overflow_and_what_is_not_positive_are_invalid() {
        let limit = i64::MAX.to_string();
        let limit = limit.as_bytes();
        assert_eq!(
            parse(limit, Unit::Seconds, Base::Epoch, NOW, "set"),
            Err(invalid("set"))
        );
        assert_eq!(
            parse(limit, Unit::Milliseconds, Base::Now, NOW, "set"),
            Err(invalid("set"))
        );
        assert_eq!(
            parse(limit, Unit::Milliseconds, Base::Epoch, NOW, "set"),
            Ok(i64::MAX)
        );
        for arg in [&b"0"[..], b"-1"] {
            let parsed = parse_positive(arg, Unit::Seconds, Base::Now, NOW, "getex");
            assert_eq!(parsed, Err(invalid("getex")));
        }
    }
}
