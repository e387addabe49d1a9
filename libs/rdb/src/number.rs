//! Numbers as text, with exactly Redis's rules.
//!
//! Invariant: `parse_i64` accepts a text only if `format_i64` gives that very
//! text back. Integer encodings rest on it: storing an element as an integer
//! must lose nothing.

/// The longest decimal text of an `i64`, in bytes.
pub const I64_TEXT_BYTES_MAX: usize = 20;

/// Room for the text of any `i64`.
pub type IntBuf = [u8; I64_TEXT_BYTES_MAX];

/// Reads a canonical decimal `i64` (Redis `string2ll`).
///
/// No spaces, no plus sign, no leading zero and no `-0`; anything beyond the
/// range of `i64` is not a number.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    if text.len() > I64_TEXT_BYTES_MAX {
        return None;
    }
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let (&first, rest) = digits.split_first()?;
    if !(b'1'..=b'9').contains(&first) {
        return (text == b"0").then_some(0);
    }
    let mut magnitude = u64::from(first - b'0');
    // 19 digits always fit a u64: only the twentieth needs a check.
    let (safe, last) = rest.split_at(rest.len().min(18));
    for &byte in safe {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit);
    }
    for &byte in last {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

const DIGIT_PAIRS: [u8; 200] = {
    let mut pairs = [0u8; 200];
    let mut i = 0;
    while i < 100 {
        pairs[2 * i] = b'0' + (i / 10) as u8;
        pairs[2 * i + 1] = b'0' + (i % 10) as u8;
        i += 1;
    }
    pairs
};

/// Writes the decimal text of `value` at the end of `buf` and returns it.
#[inline]
pub fn format_i64(value: i64, buf: &mut IntBuf) -> &[u8] {
    let mut rest = value.unsigned_abs();
    let mut at = buf.len();
    while rest >= 100 {
        let pair = (rest % 100) as usize * 2;
        rest /= 100;
        at -= 2;
        buf[at] = DIGIT_PAIRS[pair];
        buf[at + 1] = DIGIT_PAIRS[pair + 1];
    }
    if rest >= 10 {
        let pair = rest as usize * 2;
        at -= 2;
        buf[at] = DIGIT_PAIRS[pair];
        buf[at + 1] = DIGIT_PAIRS[pair + 1];
    } else {
        at -= 1;
        buf[at] = b'0' + rest as u8;
    }
    if value < 0 {
        at -= 1;
        buf[at] = b'-';
    }
    &buf[at..]
}

/// Length in bytes of the decimal text of `value`.
#[inline]
pub fn text_len_i64(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(value < 0)
}

/// Reads a score as RDB files and sorted set listpacks store it in text.
///
/// Accepts what any Redis version writes (`%.17g`, the shortest form, `inf`,
/// `-inf`, `nan`), and no blanks, hexadecimal or trailing bytes.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    // The longest stored form has 255 bytes: its length is one byte.
    if text.is_empty() || text.len() > 255 {
        return None;
    }
    if let Some(integer) = parse_i64(text) {
        return Some(integer as f64);
    }
    let text = std::str::from_utf8(text).ok()?;
    // C writes the sign of a NaN, which Rust also reads.
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_canonical_integers_are_read() {
        let good: [(&str, i64); 8] = [
            ("0", 0),
            ("7", 7),
            ("-1", -1),
            ("10", 10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-9223372036854775807", i64::MIN + 1),
            ("1000000000000000000", 1_000_000_000_000_000_000),
        ];
        for (text, value) in good {
            assert_eq!(parse_i64(text.as_bytes()), Some(value), "{text}");
        }
        let bad = [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            "-01",
            " 1",
            "1 ",
            "1a",
            "a",
            "0x1",
            "1.0",
            "--1",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999",
            "-99999999999999999999",
            "100000000000000000000",
        ];
        for text in bad {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn scores_are_read_in_every_form_redis_writes() {
        assert_eq!(parse_f64(b"3"), Some(3.0));
        assert_eq!(parse_f64(b"0.10000000000000001"), Some(0.1));
        assert_eq!(parse_f64(b"1.7976931348623157e+308"), Some(f64::MAX));
        assert_eq!(parse_f64(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_f64(b"inf"), Some(f64::INFINITY));
        assert!(parse_f64(b"-nan").is_some_and(f64::is_nan));
        assert_eq!(
            parse_f64(b"-0").map(f64::to_bits),
            Some((-0.0f64).to_bits())
        );
        for bad in [&b""[..], b" 1", b"1 ", b"1x", b"\xff", b"0x10"] {
            assert_eq!(parse_f64(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn integers_survive_text(value in prop_oneof![
            any::<i64>(), -200_000i64..200_000, Just(i64::MIN), Just(i64::MAX)
        ]) {
            let mut buf = IntBuf::default();
            let text = format_i64(value, &mut buf);
            let expected = value.to_string();
            prop_assert_eq!(text, expected.as_bytes());
            prop_assert_eq!(text_len_i64(value), text.len());
            prop_assert_eq!(parse_i64(text), Some(value));
        }

        #[test]
        fn what_parses_is_canonical(text in "[-+0-9 ]{0,22}") {
            if let Some(value) = parse_i64(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            } else if let Ok(value) = text.parse::<i64>() {
                prop_assert_ne!(value.to_string(), text);
            }
        }
    }
}
